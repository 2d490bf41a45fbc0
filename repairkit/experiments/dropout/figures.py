"""Figures of a report on filter dropout: the three panels of figure 4 of Ghorbani & Zou 2020, and a control."""

from __future__ import annotations

import math

from repairkit.experiments.dropout import sections as dropout_sections
from repairkit.experiments.dropout.result import DropoutPoint, DropoutResult, SharedHistogram
from repairkit.report import drawing, figures, formatting, tables


def draw(result: DropoutResult) -> list[drawing.Figure]:
    """All figures of the report, in order.

    Example:
        >>> [figure.key for figure in draw(DropoutResult.model_construct(columns=[], differences=[], removal=[], spreads=[]))]
        ['highest', 'lowest', 'random']
    """
    spreads = [_spread(result, entry, f"spread-{number}") for number, entry in enumerate(result.extra.spreads, start=1)]
    return [*spreads, *(_removal(result, series, title) for series, title in dropout_sections.SERIES.items())]


def _legend(result: DropoutResult) -> tuple[str, float]:
    return drawing.legend([(drawing.style_of(column.key), column.label) for column in result.columns], 14)


def _removal(result: DropoutResult, series: str, title: str) -> drawing.Figure:
    """Accuracy of both networks against the number of frozen filters, with intervals."""
    curves = {
        column.key: [point for point in result.extra.removal if (point.series, point.column) == (series, column.key)]
        for column in result.columns
    }
    most = max((point.filters for found in curves.values() for point in found), default=0)
    if not most:
        return drawing.Figure(series, title, "Not drawn: no filter was frozen.")
    body, y = _legend(result)
    x = drawing.Scale.around([0.0, float(most)], 48, drawing.WIDTH - 10, pad=0.02)
    drawn = [(drawing.style_of(column), [(p.filters, p.low, p.value, p.high) for p in found]) for column, found in curves.items()]
    body += figures.panel(x, y, "Accuracy on report images", drawn, height=190)
    y += 190
    body += figures.filters_below(x, y, "number of frozen filters")
    ends = "; ".join(f"{tables.column_label(result, column)} {_last(found[-1])}" for column, found in curves.items())
    detail = " ".join(
        f"{tables.column_label(result, column)}: {', '.join(f'{point.filters} frozen {formatting.percent(point.value)}' for point in found)}."
        for column, found in curves.items()
    )
    return drawing.Figure(series, title, f"{most} frozen: {ends}.{_mean_difference(result, series)}", detail, y + 28, body)


def _last(point: DropoutPoint) -> str:
    return f"{formatting.percent(point.value)} ({formatting.points(point.change)} points)"


def _mean_difference(result: DropoutResult, series: str) -> str:
    entry = next((e for e in result.differences if (e.metric, e.group) == (f"change, {series} frozen", None)), None)
    if entry is None:
        return ""
    ends = formatting.interval(entry.low, entry.high, formatting.points)
    return (
        f" Over all numbers of filters the changes differ by {formatting.points(entry.value)} points on average "
        f"({ends}; above zero the dropout-trained network falls less)."
    )


def _spread(result: DropoutResult, entry: SharedHistogram, key: str) -> drawing.Figure:
    """Outlines of both histograms over the same edges; counts on a log scale where they differ much."""
    title = f"Histograms: {entry.title}"
    most = max((max(counts) for counts in entry.counts.values() if counts), default=0)
    if not most:
        return drawing.Figure(key, title, "Not drawn: the histograms hold no filters.")
    legend, below = _legend(result)
    top, bottom = below + 22, below + 182
    log = most > 50
    x = drawing.Scale.around(entry.edges, 48, drawing.WIDTH - 10, pad=0.01)
    y = drawing.Scale(math.log10(0.6) if log else 0.0, math.log10(most * 1.3) if log else most * 1.05, bottom, top)
    levels = (
        [10.0**power for power in range(math.floor(math.log10(most)) + 1)] if log else [tick for tick in y.ticks(5) if tick == int(tick)]
    )

    def height(number: float) -> float:
        return bottom if number == 0 else y(math.log10(number) if log else number)

    body = legend + drawing.text(8, below + 8, "filters (log scale)" if log else "filters", css="m")
    body += "".join(
        drawing.line(48, height(n), drawing.WIDTH - 10, height(n), "grid")
        + drawing.text(42, height(n) + 4, formatting.count(n), css="m", anchor="end")
        for n in levels
    )
    for column, counts in entry.counts.items():
        steps = [
            (x(edge), height(n)) for left, right, n in zip(entry.edges, entry.edges[1:], counts, strict=False) for edge in (left, right)
        ]
        path = " ".join(f"{drawing.number(at)},{drawing.number(up)}" for at, up in [(steps[0][0], bottom), *steps, (steps[-1][0], bottom)])
        style = drawing.style_of(column)
        body += drawing.tag("polyline", css=f"line s{style}", points=path)
        tallest = max(range(len(counts)), key=counts.__getitem__)
        body += drawing.marker(style, x((entry.edges[tallest] + entry.edges[tallest + 1]) / 2), height(counts[tallest]))
    body += drawing.line(48, bottom, drawing.WIDTH - 10, bottom, "axis")
    body += "".join(drawing.text(x(tick), bottom + 15, formatting.small(tick), css="m", anchor="middle") for tick in x.ticks(5))
    finding = " ".join(_reach(result, column, entry) for column in entry.counts)
    return drawing.Figure(key, title, finding, "", bottom + 28, body)


def _reach(result: DropoutResult, column: str, entry: SharedHistogram) -> str:
    """From where to where a network's filters lie, and how many there are, to the width of a bin."""
    counts = entry.counts[column]
    full = [position for position, number in enumerate(counts) if number]
    if not full:
        return f"{tables.column_label(result, column)}: no filters."
    low, high = entry.edges[full[0]], entry.edges[full[-1] + 1]
    return f"{tables.column_label(result, column)}: {formatting.count(sum(counts))} filters between {formatting.small(low)} and {formatting.small(high)}."
