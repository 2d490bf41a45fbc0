"""The repair of one class: culprits chosen on its recall, under a guard on accuracy on the other classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repairkit.evaluation.splits import Split
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.network.classifier import Classifier
from repairkit.network.game import NetworkGame
from repairkit.network.patch import Patch
from repairkit.network.predict import predict
from repairkit.objectives import Accuracy, ClassRecall, ObjectiveSum
from repairkit.repair.choosing import choose_once, patch_of
from repairkit.repair.selection import Choice
from repairkit.run.context import Run
from repairkit.shapley import Attribution


@dataclass(frozen=True, eq=False)
class ClassRepair:
    """A class repaired by freezing its culprits.

    Attributes:
        attribution: values of the lowest filters.
        choice, patch, classifier: what was chosen and made of it.
        original, repaired: bool, shape (N,), who was right on the report images.
    """

    attribution: Attribution
    choice: Choice
    patch: Patch
    classifier: Classifier
    original: npt.NDArray[np.bool_]
    repaired: npt.NDArray[np.bool_]


def repair_class(task: CriticalTask, label: int, game: NetworkGame, lowest: Attribution, split: Split, run: Run) -> ClassRepair:
    """Freeze culprits of a class: chosen on its recall under a guard on accuracy on the other classes, judged on the report images."""
    classifier = task.model.classifier
    choice = choose_once(classifier, game.filters, lowest, choose_worths(task, label, split), run)
    patch = patch_of(task.model, game.filters, lowest, choice, game.objective, run.settings.freeze_at)
    repaired = classifier.with_network(patch.apply(classifier.network))
    report_on = task.images.subset(split.report)
    with run.phase("evaluation"):
        original, after = (predict(each, report_on, run) == report_on.labels for each in (classifier, repaired))
    return ClassRepair(lowest, choice, patch, repaired, original, after)


def choose_worths(task: CriticalTask, label: int, split: Split) -> tuple[ObjectiveSum, ObjectiveSum]:
    """What a repair of a class is chosen by, and what its guard holds."""
    choose_on = task.images.subset(split.choose)
    own = choose_on.labels == label
    return ClassRecall(label).on(choose_on.subset(np.flatnonzero(own))), Accuracy().on(choose_on.subset(np.flatnonzero(~own)))
