"""Running moments, the half-width that the paper states, and confidence sequences that hold at all times at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from repairkit.errors import UsageError
from repairkit.shapley.game import Examples, Floats

ORDER = 6
"""Degree of the polynomial below the logarithm, even: sums of powers up to it are kept."""
FRACTIONS = np.geomspace(0.03, 0.98, 8)
"""Fractions of the capital that are bet: small ones for long sequences, great ones for little variance."""
PLACES, STEPS = np.arange(1, 16)[:, None] / 16, 3
"""Where a bound is sought between two ends, and how often; it stays short of the exact one by 1/4,096 of the way to the mean."""
NEAREST = 1 / 32
"""Means closer than this share of the range to its end are not ruled out: sums of powers would lose their digits there."""


class Moments:
    """Running mean and variance of each player's observations (Welford's update, folded in order).

    Example:
        >>> moments = Moments(2)
        >>> moments.add(np.array([[1.0], [3.0]]), np.array([1]))
        >>> moments.mean, moments.variance, moments.count
        (array([0., 2.]), array([0., 2.]), array([0., 2.]))
    """

    def __init__(self, n: int) -> None:
        self.count: Floats = np.zeros(n)
        self.mean: Floats = np.zeros(n)
        self._squares: Floats = np.zeros(n)

    def add(self, observations: Floats, players: npt.NDArray[np.int64]) -> None:
        """Fold in rows of observations, shape (k, len(players))."""
        for row in observations:
            self.count[players] += 1
            away = row - self.mean[players]
            self.mean[players] += away / self.count[players]
            self._squares[players] += away * (row - self.mean[players])

    def arrays(self, prefix: str) -> dict[str, Floats]:
        """The state by name, for a checkpoint."""
        return {f"{prefix}.count": self.count, f"{prefix}.mean": self.mean, f"{prefix}.squares": self._squares}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> None:
        """Take up the state that `arrays` gave under the same prefix."""
        self.count, self.mean, self._squares = (arrays[f"{prefix}.{name}"].copy() for name in ("count", "mean", "squares"))

    @property
    def variance(self) -> Floats:
        """Unbiased sample variance; 0 where there are fewer than two observations."""
        return self._squares / np.maximum(self.count - 1, 1)

    @property
    def standard_error(self) -> Floats:
        """Of the mean; infinite where there are fewer than two observations."""
        return np.where(self.count > 1, np.sqrt(self.variance / np.maximum(self.count, 1)), np.inf)


def published_bound(variance: Floats, count: Floats, *, delta: float) -> Floats:
    """The half-width in the published implementation of Neuron Shapley: range 1, one-sided delta.

    `sqrt(2 V ln(2/delta) / t) + 7 ln(2/delta) / (3 (t - 1))` (Maurer & Pontil 2009, theorem 4). It speaks of one filter at one time, and
    marginal contributions of a signed objective can exceed the range 1.

    Args:
        variance: unbiased sample variance, shape (n,).
        count: number of observations, shape (n,); below 2 the half-width is infinite.
        delta: in (0, 1).
    """
    enough = count > 1
    safe, log_term = np.where(enough, count, 2), math.log(2 / delta)
    half_width = np.sqrt(2 * variance * log_term / safe) + 7 * log_term / (3 * (safe - 1))
    return np.where(enough, half_width, np.inf)


def published_count(variance: Floats, half_width: Floats, *, delta: float) -> Floats:
    """How many observations bring `published_bound` down to a half-width, if the variance stays; not rounded, infinite for a half-width of 0.

    Example:
        >>> count = published_count(np.array([0.04]), np.array([0.01]), delta=0.1)
        >>> count.round(), published_bound(np.array([0.04]), count, delta=0.1).round(5)
        (array([3662.]), array([0.01]))
    """
    log_term = math.log(2 / delta)
    # With u = 1 / sqrt(t - 1): range * u^2 + spread * u = half_width.
    range_term, spread = 7 * log_term / 3, np.sqrt(2 * variance * log_term)
    safe = np.where(half_width > 0, half_width, 1)
    count = 1 + ((spread + np.sqrt(spread**2 + 4 * range_term * safe)) / (2 * safe)) ** 2
    return np.where(half_width > 0, count, np.inf)


class ConfidenceSequence:
    """Intervals for the means of n players' observations, each valid at all times at once.

    With probability 1 - alpha a player's mean lies in its interval after every number of observations. How it is decided who is observed next
    and when to stop does not matter, if each observation has that mean given the past. To have all intervals hold at once give
    `alpha = delta / n`.

    A mean m is ruled out from below when a bet against it wins. A bet of a fraction q of the capital on every observation holds, in units of
    the range, `prod_i (1 + q (x_i - m) / m)`. For the true m this is a martingale that starts at 1, and so is the mean over several q; it
    reaches `2 / alpha` with probability `alpha / 2` at most (Ville). The other side bets on 1 - x. Each logarithm is replaced by the
    polynomial below it, for all y >= -q and even p:

        log(1 + y) >= y - y^2 / 2 + ... + y^(p - 1) / (p - 1) - c_p(q) y^p,   c_p(q) = -(log(1 - q) + q + ... + q^(p - 1) / (p - 1)) / q^p

    Sums of powers up to p are therefore all that is kept, and the order of observations does not matter. Intervals only shrink.

    Sources: Waudby-Smith & Ramdas 2023, *Estimating means of bounded random variables by betting*, section 4. Ryu & Bhatt 2024, *On Confidence
    Sequences for Bounded Random Processes via Universal Gambling Strategies*. Fan, Grama & Liu 2015. Deviations: a mixture over 8 fractions in
    place of an integral; both sides have alpha / 2.

    Args:
        n: number of players.
        low: least value of an observation.
        high: greatest value.
        alpha: probability that one player's interval ever misses, in (0, 1).

    Attributes:
        lower: lower ends, float64 (n,); `low` at first.
        upper: upper ends, float64 (n,); `high` at first. The ends never cross: where observations contradict earlier ones, they meet and stay.

    Raises:
        UsageError: low is not below high, alpha outside (0, 1), or an observation out of range.

    Example:
        >>> sequence = ConfidenceSequence(2, -1.0, 1.0, alpha=0.05)
        >>> sequence.add(np.full((200, 1), 0.1), np.array([1]))
        >>> sequence.lower.round(3), sequence.upper.round(3), sequence.count
        (array([-1.   ,  0.069]), array([1.   , 0.126]), array([  0., 200.]))
    """

    def __init__(self, n: int, low: float, high: float, alpha: float) -> None:
        if not (np.isfinite([low, high]).all() and low < high):
            raise UsageError(f"expected a range with low below high, got [{low}, {high}]")
        if not 0 < alpha < 1:
            raise UsageError(f"alpha must lie between 0 and 1, got {alpha}; it is the probability of an interval that ever misses")
        self.low, self.high, self.alpha = float(low), float(high), float(alpha)
        self.lower: Floats = np.full(n, self.low)
        self.upper: Floats = np.full(n, self.high)
        self._powers: Floats = np.zeros((ORDER + 1, n))

    def add(self, observations: Floats, players: Examples) -> None:
        """Fold in rows of observations, shape (k, len(players)); bounds are taken after the last row.

        Raises:
            UsageError: an observation outside [low, high] by more than rounding.
        """
        if len(observations) == 0:
            return
        width = self.high - self.low
        centred = (observations - self.low) / width - 0.5
        if not (np.abs(centred) <= 0.5 + 1e-6).all():
            raise UsageError(
                f"expected observations in [{self.low:g}, {self.high:g}], got values in [{np.min(observations):g}, {np.max(observations):g}]"
            )
        self._powers[:, players] += (np.clip(centred, -0.5, 0.5) ** np.arange(ORDER + 1)[:, None, None]).sum(axis=1)
        powers = self._powers[:, players]
        mirrored = powers * (-1.0) ** np.arange(ORDER + 1)[:, None]
        ends = np.concatenate([self.lower[players], self.low + self.high - self.upper[players]])
        ends = (ends - self.low) / width - 0.5
        ends = self.low + width * (0.5 + _least_mean(np.hstack([powers, mirrored]), ends, math.log(2 / self.alpha)))
        self.lower[players] = np.clip(ends[: len(players)], self.lower[players], self.upper[players])
        self.upper[players] = np.clip(self.low + self.high - ends[len(players) :], self.lower[players], self.upper[players])

    @property
    def count(self) -> Floats:
        """Number of observations, float64 (n,)."""
        count: Floats = self._powers[0].copy()
        return count

    @property
    def mean(self) -> Floats:
        """Mean of the observations, float64 (n,); NaN where there is none."""
        count = self._powers[0]
        mean: Floats = self.low + (self.high - self.low) * (0.5 + self._powers[1] / np.maximum(count, 1))
        return np.where(count > 0, mean, np.nan)

    @property
    def standard_error(self) -> Floats:
        """Of the mean, float64 (n,); infinite where there are fewer than two observations."""
        count, total, squares = self._powers[:3]
        at_least_two = np.maximum(count, 2)
        variance = np.maximum(squares - total**2 / at_least_two, 0) / (at_least_two - 1)
        return np.where(count > 1, (self.high - self.low) * np.sqrt(variance / at_least_two), np.inf)

    def reach(self, estimate: Floats) -> Floats:
        """From an estimate of every mean to the further end of its interval, float64 (n,)."""
        reach: Floats = np.maximum(estimate - self.lower, self.upper - estimate)
        return reach

    def arrays(self, prefix: str) -> dict[str, Floats]:
        """The state by name, for a checkpoint."""
        return {f"{prefix}.powers": self._powers, f"{prefix}.lower": self.lower, f"{prefix}.upper": self.upper}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> None:
        """Take up the state that `arrays` gave under the same prefix; continues bit for bit."""
        self._powers, self.lower, self.upper = (arrays[f"{prefix}.{name}"].copy() for name in ("powers", "lower", "upper"))


class TwoLevelSequence:
    """Intervals from the same observations twice: of each player alone, and of all players at once.

    Args:
        n: number of players.
        most: greatest absolute observation.
        delta: probability that the interval of one player ever misses, and that any of the `valued` intervals does.
        valued: how many players are ever observed.

    Example:
        >>> intervals = TwoLevelSequence(3, 1.0, delta=0.05, valued=3)
        >>> intervals.add(np.full((200, 3), 0.1), np.arange(3))
        >>> one, together = intervals.half_widths(np.full(3, 0.1))
        >>> one.round(3), together.round(3)
        (array([0.031, 0.031, 0.031]), array([0.037, 0.037, 0.037]))
    """

    def __init__(self, n: int, most: float, *, delta: float, valued: int) -> None:
        self._levels = [ConfidenceSequence(n, -most, most, alpha) for alpha in (delta, delta / valued)]

    def add(self, observations: Floats, players: Examples) -> None:
        """Fold in rows of observations, shape (k, len(players)), of different players."""
        for level in self._levels:
            level.add(observations, players)

    def half_widths(self, estimate: Floats) -> tuple[Floats, Floats]:
        """From the estimates, (n,), to the further ends: of intervals of one player, and of all players at once."""
        one, together = (level.reach(estimate) for level in self._levels)
        return one, together

    def arrays(self) -> dict[str, Floats]:
        """The state by name, for a checkpoint."""
        return {name: array for index, level in enumerate(self._levels) for name, array in level.arrays(f"level {index}").items()}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take up the state that `arrays` gave."""
        for index, level in enumerate(self._levels):
            level.restore(arrays, f"level {index}")


def _polynomials() -> Floats:
    """Coefficients of the polynomial below log(1 + y), times q^l: shape (fractions, ORDER), l = 1 .. ORDER."""
    degrees = np.arange(1, ORDER)
    series = (FRACTIONS[:, None] ** degrees / degrees).sum(axis=1)
    last = (-np.log1p(-FRACTIONS) - series) / FRACTIONS**ORDER
    coefficients = np.column_stack([np.tile((-1.0) ** (degrees + 1) / degrees, (len(FRACTIONS), 1)), -last])
    scaled: Floats = coefficients * FRACTIONS[:, None] ** np.arange(1, ORDER + 1)
    return scaled


_POLYNOMIALS = _polynomials()


def log_capital(powers: Floats, mean: Floats) -> Floats:
    """Lower bound of the log capital won by betting on more than each `mean`; of the same shape.

    Args:
        powers: sums of the 0th to 6th powers of observations in [-1/2, 1/2], shape (7, n).
        mean: what is bet against, shape (..., n), in (-1/2, 1/2).
    """
    sums = powers.reshape(len(powers), *[1] * (mean.ndim - 1), -1)
    moments = np.broadcast_to(sums, (len(powers), *mean.shape)).copy()
    for degree in range(1, ORDER + 1):  # the sums of z^l become those of ((z - mean) / (1/2 + mean))^l, one factor a turn
        moments[degree:] = (moments[degree:] - mean * moments[degree - 1 : -1]) / (0.5 + mean)
    won = np.einsum("jl,l...->j...", _POLYNOMIALS, moments[1:])  # not BLAS, whose bits depend on the threads
    most = won.max(axis=0)
    capital: Floats = most + np.log(np.exp(won - most).mean(axis=0))
    return capital


def _least_mean(powers: Floats, known: Floats, threshold: float) -> Floats:
    """Greatest mean that the search ruled out from below, at least `known`; in units of the range about its middle."""
    bound = known.copy()
    near = np.maximum(known, NEAREST - 0.5)
    far = powers[1] / powers[0]
    open_ = near < far
    for _ in range(STEPS):
        tried = np.where(open_, near + PLACES * (far - near), 0.0)
        ruled_out = open_ & (log_capital(powers, tried) >= threshold)
        greatest = np.where(ruled_out, np.arange(1, len(PLACES) + 1)[:, None], 0).max(axis=0)
        step = (far - near) / (len(PLACES) + 1)
        bound = np.where(greatest > 0, np.take_along_axis(tried, np.maximum(greatest, 1)[None] - 1, axis=0)[0], bound)
        near, far = near + greatest * step, near + (greatest + 1) * step
    return bound
