"""The result of a comparison of the bandit with plain Monte Carlo, and its report: tables, charts and sections."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from repairkit import plots
from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import closing_sections
from repairkit.report.document import Cell, CellKind, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, percent, signed
from repairkit.result import Estimate, Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

REPLAY = (
    "Both algorithms are stopped by the same rule at the same tolerance. A bandit saves more when fewer filters stay candidates until the end. "
    "A wide tolerance leaves most filters near the k-th value for long, and the bandit then saves little."
)
BUDGET = (
    "On a real network neither algorithm of the paper stops by its rule within a practical budget. "
    "So the engines are compared with a long reference after the same number of passes."
)
GLOSSARY_METRICS = ("Accuracy",)
GLOSSARY_TERMS = (
    "Interval over filters", "Filter", "Value", "Gradient estimate", "Sample", "Published rule", "Spearman and R²", "Pass",
)  # fmt: skip
LABELS = {
    "tmab-paper": "TMAB as published",
    "tmab": "tmab (gradient estimates and exact contributions)",
    "monte-carlo": "Monte Carlo",
    "reference": "the reference",
}
PAPER = ("the paper", "8.7%", "—", "0.988", "0.975")
BINS = 20
_STYLES = {"monte-carlo": plots.BASELINE, "tmab": plots.SECONDARY, "tmab-paper": plots.SECONDARY}


class StoppingComparison(Record):
    """TMAB and Monte Carlo, both as published, stopped by their own rule at one tolerance; both ways round on two sets of permutations."""

    tolerance: float
    extrapolated: bool  # permutations were drawn with replacement from those walked
    stopped: bool  # False: neither the permutations nor the extrapolation sufficed, and nothing else is known
    permutations: int = 0  # of Monte Carlo, means over both ways
    taken: float | None = None  # samples of TMAB over those of Monte Carlo, mean over both ways
    share: Estimate | None = None  # the same with an interval over permutations (extrapolated: range); None where too much is dropped
    ways: list[float] = Field(default_factory=list)  # the share either way round
    replays: int = 0  # of resampled permutations, which the interval is made of
    dropped: int = 0  # of them, those that did not stop: nothing is known of their share
    evaluations: float | None = None  # of TMAB over those of Monte Carlo, expected
    rank: Estimate | None = None  # Spearman's correlation of their values; interval over filters
    r_squared: Estimate | None = None


class AgreementAtBudget(Record):
    """An engine after its budget, against a long reference."""

    engine: str
    passes: float
    valued: int  # filters with exact flips or marginals; the others count with their screen, or 0
    rank: Estimate  # Spearman's correlation with the reference over all filters; interval over filters
    r_squared: Estimate
    sought: Estimate  # of the k filters of the sought end, share that both name; Wilson's interval


class PassesNeeded(Record):
    """What TMAB as published needs at least: its bound at the values of the reference, had its marginals no variance."""

    tolerance: float
    passes: float


class EfficiencyExtra(Record):
    """How many samples the bandit takes against plain Monte Carlo, and whether their values agree."""

    images: str
    compared_by: Literal["replay", "budget"]
    filters: int
    end: Literal["low", "high"]
    top: int  # k
    shown: str  # which comparison the figures show, in words
    stops: list[StoppingComparison]  # widest tolerance first; of the method "replay"
    agreements: list[AgreementAtBudget]  # of the method "budget"
    rank_lead: Estimate | None = None  # Spearman's correlation of tmab less that of Monte Carlo, over the same resampled filters
    needed: list[PassesNeeded]
    samples: dict[str, list[int]]  # of each filter, by engine
    values: dict[str, list[float]]  # of each filter, by engine; the reference last


EfficiencyResult = Result[EfficiencyExtra]


def sections(result: EfficiencyResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    lead = REPLAY if result.extra.compared_by == "replay" else BUDGET
    return [
        Section("compared", "Samples and agreement", blocks(lead, *comparisons(result))),
        *comparison_tables.sections(result),
        *closing_sections(result, figures),
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


def design(result: EfficiencyResult) -> str:
    """On which images, in a few words."""
    return f"{result.extra.images}, {count(result.extra.filters)} filters"


def runs(results: Sequence[EfficiencyResult]) -> Table:
    """Several runs below one another; those of one way of comparing."""
    tables = [summary(result) for result in results]
    return Table("runs", tables[0].caption, tables[0].heads, tables[0].kinds, tuple(body for table in tables for body in table.bodies))


def comparisons(result: EfficiencyResult) -> list[Table]:
    """The tables of the way in which it was compared; README and recipes show them too."""
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


def _stop(stop: StoppingComparison) -> tuple[Cell, ...]:
    how = "extrapolated" if stop.extrapolated else "run"
    return (
        Cell(f"{stop.tolerance:g}", kind="text"),
        Cell(f"{count(stop.permutations)} permutations" if stop.stopped else "did not stop"),
        _share(stop),
        Cell(NONE if stop.evaluations is None else percent(stop.evaluations)),
        _estimate(stop.rank, _decimals),
        _estimate(stop.r_squared, _decimals),
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
            _estimate(entry.rank, _decimals),
            _estimate(entry.r_squared, _decimals),
            _estimate(entry.sought, percent),
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


def _share(stop: StoppingComparison) -> Cell:
    if stop.share is None and stop.taken is not None:
        return Cell(percent(stop.taken), f"{stop.dropped} of {stop.replays} replays did not stop")
    return _estimate(stop.share, percent)


def _estimate(entry: Estimate | None, form: Callable[[float], str]) -> Cell:
    return Cell(NONE) if entry is None else Cell(form(entry.value), interval(entry.low, entry.high, form))


def _decimals(value: float) -> str:
    return signed(f"{value:.3f}")


def draw(result: EfficiencyResult) -> list[Figure]:
    """Samples per filter, and values against values."""
    return [_samples(result), _values(result)]


def _samples(result: EfficiencyResult) -> Figure:
    """Histograms of the samples per filter, on one logarithmic axis."""
    title = f"Samples per filter{f', {result.extra.shown}' if result.extra.shown else ''}"
    if not result.extra.samples:
        return Figure("samples", title, "Not drawn: the algorithms did not stop.")
    edges = _bins(result)

    def chart(canvas: Canvas) -> None:
        panels = canvas.subplots(len(result.extra.samples), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (engine, samples) in zip(panels, result.extra.samples.items(), strict=True):
            positions = [min(bisect.bisect_right(edges, number), BINS) - 1 for number in samples if number]
            plots.plot_histogram(axes, edges, [positions.count(position) for position in range(BINS)], color=_STYLES[engine].color)
            axes.set_title(LABELS[engine])
            if never := sum(number == 0 for number in samples):
                axes.set_title(f"{count(never)} never sampled", loc="right", weight="normal", color=plots.MUTED)
            axes.set_xscale("log")
        plots.log_ticks(panels[-1].xaxis, [(tick, count(tick)) for tick in _powers(math.log10(edges[0]), math.log10(edges[-1]))])
        panels[-1].set_xlabel("samples of a filter (log scale)")

    nevers = {engine: sum(number == 0 for number in samples) for engine, samples in result.extra.samples.items()}
    details = [
        f"{LABELS[engine]}: {_spread(samples)}{f', {count(nevers[engine])} filters never' if nevers[engine] else ''}"
        for engine, samples in result.extra.samples.items()
    ]
    return Figure("samples", title, f"{'; '.join(details)}.", "", chart, 0.4 + 1.8 * len(result.extra.samples))


def _bins(result: EfficiencyResult) -> list[float]:
    """Edges of equal width by logarithms that hold all samples."""
    numbers = [number for samples in result.extra.samples.values() for number in samples]
    low, high = math.log10(min((number for number in numbers if number), default=1)), math.log10(max(*numbers, 2))
    width = max(high - low, 0.1) / BINS
    return [10 ** (low + position * width) for position in range(BINS + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Round numbers between two logarithms, seven at most."""
    ticks = [factor * 10.0**power for power in range(8) for factor in (1, 2, 5) if low - 1e-9 <= math.log10(factor * 10.0**power) <= high]
    return ticks if len(ticks) <= 7 else [tick for tick in ticks if math.log10(tick) % 1 < 1e-9]


def _spread(samples: Sequence[int]) -> str:
    ordered = sorted(samples)
    low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    if low == high:
        return f"{count(low)} samples of every filter"
    return f"from {count(low)} to {count(high)} samples of a filter, half of them up to {count(middle)}"


def _values(result: EfficiencyResult) -> Figure:
    """Values of each filter by one algorithm against those by the other, or of both against the reference."""
    title = f"Values against values{f', {result.extra.shown}' if result.extra.shown else ''}"
    if not result.extra.values:
        return Figure("values", title, "Not drawn: the algorithms did not stop.")
    engines = list(result.extra.values)
    across = engines[-1]  # the reference, or Monte Carlo
    others = engines[:-1]

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, [(LABELS[engine], _STYLES[engine]) for engine in others])
        axes = canvas.subplots()
        pairs = {engine: list(zip(result.extra.values[across], result.extra.values[engine], strict=True)) for engine in others}
        plots.plot_scatter(axes, {LABELS[engine]: (_STYLES[engine], _thinned(pairs[engine])) for engine in others})
        plots.plain(axes.xaxis)
        plots.plain(axes.yaxis)
        axes.set(xlabel=f"value by {LABELS[across]}", ylabel="value")

    return Figure("values", title, _agreement(result), f"{count(len(result.extra.values[across]))} filters.", chart, 3.8)


def _thinned(points: list[tuple[float, float]], most: int = 1500) -> list[tuple[float, float]]:
    """At most so many points, with those at both ends, to keep the page small."""
    if len(points) <= most:
        return points
    ordered = sorted(points)
    ends = most // 5
    step = -(-(len(points) - 2 * ends) // (most - 2 * ends))
    return ordered[:ends] + ordered[ends:-ends:step] + ordered[-ends:]


def _agreement(result: EfficiencyResult) -> str:
    stop = next((stop for stop in result.extra.stops if stop.stopped and f"{stop.tolerance:g}" in result.extra.shown), None)
    pairs = [(LABELS[entry.engine], entry.rank, entry.r_squared) for entry in result.extra.agreements]
    if stop is not None and stop.rank is not None and stop.r_squared is not None:
        pairs = [("TMAB as published against Monte Carlo", stop.rank, stop.r_squared)]
    return (
        " ".join(
            f"{name}: Spearman {rank.value:.3f} ({rank.low:.3f} to {rank.high:.3f}), R² {r.value:.3f} ({r.low:.3f} to {r.high:.3f})."
            for name, rank, r in pairs
        )
        + " The dashed line is equality."
    )
