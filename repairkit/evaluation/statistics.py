"""Intervals and tests for shares of images and for paired differences between two networks.

Pure functions of numpy arrays; nothing here knows of groups, columns or reports.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from repairkit.errors import DataError, UsageError

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
RESAMPLES = 4000
"""Of every bootstrap."""
GUARD_DRAWS = 2000
"""From the posterior of `posterior_drop_bound`, which is a rule for choosing filters and no interval of a result."""


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval, all in the unit of the estimate."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """True when zero lies strictly outside."""
        return self.low > 0 or self.high < 0


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for a share of n images, all in [0, 1].

    Raises:
        DataError: no image, or more successes than images.

    Example:
        >>> [round(end, 3) for end in wilson(9, 10)]
        [0.9, 0.596, 0.982]
    """
    if n < 1 or not 0 <= successes <= n:
        raise DataError(f"expected successes between 0 and n with n at least 1, got {successes} of {n}; give each group at least one image")
    found = stats.binomtest(successes, n).proportion_ci(_checked_level(level), method="wilson")
    share = successes / n
    return Interval(share, max(0.0, min(share, float(found.low))), min(1.0, max(share, float(found.high))))


@cache
def zero_events_bound(n: int, confidence: float) -> float:
    """Upper bound of a share of which n independent images showed none: Clopper and Pearson (1934), one-sided.

    Example:
        >>> round(zero_events_bound(230, 0.9), 4)
        0.01
    """
    return float(stats.binomtest(0, n, alternative="less").proportion_ci(confidence, method="exact").high)


def standard_error(change: Floats, weights: Floats, strata: npt.NDArray[Any]) -> float:
    """Standard error of a weighted sum of independent changes, drawn within strata; all of shape (n,).

    A stratum of one image says nothing about its spread. It counts with the largest change there is, 1.
    """
    total = 0.0
    for stratum in np.unique(strata):
        members = (change * weights)[strata == stratum]
        total += len(members) * float(members.var(ddof=1)) if len(members) > 1 else float(weights[strata == stratum][0]) ** 2
    return math.sqrt(total)


def drop_bound(drop: npt.ArrayLike, error: npt.ArrayLike, n: int, confidence: float) -> Floats:
    """The guard's one-sided upper bound of a drop: the normal approximation, and never below the bound of n images without a loss.

    Args:
        drop: estimated drops, any shape.
        error: their standard errors, of the same shape; see `standard_error` and `paired_error`.
        n: number of images, at least 1.
        confidence: of the bound, in [0.5, 1).

    Example:
        >>> round(float(drop_bound(0.01, paired_error(0.01, 0.03, 400), 400, 0.9)), 4), round(float(drop_bound(0.0, 0.0, 230, 0.9)), 4)
        (0.0211, 0.01)
    """
    bound = np.asarray(drop, dtype=np.float64) + stats.norm.ppf(confidence) * np.asarray(error, dtype=np.float64)
    return np.maximum(bound, zero_events_bound(n, confidence))


def paired_error(drop: npt.ArrayLike, changed: npt.ArrayLike, n: int) -> Floats:
    """`standard_error` of a drop of accuracy on n images, from the share of the images whose outcome changed."""
    square = np.maximum(np.asarray(changed, dtype=np.float64) - np.asarray(drop, dtype=np.float64) ** 2, 0.0)
    return np.asarray(np.sqrt(square / max(n - 1, 1)), dtype=np.float64)


def paired_drop_bound(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], confidence: float) -> float:
    """The guard's bound of a drop of accuracy from who was right before and after, shape (n,).

    Example:
        >>> right = np.ones(230, dtype=bool)
        >>> round(paired_drop_bound(right, right, 0.9), 4)
        0.01
    """
    n, drop = len(before), float(before.mean() - after.mean())
    return float(drop_bound(drop, paired_error(drop, (before != after).mean(), n), n, confidence))


def posterior_drop_bound(
    before: npt.ArrayLike, after: npt.ArrayLike, strata: npt.NDArray[Any], *, confidence: float, seed: int
) -> tuple[float, float]:
    """How far the mean share over strata drops, and its one-sided bound.

    The bound is a quantile of the posterior (Dirichlet in each stratum). One imaginary lost image is shared among all strata.
    With one stratum and no gain this is the bound of Clopper and Pearson (1934); over strata it covers a little more than it says.
    A bootstrap knows no loss that was not seen, so it says too little of small drops.

    Args:
        before: bool, shape (N,), which images were right.
        after: the same images afterwards.
        strata: shape (N,).
        confidence: of the bound.
        seed: of the draws.

    Example:
        >>> drop, bound = posterior_drop_bound([True] * 40, [False] * 10 + [True] * 30, np.repeat([0, 1], 20), confidence=0.9, seed=0)
        >>> drop, bound > drop
        (0.25, True)
    """
    change = np.asarray(before, dtype=np.float64) - np.asarray(after, dtype=np.float64)
    members = [change[strata == stratum] for stratum in np.unique(strata)]
    rng = np.random.default_rng(seed)
    drops = np.zeros(GUARD_DRAWS)
    for rows in members:
        counts = ((rows > 0).sum() + 1 / len(members), (rows < 0).sum(), (rows == 0).sum())
        lost, gained, same = rng.standard_gamma(counts, size=(GUARD_DRAWS, 3)).T
        drops += (lost - gained) / (lost + gained + same)
    return float(np.mean([rows.mean() for rows in members])), float(np.quantile(drops / len(members), confidence))


def median_interval(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Median with an interval between two order statistics, whatever the distribution (Thompson 1936).

    Raises:
        DataError: too few values (six suffice for 0.95).

    Example:
        >>> median_interval([3, 1, 4, 1, 5, 9])
        Interval(value=3.5, low=1.0, high=9.0)
    """
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers):
        low, high = np.asarray(stats.quantile_test(numbers, q=0, p=0.5).confidence_interval(_checked_level(level))).tolist()
        if not np.isnan([low, high]).any():
            return Interval(float(np.median(numbers)), low, high)
    raise DataError(f"expected enough values for an interval of their median at {level}, got {len(numbers)}; measure more often")


def newcombe_paired(before: npt.ArrayLike, after: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Newcombe's interval for a paired difference of two shares, `after - before`, in [-1, 1].

    Unlike Wald's and the bootstrap's, the interval has a width where no pair disagrees.

    Args:
        before: shape (n,), bool or 0/1; whether each image was right at first.
        after: shape (n,), the same images afterwards.
        level: confidence level in (0, 1).

    Raises:
        DataError: no image, different lengths, or values other than 0 and 1.

    Source: Newcombe (1998), Statistics in Medicine 17:2635, method 10.

    Example:
        >>> before = [1] * 36 + [0] * 12 + [1] * 2
        >>> after = [1] * 36 + [1] * 12 + [0] * 2
        >>> [round(end, 4) for end in newcombe_paired(before, after)]
        [0.2, 0.0569, 0.3404]
    """
    both, gained, lost, neither = _pairs(before, after)
    n = both + gained + lost + neither
    first, second = wilson(both + lost, n, level), wilson(both + gained, n, level)
    product = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    numerator = float(both * neither - gained * lost)
    if numerator > 0:  # method 10: a positive numerator is reduced by n / 2, but not below zero
        numerator = max(numerator - n / 2, 0.0)
    phi = numerator / np.sqrt(product) if product else 0.0

    def reach(a: float, b: float) -> float:
        return float(np.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b)))

    value = (gained - lost) / n
    low = value - reach(second.value - second.low, first.high - first.value)
    high = value + reach(second.high - second.value, first.value - first.low)
    return Interval(value, max(-1.0, low), min(1.0, high))


def mcnemar_exact(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Two-sided p-value of the exact McNemar test on paired 0/1 outcomes; 1 where no image changed.

    Raises:
        DataError: no image, different lengths, or values other than 0 and 1.

    Example:
        >>> mcnemar_exact([0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1])
        0.0625
    """
    _, gained, lost, _ = _pairs(before, after)
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's step-down adjustment of p-values of shape (k,), in the order given (1979, Scandinavian Journal of Statistics 6:65).

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def simultaneous(level: float, intervals: int) -> float:
    """The level of each of several intervals at which all of them hold together at the level given (Bonferroni).

    Example:
        >>> round(simultaneous(0.95, 5), 4), simultaneous(0.95, 1), simultaneous(0.95, 0)
        (0.99, 0.95, 0.95)
    """
    return level if intervals < 2 else 1 - (1 - level) / intervals


def rescale_interval(interval: Interval, level: float, to: float) -> Interval:
    """An interval of one level at another level, by the normal approximation on either side; for where the data are not at hand.

    Example:
        >>> [round(end, 2) for end in rescale_interval(Interval(0.3, 0.1, 0.4), 0.95, 0.99)]
        [0.3, 0.04, 0.43]
    """
    value, low, high = interval
    factor = _normal_quantile(to) / _normal_quantile(level)
    return Interval(value, value - factor * (value - low), value + factor * (high - value))


def stratified_bootstrap(
    values: npt.ArrayLike,
    strata: npt.ArrayLike | None,
    statistic: Statistic,
    *,
    seed: int = 0,
    level: float = 0.95,
    prior: npt.ArrayLike = 0.5,
    reflect: bool = False,
) -> Interval:
    """Percentile interval of any function of the stratum means, by a Bayesian bootstrap over images within strata.

    Imaginary images of weight `prior` stand at the corners of the range of the values: right and wrong, and for a pair all four cases.
    They give a spread to a stratum whose images are all right; one column of 0/1 values gets Jeffreys' interval.
    The estimate itself is of the real images alone.

    Args:
        values: shape (n,) or (n, columns), in [0, 1]: one row per image, columns resampled together.
        strata: shape (n,), the stratum of each image; None for a single one.
        statistic: maps means of shape (..., strata, columns), strata sorted by name, to shape (...).
        seed: of the generator; the same seed gives the same bits.
        level: confidence level in (0, 1).
        prior: weight of each imaginary image, in every stratum or one for each of them, sorted by name; see `stratum_prior`.
        reflect: also reflect the interval about the estimate and take the wider end on either side. This is for statistics that a
            minimum or a maximum biases: the lowest of several noisy recalls lies below the lowest true one.

    Raises:
        DataError: no image, lengths that differ, or values outside [0, 1].

    Source: Efron (1979) and Rubin (1981), Annals of Statistics 9:130.

    Example:
        >>> right = [1, 1, 1, 0, 1, 1, 1, 1]
        >>> group = ["a", "a", "a", "a", "b", "b", "b", "b"]
        >>> interval = stratified_bootstrap(right, group, lambda means: means[..., 0].mean(-1), seed=1)
        >>> interval.value, interval.low < 0.8, interval.high < 1
        (0.875, True, True)
    """
    rows, codes = _checked(values, strata)
    tail = (1 - _checked_level(level)) / 2
    rng = np.random.default_rng(seed)
    count = int(codes.max()) + 1
    priors = np.broadcast_to(np.asarray(prior, dtype=np.float64), count)
    corners = np.array(np.meshgrid(*[[0.0, 1.0]] * rows.shape[1])).reshape(rows.shape[1], -1).T if priors.any() else rows[:0]
    means, smoothed, drawn = [], [], []
    for code in range(count):
        patterns, counts = np.unique(rows[codes == code], axis=0, return_counts=True)
        weights = np.concatenate([counts.astype(np.float64), np.full(len(corners), priors[code])])
        points = np.concatenate([patterns, corners])
        shares = rng.standard_gamma(weights, size=(RESAMPLES, len(weights)))
        means.append(counts @ patterns / counts.sum())
        smoothed.append(weights @ points / weights.sum())
        drawn.append(shares @ points / shares.sum(axis=1, keepdims=True))
    value = float(statistic(np.stack(means)))
    low, high = (float(end) for end in np.quantile(statistic(np.stack(drawn, axis=1)), [tail, 1 - tail]))
    if reflect:
        centre = float(statistic(np.stack(smoothed)))
        low, high = min(low, 2 * centre - high), max(high, 2 * centre - low)
    return Interval(value, min(low, value), max(high, value))


def stratum_prior(weights: npt.ArrayLike) -> Floats:
    """The weight of an imaginary image in each stratum of a weighted sum: Jeffreys' in up to four strata, and by its share among more.

    Nineteen strata of 36 images with Jeffreys' weight each would pull a change of their mean by 5 % toward zero.

    Args:
        weights: shape (k,), of the strata, of either sign.

    Example:
        >>> stratum_prior([0.5, 0.5]).tolist(), stratum_prior([1.0, *[-0.1] * 10])[:2].tolist()
        ([0.5, 0.5], [0.5, 0.05])
    """
    sizes = np.abs(np.asarray(weights, dtype=np.float64))
    prior: Floats = np.full(len(sizes), 0.5) if len(sizes) <= 4 else 0.5 * np.minimum(sizes, 1.0)
    return prior


def _checked(values: npt.ArrayLike, strata: npt.ArrayLike | None) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Rows of shape (n, columns) and the number of each row's stratum."""
    rows = np.asarray(values, dtype=np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or len(rows) == 0:
        raise DataError(f"expected values of shape (n,) or (n, columns) with n at least 1, got {np.shape(values)}; give at least one image")
    if not ((rows >= 0) & (rows <= 1)).all():
        raise DataError(f"expected values in [0, 1], got {rows.min():g} to {rows.max():g}; give shares of right answers")
    names = np.zeros(len(rows), dtype=np.int64) if strata is None else np.asarray(strata)
    if len(names) != len(rows):
        raise DataError(f"expected one stratum for each of {len(rows)} images, got {len(names)}; give both from the same split")
    return rows, np.unique(names, return_inverse=True)[1].reshape(-1)


def _pairs(before: npt.ArrayLike, after: npt.ArrayLike) -> tuple[int, int, int, int]:
    """Counts of pairs that are right both times, gained, lost, and right neither time."""
    first, second = np.asarray(before), np.asarray(after)
    if first.ndim != 1 or first.shape != second.shape or len(first) == 0:
        raise DataError(f"expected two outcomes for each of one or more images, got shapes {first.shape} and {second.shape}")
    for outcomes in (first, second):
        if not np.isin(outcomes, (0, 1)).all():
            raise DataError(f"expected outcomes of 0 and 1, got {_example_outside(outcomes)}; fractions belong in stratified_bootstrap")
    first, second = first.astype(bool), second.astype(bool)
    both, gained, lost = int((first & second).sum()), int((~first & second).sum()), int((first & ~second).sum())
    return both, gained, lost, len(first) - both - gained - lost


def _example_outside(outcomes: npt.NDArray[Any]) -> str:
    return str(outcomes[~np.isin(outcomes, (0, 1))][0])


def _checked_level(level: float) -> float:
    if not 0 < level < 1:
        raise UsageError(f"expected a confidence level between 0 and 1, got {level}; 0.95 is usual")
    return level


def _normal_quantile(level: float) -> float:
    return float(stats.norm.ppf((1 + _checked_level(level)) / 2))
