"""What the screen costs as the number of filters grows: time and memory over the network's own forward and backward pass.

    python benchmarks/growth.py [--passes 128] [--runs 5] [--threads 1]

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
import time

import numpy as np
import torch
from torch import nn
from torchvision.models import get_model

from repairkit.filters import ConvFilters

NETWORKS = {  # name: pixels
    "squeezenet1_0, first layers": 96,
    "squeezenet1_0": 96,
    "resnet18": 96,
    "mobilenet_v2": 96,
    "inception_v3": 149,
}


def build(name: str) -> nn.Module:
    """The network by name; the first layers of SqueezeNet have 288 filters and stand for a small one."""
    architecture = name.partition(",")[0]
    options = {"init_weights": False} if architecture == "inception_v3" else {}
    network = get_model(architecture, weights=None, **options)
    if "first" in name:
        network = nn.Sequential(*list(network.features)[:4], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 2))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def measure(name: str, screen: bool, *, passes: int, runs: int, threads: int) -> dict[str, float]:
    """Seconds of each run and peak memory in MiB of one network, in this process."""
    torch.set_num_threads(threads)
    network, pixels = build(name), NETWORKS[name]
    rng = np.random.default_rng(0)
    images = torch.rand(32, 3, pixels, pixels).contiguous(memory_format=torch.channels_last)
    filters = ConvFilters(network)
    filters.calibrate([images[:8]])

    def plain() -> None:
        leaf = images.clone().requires_grad_()
        torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)

    def screened() -> None:
        filters.gradients(images, rng.random((len(images), len(filters))) < 0.97, lambda logits: logits[:, 0])

    work = screened if screen else plain
    work()
    times = []
    for _ in range(runs):
        before = time.perf_counter()
        for _ in range(passes // 32):
            work()
        times.append(time.perf_counter() - before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"filters": len(filters), "seconds": statistics.median(times), "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "WORK"), help="measure one network, 'plain' or 'screen', and print JSON")
    given = parser.parse_args()
    if given.one:
        name, work = given.one
        print(json.dumps(measure(name, work == "screen", passes=given.passes, runs=given.runs, threads=given.threads)))
        return
    print("| network | filters | plain, images/s | screen / plain, time | plain, MiB | screen, MiB |")
    print("|---|---|---|---|---|---|")
    for name, pixels in NETWORKS.items():
        found = {}
        for work in ("plain", "screen"):
            command = [sys.executable, __file__, "--passes", str(given.passes), "--runs", str(given.runs), "--threads", str(given.threads)]
            answer = subprocess.run([*command, "--one", name, work], check=True, capture_output=True, text=True)  # noqa: S603 - this very file
            found[work] = json.loads(answer.stdout)
        plain, screen = found["plain"], found["screen"]
        print(
            f"| {name}, {pixels} px | {plain['filters']:,} | {given.passes / plain['seconds']:.0f} | "
            f"{screen['seconds'] / plain['seconds']:.2f} | {plain['peak']:.0f} | {screen['peak']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
