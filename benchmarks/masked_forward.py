"""Masked over plain forward, a different coalition for every example: ratios of passes back to back.

    python benchmarks/masked_forward.py [--runs 9] [--threads 1] [--device cuda] [--compile]

SqueezeNet-1.0 at 96 px and Inception-v3 at 299 px, channels last, in float32 and under bfloat16 autocast.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from passes import Device, add_machine, build, machine, random_images, rate, ratio

from repairkit.network.filters import ConvFilters

PIXELS = {"squeezenet1_0": 96, "inception_v3": 299}
TARGETS = {"cpu": 1.25, "cuda": 1.10}


def measure(name: str, device: Device, *, pixels: int, batch: int, runs: int, compiled: bool = False) -> str:
    """One row of the table."""
    network = build(name)
    filters = ConvFilters(network, device=device.name)
    images = random_images(batch, pixels, device.name)
    filters.calibrate([images[:8]])
    network = network.to(device.name)
    live = np.random.default_rng(0).random((batch, len(filters))) < 0.9
    plain, masked = (torch.compile(work) if compiled else work for work in (network, filters.forward))

    def plainly() -> None:
        with torch.inference_mode():
            plain(images)

    plains, maskeds = device.back_to_back(plainly, lambda: masked(images, live), runs)
    return (
        f"| {name}, {pixels} px, batch {batch} | {len(filters):,} | {device.dtype}{', compiled' if compiled else ''} | "
        f"{rate(plains, batch):.1f} | {ratio(maskeds, plains)} | {runs} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=PIXELS, default=list(PIXELS))
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--pixels", type=int, help="in place of 96 and 299")
    parser.add_argument("--batch", type=int, help="in place of 128 for SqueezeNet and 8 for Inception (128 on CUDA)")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--compile", action="store_true", help="torch.compile of both passes")
    add_machine(parser)
    given = parser.parse_args()
    print(f"## Masked over plain forward\n\n{machine(given)} Target: at most {TARGETS[given.device]}.\n")
    print("| network | filters | type | plain, images/s | masked / plain | quartiles | runs |")
    print("|---|---|---|---|---|---|---|")
    for name in given.models:
        for dtype in given.dtypes:
            slow = dtype == "bfloat16" and given.device == "cpu"  # emulated where the processor has no instructions for it
            batch = given.batch or (8 if given.device == "cpu" and name == "inception_v3" else 16 if slow else 128)
            runs = max(1, given.runs // 2) if slow else given.runs
            device = Device(given.device, dtype)
            print(measure(name, device, pixels=given.pixels or PIXELS[name], batch=batch, runs=runs, compiled=given.compile), flush=True)


if __name__ == "__main__":
    main()
