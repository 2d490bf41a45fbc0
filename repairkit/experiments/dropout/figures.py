"""Figures of a report on filter dropout: the three panels of figure 4 of Ghorbani & Zou 2020, and a control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.experiments.dropout import sections as dropout_sections
from repairkit.experiments.dropout.result import DropoutPoint, DropoutResult, SharedHistogram
from repairkit.report import charts, formatting, tables
from repairkit.report.figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw(result: DropoutResult) -> list[Figure]:
    """All figures of the report, in order."""
    spreads = [_spread(result, entry, f"spread-{number}") for number, entry in enumerate(result.extra.spreads, start=1)]
    return [*spreads, *(_removal(result, series, title) for series, title in dropout_sections.SERIES.items())]


def _removal(result: DropoutResult, series: str, title: str) -> Figure:
    """Accuracy of both networks against the number of frozen filters, with intervals."""
    curves = {
        column.key: [point for point in result.extra.removal if (point.series, point.column) == (series, column.key)]
        for column in result.columns
    }
    most = max((point.filters for found in curves.values() for point in found), default=0)
    if not most:
        return Figure(series, title, "Not drawn: no filter was frozen.")

    def chart(canvas: Canvas) -> None:
        drawn = [
            plots.Series(
                tables.column_label(result, column),
                plots.style_of(column),
                [p.filters for p in found],
                [plots.Interval(p.value, p.low, p.high) for p in found],
            )
            for column, found in curves.items()
        ]
        charts.curve_panels(canvas, [("Accuracy on report images", drawn)])

    ends = "; ".join(f"{tables.column_label(result, column)} {_last(found[-1])}" for column, found in curves.items())
    detail = " ".join(
        f"{tables.column_label(result, column)}: {', '.join(f'{point.filters} frozen {formatting.percent(point.value)}' for point in found)}."
        for column, found in curves.items()
    )
    return Figure(series, title, f"{most} frozen: {ends}.{_mean_difference(result, series)}", detail, chart, 3.0)


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


def _spread(result: DropoutResult, entry: SharedHistogram, key: str) -> Figure:
    """Outlines of both histograms over the same edges; counts on a log scale where they differ much."""
    title = f"Histograms: {entry.title}"
    most = max((max(counts) for counts in entry.counts.values() if counts), default=0)
    if not most:
        return Figure(key, title, "Not drawn: the histograms hold no filters.")

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, charts.column_styles(result))
        axes = canvas.subplots()
        outlines = {tables.column_label(result, key): (plots.style_of(key), counts) for key, counts in entry.counts.items() if counts}
        plots.plot_outlines(axes, entry.edges, outlines)
        axes.set_xlabel("value")
        plots.plain(axes.xaxis)

    finding = " ".join(_reach(result, column, entry) for column in entry.counts)
    return Figure(key, title, finding, "", chart)


def _reach(result: DropoutResult, column: str, entry: SharedHistogram) -> str:
    """From where to where a network's filters lie, and how many there are, to the width of a bin."""
    counts = entry.counts[column]
    full = [position for position, number in enumerate(counts) if number]
    if not full:
        return f"{tables.column_label(result, column)}: no filters."
    low, high = entry.edges[full[0]], entry.edges[full[-1] + 1]
    return f"{tables.column_label(result, column)}: {formatting.count(sum(counts))} filters between {formatting.small(low)} and {formatting.small(high)}."
