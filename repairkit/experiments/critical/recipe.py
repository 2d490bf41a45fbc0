"""Recipes of `repairkit recall` and `repairkit accuracy`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from repairkit.data.classes import find_class
from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.experiments.classifier_task import CriticalTask, class_ranking, usual_t0
from repairkit.experiments.recipe_base import ClassifierRecipe
from repairkit.models import zoo
from repairkit.run.options import Options


class CriticalRecipe(ClassifierRecipe):
    """Critical filters: what accuracy, or recall of each of several classes, depends on.

    Several classes are asked about one after the other, each with values, a removal curve and a run directory of its own, named after
    it in the run's folder: `OUT/police-van/report.html`. They share the network, the images, the split and the control (random filters
    frozen, the most expensive part), which is measured with the first class.

    Attributes:
        classes: names of the classes whose recall is asked about; for `recall` alone.
        repair: also repair each class, as `repairkit recall --repair`.
    """

    settles = True
    unfit = ("folds", "rounds", "source_counts", "stability", "curve", "alternatives")

    command: Literal["recall", "accuracy"]
    classes: list[str] = Field(default_factory=list)
    repair: bool = False

    @model_validator(mode="after")
    def _classes_where_recall_is_asked_about(self) -> Self:
        if self.command == "recall" and not self.classes:
            raise ValueError("classes: give the names of those whose recall is asked about, at least one")
        if self.command == "accuracy" and (self.classes or self.repair):
            raise ValueError('classes and repair go with command = "recall"; accuracy asks about all classes, so leave them out')
        return self

    def run_options(self, path: Path | str = "the recipe", **overrides: object) -> Options:
        """The options of the run; ranking and live range as with the commands, unless the recipe says otherwise.

        Raises:
            UsageError: as `Recipe.run_options`; a ranking that the command does not have.
        """
        engine = str(self.options.get("engine", "tmab"))
        given = self.options.get("ranking")
        ranking: str = "recall"
        if self.command == "recall":
            try:
                ranking = class_ranking(given, engine, self.options.get("guarantee"))
            except UsageError as error:
                raise UsageError(f"{path}: options.{error}") from None
        elif given not in (None, "recall"):
            raise UsageError(f"{path}: options.ranking: accuracy is ranked by itself, got {given!r}; leave the key out")
        of_class = self.command == "recall"
        t0 = {} if "t0" in self.options else {"t0": usual_t0(engine, ranking, of_class=of_class)}
        options = super().run_options(path, **({"ranking": ranking} | t0 | overrides))
        if of_class and options.t0 == "settled":
            raise UsageError(f"{path}: options.t0: recall of a class has few images to settle a live range on; give a number or 'auto'")
        return options

    def tasks(self, model: zoo.LoadedModel, images: LabelledImages) -> list[CriticalTask]:
        """What is asked, one class after the other.

        Raises:
            UsageError: there is no such class.
            DataError, ModelError: as `CriticalTask`.
        """
        if self.command == "accuracy":
            return [CriticalTask(model, images, None)]
        return [CriticalTask(model, images, find_class(name, images.classes), self.repair) for name in self.classes]
