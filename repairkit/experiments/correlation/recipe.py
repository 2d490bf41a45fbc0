"""Recipes of the correlation of attack success and accuracy."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from repairkit.experiments.attack_recipe import AttackSection, attack_options
from repairkit.experiments.attack_task import AttackOptions
from repairkit.experiments.recipe_base import ClassifierRecipe
from repairkit.run.options import Options


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
