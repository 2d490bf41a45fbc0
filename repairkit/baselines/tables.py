"""Tables of a comparison with baselines, which a report of any kind may have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from repairkit.report.document import Block, Bullets, Cell, CellKind, Definitions, Heading, Section, Table, blocks
from repairkit.report.formatting import NONE, STATUS, count, hundredths, interval, percent, points, signed, small
from repairkit.result import Baseline, Claim, Comparison, Result, Selection

LEAD = "Baselines rank the same filters in other ways, with the same constants, objective and attribution images. Rank correlation is taken over the filters with exact marginal contributions, which a gradient estimate had put first. A baseline that needs a number of images gets as many passes as the Shapley values took, or all attribution images if that is fewer. Filters are frozen in the order of each ranking at the same numbers, on test images. The area is the mean height of the ablation curve. Where filters were selected, the same selection ran from the candidates of each ranking. A cheaper ranking got more candidates for its spare passes, as far as selection can spend them. Differences are paired, on the same images, and positive where the Shapley values do better. Each interval holds for one baseline at a time; claims hold for all baselines together."

Form = Callable[[float], str]


def sections(result: Result, *before: Block, lead: str = LEAD) -> list[Section]:
    """The section on baselines, `before` ahead of their tables; none where nothing was compared."""
    if not result.compared:
        return []
    shown: list[Block | str] = [lead, *before]
    for of, comparison in result.compared.items():
        shown += [*([Heading(of)] if of else []), Bullets(comparison.sentences), *tables(comparison, result.level, of)]
    title = "Comparison with other filter rankings"
    return [Section("comparison", title, blocks(*shown, Definitions(descriptions(result.compared))))]


def tables(comparison: Comparison, level: float, of: str = "") -> list[Table]:
    """All of them: agreement and area, curves, choosing from each one's candidates, first filters side by side; `of` the column it is of, where there are several."""
    made = [each for each in comparison.baselines if not each.why_not]
    found = [agreement(comparison, made, level)]
    if len(made[0].points) > 1:
        found.append(curves(comparison, made, level))
    if made[0].selections:
        found.append(selections(made, level))
    if comparison.ranked:
        found.append(ranked(comparison))
    return [_named(table, of) for table in found]


def quoted(compared: Mapping[str, Comparison], level: float) -> list[Table]:
    """What README and recipes show of each: who is ahead by area, and what choosing makes of each one's candidates; nothing where nobody compared."""
    found = []
    for of, comparison in compared.items():
        made = [each for each in comparison.baselines if not each.why_not]
        found += [_named(agreement(comparison, made, level), of), *([_named(selections(made, level), of)] if made[0].selections else [])]
    return found


def key_of(key: str, of: str) -> str:
    """The key of a table or figure that there is one of for each of several columns.

    Example:
        >>> key_of("baselines", "Dropout-trained"), key_of("baselines", "")
        ('baselines-dropout-trained', 'baselines')
    """
    return f"{key}-{re.sub(r'[^a-z0-9]+', '-', of.lower())}" if of else key


def _named(table: Table, of: str) -> Table:
    """The table of one of several columns, which its key and its caption name."""
    return replace(table, key=key_of(table.key, of), caption=f"{of}, {table.caption[0].lower()}{table.caption[1:]}") if of else table


def descriptions(compared: Mapping[str, Comparison]) -> list[tuple[str, str]]:
    """What each baseline is; of those that could not be made, why."""
    what: dict[str, list[str]] = {}
    for of, comparison in compared.items():
        for each in comparison.baselines:
            said = what.setdefault(each.name, [each.what])
            if each.why_not:
                said.append(f"Not compared{f' ({of})' if of else ''}: {each.why_not}.")
    return [(name, " ".join(said)) for name, said in what.items()]


def agreement(comparison: Comparison, made: Sequence[Baseline], level: float) -> Table:
    """What each cost, how far its order is that of the Shapley values, and who is ahead by area."""
    chance = comparison.k / comparison.filters
    rows = tuple(
        (
            Cell(each.name, kind="text"),
            _optional(each.passes, count),
            _optional(each.images, count),
            _optional(each.rank_correlation, lambda value: signed(f"{value:.2f}"), f"{count(each.both)} filters" if each.both else ""),
            _optional(each.overlap, percent),
            _with_interval(each.area, each.area_low, each.area_high, hundredths),
            *_lead(each),
        )
        for each in made
    )
    return Table(
        key="baselines",
        caption=f"Baselines: {comparison.order}; area under the curve of {comparison.metric} "
        f"({'lower' if comparison.lower_is_better else 'higher'} is ahead), n = {comparison.sizes or count(comparison.n)}, with {level:.0%} intervals",
        heads=(
            "Ranking",
            "Passes",
            "Images",
            "Rank correlation",
            f"Of the first {count(comparison.k)} (by chance {percent(chance)})",
            "Area",
            "Shapley ahead by, points",
            "Claim for Shapley",
        ),
        kinds=("text", "number", "number", "number", "number", "number", "number", "status"),
        bodies=((rows[0],), rows[1:]) if len(rows) > 1 else (rows,),
    )


def curves(comparison: Comparison, made: Sequence[Baseline], level: float) -> Table:
    """The curve of each, a column for each number of filters frozen; a last one for the second metric at the end."""
    rows = tuple(
        (
            Cell(each.name, kind="text"),
            *(Cell(hundredths(point.value), interval(point.low, point.high, hundredths)) for point in each.points),
            *((_optional(each.points[-1].beside, hundredths),) if comparison.beside else ()),
        )
        for each in made
    )
    counts = [count(point.filters) for point in made[0].points]
    heads = ("Ranking", *counts, *((f"{count(made[0].points[-1].filters)}: {comparison.beside}",) if comparison.beside else ()))
    numbers: list[CellKind] = ["number"] * (len(heads) - 1)
    return Table(
        key="baseline-curves",
        caption=f"{comparison.metric[0].upper()}{comparison.metric[1:]}, times 100, with so many filters frozen, {comparison.order}, "
        f"n = {comparison.sizes or count(comparison.n)}, with {level:.0%} intervals",
        heads=heads,
        kinds=("text", *numbers),
        bodies=(rows,),
    )


def selections(made: Sequence[Baseline], level: float) -> Table:
    """What the same choosing makes of each one's candidates, a body for each metric."""

    def row(each: Baseline, entry: Selection) -> tuple[Cell, ...]:
        return (
            Cell(each.name, kind="text"),
            _range(each.candidates),
            _range(each.frozen),
            _optional(each.total, count, f"{_optional(each.passes, count).text} + {_optional(each.choosing, count).text}"),
            Cell(percent(entry.before)),
            Cell(percent(entry.value), interval(entry.low, entry.high, percent)),
            Cell(points(entry.change), interval(entry.change_low, entry.change_high, points)),
            *_lead(entry),
        )

    metrics = [entry.metric for entry in made[0].selections]
    return Table(
        key="selections",
        caption=f"The same selection from the candidates of each ranking, test images, with {level:.0%} intervals: "
        + "; then ".join(
            f"{entry.metric} ({'lower' if entry.lower_is_better else 'higher'} is better, n = {count(entry.n)})"
            for entry in made[0].selections
        ),
        heads=(
            "Candidates of",
            "Candidates",
            "Frozen",
            "Passes (values + selection)",
            "Before",
            "After",
            "Change, points",
            "Shapley better by, points",
            "Claim for Shapley",
        ),
        kinds=("text", "number", "number", "number", "number", "number", "number", "number", "status"),
        bodies=tuple(tuple(row(each, each.selections[number]) for each in made if each.selections) for number in range(len(metrics))),
    )


def ranked(comparison: Comparison) -> Table:
    """The first filters of the Shapley values and of another answer, with value and place under both."""
    rows = tuple(
        (
            Cell(f"{entry.layer}:{entry.channel}", kind="code"),
            _optional(entry.rank, count),
            _optional(entry.value, small),
            _optional(entry.other_rank, count),
            _optional(entry.other_value, small),
        )
        for entry in comparison.ranked
    )
    folds = len(comparison.baselines[0].frozen)
    of_fold = f", in the first of {folds} folds" if folds > 1 else ""
    return Table(
        key="ranked",
        caption=f"First filters{of_fold}: Shapley values against {comparison.other} (a dash where a filter has no value; each in its own unit)",
        heads=("Filter", "Place by Shapley value", "Shapley value", "Place by conductance", "Conductance"),
        kinds=("code", "number", "number", "number", "number"),
        bodies=(rows,),
    )


def _range(counts: Sequence[int]) -> Cell:
    """The fewest to the most over folds."""
    return Cell(" to ".join(map(count, dict.fromkeys((min(counts), max(counts)))))) if counts else Cell(NONE)


def _lead(entry: Baseline | Selection) -> tuple[Cell, Cell]:
    return lead_cells(entry.lead, entry.lead_low, entry.lead_high, entry.claim)


def lead_cells(value: float | None, low: float | None, high: float | None, claim: Claim | None) -> tuple[Cell, Cell]:
    """By how much the Shapley values do better, and whether that is claimed; dashes for themselves."""
    said = Cell(NONE, kind="status") if claim is None else Cell(STATUS[claim], kind="status", claim=claim)
    return _with_interval(value, low, high, points), said


def _with_interval(value: float | None, low: float | None, high: float | None, form: Form) -> Cell:
    return Cell(NONE) if value is None or low is None or high is None else Cell(form(value), interval(low, high, form))


def _optional(value: float | None, form: Form, detail: str = "") -> Cell:
    return Cell(NONE) if value is None else Cell(form(value), detail)
