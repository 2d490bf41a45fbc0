"""What reports on fairness show: sections and tables."""

from __future__ import annotations

from collections.abc import Sequence

from repairkit.alternatives import tables as alternatives_tables
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
from repairkit.experiments.fairness.result import Agreement, FairnessResult
from repairkit.report.document import Cell, CellKind, KeyFigure, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, percent, points, signed
from repairkit.report.tables import aggregates, before_after, claims_worse, column_label, differences, lower_after_repair

DISPARITIES = "How far apart the groups lie. Small differences and a ratio near 1 mean that the groups are served alike, not that they are served well."
GLOSSARY_METRICS = (
    "Recall",
    "Mean recall",
    "Lowest recall",
    "Source accuracy",
    "Difference of recalls",
    "Ratio of recalls",
)
GLOSSARY_TERMS = (
    "Interval",
    "Paired difference",
    "p value, adjusted",
    "Claim",
    "Filter",
    "Value",
    "Gradient estimate",
    "Stability",
    "Threshold moved",
    "Dropout-trained",
    "Pass",
    "Fold",
)


def sections(result: FairnessResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    return [
        Section("before-after", "Before and after", blocks(REPORT_IMAGES, before_after(result), columns(result))),
        worse_section(result, lower_after_repair(result), otherwise="" if claims_worse(result) else NOTHING_WORSE),
        *alternatives_tables.sections(result, alternatives(result)),
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


def key_figures(result: FairnessResult) -> list[KeyFigure]:
    """What stands at the top of the report."""
    return aggregates(result)


def summary(result: FairnessResult) -> Table:
    """What the command line shows."""
    return before_after(result)


def quoted(result: FairnessResult) -> list[Table]:
    """What README and recipes show of one run."""
    instead = alternatives(result)
    return [before_after(result), *([instead] if instead else []), *comparison_tables.quoted(result.compared, result.level)]


def design(result: FairnessResult) -> str:
    """On which images, cut how, in a few words."""
    return f"{result.extra.target}; {result.folds} fold(s)"


def alternatives(result: FairnessResult) -> Table | None:
    """The repair beside what one could do instead; None where nobody asked."""
    wanted: list[tuple[str, str | None, str]] = [("recall", group, group) for group in result.groups]
    return alternatives_tables.table(result, [*wanted, ("mean recall", None, "Mean recall"), ("source accuracy", None, "Source accuracy")])


described = alternatives_tables.described


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
    fold_kind: tuple[CellKind, ...] = ("number",) if folded else ()
    return Table(
        key="rounds",
        caption="What each round froze, and where that led on test images",
        heads=(
            "Round", *(("Fold",) if folded else ()), "Column", "Frozen in it", "Mean recall after it", "Source accuracy after it",
            "Passes", "Selection stopped because",
        ),
        kinds=("text", *fold_kind, "text", "text", "number", "number", "number", "text"),
        bodies=(rows,),
    )  # fmt: skip


def stability(result: FairnessResult) -> Table | None:
    """How many of the same filters two halves of the attribution images name; None where nobody asked."""
    if not result.extra.stability:
        return None
    ks = sorted({overlap.k for entry in result.extra.stability for overlap in entry.overlaps})

    def cell(entry: Agreement, k: int) -> Cell:
        found = next((overlap for overlap in entry.overlaps if overlap.k == k), None)
        if found is None:
            return Cell(NONE)
        folds = f"{interval(found.low, found.high, percent)} over folds, " if result.folds > 1 else ""
        return Cell(percent(found.share), f"{folds}by chance {percent(found.chance).rstrip('%')}")

    rows = tuple(
        (
            Cell(f"{column_label(result, entry.column)}: {'lowest' if entry.end == 'low' else 'highest'} by {entry.by}", kind="text"),
            *(cell(entry, k) for k in ks),
            Cell(NONE if entry.rank_correlation is None else signed(f"{entry.rank_correlation:.2f}")),
        )
        for entry in result.extra.stability
    )
    numbers: list[CellKind] = ["number"] * (len(ks) + 1)
    return Table(
        key="stability",
        caption="Filters that both halves of the attribution images name, of k that each half names",
        heads=("Ranking", *(f"k = {k}" for k in ks), "Rank correlation"),
        kinds=("text", *numbers),
        bodies=(rows,),
    )


def runs(results: Sequence[FairnessResult]) -> Table:
    """Runs of one experiment side by side: what each changed on average, and against the moved threshold."""

    def change(result: FairnessResult, first: str, second: str, metric: str) -> Cell:
        pair = (first, second, metric, None)
        found = next((entry for entry in result.differences if (entry.first, entry.second, entry.metric, entry.group) == pair), None)
        return Cell(NONE) if found is None else Cell(points(found.value), interval(found.low, found.high, points))

    rows = tuple(
        (
            Cell(result.reproduction.command, kind="code"),
            Cell(" and ".join(count(result.share("original", metric).n) for metric in ("mean recall", "source accuracy"))),
            Cell(percent(result.share("original", "mean recall").value)),
            Cell(percent(result.share("repaired", "mean recall").value)),
            change(result, "original", "repaired", "mean recall"),
            change(result, "threshold", "repaired", "mean recall"),
            change(result, "original", "repaired", "lowest recall"),
            change(result, "original", "repaired", "source accuracy"),
        )
        for result in results
    )

    heads = ("n, and of the source", "Mean recall", "Repaired", "Change", "Against moved threshold", "Lowest recall", "Source accuracy")
    numbers: list[CellKind] = ["number"] * len(heads)
    caption = f"Changes in percentage points, with {results[0].level:.0%} intervals"
    return Table("runs", caption, ("Run", *heads), ("code", *numbers), (rows,))
