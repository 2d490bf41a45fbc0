"""Recipes of `repairkit dropout`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from repairkit.experiments.classifier_task import usual_t0
from repairkit.experiments.recipe_base import DataSection, Deviations, FolderSection, Means, Recipe, TrainingSection, seeded
from repairkit.models import zoo
from repairkit.run.options import Options


class DropoutRecipe(Recipe):
    """A network beside its dropout-trained rival: what accuracy of each depends on.

    Three ways to networks and images: `model` and `dropout_model` with class folders (`data`) or with faces (`source`); `source` and
    [training], which trains both networks on images drawn from the source and asks about those that are left; `model` alone, a
    classifier of torchvision without weights, the embedded default on handwritten digits.

    Attributes:
        model, dropout_model: torchvision's name, one of our own, or a weights file of ours relative to the data root; none beside [training].
        weights, dropout_weights: for networks given by their architecture's name, relative to the data root.
        data: class folders, relative to the data root.
        source: a data set of `repairkit.data.loaders`, in place of class folders.
        training: how to get both networks; its [training.dropout] is the rival.
        per_class: of class folders, load at most so many images of each class.
        mean, std: that both networks' images are normalised with, where their files do not say.
    """

    defaults: ClassVar[dict[str, object]] = {"ranking": "recall"}  # the worth has one part
    settles = True
    unfit = (
        "ranking", "spare", "folds", "rounds", "source_counts", "stability", "curve", "strategy", "candidates", "max_filters", "max_clean_drop", "alternatives",
    )  # fmt: skip

    command: Literal["dropout"]
    model: str | None = None
    weights: str | None = None
    dropout_model: str | None = None
    dropout_weights: str | None = None
    data: FolderSection | None = None
    source: DataSection | None = None
    training: TrainingSection | None = None
    per_class: int | None = Field(default=None, ge=1)
    mean: Means | None = None
    std: Deviations | None = None

    def run_options(self, path: Path | str = "the recipe", **overrides: object) -> Options:
        """The options of the run; the live range as with the command, unless the recipe says otherwise.

        Raises:
            UsageError: as `Recipe.run_options`.
        """
        t0 = {} if "t0" in self.options else {"t0": usual_t0(str(self.options.get("engine", "tmab")), "recall", of_class=False)}
        return super().run_options(path, **(t0 | overrides))

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        named = [name for name in (self.model, self.dropout_model) if name and Path(name).suffix]
        folders = [*([self.data.folder] if self.data else []), *(self.source.paths() if self.source else [])]
        init = self.training.init if self.training else None
        return [*folders, *named, *(path for path in (self.weights, self.dropout_weights, init) if path)]

    def named(self) -> list[str]:
        """Networks that the recipe takes by name without saying where their weights are."""
        rival = self.dropout_model or (zoo.CELEBA[1] if self.model == zoo.CELEBA[0] else None)
        return [name for name, weights in ((self.model, self.weights), (rival, self.dropout_weights)) if name and not weights]

    @model_validator(mode="after")
    def _one_way_to_networks_and_images(self) -> Self:
        if (self.training is None) == (self.model is None):
            raise ValueError("give either a [training] section or a model, not both or neither")
        if self.data is not None and self.source is not None:
            raise ValueError("give class folders as [data] or a data set as [source], not both")
        if self.training is not None:
            named = {"dropout_model": self.dropout_model, "dropout_weights": self.dropout_weights, "weights": self.weights}
            if given := [name for name, value in named.items() if value is not None]:
                raise ValueError(f"{given[0]} goes with model; beside [training] give [training.dropout]")
            if self.training.dropout is None:
                raise ValueError("training.dropout: give the stage that trains the rival")
            if self.source is None:
                raise ValueError("source: give the data that [training] draws from")
        return self

    def varied(self, *, training_seed: int | None = None, rival: bool = True) -> Self:
        """The same experiment with networks trained from another seed; None leaves the recipe's.

        Raises:
            UsageError: another training seed for a recipe that trains nothing; or without the network that this compares with.
        """
        if not rival:
            return super().varied(rival=rival)
        return self.model_copy(update={"training": seeded(self.training, training_seed)})
