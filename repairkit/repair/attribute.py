"""Attributing: which filters of one network are to blame, on the attribution images of one fold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from repairkit.data.images import LabelledImages
from repairkit.errors import BudgetError, FullMemoryError, ModelWarning, UsageError
from repairkit.evaluation.splits import halves, ungrouped
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame, prepared_batches
from repairkit.objectives import Accuracy, Objective, ObjectiveSum, Probability
from repairkit.objectives.base import CorrectnessObjective
from repairkit.repair.selection import SELECTION
from repairkit.run.context import Run
from repairkit.run.options import SETTLES, Options
from repairkit.run.store import RunStore
from repairkit.shapley import Attribution, EngineSettings, estimate
from repairkit.shapley.guarantee import End
from repairkit.shapley.live_range import LIVE_RANGE_SIZES, POINT_PASSES, LiveRange, measure_live_range
from repairkit.shapley.stability import SIZES, Stability, stability
from repairkit.shapley.tmab import check_budget

Found = TypeVar("Found")
ObjectiveOn = Callable[..., ObjectiveSum]
"""Makes an objective of sets of images."""


@dataclass(frozen=True)
class Attributed:
    """A network's game on the attribution images of one fold, and the values of its filters.

    Attributes:
        game: what was played; its filters hold the constants.
        attribution: the values.
        live_range: where t0 was measured; None where it was given.
        stability: how far halves of the images agree; None where nobody asked.
    """

    game: NetworkGame
    attribution: Attribution
    live_range: LiveRange | None
    stability: Stability | None


def attribute_network(
    classifier: Classifier, objective: ObjectiveOn, images: Sequence[LabelledImages], run: Run, *, seed: int
) -> Attributed:
    """Constants, live range, agreement of halves and values, as the settings ask.

    Attributions that an earlier session stored are not made again. Constants and live range are, to the same bits.

    Args:
        classifier: the network.
        objective: makes the objective of sets of images such as `images`.
        images: attribution images, which also give the constants; the first set is the target.
        seed: of this fold and round.
        run: costs are booked there, and checkpoints are stored.

    Raises:
        DataError: a half would have no image of a subgroup.
        BudgetError: the budget, or half of it for the halves, is less than the engine needs.
        GameError: no size of coalition at which the network is alive.
    """
    chosen = run.has("choice", SELECTION)  # then all of this was attributed before
    with run.phase("calibration"):
        game = game_of(classifier, objective(*images), images, run.settings)
        run.spend(sum(map(len, images)))
    live_range, t0 = live_range_of(game, run, seed=seed)
    agreement: Stability | None = None
    if run.settings.stability:  # first, since half the budget may be too small
        with run.phase("stability", restored=chosen):
            agreement = agreement_of_halves(classifier, objective, images, run, seed=seed, t0=t0)
    with run.phase("attribution", restored=chosen):
        attribution = attribute(game, run, budget=run.settings.budget, seed=seed, t0=t0)
        run.spend(sum(attribution.passes.values()))
    return Attributed(game, charged(attribution, live_range), live_range, agreement)


def live_range_of(game: NetworkGame, run: Run, *, seed: int) -> tuple[LiveRange | None, float]:
    """The live range where it is to be measured, and its t0; else None and the t0 that was given.

    Raises:
        GameError: no size of coalition at which the network is alive.
        UsageError: a live range that is to be settled, which this command has no images for.
    """
    if run.settings.t0 == "settled":
        raise UsageError(f"t0 'settled' is for {SETTLES}, which leave images alone to settle it on; give a number or 'auto'")
    if run.settings.t0 != "auto":
        return None, run.settings.t0 or 0.0
    with run.phase("live range"):
        live_range = within_memory(
            game,
            lambda: measure_live_range(game, seed=seed, part_of=game.part_of, stratum_of=game.stratum_of),
            store=run.store,
            name="live range",
        )
        run.spend(live_range.passes)
    return live_range, live_range.min_live


def live_range_planned(options: Options, parts: float = 1) -> dict[str, float]:
    """Image passes of measuring the live range of a worth of so many parts, by part of the run, for a network that dies at a tenth of its filters."""
    return {"live range": float(parts * LIVE_RANGE_SIZES * POINT_PASSES)} if options.t0 in ("auto", "settled") else {}


def charged(found: Attribution, live_range: LiveRange | None, before: Mapping[str, float] | None = None) -> Attribution:
    """The attribution with what finding its live range took among its passes, as baselines are given as many.

    Args:
        found: the values.
        live_range: that was measured; None for none.
        before: image passes of what else was made for these values alone, by part.
    """
    return replace(found, passes=found.passes | ({"live range": live_range.passes} if live_range else {}) | dict(before or {}))


def rank_by(objective: Objective, options: Options) -> ObjectiveOn:
    """Makes the sum whose values rank the filters, of target and source: the objective, and accuracy on the source unless only the target counts. Without a source the target is both."""
    wanted, accuracy = (
        Probability(each) if options.score == "smooth" and isinstance(each, CorrectnessObjective) else each
        for each in (objective, Accuracy())
    )

    def objective_on(target: LabelledImages, source: LabelledImages | None = None) -> ObjectiveSum:
        if options.ranking != "recall + source":
            return wanted.on(target)
        return wanted.on(target) + (-wanted.harmful) * accuracy.on(source or target)

    return objective_on


def game_of(classifier: Classifier, worth: ObjectiveSum, calibrated_on: Sequence[LabelledImages], options: Options) -> NetworkGame:
    """The game of any worth, with constants from these images."""
    filters = ConvFilters(classifier.network, freeze_at=options.freeze_at, device=options.device)
    filters.calibrate(batch for images in calibrated_on for batch in prepared_batches(classifier, images, options.batch))
    return NetworkGame(classifier, filters, worth, batch=options.batch, precision=options.precision)


def attribute(
    game: NetworkGame, run: Run, *, budget: float, seed: int, t0: float, name: str = "attribution", end: End | None = None
) -> Attribution:
    """Values of the filters by the chosen engine, which seeks an end, by default the harmful one; their checkpoint is kept under the name.

    Raises:
        FullMemoryError: no memory for a pass of one image.
        UsageError: more filters are wanted than leave one out.
    """
    check_top(game, run.settings)
    checkpoint = run.checkpoint(name)

    def values() -> Attribution:
        settings = _engine_settings(game, run.settings, budget=budget, seed=seed, min_live=t0, end=end)
        return estimate(game, settings, ids=game.filters.ids, workers=run.workers, checkpoint=checkpoint, progress=run.ledger.progress)

    return within_memory(game, values, store=run.store, name=name)


def _engine_settings(
    game: NetworkGame, options: Options, *, budget: float, seed: int = 0, min_live: float = 0.0, end: End | None = None
) -> EngineSettings:
    """What the options say of the engine."""
    return EngineSettings(
        engine=options.engine,
        budget=budget,
        seed=seed,
        top_k=_top(options, game.n),
        end=end,
        min_live=min_live,
        control=_takes_gradients(options),
        guarantee=options.guarantee,
        tolerance=options.tolerance,
        candidates=options.contested,
        truncation=truncation_of(game, options),
    )


def check_top(game: NetworkGame, options: Options) -> None:
    """That more filters are there than are wanted.

    Raises:
        UsageError: they are not.
    """
    if options.top is not None and options.top >= game.n:
        raise UsageError(f"top must be less than the {game.n} filters of the network, got {options.top}: the culprits are some of them")


def check_affordable(game: NetworkGame, options: Options) -> None:
    """What an attribution would be refused for, before anything else is paid.

    Raises:
        UsageError: as `check_top`.
        BudgetError: less than `tmab` needs.
    """
    check_top(game, options)
    if options.engine == "tmab" and options.guarantee is None:
        check_budget(game, _engine_settings(game, options, budget=options.budget))


def _takes_gradients(options: Options) -> bool:
    """Whether gradients are control variates of flips: the range of such observations is not known, as a guarantee needs it."""
    return options.engine == "tmab" and options.score == "smooth" and options.guarantee is None


def truncation_of(game: NetworkGame, options: Options) -> float | None:
    """Worth below which a permutation ends: as asked, else the paper's for each part of the worth; None for never."""
    if options.engine == "tmab" or options.truncation == 0:
        return None
    published = 0.6 if len(game.classifier.classes) == 2 else 0.2
    return published * len(game.objective.terms) if options.truncation is None else options.truncation


def within_memory(game: NetworkGame, work: Callable[[], Found], *, store: RunStore | None, name: str) -> Found:
    """What `work` gives; where memory runs out, again with half as many images in a pass, and with a warning.

    With a checkpoint only the round at work is played again. The halved number is kept, so that a run that goes on plays all later rounds
    with it, as this one does: the same bits.

    Raises:
        FullMemoryError: no memory for a pass of one image.
    """
    if store is not None:
        game.batch = store.batch(name) or game.batch
    while True:
        try:
            return work()
        except FullMemoryError:
            if game.batch == 1:
                raise
        game.batch //= 2  # only here has the error let go of what its pass held
        if store is not None:
            store.keep_batch(name, game.batch)
        warnings.warn(f"memory ran out ({name}): passes now carry {game.batch} images", ModelWarning, stacklevel=2)


def _top(options: Options, n: int) -> int:
    """How many of the n filters are wanted."""
    return options.top or min(options.usual_top, max(n // 2, 1))


def agreement_of_halves(
    classifier: Classifier, objective: ObjectiveOn, images: Sequence[LabelledImages], run: Run, *, seed: int, t0: float
) -> Stability:
    """How far two attributions agree, each on half of the attribution images, with constants and random numbers of its own.

    A number of culprits can only be compared by value where each half values as many filters. So each half has as many candidates as the
    largest of `SIZES` that half the budget pays, where the settings do not say how many and would have fewer.

    Raises:
        DataError: a half would have no image of a subgroup of the first set.
        BudgetError: half the budget is less than the engine needs.
    """
    target, *others = images
    rows = zip(*(halves(part, seed=seed) for part in (target, *map(ungrouped, others))), strict=True)
    attributions = []
    for number, half_rows in enumerate(rows):
        parts = [whole.subset(part) for whole, part in zip(images, half_rows, strict=True)]
        game = game_of(classifier, objective(*parts), parts, run.settings)
        run.spend(sum(map(len, parts)))
        half_seed = int(np.random.default_rng([seed, number]).integers(2**31))  # common random numbers would feign agreement
        for name, wider in (*_wider(run.settings, game.n), ("", run.settings)):
            try:
                half = attribute(
                    game,
                    replace(run, settings=wider),
                    budget=run.settings.budget / 2,
                    seed=half_seed,
                    t0=t0,
                    name=f"half-{number + 1}{name}",
                )
                break
            except BudgetError as error:
                too_small = error
        else:
            raise BudgetError(f"--stability attributes on each half of the images with half the budget: {too_small}")
        attributions.append(half)
        run.spend(sum(half.passes.values()))
    return stability(*attributions)


def _wider(options: Options, n: int) -> Iterator[tuple[str, Options]]:
    """Options that contest as many filters as a number of culprits that is compared, most first, and what their checkpoints are called by."""
    if options.engine == "tmab" and options.contested is None:
        for k in sorted(SIZES, reverse=True):
            if 3 * _top(options, n) < k < n:
                yield f"-{k}", replace(options, contested=k)
