"""What one could do instead of a repair as a table, for every kind of report that has it."""

from __future__ import annotations

from collections.abc import Sequence

from repairkit.report.document import Cell, CellKind, Definitions, Section, Table, blocks
from repairkit.report.formatting import NONE, count, interval, percent
from repairkit.result import Alternative, Result

LEAD = "Alternatives use the same images as the repair and are judged on the same test images. Minutes cover attribution, fitting and selection over all folds, without this evaluation. Paired differences against the repair stand below; where the repair loses, the verdict says so."
AS_IT_WAS = "has no setting that gains within the guard"
"""What the verdict says, after its name, of an alternative that is the network as it was given."""


def table(result: Result, wanted: Sequence[tuple[str, str | None, str]]) -> Table | None:
    """A row for each thing that one could do, the repair among them; None where nobody asked.

    Args:
        result: whose.
        wanted: metric, group and heading of each share that is shown.
    """
    if not result.alternatives:
        return None
    found = {(entry.metric, entry.group, entry.column): entry for entry in result.shares}

    def share(metric: str, group: str | None, column: str) -> Cell:
        entry = found.get((metric, group, column))
        return Cell(NONE) if entry is None else Cell(percent(entry.value), interval(entry.low, entry.high, percent))

    rows = tuple(
        (
            Cell(entry.label, kind="text"),
            *(share(metric, group, entry.column) for metric, group, _ in wanted),
            Cell(NONE if entry.minutes is None else f"{entry.minutes:,.1f}"),
            Cell(_images(entry), kind="text"),
            Cell(NONE if entry.left_out else "yes" if entry.changes_weights else "no", kind="text"),
            Cell(NONE if entry.left_out else "yes" if entry.group_at_run_time else "no", kind="text"),
            Cell(NONE if entry.left_out else "yes" if entry.training_data else "no", kind="text"),
        )
        for entry in result.alternatives
    )
    numbers: list[CellKind] = ["number"] * (len(wanted) + 1)
    heads = (*(head for _, _, head in wanted), "Minutes", "Labelled images", "Other weights?", "Group at run time?", "Training data?")
    caption = f"The repair beside its alternatives, with {result.level:.0%} intervals"
    return Table("alternatives", caption, ("What", *heads), ("text", *numbers, "text", "text", "text", "text"), (rows,))


def sections(result: Result, beside: Table | None) -> list[Section]:
    """The section on alternatives around their table; none where nobody asked."""
    if beside is None:
        return []
    return [Section("alternatives", "Alternatives", blocks(LEAD, beside, Definitions(described(result))))]


def described(result: Result) -> list[tuple[str, str]]:
    """What each of them is, how it was set, and why it was left out where it was."""
    return [(entry.label, _about(entry)) for entry in result.alternatives if entry.column not in ("original", "repaired")]


def _about(entry: Alternative) -> str:
    if entry.left_out:
        return f"{entry.explanation} Left out: {entry.left_out}."
    return f"{entry.explanation} Selected: {entry.chosen}." if entry.chosen else entry.explanation


def _images(entry: Alternative) -> str:
    if entry.training_data:
        return "the training data"
    return NONE if entry.images is None else count(entry.images)
