"""Figures of a report on the correlation of attack success and accuracy."""

from __future__ import annotations

from repairkit.experiments.correlation.result import CorrelationResult
from repairkit.report import drawing, formatting


def draw(result: CorrelationResult) -> list[drawing.Figure]:
    """All figures of the report, in order.

    Example:
        >>> [figure.key for figure in draw(CorrelationResult.model_construct(cells=[]))]
        ['ranks']
    """
    return [_ranks(result)]


def _ranks(result: CorrelationResult) -> drawing.Figure:
    """A square for each tenth of both rankings, its area the number of filters there."""
    title = "Filters by their rank in either value"
    if not result.extra.cells:
        return drawing.Figure("ranks", title, "Not drawn: the attack does not fool the network.")
    tenths = len(result.extra.cells)
    left, top, step = 60.0, 14.0, 32.0
    most = max(max(row) for row in result.extra.cells)
    body = ""
    for row, counts in enumerate(result.extra.cells):
        for column, number in enumerate(counts):
            side = (step - 2) * (number / most) ** 0.5
            x, y = left + (column + 0.5) * step - side / 2, top + (tenths - row - 0.5) * step - side / 2
            body += drawing.tag("rect", css="bar", x=x, y=y, width=side, height=side)
    bottom = top + tenths * step
    body += drawing.line(left, bottom, left + tenths * step, bottom, "axis") + drawing.line(left, top, left, bottom, "axis")
    body += drawing.text(left, bottom + 16, "lowest tenth", css="m") + drawing.text(
        left + tenths * step, bottom + 16, "highest tenth", css="m", anchor="end"
    )
    body += drawing.text(left + tenths * step / 2, bottom + 34, "value for attack success", css="m", anchor="middle")
    body += drawing.text(left - 6, bottom, "lowest", css="m", anchor="end") + drawing.text(
        left - 6, top + 12, "highest", css="m", anchor="end"
    )
    body += drawing.text(left - 6, (top + bottom) / 2 - 6, "value for", css="m", anchor="end")
    body += drawing.text(left - 6, (top + bottom) / 2 + 10, "accuracy", css="m", anchor="end")
    diagonal = sum(result.extra.cells[i][i] for i in range(tenths))
    total = sum(map(sum, result.extra.cells))
    finding = f"{formatting.percent(diagonal / total)} of the filters lie in the same tenth of both rankings; {formatting.percent(1 / tenths)} would by chance."
    corners = {
        "highest in both": result.extra.cells[-1][-1],
        "lowest in both": result.extra.cells[0][0],
        "highest for the attack and lowest for accuracy": result.extra.cells[0][-1],
        "lowest for the attack and highest for accuracy": result.extra.cells[-1][0],
    }
    detail = "Filters in the outer tenths: " + "; ".join(f"{name}, {formatting.count(number)}" for name, number in corners.items()) + "."
    return drawing.Figure("ranks", title, finding, detail, bottom + 42, body)
