"""Important filters from data to findings: what one class, or accuracy on all, depends on; and the repair of a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from repairkit.baselines import rankings as baselines
from repairkit.baselines.compare import Compared, Curve, Ranking, Selecting, by_value, compare, highest_first, planned, rows_of, with_after
from repairkit.evaluation.ablation import counts_up_to, most_frozen
from repairkit.evaluation.curves import AblationCurves
from repairkit.evaluation.splits import Split
from repairkit.experiments.classifier_task import (
    CriticalTask,
    LiveGame,
    ablate,
    calibrate,
    choose_live_ranges,
    critical_ones,
    is_specific,
    labels_of,
    network_cost,
    positive,
    run_configuration,
    seeks_both,
    split_of,
)  # fmt: skip
from repairkit.experiments.critical.class_ranking import (
    CHOOSING,
    PART,
    ClassRanking,
    OtherClasses,
    PricedGame,
    check_priced_alive,
    choose_factor,
    class_marginals,
    first_factor,
    planned_choosing,
    planned_screens,
    ranked_by_price,
    tries,
)  # fmt: skip
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.network.patch import Patch
from repairkit.network.predict import predict
from repairkit.objectives import Accuracy, ClassRecall
from repairkit.repair.attribute import Attributed, check_affordable
from repairkit.repair.choosing import DOWNSTREAM, choose_once
from repairkit.repair.live_range import Settled
from repairkit.repair.repair import freeze_selected
from repairkit.repair.selection import Choice
from repairkit.repair.selection_images import SelectionGoal
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley import Attribution
from repairkit.shapley.game import Examples, Floats
from repairkit.shapley.live_range import LiveRange

MORE_COUNTS = (3, 30)
"""Numbers of filters at which an ablation curve is measured beside the usual ones; the paper's figure 1 is of 30."""
SHARED = ("control", PART)
"""Parts of a run that are measured once for all classes that are asked about."""
PENALISED = ("leave-one-out", "taylor", "conductance")
"""Baselines in the unit of the objective, which a penalty is taken from."""
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ClassRepair:
    """A class repaired by freezing its harmful filters."""

    attribution: Attribution  # values of the lowest filters
    selection: Choice
    patch: Patch
    classifier: Classifier
    original: Booleans  # shape (N,): which test images were classified correctly
    repaired: Booleans


@dataclass(frozen=True, eq=False)
class CriticalFindings:
    """Everything measured; `repairkit.experiments.critical.result` turns it into a result."""

    split: Split
    attribution: Attribution  # values of the highest filters
    filters: ConvFilters  # the players with their constants
    important: Examples  # players in the order in which they were frozen: the highest values
    ranking: ClassRanking | None  # None where the class alone is looked at
    curves: AblationCurves
    repair: ClassRepair | None
    live_range: LiveRange | None
    live_range_choice: Settled | None
    reduced_batch: int | None  # images of a pass of the attribution, where memory ran out
    comparison: Compared | None  # None unless baselines were asked for
    passes: dict[str, float]
    seconds: dict[str, float]


def plan(task: CriticalTask, options: Options) -> dict[str, float]:
    """Image passes that a run will make, by part; with both ends attributed for a repair.

    Raises:
        DataError: as `split_of`.
    """
    split = split_of(task, options)
    points = len(counts_up_to(options.top or options.usual_top, *MORE_COUNTS)) - 1
    network = network_cost(split, options, points=points, ends=2 if seeks_both(task, options) else 1, orders=1)
    penalty = penalty_cost(split, [task], options) if is_specific(task, options) else {}
    selection = len(split.choose) * (2 + min(6, options.max_filters) * 2 + DOWNSTREAM * 3 * options.candidates) if task.repair else 0
    before = sum(network.values()) - sum(network[part] for part in ("calibration", "attribution", "evaluation", "control"))
    compared = planned(
        options,
        images=len(split.attribute) if task.label is None else int((task.images.labels[split.attribute] == task.label).sum()),
        points=points + 1,
        report=len(split.report),
        choosing=selection,
        before=before + sum(penalty.values()),
        control=True,
    )
    if penalty:
        compared += len(penalised_rows(options)) * tries(len(split.choose)) + len(split.choose)
    return (
        network
        | penalty
        | ({"choosing": selection} if task.repair else {})
        | {"evaluation": network["evaluation"] + len(split.report) * 2 * task.repair}
        | ({"baselines": compared} if options.compare else {})
    )


def plan_each(tasks: Sequence[CriticalTask], options: Options) -> dict[str, float]:
    """As `plan`, for several classes of one network and images, which share what `SHARED` names.

    Raises:
        DataError: as `split_of`.
    """
    plans = [plan(task, options) for task in tasks]
    shared = plans[0] | (penalty_cost(split_of(tasks[0], options), tasks, options) if is_specific(tasks[0], options) else {})
    return {part: shared[part] if part in SHARED else sum(passes[part] for passes in plans) for part in plans[0]}


def penalty_cost(split: Split, tasks: Sequence[CriticalTask], options: Options) -> dict[str, float]:
    """Image passes of what other classes lose with each filter, for these classes, and of choosing the factor for one."""
    labels = tasks[0].images.labels[split.attribute]
    return {PART: planned_screens(labels, labels_of(tasks), options), CHOOSING: planned_choosing(len(split.choose))}


def penalised_rows(options: Options) -> list[str]:
    """Rows of a comparison with baselines that a penalty is taken from."""
    return rows_of([name for name in options.compare if name in PENALISED])


def configuration(task: CriticalTask, options: Options) -> dict[str, object]:
    """All that decides the bits of a run, as JSON can hold it."""
    return run_configuration(task.images, {"model": task.model}, options) | {"class": task.subject, "repair": task.repair}


def find_each(tasks: Sequence[CriticalTask], run: Run) -> list[CriticalFindings]:
    """`find` for one class after the other, of one network and images; what `SHARED` names is measured with the first of them."""
    return [find(task, run, asked=labels_of(tasks)) for task in tasks]


def find(task: CriticalTask, run: Run, *, asked: Sequence[int] = ()) -> CriticalFindings:
    """Value the filters, freeze more and more of the highest beside as many random ones, and repair the class where that is asked for.

    Args:
        task: network, images and question.
        run: of its settings `top` is how many filters of the sought end are wanted and how many are frozen. Passes of the class are booked
            apart; what other classes of this network and these images measured in this session is not measured again.
        asked: labels of all classes that are asked about, where there are several.
    """
    split, shared = split_of(task, run.settings), run.of("shared")
    passes = {part: passes for part, passes in plan(task, run.settings).items() if part not in SHARED or not run.shared}
    run = run.apart("network" if task.label is None else f"class-{task.label}")
    shared = replace(shared, ledger=run.ledger)
    run.ledger.planned, run.ledger.label = sum(passes.values()), task.subject or ""
    (live,) = choose_live_ranges([task], [calibrate(task, split, run)], split, [run])
    game, ranking, batch = live.game, None, live.game.batch
    if task.label is not None and is_specific(task, run.settings):
        attribution, ranking, batch = value_class(task, live, split, run, shared, asked=asked or [task.label])
    else:
        attribution = live.values("high", "attribution", run)
    important = critical_ones(attribution, most_frozen(run.settings, game.n))
    repair = None
    if task.repair and task.label is not None:
        lowest = live.values("low", "culprits", run) if seeks_both(task, run.settings) else attribution
        repair = repair_class(task, Attributed(game, lowest, live.live_range, None), split, run)
    curves = ablate(task, game.filters, {"highest": important}, counts_up_to(len(important), *MORE_COUNTS), split, run, shared)
    batch = min(game.batch, batch)
    compared = compare_baselines(task, game, attribution, ranking, curves, repair, split, run) if run.settings.compare else None
    return CriticalFindings(
        split, attribution, game.filters, important, ranking, curves, repair, live.live_range, live.choice,
        batch if batch < run.settings.batch else None, compared, run.ledger.passes, run.ledger.seconds,
    )  # fmt: skip


def value_class(
    task: CriticalTask, live: LiveGame, split: Split, run: Run, shared: Run, *, asked: Sequence[int]
) -> tuple[Attribution, ClassRanking, int]:
    """Values of the class ranked by value less penalty, that ranking, and the images of a pass that memory allowed."""
    (label,), game = labels_of([task]), live.game
    check_affordable(game, run.settings)
    marginals, others = class_marginals(label, asked, game, task.images.subset(split.attribute), shared)
    sizes, most = np.abs(others).mean(axis=0), most_frozen(run.settings, game.n)
    selection = other_classes(task, game, split, run)
    with run.phase(CHOOSING):
        first = first_factor(marginals, sizes, selection.lead, most=most)
    priced = PricedGame(game, first * sizes)
    unranked, paid = live.values("high", "attribution", run, priced), (1 - live.min_live) * first * sizes
    check_priced_alive(unranked, paid)

    def ranked_by(factor: float) -> Attribution:
        return ranked_by_price(unranked, paid, (1 - live.min_live) * factor * sizes)

    with run.phase(CHOOSING):
        ranking = choose_factor(
            lambda factor: critical_ones(ranked_by(factor), most),
            sizes,
            selection.drop,
            unmoved=selection.unmoved,
            classes=len(others),
            first=first,
            options=run.settings,
        )
    spent = {PART: penalty_cost(split, [task], run.settings)[PART], CHOOSING: run.ledger.passes[CHOOSING]}
    return replace(ranked_by(ranking.factor), passes=unranked.passes | spent), ranking, priced.batch


def other_classes(task: CriticalTask, game: NetworkGame, split: Split, run: Run) -> OtherClasses:
    """The measures of a class-specific ranking on the selection images."""
    (label,) = labels_of([task])
    return OtherClasses(task.model.classifier, game.filters, task.images.subset(split.choose), label, run)


def repair_class(task: CriticalTask, valued: Attributed, split: Split, run: Run) -> ClassRepair:
    """Freeze harmful filters of the class, selected by its recall under a guard on accuracy on the other classes."""
    repair, images = freeze_selected(task.model, valued, selection_goal(task, split), run), task.images.subset(split.report)
    with run.phase("evaluation"):
        original, repaired = (
            predict(classifier, images, run) == images.labels for classifier in (task.model.classifier, repair.classifier)
        )
    return ClassRepair(repair.attribution, repair.selection, repair.patch, repair.classifier, original, repaired)


def selection_goal(task: CriticalTask, split: Split) -> SelectionGoal:
    """What a repair of the class is selected by, and what its guard holds."""
    (label,), images = labels_of([task]), task.images.subset(split.choose)
    members = images.labels == label
    return SelectionGoal(
        target=ClassRecall(label).on(images.subset(np.flatnonzero(members))), guard=Accuracy().on(images.subset(np.flatnonzero(~members)))
    )


def compare_baselines(
    task: CriticalTask,
    game: NetworkGame,
    attribution: Attribution,
    ranking: ClassRanking | None,
    curves: AblationCurves,
    repair: ClassRepair | None,
    split: Split,
    run: Run,
) -> Compared:
    """The ablation curves of baselines beside that of the Shapley values, and where the class is repaired, selection from their candidates.

    Selection goes by values alone, of all.
    """
    images, classifier = task.images.subset(split.report), task.model.classifier

    def choose(baseline: Attribution, run: Run) -> Choice:
        return choose_once(classifier, game.filters, baselines.suspects(baseline), selection_goal(task, split), run, part="baselines")

    most = curves.counts[-1]
    compared = compare(
        game,
        attribution,
        run,
        seed=run.settings.seed,
        ranking=highest_first(most) if ranking is None else penalised_ranking(task, game, ranking, most, split, run),
        curve=Curve(
            curves.counts,
            lambda frozen: predict(classifier, images, run, filters=game.filters, frozen=frozen) == images.labels,
            curves.outcomes["highest"],
            curves.outcomes["random"],
        ),
        selecting=Selecting(choose, repair.selection, repair.attribution) if repair else None,
    )
    return with_after(compared, repair.repaired.astype(np.float64)) if repair else compared


def penalised_ranking(task: CriticalTask, game: NetworkGame, ranking: ClassRanking, most: int, split: Split, run: Run) -> Ranking:
    """How baselines rank filters where a penalty counts: those in the unit of the objective have one, too.

    It has the same sizes. The same rule chooses its factor for each baseline on the same images, out of the same passes.
    The others know neither the objective nor the other classes.
    """
    usual, settings = highest_first(most), run.settings
    passes = penalty_cost(split, [task], settings)[PART] + tries(len(split.choose))
    selection = other_classes(task, game, split, run)

    @cache  # an order and its scores are asked for one after the other
    def ranking_of(baseline: Attribution) -> ClassRanking:
        with run.phase("baselines"):
            return choose_factor(
                lambda factor: positive(baseline.value - factor * ranking.sizes, most),
                ranking.sizes,
                selection.drop,
                unmoved=selection.unmoved,
                classes=ranking.classes,
                first=ranking.first,
                options=settings,
                whose=baseline.engine,
            )

    def score(baseline: Attribution) -> Floats:
        if baseline.engine not in PENALISED:
            return by_value(baseline)
        return baseline.value - ranking_of(baseline).factor * ranking.sizes

    def order(baseline: Attribution) -> Sequence[int]:
        if baseline.engine not in PENALISED:
            return usual.order(baseline)
        players: list[int] = positive(score(baseline), most).tolist()
        return players

    return Ranking(score, order, dict.fromkeys(penalised_rows(settings), passes))
