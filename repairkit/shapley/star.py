"""`tmab`, the default engine: a gradient screen of all players, then exact flips of contested ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from repairkit.errors import BudgetError, UsageError
from repairkit.shapley.attribution import Attribution, End, Ledger, decide, names
from repairkit.shapley.bounds import Moments, empirical_bernstein
from repairkit.shapley.game import Coalitions, Examples, Floats, Game
from repairkit.shapley.walk import Progress, check_sought

SCREEN_ROUND = 64
"""Samples of one screen round: antithetic pairs, so an even number."""
GRADIENT_COST = 3.0
"""Image passes of a forward and backward pass."""
SCREEN_SHARE = 0.4
"""Share of the budget that the screen may take when flips of all players cannot be afforded."""


@dataclass(frozen=True)
class Samples:
    """Coalitions and examples of one round, in antithetic pairs (2 j, 2 j + 1)."""

    live: Coalitions
    examples: Examples
    factors: Floats


def draw_round(game: Game, *, seed: int, stage: int, index: int, size: int, t0: float) -> Samples:
    """Coalitions with each player live with probability t ~ U[t0, 1], as antithetic pairs.

    The second of a pair has size t0 + 1 - t and mirrored draws, so that at t0 = 0 it is the first's
    complement and a game with interactions of two players is valued exactly by one pair. Examples
    of a pair are drawn independently. Pure: the same arguments give the same samples.
    """
    if size < 2 or size % 2:
        raise UsageError(f"a round holds whole antithetic pairs, got size {size}")
    rng = np.random.default_rng([seed, stage, index])
    t = rng.uniform(t0, 1, size=size // 2)
    u = rng.random((size // 2, game.n))
    live = np.empty((size, game.n), dtype=bool)
    live[0::2] = u < t[:, None]
    live[1::2] = 1 - u <= (t0 + 1 - t)[:, None]
    examples, factors = game.draw(rng, size)
    return Samples(live, examples, factors)


def pair_means(observations: Floats) -> Floats:
    """Mean of each antithetic pair; the pairs, not their halves, are independent."""
    return (observations[0::2] + observations[1::2]) / 2


def tmab(
    game: Game,
    *,
    budget: float,
    seed: int = 0,
    top: int = 40,
    end: End | None = None,
    t0: float = 0.0,
    delta: float = 0.05,
    contested: int | None = None,
    audit: int = 16,
    control: bool = False,
    ids: Sequence[object] | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Estimate `(1 - t0) E[V(S with i) - V(S without i)]`, where t ~ U[t0, 1] and S holds each other player with probability t.

    1. *Screen*: gradients of the surrogate at random coalitions, a different one for every example;
       their mean is a first-order estimate for every player.
    2. *Flips*: exact changes of the score when a contested player changes side, all of them on the
       same coalitions and examples. Contested are the players of the sought end of the screen plus
       an audit sample from all others, drawn with equal probability.
    3. *Sequential halving* (Karnin et al. 2013): rounds of equal cost; after each the half of the
       contested that lies further from the sought end drops out, never below `top`. An audited
       player that turns out extreme stays like any other.

    With `control` the gradient at the same coalition and example is a control variate of every flip:
    the value is the mean gradient plus the mean of flip minus gradient. The mean gradient is that of
    every second screen round, which has no say in who is contested, so that being picked for an
    extreme screen does not carry over into the value. Made for smooth scores, which gradients follow.

    Without `control` intervals are empirical Bernstein with the true range, for each player on its own; the rounds
    share delta, since the round after which a player drops out depends on its data. With `control` the
    range of an observation is not known, and intervals are Student's with the same share of delta:
    they hold for many samples only. All are conditional on the images. With t0 = 0 the estimand is the Shapley value; t0 > 0 is truncation by
    size (the paper truncates by performance).

    Args:
        game: what is played.
        budget: image passes, never exceeded.
        seed: everything random comes from it.
        top: how many players of the sought end are wanted.
        end: "low" or "high"; the harmful end by default.
        t0: live zone, in [0, 1).
        delta: probability that a player's interval misses.
        contested: players that are flipped in the first round; 3 times `top` by default.
        audit: how many others are flipped as a check of the screen.
        control: use the gradients as control variates; for smooth scores.
        ids: names of the players.
        progress: told after every round.

    Raises:
        BudgetError: the budget does not pay one screen round and one pair of flips in each round.
        UsageError: top, t0, delta or contested out of range.

    Example:
        >>> from repairkit.shapley.game import FunctionGame
        >>> game = FunctionGame(4, lambda live: live[:, 0] * 0.5 - live[:, 1] * 0.25, bounds=(-1, 1))
        >>> found = tmab(game, budget=2000, top=1)
        >>> [found.ids[i] for i in found.culprits()], found.value[1]
        (['player:1'], np.float64(-0.25))
    """
    check_sought(game, top, delta)
    if not 0 <= t0 < 1:
        raise UsageError(f"t0 must lie in [0, 1), got {t0}; it is the least share of filters that stays live")
    sought: End = end or ("low" if game.harmful < 0 else "high")
    first = min(game.n, max(top, contested if contested is not None else 3 * top))
    if audit < 0 or (contested is not None and contested < 1):
        raise UsageError(f"contested must be at least 1 and audit not negative, got {contested} and {audit}")
    audited = min(audit, game.n - first)
    sizes = halving_sizes(first, audited, top)
    ledger = Ledger(budget)
    flips = (
        len(sizes) * 2 * (1 + sizes[0] + GRADIENT_COST * control)
    )  # the rounds cost the same, and the first must pay a pair of all its players
    shortest = (1 + control) * SCREEN_ROUND * GRADIENT_COST + flips
    if budget < shortest:
        raise BudgetError(
            f"the budget of {budget:,.0f} image passes is too small: tmab needs at least {shortest:,.0f} here; give a larger --budget"
        )

    most = min(SCREEN_SHARE * ledger.budget, ledger.budget - flips)
    screen, fresh = _screen(game, ledger, seed=seed, t0=t0, most=most, split=control, progress=progress)
    towards = screen.mean if sought == "low" else -screen.mean
    order = np.argsort(towards, kind="stable")
    others = np.random.default_rng([seed, 1]).permutation(order[first:])[:audited]
    players = np.sort(np.concatenate([order[:first], others])).astype(np.int64)

    moments = Moments(game.n)
    base = fresh.mean if control else np.zeros(game.n)
    for stage, keep in enumerate(sizes):
        if stage:
            estimate = (base + moments.mean)[players]
            players = np.sort(players[np.argsort(estimate if sought == "low" else -estimate, kind="stable")[:keep]])
        passes = ledger.left / (len(sizes) - stage)
        _flip(game, ledger, moments, players, seed=seed, stage=2 + stage, t0=t0, passes=passes, control=control)
        if progress is not None:
            progress("flips", budget - ledger.left, budget)
    valued = moments.count > 0
    value = np.where(valued, (1 - t0) * (base + moments.mean), math.nan)
    standard_error = np.hypot(moments.standard_error, fresh.standard_error if control else 0.0)
    if control:
        freedom = np.maximum(np.minimum(moments.count, fresh.count) - 1, 1)
        spread = stats.t.isf(delta / len(sizes) / 2, freedom) * standard_error
    else:
        spread = empirical_bernstein(moments.variance, moments.count, delta=delta / len(sizes), width=2 * game.marginal_range)
    half_width = np.where(valued, (1 - t0) * spread, math.nan)
    return Attribution(
        ids=names(ids, game.n),
        screen=(1 - t0) * screen.mean,
        value=value,
        half_width=half_width,
        samples=moments.count,
        decided=decide(value, half_width, top=top, end=sought),
        harmful=game.harmful,
        end=sought,
        top=top,
        t0=t0,
        delta=delta,
        seed=seed,
        engine="tmab",
        passes=ledger.spent,
        standard_error=np.where(valued, (1 - t0) * standard_error, math.nan),
    )


def halving_sizes(first: int, audited: int, top: int) -> list[int]:
    """How many players are flipped in each round: all contested and audited, then halves down to `top`.

    Example:
        >>> halving_sizes(120, 16, 40)
        [136, 68, 40]
    """
    sizes = [first + audited]
    while sizes[-1] > top:
        sizes.append(max(top, sizes[-1] // 2))
    return sizes


def _screen(
    game: Game, ledger: Ledger, *, seed: int, t0: float, most: float, split: bool, progress: Progress | None
) -> tuple[Moments, Moments]:
    """First-order marginal of every player, in as many whole rounds as `most` passes pay (at least one of each kind).

    Returns:
        Moments of the rounds that select, and of those that do not: with `split` every second one,
        otherwise none.
    """
    halves = Moments(game.n), Moments(game.n)
    everyone: npt.NDArray[np.int64] = np.arange(game.n)
    rounds = max(1 + split, int(most / (SCREEN_ROUND * GRADIENT_COST)))
    for index in range(rounds):
        ledger.spend("screen", SCREEN_ROUND * GRADIENT_COST)
        samples = draw_round(game, seed=seed, stage=0, index=index, size=SCREEN_ROUND, t0=t0)
        slopes = game.gradients(samples.live, samples.examples)
        halves[index % 2 if split else 0].add(pair_means(samples.factors[:, None] * slopes), everyone)
        if progress is not None:
            progress("screen", ledger.budget - ledger.left, ledger.budget)
    return halves


def _flip(
    game: Game,
    ledger: Ledger,
    moments: Moments,
    players: npt.NDArray[np.int64],
    *,
    seed: int,
    stage: int,
    t0: float,
    passes: float,
    control: bool,
) -> None:
    """Spend `passes` on flips of these players (less the gradients, with `control`); one observation is one antithetic pair."""
    cost = game.flip_cost(players) + GRADIENT_COST * control
    pairs = int((passes + 1e-6) // (2 * cost))
    if pairs < 1:
        raise BudgetError(
            f"{passes:,.0f} image passes are left for {len(players)} contested filters, one pair of flips costs {2 * cost:,.0f}; give a larger --budget"
        )
    ledger.spend("flips", 2 * cost * pairs)
    step = SCREEN_ROUND // 2
    for index, start in enumerate(range(0, pairs, step)):
        size = 2 * min(step, pairs - start)
        samples = draw_round(game, seed=seed, stage=stage, index=index, size=size, t0=t0)
        marginals = game.flips(samples.live, samples.examples, players)
        if control:
            marginals = marginals - game.gradients(samples.live, samples.examples)[:, players]
        moments.add(pair_means(samples.factors[:, None] * marginals), players)
