"""The options of every command: what is accepted, what is refused, and what the help shows."""

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call

from repairkit.cli import COMMANDS, settings_model
from repairkit.cli.parsing import RENAMED, RENAMED_VALUES, arguments_of, flag_of, parse
from repairkit.errors import UsageError

MOST_SHOWN = 25
REQUIRED = {
    "recall": ["--class", "3"],
    "apply": ["patch.json", "--weights", "w"],
    "report": ["run"],
    "attribution": ["run"],
    "run": ["x.toml"],
}


def given(command, *more):
    return parse(settings_model(command), [*REQUIRED.get(command, []), *more])


def shown_options(command):
    return [field for field in settings_model(command).model_fields.values() if field.json_schema_extra["shown"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_shows_more_options_than_one_can_read(command):
    assert len(shown_options(command)) <= MOST_SHOWN


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_what_is_marked_as_shown_and_two_examples(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, stdout, stderr = call(command, "--help")
    assert (code, stderr) == (0, "")
    assert stdout.count(f"  repairkit {command}") == 2
    _, everything, _ = call(command, "--help-all")
    for name, field in settings_model(command).model_fields.items():
        flag = f"{flag_of(name, field) or name.upper()} "
        assert (flag in stdout) == field.json_schema_extra["shown"]
        assert flag in everything


@pytest.mark.parametrize("command", COMMANDS)
def test_settings_survive_being_typed(command):
    """The defaults are those of the model, and what is written down for a resumed run reads as the same settings."""
    settings = given(command)
    assert settings.model_fields_set == {name for name in type(settings).model_fields if name in settings.model_fields_set}
    positional = [word for word in REQUIRED.get(command, []) if command in ("apply", "report", "attribution", "run")][:1]
    assert parse(type(settings), [*positional, *arguments_of(settings)]) == settings


@pytest.mark.parametrize("command", COMMANDS)
def test_a_value_of_another_type_is_refused_by_the_name_of_the_option(command):
    for name, field in settings_model(command).model_fields.items():
        if field.annotation in (int, float, int | None, float | None):
            flag = flag_of(name, field)
            with pytest.raises(UsageError, match=flag):
                given(command, flag, "much")


OLD = [
    (command, f"--{old}", f"--{new}")
    for command in COMMANDS
    for old, new in RENAMED.items()
    if f"--{new}".partition(" ")[0].replace("--no-", "--")
    in {flag_of(name, field) for name, field in settings_model(command).model_fields.items()}
]


@pytest.mark.parametrize(("command", "old", "new"), OLD)
def test_an_old_spelling_is_refused_with_the_new_one(command, old, new):
    with pytest.raises(UsageError, match=f"{old} is now spelled {new}"):
        given(command, old, "1")


@pytest.mark.parametrize(("name", "old", "new"), [(name, *pair) for name, values in RENAMED_VALUES.items() for pair in values.items()])
def test_an_old_value_is_refused_with_the_new_one(name, old, new):
    with pytest.raises(UsageError, match=f"is now spelled --{name.replace('_', '-')} {new}"):
        given("fairness", f"--{name.replace('_', '-')}", old)


@pytest.mark.parametrize(
    ("command", "arguments", "flag"),
    [
        ("fairness", "--budget inf", "--budget"),
        ("fairness", "--memory -1", "--memory"),
        ("fairness", "--mean grey --std 1,1,1", "--mean"),
        ("fairness", "--engine magic", "--engine"),
        ("fairness", "--objective best", "--objective"),
        ("fairness", "--score soft", "--score"),
        ("fairness", "--strategy backward", "--strategy"),
        ("fairness", "--freeze-at mid", "--freeze-at"),
        ("fairness", "--precision half", "--precision"),
        ("fairness", "--device tpu", "--device"),
        ("fairness", "--folds 2", "--folds"),
        ("fairness", "--truncation 0.5", "--truncation"),
        ("fairness", "--min-live often", "--min-live"),
        ("fairness", "--min-live selected", "--min-live"),
        ("fairness", "--min-live 1", "--min-live"),
        ("fairness", "--min-live nan", "--min-live"),
        ("fairness", "--min-live 0.5 --engine tmab-paper", "--min-live"),
        ("fairness", "--guarantee 1", "--guarantee"),
        ("fairness", "--guarantee 0.1 --engine monte-carlo", "--guarantee"),
        ("fairness", "--tolerance 0.1", "--tolerance"),
        ("fairness", "--guarantee 0.1 --flip-candidates 39", "--flip-candidates"),
        ("fairness", "--rounds 2 --baselines", "--baselines"),
        ("recall", "--objective balanced --guarantee 0.1", "--objective"),
        ("recall", "--objective balanced --engine tmab-paper", "--objective"),
        ("prune", "--max-accuracy-drop 1", "--max-accuracy-drop"),
        ("prune", "--max-accuracy-drop 101%", "--max-accuracy-drop"),
        ("prune", "--max-accuracy-drop lots", "--max-accuracy-drop"),
        ("adversarial", "--eps big", "--eps"),
        ("adversarial", "--eps 1/0", "--eps"),
        ("adversarial", "--attack-images 10,10", "--attack-images"),
        ("adversarial", "--restarts 2", "--effort"),
        ("train", "--stand-ins folder", "make stand-ins"),
        ("run", "--embedded --variant small", "--variant"),
        ("run", "--embedded --data-root data", "--data-root"),
        ("run", "--all --json", "--json"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(command, arguments, flag):
    with pytest.raises(UsageError, match=flag):
        given(command, *arguments.split())


def test_a_share_is_a_percentage_or_a_number():
    assert given("prune", "--max-accuracy-drop", "5%").max_accuracy_drop == given("prune", "--max-accuracy-drop", "0.05").max_accuracy_drop


def test_a_fraction_and_lists_by_commas():
    settings = given("adversarial", "--eps", "16/255", "--attack-images", "60,60,100", "--subsets", "train,val", "--transfer-model", "a")
    assert (settings.eps, settings.attack_images, settings.subsets) == (16 / 255, (60, 60, 100), ("train", "val"))
    assert settings.transfer_model == ["a"]


@pytest.mark.parametrize("effort", ["quick", "standard", "full"])
def test_efforts_grow(effort):
    work = [given("adversarial", "--effort", name).attack_options().effort.queries for name in ("quick", "standard", "full")]
    assert work == sorted(work)
    assert given("adversarial", "--effort", effort).attack_options().effort.queries in work


def test_help_and_version_are_quick_to_import():
    """Without torch, pandas and matplotlib, which take seconds."""
    code = "import sys; from repairkit import cli; cli.call(['--help']); cli.call(['fairness', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert not {"torch", "pandas", "matplotlib", "sklearn"} & set(done.stdout.split())
