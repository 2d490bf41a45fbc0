"""Calling the command line in this process, and what an error looks like."""

import contextlib
import io
import re

import tiny_faces

from repairkit import cli

QUICK = ["--size", "48", "--budget", "700", "--top-k", "4", "--max-filters", "2", "--max-accuracy-drop", "1", "--threads", "1"]


def call(*arguments):
    """Exit code, stdout and stderr of a command."""
    with contextlib.redirect_stdout(io.StringIO()) as stdout, contextlib.redirect_stderr(io.StringIO()) as stderr:
        code = cli.call([str(argument) for argument in arguments])
    return code, stdout.getvalue(), stderr.getvalue()


def fairness(folder, *more, model=None):
    model = model or tiny_faces.spoilt_weights()
    data = ["--data", folder / "target.csv", "--source-data", folder / "source.csv"]
    return call("fairness", "--model", model, "--compare-model", "none", *data, *QUICK, *more)


def one_error(code, stdout, stderr, *, expected, message):
    """Exactly one line of error that names the thing, and no data."""
    assert code == expected, stderr
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(message, errors[0]), errors[0]
    assert stderr.endswith(errors[0] + "\n")
    assert "Traceback" not in stderr
    assert stdout == ""
