"""From who was right along random orders of removal to curves, deaths, and what ending permutations early saves."""

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
from repairkit.experiments.truncation.result import TruncationCurve, TruncationPoint
from repairkit.result import Estimate

Metric = Literal["accuracy", "mean recall"]
BAND = (0.05, 0.95)
"""Quantiles of the trajectories between which the band lies."""

TWO_CLASSES, MORE_CLASSES = 0.6, 0.2
"""Worths at which the paper ends a permutation: for a SqueezeNet of two classes, and for Inception-v3."""


@dataclass(frozen=True, eq=False)
class Fan:
    """Who was right as the filters of a network were removed in random orders.

    Attributes:
        counts: numbers of removed filters, from 0 to all, shape (K,).
        right: bool, shape (T, K, N): by order, number and image.
        labels: int64, shape (N,).
        groups: subgroup of each image, shape (N,); None where recall of subgroups is not asked about.

    Raises:
        DataError: shapes that disagree, or counts that do not rise from 0.
    """

    counts: tuple[int, ...]
    right: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_] | None = None

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
        """What is measured, the worth first."""
        return ("accuracy",) if self.groups is None else ("mean recall", "accuracy")


@dataclass(frozen=True, eq=False)
class Judged:
    """The trajectories of a network by one metric.

    A network is dead where its worth is no more than chance within its interval: not above `chance` by more than the normal half-width of
    a guess at that number of images. (For accuracy that is where Wilson's interval of the worth holds chance or lies below it.) Chance is the most that one
    answer to all images gets, which is what a network without filters gives.

    Attributes:
        fan: who was right.
        metric: what is measured.
        level: of all intervals.
        seed: of the resamples.
    """

    fan: Fan
    metric: Metric
    level: float = 0.95
    seed: int = 0

    @cached_property
    def weights(self) -> Floats:
        """Of each image, shape (N,); they sum to 1, over each subgroup to the same where mean recall is measured."""
        groups = self.fan.groups if self.metric == "mean recall" and self.fan.groups is not None else np.zeros(len(self.fan.labels))
        sizes, member = _sizes(groups)
        weights: Floats = 1 / (len(sizes) * sizes[member].astype(np.float64))
        return weights

    @cached_property
    def worths(self) -> Floats:
        """Of each trajectory at each number of removed filters, shape (T, K)."""
        worths: Floats = self.fan.right @ self.weights
        return worths

    @cached_property
    def shares(self) -> Floats:
        """Of the filters removed, shape (K,)."""
        shares: Floats = np.array(self.fan.counts) / self.fan.filters
        return shares

    @property
    def chance(self) -> float:
        """The most that one answer to all images gets."""
        return float(np.bincount(self.fan.labels, weights=self.weights).max())

    @property
    def dead_below(self) -> float:
        """A network of this worth or less is dead."""
        spread = math.sqrt(self.chance * (1 - self.chance) * float((self.weights**2).sum()))
        return self.chance + float(stats.norm.isf((1 - self.level) / 2)) * spread + 1e-6

    @property
    def deaths(self) -> npt.NDArray[np.int64]:
        """Position among the counts at which each trajectory is first dead, shape (T,)."""
        return _first(self.worths <= self.dead_below)

    def ends(self, threshold: float) -> npt.NDArray[np.int64]:
        """Position at which each trajectory first falls below a worth, where the walk of the paper ends; the last one for never."""
        return _first(self.worths < threshold)

    @property
    def revived(self) -> float:
        """Share of trajectories that rose above chance again after they were dead."""
        later = np.arange(len(self.shares)) > self.deaths[:, None]
        return float(((self.worths > self.dead_below) & later).any(axis=1).mean())

    def dead_at(self, share: float) -> float:
        """Share of trajectories that were dead at the largest measured share up to this one."""
        return float((self.shares[self.deaths] <= share + 1e-12).mean())

    @cached_property
    def _resampled(self) -> tuple[Floats, Floats]:
        """Weights of the trajectories (T, R) and worths on resampled images (T, K, R), in R resamples of both.

        Orders and images are resampled independently of one another, as both were drawn (Owen 2007, the pigeonhole bootstrap; weights are
        Rubin's). Images are within class and subgroup, so that what one answer to all of them gets stays the same. One imaginary image,
        half right and half wrong whatever is removed, keeps a spread where all images agree.
        """
        rng = np.random.default_rng(self.seed)
        orders, points, images = self.fan.right.shape
        groups = self.fan.labels if self.fan.groups is None else np.char.add(self.fan.groups, [f"\0{label}" for label in self.fan.labels])
        sizes, member = _sizes(groups)
        rows = self.fan.right.reshape(orders * points, images).astype(np.float32)
        worths = np.zeros((orders * points, RESAMPLES), dtype=np.float32)
        for stratum, size in enumerate(sizes):
            own = np.flatnonzero(member == stratum)
            # Of Dirichlet weights with this parameter a mean has the unbiased variance; 1 would make few images look too sure.
            drawn = rng.standard_gamma(max(1 - 2 / size, 0.5), (size, RESAMPLES)).astype(np.float32)
            prior = rng.standard_gamma(0.5 / len(sizes), (2, RESAMPLES)).astype(np.float32)
            worths += float(self.weights[own].sum()) * (rows[:, own] @ drawn + prior[0]) / (drawn.sum(axis=0) + prior.sum(axis=0))
        weights = rng.standard_exponential((orders, RESAMPLES))
        return weights / weights.sum(axis=0), worths.reshape(orders, points, RESAMPLES).astype(np.float64)

    def _interval(self, value: float, resampled: Floats) -> Estimate:
        tail = (1 - self.level) / 2
        low, high = (float(end) for end in np.quantile(resampled, [tail, 1 - tail]))
        return Estimate(value=value, low=min(low, value), high=max(high, value))

    def mean(self, position: int) -> Estimate:
        """Mean worth of the trajectories at one of the counts; the interval is over orders and images."""
        weights, worths = self._resampled
        return self._interval(float(self.worths[:, position].mean()), (weights * worths[:, position]).sum(axis=0))

    def median_death(self) -> Estimate:
        """Share of the filters removed at which half of the trajectories are dead; the interval is over orders and images."""
        weights, worths = self._resampled
        deaths = _first(worths <= self.dead_below, axis=1)
        order = np.argsort(deaths, axis=0, kind="stable")
        reached = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
        middle = (reached >= 0.5).argmax(axis=0)
        drawn = np.take_along_axis(deaths, order, axis=0)[middle, np.arange(RESAMPLES)]
        return self._interval(float(np.sort(self.shares[self.deaths])[(len(self.deaths) - 1) // 2]), self.shares[drawn])

    def saved(self, threshold: float) -> Estimate:
        """Share of a permutation's evaluations that ending it below a worth saves, mean over the trajectories."""
        weights, worths = self._resampled
        drawn = (weights * (1 - self.shares[_first(worths < threshold, axis=1)])).sum(axis=0)
        return self._interval(float((1 - self.shares[self.ends(threshold)]).mean()), drawn)

    def given_up(self, threshold: float) -> Estimate:
        """Share of the worth between the whole network and none of it that lies beyond that end, so that no filter is credited with it."""
        weights, worths = self._resampled

        def share(of: Floats, ends: npt.NDArray[np.int64], weight: Floats) -> Floats:
            left = np.take_along_axis(of, ends[:, None], axis=1)[:, 0] - of[:, -1]
            total: Floats = (weight * left).sum(axis=0) / (weight * (of[:, 0] - of[:, -1])).sum(axis=0)
            return total

        even = np.full(len(self.worths), 1 / len(self.worths))
        value = float(share(self.worths, self.ends(threshold), even))
        return self._interval(value, share(worths, _first(worths < threshold, axis=1), weights))

    def curve(self, network: str, threshold: float) -> TruncationCurve:
        """Everything that the report says of these trajectories."""
        death, low, high = self.deaths, *np.quantile(self.worths, BAND, axis=0)
        points = []
        for position, count in enumerate(self.fan.counts):
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
        alive = float(self.worths[0, 0]) > threshold
        return TruncationCurve(
            network=network,
            metric=self.metric,
            n=len(self.fan.labels),
            chance=self.chance,
            dead_below=self.dead_below,
            points=points,
            trajectories=[[round(float(worth), 5) for worth in row] for row in self.worths],
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
    found: npt.NDArray[np.int64] = np.where(true.any(axis=axis), true.argmax(axis=axis), true.shape[axis] - 1).astype(np.int64)
    return found


def threshold_of(classes: Sequence[str]) -> float:
    """The worth at which the paper ends a permutation of a network with that many classes."""
    return TWO_CLASSES if len(classes) == 2 else MORE_CLASSES
