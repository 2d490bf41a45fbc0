"""A result as rows of formatted cells: the one place where numbers become text.

Both views print these tables and add nothing, so they cannot disagree.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from repairkit.result import Claim, Difference, Guaranteed, Result, Share

STATUS: dict[Claim, str] = {"better": "▲ better", "worse": "▼ worse", "no claim": "● no claim"}
OUTCOME_SYMBOL = {
    "repaired": "▲",
    "no better than the threshold": "●",
    "repaired against stored images": "◐",
    "no claim": "●",
    "no repair": "●",
    "guard broken": "▼",
    "cannot be fooled": "●",
    "critical filters found": "▲",
    "measured": "●",
    "less dependent": "▲",
    "more dependent": "▼",
    "pruned": "▲",
    "frozen": "◐",
    "nothing pruned": "●",
}
LOWER_IS_BETTER = frozenset({"gap", "target success"})
REPAIRED = frozenset({"repaired", "dropout_repaired"})
NONE = "—"

Kind = Literal["text", "number", "status", "code"]
Label = Callable[[str, str | None], str]


@dataclass(frozen=True)
class Cell:
    """One formatted cell; `detail` is secondary (an interval), `claim` is set for a status."""

    text: str
    detail: str = ""
    kind: Kind = "number"
    claim: Claim | None = None


@dataclass(frozen=True)
class Table:
    """A table whose first column heads its rows; each body is set apart from the next."""

    key: str
    caption: str
    heads: tuple[str, ...]
    kinds: tuple[Kind, ...]
    bodies: tuple[tuple[tuple[Cell, ...], ...], ...]


@dataclass(frozen=True)
class KeyFigure:
    """One aggregate before and after, with its paired difference."""

    metric: str
    before: str
    after: str
    difference: str
    interval: str
    status: str
    claim: Claim


@cache
def words(kind: str) -> dict[str, Any]:
    """Headings, lead-ins and the glossary of a kind of report, from `templates/words.toml`.

    Of the metrics and terms there, the kind's own, in its order.
    """
    read = tomllib.loads(files("repairkit.report").joinpath("templates/words.toml").read_text(encoding="utf-8"))
    own = read["kinds"][kind]
    glossary = {part: {entry["term"]: entry for entry in read[part]} for part in ("metrics", "terms")}
    return {
        "titles": own["titles"],
        "leads": read["leads"] | own.get("leads", {}),
        "empty": read["empty"] | own.get("empty", {}),
        "comparison": read["comparison"] | own.get("comparison", {}),
        **{part: [glossary[part][term] for term in own[part]] for part in glossary},
    }


def sections(result: Result) -> list[tuple[str, str]]:
    """Key and title of each section of the report, in order; what was not asked for has none."""
    left_out = set() if result.alternatives else {"alternatives"}
    return [(key, title) for key, title in words(result.kind)["titles"].items() if key not in left_out]


def signed(text: str) -> str:
    """A number's text with a true minus sign, and none on a zero.

    Example:
        >>> signed("-0.4"), signed("-0.0"), signed("+0.0")
        ('−0.4', '0.0', '0.0')
    """
    if not text.strip("+-0."):
        return text.lstrip("+-")
    return text.replace("-", "−")


def percent(share: float) -> str:
    """A share in 0 .. 1 as percent.

    Example:
        >>> percent(0.8141)
        '81.4%'
    """
    return signed(f"{share:.1%}")


def listed(numbers: Sequence[object]) -> str:
    """Numbers one after the other.

    Example:
        >>> listed([1, 2, 5]), listed([1])
        ('1, 2 and 5', '1')
    """
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last


def points(difference: float) -> str:
    """A difference of shares in percentage points, always signed, with a second decimal where it would look like none.

    Example:
        >>> points(0.0663), points(-0.004), points(-0.0003), points(0.0)
        ('+6.6', '−0.4', '−0.03', '0.0')
    """
    decimals = 2 if 0.005 <= abs(difference * 100) < 0.05 else 1
    return signed(f"{difference * 100:+.{decimals}f}")


def limit(share: float) -> str:
    """A limit on a share in percentage points, in words.

    Example:
        >>> limit(0.01), limit(0.015)
        ('1 point', '1.5 points')
    """
    number = f"{100 * share:g}"
    return f"{number} point{'' if number == '1' else 's'}"


def interval(low: float, high: float, form: Callable[[float], str]) -> str:
    """Both ends of an interval, without the percent signs.

    Example:
        >>> interval(0.441, 0.617, percent), interval(-0.012, 0.004, points)
        ('44.1 to 61.7', '−1.2 to +0.4')
    """
    return f"{form(low)} to {form(high)}".replace("%", "")


def p_value(p: float | None) -> str:
    """A p value to three decimals; an em dash where there is none.

    Example:
        >>> p_value(0.0421), p_value(2e-7), p_value(None)
        ('0.042', '<0.001', '—')
    """
    if p is None:
        return NONE
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def small(value: float) -> str:
    """A value or a constant with three significant digits.

    Example:
        >>> small(-0.001234), small(0.52)
        ('−0.00123', '0.52')
    """
    return signed(f"{value:.3g}")


def plus_minus(value: float, half_width: float | None) -> str:
    """An estimate and its half-width, both to the second digit of the half-width.

    Example:
        >>> plus_minus(-0.012345, 0.00321), plus_minus(0.5, 0.0), plus_minus(-0.012345, None), plus_minus(-1.4e-8, 2.53e-8)
        ('−0.0123 ± 0.0032', '0.5 ± 0', '−0.0123 ± unknown', '−1.4e−08 ± 2.53e−08')
    """
    if half_width is None:
        return f"{small(value)} ± unknown"
    if half_width < 1e-6:
        return f"{small(value)} ± {small(half_width)}"
    decimals = max(1 - math.floor(math.log10(half_width)), 0)
    return f"{signed(f'{value:.{decimals}f}')} ± {half_width:.{decimals}f}"


def count(number: float) -> str:
    """A whole number with thousands separators.

    Example:
        >>> count(14208.0)
        '14,208'
    """
    return f"{number:,.0f}"


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


def _row_keys(result: Result, entries: Sequence[Share] | Sequence[Difference]) -> list[list[tuple[str, str | None]]]:
    """Keys of group rows, in the result's order of groups, then keys of aggregate rows."""
    keys = list(dict.fromkeys((entry.metric, entry.group) for entry in entries))
    order = {group: position for position, group in enumerate(result.groups)}
    groups = sorted((key for key in keys if key[1] is not None), key=lambda key: order.get(str(key[1]), len(order)))
    return [groups, [key for key in keys if key[1] is None]]


def before_after(result: Result, label: Label = row_label) -> Table:
    """Every share with its interval, columns side by side; `label` names a row by its metric and group."""
    shares = {(entry.metric, entry.group, entry.column): entry for entry in result.shares}

    def cell(entry: Share | None) -> Cell:
        return Cell(NONE) if entry is None else Cell(percent(entry.value), interval(entry.low, entry.high, percent))

    def row(metric: str, group: str | None) -> tuple[Cell, ...]:
        found = [shares.get((metric, group, column.key)) for column in result.columns]
        sizes = dict.fromkeys(count(entry.n) for entry in found if entry is not None)
        return (Cell(label(metric, group), kind="text"), Cell(" / ".join(sizes) or NONE), *map(cell, found))

    bodies = tuple(tuple(row(*key) for key in keys) for keys in _row_keys(result, result.shares) if keys)
    numbers: list[Kind] = ["number"] * len(result.columns)
    return Table(
        key="before-after",
        caption=f"Recall by group and aggregates, with {result.level:.0%} intervals",
        heads=("Group or aggregate", "n", *(column.label for column in result.columns)),
        kinds=("text", "number", *numbers),
        bodies=bodies,
    )


def _difference_cells(entry: Difference) -> tuple[Cell, ...]:
    return (
        Cell(points(entry.value), interval(entry.low, entry.high, points)),
        Cell(STATUS[entry.claim], kind="status", claim=entry.claim),
        Cell(count(entry.n)),
        Cell(p_value(entry.p_value)),
        Cell(p_value(entry.p_adjusted)),
    )


_DIFFERENCE_HEADS = ("Difference, points", "Claim", "n", "p", "p adjusted")
_DIFFERENCE_KINDS: tuple[Kind, ...] = ("number", "status", "number", "number", "number")


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
    caption = f"Everything that a repair made worse, and everything that it lowered without a claim, with {result.level:.0%} intervals"
    return Table("lower", caption, heads, ("text", "text", *_DIFFERENCE_KINDS), bodies) if bodies else None


def claims_worse(result: Result) -> bool:
    """Whether any paired difference of a repair is measurably worse."""
    return any(entry.claim == "worse" and entry.second in REPAIRED for entry in result.differences)


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
    heads = ("Filter", "Column", "Chosen by", "Folds")
    return Table("filters-by-fold", "Filters by how many folds chose them", heads, ("code", "text", "number", "text"), (rows,))


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
    heads = ("Filter", *(("Fold",) if folded else ()), "Column", "Constant", "Value ± half-width", "Screen")
    fold_kind: tuple[Kind, ...] = ("number",) if folded else ()
    kinds: tuple[Kind, ...] = ("code", *fold_kind, "text", "number", "number", "number")
    return Table("filters", "Frozen filters (layer:channel) and what they were frozen at", heads, kinds, (rows,) if rows else ())


def filter_tables(result: Result) -> list[Table]:
    """The tables of frozen filters; none where no filter was frozen."""
    folded = filters_by_fold(result)
    return [*([folded] if folded else []), *([filters(result)] if result.frozen else [])]


def costs(result: Result) -> Table:
    """Image passes and seconds, part by part."""
    rows = tuple(
        (
            Cell(entry.part, kind="text"),
            Cell(count(entry.passes), f"{count(entry.taken)} taken from an earlier run, not in these seconds" if entry.taken else ""),
            Cell(f"{entry.seconds:,.1f}"),
        )
        for entry in result.costs
    )
    return Table(
        "costs", "Cost of each part of the run", ("Part", "Image passes", "Seconds"), ("text", "number", "number"), (rows,) if rows else ()
    )


def method(result: Result) -> list[str]:
    """How the filters were found, a sentence each; then what is guaranteed, if anything."""
    return result.method + [_guarantee(result, entry) for entry in result.guarantees]


def _guarantee(result: Result, entry: Guaranteed) -> str:
    where = f"{column_label(result, entry.column)}{f' in fold {entry.fold}' if entry.fold else ''}{f' in round {entry.round}' if entry.round > 1 else ''}"
    scope = "all" if entry.valued == entry.filters else f"{count(entry.valued)} contested and audited of"
    separated, certified, missed = (
        " and ".join(f"{count(numbers[end])}{of}" for end, of in ends.items() if end in numbers)
        for numbers, ends in (
            (entry.separated, {"low": f" of the {count(entry.top)} lowest", "high": f" of the {count(entry.top)} highest"}),
            (entry.certified, {"low": "", "high": ""}),
            (entry.missed, {"low": " at the low end", "high": " at the high end"}),
        )
    )
    return (
        f"Guarantee for {where}: {separated} are truly separated, and {certified} are right up to a tolerance of {percent(entry.tolerance)} "
        f"of the k-th value, among {scope} {count(entry.filters)} filters{f'; the screen missed at most {missed}' if missed else ''}; "
        f"any of this is wrong with probability {percent(entry.delta)} at most, for these attribution images. "
        f"{'Both ends were decided.' if entry.decided else 'The budget ended it before both ends were decided.'}"
    )


def aggregates(result: Result) -> list[KeyFigure]:
    """The aggregates of "repaired minus original", for the top of the report."""
    return [key_figure(result, entry, entry.metric) for entry in repair_effects(result) if entry.group is None]


def repair_effects(result: Result) -> list[Difference]:
    """The differences of "repaired minus original"."""
    return [entry for entry in result.differences if (entry.first, entry.second) == ("original", "repaired")]


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


def reproduction(result: Result) -> list[tuple[str, list[tuple[str, str]]]]:
    """Named blocks of key and value: run, settings, versions, hashes."""
    block = result.reproduction
    run = [
        ("seed", str(block.seed)),
        ("machine", block.machine),
        ("minutes", f"{block.minutes:.1f}"),
        ("result schema", str(result.schema_version)),
    ]
    named = [
        ("Run", run),
        ("Settings", list(block.settings.items())),
        ("Versions", list(block.versions.items())),
        ("Hashes", list(block.hashes.items())),
    ]
    return [(name, pairs) for name, pairs in named if pairs]
