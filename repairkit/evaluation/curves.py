"""Ablation curves: what is left of a metric as more and more filters are frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from repairkit.errors import DataError
from repairkit.evaluation.metrics import ACCURACY, OTHER_CLASSES, Metric
from repairkit.evaluation.statistics import Floats, Interval
from repairkit.result import CurvePoint

MetricName = Literal["recall", "other classes", "accuracy"]
Series = Literal["highest", "lowest", "least", "random"]
"""Orders of freezing: highest value first, lowest value first, least absolute value first, or at random."""


def area(outcomes: Floats, counts: Sequence[int]) -> Floats:
    """Mean height of each image's curve over the numbers of filters, by the trapezoid rule: (k, N) -> (N,).

    Example:
        >>> area(np.array([[1.0], [0.0], [0.0]]), (0, 1, 4))
        array([0.125])
    """
    mean: Floats = np.diff(counts) @ (outcomes[1:] + outcomes[:-1]) / 2 / counts[-1]
    return mean


@dataclass(frozen=True, eq=False)
class AblationCurves:
    """Which images one network classifies correctly as more and more filters are frozen, in several orders.

    Attributes:
        labels: int64, shape (N,), of the test images.
        classes: names of the labels.
        label: the class that is asked about; None for all.
        counts: numbers of filters that were frozen, 0 first; shape (k,).
        outcomes: of each order of freezing, shape (k, N), in [0, 1]; of random orders the mean over the draws.

    Raises:
        DataError: shapes that disagree, or counts that do not begin with 0.

    Example:
        >>> curves = AblationCurves(np.array([0, 0, 1, 1]), ("cat", "dog"), 0, (0, 1),
        ...     {"highest": np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]), "random": np.ones((2, 4))})
        >>> [(p.metric, p.filters, p.value, p.change) for p in curves.points() if p.series == "highest" and p.filters]
        [('recall', 1, 0.0, -1.0), ('other classes', 1, 1.0, 0.0), ('accuracy', 1, 0.5, -0.5)]
    """

    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    label: int | None
    counts: tuple[int, ...]
    outcomes: Mapping[Series, Floats]

    def __post_init__(self) -> None:
        expected = (len(self.counts), len(self.labels))
        shapes = {series: outcomes.shape for series, outcomes in self.outcomes.items()}
        if set(shapes.values()) != {expected} or self.counts[:1] != (0,):
            raise DataError(f"expected counts from 0 and outcomes of shape {expected}, got {self.counts} and {shapes}")

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

    def points(self, column: str = "original", *, level: float = 0.95, seed: int = 0) -> list[CurvePoint]:
        """The curves of each metric, with intervals of each point and of its change; `column` names the network."""
        points = []
        for name, metric in self.metrics.items():
            for series, outcomes in self.outcomes.items():
                for filters, frozen in zip(self.counts, outcomes, strict=True):
                    change = metric.change(outcomes[0], frozen, level=level, seed=seed) if filters else Interval(0.0, 0.0, 0.0)
                    points.append(
                        CurvePoint(
                            column=column,
                            series=series,
                            metric=name,
                            filters=filters,
                            n=metric.n,
                            **metric.interval(frozen, level=level, seed=seed)._asdict(),
                            change=change.value,
                            change_low=change.low,
                            change_high=change.high,
                        )
                    )
        return points

    def contrast(self, metric: MetricName, *, level: float = 0.95, seed: int = 0) -> Interval:
        """The metric with all highest filters frozen less the metric with as many random filters frozen, paired."""
        return self.metrics[metric].change(self.outcomes["random"][-1], self.outcomes["highest"][-1], level=level, seed=seed)
