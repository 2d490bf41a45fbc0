"""Sample efficiency: how many samples the bandit takes against plain Monte Carlo (Ghorbani & Zou 2020, figure 8).

Two ways of comparing. "replay": both are Algorithm 1 of the paper, with its bound, stopped by its rule at the same tolerance. That is a matter of
minutes for some dozens of filters and of no budget that anybody has for a real network, where the bound (R = 1) eliminates nothing. There the
way is "budget": our engine and Monte Carlo spend the same passes, and are held against a long reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Literal, get_args

import numpy as np
import torch

from repairkit.data.images import LabelledImages, labelled_hash
from repairkit.errors import BudgetError, UsageError
from repairkit.evaluation.splits import some, ungrouped
from repairkit.experiments.fitting import check_fit
from repairkit.experiments.sample_efficiency.stopping import DELTA, Stopping, compare, redrawn
from repairkit.models.zoo import LoadedModel, normalisation_of
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.objectives import Accuracy, Probability
from repairkit.repair.attribute import game_of, within_memory
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import ARRAYS
from repairkit.shapley import Attribution, EngineSettings, estimate
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.confidence import published_count
from repairkit.shapley.game import Floats, Game
from repairkit.shapley.guarantee import End
from repairkit.shapley.permutation import evaluations
from repairkit.shapley.workers import WorkerPool

Method = Literal["replay", "budget"]
BATCH = 128
"""Images of an evaluation in the paper."""
BLOCK = 25
"""Permutations of one piece of work, and of one kept file."""
RESAMPLES = 100
"""Replays of resampled permutations, for the interval of a share of samples."""
EXTRAPOLATIONS = 2
"""Replays of resampled permutations where those walked do not suffice."""
_REFERENCE = 0x8EF  # keeps the random numbers of the reference apart


@dataclass(frozen=True, kw_only=True)
class EfficiencyOptions:
    """What is compared, and how long.

    Attributes:
        method: "replay" or "budget".
        images: of the game, at most.
        top: k, how many filters are sought.
        end: "high" as in the paper, or "low".
        tolerances: of the published rule, absolute; the paper's is 1e-4.
        permutations: walked in all, half for each algorithm ("replay").
        evaluated_on: images of one evaluation, drawn afresh for each permutation; the paper's 128.
        most: permutations after which an extrapolation is given up.
        reference: image passes of the reference ("budget"); the budget of both engines stands in the options.

    Raises:
        UsageError: a value out of range.
    """

    method: Method = "replay"
    images: int = 200
    top: int = 10
    end: End = "high"
    tolerances: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    permutations: int = 1000
    evaluated_on: int = BATCH
    most: int = 200_000
    reference: float = 200_000

    def __post_init__(self) -> None:
        for name, choices in (("method", Method), ("end", End)):
            if (given := getattr(self, name)) not in get_args(choices):
                raise UsageError(f"{name} must be {' or '.join(map(repr, get_args(choices)))}, got {given!r}")
        if not self.tolerances or not all(0 < tolerance < math.inf for tolerance in self.tolerances):
            raise UsageError(f"tolerances must be numbers above 0, at least one, got {self.tolerances}; with 0 a tie is never decided")
        for name, least in (("images", 2), ("top", 1), ("permutations", 4), ("evaluated_on", 1), ("most", 1), ("reference", 1)):
            if not least <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class EfficiencyTask:
    """A network and the images on which its filters are valued.

    Raises:
        DataError, ModelError: as `repairkit.experiments.fitting.check_fit`.
    """

    model: LoadedModel
    images: LabelledImages

    def __post_init__(self) -> None:
        check_fit(self.model, self.images)


def permutation(game: Game, seed: int, index: int, *, batch: int = BATCH, depth: int | None = None) -> Floats:
    """Marginals of all players in the engine's permutation `index`, in one large pass; float64 (n,).

    With `depth` the walk ends after so many removals, which is truncation by size, and the marginals of the players that are left are NaN.
    If they count as 0, the mean over permutations to a depth of `(1 - t0) n` estimates what `tmab` does with that t0.
    """
    rng = np.random.default_rng([seed, index])
    examples, factors = game.draw(rng, batch)
    order = rng.permutation(game.n)[:depth]
    live = np.ones((len(order) + 1, game.n), dtype=bool)
    for removed, player in enumerate(order):
        live[removed + 1 :, player] = False
    scores = game.scores(np.repeat(live, batch, axis=0), np.tile(examples, len(live)))
    worths = (np.tile(factors, len(live)) * scores).reshape(len(live), batch).mean(axis=1)
    marginals = np.full(game.n, np.nan)
    marginals[order] = worths[:-1] - worths[1:]
    return marginals


@dataclass(frozen=True)
class Permutations:
    """Some permutations one after the other: a piece of work for a `WorkerPool`."""

    seed: int
    start: int
    stop: int
    batch: int
    depth: int | None = None

    def observe(self, game: Game) -> Floats:
        """Marginals, float64 (stop - start, n)."""
        return np.stack([permutation(game, self.seed, index, batch=self.batch, depth=self.depth) for index in range(self.start, self.stop)])


@dataclass(frozen=True, eq=False)
class EqualPasses:
    """Our engine and Monte Carlo after the same passes, and a long reference.

    Attributes:
        tmab: screen and flips.
        values, samples: of Monte Carlo, shape (n,); what no permutation reached has the value 0.
        permutations: that it walked.
        reference: flips of all filters with random numbers of its own.
        needed: passes that TMAB as published needs at least at each tolerance: were its values the reference's and did its marginals not vary.
    """

    tmab: Attribution
    values: Floats
    samples: Floats
    permutations: int
    reference: Attribution
    needed: dict[float, float]


@dataclass(frozen=True, eq=False)
class EfficiencyFindings:
    """Everything measured; of `stoppings` and `equal` that of the method.

    Attributes:
        filters: how many there are.
        images: on which they were valued.
        reduced_batch: images of a pass, where memory ran out.
    """

    filters: int
    images: int
    stoppings: list[Stopping]
    equal: EqualPasses | None
    reduced_batch: int | None
    passes: dict[str, float]
    seconds: dict[str, float]


def depth_of(t0: float, n: int) -> int:
    """Removals of a walk that ends where the share t0 of n filters is left.

    Example:
        >>> depth_of(0.97, 2976), depth_of(0.0, 32)
        (89, 32)
    """
    return max(round((1 - t0) * n), 1)


def walks_within(options: Options, efficiency: EfficiencyOptions, n: int) -> int:
    """Permutations that the budget of Monte Carlo pays.

    Raises:
        BudgetError: not one.
    """
    cost = (depth_of(_t0(options), n) + 1) * efficiency.evaluated_on
    if (count := int(options.budget // cost)) < 1:
        raise BudgetError(
            f"one permutation of {n:,} filters takes {cost:,} image passes down to t0 = {_t0(options):g}, the budget is {options.budget:,.0f}; "
            "give a larger budget or a smaller evaluated_on"
        )
    return count


def plan(task: EfficiencyTask, options: Options, efficiency: EfficiencyOptions) -> dict[str, float]:
    """Image passes by part, at most.

    Raises:
        BudgetError: as `walks_within`.
        UsageError: as many filters sought as there are.
    """
    n = len(ConvFilters(task.model.classifier.network, freeze_at=options.freeze_at))
    _check_top(efficiency, n)
    calibration = {"calibration": float(min(efficiency.images, len(task.images)))}
    if efficiency.method == "replay":
        return calibration | {"permutations": float(efficiency.permutations * (n + 1) * efficiency.evaluated_on)}
    walked = walks_within(options, efficiency, n) * (depth_of(_t0(options), n) + 1) * efficiency.evaluated_on
    return calibration | {"tmab": options.budget, "monte-carlo": float(walked), "reference": efficiency.reference}


def configuration(task: EfficiencyTask, options: Options, efficiency: EfficiencyOptions) -> dict[str, object]:
    """Everything that decides the bits of a run, as JSON can hold it."""
    return {
        "options": asdict(options),
        "efficiency": asdict(efficiency),
        "batch": options.batch,
        "model": task.model.sha256[:16],
        "normalisation": normalisation_of(task.model),
        "images": labelled_hash(task.images),
        "threads": torch.get_num_threads(),
        "version": f"{version('repairkit')} with torch {torch.__version__}",
    }


def measure(task: EfficiencyTask, run: Run, efficiency: EfficiencyOptions) -> EfficiencyFindings:
    """Value the filters of a network by the algorithms that are compared.

    Args:
        task: network and images.
        run: of its settings, `budget`, `t0` and `contested` ("budget"), `score`, `freeze_at`, `precision`, `seed`, `device` and `batch`.
        efficiency: what is compared.
    """
    run.ledger.planned = sum(plan(task, run.settings, efficiency).values())
    run = run.of("network")
    with run.phase("calibration"):
        images = task.images.subset(some(ungrouped(task.images), efficiency.images, seed=run.settings.seed))
        objective = Probability(Accuracy()) if run.settings.score == "smooth" else Accuracy()
        game = game_of(task.model.classifier, objective.on(images), (images,), run.settings)
        run.spend(len(images))
    if efficiency.method == "budget":
        stoppings: list[Stopping] = []
        equal: EqualPasses | None = equal_passes(game, run, efficiency)
    else:
        stoppings, equal = stopped(game, run, efficiency), None
    reduced_batch = game.batch if game.batch < run.settings.batch else None
    return EfficiencyFindings(game.n, len(images), stoppings, equal, reduced_batch, run.ledger.passes, run.ledger.seconds)


def stopped(game: NetworkGame, run: Run, efficiency: EfficiencyOptions) -> list[Stopping]:
    """Both algorithms replayed on the same permutations until they stop, at each tolerance from the widest."""
    rows = walked(game, "permutations", efficiency.permutations, None, run, efficiency)
    halves = (rows[0::2], rows[1::2])
    settings = {"top": efficiency.top, "end": efficiency.end, "most": efficiency.most}
    stoppings = []
    with run.phase("replays"):
        for tolerance in sorted(efficiency.tolerances, reverse=True):
            comparisons, extrapolated = compare(halves, **settings, tolerance=tolerance, repeats=EXTRAPOLATIONS)  # type: ignore[arg-type]
            replays = EXTRAPOLATIONS if extrapolated else RESAMPLES
            ratios = (
                []
                if extrapolated
                else [one.ratio for one in redrawn(halves, **settings, tolerance=tolerance, repeats=replays, seed=11) if one.stopped]  # type: ignore[arg-type]
            )
            stoppings.append(Stopping(tolerance, comparisons, extrapolated, np.array(ratios), replays))
    return stoppings


def walked(game: NetworkGame, part: str, count: int, depth: int | None, run: Run, efficiency: EfficiencyOptions) -> Floats:
    """Marginals of that many permutations, float64 (count, n); blocks that are stored are not walked again."""
    pieces = [
        Permutations(run.settings.seed, start, min(start + BLOCK, count), efficiency.evaluated_on, depth)
        for start in range(0, count, BLOCK)
    ]
    cost = ((game.n if depth is None else min(depth, game.n)) + 1) * efficiency.evaluated_on
    blocks: dict[int, Arrays] = {}

    def walk(missing: Sequence[int]) -> Iterator[Arrays]:
        with WorkerPool(game, run.workers) as pool:
            for marginals in pool.run([pieces[number] for number in missing]):
                yield {"marginals": marginals}

    def walk_all() -> None:
        keys = [f"{part}-{piece.start}" for piece in pieces]
        run.cached_each(keys, walk, ARRAYS, passes=lambda block: float(cost * len(block["marginals"])), results=blocks)

    with run.phase(part):
        within_memory(game, walk_all, store=run.store, name=part)
    return np.concatenate([blocks[number]["marginals"] for number in range(len(pieces))])


def equal_passes(game: NetworkGame, run: Run, efficiency: EfficiencyOptions) -> EqualPasses:
    """Our engine and Monte Carlo at the same budget and for the same values: those of sizes from t0, where the walk ends too."""
    settings, t0 = run.settings, _t0(run.settings)
    tmab = values_of(game, run, efficiency, "tmab", (settings.budget, settings.seed, settings.contested))
    count, depth = walks_within(settings, efficiency, game.n), depth_of(t0, game.n)
    rows = walked(game, "monte-carlo", count, depth, run, efficiency)
    seed = int(np.random.default_rng([settings.seed, _REFERENCE]).integers(2**31))  # common random numbers would feign agreement
    reference = values_of(game, run, efficiency, "reference", (efficiency.reference, seed, game.n))
    rule = {"top": efficiency.top, "end": efficiency.end, "batch": efficiency.evaluated_on}
    needed = {
        tolerance: needed_at_least(reference.value, tolerance=tolerance, **rule) * (1 - t0)  # type: ignore[arg-type]
        for tolerance in efficiency.tolerances
    }
    return EqualPasses(tmab, np.nan_to_num(rows).mean(axis=0), (~np.isnan(rows)).sum(axis=0).astype(np.float64), count, reference, needed)


def values_of(game: NetworkGame, run: Run, efficiency: EfficiencyOptions, name: str, amount: tuple[float, int, int | None]) -> Attribution:
    """Values of our engine with a budget, a seed and a number of contested filters (`amount`), as the part `name` of the run."""
    budget, seed, contested = amount
    settings = EngineSettings(
        budget=budget,
        seed=seed,
        top_k=efficiency.top,
        end=efficiency.end,
        min_live=_t0(run.settings),
        control=run.settings.score == "smooth",
        candidates=contested,
    )

    def engine() -> Attribution:
        return estimate(
            game,
            settings,
            ids=game.filters.ids,
            workers=run.workers,
            checkpoint=run.checkpoint(name),
            progress=run.ledger.progress,
        )

    with run.phase(name):
        attribution = within_memory(game, engine, store=run.store, name=name)
        run.spend(sum(attribution.passes.values()))
    return attribution


def needed_at_least(values: Floats, *, top: int, end: End, tolerance: float, batch: int) -> float:
    """Image passes until nobody is contested by the published bound, were these the means from the start and no marginal varied.

    Then the range term of the bound decides alone: a filter leaves when that is down to its distance from the k-th value plus the tolerance.
    """
    ordered = np.sort(values)
    kth = ordered[top - 1] if end == "low" else ordered[-top]
    samples = np.ceil(published_count(np.zeros(len(values)), np.abs(values - kth) + tolerance, delta=DELTA))
    return batch * evaluations(samples, len(values))


def _t0(options: Options) -> float:
    if isinstance(options.t0, str) or options.t0 is None:
        raise UsageError(f"t0 must be a number here, got {options.t0!r}: both engines truncate at the same size, which is said beforehand")
    return options.t0


def _check_top(efficiency: EfficiencyOptions, n: int) -> None:
    if efficiency.top >= n:
        raise UsageError(f"top must be less than the {n:,} filters of the network, got {efficiency.top}: those sought are some of them")
