"""Messages for the user on stderr, through the logger `repairkit`; stdout holds data only."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from repairkit.errors import RepairkitWarning

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger("repairkit")
PREFIXES = {logging.WARNING: "warning: ", logging.ERROR: "error: "}
STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red"}


class StderrHandler(logging.Handler):
    """One message as text on stderr, in colour on a terminal unless NO_COLOR is set."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message, above a progress bar if there is one."""
        from rich.text import Text

        prefix = PREFIXES.get(record.levelno, ""), STYLES.get(record.levelno, "")
        stderr_console().print(Text.assemble(prefix, record.getMessage()), soft_wrap=True)


@functools.cache
def stderr_console() -> Console:
    """The one console of stderr: messages and progress bars share it, so that a message does not break a bar."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def shown_messages() -> Iterator[None]:
    """Show what the logger `repairkit` says from INFO up, and nothing of it afterwards."""
    handler, level = StderrHandler(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    """Our own warnings as one line; others as Python shows them."""
    if issubclass(category, RepairkitWarning):
        log.warning(message)
    else:
        log.info(warnings.formatwarning(message, category, filename, lineno, line).rstrip())
