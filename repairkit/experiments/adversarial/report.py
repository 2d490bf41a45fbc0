"""The report on an adversarial repair: what its result holds beside what all kinds have, its sections and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from repairkit.alternatives import report as alternatives_report
from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import NOTHING_WORSE, closing_sections, columns, differences_section, filters_section, worse_section
from repairkit.report import tables
from repairkit.report.document import Bullets, Cell, CellKind, Definitions, Heading, KeyFigure, Part, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, eps_text, interval, p_value, percent, points, signed
from repairkit.report.tables import column_label, estimate_cell, share_cell
from repairkit.result import Record, Result

SUCCESS, RECOVERED, CLEAN = "target success", "recovered label", "clean accuracy"
"""Metrics of shares and differences."""
TRANSFERRED = "transfer-mean"
"""Group of the row that averages, on each image, over the transfer attacks."""
FRONTIER = "What freezing more filters would have done to replayed and to clean images. One order is the order of selection, the other is the paper's, the highest value first. The images are test images, so nothing was selected on them."
ADVERSARIES = "A repair that helps against replayed images may be worth nothing against an attack on the repaired network itself. So every threat model has a row of its own, the weakest first. The attacked network is the one at the head of the column, unless the images were made against another network. All shares are measured on test images, which had no part in attribution or selection. A dash has two causes: the attack has no target class, or its images were made against the network of that column."
DIFFERENCES = "Both columns are judged on the same images. For target success lower is better, so a fall is ▲ better. A claim needs an interval that excludes zero. For a single threat model it needs an adjusted p value as well."
STRENGTH = "PGD runs anew on each network within smaller and larger bounds. At the bound used in attribution it may succeed on every network. The smallest bound that suffices can still tell the networks apart."
SANITY = "Failures of an attack count only if the attack works. On each network its success must rise with eps and with its steps. An attack without bound must always succeed, and gradients must not vanish:"
FROZEN = "A frozen filter outputs one constant, whatever the image. A filter may be frozen only if its value was measured by switching it off and on. Here a positive value marks a harmful filter."
CORRELATION = "A correlation of 1 would mean that attacks need the very filters that accuracy needs. No filter could then be frozen for free. The paper reports about 0.3. The correlation has no interval here: filters are no random sample, and each value was measured once. Recipes of correlation measure each value twice."
NOT_REPAIRED = "There are no paired differences, because there was no repaired network to compare with the original."
NO_STRENGTH = "No adaptive attack ran, so nothing is known about how large a change it takes."
GLOSSARY_METRICS = ("Target success", "Recovered label", "Clean accuracy", "Median minimal eps", "Noise", "Replay", "Transfer", "Query-based black box", "Adaptive white box", "Worst of the attacks run afresh", "Gradient masking")  # fmt: skip
GLOSSARY_TERMS = ("Interval", "Paired difference", "p value over adversaries", "Claim", "eps", "Filter", "Value of a filter", "Gradient estimate", "Trade-off curve", "Sign test of minimal eps", "Rank correlation", "Dropout-trained", "Pass")  # fmt: skip
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


# ---- what the result holds ----


class Adversary(Record):
    """A threat model."""

    key: str  # the group of its shares and differences
    kind: Literal["noise", "replay", "transfer", "black box", "adaptive", "worst"]
    title: str  # for instance "Replayed PGD images"
    description: str  # parameters, what the images were made against and which images, in words
    targeted: bool  # False: it wants the true label lost, and there is no target success
    n: int
    passes: float  # image passes, over all columns


class FrontierPoint(Record):
    """The network with the first `filters` of an order frozen: replayed test images against clean ones."""

    series: Literal["order of choosing", "highest value first"]
    filters: int
    n: int  # replayed images
    success: float  # share that gets the target
    success_low: float
    success_high: float
    n_clean: int
    clean: float  # accuracy
    clean_low: float
    clean_high: float
    chosen: bool = False


class SweepPoint(Record):
    """Target success of adaptive PGD on one network within one bound or a smaller one."""

    column: str
    eps: float  # in units of images in [0, 1]
    restarts: int = 1  # starts within each bound
    n: int
    success: float
    low: float
    high: float


class Strength(Record):
    """How large a change the attack needs on one network, and whether the attack that measured it works."""

    column: str
    n: int
    median_eps: float | None  # least bound that gets the targets of half of the images; None where none does
    gained: int | None  # images that need a larger bound than on the original network; None for that
    lost: int | None  # images that need a smaller one
    p_value: float | None  # exact sign test of gained against lost
    checked: int  # images of the sanity checks
    flags: list[str]  # what is suspicious about the attack on this network; empty where nothing is


class RankCorrelation(Record):
    """Spearman's rank correlation of two values over the filters of one network, each measured once: nothing says how far noise moves it."""

    of: str  # what is correlated, in words
    n: int  # filters
    value: float
    low: float | None = None  # only in older results, and not shown: as if filters were a random sample
    high: float | None = None


class AdversarialExtra(Record):
    """What freezing filters does against each threat model; `groups` of the result are their keys."""

    images: str
    parts: dict[str, str]  # how many clean and adversarial images each part has, in words
    attack: str  # that filters were valued and selected against, in words
    adversaries: list[Adversary]
    frontier: list[FrontierPoint]
    sweep: list[SweepPoint]
    strengths: list[Strength]
    correlation: RankCorrelation | None


AdversarialResult = Result[AdversarialExtra]


# ---- sections ----


def sections(result: AdversarialResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    by_adversary: list[Part] = [ADVERSARIES, *adversaries(result), Heading("The attacks"), Definitions(descriptions(result))]
    networks: list[Part] = [Heading("The networks"), columns(result)] if result.columns else []
    curve = [FRONTIER, frontier(result)] if result.extra.frontier else ["No filter was tried, so there is no trade-off curve."]
    related = f"{correlation(result)} {CORRELATION}" if result.extra.correlation else ""
    worse = "" if tables.claims_worse(result) else NOTHING_WORSE
    threats: list[Part] = by_adversary if result.extra.adversaries else ["No attack was tried."]
    return [
        Section("adversaries", "Threat models", blocks(*threats, *networks)),
        worse_section(
            result, lower_after_repair(result), otherwise=worse if result.frozen else "No filter was frozen, so there are no regressions."
        ),
        *alternatives_report.sections(result, alternatives(result)),
        differences_section(differences(result), DIFFERENCES, NOT_REPAIRED),
        Section("frontier", "How many filters to freeze", blocks(*curve)),
        _strength_section(result),
        filters_section(result, related, lead=FROZEN),
        *comparison_tables.sections(result),
        *closing_sections(result, figures, otherwise="No filter was valued."),
    ]


def _strength_section(result: AdversarialResult) -> Section:
    measured = blocks(STRENGTH, strengths(result)) if result.extra.strengths else blocks(NO_STRENGTH)
    checks = blocks(SANITY, Bullets(sanity(result))) if result.extra.strengths else []
    return Section("strength", "How large a change it takes", [*measured, *blocks(sweep(result) if result.extra.sweep else None), *checks])


def facts(result: AdversarialResult) -> list[tuple[str, str]]:
    """What was repaired, against what, on which images, and how it was judged."""
    parts = ((f"Part: {part}", size) for part, size in result.extra.parts.items())
    head = [
        ("Model", result.model),
        ("Images", result.extra.images),
        ("Attack", result.extra.attack),
        ("Filters ranked by", result.objective),
    ]
    return [*head, *parts, ("Intervals", f"{result.level:.0%}"), ("Date", result.created)]


def key_figures(result: AdversarialResult) -> list[KeyFigure]:
    """Replayed success, clean accuracy, and the label recovered from the worst of the adaptive attacks."""
    keys = {kind: next((entry.key for entry in result.extra.adversaries if entry.kind == kind), None) for kind in ("replay", "worst")}
    names = {
        (SUCCESS, keys["replay"]): "target success, replayed images (lower is better)",
        (CLEAN, None): CLEAN,
        (RECOVERED, keys["worst"]): "recovered label, worst of the adaptive attacks",
    }
    effects = {(entry.metric, entry.group): entry for entry in tables.repair_effects(result)}
    return [tables.key_figure(result, effects[key], name) for key, name in names.items() if key in effects]


def design(result: AdversarialResult) -> str:
    """On which images, attacked how, in a few words."""
    return f"{result.extra.images}; {result.extra.attack}"


def descriptions(result: AdversarialResult) -> list[tuple[str, str]]:
    """The title of each threat model, and what it does and costs."""
    return [(entry.title, f"{entry.description.rstrip('.')}; {count(entry.passes)} passes.") for entry in from_weakest(result)]


def sanity(result: AdversarialResult) -> list[str]:
    """For each network what is suspicious about the attack that measured it, or that nothing is."""
    return [
        f"{column_label(result, entry.column)}: {'; '.join(entry.flags) or f'nothing suspicious in {count(entry.checked)} images'}."
        for entry in result.extra.strengths
    ]


def correlation(result: AdversarialResult) -> str:
    """The rank correlation in a sentence; "" where it was not measured."""
    entry = result.extra.correlation
    if entry is None:
        return ""
    return f"Spearman's rank correlation of {entry.of}: {signed(f'{entry.value:.2f}')}, n = {count(entry.n)} filters."


def from_weakest(result: AdversarialResult) -> list[Adversary]:
    """The threat models by kind, from the weakest; within a kind as the result has them."""
    return sorted(result.extra.adversaries, key=lambda entry: list(KNOWS).index(entry.kind))


# ---- tables ----


def summary(result: AdversarialResult) -> Table:
    """What the command line shows: both measures of each threat model and clean accuracy, columns side by side."""
    caption = f"By threat model, with {result.level:.0%} intervals (target success: lower is better; recovered label: higher)"
    return replace(_by_threat(tables.before_after(result, _labels(result))), caption=caption)


def quoted(result: AdversarialResult) -> list[Table]:
    """What README and recipes show of one run."""
    beside = alternatives(result)
    return [*adversaries(result), *([beside] if beside else []), *comparison_tables.quoted(result.compared, result.level)]


def runs(results: Sequence[AdversarialResult]) -> Table:
    """Several runs side by side; with filters trained beside, the row is of both, and a row below it of training alone."""
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        rows.append((Cell(result.reproduction.command, kind="code"), *_run_cells(result, "repaired", len(result.frozen))))
        if any(column.key == "finetuned" for column in result.columns):
            name = Cell(f"{column_label(result, 'finetuned')}, in that run", kind="text")
            rows.append((name, *_run_cells(result, "finetuned", 0)))
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
    caption = f"Changes in percentage points, with {results[0].level:.0%} intervals"
    return Table("runs", caption, ("Run", *heads), ("code", *_numbers(len(heads))), (tuple(rows),))


def _run_cells(result: AdversarialResult, column: str, filters: int) -> tuple[Cell, ...]:
    effects = {(e.metric, e.group): e for e in result.differences if (e.first, e.second) == ("original", column)}

    def change(metric: str, group: str | None) -> Cell:
        entry = effects.get((metric, group))
        return Cell(NONE) if entry is None else Cell(points(entry.value), interval(entry.low, entry.high, points))

    success = {share.column: percent(share.value) for share in result.shares if (share.metric, share.group) == (SUCCESS, "replay")}
    measured = ((SUCCESS, "replay"), (RECOVERED, "worst"), (CLEAN, None))
    sizes = [next((count(s.n) for s in result.shares if (s.metric, s.group) == key), NONE) for key in measured]
    changes = ((SUCCESS, "replay"), (RECOVERED, "replay"), (RECOVERED, "worst"), (CLEAN, None))
    shares = (Cell(success.get(key, NONE)) for key in ("original", column))
    return (Cell(count(filters)), Cell(", ".join(sizes)), *shares, *(change(*key) for key in changes))


def alternatives(result: AdversarialResult) -> Table | None:
    """The repair beside its alternatives, against replayed images and the worst of the adaptive attacks; None where nobody asked."""
    wanted: list[tuple[str, str | None, str]] = [
        (SUCCESS, "replay", "Target success, replayed images (lower is better)"),
        (RECOVERED, "replay", "Recovered label, replayed images"),
        (RECOVERED, "worst", "Recovered label, worst of the adaptive attacks"),
        (CLEAN, None, "Clean accuracy"),
    ]
    return alternatives_report.table(result, wanted)


def adversaries(result: AdversarialResult) -> list[Table]:
    """A row for each threat model, columns side by side: how often it reaches its target, and how often the label survives it."""
    shares = {(entry.metric, entry.group, entry.column): entry for entry in result.shares}

    def row(metric: str, group: str | None, name: str, knows: str, n: int) -> tuple[Cell, ...]:
        cells = (share_cell(shares.get((metric, group, column.key))) for column in result.columns)
        return (Cell(name, kind="text"), Cell(count(n)), *cells, Cell(knows, kind="text"))

    sizes = [entry.n for entry in result.shares if entry.metric == CLEAN]
    clean = (row(CLEAN, None, "Clean images", "(no attack)", sizes[0]),) if sizes else ()
    measures = (
        ("target-success", SUCCESS, "Target success (lower is better)", ()),
        ("recovered-label", RECOVERED, "Recovered label, and accuracy on clean images (higher is better)", clean),
    )
    heads = ("Threat model", "n", *(column.label for column in result.columns), "Knows")
    kinds: tuple[CellKind, ...] = ("text", "number", *_numbers(len(result.columns)), "text")
    found = []
    for key, metric, caption, first in measures:
        rows = tuple(row(metric, entry.key, entry.title, KNOWS[entry.kind], entry.n) for entry in from_weakest(result))
        bodies = tuple(body for body in (first, rows) if body)
        found += [Table(key, f"{caption}, with {result.level:.0%} intervals", heads, kinds, bodies)] if rows else []
    return found


def differences(result: AdversarialResult) -> list[Table]:
    """A table for each pair of columns, both measures of a threat model below each other."""
    return list(map(_by_threat, tables.differences(result, _labels(result))))


def lower_after_repair(result: AdversarialResult) -> Table | None:
    """What a repair made worse: what is claimed, then what moved the wrong way without a claim; None if there is nothing."""
    table = tables.lower_after_repair(result, _labels(result))
    caption = f"All that a repair made worse, and all that moved the wrong way inconclusively, with {result.level:.0%} intervals"
    return None if table is None else replace(_by_threat(table), caption=caption)


def frontier(result: AdversarialResult) -> Table:
    """Replayed success and clean accuracy as filters are frozen, a row for each number frozen."""
    cells = {(str(point.series), point.filters): _point_cells(point) for point in result.extra.frontier}
    present = [series for series in SERIES if any(point.series == series for point in result.extra.frontier)]
    selected = {point.filters for point in result.extra.frontier if point.chosen}
    rows = tuple(
        (
            Cell(f"{count(number)} (selected)" if number in selected else count(number), kind="text"),
            *(cell for series in present for cell in cells.get((series, number), (Cell(NONE), Cell(NONE)))),
        )
        for number in sorted({number for _, number in cells})
    )
    replayed, clean = (_sizes(getattr(point, name) for point in result.extra.frontier) for name in ("n", "n_clean"))
    return Table(
        key="frontier",
        caption=f"Replayed and clean images as filters are frozen, n = {replayed} replayed and {clean} clean, with {result.level:.0%} intervals",
        heads=("Frozen", *(f"{series[0].upper()}{series[1:]}: {metric}" for series in present for metric in (SUCCESS, CLEAN))),
        kinds=("text", *_numbers(2 * len(present))),
        bodies=(rows,) if rows else (),
    )


def _point_cells(point: FrontierPoint) -> tuple[Cell, Cell]:
    success = estimate_cell(point.success, point.success_low, point.success_high)
    return success, estimate_cell(point.clean, point.clean_low, point.clean_high)


def sweep(result: AdversarialResult) -> Table:
    """Target success of adaptive PGD, a row for each bound, networks side by side."""
    cells = {(point.column, point.eps): estimate_cell(point.success, point.low, point.high) for point in result.extra.sweep}
    present = [column for column in result.columns if any(point.column == column.key for point in result.extra.sweep)]
    rows = tuple(
        (Cell(eps_text(eps), kind="text"), *(cells.get((column.key, eps), Cell(NONE)) for column in present))
        for eps in sorted({point.eps for point in result.extra.sweep})
    )
    starts = max((point.restarts for point in result.extra.sweep), default=1)
    return Table(
        key="sweep",
        caption=f"Target success of adaptive PGD within eps of 255 levels, {starts} start{'' if starts == 1 else 's'} within each, "
        f"n = {_sizes(point.n for point in result.extra.sweep)}, with {result.level:.0%} intervals",
        heads=("eps, of 255", *(column.label for column in present)),
        kinds=("text", *_numbers(len(present))),
        bodies=(rows,) if rows else (),
    )


def strengths(result: AdversarialResult) -> Table:
    """How large a bound each network withstands, and how many images need a larger or a smaller one than on the original."""
    rows = tuple(
        (
            Cell(column_label(result, entry.column), kind="text"),
            Cell(count(entry.n)),
            Cell(median_eps(result, entry)),
            *(Cell(NONE if number is None else count(number)) for number in (entry.gained, entry.lost)),
            Cell(p_value(entry.p_value)),
        )
        for entry in result.extra.strengths
    )
    caption = "Median minimal eps, and how many images need a larger or smaller eps than on the original network"
    heads = ("Network", "n", "Median minimal eps, of 255", "Need more", "Need less", "p")
    return Table("strengths", caption, heads, ("text", *_numbers(5)), (rows,) if rows else ())


def median_eps(result: AdversarialResult, entry: Strength) -> str:
    """The least bound that gets half of the targets; where none does, that it lies above the largest that was tried."""
    if entry.median_eps is not None:
        return eps_text(entry.median_eps)
    tried = [point.eps for point in result.extra.sweep if point.column == entry.column]
    return f"above {eps_text(max(tried))}" if tried else NONE


def _by_threat(table: Table) -> Table:
    return replace(table, heads=("Threat model and measure", *table.heads[1:]))


def _labels(result: AdversarialResult) -> tables.Label:
    titles = {entry.key: entry.title for entry in result.extra.adversaries}
    return lambda metric, group: metric if group is None else f"{titles.get(group, group)}: {metric}"


def _numbers(number: int) -> list[CellKind]:
    return ["number"] * number


def _sizes(numbers: Iterable[int]) -> str:
    return " / ".join(dict.fromkeys(map(count, numbers)))
