"""How many images a pass may carry, from a memory budget."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

PER_OUTPUT = 3.0
"""Bytes that gradients and flips take per byte of the modules' outputs; 1.8 was the most measured (SqueezeNet-1.0, ResNet-18, Inception-v3)."""


def images_that_fit(network: nn.Module, images: Tensor, *, budget: float) -> int:
    """Images of one pass that the budget holds with gradients and flips, at least 1.

    The outputs of all modules are measured with these images, and counted `PER_OUTPUT` times; what a
    pass takes beyond that is left to `repairkit.repair.attribute`, which halves the batch where memory runs out all the same.

    Args:
        network: in evaluation mode.
        images: what it takes, shape (k, channels, height, width), on its device.
        budget: bytes.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU())
        >>> images_that_fit(network, torch.zeros(1, 3, 100, 100), budget=4 * 2 * 16 * 100 * 100 * 3 * 5.5)
        5
    """
    return max(1, int(min(budget * len(images) / (PER_OUTPUT * output_bytes(network, images)), 2**31)))


def output_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes of the outputs of all modules that hold no others."""
    total = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal total
        total += output.numel() * output.element_size() if isinstance(output, Tensor) else 0

    hooks = [module.register_forward_hook(count) for module in network.modules() if next(module.children(), None) is None]
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def available(device: str | torch.device = "cpu", *, meminfo: Path = Path("/proc/meminfo")) -> float:
    """Bytes that can be had now; infinite where the system does not say."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if not meminfo.is_file():
        return float("inf")
    lines = (line.split() for line in meminfo.read_text(encoding="ascii").splitlines())
    return next((1024.0 * int(line[1]) for line in lines if line[0] == "MemAvailable:"), float("inf"))
