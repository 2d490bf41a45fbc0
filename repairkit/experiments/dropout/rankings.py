"""Whether two networks differ in what freezing filters takes from them under whatever ranking of their filters, or by Shapley values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repairkit.baselines.compare import Compared
from repairkit.baselines.evaluation import together
from repairkit.evaluation.metrics import Metric, claim_of
from repairkit.evaluation.statistics import Interval, simultaneous
from repairkit.evaluation.wording import describe_interval, format_points
from repairkit.experiments.dropout.evaluation import FIRST, SECOND
from repairkit.experiments.dropout.result import RankedChange, Rankings
from repairkit.result import Estimate


def rankings(compared: Mapping[str, Compared], *, level: float = 0.95, seed: int = 0) -> Rankings | None:
    """What freezing the first filters of each ranking changes of accuracy in both networks, mean over the numbers of filters, and how the changes differ.

    Args:
        compared: by column ("original", "dropout"), on the same images at the same numbers of filters.
        level: of all intervals, each of which holds for one ranking at a time, and of all claims together: each is made at `simultaneous` of it.
        seed: of the bootstrap.

    Returns:
        A row for each ranking that both networks have, the Shapley values first; None where nobody asked or no filter was frozen.
    """
    if not compared:
        return None
    numbers = min(len(each.counts) for each in compared.values())
    if numbers < 2:
        return None
    first, second = ({each.name: each for each in compared[column].contenders if each.attributions} for column in (FIRST, SECOND))
    pairs = {name: (first[name].right[:numbers], second[name].right[:numbers]) for name in first if name in second}
    claimed = simultaneous(level, len(pairs))
    n = compared[FIRST].contenders[0].right.shape[1]
    metric = Metric.mean("change of accuracy", n)
    rows = []
    for name, both in pairs.items():
        changes = [(right - right[0])[1:].mean(axis=0) for right in both]
        rows.append(
            RankedChange(
                name=name,
                changes={
                    column: _estimate(metric.change(right[0], right[1:].mean(axis=0), seed=seed, level=level))
                    for column, right in zip((FIRST, SECOND), both, strict=True)
                },
                difference=_estimate(metric.difference_of_changes(*changes, level=level, seed=seed)),
                claim=claim_of(metric.difference_of_changes(*changes, level=claimed, seed=seed)),
            )
        )
    return Rankings(n=n, sentences=[falls(rows, n, level), concluded(rows), *together(len(rows), level, "ranking")], rows=rows)


def falls(rows: Sequence[RankedChange], n: int, level: float) -> str:
    """Under which rankings the dropout-trained network loses more, under which less, and under which that cannot be told."""
    verbs = {
        "worse": "the dropout-trained network loses more than the original",
        "better": "the dropout-trained network loses less than the original",
        "no claim": "the falls of the two networks cannot be told apart",
    }

    def named(row: RankedChange) -> str:
        apart = row.difference
        told = describe_interval(apart.low, apart.high, level, n)
        return row.name if row.claim == "no claim" else f"{row.name} (by {format_points(apart.value)} points; {told})"

    found = {claim: [named(row) for row in rows if row.claim == claim] for claim in verbs}
    said = "; ".join(f"ranked by {', '.join(names)} {verbs[claim]}" for claim, names in found.items() if names)
    return f"On average over the numbers of filters frozen: {said}."


def concluded(rows: Sequence[RankedChange]) -> str:
    """Whether what the Shapley values show hangs on them.

    Example:
        >>> none = Estimate(value=0.0, low=0.0, high=0.0)
        >>> def row(name, claim): return RankedChange(name=name, changes={}, difference=none, claim=claim)
        >>> concluded([row("Shapley values", "better"), row("taylor", "better"), row("random", "no claim")])
        'That it loses less is not shown by Shapley values alone: taylor shows it, too. By random it is not shown, which is no proof against it.'
        >>> concluded([row("Shapley values", "no claim"), row("random", "no claim")])
        'No ranking tells the falls of the two networks apart.'
    """
    own, *others = rows
    names: dict[str, list[str]] = {claim: [row.name for row in others if row.claim == claim] for claim in ("better", "worse", "no claim")}
    if own.claim == "no claim":
        found = names["worse"] + names["better"]
        return (
            f"What is found hangs on the ranking: by Shapley values the falls cannot be told apart, by {', '.join(found)} they can."
            if found
            else "No ranking tells the falls of the two networks apart."
        )
    less, opposite = ("less", "worse") if own.claim == "better" else ("more", "better")
    agree, silent = names[own.claim], names["no claim"]
    unproved = f"By {', '.join(silent)} it is not shown, which is no proof against it." if silent else ""
    if names[opposite]:
        return f"That it loses {less} hangs on the ranking: by {', '.join(names[opposite])} the opposite holds. {unproved}".strip()
    if not others:
        return "No other ranking could be made, so nothing is said of whether this hangs on Shapley values."
    if not silent:
        return f"That it loses {less} does not hang on Shapley values: every other ranking shows it, too."
    if agree:
        shown = f"{', '.join(agree)} {'shows' if len(agree) == 1 else 'show'} it, too."
        return f"That it loses {less} is not shown by Shapley values alone: {shown} {unproved}"
    return f"That it loses {less} is shown by Shapley values alone. {unproved}"


def _estimate(interval: Interval) -> Estimate:
    return Estimate(**interval._asdict())
