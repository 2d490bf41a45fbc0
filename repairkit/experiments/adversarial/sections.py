"""What reports on adversarial repairs show: sections and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from repairkit.alternatives import report as alternatives_report
from repairkit.attacks.words import CLEAN, RECOVERED, SUCCESS, eps_text
from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.adversarial.result import AdversarialResult, Adversary, FrontierPoint, Strength
from repairkit.experiments.common import NOTHING_WORSE, closing_sections, columns, differences_section, filters_section, worse_section
from repairkit.report import tables
from repairkit.report.document import Bullets, Cell, CellKind, Definitions, Heading, KeyFigure, Part, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, p_value, percent, points, signed
from repairkit.report.tables import column_label
from repairkit.result import Share

ADVERSARIES = "A repair that helps against replayed images may be worth nothing against an attack on the repaired network itself. So every threat model has a row of its own, the weakest first. The attacked network is the one at the head of the column, unless the images were made against another network. All shares are measured on test images, which had no part in attribution or selection. A dash has two causes: the attack has no target class, or its images were made against the network of that column."
DIFFERENCES = "Both columns are judged on the same images. For target success lower is better, so a fall is ▲ better. A claim needs an interval that excludes zero. For a single threat model it needs an adjusted p value as well."
FRONTIER = "What freezing more filters would have done to replayed and to clean images. One order is the order of selection, the other is the paper's, the highest value first. The images are test images, so nothing was selected on them."
STRENGTH = "PGD runs anew on each network within smaller and larger bounds. At the bound used in attribution it may succeed on every network. The smallest bound that suffices can still tell the networks apart."
SANITY = "Failures of an attack count only if the attack works. On each network its success must rise with eps and with its steps. An attack without bound must always succeed, and gradients must not vanish:"
FROZEN = "A frozen filter outputs one constant, whatever the image. A filter may be frozen only if its value was measured by switching it off and on. Here a positive value marks a harmful filter."
CORRELATION = "A correlation of 1 would mean that attacks need the very filters that accuracy needs. No filter could then be frozen for free. The paper reports about 0.3. The correlation has no interval here: filters are no random sample, and each value was measured once. Recipes of correlation measure each value twice."
NOT_REPAIRED = "There are no paired differences, because there was no repaired network to compare with the original."
NO_STRENGTH = "No adaptive attack ran, so nothing is known about how large a change it takes."
GLOSSARY_METRICS = (
    "Target success",
    "Recovered label",
    "Clean accuracy",
    "Median minimal eps",
    "Noise",
    "Replay",
    "Transfer",
    "Query-based black box",
    "Adaptive white box",
    "Worst of the attacks run afresh",
    "Gradient masking",
)
GLOSSARY_TERMS = (
    "Interval",
    "Paired difference",
    "p value over adversaries",
    "Claim",
    "eps",
    "Filter",
    "Value of a filter",
    "Gradient estimate",
    "Trade-off curve",
    "Sign test of minimal eps",
    "Rank correlation",
    "Dropout-trained",
    "Pass",
)


KNOWS = {
    "noise": "nothing",
    "replay": "the original network",
    "transfer": "the network its images were made on",
    "black box": "answers of the attacked network",
    "adaptive": "all of the attacked network",
    "worst": "as above; the best attack counts",
}
"""What the attacker of each threat model knows, in the order in which they are shown: from the weakest."""
SERIES = ("order of choosing", "highest value first")


def sections(result: AdversarialResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    by_adversary: list[Part] = [ADVERSARIES, *adversaries(result), Heading("The attacks"), Definitions(descriptions(result))]
    networks: list[Part] = [Heading("The networks"), columns(result)] if result.columns else []
    sought = [FRONTIER, frontier(result)] if result.extra.frontier else ["No filter was tried, so there is no trade-off curve."]
    related = f"{correlation(result)} {CORRELATION}" if result.extra.correlation else ""
    return [
        Section(
            "adversaries",
            "Threat models",
            blocks(*(by_adversary if result.extra.adversaries else ["No attack was tried."]), *networks),
        ),
        worse_section(result, lower_after_repair(result), otherwise=_nothing_worse(result)),
        *alternatives_report.sections(result, alternatives(result)),
        differences_section(differences(result), DIFFERENCES, NOT_REPAIRED),
        Section("frontier", "How many filters to freeze", blocks(*sought)),
        _strength_section(result),
        filters_section(result, related, lead=FROZEN),
        *comparison_tables.sections(result),
        *closing_sections(result, figures, otherwise="No filter was valued."),
    ]


def _nothing_worse(result: AdversarialResult) -> str:
    if not result.frozen:
        return "No filter was frozen, so there are no regressions."
    return "" if tables.claims_worse(result) else NOTHING_WORSE


def _strength_section(result: AdversarialResult) -> Section:
    measured = blocks(STRENGTH, strengths(result)) if result.extra.strengths else blocks(NO_STRENGTH)
    checks = blocks(SANITY, Bullets(sanity(result))) if result.extra.strengths else []
    return Section("strength", "How large a change it takes", [*measured, *blocks(sweep(result) if result.extra.sweep else None), *checks])


def facts(result: AdversarialResult) -> list[tuple[str, str]]:
    """What was repaired, against what, on which images, and how it was judged."""
    return [
        ("Model", result.model),
        ("Images", result.extra.images),
        ("Attack", result.extra.attack),
        ("Filters ranked by", result.objective),
        *((f"Part: {part}", what) for part, what in result.extra.parts.items()),
        ("Intervals", f"{result.level:.0%}"),
        ("Date", result.created),
    ]


def key_figures(result: AdversarialResult) -> list[KeyFigure]:
    """Replayed success, clean accuracy, and the label recovered from the worst of the attacks run afresh."""
    keys = {kind: next((entry.key for entry in result.extra.adversaries if entry.kind == kind), None) for kind in ("replay", "worst")}
    names = {
        (SUCCESS, keys["replay"]): "target success, replayed images (lower is better)",
        (CLEAN, None): CLEAN,
        (RECOVERED, keys["worst"]): "recovered label, worst of the adaptive attacks",
    }
    effects = {(entry.metric, entry.group): entry for entry in tables.repair_effects(result)}
    return [tables.key_figure(result, effects[key], name) for key, name in names.items() if key in effects]


def summary(result: AdversarialResult) -> Table:
    """What the command line shows: both measures of each adversary and clean accuracy, columns side by side."""
    table = tables.before_after(result, _labels(result))
    caption = f"By threat model, with {result.level:.0%} intervals (target success: lower is better; recovered label: higher)"
    return replace(table, caption=caption, heads=("Threat model and measure", *table.heads[1:]))


def quoted(result: AdversarialResult) -> list[Table]:
    """What README and recipes show of one run."""
    instead = alternatives(result)
    return [*adversaries(result), *([instead] if instead else []), *comparison_tables.quoted(result.compared, result.level)]


def runs(results: Sequence[AdversarialResult]) -> Table:
    """Several runs side by side: how many filters, and what became of stored images, of the worst of the attacks afresh and of clean images.

    With filters trained beside, the row is of both, and a row below it of training alone.
    """

    def row(result: AdversarialResult, column: str, name: Cell, *, filters: int) -> tuple[Cell, ...]:
        effects = {(e.metric, e.group): e for e in result.differences if (e.first, e.second) == ("original", column)}

        def change(metric: str, group: str | None) -> Cell:
            found = effects.get((metric, group))
            return Cell(NONE) if found is None else Cell(points(found.value), interval(found.low, found.high, points))

        stored = [share for share in result.shares if (share.metric, share.group) == (SUCCESS, "replay")]
        asked = ((SUCCESS, "replay"), (RECOVERED, "worst"), (CLEAN, None))
        sizes = [next((count(s.n) for s in result.shares if (s.metric, s.group) == each), NONE) for each in asked]
        return (
            name,
            Cell(count(filters)),
            Cell(", ".join(sizes)),
            *(Cell(next((percent(s.value) for s in stored if s.column == key), NONE)) for key in ("original", column)),
            change(SUCCESS, "replay"),
            change(RECOVERED, "replay"),
            change(RECOVERED, "worst"),
            change(CLEAN, None),
        )

    rows: list[tuple[Cell, ...]] = []
    for result in results:
        rows.append(row(result, "repaired", Cell(result.reproduction.command, kind="code"), filters=len(result.frozen)))
        if any(column.key == "finetuned" for column in result.columns):
            rows.append(row(result, "finetuned", Cell(f"{column_label(result, 'finetuned')}, in that run", kind="text"), filters=0))
    heads = (
        "Filters frozen",
        "n: replayed, adaptive, clean",
        "Target success, replayed images",
        "Afterwards",
        "Change",
        "Recovered label, replayed images",
        "Recovered label, worst of the adaptive attacks",
        "Clean accuracy",
    )
    numbers: list[CellKind] = ["number"] * len(heads)
    caption = f"Changes in percentage points, with {results[0].level:.0%} intervals"
    return Table("runs", caption, ("Run", *heads), ("code", *numbers), (tuple(rows),))


def alternatives(result: AdversarialResult) -> Table | None:
    """The repair beside what one could do instead, against the stored images and the worst of the attacks afresh; None where nobody asked."""
    wanted: list[tuple[str, str | None, str]] = [
        (SUCCESS, "replay", "Target success, replayed images (lower is better)"),
        (RECOVERED, "replay", "Recovered label, replayed images"),
        (RECOVERED, "worst", "Recovered label, worst of the adaptive attacks"),
        (CLEAN, None, "Clean accuracy"),
    ]
    return alternatives_report.table(result, wanted)


described = alternatives_report.described


def design(result: AdversarialResult) -> str:
    """On which images, attacked how, in a few words."""
    return f"{result.extra.images}; {result.extra.attack}"


def from_weakest(result: AdversarialResult) -> list[Adversary]:
    """The adversaries by kind, from the weakest; within a kind as the result has them."""
    return sorted(result.extra.adversaries, key=lambda entry: list(KNOWS).index(entry.kind))


def adversaries(result: AdversarialResult) -> list[Table]:
    """A row for each threat model, columns side by side: how often it reaches its target, and how often the label survives it."""
    found = {(entry.metric, entry.group, entry.column): entry for entry in result.shares}

    def row(metric: str, group: str | None, name: str, knows: str, n: int) -> tuple[Cell, ...]:
        shares = (found.get((metric, group, column.key)) for column in result.columns)
        return (Cell(name, kind="text"), Cell(count(n)), *map(_share_cell, shares), Cell(knows, kind="text"))

    sizes = [entry.n for entry in result.shares if entry.metric == CLEAN]
    clean = (row(CLEAN, None, "Clean images", "(no attack)", sizes[0]),) if sizes else ()
    numbers: list[CellKind] = ["number"] * len(result.columns)
    return [
        Table(
            key=key,
            caption=f"{caption}, with {result.level:.0%} intervals",
            heads=("Threat model", "n", *(column.label for column in result.columns), "Knows"),
            kinds=("text", "number", *numbers, "text"),
            bodies=tuple(body for body in (first, rows) if body),
        )
        for key, metric, caption, first in (
            ("target-success", SUCCESS, "Target success (lower is better)", ()),
            ("recovered-label", RECOVERED, "Recovered label, and accuracy on clean images (higher is better)", clean),
        )
        if (rows := tuple(row(metric, entry.key, entry.title, KNOWS[entry.kind], entry.n) for entry in from_weakest(result)))
    ]


def _share_cell(entry: Share | None) -> Cell:
    return Cell(NONE) if entry is None else Cell(percent(entry.value), interval(entry.low, entry.high, percent))


def descriptions(result: AdversarialResult) -> list[tuple[str, str]]:
    """Each adversary's title, and what it does and costs."""
    return [(entry.title, f"{entry.description.rstrip('.')}; {count(entry.passes)} passes.") for entry in from_weakest(result)]


def _labels(result: AdversarialResult) -> tables.Label:
    titles = {entry.key: entry.title for entry in result.extra.adversaries}
    return lambda metric, group: metric if group is None else f"{titles.get(group, group)}: {metric}"


def differences(result: AdversarialResult) -> list[Table]:
    """A table for each pair of columns, both measures of an adversary below each other."""
    found = tables.differences(result, _labels(result))
    return [replace(table, heads=("Threat model and measure", *table.heads[1:])) for table in found]


def lower_after_repair(result: AdversarialResult) -> Table | None:
    """What a repair made worse: what is claimed, then what moved the wrong way without a claim; None if there is nothing."""
    found = tables.lower_after_repair(result, _labels(result))
    if found is None:
        return None
    caption = f"All that a repair made worse, and all that moved the wrong way inconclusively, with {result.level:.0%} intervals"
    return replace(found, caption=caption, heads=("Threat model and measure", *found.heads[1:]))


def frontier(result: AdversarialResult) -> Table:
    """Replayed success and clean accuracy as filters are frozen, a row for each number frozen."""
    found: dict[tuple[str, int], FrontierPoint] = {(point.series, point.filters): point for point in result.extra.frontier}
    present = [series for series in SERIES if any(point.series == series for point in result.extra.frontier)]

    def cells(point: FrontierPoint | None) -> tuple[Cell, Cell]:
        if point is None:
            return Cell(NONE), Cell(NONE)
        success = Cell(percent(point.success), interval(point.success_low, point.success_high, percent))
        return success, Cell(percent(point.clean), interval(point.clean_low, point.clean_high, percent))

    chosen = {point.filters for point in result.extra.frontier if point.chosen}
    rows = tuple(
        (
            Cell(f"{count(number)} (selected)" if number in chosen else count(number), kind="text"),
            *(cell for series in present for cell in cells(found.get((series, number)))),
        )
        for number in sorted({number for _, number in found})
    )
    numbers: list[CellKind] = ["number"] * (2 * len(present))
    return Table(
        key="frontier",
        caption=f"Replayed and clean images as filters are frozen, n = {_sizes([point.n for point in result.extra.frontier])} replayed and "
        f"{_sizes([point.n_clean for point in result.extra.frontier])} clean, with {result.level:.0%} intervals",
        heads=("Frozen", *(f"{series[0].upper()}{series[1:]}: {metric}" for series in present for metric in (SUCCESS, CLEAN))),
        kinds=("text", *numbers),
        bodies=(rows,) if rows else (),
    )


def _sizes(numbers: Sequence[int]) -> str:
    return " / ".join(dict.fromkeys(map(count, numbers)))


def sweep(result: AdversarialResult) -> Table:
    """Target success of PGD run afresh, a row for each bound, networks side by side."""
    found = {(point.column, point.eps): point for point in result.extra.sweep}
    columns = [column for column in result.columns if any(point.column == column.key for point in result.extra.sweep)]

    def cell(column: str, eps: float) -> Cell:
        point = found.get((column, eps))
        return Cell(NONE) if point is None else Cell(percent(point.success), interval(point.low, point.high, percent))

    bounds = sorted({point.eps for point in result.extra.sweep})
    rows = tuple((Cell(eps_text(eps), kind="text"), *(cell(column.key, eps) for column in columns)) for eps in bounds)
    numbers: list[CellKind] = ["number"] * len(columns)
    starts = max((point.restarts for point in result.extra.sweep), default=1)
    return Table(
        key="sweep",
        caption=f"Target success of adaptive PGD within eps of 255 levels, {starts} start{'' if starts == 1 else 's'} within each, "
        f"n = {_sizes([point.n for point in result.extra.sweep])}, with {result.level:.0%} intervals",
        heads=("eps, of 255", *(column.label for column in columns)),
        kinds=("text", *numbers),
        bodies=(rows,) if rows else (),
    )


def median_eps(result: AdversarialResult, entry: Strength) -> str:
    """The least bound that gets half of the targets; where none does, that it lies above the largest that was tried."""
    if entry.median_eps is not None:
        return eps_text(entry.median_eps)
    tried = [point.eps for point in result.extra.sweep if point.column == entry.column]
    return f"above {eps_text(max(tried))}" if tried else NONE


def strengths(result: AdversarialResult) -> Table:
    """How large a bound each network withstands, and how many images need a larger or a smaller one than of the original."""
    rows = tuple(
        (
            Cell(column_label(result, entry.column), kind="text"),
            Cell(count(entry.n)),
            Cell(median_eps(result, entry)),
            Cell(NONE if entry.gained is None else count(entry.gained)),
            Cell(NONE if entry.lost is None else count(entry.lost)),
            Cell(p_value(entry.p_value)),
        )
        for entry in result.extra.strengths
    )
    return Table(
        key="strengths",
        caption="Median minimal eps, and how many images need a larger or smaller eps than on the original network",
        heads=("Network", "n", "Median minimal eps, of 255", "Need more", "Need less", "p"),
        kinds=("text", "number", "number", "number", "number", "number"),
        bodies=(rows,) if rows else (),
    )


def sanity(result: AdversarialResult) -> list[str]:
    """For each network what is suspicious about the attack that measured it, or that nothing is."""
    return [
        f"{column_label(result, entry.column)}: {'; '.join(entry.flags) or f'nothing suspicious in {count(entry.checked)} images'}."
        for entry in result.extra.strengths
    ]


def correlation(result: AdversarialResult) -> str:
    """The rank correlation in a sentence; "" where it was not measured."""
    found = result.extra.correlation
    if found is None:
        return ""
    return f"Spearman's rank correlation of {found.of}: {signed(f'{found.value:.2f}')}, n = {count(found.n)} filters."
