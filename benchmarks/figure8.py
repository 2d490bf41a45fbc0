"""The paper's Figure 8: samples that TMAB needs against plain Monte Carlo stopped at the same precision.

    python benchmarks/figure8.py [--quick] [--permutations 1000] [--pool FILE]

Both are Algorithm 1 of Ghorbani & Zou 2020 on one game of 120 filters with a smooth score, with its
bound (R = 1, delta = .1) and without truncation. They stop when no filter is contested: when no
interval, narrowed by the tolerance, holds the k-th value. TMAB (`tmab-paper`) samples the contested
filters only; Monte Carlo samples all of them in every permutation. A sample is one marginal
contribution of one filter.

Without truncation a filter's marginal in permutation t is the same whoever else is sampled. So
permutations are walked once for all filters, and both algorithms are replayed on them: TMAB on one
half, Monte Carlo on the other, and the other way round. What does not stop within a half is replayed
on rows drawn from it with replacement and labelled as extrapolated.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.stats import spearmanr
from small_network import circumstances, digits_game

from repairkit.shapley import Game
from repairkit.shapley.bounds import Moments
from repairkit.shapley.walk import still_contested

End = Literal["low", "high"]
DELTA = 0.1
BATCH = 128


def permutation(game: Game, seed: int, index: int, *, batch: int = BATCH) -> np.ndarray:
    """Marginals of all players in the engine's permutation `index`, in one large pass; float64 (n,)."""
    rng = np.random.default_rng([seed, index])
    examples, factors = game.draw(rng, batch)
    order = rng.permutation(game.n)
    live = np.ones((game.n + 1, game.n), dtype=bool)
    for removed, player in enumerate(order):
        live[removed + 1 :, player] = False
    scores = game.scores(np.repeat(live, batch, axis=0), np.tile(examples, game.n + 1))
    worths = (np.tile(factors, game.n + 1) * scores).reshape(game.n + 1, batch).mean(axis=1)
    marginals = np.empty(game.n)
    marginals[order] = worths[:-1] - worths[1:]
    return marginals


@dataclass(frozen=True, eq=False)
class Replay:
    """How one of the algorithms went: estimates, samples per filter, and whether it stopped by itself."""

    values: np.ndarray
    samples: np.ndarray
    stopped: bool


def replay(rows: Iterable[np.ndarray], n: int, *, bandit: bool, top: int, end: End, tolerance: float) -> Replay:
    """Play Algorithm 1 on given permutations: the contested filters with `bandit`, else all of them, until nobody is contested."""
    moments, everyone = Moments(n), np.arange(n)
    active = np.ones(n, dtype=bool)
    for marginals in rows:
        sampled = np.flatnonzero(active) if bandit else everyone
        moments.add(marginals[None, sampled], sampled)
        active = still_contested(moments, top=top, end=end, delta=DELTA, tolerance=tolerance)
        if not active.any():
            return Replay(moments.mean, moments.count, stopped=True)
    return Replay(moments.mean, moments.count, stopped=False)


@dataclass(frozen=True)
class Comparison:
    """TMAB against Monte Carlo on independent permutations."""

    tmab: Replay
    plain: Replay

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
        """1 less the squared differences over the spread of Monte Carlo's values."""
        residual = ((self.tmab.values - self.plain.values) ** 2).sum()
        return float(1 - residual / ((self.plain.values - self.plain.values.mean()) ** 2).sum())


def compare(pool: np.ndarray, *, top: int, end: End, tolerance: float, most: int, repeats: int) -> tuple[list[Comparison], bool]:
    """Both ways round on the halves of the pool; where that does not stop, on rows drawn from the halves, up to `most`.

    Returns:
        The comparisons that stopped by themselves, and whether they are extrapolated.
    """
    halves = np.array_split(pool, 2)
    settings = {"top": top, "end": end, "tolerance": tolerance}
    real = [
        Comparison(replay(mine, pool.shape[1], bandit=True, **settings), replay(other, pool.shape[1], bandit=False, **settings))
        for mine, other in (halves, halves[::-1])
    ]
    if all(one.tmab.stopped and one.plain.stopped for one in real):
        return real, False
    drawn = []
    for repeat in range(repeats):
        rng = np.random.default_rng([9, repeat])
        mine, other = (_resampled(half, rng, most) for half in (halves if repeat % 2 == 0 else halves[::-1]))
        drawn.append(
            Comparison(replay(mine, pool.shape[1], bandit=True, **settings), replay(other, pool.shape[1], bandit=False, **settings))
        )
    return [one for one in drawn if one.tmab.stopped and one.plain.stopped], True


def _resampled(rows: np.ndarray, rng: np.random.Generator, most: int) -> Iterable[np.ndarray]:
    for index in rng.integers(0, len(rows), size=most):
        yield rows[index]


def histogram(samples: np.ndarray) -> str:
    """How many filters were sampled how often, in classes of a factor of two below the most."""
    most = float(samples.max())
    edges = [0.0, *(most / 2**power for power in range(5, -1, -1))]
    counts = [int(((samples > low) & (samples <= high)).sum()) for low, high in itertools.pairwise(edges)]
    return ", ".join(f"{count} up to {high:,.0f}" for count, high in zip(counts, edges[1:], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 permutations of 8 images and wide tolerances: does it run?")
    parser.add_argument("--permutations", type=int, default=1000, help="walked in all, half for each algorithm")
    parser.add_argument("--pool", type=Path, help="npy of the marginals: read and extended where it exists, written where not")
    parser.add_argument("--most", type=int, default=200_000, help="permutations after which an extrapolation is given up")
    parser.add_argument("--repeats", type=int, default=2, help="of an extrapolation")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    game = digits_game()
    top = round(0.1 * game.n)
    batch = 8 if arguments.quick else BATCH
    pool = _pool(game, arguments.pool, 60 if arguments.quick else arguments.permutations, batch)
    tolerances = (0.2, 0.1) if arguments.quick else (1e-2, 1e-3, 1e-4)
    print("## The paper's Figure 8: `tmab-paper` against `monte-carlo` at equal stopping precision\n")
    print(circumstances())
    print(f"{game.n} filters, smooth accuracy, {len(pool):,} permutations with a fresh batch of {batch} each, k = {top}.\n")
    for end in ("high", "low"):
        kth = np.sort(pool.mean(axis=0))[-top if end == "high" else top - 1]
        print(f"The {end} end; the {top}th value is {kth:+.4f}:\n")
        print("| tolerance | permutations until Monte Carlo stops | samples, TMAB / Monte Carlo | Spearman | R² | |")
        print("|---|---|---|---|---|---|")
        detail = []
        relative = 0.2 * abs(kth)
        for tolerance in sorted({*tolerances, *(() if arguments.quick else (relative,))}, reverse=True):
            found, extrapolated = compare(
                pool, top=top, end=end, tolerance=tolerance, most=1000 if arguments.quick else arguments.most, repeats=arguments.repeats
            )
            print(
                row(tolerance, found, extrapolated=extrapolated, note="a fifth of the k-th value" if tolerance == relative else ""),
                flush=True,
            )
            if found:
                detail.append(
                    f"- tolerance {tolerance:.2g}: {histogram(found[0].tmab.samples)}; median {np.median(found[0].tmab.samples):,.0f}"
                )
        print("\nFilters by the samples TMAB took of them (first run of each line above):\n\n" + "\n".join(detail) + "\n")


def row(tolerance: float, found: list[Comparison], *, extrapolated: bool, note: str) -> str:
    """One line of the table: medians and ranges."""
    label = "; ".join(text for text in (note, "extrapolated" if extrapolated else "run") if text)
    if not found:
        return f"| {tolerance:.2g} | did not stop | | | | {label} |"
    ratios = [one.ratio for one in found]
    stops = [one.plain.samples[0] for one in found]
    return (
        f"| {tolerance:.2g} | {statistics.median(stops):,.0f} | {statistics.median(ratios):.1%} ({min(ratios):.1%} to {max(ratios):.1%}) "
        f"| {statistics.median(one.rank for one in found):.3f} | {statistics.median(one.r_squared for one in found):.3f} | {label} |"
    )


def _pool(game: Game, path: Path | None, count: int, batch: int) -> np.ndarray:
    rows = list(np.load(path)) if path and path.exists() else []
    if rows and not np.allclose(rows[0], permutation(game, 0, 0, batch=batch), atol=1e-6):
        raise SystemExit(f"{path} holds permutations of another game or batch; remove it or name another file")
    while len(rows) < count:
        rows.append(permutation(game, 0, len(rows), batch=batch))
        if len(rows) % 100 == 0:
            print(f"{len(rows)} permutations", file=sys.stderr, flush=True)
            if path:
                np.save(path, np.array(rows))
    if path:
        np.save(path, np.array(rows))
    return np.array(rows[:count])


if __name__ == "__main__":
    main()
