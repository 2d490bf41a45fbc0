"""What antithetic pairs, gradients as control variates and quasi-random sizes take off the variance of exact flips.

    python benchmarks/variance.py [--samples 512] [--players 60] [--t0 0.85 0.97]

The network is the shipped `squeezenet_celeba` on drawn faces of 64 x 64 pixels, the worth mean recall of the subgroups; players are half
the extremes of a screen and half drawn at random. All ratios come from the same flips, and are of variances summed over the players,
since that is what a ranking suffers from:

- antithetic pairs (coalitions of sizes t and t0 + 1 - t with mirrored draws): the variance of a pair's mean over that of two independent draws;
- control variate: the variance of flip minus gradient over that of the flip, and the same times what the gradient adds to the cost;
- sizes: the share of the variance that lies between sizes, all that quasi-random sizes could remove.

The standard error in brackets is a jackknife over rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
from faces import SURROGATES, Floats, MarginOnly, contenders, game_of, hard, loaded, screens, smooth
from passes import add_machine, machine

from repairkit.data import synthetic_faces as drawn
from repairkit.shapley import Game
from repairkit.shapley.game import GRADIENT_COST
from repairkit.shapley.sampling import SCREEN_ROUND, draw_round

SIZE_CLASSES = 8


def observed(game: Game, players: np.ndarray, *, rounds: int, t0: float) -> dict[str, np.ndarray]:
    """Margins with and without each player, (rounds, SCREEN_ROUND, c), the gradients of the margin, the margins, the factors and the sizes."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("present", "absent", "slopes", "margins", "factors", "sizes")}
    for index in range(rounds):
        samples = draw_round(game, seed=100, stage=7, index=index, size=SCREEN_ROUND, min_live=t0)
        margins = game.scores(samples.live, samples.examples)
        change = game.flips(samples.live, samples.examples, players)
        was_live = samples.live[:, players]
        for name, array in (
            ("present", np.where(was_live, margins[:, None], margins[:, None] + change)),
            ("absent", np.where(was_live, margins[:, None] - change, margins[:, None])),
            ("slopes", game.gradients(samples.live, samples.examples)[:, players]),
            ("margins", margins),
            ("factors", samples.factors),
            ("sizes", samples.live.mean(axis=1)),
        ):
            parts[name].append(array)
    return {name: np.stack(arrays) for name, arrays in parts.items()}


def ratios(marginals: Floats, gradients: Floats, sizes: Floats) -> Floats:
    """Antithetic over independent, flip minus gradient over flip, and the share between sizes; rows of both are (2 j, 2 j + 1) pairs.

    Args:
        marginals: of the flips, shape (samples, players).
        gradients: at the same coalitions and examples, likewise.
        sizes: share of live players in each sample.
    """
    alone = marginals.var(axis=0, ddof=1).sum()
    pairs = ((marginals[0::2] + marginals[1::2]) / 2).var(axis=0, ddof=1).sum()
    left = (marginals - gradients).var(axis=0, ddof=1).sum()
    classes = np.array_split(np.argsort(sizes, kind="stable"), SIZE_CLASSES)
    within = sum(len(rows) * marginals[rows].var(axis=0, ddof=1).sum() for rows in classes) / len(sizes)
    return np.array([2 * pairs / alone, left / alone, 1 - within / alone])


def chosen_ratios(marginals: Floats, gradients: Floats, sizes: Floats, rounds: np.ndarray) -> Floats:
    """`ratios` of some rounds; the arrays are (rounds, samples of a round, ...)."""
    flat = (array[rounds].reshape(-1, array.shape[-1]) for array in (marginals, gradients))
    return ratios(*flat, sizes[rounds].ravel())


def jackknife(statistic: Callable[[np.ndarray], Floats], rounds: int) -> tuple[Floats, Floats]:
    """A statistic of chosen rounds on all of them, and its standard error over them."""
    everyone = np.arange(rounds)
    without = np.array([statistic(np.delete(everyone, left_out)) for left_out in everyone])
    return statistic(everyone), np.sqrt((rounds - 1) * without.var(axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=512, help="exact flips of every player")
    parser.add_argument("--players", type=int, default=60)
    parser.add_argument("--t0", type=float, nargs="+", default=[0.85, 0.97])
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--per-group", type=int, default=100)
    parser.add_argument("--gradients", type=int, default=640, help="of the screen that picks the extremes")
    add_machine(parser)
    given = parser.parse_args()
    print(f"## Variance of flips\n\n{machine(given)}")
    images = drawn.target_faces(per_group=given.per_group)
    game = game_of(loaded("squeezenet_celeba", given.pixels), images, MarginOnly(), device=given.device)
    rounds = max(3, given.samples // SCREEN_ROUND)
    print(f"{game.n:,} filters, {given.players} of them flipped, {rounds * SCREEN_ROUND:,} samples each.\n")
    print("| t0 | score | antithetic / independent pairs | flip - gradient / flip | the same at equal cost | share between sizes |")
    print("|---|---|---|---|---|---|")
    for t0 in given.t0:
        found = screens(game, {"probability": SURROGATES["probability"]}, gradients=given.gradients, seed=100, t0=t0)
        players, _ = contenders(found, each=given.players // 4, others=given.players // 2, seed=100)
        seen = observed(game, players, rounds=rounds, t0=t0)
        cost = game.flip_cost(players)
        slope = seen["factors"] * smooth(seen["margins"]) * smooth(-seen["margins"])
        for name, score in (("smooth", smooth), ("hard", hard)):
            marginals = seen["factors"][..., None] * (score(seen["present"]) - score(seen["absent"]))
            gradients = slope[..., None] * seen["slopes"]
            value, error = jackknife(partial(chosen_ratios, marginals, gradients, seen["sizes"]), rounds)
            pairs, control, sizes = (f"{of:.2f} ({doubt:.2f})" for of, doubt in zip(value, error, strict=True))
            dearer = (cost + GRADIENT_COST) / cost
            print(f"| {t0:g} | {name} | {pairs} | {control} | {value[1] * dearer:.2f} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
