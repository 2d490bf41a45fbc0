"""Intervals and tests for shares of images and for paired differences between two networks.

Pure functions of numpy arrays; nothing here knows of groups, columns or reports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from repairkit.errors import DataError, UsageError

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]


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
    """Wilson's score interval for a share.

    Args:
        successes: how many of the images were right, 0 .. n.
        n: how many images.
        level: confidence level in (0, 1).

    Returns:
        Share and ends, each in [0, 1].

    Raises:
        DataError: no image, or more successes than images.

    Source: Wilson (1927), JASA 22:209; without continuity correction.

    Example:
        >>> [round(end, 3) for end in wilson(9, 10)]
        [0.9, 0.596, 0.982]
    """
    if n < 1 or not 0 <= successes <= n:
        raise DataError(f"expected successes between 0 and n with n at least 1, got {successes} of {n}; give each group at least one image")
    z2 = _normal_quantile(level) ** 2
    share = successes / n
    centre = (successes + z2 / 2) / (n + z2)
    half = np.sqrt(z2) / (n + z2) * np.sqrt(n * share * (1 - share) + z2 / 4)
    return Interval(share, max(0.0, min(share, float(centre - half))), min(1.0, max(share, float(centre + half))))


def none_seen(n: int, confidence: float) -> float:
    """Upper bound of a share of which n independent images showed none; Clopper & Pearson 1934, one side.

    Args:
        n: number of images, at least 1.
        confidence: of the bound, in (0, 1).

    Example:
        >>> round(none_seen(230, 0.9), 4)
        0.01
    """
    return float(1 - (1 - confidence) ** (1 / n))


def fall_bound(fall: npt.ArrayLike, moved: npt.ArrayLike, n: int, confidence: float) -> Floats:
    """One-sided upper bound of a paired fall of accuracy: the normal approximation, and never below what as many images bound where none falls.

    Args:
        fall: share right before minus share right after, any shape.
        moved: share of the images that are right only before or only after, of the same shape.
        n: number of images, at least 1.
        confidence: of the bound, in [0.5, 1).

    Example:
        >>> round(float(fall_bound(0.01, 0.03, 400, 0.9)), 4), round(float(fall_bound(0.0, 0.0, 230, 0.9)), 4)
        (0.0211, 0.01)
    """
    drop, changed = np.asarray(fall, dtype=np.float64), np.asarray(moved, dtype=np.float64)
    bound = drop + stats.norm.ppf(confidence) * np.sqrt(np.maximum(changed - drop**2, 0.0) / n)
    return np.maximum(bound, none_seen(n, confidence))


def median_interval(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Median with the interval between two order statistics, whatever the distribution of independent values.

    The ends are the widest-apart pair that is needed: the chance that the median lies outside is at most 1 - level, half of it on either side.

    Args:
        values: shape (n,).
        level: confidence level in (0, 1).

    Raises:
        DataError: so few values that even their whole range holds the median with less confidence (six suffice for 0.95).

    Source: Thompson (1936), Annals of Mathematical Statistics 7:122.

    Example:
        >>> median_interval([3, 1, 4, 1, 5, 9])
        Interval(value=3.5, low=1.0, high=9.0)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    tail = (1 - _checked_level(level)) / 2
    rank = int(stats.binom.ppf(tail, len(ordered), 0.5)) if len(ordered) else 0  # P(X < rank) <= tail
    if rank < 1:
        raise DataError(f"expected enough values for an interval of their median at {level}, got {len(ordered)}; measure more often")
    return Interval(float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[-rank]))


def newcombe_paired(before: npt.ArrayLike, after: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Newcombe's interval for a paired difference of two shares, `after - before`.

    Wilson's intervals of the two shares are squared and added, with the correlation phi of the
    pairs; a positive numerator of phi is reduced by n / 2, but not below zero. It stays honest where
    no pair disagrees: the interval then has a width, unlike Wald's and the bootstrap's.

    Args:
        before: shape (n,), bool or 0/1; whether each image was right at first.
        after: shape (n,), the same images afterwards.
        level: confidence level in (0, 1).

    Returns:
        Difference and ends, each in [-1, 1].

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
    if numerator > 0:
        numerator = max(numerator - n / 2, 0.0)
    phi = numerator / np.sqrt(product) if product else 0.0

    def reach(a: float, b: float) -> float:
        return float(np.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b)))

    value = (gained - lost) / n
    low = value - reach(second.value - second.low, first.high - first.value)
    high = value + reach(second.high - second.value, first.value - first.low)
    return Interval(value, max(-1.0, low), min(1.0, high))


def mcnemar_exact(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Two-sided p-value of the exact McNemar test: are gains and losses equally likely?

    Args:
        before: shape (n,), bool or 0/1.
        after: shape (n,), the same images afterwards.

    Returns:
        The binomial p-value of the images that changed; 1 when none did.

    Raises:
        DataError: no image, different lengths, or values other than 0 and 1.

    Source: McNemar (1947), Psychometrika 12:153, with the binomial in place of chi squared.

    Example:
        >>> mcnemar_exact([0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1])
        0.0625
    """
    _, gained, lost, _ = _pairs(before, after)
    return min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), gained + lost, 0.5)))


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's step-down adjustment: reject where the result is below alpha, and at most alpha of families err.

    Args:
        p_values: shape (k,), each in [0, 1].

    Returns:
        Adjusted p-values, shape (k,), in the order given, at most 1.

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65.

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
    """The level of each of so many intervals that all of them hold together at the level given (Bonferroni).

    Example:
        >>> round(simultaneous(0.95, 5), 4), simultaneous(0.95, 1), simultaneous(0.95, 0)
        (0.99, 0.95, 0.95)
    """
    return level if intervals < 2 else 1 - (1 - level) / intervals


def stretched(interval: Interval, level: float, to: float) -> Interval:
    """An interval of one level as one of another would be, either side for itself, by the normal approximation; for where the data are not at hand.

    Example:
        >>> [round(end, 2) for end in stretched(Interval(0.3, 0.1, 0.4), 0.95, 0.99)]
        [0.3, 0.04, 0.43]
    """
    by = _normal_quantile(to) / _normal_quantile(level)
    return Interval(
        interval.value, interval.value - by * (interval.value - interval.low), interval.value + by * (interval.high - interval.value)
    )


def stratified_bootstrap(
    values: npt.ArrayLike,
    strata: npt.ArrayLike | None,
    statistic: Statistic,
    *,
    resamples: int = 4000,
    seed: int = 0,
    level: float = 0.95,
    prior: npt.ArrayLike = 0.5,
    reflect: bool = False,
) -> Interval:
    """Percentile interval of any function of the stratum means, by a bootstrap over images within strata.

    The resampling is Rubin's: the weights of the images are drawn from a Dirichlet distribution. Beside
    the real images of a stratum stand imaginary ones of weight `prior`, one at each corner of the values'
    range (right and wrong; for a pair of columns all four cases). Without them a stratum whose images
    are all right has no spread, and three images that all improve would prove anything; with them one
    column of 0/1 values gives Jeffreys' interval. The estimate itself is of the real images alone.

    Args:
        values: shape (n,) or (n, columns), in [0, 1]: one row per image, columns resampled together.
        strata: shape (n,), the stratum of each image; None for a single one.
        statistic: maps means of shape (..., strata, columns), strata sorted by name, to shape (...).
        resamples: how many times to resample.
        seed: of the generator; the same seed gives the same bits.
        level: confidence level in (0, 1).
        prior: weight of each imaginary image, in each stratum or one for each of them, sorted by name; 0 for none. They pull every stratum toward the middle, and a mean over many
            small strata with them: there `shared_prior` bounds what all of them bear together.
        reflect: also reflect the interval about the estimate and take the wider end on either side. For
            statistics that a minimum or maximum biases: the lowest of several noisy recalls lies below
            the lowest true one, and that of a resample lower still.

    Returns:
        Estimate and ends; the interval always holds the estimate.

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
        shares = rng.standard_gamma(weights, size=(resamples, len(weights)))
        means.append(counts @ patterns / counts.sum())
        smoothed.append(weights @ points / weights.sum())
        drawn.append(shares @ points / shares.sum(axis=1, keepdims=True))
    value = float(statistic(np.stack(means)))
    low, high = (float(end) for end in np.quantile(statistic(np.stack(drawn, axis=1)), [tail, 1 - tail]))
    if reflect:
        centre = float(statistic(np.stack(smoothed)))
        low, high = min(low, 2 * centre - high), max(high, 2 * centre - low)
    return Interval(value, min(low, value), max(high, value))


def shared_prior(strata: npt.ArrayLike) -> float:
    """The weight of an imaginary image for a mean over strata: Jeffreys' in each of up to four subgroups, and shared out over more.

    Nineteen classes of 36 images, each with Jeffreys' weight of its own, pull a paired change of their mean by 5 % toward zero, which is more
    than the half-width of its interval.

    Example:
        >>> shared_prior(["a", "a", "b"]), shared_prior(list("abcdefghij"))
        (0.5, 0.05)
    """
    count = len(np.unique(strata))
    return 0.5 if count <= 4 else 0.5 / count


def weighted_prior(weights: npt.ArrayLike) -> Floats:
    """As `shared_prior`, for a weighted sum over strata: Jeffreys' weight in each of up to four, and by what each counts among more.

    Args:
        weights: shape (k,), of the strata, of either sign.

    Example:
        >>> weighted_prior([0.5, 0.5]).tolist(), weighted_prior([1.0, *[-0.1] * 10])[:2].tolist()
        ([0.5, 0.5], [0.5, 0.05])
    """
    sizes = np.abs(np.asarray(weights, dtype=np.float64))
    each: Floats = np.full(len(sizes), 0.5) if len(sizes) <= 4 else 0.5 * np.minimum(sizes, 1.0)
    return each


def mean_interval(
    values: npt.ArrayLike, strata: npt.ArrayLike | None = None, *, resamples: int = 4000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Mean over images with a bootstrap interval; of two columns, the mean of `second - first`.

    Args:
        values: shape (n,) or (n, 2), in [0, 1].
        strata: shape (n,), what the drawing of the images was stratified by; each counts by its size.
        resamples: how many times to resample.
        seed: of the generator.
        level: confidence level in (0, 1).

    Returns:
        Estimate and ends.

    Raises:
        DataError: as `stratified_bootstrap`.
        UsageError: more than two columns.

    Example:
        >>> mean_interval([0, 1, 1, 1]).value
        0.75
        >>> round(mean_interval([[0, 1], [1, 1]]).value, 6)
        0.5
    """
    rows, codes = _checked(values, strata)
    if rows.shape[1] > 2:
        raise UsageError(f"expected one column or a pair, got {rows.shape[1]} columns; compare them two by two")
    sizes = np.bincount(codes) / len(codes)

    def overall(means: Floats) -> Floats:
        per_column = np.einsum("...sc,s->...c", means, sizes)
        difference: Floats = per_column[..., -1] - (per_column[..., 0] if rows.shape[1] == 2 else 0.0)
        return difference

    return stratified_bootstrap(rows, codes, overall, resamples=resamples, seed=seed, level=level, prior=shared_prior(codes))


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
