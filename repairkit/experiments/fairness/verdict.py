"""The conclusion of a fairness report in words, what got worse first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from repairkit.errors import UsageError
from repairkit.evaluation.metrics import GAP, LOWEST, MEAN, RECALL, SOURCE
from repairkit.evaluation.wording import capitalise, describe_interval, format_points
from repairkit.result import Difference, Verdict


def verdict(differences: Sequence[Difference], *, filters: Sequence[int], level: float = 0.95) -> Verdict:
    """The conclusion in words, what got worse first.

    "repaired" needs mean recall to rise above the original and above the moved threshold, both with intervals
    above zero; "no better than the threshold" when only the first holds, also when the threshold does measurably more. Falls within chance are named
    as such, rises within chance are never called improvements.

    Args:
        differences: of the pair ("original", "repaired"), and where there is a threshold
            ("threshold", "repaired"); the pairs ("dropout", "repaired") and ("original", "threshold") get a sentence.
        filters: how many filters were frozen, one entry for each fold.
        level: of the intervals.

    Raises:
        UsageError: filters were frozen, but the pair ("original", "repaired") is missing.

    Example:
        >>> verdict([], filters=[0]).outcome
        'no repair'
    """
    words = _Words(differences, level)
    aside = words.threshold_alone()
    if not any(filters):
        sentences = ["On the images that choose, freezing no culprit was worth its cost; the weights are the original ones.", *aside]
        return Verdict(
            outcome="no repair", headline="No filter was worth freezing: the network is unchanged.", sentences=sentences, worse=[]
        )
    mean, beyond = words.entry("original", "repaired", MEAN), words.entry("threshold", "repaired", MEAN)
    if mean is None:
        raise UsageError("expected the differences of original and repaired, got none; compare these two columns first")
    worse = words.falls()
    outcome: Literal["repaired", "no better than the threshold", "no claim"]
    frozen = f"Freezing {_filters(filters)}"
    if mean.low <= 0:
        outcome = "no claim"
        headline = f"{frozen} {words.change(mean)}."
    elif beyond is not None and beyond.low <= 0:
        outcome = "no better than the threshold"
        less = "less than" if beyond.high < 0 else "no more than"
        headline = f"{frozen} {words.change(mean)}, but the repair does {less} moving the threshold."
    else:
        outcome = "repaired"
        more = "" if beyond is None else f", and by {format_points(beyond.value)} points more than moving the threshold"
        headline = f"{frozen} {words.change(mean)}{more}."
    if names := words.proven_falls():
        headline = f"{headline[:-1]}; measurably worse: {', '.join(names)}."
    return Verdict(outcome=outcome, headline=headline, sentences=[*worse, *words.rises(), *words.beside(beyond), *aside], worse=worse)


class _Words:
    """Sentences about differences: percentage points, n and interval in every one."""

    def __init__(self, differences: Sequence[Difference], level: float) -> None:
        self.differences = differences
        self.level = level

    def entry(self, first: str, second: str, metric: str) -> Difference | None:
        """The aggregate of that pair and metric."""
        found = (e for e in self.differences if (e.first, e.second, e.metric, e.group) == (first, second, metric, None))
        return next(found, None)

    def interval(self, entry: Difference) -> str:
        """The interval and n, in words."""
        ends = ("narrower", "wider") if entry.metric == GAP else ("lower", "higher")
        return describe_interval(entry.low, entry.high, self.level, entry.n, ends)

    def change(self, entry: Difference) -> str:
        """What a repair did to mean recall, as the end of a sentence."""
        if entry.low > 0:
            return f"raised mean recall by {format_points(entry.value)} percentage points ({self.interval(entry)})"
        if entry.high < 0:
            return f"lowered mean recall by {format_points(entry.value)} percentage points ({self.interval(entry)})"
        return f"made no difference to mean recall that these images can tell from chance ({self.interval(entry)})"

    def falls(self) -> list[str]:
        """What the repair made worse: the proven, then what may be chance."""
        fallen = [e for e in self._repair() if _fell(e)]
        fallen.sort(key=lambda e: e.claim != "worse")
        return [self._fall(entry) for entry in fallen]

    def proven_falls(self) -> list[str]:
        """Names of what is worse by claim."""
        return [_subject(e) for e in self._repair() if e.claim == "worse" and e.metric != MEAN]

    def rises(self) -> list[str]:
        """What the repair improved by claim, other than mean recall, which the headline has."""
        verb = {True: "narrowed", False: "rose"}
        better = [e for e in self._repair() if e.claim == "better" and e.metric != MEAN]
        return [
            f"{capitalise(_subject(e))} {verb[e.metric == GAP]} by {format_points(e.value)} percentage points ({self.interval(e)})."
            for e in better
        ]

    def beside(self, beyond: Difference | None) -> list[str]:
        """The repair against the moved threshold and against training with dropout."""
        sentences = ["No moved threshold was compared: this task has none, or none was evaluated."] if beyond is None else []
        dropout = self.entry("dropout", "repaired", MEAN)
        for entry, rival in ((beyond, "moving the threshold alone"), (dropout, "training with filter dropout alone")):
            if entry is None:
                continue
            if entry.claim == "no claim":
                sentences.append(f"In mean recall the repair cannot be told from {rival} ({self.interval(entry)}).")
            else:
                by = f"by {format_points(entry.value)} percentage points ({self.interval(entry)})"
                sentences.append(f"Mean recall of the repair is {entry.claim} than that of {rival} {by}.")
        return sentences

    def threshold_alone(self) -> list[str]:
        """What the moved threshold does without a repair, if it does anything."""
        entry = self.entry("original", "threshold", MEAN)
        if entry is None or entry.claim != "better":
            return []
        by = f"by {format_points(entry.value)} percentage points ({self.interval(entry)})"
        return [f"Moving the threshold alone, with no filter frozen, raises mean recall {by}."]

    def _repair(self) -> list[Difference]:
        order = (SOURCE, RECALL, LOWEST, MEAN, GAP)
        own = [e for e in self.differences if (e.first, e.second) == ("original", "repaired")]
        return sorted(own, key=lambda e: order.index(e.metric))

    def _fall(self, entry: Difference) -> str:
        verb = "widened" if entry.metric == GAP else "fell"
        start = f"{capitalise(_subject(entry))} {verb} by {format_points(entry.value)} percentage points"
        if entry.claim == "worse":
            return f"{start} ({self.interval(entry)})."
        doubt = "an amount that may be chance"
        if entry.high < 0:
            doubt = "which is no proof once all groups are tested together"
        return f"{start}, {doubt} ({self.interval(entry)})."


def _fell(entry: Difference) -> bool:
    return entry.value > 0 if entry.metric == GAP else entry.value < 0


def _subject(entry: Difference) -> str:
    if entry.metric == GAP:
        return "the gap between the highest and the lowest recall"
    return entry.metric if entry.group is None else f"recall of {entry.group}"


def _filters(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    number = f"{low}" if low == high else f"{low} to {high}"
    noun = "filter" if (low, high) == (1, 1) else "filters"
    return f"{number} {noun}" if len(counts) == 1 else f"{number} {noun} in each of {len(counts)} folds"
