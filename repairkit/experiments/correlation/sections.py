"""What reports on the correlation of attack success and accuracy show: sections and tables."""

from __future__ import annotations

from collections.abc import Sequence

from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import closing_sections
from repairkit.experiments.correlation.result import CorrelationResult
from repairkit.report.document import Cell, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, signed
from repairkit.result import Correlation

CORRELATIONS = "A correlation of 1 would mean that attacks need the very filters that accuracy needs. No filter could then be frozen for free. Noise in the values pulls the correlation toward zero, so each value also stands beside itself, measured again."
GLOSSARY_METRICS = (
    "Target success",
    "Accuracy",
)
GLOSSARY_TERMS = (
    "Interval of a rank correlation",
    "Filter",
    "Gradient estimate",
    "Rank correlation",
    "Pass",
)


def sections(result: CorrelationResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    found = (
        [CORRELATIONS, summary(result)] if result.extra.correlations else ["Nothing was measured: the attack does not fool the network."]
    )
    return [
        Section("correlations", "How alike both values rank the filters", blocks(*found, tops(result) if result.extra.tops else None)),
        *comparison_tables.sections(result),
        *closing_sections(result, figures),
    ]


def facts(result: CorrelationResult) -> list[tuple[str, str]]:
    """What was asked, on what."""
    return [
        ("Model", result.model),
        ("Filters", count(result.extra.players)),
        ("Images", result.extra.images),
        ("Attack", result.extra.attack),
        ("Intervals", f"{result.level:.0%}, over filters"),
        ("Date", result.created),
    ]


def summary(result: CorrelationResult) -> Table:
    """What the command line shows."""
    rows = tuple((Cell(each.of, kind="text"), Cell(count(each.n)), _value(each)) for each in result.extra.correlations)
    corrected = (Cell("attack success and accuracy, corrected for noise", kind="text"), Cell(NONE), Cell(_text(result.extra.corrected)))
    return Table(
        key="correlations",
        caption=f"Spearman's rank correlation over filters, with {result.level:.0%} intervals as if filters were drawn at random",
        heads=("Of", "Filters", "Rank correlation"),
        kinds=("text", "number", "number"),
        bodies=((*rows, corrected),) if rows else (),
    )


def quoted(result: CorrelationResult) -> list[Table]:
    """What README and recipes show of one run."""
    return [summary(result), *([tops(result)] if result.extra.tops else [])]


def design(result: CorrelationResult) -> str:
    """On which images, in a few words."""
    return result.extra.images


def runs(results: Sequence[CorrelationResult]) -> Table:
    """Several networks side by side."""
    rows = tuple(
        (
            Cell(each.title, kind="text"),
            _value(each.extra.correlations[0]) if each.extra.correlations else Cell(NONE),
            Cell(_text(each.extra.corrected)),
        )
        for each in results
    )
    caption = f"Spearman's rank correlation of attack success and accuracy, with {results[0].level:.0%} intervals as if filters were drawn at random"
    return Table("runs", caption, ("Of", "Rank correlation", "Corrected for noise"), ("text", "number", "number"), (rows,))


def tops(result: CorrelationResult) -> Table:
    """How many of the highest filters are the same."""
    rows = tuple((Cell(count(top.k), kind="text"), Cell(count(top.shared)), Cell(f"{top.chance:.1f}")) for top in result.extra.tops)
    return Table(
        key="tops",
        caption="Highest filters by either value",
        heads=("k highest", "In both", "Expected by chance"),
        kinds=("text", "number", "number"),
        bodies=(rows,) if rows else (),
    )


def _value(found: Correlation) -> Cell:
    return Cell(_text(found.value), interval(found.low, found.high, _text))


def _text(value: float | None) -> str:
    return NONE if value is None else signed(f"{value:.2f}")
