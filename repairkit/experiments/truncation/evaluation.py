"""From outcomes along random orders of freezing to curves, deaths, and what ending permutations early saves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from repairkit.errors import DataError
from repairkit.evaluation.statistics import RESAMPLES, Floats, wilson
from repairkit.experiments.truncation.report import TruncationCurve, TruncationPoint
from repairkit.result import Estimate

Metric = Literal["accuracy", "mean recall"]
BAND = (0.05, 0.95)
"""Quantiles of the trajectories between which the band lies."""

TWO_CLASSES, MORE_CLASSES = 0.6, 0.2
"""Objective values at which the paper ends a permutation: for a SqueezeNet of two classes, and for Inception-v3."""


@dataclass(frozen=True, eq=False)
class RandomOrders:
    """Which images a network classified correctly as its filters were frozen in random orders.

    Raises:
        DataError: shapes that disagree, or counts that do not rise from 0.
    """

    counts: tuple[int, ...]  # numbers of frozen filters, from 0 to all: K of them
    right: npt.NDArray[np.bool_]  # shape (T, K, N): by order, number and image
    labels: npt.NDArray[np.int64]  # shape (N,)
    groups: npt.NDArray[np.str_] | None = None  # subgroup of each image; None where recall of subgroups is not measured

    def __post_init__(self) -> None:
        expected = (len(self.counts), len(self.labels))
        if self.right.shape[1:] != expected or self.counts[:1] != (0,) or list(self.counts) != sorted(set(self.counts)):
            raise DataError(
                f"expected counts that rise from 0 and outcomes of shape (T, {expected}), got {self.counts}, {self.right.shape}"
            )

    @property
    def filters(self) -> int:
        """How many there are."""
        return self.counts[-1]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured, the objective value first."""
        return ("accuracy",) if self.groups is None else ("mean recall", "accuracy")


@dataclass(frozen=True, eq=False)
class TruncationStatistics:
    """The trajectories of a network by one metric, its objective value.

    A network is dead (at chance) where its objective value is not above `chance` by more than the normal half-width of a guess on so many
    images. For accuracy that is where Wilson's interval holds chance or lies below it. Chance is the most that one answer to all images
    gets: what a network without filters gives.
    """

    orders: RandomOrders
    metric: Metric
    level: float = 0.95  # of all intervals
    seed: int = 0  # of the resamples

    @cached_property
    def weights(self) -> Floats:
        """Of each image, shape (N,); they sum to 1, over each subgroup to the same where mean recall is measured."""
        groups = (
            self.orders.groups if self.metric == "mean recall" and self.orders.groups is not None else np.zeros(len(self.orders.labels))
        )
        sizes, member = _sizes(groups)
        weights: Floats = 1 / (len(sizes) * sizes[member].astype(np.float64))
        return weights

    @cached_property
    def objective_values(self) -> Floats:
        """Objective value of each trajectory at each number of frozen filters, shape (T, K)."""
        objective_values: Floats = self.orders.right @ self.weights
        return objective_values

    @cached_property
    def shares(self) -> Floats:
        """Of the filters frozen, shape (K,)."""
        shares: Floats = np.array(self.orders.counts) / self.orders.filters
        return shares

    @property
    def chance(self) -> float:
        """The most that one answer to all images gets."""
        return float(np.bincount(self.orders.labels, weights=self.weights).max())

    @property
    def dead_below(self) -> float:
        """A network of this objective value or less is at chance."""
        spread = math.sqrt(self.chance * (1 - self.chance) * float((self.weights**2).sum()))
        return self.chance + float(stats.norm.isf((1 - self.level) / 2)) * spread + 1e-6

    @property
    def deaths(self) -> npt.NDArray[np.int64]:
        """Position among the counts at which each trajectory is first at chance, shape (T,)."""
        return _first(self.objective_values <= self.dead_below)

    def ends(self, threshold: float) -> npt.NDArray[np.int64]:
        """Position at which each trajectory first falls below a threshold, where the paper ends its walk; the last one for never."""
        return _first(self.objective_values < threshold)

    @property
    def revived(self) -> float:
        """Share of trajectories that rose above chance again."""
        later = np.arange(len(self.shares)) > self.deaths[:, None]
        return float(((self.objective_values > self.dead_below) & later).any(axis=1).mean())

    def dead_at(self, share: float) -> float:
        """Share of trajectories that were at chance at the largest measured share up to this one."""
        return float((self.shares[self.deaths] <= share + 1e-12).mean())

    @cached_property
    def _resampled(self) -> tuple[Floats, Floats]:
        """Weights of the trajectories (T, R) and objective values on resampled images (T, K, R), in R resamples of both.

        Orders and images are resampled independently of one another, as both were drawn (Owen 2007, the pigeonhole bootstrap; weights are
        Rubin's). Images are within class and subgroup, so that what one answer to all of them gets stays the same. One imaginary image,
        half right and half wrong whatever is frozen, keeps a spread where all images agree.
        """
        rng = np.random.default_rng(self.seed)
        draws, points, images = self.orders.right.shape
        groups = (
            self.orders.labels
            if self.orders.groups is None
            else np.char.add(self.orders.groups, [f"\0{label}" for label in self.orders.labels])
        )
        sizes, member = _sizes(groups)
        outcomes = self.orders.right.reshape(draws * points, images).astype(np.float32)
        objective_values = np.zeros((draws * points, RESAMPLES), dtype=np.float32)
        for stratum, size in enumerate(sizes):
            members = np.flatnonzero(member == stratum)
            # Of Dirichlet weights with this parameter a mean has the unbiased variance; 1 would make few images look too sure.
            drawn = rng.standard_gamma(max(1 - 2 / size, 0.5), (size, RESAMPLES)).astype(np.float32)
            prior = rng.standard_gamma(0.5 / len(sizes), (2, RESAMPLES)).astype(np.float32)
            objective_values += (
                float(self.weights[members].sum()) * (outcomes[:, members] @ drawn + prior[0]) / (drawn.sum(axis=0) + prior.sum(axis=0))
            )
        weights = rng.standard_exponential((draws, RESAMPLES))
        return weights / weights.sum(axis=0), objective_values.reshape(draws, points, RESAMPLES).astype(np.float64)

    def _interval(self, value: float, resampled: Floats) -> Estimate:
        tail = (1 - self.level) / 2
        low, high = (float(end) for end in np.quantile(resampled, [tail, 1 - tail]))
        return Estimate(value=value, low=min(low, value), high=max(high, value))

    def mean(self, position: int) -> Estimate:
        """Mean objective value of the trajectories at one of the counts; the interval is over orders and images."""
        weights, objective_values = self._resampled
        return self._interval(float(self.objective_values[:, position].mean()), (weights * objective_values[:, position]).sum(axis=0))

    def median_death(self) -> Estimate:
        """Share of the filters frozen at which half of the trajectories are at chance; the interval is over orders and images."""
        weights, objective_values = self._resampled
        deaths = _first(objective_values <= self.dead_below, axis=1)
        order = np.argsort(deaths, axis=0, kind="stable")
        reached = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
        middle = (reached >= 0.5).argmax(axis=0)
        drawn = np.take_along_axis(deaths, order, axis=0)[middle, np.arange(RESAMPLES)]
        return self._interval(float(np.sort(self.shares[self.deaths])[(len(self.deaths) - 1) // 2]), self.shares[drawn])

    def saved(self, threshold: float) -> Estimate:
        """Share of a permutation's evaluations that ending it below a threshold saves, mean over the trajectories."""
        weights, objective_values = self._resampled
        drawn = (weights * (1 - self.shares[_first(objective_values < threshold, axis=1)])).sum(axis=0)
        return self._interval(float((1 - self.shares[self.ends(threshold)]).mean()), drawn)

    def given_up(self, threshold: float) -> Estimate:
        """Share of the objective value between the whole network and none that lies beyond that end: no filter is credited with it."""
        weights, objective_values = self._resampled

        def share(values: Floats, ends: npt.NDArray[np.int64], weight: Floats) -> Floats:
            left = np.take_along_axis(values, ends[:, None], axis=1)[:, 0] - values[:, -1]
            total: Floats = (weight * left).sum(axis=0) / (weight * (values[:, 0] - values[:, -1])).sum(axis=0)
            return total

        even = np.full(len(self.objective_values), 1 / len(self.objective_values))
        value = float(share(self.objective_values, self.ends(threshold), even))
        return self._interval(value, share(objective_values, _first(objective_values < threshold, axis=1), weights))

    def curve(self, network: str, threshold: float) -> TruncationCurve:
        """Everything that the report says of these trajectories."""
        death, low, high = self.deaths, *np.quantile(self.objective_values, BAND, axis=0)
        points = []
        for position, count in enumerate(self.orders.counts):
            mean, dead = self.mean(position), wilson(int((death <= position).sum()), len(death), self.level)
            points.append(
                TruncationPoint(
                    filters=count,
                    share=float(self.shares[position]),
                    mean=mean.value,
                    low=mean.low,
                    high=mean.high,
                    band_low=float(low[position]),
                    band_high=float(high[position]),
                    dead=dead.value,
                    dead_low=dead.low,
                    dead_high=dead.high,
                )
            )
        alive = float(self.objective_values[0, 0]) > threshold
        return TruncationCurve(
            network=network,
            metric=self.metric,
            n=len(self.orders.labels),
            chance=self.chance,
            dead_below=self.dead_below,
            points=points,
            trajectories=[[round(float(value), 5) for value in row] for row in self.objective_values],
            death=self.median_death(),
            earliest=float(self.shares[death].min()),
            latest=float(self.shares[death].max()),
            revived=self.revived,
            threshold=threshold,
            saved=self.saved(threshold) if alive else None,
            given_up=self.given_up(threshold) if alive else None,
        )


def _sizes(codes: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How often each value occurs, and the position of each entry's among the values."""
    _, member, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    return sizes.astype(np.int64), member.reshape(-1).astype(np.int64)


def _first(true: npt.NDArray[np.bool_], axis: int = 1) -> npt.NDArray[np.int64]:
    """Position of the first True along an axis; the last position where there is none."""
    positions: npt.NDArray[np.int64] = np.where(true.any(axis=axis), true.argmax(axis=axis), true.shape[axis] - 1).astype(np.int64)
    return positions


def threshold_of(classes: Sequence[str]) -> float:
    """The objective value at which the paper ends a permutation of a network with that many classes."""
    return TWO_CLASSES if len(classes) == 2 else MORE_CLASSES
