"""Recipes of `repairkit adversarial`, and of the correlation of attack success and accuracy."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from repairkit.attacks.methods import PGD
from repairkit.errors import UsageError
from repairkit.experiments.attack_task import MAX_CLEAN_DROP, SHARES, AttackBudget, AttackOptions, Ranking, attack_budget
from repairkit.experiments.recipe_base import ClassifierRecipe, Section
from repairkit.run.options import Options


class CarrierSection(Section):
    """Another network of these classes, or of ImageNet's; `weights` are relative to the data root."""

    model: str
    weights: str | None = None


class AttackSection(Section):
    """The adversary: fields of `repairkit.experiments.attack_task.AttackOptions`, with those of its PGD beside them.

    Attributes:
        eps, step: in 255ths.
        effort: fields of `repairkit.experiments.attack_task.AttackBudget`.
        thorough: the full suite of attacks, but for what `effort` says; on a GPU by default, see `repairkit.experiments.attack_task.attack_budget`.
    """

    eps: float = 16
    step: float = 0.8
    steps: int = PGD.steps
    random_start: bool = True
    ranking: Ranking = "success - accuracy"
    images: tuple[int, int, int] = AttackOptions.images
    rounds: int = 1
    finetune_epochs: int = 0
    frontier: int = 64
    effort: dict[str, int] = Field(default_factory=dict)
    thorough: bool = False


def attack_options(section: AttackSection, *, device: str, embedded: bool) -> AttackOptions:
    """The adversary that a recipe describes.

    Raises:
        ValueError: a value out of its range, or no such field of the effort.
    """
    if unknown := sorted(set(section.effort) - set(AttackBudget.__dataclass_fields__)):
        raise ValueError(f"attack.effort.{unknown[0]} is no setting; there are {', '.join(AttackBudget.__dataclass_fields__)}")
    try:
        return AttackOptions(
            method=PGD(eps=section.eps / 255, step=section.step / 255, steps=section.steps, random_start=section.random_start),
            effort=attack_budget(section.effort, thorough=section.thorough, device=device, embedded=embedded),
            **section.model_dump(include={"ranking", "images", "rounds", "finetune_epochs", "frontier"}),
        )
    except UsageError as error:
        raise ValueError(f"attack: {error}") from None


class AdversarialRecipe(ClassifierRecipe):
    """Repair of a network that is easy to fool.

    Attributes:
        carriers: networks that images are made against to be carried over.
        elsewhere: folder of another data set, relative to the data root.
        dropout_model: weights of the same architecture trained with filter dropout, relative to the data root.
        attack: the adversary.
    """

    defaults: ClassVar[dict[str, object]] = {"target_shares": SHARES, "max_clean_drop": MAX_CLEAN_DROP}
    unfit = ("ranking", "spare", "folds", "rounds", "source_counts", "stability", "curve")

    command: Literal["adversarial"]
    carriers: list[CarrierSection] = Field(default_factory=list)
    elsewhere: str | None = None
    dropout_model: str | None = None
    attack: AttackSection = Field(default_factory=AttackSection)

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        others = (*(each.weights for each in self.carriers), self.elsewhere, self.dropout_model)
        return super().paths() + [path for path in others if path]

    def named(self) -> list[str]:
        """Networks that the recipe takes by name without saying where their weights are."""
        return super().named() + [each.model for each in self.carriers if not each.weights]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.attack_options()
        return self

    def attack_options(self, device: str = "cpu") -> AttackOptions:
        """The adversary of a run on such a device."""
        return attack_options(self.attack, device=device, embedded=self.data is None)


class CorrelationRecipe(ClassifierRecipe):
    """Whether attacks need the filters that accuracy needs.

    Attributes:
        attack: the adversary: `eps`, `step`, `steps`, `random_start`, and of `images` the first number.
    """

    defaults: ClassVar[dict[str, object]] = {"budget": 80_000}  # shared out among four values of every filter
    unfit = tuple(set(Options.__dataclass_fields__) - {"budget", "t0", "freeze_at", "precision", "seed", "level", "device", "batch"})

    command: Literal["correlation"]
    attack: AttackSection = Field(default_factory=AttackSection)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.attack_options()
        return self

    def attack_options(self, device: str = "cpu") -> AttackOptions:
        """The adversary of a run on such a device."""
        return attack_options(self.attack, device=device, embedded=self.data is None)
