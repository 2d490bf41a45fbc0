"""Masked over plain forward, a different coalition for every example: ratios from one run.

    python benchmarks/masked_forward.py [--pixels 96] [--batch 128] [--runs 15] [--threads 1]

Each run times a plain and a masked pass back to back; the median of their ratios is what counts,
since the machine's speed changes between runs.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torchvision.models import get_model

from repairkit.filters import ConvFilters


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="squeezenet1_0")
    parser.add_argument("--pixels", type=int, default=96)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network = get_model(arguments.model, weights=None).eval().to(memory_format=torch.channels_last)
    images = torch.rand(arguments.batch, 3, arguments.pixels, arguments.pixels).contiguous(memory_format=torch.channels_last)
    filters = ConvFilters(network)
    filters.calibrate([images[:8]])
    live = np.random.default_rng(0).random((arguments.batch, len(filters))) < 0.9

    def plain() -> None:
        with torch.inference_mode():
            network(images)

    masked = lambda: filters.forward(images, live)  # noqa: E731
    plain(), masked()
    ratios, plains = [], []
    for _ in range(arguments.runs):
        plains.append(seconds(plain))
        ratios.append(seconds(masked) / plains[-1])
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{arguments.model}, {len(filters)} filters, {arguments.pixels} px, batch {arguments.batch}, float32, {arguments.threads} thread(s)"
    )
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"plain: {arguments.batch / statistics.median(plains):.0f} images/s")
    print(f"masked / plain: median {middle:.2f}, quartiles {low:.2f} to {high:.2f}, {arguments.runs} runs")


if __name__ == "__main__":
    main()
