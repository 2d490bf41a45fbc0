"""Recipes of `repairkit adversarial`."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from repairkit.experiments.attack_recipe import AttackSection, attack_options
from repairkit.experiments.attack_task import MAX_CLEAN_DROP, SHARES, AttackOptions
from repairkit.experiments.recipe_base import ClassifierRecipe, Section


class CarrierSection(Section):
    """Another network of these classes, or of ImageNet's; `weights` are relative to the data root."""

    model: str
    weights: str | None = None


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
