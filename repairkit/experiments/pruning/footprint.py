"""What a network costs to run: parameters, floating-point operations, and time beside another network's."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from repairkit.evaluation.statistics import Floats

PAIRS, LEAST_PAIRS = 31, 9
"""Pairs of passes that are timed, and that are timed even where they take long: fewer than six have no 95 % interval of their median."""
SECONDS = 15.0
"""After which no further pair is begun."""
WARM_UP = 3
TAKEN = 3
"""Passes of which the fastest is what a pass takes: what else the machine does can only add to it."""


def parameters(network: nn.Module) -> int:
    """How many numbers the network's parameters hold; running means and variances are none.

    Example:
        >>> parameters(nn.Conv2d(3, 4, 3))
        112
    """
    return sum(each.numel() for each in network.parameters())


def flops(network: nn.Module, image: Tensor) -> int:
    """Floating-point operations of one pass as torch counts them: two for each multiplication of convolutions and linear layers, no others.

    Args:
        network: in eval mode.
        image: prepared, shape (1, 3, height, width).

    Example:
        >>> flops(nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)) == 2 * 4 * 36 * 27
        True
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    return int(counter.get_total_flops())


def paired_timings(first: nn.Module, second: nn.Module, images: Tensor, *, pairs: int = PAIRS, seconds: float = SECONDS) -> Floats:
    """Seconds of a pass of two networks in turn, in one process, so that what else the machine does strikes both alike.

    The order changes from pair to pair; each time is that of the fastest of `TAKEN` passes in a row. Each network is warmed up first.

    Args:
        first: in eval mode, on the images' device.
        second: likewise.
        images: prepared, shape (k, 3, height, width).
        pairs: how many, at least `LEAST_PAIRS`.
        seconds: after which no further pair is begun, once `LEAST_PAIRS` are there.

    Returns:
        float64, shape (pairs made, 2).
    """
    networks = (first, second)
    timed: list[tuple[float, float]] = []
    with torch.inference_mode():
        for network in networks:
            _timed(network, images, passes=WARM_UP)
        started = time.perf_counter()
        while len(timed) < max(pairs, LEAST_PAIRS) and (len(timed) < LEAST_PAIRS or time.perf_counter() - started < seconds):
            order = (0, 1) if len(timed) % 2 == 0 else (1, 0)
            took = {which: _timed(networks[which], images, passes=TAKEN) for which in order}
            timed.append((took[0], took[1]))
    return np.array(timed)


def _timed(network: nn.Module, images: Tensor, *, passes: int) -> float:
    """Seconds of the fastest of so many passes."""

    def wait() -> None:
        if images.is_cuda:
            torch.cuda.synchronize(images.device)

    took = []
    for _ in range(passes):
        wait()
        started = time.perf_counter()
        network(images)
        wait()
        took.append(time.perf_counter() - started)
    return min(took)
