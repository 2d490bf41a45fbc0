"""What is asked about a classifier: the network, its images, perhaps a class; and the steps that several kinds of experiments take with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

from repairkit.baselines.rankings import DRAWS, random_order
from repairkit.data.images import LabelledImages, labelled_hash
from repairkit.errors import DataError, UsageError
from repairkit.evaluation import ablation
from repairkit.evaluation.ablation import freeze_first, freeze_random
from repairkit.evaluation.curves import AblationCurves, Series
from repairkit.evaluation.metrics import OTHERS
from repairkit.evaluation.splits import Split, three_way, ungrouped
from repairkit.experiments.fitting import check_fit
from repairkit.models.zoo import LoadedModel, normalisation_of
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.objectives import Accuracy, ClassRecall, ObjectiveSum, Probability
from repairkit.repair.attribute import attribute, charged, game_of, live_range_of
from repairkit.repair.choosing import check_guard
from repairkit.repair.live_range import PART as LIVE_RANGE_CHOICE
from repairkit.repair.live_range import Settled, found_planned, settle
from repairkit.run.context import Run
from repairkit.run.options import MinLive, Options, Ranking
from repairkit.shapley import Attribution
from repairkit.shapley.game import Examples, Floats
from repairkit.shapley.guarantee import End
from repairkit.shapley.live_range import LiveRange

ROUNDING = 1e-6
"""Values below it are zero: float32 passes of other sizes differ by less."""
LEAST = 10
"""Images of the class that find and report at least: with fewer neither a value nor an interval says anything."""


@dataclass(frozen=True)
class CriticalTask:
    """A network, images of its classes, and what is asked.

    Attributes:
        model: the network.
        images: labelled by the columns of its logits.
        label: the class whose recall is asked about; None for accuracy on all.
        repair: also repair the class.

    Raises:
        DataError: the images have other classes than the network, or were seen in training, or there are too few of the class.
        ModelError: the network cannot take images of this size, or answers with probabilities or what is not finite.
    """

    model: LoadedModel
    images: LabelledImages
    label: int | None
    repair: bool = False

    def __post_init__(self) -> None:
        check_fit(self.model, self.images)
        if self.label is not None and (self.images.labels == self.label).all():
            raise DataError(f"{self.images.name} holds images of {self.subject} alone; give images of other classes to compare with")

    @property
    def subject(self) -> str | None:
        """Name of the class, if one is asked about."""
        return None if self.label is None else self.images.classes[self.label]

    @property
    def objective(self) -> ClassRecall | Accuracy:
        """What filters are valued by."""
        return Accuracy() if self.label is None else ClassRecall(self.label)


def split_of(task: CriticalTask, options: Options) -> Split:
    """The images that find, choose and report, stratified by class; the same whichever class is asked about.

    Raises:
        DataError: too few images of the class; says how many are needed. Or too few of the others for each part, or to show that the guard holds.
    """
    images = task.images
    find, _, report = options.target_shares
    needed = math.ceil(LEAST / min(find, report))
    there = len(images) if task.label is None else int((images.labels == task.label).sum())
    if there < needed:
        what = images.name if task.subject is None else f"{images.name}: the class {task.subject!r}"
        raise DataError(
            f"{what} has {there} image{'s' if there != 1 else ''}, but {needed} are needed: {LEAST} that find filters, {LEAST} that report "
            f"and the rest that choose; give more images of it, for instance with --subsets train,val"
        )
    split = three_way(ungrouped(images), shares=options.target_shares, seed=options.seed)
    if task.label is not None and any((images.labels[rows] == task.label).all() for rows in vars(split).values()):
        raise DataError(f"{images.name}: the {len(images) - there} images of {OTHERS} are too few for each part to have one; give more")
    if task.repair:
        check_guard(int((images.labels[split.choose] != task.label).sum()), options.max_clean_drop, f"{images.name}, {OTHERS}")
    return split


def worth_on(task: CriticalTask, images: LabelledImages, options: Options) -> ObjectiveSum:
    """The worth whose values rank the filters; of a class, on its images alone."""
    objective = Probability(task.objective) if options.score == "smooth" else task.objective
    return objective.on(images if task.label is None else images.subset(np.flatnonzero(images.labels == task.label)))


def critical_ones(attribution: Attribution, most: int) -> Examples:
    """The filters that something depends on, highest first (value, less the price where there is one): at most so many, and of positive value alone."""
    highest = attribution.extremes(len(attribution.ids))["high"]
    return highest[attribution.value[highest] > ROUNDING][:most]


def positive(scores: Floats, most: int) -> Examples:
    """Filters by score, highest first: at most so many, and of positive score alone.

    Example:
        >>> positive(np.array([0.1, -0.2, 0.3, 0.0]), 3)
        array([2, 0])
    """
    highest: Examples = np.argsort(-scores, kind="stable")
    return highest[scores[highest] > ROUNDING][:most]


def class_ranking(given: str | None, engine: str, guarantee: float | None = None) -> Ranking:
    """What ranks the filters of a class: as given, else "specific" where that can be.

    Raises:
        UsageError: a ranking that is not for classes.

    Example:
        >>> class_ranking(None, "tmab"), class_ranking(None, "monte-carlo"), class_ranking("recall", "tmab")
        ('specific', 'recall', 'recall')
    """
    if given not in (None, "specific", "recall"):
        raise UsageError(f"ranking must be 'specific' or 'recall' for a class, got {given!r}")
    if given is None:
        return "specific" if engine == "tmab" and guarantee is None else "recall"
    return "specific" if given == "specific" else "recall"


def usual_t0(engine: str, ranking: str, *, of_class: bool) -> MinLive:
    """Live range, unless told otherwise; None stands for the engine's own.

    Critical filters matter together, far from the whole network or near it, by the network. The mean height of accuracy while the 40 highest are
    frozen was, from the live range that was measured and from t0 = 0.97, where repairs look: on handwritten digits (SqueezeNet 1.1) 26 and 64 %, on ImageNet's
    Inception-v3 29 and 22 %. So accuracy settles it on the images that choose, which it has no other use for. A class has few of these, and takes the measured live range;
    a class-specific ranking looks where the other classes are alive, which is where repairs look.

    Example:
        >>> usual_t0("tmab", "recall", of_class=False), usual_t0("tmab", "recall", of_class=True)
        ('settled', 'auto')
        >>> usual_t0("tmab", "specific", of_class=True), usual_t0("monte-carlo", "recall", of_class=False)
        (None, None)
    """
    if engine != "tmab" or ranking == "specific":
        return None
    return "auto" if of_class else "settled"


def is_specific(task: CriticalTask, options: Options) -> bool:
    """Whether values are less by what other classes lose."""
    return task.label is not None and options.ranking == "specific"


def seeks_both(task: CriticalTask, options: Options) -> bool:
    """Whether the culprits of a repair take an attribution of their own; a guarantee finds them on the way."""
    return task.repair and options.guarantee is None


def labels_of(tasks: Sequence[CriticalTask]) -> list[int]:
    """The classes that are asked about."""
    return [task.label for task in tasks if task.label is not None]


def run_configuration(images: LabelledImages, models: Mapping[str, LoadedModel], options: Options) -> dict[str, object]:
    """All that decides the bits of a run on these images with these networks, by name; as JSON can hold it."""
    networks = {name: model.sha256[:16] for name, model in models.items()}
    normalisation = {f"normalisation of the {name}": normalisation_of(model) for name, model in models.items()}
    return {
        **options.configuration,
        **networks,
        **normalisation,
        "images": labelled_hash(images),
        "threads": torch.get_num_threads(),
        "version": f"{version('repairkit')} with torch {torch.__version__}",
    }


@dataclass(frozen=True, eq=False)
class LiveGame:
    """The game of a network's filters on the attribution images, and the live range that they are valued in.

    Attributes:
        game: its filters hold the constants.
        min_live: least share of filters that stays live.
        live_range: that was measured; None where `min_live` was given.
        choice: how the live range was chosen on the selection images; None where it was not.
    """

    game: NetworkGame
    min_live: float
    live_range: LiveRange | None = None
    choice: Settled | None = None

    def values(self, end: End, name: str, run: Run, game: NetworkGame | None = None) -> Attribution:
        """Values of the filters, from an attribution that seeks an end; `game` stands in for the game that is played."""
        settings = run.settings
        with run.phase("attribution"):
            attribution = attribute(
                game or self.game, run, budget=settings.budget, seed=settings.seed, t0=self.min_live, name=name, end=end
            )
            run.spend(sum(attribution.passes.values()))
        return charged(attribution, self.live_range, {LIVE_RANGE_CHOICE: self.choice.passes} if self.choice else None)


def calibrate(task: CriticalTask, split: Split, run: Run) -> NetworkGame:
    """The game of the task's network, with constants from the attribution images."""
    images = task.images.subset(split.attribute)
    with run.phase("calibration"):
        game = game_of(task.model.classifier, worth_on(task, images, run.settings), (images,), run.settings)
        run.spend(len(images))
    return game


def choose_live_ranges(tasks: Sequence[CriticalTask], games: Sequence[NetworkGame], split: Split, runs: Sequence[Run]) -> list[LiveGame]:
    """The live range of each network, as the settings ask: given, measured, or chosen on the selection images for all networks together."""
    settings = runs[0].settings
    if settings.t0 == "settled" and tasks[0].label is None:
        live_ranges, choice = settle(games, tasks[0].images.subset(split.choose), runs)
        return [LiveGame(game, choice.min_live, live_range, choice) for game, live_range in zip(games, live_ranges, strict=True)]
    measured = (live_range_of(game, run, seed=settings.seed) for game, run in zip(games, runs, strict=True))
    return [LiveGame(game, min_live, live_range) for game, (live_range, min_live) in zip(games, measured, strict=True)]


def ablate(
    task: CriticalTask,
    filters: ConvFilters,
    orders: Mapping[Series, Examples],
    counts: tuple[int, ...],
    split: Split,
    run: Run,
    shared: Run,
) -> AblationCurves:
    """The ablation curves of one network on the test images, along these orders and random ones, which `shared` keeps for all parts of the run."""
    images, classifier = task.images.subset(split.report), task.model.classifier
    random_orders = [random_order(len(filters), seed=run.settings.seed, draw=draw) for draw in range(DRAWS)]
    with run.phase("evaluation"):
        start = freeze_first(classifier, filters, (), (0,), images, run)
        outcomes: dict[Series, Floats] = {
            series: np.vstack([start, freeze_first(classifier, filters, order, counts[1:], images, run)]).astype(np.float64)
            for series, order in orders.items()
        }
    random = freeze_random(classifier, filters, random_orders, counts[1:], images, shared)
    return AblationCurves(images.labels, images.classes, task.label, counts, {**outcomes, "random": np.vstack([start, random])})


def network_cost(split: Split, options: Options, *, points: int, ends: int, orders: int) -> dict[str, float]:
    """Image passes of calibrating, valuing and ablating one network, by part.

    Args:
        split: of the images.
        options: the budget, and how the live range is found.
        points: numbers of filters frozen along an order, without 0.
        ends: attributions.
        orders: that are frozen along, beside the random ones.
    """
    test = len(split.report)
    return {
        "calibration": float(len(split.attribute)),
        **found_planned(len(split.choose), options),
        "attribution": options.budget * ends,
        "evaluation": ablation.cost(1 + points * orders, test),
        "control": ablation.cost(points * DRAWS, test),
    }
