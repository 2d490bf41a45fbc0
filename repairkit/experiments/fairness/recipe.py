"""Recipes of `repairkit fairness`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from repairkit.baselines.compare import suited
from repairkit.experiments.recipe_base import DataSection, Recipe, TrainingSection, seeded


class FairnessRecipe(Recipe):
    """Repair of a network that serves subgroups unequally.

    Attributes:
        target, source: the data.
        training: how to get the networks; without it, `model` and `dropout_model` name them.
    """

    baselines = suited(fairness=True)

    unfit = ("spare",)

    command: Literal["fairness"]
    target: DataSection
    source: DataSection
    training: TrainingSection | None = None
    model: str | None = None
    dropout_model: str | None = None

    @model_validator(mode="after")
    def _one_way_to_the_networks(self) -> Self:
        if (self.training is None) == (self.model is None):
            raise ValueError("give either a [training] section or a model, not both or neither")
        if self.training is not None and self.dropout_model is not None:
            raise ValueError("dropout_model goes with model; beside [training] give [training.dropout] or remove it")
        return self

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        init = [self.training.init] if self.training and self.training.init else []
        return [*self.target.paths(), *self.source.paths(), *init]

    def named(self) -> list[str]:
        """Networks that the recipe takes by name without saying where their weights are."""
        return [name for name in (self.model, self.dropout_model) if name]

    def varied(self, *, training_seed: int | None = None, rival: bool = True) -> Self:
        """The same experiment with networks trained from another seed, or without the dropout-trained rival.

        Raises:
            UsageError: another training seed for a recipe that trains nothing.
        """
        training = seeded(self.training, training_seed)
        if training is not None and not rival:
            training = training.model_copy(update={"dropout": None})
        return self.model_copy(update={"training": training} | ({} if rival else {"dropout_model": None}))
