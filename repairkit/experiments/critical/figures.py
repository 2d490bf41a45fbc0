"""Figures of a report on critical filters."""

from __future__ import annotations

from repairkit.experiments.critical import sections as critical_sections
from repairkit.experiments.critical.result import CriticalResult
from repairkit.report import drawing, figures, formatting
from repairkit.result import RemovalPoint

LABELS = {"critical": "critical filters, highest first", "random": "random filters"}
_STYLE = {"critical": 2, "random": 0}


def draw(result: CriticalResult) -> list[drawing.Figure]:
    """All figures of the report, in order.

    Example:
        >>> [figure.key for figure in draw(CriticalResult.model_construct(columns=[], shares=[], removal=[], layers=[], histograms=[]))]
        ['removal', 'layers']
    """
    histograms = [figures.histogram(entry, f"values-{i + 1}") for i, entry in enumerate(result.histograms)]
    repaired = [figures.recall(result)] if result.shares else []
    return [_removal(result), _layers(result), *histograms, *repaired]


def _removal(result: CriticalResult) -> drawing.Figure:
    """A panel for each metric: share against the number of frozen filters, with intervals."""
    title = "Removal curves: the more filters are frozen"
    most = max((point.filters for point in result.extra.removal), default=0)
    if not most:
        return drawing.Figure("removal", title, "Not drawn: no filter was removed.")
    legend, y = drawing.legend([(_STYLE[series], label) for series, label in LABELS.items()], 14)
    x = drawing.Scale.around([0.0, float(most)], 48, drawing.WIDTH - 10, pad=0.02)
    body = legend
    metrics = list(dict.fromkeys(point.metric for point in result.extra.removal))
    for metric in metrics:
        curves = [
            (
                _STYLE[series],
                [(p.filters, p.low, p.value, p.high) for p in result.extra.removal if (p.series, p.metric) == (series, metric)],
            )
            for series in LABELS
        ]
        body += figures.panel(x, y, critical_sections.metric_label(result, metric), curves)
        y += 150
    body += figures.filters_below(x, y, "number of frozen filters")
    last = [point for point in result.extra.removal if point.filters == most]
    finding = " ".join(_read(result, point, last) for point in last if point.series == "critical")
    detail = f"Without frozen filters: {'; '.join(_start(result, metric) for metric in metrics)}."
    return drawing.Figure("removal", title, finding, detail, y + 28, body)


def _read(result: CriticalResult, point: RemovalPoint, last: list[RemovalPoint]) -> str:
    random = next(other for other in last if (other.series, other.metric) == ("random", point.metric))
    return (
        f"{critical_sections.metric_label(result, point.metric)}, {point.filters} frozen: {formatting.percent(point.value)} "
        f"({formatting.points(point.change)} points) with the critical filters, {formatting.percent(random.value)} ({formatting.points(random.change)} points) with random ones."
    )


def _start(result: CriticalResult, metric: str) -> str:
    value = next(point.value for point in result.extra.removal if (point.metric, point.filters) == (metric, 0))
    return f"{critical_sections.metric_label(result, metric).lower()} {formatting.percent(value)}"


def _layers(result: CriticalResult) -> drawing.Figure:
    """A bar for each layer that holds any of the highest filters."""
    title = "Highest filters by layer"
    if not result.extra.layers:
        return drawing.Figure("layers", title, "Not drawn: no filter has a positive value.")
    most = max(entry.critical for entry in result.extra.layers)
    scale = drawing.Scale(0.0, float(most), 190, drawing.WIDTH - 40)
    y, body = 8.0, ""
    for entry in result.extra.layers:
        y += 18
        label = entry.layer if len(entry.layer) <= 26 else f"…{entry.layer[-25:]}"
        body += drawing.text(182, y, label, anchor="end")
        body += drawing.tag("rect", css="bar", x=190, y=y - 9, width=max(scale(entry.critical) - 190, 1), height=10)
        body += drawing.text(scale(entry.critical) + 6, y, formatting.count(entry.critical))
    fullest = max(result.extra.layers, key=lambda entry: entry.critical)
    total = sum(entry.critical for entry in result.extra.layers)
    finding = f"{fullest.layer} holds {fullest.critical} of the {total} highest filters, the most of the {len(result.extra.layers)} layer{'s' if len(result.extra.layers) > 1 else ''} that hold any."
    detail = "; ".join(f"{entry.layer} {entry.critical} of {entry.filters}" for entry in result.extra.layers) + "."
    return drawing.Figure("layers", title, finding, detail, y + 16, body)
