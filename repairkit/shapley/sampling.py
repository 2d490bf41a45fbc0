"""Rounds of samples: antithetic coalitions, and what is observed on them; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repairkit.errors import UsageError
from repairkit.shapley.game import Coalitions, Examples, Floats, Game

SCREEN_ROUND = 64
"""Samples of one screen round: antithetic pairs, so an even number."""


@dataclass(frozen=True)
class Samples:
    """Coalitions and examples of one round, in antithetic pairs (2 j, 2 j + 1)."""

    live: Coalitions
    examples: Examples
    factors: Floats


def draw_round(game: Game, *, seed: int, stage: int, index: int, size: int, min_live: float) -> Samples:
    """Coalitions with each player live with probability t ~ U[min_live, 1], as antithetic pairs.

    The second of a pair has size min_live + 1 - t and mirrored draws. At min_live = 0 it is the first's complement, so one pair values a game
    with interactions of two players exactly. Pure: the same arguments give the same samples.
    """
    if size < 2 or size % 2:
        raise UsageError(f"a round holds whole antithetic pairs, got size {size}")
    rng = np.random.default_rng([seed, stage, index])
    t = rng.uniform(min_live, 1, size=size // 2)
    u = rng.random((size // 2, game.n))
    live = np.empty((size, game.n), dtype=bool)
    live[0::2] = u < t[:, None]
    live[1::2] = 1 - u <= (min_live + 1 - t)[:, None]
    examples, factors = game.draw(rng, size)
    return Samples(live, examples, factors)


def pair_means(observations: Floats) -> Floats:
    """Mean of each antithetic pair; the pairs, not their halves, are independent."""
    return (observations[0::2] + observations[1::2]) / 2


@dataclass(frozen=True)
class Round:
    """One round of antithetic pairs: seed, stage and index decide its random numbers.

    Attributes:
        size: samples, an even number.
        players: who is flipped, or None for the gradients of all players.
        control: flips less the gradient at the same coalition and example.
    """

    seed: int
    stage: int
    index: int
    size: int
    min_live: float
    players: npt.NDArray[np.int64] | None = None
    control: bool = False

    def observe(self, game: Game) -> Floats:
        """Signed marginal contributions, a row for each pair: (size / 2, players), in natural units."""
        samples = draw_round(game, seed=self.seed, stage=self.stage, index=self.index, size=self.size, min_live=self.min_live)
        if self.players is None:
            marginals = game.gradients(samples.live, samples.examples)
        else:
            marginals = game.flips(samples.live, samples.examples, self.players)
            if self.control:
                marginals = marginals - game.gradients(samples.live, samples.examples)[:, self.players]
        return pair_means(samples.factors[:, None] * marginals)
