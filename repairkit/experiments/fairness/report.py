"""The result of a fairness repair, and its report: tables, figures and sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from repairkit import plots
from repairkit.alternatives import report as alternatives_report
from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import (
    NOTHING_WORSE,
    REPORT_IMAGES,
    closing_sections,
    columns,
    differences_section,
    filters_section,
    worse_section,
)
from repairkit.report import charts
from repairkit.report.document import Cell, CellKind, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, percent, points, signed
from repairkit.report.tables import before_after, change_cell, claims_worse, column_label, differences, lower_after_repair
from repairkit.result import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

DISPARITIES = "How far apart the groups lie. Small differences and a ratio near 1 mean that the groups are served alike, not that they are served well."
GLOSSARY_METRICS = ("Recall", "Mean recall", "Lowest recall", "Source accuracy", "Difference of recalls", "Ratio of recalls")
GLOSSARY_TERMS = (
    "Interval", "Paired difference", "p value, adjusted", "Claim", "Filter", "Value", "Gradient estimate", "Stability", "Threshold moved",
    "Dropout-trained", "Pass", "Fold",
)  # fmt: skip


class Disparity(Record):
    """fairlearn's `MetricFrame` over the subgroups, for one column."""

    column: str
    difference: float  # highest minus lowest recall
    ratio: float  # lowest over highest recall
    lowest_group: str


class CurvePoint(Record):
    """A point of the ablation curve, or of the threshold's trade-off; means over folds, on test images."""

    series: str  # "repaired", "most negative first" or "threshold"
    filters: int
    mean_recall: float
    source_accuracy: float
    chosen: bool = False  # True at the number of filters (or the threshold) that was selected


class FrozenRound(Record):
    """What one of several rounds froze, and where that led on test images."""

    column: str  # "repaired" or "dropout_repaired"
    fold: int  # 0 when there are no folds
    round: int
    filters: list[str]  # "layer:channel", in the order of selection
    stopped: str  # why selection stopped
    passes: float  # image passes of attribution and selection
    mean_recall: float | None  # after the round; None where it was not measured
    source_accuracy: float | None


class Overlap(Record):
    """Of k filters that each half of the attribution images names, the share that both name; over folds."""

    k: int
    share: float  # mean over the folds
    low: float  # least and greatest over the folds
    high: float
    chance: float  # expected of two halves that name k filters at random


class Agreement(Record):
    """How far two disjoint halves of the attribution images, at half the budget each, rank the filters alike."""

    column: str  # "repaired" or "dropout_repaired"
    by: Literal["value", "screen"]  # values of filters that both halves measured, or gradient estimates of all filters
    end: Literal["low", "high"]  # which end of the ranking
    rank_correlation: float | None  # Spearman's, mean over the folds; of the filters that both halves ranked
    overlaps: list[Overlap]


class FairnessExtra(Record):
    """What a fairness repair alone measures."""

    target: str
    source: str
    disparities: list[Disparity]
    curves: list[CurvePoint]
    stability: list[Agreement] = Field(default_factory=list)  # empty unless it was asked for
    rounds: list[FrozenRound] = Field(default_factory=list)  # empty unless there could be several


FairnessResult = Result[FairnessExtra]


def sections(result: FairnessResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    return [
        Section("before-after", "Before and after", blocks(REPORT_IMAGES, before_after(result), columns(result))),
        worse_section(result, lower_after_repair(result), otherwise="" if claims_worse(result) else NOTHING_WORSE),
        *alternatives_report.sections(result, alternatives(result)),
        differences_section(differences(result)),
        Section(
            "disparities",
            "Disparities between groups",
            blocks(*([DISPARITIES, disparities(result)] if result.extra.disparities else ["No disparities were recorded."])),
        ),
        filters_section(result),
        *comparison_tables.sections(result),
        *closing_sections(result, figures, rounds(result), stability(result)),
    ]


def facts(result: FairnessResult) -> list[tuple[str, str]]:
    """What was repaired, on what, and how it was judged."""
    return [
        ("Model", result.model),
        ("Target data", result.extra.target),
        ("Source data", result.extra.source),
        ("Filters ranked by", result.objective),
        ("Design", f"{result.folds} folds, every target image is a test image once" if result.folds > 1 else "one split, no folds"),
        ("Intervals", f"{result.level:.0%}"),
        ("Date", result.created),
    ]


def quoted(result: FairnessResult) -> list[Table]:
    """What README and recipes show of one run."""
    table = alternatives(result)
    return [before_after(result), *([table] if table else []), *comparison_tables.quoted(result.compared, result.level)]


def design(result: FairnessResult) -> str:
    """On which images, split how, in a few words."""
    return f"{result.extra.target}; {result.folds} fold(s)"


def alternatives(result: FairnessResult) -> Table | None:
    """The repair beside its alternatives; None where there are none."""
    wanted: list[tuple[str, str | None, str]] = [("recall", group, group) for group in result.groups]
    return alternatives_report.table(result, [*wanted, ("mean recall", None, "Mean recall"), ("source accuracy", None, "Source accuracy")])


def disparities(result: FairnessResult) -> Table:
    """Highest minus lowest recall, their ratio and the lowest group, for every column."""
    rows = tuple(
        (
            Cell(column_label(result, entry.column), kind="text"),
            Cell(points(entry.difference).lstrip("+")),
            Cell(f"{entry.ratio:.2f}"),
            Cell(entry.lowest_group, kind="text"),
        )
        for entry in result.extra.disparities
    )
    heads = ("Column", "Difference, points", "Ratio", "Lowest group")
    return Table("disparities", "Spread of recall over the groups", heads, ("text", "number", "number", "text"), (rows,) if rows else ())


def rounds(result: FairnessResult) -> Table | None:
    """What each round froze, what that cost and where it led; None where there was to be one round alone."""
    if not result.extra.rounds:
        return None
    folded = result.folds > 1
    rows = tuple(
        (
            Cell(f"round {entry.round}", kind="text"),
            *((Cell(str(entry.fold)),) if folded else ()),
            Cell(column_label(result, entry.column), kind="text"),
            Cell(", ".join(entry.filters) or NONE, kind="text"),
            Cell(NONE if entry.mean_recall is None else percent(entry.mean_recall)),
            Cell(NONE if entry.source_accuracy is None else percent(entry.source_accuracy)),
            Cell(count(entry.passes)),
            Cell(entry.stopped, kind="text"),
        )
        for entry in result.extra.rounds
    )
    fold_head, fold_kind = (("Fold",), ("number",)) if folded else ((), ())
    heads = (
        "Round", *fold_head, "Column", "Frozen in it", "Mean recall after it", "Source accuracy after it", "Passes",
        "Selection stopped because",
    )  # fmt: skip
    kinds: tuple[CellKind, ...] = ("text", *fold_kind, "text", "text", "number", "number", "number", "text")
    return Table("rounds", "What each round froze, and where that led on test images", heads, kinds, (rows,))


def stability(result: FairnessResult) -> Table | None:
    """How many of the same filters two halves of the attribution images name; None where nobody asked."""
    if not result.extra.stability:
        return None
    ks = sorted({overlap.k for entry in result.extra.stability for overlap in entry.overlaps})

    def cell(entry: Agreement, k: int) -> Cell:
        overlap = next((overlap for overlap in entry.overlaps if overlap.k == k), None)
        if overlap is None:
            return Cell(NONE)
        folds = f"{interval(overlap.low, overlap.high, percent)} over folds, " if result.folds > 1 else ""
        return Cell(percent(overlap.share), f"{folds}by chance {percent(overlap.chance).rstrip('%')}")

    rows = tuple(
        (
            Cell(f"{column_label(result, entry.column)}: {'lowest' if entry.end == 'low' else 'highest'} by {entry.by}", kind="text"),
            *(cell(entry, k) for k in ks),
            Cell(NONE if entry.rank_correlation is None else signed(f"{entry.rank_correlation:.2f}")),
        )
        for entry in result.extra.stability
    )
    numbers: list[CellKind] = ["number"] * (len(ks) + 1)
    heads = ("Ranking", *(f"k = {k}" for k in ks), "Rank correlation")
    return Table(
        "stability",
        "Filters that both halves of the attribution images name, of k that each half names",
        heads,
        ("text", *numbers),
        (rows,),
    )


def runs(results: Sequence[FairnessResult]) -> Table:
    """Runs of one experiment side by side: what each changed on average, and against the moved threshold."""
    rows = tuple(
        (
            Cell(result.reproduction.command, kind="code"),
            Cell(" and ".join(count(result.share("original", metric).n) for metric in ("mean recall", "source accuracy"))),
            Cell(percent(result.share("original", "mean recall").value)),
            Cell(percent(result.share("repaired", "mean recall").value)),
            change_cell(result, "original", "repaired", "mean recall"),
            change_cell(result, "threshold", "repaired", "mean recall"),
            change_cell(result, "original", "repaired", "lowest recall"),
            change_cell(result, "original", "repaired", "source accuracy"),
        )
        for result in results
    )
    heads = ("n, and of the source", "Mean recall", "Repaired", "Change", "Against moved threshold", "Lowest recall", "Source accuracy")
    numbers: list[CellKind] = ["number"] * len(heads)
    caption = f"Changes in percentage points, with {results[0].level:.0%} intervals"
    return Table("runs", caption, ("Run", *heads), ("code", *numbers), (rows,))


def draw(result: FairnessResult) -> list[Figure]:
    """All figures of a fairness report, in order."""
    histograms = [charts.histogram(entry, "values" if i == 0 else f"values-{i + 1}") for i, entry in enumerate(result.histograms)]
    if not histograms:
        histograms = [Figure("values", "Values of filters", "Not drawn: the run recorded no histogram of values.")]
    return [charts.recall(result), _ablation(result), *histograms, _trade_off(result)]


def _by_series(result: FairnessResult) -> dict[str, list[CurvePoint]]:
    series: dict[str, list[CurvePoint]] = {}
    for point in sorted(result.extra.curves, key=lambda point: point.filters):
        series.setdefault(point.series, []).append(point)
    return {name: series[name] for name in dict.fromkeys(point.series for point in result.extra.curves)}


def _ablation(result: FairnessResult) -> Figure:
    """Mean recall and source accuracy against the number of frozen filters."""
    title = "Removal curve: filters frozen one by one"
    curves = {name: curve for name, curve in _by_series(result).items() if len({point.filters for point in curve}) > 1}
    if not curves:
        return Figure("removal", title, "Not drawn: the run recorded no removal curve, because no filter was tried.")
    chosen = next((point for curve in curves.values() for point in curve if point.chosen), None)
    folds = result.folds > 1

    def series(metric: str) -> list[plots.Series]:
        return [
            plots.Series(
                column_label(result, name),
                plots.style_of(name),
                [point.filters for point in curve],
                [plots.Interval(value, value, value) for value in (getattr(point, metric) for point in curve)],
            )
            for name, curve in curves.items()
        ]

    def chart(canvas: Canvas) -> None:
        panels = [("Mean recall", series("mean_recall")), ("Source accuracy", series("source_accuracy"))]
        label = "most filters frozen in a fold" if folds else "number of frozen filters"
        charts.curve_panels(canvas, panels, chosen=chosen.filters if chosen else None, label=label, whole_scale=False)

    means = f" (means over {result.folds} folds)" if folds else ""
    finding = f"No number of frozen filters was chosen{means}."
    if chosen:
        finding = f"Before, {_state(curves[chosen.series][0])}; as chosen, {_state(chosen)}{means}."
    detail = " ".join(
        f"{column_label(result, name)}: {'; '.join(_state_at(curve[end], 'up to ' if folds else '') for end in (0, -1))}."
        for name, curve in curves.items()
    )
    return Figure("removal", title, finding, detail, chart, 0.6 + 2 * charts.PANEL)


def _state_at(point: CurvePoint, most: str) -> str:
    return f"with {most if point.filters else ''}{point.filters} frozen, {_state(point)}"


def _state(point: CurvePoint) -> str:
    return f"mean recall is {percent(point.mean_recall)} and source accuracy {percent(point.source_accuracy)}"


def _trade_off(result: FairnessResult) -> Figure:
    """Mean recall against source accuracy: every column with its intervals, and the curves between them."""
    title = "Trade-off: mean recall against source accuracy"
    shares = {(s.metric, s.column): plots.Interval(s.value, s.low, s.high) for s in result.shares if s.group is None}
    keys = [c.key for c in result.columns if ("mean recall", c.key) in shares and ("source accuracy", c.key) in shares]
    pairs = {key: (shares["source accuracy", key], shares["mean recall", key]) for key in keys}
    if not pairs:
        return Figure("tradeoff", title, "Not drawn: the run recorded no mean recall with a source accuracy.")
    curves = _by_series(result)

    def track(name: str) -> plots.Track:
        # the threshold as selected is a column, and comes after those tried
        tried = [(p.source_accuracy, p.mean_recall) for p in curves.get(name, []) if p.filters or not p.chosen]
        return plots.Track(column_label(result, name), plots.style_of(name), tried, [pairs[name]] if name in pairs else [])

    def chart(canvas: Canvas) -> None:
        tracks = [track(name) for name in dict.fromkeys([*curves, *pairs])]
        plots.add_legend(canvas, [(entry.label, entry.style) for entry in tracks])
        axes = canvas.subplots()
        plots.plot_trade_off(axes, tracks, zoom=True)
        axes.set(xlabel="source accuracy", ylabel="mean recall")
        axes.set_title("better ↗", loc="right", weight="normal", color=plots.MUTED)

    numbers = "; ".join(
        f"{column_label(result, key)} {percent(recall.value)} at {percent(source.value)}" for key, (source, recall) in pairs.items()
    )
    finding = charts.repair_effect(result, groups=False) or charts.NOT_COMPARED
    return Figure("tradeoff", title, finding, f"Mean recall at source accuracy: {numbers}.", chart, 3.6)
