"""Rivals of a pruning: what the same search and the same taking out make of the orders of baselines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from repairkit.baselines.compare import PART, Compared, Contender, Curve, Ranking, compare, folder_of
from repairkit.data.images import LabelledImages
from repairkit.errors import RepairkitError
from repairkit.evaluation.curves import AblationCurves
from repairkit.experiments.pruning.footprint import flops, parameters
from repairkit.experiments.pruning.search import Booleans, Measured, by_size, most_held, most_within, valued
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.freezing import baked_copy
from repairkit.network.game import NetworkGame
from repairkit.network.predict import predict
from repairkit.network.structural_pruning import DependencyGraph
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley import Attribution
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import Examples, Floats


@dataclass(frozen=True, eq=False)
class Rival:
    """What the same search and the same taking out made of a baseline's order.

    Attributes:
        name: of the baseline's row.
        frozen, removed: how many filters were frozen, and how many of these taken out.
        right: bool, shape (N,), who is right on the report images without them.
        parameters, flops: of the network without them.
    """

    name: str
    frozen: int
    removed: int
    right: Booleans
    parameters: int
    flops: int


def compare_removal(
    classifier: Classifier,
    game: NetworkGame,
    attribution: Attribution,
    order: Examples,
    removal: AblationCurves,
    images: LabelledImages,
    run: Run,
) -> Compared:
    """The curves of `repairkit.experiments.pruning.run.removal_of` along the orders of baselines: of the filters in `order`, those of least absolute value first."""
    unfit = np.setdiff1d(np.arange(game.n), order)

    def smallness(found: Attribution) -> Floats:
        score = -np.abs(found.value)
        score[unfit] = np.nan
        return score

    return compare(
        game,
        valued(attribution),
        run,
        seed=run.settings.seed,
        ranking=Ranking(smallness, partial(by_size, order)),
        curve=Curve(
            removal.counts,
            lambda frozen: predict(classifier, images, run, filters=game.filters, frozen=frozen) == images.labels,
            removal.outcomes["least"],
            removal.outcomes["random"],
        ),
    )


def rivals_of(
    classifier: Classifier,
    filters: ConvFilters,
    order: Examples,
    compared: Compared,
    dependencies: DependencyGraph | None,
    choose_on: LabelledImages,
    before: Booleans,
    report_on: LabelledImages,
    run: Run,
) -> tuple[Compared, tuple[Rival, ...]]:
    """Prune by the order of every baseline: as many filters as the same guard allows, and as many of these taken out as can be.

    One whose filters cannot be taken out says why in place of its curve, and nothing fails. Random filters are those of the first order.
    `before` says who is right on the choose images with nothing frozen.
    """
    rivals: list[Rival] = []
    why_not: dict[str, str] = {}
    for each in compared.contenders[1:]:
        if each.why_not:
            continue
        own = run.of(f"{PART}/{folder_of(each.name)}")
        least = np.array(by_size(order, each.attributions[0]), dtype=np.int64)
        try:
            with run.phase(PART):
                measured = Measured(classifier, filters, least, choose_on, own, before=before)
                players = least[: most_held(most_within(measured.right, len(least), run.settings.max_clean_drop))]
                rivals.append(rival_of(each.name, classifier, filters, players, dependencies, report_on, own))
        except RepairkitError as error:
            why_not[each.name] = str(error)
    contenders = [Contender(each.name, why_not=why_not[each.name]) if each.name in why_not else each for each in compared.contenders]
    return replace(compared, contenders=tuple(contenders)), tuple(rivals)


def rival_of(
    name: str,
    classifier: Classifier,
    filters: ConvFilters,
    players: Examples,
    dependencies: DependencyGraph | None,
    images: LabelledImages,
    run: Run,
) -> Rival:
    """The network without these filters, or with them frozen where nothing is to be taken out: who is right, and what it costs to run."""

    def pruned_network() -> Arrays:
        constants = {filters.ids[player]: float(filters.constants[player]) for player in players.tolist()}
        pruned = dependencies.prune(constants, freeze_at=run.settings.freeze_at) if dependencies and constants else None
        network = pruned.network if pruned else baked_copy(classifier.network, constants, freeze_at=run.settings.freeze_at)
        right = predict(classifier.with_network(network), images, run) == images.labels
        cost = flops(network, classifier.prepare(images.batch(np.array([0]))))
        return {"right": right, "counts": np.array([len(pruned.removed) if pruned else 0, parameters(network), cost])}

    saved = run.cached("pruned", pruned_network, ARRAYS)
    removed, numbers, operations = saved["counts"].tolist()
    return Rival(name, len(players), removed, saved["right"], numbers, operations)
