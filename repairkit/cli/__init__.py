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
from typing import TYPE_CHECKING, NamedTuple

from repairkit.errors import UsageError
from repairkit.experiments import registry

if TYPE_CHECKING:
    from repairkit.run.settings import RunSettings, Settings

ABOUT = "Find the filters that make a trained network unfair, freeze them, and show what it bought."


class Command(NamedTuple):
    """A command that is no experiment: where its options and its function are, as MODULE:NAME, and its line in the list of commands."""

    settings: str
    function: str
    line: str


COMMANDS = {
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
    from repairkit.cli.messages import shown_messages

    name, *rest = arguments
    try:
        with shown_messages():
            return exit_code_of(lambda: _carry_out(name, rest))
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def lines() -> dict[str, str]:
    """The commands with their lines in the list: experiments first."""
    experiments = {name: entry.line for name, entry in registry.EXPERIMENTS.items() if entry.settings}
    return experiments | {name: command.line for name, command in COMMANDS.items()}


def settings_model(name: str) -> type[Settings]:
    """The settings model of a command.

    Raises:
        UsageError: there is no such command.
    """
    if name not in lines():
        raise UsageError(f"{name} is no command; there are {', '.join(lines())}")
    if name not in COMMANDS:
        return registry.settings_model(name)
    model: type[Settings] = registry.resolve(COMMANDS[name].settings)
    return model


def show_commands() -> None:
    """The help of `repairkit` on stdout, without any import that takes long."""
    width = max(map(len, lines()))
    listed = [f"  {name:{width}}  {line}" for name, line in lines().items()]
    more = ["repairkit COMMAND --help shows the options of a command.", "repairkit --version prints the version."]
    print("\n".join(["Usage: repairkit COMMAND [OPTIONS]", "", ABOUT, "", "Commands:", *listed, "", *more]))  # noqa: T201


def _carry_out(name: str, arguments: list[str]) -> int:
    from repairkit.cli.parsing import HELP_ALL, parse, show_help

    model = settings_model(name)
    if asked := {"--help", "-h", HELP_ALL} & set(arguments):
        show_help(name, model, hidden=HELP_ALL in asked)
        return 0
    settings = parse(model, arguments)
    if name in COMMANDS:
        return registry.resolve(COMMANDS[name].function)(settings) or 0
    from repairkit.cli.runner import run_command

    given: RunSettings = settings  # type: ignore[assignment]
    return run_command(name, registry.experiment(name), given)
