"""Stability: do two disjoint halves of the images name the same filters?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from repairkit.errors import UsageError
from repairkit.shapley.game import Floats
from repairkit.shapley.guarantee import End
from repairkit.shapley.values import Attribution

By = Literal["value", "screen"]
SIZES = (25, 50, 100, 200)
"""Numbers of filters for which the paper calls its results robust."""


@dataclass(frozen=True)
class Overlap:
    """How many of the k most extreme filters of one half are among those of the other.

    Attributes:
        by: what ranks the filters.
        end: which end of the ranking.
        k: how many filters of each half.
        share: of the k that both halves name, in 0 .. 1.
        chance: the share expected of two halves that name k filters at random, k / n.
    """

    by: By
    end: End
    k: int
    share: float
    chance: float


@dataclass(frozen=True)
class Stability:
    """What two halves agree on.

    Attributes:
        overlaps: by ranking, end and k.
        rank_correlation: Spearman's, of the screens of all filters and of the values of those that
            both halves valued; a ranking that one half lacks, or that is constant, is left out.
        players: n.
        valued: how many filters each half valued, and how many both did.
        skipped: what could not be compared, and why, a sentence each.
    """

    overlaps: tuple[Overlap, ...]
    rank_correlation: dict[By, float]
    players: int
    valued: tuple[int, int, int]
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        """One line for each ranking and end, and one for everything left out."""
        lines = [f"two halves of the images, {self.players:,} filters, {self.valued[2]:,} valued by both"]
        for by, end in dict.fromkeys((overlap.by, overlap.end) for overlap in self.overlaps):
            same = [overlap for overlap in self.overlaps if (overlap.by, overlap.end) == (by, end)]
            shares = ", ".join(f"{overlap.share:.0%} of {overlap.k} (chance {overlap.chance:.1%})" for overlap in same)
            lines.append(f"  {'lowest' if end == 'low' else 'highest'} by {by}: {shares}")
        lines += [f"  rank correlation by {by}: {correlation:.2f}" for by, correlation in self.rank_correlation.items()]
        return "\n".join(lines + [f"  left out: {reason}" for reason in self.skipped])


def stability(first: Attribution, second: Attribution, *, ks: Sequence[int] = SIZES) -> Stability:
    """Compare what an engine found on two disjoint halves of the images.

    By value, the harmful filters of each half are compared, whether or not the other half valued them. Only the sought end counts, unless both
    halves valued every filter. By screen, all filters and both ends are compared. Filters that tie at the k-th place share the places left.

    Halves sampled with random numbers of their own differ by images and by sampling. The whole set at the whole budget is more stable than
    its halves. Ghorbani & Zou 2020, section 4, say that their results are robust to k; they show no halves.

    Args:
        first: attribution on one half.
        second: on the other, of the same filters and for the same end.
        ks: how many filters of each end are compared; a k that is too large is left out with its reason.

    Raises:
        UsageError: other filters, another end, or a k below 1.

    Example:
        >>> from repairkit.shapley import EngineSettings, FunctionGame, estimate
        >>> halves = [FunctionGame(6, lambda live, w=w: live @ np.array(w) / 9, bounds=(-2, 2))
        ...     for w in ([-5, -4, -3, 0, 1, 2], [-5, -3, 0, -4, 1, 2])]
        >>> one, other = (estimate(game, EngineSettings(engine="monte-carlo", budget=4000, top_k=2, seed=i)) for i, game in enumerate(halves))
        >>> print(stability(one, other, ks=[2, 9]))
        two halves of the images, 6 filters, 6 valued by both
          lowest by value: 50% of 2 (chance 33.3%)
          highest by value: 100% of 2 (chance 33.3%)
          rank correlation by value: 0.83
          left out: 9 by value: there are 6 filters
          left out: by screen: the engine makes no screen
    """
    if first.ids != second.ids or first.end != second.end:
        raise UsageError("expected two attributions of the same filters and the same end; run both halves with the same settings")
    if bad := [k for k in ks if k < 1]:
        raise UsageError(f"expected numbers of filters of at least 1, got {bad[0]}")
    pairs: dict[By, tuple[Floats, Floats]] = {"value": (first.value, second.value), "screen": (first.screen, second.screen)}
    overlaps: list[Overlap] = []
    correlations: dict[By, float] = {}
    skipped: list[str] = []
    for by, pair in pairs.items():
        counts = [int((~np.isnan(ranking)).sum()) for ranking in pair]
        if min(counts) == 0:
            skipped.append(f"by {by}: the engine makes no screen" if by == "screen" else "by value: a half valued no filter")
            continue
        sizes, reasons = _comparable(by, ks, len(first.ids), counts)
        overlaps += _overlaps(by, pair, sizes, first.end)
        skipped += reasons
        common = ~np.isnan(pair[0]) & ~np.isnan(pair[1])
        correlation = _spearman(pair[0][common], pair[1][common])
        if correlation is None:
            skipped.append(f"rank correlation by {by}: fewer than three filters in both halves, or all equal")
        else:
            correlations[by] = correlation
    one, other = (~np.isnan(half.value) for half in (first, second))
    return Stability(
        tuple(overlaps), correlations, len(first.ids), (int(one.sum()), int(other.sum()), int((one & other).sum())), tuple(skipped)
    )


def _comparable(by: By, ks: Sequence[int], n: int, counts: Sequence[int]) -> tuple[list[int], list[str]]:
    """The numbers that can be compared, and why others cannot."""
    sizes, reasons = [], []
    for k in sorted(set(ks)):
        if k >= n:
            reasons.append(f"{k} by {by}: there are {n} filters")
        elif k > min(counts):
            reasons.append(f"{k} by {by}: the halves valued {counts[0]} and {counts[1]} filters")
        else:
            sizes.append(k)
    return sizes, reasons


def _overlaps(by: By, pair: tuple[Floats, Floats], sizes: Sequence[int], sought: End) -> list[Overlap]:
    ends: tuple[End, ...] = (sought,) if np.isnan(pair).any() else ("low", "high")
    signs: dict[End, int] = {"low": 1, "high": -1}
    return [Overlap(by, end, k, _shared(signs[end] * pair[0], signs[end] * pair[1], k), k / len(pair[0])) for end in ends for k in sizes]


def _shared(one: Floats, other: Floats, k: int) -> float:
    """Share of the k lowest of one ranking that are among the k lowest of the other."""
    return float(_places(one, k) @ _places(other, k)) / k


def _places(ranking: Floats, k: int) -> npt.NDArray[np.float64]:
    """For each player the probability of a place among the k lowest when ties are broken at random; NaN has none.

    Example:
        >>> _places(np.array([0.0, -1.0, 0.0, np.nan, 0.0, 2.0]), 2).round(3).tolist()
        [0.333, 1.0, 0.333, 0.0, 0.333, 0.0]
    """
    border = np.sort(ranking[~np.isnan(ranking)])[k - 1]
    inside, tied = ranking < border, ranking == border
    return np.asarray(inside + tied * (k - inside.sum()) / tied.sum(), dtype=np.float64)


def _spearman(one: Floats, other: Floats) -> float | None:
    """Spearman's rank correlation; None where it is not defined."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(stats.spearmanr(one, other).statistic)
