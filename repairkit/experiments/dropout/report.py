"""The report on filter dropout: sections, tables and charts of a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.baselines import tables as comparison_tables
from repairkit.experiments import common
from repairkit.experiments.dropout.result import DropoutResult, SharedHistogram
from repairkit.report import charts, tables
from repairkit.report.document import Block, Bullets, Cell, CellKind, Heading, KeyFigure, Section, Table, Text, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, STATUS, count, interval, percent, points, small
from repairkit.report.tables import column_label
from repairkit.result import CurvePoint, Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

ACCURACIES = (
    "Accuracy on test images, which had no part in attribution: with nothing frozen, and the mean over the numbers of filters below."
)
WORSE = "What the dropout-trained network does worse than the original. This section is never left out."
NOTHING_WORSE = "Nothing is measurably worse: neither accuracy nor a mean change by freezing is measurably lower. This does not prove that nothing is worse. The intervals say how much could hide."
DIFFERENCES = "The dropout-trained network minus the original, on the same images. A negative change by freezing is a fall. A difference of changes above zero means that the dropout-trained network falls less. The verdict rests on the means over the numbers of filters, which were fixed beforehand."
ABLATION = "Each network has its own highest filters, its own lowest filters and random filters frozen, at the numbers of filters shown. Changes are paired, against the same network with nothing frozen. Differences are the dropout-trained network minus the original. There are several numbers of filters. A claim at one of them therefore needs more than the interval beside it."
VALUES = "Every value stands with the half-width of its interval, from the attribution that sought that end. Values of the two networks have different units, because each has its own objective."
RANKINGS = "In each network the first filters of that network's rankings are frozen. A difference above zero means that the dropout-trained network falls less. Where a ranking costs either network little, there is little to tell apart."
GLOSSARY_METRICS = ("Accuracy", "Accuracy with filters frozen", "Change by freezing", "Difference of the changes")
GLOSSARY_TERMS = (
    "Interval", "Paired difference of two networks", "Claim", "Claim at one number of filters", "Filter", "Value", "Gradient estimate", "Random filters",
    "Dropout-trained", "Pass",
)  # fmt: skip
TITLES = {"highest": "The highest values frozen first", "lowest": "The lowest values frozen first", "random": "Random filters frozen"}
"""Orders of freezing and their headings."""
METRICS = {
    "accuracy": "accuracy, nothing frozen",
    **{f"accuracy, {series} frozen": f"mean accuracy, {series} frozen" for series in TITLES},
    **{f"change, {series} frozen": f"mean change by freezing, {series}" for series in TITLES},
}
KEY_METRICS = ("accuracy", "accuracy, highest frozen", "accuracy, lowest frozen")


def label(metric: str, group: str | None) -> str:
    """What a row is about.

    Example:
        >>> label("change, highest frozen", None), label("accuracy", None)
        ('mean change by freezing, highest', 'accuracy, nothing frozen')
    """
    return METRICS.get(metric, metric) if group is None else f"{metric}, {group}"


def sections(result: DropoutResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    ranked: list[Block] = []
    if result.extra.rankings:
        ranked = [Heading("Does the finding depend on the ranking?"), Text(RANKINGS), Bullets(result.extra.rankings.sentences)]
    ablated = ABLATION if result.groups else "No filter was frozen: none was valued in both networks."
    ends = [
        tables.values(entry, f"values-{column}-{entry.end}", f"{column_label(result, column)}, values: {entry.heading}")
        for column, entries in result.extra.extremes.items()
        for entry in entries
        if entry.filters
    ]
    return [
        Section("accuracies", "Accuracy of both networks", blocks(ACCURACIES, accuracies(result) if result.shares else None)),
        common.worse_section(result, title="Regressions", lead=WORSE, otherwise=NOTHING_WORSE),
        common.differences_section(differences(result), DIFFERENCES),
        Section("removal", "Ablation curves", blocks(ablated, *curve_tables(result))),
        Section("values", "Highest and lowest values", blocks(VALUES, *ends)),
        *comparison_tables.sections(result, *ranked, *rankings(result)),
        *common.closing_sections(result, figures),
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
    means = {entry.metric: entry for entry in result.differences if entry.group is None}
    return [
        tables.key_figure(result, means[metric], f"{METRICS[metric]}, original to dropout-trained")
        for metric in KEY_METRICS
        if metric in means
    ]


def summary(result: DropoutResult) -> Table:
    """What the command line shows: the curves of the highest filters, or accuracy where none was frozen."""
    curves = curve_tables(result)
    return curves[0] if curves else accuracies(result)


def quoted(result: DropoutResult) -> list[Table]:
    """What README and recipes show of one run."""
    return [accuracies(result), *curve_tables(result), *rankings(result), *comparison_tables.quoted(result.compared, result.level)]


def design(result: DropoutResult) -> str:
    """On which images, in a few words."""
    return f"{result.extra.images}, {count(result.extra.parts['report'])} of them in the report"


def runs(results: Sequence[DropoutResult]) -> Table:
    """Several runs side by side: accuracy of both networks with nothing and with the highest filters frozen, and the differences."""

    def cells(result: DropoutResult) -> tuple[Cell, ...]:
        shares = {(share.metric, share.column): share for share in result.shares}
        means = {entry.metric: entry for entry in result.differences if entry.group is None}
        levels = (shares.get((metric, column.key)) for metric in KEY_METRICS[:2] for column in result.columns)
        changes = (means.get(metric) for metric in ("accuracy", "change, highest frozen", "change, lowest frozen"))
        return (
            *map(tables.share_cell, levels),
            *(tables.claim_cells(entry)[0] if entry else Cell(NONE) for entry in changes),
        )

    rows = tuple((Cell(result.title, kind="text"), Cell(count(result.extra.parts["report"])), *cells(result)) for result in results)
    heads = (
        *("Run", "n", "Original", "Dropout-trained", "Original, highest frozen", "Dropout-trained, highest frozen"),
        *("Difference", "Of the change, highest", "Of the change, lowest"),
    )
    caption = f"Filter dropout: accuracy, and dropout-trained minus original in percentage points, with {results[0].level:.0%} intervals"
    return Table("runs", caption, heads, ("text", *_numbers(len(heads) - 1)), (rows,))


def accuracies(result: DropoutResult) -> Table:
    """Accuracy of both networks: with nothing frozen, and the mean over the numbers of filters."""
    table = tables.before_after(result, label)
    return replace(table, caption=f"Accuracy of both networks, with {result.level:.0%} intervals", heads=("Measure", *table.heads[1:]))


def differences(result: DropoutResult) -> list[Table]:
    """The paired differences with nothing frozen and over all numbers of filters."""
    rows = tuple(
        (Cell(label(entry.metric, None), kind="text"), *tables.claim_cells(entry), Cell(count(entry.n)))
        for entry in result.differences
        if entry.group is None
    )
    if not rows:
        return []
    caption = f"{tables.comparison(result, result.differences[0])}, with {result.level:.0%} intervals"
    heads = ("Measure", "Difference, points", "Claim", "n")
    return [Table("difference", caption, heads, ("text", "number", "status", "number"), (rows,))]


def curve_tables(result: DropoutResult) -> list[Table]:
    """For each order of freezing both networks side by side, a row for each number of filters, and how their changes and accuracies differ."""
    at: dict[tuple[str, str, int], CurvePoint] = {(point.series, point.column, point.filters): point for point in result.extra.curves}
    between = {(entry.metric, entry.group): entry for entry in result.differences}
    numbers = list(dict.fromkeys(point.filters for point in result.extra.curves if point.filters))
    columns = [column.key for column in result.columns]
    heads = [head for column in result.columns for head in (column.label, "Change, points")]
    heads += ["Difference of the changes", "Claim", "Difference of accuracy", "Claim"]
    found = []
    for position, (series, title) in enumerate(TITLES.items() if numbers else (), start=1):
        rows = tuple(
            (
                Cell(count(number), kind="text"),
                *(cell for column in columns for cell in tables.point_cells(at[series, column, number])),
                *(cell for metric in ("change", "accuracy") for cell in tables.claim_cells(between[f"{metric}, {series} frozen", group])),
            )
            for number, group in zip(numbers, result.groups, strict=True)
        )
        orders = f", mean of {result.extra.draws} orders" if series == "random" else ""
        caption = f"{title}{orders}: accuracy, n = {count(result.extra.parts['report'])}, with {result.level:.0%} intervals"
        kinds: tuple[CellKind, ...] = ("text", *_numbers(2 * len(columns)), "number", "status", "number", "status")
        found.append(Table(f"removal-{position}", caption, ("Frozen", *heads), kinds, (rows,)))
    return found


def rankings(result: DropoutResult) -> list[Table]:
    """What freezing the first filters of each ranking changes in both networks, and how the changes differ; the Shapley values first."""
    if (ranked := result.extra.rankings) is None:
        return []

    def cell(estimate: Estimate) -> Cell:
        return tables.points_cell(estimate.value, estimate.low, estimate.high)

    rows = tuple(
        (
            Cell(row.name, kind="text"),
            *(cell(row.changes[column.key]) for column in result.columns),
            cell(row.difference),
            Cell(STATUS[row.claim], kind="status", claim=row.claim),
        )
        for row in ranked.rows
    )
    caption = f"First filters of each ranking frozen: mean change of accuracy over the numbers of filters, in points, n = {count(ranked.n)}, with {result.level:.0%} intervals"
    heads = ("Ranked by", *(f"{column.label}, change" for column in result.columns), "Difference of the changes", "Claim")
    bodies = (rows[:1], rows[1:]) if len(rows) > 1 else (rows,)
    return [Table("rankings", caption, heads, ("text", *_numbers(len(result.columns) + 1), "status"), bodies)]


def _numbers(columns: int) -> tuple[CellKind, ...]:
    kinds: list[CellKind] = ["number"] * columns
    return tuple(kinds)


def draw(result: DropoutResult) -> list[Figure]:
    """All charts of the report, in order: the three panels of figure 4 of Ghorbani & Zou 2020, and a control."""
    histograms = [_draw_spread(result, entry, f"spread-{number}") for number, entry in enumerate(result.extra.spreads, start=1)]
    return [*histograms, *(_draw_curves(result, series, title) for series, title in TITLES.items())]


def _draw_curves(result: DropoutResult, series: str, title: str) -> Figure:
    """Accuracy of both networks against the number of frozen filters, with intervals."""
    curves: dict[str, list[CurvePoint]] = {
        column.key: [point for point in result.extra.curves if (point.series, point.column) == (series, column.key)]
        for column in result.columns
    }
    most = max((point.filters for curve in curves.values() for point in curve), default=0)
    if not most:
        return Figure(series, title, "Not drawn: no filter was frozen.")

    def chart(canvas: Canvas) -> None:
        lines = [charts.curve_series(column_label(result, column), plots.style_of(column), curve) for column, curve in curves.items()]
        charts.curve_panels(canvas, [("Accuracy on test images", lines)])

    def last(curve: Sequence[CurvePoint]) -> str:
        return f"{percent(curve[-1].value)} ({points(curve[-1].change)} points)"

    ends = "; ".join(f"{column_label(result, column)} {last(curve)}" for column, curve in curves.items())
    detail = " ".join(
        f"{column_label(result, column)}: {', '.join(f'{point.filters} frozen {percent(point.value)}' for point in curve)}."
        for column, curve in curves.items()
    )
    return Figure(series, title, f"{most} frozen: {ends}.{_mean_difference(result, series)}", detail, chart, 3.0)


def _mean_difference(result: DropoutResult, series: str) -> str:
    entry = next((entry for entry in result.differences if (entry.metric, entry.group) == (f"change, {series} frozen", None)), None)
    if entry is None:
        return ""
    ends = interval(entry.low, entry.high, points)
    return (
        f" Over all numbers of filters the changes differ by {points(entry.value)} points on average "
        f"({ends}; above zero the dropout-trained network falls less)."
    )


def _draw_spread(result: DropoutResult, entry: SharedHistogram, key: str) -> Figure:
    """Outlines of both histograms over the same edges; counts on a log scale where they differ much."""
    title = f"Histograms: {entry.title}"
    if not any(max(counts) for counts in entry.counts.values() if counts):
        return Figure(key, title, "Not drawn: the histograms hold no filters.")

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, charts.column_styles(result))
        axes = canvas.subplots()
        outlines = {column_label(result, key): (plots.style_of(key), counts) for key, counts in entry.counts.items() if counts}
        plots.plot_outlines(axes, entry.edges, outlines)
        axes.set_xlabel("value")
        plots.plain(axes.xaxis)

    return Figure(key, title, " ".join(_reach(result, column, entry) for column in entry.counts), "", chart)


def _reach(result: DropoutResult, column: str, entry: SharedHistogram) -> str:
    """From where to where a network's filters lie, and how many there are, to the width of a bin."""
    counts = entry.counts[column]
    full = [position for position, number in enumerate(counts) if number]
    if not full:
        return f"{column_label(result, column)}: no filters."
    low, high = entry.edges[full[0]], entry.edges[full[-1] + 1]
    return f"{column_label(result, column)}: {count(sum(counts))} filters between {small(low)} and {small(high)}."
