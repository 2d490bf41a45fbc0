"""Lines for the user on stderr; stdout holds data only."""

from __future__ import annotations

import sys
import warnings
from typing import TextIO

from repairkit.errors import RepairkitWarning


def say(text: str) -> None:
    """One message on stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    """Our own warnings as one line; others as Python shows them."""
    if issubclass(category, RepairkitWarning):
        say(f"warning: {message}")
    else:
        say(warnings.formatwarning(message, category, filename, lineno, line).rstrip())
