"""`tmab`, the default engine: a gradient screen of all players, then exact flips of the candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from repairkit.errors import BudgetError, UsageError
from repairkit.shapley.certify import certify
from repairkit.shapley.checkpoint import Arrays, Checkpoint, kept
from repairkit.shapley.confidence import Moments, TwoLevelSequence
from repairkit.shapley.game import Floats, Game, Progress
from repairkit.shapley.guarantee import End
from repairkit.shapley.live_range import check_alive
from repairkit.shapley.sampling import SCREEN_ROUND, Round
from repairkit.shapley.settings import EngineSettings
from repairkit.shapley.values import Attribution, Budget, decide, names
from repairkit.shapley.workers import WorkerPool

SCREEN_SHARE = 0.4
"""Share of the budget that the screen may take when flips of all players cannot be afforded."""
TOLERANCE = 0.2
"""Of a guarantee, unless told otherwise."""
AUDIT = 16
"""Players drawn outside the candidates, as a check of the screen."""


def tmab(
    game: Game,
    settings: EngineSettings,
    *,
    ids: Sequence[object] | None = None,
    workers: int = 1,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Estimate `(1 - min_live) E[V(S with i) - V(S without i)]`, where t ~ U[min_live, 1] and S holds each other player with probability t.

    1. *Screen*: gradients of the surrogate at random coalitions, a different one for every example;
       their mean is a first-order estimate for every player.
    2. *Flips*: exact changes of the score when a candidate changes side, all of them on the
       same coalitions and examples. Candidates are the players of the sought end of the screen plus
       an audit sample from all others, drawn with equal probability.
    3. *Sequential halving* (Karnin et al. 2013): rounds of equal cost; after each the half of the
       candidates that lies further from the sought end drops out, never below `top_k`. An audited
       player that turns out extreme stays like any other, and one that dropped out comes back when
       those that stayed fall behind it.

    With `control` the gradient at the same coalition and example is a control variate of every flip:
    the value is the mean gradient plus the mean of flip minus gradient. The mean gradient is that of
    every second screen round, which has no say in who is a candidate, so that being picked for an
    extreme screen does not carry over into the value. Made for smooth scores, which gradients follow.

    Without `control` intervals are confidence sequences (`repairkit.shapley.confidence`) with the true range, for each player on
    its own: they hold although how often a player is observed depends on what was observed. With `control` the
    range of an observation is not known, and intervals are Student's with delta shared by the rounds: approximate, for many samples,
    nearly normal means and players that do not come and go (`benchmarks/coverage_simulation.py` shows where they fall short). All are
    conditional on the images. With min_live = 0 the estimand is the Shapley value; min_live > 0 is truncation by size (the paper truncates by performance).

    With `guarantee` both ends are sought, and what is said of them is wrong with that probability at most
    (`repairkit.shapley.guarantee`, docs/guarantee.md). Confidence sequences take the place of steps 2 and 3
    (`repairkit.shapley.certify`). Gradients are then for the screen alone: as control variates they would give
    observations of unknown range. Half-widths reach from the value to the further end of its interval; all of them hold at
    once. `decided` says of each valued player that it is shown to be on its side of the k-th value of the sought end, or
    on the wrong side of it by the tolerance at most.

    Args:
        game: what is played.
        settings: budget, what is sought and how; the engine's name is not looked at.
        ids: names of the players.
        workers: processes that play rounds; any number gives the same bits.
        checkpoint: where the state is saved between rounds, and taken up again if it is there.
        progress: told after every round.

    Raises:
        BudgetError: the budget does not pay one screen round and one pair of flips in each round, or
            with `guarantee` one round of 16 pairs.
        GameError: the live range is empty: no gradient and no flip differs from 0, as with a network dead on arrival.
        UsageError: top, min_live, delta, candidates or tolerance out of range, or tolerance without `guarantee`; with `guarantee`
            top may be half of the players at most.

    Example:
        >>> from repairkit.shapley.game import FunctionGame
        >>> game = FunctionGame(4, lambda live: live[:, 0] * 0.5 - live[:, 1] * 0.25, bounds=(-1, 1))
        >>> found = tmab(game, EngineSettings(budget=2000, top_k=1))
        >>> [found.ids[i] for i in found.culprits()], found.value[1]
        (['player:1'], np.float64(-0.25))
    """
    guarantee, control, min_live = settings.guarantee, settings.control, settings.min_live
    delta = 0.05 if settings.delta is None else settings.delta
    sought = settings.sought(game, delta if guarantee is None else guarantee)
    _check(settings)
    saved = _saved(checkpoint, game, settings, sought, delta)
    if guarantee is not None:
        settings = replace(settings, end=sought, tolerance=_tolerance(settings))
        return certify(game, settings, ids=ids, workers=workers, checkpoint=checkpoint, saved=saved, progress=progress)
    first, audited, sizes = _halving(game, settings)
    flips = _flips_of_all_rounds(game, sizes, control=control)
    check_budget(game, settings)
    ledger = Budget(settings.budget)
    most = min(SCREEN_SHARE * ledger.budget, ledger.budget - flips)
    plan = _Schedule(settings, sought, first, audited, tuple(sizes), most)
    intervals = None if control else TwoLevelSequence(game.n, game.marginal_range, delta=delta, valued=sizes[0])
    play = _State(game, ledger, intervals)
    if saved:
        play.restore(saved)
    with WorkerPool(game, workers) as pool, kept(checkpoint):
        while play.phase <= len(sizes):
            rounds = play.rounds(game, plan)
            for each, observed in zip(rounds, pool.run(rounds), strict=True):
                play.fold(each, observed, split=control)
                if checkpoint is not None:
                    checkpoint.offer(play.arrays())
                if progress is not None:
                    progress("flips" if play.phase else "screen", settings.budget - ledger.left, settings.budget)
            if play.phase == 1:
                check_alive(min_live, play.screen.mean, play.screen.variance, play.flips.mean, play.flips.variance)
            play.next_phase()
            if checkpoint is not None:
                checkpoint.offer(play.arrays())
    screen, fresh, moments = play.screen, play.fresh, play.flips
    base = fresh.mean if control else np.zeros(game.n)
    valued = moments.count > 0
    value = np.where(valued, (1 - min_live) * (base + moments.mean), math.nan)
    standard_error = np.hypot(moments.standard_error, fresh.standard_error if control else 0.0)

    if intervals is None:
        freedom = np.maximum(np.minimum(moments.count, fresh.count) - 1, 1)
        known = np.where(standard_error > 0, standard_error, math.inf)  # equal observations say nothing of their spread
        of_each, of_all = (stats.t.isf(share / len(sizes) / 2, freedom) * known for share in (delta, delta / sizes[0]))
    else:
        of_each, of_all = intervals.half_widths(moments.mean)

    return Attribution(
        ids=names(ids, game.n),
        screen=(1 - min_live) * screen.mean,
        value=value,
        half_width=np.where(valued, (1 - min_live) * of_each, math.nan),
        samples=moments.count,
        decided=decide(value, (1 - min_live) * of_all, top_k=settings.top_k, end=sought),
        harmful=game.harmful,
        end=sought,
        top_k=settings.top_k,
        min_live=min_live,
        delta=delta,
        seed=settings.seed,
        engine="tmab",
        passes=ledger.spent,
        standard_error=np.where(valued, (1 - min_live) * standard_error, math.nan),
    )


def check_budget(game: Game, settings: EngineSettings) -> None:
    """Whether the budget pays `tmab` one screen round, two with `control`, and a pair of flips in each round of halving.

    Raises:
        BudgetError: it does not; says how many passes would.
    """
    flips = _flips_of_all_rounds(game, _halving(game, settings)[2], control=settings.control)
    shortest = math.ceil((1 + settings.control) * SCREEN_ROUND * game.gradient_cost + flips)
    if settings.budget < shortest:
        raise BudgetError(
            f"the budget of {settings.budget:,.0f} image passes is too small: tmab needs at least {shortest:,.0f} here; give a larger --budget"
        )


def _halving(game: Game, settings: EngineSettings) -> tuple[int, int, list[int]]:
    """How many the screen names, how many are audited, and how many are flipped in each round."""
    top_k = settings.top_k
    first = min(game.n, max(top_k, settings.candidates if settings.candidates is not None else 3 * top_k))
    audited = min(AUDIT if settings.audit is None else settings.audit, game.n - first)
    return first, audited, halving_sizes(first, audited, top_k)


def _flips_of_all_rounds(game: Game, sizes: Sequence[int], *, control: bool) -> float:
    """Image passes of a pair of flips in each round: the rounds cost the same, and the first must pay a pair of all its players."""
    dearest = 1 + float(np.sort(game.flip_shares)[::-1][: sizes[0]].sum()) + game.gradient_cost * control
    return len(sizes) * 2 * dearest


def screen(game: Game, *, passes: float, seed: int = 0, min_live: float = 0.0, progress: Progress | None = None) -> Floats:
    """The first step of `tmab` alone: a first-order estimate for every player, float64 (n,), by gradients that so many image passes pay.

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


def _check(settings: EngineSettings) -> None:
    candidates, audit = settings.candidates, settings.audit
    if not 0 <= settings.min_live < 1:
        raise UsageError(f"min_live must lie in [0, 1), got {settings.min_live}; it is the least share of filters that stays live")
    if (audit is not None and audit < 0) or (candidates is not None and candidates < 1):
        raise UsageError(f"candidates must be at least 1 and audit not negative, got {candidates} and {audit}")
    if settings.control and settings.guarantee is not None:
        raise UsageError(
            "a guarantee needs observations of known range, which gradients as control variates do not leave; set control to False"
        )
    if settings.tolerance is not None and settings.guarantee is None:
        raise UsageError(f"tolerance belongs to a guarantee, got {settings.tolerance} without one")


def _tolerance(settings: EngineSettings) -> float:
    return TOLERANCE if settings.tolerance is None else settings.tolerance


def _saved(checkpoint: Checkpoint | None, game: Game, settings: EngineSettings, sought: End, delta: float) -> Arrays | None:
    """The state that a run with the same settings left, if it left one."""
    if checkpoint is None:
        return None
    configuration: dict[str, object] = {
        "engine": "tmab",
        "game": game.fingerprint(),
        "players": game.n,
        "budget": settings.budget,
        "seed": settings.seed,
        "top_k": settings.top_k,
        "end": sought,
        "min_live": settings.min_live,
        "delta": delta,
        "candidates": settings.candidates,
        "audit": settings.audit,
        "control": settings.control,
    }
    if settings.guarantee is not None:
        configuration |= {"guarantee": settings.guarantee, "tolerance": _tolerance(settings)}
    return checkpoint.begin(configuration)


def halving_sizes(first: int, audited: int, top_k: int) -> list[int]:
    """How many players are flipped in each round: all candidates and audited, then halves down to `top_k`.

    Example:
        >>> halving_sizes(120, 16, 40)
        [136, 68, 40]
    """
    sizes = [first + audited]
    while sizes[-1] > top_k:
        sizes.append(max(top_k, sizes[-1] // 2))
    return sizes


@dataclass(frozen=True)
class _Schedule:
    """What decides the rounds before any is played; `sizes` are of the halving, `most` the passes of the screen."""

    settings: EngineSettings
    sought: End
    first: int
    audited: int
    sizes: tuple[int, ...]
    most: float


class _State:
    """A run under way: all that a checkpoint has to hold.

    Attributes:
        ledger: passes spent.
        screen, fresh: gradients of the rounds that select, and of those that do not.
        flips: exact marginals.
        intervals: of their means; None where their range is not known.
        phase: 0 for the screen, then 1 for the first round of halving, and so on.
        done: rounds of the phase that are folded in.
        players: who is flipped in the phase.
        pairs: antithetic pairs that the phase pays; 0 before it has begun.
    """

    def __init__(self, game: Game, ledger: Budget, intervals: TwoLevelSequence | None) -> None:
        n, self.gradient_cost = game.n, game.gradient_cost
        self.ledger, self.intervals = ledger, intervals
        self.screen, self.fresh, self.flips = Moments(n), Moments(n), Moments(n)
        self.phase = self.done = self.pairs = 0
        self.players: npt.NDArray[np.int64] = np.arange(n)

    def rounds(self, game: Game, plan: _Schedule) -> list[Round]:
        """The rounds of this phase that are still to play."""
        if self.phase == 0:
            # As many rounds of gradients as `most` passes pay in all, at least one of each kind.
            count = max(1 + plan.settings.control, int(plan.most / (SCREEN_ROUND * game.gradient_cost)))
            return [Round(plan.settings.seed, 0, index, SCREEN_ROUND, plan.settings.min_live) for index in range(self.done, count)]
        if not self.pairs:
            self.players = self._contested(plan)
            self._pay(game, plan)
        step = SCREEN_ROUND // 2
        sizes = [2 * min(step, self.pairs - start) for start in range(0, self.pairs, step)]
        return [
            Round(plan.settings.seed, 1 + self.phase, index, size, plan.settings.min_live, self.players, plan.settings.control)
            for index, size in list(enumerate(sizes))[self.done :]
        ]

    def _contested(self, plan: _Schedule) -> npt.NDArray[np.int64]:
        """Who is flipped in this phase: first by the screen, then by what flips have shown."""
        sign = 1 if plan.sought == "low" else -1
        if self.phase == 1:
            order = np.argsort(sign * self.screen.mean, kind="stable")
            others = np.random.default_rng([plan.settings.seed, 1]).permutation(order[plan.first :])[: plan.audited]
            return np.sort(np.concatenate([order[: plan.first], others])).astype(np.int64)
        seen = np.flatnonzero(self.flips.count)
        estimate = self.flips.mean[seen] + (self.fresh.mean[seen] if plan.settings.control else 0.0)
        return np.sort(seen[np.argsort(sign * estimate, kind="stable")[: plan.sizes[self.phase - 1]]])

    def _pay(self, game: Game, plan: _Schedule) -> None:
        """Spend this phase's share of what is left on pairs of flips (and their gradients, with `control`)."""
        passes = self.ledger.left / (len(plan.sizes) + 1 - self.phase)
        cost = game.flip_cost(self.players) + game.gradient_cost * plan.settings.control
        self.pairs = int((passes + 1e-6) // (2 * cost))
        if self.pairs < 1:
            raise BudgetError(
                f"{passes:,.0f} image passes are left for {len(self.players)} candidates, one pair of flips costs {2 * cost:,.0f}; give a larger --budget"
            )
        self.ledger.spend("flips", 2 * cost * self.pairs)

    def fold(self, each: Round, observed: Floats, *, split: bool) -> None:
        """Fold in what one round observed; rounds come in order."""
        if each.players is None:
            self.ledger.spend("screen", self.gradient_cost * each.size)
            (self.fresh if split and each.index % 2 else self.screen).add(observed, self.players)
        else:
            self.flips.add(observed, each.players)
            if self.intervals is not None:
                self.intervals.add(observed, each.players)
        self.done += 1

    def next_phase(self) -> None:
        """The rounds of this phase are all folded in."""
        self.phase, self.done, self.pairs = self.phase + 1, 0, 0

    def arrays(self) -> Arrays:
        """The state by name."""
        return {
            **self.screen.arrays("screen"),
            **self.fresh.arrays("fresh"),
            **self.flips.arrays("flips"),
            **(self.intervals.arrays() if self.intervals else {}),
            "players": self.players,
            "spent": np.array([self.ledger.spent.get(part, 0.0) for part in ("screen", "flips")]),
            "at": np.array([self.phase, self.done, self.pairs]),
        }

    def restore(self, arrays: Arrays) -> None:
        """Take up a saved state."""
        for name, moments in (("screen", self.screen), ("fresh", self.fresh), ("flips", self.flips)):
            moments.restore(arrays, name)
        if self.intervals is not None:
            self.intervals.restore(arrays)
        self.players = arrays["players"]
        self.phase, self.done, self.pairs = (int(number) for number in arrays["at"])
        self.ledger.spent = {part: float(passes) for part, passes in zip(("screen", "flips"), arrays["spent"], strict=True) if passes}
