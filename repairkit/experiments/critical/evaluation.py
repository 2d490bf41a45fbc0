"""From who was right on which image, with which filters frozen, to the tables and the verdict of a report on critical filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from repairkit.errors import DataError
from repairkit.evaluation.statistics import (
    Floats,
    Interval,
    Statistic,
    mean_interval,
    newcombe_paired,
    shared_prior,
    stratified_bootstrap,
    wilson,
)
from repairkit.experiments.fairness.evaluation import RECALL, claim_of, paired_differences
from repairkit.experiments.fairness.verdict import capital, in_words, points_of
from repairkit.result import Difference, RemovalPoint, Share, Verdict

OTHERS, ACCURACY = "other classes", "accuracy"
Metric = Literal["recall", "other classes", "accuracy"]
RESAMPLES = 2000
UNCHANGED = "No weights were changed: this says what the network depends on, not how to repair it."
FALLEN = 10
"""Classes shown beside the repaired one though nothing is claimed of them: those that fell most."""


@dataclass(frozen=True, eq=False)
class Removal:
    """Who was right as more and more filters were frozen.

    Attributes:
        labels: int64, shape (N,), of the report images.
        classes: names of the labels.
        label: the class that was asked about; None for all.
        counts: how many filters were frozen, 0 first; shape (k,).
        critical: bool, shape (k, N): the highest values frozen.
        random: shape (k, N), in 0 .. 1: as many filters drawn at random, mean over the draws.

    Raises:
        DataError: shapes that disagree, or counts that do not begin with 0.
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
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured: the class, the others and all, or all alone."""
        return ("accuracy",) if self.label is None else ("recall", "other classes", "accuracy")

    def points(self, level: float = 0.95, seed: int = 0) -> list[RemovalPoint]:
        """The curves, with intervals of each point and of its change.

        Shares of images have Wilson's interval and their changes Newcombe's paired one; means over draws a bootstrap over
        images; the mean recall of the other classes a bootstrap stratified by class.

        Example:
            >>> removal = Removal(np.array([0, 0, 1, 1]), ("cat", "dog"), 0, (0, 1),
            ...     np.array([[True, True, True, True], [False, False, True, True]]), np.ones((2, 4)))
            >>> [(p.metric, p.filters, p.value, p.change) for p in removal.points() if p.series == "critical" and p.filters]
            [('recall', 1, 0.0, -1.0), ('other classes', 1, 1.0, 0.0), ('accuracy', 1, 0.5, -0.5)]
        """
        return [
            point
            for metric in self.metrics
            for series, right in (("critical", self.critical.astype(np.float64)), ("random", self.random))
            for point in self._curve(metric, "critical" if series == "critical" else "random", right, level, seed)
        ]

    def contrast(self, metric: Metric, level: float = 0.95, seed: int = 0) -> Interval:
        """How much further the metric falls with the critical filters frozen than with as many random ones, all of them; negative where further."""
        pair = np.column_stack([self.random[-1], self.critical[-1]])[self._of(metric)]
        return mean_interval(pair, resamples=RESAMPLES, seed=seed, level=level)

    def _of(self, metric: Metric) -> npt.NDArray[np.bool_]:
        if metric == "accuracy":
            return np.ones(len(self.labels), dtype=bool)
        own: npt.NDArray[np.bool_] = self.labels == self.label
        return own if metric == "recall" else ~own

    def _curve(self, metric: Metric, series: Literal["critical", "random"], right: Floats, level: float, seed: int) -> list[RemovalPoint]:
        of = self._of(metric)
        strata = self.labels[of] if metric == "other classes" else None
        before = right[0, of]
        points = []
        for count, row in zip(self.counts, right, strict=True):
            value, change = _share(row[of], strata, level, seed), _change(before, row[of], strata, level, seed)
            points.append(
                RemovalPoint(
                    series=series,
                    metric=metric,
                    filters=count,
                    n=int(of.sum()),
                    value=value.value,
                    low=value.low,
                    high=value.high,
                    change=change.value if count else 0.0,
                    change_low=change.low if count else 0.0,
                    change_high=change.high if count else 0.0,
                )
            )
        return points


def _share(right: Floats, strata: npt.NDArray[np.int64] | None, level: float, seed: int) -> Interval:
    if strata is not None:
        return _over_classes(right, strata, lambda means: means[..., 0].mean(-1), level, seed)
    if np.isin(right, (0, 1)).all():
        return wilson(int(right.sum()), len(right), level)
    return mean_interval(right, resamples=RESAMPLES, seed=seed, level=level)


def _over_classes(values: Floats, classes: npt.NDArray[np.int64], statistic: Statistic, level: float, seed: int) -> Interval:
    return stratified_bootstrap(values, classes, statistic, resamples=RESAMPLES, seed=seed, level=level, prior=shared_prior(classes))


def _change(before: Floats, after: Floats, strata: npt.NDArray[np.int64] | None, level: float, seed: int) -> Interval:
    pair = np.column_stack([before, after])
    if strata is not None:
        return _over_classes(pair, strata, lambda means: (means[..., 1] - means[..., 0]).mean(-1), level, seed)
    if np.isin(pair, (0, 1)).all():
        return newcombe_paired(before, after, level)
    return mean_interval(pair, resamples=RESAMPLES, seed=seed, level=level)


def fall_of(
    before: npt.ArrayLike, after: npt.ArrayLike, classes: npt.NDArray[np.int64], *, confidence: float, seed: int
) -> tuple[float, float]:
    """How far the mean recall over classes falls, and its one-sided bound.

    The bound is a quantile of the posterior (Dirichlet in each class) with one imaginary lost image shared out among all classes and nothing else
    imagined. With one class and nothing gained that is the bound of Clopper & Pearson (1934); over classes it covers a little more than it says,
    where a bootstrap, which knows no loss that was not seen, says too little of small falls.

    Args:
        before: bool, shape (N,), who was right.
        after: likewise.
        classes: shape (N,), label of each image.
        confidence: of the bound, one-sided.
        seed: of the draws.

    Example:
        >>> fall, bound = fall_of([True] * 40, [False] * 10 + [True] * 30, np.repeat([0, 1], 20), confidence=0.9, seed=0)
        >>> fall, bound > fall
        (0.25, True)
    """
    change = np.asarray(before, dtype=np.float64) - np.asarray(after, dtype=np.float64)
    own = [change[classes == label] for label in np.unique(classes)]
    rng = np.random.default_rng(seed)
    falls = np.zeros(RESAMPLES)
    for rows in own:
        counts = ((rows > 0).sum() + 1 / len(own), (rows < 0).sum(), (rows == 0).sum())
        lost, gained, same = rng.standard_gamma(counts, size=(RESAMPLES, 3)).T
        falls += (lost - gained) / (lost + gained + same)
    return float(np.mean([rows.mean() for rows in own])), float(np.quantile(falls / len(own), confidence))


def compare(
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    label: int,
    original: npt.NDArray[np.bool_],
    repaired: npt.NDArray[np.bool_],
    level: float = 0.95,
    seed: int = 0,
) -> tuple[list[Share], list[Difference]]:
    """A class before and after its repair, the others that changed by claim or fell most, and the means.

    The repaired class is fixed beforehand and stands alone; p-values of the others are adjusted by Holm over them, also those that are not shown.

    Args:
        labels: shape (N,), of the report images.
        classes: names of the labels.
        label: the class that was repaired; it comes first.
        original: bool, shape (N,): who was right before.
        repaired: likewise, after.
        level: of the intervals.
        seed: of the bootstrap.
    """
    columns = {"original": original, "repaired": repaired}
    rows = {classes[one]: (original[labels == one], repaired[labels == one]) for one in np.unique(labels).tolist()}
    own = paired_differences(RECALL, {classes[label]: rows.pop(classes[label])}, "original", "repaired", level)
    others = sorted(paired_differences(RECALL, rows, "original", "repaired", level), key=lambda entry: entry.value)
    shown = [*own, *(entry for rank, entry in enumerate(others) if entry.claim != "no claim" or (rank < FALLEN and entry.value < 0))]
    members = {str(entry.group): labels == list(classes).index(str(entry.group)) for entry in shown}
    elsewhere = labels != label
    shares = []
    for column, right in columns.items():
        found = {
            (RECALL, group): (own_rows.sum(), wilson(int(right[own_rows].sum()), int(own_rows.sum()), level))
            for group, own_rows in members.items()
        }
        found[OTHERS, ""] = elsewhere.sum(), _share(right[elsewhere].astype(np.float64), labels[elsewhere], level, seed)
        found[ACCURACY, ""] = len(right), wilson(int(right.sum()), len(right), level)
        shares += [
            Share(metric=metric, group=group or None, column=column, n=int(n), **interval._asdict())
            for (metric, group), (n, interval) in found.items()
        ]
    before, after = original.astype(np.float64), repaired.astype(np.float64)
    aggregates = {
        OTHERS: (int(elsewhere.sum()), _change(before[elsewhere], after[elsewhere], labels[elsewhere], level, seed)),
        ACCURACY: (len(before), _change(before, after, None, level, seed)),
    }
    return shares, shown + [
        Difference(metric=metric, group=None, first="original", second="repaired", n=n, **interval._asdict(), claim=claim_of(interval))
        for metric, (n, interval) in aggregates.items()
    ]


def verdict_of_removal(
    removal: Removal, points: Sequence[RemovalPoint], *, chance: float, level: float, seed: int, ranked: str = "value"
) -> Verdict:
    """Whether the filters of highest value (`ranked` says by what) matter more than random ones, and to what else.

    "critical filters found" needs the class (or accuracy) to fall measurably, and further than with as many random filters frozen.
    """
    metric = removal.metrics[0]
    most = removal.counts[-1]
    if most == 0:
        return Verdict(
            outcome="no claim",
            headline="No filter has a positive value: none is critical.",
            sentences=["On the images that find, no valued filter raised the worth."],
            worse=[],
        )
    last = {(point.series, point.metric): point for point in points if point.filters == most}
    top, random, beyond = last["critical", metric], last["random", metric], removal.contrast(metric, level, seed)
    start = next(point for point in points if (point.series, point.metric, point.filters) == ("critical", metric, 0))
    subject = _subject(removal, metric)
    found = beyond.high < 0 and top.change_high < 0
    random_words = f"with {most} random filter{'s' if most > 1 else ''} frozen it {became(random.change, random.change_low, random.change_high, level, random.n)}"
    headline = (
        f"Freezing the {f'{most} filters' if most > 1 else 'filter'} of highest {ranked} takes {subject} from {100 * start.value:.1f} % to {100 * top.value:.1f} % "
        f"({in_words(top.change_low, top.change_high, level, top.n)})"
    )
    doubt = f"freezing {most} random one{'s' if most > 1 else ''}" if beyond.high >= 0 else "chance"
    headline += f"; {random_words}." if found else f", which cannot be told from {doubt}."
    sentences = []
    if removal.label is not None:
        for other in ("other classes", "accuracy"):
            entry = last["critical", other]
            moved = became(entry.change, entry.change_low, entry.change_high, level, entry.n)
            sentences.append(f"With the same filters frozen {_subject(removal, other)} {moved}.")
    else:
        sentences.append(f"A guess is right in {100 * chance:.1f} % of cases.")
    if not found:
        sentences.insert(0, f"{capital(random_words)}.")
    sentences.append(UNCHANGED)
    return Verdict(outcome="critical filters found" if found else "no claim", headline=headline, sentences=sentences, worse=[])


def verdict_of_repair(differences: Sequence[Difference], removal: Verdict, *, subject: str, filters: int, level: float) -> Verdict:
    """The repair of a class in words, what got worse first; then what removing its critical filters does.

    "repaired" needs the claim that the recall of the class rose.
    """
    aside = [removal.headline, *(sentence for sentence in removal.sentences if sentence != UNCHANGED)]
    if not filters:
        return Verdict(
            outcome="no repair",
            headline=f"No filter was worth freezing for {subject}: the network is unchanged.",
            sentences=["On the images that choose, freezing no culprit was worth its cost; the weights are the original ones.", *aside],
            worse=[],
        )
    own = next(entry for entry in differences if entry.group == subject)
    fallen = sorted((entry for entry in differences if entry.value < 0), key=lambda entry: entry.claim != "worse")
    worse = [f"{capital(_name(entry))} {change_in_words(entry, level)}." for entry in fallen]
    headline = f"Freezing {filters} filter{'s' if filters > 1 else ''}: recall of {subject} {change_in_words(own, level)}"
    if names := [_name(entry) for entry in fallen if entry.claim == "worse" and entry is not own]:
        headline += f"; measurably worse: {', '.join(names)}"
    outcome: Literal["repaired", "no claim"] = "repaired" if own.claim == "better" else "no claim"
    return Verdict(outcome=outcome, headline=f"{headline}.", sentences=[*worse, *aside], worse=worse)


def change_in_words(entry: Difference, level: float) -> str:
    """What became of a row of the table, as the end of a sentence that claims what the row claims."""
    inside = in_words(entry.low, entry.high, level, entry.n)
    if entry.value == 0:
        return f"did not change ({inside})"
    doubt = ""
    if entry.claim == "no claim":
        excluded = entry.low > 0 or entry.high < 0
        doubt = f", which is no proof (exact test, p = {entry.p_adjusted:.2g})" if excluded else ", an amount that may be chance"
    return f"{'rose' if entry.value > 0 else 'fell'} by {points_of(entry.value)} percentage points{doubt} ({inside})"


def _name(entry: Difference) -> str:
    if entry.group is not None:
        return f"recall of {entry.group}"
    return "the mean recall of the other classes" if entry.metric == OTHERS else entry.metric


def _subject(removal: Removal, metric: Metric) -> str:
    if metric == "recall" and removal.label is not None:
        return f"recall of {removal.classes[removal.label]}"
    return "the mean recall of the other classes" if metric == "other classes" else "accuracy"


def became(value: float, low: float, high: float, level: float, n: int) -> str:
    """What became of something, as the end of a sentence."""
    inside = in_words(low, high, level, n)
    if low > 0 or high < 0:
        return f"{'rose' if value > 0 else 'fell'} by {points_of(value)} percentage points ({inside})"
    return f"did not change by more than these images can tell from chance ({inside})"
