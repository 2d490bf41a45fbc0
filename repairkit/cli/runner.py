"""Carrying an experiment out: checked, planned, run with its work kept beside the run directory, written and shown."""

from __future__ import annotations

import json
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from repairkit.cli.console import Reporter, show_result
from repairkit.cli.messages import log
from repairkit.cli.processes import check_device, resume_command, set_threads
from repairkit.cli.train import training_progress
from repairkit.data.images import LabelledImages
from repairkit.errors import ModelWarning, UsageError
from repairkit.experiments import results
from repairkit.experiments.base import Experiment, Loading, Origin
from repairkit.experiments.settings import NetworkSettings
from repairkit.network.classifier import Classifier
from repairkit.network.predict import predict
from repairkit.run.context import Run
from repairkit.run.directory import require_free
from repairkit.run.resources import free_memory, images_that_fit
from repairkit.run.settings import RunSettings, Settings
from repairkit.run.store import RunStore, check_resumable, kept_setting, place_beside


@dataclass(frozen=True)
class Running:
    """How the command line wants a run carried out.

    Raises:
        UsageError: the run directory is taken, or its unfinished work is there unasked or asked for and not there.
    """

    name: str  # of the run directory where `out` does not say
    out: Path | None
    _: KW_ONLY
    workers: int
    threads: int | None
    memory: float | None
    resume: bool
    as_json: bool
    dry_run: bool
    started: float = field(default_factory=time.monotonic)
    arguments: Sequence[str] = field(default_factory=lambda: sys.argv[1:])  # the command line that gives this run

    @classmethod
    def of(cls, name: str, out: Path | None, settings: RunSettings, **more: Any) -> Running:
        """As the settings of a command say."""
        return cls(name, out, **settings.model_dump(include={"workers", "threads", "memory", "resume", "as_json", "dry_run"}), **more)

    def __post_init__(self) -> None:
        check_place(self.out, resume=self.resume)

    def set_processes(self, settings: Any) -> None:
        """Take the threads that were asked for, else those that an earlier session kept, else as many as are free.

        Raises:
            UsageError: a device that is not there, or several workers for an engine that takes one.
        """
        check_device(settings.device)
        if self.workers > 1 and (engine := getattr(settings, "engine", "tmab")) != "tmab":
            raise UsageError(f"{engine} goes on from permutation to permutation and takes one process, got --workers {self.workers}")
        set_threads(self.threads or kept_setting(self.out, "threads"), workers=self.workers)

    def with_batch(self, settings: Any, networks: Sequence[tuple[Classifier, LabelledImages]]) -> Any:
        """The settings with the images of a pass that an earlier session kept, else as many as the memory holds."""
        batch = kept_setting(self.out, "batch") or min(
            (batch_within(self.memory, *network, settings, workers=self.workers) for network in networks), default=settings.batch
        )
        return settings.model_copy(update={"batch": batch}) if isinstance(settings, Settings) else replace(settings, batch=batch)


def run_command(name: str, experiment: Experiment[Any, Any, Any], settings: RunSettings) -> int:
    """Carry out what the command line says; returns the exit code."""
    of_model = f"-{Path(settings.model).stem}" if isinstance(settings, NetworkSettings) else ""
    running = Running.of(f"{name}{of_model}", settings.out, settings)
    options = settings.options()
    running.set_processes(options)
    with training_progress() as progress:
        loading = Loading(progress, not settings.dry_run, device=settings.device, threads=settings.threads, seed=settings.seed)
        task = experiment.load(settings, loading)
    return carry_out(experiment, task, options, running, title=experiment.title(settings, task))


def carry_out(experiment: Experiment[Any, Any, Any], task: Any, settings: Any, running: Running, *, title: str) -> int:
    """Show the plan, or run, write the run directory that then stands, and tell of it; returns the exit code.

    An error or an interrupt on the way carries the command that goes on.
    """
    settings = running.with_batch(settings, list(experiment.networks(task).values()))
    passes = experiment.cost(task, settings)
    notices = experiment.notices(task)
    for notice in notices:
        log.info(f"note: {notice}")
    if running.dry_run:
        show_plan(experiment, task, settings, passes, as_json=running.as_json)
        return 0
    place = running.out or Path("reports") / f"{running.name}-{datetime.now():%Y%m%d-%H%M%S}"
    check_place(place, resume=running.resume)
    arguments = list(running.arguments)
    configuration = experiment.configuration(task, settings)
    store = RunStore(place, configuration, command=resume_command(arguments, place, out_given=running.out is not None))
    earlier = store.all_seconds()
    with store.with_command():
        with Reporter().running() as reporter:
            run = Run.start(settings, store=store, workers=running.workers, progress=reporter)
            run.ledger.planned = sum(passes.values())
            findings = experiment.run(task, run)
        command = f"repairkit {shlex.join(word for word in arguments if word != '--resume')}"
        minutes = (earlier + time.monotonic() - running.started) / 60
        parts = experiment.parts(task, findings, title)
        made = [experiment.result(part.task, settings, part.findings, Origin(part.title, command, minutes, notices)) for part in parts]
        results.write_runs(place, list(zip(parts, made, strict=True)))
    store.remove()
    success = True
    for part, result in zip(parts, made, strict=True):
        folder = place / part.folder
        show(result, folder, experiment.next_steps(part.task, result, folder), as_json=running.as_json)
        success &= experiment.success is None or result.verdict.outcome in experiment.success
    return 0 if success else 1


def show(result: Any, place: Path, next_steps: str, *, as_json: bool) -> None:
    """The result on stdout, what to do next on stderr."""
    if as_json:
        print(result.model_dump_json(indent=1))  # noqa: T201
    else:
        show_result(result)
    log.info(f"report: {place / 'report.html'}")
    log.info(next_steps)


def show_plan(experiment: Experiment[Any, Any, Any], task: Any, settings: Any, passes: dict[str, float], *, as_json: bool) -> None:
    """A plan's cost in image passes and what that means on this machine, on stdout."""
    networks = experiment.networks(task)
    speeds = {name: speed_of(*network, settings) for name, network in networks.items()}
    of_network = {name: sum(n for part, n in passes.items() if part.startswith(f"{name}: " if name else "")) for name in speeds}
    minutes = sum(of_network[name] / speed / 60 for name, speed in speeds.items())
    if as_json:
        speed = speeds.get("", speeds)
        print(json.dumps({"passes": passes, "passes_a_second": speed, "minutes": minutes}))  # noqa: T201
        return
    shown = ", ".join(f"{speed:,.0f}{f' ({name})' if name else ''}" for name, speed in speeds.items())
    width = max(12, *map(len, passes))
    lines = [experiment.heading(task, settings), *(f"{part:{width}s} {number:12,.0f} image passes" for part, number in passes.items())]
    at_speed = f", about {minutes:.0f} minutes at {shown} passes a second" if speeds else ""
    print("\n".join([*lines, f"{'in all':{width}s} {sum(passes.values()):12,.0f} image passes{at_speed}"]))  # noqa: T201


def speed_of(classifier: Classifier, images: LabelledImages, settings: Any) -> float:
    """Image passes a second, by some of the images."""
    some = images.subset(np.arange(min(64, len(images))))
    run = Run.start(settings)
    with run.phase("speed"):
        predict(classifier, some, run)
        started = time.perf_counter()
        predict(classifier, some, run)
    return len(some) / (time.perf_counter() - started)


def batch_within(memory: float | None, classifier: Classifier, images: LabelledImages, settings: Any, *, workers: int) -> int:
    """Images of a pass: those asked for, or as many as each worker's share of the memory holds, with a warning.

    The memory is in GiB, half of what is free by default.
    """
    budget = (free_memory(settings.device) / 2 if memory is None else memory * 2**30) / workers
    image = images.batch(np.array([0])).to(settings.device)
    fit = images_that_fit(classifier.to(settings.device), image, budget=budget)
    if fit < settings.batch:
        shown = f"{budget / 2**30:.2g} GiB of memory {'hold' if fit > 1 else 'holds'}"
        warnings.warn(
            f"passes carry {fit} images and not {settings.batch}, as many as {shown}; --memory sets it", ModelWarning, stacklevel=2
        )
    return min(fit, int(settings.batch))


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
