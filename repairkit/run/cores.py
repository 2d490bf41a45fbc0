"""How many cores other work leaves free."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def free_cores(*, loadavg: Path = Path("/proc/loadavg")) -> int:
    """Cores of the machine that nothing else keeps busy: at least 1, at most the threads that torch takes by itself.

    As many are busy as the load average of the last minute says, to the nearest core; or as processes run
    at this moment besides this one, where those are fewer, since the average still holds what has just ended: an
    installation, or the run before this one.

    Args:
        loadavg: where Linux tells both; elsewhere the average alone counts.

    Example:
        >>> 1 <= free_cores() <= torch.get_num_threads()
        True
    """
    busy = os.getloadavg()[0]
    if loadavg.is_file():
        average, _, _, running, _ = loadavg.read_text(encoding="ascii").split()
        busy = min(float(average), int(running.split("/")[0]) - 1)
    return max(1, min(torch.get_num_threads(), round((os.cpu_count() or 1) - busy)))
