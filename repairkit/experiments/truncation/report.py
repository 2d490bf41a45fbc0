"""The result of a removal of random filters, and its report: tables, charts and sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from repairkit import plots
from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import closing_sections
from repairkit.report.document import Cell, CellKind, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, percent
from repairkit.result import Estimate, Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

DEATHS = (
    "A network is at chance when its objective value cannot be told from one constant answer. Every filter that is frozen later then has a "
    "marginal contribution of pure noise. The paper ends a permutation once the objective value is below a fixed number. The last columns "
    "give the share of a permutation's evaluations that this saves, and the share of the objective value that it credits to no filter."
)
LIVE_RANGES = (
    "The default engine truncates by size: it draws coalitions that keep at least the share t0 of the filters. With t0 = auto the live range "
    "begins where single filters begin to change the score. Accuracy need not be high there."
)
CURVES = "None frozen is the whole network; all frozen is the same constant answer to every image."
GLOSSARY_METRICS = ("Accuracy", "Mean recall")
GLOSSARY_TERMS = ("Interval over orders and images", "Filter", "Truncation", "Network at chance", "Live range", "Pass")


class TruncationPoint(Record):
    """The objective value of a network at one number of frozen filters, over random orders."""

    filters: int
    share: float  # of all filters
    mean: float  # over the orders
    low: float  # interval over orders and images
    high: float
    band_low: float  # 5 % and 95 % of the orders
    band_high: float
    dead: float  # share of the orders in which the network is at chance by then; Wilson's interval over orders
    dead_low: float
    dead_high: float


class TruncationCurve(Record):
    """One network by one metric as its filters are frozen in random orders, all measured on the same images."""

    network: str
    metric: Literal["accuracy", "mean recall"]
    n: int  # images
    chance: float  # the most that one answer to all images gets
    dead_below: float  # a network of this objective value or less is at chance, within its interval
    points: list[TruncationPoint]
    trajectories: list[list[float]]  # objective value in each order at each of the points
    death: Estimate  # share frozen at which the network is at chance in half of the orders
    earliest: float  # of all orders
    latest: float
    revived: float  # share of the orders in which it rose above chance again
    threshold: float  # objective value below which the paper ends a permutation
    saved: Estimate | None  # share of a permutation's evaluations that this saves; None where the whole network is below the threshold
    given_up: Estimate | None  # share of the objective value that is then credited to no filter


class TruncatedNetwork(Record):
    """A network whose filters were frozen."""

    name: str
    model: str
    images: str
    filters: int
    classes: int
    t0: float  # where the live range begins
    zone_measured: bool  # False where t0 was given
    dead_in_zone: float  # share of the orders that are at chance once 1 - t0 of the filters are frozen


class TruncationExtra(Record):
    """How few random filters networks bear to lose, and what ending permutations there saves."""

    trajectories: int  # orders of each network
    networks: list[TruncatedNetwork]
    curves: list[TruncationCurve]


TruncationResult = Result[TruncationExtra]


def sections(result: TruncationResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    return [
        Section("deaths", "When networks are at chance, and what truncation saves", blocks(DEATHS, deaths(result))),
        Section("live-ranges", "Where the live range begins", blocks(LIVE_RANGES, live_ranges(result))),
        Section("curves", "Objective value as filters are frozen", blocks(CURVES, *curves(result))),
        *comparison_tables.sections(result),
        *closing_sections(result, figures),
    ]


def facts(result: TruncationResult) -> list[tuple[str, str]]:
    """Which networks, on what, and at which level."""
    return [
        *((network.name, f"{network.model} ({count(network.filters)} filters; {network.images})") for network in result.extra.networks),
        ("Orders of ablation", f"{result.extra.trajectories} of each network"),
        ("Intervals", f"{result.level:.0%}"),
        ("Date", result.created),
    ]


def design(result: TruncationResult) -> str:
    """On which images, in a few words."""
    return f"{result.extra.trajectories} orders; {'; '.join(f'{network.name} on {network.images}' for network in result.extra.networks)}"


def runs(results: Sequence[TruncationResult]) -> Table:
    """Several runs below one another: when their networks reach chance."""
    tables = [deaths(result) for result in results]
    return Table("runs", tables[0].caption, tables[0].heads, tables[0].kinds, tuple(body for table in tables for body in table.bodies))


def deaths(result: TruncationResult) -> Table:
    """When each network reaches chance, and what ending permutations where the paper does saves; the command line shows it."""
    numbers: list[CellKind] = ["number"] * 7
    heads = (
        "n", "At chance in half of the orders", "First and last order", "Rises again", "Paper's end", "Evaluations saved",
        "Objective value given up",
    )  # fmt: skip
    rows = tuple(
        (
            Cell(label(curve), kind="text"),
            Cell(count(curve.n)),
            _estimate(curve.death),
            Cell(interval(curve.earliest, curve.latest, percent)),
            Cell(percent(curve.revived)),
            Cell(f"{curve.threshold:g}"),
            _estimate(curve.saved),
            _estimate(curve.given_up),
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
    return [_curve(result, curve, number) for number, curve in enumerate(result.extra.curves, start=1)]


def _curve(result: TruncationResult, curve: TruncationCurve, number: int) -> Table:
    numbers: list[CellKind] = ["number"] * 5
    rows = tuple(
        (
            Cell(percent(point.share)),
            Cell(count(point.filters)),
            Cell(percent(point.mean), interval(point.low, point.high, percent)),
            Cell(interval(point.band_low, point.band_high, percent)),
            Cell(percent(point.dead), interval(point.dead_low, point.dead_high, percent)),
        )
        for point in curve.points
    )
    caption = (
        f"{label(curve)}: mean over {result.extra.trajectories} orders, n = {count(curve.n)}, with {result.level:.0%} intervals; "
        f"chance is {percent(curve.chance)}, and {percent(curve.dead_below)} or less counts as chance"
    )
    heads = ("Frozen", "Filters", "Mean", "5 to 95% of the orders", "Orders at chance")
    return Table(f"curve-{number}", caption, heads, tuple(numbers), (rows,))


def label(curve: TruncationCurve) -> str:
    """Network and metric."""
    return f"{curve.network}, {curve.metric}"


def _estimate(entry: Estimate | None) -> Cell:
    return Cell(NONE) if entry is None else Cell(percent(entry.value), interval(entry.low, entry.high, percent))


def draw(result: TruncationResult) -> list[Figure]:
    """A figure for each network and metric: every order as a thin line, their mean, and where half are at chance."""
    return [_fan(curve, f"trajectories-{number}") for number, curve in enumerate(result.extra.curves, start=1)]


def _fan(curve: TruncationCurve, key: str) -> Figure:
    shown = [point for point in curve.points if point.share <= curve.latest] or curve.points

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, [(f"mean of {len(curve.trajectories)} orders (thin: single orders)", plots.SECONDARY)])
        axes = canvas.subplots()
        plots.plot_trajectories(
            axes, [p.share for p in shown], [values[: len(shown)] for values in curve.trajectories], [p.mean for p in shown]
        )
        dashed: dict[str, Any] = {"color": plots.INK, "linewidth": 1.0, "linestyle": (0, (2, 2))}
        axes.axhline(curve.dead_below, **dashed)
        axes.axvline(curve.death.value, **dashed)
        late = curve.death.value > 0.6 * shown[-1].share
        axes.annotate(
            f"half at chance: {percent(curve.death.value)}",
            (curve.death.value, 0.96),
            (-4 if late else 4, 0),
            textcoords="offset points",
            ha="right" if late else "left",
        )
        axes.set(ylim=(-0.03, 1.03), xlabel="share of the filters frozen")
        axes.set_title(plots.clip(curve.metric))

    finding = (
        f"At chance (at or below the dashed line, {percent(curve.dead_below)}) from {percent(curve.earliest)} frozen in the first order to "
        f"{percent(curve.latest)} in the last, in half of them from {percent(curve.death.value)} "
        f"({interval(curve.death.low, curve.death.high, percent)})."
    )
    detail = "Mean: " + "; ".join(f"{percent(point.share)} frozen, {percent(point.mean)}" for point in shown) + "."
    return Figure(key, f"{label(curve)}, as filters are frozen at random", finding, detail, chart, 3.2)
