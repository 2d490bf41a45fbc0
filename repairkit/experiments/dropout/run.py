"""Filter dropout from data to findings: what a network and its dropout-trained comparison model depend on, filter by filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from repairkit.baselines.compare import Compared, Curve, compare, highest_first, planned
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, ModelError
from repairkit.evaluation.ablation import counts_up_to, most_frozen
from repairkit.evaluation.curves import AblationCurves, Series
from repairkit.evaluation.splits import Split, check_disjoint
from repairkit.experiments.classifier_task import (
    CriticalTask,
    LiveGame,
    ablate,
    calibrate,
    choose_live_ranges,
    network_cost,
    run_configuration,
    split_of,
)  # fmt: skip
from repairkit.models.zoo import LoadedModel, normalisation_of
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.network.predict import predict
from repairkit.repair.live_range import Settled
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley import Attribution
from repairkit.shapley.game import Examples


@dataclass(frozen=True)
class DropoutTask:
    """A network, one of the same architecture that was trained with filter dropout, and images that neither was trained on.

    Attributes:
        model: the network trained without.
        dropout: its comparison model.
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
        self.by_column()

    def by_column(self) -> dict[str, CriticalTask]:
        """What `repairkit accuracy` would ask of each network, by its column.

        Raises:
            DataError, ModelError: as `CriticalTask`.
        """
        return {"original": CriticalTask(self.model, self.images, None), "dropout": CriticalTask(self.dropout, self.images, None)}


@dataclass(frozen=True, eq=False)
class ValuedNetwork:
    """The values of one network's filters."""

    highest: Attribution  # sought the highest values
    lowest: Attribution  # sought the lowest values; the same attribution where a guarantee speaks of both ends
    game: NetworkGame  # on the attribution images
    reduced_batch: int | None  # images of a pass of the attributions, where memory ran out

    @property
    def filters(self) -> ConvFilters:
        """The players with their constants."""
        return self.game.filters


@dataclass(frozen=True, eq=False)
class DropoutFindings:
    """Everything measured, by column; `repairkit.experiments.dropout.result` turns it into a result."""

    split: Split
    networks: dict[str, ValuedNetwork]
    live_range_choice: Settled | None  # of the live range that both networks have in common, where it was chosen
    curves: dict[str, AblationCurves]
    comparisons: dict[str, Compared]  # with baselines; empty unless they were asked for
    passes: dict[str, float]
    seconds: dict[str, float]


def plan(task: DropoutTask, options: Options) -> dict[str, float]:
    """Image passes that a run will make, by part; a limit for the attributions, the numbers frozen and the live range.

    Raises:
        DataError: too few images, as `repairkit.experiments.classifier_task.split_of`.
    """
    split = split_of(task.by_column()["original"], options)
    points = len(counts_up_to(options.top or options.usual_top)) - 1
    network = network_cost(split, options, points=points, ends=1 if options.guarantee is not None else 2, orders=2)
    if options.compare:
        before = sum(network.values()) - sum(network[part] for part in ("calibration", "attribution", "evaluation", "control"))
        network["baselines"] = planned(
            options, images=len(split.attribute), points=points + 1, report=len(split.report), before=before, control=True
        )
    return {part: 2 * passes for part, passes in network.items()}


def configuration(task: DropoutTask, options: Options) -> dict[str, object]:
    """All that decides the bits of a run, as JSON can hold it."""
    return run_configuration(task.images, {"model": task.model, "dropout model": task.dropout}, options)


def find(task: DropoutTask, run: Run) -> DropoutFindings:
    """Value the filters of both networks, and freeze more and more of the highest, the lowest and random ones of each.

    Both networks see the same images, the same coalitions and the same random orders. Where baselines are asked for, the first filters of
    their rankings are frozen as well, at the same numbers.

    Args:
        task: networks and images.
        run: of its settings `top` is how many filters of each end are sought and frozen, and the budget that of each attribution:
            two for each network, one for each end.
    """
    tasks, settings = task.by_column(), run.settings
    split = split_of(tasks["original"], settings)
    run.ledger.planned = sum(plan(task, settings).values())
    runs = {column: replace(run.of(column), shared={}) for column in tasks}  # each network has a control of its own
    games = []
    for column, network_task in tasks.items():
        run.ledger.label = column
        games.append(calibrate(network_task, split, run))
    run.ledger.label = ""
    live_games = choose_live_ranges([*tasks.values()], games, split, [*runs.values()])
    networks = {}
    for column, live in zip(tasks, live_games, strict=True):
        run.ledger.label = column
        networks[column] = value_network(live, runs[column])
    curves = ablate_networks(tasks, networks, split, runs)
    comparisons = {}
    for column, network_task in tasks.items() if settings.compare else ():
        run.ledger.label = column
        comparisons[column] = compare_baselines(network_task, networks[column], curves[column], split, runs[column])
    return DropoutFindings(split, networks, live_games[0].choice, curves, comparisons, run.ledger.passes, run.ledger.seconds)


def value_network(live: LiveGame, run: Run) -> ValuedNetwork:
    """The values of both ends of one network."""
    highest = live.values("high", "highest", run)
    lowest = highest if run.settings.guarantee is not None else live.values("low", "lowest", run)
    return ValuedNetwork(highest, lowest, live.game, live.game.batch if live.game.batch < run.settings.batch else None)


def ablate_networks(
    tasks: Mapping[str, CriticalTask], networks: Mapping[str, ValuedNetwork], split: Split, runs: Mapping[str, Run]
) -> dict[str, AblationCurves]:
    """The ablation curves of both networks on the test images, at the same numbers of filters.

    The most that are frozen is what every order has: as many as were asked for, at most half of all, and only filters that were valued.
    """
    orders: dict[str, dict[Series, Examples]] = {}
    for column, network in networks.items():
        most = most_frozen(runs[column].settings, len(network.filters))
        orders[column] = {"highest": network.highest.extremes(most)["high"], "lowest": network.lowest.extremes(most)["low"]}
    counts = counts_up_to(min(len(order) for ends in orders.values() for order in ends.values()))
    curves = {}
    for column, task in tasks.items():
        runs[column].ledger.label = column
        run = runs[column]
        curves[column] = ablate(task, networks[column].filters, orders[column], counts, split, run, run)
    return curves


def compare_baselines(task: CriticalTask, network: ValuedNetwork, curves: AblationCurves, split: Split, run: Run) -> Compared:
    """The ablation curves of baselines beside that of the highest Shapley values, in one network."""
    images, classifier = task.images.subset(split.report), task.model.classifier
    return compare(
        network.game,
        network.highest,
        run,
        seed=run.settings.seed,
        ranking=highest_first(curves.counts[-1]),
        curve=Curve(
            curves.counts,
            lambda frozen: predict(classifier, images, run, filters=network.filters, frozen=frozen) == images.labels,
            curves.outcomes["highest"],
            curves.outcomes["random"],
        ),
    )
