"""Exact values of small games by enumeration."""

from __future__ import annotations

import numpy as np
from scipy.special import beta, betainc

from repairkit.errors import UsageError
from repairkit.shapley.game import Floats, Game

MOST_PLAYERS = 20
SCORED_TOGETHER = 4096


def exact_values(game: Game, *, min_live: float = 0.0) -> Floats:
    """Values of all players by enumerating the 2^n coalitions on every example; float64 (n,).

    With min_live = 0 this is the Shapley value (Shapley 1953). Otherwise it is `(1 - min_live) E[V(S with i) - V(S without i)]` with t uniform
    on [min_live, 1] and each other player live with probability t. The values sum to `V(all) - E V(S at min_live)`.

    Raises:
        UsageError: more than 20 players, or min_live outside [0, 1).

    Example:
        >>> from repairkit.shapley.game import FunctionGame
        >>> both = FunctionGame(2, lambda live: live.all(axis=1).astype(float), bounds=(0, 1))
        >>> exact_values(both).tolist(), exact_values(both, min_live=0.5).tolist()
        ([0.5, 0.5], [0.375, 0.375])
    """
    if game.n > MOST_PLAYERS:
        raise UsageError(f"enumeration takes at most {MOST_PLAYERS} players, the game has {game.n}; use an engine that samples")
    if not 0 <= min_live < 1:
        raise UsageError(f"min_live must lie in [0, 1), got {min_live}; it is the least share of filters that stays live")
    totals = all_objective_values(game)
    sizes = np.arange(game.n)
    shape = (sizes + 1, game.n - sizes)
    weight = beta(*shape) * (1 - betainc(*shape, min_live))
    coalitions = np.arange(2**game.n)
    size = np.array([int(mask).bit_count() for mask in coalitions])
    values = np.empty(game.n)
    for player in range(game.n):
        without = coalitions[(coalitions >> player) & 1 == 0]
        values[player] = (weight[size[without]] * (totals[without | (1 << player)] - totals[without])).sum()
    return values


def all_objective_values(game: Game) -> Floats:
    """V of every coalition, float64 (2^n,); player i is live in coalition m where bit i of m is set."""
    examples = np.arange(len(game.weights))
    together = max(1, SCORED_TOGETHER // len(examples))
    totals = np.empty(2**game.n)
    for start in range(0, len(totals), together):
        coalitions = np.arange(start, min(start + together, len(totals)))
        live = ((coalitions[:, None] >> np.arange(game.n)) & 1).astype(bool)
        scores = game.scores(np.repeat(live, len(examples), axis=0), np.tile(examples, len(live)))
        totals[coalitions] = scores.reshape(len(live), len(examples)) @ game.weights
    return totals
