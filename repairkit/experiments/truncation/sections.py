"""What reports on truncation show: sections and tables."""

from __future__ import annotations

from collections.abc import Sequence

from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import closing_sections
from repairkit.experiments.truncation.result import TruncationCurve, TruncationResult
from repairkit.report.document import Cell, CellKind, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, percent
from repairkit.result import Estimate

DEATHS = "A network is at chance when its objective value cannot be told from one constant answer. Every filter that is frozen later then has a marginal contribution of pure noise. The paper ends a permutation once the objective value is below a fixed number. The last columns give the share of a permutation's evaluations that this saves, and the share of the objective value that it credits to no filter."
LIVE_RANGES = "The default engine truncates by size: it draws coalitions that keep at least the share t0 of the filters. With t0 = auto the live range begins where single filters begin to change the score. Accuracy need not be high there."
CURVES = "None frozen is the whole network; all frozen is the same constant answer to every image."
GLOSSARY_METRICS = (
    "Accuracy",
    "Mean recall",
)
GLOSSARY_TERMS = (
    "Interval over orders and images",
    "Filter",
    "Truncation",
    "Network at chance",
    "Live range",
    "Pass",
)


def sections(result: TruncationResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    return [
        Section("deaths", "When networks are at chance, and what truncation saves", blocks(DEATHS, deaths(result))),
        Section("live-ranges", "Where the live range begins", blocks(LIVE_RANGES, live_ranges(result))),
        Section("curves", "Objective value as filters are frozen", blocks(CURVES, *curves(result))),
        *comparison_tables.sections(result),
        *closing_sections(result, figures, title="Method and cost"),
    ]


def facts(result: TruncationResult) -> list[tuple[str, str]]:
    """Which networks, on what, and how it was judged."""
    return [
        *((network.name, f"{network.model} ({count(network.filters)} filters; {network.images})") for network in result.extra.networks),
        ("Orders of ablation", f"{result.extra.trajectories} of each network"),
        ("Intervals", f"{result.level:.0%}"),
        ("Date", result.created),
    ]


def summary(result: TruncationResult) -> Table:
    """What the command line shows."""
    return deaths(result)


def quoted(result: TruncationResult) -> list[Table]:
    """What README and recipes show of one run."""
    return [deaths(result)]


def design(result: TruncationResult) -> str:
    """On which images, in a few words."""
    return f"{result.extra.trajectories} orders; {'; '.join(f'{network.name} on {network.images}' for network in result.extra.networks)}"


def runs(results: Sequence[TruncationResult]) -> Table:
    """Several runs below one another: when their networks reach chance."""
    tables = [deaths(result) for result in results]
    return Table("runs", tables[0].caption, tables[0].heads, tables[0].kinds, tuple(body for table in tables for body in table.bodies))


def deaths(result: TruncationResult) -> Table:
    """When each network reaches chance, and what ending permutations where the paper does saves."""
    numbers: list[CellKind] = ["number"] * 7
    heads = (
        "n",
        "At chance in half of the orders",
        "First and last order",
        "Rises again",
        "Paper's end",
        "Evaluations saved",
        "Objective value given up",
    )
    rows = tuple(
        (
            Cell(label(curve), kind="text"),
            Cell(count(curve.n)),
            _cell(curve.death),
            Cell(interval(curve.earliest, curve.latest, percent)),
            Cell(percent(curve.revived)),
            Cell(f"{curve.threshold:g}"),
            _cell(curve.saved),
            _cell(curve.given_up),
        )
        for curve in result.extra.curves
    )
    caption = (
        f"Share of frozen filters at which networks reach chance, and what truncation saves, in percent, with {result.level:.0%} intervals"
    )
    return Table("deaths", caption, ("Network", *heads), ("text", *numbers), (rows,))


def live_ranges(result: TruncationResult) -> Table:
    """Where the live range begins."""
    rows = tuple(
        (
            Cell(network.name, kind="text"),
            Cell(f"{network.t0:g}"),
            Cell("measured" if network.zone_measured else "given", kind="text"),
            Cell(percent(1 - network.t0)),
            Cell(percent(network.dead_in_zone)),
        )
        for network in result.extra.networks
    )
    heads = ("Network", "t0", "How", "Filters frozen there", "Orders at chance there")
    return Table("live-ranges", "The live range beside the orders", heads, ("text", "number", "text", "number", "number"), (rows,))


def curves(result: TruncationResult) -> list[Table]:
    """For each network and metric the objective value at every measured share."""
    return [
        Table(
            key=f"curve-{number}",
            caption=(
                f"{label(curve)}: mean over {result.extra.trajectories} orders, n = {count(curve.n)}, with {result.level:.0%} intervals; "
                f"chance is {percent(curve.chance)}, and {percent(curve.dead_below)} or less counts as chance"
            ),
            heads=("Frozen", "Filters", "Mean", "5 to 95% of the orders", "Orders at chance"),
            kinds=("number", "number", "number", "number", "number"),
            bodies=(
                tuple(
                    (
                        Cell(percent(point.share)),
                        Cell(count(point.filters)),
                        Cell(percent(point.mean), interval(point.low, point.high, percent)),
                        Cell(interval(point.band_low, point.band_high, percent)),
                        Cell(percent(point.dead), interval(point.dead_low, point.dead_high, percent)),
                    )
                    for point in curve.points
                ),
            ),
        )
        for number, curve in enumerate(result.extra.curves, start=1)
    ]


def label(curve: TruncationCurve) -> str:
    """Network and metric."""
    return f"{curve.network}, {curve.metric}"


def _cell(of: Estimate | None) -> Cell:
    return Cell(NONE) if of is None else Cell(percent(of.value), interval(of.low, of.high, percent))
