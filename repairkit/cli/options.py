"""What is read from the options, checked and settled before the work of a command begins."""

from __future__ import annotations

import json
import shlex
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from repairkit.cli.messages import say
from repairkit.data.images import LabelledImages
from repairkit.errors import ModelWarning, UsageError
from repairkit.experiments.options import Options
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import Classifier
from repairkit.network.predict import predict
from repairkit.run.context import Run
from repairkit.run.directory import require_free
from repairkit.run.resources import free_cores, free_memory, images_that_fit
from repairkit.run.store import check_resumable, place_beside

ASSUMED_NOTICE = (
    "{file} does not say how images are normalised for its network, so ImageNet's mean and standard deviation were taken; "
    "every number is wrong if it was trained with others: --mean and --std give them."
)


def model_notices(*models: LoadedModel) -> list[str]:
    """What a reader must know about these networks before any number."""
    stand_ins = [model.provenance for model in models if model.stand_in]
    return stand_ins + [ASSUMED_NOTICE.format(file=model.weights.name) for model in models if model.assumed_normalisation]


def show_passes(
    classifier: Classifier, images: LabelledImages, passes: Mapping[str, float], options: Options, *, heading: str, as_json: bool
) -> None:
    """A plan's cost in image passes and what that means on this machine, on stdout."""
    speed = speed_of(classifier, images, options)
    total = sum(passes.values())
    if as_json:
        print(json.dumps({"passes": dict(passes), "passes_a_second": speed, "minutes": total / speed / 60}))  # noqa: T201
        return
    print(heading)  # noqa: T201
    for part, number in passes.items():
        print(f"{part:12s} {number:12,.0f} image passes")  # noqa: T201
    print(f"{'in all':12s} {total:12,.0f} image passes, about {total / speed / 60:.0f} minutes at {speed:,.0f} passes a second")  # noqa: T201


def speed_of(classifier: Classifier, images: LabelledImages, options: Options) -> float:
    """Image passes a second, by some of the images."""
    some = images.subset(np.arange(min(64, len(images))))
    run = Run.start(options)
    with run.phase("speed"):
        predict(classifier, some, run)
        started = time.perf_counter()
        predict(classifier, some, run)
    return len(some) / (time.perf_counter() - started)


def batch_within(memory: float | None, classifier: Classifier, images: LabelledImages, options: Options, *, workers: int) -> int:
    """Images of a pass: those asked for, or as many as each worker's share of the memory holds, with a warning.

    The memory is in GiB, half of what is free by default.
    """
    budget = (free_memory(options.device) / 2 if memory is None else memory * 2**30) / workers
    image = images.batch(np.array([0])).to(options.device)
    fit = images_that_fit(classifier.to(options.device), image, budget=budget)
    if fit < options.batch:
        shown = f"{budget / 2**30:.2g} GiB of memory {'hold' if fit > 1 else 'holds'}"
        warnings.warn(
            f"passes carry {fit} images and not {options.batch}, as many as {shown}; --memory sets it", ModelWarning, stacklevel=2
        )
    return min(fit, options.batch)


def resume_command(arguments: list[str], place: Path, *, out_given: bool) -> str:
    """What the user types to go on with a run of these arguments.

    Example:
        >>> resume_command(["fairness", "--data", "my people.csv"], Path("reports/a"), out_given=False)
        "repairkit fairness --data 'my people.csv' --out reports/a --resume"
    """
    more = [] if out_given else ["--out", str(place)]
    return f"repairkit {shlex.join([each for each in arguments if each != '--resume'] + more + ['--resume'])}"


def check_device(device: str) -> str:
    """A device that is there.

    Raises:
        UsageError: another name, or a CUDA device that is not there.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device was found on this machine; use --device cpu")
    return device


def check_place(out: Path | None, *, resume: bool) -> None:
    """Refuse before any work a run directory that is taken, and unfinished work that is there unasked or asked for and not there.

    Raises:
        UsageError: it is so; the message says what to do.
    """
    if out is not None:
        if resume and (out / "result.json").exists():  # perhaps killed just before its unfinished work was removed
            raise UsageError(f"the run at {out} is finished; read its report.html, and remove {place_beside(out)} if that is still there")
        require_free(out)
    check_resumable(out, resume=resume)


def check_workers(workers: int, options: Options) -> None:
    """Refuse several workers for an engine that takes one.

    Raises:
        UsageError: the engine is a walk.
    """
    if workers > 1 and options.engine != "tmab":
        raise UsageError(f"{options.engine} goes on from permutation to permutation and takes one process, got --workers {workers}")


def set_threads(threads: int | None, *, workers: int = 1) -> None:
    """Threads of one process; by default one for each core that other work leaves free, shared out among the workers.

    More threads than free cores make a run crawl, several times slower than one thread would be.
    """
    if threads is None:
        cores, free = torch.get_num_threads(), free_cores()
        if free < cores:
            say(f"note: other work leaves {free} of {cores} cores free, and this run takes no more; --threads sets another number")
        threads = max(1, free // workers)
    torch.set_num_threads(threads)
