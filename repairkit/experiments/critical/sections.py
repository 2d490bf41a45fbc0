"""What reports on critical filters show: sections and tables."""

from __future__ import annotations

from collections.abc import Sequence

from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import closing_sections, filters_section, worse_section
from repairkit.experiments.critical.result import CriticalResult
from repairkit.report.document import Cell, CellKind, KeyFigure, Part, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, percent, plus_minus, points, small
from repairkit.report.tables import aggregates, before_after, differences, point_cells
from repairkit.result import Extreme

REMOVAL = "The filters of highest value are frozen, at the numbers of filters shown. Where a penalty counts against a filter, its value less the penalty ranks it. Beside them stand as many filters drawn at random. All shares are measured on test images, which had no part in attribution. Changes are paired, against the network with nothing frozen."
VALUES = "Every value stands with the half-width of its interval. The list holds only filters whose value was measured by switching them off and on."
LAYERS = "How many of the important filters, which are the filters frozen above, lie in each layer. Layers stand in the order in which the network runs them."
BEFORE_AFTER = "Every share is measured on test images, which had no part in attribution or selection. Beside the repaired class stand the classes that changed measurably and the classes that fell most."
NOT_REPAIRED = "No repair was asked for: the weights are the original ones. For a class, --repair freezes the filters of negative value."
NOTHING_CHANGED = "No weights were changed, so there are no regressions. The ablation tables show what freezing the important filters does to the other classes."
NO_REMOVAL = "No filter was frozen: none has a positive value."
GLOSSARY_METRICS = (
    "Class recall",
    "Mean recall of the other classes",
    "Accuracy",
)
GLOSSARY_TERMS = (
    "Interval",
    "Paired difference",
    "p value over classes",
    "Claim",
    "Filter",
    "Value",
    "Gradient estimate",
    "Important filter",
    "Random filters",
    "Pass",
)


METRICS = {"other classes": "Mean recall of the other classes", "accuracy": "Accuracy on all images"}


def sections(result: CriticalResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    by_layer: list[Part] = [LAYERS, layers(result)] if result.extra.layers else ["No filter has a positive value."]
    repaired: list[Part] = [BEFORE_AFTER, before_after(result)] if result.shares else [NOT_REPAIRED]
    return [
        Section("removal", "Ablation of the important filters", blocks(REMOVAL if result.extra.layers else NO_REMOVAL, *removal(result))),
        Section("values", "Highest and lowest values", blocks(VALUES, *extremes(result))),
        Section("layers", "Important filters by layer", blocks(*by_layer)),
        Section("before-after", "Repair: before and after", blocks(*repaired, *differences(result))),
        worse_section(result) if result.shares else Section("worse", "Regressions", blocks(NOTHING_CHANGED)),
        filters_section(result),
        *comparison_tables.sections(result),
        *closing_sections(result, figures),
    ]


def facts(result: CriticalResult) -> list[tuple[str, str]]:
    """What was asked, on what, and how it was judged."""
    return [
        ("Model", result.model),
        ("Images", result.extra.images),
        ("Asked about", result.objective),
        ("Design", f"one split: {', '.join(f'{count(n)} {part}' for part, n in result.extra.parts.items())}"),
        ("Intervals", f"{result.level:.0%}"),
        ("Date", result.created),
    ]


def key_figures(result: CriticalResult) -> list[KeyFigure]:
    """What stands at the top of the report."""
    return aggregates(result)


def summary(result: CriticalResult) -> Table:
    """What the command line shows: the repair where there is one, else the first removal curve."""
    return before_after(result) if result.shares else removal(result)[0]


def quoted(result: CriticalResult) -> list[Table]:
    """What README and recipes show of one run."""
    return [
        *([before_after(result)] if result.shares else []),
        *removal(result),
        *comparison_tables.quoted(result.compared, result.level),
    ]


def design(result: CriticalResult) -> str:
    """On which images, cut how, in a few words."""
    return f"{result.extra.images}, {count(result.extra.parts['report'])} of them in the report"


def runs(results: Sequence[CriticalResult]) -> Table:
    """Several classes side by side: what freezing all filters of the removal curve changed."""

    def change(result: CriticalResult, series: str, metric: str) -> Cell:
        found = [point for point in result.extra.removal if (point.series, point.metric) == (series, metric)]
        return Cell(points(found[-1].change), interval(found[-1].change_low, found[-1].change_high, points)) if found else Cell(NONE)

    rows = []
    for result in results:
        metric = result.extra.removal[0].metric
        curve = [point for point in result.extra.removal if (point.series, point.metric) == ("critical", metric)]
        rows.append(
            (
                Cell(metric_label(result, metric), kind="text"),
                Cell(count(curve[0].n)),
                Cell(count(curve[-1].filters)),
                *(Cell(percent(point.value), interval(point.low, point.high, percent)) for point in (curve[0], curve[-1])),
                change(result, "critical", metric),
                change(result, "random", metric),
                change(result, "critical", "other classes"),
            )
        )
    heads = (
        "n",
        "Filters frozen",
        "Before",
        "Important filters frozen",
        "Change",
        "As many random ones",
        "Other classes, important filters",
    )
    numbers: list[CellKind] = ["number"] * len(heads)
    caption = f"Ablation of important filters, changes in percentage points, with {results[0].level:.0%} intervals"
    return Table("runs", caption, ("Of", *heads), ("text", *numbers), (tuple(rows),))


def metric_label(result: CriticalResult, metric: str) -> str:
    """What is measured, as a heading."""
    return METRICS.get(metric, f"Recall of {result.extra.subject}")


def removal(result: CriticalResult) -> list[Table]:
    """For each metric the critical and the random filters side by side, a row for each number frozen."""
    tables: list[Table] = []
    for metric in dict.fromkeys(point.metric for point in result.extra.removal):
        found = {(point.series, point.filters): point for point in result.extra.removal if point.metric == metric}
        rows = tuple(
            (
                Cell(count(number), kind="text"),
                *point_cells(found["critical", number]),
                *point_cells(found["random", number]),
            )
            for number in dict.fromkeys(number for _, number in found)
        )
        n = next(iter(found.values())).n
        tables.append(
            Table(
                key=f"removal-{len(tables) + 1}",
                caption=f"{metric_label(result, metric)} as filters are frozen, n = {count(n)}, with {result.level:.0%} intervals",
                heads=("Frozen", "Important filters", "Change, points", f"Random, mean of {result.extra.draws}", "Change, points"),
                kinds=("text", "number", "number", "number", "number"),
                bodies=(rows,),
            )
        )
    return tables


def extremes(result: CriticalResult) -> list[Table]:
    """The highest and the lowest values with half-widths, and what counts against each filter where something does."""
    return [_values(each) for each in result.extra.extremes if each.filters]


def _values(each: Extreme) -> Table:
    priced = any(entry.price is not None for entry in each.filters)
    rows = tuple(
        (
            Cell(f"{entry.layer}:{entry.channel}", kind="code"),
            Cell(plus_minus(entry.value, entry.half_width)),
            *([Cell(NONE if entry.price is None else small(entry.price))] if priced else []),
            Cell(NONE if entry.screen is None else small(entry.screen)),
            Cell(count(entry.samples)),
            Cell(entry.status, kind="text"),
        )
        for entry in each.filters
    )
    price: tuple[tuple[str, CellKind], ...] = (("Penalty", "number"),) if priced else ()
    columns: tuple[tuple[str, CellKind], ...] = (
        ("Filter", "code"), ("Value ± half-width", "number"), *price, ("Gradient estimate", "number"), ("Samples", "number"), ("Known to be of this end", "text"),
    )  # fmt: skip
    return Table(
        key=f"values-{each.end}",
        caption=f"Values{', ranked by value less penalty' if priced else ''}: {each.heading}",
        heads=tuple(head for head, _ in columns),
        kinds=tuple(kind for _, kind in columns),
        bodies=(rows,),
    )


def layers(result: CriticalResult) -> Table:
    """How many of the highest filters lie in each layer."""
    rows = tuple((Cell(entry.layer, kind="code"), Cell(count(entry.critical)), Cell(count(entry.filters))) for entry in result.extra.layers)
    return Table(
        "layers", "Highest filters by layer", ("Layer", "Of the highest", "Filters"), ("code", "number", "number"), (rows,) if rows else ()
    )
