"""From who was right with which filters frozen, in two networks, to the curves, the differences and the verdict of a report on dropout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from repairkit.errors import DataError
from repairkit.evaluation.curves import AblationCurves
from repairkit.evaluation.metrics import ACCURACY, Metric, claim_of
from repairkit.evaluation.statistics import Floats, simultaneous
from repairkit.evaluation.wording import describe_interval, format_points
from repairkit.experiments.dropout.result import DropoutPoint
from repairkit.report.formatting import listed
from repairkit.result import Difference, RemovalPoint, Share, Verdict

Series = Literal["highest", "lowest", "random"]
SERIES: tuple[Series, ...] = get_args(Series)
FIRST, SECOND = "original", "dropout"


def accuracy_of(series: Series) -> str:
    """Name of the metric: accuracy with filters frozen; of no group, its mean over the numbers of filters.

    Example:
        >>> accuracy_of("highest"), change_of("random")
        ('accuracy, highest frozen', 'change, random frozen')
    """
    return f"accuracy, {series} frozen"


def change_of(series: Series) -> str:
    """Name of the metric: what freezing filters changes of accuracy, negative for a fall."""
    return f"change, {series} frozen"


def number_of(filters: int) -> str:
    """Name of the group of a difference at one number of filters.

    Example:
        >>> number_of(1), number_of(1000)
        ('1 filter', '1,000 filters')
    """
    return f"{filters:,} filter{'' if filters == 1 else 's'}"


@dataclass(frozen=True, eq=False)
class Removals:
    """Who was right in two networks as more and more filters of each were frozen.

    Attributes:
        labels: int64, shape (N,), of the report images.
        classes: names of the labels.
        counts: how many filters were frozen, 0 first; shape (k,).
        right: by column ("original", "dropout") and series, shape (k, N), in 0 .. 1: the highest values frozen, the lowest, and as
            many filters drawn at random (mean over the draws).

    Raises:
        DataError: shapes that disagree, counts that do not begin with 0, or other columns or series.
    """

    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    right: Mapping[str, Mapping[Series, Floats]]

    def __post_init__(self) -> None:
        expected = (len(self.counts), len(self.labels))
        shapes = {(column, series): rows.shape for column, each in self.right.items() for series, rows in each.items()}
        if set(shapes) != {(column, series) for column in (FIRST, SECOND) for series in SERIES} or set(shapes.values()) != {expected}:
            raise DataError(f"expected outcomes of shape {expected} for two networks and {', '.join(SERIES)}, got {shapes}")
        if self.counts[:1] != (0,):
            raise DataError(f"expected counts from 0, got {self.counts}")

    def of(self, column: str, series: Series) -> AblationCurves:
        """The curve of one network and one end of its values, beside that of random filters."""
        rows = self.right[column]
        return AblationCurves(self.labels, self.classes, None, self.counts, rows[series].astype(bool), rows["random"])

    @property
    def most_frequent(self) -> float:
        """Accuracy of whoever always names the class that most report images have."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    def points(self, level: float = 0.95, seed: int = 0) -> list[DropoutPoint]:
        """All curves, with the intervals of `AblationCurves.points`."""
        found = []
        for column in self.right:
            ends: tuple[Series, ...] = ("highest", "lowest")
            curves: dict[Series, list[RemovalPoint]] = {series: self.of(column, series).points(level, seed) for series in ends}
            taken: tuple[tuple[Series, Series, str], ...] = (
                ("highest", "highest", "critical"), ("lowest", "lowest", "critical"), ("random", "highest", "random"),
            )  # fmt: skip
            found += [
                DropoutPoint(column=column, series=series, **point.model_dump(exclude={"series", "metric"}))
                for series, curve, kind in taken
                for point in curves[curve]
                if point.series == kind
            ]
        return found

    def shares(self, level: float = 0.95, seed: int = 0) -> list[Share]:
        """Accuracy of both networks: with nothing frozen, and the mean over the numbers of filters of each series."""
        found = []
        for column, rows in self.right.items():
            measured: dict[str, Floats] = {ACCURACY: rows["highest"][0]}
            if len(self.counts) > 1:
                measured |= {accuracy_of(series): rows[series][1:].mean(axis=0) for series in SERIES}
            found += [
                Metric.mean(metric, len(self.labels)).share(right, column, level=level, seed=seed) for metric, right in measured.items()
            ]
        return found

    def differences(self, level: float = 0.95, seed: int = 0) -> list[Difference]:
        """The dropout-trained network minus the original, paired: accuracy, what freezing changes of it, and accuracy with filters frozen.

        Of no group the means over the numbers of filters, of which there is one each; those of the highest filters are what the verdict rests on. At one
        number the claim needs an interval that excludes zero when it is widened for all the numbers of the three series and both metrics (Bonferroni);
        the interval shown is that of this number alone.

        Example:
            >>> firm, weak = np.ones((2, 40)), np.array([np.ones(40), np.zeros(40)])
            >>> removals = Removals(np.arange(40) % 2, ("cat", "dog"), (0, 1),
            ...     {"original": {"highest": weak, "lowest": firm, "random": firm}, "dropout": dict.fromkeys(SERIES, firm)})
            >>> [(d.metric, d.group, d.value, d.claim) for d in removals.differences() if d.metric == "change, highest frozen"]
            [('change, highest frozen', '1 filter', 1.0, 'better'), ('change, highest frozen', None, 1.0, 'better')]
        """
        n, numbers = len(self.labels), range(1, len(self.counts))
        claims = 2 * len(SERIES) * len(numbers)
        starts = self.right[FIRST]["highest"][0], self.right[SECOND]["highest"][0]
        found = [Metric.mean(ACCURACY, n).difference(*starts, (FIRST, SECOND), level=level, seed=seed)]
        for series in SERIES:
            first, second = (self.right[column][series] for column in (FIRST, SECOND))
            found += [
                _change(series, self.counts[row], first[row] - starts[0], second[row] - starts[1], level, seed, claims) for row in numbers
            ]
            if numbers:
                found.append(
                    _change(series, None, (first[1:] - starts[0]).mean(axis=0), (second[1:] - starts[1]).mean(axis=0), level, seed)
                )
            accuracy = Metric.mean(accuracy_of(series), n)
            for row in numbers:
                entry = accuracy.difference(first[row], second[row], (FIRST, SECOND), level=level, seed=seed, claims=claims)
                found.append(entry.model_copy(update={"group": number_of(self.counts[row])}))
            if numbers:
                means = first[1:].mean(axis=0), second[1:].mean(axis=0)
                found.append(accuracy.difference(*means, (FIRST, SECOND), level=level, seed=seed))
        return found


def _change(series: Series, filters: int | None, first: Floats, second: Floats, level: float, seed: int, claims: int = 1) -> Difference:
    """How the changes of two networks differ at one number of filters, or on average over all numbers."""
    metric = Metric.mean(change_of(series), len(first))
    interval, strict = (metric.difference_of_changes(first, second, level=at, seed=seed) for at in (level, simultaneous(level, claims)))
    return Difference(
        metric=metric.name,
        group=None if filters is None else number_of(filters),
        first=FIRST,
        second=SECOND,
        n=metric.n,
        **interval._asdict(),
        claim=claim_of(strict),
    )


def verdict(removals: Removals, shares: list[Share], differences: list[Difference], *, level: float) -> Verdict:
    """Whether the dropout-trained network depends less on its highest filters, and what it costs, what is worse first.

    The verdict rests on one pair of numbers fixed beforehand, means over the numbers of filters. "less dependent" needs a smaller fall and a higher
    accuracy with the highest filters frozen, both with intervals above zero: a network that begins lower has less to lose, so a smaller
    fall alone says little. "more dependent" needs a larger fall and a lower accuracy, likewise.
    """
    most = removals.counts[-1]
    by_metric = {entry.metric: entry for entry in differences if entry.group is None}
    value = {(share.metric, share.column): _percent(share.value) for share in shares}
    cost = by_metric[ACCURACY]
    cost_words = f"With nothing frozen the dropout-trained network is right on {value[ACCURACY, SECOND]}, the original on {value[ACCURACY, FIRST]} ({_said(cost, level)})"
    if most == 0:
        return Verdict(
            outcome="no claim",
            headline="No filter was valued in both networks, so none was frozen.",
            sentences=[f"{cost_words}."],
            worse=[],
        )
    means = " on average" if most > 1 else ""
    frozen = f"{listed(removals.counts[1:])} of its highest filters" if most > 1 else "its highest filter"
    fall, there = by_metric[change_of("highest")], by_metric[accuracy_of("highest")]
    start = (
        f"With {frozen} frozen the dropout-trained network goes from {value[ACCURACY, SECOND]} to {value[accuracy_of('highest'), SECOND]}{means}, "
        f"the original from {value[ACCURACY, FIRST]} to {value[accuracy_of('highest'), FIRST]}"
    )
    outcome: Literal["less dependent", "more dependent", "no claim"] = "no claim"
    apart = f"{format_points(fall.value)} points {'less' if fall.value > 0 else 'more'} ({describe_interval(fall.low, fall.high, level, fall.n)})"
    left = "on more images" if there.low > 0 else "on fewer images" if there.high < 0 else "on as many images, as far as these can tell"
    left_words = f"right {left} then ({_said(there, level)})"
    if fall.low <= 0 <= fall.high:
        headline = f"{start}: it loses {apart}, which cannot be told from chance."
    elif fall.low > 0 and there.low > 0:
        outcome = "less dependent"
        headline = f"{start}: it loses {apart} and is {left_words}."
    elif fall.high < 0 and there.high < 0:
        outcome = "more dependent"
        headline = f"{start}: it loses {apart} and is {left_words}."
    else:
        headline = f"{start}: it loses {apart}, but it had {'less' if fall.low > 0 else 'more'} to lose and is {left_words}."
    lowest = by_metric[change_of("lowest")]
    lowest_words = (
        f"With as many of its lowest filters frozen the dropout-trained network is right on {value[accuracy_of('lowest'), SECOND]}{means}, the original "
        f"on {value[accuracy_of('lowest'), FIRST]}; what freezing changes differs by {format_points(lowest.value)} points ({_said(lowest, level)})."
    )
    worse = [f"{cost_words}{'' if cost.claim == 'worse' else ', an amount that may be chance'}."] if cost.value < 0 else []
    worse += [headline] if fall.high < 0 else []
    worse += [lowest_words] if lowest.high < 0 else []
    sentences = [sentence for sentence in worse if sentence != headline]
    sentences += [f"{cost_words}."] if cost.value >= 0 else []
    sentences += [lowest_words] if lowest.high >= 0 else []
    sentences.append(
        f"With as many random filters frozen the dropout-trained network is right on {value[accuracy_of('random'), SECOND]}{means}, the original on "
        f"{value[accuracy_of('random'), FIRST]}; always naming the most frequent class is right on {_percent(removals.most_frequent)}."
    )
    if cost.claim == "worse":
        headline = f"{headline[:-1]}; measurably worse: accuracy with nothing frozen."
    return Verdict(outcome=outcome, headline=headline, sentences=sentences, worse=worse)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _said(entry: Difference, level: float) -> str:
    return describe_interval(entry.low, entry.high, level, entry.n)
