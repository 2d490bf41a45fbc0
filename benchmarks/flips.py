"""What a flip costs: the time of one filter's change of side over that of a plain pass, beside the share that is charged.

    python benchmarks/flips.py [--flips 96] [--threads 1] [--device cuda] [--dtype bfloat16]

Filters are drawn at random. Activations before the flipped layer are reused, so a flip costs what comes
after its filter; a budget is charged the share of multiplications there. The time is that of the engine's own
call, base pass included, and "full passes" is the same flips without reuse.
"""

from __future__ import annotations

import argparse

import numpy as np
from passes import Device, add_machine, build, machine, random_images, rate, ratio

from repairkit.data.images import LabelledImages
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.objectives import Accuracy
from repairkit.shapley.game import Game

PIXELS = {"squeezenet1_0": 96, "inception_v3": 299}


def measure(name: str, device: Device, *, pixels: int, images: int, flips: int, runs: int) -> str:
    """One row of the table."""
    rng = np.random.default_rng(0)
    network = build(name)
    filters = ConvFilters(network, device=device.name)
    classes = 1000
    classifier = Classifier(network, classes=[str(label) for label in range(classes)])
    filters.calibrate([random_images(2, pixels)])
    labelled = LabelledImages(
        pixels=rng.integers(0, 256, (images, pixels, pixels, 3), dtype=np.uint8),
        labels=rng.integers(0, classes, images),
        groups=np.full(images, "random"),
        classes=classifier.classes,
        name="random images",
    )
    game = NetworkGame(classifier.to(device.name), filters, Accuracy().on(labelled), batch=32, precision=device.dtype)
    examples = np.arange(images)
    live = rng.random((images, game.n)) < 0.95
    everyone = np.ones((1, game.n), dtype=bool)
    players = np.sort(rng.choice(game.n, size=flips, replace=False))
    few = rng.choice(players, size=max(1, flips // 12), replace=False)
    # Passes as many as flips, in batches of the same size.
    repeated = np.repeat(examples, max(1, flips // 4))
    plain, reused = device.back_to_back(lambda: game.scores(everyone, repeated), lambda: game.flips(live, examples, players), runs)
    per_pass = [seconds / len(repeated) for seconds in plain]
    per_flip = [seconds / (images * flips) for seconds in reused]
    # The engines' fallback, which passes the whole network for every flip.
    whole = [device.seconds(lambda: Game._flips(game, live, examples, few)) / (images * len(few)) for _ in range(runs)]
    charged = game.flip_cost(players) / flips
    return (
        f"| {name}, {pixels} px | {game.n:,} | {filters.shares.mean():.2f} | {charged:.2f} | {rate(per_pass, 1):.1f} | "
        f"{ratio(per_flip, per_pass)} | {ratio(whole, per_flip)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=PIXELS, default=list(PIXELS))
    parser.add_argument("--pixels", type=int, help="in place of 96 and 299")
    parser.add_argument("--images", type=int, help="in place of 16 for SqueezeNet and 4 for Inception")
    parser.add_argument("--flips", type=int, default=96)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    add_machine(parser)
    given = parser.parse_args()
    print(f"## What a flip costs\n\n{machine(given)} {given.flips} filters drawn at random, {given.dtype}.\n")
    print(
        "| network | filters | mean share after a filter, all | charged per flip, those flipped, base included | passes/s | "
        "time of a flip / a pass | quartiles | full passes / reuse | quartiles |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in given.models:
        images = given.images or (4 if name == "inception_v3" else 16)
        row = measure(
            name, Device(given.device, given.dtype), pixels=given.pixels or PIXELS[name], images=images, flips=given.flips, runs=given.runs
        )
        print(row, flush=True)


if __name__ == "__main__":
    main()
