"""`tmab` with a guarantee: which players have the k lowest and the k highest values, wrong with probability delta at most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from repairkit.errors import BudgetError, UsageError
from repairkit.shapley.audit import audit_chances, judge
from repairkit.shapley.checkpoint import Arrays, Checkpoint, kept
from repairkit.shapley.confidence import ConfidenceSequence, Moments
from repairkit.shapley.game import Examples, Floats, Game, Progress
from repairkit.shapley.guarantee import End, Guarantee, TopKClaims
from repairkit.shapley.live_range import check_alive
from repairkit.shapley.sampling import SCREEN_ROUND, Round
from repairkit.shapley.settings import EngineSettings
from repairkit.shapley.top_k import Flags, TopKBound, borders
from repairkit.shapley.values import Attribution, Budget, names
from repairkit.shapley.workers import WorkerPool

PAIRS = 16
"""Antithetic pairs of one round of flips; with fewer no interval has begun to shrink."""
ALIVE_PAIRS = 4 * PAIRS
"""Pairs after which something must have changed a score."""
LONGEST_LOOK = 8
"""Most rounds between two looks at the intervals; it starts at one and grows to an eighth of the rounds played."""
SCREEN_SHARE = 0.2
"""Share of the budget that the screen takes."""
AUDIT_DRAWS = 64
"""Draws of the audit. When none may be a miss, those missed have 6.6 % of the chances at most at delta = .05."""
_STAGE, _AUDIT_STAGE = 101, 102  # second words of the seeds; those of `tmab` without a guarantee are small


def certify(
    game: Game,
    settings: EngineSettings,
    *,
    ids: Sequence[object] | None,
    workers: int,
    checkpoint: Checkpoint | None,
    saved: Arrays | None,
    progress: Progress | None,
) -> Attribution:
    """What `tmab` does when it is given a guarantee; the settings state end and tolerance.

    1. *Screen*, as in `tmab`. Candidates are the players of both its ends; an audit draws from the others. Where candidates are all players,
       there is neither screen nor audit.
    2. *Flips*: an observation is a player's mean marginal contribution over one antithetic pair, in the true range +- `marginal_range`.
    3. *Allocation and stop*: at every look, players whose interval overlaps the other side by more than the tolerance are observed next, at
       either end (`top_k.border`). It ends when nobody is left or the budget cannot pay another pair.

    All valued players, both ends, both sides of the intervals and all times share delta. With an audit, half of it goes to the sequences and a
    quarter to the bound on what was missed at each end. Larger rounds do not pay (`benchmarks/coverage_simulation.py`).
    """
    schedule = _schedule(game, settings)
    state = _State(game, schedule)
    if saved:
        state.restore(saved)

    def after_round(part: str) -> None:
        if checkpoint is not None:
            checkpoint.offer(state.arrays())
        if progress is not None:
            progress(part, settings.budget - state.budget.left, settings.budget)

    with WorkerPool(game, workers) as pool, kept(checkpoint):
        for observed in pool.run(state.screen_rounds()):
            state.fold_screen(game, observed)
            after_round("screen")
        candidates = _candidates(state.screen.mean, schedule) if schedule.screens else _Candidates(np.arange(game.n))
        while True:
            if not state.left:
                if state.pairs >= ALIVE_PAIRS:
                    state.check_alive()
                low, high = state.borders(candidates.players)
                if not state.plan(game, candidates.players[low.active | high.active]):
                    break
            rounds = state.rounds()
            for _, observed in zip(rounds, pool.run(rounds), strict=True):
                state.fold(observed)
                after_round("flips")
    state.check_alive()
    return _attribution(game, state, candidates, (low, high), names(ids, game.n))


@dataclass(frozen=True)
class _Schedule:
    """What decides the rounds before any is played."""

    settings: EngineSettings
    end: End
    delta: float
    tolerance: float
    per_end: int  # candidates of each end
    draws: int
    screens: int  # rounds of gradients; 0 where all players are candidates
    alpha: float  # probability that one player's interval ever misses


def _schedule(game: Game, settings: EngineSettings) -> _Schedule:
    """Check the settings and share out budget and delta."""
    end, delta, tolerance = settings.end, settings.guarantee, settings.tolerance
    if end is None or delta is None or tolerance is None:
        raise UsageError("a guarantee needs an end, a probability and a tolerance; call tmab, which has defaults")
    per_end = 3 * settings.top_k if settings.candidates is None else settings.candidates
    draws = AUDIT_DRAWS if settings.audit is None else settings.audit
    _check(game, top_k=settings.top_k, tolerance=tolerance, per_end=per_end, audit=draws)
    screened, cost = 2 * per_end < game.n, SCREEN_ROUND * game.gradient_cost
    most = min(game.n, 2 * per_end + draws)  # players valued; fewer where a player is drawn twice
    flips = 2 * PAIRS * (1 + float(np.sort(game.flip_shares)[::-1][:most].sum()))
    if settings.budget < (least := math.ceil(flips + screened * cost)):
        raise BudgetError(
            f"the budget of {settings.budget:,.0f} image passes is too small: a guarantee needs at least {least:,} here; give a larger --budget"
        )
    screens = max(1, int(min(SCREEN_SHARE * settings.budget, settings.budget - flips) / cost)) if screened else 0
    return _Schedule(settings, end, delta, tolerance, per_end, draws, screens, delta / 2 / most if screened else delta / game.n)


def _check(game: Game, *, top_k: int, tolerance: float, per_end: int, audit: int) -> None:
    if 2 * top_k > game.n:
        raise UsageError(f"top_k must be at most half of the {game.n} filters, since a guarantee speaks of both ends, got {top_k}")
    if per_end < top_k:
        raise UsageError(f"candidates must be at least top_k for a guarantee, {top_k} players of each end, got {per_end}")
    if not 0 <= tolerance < 1:
        raise UsageError(f"the tolerance must lie in [0, 1), got {tolerance}; it is relative to the k-th value")
    if audit < 1:
        raise UsageError(f"an audit takes at least one draw, got {audit}; without one nothing is known of filters outside the candidates")


@dataclass(frozen=True, eq=False)
class _Candidates:
    """The players that are valued, with the audit. `drawn` holds places in `outside`, with repeats; both are empty without a screen."""

    players: Examples  # rising
    outside: Examples = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # players that the screen did not pick, rising
    chances: Floats = field(default_factory=lambda: np.empty(0))  # of each outside player in one draw
    drawn: Examples = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def audited(self) -> int:
        """How many different players were drawn."""
        return len(np.unique(self.drawn))

    def claims(self, end: End, border: TopKBound, ids: tuple[str, ...], state: _State) -> TopKClaims:
        """What is shown of one end."""
        order = np.argsort(state.estimate[self.players] * (1 if end == "low" else -1), kind="stable")

        def which(flags: Flags) -> tuple[str, ...]:
            return tuple(ids[player] for player in self.players[order[flags[order]]])

        cleared = np.isin(self.outside, self.players[border.above])
        return TopKClaims(
            end=end,
            members=which(border.inside),
            separated=which(border.separated),
            certified=which(border.inside & border.placed),
            ties=which(border.tied),
            undecided=int((~border.placed).sum()),
            slack=(1 - state.schedule.settings.min_live) * border.slack,
            decided=border.decided,
            audit=judge(self.chances, self.drawn, cleared, delta=state.schedule.delta / 4) if len(self.outside) else None,
        )


def _candidates(screen: Floats, schedule: _Schedule) -> _Candidates:
    """The players of both ends of the screen, and those that the audit draws from the others."""
    order = np.argsort(screen, kind="stable")
    outside = np.sort(order[schedule.per_end : -schedule.per_end]).astype(np.int64)
    chances = audit_chances(screen[outside])
    drawn = np.random.default_rng([schedule.settings.seed, _AUDIT_STAGE]).choice(len(outside), size=schedule.draws, p=chances)
    players = np.union1d(np.setdiff1d(order, outside), outside[drawn])
    return _Candidates(players.astype(np.int64), outside, chances, drawn.astype(np.int64))


class _State:
    """A run under way: all that a checkpoint holds.

    `screened` counts rounds of gradients, `played` rounds of flips and `pairs` the pairs in them. `players` are observed for `left` more pairs
    until the next look. The intervals of players that are not valued keep the whole range.
    """

    def __init__(self, game: Game, schedule: _Schedule) -> None:
        self.schedule, self.budget, self.screen = schedule, Budget(schedule.settings.budget), Moments(game.n)
        self.sequence = ConfidenceSequence(game.n, -game.marginal_range, game.marginal_range, schedule.alpha)
        self.players: Examples = np.arange(game.n)
        self.screened = self.left = self.played = self.pairs = 0

    def screen_rounds(self) -> list[Round]:
        """The rounds of gradients that are still to play."""
        settings = self.schedule.settings
        return [Round(settings.seed, 0, index, SCREEN_ROUND, settings.min_live) for index in range(self.screened, self.schedule.screens)]

    def fold_screen(self, game: Game, observed: Floats) -> None:
        """Fold in one round of gradients; rounds come in order."""
        self.budget.spend("screen", game.gradient_cost * SCREEN_ROUND)
        self.screen.add(observed, np.arange(game.n))
        self.screened += 1

    @property
    def estimate(self) -> Floats:
        """Means of the observations, moved into their intervals, float64 (n,)."""
        moved: Floats = np.clip(np.nan_to_num(self.sequence.mean), self.sequence.lower, self.sequence.upper)
        return moved

    def check_alive(self) -> None:
        """Refuse a live range in which no observation differs from 0."""
        check_alive(self.schedule.settings.min_live, self.screen.mean, self.screen.variance, np.nan_to_num(self.sequence.mean))

    def borders(self, players: Examples) -> tuple[TopKBound, TopKBound]:
        """What the intervals of these players show of both ends."""
        estimate, lower, upper = self.estimate[players], self.sequence.lower[players], self.sequence.upper[players]
        return borders(estimate, lower, upper, top_k=self.schedule.settings.top_k, tolerance=self.schedule.tolerance)

    def plan(self, game: Game, players: Examples) -> bool:
        """Pay pairs of these players until the next look; False where there are none, or not one pair can be paid."""
        if len(players) == 0:
            return False
        cost = 2 * game.flip_cost(players)
        rounds = min(LONGEST_LOOK, max(1, self.played // 8))
        self.players, self.left = players, min(PAIRS * rounds, int((self.budget.left + 1e-6) // cost))
        if self.left:
            self.budget.spend("flips", cost * self.left)
        return self.left > 0

    def rounds(self) -> list[Round]:
        """The rounds that are still to play before the next look."""
        seed, min_live = self.schedule.settings.seed, self.schedule.settings.min_live
        sizes = [2 * min(PAIRS, self.left - start) for start in range(0, self.left, PAIRS)]
        return [Round(seed, _STAGE, self.played + number, size, min_live, self.players) for number, size in enumerate(sizes)]

    def fold(self, observed: Floats) -> None:
        """Fold in one round of flips; rounds come in order."""
        self.sequence.add(observed, self.players)
        self.played += 1
        self.pairs += len(observed)
        self.left -= len(observed)

    def arrays(self) -> Arrays:
        """The state by name."""
        return {
            **self.screen.arrays("screen"),
            **self.sequence.arrays("intervals"),
            "players": self.players,
            "spent": self.budget.array(("screen", "flips")),
            "at": np.array([self.screened, self.left, self.played, self.pairs]),
        }

    def restore(self, arrays: Arrays) -> None:
        """Continue from a saved state."""
        self.screen.restore(arrays, "screen")
        self.sequence.restore(arrays, "intervals")
        self.players = arrays["players"]
        self.screened, self.left, self.played, self.pairs = (int(number) for number in arrays["at"])
        self.budget.restore(("screen", "flips"), arrays["spent"])


def _guarantee(game: Game, state: _State, candidates: _Candidates, ends: tuple[TopKBound, TopKBound], ids: tuple[str, ...]) -> Guarantee:
    low, high = ends
    return Guarantee(
        delta=state.schedule.delta,
        tolerance=state.schedule.tolerance,
        top_k=state.schedule.settings.top_k,
        players=game.n,
        candidates=len(candidates.players) - candidates.audited,
        audited=candidates.audited,
        pairs=state.pairs,
        stopped="decided" if low.decided and high.decided else "budget",
        low=candidates.claims("low", low, ids, state),
        high=candidates.claims("high", high, ids, state),
    )


def _attribution(
    game: Game, state: _State, candidates: _Candidates, ends: tuple[TopKBound, TopKBound], ids: tuple[str, ...]
) -> Attribution:
    schedule, settings, estimate = state.schedule, state.schedule.settings, state.estimate
    span = 1 - settings.min_live
    valued, placed = np.zeros(game.n, dtype=bool), np.zeros(game.n, dtype=bool)
    valued[candidates.players] = True
    placed[candidates.players] = ends[0 if schedule.end == "low" else 1].placed
    return Attribution(
        ids=ids,
        screen=span * state.screen.mean if schedule.screens else np.full(game.n, math.nan),
        value=np.where(valued, span * estimate, math.nan),
        half_width=np.where(valued, span * state.sequence.reach(estimate), math.nan),
        samples=state.sequence.count,
        decided=placed,
        harmful=game.harmful,
        end=schedule.end,
        top_k=settings.top_k,
        min_live=settings.min_live,
        delta=schedule.delta,
        seed=settings.seed,
        engine="tmab",
        passes=state.budget.spent,
        standard_error=np.where(valued, span * state.sequence.standard_error, math.nan),
        guarantee=_guarantee(game, state, candidates, ends, ids),
    )
