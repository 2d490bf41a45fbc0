"""Permutation sampling: `tmab-paper`, Algorithm 1 as published, and `monte-carlo`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from repairkit.errors import BudgetError, UsageError
from repairkit.shapley.checkpoint import Arrays, Checkpoint, kept
from repairkit.shapley.confidence import Moments, TwoLevelSequence, published_bound, published_count
from repairkit.shapley.game import Floats, Game, Progress
from repairkit.shapley.guarantee import End
from repairkit.shapley.live_range import check_alive
from repairkit.shapley.settings import EngineSettings
from repairkit.shapley.top_k import Flags
from repairkit.shapley.values import Attribution, Budget, decide, names

_PART = "permutations"


def permutation_sampling(
    game: Game,
    settings: EngineSettings,
    *,
    ids: Sequence[object] | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Estimate values by removing players one by one in random order.

    `tmab-paper` is Algorithm 1 of Ghorbani & Zou 2020 (truncated multi-armed bandit). After every permutation a player stays active only while
    the k-th value lies inside its confidence interval, narrowed by the tolerance. All players are removed in every permutation, and V is
    evaluated just before and just after each active one. Below `truncation` the remaining marginal contributions count as 0. Each
    permutation has a fresh batch of examples. Every other engine name means `monte-carlo`, where all players stay active.

    Half-widths of `tmab-paper` are the published bound, which assumes range 1. Those of `monte-carlo` are of a confidence sequence with the
    true range. The published bound rarely stops within a budget; `still_needed` extrapolates what it would take.

    Deviations from the paper: `end` may be the low end, and sampling stops when the budget cannot pay the next evaluation. A permutation cut
    short is dropped, since it would favour players that came early.

    Raises:
        BudgetError: the budget does not pay one whole permutation.
        GameError: no player changed the objective value in any permutation, as with a dead network.
        UsageError: a setting out of range, or a truncation above the objective value of the whole network.
    """
    _check(settings)
    state = _State(game, settings)
    if checkpoint is not None and (saved := checkpoint.begin(state.configuration(game))):
        state.restore(saved)
    with kept(checkpoint):
        while state.active.any() and state.step(game):
            if checkpoint is not None:
                checkpoint.offer(state.arrays())
            if progress is not None:
                progress(_PART, settings.budget - state.budget.left, settings.budget)
    check_alive(0.0, state.moments.mean, state.moments.variance)
    return _attribution(game, state, names(ids, game.n))


def _check(settings: EngineSettings) -> None:
    if settings.tolerance is not None and not 0 <= settings.tolerance < math.inf:
        raise UsageError(f"the tolerance must be a number from 0, got {settings.tolerance}")
    if settings.batch < 1:
        raise UsageError(f"batch must be at least 1 example, got {settings.batch}")
    if settings.truncation is not None and not math.isfinite(settings.truncation):
        raise UsageError(f"truncation must be an objective value, or None for none, got {settings.truncation}")


class _State:
    """A run under way: all that a checkpoint holds. Permutation t and its examples come from `default_rng([seed, t])`."""

    def __init__(self, game: Game, settings: EngineSettings) -> None:
        self.settings, self.bandit = settings, settings.engine == "tmab-paper"
        self.delta = 0.1 if settings.delta is None else settings.delta
        self.tolerance = 1e-4 if settings.tolerance is None else settings.tolerance
        self.end = settings.sought(game, self.delta)
        self.budget, self.moments = Budget(settings.budget), Moments(game.n)
        # Sequences, since truncation makes the number of permutations depend on the data.
        self.intervals = None if self.bandit else TwoLevelSequence(game.n, game.marginal_range, delta=self.delta, valued=game.n)
        self.active: Flags = np.ones(game.n, dtype=bool)
        self.permutations = 0

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return "tmab-paper" if self.bandit else "monte-carlo"

    def configuration(self, game: Game) -> dict[str, object]:
        """All that decides the result."""
        settings = {name: getattr(self.settings, name) for name in ("budget", "seed", "top_k", "truncation", "batch")}
        derived = {"end": self.end, "delta": self.delta, "tolerance": self.tolerance, "engine": self.engine}
        return settings | derived | {"players": game.n, "game": game.fingerprint()}

    def step(self, game: Game) -> bool:
        """Play one permutation; False where the budget does not pay it."""
        settings, first = self.settings, self.permutations == 0
        rng = np.random.default_rng([settings.seed, self.permutations])
        try:
            marginals = sample_permutation(game, self.budget, rng, self.active, truncation=settings.truncation, batch=settings.batch)
        except BudgetError:
            if first:
                raise BudgetError(
                    f"the budget of {settings.budget:,.0f} image passes does not pay one permutation of {game.n} players "
                    f"(up to {settings.batch * (game.n + 1):,} passes); give a larger --budget or use the engine tmab"
                ) from None
            return False
        if settings.truncation is not None and first and self.budget.spent[_PART] == settings.batch:
            raise UsageError(
                f"the truncation of {settings.truncation:g} is above the objective value of the whole network on the first {settings.batch} "
                "examples, so every permutation would end at once; give a value between that of the network and that of a guess"
            )
        self.moments.add(marginals[None, self.active], np.flatnonzero(self.active))
        if self.intervals is not None:
            self.intervals.add(marginals[None], np.arange(game.n))
        self.permutations += 1
        if self.bandit:
            self.active = still_active(self.moments, top_k=settings.top_k, end=self.end, delta=self.delta, tolerance=self.tolerance)
        return True

    def arrays(self) -> Arrays:
        """The state by name."""
        return {
            **self.moments.arrays("marginals"),
            **(self.intervals.arrays() if self.intervals else {}),
            "active": self.active,
            "rounds": np.array(self.permutations),
            "spent": np.array(self.budget.spent[_PART]),
        }

    def restore(self, arrays: Arrays) -> None:
        """Continue from a saved state."""
        self.moments.restore(arrays, "marginals")
        if self.intervals is not None:
            self.intervals.restore(arrays)
        self.active, self.permutations = arrays["active"], int(arrays["rounds"])
        self.budget.spent = {_PART: float(arrays["spent"])}


def _attribution(game: Game, state: _State, ids: tuple[str, ...]) -> Attribution:
    settings, moments, delta = state.settings, state.moments, state.delta
    if state.intervals is None:
        one, together = (published_bound(moments.variance, moments.count, delta=share) for share in (delta, delta / game.n))
    else:
        one, together = state.intervals.half_widths(moments.mean)
    return Attribution(
        ids=ids,
        screen=np.full(game.n, math.nan),
        value=moments.mean,
        half_width=one,
        samples=moments.count,
        decided=decide(moments.mean, together, top_k=settings.top_k, end=state.end),
        harmful=game.harmful,
        end=state.end,
        top_k=settings.top_k,
        min_live=0.0,
        delta=delta,
        seed=settings.seed,
        engine=state.engine,
        passes=state.budget.spent,
        standard_error=moments.standard_error,
        truncation=settings.truncation,
        still_needed=_still_needed(state) if state.bandit else None,
    )


def sample_permutation(
    game: Game, budget: Budget, rng: np.random.Generator, active: Flags, *, truncation: float | None, batch: int
) -> Floats:
    """Marginal contributions along one random order; 0 after truncation, unused where not active."""
    examples, factors = game.draw(rng, batch)
    live = np.ones(game.n, dtype=bool)

    def evaluate() -> float:
        budget.spend(_PART, batch)
        return float(np.mean(factors * game.scores(live[None], examples)))

    marginals = np.zeros(game.n)
    before: float | None = None
    for player in rng.permutation(game.n):
        if not active[player]:
            live[player] = False
            before = None  # the value without this inactive player is not known
            continue
        if before is None:
            before = evaluate()
        if truncation is not None and before < truncation:
            break
        live[player] = False
        after = evaluate()
        marginals[player] = before - after
        before = after
    return marginals


def _kth(moments: Moments, top_k: int, end: End) -> float:
    ordered = np.sort(moments.mean)
    return float(ordered[top_k - 1] if end == "low" else ordered[-top_k])


def still_active(moments: Moments, *, top_k: int, end: End, delta: float, tolerance: float) -> Flags:
    """Players whose interval, narrowed by the tolerance, holds the k-th value of the end (Algorithm 1, last line)."""
    half_width = published_bound(moments.variance, moments.count, delta=delta)
    kth = _kth(moments, top_k, end)
    inside: npt.NDArray[np.bool_] = (moments.mean - half_width + tolerance < kth) & (kth < moments.mean + half_width - tolerance)
    return inside


def _still_needed(state: _State) -> float:
    """Image passes until nobody is active, if means, variances and truncation stay as they are; infinite for a tolerance of 0.

    A player leaves when its half-width is down to its distance from the k-th value plus the tolerance. Truncation saves the share of
    evaluations that it has saved so far.
    """
    moments, active, batch = state.moments, state.active, state.settings.batch
    if not active.any():
        return 0.0
    gap = np.abs(moments.mean - _kth(moments, state.settings.top_k, state.end))[active] + state.tolerance
    needed = published_count(moments.variance[active], gap, delta=state.delta)
    saved = state.budget.spent[_PART] / (batch * evaluations(moments.count, len(active)))
    return float(saved * batch * evaluations(np.maximum(needed - moments.count[active], 0), len(active)))


def evaluations(permutations: Floats, n: int) -> float:
    """Expected evaluations without truncation when each player takes part in its number of permutations, all from the first on.

    With a of n players active, a permutation makes `a (2 - (a - 1) / n)` evaluations on average: one after each active player, and one
    before it unless it follows another.
    """
    ordered = np.sort(permutations)
    together = np.arange(len(ordered), 0, -1)  # how many take part in the permutations up to each of these numbers
    return float((np.diff(ordered, prepend=0.0) * together * (2 - (together - 1) / n)).sum())
