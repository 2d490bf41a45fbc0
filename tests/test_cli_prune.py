"""`repairkit prune`: what it leaves behind, what it refuses, and its exit codes."""

import json
from functools import partial

import pytest
import tiny_faces
from command_line import call, one_error

from repairkit import load_pruned
from repairkit.experiments.pruning import run as pruning
from repairkit.experiments.pruning.footprint import paired_timings, parameters
from repairkit.experiments.pruning.result import PruningResult
from repairkit.models import zoo

QUICK = ["--size", "48", "--budget", "700", "--top-k", "2", "--threads", "1", "--max-accuracy-drop", "20%"]


@pytest.fixture(autouse=True)
def few_timings(monkeypatch):
    monkeypatch.setattr(pruning, "paired_timings", partial(paired_timings, pairs=9, seconds=0.0))


def prune(folder, *more):
    return call("prune", "--model", tiny_faces.spoilt_weights(), "--data-root", folder, *QUICK, *more)


def test_a_smaller_network_is_left_behind_and_can_be_loaded(folders, tmp_path):
    out = tmp_path / "run"
    code, stdout, stderr = prune(folders, "--json", "--out", out)
    result = PruningResult.read(out / "result.json")
    assert PruningResult.model_validate_json(stdout) == result
    assert (code, result.verdict.outcome) == (0, "pruned")
    assert result.extra.max_drop == 0.2
    assert 0 < result.extra.removed <= result.extra.chosen == len(json.loads((out / "patch.json").read_text())["culprits"])
    assert sum(each.removed for each in result.extra.layers) == result.extra.removed
    assert sum(each.filters for each in result.extra.kept) == result.extra.chosen - result.extra.removed
    assert f"pruned weights: {out / 'pruned.safetensors'}" in stderr
    assert f"repairkit apply {out / 'patch.json'}" in stderr
    network = load_pruned(out).network
    assert parameters(network) == result.extra.footprints[-1].parameters < result.extra.footprints[0].parameters
    assert {entry.name for entry in out.parent.iterdir()} == {"run"}
    weights = tmp_path / "frozen.safetensors"
    assert call("apply", out / "patch.json", "--weights", tiny_faces.spoilt_weights(), "--out", weights)[0] == 0
    assert parameters(zoo.load(weights).classifier.network) == result.extra.footprints[0].parameters
    assert call("report", out)[0] == call("attribution", out)[0] == 0


def test_dry_run_prints_the_plan_and_writes_nothing(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, stdout, _ = prune(folders, "--dry-run", "--json")
    planned = json.loads(stdout)["passes"]
    assert (code, planned["attribution"], set(planned)) == (0, 700, {"calibration", "attribution", "choosing", "evaluation", "control"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        (["--max-accuracy-drop", "1%"], 3, "images that choose cannot show that accuracy falls by 1 point at most, 230 or more can"),
        (["--budget", "10"], 2, "the budget of 10 image passes is too small"),
        (["--subsets", "train,val"], 3, "expected a folder at .*train"),
    ],
)
def test_arguments_that_cannot_work(folders, tmp_path, arguments, expected, message):
    one_error(*prune(folders, "--out", tmp_path / "run", *arguments), expected=expected, message=message)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_torch_pruning_cannot_follow_is_refused_before_any_work(folders, tmp_path, monkeypatch):
    import torch_pruning

    def refuse(*_arguments, **_options):
        raise RuntimeError("no way through this graph")

    monkeypatch.setattr(torch_pruning.DependencyGraph, "build_dependency", refuse)
    done = prune(folders, "--out", tmp_path / "run")
    one_error(
        *done, expected=3, message=r"Torch-Pruning cannot remove filters of this SqueezeNet \(no way through .*--no-structural-pruning"
    )
    assert list(tmp_path.iterdir()) == []
    assert prune(folders, "--no-structural-pruning", "--dry-run")[0] == 0


def test_a_recipe_of_it(folders, tmp_path):
    recipe = tmp_path / "prune.toml"
    text = """
command = "prune"
title = "Pruned"
size = 48
model = "squeezenet1_0"
weights = "own.safetensors"
[data]
folder = "faces"
[options]
budget = 700
top = 2
max_clean_drop = 0.2
"""
    root = tmp_path / "root"
    root.mkdir()
    (root / "own.safetensors").symlink_to(tiny_faces.spoilt_weights())
    (root / "faces").symlink_to(folders)
    recipe.write_text(text)
    code, stdout, _ = call("run", recipe, "--data-root", root, "--threads", "1", "--dry-run", "--json")
    assert (code, json.loads(stdout)["passes"]["attribution"]) == (0, 700)
    code, stdout, _ = call("run", recipe, "--data-root", root, "--threads", "1", "--baselines", "--dry-run", "--json")
    assert (code, json.loads(stdout)["passes"]["baselines"] > 700) == (0, True)
    recipe.write_text(text + 'compare = ["fairprune"]\n')
    message = "prune.toml: options.compare: fairprune does not suit this command; there are random, weight norm"
    one_error(*call("run", recipe, "--data-root", root), expected=2, message=message)
    recipe.write_text(text + "candidates = 3\n")
    one_error(*call("run", recipe, "--data-root", root), expected=2, message="prune.toml: options.candidates is no option")
