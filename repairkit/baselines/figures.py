"""The figure of a comparison with baselines, which a report of any kind may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.baselines.tables import key_of
from repairkit.report.figure import Figure
from repairkit.report.formatting import STATUS, count, hundredths, points
from repairkit.result import Baseline, Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw(comparison: Comparison, of: str = "") -> Figure:
    """A panel for each baseline, its curve beside that of the Shapley values, all on one scale; with intervals. `of` is the column it is of, where there are several.

    Example:
        >>> nothing = Comparison.model_construct(baselines=[], metric="accuracy")
        >>> draw(nothing).finding
        'Not drawn: no filter was frozen.'
    """
    key, title = key_of("baselines", of), f"{f'{of}, baselines' if of else 'Baselines'}: {comparison.metric} as filters are frozen"
    made = [each for each in comparison.baselines if not each.why_not]
    if len(made) < 2 or len(made[0].points) < 2:
        return Figure(key, title, "Not drawn: no filter was frozen.")
    shapley, *others = made
    rows = (len(others) + 1) // 2

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, [(shapley.name, plots.SECONDARY), ("the baseline of the panel", plots.BASELINE)])
        panels = canvas.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).flat
        for axes, baseline in zip(panels, others, strict=False):
            plots.plot_curves(axes, [_series(baseline, plots.BASELINE), _series(shapley, plots.SECONDARY)])
            axes.set_title(plots.clip(baseline.name, 28), loc="left", size=8, weight="normal")
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
            axes.lines[-1].set_markersize(3.5)
            axes.lines[-2].set_markersize(3.5)
            plots.whole(axes.xaxis, 4)
            axes.tick_params(labelbottom=True)
        for axes in list(canvas.axes)[len(others) :]:
            axes.set_axis_off()
        canvas.supxlabel(plots.clip(f"number of frozen filters, {comparison.order}", 60), size=9, color=plots.MUTED)

    finding = " ".join(comparison.sentences[:1]) or "No area was measured."
    detail = f"Values times 100, {'lower' if comparison.lower_is_better else 'higher'} is ahead. " + " ".join(map(_said, made))
    return Figure(key, title, finding, detail, chart, 0.7 + 1.5 * rows)


def _series(baseline: Baseline, style: plots.Style) -> plots.Series:
    points = baseline.points
    return plots.Series(baseline.name, style, [p.filters for p in points], [plots.Interval(p.value, p.low, p.high) for p in points])


def _said(each: Baseline) -> str:
    """The curve of one in words, and who is ahead."""
    curve = ", ".join(f"{count(point.filters)} {hundredths(point.value)}" for point in each.points)
    ahead = f" (Shapley ahead by {points(each.lead)} points, {STATUS[each.claim]})" if each.lead is not None and each.claim else ""
    return f"{each.name}{ahead}: {curve}."
