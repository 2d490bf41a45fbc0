"""`tmab`, the default engine: a gradient screen of all players, then exact flips of the candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from repairkit.errors import BudgetError, UsageError
from repairkit.shapley.certify import certify
from repairkit.shapley.checkpoint import Arrays, Checkpoint, kept
from repairkit.shapley.confidence import Moments, TwoLevelSequence
from repairkit.shapley.game import Examples, Floats, Game, Progress
from repairkit.shapley.guarantee import End
from repairkit.shapley.live_range import check_alive
from repairkit.shapley.sampling import SCREEN_ROUND, Round
from repairkit.shapley.settings import EngineSettings
from repairkit.shapley.values import Attribution, Budget, decide, names
from repairkit.shapley.workers import WorkerPool

SCREEN_SHARE = 0.4
"""Most of the budget that the screen takes."""
TOLERANCE = 0.2
"""Of a guarantee, by default."""
AUDIT = 16
"""Players flipped outside the candidates, as a check of the screen."""


def tmab(
    game: Game,
    settings: EngineSettings,
    *,
    ids: Sequence[object] | None = None,
    workers: int = 1,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Estimate `(1 - min_live) E[V(S with i) - V(S without i)]`: t ~ U[min_live, 1], S holds each other player with probability t.

    With min_live = 0 this is the Shapley value; otherwise it is truncated by size (the paper truncates by performance).

    1. *Screen*: gradients of the surrogate at random coalitions give a first-order estimate for every player.
    2. *Flips*: exact changes of the score when a candidate changes side. Candidates are the sought end of the screen and an audit sample of
       all others. All of them meet the same coalitions and examples.
    3. *Sequential halving* (Karnin et al. 2013): rounds of equal cost. After each round the half further from the sought end drops out,
       never below `top_k`. A player that dropped out comes back when others fall behind it.

    With `control` the gradient at the same coalition and example is a control variate of every flip. The value is then the mean gradient plus
    the mean of flip minus gradient.

    Intervals are conditional on the images. Without `control` they are confidence sequences with the true range: they hold however often a
    player is observed. With `control` the range is not known; they are Student's and approximate (`benchmarks/coverage_simulation.py`). With
    `guarantee` both ends are sought (`repairkit.shapley.certify`, docs/guarantee.md).

    Raises:
        BudgetError: the budget does not pay the shortest run.
        GameError: the live range is empty: no gradient and no flip differs from 0.
        UsageError: a setting out of range.

    Example:
        >>> from repairkit.shapley.game import FunctionGame
        >>> game = FunctionGame(4, lambda live: live[:, 0] * 0.5 - live[:, 1] * 0.25, bounds=(-1, 1))
        >>> found = tmab(game, EngineSettings(budget=2000, top_k=1))
        >>> [found.ids[i] for i in found.harmful_players()], found.value[1]
        (['player:1'], np.float64(-0.25))
    """
    delta = 0.05 if settings.delta is None else settings.delta
    end = settings.sought(game, delta if settings.guarantee is None else settings.guarantee)
    _check(settings)
    saved = _saved(checkpoint, game, settings, end, delta)
    if settings.guarantee is not None:
        settings = replace(settings, end=end, tolerance=_tolerance(settings))
        return certify(game, settings, ids=ids, workers=workers, checkpoint=checkpoint, saved=saved, progress=progress)
    state = _State(game, _schedule(game, settings, end, delta))
    if saved:
        state.restore(saved)
    with WorkerPool(game, workers) as pool, kept(checkpoint):
        _play(game, state, pool, checkpoint, progress)
    return _attribution(game, state, names(ids, game.n))


def check_budget(game: Game, settings: EngineSettings) -> None:
    """Check that the budget pays one screen round, two with `control`, and a pair of flips in each round of halving.

    Raises:
        BudgetError: it does not; the message names the least budget.
    """
    flips = _shortest_flips(game, _halving(game, settings)[2], control=settings.control)
    least = math.ceil((1 + settings.control) * SCREEN_ROUND * game.gradient_cost + flips)
    if settings.budget < least:
        raise BudgetError(
            f"the budget of {settings.budget:,.0f} image passes is too small: tmab needs at least {least:,.0f} here; give a larger --budget"
        )


def screen(game: Game, *, passes: float, seed: int = 0, min_live: float = 0.0, progress: Progress | None = None) -> Floats:
    """A first-order estimate for every player, float64 (n,), by the gradients that so many image passes pay.

    Example:
        >>> from repairkit.shapley.game import FunctionGame
        >>> game = FunctionGame(2, lambda live: live[:, 0] * 0.5 - live[:, 1] * 0.25, bounds=(-1, 1))
        >>> screen(game, passes=200).tolist()
        [0.5, -0.25]
    """
    moments = Moments(game.n)
    count = max(1, int(passes / (SCREEN_ROUND * game.gradient_cost)))
    for index in range(count):
        moments.add(Round(seed, 0, index, SCREEN_ROUND, min_live).observe(game), np.arange(game.n))
        if progress is not None:
            progress("screen", (index + 1) * SCREEN_ROUND * game.gradient_cost, passes)
    return (1 - min_live) * moments.mean


def halving_sizes(first: int, audited: int, top_k: int) -> list[int]:
    """Players flipped in each round: candidates and audited players, then halves down to `top_k`.

    Example:
        >>> halving_sizes(120, 16, 40)
        [136, 68, 40]
    """
    sizes = [first + audited]
    while sizes[-1] > top_k:
        sizes.append(max(top_k, sizes[-1] // 2))
    return sizes


def _check(settings: EngineSettings) -> None:
    candidates, audit = settings.candidates, settings.audit
    if not 0 <= settings.min_live < 1:
        raise UsageError(f"min_live must lie in [0, 1), got {settings.min_live}; it is the least share of filters that stays live")
    if (audit is not None and audit < 0) or (candidates is not None and candidates < 1):
        raise UsageError(f"candidates must be at least 1 and audit not negative, got {candidates} and {audit}")
    if settings.control and settings.guarantee is not None:
        raise UsageError("a guarantee needs observations of known range, which control variates do not leave; set control to False")
    if settings.tolerance is not None and settings.guarantee is None:
        raise UsageError(f"tolerance belongs to a guarantee, got {settings.tolerance} without one")


def _tolerance(settings: EngineSettings) -> float:
    return TOLERANCE if settings.tolerance is None else settings.tolerance


def _saved(checkpoint: Checkpoint | None, game: Game, settings: EngineSettings, end: End, delta: float) -> Arrays | None:
    """The state that a run with the same settings left; None where there is none."""
    if checkpoint is None:
        return None
    names = ("budget", "seed", "top_k", "min_live", "candidates", "audit", "control")
    configuration: dict[str, object] = {name: getattr(settings, name) for name in names}
    configuration |= {"engine": "tmab", "game": game.fingerprint(), "players": game.n, "end": end, "delta": delta}
    if settings.guarantee is not None:
        configuration |= {"guarantee": settings.guarantee, "tolerance": _tolerance(settings)}
    return checkpoint.begin(configuration)


@dataclass(frozen=True)
class _Schedule:
    """What decides the rounds before any is played."""

    settings: EngineSettings
    end: End
    delta: float
    candidates: int
    audited: int
    sizes: tuple[int, ...]  # players flipped in each round of halving
    screen_passes: float

    @property
    def sign(self) -> int:
        """Turns the sought end into the low end."""
        return 1 if self.end == "low" else -1


def _halving(game: Game, settings: EngineSettings) -> tuple[int, int, list[int]]:
    """Numbers of candidates and of audited players, and how many players each round flips."""
    top_k = settings.top_k
    first = min(game.n, max(top_k, settings.candidates if settings.candidates is not None else 3 * top_k))
    audited = min(AUDIT if settings.audit is None else settings.audit, game.n - first)
    return first, audited, halving_sizes(first, audited, top_k)


def _shortest_flips(game: Game, sizes: Sequence[int], *, control: bool) -> float:
    """Image passes of a pair of flips in each round; the rounds cost the same, and the first has most players."""
    dearest = 1 + float(np.sort(game.flip_shares)[::-1][: sizes[0]].sum()) + game.gradient_cost * control
    return len(sizes) * 2 * dearest


def _schedule(game: Game, settings: EngineSettings, end: End, delta: float) -> _Schedule:
    check_budget(game, settings)
    candidates, audited, sizes = _halving(game, settings)
    left = settings.budget - _shortest_flips(game, sizes, control=settings.control)
    return _Schedule(settings, end, delta, candidates, audited, tuple(sizes), min(SCREEN_SHARE * settings.budget, left))


class _State:
    """A run under way: all that a checkpoint holds.

    Phase 0 is the screen, phase 1 the first round of halving. The number `done` counts the rounds of the phase that are folded in. The number
    `pairs` counts the antithetic pairs that the phase pays, 0 before it begins. Gradients in `screen` select, gradients in `fresh` do not.
    """

    def __init__(self, game: Game, schedule: _Schedule) -> None:
        self.schedule, self.budget = schedule, Budget(schedule.settings.budget)
        self.screen, self.fresh, self.flips = Moments(game.n), Moments(game.n), Moments(game.n)
        self.phase = self.done = self.pairs = 0
        self.players: Examples = np.arange(game.n)
        self.intervals = (
            None
            if schedule.settings.control
            else TwoLevelSequence(game.n, game.marginal_range, delta=schedule.delta, valued=schedule.sizes[0])
        )

    def rounds(self, game: Game) -> list[Round]:
        """The rounds of this phase that are still to play."""
        settings, sizes = self.schedule.settings, self.schedule.sizes
        if self.phase == 0:
            count = max(1 + settings.control, int(self.schedule.screen_passes / (SCREEN_ROUND * game.gradient_cost)))
            return [Round(settings.seed, 0, index, SCREEN_ROUND, settings.min_live) for index in range(self.done, count)]
        if not self.pairs:
            self.players = self._candidates() if self.phase == 1 else self._most_extreme(sizes[self.phase - 1])
            self._pay(game)
        step = SCREEN_ROUND // 2
        samples = [2 * min(step, self.pairs - start) for start in range(0, self.pairs, step)]
        return [
            Round(settings.seed, 1 + self.phase, index, size, settings.min_live, self.players, settings.control)
            for index, size in list(enumerate(samples))[self.done :]
        ]

    def _candidates(self) -> Examples:
        """The sought end of the screen, and audited players drawn from all others with equal probability."""
        first = self.schedule.candidates
        order = np.argsort(self.schedule.sign * self.screen.mean, kind="stable")
        others = np.random.default_rng([self.schedule.settings.seed, 1]).permutation(order[first:])[: self.schedule.audited]
        return np.sort(np.concatenate([order[:first], others])).astype(np.int64)

    def _most_extreme(self, count: int) -> Examples:
        """So many players of the sought end among all that were flipped; a player that dropped out may come back."""
        flipped = np.flatnonzero(self.flips.count)
        estimate = self.flips.mean[flipped] + (self.fresh.mean[flipped] if self.schedule.settings.control else 0.0)
        return np.sort(flipped[np.argsort(self.schedule.sign * estimate, kind="stable")[:count]])

    def _pay(self, game: Game) -> None:
        """Spend this phase's share of the budget on pairs of flips, with their gradients where they are control variates."""
        passes = self.budget.left / (len(self.schedule.sizes) + 1 - self.phase)
        cost = 2 * (game.flip_cost(self.players) + game.gradient_cost * self.schedule.settings.control)
        self.pairs = int((passes + 1e-6) // cost)
        if self.pairs < 1:
            raise BudgetError(
                f"{passes:,.0f} image passes are left for {len(self.players)} candidates, one pair of flips costs {cost:,.0f}; give a larger --budget"
            )
        self.budget.spend("flips", cost * self.pairs)

    def fold(self, game: Game, task: Round, observed: Floats) -> None:
        """Fold in what one round observed; rounds come in order."""
        if task.players is None:
            self.budget.spend("screen", game.gradient_cost * task.size)
            # Gradients that select do not enter the values: a player picked for an extreme screen would keep that extreme.
            (self.fresh if self.schedule.settings.control and task.index % 2 else self.screen).add(observed, self.players)
        else:
            self.flips.add(observed, task.players)
            if self.intervals is not None:
                self.intervals.add(observed, task.players)
        self.done += 1

    def next_phase(self) -> None:
        """All rounds of this phase are folded in."""
        if self.phase == 1:
            observed = (moments for kind in (self.screen, self.flips) for moments in (kind.mean, kind.variance))
            check_alive(self.schedule.settings.min_live, *observed)
        self.phase, self.done, self.pairs = self.phase + 1, 0, 0

    def arrays(self) -> Arrays:
        """The state by name."""
        return {
            **self.screen.arrays("screen"),
            **self.fresh.arrays("fresh"),
            **self.flips.arrays("flips"),
            **(self.intervals.arrays() if self.intervals else {}),
            "players": self.players,
            "spent": self.budget.array(("screen", "flips")),
            "at": np.array([self.phase, self.done, self.pairs]),
        }

    def restore(self, arrays: Arrays) -> None:
        """Continue from a saved state."""
        for name, moments in (("screen", self.screen), ("fresh", self.fresh), ("flips", self.flips)):
            moments.restore(arrays, name)
        if self.intervals is not None:
            self.intervals.restore(arrays)
        self.players = arrays["players"]
        self.phase, self.done, self.pairs = (int(number) for number in arrays["at"])
        self.budget.restore(("screen", "flips"), arrays["spent"])


def _play(game: Game, state: _State, pool: WorkerPool, checkpoint: Checkpoint | None, progress: Progress | None) -> None:
    """Screen, then rounds of halving."""
    budget = state.budget
    while state.phase <= len(state.schedule.sizes):
        rounds = state.rounds(game)
        for task, observed in zip(rounds, pool.run(rounds), strict=True):
            state.fold(game, task, observed)
            if checkpoint is not None:
                checkpoint.offer(state.arrays())
            if progress is not None:
                progress("flips" if state.phase else "screen", budget.budget - budget.left, budget.budget)
        state.next_phase()
        if checkpoint is not None:
            checkpoint.offer(state.arrays())


def _half_widths(state: _State, standard_error: Floats) -> tuple[Floats, Floats]:
    """Half-widths of intervals that hold for one player, and for all valued players at once."""
    if state.intervals is not None:
        return state.intervals.half_widths(state.flips.mean)
    delta, sizes = state.schedule.delta, state.schedule.sizes
    freedom = np.maximum(np.minimum(state.flips.count, state.fresh.count) - 1, 1)
    known = np.where(standard_error > 0, standard_error, math.inf)  # equal observations say nothing of their spread
    one, together = (stats.t.isf(share / len(sizes) / 2, freedom) * known for share in (delta, delta / sizes[0]))
    return one, together


def _attribution(game: Game, state: _State, ids: tuple[str, ...]) -> Attribution:
    settings, flips, fresh = state.schedule.settings, state.flips, state.fresh
    span, valued = 1 - settings.min_live, flips.count > 0
    base = fresh.mean if settings.control else np.zeros(game.n)
    value = np.where(valued, span * (base + flips.mean), math.nan)
    standard_error = np.hypot(flips.standard_error, fresh.standard_error if settings.control else 0.0)
    half_width, together = _half_widths(state, standard_error)
    return Attribution(
        ids=ids,
        screen=span * state.screen.mean,
        value=value,
        half_width=np.where(valued, span * half_width, math.nan),
        samples=flips.count,
        decided=decide(value, span * together, top_k=settings.top_k, end=state.schedule.end),
        harmful=game.harmful,
        end=state.schedule.end,
        top_k=settings.top_k,
        min_live=settings.min_live,
        delta=state.schedule.delta,
        seed=settings.seed,
        engine="tmab",
        passes=state.budget.spent,
        standard_error=np.where(valued, span * standard_error, math.nan),
    )
