"""What reports on pruning show: sections and tables."""

from __future__ import annotations

from collections.abc import Sequence

from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.common import NONE_FROZEN, NOT_COMPARED, closing_sections, worse_section
from repairkit.experiments.pruning.result import Contest, Latency, PrunedBy, PruningResult
from repairkit.report.document import Block, Bullets, Cell, CellKind, KeyFigure, Part, Section, Table, Text, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import NONE, count, interval, limit, percent, points
from repairkit.report.tables import column_label, differences, key_figure, point_cells

NETWORKS = "Accuracy is measured on test images, which had no part in attribution or selection. Freezing alone makes a network neither smaller nor faster; pruning the frozen filters does. Beside accuracy stand the classes that changed measurably and the classes that fell most."
WORSE = "Pruning may cost a few classes much while accuracy hardly moves. This section is never left out."
CURVE = "Filters of least absolute value are frozen first. Beside them stand as many filters drawn at random from the filters that may be frozen. The images are test images, so nothing was selected on them."
TRIES = "The number was selected on the selection images, as the largest that held the guard:"
FROZEN = "A frozen filter outputs one constant, whatever the image. The file patch.json lists the frozen filters and their constants; pruned.json lists the channels that are gone."
KEPT = "A filter is pruned only if all that its signal is added to or multiplied with is frozen too. A filter stays where its constant is read through zero padding."
COMPARISON = "Baselines rank the same filters in other ways, with the same constants, objective and attribution images. A baseline that needs a number of images gets as many passes as the Shapley values took, or all attribution images if that is fewer. Along each ranking, least absolute value first, the same search found how many filters the guard allows, and these filters were pruned. For the areas, filters are frozen at the same numbers on test images. The area is the mean height of the ablation curve; a ranking is better if accuracy falls less. Differences are paired, on the same images, and positive where the Shapley values do better. Each interval holds for one baseline at a time; claims hold for all baselines together."
NOTHING_CHANGED = "No weights were changed, so there are no regressions."
GLOSSARY_METRICS = (
    "Class recall",
    "Accuracy",
    "Parameters",
    "FLOPs",
    "Time of a pass",
)
GLOSSARY_TERMS = (
    "Interval",
    "Paired difference",
    "p value, adjusted",
    "Claim",
    "Filter",
    "Value",
    "Gradient estimate that ranks",
    "Random filters",
    "Pruned filter",
    "Pass",
)


def sections(result: PruningResult, figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary; `figures` are those of the result."""
    compared: list[Block] = [*differences(result)] or [Text(NOT_COMPARED)]
    held: list[Block] = [Bullets(result.extra.contest.sentences), contest(result, result.extra.contest)] if result.extra.contest else []
    by_layer = layers(result) if result.extra.layers else None
    still_there: list[Part] = [KEPT, kept(result)] if result.extra.kept else []
    return [
        Section(
            "networks",
            "Before and after",
            blocks(NETWORKS, networks(result), latencies(result) if result.extra.latencies else None, *compared),
        ),
        worse_section(result, lead=WORSE) if result.extra.chosen else Section("worse", "Regressions", blocks(NOTHING_CHANGED)),
        Section("curve", "How many filters to freeze", blocks(CURVE, curve(result), TRIES, tries(result))),
        Section("filters", "Filters changed", blocks(FROZEN if result.extra.chosen else NONE_FROZEN, by_layer, *still_there)),
        *comparison_tables.sections(result, *held, lead=COMPARISON),
        *closing_sections(result, figures),
    ]


def facts(result: PruningResult) -> list[tuple[str, str]]:
    """What was asked, on what, and how it was judged."""
    return [
        ("Model", result.model),
        ("Images", result.extra.images),
        ("Guard", f"accuracy may fall by {limit(result.extra.max_drop)}"),
        ("Design", f"one split: {', '.join(f'{count(n)} {part}' for part, n in result.extra.parts.items())}"),
        ("Intervals", f"{result.level:.0%}"),
        ("Date", result.created),
    ]


def key_figures(result: PruningResult) -> list[KeyFigure]:
    """What stands at the top of the report: accuracy of the last network."""
    last = result.columns[-1].key
    found = [entry for entry in result.differences if (entry.first, entry.second, entry.group) == ("original", last, None)]
    return [key_figure(result, entry, entry.metric) for entry in found]


def summary(result: PruningResult) -> Table:
    """What the command line shows."""
    return networks(result)


def quoted(result: PruningResult) -> list[Table]:
    """What README and recipes show of one run."""
    contested = [contest(result, result.extra.contest)] if result.extra.contest else []
    return [networks(result), *contested, *comparison_tables.quoted(result.compared, result.level)]


def design(result: PruningResult) -> str:
    """On which images, cut how, in a few words."""
    return f"{result.extra.images}, {count(result.extra.parts['report'])} of them in the report"


def runs(results: Sequence[PruningResult]) -> Table:
    """Several runs side by side: what is gone, and what that cost."""
    rows = []
    for result in results:
        before, after = result.extra.footprints[0], result.extra.footprints[-1]
        change = next((entry for entry in result.differences if (entry.first, entry.second) == ("original", after.column)), None)
        rows.append(
            (
                Cell(result.model.partition(":")[0], kind="text"),
                Cell(count(result.extra.parts["report"])),
                Cell(count(result.extra.filters)),
                Cell(count(result.extra.chosen)),
                Cell(count(result.extra.removed)),
                Cell(percent(after.parameters / before.parameters)),
                Cell(percent(after.flops / before.flops)),
                Cell(points(change.value), interval(change.low, change.high, points)) if change else Cell(NONE),
            )
        )
    heads = ("Network", "n", "Filters", "Frozen", "Pruned", "Parameters left", "FLOPs left", "Change of accuracy, points")
    numbers: list[CellKind] = ["number"] * (len(heads) - 1)
    caption = f"Pruning, with {results[0].level:.0%} intervals"
    return Table("runs", caption, heads, ("text", *numbers), (tuple(rows),))


def networks(result: PruningResult) -> Table:
    """Accuracy, parameters, operations and time of every network."""
    rows = []
    for each in result.extra.footprints:
        share = result.share(each.column, "accuracy")
        rows.append(
            (
                Cell(column_label(result, each.column), kind="text"),
                Cell(count(share.n)),
                Cell(percent(share.value), interval(share.low, share.high, percent)),
                Cell(count(each.parameters)),
                Cell(count(each.flops)),
                *(_time(each.column, latency) for latency in result.extra.latencies),
            )
        )
    timed = [f"{each.batch} image{'s' if each.batch > 1 else ''}, ms" for each in result.extra.latencies]
    heads = ("Network", "n", "Accuracy", "Parameters", "FLOPs of an image", *timed)
    numbers: list[CellKind] = ["number"] * (len(heads) - 1)
    caption = f"Accuracy and cost of each network, with {result.level:.0%} intervals of accuracy"
    return Table("networks", caption, heads, ("text", *numbers), (tuple(rows),))


def _time(column: str, latency: Latency) -> Cell:
    seconds = {"original": latency.original, "pruned": latency.pruned}.get(column)
    return Cell(NONE if seconds is None else f"{1000 * seconds:.1f}")


def latencies(result: PruningResult) -> Table:
    """Time of the pruned network over the original's."""
    rows = tuple(
        (
            Cell(count(each.batch), kind="text"),
            Cell(count(each.pairs)),
            Cell(f"{each.ratio:.2f}", f"{each.low:.2f} to {each.high:.2f}"),
        )
        for each in result.extra.latencies
    )
    heads = ("Images of a pass", "Pairs timed", "Pruned over original, median")
    caption = f"Time of a pass, pruned over original, with {result.level:.0%} intervals"
    return Table("latencies", caption, heads, ("text", "number", "number"), (rows,))


def curve(result: PruningResult) -> Table:
    """Accuracy as filters are frozen, with its paired change against none frozen."""
    found = {(point.series, point.filters): point for point in result.extra.curve}
    rows = tuple(
        (
            Cell(f"{count(number)}{' (selected)' if number == result.extra.chosen and number else ''}", kind="text"),
            *point_cells(found["least", number]),
            *point_cells(found["random", number]),
        )
        for number in dict.fromkeys(point.filters for point in result.extra.curve)
    )
    n = result.extra.curve[0].n
    return Table(
        key="curve",
        caption=f"Accuracy as filters are frozen, n = {count(n)}, with {result.level:.0%} intervals",
        heads=("Frozen", "Least absolute value first", "Change, points", f"Random, mean of {result.extra.draws}", "Change, points"),
        kinds=("text", "number", "number", "number", "number"),
        bodies=(rows,),
    )


def tries(result: PruningResult) -> Table:
    """What was tried on the selection images."""
    rows = tuple(
        (
            Cell(count(each.filters), kind="text"),
            Cell(percent(each.accuracy)),
            Cell(points(each.drop_bound)),
            Cell("held" if each.held else "broken", kind="text"),
        )
        for each in result.extra.tries
    )
    return Table(
        "tries",
        f"Numbers of filters tried on the selection images, n = {count(result.extra.parts['choose'])}",
        ("Frozen", "Accuracy", "Bound on its fall, points", "Guard"),
        ("text", "number", "number", "text"),
        (rows,),
    )


def contest(result: PruningResult, held: Contest) -> Table:
    """What the same search and the same pruning made of every order."""
    original = result.extra.footprints[0]

    def row(each: PrunedBy) -> tuple[Cell, ...]:
        return (
            Cell(each.name, kind="text"),
            Cell(count(each.frozen)),
            Cell(count(each.removed)),
            Cell(percent(each.parameters / original.parameters), count(each.parameters)),
            Cell(percent(each.flops / original.flops), count(each.flops)),
            Cell(percent(each.value), interval(each.low, each.high, percent)),
            Cell(points(each.change), interval(each.change_low, each.change_high, points)),
            *comparison_tables.lead_cells(each.lead, each.lead_low, each.lead_high, each.claim),
        )

    rows = tuple(map(row, held.orders))
    own = held.orders[0]
    return Table(
        key="contest",
        caption=f"How much each order prunes under the same guard (a fall by {limit(result.extra.max_drop)}, on the selection images), and accuracy then "
        f"on test images (n = {count(own.n)}, {percent(own.before)} before), with {result.level:.0%} intervals",
        heads=(
            "Least first by",
            "Frozen",
            "Pruned",
            "Parameters left",
            "FLOPs left",
            "Accuracy",
            "Change, points",
            "Shapley better by, points",
            "Claim for Shapley",
        ),
        kinds=("text", "number", "number", "number", "number", "number", "number", "number", "status"),
        bodies=((rows[0],), rows[1:]),
    )


def layers(result: PruningResult) -> Table:
    """Frozen and removed filters of each layer."""
    rows = tuple(
        (Cell(each.layer, kind="code"), Cell(count(each.filters)), Cell(count(each.frozen)), Cell(count(each.removed)))
        for each in result.extra.layers
    )
    return Table("layers", "Filters by layer", ("Layer", "Filters", "Frozen", "Pruned"), ("code", "number", "number", "number"), (rows,))


def kept(result: PruningResult) -> Table:
    """Why frozen filters are still there."""
    rows = tuple((Cell(each.reason, kind="text"), Cell(count(each.filters))) for each in result.extra.kept)
    return Table("kept", "Frozen filters that could not be pruned", ("Because", "Filters"), ("text", "number"), (rows,))
