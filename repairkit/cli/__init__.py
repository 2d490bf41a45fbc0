"""The command line: one module per command.

Exit codes: 0 repaired (mean recall, or recall of the class, rose with an interval above zero; stored adversarial images reach their target less
often, with an interval below zero), critical filters found, pruned, or done; 1 ran but no repair was worth making, or the attack does not fool the
network; 2 usage; 3 data or model does not fit, or a file cannot be read or written; 70 a mistake in repairkit itself; 130 interrupted.
"""

from __future__ import annotations

import signal
import warnings
from typing import Annotated

import typer

from repairkit import __version__
from repairkit.cli.apply import apply
from repairkit.cli.attribution import attribution
from repairkit.cli.console import show_warning
from repairkit.cli.exit_codes import guarded
from repairkit.cli.recipes import recipes
from repairkit.cli.report import report
from repairkit.cli.run import run
from repairkit.cli.train import train
from repairkit.experiments.adversarial.command import adversarial
from repairkit.experiments.critical.command import accuracy, recall
from repairkit.experiments.dropout.command import dropout
from repairkit.experiments.fairness.command import fairness
from repairkit.experiments.pruning.command import prune

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
