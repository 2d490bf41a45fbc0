"""The adversary as a recipe describes it: shared by the kinds that attack a network."""

from __future__ import annotations

from pydantic import Field

from repairkit.attacks.methods import PGD
from repairkit.errors import UsageError
from repairkit.experiments.attack_task import AttackBudget, AttackOptions, Ranking, attack_budget
from repairkit.experiments.recipe_base import Section


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
