"""`--baselines` on the commands that have it and on recipes."""

import importlib
import json
from functools import partial

import pytest
import tiny_faces
from command_line import QUICK, call, one_error
from quick_attack import QUICK as ATTACK
from quick_attack import little_effort

from repairkit.baselines.compare import AS_DEAR, AS_PUBLISHED
from repairkit.experiments import results as kinds
from repairkit.experiments.fairness.recipe import FairnessRecipe
from repairkit.experiments.pruning import run as pruning
from repairkit.experiments.pruning.footprint import paired_timings

NETWORK = ["--model", tiny_faces.spoilt_weights()]
CLASSES = ["--size", "48", "--budget", "700", "--top-k", "2", "--threads", "1"]
FEW = ("random", "weight norm")
RECIPE = """
command = "{command}"
title = "A recipe"
[options]
budget = 700
top = 2
{options}
[embedded]
model = "{model}"
size = 48
{more}
"""


def arguments(command, faces, folders):
    """What makes a quick run of a command."""
    data = ["--data", faces / "target.csv", "--source-data", faces / "source.csv"]
    return {
        "fairness": ["fairness", *NETWORK, "--compare-model", "none", *data, *QUICK, "--candidates", "6"],
        "adversarial": ["adversarial", *NETWORK, "--data-root", folders, *ATTACK],
        "recall": ["recall", *NETWORK, "--class", "male", "--max-other-class-drop", "1", "--data-root", folders, *CLASSES],
        "accuracy": ["accuracy", *NETWORK, "--data-root", folders, *CLASSES],
        "prune": ["prune", *NETWORK, "--max-accuracy-drop", "20%", "--data-root", folders, *CLASSES],
        "dropout": ["dropout", *NETWORK, "--compare-model", tiny_faces.DROPOUT_STAND_IN, "--data-root", folders, *CLASSES],
    }[command]


pytestmark = pytest.mark.usefixtures(little_effort.__name__)


@pytest.fixture
def few(monkeypatch):
    """Baselines that cost next to nothing in place of all."""
    monkeypatch.setattr(FairnessRecipe, "baselines", (*FEW, "fairprune"))
    monkeypatch.setattr(pruning, "paired_timings", partial(paired_timings, pairs=9, seconds=0.0))
    monkeypatch.setattr("repairkit.baselines.compare.suited", lambda fairness: FEW + (("fairprune",) if fairness else ()))


@pytest.mark.parametrize("command", ["fairness", "adversarial", "recall", "prune"])
def test_a_run_shows_its_baselines(faces, folders, tmp_path, few, command):
    out = tmp_path / "run"
    code, stdout, stderr = call(*arguments(command, faces, folders), "--baselines", "--json", "--out", out)
    assert code in (0, 1), stderr
    result = kinds.read(out / "result.json")
    expected = ["Shapley values", *FEW, *(["fairprune"] if command == "fairness" else [])]
    assert [each.name for each in result.comparison.baselines] == expected
    assert not any(each.why_not for each in result.comparison.baselines)
    assert [each["name"] for comparison in json.loads(stdout)["comparisons"].values() for each in comparison["baselines"]] == expected
    assert all(bool(each.selections) == (command not in ("recall", "prune")) for each in result.comparison.baselines)
    assert "weight norm" in (out / "report.md").read_text()
    assert result.reproduction.settings["compare"].startswith("('random', 'weight norm'")
    assert any(cost.part == "baselines" for cost in result.costs)
    if command == "prune":
        assert [each.name for each in result.extra.contest.orders] == expected


def test_accuracy_is_compared_with_all_that_suit(faces, folders, tmp_path):
    out = tmp_path / "run"
    code, stdout, _ = call(
        *arguments("accuracy", faces, folders), "--max-per-class", "26", "--min-live", "0.97", "--baselines", "--out", out
    )
    result = kinds.read(out / "result.json")
    assert code in (0, 1)
    assert stdout.startswith(result.verdict.headline)
    reasons = {each.name: each.why_not for each in result.comparison.baselines}
    assert list(reasons) == [
        "Shapley values", "random", "weight norm", "response norm", "mean activation", "leave-one-out", "taylor", AS_PUBLISHED, AS_DEAR,
    ]  # fmt: skip
    assert "image passes for one image, got a budget of" in reasons["leave-one-out"]  # which flips all 2,976 filters
    assert not any(reason for name, reason in reasons.items() if name != "leave-one-out")


def test_both_networks_of_filter_dropout_show_their_baselines(faces, folders, tmp_path, few):
    out = tmp_path / "run"
    code, stdout, stderr = call(*arguments("dropout", faces, folders), "--baselines", "--json", "--out", out)
    assert code == 0, stderr
    result = kinds.read(out / "result.json")
    expected = ["Shapley values", *FEW]
    assert (
        [row["name"] for row in json.loads(stdout)["extra"]["rankings"]["rows"]]
        == [row.name for row in result.extra.rankings.rows]
        == expected
    )
    assert {column: [each.name for each in found.baselines] for column, found in result.comparisons.items()} == {
        "original": expected,
        "dropout": expected,
    }
    assert {file.stem for file in (out / "figures").iterdir()} > {"baselines-original", "baselines-dropout-trained"}


@pytest.mark.parametrize("command", ["fairness", "adversarial", "recall", "accuracy", "dropout", "prune"])
def test_the_plan_counts_them(faces, folders, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    plain, compared = (
        json.loads(call(*arguments(command, faces, folders), *more, "--dry-run", "--json")[1])["passes"] for more in ([], ["--baselines"])
    )
    assert compared.pop("baselines") > 700
    assert compared == plain


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        ("accuracy", '["lime"]', "options.compare: lime does not suit this command; there are random, weight norm, "),
        ("accuracy", '"random"', "options.compare: "),
        ("dropout", '["fairprune"]', "options.compare: fairprune does not suit this command; there are random, weight norm, "),
    ],
)
def test_a_recipe_with_no_such_baseline_is_refused_before_any_work(tmp_path, command, given, message):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(command=command, options=f"compare = {given}", model="none.safetensors", more=""))
    one_error(*call("run", recipe, "--embedded"), expected=2, message=message)
    assert list(tmp_path.iterdir()) == [recipe]


@pytest.mark.parametrize(
    ("options", "flag", "expected"), [('compare = ["weight norm"]', [], ["weight norm"]), ("", ["--baselines"], list(FEW))]
)
def test_a_recipe_is_compared(faces, tmp_path, few, options, flag, expected):
    recipe = tmp_path / "tiny.toml"
    data = f'target.name = "{faces}/target.csv"\nsource.name = "{faces}/source.csv"'
    more = f"{options}\nmax_clean_drop = 1\ncandidates = 4\nmax_filters = 1\ncurve = [1]"
    recipe.write_text(RECIPE.format(command="fairness", options=more, model=tiny_faces.spoilt_weights(), more=data))
    code, _, stderr = call("run", recipe, "--embedded", "--threads", "1", *flag, "--out", tmp_path / "run")
    assert code in (0, 1), stderr
    result = kinds.read(tmp_path / "run" / "result.json")
    assert [each.name for each in result.comparison.baselines][1:] == [*expected, *(["fairprune"] if flag else [])]


def test_a_recipe_that_has_nothing_to_compare_says_so_and_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("repairkit.experiments.truncation.experiment.load_subject", lambda *_: None)
    run = importlib.import_module("repairkit.cli.run")
    monkeypatch.setattr(run, "carry_out", lambda _, _task, options, *_rest, **__: 1 if options.compare else 0)
    recipe = tmp_path / "dead.toml"
    recipe.write_text('command = "truncation"\ntitle = "A network"\n[embedded]\nnetworks = [{name = "one", model = "resnet18"}]\n')
    code, _, stderr = call("run", recipe, "--embedded", "--baselines", "--threads", "1")
    assert code == 0
    assert "note: recipes of truncation are not compared with baselines" in stderr
