"""The command that a stored report names is one that the present command line takes."""

import json
import shlex
from pathlib import Path

import pytest

from repairkit.cli.parsing import parse
from repairkit.cli.settings import RecipeRunSettings
from repairkit.experiments import registry

REPORTS = Path(__file__).parents[2] / "reports"
COMMANDS = sorted({json.loads(file.read_text())["reproduction"]["command"] for file in REPORTS.rglob("result.json")})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_of_a_stored_report_is_understood(command):
    program, name, *arguments = shlex.split(command)
    assert program == "repairkit"
    parse(RecipeRunSettings if name == "run" else registry.settings_model(name), arguments)
