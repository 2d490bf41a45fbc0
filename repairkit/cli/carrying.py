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

from repairkit.cli.console import Reporter, say, show_result
from repairkit.cli.options import batch_within, check_place, resume_command
from repairkit.data.images import LabelledImages
from repairkit.models.classifier import Classifier
from repairkit.options import Options
from repairkit.report.result import Result
from repairkit.unfinished import Unfinished, kept_setting

Findings = TypeVar("Findings")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Running:
    """How the command line wants a run carried out.

    Attributes:
        started: `time.monotonic()` when the command began.
        name: what the run directory is called where `out` does not say.
        workers, memory, out, resume, as_json, dry_run: the options of these names.
        arguments: the command line that gives this run, by default the one that was given.
    """

    started: float
    name: str
    workers: int
    memory: float | None
    out: Path | None
    _: KW_ONLY
    resume: bool
    as_json: bool
    dry_run: bool
    arguments: Sequence[str] = field(default_factory=lambda: sys.argv[1:])

    def with_batch(self, options: Options, classifier: Classifier, images: LabelledImages) -> Options:
        """The options with the images of a pass that an earlier session kept, else as many as the memory holds."""
        batch = kept_setting(self.out, "batch") or batch_within(self.memory, classifier, images, options, workers=self.workers)
        return replace(options, batch=batch)

    def carry_out(
        self,
        configuration: Mapping[str, object],
        *,
        find: Callable[[Reporter, Unfinished], Findings],
        summarise: Callable[..., Found],
        write: Callable[[Path, Findings, Found], None],
    ) -> tuple[Found, Path]:
        """The result and the run directory that stands.

        `summarise` is called with the findings, the `command` that gives them again and the `minutes` of all sessions.
        An error or an interrupt on the way carries the command that goes on.
        """
        place = self.out or Path("reports") / f"{self.name}-{datetime.now():%Y%m%d-%H%M%S}"
        check_place(place, resume=self.resume)
        arguments = list(self.arguments)
        unfinished = Unfinished(place, configuration, command=resume_command(arguments, place, out_given=self.out is not None))
        earlier = sum(unfinished.seconds().values())
        with unfinished.told():
            with Reporter().running() as reporter:
                findings = find(reporter, unfinished)
            result = summarise(
                findings,
                command=f"repairkit {shlex.join(each for each in arguments if each != '--resume')}",
                minutes=(earlier + time.monotonic() - self.started) / 60,
            )
            write(place, findings, result)
        unfinished.remove()
        return result, place

    def tell(self, result: Result, place: Path, *, weights: Path, repaired: bool, otherwise: str) -> None:
        """The result on stdout, what to do next on stderr: with repaired weights, or otherwise."""
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
