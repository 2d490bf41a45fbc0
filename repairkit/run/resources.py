"""Free memory and free cores: how many images a pass may hold, and how many threads a run may take."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

BYTES_PER_OUTPUT_BYTE = 3.0
"""Bytes that gradients and flips take per byte of the modules' outputs; 1.8 was the most measured (SqueezeNet-1.0, ResNet-18, Inception-v3)."""


def images_that_fit(network: nn.Module, images: Tensor, *, budget: float) -> int:
    """Images of one pass that a memory budget holds with gradients and flips, at least 1.

    `repairkit.repair.attribute` halves the batch where memory runs out nevertheless.

    Args:
        network: in evaluation mode.
        images: example input, shape (k, channels, height, width), on the network's device.
        budget: bytes.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU())
        >>> images_that_fit(network, torch.zeros(1, 3, 100, 100), budget=4 * 2 * 16 * 100 * 100 * 3 * 5.5)
        5
    """
    return max(1, int(min(budget * len(images) / (BYTES_PER_OUTPUT_BYTE * output_bytes(network, images)), 2**31)))


def output_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes of the outputs of all modules without submodules."""
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


def free_memory(
    device: str | torch.device = "cpu", *, process: Path = Path("/proc/self/cgroup"), cgroups: Path = Path("/sys/fs/cgroup")
) -> float:
    """Bytes that this process can still take on a device.

    On a CPU: what the system has, or what the limit of a container leaves where that is less.

    Args:
        device: torch's name of it.
        process: lists the control groups of this process.
        cgroups: folder of all control groups.
    """
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return min(float(psutil.virtual_memory().available), _left_in_cgroups(process, cgroups))


def _left_in_cgroups(process: Path, cgroups: Path) -> float:
    """Bytes left under the memory limits of a process' control groups, of version 2 or 1; infinite without a limit."""
    try:
        entries = [line.split(":", 2)[1:] for line in process.read_text(encoding="utf-8").splitlines()]
    except OSError:  # no Linux
        return math.inf
    left = math.inf
    for controllers, path in entries:
        if controllers == "":
            root, limit, usage = cgroups, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, usage = cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        # In a container the path may be the host's, which is not there: then the root is the container's group.
        for folder in (group, *group.parents[: len(group.parts) - len(root.parts)]):
            left = min(left, _left_in(folder, limit, usage))
    return left


def _left_in(folder: Path, limit: str, usage: str) -> float:
    """Bytes left in one control group; file cache that the kernel can drop at once counts as free."""
    try:
        most, used = ((folder / name).read_text(encoding="ascii").strip() for name in (limit, usage))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except OSError:  # the root of all groups has no limit
        return math.inf
    if most == "max":
        return math.inf
    return max(0.0, float(int(most) - int(used) + int(statistics.get("total_inactive_file", statistics.get("inactive_file", 0)))))


def free_cores(*, loadavg: Path = Path("/proc/loadavg")) -> int:
    """Cores that this process may use and that other work leaves free; at least 1, at most torch's own number of threads.

    The load average of the last minute says how many cores are busy. It still holds work that has just ended, so the number of processes
    that run at this moment counts instead where it is smaller.

    Args:
        loadavg: Linux writes both numbers there; elsewhere the average alone counts.

    Example:
        >>> 1 <= free_cores() <= torch.get_num_threads()
        True
    """
    import joblib

    busy = psutil.getloadavg()[0]
    if loadavg.is_file():
        average, _, _, running, _ = loadavg.read_text(encoding="ascii").split()
        busy = min(float(average), int(running.split("/")[0]) - 1)
    idle = round((os.cpu_count() or 1) - busy)  # of the whole machine, as the load is; joblib knows what this process may use of it
    return max(1, min(torch.get_num_threads(), int(joblib.cpu_count()), idle))
