"""What the screen costs as the number of filters grows: time and memory over the network's own forward and backward pass.

    python benchmarks/growth.py [--passes 128] [--runs 5] [--threads 1] [--device cuda]

Every network runs in a process of its own, so that the peak of its memory is its own. The plain pass
goes forward and backward to the images with no filter masked; the screen is the same pass with a different
coalition for every example and a gradient for every filter's mask. Ratios come from runs back to back.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys

import numpy as np
import torch
from passes import Device, add_machine, build, machine, random_images
from torch import nn

from repairkit.network.filters import ConvFilters

NETWORKS = {  # name: pixels
    "squeezenet1_0, first layers": 96,
    "squeezenet1_0": 96,
    "resnet18": 96,
    "mobilenet_v2": 96,
    "inception_v3": 149,
}


def small_or(name: str) -> nn.Module:
    """The network by name; the first layers of SqueezeNet have 384 filters and stand for a small one."""
    network = build(name.partition(",")[0])
    if "first" in name:
        network = nn.Sequential(*list(network.features)[:5], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 2))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def measure(name: str, work: str, device: Device, *, passes: int, runs: int, batch: int = 32) -> dict[str, float]:
    """Seconds of each run and peak memory in MiB of one network, in this process; `work` is "plain" or "screen"."""
    network, pixels = small_or(name), NETWORKS[name]
    rng = np.random.default_rng(0)
    images = random_images(batch, pixels, device.name)
    filters = ConvFilters(network, device=device.name)
    filters.calibrate([images[:8]])
    network = network.to(device.name)

    def plain() -> None:
        leaf = images.clone().requires_grad_()
        torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)

    def screen() -> None:
        filters.gradients(images, rng.random((batch, len(filters))) < 0.97, lambda logits: logits[:, 0])

    def repeated() -> None:
        for _ in range(max(1, passes // batch)):
            (screen if work == "screen" else plain)()

    seconds = [device.seconds(repeated) for _ in range(runs + 1)][1:]
    on_cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.name == "cuda" else on_cpu
    return {"filters": len(filters), "seconds": statistics.median(seconds), "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--passes", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "WORK"), help="measure one network, 'plain' or 'screen', and print JSON")
    add_machine(parser)
    given = parser.parse_args()
    where = machine(given)
    if given.one:
        name, work = given.one
        print(json.dumps(measure(name, work, Device(given.device), passes=given.passes, runs=given.runs)))
        return
    print(f"## Growth of the screen\n\n{where} {given.passes} images forward and backward, batch 32; memory is the process's peak.\n")
    print("| network | filters | plain, images/s | screen / plain, time | plain, MiB | screen, MiB |")
    print("|---|---|---|---|---|---|")
    options = ["--passes", str(given.passes), "--runs", str(given.runs), "--threads", str(given.threads), "--device", given.device]
    for name in given.models:
        found = {}
        for work in ("plain", "screen"):
            answer = subprocess.run(  # noqa: S603 - this very file
                [sys.executable, __file__, *options, "--one", name, work], check=True, capture_output=True, text=True
            )
            found[work] = json.loads(answer.stdout)
        plain, screen = found["plain"], found["screen"]
        print(
            f"| {name}, {NETWORKS[name]} px | {plain['filters']:,} | {given.passes / plain['seconds']:.0f} | "
            f"{screen['seconds'] / plain['seconds']:.2f} | {plain['peak']:.0f} | {screen['peak']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
