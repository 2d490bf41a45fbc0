"""Filter dropout from data to findings: what a network and its dropout-trained rival depend on, filter by filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

from repairkit.baselines.compare import Compared, planned
from repairkit.baselines.rankings import DRAWS, random_order
from repairkit.data.images import LabelledImages, labelled_hash
from repairkit.errors import DataError, ModelError
from repairkit.evaluation.ablation import counts_up_to, freeze_first, freeze_random, most_frozen
from repairkit.evaluation.splits import Split, check_disjoint
from repairkit.experiments.classifier_task import CriticalTask, split_of, worth_on
from repairkit.experiments.critical.run import compare_removal
from repairkit.experiments.dropout.evaluation import Removals, Series
from repairkit.models.zoo import LoadedModel, normalisation_of
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.repair.attribute import attribute, charged, game_of, live_range_of
from repairkit.repair.live_range import PART as SETTLING
from repairkit.repair.live_range import Settled, found_planned, settle
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley import Attribution
from repairkit.shapley.game import Examples, Floats
from repairkit.shapley.guarantee import End
from repairkit.shapley.live_range import LiveRange


@dataclass(frozen=True)
class DropoutTask:
    """A network, one of the same architecture that was trained with filter dropout, and images that neither was trained on.

    Attributes:
        model: the network trained without.
        dropout: its rival.
        images: labelled by the columns of the logits of both.
        training: the images that both were trained on, when at hand, to prove that none is used here.

    Raises:
        ModelError: other architectures or filters, or one network twice; or as `repairkit.experiments.classifier_task.CriticalTask`.
        DataError: other classes, or images that were trained on.
    """

    model: LoadedModel
    dropout: LoadedModel
    images: LabelledImages
    training: LabelledImages | None = None

    def __post_init__(self) -> None:
        first, second = self.model, self.dropout
        if first.architecture != second.architecture:
            raise ModelError(
                f"expected two networks of one architecture, got {first.architecture} and {second.architecture} ({second.weights.name}); "
                "their filters cannot be compared, give a dropout-trained network of the same one"
            )
        if first.sha256 == second.sha256 and normalisation_of(first) == normalisation_of(second):
            raise ModelError(
                f"{first.weights.name} and {second.weights.name} are the same network; give one that was trained with filter dropout"
            )
        if first.classifier.classes != second.classifier.classes:
            raise DataError(
                f"the network has the classes {first.classifier.classes}, the dropout-trained one {second.classifier.classes}; "
                "give two networks of one task"
            )
        filters, others = (ConvFilters(model.classifier.network).ids for model in (first, second))
        if filters != others:
            raise ModelError(
                f"expected two networks with the same filters, got {len(filters):,} and {len(others):,} with {len({*filters} & {*others}):,} in common; "
                "give two networks of one shape"
            )
        if self.training is not None:
            check_disjoint(images=self.images, training=self.training)
        self.each()

    def each(self) -> dict[str, CriticalTask]:
        """What `repairkit accuracy` would ask of each network, by its column.

        Raises:
            DataError, ModelError: as `CriticalTask`.
        """
        return {"original": CriticalTask(self.model, self.images, None), "dropout": CriticalTask(self.dropout, self.images, None)}


@dataclass(frozen=True, eq=False)
class ValuedNetwork:
    """The values of one network's filters.

    Attributes:
        highest, lowest: attributions that sought these ends; one and the same where a guarantee speaks of both.
        game: the players with their constants, and the worth on the images that find.
        live_range: where t0 was measured.
        halved: images of a pass of the attributions, where memory ran out.
    """

    highest: Attribution
    lowest: Attribution
    game: NetworkGame
    live_range: LiveRange | None
    halved: int | None

    @property
    def filters(self) -> ConvFilters:
        """The players with their constants."""
        return self.game.filters


@dataclass(frozen=True, eq=False)
class DropoutFindings:
    """Everything measured; `repairkit.experiments.dropout.summary` turns it into a result.

    Attributes:
        split: which images found filters, settled the live range and report.
        networks: values by column.
        settled: how the live range that both have in common was settled, where it was.
        removals: who was right as filters were frozen.
        compared: each network held against baselines, by column; empty where nobody asked.
    """

    split: Split
    networks: dict[str, ValuedNetwork]
    settled: Settled | None
    removals: Removals
    compared: dict[str, Compared]
    passes: dict[str, float]
    seconds: dict[str, float]


def plan(task: DropoutTask, options: Options) -> dict[str, float]:
    """Image passes that a run will make, by part; a limit for the attributions, the numbers removed and the live range.

    Raises:
        DataError: too few images, as `repairkit.experiments.classifier_task.split_of`.
    """
    split = split_of(task.each()["original"], options)
    points = len(counts_up_to(options.top or options.usual_top)) - 1
    ends = 1 if options.guarantee is not None else 2
    live_range = found_planned(len(split.choose), options)
    compared = planned(
        options, images=len(split.attribute), points=points + 1, report=len(split.report), before=sum(live_range.values()), control=True
    )
    one = (
        {"calibration": float(len(split.attribute))}
        | live_range
        | {"attribution": options.budget * ends}
        | {"evaluation": float(len(split.report) * (1 + 2 * points)), "control": float(len(split.report) * points * DRAWS)}
        | ({"baselines": compared} if options.compare else {})
    )
    return {part: 2 * passes for part, passes in one.items()}


def configuration(task: DropoutTask, options: Options) -> dict[str, object]:
    """Everything that decides the bits of a run, as JSON can hold it."""
    models = {"model": task.model, "dropout model": task.dropout}
    return (
        options.configuration
        | {name: model.sha256[:16] for name, model in models.items()}
        | {f"normalisation of the {name}": normalisation_of(model) for name, model in models.items()}
        | {
            "images": labelled_hash(task.images),
            "threads": torch.get_num_threads(),
            "version": f"{version('repairkit')} with torch {torch.__version__}",
        }
    )


def find(task: DropoutTask, run: Run) -> DropoutFindings:
    """Value the filters of both networks, and freeze more and more of the highest, the lowest and random ones of each.

    Both networks see the same images, the same coalitions and the same random orders. Where baselines are asked for, the filters that each of them names
    first are frozen as well, at the same numbers.

    Args:
        task: networks and images.
        run: of its settings `top` is how many filters of each end are sought and frozen, and the budget that of each attribution:
            two for each network, one for each end.
    """
    tasks = task.each()
    split = split_of(tasks["original"], run.settings)
    run.ledger.planned = sum(plan(task, run.settings).values())
    runs = {column: run.of(column) for column in tasks}
    games, networks = {}, {}
    for column, each in tasks.items():
        run.ledger.label = column
        games[column] = play(each, split, run)
    run.ledger.label = ""
    zoned = None
    measured: dict[str, tuple[LiveRange | None, float]]
    if run.settings.t0 == "settled":
        live_ranges, zoned = settle([*games.values()], task.images.subset(split.choose), [*runs.values()])
        measured = {column: (live_range, zoned.min_live) for column, live_range in zip(games, live_ranges, strict=True)}
    else:
        measured = {column: live_range_of(game, runs[column], seed=run.settings.seed) for column, game in games.items()}
    for column, game in games.items():
        run.ledger.label = column
        networks[column] = value_network(game, *measured[column], zoned, runs[column])
    removals = remove(tasks, networks, split, runs)
    compared = {}
    for column, each in tasks.items() if run.settings.compare else ():
        run.ledger.label = column
        network, removal = networks[column], removals.of(column, "highest")
        compared[column] = compare_removal(each, network.game, None, network.highest, removal, None, split, runs[column])
    return DropoutFindings(split, networks, zoned, removals, compared, run.ledger.passes, run.ledger.seconds)


def play(task: CriticalTask, split: Split, run: Run) -> NetworkGame:
    """The game of one network, with its constants."""
    with run.phase("calibration"):
        found_on = task.images.subset(split.attribute)
        game = game_of(task.model.classifier, worth_on(task, found_on, run.settings), (found_on,), run.settings)
        run.spend(len(found_on))
    return game


def value_network(game: NetworkGame, live_range: LiveRange | None, t0: float, settled: Settled | None, run: Run) -> ValuedNetwork:
    """The values of both ends of one network."""

    def values(end: End, name: str) -> Attribution:
        with run.phase("attribution"):
            found = attribute(game, run, budget=run.settings.budget, seed=run.settings.seed, t0=t0, name=name, end=end)
            run.spend(sum(found.passes.values()))
        return charged(found, live_range, {SETTLING: settled.passes} if settled else None)

    highest = values("high", "highest")
    lowest = highest if run.settings.guarantee is not None else values("low", "lowest")
    return ValuedNetwork(highest, lowest, game, live_range, game.batch if game.batch < run.settings.batch else None)


def remove(tasks: Mapping[str, CriticalTask], networks: Mapping[str, ValuedNetwork], split: Split, runs: Mapping[str, Run]) -> Removals:
    """The ablation curves of both networks on the report images, at the same numbers of filters.

    The most that are frozen is what every order has: as many as were asked for, at most half of all, and only filters that were valued.
    """
    orders: dict[str, dict[Series, Examples]] = {}
    for column, network in networks.items():
        most = most_frozen(runs[column].settings, len(network.filters))
        orders[column] = {"highest": network.highest.extremes(most)["high"], "lowest": network.lowest.extremes(most)["low"]}
    counts = counts_up_to(min(len(order) for ends in orders.values() for order in ends.values()))
    images = next(iter(tasks.values())).images
    right = {}
    for column, task in tasks.items():
        run = runs[column]
        run.ledger.label = column
        right[column] = remove_one(
            task.model.classifier, networks[column].filters, orders[column], counts, images.subset(split.report), run
        )
    return Removals(images.labels[split.report], images.classes, counts, right)


def remove_one(
    classifier: Classifier,
    filters: ConvFilters,
    orders: Mapping[Series, Examples],
    counts: tuple[int, ...],
    images: LabelledImages,
    run: Run,
) -> dict[Series, Floats]:
    """Who of these images is right with the first filters of each order frozen, and with random ones; float64 (k, N) in 0 .. 1."""
    with run.phase("evaluation"):
        start = freeze_first(classifier, filters, (), (0,), images, run)
        curves: dict[Series, Floats] = {
            series: np.vstack([start, freeze_first(classifier, filters, order, counts[1:], images, run)]).astype(np.float64)
            for series, order in orders.items()
        }
    random_orders = [random_order(len(filters), seed=run.settings.seed, draw=draw) for draw in range(DRAWS)]
    random = freeze_random(classifier, filters, random_orders, counts[1:], images, run)
    return curves | {"random": np.vstack([start, random])}
