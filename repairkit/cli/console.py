"""What the command line says: data on stdout, talk on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from repairkit.cli.messages import log, stderr_console
from repairkit.experiments.results import kind_of
from repairkit.report import document
from repairkit.result import Result

FILE_WIDTH = 240
"""Columns where the output is no terminal and nothing needs to be folded."""
QUIET_SECONDS = 15.0
"""Off a terminal, a line of progress comes at most this often."""


class Reporter:
    """Progress with the time that is left, as far as the speed so far tells."""

    def __init__(self, unit: str = "image passes") -> None:
        self._unit = unit
        self._started = time.monotonic()
        self._last_line = -QUIET_SECONDS
        self._made = 0.0
        self._bar: Progress | None = None

    @contextmanager
    def running(self) -> Iterator[Reporter]:
        """Draw a bar on a terminal, print lines elsewhere."""
        console = stderr_console()
        if not console.is_terminal:
            yield self
            return
        with Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"), console=console, transient=True
        ) as bar:
            self._bar, self._task = bar, bar.add_task("starting", total=1.0, left="")
            yield self

    def __call__(self, what: str, made: float, planned: float) -> None:
        """Tell of passes made, of those planned in all."""
        if made < self._made / 2:  # another stage has begun
            self._started, self._last_line = time.monotonic(), -QUIET_SECONDS
        self._made = made
        elapsed = time.monotonic() - self._started
        left = f"about {_clock(elapsed * (planned - made) / made)} left" if made > 0 and elapsed > 5 else "measuring the speed"
        if self._bar is not None:
            self._bar.update(self._task, description=what, completed=made, total=planned, left=left)
        elif elapsed - self._last_line >= QUIET_SECONDS:
            log.info(f"{what}: {made:,.0f} of about {planned:,.0f} {self._unit}, {_clock(elapsed)} gone, {left}")
            self._last_line = elapsed


def show_result(result: Result) -> None:
    """The verdict, what got worse, and the kind's table of what was measured, on stdout."""
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH, markup=False, highlight=False)
    console.print(result.verdict.headline, soft_wrap=True)
    for sentence in result.verdict.worse:
        console.print(f"- {sentence}", soft_wrap=True)
    content = kind_of(result).summary(result)
    console.print(f"{content.caption}:")
    console.print(plain_table(content))


def plain_table(content: document.Table) -> Table:
    """A table of a report as text."""
    table = Table(show_edge=False)
    for head, kind in zip(content.heads, content.kinds, strict=True):
        table.add_column(head, justify="right" if kind == "number" else "left", overflow="fold")
    for row in (row for body in content.bodies for row in body):
        table.add_row(*(Text(f"{cell.text} ({cell.detail})" if cell.detail else cell.text) for cell in row))
    return table


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> _clock(75), _clock(3700)
        ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
