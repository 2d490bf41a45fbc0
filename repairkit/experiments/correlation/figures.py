"""Figures of a report on the correlation of attack success and accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.experiments.correlation.result import CorrelationResult
from repairkit.report import formatting
from repairkit.report.figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw(result: CorrelationResult) -> list[Figure]:
    """All figures of the report, in order."""
    return [_ranks(result)]


def _ranks(result: CorrelationResult) -> Figure:
    """A square for each tenth of both rankings, its area the number of filters there."""
    title = "Filters by their rank in either value"
    if not result.extra.cells:
        return Figure("ranks", title, "Not drawn: the attack does not fool the network.")
    tenths = len(result.extra.cells)

    def chart(canvas: Canvas) -> None:
        axes = canvas.subplots()
        plots.plot_cells(axes, result.extra.cells)
        axes.set_xticks([0.5, tenths - 0.5], ["lowest tenth", "highest tenth"])
        axes.set_yticks([0.5, tenths - 0.5], ["lowest", "highest"])
        axes.set(xlabel="value for attack success", ylabel="value for accuracy")

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
    return Figure("ranks", title, finding, detail, chart, 3.8)
