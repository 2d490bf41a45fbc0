"""The report on important filters: sections, tables and charts of a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.baselines import tables as comparison_tables
from repairkit.evaluation.metrics import ACCURACY, OTHERS
from repairkit.experiments import common
from repairkit.experiments.critical.result import CriticalResult
from repairkit.report import charts, tables
from repairkit.report.document import Cell, CellKind, KeyFigure, Part, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, percent, points
from repairkit.result import CurvePoint, Extreme

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

ABLATION = "The filters of highest value are frozen, at the numbers of filters shown. Where a penalty counts against a filter, its value less the penalty ranks it. Beside them stand as many filters drawn at random. All shares are measured on test images, which had no part in attribution. Changes are paired, against the network with nothing frozen."
VALUES = "Every value stands with the half-width of its interval. The list holds only filters whose value was measured by switching them off and on."
LAYERS = "How many of the important filters, which are the filters frozen above, lie in each layer. Layers stand in the order in which the network runs them."
BEFORE_AFTER = "Every share is measured on test images, which had no part in attribution or selection. Beside the repaired class stand the classes that changed measurably and the classes that fell most."
NOT_REPAIRED = "No repair was asked for: the weights are the original ones. For a class, --repair freezes the filters of negative value."
NOTHING_CHANGED = "No weights were changed, so there are no regressions. The ablation tables show what freezing the important filters does to the other classes."
NOT_ABLATED = "No filter was frozen: none has a positive value."
GLOSSARY_METRICS = ("Class recall", "Mean recall of the other classes", "Accuracy")
GLOSSARY_TERMS = (
    "Interval", "Paired difference", "p value over classes", "Claim", "Filter", "Value", "Gradient estimate", "Important filter", "Random filters", "Pass",
)  # fmt: skip
METRICS = {OTHERS: "Mean recall of the other classes", ACCURACY: "Accuracy on all images"}
SERIES = {
    "highest": ("important filters, highest first", plots.SECONDARY),
    "random": ("random filters", plots.BASELINE),
}  # fmt: skip


def sections(result: CriticalResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    by_layer: list[Part] = [LAYERS, layer_table(result)] if result.extra.layers else [NOT_ABLATED]
    repaired: list[Part] = [BEFORE_AFTER, tables.before_after(result)] if result.shares else [NOT_REPAIRED]
    ends = [tables.values(entry, f"values-{entry.end}", _value_caption(entry)) for entry in result.extra.extremes if entry.filters]
    return [
        Section(
            "removal",
            "Ablation of the important filters",
            blocks(ABLATION if result.extra.layers else NOT_ABLATED, *curve_tables(result)),
        ),
        Section("values", "Highest and lowest values", blocks(VALUES, *ends)),
        Section("layers", "Important filters by layer", blocks(*by_layer)),
        Section("before-after", "Repair: before and after", blocks(*repaired, *tables.differences(result))),
        common.worse_section(result) if result.shares else Section("worse", "Regressions", blocks(NOTHING_CHANGED)),
        common.filters_section(result),
        *comparison_tables.sections(result),
        *common.closing_sections(result, figures),
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
    return tables.aggregates(result)


def summary(result: CriticalResult) -> Table:
    """What the command line shows: the repair where there is one, else the first ablation curve."""
    return tables.before_after(result) if result.shares else curve_tables(result)[0]


def quoted(result: CriticalResult) -> list[Table]:
    """What README and recipes show of one run."""
    repaired = [tables.before_after(result)] if result.shares else []
    return [*repaired, *curve_tables(result), *comparison_tables.quoted(result.compared, result.level)]


def design(result: CriticalResult) -> str:
    """On which images, in a few words."""
    return f"{result.extra.images}, {count(result.extra.parts['report'])} of them in the report"


def runs(results: Sequence[CriticalResult]) -> Table:
    """Several classes side by side: what freezing all filters of the ablation changed."""
    rows = []
    for result in results:
        metric = result.extra.curves[0].metric
        curve = _curve(result, "highest", metric)
        ends = (_curve(result, *series) for series in (("highest", metric), ("random", metric), ("highest", OTHERS)))
        changes = [tables.points_cell(*_change(line[-1])) if line else Cell(NONE) for line in ends]
        levels = [tables.estimate_cell(point.value, point.low, point.high) for point in (curve[0], curve[-1])]
        sizes = Cell(count(curve[0].n)), Cell(count(curve[-1].filters))
        rows.append((Cell(metric_label(result, metric), kind="text"), *sizes, *levels, *changes))
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


def curve_tables(result: CriticalResult) -> list[Table]:
    """For each metric the important and the random filters side by side, a row for each number frozen."""
    found = []
    for number, metric in enumerate(dict.fromkeys(point.metric for point in result.extra.curves), start=1):
        pairs = list(zip(_curve(result, "highest", metric), _curve(result, "random", metric), strict=True))
        rows = tuple(
            (Cell(count(highest.filters), kind="text"), *tables.point_cells(highest), *tables.point_cells(random))
            for highest, random in pairs
        )
        caption = f"{metric_label(result, metric)} as filters are frozen, n = {count(pairs[0][0].n)}, with {result.level:.0%} intervals"
        heads = ("Frozen", "Important filters", "Change, points", f"Random, mean of {result.extra.draws}", "Change, points")
        found.append(Table(f"removal-{number}", caption, heads, ("text", "number", "number", "number", "number"), (rows,)))
    return found


def layer_table(result: CriticalResult) -> Table:
    """How many of the important filters lie in each layer."""
    rows = tuple((Cell(entry.layer, kind="code"), Cell(count(entry.critical)), Cell(count(entry.filters))) for entry in result.extra.layers)
    return Table("layers", "Highest filters by layer", ("Layer", "Of the highest", "Filters"), ("code", "number", "number"), (rows,))


def _value_caption(entry: Extreme) -> str:
    penalised = any(valued.price is not None for valued in entry.filters)
    return f"Values{', ranked by value less penalty' if penalised else ''}: {entry.heading}"


def _curve(result: CriticalResult, series: str, metric: str) -> list[CurvePoint]:
    return [point for point in result.extra.curves if (point.series, point.metric) == (series, metric)]


def _change(point: CurvePoint) -> tuple[float, float, float]:
    return point.change, point.change_low, point.change_high


def draw(result: CriticalResult) -> list[Figure]:
    """All charts of the report, in order."""
    histograms = [charts.histogram(entry, f"values-{number}") for number, entry in enumerate(result.histograms, start=1)]
    return [_draw_curves(result), _draw_layers(result), *histograms, *([charts.recall(result)] if result.shares else [])]


def _draw_curves(result: CriticalResult) -> Figure:
    """A panel for each metric: share against the number of frozen filters, with intervals."""
    title = "Ablation curves: the more filters are frozen"
    frozen = max((point.filters for point in result.extra.curves), default=0)
    if not frozen:
        return Figure("removal", title, "Not drawn: no filter was frozen.")
    metrics = list(dict.fromkeys(point.metric for point in result.extra.curves))

    def chart(canvas: Canvas) -> None:
        panels = [
            (metric_label(result, metric), [charts.curve_series(*SERIES[series], _curve(result, series, metric)) for series in SERIES])
            for metric in metrics
        ]
        charts.curve_panels(canvas, panels)

    def last(series: str, metric: str) -> str:
        point = _curve(result, series, metric)[-1]
        return f"{percent(point.value)} ({points(point.change)} points)"

    finding = " ".join(
        f"{metric_label(result, metric)}, {frozen} frozen: {last('highest', metric)} with the important filters, {last('random', metric)} with random ones."
        for metric in metrics
    )
    starts = (f"{metric_label(result, metric).lower()} {percent(_curve(result, 'highest', metric)[0].value)}" for metric in metrics)
    return Figure("removal", title, finding, f"Without frozen filters: {'; '.join(starts)}.", chart, 0.6 + charts.PANEL * len(metrics))


def _draw_layers(result: CriticalResult) -> Figure:
    """A bar for each layer that holds any of the important filters."""
    title, entries = "Highest filters by layer", result.extra.layers
    if not entries:
        return Figure("layers", title, "Not drawn: no filter has a positive value.")

    def chart(canvas: Canvas) -> None:
        plots.plot_bars(canvas.subplots(), [(entry.layer, entry.critical, count(entry.critical)) for entry in entries])

    fullest = max(entries, key=lambda entry: entry.critical)
    total, plural = sum(entry.critical for entry in entries), "s" if len(entries) > 1 else ""
    finding = f"{fullest.layer} holds {fullest.critical} of the {total} highest filters, the most of the {len(entries)} layer{plural} that hold any."
    detail = "; ".join(f"{entry.layer} {entry.critical} of {entry.filters}" for entry in entries) + "."
    return Figure("layers", title, finding, detail, chart, 0.4 + 0.2 * len(entries))
