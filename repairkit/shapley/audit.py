"""The audit of a screen: players drawn outside the candidates, and what they show about all others there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from repairkit.shapley.game import Examples, Floats
from repairkit.shapley.top_k import Flags


@dataclass(frozen=True)
class Audit:
    """What a screen missed at one end, at most: outside players whose value is more extreme than the k-th by more than the tolerance.

    Attributes:
        draws: number of draws outside the candidates, with replacement and known chances.
        hits: draws whose player is not cleared.
        mass: upper bound on the sum of the chances of all missed players, in [0, 1].
        count: most outside players not cleared whose chances sum to `mass` at most.
        share: `count` as a share of the outside players, in [0, 1].
    """

    draws: int
    hits: int
    mass: float
    count: int
    share: float


def audit_chances(screen: Floats) -> Floats:
    """Chance of each of m outside players in one draw, float64 (m,), summing to 1; it rises towards both ends of their screen values.

    Half of it is even, half is inversely proportional to the place counted from the nearer end.

    Example:
        >>> audit_chances(np.array([0.5, -0.1, 0.0, 0.3])).round(3)
        array([0.292, 0.292, 0.208, 0.208])
    """
    m = len(screen)
    place = np.empty(m)
    place[np.argsort(screen, kind="stable")] = np.minimum(np.arange(m), np.arange(m)[::-1]) + 1
    chances: Floats = 0.5 / m + 0.5 / place / (1 / place).sum()
    return chances


def clopper_pearson(hits: int, draws: int, delta: float) -> float:
    """Upper bound of a share, from `hits` in independent draws; too low with probability delta at most (Clopper & Pearson 1934, one side).

    Example:
        >>> round(clopper_pearson(0, 64, 0.0125), 4)
        0.0662
    """
    return 1.0 if hits == draws else float(stats.beta.isf(delta, hits + 1, draws - hits))


def judge(chances: Floats, drawn: Examples, cleared: Flags, *, delta: float) -> Audit:
    """Bound what was missed, from draws of which some are cleared.

    The missed players do not depend on the draws. The number of draws that fall on them is therefore binomial, whatever the single chances
    are. A draw counts as a hit unless its player is cleared. The bound is too low with probability delta at most.

    Args:
        chances: of the m outside players, as `audit_chances` gave them.
        drawn: numbers in 0 .. m - 1 of the players drawn, repeats included.
        cleared: whether each outside player is shown not to be missed, (m,); False where it was not drawn.
        delta: probability that the bound is too low, in (0, 1).

    Example:
        >>> chances = np.full(100, 0.01)
        >>> judge(chances, np.arange(64), np.arange(100) < 63, delta=0.05)
        Audit(draws=64, hits=1, mass=0.0719..., count=7, share=0.07)
    """
    hits = int((~cleared[drawn]).sum())
    mass = clopper_pearson(hits, len(drawn), delta)
    possible = np.cumsum(np.sort(chances[~cleared]))
    count = int(np.searchsorted(possible, mass * (1 + 1e-9), side="right"))
    return Audit(draws=len(drawn), hits=hits, mass=mass, count=count, share=count / len(chances))
