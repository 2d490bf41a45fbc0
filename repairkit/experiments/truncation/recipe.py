"""Recipes that remove random filters from one or more networks."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from repairkit.errors import UsageError
from repairkit.experiments.recipe_base import (
    ClassifierRecipe,
    DataSection,
    Deviations,
    FolderSection,
    Means,
    Pixels,
    Recipe,
    Section,
    TrainingSection,
)
from repairkit.experiments.truncation.run import TruncationOptions
from repairkit.run.options import Options


class NetworkSection(Section):
    """One of several networks, with images of its own.

    Either `target` (faces in subgroups, as in a recipe of fairness; then `training` with its `source` can say how to get the network) or the keys of
    `ClassifierRecipe`.

    Attributes:
        name: what the report calls it.
    """

    name: str
    model: str | None = None
    weights: str | None = None
    size: Pixels | None = None
    data: FolderSection | None = None
    per_class: int | None = Field(default=None, ge=1)
    mean: Means | None = None
    std: Deviations | None = None
    target: DataSection | None = None
    source: DataSection | None = None
    training: TrainingSection | None = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.target is not None and (self.data or self.weights or self.per_class or self.mean or self.std):
            raise ValueError(f"{self.name}: target names faces in subgroups, so leave out data, weights, per_class, mean and std")
        if self.target is None and (self.source or self.training):
            raise ValueError(f"{self.name}: source and training go with a target; leave them out or give one")
        if (self.training is None) == (self.model is None):
            raise ValueError(f"{self.name}: give either a model or a training section, not both or neither")
        if (self.training is None) != (self.source is None):
            raise ValueError(f"{self.name}: training and source go together: it is trained on images of the source")
        return self

    def classifier(self) -> ClassifierRecipe:
        """The keys of a classifier of torchvision."""
        return ClassifierRecipe(command="truncation", title=self.name, **self.model_dump(exclude={"name", "target", "source", "training"}))

    def paths(self) -> list[str]:
        """Files and folders that it takes below the data root."""
        if self.target is None:
            return self.classifier().paths()
        source = self.source.paths() if self.source else []
        init = [self.training.init] if self.training and self.training.init else []
        return [*self.target.paths(), *source, *init]

    def named(self) -> list[str]:
        """The network, where it is taken by name without saying where its weights are."""
        return [self.model] if self.model and not self.weights else []


class TruncationRecipe(Recipe):
    """Random filters removed from one or more networks, as in the paper's figure 5.

    Attributes:
        networks: whose filters.
        trajectories, images, shares: fields of `repairkit.experiments.truncation.run.TruncationOptions`.
    """

    defaults: ClassVar[dict[str, object]] = {"t0": "auto"}
    unfit = tuple(set(Options.__dataclass_fields__) - {"t0", "freeze_at", "precision", "seed", "level", "device", "batch"})

    command: Literal["truncation"]
    networks: list[NetworkSection] = Field(min_length=1)
    trajectories: int = TruncationOptions.trajectories
    images: int = TruncationOptions.images
    shares: tuple[float, ...] = TruncationOptions.shares

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if len({network.name for network in self.networks}) < len(self.networks):
            raise ValueError("networks: two of them have the same name; the report tells them apart by it")
        self.truncation_options()
        return self

    def truncation_options(self) -> TruncationOptions:
        """How much is measured.

        Raises:
            ValueError: a value out of its range.
        """
        try:
            return TruncationOptions(trajectories=self.trajectories, images=self.images, shares=self.shares)
        except UsageError as error:
            raise ValueError(str(error)) from None

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        return list(dict.fromkeys(path for network in self.networks for path in network.paths()))

    def named(self) -> list[str]:
        """Networks that the recipe takes by name without saying where their weights are."""
        return [name for network in self.networks for name in network.named()]
