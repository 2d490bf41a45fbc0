"""The command line as a whole: help, usage, and what it prints."""

import warnings

import pytest
from command_line import call
from report_example import example_result
from results import changed

from repairkit import __version__
from repairkit.cli.console import show_result
from repairkit.cli.messages import log, show_warning, shown_messages
from repairkit.errors import DataWarning


def test_table_shows_every_share_whole(capsys):
    result = example_result()
    tricky = {"lighter men": "[b]lighter[/b] men"}
    result = changed(
        result,
        {
            "groups": [tricky.get(group, group) for group in result.groups],
            "shares": [share.model_copy(update={"group": tricky.get(share.group, share.group)}) for share in result.shares],
        },
    )
    show_result(result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == result.verdict.headline
    for column in result.columns:
        assert any(column.label in line for line in lines)
    for group in result.groups:
        (line,) = [line for line in lines if line.strip().startswith(group)]
        for column in result.columns:
            share = result.share(column.key, "recall", group)
            assert f"{100 * share.value:.1f}% ({100 * share.low:.1f} to {100 * share.high:.1f})" in line


def test_warnings_are_one_line(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", show_warning)
    with warnings.catch_warnings(), shown_messages():
        warnings.simplefilter("always")
        warnings.showwarning = show_warning
        warnings.warn("3 files were skipped", DataWarning, stacklevel=1)
    assert capsys.readouterr() == ("", "warning: 3 files were skipped\n")


def test_messages_are_shown_only_by_the_command_line(capsys, monkeypatch):
    """Whoever uses the library decides what the logger does; a message is neither folded nor read as markup."""
    monkeypatch.setenv("COLUMNS", "20")
    text = "[bold]a message that is longer than a line[/bold] " * 3
    with shown_messages():
        log.info(text)
        log.error("no such file")
    log.info("unseen")
    assert capsys.readouterr() == ("", f"{text}\nerror: no such file\n")


def test_version_and_help():
    assert call("--version") == (0, f"{__version__}\n", "")
    code, stdout, _ = call("--help")
    assert code == 0
    for name in ("fairness", "apply", "train", "run", "report"):
        assert name in stdout
        assert call(name, "--help")[0] == 0


BEYOND_64_BITS = str(2**63)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["fairness", "--no-such-option"],
        ["fairness", "--budget", "much"],
        ["apply"],
        ["fairness", "--seed", BEYOND_64_BITS],
        ["train", "--out", "x.safetensors", "--seed", BEYOND_64_BITS],
        ["run", "x.toml", "--seed", BEYOND_64_BITS],
        ["run", "x.toml", "--training-seed", BEYOND_64_BITS],
    ],
)
def test_usage_is_exit_code_2(arguments):
    code, _, stderr = call(*arguments)
    assert code == 2
    assert "Traceback" not in stderr
