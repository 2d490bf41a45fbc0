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
"""Most rounds that are played between two looks at the intervals; at first it is one, later an eighth of those played."""
SCREEN_SHARE = 0.2
"""Share of the budget that the screen takes."""
AUDIT_DRAWS = 64
"""Draws of the audit: when none may be a miss, those missed have 6.6 % of the chances at most at delta = .05."""
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

    1. *Screen*, as in `tmab`, with a fifth of the budget. Candidates are the players of both ends of
       it, and an audit draws from the others (`audit_chances`). Where both ends are all players,
       there is no screen and no audit, and the claims are about all.
    2. *Flips*: one observation of a player is the mean of its exact marginal contribution over one antithetic
       pair, so over one size in each half of [min_live, 1]: the least complete stratified round, in
       the true range +- `game.marginal_range`. Every player has a `ConfidenceSequence`.
    3. *Allocation and stop* (`border`): at every look those are observed next whose intervals overlap
       the other side by more than the tolerance, at either end. They are found anew among all valued
       players, so that one that was left out comes back when a border moves towards it. It ends when nobody is left or the
       budget cannot pay another pair.

    *Delta*: all valued players, both ends, both sides of the intervals and all times share it. With an audit half
    of it goes to the sequences and a quarter to the bound on what was missed at each end.

    Larger rounds do not pay: an interval's range term shrinks with the number of observations. In six games of
    `benchmarks/coverage_simulation.py`, in a trial, rounds of 4, 8 and 16 coalitions in as many strata took 1.4, 2.4 and over 4
    times the passes of pairs (medians).
    """
    if settings.end is None or settings.guarantee is None or settings.tolerance is None:
        raise UsageError("a guarantee needs an end, a probability and a tolerance; call tmab, which has defaults")
    budget, seed, top_k, min_live = settings.budget, settings.seed, settings.top_k, settings.min_live
    end, delta, tolerance = settings.end, settings.guarantee, settings.tolerance
    per_end = 3 * top_k if settings.candidates is None else settings.candidates
    draws = AUDIT_DRAWS if settings.audit is None else settings.audit
    _check(game, top_k=top_k, tolerance=tolerance, per_end=per_end, audit=draws)
    screened = 2 * per_end < game.n
    ledger = Budget(budget)
    most = min(game.n, 2 * per_end + draws)  # to be valued; fewer where a player is drawn twice
    flips = 2 * PAIRS * (1 + float(np.sort(game.flip_shares)[::-1][:most].sum()))
    if budget < (least := math.ceil(flips + screened * SCREEN_ROUND * game.gradient_cost)):
        raise BudgetError(
            f"the budget of {budget:,.0f} image passes is too small: a guarantee needs at least {least:,} here; give a larger --budget"
        )
    screens = max(1, int(min(SCREEN_SHARE * budget, budget - flips) / (SCREEN_ROUND * game.gradient_cost))) if screened else 0

    race = _State(game, ledger, alpha=delta / 2 / most if screened else delta / game.n)
    if saved:
        race.restore(saved)

    def folded(part: str) -> None:
        if checkpoint is not None:
            checkpoint.offer(race.arrays())
        if progress is not None:
            progress(part, budget - ledger.left, budget)

    with WorkerPool(game, workers) as pool, kept(checkpoint):
        for observed in pool.run([Round(seed, 0, index, SCREEN_ROUND, min_live) for index in range(race.screened, screens)]):
            race.fold_screen(observed)
            folded("screen")
        entrants = _enter(race.screen.mean, per_end, draws, seed) if screened else _Candidates(np.arange(game.n))
        while True:
            if not race.left:
                if race.pairs >= ALIVE_PAIRS:
                    check_alive(min_live, race.screen.mean, race.screen.variance, np.nan_to_num(race.sequence.mean))
                low, high = race.borders(entrants.players, top_k=top_k, tolerance=tolerance)
                if not race.plan(game, entrants.players[low.active | high.active]):
                    break
            rounds = race.rounds(seed, min_live)
            for each, observed in zip(rounds, pool.run(rounds), strict=True):
                race.fold(each, observed)
                folded("flips")

    check_alive(min_live, race.screen.mean, race.screen.variance, np.nan_to_num(race.sequence.mean))
    name, estimate = names(ids, game.n), race.estimate
    valued, placed = np.zeros(game.n, dtype=bool), np.zeros(game.n, dtype=bool)
    valued[entrants.players] = True
    placed[entrants.players] = (low if end == "low" else high).placed
    return Attribution(
        ids=name,
        screen=(1 - min_live) * race.screen.mean if screened else np.full(game.n, math.nan),
        value=np.where(valued, (1 - min_live) * estimate, math.nan),
        half_width=np.where(valued, (1 - min_live) * race.sequence.reach(estimate), math.nan),
        samples=race.sequence.count,
        decided=placed,
        harmful=game.harmful,
        end=end,
        top_k=top_k,
        min_live=min_live,
        delta=delta,
        seed=seed,
        engine="tmab",
        passes=ledger.spent,
        standard_error=np.where(valued, (1 - min_live) * race.sequence.standard_error, math.nan),
        guarantee=Guarantee(
            delta=delta,
            tolerance=tolerance,
            top_k=top_k,
            players=game.n,
            candidates=len(entrants.players) - entrants.audited,
            audited=entrants.audited,
            pairs=race.pairs,
            stopped="decided" if low.decided and high.decided else "budget",
            low=entrants.extremes("low", low, name, estimate, delta=delta, scale=1 - min_live),
            high=entrants.extremes("high", high, name, estimate, delta=delta, scale=1 - min_live),
        ),
    )


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Who is valued, and the audit that is part of it.

    Attributes:
        players: numbers, rising.
        outside: players that the screen did not pick, rising; none without a screen.
        chances: of each outside player in one draw.
        drawn: places in `outside`, with repeats.
    """

    players: Examples
    outside: Examples = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    chances: Floats = field(default_factory=lambda: np.empty(0))
    drawn: Examples = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def audited(self) -> int:
        """How many different players were drawn."""
        return len(np.unique(self.drawn))

    def extremes(self, end: End, border: TopKBound, name: Sequence[str], estimate: Floats, *, delta: float, scale: float) -> TopKClaims:
        """What is shown of one end."""
        order = np.argsort(estimate[self.players] * (1 if end == "low" else -1), kind="stable")

        def which(flags: Flags) -> tuple[str, ...]:
            return tuple(name[player] for player in self.players[order[flags[order]]])

        cleared = np.isin(self.outside, self.players[border.above])
        return TopKClaims(
            end=end,
            members=which(border.inside),
            separated=which(border.separated),
            certified=which(border.inside & border.placed),
            ties=which(border.tied),
            undecided=int((~border.placed).sum()),
            slack=scale * border.slack,
            decided=border.decided,
            audit=judge(self.chances, self.drawn, cleared, delta=delta / 4) if len(self.outside) else None,
        )


def _enter(screen: Floats, per_end: int, draws: int, seed: int) -> _Candidates:
    """The players of both ends of the screen, and those that the audit draws from the others."""
    order = np.argsort(screen, kind="stable")
    outside = np.sort(order[per_end:-per_end]).astype(np.int64)
    chances = audit_chances(screen[outside])
    drawn = np.random.default_rng([seed, _AUDIT_STAGE]).choice(len(outside), size=draws, p=chances)
    players = np.union1d(np.setdiff1d(order, outside), outside[drawn])
    return _Candidates(players.astype(np.int64), outside, chances, drawn.astype(np.int64))


class _State:
    """A run under way: all that a checkpoint has to hold.

    Attributes:
        ledger: passes spent.
        screen: gradients, and `screened` how many rounds of them are folded in.
        sequence: intervals of all players; those who are not valued keep the whole range.
        players: who is observed until the next look, and `left` how many pairs that is still.
        played: rounds of flips that are folded in, and `pairs` the pairs in them.
    """

    def __init__(self, game: Game, ledger: Budget, *, alpha: float) -> None:
        self.ledger, self.gradient_cost = ledger, game.gradient_cost
        self.screen = Moments(game.n)
        self.sequence = ConfidenceSequence(game.n, -game.marginal_range, game.marginal_range, alpha)
        self.players: Examples = np.arange(game.n)
        self.screened = self.left = self.played = self.pairs = 0

    def fold_screen(self, observed: Floats) -> None:
        """Fold in one round of gradients; rounds come in order."""
        self.ledger.spend("screen", self.gradient_cost * SCREEN_ROUND)
        self.screen.add(observed, np.arange(len(self.screen.mean)))
        self.screened += 1

    @property
    def estimate(self) -> Floats:
        """Means of the observations, moved into their intervals, float64 (n,)."""
        moved: Floats = np.clip(np.nan_to_num(self.sequence.mean), self.sequence.lower, self.sequence.upper)
        return moved

    def borders(self, players: Examples, *, top_k: int, tolerance: float) -> tuple[TopKBound, TopKBound]:
        """What the intervals of these players show of both ends."""
        estimate, lower, upper = self.estimate[players], self.sequence.lower[players], self.sequence.upper[players]
        return borders(estimate, lower, upper, top_k=top_k, tolerance=tolerance)

    def plan(self, game: Game, players: Examples) -> bool:
        """Pay pairs of these players until the next look; False where there are none, or not one pair can be paid."""
        if len(players) == 0:
            return False
        cost = 2 * game.flip_cost(players)
        rounds = min(LONGEST_LOOK, max(1, self.played // 8))
        self.players, self.left = players, min(PAIRS * rounds, int((self.ledger.left + 1e-6) // cost))
        if self.left:
            self.ledger.spend("flips", cost * self.left)
        return self.left > 0

    def rounds(self, seed: int, min_live: float) -> list[Round]:
        """The rounds that are still to play before the next look."""
        sizes = [2 * min(PAIRS, self.left - start) for start in range(0, self.left, PAIRS)]
        return [Round(seed, _STAGE, self.played + number, size, min_live, self.players) for number, size in enumerate(sizes)]

    def fold(self, each: Round, observed: Floats) -> None:
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
            "spent": np.array([self.ledger.spent.get(part, 0.0) for part in ("screen", "flips")]),
            "at": np.array([self.screened, self.left, self.played, self.pairs]),
        }

    def restore(self, arrays: Arrays) -> None:
        """Take up a saved state."""
        self.screen.restore(arrays, "screen")
        self.sequence.restore(arrays, "intervals")
        self.players = arrays["players"]
        self.screened, self.left, self.played, self.pairs = (int(number) for number in arrays["at"])
        self.ledger.spent = {part: float(passes) for part, passes in zip(("screen", "flips"), arrays["spent"], strict=True) if passes}


def _check(game: Game, *, top_k: int, tolerance: float, per_end: int, audit: int) -> None:
    if 2 * top_k > game.n:
        raise UsageError(f"top_k must be at most half of the {game.n} filters, since a guarantee speaks of both ends, got {top_k}")
    if per_end < top_k:
        raise UsageError(f"candidates must be at least top_k for a guarantee, {top_k} players of each end, got {per_end}")
    if not 0 <= tolerance < 1:
        raise UsageError(f"the tolerance must lie in [0, 1), got {tolerance}; it is relative to the k-th value")
    if audit < 1:
        raise UsageError(f"an audit takes at least one draw, got {audit}; without one nothing is known of filters outside the candidates")
