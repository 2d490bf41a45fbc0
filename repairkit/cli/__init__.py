"""The command line. A command's settings and code are imported when it is called, so that help is quick.

Exit codes: 0 repaired, critical filters found, pruned, or done; 1 ran, but no repair was worth making or the attack does not fool the network;
2 usage; 3 data or model does not fit, or a file cannot be read or written; 70 a mistake in repairkit itself; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from repairkit.errors import UsageError

ABOUT = "Find the filters that make a trained network unfair, freeze them, and show what it bought."


class Command(NamedTuple):
    """Where a command's settings model and its function are, as MODULE:NAME, and its line in the list of commands."""

    settings: str
    function: str
    line: str


def _kind(folder: str, settings: str, function: str, line: str) -> Command:
    base = f"repairkit.experiments.{folder}"
    return Command(f"{base}.settings:{settings}", f"{base}.command:{function}", line)


COMMANDS = {
    "fairness": _kind("fairness", "FairnessSettings", "fairness", "Repair what a network does to subgroups."),
    "adversarial": _kind("adversarial", "AdversarialSettings", "adversarial", "Freeze the filters that let an attack through."),
    "recall": _kind("critical", "RecallSettings", "recall", "Find the filters that one class depends on."),
    "accuracy": _kind("critical", "AccuracySettings", "accuracy", "Find the filters that accuracy depends on."),
    "dropout": _kind("dropout", "DropoutSettings", "dropout", "Compare a network with one trained with filter dropout."),
    "prune": _kind("pruning", "PruningSettings", "prune", "Make a network smaller by the filters that accuracy can do without."),
    "apply": Command("repairkit.cli.settings:ApplySettings", "repairkit.cli.apply:apply", "Freeze a patch's filters in weights."),
    "train": Command("repairkit.cli.settings:TrainSettings", "repairkit.cli.train:train", "Train a classifier."),
    "run": Command("repairkit.cli.settings:RecipeRunSettings", "repairkit.cli.run:run", "Run an experiment from a recipe."),
    "recipes": Command("repairkit.cli.settings:RecipesSettings", "repairkit.cli.recipes:recipes", "List the recipes."),
    "report": Command("repairkit.cli.settings:ReportSettings", "repairkit.cli.report:report", "Write the report of a run again."),
    "attribution": Command(
        "repairkit.cli.settings:ShowAttributionSettings", "repairkit.cli.attribution:attribution", "Show the filters that a run found."
    ),
}


def main() -> None:
    """Entry point of the command line."""
    from repairkit.cli.messages import show_warning

    warnings.showwarning = show_warning
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be asked to end is like Ctrl-C
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Carry out a command; returns its exit code. Errors are one line on stderr."""
    if not arguments or arguments[0] in ("--help", "-h"):
        show_commands()
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from repairkit import __version__

        print(__version__)  # noqa: T201
        return 0
    from repairkit.cli.exit_codes import exit_code_of

    name, *rest = arguments
    try:
        return exit_code_of(lambda: _carry_out(name, rest))
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def settings_model(name: str) -> Any:
    """The settings model of a command.

    Raises:
        UsageError: there is no such command.
    """
    if name not in COMMANDS:
        raise UsageError(f"{name} is no command; there are {', '.join(COMMANDS)}")
    return _named(COMMANDS[name].settings)


def show_commands() -> None:
    """The help of `repairkit` on stdout, without any import that takes long."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.line}" for name, command in COMMANDS.items()]
    more = ["repairkit COMMAND --help shows the options of a command.", "repairkit --version prints the version."]
    print("\n".join(["Usage: repairkit COMMAND [OPTIONS]", "", ABOUT, "", "Commands:", *lines, "", *more]))  # noqa: T201


def _carry_out(name: str, arguments: list[str]) -> int:
    from repairkit.cli.parsing import HELP_ALL, parse, show_help

    model = settings_model(name)
    if asked := {"--help", "-h", HELP_ALL} & set(arguments):
        show_help(name, model, hidden=HELP_ALL in asked)
        return 0
    settings = parse(model, arguments)
    return _named(COMMANDS[name].function)(settings) or 0


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
