"""Figures of a report on truncation."""

from __future__ import annotations

from repairkit.experiments.truncation import sections as truncation_sections
from repairkit.experiments.truncation.result import TruncationCurve, TruncationResult
from repairkit.report import drawing, formatting

THIN = "stroke-width:.6;opacity:.4"
"""Of a line among a hundred."""


def draw(result: TruncationResult) -> list[drawing.Figure]:
    """A figure for each network and metric: every order as a thin line, their mean and the median death.

    Example:
        >>> draw(TruncationResult.model_construct(curves=[]))
        []
    """
    return [_fan(curve, f"trajectories-{number}") for number, curve in enumerate(result.extra.curves, start=1)]


def _fan(curve: TruncationCurve, key: str) -> drawing.Figure:
    shown = [point for point in curve.points if point.share <= curve.latest] or curve.points
    right = shown[-1].share
    legend, y = drawing.legend([(2, f"mean of {len(curve.trajectories)} orders"), (0, "each order (thin)")], 14)
    x = drawing.Scale.around([0.0, right], 48, drawing.WIDTH - 10, pad=0.02)
    scale = drawing.Scale.around([0.0, 1.0], y + 200, y + 22, pad=0.02, top=1.0)
    body = legend + drawing.text(8, y + 10, curve.metric, css="b")
    body += drawing.ticks_left(scale, 48, drawing.WIDTH - 10, drawing.percent_form(scale, 5))
    body += drawing.ticks_below(x, y + 18, y + 204, drawing.percent_form(x, 6))
    for worths in curve.trajectories:
        path = " ".join(f"{drawing.number(x(p.share))},{drawing.number(scale(w))}" for p, w in zip(shown, worths, strict=False))
        body += drawing.tag("polyline", css="line s0", style=THIN, points=path)
    body += drawing.line(48, scale(curve.dead_below), drawing.WIDTH - 10, scale(curve.dead_below), "chosen")
    body += drawing.line(x(curve.death.value), y + 18, x(curve.death.value), y + 204, "chosen")
    body += drawing.text(x(curve.death.value) + 4, y + 30, f"half are dead: {formatting.percent(curve.death.value)}", css="m")
    body += drawing.curve(2, [(x(point.share), scale(point.mean)) for point in shown])
    body += drawing.text((48 + drawing.WIDTH) / 2, y + 238, "share of the filters removed", css="m", anchor="middle")
    finding = (
        f"Dead (at or below the dashed line, {formatting.percent(curve.dead_below)}) from {formatting.percent(curve.earliest)} removed in the first order to "
        f"{formatting.percent(curve.latest)} in the last, in half of them from {formatting.percent(curve.death.value)} "
        f"({formatting.interval(curve.death.low, curve.death.high, formatting.percent)})."
    )
    detail = "Mean: " + "; ".join(f"{formatting.percent(point.share)} removed, {formatting.percent(point.mean)}" for point in shown) + "."
    return drawing.Figure(key, f"{truncation_sections.label(curve)}, as filters are removed at random", finding, detail, y + 248, body)
