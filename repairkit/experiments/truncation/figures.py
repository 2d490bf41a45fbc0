"""Figures of a report on truncation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repairkit import plots
from repairkit.experiments.truncation import sections as truncation_sections
from repairkit.experiments.truncation.result import TruncationCurve, TruncationResult
from repairkit.report import formatting
from repairkit.report.figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw(result: TruncationResult) -> list[Figure]:
    """A figure for each network and metric: every order as a thin line, their mean and the median death."""
    return [_fan(curve, f"trajectories-{number}") for number, curve in enumerate(result.extra.curves, start=1)]


def _fan(curve: TruncationCurve, key: str) -> Figure:
    shown = [point for point in curve.points if point.share <= curve.latest] or curve.points

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, [(f"mean of {len(curve.trajectories)} orders (thin: single orders)", plots.SECONDARY)])
        axes = canvas.subplots()
        plots.plot_trajectories(axes, [p.share for p in shown], [w[: len(shown)] for w in curve.trajectories], [p.mean for p in shown])
        dashed: dict[str, Any] = {"color": plots.INK, "linewidth": 1.0, "linestyle": (0, (2, 2))}
        axes.axhline(curve.dead_below, **dashed)
        axes.axvline(curve.death.value, **dashed)
        late = curve.death.value > 0.6 * shown[-1].share
        axes.annotate(
            f"half are dead: {formatting.percent(curve.death.value)}",
            (curve.death.value, 0.96),
            (-4 if late else 4, 0),
            textcoords="offset points",
            ha="right" if late else "left",
        )
        axes.set(ylim=(-0.03, 1.03), xlabel="share of the filters removed")
        axes.set_title(plots.clip(curve.metric))

    finding = (
        f"Dead (at or below the dashed line, {formatting.percent(curve.dead_below)}) from {formatting.percent(curve.earliest)} removed in the first order to "
        f"{formatting.percent(curve.latest)} in the last, in half of them from {formatting.percent(curve.death.value)} "
        f"({formatting.interval(curve.death.low, curve.death.high, formatting.percent)})."
    )
    detail = "Mean: " + "; ".join(f"{formatting.percent(point.share)} removed, {formatting.percent(point.mean)}" for point in shown) + "."
    return Figure(key, f"{truncation_sections.label(curve)}, as filters are removed at random", finding, detail, chart, 3.2)
