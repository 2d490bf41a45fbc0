"""Ablation curves: what is left of a metric as more and more filters are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from repairkit.errors import DataError
from repairkit.evaluation.metrics import ACCURACY, OTHER_CLASSES, Metric
from repairkit.evaluation.statistics import Floats, Interval
from repairkit.result import RemovalPoint

MetricName = Literal["recall", "other classes", "accuracy"]
Series = Literal["critical", "random"]


def area(right: Floats, counts: Sequence[int]) -> Floats:
    """Mean height of each image's curve over the numbers of filters, by the trapezoid rule: (k, N) -> (N,).

    Example:
        >>> area(np.array([[1.0], [0.0], [0.0]]), (0, 1, 4))
        array([0.125])
    """
    mean: Floats = np.diff(counts) @ (right[1:] + right[:-1]) / 2 / counts[-1]
    return mean


@dataclass(frozen=True, eq=False)
class AblationCurves:
    """Which images were right as more and more filters were frozen: the highest values, and as many random filters.

    Attributes:
        labels: int64, shape (N,), of the test images.
        classes: names of the labels.
        label: the class that was asked about; None for all.
        counts: how many filters were frozen, 0 first; shape (k,).
        critical: bool, shape (k, N): the highest values frozen.
        random: shape (k, N), in 0 .. 1: random filters frozen, mean over the draws.

    Raises:
        DataError: shapes that disagree, or counts that do not begin with 0.

    Example:
        >>> curves = AblationCurves(np.array([0, 0, 1, 1]), ("cat", "dog"), 0, (0, 1),
        ...     np.array([[True, True, True, True], [False, False, True, True]]), np.ones((2, 4)))
        >>> [(p.metric, p.filters, p.value, p.change) for p in curves.points() if p.series == "critical" and p.filters]
        [('recall', 1, 0.0, -1.0), ('other classes', 1, 1.0, 0.0), ('accuracy', 1, 0.5, -0.5)]
    """

    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    label: int | None
    counts: tuple[int, ...]
    critical: npt.NDArray[np.bool_]
    random: Floats

    def __post_init__(self) -> None:
        expected = (len(self.counts), len(self.labels))
        if self.critical.shape != expected or self.random.shape != expected or self.counts[:1] != (0,):
            raise DataError(
                f"expected counts from 0 and outcomes of shape {expected}, got {self.counts}, {self.critical.shape}, {self.random.shape}"
            )

    @property
    def metrics(self) -> dict[MetricName, Metric]:
        """What is measured: recall of the class, mean recall of the others and accuracy, or accuracy alone."""
        accuracy = Metric.mean(ACCURACY, len(self.labels))
        if self.label is None:
            return {"accuracy": accuracy}
        others = sorted(set(self.labels.tolist()) - {self.label})
        return {
            "recall": Metric(f"recall of {self.classes[self.label]}", self.labels, {self.label: 1.0}),
            "other classes": Metric(OTHER_CLASSES, self.labels, {label: 1 / len(others) for label in others}),
            "accuracy": accuracy,
        }

    def points(self, level: float = 0.95, seed: int = 0) -> list[RemovalPoint]:
        """The curves, with intervals of each point and of its change."""
        return [
            self._point(name, metric, series, row, level, seed)
            for name, metric in self.metrics.items()
            for series in get_args(Series)
            for row in range(len(self.counts))
        ]

    def contrast(self, metric: MetricName, level: float = 0.95, seed: int = 0) -> Interval:
        """How much further the metric falls with all critical filters frozen than with as many random ones; negative where further."""
        return self.metrics[metric].change(self.random[-1], self.critical[-1], level=level, seed=seed)

    def _point(self, name: MetricName, metric: Metric, series: Series, row: int, level: float, seed: int) -> RemovalPoint:
        right = self.critical.astype(np.float64) if series == "critical" else self.random
        change = metric.change(right[0], right[row], level=level, seed=seed) if self.counts[row] else Interval(0.0, 0.0, 0.0)
        return RemovalPoint(
            series=series,
            metric=name,
            filters=self.counts[row],
            n=metric.n,
            **metric.interval(right[row], level=level, seed=seed)._asdict(),
            change=change.value,
            change_low=change.low,
            change_high=change.high,
        )
