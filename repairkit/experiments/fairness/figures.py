"""Figures of a fairness report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.experiments.fairness.result import CurvePoint, FairnessResult
from repairkit.report import charts, formatting, tables
from repairkit.report.figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw(result: FairnessResult) -> list[Figure]:
    """All figures of a fairness report, in order."""
    histograms = [charts.histogram(entry, "values" if i == 0 else f"values-{i + 1}") for i, entry in enumerate(result.histograms)]
    if not histograms:
        histograms = [Figure("values", "Values of filters", "Not drawn: the run recorded no histogram of values.")]
    return [charts.recall(result), _removal(result), *histograms, _tradeoff(result)]


def _by_series(points: Iterable[CurvePoint]) -> dict[str, list[CurvePoint]]:
    series: dict[str, list[CurvePoint]] = {}
    for point in points:
        series.setdefault(point.series, []).append(point)
    return {name: sorted(found, key=lambda point: point.filters) for name, found in series.items()}


def _removal(result: FairnessResult) -> Figure:
    """Mean recall and source accuracy against the number of frozen filters."""
    title = "Removal curve: filters frozen one by one"
    curves = {name: found for name, found in _by_series(result.extra.curves).items() if len({point.filters for point in found}) > 1}
    if not curves:
        return Figure("removal", title, "Not drawn: the run recorded no removal curve, because no filter was tried.")
    chosen = [point for found in curves.values() for point in found if point.chosen][:1]
    folds = result.folds > 1

    def chart(canvas: Canvas) -> None:
        panels = [("Mean recall", _series(result, curves, "mean_recall")), ("Source accuracy", _series(result, curves, "source_accuracy"))]
        label = "most filters frozen in a fold" if folds else "number of frozen filters"
        charts.curve_panels(canvas, panels, chosen=chosen[0].filters if chosen else None, label=label, whole_scale=False)

    most = "up to " if folds else ""
    detail = " ".join(
        f"{tables.column_label(result, name)}: {_at(found[0], most)}; {_at(found[-1], most)}." for name, found in curves.items()
    )
    return Figure("removal", title, _removal_finding(result, chosen, curves), detail, chart, 0.6 + 2 * charts.PANEL)


def _series(result: FairnessResult, curves: dict[str, list[CurvePoint]], metric: str) -> list[plots.Series]:
    values = {name: [getattr(point, metric) for point in points] for name, points in curves.items()}
    return [
        plots.Series(
            tables.column_label(result, name),
            plots.style_of(name),
            [p.filters for p in points],
            [plots.Interval(v, v, v) for v in values[name]],
        )
        for name, points in curves.items()
    ]


def _removal_finding(result: FairnessResult, chosen: Sequence[CurvePoint], curves: dict[str, list[CurvePoint]]) -> str:
    folds = f" (means over {result.folds} folds)" if result.folds > 1 else ""
    if not chosen:
        return f"No number of frozen filters was chosen{folds}."
    before, after = curves[chosen[0].series][0], chosen[0]
    return f"Before, {_read(before)}; as chosen, {_read(after)}{folds}."


def _at(point: CurvePoint, most: str) -> str:
    return f"with {most if point.filters else ''}{point.filters} frozen, {_read(point)}"


def _read(point: CurvePoint) -> str:
    return f"mean recall is {formatting.percent(point.mean_recall)} and source accuracy {formatting.percent(point.source_accuracy)}"


def _tradeoff(result: FairnessResult) -> Figure:
    """Mean recall against source accuracy: every column with its intervals, and the curves between them."""
    title = "Trade-off: mean recall against source accuracy"
    found = {(s.metric, s.column): plots.Interval(s.value, s.low, s.high) for s in result.shares if s.group is None}
    keys = [c.key for c in result.columns if ("mean recall", c.key) in found and ("source accuracy", c.key) in found]
    pairs = {key: (found["source accuracy", key], found["mean recall", key]) for key in keys}
    if not pairs:
        return Figure("tradeoff", title, "Not drawn: the run recorded no mean recall with a source accuracy.")
    curves = _by_series(result.extra.curves)

    def track(name: str) -> plots.Track:
        tried = [
            p for p in curves.get(name, []) if p.filters or not p.chosen
        ]  # the threshold as chosen is a column, and comes after those tried
        points = [(p.source_accuracy, p.mean_recall) for p in tried]
        return plots.Track(tables.column_label(result, name), plots.style_of(name), points, [pairs[name]] if name in pairs else [])

    def chart(canvas: Canvas) -> None:
        tracks = [track(name) for name in dict.fromkeys([*curves, *pairs])]
        plots.add_legend(canvas, [(entry.label, entry.style) for entry in tracks])
        axes = canvas.subplots()
        plots.plot_trade_off(axes, tracks, zoom=True)
        axes.set(xlabel="source accuracy", ylabel="mean recall")
        axes.set_title("better ↗", loc="right", weight="normal", color=plots.MUTED)

    said = "; ".join(
        f"{tables.column_label(result, key)} {formatting.percent(recall.value)} at {formatting.percent(source.value)}"
        for key, (source, recall) in pairs.items()
    )
    finding = charts.repair_effect(result, groups=False) or charts.NOT_COMPARED
    return Figure("tradeoff", title, finding, f"Mean recall at source accuracy: {said}.", chart, 3.6)
