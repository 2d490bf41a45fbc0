"""Move the decision threshold and freeze nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repairkit.alternatives.base import AlternativeResult, Description, Fold
from repairkit.errors import DataError, ModelError, UsageError
from repairkit.evaluation.splits import Split
from repairkit.evaluation.statistics import drop_bound, paired_error
from repairkit.network.predict import Logits, predict_logits
from repairkit.run.store import ARRAYS
from repairkit.shapley.game import Floats

DESCRIPTION = Description(
    "threshold", "Threshold moved", "One threshold for everybody, selected under the guard of the repair.", changes_weights=False
)


def evaluate(fold: Fold) -> AlternativeResult:
    """What the moved threshold costs; the threshold itself is selected and evaluated with the repair in any case."""
    classes = len(fold.target.classes)
    if classes != 2:
        return AlternativeResult(DESCRIPTION.key, left_out=f"it is a rule for two classes, and there are {classes}")
    images = sum(map(len, fold.chosen_on))
    seconds = images * attribution_logits(fold)[1]
    return AlternativeResult(DESCRIPTION.key, images, float(images), seconds, as_given=fold.threshold == 0)


def cost(split: Split, source: Split, classes: int) -> float:
    """Image passes: those of the attribution images, which the thresholds of groups need as well."""
    return float(len(split.attribute)) if classes == 2 else 0.0


def attribution_logits(fold: Fold) -> tuple[Logits, float]:
    """The network's logits on the target's attribution images, and seconds of a pass."""

    def compute() -> dict[str, Floats]:
        began = time.perf_counter()
        logits = predict_logits(fold.classifier, fold.target.subset(fold.split.attribute), fold.run)
        return {"logits": logits, "seconds": np.array((time.perf_counter() - began) / len(logits))}

    found = fold.run.once(f"attribution-logits-{fold.seed}", compute, ARRAYS)
    return found["logits"], float(found["seconds"])


@dataclass(frozen=True)
class ThresholdPoint:
    """What one threshold does: mean recall over the subgroups and accuracy on source images, both in 0 .. 1."""

    threshold: float
    mean_recall: float
    source_accuracy: float


def best_threshold(
    margin: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    source_margin: npt.ArrayLike,
    source_labels: npt.ArrayLike,
    *,
    max_source_drop: float,
    confidence: float | None = None,
) -> ThresholdPoint:
    """The threshold of a task of two classes that gives the highest mean subgroup recall at a bounded cost on source data.

    Class 1 is predicted where the margin exceeds the threshold. Candidates are 0 and the midpoints between neighbouring margins of all
    images, target and source. Of equals the one nearest to 0 wins.

    Args:
        margin: shape (N,), logit of class 1 minus logit of class 0, on the selection images.
        labels: shape (N,), 0 or 1.
        groups: shape (N,), subgroup names.
        source_margin: shape (M,), the same of the source.
        source_labels: shape (M,).
        max_source_drop: the most that source accuracy may fall below the original, a share (0.02).
        confidence: where it is given, `drop_bound` of the fall at this confidence stays within the limit, in place of the fall itself.

    Raises:
        DataError, ModelError: shapes that disagree, no image, other labels, or a margin that is not finite.
        UsageError: a negative `max_source_drop`, or a confidence outside [0.5, 1).

    Example:
        >>> best_threshold([-2.0, -0.5, -0.4, 3.0], [0, 1, 1, 1], ["m", "w", "w", "w"],
        ...                [-3.0, -1.0, 2.0], [0, 0, 1], max_source_drop=0.02)
        ThresholdPoint(threshold=-0.75, mean_recall=1.0, source_accuracy=1.0)
    """
    target, source = _Sorted(margin, labels, groups), _Sorted(source_margin, source_labels, None)
    if max_source_drop < 0:
        raise UsageError(f"max_source_drop must not be negative, got {max_source_drop}; it is a share, for instance 0.01")
    if confidence is not None and not 0.5 <= confidence < 1:
        raise UsageError(f"expected a confidence between 0.5 and 1, got {confidence}; 0.9 is usual, None guards the fall itself")
    values = np.unique(np.concatenate([target.margins, source.margins]))
    candidates = np.unique(np.concatenate([values[:-1] + np.diff(values) / 2, [0.0]]))
    zero = int(np.searchsorted(candidates, 0.0))
    recall, accuracy = target.recall(candidates), source.recall(candidates)
    drop = accuracy[zero] - accuracy
    if confidence is not None:
        drop = drop_bound(drop, paired_error(drop, source.moved(candidates), source.size), source.size, confidence)
    allowed = drop <= max_source_drop + 1e-12
    allowed[zero] = True
    best = recall[allowed].max()
    # Recalls are means of the same few fractions: equal ones may differ in the last bit, and must tie.
    tied = np.flatnonzero(allowed & (recall >= best - 1e-12))
    chosen = int(tied[np.argmin(np.abs(candidates[tied]))])
    return ThresholdPoint(float(candidates[chosen]), float(recall[chosen]), float(accuracy[chosen]))


def threshold_curve(
    margin: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    source_margin: npt.ArrayLike,
    source_labels: npt.ArrayLike,
    *,
    thresholds: npt.ArrayLike,
) -> tuple[ThresholdPoint, ...]:
    """What given thresholds do, on the test images for instance; arguments as in `best_threshold`.

    Example:
        >>> threshold_curve([-1.0, 1.0], [0, 0], ["a", "b"], [2.0], [1], thresholds=[0.0])
        (ThresholdPoint(threshold=0.0, mean_recall=0.5, source_accuracy=1.0),)
    """
    at = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    recall, accuracy = _Sorted(margin, labels, groups).recall(at), _Sorted(source_margin, source_labels, None).recall(at)
    return tuple(ThresholdPoint(float(t), float(r), float(a)) for t, r, a in zip(at, recall, accuracy, strict=True))


class _Sorted:
    """Margins sorted once per subgroup and class, so that every threshold costs a binary search."""

    def __init__(self, margin: npt.ArrayLike, labels: npt.ArrayLike, groups: npt.ArrayLike | None) -> None:
        self.margins = np.asarray(margin, dtype=np.float64)
        classes = np.asarray(labels)
        names = np.zeros(len(classes), dtype=np.int64) if groups is None else np.asarray(groups)
        self.size = len(self.margins)
        if self.margins.ndim != 1 or not len(self.margins) == len(classes) == len(names) > 0:
            shapes = f"{self.margins.shape}, {classes.shape} and {names.shape}"
            raise DataError(f"expected one margin, label and group for each of one or more images, got shapes {shapes}")
        if not np.isin(classes, (0, 1)).all():
            raise DataError("expected labels of 0 and 1, got others; a threshold can be moved in a task of two classes only")
        if not np.isfinite(self.margins).all():
            raise ModelError(
                f"expected finite margins, got {int((~np.isfinite(self.margins)).sum())} that are not; check the model's logits"
            )
        self.strata = []
        for name in np.unique(names):
            inside = names == name
            zeros, ones = np.sort(self.margins[inside & (classes == 0)]), np.sort(self.margins[inside & (classes == 1)])
            self.strata.append((zeros, ones, int(inside.sum())))
        self.sorted = np.sort(self.margins)

    def recall(self, thresholds: Floats) -> Floats:
        """Mean over the subgroups of the share of images that are right at each threshold, shape (T,)."""
        total = np.zeros(len(thresholds))
        for zeros, ones, size in self.strata:
            right = np.searchsorted(zeros, thresholds, side="right") + len(ones) - np.searchsorted(ones, thresholds, side="right")
            total += right / size
        return total / len(self.strata)

    def moved(self, thresholds: Floats) -> Floats:
        """Share of images that get another class at each threshold than at 0, shape (T,)."""
        below = np.searchsorted(self.sorted, thresholds, side="right")
        share: Floats = np.abs(below - np.searchsorted(self.sorted, 0.0, side="right")) / self.size
        return share
