"""Recipes that compare the bandit with plain Monte Carlo."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from repairkit.errors import UsageError
from repairkit.experiments.recipe_base import ClassifierRecipe
from repairkit.experiments.sample_efficiency import small_network as small
from repairkit.experiments.sample_efficiency.run import EfficiencyOptions, Method
from repairkit.run.options import Options
from repairkit.shapley.guarantee import End


class EfficiencyRecipe(ClassifierRecipe):
    """Samples that the bandit takes against plain Monte Carlo, as in the paper's figure 8.

    Attributes:
        model: also "small", the network of `repairkit.experiments.sample_efficiency.small_network`, which brings its images.
        channels: of the small network.
        method, images, top, end, tolerances, permutations, evaluated_on, most, reference: fields of
            `repairkit.experiments.sample_efficiency.run.EfficiencyOptions`.
    """

    defaults: ClassVar[dict[str, object]] = {"t0": 0.0}
    unfit = tuple(
        set(Options.__dataclass_fields__)
        - {"budget", "t0", "contested", "score", "freeze_at", "precision", "seed", "level", "device", "batch"}
    )

    command: Literal["efficiency"]
    channels: tuple[int, int, int, int] | None = None
    method: Method = EfficiencyOptions.method
    images: int = EfficiencyOptions.images
    top: int = EfficiencyOptions.top
    end: End = EfficiencyOptions.end
    tolerances: tuple[float, ...] = EfficiencyOptions.tolerances
    permutations: int = EfficiencyOptions.permutations
    evaluated_on: int = EfficiencyOptions.evaluated_on
    most: int = EfficiencyOptions.most
    reference: float = EfficiencyOptions.reference

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.model != small.NAME and self.channels is not None:
            raise ValueError(f'channels are those of model = "{small.NAME}"; leave them out')
        if self.model == small.NAME and (self.weights or self.data or self.size or self.per_class or self.narrow or self.mean or self.std):
            raise ValueError(
                f'model = "{small.NAME}" brings its weights and images; leave out weights, data, size, per_class, narrow, mean and std'
            )
        self.efficiency_options()
        return self

    def efficiency_options(self) -> EfficiencyOptions:
        """What is compared.

        Raises:
            ValueError: a value out of its range.
        """
        try:
            return EfficiencyOptions(**self.model_dump(include=set(EfficiencyOptions.__dataclass_fields__)))
        except UsageError as error:
            raise ValueError(str(error)) from None
