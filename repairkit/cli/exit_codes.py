"""How a command ends: its exit code, and what it says of an error."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import NamedTuple

from repairkit.cli.messages import log
from repairkit.errors import RepairkitError

OUR_MISTAKE = 70
"""Exit code of an error that nobody foresaw (EX_SOFTWARE of sysexits.h); Python's own, 1, means here that no repair was worth making."""


class Failure(NamedTuple):
    """What an error comes to: the exit code and why, in a line."""

    code: int
    reason: str


def exit_code_of(command: Callable[[], int]) -> int:
    """The exit code of a command; an error is one line on stderr.

    Raises:
        BrokenPipeError: whoever read our output has seen enough.
    """
    try:
        return command()
    except Exception as error:  # noqa: BLE001 - whatever it is, its exit code must not be 1
        return told(error).code
    except KeyboardInterrupt as interrupt:
        notes = notes_of(interrupt)
        log.info("\n".join(["interrupted" if notes else "interrupted: nothing was written", *notes]))
        return 130


def told(error: Exception) -> Failure:
    """Say on stderr why a command failed and what was added to the error on its way; the traceback first where nobody foresaw it.

    Raises:
        BrokenPipeError: that is the error: whoever read our output has seen enough.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    if isinstance(error, RepairkitError):
        failure = Failure(error.exit_code, " ".join(str(error).splitlines()))
        shown = failure.reason
    elif isinstance(error, OSError):
        failure = Failure(3, f"{error}; check that the path can be read or written, and that the disk has room")
        shown = failure.reason
    else:
        log.critical("".join(traceback.format_exception(error)).rstrip())
        kind = type(error).__name__
        failure = Failure(OUR_MISTAKE, f"{kind} ({' '.join(str(error).splitlines())}), a mistake in repairkit")
        shown = f"{kind}, a mistake in repairkit; please report it with the lines above"
    log.error("\n".join([shown, *notes_of(error)]))
    return failure


def notes_of(error: BaseException) -> list[str]:
    """What was added to an error on its way, such as how to go on."""
    return getattr(error, "__notes__", [])
