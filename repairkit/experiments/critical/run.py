"""Critical filters from data to findings: what one class, or accuracy on all, depends on; and the repair of a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import torch

from repairkit.baselines import rankings as baselines
from repairkit.baselines.compare import Choose, Compared, Curve, Ranking, Selecting, by_value, compare, planned, rows_of, with_after
from repairkit.baselines.rankings import DRAWS, random_order
from repairkit.data.images import labelled_hash
from repairkit.evaluation.ablation import counts_up_to, freeze_first, freeze_random, most_frozen
from repairkit.evaluation.curves import AblationCurves
from repairkit.evaluation.splits import Split
from repairkit.evaluation.statistics import posterior_drop_bound
from repairkit.experiments.classifier_task import (
    CriticalTask,
    critical_ones,
    is_specific,
    labels_of,
    positive,
    seeks_both,
    split_of,
    worth_on,
)
from repairkit.experiments.critical.class_ranking import (
    CHOOSING,
    PART,
    Fall,
    Lead,
    PricedGame,
    Specific,
    check_priced_alive,
    class_marginals,
    first_factor,
    looks,
    planned_choosing,
    planned_screens,
    ranked_by_price,
    settled,
)
from repairkit.experiments.critical.class_repair import ClassRepair, repair_class, selection_goal
from repairkit.models.zoo import normalisation_of
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.network.predict import predict
from repairkit.repair.attribute import Attributed, attribute, charged, check_affordable, game_of, live_range_of
from repairkit.repair.choosing import DOWNSTREAM, choose_once
from repairkit.repair.live_range import PART as SETTLING
from repairkit.repair.live_range import Settled, found_planned, settle
from repairkit.repair.selection import GUARD_CONFIDENCE, Choice
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley import Attribution
from repairkit.shapley.game import Examples, Floats
from repairkit.shapley.guarantee import End
from repairkit.shapley.live_range import LiveRange

REMOVED = (3, 30)
"""Numbers of filters at which a removal curve is measured beside the usual ones; the paper's figure 1 is of 30."""
SHARED = ("control", PART)
"""Parts of a run that are measured once for all classes that are asked about."""


@dataclass(frozen=True, eq=False)
class CriticalFindings:
    """Everything measured; `repairkit.experiments.critical.summary` turns it into a result.

    Attributes:
        split: which images found, chose and reported.
        attribution: values of the highest filters.
        filters: the players with their constants.
        critical: players in the order in which they were frozen: the highest values.
        specific: what other classes lose with each filter, and how much of that counts; None where the class alone is looked at.
        removal: who was right as filters were frozen.
        repair: where it was asked for.
        live_range: where t0 was measured.
        settled: how t0 was settled, where it was.
        halved: images of a pass of the attribution, where memory ran out.
        compared: with baselines; None where nobody asked.
    """

    split: Split
    attribution: Attribution
    filters: ConvFilters
    critical: Examples
    specific: Specific | None
    removal: AblationCurves
    repair: ClassRepair | None
    live_range: LiveRange | None
    settled: Settled | None
    halved: int | None
    compared: Compared | None
    passes: dict[str, float]
    seconds: dict[str, float]


def plan(task: CriticalTask, options: Options) -> dict[str, float]:
    """Image passes that a run will make, by part; as `repairkit.experiments.fairness.run.plan`, with both ends attributed for a repair.

    Raises:
        DataError: as `split_of`.
    """
    split = split_of(task, options)
    points = len(counts_up_to(options.top or options.usual_top, *REMOVED)) - 1
    report = len(split.report)
    choosing = len(split.choose) * (2 + min(6, options.max_filters) * 2 + DOWNSTREAM * 3 * options.candidates)
    found = len(split.attribute) if task.label is None else int((task.images.labels[split.attribute] == task.label).sum())
    live_range = found_planned(len(split.choose), options)
    before = sum(live_range.values()) + (sum(_priced(split, [task], options).values()) if is_specific(task, options) else 0)
    compared = planned(
        options, images=found, points=points + 1, report=report, choosing=choosing * task.repair, before=before, control=True
    )
    if is_specific(task, options):
        compared += len(_priced_rows(options)) * looks(len(split.choose)) + len(split.choose)
    return (
        {"calibration": float(len(split.attribute))}
        | live_range
        | (_priced(split, [task], options) if is_specific(task, options) else {})
        | {"attribution": options.budget * (2 if seeks_both(task, options) else 1)}
        | ({"choosing": choosing} if task.repair else {})
        | {"evaluation": float(report * (1 + points + 2 * task.repair)), "control": float(report * points * DRAWS)}
        | ({"baselines": compared} if options.compare else {})
    )


def plan_each(tasks: Sequence[CriticalTask], options: Options) -> dict[str, float]:
    """As `plan`, for several classes of one network and images, which share what `SHARED` names.

    Raises:
        DataError: as `split_of`.
    """
    plans = [plan(task, options) for task in tasks]
    shared = plans[0] | (_priced(split_of(tasks[0], options), tasks, options) if is_specific(tasks[0], options) else {})
    return {part: shared[part] if part in SHARED else sum(each[part] for each in plans) for part in plans[0]}


def _priced(split: Split, tasks: Sequence[CriticalTask], options: Options) -> dict[str, float]:
    """Image passes of what other classes lose, asked by these classes, and of choosing the price of one."""
    labels = tasks[0].images.labels[split.attribute]
    return {PART: planned_screens(labels, labels_of(tasks), options), CHOOSING: planned_choosing(len(split.choose))}


def configuration(task: CriticalTask, options: Options) -> dict[str, object]:
    """Everything that decides the bits of a run, as JSON can hold it."""
    return options.configuration | {
        "class": task.subject,
        "repair": task.repair,
        "model": task.model.sha256[:16],
        "normalisation": normalisation_of(task.model),
        "images": labelled_hash(task.images),
        "threads": torch.get_num_threads(),
        "version": f"{version('repairkit')} with torch {torch.__version__}",
    }


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
    planned = {part: passes for part, passes in plan(task, run.settings).items() if part not in SHARED or not run.shared}
    run = run.apart("network" if task.label is None else f"class-{task.label}")
    shared = replace(shared, ledger=run.ledger)
    run.ledger.planned, run.ledger.label = sum(planned.values()), task.subject or ""
    classifier = task.model.classifier
    with run.phase("calibration"):
        found_on = task.images.subset(split.attribute)
        game = game_of(classifier, worth_on(task, found_on, run.settings), (found_on,), run.settings)
        run.spend(len(found_on))
    live_range: LiveRange | None
    zoned = None
    if task.label is None and run.settings.t0 == "settled":
        (live_range,), zoned = settle([game], task.images.subset(split.choose), [run])
        t0 = zoned.min_live
    else:
        live_range, t0 = live_range_of(game, run, seed=run.settings.seed)

    def values(game: NetworkGame, end: End, name: str) -> Attribution:
        with run.phase("attribution"):
            found = attribute(game, run, budget=run.settings.budget, seed=run.settings.seed, t0=t0, name=name, end=end)
            run.spend(sum(found.passes.values()))
        return charged(found, live_range, {SETTLING: zoned.passes} if zoned else None)

    most = most_frozen(run.settings, game.n)
    price, batch = None, game.batch
    if task.label is not None and is_specific(task, run.settings):
        attribution, price, batch = value_class(task, task.label, game, split, values, (run, shared), asked=asked or [task.label], t0=t0)
    else:
        attribution = values(game, "high", "attribution")
    critical = critical_ones(attribution, most)
    repair = None
    if task.repair and task.label is not None:
        lowest = values(game, "low", "culprits") if seeks_both(task, run.settings) else attribution
        repair = repair_class(task, task.label, Attributed(game, lowest, live_range, None), split, run)
    removal = remove(task, game.filters, critical, split, run, shared)
    halved = batch if (batch := min(game.batch, batch)) < run.settings.batch else None
    compared = compare_removal(task, game, price, attribution, removal, repair, split, run) if run.settings.compare else None
    return CriticalFindings(
        split, attribution, game.filters, critical, price, removal, repair, live_range, zoned, halved, compared,
        run.ledger.passes, run.ledger.seconds,
    )  # fmt: skip


def value_class(
    task: CriticalTask,
    label: int,
    game: NetworkGame,
    split: Split,
    values: Callable[[NetworkGame, End, str], Attribution],
    runs: tuple[Run, Run],
    *,
    asked: Sequence[int],
    t0: float,
) -> tuple[Attribution, Specific, int]:
    """Values of a class less a price for what the other classes lose, that price, and the images of a pass that memory allowed.

    `values` attributes a game for an end, under a name; `runs` are those of the class, and of what all classes share.
    """
    run, shared = runs
    check_affordable(game, run.settings)
    own, others = class_marginals(label, asked, game, task.images.subset(split.attribute), shared)
    sizes, most = np.abs(others).mean(axis=0), most_frozen(run.settings, game.n)
    lead, fall, unmoved = measures(task, label, game.filters, split, run)
    with run.phase(CHOOSING):
        first = first_factor(own, sizes, lead, most=most)
    played = PricedGame(game, first * sizes)
    found, paid = values(played, "high", "attribution"), (1 - t0) * first * sizes
    check_priced_alive(found, paid)

    def ranked_by(factor: float) -> Attribution:
        return ranked_by_price(found, paid, (1 - t0) * factor * sizes)

    with run.phase(CHOOSING):
        price = settled(
            lambda factor: critical_ones(ranked_by(factor), most),
            sizes,
            fall,
            unmoved=unmoved,
            classes=len(others),
            first=first,
            options=run.settings,
        )
    spent = {PART: _priced(split, [task], run.settings)[PART], CHOOSING: run.ledger.passes[CHOOSING]}
    return replace(ranked_by(price.factor), passes=found.passes | spent), price, played.batch


def measures(task: CriticalTask, label: int, filters: ConvFilters, split: Split, run: Run) -> tuple[Lead, Fall, float]:
    """What a class-specific ranking is chosen by, on the images that choose, and the bound on a fall that is none."""
    images = task.images.subset(split.choose)
    own = images.labels == label
    elsewhere = np.unique(images.labels[~own])

    @lru_cache(maxsize=1)  # of the network as it is
    def before() -> npt.NDArray[np.bool_]:
        return right(np.array([], dtype=np.int64))

    def right(frozen: Examples) -> npt.NDArray[np.bool_]:
        rows: npt.NDArray[np.bool_] = predict(task.model.classifier, images, run, filters=filters, frozen=frozen) == images.labels
        return rows

    def fallen(rows: npt.NDArray[np.bool_]) -> tuple[float, float]:
        return posterior_drop_bound(before()[~own], rows[~own], images.labels[~own], confidence=GUARD_CONFIDENCE, seed=run.settings.seed)

    def beyond(rows: npt.NDArray[np.bool_]) -> float:
        return float(rows[own].mean() - np.mean([rows[images.labels == label].mean() for label in elsewhere]))

    def lead(frozen: Examples) -> float:
        return beyond(before()) - beyond(right(frozen))

    none = np.ones(len(images.labels[~own]))
    unmoved = posterior_drop_bound(none, none, images.labels[~own], confidence=GUARD_CONFIDENCE, seed=run.settings.seed)[1]
    return lead, lambda frozen: fallen(right(frozen)), unmoved


PRICED = ("leave-one-out", "taylor", "conductance")
"""Baselines in the unit of the worth, which a price is taken from."""


def _priced_rows(options: Options) -> list[str]:
    """Rows of a comparison that a price is taken from."""
    return rows_of([name for name in options.compare if name in PRICED])


def compare_removal(
    task: CriticalTask,
    game: NetworkGame,
    price: Specific | None,
    attribution: Attribution,
    removal: AblationCurves,
    repair: ClassRepair | None,
    split: Split,
    run: Run,
) -> Compared:
    """The removal curves of baselines beside that of the Shapley values, and where the class is repaired, choosing from their candidates.

    Where a price counts against a filter, one does for the baselines in its unit, too: the same sizes, with a factor that is settled for each of
    them by the same rule on the same images, out of the same passes. The others know neither the worth nor the other classes. Choosing goes by
    values alone, of all.
    """
    images = task.images.subset(split.report)
    reserved: dict[str, float] = {}
    own_price: Callable[[Attribution], Specific] | None = None
    if price is not None and task.label is not None:
        label, sizes = task.label, price.sizes
        reserved = dict.fromkeys(_priced_rows(run.settings), _priced(split, [task], run.settings)[PART] + looks(len(split.choose)))
        fall, unmoved = measures(task, label, game.filters, split, run)[1:]

        @cache  # an order and its scores are asked for one after the other
        def own_price(found: Attribution) -> Specific:
            with run.phase("baselines"):
                return settled(
                    lambda factor: positive(found.value - factor * sizes, removal.counts[-1]),
                    sizes,
                    fall,
                    unmoved=unmoved,
                    classes=price.classes,
                    first=price.first,
                    options=run.settings,
                    whose=found.engine,
                )

    choose: Choose | None = None
    if repair is not None and task.label is not None:
        goal = selection_goal(task, task.label, split)

        def choose(found: Attribution, run: Run) -> Choice:
            return choose_once(task.model.classifier, game.filters, baselines.suspects(found), goal, run, part="baselines")

    def score(found: Attribution) -> Floats:
        if own_price is None or found.engine not in PRICED:
            return by_value(found)
        own = own_price(found)
        return found.value - own.factor * own.sizes

    def order(found: Attribution) -> list[int]:
        highest = removal.counts[-1]
        named = (
            positive(score(found), highest) if own_price and found.engine in PRICED else np.argsort(-score(found), kind="stable")[:highest]
        )
        players: list[int] = named.tolist()
        return players

    compared = compare(
        game,
        attribution,
        run,
        seed=run.settings.seed,
        ranking=Ranking(score, order, reserved),
        curve=Curve(
            removal.counts,
            lambda frozen: predict(task.model.classifier, images, run, filters=game.filters, frozen=frozen) == images.labels,
            removal.critical,
            removal.random,
        ),
        selecting=Selecting(choose, repair.choice, repair.attribution) if repair and choose else None,
    )
    return with_after(compared, repair.repaired.astype(np.float64)) if repair else compared


def remove(task: CriticalTask, filters: ConvFilters, highest: Examples, split: Split, run: Run, shared: Run) -> AblationCurves:
    """The ablation curves on the report images: the critical filters, highest first, and random ones of all, which all classes share."""
    images, classifier = task.images.subset(split.report), task.model.classifier
    counts = counts_up_to(len(highest), *REMOVED)
    orders = [random_order(len(filters), seed=run.settings.seed, draw=draw) for draw in range(DRAWS)]
    with run.phase("evaluation"):
        critical = freeze_first(classifier, filters, highest, counts, images, run)
    random = freeze_random(classifier, filters, orders, counts[1:], images, shared)
    return AblationCurves(images.labels, images.classes, task.label, counts, critical, np.vstack([critical[:1], random]))
