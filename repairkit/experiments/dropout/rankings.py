"""Whether two networks differ in what freezing filters takes from them under whatever ranking of their filters, or by Shapley values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repairkit.baselines.compare import Compared
from repairkit.baselines.evaluation import together
from repairkit.evaluation.metrics import Metric, claim_of
from repairkit.evaluation.statistics import simultaneous
from repairkit.evaluation.wording import describe_interval, format_points
from repairkit.result import Claim, Estimate, Record

FIRST, SECOND = COLUMN_PAIR = "original", "dropout"


class RankedChange(Record):
    """What freezing the first filters of one ranking changes of accuracy, mean over the numbers of filters, paired against none frozen."""

    name: str  # of the ranking: Shapley values or a baseline
    changes: dict[str, Estimate]  # by column
    difference: Estimate  # of the changes, dropout-trained minus original
    claim: Claim  # whether the dropout-trained network falls less; of all rankings together


class Rankings(Record):
    """Whether what is found of two networks depends on the ranking of their filters."""

    n: int
    sentences: list[str]  # losses first
    rows: list[RankedChange]  # the Shapley values first


def rankings(comparisons: Mapping[str, Compared], *, level: float = 0.95, seed: int = 0) -> Rankings | None:
    """Whether the finding depends on the ranking: the same difference of the changes with the filters in the order of every baseline.

    Args:
        comparisons: by column ("original", "dropout"), on the same images at the same numbers of filters.
        level: of all intervals, each of which holds for one ranking at a time, and of all claims together.
        seed: of the bootstrap.

    Returns:
        A row for each ranking that both networks have, the Shapley values first; None unless baselines were asked for and filters were frozen.
    """
    numbers = min((len(compared.counts) for compared in comparisons.values()), default=0)
    if numbers < 2:
        return None
    first, second = (
        {entry.name: entry.right[:numbers] for entry in comparisons[column].contenders if entry.attributions} for column in COLUMN_PAIR
    )
    pairs = {name: (first[name], second[name]) for name in first if name in second}
    n = next(iter(first.values())).shape[1]
    metric, claimed = Metric.mean("change of accuracy", n), simultaneous(level, len(pairs))
    rows = []
    for name, outcomes in pairs.items():
        changes = [(right - right[0])[1:].mean(axis=0) for right in outcomes]
        difference, strict = (metric.difference_of_changes(*changes, level=width, seed=seed) for width in (level, claimed))
        intervals = [metric.change(right[0], right[1:].mean(axis=0), seed=seed, level=level)._asdict() for right in outcomes]
        rows.append(
            RankedChange(
                name=name,
                changes={column: Estimate(**interval) for column, interval in zip(COLUMN_PAIR, intervals, strict=True)},
                difference=Estimate(**difference._asdict()),
                claim=claim_of(strict),
            )
        )
    return Rankings(n=n, sentences=[describe_falls(rows, n, level), conclude(rows), *together(len(rows), level, "ranking")], rows=rows)


def describe_falls(rows: Sequence[RankedChange], n: int, level: float) -> str:
    """Under which rankings the dropout-trained network loses more, under which less, and under which that cannot be told."""
    verbs: dict[Claim, str] = {
        "worse": "the dropout-trained network loses more than the original",
        "better": "the dropout-trained network loses less than the original",
        "no claim": "the falls of the two networks cannot be told apart",
    }

    def name(row: RankedChange) -> str:
        apart = row.difference
        interval = describe_interval(apart.low, apart.high, level, n)
        return row.name if row.claim == "no claim" else f"{row.name} (by {format_points(apart.value)} points; {interval})"

    names = {claim: ", ".join(name(row) for row in rows if row.claim == claim) for claim in verbs}
    return f"On average over the numbers of filters frozen: {'; '.join(f'ranked by {names[claim]} {verb}' for claim, verb in verbs.items() if names[claim])}."


def conclude(rows: Sequence[RankedChange]) -> str:
    """Whether what the Shapley values show depends on them.

    Example:
        >>> none = Estimate(value=0.0, low=0.0, high=0.0)
        >>> def row(name, claim): return RankedChange(name=name, changes={}, difference=none, claim=claim)
        >>> conclude([row("Shapley values", "better"), row("taylor", "better"), row("random", "no claim")])
        'That it loses less is not shown by Shapley values alone: taylor shows it, too. By random it is not shown, which is no proof against it.'
        >>> conclude([row("Shapley values", "no claim"), row("random", "no claim")])
        'No ranking tells the falls of the two networks apart.'
    """
    shapley, *others = rows
    names = {claim: ", ".join(row.name for row in others if row.claim == claim) for claim in ("better", "worse", "no claim")}
    if shapley.claim == "no claim":
        shown = ", ".join(filter(None, (names["worse"], names["better"])))
        if shown:
            return f"What is found depends on the ranking: by Shapley values the falls cannot be told apart, by {shown} they can."
        return "No ranking tells the falls of the two networks apart."
    less, opposite = ("less", names["worse"]) if shapley.claim == "better" else ("more", names["better"])
    agree, silent = names[shapley.claim], names["no claim"]
    unproved = f" By {silent} it is not shown, which is no proof against it." if silent else ""
    if opposite:
        return f"That it loses {less} depends on the ranking: by {opposite} the opposite holds.{unproved}"
    if not others:
        return "No other ranking could be made, so nothing is said of whether this depends on Shapley values."
    if not silent:
        return f"That it loses {less} does not depend on Shapley values: every other ranking shows it, too."
    also = f"is not shown by Shapley values alone: {agree} {'show' if ',' in agree else 'shows'} it, too"
    return f"That it loses {less} {also if agree else 'is shown by Shapley values alone'}.{unproved}"
