"""The command line: one module per command.

Exit codes: 0 repaired (mean recall rose, with an interval above zero) or done, 1 ran but no repair
was worth making, 2 usage, 3 data or model does not fit, 130 interrupted.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

from repairkit import __version__
from repairkit.cli.apply import apply
from repairkit.cli.attribution import attribution
from repairkit.cli.console import say, show_warning
from repairkit.cli.fairness import fairness
from repairkit.cli.report import report
from repairkit.cli.run import run
from repairkit.cli.train import train
from repairkit.errors import RepairkitError

Parameters = ParamSpec("Parameters")


def guarded(command: Callable[Parameters, int | None]) -> Callable[Parameters, None]:
    """A command whose errors are one line on stderr and whose result is its exit code."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except RepairkitError as error:
            say(f"error: {' '.join(str(error).splitlines())}")
            code = error.exit_code
        except BrokenPipeError:
            raise  # whoever read our output has seen enough: click ends quietly
        except OSError as error:
            say(f"error: {error}; check that the path can be read or written, and that the disk has room")
            code = 3
        except KeyboardInterrupt:
            say("interrupted: nothing was written")
            code = 130
        raise typer.Exit(code)

    return wrapped


app = typer.Typer(name="repairkit", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (fairness, apply, train, run, report, attribution):
    app.command()(guarded(command))


@app.callback(invoke_without_command=True)
def top_level(
    context: typer.Context, *, version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False
) -> None:
    """Find the filters that make a trained network unfair, freeze them, and show what it bought."""
    if version:
        print(__version__)  # noqa: T201
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise typer.BadParameter("give a command; repairkit --help lists them")


def main() -> None:
    """Entry point of the command line."""
    warnings.showwarning = show_warning
    app()
