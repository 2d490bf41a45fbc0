"""Engines that walk through permutations: `tmab-paper`, Algorithm 1 as published, and `monte-carlo`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from repairkit.errors import BudgetError, UsageError
from repairkit.shapley.checkpoint import Checkpoint, kept
from repairkit.shapley.confidence import Moments, TwoLevelSequence, published_bound, published_count
from repairkit.shapley.game import Floats, Game, Progress
from repairkit.shapley.guarantee import End
from repairkit.shapley.live_range import check_alive
from repairkit.shapley.settings import EngineSettings
from repairkit.shapley.values import Attribution, Budget, decide, names


def permutation_sampling(
    game: Game,
    settings: EngineSettings,
    *,
    ids: Sequence[object] | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Estimate values by removing players one by one in random order.

    As `tmab-paper` this is Algorithm 1 of Ghorbani & Zou 2020 (truncated multi-armed bandit): after
    every permutation a player stays active only while the k-th value lies inside its confidence
    interval narrowed by the tolerance. All players are removed in every permutation, active or not;
    V is evaluated just before and just after each active one, so that an inactive player's effect
    never counts for it. Below `truncation` the remaining marginals count as 0. Each permutation has
    a fresh batch of examples. A worth that rises while the network dies, as that of an attack may, is never
    truncated.

    Half-widths are the published bound (range 1) for `tmab-paper`, which does not hold for a worth whose
    marginals exceed 1, and those of a confidence sequence with the true range for `monte-carlo`, where all players stay active. The range term of the published bound
    is about 7 / t after t permutations, so that it rarely stops within a budget; `still_needed` extrapolates
    what it would take.

    Deviations from the paper: `end` may be the low end, which the paper does not seek; the walk stops
    when the budget cannot pay the next evaluation, and a permutation cut short is dropped, since it
    would favour players that came early.

    Args:
        game: what is played.
        settings: budget, what is sought and how; permutation t and its examples come from `default_rng([seed, t])`.
            Delta is the failure probability of the published bound, per player. Every other engine than `tmab-paper` means `monte-carlo`.
        ids: names of the players.
        checkpoint: where the state is saved between permutations, and taken up again if it is there.
        progress: told after every permutation.

    Raises:
        BudgetError: the budget does not pay one whole permutation.
        GameError: no player changed the worth in any permutation, as with a network dead on arrival.
        UsageError: k outside 1 .. n - 1, delta outside (0, 1), a negative tolerance, no examples in a batch, or a truncation above the
            worth of the whole network, which would end every permutation before it begins.
    """
    bandit = settings.engine == "tmab-paper"
    engine = "tmab-paper" if bandit else "monte-carlo"
    budget, seed, top_k, truncation, batch = settings.budget, settings.seed, settings.top_k, settings.truncation, settings.batch
    delta = 0.1 if settings.delta is None else settings.delta
    tolerance = 1e-4 if settings.tolerance is None else settings.tolerance
    sought = settings.sought(game, delta)
    _check(tolerance, batch, truncation)
    ledger, moments = Budget(budget), Moments(game.n)
    # Sequences, since the number of permutations depends on the data where they are truncated.
    intervals = None if bandit else TwoLevelSequence(game.n, game.marginal_range, delta=delta, valued=game.n)
    active = np.ones(game.n, dtype=bool)
    rounds = 0
    chosen: dict[str, object] = {"budget": budget, "seed": seed, "top_k": top_k, "end": sought, "delta": delta, "tolerance": tolerance}
    chosen |= {"truncation": truncation, "batch": batch, "engine": engine, "players": game.n}
    if checkpoint is not None and (saved := checkpoint.begin(chosen | {"game": game.fingerprint()})):
        moments.restore(saved, "marginals")
        if intervals is not None:
            intervals.restore(saved)
        active, rounds, ledger.spent = saved["active"], int(saved["rounds"]), {"permutations": float(saved["spent"])}
    with kept(checkpoint):
        while active.any():
            rng = np.random.default_rng([seed, rounds])
            try:
                marginals = sample_permutation(game, ledger, rng, active, truncation=truncation, batch=batch)
            except BudgetError:
                if rounds == 0:
                    raise BudgetError(
                        f"the budget of {budget:,.0f} image passes does not pay one permutation of {game.n} players "
                        f"(up to {batch * (game.n + 1):,} passes); give a larger --budget or use the engine tmab"
                    ) from None
                break
            if truncation is not None and rounds == 0 and ledger.spent["permutations"] == batch:
                raise UsageError(
                    f"the truncation of {truncation:g} is above what the whole network is worth on the first {batch} examples, so that every "
                    "permutation would end before it begins; give a worth between that of the network and that of a guess"
                )
            moments.add(marginals[None, active], np.flatnonzero(active))
            if intervals is not None:
                intervals.add(marginals[None], np.arange(game.n))
            rounds += 1
            if bandit:
                active = still_active(moments, top_k=top_k, end=sought, delta=delta, tolerance=tolerance)
            if checkpoint is not None:
                spent = np.array(ledger.spent["permutations"])
                state = {**moments.arrays("marginals"), "active": active, "rounds": np.array(rounds), "spent": spent}
                checkpoint.offer(state | (intervals.arrays() if intervals else {}))
            if progress is not None:
                progress("permutations", budget - ledger.left, budget)

    check_alive(0.0, moments.mean, moments.variance)
    if intervals is None:
        of_each, of_all = (published_bound(moments.variance, moments.count, delta=share) for share in (delta, delta / game.n))
    else:
        of_each, of_all = intervals.half_widths(moments.mean)
    return Attribution(
        ids=names(ids, game.n),
        screen=np.full(game.n, math.nan),
        value=moments.mean,
        half_width=of_each,
        samples=moments.count,
        decided=decide(moments.mean, of_all, top_k=top_k, end=sought),
        harmful=game.harmful,
        end=sought,
        top_k=top_k,
        min_live=0.0,
        delta=delta,
        seed=seed,
        engine=engine,
        passes=ledger.spent,
        standard_error=moments.standard_error,
        truncation=truncation,
        still_needed=still_needed(
            moments, active, top_k=top_k, end=sought, delta=delta, tolerance=tolerance, spent=ledger.spent["permutations"], batch=batch
        )
        if bandit
        else None,
    )


def sample_permutation(
    game: Game, ledger: Budget, rng: np.random.Generator, active: np.ndarray, *, truncation: float | None, batch: int
) -> Floats:
    """Marginal contributions along one random order; 0 after truncation, unused where not active."""
    examples, factors = game.draw(rng, batch)
    live = np.ones(game.n, dtype=bool)

    def worth() -> float:
        ledger.spend("permutations", batch)
        return float(np.mean(factors * game.scores(live[None], examples)))

    marginals = np.zeros(game.n)
    before: float | None = None
    for player in rng.permutation(game.n):
        if not active[player]:
            live[player] = False
            before = None  # the worth without this inactive player is not known
            continue
        if before is None:
            before = worth()
        if truncation is not None and before < truncation:
            break
        live[player] = False
        after = worth()
        marginals[player] = before - after
        before = after
    return marginals


def still_active(moments: Moments, *, top_k: int, end: End, delta: float, tolerance: float) -> np.ndarray:
    """Players whose interval, narrowed by the tolerance, holds the k-th value of the end (Algorithm 1, last line)."""
    half_width = published_bound(moments.variance, moments.count, delta=delta)
    ordered = np.sort(moments.mean)
    kth = ordered[top_k - 1] if end == "low" else ordered[-top_k]
    inside: np.ndarray = (moments.mean - half_width + tolerance < kth) & (kth < moments.mean + half_width - tolerance)
    return inside


def still_needed(
    moments: Moments, active: np.ndarray, *, top_k: int, end: End, delta: float, tolerance: float, spent: float, batch: int
) -> float:
    """Image passes until nobody is active, extrapolated: means, variances and truncation stay as they are now.

    A player leaves when its half-width is down to its distance from the k-th value plus the tolerance. With a of n players active a
    permutation makes `a (2 - (a - 1) / n)` evaluations on average: one after each active player, and one before it
    unless it follows another. Truncation saves the share of them that it has saved so far.

    Returns:
        Passes; 0 where nobody is active, infinite for a tolerance of 0.
    """
    n = len(active)
    ordered = np.sort(moments.mean)
    kth = ordered[top_k - 1] if end == "low" else ordered[-top_k]
    gap = np.abs(moments.mean - kth)[active] + tolerance
    needed = published_count(moments.variance[active], gap, delta=delta)
    saved = spent / (batch * evaluations(moments.count, n))
    return float(saved * batch * evaluations(np.maximum(needed - moments.count[active], 0), n)) if active.any() else 0.0


def evaluations(permutations: Floats, n: int) -> float:
    """Expected evaluations without truncation when each player takes part in its number of permutations, all from the first on."""
    ordered = np.sort(permutations)
    together = np.arange(len(ordered), 0, -1)  # how many take part in the permutations up to each of these numbers
    return float((np.diff(ordered, prepend=0.0) * together * (2 - (together - 1) / n)).sum())


def _check(tolerance: float, batch: int, truncation: float | None) -> None:
    if not 0 <= tolerance < math.inf:
        raise UsageError(f"the tolerance must be a number from 0, got {tolerance}")
    if batch < 1:
        raise UsageError(f"batch must be at least 1 example, got {batch}")
    if truncation is not None and not math.isfinite(truncation):
        raise UsageError(f"truncation must be a worth, or None for none, got {truncation}")
