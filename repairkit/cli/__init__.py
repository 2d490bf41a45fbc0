"""The command line: one module per command.

Exit codes: 0 repaired (mean recall, or recall of the class, rose with an interval above zero), pruned or done, 1 ran but no repair
was worth making, 2 usage, 3 data or model does not fit, 70 a mistake in repairkit itself, 130 interrupted.
"""

from __future__ import annotations

import functools
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

from repairkit import __version__
from repairkit.cli.adversarial import adversarial
from repairkit.cli.apply import apply
from repairkit.cli.attribution import attribution
from repairkit.cli.console import say, show_warning
from repairkit.cli.critical import accuracy, recall
from repairkit.cli.dropout import dropout
from repairkit.cli.fairness import fairness
from repairkit.cli.prune import prune
from repairkit.cli.recipes import recipes
from repairkit.cli.report import report
from repairkit.cli.run import run
from repairkit.cli.train import train
from repairkit.errors import RepairkitError

Parameters = ParamSpec("Parameters")
OUR_MISTAKE = 70
"""Exit code of an error that nobody foresaw (EX_SOFTWARE of sysexits.h); Python's own, 1, means here that no repair was worth making."""


def guarded(command: Callable[Parameters, int | None]) -> Callable[Parameters, None]:
    """A command whose errors are one line on stderr and whose result is its exit code."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except RepairkitError as error:
            code = ended(error, f"error: {' '.join(str(error).splitlines())}", error.exit_code)
        except BrokenPipeError:
            raise  # whoever read our output has seen enough: click ends quietly
        except OSError as error:
            code = ended(error, f"error: {error}; check that the path can be read or written, and that the disk has room", 3)
        except KeyboardInterrupt as interrupt:
            code = ended(interrupt, "interrupted" if notes_of(interrupt) else "interrupted: nothing was written", 130)
        except Exception as error:  # noqa: BLE001 - whatever it is, its exit code must not be 1
            say("".join(traceback.format_exception(error)).rstrip())
            code = ended(
                error, f"error: {type(error).__name__}, a mistake in repairkit; please report it with the lines above", OUR_MISTAKE
            )
        raise typer.Exit(code)

    return wrapped


def notes_of(error: BaseException) -> list[str]:
    """What was added to an error on its way, such as how to go on."""
    return getattr(error, "__notes__", [])


def ended(error: BaseException, text: str, code: int) -> int:
    """Say why a command ended and what was added to that, a line each; returns the code."""
    say("\n".join([text, *notes_of(error)]))
    return code


app = typer.Typer(name="repairkit", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
for command in (fairness, adversarial, recall, accuracy, dropout, prune, apply, train, run, recipes, report, attribution):
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be asked to end is like Ctrl-C
    app()
