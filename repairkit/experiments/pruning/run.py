"""Pruning from data to findings: freeze the filters of least absolute value, as many as accuracy allows, and take them out of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repairkit.baselines.compare import PART, Compared, planned, rows_of
from repairkit.baselines.rankings import DRAWS, random_order
from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.evaluation.ablation import freeze_first, freeze_random
from repairkit.evaluation.curves import AblationCurves
from repairkit.evaluation.splits import Split
from repairkit.experiments.classifier_task import CriticalTask, run_configuration, worth_on
from repairkit.experiments.classifier_task import split_of as split_of_accuracy
from repairkit.experiments.pruning.baseline_search import Rival, compare_removal, rivals_of
from repairkit.experiments.pruning.footprint import TAKEN, flops, paired_timings, parameters
from repairkit.experiments.pruning.search import TRIES, Booleans, Measured, Try, least_first, most_held, most_within, valued
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.patch import FrozenFilter, Patch, finite_or_none
from repairkit.network.predict import predict
from repairkit.network.structural_pruning import DependencyGraph, PrunedNetwork
from repairkit.repair.attribute import attribute, charged, game_of, live_range_of, live_range_planned
from repairkit.repair.choosing import check_guard
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley import Attribution
from repairkit.shapley.game import Examples, Floats
from repairkit.shapley.live_range import LiveRange

SHARES = (0.3, 0.3, 0.4)
"""Of the images, that find, choose and report, unless told otherwise: the guard on accuracy needs many that choose."""
MAX_DROP = 0.01
"""Guard, unless told otherwise."""
ALONG = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Where the curve is measured, relative to the chosen number of filters."""
BATCHES = (1, 32)
"""Images of a pass that is timed."""


@dataclass(frozen=True, eq=False)
class PruningFindings:
    """Everything measured; `repairkit.experiments.pruning.summary` turns it into a result.

    Attributes:
        split: which images found, chose and reported.
        attribution: values and screens of all filters.
        filters: the players with their constants.
        order: players that may be frozen, least absolute value first.
        tries: the numbers that were tried, in that order; 0 first.
        patch: the frozen filters.
        pruned: the network without those that could be taken out; None with `remove` off or nothing frozen.
        networks: the columns of the report.
        right: for each column bool, shape (N,), who is right on the report images.
        removal: accuracy against the number frozen, least value first and in random orders.
        parameters, flops: by column.
        timings: images of a pass -> seconds of original and pruned in pairs, shape (pairs, 2).
        compared: removal curves beside those of baselines; None where nobody asked.
        rivals: what pruning by each baseline's order comes to.
        live range: that was measured; halved: images of a pass where memory ran out; passes, seconds: by phase.
    """

    split: Split
    attribution: Attribution
    filters: ConvFilters
    order: Examples
    tries: tuple[Try, ...]
    patch: Patch
    pruned: PrunedNetwork | None
    networks: dict[str, Classifier]
    right: dict[str, Booleans]
    removal: AblationCurves
    parameters: dict[str, int]
    flops: dict[str, int]
    timings: dict[int, Floats]
    compared: Compared | None
    rivals: tuple[Rival, ...]
    live_range: LiveRange | None
    halved: int | None
    passes: dict[str, float]
    seconds: dict[str, float]

    @property
    def chosen(self) -> int:
        """How many filters are frozen."""
        return len(self.patch.culprits)


def split_of(task: CriticalTask, options: Options) -> Split:
    """The images that find, choose and report, stratified by class.

    Raises:
        DataError: too few images, or too few that choose to show that the guard holds.
    """
    split = split_of_accuracy(task, options)
    check_guard(len(split.choose), options.max_clean_drop, task.images.name, option="--max-accuracy-drop")
    return split


def plan(task: CriticalTask, options: Options) -> dict[str, float]:
    """Image passes that a run will make at most, by part; those that are timed are not in it.

    Raises:
        DataError: as `split_of`.
    """
    split = split_of(task, options)
    report, choosing = len(split.report), float(len(split.choose) * TRIES)
    found_on, rows = len(split.attribute), len(rows_of(options.compare))
    curves = planned(
        options, images=found_on, points=len(ALONG) + 1, report=report, before=sum(live_range_planned(options).values()), control=True
    )
    return (
        {"calibration": float(found_on)}
        | live_range_planned(options)
        | {"attribution": options.budget}
        | {"choosing": choosing}
        | {"evaluation": float(report * (4 + len(ALONG))), "control": float(report * len(ALONG) * DRAWS)}
        | ({PART: curves + rows * (choosing + report)} if options.compare else {})
    )


def configuration(task: CriticalTask, options: Options, *, remove: bool) -> dict[str, object]:
    """Everything that decides the bits of a run, as JSON can hold it."""
    return run_configuration(task.images, {"model": task.model}, options) | {"remove": remove}


def prune(task: CriticalTask, run: Run, *, remove: bool = True) -> PruningFindings:
    """Freeze the filters of least absolute value of accuracy, as many as the choose images allow, and take them out.

    Filters are ranked by `least_first`: by the screen of all, and by exact flips where those were made. How many are frozen is chosen by
    `most_within` under `max_clean_drop` of the options. What Torch-Pruning can take out goes (`repairkit.network.structural_pruning`); the rest stays frozen.

    Args:
        task: the network and images of its classes, asked about accuracy on all.
        run: of its settings `max_clean_drop` is the guard, and what chooses culprits has no use here.
        remove: whether to take frozen filters out of the network.

    Raises:
        UsageError: a task about one class.
        ModelError: Torch-Pruning cannot follow the network.
    """
    if task.label is not None:
        raise UsageError(f"pruning keeps accuracy on all classes, got a question about {task.subject}; leave the class out")
    split = split_of(task, run.settings)
    classifier = task.model.classifier
    dependencies = dependency_graph_of(task) if remove else None
    run.ledger.planned = sum(plan(task, run.settings).values())
    run = run.of("network")
    with run.phase("calibration"):
        found_on = task.images.subset(split.attribute)
        game = game_of(classifier, worth_on(task, found_on, run.settings), (found_on,), run.settings)
        run.spend(len(found_on))
    filters = game.filters
    live_range, t0 = live_range_of(game, run, seed=run.settings.seed)
    with run.phase("attribution"):
        attribution = attribute(game, run, budget=run.settings.budget, seed=run.settings.seed, t0=t0, end="high")
        run.spend(sum(attribution.passes.values()))
        attribution = charged(attribution, live_range)
    order = least_first(filters, attribution)
    choose_on = task.images.subset(split.choose)
    tries: list[Try] = []
    with run.phase("choosing"):
        measured = Measured(classifier, filters, order, choose_on, run)
        tries = most_within(measured.right, len(order), run.settings.max_clean_drop)
        chosen = most_held(tries)
        patch = patch_of(task.model, filters, attribution, order[:chosen], repr(game.objective), run.settings)
        networks = {"original": classifier}
        pruned = None
        if chosen:
            networks["frozen"] = classifier.with_network(patch.apply(classifier.network))
        if chosen and dependencies is not None:
            pruned = dependencies.prune(patch.constants, freeze_at=patch.freeze_at)
            if pruned.removed:
                networks["pruned"] = classifier.with_network(pruned.network)
    report_on = task.images.subset(split.report)
    removal = removal_of(classifier, filters, order, chosen, report_on, run)
    with run.phase("evaluation"):
        right = {name: predict(each, report_on, run) == report_on.labels for name, each in networks.items()}
    with run.phase("timing"):
        image = classifier.prepare(task.images.batch(np.array([0])))
        sizes = {name: parameters(each.network) for name, each in networks.items()}
        work = {name: flops(each.network, image) for name, each in networks.items()}
        timings = timings_of(classifier, networks["pruned"], report_on, run) if "pruned" in networks else {}
    compared: Compared | None = None
    rivals: tuple[Rival, ...] = ()
    if run.settings.compare:
        compared = compare_removal(classifier, game, attribution, order, removal, report_on, run)
        compared, rivals = rivals_of(classifier, filters, order, compared, dependencies, choose_on, measured.right(0), report_on, run)
    halved = game.batch if game.batch < run.settings.batch else None
    return PruningFindings(
        split, attribution, filters, order, tuple(tries), patch, pruned, networks, right, removal, sizes, work, timings, compared, rivals,
        live_range, halved, run.ledger.passes, run.ledger.seconds,
    )  # fmt: skip


def timings_of(original: Classifier, pruned: Classifier, images: LabelledImages, run: Run) -> dict[int, Floats]:
    """Seconds of both networks in pairs, shape (pairs, 2), by the number of images of a pass."""
    timings: dict[int, Floats] = {}
    for size in BATCHES:
        some = original.prepare(images.batch(np.arange(size) % len(images)))
        timings[size] = paired_timings(original.network, pruned.network, some)
        run.spend(2.0 * TAKEN * size * len(timings[size]))
    return timings


def dependency_graph_of(task: CriticalTask) -> DependencyGraph:
    """Which rows and columns of the network's layers go together.

    Raises:
        ModelError: Torch-Pruning cannot follow the network.
    """
    classifier = task.model.classifier
    return DependencyGraph(classifier.network, classifier.prepare(task.images.batch(np.array([0]))))


def patch_of(
    model: LoadedModel, filters: ConvFilters, attribution: Attribution, players: Examples, objective: str, options: Options
) -> Patch:
    """The frozen filters with their constants; the value of one that was not flipped is its screen."""
    values = valued(attribution).value
    culprits = [
        FrozenFilter(
            layer=filters.ids[player].layer,
            channel=filters.ids[player].channel,
            constant=float(filters.constants[player]),
            value=float(values[player]),
            half_width=finite_or_none(attribution.half_width[player]),
            screen=finite_or_none(attribution.screen[player]),
        )
        for player in players.tolist()
    ]
    return Patch(
        architecture=model.architecture,
        weights_sha256=model.sha256,
        freeze_at=options.freeze_at,
        objective=objective,
        classes=model.classifier.classes,
        engine=attribution.engine,
        min_live=attribution.min_live,
        delta=attribution.delta,
        culprits=culprits,
    )


def along(chosen: int, most: int) -> tuple[int, ...]:
    """Numbers of filters at which the curve on the report images is measured; the choose images alone decide them.

    Example:
        >>> along(100, 160), along(0, 160)
        ((0, 25, 50, 75, 100, 125, 150, 160), (0, 2, 3, 8, 16, 32))
    """
    counts = [round(chosen * share) for share in ALONG] if chosen else [round(most * share) for share in (0.01, 0.02, 0.05, 0.1, 0.2)]
    return tuple(sorted({0, *(min(count, most) for count in counts)}))


def removal_of(
    classifier: Classifier, filters: ConvFilters, order: Examples, chosen: int, images: LabelledImages, run: Run
) -> AblationCurves:
    """Who is right on the report images with filters frozen, least value first and in random orders of those that may be frozen."""
    counts = along(chosen, len(order))
    drawn = [
        random_order(len(filters), seed=run.settings.seed, draw=draw)[::-1] for draw in range(DRAWS)
    ]  # the last place is the least value
    orders: Sequence[Examples] = [each[np.isin(each, order)] for each in drawn]
    with run.phase("evaluation"):
        least = freeze_first(classifier, filters, order, counts, images, run)
    random = freeze_random(classifier, filters, orders, counts[1:], images, run, key="random-order")
    return AblationCurves(
        images.labels, images.classes, None, counts, {"least": least.astype(np.float64), "random": np.vstack([least[:1], random])}
    )
