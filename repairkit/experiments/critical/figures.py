"""Figures of a report on critical filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.experiments.critical import sections as critical_sections
from repairkit.experiments.critical.result import CriticalResult
from repairkit.report import charts, formatting
from repairkit.report.figure import Figure
from repairkit.result import RemovalPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

LABELS = {"critical": "critical filters, highest first", "random": "random filters"}
_STYLE = {"critical": plots.SECONDARY, "random": plots.BASELINE}


def draw(result: CriticalResult) -> list[Figure]:
    """All figures of the report, in order."""
    histograms = [charts.histogram(entry, f"values-{i + 1}") for i, entry in enumerate(result.histograms)]
    repaired = [charts.recall(result)] if result.shares else []
    return [_removal(result), _layers(result), *histograms, *repaired]


def _removal(result: CriticalResult) -> Figure:
    """A panel for each metric: share against the number of frozen filters, with intervals."""
    title = "Removal curves: the more filters are frozen"
    most = max((point.filters for point in result.extra.removal), default=0)
    if not most:
        return Figure("removal", title, "Not drawn: no filter was removed.")
    metrics = list(dict.fromkeys(point.metric for point in result.extra.removal))

    def series(metric: str) -> list[plots.Series]:
        points = {name: [p for p in result.extra.removal if (p.series, p.metric) == (name, metric)] for name in LABELS}
        return [charts.removal_series(label, _STYLE[name], points[name]) for name, label in LABELS.items()]

    def chart(canvas: Canvas) -> None:
        charts.curve_panels(canvas, [(critical_sections.metric_label(result, metric), series(metric)) for metric in metrics])

    last = [point for point in result.extra.removal if point.filters == most]
    finding = " ".join(_read(result, point, last) for point in last if point.series == "critical")
    detail = f"Without frozen filters: {'; '.join(_start(result, metric) for metric in metrics)}."
    return Figure("removal", title, finding, detail, chart, 0.6 + charts.PANEL * len(metrics))


def _read(result: CriticalResult, point: RemovalPoint, last: list[RemovalPoint]) -> str:
    random = next(other for other in last if (other.series, other.metric) == ("random", point.metric))
    return (
        f"{critical_sections.metric_label(result, point.metric)}, {point.filters} frozen: {formatting.percent(point.value)} "
        f"({formatting.points(point.change)} points) with the critical filters, {formatting.percent(random.value)} ({formatting.points(random.change)} points) with random ones."
    )


def _start(result: CriticalResult, metric: str) -> str:
    value = next(point.value for point in result.extra.removal if (point.metric, point.filters) == (metric, 0))
    return f"{critical_sections.metric_label(result, metric).lower()} {formatting.percent(value)}"


def _layers(result: CriticalResult) -> Figure:
    """A bar for each layer that holds any of the highest filters."""
    title = "Highest filters by layer"
    if not result.extra.layers:
        return Figure("layers", title, "Not drawn: no filter has a positive value.")

    def chart(canvas: Canvas) -> None:
        plots.plot_bars(
            canvas.subplots(), [(entry.layer, entry.critical, formatting.count(entry.critical)) for entry in result.extra.layers]
        )

    fullest = max(result.extra.layers, key=lambda entry: entry.critical)
    total = sum(entry.critical for entry in result.extra.layers)
    finding = f"{fullest.layer} holds {fullest.critical} of the {total} highest filters, the most of the {len(result.extra.layers)} layer{'s' if len(result.extra.layers) > 1 else ''} that hold any."
    detail = "; ".join(f"{entry.layer} {entry.critical} of {entry.filters}" for entry in result.extra.layers) + "."
    return Figure("layers", title, finding, detail, chart, 0.4 + 0.2 * len(result.extra.layers))
