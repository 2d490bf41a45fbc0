"""From who was right on which image to the tables of a fairness report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from repairkit.errors import DataError, UsageError
from repairkit.evaluation.metrics import GAP, LOWEST, MEAN, RECALL, SOURCE, Metric, compare_groups, split_by_group
from repairkit.evaluation.statistics import Floats
from repairkit.experiments.fairness.result import Disparity
from repairkit.result import Difference, Share


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Who was right: every column of a report on the same images.

    With cross-fitting each target image is judged once, by a network that did not see it; a source image
    may be judged by several, and its entry is then the share of them that were right. Intervals are
    conditional on those networks.

    Attributes:
        groups: shape (N,), the subgroup of each target report image.
        correct: for each column, bool of shape (N,).
        source_correct: for the same columns, shape (M,), in [0, 1].

    Raises:
        DataError: no column, columns or lengths that disagree, outcomes that are not bool, or source values outside [0, 1].

    Example:
        >>> outcomes = Outcomes(np.array(["a", "b"]), {"original": np.array([True, False])}, {"original": np.array([1.0, 0.5])})
        >>> outcomes.names
        ('a', 'b')
    """

    groups: npt.NDArray[np.str_]
    correct: Mapping[str, npt.NDArray[np.bool_]]
    source_correct: Mapping[str, Floats]

    def __post_init__(self) -> None:
        if not self.correct or set(self.correct) != set(self.source_correct):
            raise DataError(
                f"expected the same columns for target and source, got {sorted(self.correct)} and {sorted(self.source_correct)}"
            )
        m = len(next(iter(self.source_correct.values())))
        if len(self.groups) == 0 or m == 0:
            raise DataError(f"expected report images of target and source, got {len(self.groups)} and {m}; enlarge the report part")
        for column, right in self.correct.items():
            source = self.source_correct[column]
            if right.dtype != np.bool_ or right.shape != self.groups.shape:
                raise DataError(f"column {column}: expected bool of shape {self.groups.shape}, got {right.dtype} of shape {right.shape}")
            if source.shape != (m,) or not ((source >= 0) & (source <= 1)).all():
                raise DataError(
                    f"column {column}: expected {m} source values in [0, 1], got shape {source.shape}; give the share of networks"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The subgroups, sorted."""
        return tuple(np.unique(self.groups).tolist())

    def aggregates(self) -> Iterator[Metric]:
        """Mean and lowest recall, the gap between the highest and the lowest, and source accuracy."""
        mean = Metric.mean_over(MEAN, self.groups)
        yield mean
        yield replace(mean, name=LOWEST, statistic="lowest")
        yield replace(mean, name=GAP, statistic="gap", lower_is_better=True)
        yield Metric.mean(SOURCE, len(next(iter(self.source_correct.values()))))

    def of(self, metric: Metric, column: str) -> npt.NDArray[np.bool_] | Floats:
        """The outcomes of a column that an aggregate is made of."""
        return self.source_correct[column] if metric.name == SOURCE else self.correct[column]


def shares(outcomes: Outcomes, level: float = 0.95, *, seed: int = 0) -> list[Share]:
    """Recall of every group, mean and lowest recall, their gap, and source accuracy, for every column.

    Groups have Wilson's interval, the mean, the lowest and the gap (highest minus lowest) a bootstrap stratified by group; source accuracy
    Wilson's where it is 0/1, else a bootstrap over images. `n` of the lowest recall is the size of that group.

    Args:
        outcomes: who was right.
        level: confidence level in (0, 1).
        seed: of the bootstrap.

    Example:
        >>> outcomes = Outcomes(np.array(["a", "a", "b"]), {"original": np.array([True, False, True])}, {"original": np.ones(3)})
        >>> [(share.metric, share.group, share.value) for share in shares(outcomes)][:3]
        [('recall', 'a', 0.5), ('recall', 'b', 1.0), ('mean recall', None, 0.75)]
    """
    groups = [(name, Metric(RECALL, outcomes.groups, {name: 1.0})) for name in outcomes.names]
    return [
        metric.share(right, column, group, level=level, seed=seed)
        for column in outcomes.correct
        for group, metric, right in (
            *((name, metric, outcomes.correct[column]) for name, metric in groups),
            *((None, metric, outcomes.of(metric, column)) for metric in outcomes.aggregates()),
        )
    ]


def differences(outcomes: Outcomes, pairs: Sequence[tuple[str, str]], level: float = 0.95, seed: int = 0) -> list[Difference]:
    """What changed from the first to the second column of each pair, on the same images.

    Groups: Newcombe's interval and exact McNemar's p-value, by Holm adjusted over the groups; a claim needs
    an interval without zero and an adjusted p-value below 1 - level. Mean recall, lowest recall, gap (highest
    minus lowest recall; smaller is better) and source accuracy: a paired bootstrap stratified by group.

    Args:
        outcomes: who was right.
        pairs: (first, second) columns, for instance ("original", "repaired").
        level: confidence level in (0, 1).
        seed: of the bootstrap.

    Raises:
        UsageError: a pair names a column that is not there.

    Example:
        >>> right = {"original": np.array([True, False] * 10), "repaired": np.ones(20, bool)}
        >>> outcomes = Outcomes(np.array(["a"] * 10 + ["b"] * 10), right, {column: np.ones(9) for column in right})
        >>> found = differences(outcomes, [("original", "repaired")])
        >>> [(entry.metric, round(entry.value, 2), entry.claim) for entry in found if entry.group is None]
        [('mean recall', 0.5, 'better'), ('lowest recall', 0.5, 'better'), ('gap', 0.0, 'no claim'), ('source accuracy', 0.0, 'no claim')]
    """
    records: list[Difference] = []
    for first, second in pairs:
        if missing := {first, second} - set(outcomes.correct):
            raise UsageError(f"expected columns among {sorted(outcomes.correct)}, got {sorted(missing)}; evaluate them first")
        pairs_of_groups = split_by_group(outcomes.groups, outcomes.correct[first], outcomes.correct[second])
        records += compare_groups(RECALL, pairs_of_groups, (first, second), level)
        records += [
            metric.difference(outcomes.of(metric, first), outcomes.of(metric, second), (first, second), level=level, seed=seed)
            for metric in outcomes.aggregates()
        ]
    return records


def disparities(outcomes: Outcomes) -> list[Disparity]:
    """Difference and ratio of recall between the groups by fairlearn's `MetricFrame`, for every column.

    The ratio of groups that are all without a right answer is 1: they are equal.

    Example:
        >>> outcomes = Outcomes(np.array(["a", "a", "b"]), {"original": np.array([True, False, True])}, {"original": np.ones(3)})
        >>> disparities(outcomes)
        [Disparity(column='original', difference=0.5, ratio=0.5, lowest_group='a')]
    """
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score

    records = []
    for column, right in outcomes.correct.items():
        frame = MetricFrame(
            metrics=accuracy_score, y_true=np.ones(len(right), dtype=int), y_pred=right.astype(int), sensitive_features=outcomes.groups
        )
        records.append(
            Disparity(
                column=column,
                difference=float(frame.difference(method="between_groups")),
                ratio=float(frame.ratio(method="between_groups")) if right.any() else 1.0,
                lowest_group=str(frame.by_group.idxmin()),
            )
        )
    return records
