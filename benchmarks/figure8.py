"""The paper's Figure 8: samples that TMAB needs against plain Monte Carlo stopped at the same precision.

    python benchmarks/figure8.py [--quick] [--permutations 1000] [--pool FILE]

What `repairkit run recipes/fig8_sample_efficiency.toml` measures (`repairkit.experiments.sample_efficiency.run`), of a network of 120 filters with a smooth score, at
both ends and several tolerances.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from small_network import circumstances, digits_game

from repairkit.experiments.sample_efficiency.run import BATCH, permutation
from repairkit.experiments.sample_efficiency.stopping import Comparison, compare
from repairkit.shapley import Game


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
                np.array_split(pool, 2),
                top=top,
                end=end,
                tolerance=tolerance,
                most=1000 if arguments.quick else arguments.most,
                repeats=arguments.repeats,
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
