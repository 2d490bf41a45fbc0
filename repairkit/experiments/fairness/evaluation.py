"""From who was right on which image to the tables of a fairness report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repairkit.errors import DataError, UsageError
from repairkit.evaluation.statistics import (
    Floats,
    Interval,
    Statistic,
    holm,
    mcnemar_exact,
    mean_interval,
    newcombe_paired,
    stratified_bootstrap,
    wilson,
)
from repairkit.experiments.fairness.result import Disparity
from repairkit.report.record import Claim
from repairkit.result import Difference, Share

RECALL, MEAN, LOWEST, GAP, SOURCE = "recall", "mean recall", "lowest recall", "gap", "source accuracy"


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
    records = []

    def add(column: str, metric: str, group: str | None, n: int, interval: Interval) -> None:
        records.append(Share(metric=metric, group=group, column=column, n=n, value=interval.value, low=interval.low, high=interval.high))

    for column, right in outcomes.correct.items():
        by_group = {name: right[outcomes.groups == name] for name in outcomes.names}
        for name, own in by_group.items():
            add(column, RECALL, name, len(own), wilson(int(own.sum()), len(own), level))
        mean = stratified_bootstrap(right, outcomes.groups, lambda means: means[..., 0].mean(-1), seed=seed, level=level)
        add(column, MEAN, None, len(right), mean)
        lowest = stratified_bootstrap(right, outcomes.groups, lambda means: means[..., 0].min(-1), seed=seed, level=level, reflect=True)
        smallest = min(by_group.values(), key=lambda own: own.mean())
        add(column, LOWEST, None, len(smallest), _clipped(lowest))
        gap = stratified_bootstrap(
            right, outcomes.groups, lambda means: means[..., 0].max(-1) - means[..., 0].min(-1), seed=seed, level=level, reflect=True
        )
        add(column, GAP, None, len(right), _clipped(gap))
        source = outcomes.source_correct[column]
        if np.isin(source, (0, 1)).all():
            accuracy = wilson(int(source.sum()), len(source), level)
        else:
            accuracy = mean_interval(source, seed=seed, level=level)
        add(column, SOURCE, None, len(source), accuracy)
    return records


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
        records += group_differences(outcomes.groups, outcomes.correct, first, second, level)
        records += _aggregate_differences(outcomes, first, second, level, seed)
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


def group_differences(
    groups: npt.NDArray[np.str_], correct: Mapping[str, npt.NDArray[np.bool_]], first: str, second: str, level: float
) -> list[Difference]:
    """What changed in each group, sorted by name: Newcombe's interval, exact McNemar's p-value, by Holm adjusted over the groups.

    A claim needs an interval without zero and an adjusted p-value below 1 - level.
    """
    rows = {name: (correct[first][groups == name], correct[second][groups == name]) for name in np.unique(groups).tolist()}
    return paired_differences(RECALL, rows, first, second, level)


def paired_differences(
    metric: str,
    rows: Mapping[str, tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]],
    first: str,
    second: str,
    level: float,
    *,
    smaller_is_better: bool = False,
) -> list[Difference]:
    """What changed in each row from its first outcomes to its second, on the same images: as `group_differences`, by Holm adjusted over the rows."""
    p_values = [mcnemar_exact(before, after) for before, after in rows.values()]
    records = []
    for (name, (before, after)), p_value, adjusted in zip(rows.items(), p_values, holm(p_values).tolist(), strict=True):
        interval = newcombe_paired(before, after, level)
        records.append(
            Difference(
                metric=metric,
                group=name,
                first=first,
                second=second,
                n=len(before),
                **interval._asdict(),
                p_value=p_value,
                p_adjusted=adjusted,
                claim=claim_of(interval, smaller_is_better=smaller_is_better) if adjusted < 1 - level else "no claim",
            )
        )
    return records


def _aggregate_differences(outcomes: Outcomes, first: str, second: str, level: float, seed: int) -> list[Difference]:
    right = np.column_stack([outcomes.correct[first], outcomes.correct[second]])

    def change(statistic: Statistic, *, reflect: bool) -> Interval:
        interval = stratified_bootstrap(
            right,
            outcomes.groups,
            lambda means: statistic(means[..., 1]) - statistic(means[..., 0]),
            seed=seed,
            level=level,
            reflect=reflect,
        )
        return _clipped(interval, lowest=-1.0)

    source = np.column_stack([outcomes.source_correct[first], outcomes.source_correct[second]])
    found = {
        MEAN: change(lambda recall: recall.mean(-1), reflect=False),
        LOWEST: change(lambda recall: recall.min(-1), reflect=True),
        GAP: change(lambda recall: recall.max(-1) - recall.min(-1), reflect=True),
        SOURCE: mean_interval(source, seed=seed, level=level),
    }
    return [
        Difference(
            metric=metric,
            group=None,
            first=first,
            second=second,
            n=len(source) if metric == SOURCE else len(right),
            **interval._asdict(),
            claim=claim_of(interval, smaller_is_better=metric == GAP),
        )
        for metric, interval in found.items()
    ]


def claim_of(interval: Interval, *, smaller_is_better: bool = False) -> Claim:
    """Better or worse where the interval excludes zero, else no claim."""
    if not interval.excludes_zero:
        return "no claim"
    return "better" if (interval.low > 0) != smaller_is_better else "worse"


def _clipped(interval: Interval, lowest: float = 0.0) -> Interval:
    """Reflection may leave the range of the statistic."""
    return Interval(interval.value, max(lowest, interval.low), min(1.0, interval.high))
