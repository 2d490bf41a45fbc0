"""Networks, devices and clocks: what the benchmarks of speed share.

Ratios come from two works done back to back, since a machine's speed changes between runs.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model


@dataclass(frozen=True)
class Device:
    """Where and how passes run; bfloat16 means autocast."""

    name: str
    dtype: str = "float32"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context in which passes run."""
        return torch.autocast(self.name, dtype=torch.bfloat16) if self.dtype == "bfloat16" else contextlib.nullcontext()

    def seconds(self, work: Callable[[], object]) -> float:
        """Time of one call, until the device is done; with one thread that of the processor, which other jobs do not lengthen."""
        alone = self.name == "cpu" and torch.get_num_threads() == 1
        clock = time.process_time if alone else time.perf_counter
        self._wait()
        started = clock()
        with self.autocast():
            work()
        self._wait()
        return clock() - started

    def back_to_back(self, first: Callable[[], object], second: Callable[[], object], runs: int) -> tuple[list[float], list[float]]:
        """Seconds of each in turn, after one call of each that does not count."""
        self.seconds(first), self.seconds(second)
        pairs = [(self.seconds(first), self.seconds(second)) for _ in range(runs)]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    def _wait(self) -> None:
        if self.name == "cuda":
            torch.cuda.synchronize()


def build(name: str, weights: Path | None = None) -> nn.Module:
    """A network of torchvision by name, with random weights or with those of a file for 20 classes; channels last."""
    options: dict[str, object] = {"weights": None}
    if name == "inception_v3":
        options |= {"init_weights": False, "aux_logits": False, "transform_input": False}
    network = get_model(name, **options, **({"num_classes": 20} if weights else {}))
    if weights is not None:
        network.load_state_dict({key: tensor.float() for key, tensor in load_file(weights).items()}, strict=True)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def random_images(count: int, pixels: int, device: str = "cpu") -> Tensor:
    """Speed does not depend on what the images show."""
    return torch.rand(count, 3, pixels, pixels).contiguous(memory_format=torch.channels_last).to(device)


def ratio(over: list[float], under: list[float]) -> str:
    """Median and quartiles of the ratios, as two cells of a table."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return f"{middle:.2f} | {low:.2f} to {high:.2f}"


def add_machine(parser: argparse.ArgumentParser, *, threads: int = 1) -> None:
    """Options of the machine."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=threads)


def machine(given: argparse.Namespace) -> str:
    """Set the threads; say date, machine and versions."""
    torch.set_num_threads(given.threads)
    where = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {given.threads} thread(s)"
    if given.device == "cuda":
        where = torch.cuda.get_device_name()
    return f"{datetime.datetime.now(tz=datetime.UTC).date()}, {where}, torch {torch.__version__}."


def rate(seconds: list[float], images: float) -> float:
    """Images per second at the median time."""
    return images / statistics.median(seconds)
