"""What a fairness repair found: rounds, and which test images are classified correctly; shares, differences, disparities, verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from repairkit.alternatives.base import AlternativeResult
from repairkit.alternatives.threshold import ThresholdPoint
from repairkit.baselines.compare import Compared
from repairkit.data.images import Indices
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.metrics import GAP, LOWEST, MEAN, RECALL, SOURCE, Metric, compare_groups, split_by_group
from repairkit.evaluation.statistics import Floats
from repairkit.evaluation.wording import (
    describe_change,
    describe_interval,
    describe_lead,
    format_count,
    format_points,
    format_range,
    measurably_worse,
    regressions,
    state_change,
    unchanged_network,
)
from repairkit.experiments.fairness.report import Disparity
from repairkit.network.classifier import Classifier
from repairkit.network.patch import Patch
from repairkit.repair.selection import Choice
from repairkit.result import Difference, Share, Verdict
from repairkit.shapley import Attribution
from repairkit.shapley.live_range import LiveRange
from repairkit.shapley.stability import Stability

Booleans = npt.NDArray[np.bool_]
Points = tuple[tuple[int, float, float], ...]
"""Number of filters frozen, mean recall, source accuracy."""

ORDER = (SOURCE, RECALL, LOWEST, MEAN, GAP)
RIVALS = (("threshold", "moving the threshold alone"), ("dropout", "training with filter dropout alone"))


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Which test images each column classifies correctly.

    With folds each target image is classified once, by a network that did not see it. A source image may be classified by several networks.
    Its entry is then the share of them that were correct. Intervals are conditional on these networks.

    Attributes:
        groups: shape (N,), the subgroup of each target image.
        correct: for each column, bool of shape (N,).
        source_correct: for the same columns, shape (M,), in [0, 1].

    Raises:
        DataError: no image, or columns, shapes or values that do not fit.

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


@dataclass(frozen=True)
class Round:
    """One time that filters of one network were valued, selected and frozen on one fold.

    Attributes:
        attribution, choice: of the network as the earlier rounds left it.
        patch: what this round froze; it fits the original weights only after the earlier rounds.
        path: along the selected filters, after those of earlier rounds; empty where it was not measured.
        live_range, stability: where they were measured.
        halved: images of a pass of the attribution, where memory ran out.
    """

    attribution: Attribution
    choice: Choice
    patch: Patch
    path: Points
    live_range: LiveRange | None = None
    stability: Stability | None = None
    halved: int | None = None


@dataclass(frozen=True)
class RepairedNetwork:
    """One network repaired on one fold; `removal` is the ablation curve of the most negative filters of its first round."""

    fold: int
    column: str
    rounds: tuple[Round, ...]
    classifier: Classifier  # with the filters of all rounds frozen
    removal: Points
    compared: Compared | None = None  # with baselines; then there is one round

    @property
    def attribution(self) -> Attribution:
        """That of the original network."""
        return self.rounds[0].attribution

    @property
    def live_range(self) -> LiveRange | None:
        """That of the first round."""
        return self.rounds[0].live_range

    @property
    def stability(self) -> Stability | None:
        """Of the first round, where it was asked for."""
        return self.rounds[0].stability

    @property
    def chosen(self) -> int:
        """How many filters all rounds froze."""
        return sum(one.choice.chosen for one in self.rounds)

    @property
    def patch(self) -> Patch:
        """All filters of all rounds, for the original weights."""
        return self.rounds[0].patch.model_copy(update={"culprits": [culprit for one in self.rounds for culprit in one.patch.culprits]})

    @property
    def path(self) -> Points:
        """The ablation curves of all rounds, one after the other."""
        return tuple(point for one in self.rounds for point in one.path)


@dataclass
class Findings:
    """Everything measured; `repairkit.experiments.fairness.result` turns it into a result."""

    outcomes: Outcomes
    repairs: list[RepairedNetwork]
    thresholds: list[ThresholdPoint]  # selected in each fold; empty where there are not two classes
    margins: Floats
    source_margins: Floats
    source_report: Indices  # test images
    target_report: Indices
    passes: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    alternatives: list[AlternativeResult] = field(default_factory=list)  # empty unless they were asked for
    repair_passes: dict[str, float] = field(default_factory=dict)  # of the network to repair, without the dropout-trained one
    repair_seconds: dict[str, float] = field(default_factory=dict)


def shares(outcomes: Outcomes, level: float = 0.95, *, seed: int = 0) -> list[Share]:
    """Recall of every group, mean and lowest recall, their gap, and source accuracy, for every column; see `Metric` for the intervals.

    Example:
        >>> outcomes = Outcomes(np.array(["a", "a", "b"]), {"original": np.array([True, False, True])}, {"original": np.ones(3)})
        >>> [(share.metric, share.group, share.value) for share in shares(outcomes)][:3]
        [('recall', 'a', 0.5), ('recall', 'b', 1.0), ('mean recall', None, 0.75)]
    """
    groups: list[tuple[str | None, Metric]] = [(name, Metric(RECALL, outcomes.groups, {name: 1.0})) for name in outcomes.names]
    return [
        metric.share(outcomes.of(metric, column), column, group, level=level, seed=seed)
        for column in outcomes.correct
        for group, metric in [*groups, *((None, metric) for metric in outcomes.aggregates())]
    ]


def differences(outcomes: Outcomes, pairs: Sequence[tuple[str, str]], level: float = 0.95, seed: int = 0) -> list[Difference]:
    """What changed from the first to the second column of each pair, on the same images: of groups by `compare_groups`, then aggregates.

    Raises:
        UsageError: a pair names a column that is not there.

    Example:
        >>> right = {"original": np.array([True, False] * 10), "repaired": np.ones(20, bool)}
        >>> outcomes = Outcomes(np.array(["a"] * 10 + ["b"] * 10), right, {column: np.ones(9) for column in right})
        >>> [(entry.metric, round(entry.value, 2), entry.claim) for entry in differences(outcomes, [("original", "repaired")])][2:]
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

    The ratio is 1 where no group has a correct answer: they are equal.

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
        ratio = float(frame.ratio(method="between_groups")) if right.any() else 1.0
        difference = float(frame.difference(method="between_groups"))
        records.append(Disparity(column=column, difference=difference, ratio=ratio, lowest_group=str(frame.by_group.idxmin())))
    return records


def verdict(differences: Sequence[Difference], *, filters: Sequence[int], level: float = 0.95) -> Verdict:
    """The conclusion, what got worse first; `filters` says how many each fold froze.

    "repaired" needs mean recall to rise above the original and above the moved threshold, both with intervals above zero.
    "no better than the threshold" says that only the first holds, also where the threshold does measurably more.

    Raises:
        UsageError: filters were frozen, but the pair ("original", "repaired") is missing.

    Example:
        >>> verdict([], filters=[0]).outcome
        'no repair'
    """
    means = {(entry.first, entry.second): entry for entry in differences if (entry.metric, entry.group) == (MEAN, None)}
    threshold = [
        f"Moving the threshold alone, with no filter frozen: mean recall {describe_change(entry, level)}."
        for pair, entry in means.items()
        if pair == ("original", "threshold") and entry.claim == "better"
    ]
    if not any(filters):
        return unchanged_network(sentences=threshold)
    change, lead = means.get(("original", "repaired")), means.get(("threshold", "repaired"))
    if change is None:
        raise UsageError("expected the differences of original and repaired, got none; compare these two columns first")
    outcome, headline = _headline(change, lead, filters, level)
    repair = sorted((e for e in differences if (e.first, e.second) == ("original", "repaired")), key=lambda e: ORDER.index(e.metric))
    worse = [state_change(entry, level) for entry in regressions(repair)]
    better = [state_change(entry, level) for entry in repair if entry.claim == "better" and entry.metric != MEAN]
    rivals = [
        f"Against {rival}: mean recall {describe_lead(means[column, 'repaired'], level)}."
        for column, rival in RIVALS
        if (column, "repaired") in means
    ]
    alone = [] if lead else ["No moved threshold was compared: this task has none, or none was evaluated."]
    headline = " ".join([headline, *measurably_worse(entry for entry in repair if entry.metric != MEAN)])
    return Verdict(outcome=outcome, headline=headline, sentences=[*worse, *better, *alone, *rivals, *threshold], worse=worse)


def _headline(
    change: Difference, lead: Difference | None, filters: Sequence[int], level: float
) -> tuple[Literal["repaired", "no better than the threshold", "no claim"], str]:
    """The outcome, and what freezing did to mean recall."""
    frozen = f"Freezing {format_count(filters[0], 'filter')}"
    if len(filters) > 1:
        frozen = f"Freezing {format_range(filters)} filter{'' if max(filters) == 1 else 's'} in each of {len(filters)} folds"
    interval = describe_interval(change.low, change.high, level, change.n)
    if change.low <= 0 <= change.high:
        return "no claim", f"{frozen} changed mean recall by no more than chance can explain ({interval})."
    start = f"{frozen} {'raised' if change.value > 0 else 'lowered'} mean recall by {format_points(change.value)} points ({interval})."
    if change.high < 0:
        return "no claim", start
    if lead is None:
        return "repaired", start
    if lead.low <= 0:
        return (
            "no better than the threshold",
            f"{start} The repair does {'less' if lead.high < 0 else 'no more'} than moving the threshold.",
        )
    return "repaired", f"{start} That is {format_points(lead.value)} points more than moving the threshold gains."
