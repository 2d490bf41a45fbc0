"""Tables that only reports on critical filters have."""

from __future__ import annotations

from collections.abc import Sequence

from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.critical.result import CriticalResult
from repairkit.report.tables import (
    NONE,
    Cell,
    KeyFigure,
    Kind,
    Table,
    aggregates,
    before_after,
    count,
    interval,
    percent,
    plus_minus,
    points,
    small,
)
from repairkit.result import Extreme, RemovalPoint

METRICS = {"other classes": "Mean recall of the other classes", "accuracy": "Accuracy on all images"}


def facts(result: CriticalResult) -> list[tuple[str, str]]:
    """What was asked, on what, and how it was judged."""
    return [
        ("Model", result.model),
        ("Images", result.images),
        ("Asked about", result.objective),
        ("Design", f"one split: {', '.join(f'{count(n)} {part}' for part, n in result.parts.items())}"),
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
    return f"{result.images}, {count(result.parts['report'])} of them in the report"


def runs(results: Sequence[CriticalResult]) -> Table:
    """Several classes side by side: what freezing all filters of the removal curve changed."""

    def change(result: CriticalResult, series: str, metric: str) -> Cell:
        found = [point for point in result.removal if (point.series, point.metric) == (series, metric)]
        return Cell(points(found[-1].change), interval(found[-1].change_low, found[-1].change_high, points)) if found else Cell(NONE)

    rows = []
    for result in results:
        metric = result.removal[0].metric
        curve = [point for point in result.removal if (point.series, point.metric) == ("critical", metric)]
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
    heads = ("n", "Filters frozen", "Before", "Critical filters frozen", "Change", "As many random ones", "Other classes, critical filters")
    numbers: list[Kind] = ["number"] * len(heads)
    caption = f"Removal of critical filters, changes in percentage points, with {results[0].level:.0%} intervals"
    return Table("runs", caption, ("Of", *heads), ("text", *numbers), (tuple(rows),))


def metric_label(result: CriticalResult, metric: str) -> str:
    """What is measured, as a heading."""
    return METRICS.get(metric, f"Recall of {result.subject}")


def removal(result: CriticalResult) -> list[Table]:
    """For each metric the critical and the random filters side by side, a row for each number frozen."""
    tables: list[Table] = []
    for metric in dict.fromkeys(point.metric for point in result.removal):
        found = {(point.series, point.filters): point for point in result.removal if point.metric == metric}
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
                heads=("Frozen", "Critical filters", "Change, points", f"Random, mean of {result.draws}", "Change, points"),
                kinds=("text", "number", "number", "number", "number"),
                bodies=(rows,),
            )
        )
    return tables


def point_cells(point: RemovalPoint) -> tuple[Cell, Cell]:
    """A point of a removal curve, and its change against none frozen."""
    change = Cell(points(point.change), interval(point.change_low, point.change_high, points)) if point.filters else Cell(NONE)
    return Cell(percent(point.value), interval(point.low, point.high, percent)), change


def extremes(result: CriticalResult) -> list[Table]:
    """The highest and the lowest values with half-widths, and what counts against each filter where something does."""
    return [_values(each) for each in result.extremes if each.filters]


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
    price: tuple[tuple[str, Kind], ...] = (("Price", "number"),) if priced else ()
    columns: tuple[tuple[str, Kind], ...] = (
        ("Filter", "code"), ("Value ± half-width", "number"), *price, ("Screen", "number"), ("Samples", "number"), ("Known to be of this end", "text"),
    )  # fmt: skip
    return Table(
        key=f"values-{each.end}",
        caption=f"Values{', ranked by value less price' if priced else ''}: {each.heading}",
        heads=tuple(head for head, _ in columns),
        kinds=tuple(kind for _, kind in columns),
        bodies=(rows,),
    )


def layers(result: CriticalResult) -> Table:
    """How many of the highest filters lie in each layer."""
    rows = tuple((Cell(entry.layer, kind="code"), Cell(count(entry.critical)), Cell(count(entry.filters))) for entry in result.layers)
    return Table(
        "layers", "Highest filters by layer", ("Layer", "Of the highest", "Filters"), ("code", "number", "number"), (rows,) if rows else ()
    )
