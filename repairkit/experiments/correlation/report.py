"""The result of a correlation of attack success and accuracy, and its report: tables, chart and sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import closing_sections
from repairkit.report.document import Cell, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, percent, signed
from repairkit.result import Correlation, Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

LEAD = (
    "A correlation of 1 would mean that attacks need the very filters that accuracy needs. No filter could then be frozen for free. "
    "Noise in the values pulls the correlation toward zero, so each value also stands beside itself, measured again."
)
GLOSSARY_METRICS = ("Target success", "Accuracy")
GLOSSARY_TERMS = ("Interval of a rank correlation", "Filter", "Gradient estimate", "Rank correlation", "Pass")


class SharedTop(Record):
    """Of the k filters of highest value by either of two values, how many are the same."""

    k: int
    shared: int
    chance: float  # expected where the values have nothing to do with each other


class CorrelationExtra(Record):
    """How alike two values rank the filters of one network: attack success and accuracy."""

    images: str
    attack: str
    players: int
    correlations: list[Correlation]  # of the two values, then of each value with itself; only those that are defined
    corrected: float | None  # the first, for the noise that the others show; None where noise is all there is
    tops: list[SharedTop]
    cells: list[list[int]]  # filters by tenth of the ranking by accuracy (rows, lowest first) and by attack success (columns)


CorrelationResult = Result[CorrelationExtra]


def sections(result: CorrelationResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    tables = [LEAD, *quoted(result)] if result.extra.correlations else ["Nothing was measured: the attack does not fool the network."]
    return [
        Section("correlations", "How alike both values rank the filters", blocks(*tables)),
        *comparison_tables.sections(result),
        *closing_sections(result, figures),
    ]


def facts(result: CorrelationResult) -> list[tuple[str, str]]:
    """The network, its images and the attack."""
    return [
        ("Model", result.model),
        ("Filters", count(result.extra.players)),
        ("Images", result.extra.images),
        ("Attack", result.extra.attack),
        ("Intervals", f"{result.level:.0%}, over filters"),
        ("Date", result.created),
    ]


def design(result: CorrelationResult) -> str:
    """On which images, in a few words."""
    return result.extra.images


def quoted(result: CorrelationResult) -> list[Table]:
    """What README and recipes show of one run."""
    return [summary(result), *([tops(result)] if result.extra.tops else [])]


def summary(result: CorrelationResult) -> Table:
    """The rank correlations, which the command line shows."""
    rows = tuple((Cell(entry.of, kind="text"), Cell(count(entry.n)), _correlation(entry)) for entry in result.extra.correlations)
    corrected = (Cell("attack success and accuracy, corrected for noise", kind="text"), Cell(NONE), Cell(_decimals(result.extra.corrected)))
    caption = f"Spearman's rank correlation over filters, with {result.level:.0%} intervals as if filters were drawn at random"
    bodies = ((*rows, corrected),) if rows else ()
    return Table("correlations", caption, ("Of", "Filters", "Rank correlation"), ("text", "number", "number"), bodies)


def tops(result: CorrelationResult) -> Table:
    """How many of the highest filters are the same."""
    rows = tuple((Cell(count(top.k), kind="text"), Cell(count(top.shared)), Cell(f"{top.chance:.1f}")) for top in result.extra.tops)
    heads = ("k highest", "In both", "Expected by chance")
    return Table("tops", "Highest filters by either value", heads, ("text", "number", "number"), (rows,) if rows else ())


def runs(results: Sequence[CorrelationResult]) -> Table:
    """Several networks side by side."""
    rows = tuple(
        (
            Cell(result.title, kind="text"),
            _correlation(result.extra.correlations[0]) if result.extra.correlations else Cell(NONE),
            Cell(_decimals(result.extra.corrected)),
        )
        for result in results
    )
    caption = f"Spearman's rank correlation of attack success and accuracy, with {results[0].level:.0%} intervals as if filters were drawn at random"
    return Table("runs", caption, ("Of", "Rank correlation", "Corrected for noise"), ("text", "number", "number"), (rows,))


def _correlation(entry: Correlation) -> Cell:
    return Cell(_decimals(entry.value), interval(entry.low, entry.high, _decimals))


def _decimals(value: float | None) -> str:
    return NONE if value is None else signed(f"{value:.2f}")


def draw(result: CorrelationResult) -> list[Figure]:
    """The only chart: a square for each tenth of both rankings, its area the number of filters there."""
    title, cells = "Filters by their rank in either value", result.extra.cells
    if not cells:
        return [Figure("ranks", title, "Not drawn: the attack does not fool the network.")]
    tenths = len(cells)

    def chart(canvas: Canvas) -> None:
        axes = canvas.subplots()
        plots.plot_cells(axes, cells)
        axes.set_xticks([0.5, tenths - 0.5], ["lowest tenth", "highest tenth"])
        axes.set_yticks([0.5, tenths - 0.5], ["lowest", "highest"])
        axes.set(xlabel="value for attack success", ylabel="value for accuracy")

    diagonal = sum(cells[i][i] for i in range(tenths)) / sum(map(sum, cells))
    finding = f"{percent(diagonal)} of the filters lie in the same tenth of both rankings; {percent(1 / tenths)} would by chance."
    corners = {
        "highest in both": cells[-1][-1],
        "lowest in both": cells[0][0],
        "highest for the attack and lowest for accuracy": cells[0][-1],
        "lowest for the attack and highest for accuracy": cells[-1][0],
    }
    detail = "; ".join(f"{name}, {count(number)}" for name, number in corners.items())
    return [Figure("ranks", title, finding, f"Filters in the outer tenths: {detail}.", chart, 3.8)]
