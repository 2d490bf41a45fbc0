"""Tables and sentences that every kind of report may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repairkit.report.document import Cell, CellKind, KeyFigure, Pairs, Table
from repairkit.report.formatting import NONE, STATUS, count, interval, p_value, percent, plus_minus, points, small
from repairkit.result import CurvePoint, Difference, Extreme, Guaranteed, Result, Share

LOWER_IS_BETTER = frozenset({"gap", "target success"})
REPAIRED = frozenset({"repaired", "dropout_repaired"})

Label = Callable[[str, str | None], str]


def column_label(result: Result, key: str) -> str:
    """The label of a column or of an alternative; its key where the result lists neither."""
    labels = {entry.column: entry.heading for entry in result.alternatives} | {column.key: column.label for column in result.columns}
    return labels.get(key, key)


def row_label(metric: str, group: str | None) -> str:
    """What a row is about: the group for a recall, the metric for an aggregate."""
    if group is None:
        return metric
    return group if metric == "recall" else f"{metric}, {group}"


def comparison(result: Result, entry: Difference) -> str:
    """The two columns of a paired difference, as "second minus first"."""
    return f"{column_label(result, entry.second)} minus {column_label(result, entry.first)}"


def estimate_cell(value: float, low: float, high: float) -> Cell:
    """A share with its interval."""
    return Cell(percent(value), interval(low, high, percent))


def share_cell(entry: Share | None) -> Cell:
    """A share with its interval; a dash where there is none."""
    return Cell(NONE) if entry is None else estimate_cell(entry.value, entry.low, entry.high)


def _row_keys(result: Result, entries: Sequence[Share] | Sequence[Difference]) -> list[list[tuple[str, str | None]]]:
    """Keys of group rows, in the result's order of groups, then keys of aggregate rows."""
    keys = list(dict.fromkeys((entry.metric, entry.group) for entry in entries))
    order = {group: position for position, group in enumerate(result.groups)}
    groups = sorted((key for key in keys if key[1] is not None), key=lambda key: order.get(str(key[1]), len(order)))
    return [groups, [key for key in keys if key[1] is None]]


def before_after(result: Result, label: Label = row_label) -> Table:
    """Every share with its interval, columns side by side; `label` names a row by its metric and group."""
    shares = {(entry.metric, entry.group, entry.column): entry for entry in result.shares}

    def row(metric: str, group: str | None) -> tuple[Cell, ...]:
        found = [shares.get((metric, group, column.key)) for column in result.columns]
        sizes = dict.fromkeys(count(entry.n) for entry in found if entry is not None)
        return (Cell(label(metric, group), kind="text"), Cell(" / ".join(sizes) or NONE), *map(share_cell, found))

    bodies = tuple(tuple(row(*key) for key in keys) for keys in _row_keys(result, result.shares) if keys)
    numbers: list[CellKind] = ["number"] * len(result.columns)
    return Table(
        key="before-after",
        caption=f"Recall by group and aggregates, with {result.level:.0%} intervals",
        heads=("Group or aggregate", "n", *(column.label for column in result.columns)),
        kinds=("text", "number", *numbers),
        bodies=bodies,
    )


def _difference_cells(entry: Difference) -> tuple[Cell, ...]:
    return (
        *claim_cells(entry),
        Cell(count(entry.n)),
        Cell(p_value(entry.p_value)),
        Cell(p_value(entry.p_adjusted)),
    )


_DIFFERENCE_HEADS = ("Difference, points", "Claim", "n", "p", "p adjusted")
_DIFFERENCE_KINDS: tuple[CellKind, ...] = ("number", "status", "number", "number", "number")


def differences(result: Result, label: Label = row_label) -> list[Table]:
    """One table per pair of columns, in the order in which the pairs occur; `label` as for `before_after`."""
    tables: list[Table] = []
    for first, second in dict.fromkeys((entry.first, entry.second) for entry in result.differences):
        entries = {(entry.metric, entry.group): entry for entry in result.differences if (entry.first, entry.second) == (first, second)}
        bodies = tuple(
            tuple((Cell(label(*key), kind="text"), *_difference_cells(entries[key])) for key in keys)
            for keys in _row_keys(result, list(entries.values()))
            if keys
        )
        caption = f"{comparison(result, next(iter(entries.values())))}, with {result.level:.0%} intervals"
        heads = ("Group or aggregate", *_DIFFERENCE_HEADS)
        tables.append(Table(f"difference-{len(tables) + 1}", caption, heads, ("text", *_DIFFERENCE_KINDS), bodies))
    return tables


def lower_after_repair(result: Result, label: Label = row_label) -> Table | None:
    """What a repair made worse: claims first, then what it lowered without a claim; None if there is nothing.

    What is better when lower counts where it rose. `label` as for `before_after`.
    """
    repairs = [entry for entry in result.differences if entry.second in REPAIRED]
    claimed = [entry for entry in repairs if entry.claim == "worse"]
    unclaimed = [
        entry
        for entry in repairs
        if entry.claim == "no claim" and (entry.value > 0 if entry.metric in LOWER_IS_BETTER else entry.value < 0)
    ]
    bodies = tuple(
        tuple(
            (
                Cell(label(entry.metric, entry.group), kind="text"),
                Cell(comparison(result, entry), kind="text"),
                *_difference_cells(entry),
            )
            for entry in entries
        )
        for entries in (claimed, unclaimed)
        if entries
    )
    heads = ("Group or aggregate", "Comparison", *_DIFFERENCE_HEADS)
    caption = f"All that a repair made worse, and all that it lowered inconclusively, with {result.level:.0%} intervals"
    return Table("lower", caption, heads, ("text", "text", *_DIFFERENCE_KINDS), bodies) if bodies else None


def claims_worse(result: Result) -> bool:
    """Whether any paired difference of a repair is measurably worse."""
    return any(entry.claim == "worse" and entry.second in REPAIRED for entry in result.differences)


def points_cell(value: float, low: float, high: float) -> Cell:
    """A change in percentage points with its interval."""
    return Cell(points(value), interval(low, high, points))


def claim_cells(entry: Difference) -> tuple[Cell, Cell]:
    """A paired difference with its interval, and its claim."""
    return points_cell(entry.value, entry.low, entry.high), Cell(STATUS[entry.claim], kind="status", claim=entry.claim)


def point_cells(point: CurvePoint) -> tuple[Cell, Cell]:
    """A point of an ablation curve, and its change against none frozen."""
    change = points_cell(point.change, point.change_low, point.change_high) if point.filters else Cell(NONE)
    return estimate_cell(point.value, point.low, point.high), change


def values(entry: Extreme, key: str, caption: str) -> Table:
    """The filters at one end of the values with half-widths, and the penalty where one counts in the ranking."""
    penalised = any(valued.price is not None for valued in entry.filters)
    rows = tuple(
        (
            Cell(f"{valued.layer}:{valued.channel}", kind="code"),
            Cell(plus_minus(valued.value, valued.half_width)),
            *([Cell(NONE if valued.price is None else small(valued.price))] if penalised else []),
            Cell(NONE if valued.screen is None else small(valued.screen)),
            Cell(count(valued.samples)),
            Cell(valued.status, kind="text"),
        )
        for valued in entry.filters
    )
    penalty: tuple[tuple[str, CellKind], ...] = (("Penalty", "number"),) if penalised else ()
    columns: tuple[tuple[str, CellKind], ...] = (
        ("Filter", "code"), ("Value ± half-width", "number"), *penalty, ("Gradient estimate", "number"), ("Samples", "number"), ("Known to be of this end", "text"),
    )  # fmt: skip
    heads, kinds = zip(*columns, strict=True)
    return Table(key, caption, heads, kinds, (rows,))


def filters_by_fold(result: Result) -> Table | None:
    """Which folds chose each filter, most often chosen first; None without folds."""
    if result.folds < 2 or not result.frozen:
        return None
    chosen: dict[tuple[str, str, int], list[int]] = {}
    for entry in result.frozen:
        chosen.setdefault((entry.column, entry.layer, entry.channel), []).append(entry.fold)
    rows = tuple(
        (
            Cell(f"{layer}:{channel}", kind="code"),
            Cell(column_label(result, column), kind="text"),
            Cell(f"{len(chosen_by)} of {result.folds}"),
            Cell(", ".join(str(fold) for fold in sorted(chosen_by)), kind="text"),
        )
        for (column, layer, channel), chosen_by in sorted(chosen.items(), key=lambda item: -len(item[1]))
    )
    heads = ("Filter", "Column", "Selected by", "Folds")
    return Table("filters-by-fold", "Filters by how many folds selected them", heads, ("code", "text", "number", "text"), (rows,))


def filters(result: Result) -> Table:
    """Every frozen filter with its constant, value and screen, in the order of the result."""
    folded = result.folds > 1
    rows = tuple(
        (
            Cell(f"{entry.layer}:{entry.channel}", kind="code"),
            *((Cell(str(entry.fold)),) if folded else ()),
            Cell(column_label(result, entry.column), kind="text"),
            Cell(small(entry.constant)),
            Cell(plus_minus(entry.value, entry.half_width)),
            Cell(NONE if entry.screen is None else small(entry.screen)),
        )
        for entry in result.frozen
    )
    heads = ("Filter", *(("Fold",) if folded else ()), "Column", "Constant", "Value ± half-width", "Gradient estimate")
    fold_kind: tuple[CellKind, ...] = ("number",) if folded else ()
    kinds: tuple[CellKind, ...] = ("code", *fold_kind, "text", "number", "number", "number")
    return Table("filters", "Frozen filters (layer:channel) and their constants", heads, kinds, (rows,) if rows else ())


def filter_tables(result: Result) -> list[Table]:
    """The tables of frozen filters; none where no filter was frozen."""
    folded = filters_by_fold(result)
    return [*([folded] if folded else []), *([filters(result)] if result.frozen else [])]


def costs(result: Result) -> Table:
    """Passes and seconds, part by part."""
    rows = tuple(
        (
            Cell(entry.part, kind="text"),
            Cell(count(entry.passes), f"{count(entry.taken)} from an earlier run, not in these seconds" if entry.taken else ""),
            Cell(f"{entry.seconds:,.1f}"),
        )
        for entry in result.costs
    )
    return Table(
        "costs", "Cost of each part of the run", ("Part", "Passes", "Seconds"), ("text", "number", "number"), (rows,) if rows else ()
    )


def method(result: Result) -> list[str]:
    """How the filters were found, a sentence each; then what is guaranteed, if anything."""
    return result.method + [_guarantee(result, entry) for entry in result.guarantees]


def _guarantee(result: Result, entry: Guaranteed) -> str:
    where = f"{column_label(result, entry.column)}{f' in fold {entry.fold}' if entry.fold else ''}{f' in round {entry.round}' if entry.round > 1 else ''}"
    scope = "all" if entry.valued == entry.filters else f"{count(entry.valued)} candidates and audited filters of"
    separated, certified, missed = (
        " and ".join(f"{count(numbers[end])}{of}" for end, of in ends.items() if end in numbers)
        for numbers, ends in (
            (entry.separated, {"low": f" of the {count(entry.top)} lowest", "high": f" of the {count(entry.top)} highest"}),
            (entry.certified, {"low": "", "high": ""}),
            (entry.missed, {"low": " at the low end", "high": " at the high end"}),
        )
    )
    return (
        f"Guarantee for {where}, among {scope} {count(entry.filters)} filters: {separated} are truly separated. "
        f"{certified} are right up to a tolerance of {percent(entry.tolerance)} of the k-th value. "
        f"{f'The gradient estimate missed at most {missed}. ' if missed else ''}"
        f"Any of these claims is wrong with probability at most {percent(entry.delta)}, for these attribution images. "
        f"{'Both ends were decided.' if entry.decided else 'The budget ended it before both ends were decided.'}"
    )


def aggregates(result: Result) -> list[KeyFigure]:
    """The aggregates of "repaired minus original", for the top of the report."""
    return [key_figure(result, entry, entry.metric) for entry in repair_effects(result) if entry.group is None]


def repair_effects(result: Result) -> list[Difference]:
    """The differences of "repaired minus original"."""
    return [entry for entry in result.differences if (entry.first, entry.second) == ("original", "repaired")]


def change_cell(result: Result, first: str, second: str, metric: str, group: str | None = None) -> Cell:
    """One paired difference with its interval; an em dash where it was not measured."""
    pair = (first, second, metric, group)
    entry = next((entry for entry in result.differences if (entry.first, entry.second, entry.metric, entry.group) == pair), None)
    return Cell(NONE) if entry is None else Cell(points(entry.value), interval(entry.low, entry.high, points))


def key_figure(result: Result, entry: Difference, metric: str) -> KeyFigure:
    """A paired difference with the shares that it compares, under the name `metric`."""
    before, after = (
        next((s for s in result.shares if (s.column, s.metric, s.group) == (key, entry.metric, entry.group)), None)
        for key in (entry.first, entry.second)
    )
    return KeyFigure(
        metric=metric,
        before=percent(before.value) if before else NONE,
        after=percent(after.value) if after else NONE,
        difference=points(entry.value),
        interval=interval(entry.low, entry.high, points),
        status=STATUS[entry.claim],
        claim=entry.claim,
    )


def reproduction(result: Result) -> list[tuple[str, Pairs]]:
    """Named blocks of key and value: run, settings, versions, hashes."""
    block = result.reproduction
    run = [
        ("seed", str(block.seed)),
        ("machine", block.machine),
        ("minutes", f"{block.minutes:.1f}"),
        ("result schema", str(result.schema_version)),
    ]
    named: list[tuple[str, Pairs]] = [
        ("Run", run),
        ("Settings", list(block.settings.items())),
        ("Versions", list(block.versions.items())),
        ("Hashes", list(block.hashes.items())),
    ]
    return [(name, pairs) for name, pairs in named if pairs]
