"""Inception-v3 at 299 px: image passes per second of the screen and of flips, and on request the time to a top and bottom 100.

    python benchmarks/inception.py [--data DATA] [--threads 2] [--device cuda --dtype bfloat16 --compile --batch 128 --decide 200000]

The shared checkpoint has layers whose weights are all zero: their filters are counted apart, and those that
only they read cannot matter either. Without it the weights are random, which changes no speed. `--decide` gives the budget of one end: the
engine `tmab` then values the filters on the 20 classes of the data folder, both ends, and the table says how long that took and how many of the 100
are decided by then, by the approximate intervals of control variates. A larger budget decides more; `--compile` is for the plain pass only.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from passes import Device, add_machine, build, machine, random_images, rate
from torch import nn

from repairkit.data.decoding import decode
from repairkit.data.images import LabelledImages
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame, prepared_batches
from repairkit.objectives import Accuracy, Probability
from repairkit.shapley import EngineSettings, tmab

WEIGHTS = Path("weights/inception_v3_20.safetensors")


def table(
    network: nn.Module, device: Device, *, pixels: int, batch: int, flips: int, runs: int, compiled: bool = False
) -> tuple[list[str], int, int]:
    """Rows of speeds; how many filters there are, and how many in layers of zero weights."""
    filters = ConvFilters(network, device=device.name)
    images = random_images(batch, pixels)
    filters.calibrate([images])
    modules = dict(filters.network.named_modules())
    dead = sum(site.filters for site in filters.sites if not modules[site.layer].weight.any())
    rng = np.random.default_rng(0)
    live = rng.random((batch, len(filters))) < 0.97
    players = np.sort(rng.choice(len(filters), size=flips, replace=False))
    plain_network = network.to(device.name)
    on_device = images.to(device.name)
    forward = torch.compile(plain_network) if compiled else plain_network

    def plain() -> None:
        with torch.inference_mode():
            forward(on_device)

    def flip_all() -> None:
        _, snapshot = filters.snapshot(images, live)
        if snapshot is None:
            raise SystemExit("the network could not be traced")
        for player in players:
            other = live.copy()
            other[:, player] ^= True
            filters.forward_from(snapshot, int(filters.site_of[player]), other)

    works = {
        "plain pass": (plain, 1),
        "masked pass": (lambda: filters.forward(images, live), 1),
        "screen: forward and backward": (lambda: filters.gradients(images, live, lambda logits: logits[:, 0]), 1),
        "flip of one filter": (flip_all, flips),
    }
    speed = {}
    for name, (work, each) in works.items():
        device.seconds(work)
        speed[name] = rate([device.seconds(work) for _ in range(runs if each == 1 else 1)], batch * each)
    rows = ["| work | images/s | cost in plain passes |", "|---|---|---|"]
    rows += [f"| {name} | {each:.1f} | {speed['plain pass'] / each:.2f} |" for name, each in speed.items()]
    rows.append(
        f"\nCharged for a flip: its share of the multiplications, mean {filters.shares.mean():.2f} over all filters, "
        f"{filters.shares[players].mean():.2f} over the {flips} flipped."
    )
    return rows, len(filters), dead


def validation_images(data: Path, pixels: int) -> LabelledImages:
    """The 20 classes' validation images, in the order of `classes.tsv`."""
    folder = data / "tiny-imagenet-20"
    synsets = [line.split("\t") for line in (folder / "classes.tsv").read_text().splitlines()]
    paths = [(path, label) for label, (synset, _) in enumerate(synsets) for path in sorted((folder / "val" / synset).glob("*.JPEG"))]
    return LabelledImages(
        pixels=decode([path for path, _ in paths], size=pixels, name="tiny ImageNet, 20 classes"),
        labels=np.array([label for _, label in paths]),
        groups=np.array([synsets[label][0] for _, label in paths]),
        classes=tuple(name for _, name in synsets),
        name="tiny ImageNet, 20 classes",
    )


def decide(network: nn.Module, device: Device, data: Path, *, pixels: int, budget: float, batch: int) -> str:
    """Seconds until the budget of each end is spent, and how many of its 100 filters are then decided."""
    images = validation_images(data, pixels)
    classifier = Classifier(network, classes=images.classes, mean=(0.5,) * 3, std=(0.5,) * 3).to(device.name)
    filters = ConvFilters(network, device=device.name)
    filters.calibrate(prepared_batches(classifier, images))
    game = NetworkGame(classifier, filters, Probability(Accuracy()).on(images), batch=batch, precision=device.dtype)
    lines = []
    for end in ("low", "high"):
        marks = {"screen": 0.0, "flips": 0.0}
        started = time.perf_counter()

        def note(part: str, _made: float, _planned: float, marks: dict[str, float] = marks, started: float = started) -> None:
            marks[part] = time.perf_counter() - started

        found = tmab(game, EngineSettings(budget=budget, top_k=100, end=end, min_live=0.9, control=True), progress=note)
        named = np.argsort(np.where(np.isnan(found.value), np.inf, found.value * (1 if end == "low" else -1)))[:100]
        lines.append(
            f"| {end} | {sum(found.passes.values()):,.0f} | {marks['screen']:.0f} | {marks['flips']:.0f} | {int(found.decided[named].sum())} |"
        )
    return "\n".join(["", "| end | passes | seconds, screen | seconds, all | decided of 100 |", "|---|---|---|---|---|", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("DATA"), help=f"folder that holds {WEIGHTS}")
    parser.add_argument("--pixels", type=int, default=299)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--flips", type=int, default=48, help="filters flipped, drawn at random")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the plain pass")
    parser.add_argument("--decide", type=float, metavar="PASSES", help="value the filters with this budget for each end")
    add_machine(parser, threads=2)
    given = parser.parse_args()
    weights = given.data / WEIGHTS
    network = build("inception_v3", weights if weights.exists() else None)
    device = Device(given.device, given.dtype)
    print(f"## Inception-v3\n\n{machine(given)}")
    rows, count, dead = table(
        network, device, pixels=given.pixels, batch=given.batch, flips=given.flips, runs=given.runs, compiled=given.compile
    )
    matter = f"{dead:,} of them in layers of zero weights" if weights.exists() else f"random weights: no file {weights}"
    print(f"{given.pixels} px, {count:,} filters ({matter}), batch {given.batch}, {given.dtype}.\n")
    print("\n".join(rows))
    if given.decide:
        if not weights.exists():
            raise SystemExit(f"--decide needs {weights} and {given.data}/tiny-imagenet-20; give the folder with --data")
        print(decide(network, device, given.data, pixels=given.pixels, budget=given.decide, batch=given.batch))


if __name__ == "__main__":
    main()
