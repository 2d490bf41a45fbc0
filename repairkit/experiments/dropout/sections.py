"""What reports on filter dropout show: sections and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import closing_sections, differences_section, worse_section
from repairkit.experiments.dropout.result import DropoutPoint, DropoutResult
from repairkit.report import tables
from repairkit.report.document import Block, Bullets, Cell, CellKind, Heading, KeyFigure, Section, Table, Text, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, STATUS, count, interval, percent, plus_minus, points, small
from repairkit.report.tables import column_label
from repairkit.result import Difference, Estimate

ACCURACIES = (
    "Accuracy on test images, which had no part in attribution: with nothing frozen, and the mean over the numbers of filters below."
)
WORSE = "What the dropout-trained network does worse than the original. This section is never left out."
NOTHING_WORSE = "Nothing is measurably worse: neither accuracy nor a mean change by freezing is measurably lower. This does not prove that nothing is worse. The intervals say how much could hide."
DIFFERENCES = "The dropout-trained network minus the original, on the same images. A negative change by freezing is a fall. A difference of changes above zero means that the dropout-trained network falls less. The verdict rests on the means over the numbers of filters, which were fixed beforehand."
REMOVAL = "Each network has its own highest filters, its own lowest filters and random filters frozen, at the numbers of filters shown. Changes are paired, against the same network with nothing frozen. Differences are the dropout-trained network minus the original. There are several numbers of filters. A claim at one of them therefore needs more than the interval beside it."
VALUES = "Every value stands with the half-width of its interval, from the attribution that sought that end. Values of the two networks have different units, because each has its own objective."
RANKINGS = "In each network the first filters of that network's rankings are frozen. A difference above zero means that the dropout-trained network falls less. Where a ranking costs either network little, there is little to tell apart."
GLOSSARY_METRICS = (
    "Accuracy",
    "Accuracy with filters frozen",
    "Change by freezing",
    "Difference of the changes",
)
GLOSSARY_TERMS = (
    "Interval",
    "Paired difference of two networks",
    "Claim",
    "Claim at one number of filters",
    "Filter",
    "Value",
    "Gradient estimate",
    "Random filters",
    "Dropout-trained",
    "Pass",
)


SERIES = {
    "highest": "The highest values frozen first",
    "lowest": "The lowest values frozen first",
    "random": "Random filters frozen",
}
"""Orders of freezing and their headings."""
METRICS = {
    "accuracy": "accuracy, nothing frozen",
    **{f"accuracy, {series} frozen": f"mean accuracy, {series} frozen" for series in SERIES},
    **{f"change, {series} frozen": f"mean change by freezing, {series}" for series in SERIES},
}


def label(metric: str, group: str | None) -> str:
    """What a row is about.

    Example:
        >>> label("change, highest frozen", None), label("accuracy", None)
        ('mean change by freezing, highest', 'accuracy, nothing frozen')
    """
    return METRICS.get(metric, metric) if group is None else f"{metric}, {group}"


def sections(result: DropoutResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    ranked: list[Block] = (
        [Heading("Does the finding depend on the ranking?"), Text(RANKINGS), Bullets(result.extra.rankings.sentences)]
        if result.extra.rankings
        else []
    )
    return [
        Section("accuracies", "Accuracy of both networks", blocks(ACCURACIES, accuracies(result) if result.shares else None)),
        worse_section(result, title="Regressions", lead=WORSE, otherwise=NOTHING_WORSE),
        differences_section(differences(result), DIFFERENCES),
        Section(
            "removal",
            "Ablation curves",
            blocks(REMOVAL if result.groups else "No filter was frozen: none was valued in both networks.", *removal(result)),
        ),
        Section("values", "Highest and lowest values", blocks(VALUES, *extremes(result))),
        *comparison_tables.sections(result, *ranked, *rankings(result)),
        *closing_sections(result, figures),
    ]


def facts(result: DropoutResult) -> list[tuple[str, str]]:
    """Which networks, on what, and how they were judged."""
    return [
        ("Original", result.model),
        ("Dropout-trained", result.extra.dropout_model),
        ("Images", result.extra.images),
        ("Filters of each", count(result.extra.players)),
        ("Filters valued by", result.objective),
        ("Design", f"one split: {', '.join(f'{count(n)} {part}' for part, n in result.extra.parts.items())}"),
        ("Intervals", f"{result.level:.0%}"),
        ("Date", result.created),
    ]


def key_figures(result: DropoutResult) -> list[KeyFigure]:
    """Accuracy with nothing frozen, and the mean with the highest and the lowest filters frozen: original, then dropout-trained."""
    wanted = ("accuracy", "accuracy, highest frozen", "accuracy, lowest frozen")
    found = {entry.metric: entry for entry in result.differences if entry.group is None}
    return [
        tables.key_figure(result, found[metric], f"{METRICS[metric]}, original to dropout-trained") for metric in wanted if metric in found
    ]


def summary(result: DropoutResult) -> Table:
    """What the command line shows: the curves of the highest filters, or accuracy where none was frozen."""
    curves = removal(result)
    return curves[0] if curves else accuracies(result)


def quoted(result: DropoutResult) -> list[Table]:
    """What README and recipes show of one run."""
    return [accuracies(result), *removal(result), *rankings(result), *comparison_tables.quoted(result.compared, result.level)]


def design(result: DropoutResult) -> str:
    """On which images, in a few words."""
    return f"{result.extra.images}, {count(result.extra.parts['report'])} of them in the report"


def runs(results: Sequence[DropoutResult]) -> Table:
    """Several runs side by side: accuracy of both networks with nothing and with the highest filters frozen, and the differences."""

    def cells(result: DropoutResult) -> tuple[Cell, ...]:
        metrics = ("accuracy", "accuracy, highest frozen")
        shares = {(share.metric, share.column): share for share in result.shares}
        found = {entry.metric: entry for entry in result.differences if entry.group is None}
        levels = (shares.get((metric, column.key)) for metric in metrics for column in result.columns)
        changed = (found.get(metric) for metric in ("accuracy", "change, highest frozen", "change, lowest frozen"))
        return (
            *(Cell(percent(share.value), interval(share.low, share.high, percent)) if share else Cell(NONE) for share in levels),
            *(Cell(points(entry.value), interval(entry.low, entry.high, points)) if entry else Cell(NONE) for entry in changed),
        )

    rows = tuple((Cell(result.title, kind="text"), Cell(count(result.extra.parts["report"])), *cells(result)) for result in results)
    heads = (
        *("Run", "n", "Original", "Dropout-trained", "Original, highest frozen", "Dropout-trained, highest frozen"),
        *("Difference", "Of the change, highest", "Of the change, lowest"),
    )
    numbers: list[CellKind] = ["number"] * (len(heads) - 1)
    caption = f"Filter dropout: accuracy, and dropout-trained minus original in percentage points, with {results[0].level:.0%} intervals"
    return Table("runs", caption, heads, ("text", *numbers), (rows,))


def accuracies(result: DropoutResult) -> Table:
    """Accuracy of both networks: with nothing frozen, and the mean over the numbers of filters."""
    table = tables.before_after(result, label)
    return replace(table, caption=f"Accuracy of both networks, with {result.level:.0%} intervals", heads=("Measure", *table.heads[1:]))


def differences(result: DropoutResult) -> list[Table]:
    """The paired differences with nothing frozen and over all numbers of filters."""
    rows = tuple(
        (Cell(label(entry.metric, None), kind="text"), *_between(entry), Cell(count(entry.n)))
        for entry in result.differences
        if entry.group is None
    )
    if not rows:
        return []
    caption = f"{tables.comparison(result, result.differences[0])}, with {result.level:.0%} intervals"
    heads = ("Measure", "Difference, points", "Claim", "n")
    return [Table("difference", caption, heads, ("text", "number", "status", "number"), (rows,))]


def removal(result: DropoutResult) -> list[Table]:
    """For each order of freezing both networks side by side, a row for each number of filters, and how their changes and accuracies differ."""
    at: dict[tuple[str, str, int], DropoutPoint] = {(point.series, point.column, point.filters): point for point in result.extra.removal}
    between = {(entry.metric, entry.group): entry for entry in result.differences}
    numbers = list(dict.fromkeys(point.filters for point in result.extra.removal if point.filters))
    if not numbers:
        return []
    groups = dict(zip(numbers, result.groups, strict=True))
    found = []
    for position, (series, title) in enumerate(SERIES.items(), start=1):
        rows = tuple(
            (
                Cell(count(number), kind="text"),
                *(cell for column in result.columns for cell in _cells(at[series, column.key, number])),
                *(cell for metric in ("change", "accuracy") for cell in _between(between[f"{metric}, {series} frozen", groups[number]])),
            )
            for number in numbers
        )
        heads = [head for column in result.columns for head in (column.label, "Change, points")]
        heads += ["Difference of the changes", "Claim", "Difference of accuracy", "Claim"]
        drawn = f", mean of {result.extra.draws} orders" if series == "random" else ""
        found.append(
            Table(
                key=f"removal-{position}",
                caption=f"{title}{drawn}: accuracy, n = {count(result.extra.parts['report'])}, with {result.level:.0%} intervals",
                heads=("Frozen", *heads),
                kinds=("text", *_numbers(2 * len(result.columns)), "number", "status", "number", "status"),
                bodies=(rows,),
            )
        )
    return found


def rankings(result: DropoutResult) -> list[Table]:
    """What freezing the first filters of each ranking changes in both networks, and how the changes differ; the Shapley values first."""
    if result.extra.rankings is None:
        return []

    def cell(each: Estimate) -> Cell:
        return Cell(points(each.value), interval(each.low, each.high, points))

    rows = tuple(
        (
            Cell(row.name, kind="text"),
            *(cell(row.changes[column.key]) for column in result.columns),
            cell(row.difference),
            Cell(STATUS[row.claim], kind="status", claim=row.claim),
        )
        for row in result.extra.rankings.rows
    )
    return [
        Table(
            key="rankings",
            caption=f"First filters of each ranking frozen: mean change of accuracy over the numbers of filters, in points, n = {count(result.extra.rankings.n)}, with {result.level:.0%} intervals",
            heads=("Ranked by", *(f"{column.label}, change" for column in result.columns), "Difference of the changes", "Claim"),
            kinds=("text", *_numbers(len(result.columns) + 1), "status"),
            bodies=(rows[:1], rows[1:]) if len(rows) > 1 else (rows,),
        )
    ]


def _numbers(columns: int) -> tuple[CellKind, ...]:
    kinds: list[CellKind] = ["number"] * columns
    return tuple(kinds)


def _cells(point: DropoutPoint) -> tuple[Cell, Cell]:
    change = Cell(points(point.change), interval(point.change_low, point.change_high, points))
    return Cell(percent(point.value), interval(point.low, point.high, percent)), change


def _between(entry: Difference) -> tuple[Cell, Cell]:
    status = Cell(STATUS[entry.claim], kind="status", claim=entry.claim)
    return Cell(points(entry.value), interval(entry.low, entry.high, points)), status


def extremes(result: DropoutResult) -> list[Table]:
    """The highest and the lowest values of each network with half-widths."""
    return [
        Table(
            key=f"values-{column}-{each.end}",
            caption=f"{column_label(result, column)}, values: {each.heading}",
            heads=("Filter", "Value ± half-width", "Gradient estimate", "Samples"),
            kinds=("code", "number", "number", "number"),
            bodies=(
                tuple(
                    (
                        Cell(f"{entry.layer}:{entry.channel}", kind="code"),
                        Cell(plus_minus(entry.value, entry.half_width)),
                        Cell(NONE if entry.screen is None else small(entry.screen)),
                        Cell(count(entry.samples)),
                    )
                    for entry in each.filters
                ),
            ),
        )
        for column, both in result.extra.extremes.items()
        for each in both
        if each.filters
    ]
