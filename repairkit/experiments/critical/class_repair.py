"""The repair of one class: culprits chosen on its recall, under a guard on accuracy on the other classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repairkit.evaluation.splits import Split
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.network.classifier import Classifier
from repairkit.network.patch import Patch
from repairkit.network.predict import predict
from repairkit.objectives import Accuracy, ClassRecall
from repairkit.repair.attribute import Attributed
from repairkit.repair.repair import freeze_selected
from repairkit.repair.selection import Choice
from repairkit.repair.selection_images import SelectionGoal
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


def repair_class(task: CriticalTask, label: int, valued: Attributed, split: Split, run: Run) -> ClassRepair:
    """Freeze culprits of a class: selected by its recall under a guard on accuracy on the other classes, judged on the report images."""
    found = freeze_selected(task.model, valued, selection_goal(task, label, split), run)
    report_on = task.images.subset(split.report)
    with run.phase("evaluation"):
        original, after = (predict(each, report_on, run) == report_on.labels for each in (task.model.classifier, found.classifier))
    return ClassRepair(found.attribution, found.selection, found.patch, found.classifier, original, after)


def selection_goal(task: CriticalTask, label: int, split: Split) -> SelectionGoal:
    """What a repair of a class is selected by, and what its guard holds."""
    images = task.images.subset(split.choose)
    members = images.labels == label
    return SelectionGoal(
        target=ClassRecall(label).on(images.subset(np.flatnonzero(members))), guard=Accuracy().on(images.subset(np.flatnonzero(~members)))
    )
