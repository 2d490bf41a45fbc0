"""Figures that reports of several kinds share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.report import formatting, tables
from repairkit.report.figure import Figure
from repairkit.result import CurvePoint, Difference, Histogram, Result, Share

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

NOT_COMPARED = "There is no repair to compare with the original."
PANEL = 1.9
"""Height of one panel of curves, in inches."""


def _stated(entry: Difference) -> str:
    interval, status = formatting.interval(entry.low, entry.high, formatting.points), formatting.STATUS[entry.claim].replace(" ", "\u00a0")
    return f"{tables.row_label(entry.metric, entry.group)} {formatting.points(entry.value)} points ({interval}, {status})"


def repair_effect(result: Result, *, groups: bool) -> str:
    """What the repair did to the groups or to the aggregates; "" when it was not compared."""
    entries = [entry for entry in tables.repair_effects(result) if (entry.group is not None) == groups]
    return f"Repaired against original: {'; '.join(map(_stated, entries))}." if entries else ""


def column_styles(result: Result) -> list[tuple[str, plots.Style]]:
    """What a legend of all columns says."""
    return [(column.label, plots.style_of(column.key)) for column in result.columns]


def recall(result: Result) -> Figure:
    """Recall of each group and their mean, one row per column, with intervals."""
    wanted: list[tuple[str, str | None, str]] = [("recall", group, group) for group in result.groups]
    finding = repair_effect(result, groups=True) or NOT_COMPARED
    return share_rows(result, "recall", "Recall of each group", [*wanted, ("mean recall", None, "mean recall")], finding)


def share_rows(result: Result, key: str, title: str, wanted: Sequence[tuple[str, str | None, str]], finding: str) -> Figure:
    """Shares with their intervals: a group for each metric, group and label that is wanted, and in it a row for each column."""
    found = {(s.metric, s.group, s.column): s for s in result.shares}
    rows = [
        (label, [found[metric, group, c.key] for c in result.columns if (metric, group, c.key) in found]) for metric, group, label in wanted
    ]
    rows = [(label, shares) for label, shares in rows if shares]
    if not rows:
        return Figure(key, title, f"Not drawn: the run recorded no {title[0].lower()}{title[1:]}.")

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, column_styles(result))
        groups = [
            plots.Group(label, shares[0].n, [(plots.style_of(s.column), plots.Interval(s.value, s.low, s.high)) for s in shares])
            for label, shares in rows
        ]
        plots.plot_shares(canvas.subplots(), groups)

    detail = " ".join(f"{label}: {'; '.join(_said(result, s) for s in shares)}." for label, shares in rows)
    height = 0.75 + 0.19 * sum(len(shares) + 1.4 for _, shares in rows)
    return Figure(key, title, finding, detail, chart, height)


def _said(result: Result, share: Share) -> str:
    label, interval = tables.column_label(result, share.column), formatting.interval(share.low, share.high, formatting.percent)
    return f"{label} {formatting.percent(share.value)} ({interval})"


def curve_series(label: str, style: plots.Style, points: Sequence[CurvePoint]) -> plots.Series:
    """An ablation curve as a series."""
    return plots.Series(label, style, [p.filters for p in points], [plots.Interval(p.value, p.low, p.high) for p in points])


def curve_panels(
    canvas: Canvas,
    panels: Sequence[tuple[str, Sequence[plots.Series]]],
    *,
    chosen: float | None = None,
    label: str = "number of frozen filters",
    whole_scale: bool = True,
) -> None:
    """Panels of curves above each other over the number of frozen filters; `whole_scale` shows shares from 0 to 1."""
    plots.add_legend(canvas, [(series.label, series.style) for series in panels[0][1]])
    drawn = canvas.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, series) in zip(drawn, panels, strict=True):
        plots.plot_curves(axes, series, title=title, chosen=chosen)
        if whole_scale:
            axes.set_ylim(-0.03, 1.03)
    plots.whole(drawn[-1].xaxis)
    drawn[-1].set_xlabel(f"{label}{f' (chosen: {formatting.count(chosen)})' if chosen is not None else ''}")


def histogram(entry: Histogram, key: str) -> Figure:
    """Values over filters, with the frozen ones marked; counts on a logarithmic scale where they differ much."""
    title = f"Histogram: {entry.title}"
    if not entry.counts or max(entry.counts) == 0 or len(entry.edges) != len(entry.counts) + 1:
        return Figure(key, title, "Not drawn: the histogram holds no filters.")

    def chart(canvas: Canvas) -> None:
        axes = canvas.subplots()
        plots.plot_histogram(axes, entry.edges, entry.counts, marked=entry.culprits)
        axes.set_title("▼ frozen" if entry.culprits else "none frozen", loc="right", weight="normal")
        axes.set_xlabel("value")
        plots.plain(axes.xaxis)

    return Figure(key, title, _histogram_finding(entry), "", chart)


def _histogram_finding(entry: Histogram) -> str:
    span = f"from {formatting.small(entry.edges[0])} to {formatting.small(entry.edges[-1])}"
    tallest = max(range(len(entry.counts)), key=entry.counts.__getitem__)
    mode = f"{formatting.small(entry.edges[tallest])} to {formatting.small(entry.edges[tallest + 1])}"
    frozen = ", ".join(formatting.small(value) for value in entry.culprits[:8]) + (", …" if len(entry.culprits) > 8 else "")
    marked = f"Frozen filters lie at {frozen}." if entry.culprits else "None of these filters was frozen."
    return f"Values reach {span}; the fullest bin is {mode}. {marked}"
