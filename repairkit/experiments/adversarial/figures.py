"""Figures of a report on adversarial repairs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.attacks.words import RECOVERED, SUCCESS, eps_text
from repairkit.experiments.adversarial import sections as adversarial_sections
from repairkit.experiments.adversarial.result import AdversarialResult, FrontierPoint
from repairkit.experiments.adversarial.sections import SERIES
from repairkit.report import charts, formatting, tables
from repairkit.report.figure import Figure
from repairkit.result import Claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_STYLE = {"order of choosing": plots.PRIMARY, "highest value first": plots.SECONDARY}


def draw(result: AdversarialResult) -> list[Figure]:
    """All figures of the report, in order."""
    histograms = [charts.histogram(entry, f"values-{i + 1}") for i, entry in enumerate(result.histograms)]
    measures = [_measure(result, SUCCESS, "lower is better"), _measure(result, RECOVERED, "higher is better")]
    return [*measures, _frontier(result), _frozen(result), _sweep(result), *histograms]


def _measure(result: AdversarialResult, metric: str, direction: str) -> Figure:
    """One measure of every adversary, a row for each network, with intervals."""
    wanted: list[tuple[str, str | None, str]] = [(metric, entry.key, entry.title) for entry in adversarial_sections.from_weakest(result)]
    title = f"{metric[0].upper()}{metric[1:]} by adversary ({direction})"
    return charts.share_rows(result, metric.replace(" ", "-"), title, wanted, _effect(result, metric))


def _effect(result: AdversarialResult, metric: str) -> str:
    """Against whom the repair helps by this measure, what got worse first."""
    claims = {entry.group: entry.claim for entry in tables.repair_effects(result) if entry.metric == metric}
    if not claims:
        return charts.NOT_COMPARED
    order: tuple[Claim, ...] = ("worse", "no claim", "better")
    named = {
        claim: "; ".join(entry.title for entry in adversarial_sections.from_weakest(result) if claims.get(entry.key) == claim)
        for claim in order
    }
    return f"Repaired against original: {' '.join(f'{formatting.STATUS[claim]} for {names}.' for claim, names in named.items() if names)}"


def _series(result: AdversarialResult) -> dict[str, list[FrontierPoint]]:
    """The points of each order that was tried, fewest filters first."""
    found = {series: sorted((p for p in result.extra.frontier if p.series == series), key=lambda point: point.filters) for series in SERIES}
    return {series: points for series, points in found.items() if points}


def _read(point: FrontierPoint) -> str:
    return f"{point.filters} frozen: success {formatting.percent(point.success)}, clean {formatting.percent(point.clean)}"


def _frontier_finding(result: AdversarialResult) -> str:
    chosen = next((point for point in result.extra.frontier if point.chosen), None)
    if chosen is None:
        return "No number of frozen filters was chosen."
    start = next((point for point in result.extra.frontier if point.filters == 0), None)
    return " ".join(
        f"{when}, replayed success is {formatting.percent(point.success)} at a clean accuracy of {formatting.percent(point.clean)}."
        for when, point in (("With none frozen", start), (f"As chosen, with {chosen.filters} frozen", chosen))
        if point
    )


def _frontier(result: AdversarialResult) -> Figure:
    """Replayed success against clean accuracy, the number of frozen filters at the chosen point and at both ends."""
    title = "Frontier: replayed target success against clean accuracy"
    series = _series(result)
    if not series:
        return Figure("frontier", title, "Not drawn: no filter was tried.")

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, [(name, _STYLE[name]) for name in series])
        axes = canvas.subplots()
        tracks = [
            plots.Track(name, _STYLE[name], [(p.clean, p.success) for p in points], _crosses(points), marked=True)
            for name, points in series.items()
        ]
        plots.plot_trade_off(axes, tracks)
        _mark_numbers(axes, series)
        axes.set(xlabel="clean accuracy", ylabel="target success on stored images")
        axes.set_title("better ↘", loc="right", weight="normal", color=plots.MUTED)

    detail = " ".join(f"{name}: {'; '.join(map(_read, points))}." for name, points in series.items())
    return Figure("frontier", title, _frontier_finding(result), detail, chart, 3.8)


def _crosses(points: list[FrontierPoint]) -> list[tuple[plots.Interval, plots.Interval]]:
    """The points as they were, and as chosen, with their intervals."""
    return [
        (plots.Interval(p.clean, p.clean_low, p.clean_high), plots.Interval(p.success, p.success_low, p.success_high))
        for p in points
        if p.chosen or p.filters == 0
    ]


def _mark_numbers(axes: Axes, series: dict[str, list[FrontierPoint]]) -> None:
    """A ring around the chosen point; the number of filters beside it, beside the start and beside the end of each order."""
    numbered: set[int] = set()
    for points in series.values():
        for point in points:
            if point.chosen:
                axes.plot(point.clean, point.success, marker="o", markersize=11, markerfacecolor="none", markeredgecolor=plots.INK)
                axes.annotate(
                    f"{point.filters} (chosen)", (point.clean, point.success), (8, -13), textcoords="offset points", weight="bold"
                )
            elif point in (points[0], points[-1]) and point.filters not in numbered:
                offset = (8, 5) if point is points[0] else (-2, 7)
                axes.annotate(str(point.filters), (point.clean, point.success), offset, textcoords="offset points")
                numbered.add(point.filters)


def _frozen(result: AdversarialResult) -> Figure:
    """Replayed success and clean accuracy against the number of frozen filters."""
    title = "Target success and clean accuracy as filters are frozen"
    series = _series(result)
    if not max((point.filters for point in result.extra.frontier), default=0):
        return Figure("frozen", title, "Not drawn: no filter was tried.")
    chosen = next((point.filters for point in result.extra.frontier if point.chosen), None)

    def chart(canvas: Canvas) -> None:
        filters = {name: [p.filters for p in points] for name, points in series.items()}
        success = {name: [plots.Interval(p.success, p.success_low, p.success_high) for p in points] for name, points in series.items()}
        clean = {name: [plots.Interval(p.clean, p.clean_low, p.clean_high) for p in points] for name, points in series.items()}
        panels = [
            (heading, [plots.Series(name, _STYLE[name], filters[name], values[name]) for name in series])
            for heading, values in (("Target success on stored images", success), ("Clean accuracy", clean))
        ]
        charts.curve_panels(canvas, panels, chosen=chosen)

    detail = f"{_frontier_finding(result)} Every point is in the table of the frontier."
    finding = f"The most that were frozen: {'; '.join(f'{name}, {_read(points[-1])}' for name, points in series.items())}."
    return Figure("frozen", title, finding, detail, chart, 0.6 + 2 * charts.PANEL)


def _sweep(result: AdversarialResult) -> Figure:
    """Target success of the attack run afresh against its bound, on a logarithmic axis."""
    title = "Target success of PGD run afresh against eps"
    points = {c.key: sorted((p for p in result.extra.sweep if p.column == c.key), key=lambda point: point.eps) for c in result.columns}
    columns = [column for column in result.columns if points[column.key]]
    if not columns:
        return Figure("sweep", title, "Not drawn: no attack was run afresh within several bounds.")

    def chart(canvas: Canvas) -> None:
        series = [
            plots.Series(
                c.label,
                plots.style_of(c.key),
                [p.eps for p in points[c.key]],
                [plots.Interval(p.success, p.low, p.high) for p in points[c.key]],
            )
            for c in columns
        ]
        plots.add_legend(canvas, [(entry.label, entry.style) for entry in series])
        axes = canvas.subplots()
        plots.plot_curves(axes, series, title="Target success")
        axes.set_xscale("log", base=2)
        plots.log_ticks(axes.xaxis, _spaced(sorted({point.eps for point in result.extra.sweep})))
        axes.set(ylim=(-0.03, 1.03), xlabel="eps, of 255 levels (log scale)")

    said = " ".join(
        f"{c.label}: {'; '.join(f'{eps_text(p.eps)} {formatting.percent(p.success)}' for p in points[c.key])}." for c in columns
    )
    medians = [
        f"{tables.column_label(result, entry.column)} {adversarial_sections.median_eps(result, entry)}" for entry in result.extra.strengths
    ]
    finding = (
        f"Median eps of 255 levels, which gets half of the targets: {'; '.join(medians)}." if medians else "No median eps was recorded."
    )
    return Figure("sweep", title, finding, f"Success by eps: {said}", chart, 3.4)


def _spaced(bounds: list[float]) -> list[tuple[float, str]]:
    """The bounds that have room for their text on a logarithmic axis, from the least."""
    span = max(math.log2(bounds[-1] / bounds[0]), 1.0)
    ticks: list[tuple[float, str]] = []
    for eps in bounds:
        text = eps_text(eps)
        if not ticks or math.log2(eps / ticks[-1][0]) / span > 0.013 * (len(text) + len(ticks[-1][1])):
            ticks.append((eps, text))
    return ticks
