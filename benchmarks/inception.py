"""Inception-v3 at 299 px: image passes per second of the screen and of flips, and what reuse of activations saves.

    python benchmarks/inception.py [--weights inception_v3_20.safetensors] [--pixels 299] [--threads 2] [--device cpu]

Speed does not depend on the images, so they are random. With `--weights` the filters of layers whose
weights are all zero are left out of the count of those that can matter. A flip's cost is measured two ways:
its share of the arithmetic after the filter (what a budget is charged), and its time over that of a plain pass.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import inception_v3

from repairkit.filters import ConvFilters


def build(weights: Path | None) -> nn.Module:
    """The network with 20 classes; with these weights, or with random ones."""
    network = inception_v3(weights=None, init_weights=False, aux_logits=False, transform_input=False, num_classes=20)
    if weights is not None:
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()}, strict=True)
    return network.eval().requires_grad_(False)


def rate(work: object, images: int, runs: int, device: str) -> float:
    """Median images per second of a callable that handles so many."""
    times = []
    for _ in range(runs + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()  # type: ignore[operator]
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return images / statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--pixels", type=int, default=299)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--flips", type=int, default=64, help="Filters flipped, drawn at random.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    network = build(given.weights)
    filters = ConvFilters(network, device=given.device)
    images = torch.rand(given.batch, 3, given.pixels, given.pixels).contiguous(memory_format=torch.channels_last)
    filters.calibrate([images])
    rng = np.random.default_rng(0)
    live = rng.random((given.batch, len(filters))) < 0.97
    modules = dict(filters.network.named_modules())
    dead = sum(site.filters for site in filters.sites if not modules[site.layer].weight.any())
    network = network.to(given.device, memory_format=torch.channels_last)
    on_device = images.to(given.device)

    def plain() -> None:
        with torch.inference_mode():
            network(on_device)

    def masked() -> None:
        filters.forward(images, live)

    def screen() -> None:
        filters.gradients(images, live, lambda logits: logits[:, 0])

    players = np.sort(rng.choice(len(filters), size=given.flips, replace=False))

    def flips() -> None:
        _, snapshot = filters.snapshot(images, live)
        if snapshot is None:
            raise SystemExit("the network could not be traced")
        for player in players:
            other = live.copy()
            other[:, player] ^= True
            filters.forward_from(snapshot, int(filters.site_of[player]), other)

    speed = {
        "plain pass": rate(plain, given.batch, given.runs, given.device),
        "masked pass": rate(masked, given.batch, given.runs, given.device),
    }
    speed["screen (forward and backward)"] = rate(screen, given.batch, given.runs, given.device)
    speed["flips of one filter"] = rate(flips, given.batch * given.flips, 1, given.device)
    where = (
        f"{given.threads} thread(s), {torch.backends.cpu.get_cpu_capability()}" if given.device == "cpu" else torch.cuda.get_device_name()
    )
    print(f"inception_v3, {given.pixels} px, {len(filters):,} filters ({dead:,} in layers of zero weights), batch {given.batch}, float32")
    print(f"torch {torch.__version__}, {platform.machine()}, {where}\n")
    print("| work | images/s | cost in plain passes |")
    print("|---|---|---|")
    for name, each in speed.items():
        print(f"| {name} | {each:.1f} | {speed['plain pass'] / each:.2f} |")
    print(
        f"\nShare of the arithmetic after a filter: mean {filters.shares.mean():.2f} over all, {filters.shares[players].mean():.2f} over those flipped."
    )


if __name__ == "__main__":
    main()
