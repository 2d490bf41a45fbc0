"""Both algorithms replayed on given permutations, each stopped by the published rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from repairkit.shapley.confidence import Moments
from repairkit.shapley.game import Floats
from repairkit.shapley.guarantee import End
from repairkit.shapley.permutation import evaluations, still_active

DELTA = 0.1
"""Of the published bound."""


@dataclass(frozen=True, eq=False)
class Replay:
    """How one of the algorithms went: estimates, samples per filter, and whether it stopped by itself."""

    values: Floats
    samples: Floats
    stopped: bool

    @property
    def evaluations(self) -> float:
        """How often the objective was evaluated, expected of such numbers of samples."""
        return evaluations(self.samples, len(self.samples))


def replay(rows: Iterable[Floats], n: int, *, bandit: bool, top: int, end: End, tolerance: float) -> Replay:
    """Play Algorithm 1 on given permutations: the contested filters with `bandit`, else all of them, until nobody is contested.

    Without truncation a filter's marginal in permutation t is the same whoever else is sampled, so that permutations can be walked once for
    all filters and serve both algorithms.
    """
    moments, everyone = Moments(n), np.arange(n)
    active = np.ones(n, dtype=bool)
    for marginals in rows:
        sampled = np.flatnonzero(active) if bandit else everyone
        moments.add(marginals[None, sampled], sampled)
        active = still_active(moments, top_k=top, end=end, delta=DELTA, tolerance=tolerance)
        if not active.any():
            return Replay(moments.mean, moments.count, stopped=True)
    return Replay(moments.mean, moments.count, stopped=False)


def r_squared(values: Floats, reference: Floats) -> float:
    """1 less the squared differences over the spread of the reference; 0 where that is constant."""
    spread = float(((reference - reference.mean()) ** 2).sum())
    return 1 - float(((values - reference) ** 2).sum()) / spread if spread else 0.0


@dataclass(frozen=True)
class Comparison:
    """TMAB against Monte Carlo on independent permutations."""

    tmab: Replay
    plain: Replay

    @property
    def stopped(self) -> bool:
        """Both did, by themselves."""
        return self.tmab.stopped and self.plain.stopped

    @property
    def ratio(self) -> float:
        """Samples of TMAB over those of Monte Carlo."""
        return float(self.tmab.samples.sum() / self.plain.samples.sum())

    @property
    def rank(self) -> float:
        """Spearman's rank correlation of the two sets of values."""
        return float(spearmanr(self.tmab.values, self.plain.values).statistic)

    @property
    def r_squared(self) -> float:
        """Of TMAB's values, with Monte Carlo's as the reference."""
        return r_squared(self.tmab.values, self.plain.values)


def compare_on(first: Iterable[Floats], second: Iterable[Floats], n: int, *, top: int, end: End, tolerance: float) -> Comparison:
    """TMAB on some permutations, Monte Carlo on others."""
    return Comparison(
        replay(first, n, bandit=True, top=top, end=end, tolerance=tolerance),
        replay(second, n, bandit=False, top=top, end=end, tolerance=tolerance),
    )


def compare(
    halves: Sequence[Floats], *, top: int, end: End, tolerance: float, most: int, repeats: int, seed: int = 9
) -> tuple[list[Comparison], bool]:
    """TMAB on one half of some permutations and Monte Carlo on the other, and the other way round.

    Where that does not stop, on rows drawn from the halves with replacement, up to `most`.

    Returns:
        The comparisons that stopped by themselves, and whether they are extrapolated.
    """
    n = halves[0].shape[1]
    real = [compare_on(first, second, n, top=top, end=end, tolerance=tolerance) for first, second in (halves, halves[::-1])]
    if all(one.stopped for one in real):
        return real, False
    drawn = redrawn(halves, top=top, end=end, tolerance=tolerance, most=most, repeats=repeats, seed=seed)
    return [one for one in drawn if one.stopped], True


def redrawn(
    halves: Sequence[Floats], *, top: int, end: End, tolerance: float, most: int, repeats: int, seed: int = 9
) -> Iterator[Comparison]:
    """Comparisons on rows drawn from the halves with replacement, each half serving either algorithm in turn."""
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        first, second = (_resampled(half, rng, most) for half in (halves if repeat % 2 == 0 else halves[::-1]))
        yield compare_on(first, second, halves[0].shape[1], top=top, end=end, tolerance=tolerance)


def _resampled(rows: Floats, rng: np.random.Generator, most: int) -> Iterator[Floats]:
    for index in rng.integers(0, len(rows), size=most):
        yield rows[index]


@dataclass(frozen=True, eq=False)
class Stopping:
    """Both algorithms stopped at one tolerance.

    Attributes:
        tolerance: of the published rule.
        comparisons: those that stopped, both ways round; empty where none did.
        extrapolated: whether permutations were drawn with replacement from those walked.
        resampled: share of samples in those replays of resampled permutations that stopped, shape (RESAMPLES,) at most; empty of what is extrapolated.
        replays: of resampled permutations, those that did not stop among them.
    """

    tolerance: float
    comparisons: list[Comparison]
    extrapolated: bool
    resampled: Floats
    replays: int

    @property
    def dropped(self) -> int:
        """Replays that did not stop, of which no share of samples is known."""
        return self.replays - len(self.comparisons if self.extrapolated else self.resampled)
