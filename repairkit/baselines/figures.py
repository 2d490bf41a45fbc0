"""The figure of a comparison with baselines, which a report of any kind may have."""

from __future__ import annotations

from repairkit.baselines.tables import key_of
from repairkit.report import drawing
from repairkit.report.formatting import STATUS, count, hundredths, points
from repairkit.result import Baseline, Comparison

_SHAPLEY, _OTHER = 2, 0
_HEIGHT, _WIDTH, _LEFT = 128.0, 160.0, (44.0, 228.0)
"""Of a panel, and where the two columns begin."""


def draw(comparison: Comparison, of: str = "") -> drawing.Figure:
    """A panel for each baseline, its curve beside that of the Shapley values, all on one scale; with intervals. `of` is the column it is of, where there are several.

    Example:
        >>> nothing = Comparison.model_construct(baselines=[], metric="accuracy")
        >>> draw(nothing).finding
        'Not drawn: no filter was frozen.'
    """
    key, title = key_of("baselines", of), f"{f'{of}, baselines' if of else 'Baselines'}: {comparison.metric} as filters are frozen"
    made = [each for each in comparison.baselines if not each.why_not]
    if len(made) < 2 or len(made[0].points) < 2:
        return drawing.Figure(key, title, "Not drawn: no filter was frozen.")
    shapley, *others = made
    legend, y = drawing.legend([(_SHAPLEY, shapley.name), (_OTHER, "the baseline of the panel")], 14)
    levels = [end for each in made for point in each.points for end in (point.low, point.high)]
    most = float(shapley.points[-1].filters)
    body = legend
    for number, each in enumerate(others):
        left = _LEFT[number % 2]
        top = y + (number // 2) * _HEIGHT
        x = drawing.Scale.around([0.0, most], left, left + _WIDTH, pad=0.03)
        scale = drawing.Scale.around(levels, top + _HEIGHT - 28, top + 20, pad=0.02)
        body += drawing.text(left - (18 if number % 2 else 36), top + 10, each.name, css="b", most=30)
        body += _panel(x, scale, each, shapley, labelled=number % 2 == 0)
    bottom = y + (len(others) + 1) // 2 * _HEIGHT
    body += drawing.text(drawing.WIDTH / 2, bottom + 6, f"number of frozen filters, {comparison.order}", css="m", anchor="middle")
    finding = " ".join(comparison.sentences[:1]) or "No area was measured."
    detail = f"Values times 100, {'lower' if comparison.lower_is_better else 'higher'} is ahead. " + " ".join(map(_said, made))
    return drawing.Figure(key, title, finding, detail, bottom + 16, body)


def _panel(x: drawing.Scale, y: drawing.Scale, each: Baseline, shapley: Baseline, *, labelled: bool) -> str:
    """Both curves, the Shapley values' on top."""
    body = ""
    for tick in y.ticks(4):
        body += drawing.line(x.start, y(tick), x.stop, y(tick), "grid")
        if labelled:
            body += drawing.text(x.start - 6, y(tick) + 4, hundredths(tick).removesuffix(".0"), css="m", anchor="end")
    for tick in x.ticks(5):
        if tick == int(tick):
            body += drawing.text(x(tick), y.start + 14, count(tick), css="m", anchor="middle")
    for style, curve in ((_OTHER, each), (_SHAPLEY, shapley)):
        body += "".join(
            drawing.line(x(point.filters), y(point.low), x(point.filters), y(point.high), f"whisker s{style}") for point in curve.points
        )
        body += drawing.curve(style, [(x(point.filters), y(point.value)) for point in curve.points])
    return body


def _said(each: Baseline) -> str:
    """The curve of one in words, and who is ahead."""
    curve = ", ".join(f"{count(point.filters)} {hundredths(point.value)}" for point in each.points)
    ahead = f" (Shapley ahead by {points(each.lead)} points, {STATUS[each.claim]})" if each.lead is not None and each.claim else ""
    return f"{each.name}{ahead}: {curve}."
