"""What reports on sample efficiency show: sections and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import closing_sections
from repairkit.experiments.sample_efficiency.result import EfficiencyResult, StoppedAlike
from repairkit.report.document import Cell, CellKind, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, percent, signed
from repairkit.result import Estimate

REPLAY = "Both algorithms are stopped by the same rule at the same tolerance. A bandit saves more when fewer filters stay candidates until the end. A wide tolerance leaves most filters near the k-th value for long, and the bandit then saves little."
BUDGET = "On a real network neither algorithm of the paper stops by its rule within a practical budget. So the engines are compared with a long reference after the same number of passes."
GLOSSARY_METRICS = ("Accuracy",)
GLOSSARY_TERMS = (
    "Interval over filters",
    "Filter",
    "Value",
    "Gradient estimate",
    "Sample",
    "Published rule",
    "Spearman and R²",
    "Pass",
)


LABELS = {
    "tmab-paper": "TMAB as published",
    "tmab": "tmab (gradient estimates and exact contributions)",
    "monte-carlo": "Monte Carlo",
    "reference": "the reference",
}
PAPER = ("the paper", "8.7%", "—", "0.988", "0.975")


def sections(result: EfficiencyResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    lead = REPLAY if result.extra.compared_by == "replay" else BUDGET
    return [
        Section("compared", "Samples and agreement", blocks(lead, *comparisons(result))),
        *comparison_tables.sections(result),
        *closing_sections(result, figures, title="Method and cost"),
    ]


def facts(result: EfficiencyResult) -> list[tuple[str, str]]:
    """What was valued, on what, and how it was compared."""
    return [
        ("Model", f"{result.model} ({count(result.extra.filters)} filters)"),
        ("Images", result.extra.images),
        ("Compared", "when both stop by the published rule" if result.extra.compared_by == "replay" else "after equal passes"),
        ("Sought", f"the {count(result.extra.top)} filters of {'highest' if result.extra.end == 'high' else 'lowest'} value"),
        ("Intervals", f"{result.level:.0%}"),
        ("Date", result.created),
    ]


def summary(result: EfficiencyResult) -> Table:
    """What the command line shows."""
    return stops(result) if result.extra.compared_by == "replay" else agreements(result)


def quoted(result: EfficiencyResult) -> list[Table]:
    """What README and recipes show of one run."""
    return comparisons(result)


def design(result: EfficiencyResult) -> str:
    """On which images, in a few words."""
    return f"{result.extra.images}, {count(result.extra.filters)} filters"


def runs(results: Sequence[EfficiencyResult]) -> Table:
    """Several runs below one another; those of one way of comparing."""
    tables = [summary(result) for result in results]
    return Table("runs", tables[0].caption, tables[0].heads, tables[0].kinds, tuple(body for table in tables for body in table.bodies))


def comparisons(result: EfficiencyResult) -> list[Table]:
    """The tables of the way in which it was compared."""
    return [stops(result)] if result.extra.compared_by == "replay" else [agreements(result), needed(result)]


def stops(result: EfficiencyResult) -> Table:
    """A row for each tolerance, and the paper's figures."""
    heads = (
        "Monte Carlo stops after",
        "Samples, TMAB / Monte Carlo",
        "Evaluations, TMAB / Monte Carlo",
        "Spearman",
        "R²",
        "Run or extrapolated",
    )
    kinds: tuple[CellKind, ...] = ("text", "number", "number", "number", "number", "number", "text")
    name, share, evaluations, rank, r_squared = PAPER
    paper = (
        Cell(name, kind="text"), Cell(NONE), Cell(share), Cell(evaluations), Cell(rank), Cell(r_squared), Cell("Inception-v3", kind="text"),
    )  # fmt: skip
    caption = f"TMAB as published against Monte Carlo, stopped by the same rule at each tolerance, with {result.level:.0%} intervals"
    return Table("stops", caption, ("Tolerance", *heads), kinds, (tuple(_stop(stop) for stop in result.extra.stops), (paper,)))


def _stop(stop: StoppedAlike) -> tuple[Cell, ...]:
    how = "extrapolated" if stop.extrapolated else "run"
    return (
        Cell(f"{stop.tolerance:g}", kind="text"),
        Cell(f"{count(stop.permutations)} permutations" if stop.stopped else "did not stop"),
        _share(stop),
        Cell(NONE if stop.evaluations is None else percent(stop.evaluations)),
        _cell(stop.rank, _three),
        _cell(stop.r_squared, _three),
        Cell(how, kind="text"),
    )


def agreements(result: EfficiencyResult) -> Table:
    """A row for each engine."""
    heads = ("Passes", "Filters valued", "Spearman", "R²", f"Of the {count(result.extra.top)} sought")
    rows = tuple(
        (
            Cell(LABELS[entry.engine], kind="text"),
            Cell(count(entry.passes)),
            Cell(count(entry.valued)),
            _cell(entry.rank, _three),
            _cell(entry.r_squared, _three),
            _cell(entry.sought, percent),
        )
        for entry in result.extra.agreements
    )
    caption = f"Agreement with a long reference at equal passes, with {result.level:.0%} intervals"
    return Table("agreements", caption, ("Engine", *heads), ("text", "number", "number", "number", "number", "number"), (rows,))


def needed(result: EfficiencyResult) -> Table:
    """What TMAB as published would need at least."""
    rows = tuple((Cell(f"{entry.tolerance:g}", kind="text"), Cell(count(entry.passes))) for entry in result.extra.needed)
    return Table(
        "needed",
        "Passes until TMAB as published stops, extrapolated, at least",
        ("Tolerance", "Passes"),
        ("text", "number"),
        (rows,),
    )


def _share(stop: StoppedAlike) -> Cell:
    if stop.share is None and stop.taken is not None:
        return Cell(percent(stop.taken), f"{stop.dropped} of {stop.replays} replays did not stop")
    return _cell(stop.share, percent)


def _cell(of: Estimate | None, form: Callable[[float], str]) -> Cell:
    return Cell(NONE) if of is None else Cell(form(of.value), interval(of.low, of.high, form))


def _three(value: float) -> str:
    return signed(f"{value:.3f}")
