"""What a command takes of the machine, and how it is taken up again."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch

from repairkit.cli.messages import log
from repairkit.errors import UsageError
from repairkit.run.resources import free_cores


def resume_command(arguments: list[str], place: Path, *, out_given: bool) -> str:
    """What the user types to go on with a run of these arguments.

    Example:
        >>> resume_command(["fairness", "--data", "my people.csv"], Path("reports/a"), out_given=False)
        "repairkit fairness --data 'my people.csv' --out reports/a --resume"
    """
    more = [] if out_given else ["--out", str(place)]
    return f"repairkit {shlex.join([word for word in arguments if word != '--resume'] + more + ['--resume'])}"


def check_device(device: str) -> None:
    """Refuse a CUDA device that is not there.

    Raises:
        UsageError: there is none, or another name.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device was found on this machine; use --device cpu")


def set_threads(threads: int | None, *, workers: int = 1) -> None:
    """Threads of one process; by default one for each core that other work leaves free, shared out among the workers.

    More threads than free cores make a run crawl, several times slower than one thread would be.
    """
    if threads is None:
        cores, free = torch.get_num_threads(), free_cores()
        if free < cores:
            log.info(f"note: other work leaves {free} of {cores} cores free, and this run takes no more; --threads sets another number")
        threads = max(1, free // workers)
    torch.set_num_threads(threads)
