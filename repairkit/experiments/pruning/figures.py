"""Figures of a report on pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.experiments.pruning.result import PruningResult
from repairkit.report import charts, formatting
from repairkit.report.figure import Figure
from repairkit.result import CurvePoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

LABELS = {"least": "least absolute value first", "random": "random filters"}
_STYLE = {"least": plots.SECONDARY, "random": plots.BASELINE}


def draw(result: PruningResult) -> list[Figure]:
    """All figures of the report, in order."""
    histograms = [charts.histogram(entry, f"values-{i + 1}") for i, entry in enumerate(result.histograms)]
    return [_curve(result), _layers(result), *histograms]


def _curve(result: PruningResult) -> Figure:
    """Accuracy against the number of frozen filters, with intervals, the chosen number marked."""
    title = "Accuracy as filters are frozen"
    most = max((point.filters for point in result.extra.curve), default=0)
    if not most:
        return Figure("curve", title, "Not drawn: no filter could be frozen.")
    found = {series: [point for point in result.extra.curve if point.series == series] for series in LABELS}

    def chart(canvas: Canvas) -> None:
        series = [charts.curve_series(label, _STYLE[name], found[name]) for name, label in LABELS.items()]
        charts.curve_panels(canvas, [("Accuracy on report images", series)], chosen=result.extra.chosen or None)

    at = result.extra.chosen or most
    finding = (
        f"With {formatting.count(at)} filters frozen accuracy is {_at(found['least'], at)} where they are those of least absolute value, "
        f"and {_at(found['random'], at)} where they are drawn at random; without frozen filters {_at(found['least'], 0)}."
    )
    detail = " ".join(
        f"{label.capitalize()}: {'; '.join(f'{formatting.count(p.filters)} {formatting.percent(p.value)}' for p in found[series])}."
        for series, label in LABELS.items()
    )
    return Figure("curve", title, finding, detail, chart, 3.0)


def _at(line: list[CurvePoint], filters: int) -> str:
    return formatting.percent(next(point.value for point in line if point.filters == filters))


def _layers(result: PruningResult) -> Figure:
    """A bar for each layer with a frozen filter: how many it has, and how many are left."""
    title = "How narrow each layer became"
    if not result.extra.layers:
        return Figure("layers", title, "Not drawn: no filter was frozen.")

    def chart(canvas: Canvas) -> None:
        left = [entry.filters - entry.removed for entry in result.extra.layers]
        bars = [
            (entry.layer, number, f"{formatting.count(number)} of {formatting.count(entry.filters)}")
            for entry, number in zip(result.extra.layers, left, strict=True)
        ]
        plots.plot_bars(canvas.subplots(), bars, outer=[entry.filters for entry in result.extra.layers])

    removed = sum(entry.removed for entry in result.extra.layers)
    finding = (
        f"{formatting.count(removed)} filters are gone from {len(result.extra.layers)} layer{'s' if len(result.extra.layers) > 1 else ''}; bars are what is left."
        if removed
        else "Every layer is as wide as it was."
    )
    detail = "; ".join(f"{entry.layer} {entry.filters - entry.removed} of {entry.filters}" for entry in result.extra.layers) + "."
    return Figure("layers", title, finding, detail, chart, 0.4 + 0.19 * len(result.extra.layers))
