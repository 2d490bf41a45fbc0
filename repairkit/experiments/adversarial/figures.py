"""Figures of a report on adversarial repairs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.experiments.adversarial.report import (
    RECOVERED,
    SERIES,
    SUCCESS,
    AdversarialResult,
    FrontierPoint,
    from_weakest,
    median_eps,
)
from repairkit.report import charts, formatting, tables
from repairkit.report.figure import Figure
from repairkit.report.formatting import eps_text, percent
from repairkit.report.tables import column_label
from repairkit.result import Claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

STYLE = dict(zip(SERIES, (plots.PRIMARY, plots.SECONDARY), strict=True))


def draw(result: AdversarialResult) -> list[Figure]:
    """All figures of the report, in order."""
    histograms = [charts.histogram(entry, f"values-{i + 1}") for i, entry in enumerate(result.histograms)]
    measures = [_measure(result, SUCCESS, "lower is better"), _measure(result, RECOVERED, "higher is better")]
    return [*measures, _trade_off(result), _frozen(result), _sweep(result), *histograms]


def _measure(result: AdversarialResult, metric: str, direction: str) -> Figure:
    """One measure of every threat model, a row for each network; the finding names what got worse first."""
    wanted: list[tuple[str, str | None, str]] = [(metric, entry.key, entry.title) for entry in from_weakest(result)]
    claims = {entry.group: entry.claim for entry in tables.repair_effects(result) if entry.metric == metric}
    order: tuple[Claim, ...] = ("worse", "no claim", "better")
    titles = {claim: "; ".join(entry.title for entry in from_weakest(result) if claims.get(entry.key) == claim) for claim in order}
    effect = (
        f"Repaired against original: {' '.join(f'{formatting.STATUS[claim]} for {names}.' for claim, names in titles.items() if names)}"
    )
    title = f"{metric[0].upper()}{metric[1:]} by adversary ({direction})"
    return charts.share_rows(result, metric.replace(" ", "-"), title, wanted, effect if claims else charts.NOT_COMPARED)


def _success(point: FrontierPoint) -> plots.Interval:
    return plots.Interval(point.success, point.success_low, point.success_high)


def _clean(point: FrontierPoint) -> plots.Interval:
    return plots.Interval(point.clean, point.clean_low, point.clean_high)


def _series(result: AdversarialResult) -> dict[str, list[FrontierPoint]]:
    """The points of each order that was tried, fewest filters first."""
    ordered = sorted(result.extra.frontier, key=lambda point: point.filters)
    series = {name: [point for point in ordered if point.series == name] for name in SERIES}
    return {name: curve for name, curve in series.items() if curve}


def _read(point: FrontierPoint) -> str:
    return f"{point.filters} frozen: success {percent(point.success)}, clean {percent(point.clean)}"


def _frontier_finding(result: AdversarialResult) -> str:
    chosen = next((point for point in result.extra.frontier if point.chosen), None)
    if chosen is None:
        return "No number of frozen filters was chosen."
    start = next((point for point in result.extra.frontier if point.filters == 0), None)
    return " ".join(
        f"{when}, replayed success is {percent(point.success)} at a clean accuracy of {percent(point.clean)}."
        for when, point in (("With none frozen", start), (f"As chosen, with {chosen.filters} frozen", chosen))
        if point
    )


def _trade_off(result: AdversarialResult) -> Figure:
    """Replayed success against clean accuracy, the number of frozen filters at the chosen point and at both ends."""
    title = "Frontier: replayed target success against clean accuracy"
    series = _series(result)
    if not series:
        return Figure("frontier", title, "Not drawn: no filter was tried.")

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, [(name, STYLE[name]) for name in series])
        axes = canvas.subplots()
        tracks = []
        for name, curve in series.items():
            crosses = [(_clean(point), _success(point)) for point in curve if point.chosen or point.filters == 0]
            tracks.append(plots.Track(name, STYLE[name], [(point.clean, point.success) for point in curve], crosses, marked=True))
        plots.plot_trade_off(axes, tracks)
        _mark_numbers(axes, series)
        axes.set(xlabel="clean accuracy", ylabel="target success on stored images")
        axes.set_title("better ↘", loc="right", weight="normal", color=plots.MUTED)

    detail = " ".join(f"{name}: {'; '.join(map(_read, curve))}." for name, curve in series.items())
    return Figure("frontier", title, _frontier_finding(result), detail, chart, 3.8)


def _mark_numbers(axes: Axes, series: dict[str, list[FrontierPoint]]) -> None:
    """A ring around the chosen point; the number of filters beside it, beside the start and beside the end of each order."""
    numbered: set[int] = set()
    for curve in series.values():
        for point in curve:
            place = (point.clean, point.success)
            if point.chosen:
                axes.plot(*place, marker="o", markersize=11, markerfacecolor="none", markeredgecolor=plots.INK)
                axes.annotate(f"{point.filters} (chosen)", place, (8, -13), textcoords="offset points", weight="bold")
            elif point in (curve[0], curve[-1]) and point.filters not in numbered:
                offset = (8, 5) if point is curve[0] else (-2, 7)
                axes.annotate(str(point.filters), place, offset, textcoords="offset points")
                numbered.add(point.filters)


def _frozen(result: AdversarialResult) -> Figure:
    """Replayed success and clean accuracy against the number of frozen filters."""
    title = "Target success and clean accuracy as filters are frozen"
    series = _series(result)
    if not max((point.filters for point in result.extra.frontier), default=0):
        return Figure("frozen", title, "Not drawn: no filter was tried.")
    chosen = next((point.filters for point in result.extra.frontier if point.chosen), None)

    def chart(canvas: Canvas) -> None:
        panels = []
        for heading, read in (("Target success on stored images", _success), ("Clean accuracy", _clean)):
            lines = [plots.Series(name, STYLE[name], [p.filters for p in curve], list(map(read, curve))) for name, curve in series.items()]
            panels.append((heading, lines))
        charts.curve_panels(canvas, panels, chosen=chosen)

    detail = f"{_frontier_finding(result)} Every point is in the table of the frontier."
    finding = f"The most that were frozen: {'; '.join(f'{name}, {_read(curve[-1])}' for name, curve in series.items())}."
    return Figure("frozen", title, finding, detail, chart, 0.6 + 2 * charts.PANEL)


def _sweep(result: AdversarialResult) -> Figure:
    """Target success of adaptive PGD against its bound, on a logarithmic axis."""
    title = "Target success of PGD run afresh against eps"
    curves = {column: sorted((p for p in result.extra.sweep if p.column == column.key), key=lambda p: p.eps) for column in result.columns}
    present = [column for column, curve in curves.items() if curve]
    if not present:
        return Figure("sweep", title, "Not drawn: no attack was run afresh within several bounds.")

    def chart(canvas: Canvas) -> None:
        series = []
        for column in present:
            heights = [plots.Interval(point.success, point.low, point.high) for point in curves[column]]
            series.append(plots.Series(column.label, plots.style_of(column.key), [point.eps for point in curves[column]], heights))
        plots.add_legend(canvas, [(entry.label, entry.style) for entry in series])
        axes = canvas.subplots()
        plots.plot_curves(axes, series, title="Target success")
        axes.set_xscale("log", base=2)
        plots.log_ticks(axes.xaxis, _spaced(sorted({point.eps for point in result.extra.sweep})))
        axes.set(ylim=(-0.03, 1.03), xlabel="eps, of 255 levels (log scale)")

    shares = " ".join(f"{c.label}: {'; '.join(f'{eps_text(p.eps)} {percent(p.success)}' for p in curves[c])}." for c in present)
    medians = "; ".join(f"{column_label(result, entry.column)} {median_eps(result, entry)}" for entry in result.extra.strengths)
    finding = f"Median eps of 255 levels, which gets half of the targets: {medians}." if medians else "No median eps was recorded."
    return Figure("sweep", title, finding, f"Success by eps: {shares}", chart, 3.4)


def _spaced(bounds: list[float]) -> list[tuple[float, str]]:
    """The bounds that have room for their text on a logarithmic axis, from the least."""
    span = max(math.log2(bounds[-1] / bounds[0]), 1.0)
    ticks: list[tuple[float, str]] = []
    for eps in bounds:
        text = eps_text(eps)
        if not ticks or math.log2(eps / ticks[-1][0]) / span > 0.013 * (len(text) + len(ticks[-1][1])):
            ticks.append((eps, text))
    return ticks
