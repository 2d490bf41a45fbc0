"""The half-width that the paper's implementation states, and running moments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def published_bound(variance: Floats, count: Floats, *, delta: float) -> Floats:
    """The half-width in the published implementation of Neuron Shapley: range 1, one-sided delta.

    `sqrt(2 V ln(2/delta) / t) + 7 ln(2/delta) / (3 (t - 1))`, for every filter alone (Maurer & Pontil 2009, theorem 4); kept because
    it is the paper's. It speaks of one filter at one time, not of all filters at all times, and
    marginals of a signed worth can exceed the range 1.

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
    """How many observations bring `published_bound` down to a half-width, if the variance stays as it is; not rounded.

    Both terms are taken at t - 1, which is at most a hair too many. Infinite for a half-width of 0.

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
