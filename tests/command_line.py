"""Calling the command line in this process, and what an error looks like."""

import re

import tiny_faces
from typer.testing import CliRunner

from repairkit.cli import app

QUICK = ["--size", "48", "--budget", "700", "--top", "4", "--max-filters", "2", "--max-clean-drop", "1", "--threads", "1"]


def call(*arguments):
    """Exit code, stdout and stderr of a command; anything but a clean exit is a failure of the test."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def fairness(folder, *more, model=None):
    model = model or tiny_faces.spoilt_weights()
    data = ["--data", folder / "target.csv", "--source-data", folder / "source.csv"]
    return call("fairness", "--model", model, "--dropout-model", "none", *data, *QUICK, *more)


def one_error(code, stdout, stderr, *, expected, message):
    """Exactly one line of error that names the thing, and no data."""
    assert code == expected, stderr
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(message, errors[0]), errors[0]
    assert stderr.endswith(errors[0] + "\n")
    assert "Traceback" not in stderr
    assert stdout == ""
