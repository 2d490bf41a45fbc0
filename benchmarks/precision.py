"""Does the ranking hold in bfloat16? The same coalitions and images in float32 and under bfloat16 autocast.

    python benchmarks/precision.py [--device cuda] [--gradients 3200] [--samples 192]

`squeezenet_celeba` on drawn faces of 64 x 64 pixels; the worth is mean recall of the subgroups. The screen names all filters; exact
flips value the 20 lowest and highest of the float32 screen and 60 others. What bfloat16 names is judged by what float32 names
from the same draws, and beside it stands how far two float32 runs agree whose draws differ: the noise ceiling. Constants are those of
float32, and scores are made in float32 of the logits, as `--precision bfloat16` of a repair does. About a quarter of an hour on one
core without instructions for bfloat16.
"""

from __future__ import annotations

import argparse

import numpy as np
from faces import ROUND, SURROGATES, Floats, MarginOnly, contenders, draw, exact_flips, game_of, hard, loaded, precision, screens, smooth
from passes import Device, add_machine, machine, ratio
from scipy.stats import spearmanr

from repairkit.data import synthetic_faces as drawn
from repairkit.network.game import NetworkGame

SEED = 100
PRECISIONS = ("float32", "bfloat16")
SCREEN = {"screen": SURROGATES["probability"]}
SCORES = {"smooth": smooth, "hard": hard}
TIMED = 8
"""Images of the flips that are timed."""


def agreement(values: Floats, reference: Floats, top: int) -> str:
    """Precision of the low and of the high end and Spearman, as one cell; the reference's own `top` are right."""
    order, sure = np.argsort(values, kind="stable"), np.zeros(len(values))
    ends = [precision(order[:top], reference, sure, top, low=True), precision(order[-top:], reference, sure, top, low=False)]
    return " / ".join(f"{value:.3f}" for value in (*ends, spearmanr(values, reference).statistic))


def times(games: dict[str, NetworkGame], players: np.ndarray, *, t0: float, gradients: int, runs: int, device: Device) -> dict[str, str]:
    """Seconds in bfloat16 over those in float32, of a screen round (or as many gradients, if fewer) and of flips: median and quartiles."""
    live, examples, _ = draw(games["float32"], min(ROUND, gradients), seed=[SEED, 4], t0=t0, shared=1)
    works = {
        "screen": lambda game: game.gradients(live, examples),
        "flips": lambda game: game.flips(live[:TIMED], examples[:TIMED], players),
    }
    found = {}
    for name, work in works.items():
        exact, rough = device.back_to_back(lambda work=work: work(games["float32"]), lambda work=work: work(games["bfloat16"]), runs)
        found[name] = ratio(rough, exact)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--t0", type=float, default=0.97, help="live range; 0.97 is the default of a repair")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--per-group", type=int, default=100, help="drawn faces of each of the four subgroups")
    parser.add_argument("--gradients", type=int, default=3200)
    parser.add_argument("--samples", type=int, default=192, help="of exact flips")
    parser.add_argument("--top", type=int, default=20, help="filters of each end")
    parser.add_argument("--others", type=int, default=60, help="filters drawn at random that are flipped too")
    parser.add_argument("--runs", type=int, default=3, help="of the timing")
    add_machine(parser)
    given = parser.parse_args()
    print(f"## Rankings in bfloat16\n\n{machine(given)}", end=" ", flush=True)
    exact = game_of(
        loaded("squeezenet_celeba", given.pixels), drawn.target_faces(per_group=given.per_group), MarginOnly(), device=given.device
    )
    games = {name: NetworkGame(exact.classifier, exact.filters, exact.objective, batch=exact.batch, precision=name) for name in PRECISIONS}
    runs = {"float32": (exact, SEED), "bfloat16": (games["bfloat16"], SEED), "float32 again": (exact, SEED + 1)}
    screened = {
        name: screens(game, SCREEN, gradients=given.gradients, seed=seed, t0=given.t0)["screen"] for name, (game, seed) in runs.items()
    }
    players, _ = contenders({"screen": screened["float32"]}, each=given.top, others=given.others, seed=SEED)
    flips = {name: exact_flips(game, players, samples=given.samples, seed=seed, t0=given.t0) for name, (game, seed) in runs.items()}
    ranked = {f"screen of {exact.n:,} filters, {given.gradients:,} gradients": screened}
    for name, score in SCORES.items():
        ranked[f"flips of {len(players)} filters, {len(flips['float32'].factors):,} samples, {name} score"] = {
            run: found.values(score)[0] for run, found in flips.items()
        }
    taken = times(games, players, t0=given.t0, gradients=given.gradients, runs=given.runs, device=Device(given.device))
    print(f"{given.pixels} px, t0 {given.t0:g}.\n")
    print(f"Cells: precision@{given.top} of the low end / of the high end / Spearman on all, against float32.\n")
    print("| what is ranked | bfloat16, same draws | float32, other draws | time bfloat16 / float32 | quartiles |")
    print("|---|---|---|---|---|")
    for name, values in ranked.items():
        cells = [agreement(values[run], values["float32"], given.top) for run in ("bfloat16", "float32 again")]
        print(f"| {name} | {' | '.join(cells)} | {taken[name.split()[0]]} |")


if __name__ == "__main__":
    main()
