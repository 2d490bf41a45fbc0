"""The conclusion of a fairness report, what got worse first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from repairkit.errors import UsageError
from repairkit.evaluation.metrics import GAP, LOWEST, MEAN, RECALL, SOURCE
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
from repairkit.result import Difference, Verdict

ORDER = (SOURCE, RECALL, LOWEST, MEAN, GAP)
RIVALS = (("threshold", "moving the threshold alone"), ("dropout", "training with filter dropout alone"))


def verdict(differences: Sequence[Difference], *, filters: Sequence[int], level: float = 0.95) -> Verdict:
    """The conclusion, what got worse first.

    "repaired" needs mean recall to rise above the original and above the moved threshold, both with intervals above zero.
    "no better than the threshold" says that only the first holds, also where the threshold does measurably more.

    Args:
        differences: those of the pairs ("original", "repaired"), ("threshold", "repaired"), ("original", "threshold") and
            ("dropout", "repaired") are read.
        filters: how many filters were frozen, one entry for each fold.
        level: of the intervals.

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
