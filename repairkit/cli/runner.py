"""Carrying a planned run out: its work is kept beside the run directory until that stands."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from repairkit.cli.console import Reporter, show_result
from repairkit.cli.messages import say
from repairkit.cli.options import batch_within, check_place, check_workers, resume_command, set_threads
from repairkit.data.images import LabelledImages
from repairkit.experiments.options import Options
from repairkit.network.classifier import Classifier
from repairkit.result import Result
from repairkit.run.context import Run
from repairkit.run.settings import RunSettings
from repairkit.run.store import RunStore, kept_setting

Findings = TypeVar("Findings")
Found = TypeVar("Found")
NO_REPAIR = "no repair was worth making: keep the original weights"


@dataclass(frozen=True)
class Running:
    """How the command line wants a run carried out.

    Attributes:
        name: what the run directory is called where `out` does not say.
        out, workers, threads, memory, resume, as_json, dry_run: the options of these names.
        started: `time.monotonic()` when the command began.
        arguments: the command line that gives this run, by default the one that was given.

    Raises:
        UsageError: the run directory is taken, or its unfinished work is there unasked or asked for and not there.
    """

    name: str
    out: Path | None
    _: KW_ONLY
    workers: int
    threads: int | None
    memory: float | None
    resume: bool
    as_json: bool
    dry_run: bool
    started: float = field(default_factory=time.monotonic)
    arguments: Sequence[str] = field(default_factory=lambda: sys.argv[1:])

    @classmethod
    def of(cls, command: str, model: str, settings: RunSettings) -> Running:
        """As the settings of a command say."""
        name = f"{command}-{Path(model).stem}"
        return cls(name, **settings.model_dump(include={"out", "workers", "threads", "memory", "resume", "as_json", "dry_run"}))

    def __post_init__(self) -> None:
        check_place(self.out, resume=self.resume)

    def set_processes(self, options: Options) -> None:
        """Take the threads that were asked for, else those that an earlier session kept, else as many as are free.

        Raises:
            UsageError: several workers for an engine that takes one.
        """
        check_workers(self.workers, options)
        set_threads(self.threads or kept_setting(self.out, "threads"), workers=self.workers)

    def with_batch(self, options: Options, classifier: Classifier, images: LabelledImages) -> Options:
        """The options with the images of a pass that an earlier session kept, else as many as the memory holds."""
        batch = kept_setting(self.out, "batch") or batch_within(self.memory, classifier, images, options, workers=self.workers)
        return replace(options, batch=batch)

    def carry_out(
        self,
        *,
        notices: list[str],
        show_plan: Callable[[], None],
        configuration: Callable[[], Mapping[str, object]],
        find: Callable[[Run], Findings],
        settings: Options,
        summarise: Callable[..., Found],
        write: Callable[[Path, Findings, Found], None],
        tell: Callable[[Found, Path], int],
    ) -> int:
        """Show the plan and stop, or find, write the run directory that then stands, and tell of it; returns the exit code.

        An error or an interrupt on the way carries the command that goes on.

        Args:
            notices: what a reader must know before any number.
            show_plan: what a dry run puts on stdout.
            configuration: everything that decides the bits of the run.
            find: called with the run.
            settings: of the run.
            summarise: called with the findings, the `notices`, the `command` that gives them again and the `minutes` of all sessions.
            write: the run directory, from the findings and the result.
            tell: of the result and the run directory, as `tell` does; returns the exit code.
        """
        for notice in notices:
            say(f"note: {notice}")
        if self.dry_run:
            show_plan()
            return 0
        place = self.out or Path("reports") / f"{self.name}-{datetime.now():%Y%m%d-%H%M%S}"
        check_place(place, resume=self.resume)
        arguments = list(self.arguments)
        store = RunStore(place, configuration(), command=resume_command(arguments, place, out_given=self.out is not None))
        earlier = store.all_seconds()
        with store.with_command():
            with Reporter().running() as reporter:
                findings = find(Run.start(settings, store=store, workers=self.workers, progress=reporter))
            result = summarise(
                findings,
                notices=notices,
                command=f"repairkit {shlex.join(each for each in arguments if each != '--resume')}",
                minutes=(earlier + time.monotonic() - self.started) / 60,
            )
            write(place, findings, result)
        store.remove()
        return tell(result, place)

    def tell(
        self, result: Result, place: Path, *, weights: Path, repaired: bool = False, otherwise: str = NO_REPAIR, success: bool = True
    ) -> int:
        """The result on stdout, what to do next on stderr: with repaired weights, or otherwise. Returns the exit code."""
        if self.as_json:
            print(result.model_dump_json(indent=1))  # noqa: T201
        else:
            show_result(result)
        say(f"report: {place / 'report.html'}")
        say(
            f"repaired weights: {place / 'repaired.safetensors'}; to repair a copy elsewhere: "
            f"repairkit apply {place / 'patch.json'} --weights {weights}"
            if repaired
            else otherwise
        )
        return 0 if success else 1
