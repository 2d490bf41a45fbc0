"""`repairkit run`: a recipe."""

import json
import shutil
from unittest import mock

import pytest
import tiny_faces
import torch
from command_line import call, one_error

from repairkit.experiments.critical.result import CriticalResult
from repairkit.experiments.fairness.report import FairnessResult
from repairkit.experiments.sample_efficiency.report import EfficiencyResult
from repairkit.experiments.truncation.report import TruncationResult
from repairkit.experiments.truncation.run import Trajectory

RECIPE = """
command = "fairness"
title = "A recipe of {folder}"
size = 48
model = "squeezenet_celeba"
[target]
name = "{folder}/target.csv"
[source]
name = "{folder}/source.csv"
[options]
max_clean_drop = 1
budget = 700
top = 4
candidates = 6
max_filters = 2
curve = [1]
"""


def test_run_a_recipe(faces, tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(folder=faces))
    code, stdout, _ = call("run", recipe, "--threads", "1", "--dry-run")
    assert (code, "1 fold(s)" in stdout) == (0, True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.toml"]
    code, stdout, _ = call("run", recipe, "--threads", "1", "--seed", "2", "--out", tmp_path / "run", "--json")
    result = FairnessResult.model_validate_json(stdout)
    assert code in (0, 1)
    assert (result.title, result.reproduction.seed) == (f"A recipe of {faces}", 2)
    assert result.reproduction.settings["candidates"] == "6"
    assert result.reproduction.settings["threads"] == "1"
    assert (tmp_path / "run" / "report.html").exists()
    again = call("run", recipe, "--out", tmp_path / "run")
    one_error(*again, expected=2, message="run already exists; give another --out or remove it")


def test_precision_by_the_recipe_or_the_flag(classes, tmp_path):
    recipe = classes[0]
    recipe.write_text(CLASSES.replace('["male", "female"]', '["male"]') + 'precision = "bfloat16"\n')
    for more, precision in ((), "bfloat16"), (("--precision", "float32"), "float32"):
        _, stdout, _ = call("run", *classes, *more, "--out", tmp_path / precision, "--json")
        result = CriticalResult.model_validate_json(stdout)
        assert result.reproduction.settings["precision"] == precision
    one_error(*call("run", *classes, "--precision", "half"), expected=2, message="--precision")


def test_alternatives_by_the_recipe_or_the_flag(faces, classes, tmp_path):
    recipe = tmp_path / "tiny.toml"
    text = RECIPE.format(folder=faces)
    planned = []
    for more, written in (("", text), ("--alternatives", text), ("", f"{text}alternatives = true\n")):
        recipe.write_text(written)
        _, stdout, _ = call("run", recipe, "--threads", "1", "--dry-run", "--json", *more.split())
        planned.append(json.loads(stdout)["passes"].get("alternatives"))
    assert planned[0] is None
    assert planned[1] == planned[2] > 0
    code, _, stderr = call("run", *classes, "--alternatives", "--dry-run")
    assert code == 0
    assert "note: --alternatives is for recipes that repair; " in stderr


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        (("budget = 700", "bugdet = 700"), 2, "recipe.toml: options.bugdet is no option"),
        (("budget = 700", "budget = 7"), 2, "the budget of 7 image passes is too small"),
        (('model = "squeezenet_celeba"', ""), 2, r"recipe.toml: give either a \[training\] section or a model"),
        (("target.csv", "none.csv"), 3, "expected a CSV or Parquet file at .*none.csv, found nothing"),
        (('model = "squeezenet_celeba"', 'model = "none.safetensors"'), 3, "expected weights at none.safetensors, found no file"),
    ],
)
def test_recipes_that_cannot_work(faces, tmp_path, change, expected, message):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=faces).replace(*change))
    one_error(*call("run", recipe, "--threads", "1", "--out", tmp_path / "run"), expected=expected, message=message)
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipe.toml"]


CLASSES = """
command = "recall"
title = "Filters that recall depends on"
size = 48
model = "squeezenet1_0"
weights = "own.safetensors"
classes = ["male", "female"]
[data]
folder = "faces"
[options]
budget = 700
top = 2
spare = 1.0
"""


@pytest.fixture
def classes(folders, tmp_path):
    """A recipe of two classes, and the data root that it is relative to."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "faces").symlink_to(folders)
    shutil.copy(tiny_faces.spoilt_weights(), root / "own.safetensors")
    recipe = tmp_path / "classes.toml"
    recipe.write_text(CLASSES)
    return recipe, "--data-root", root, "--threads", "1"


def test_run_a_recipe_of_several_classes(classes, tmp_path):
    code, stdout, _ = call("run", *classes, "--dry-run", "--json")
    planned = json.loads(stdout)["passes"]
    assert (code, planned["attribution"]) == (0, 2 * 700)
    code, stdout, _ = call("run", *classes, "--dry-run")
    assert (code, "asked about: male, female" in stdout) == (0, True)

    out = tmp_path / "run"
    code, stdout, stderr = call("run", *classes, "--out", out)
    results = {name: CriticalResult.read(out / name / "result.json") for name in ("male", "female")}
    assert sorted(entry.name for entry in out.iterdir()) == ["female", "male"]
    assert not [entry for entry in tmp_path.iterdir() if "unfinished" in entry.name or "part" in entry.name]
    assert code == (0 if all(result.verdict.outcome == "critical filters found" for result in results.values()) else 1)
    for name, result in results.items():
        assert (result.extra.subject, result.title) == (name, f"Filters that recall depends on: {name}")
        assert result.verdict.headline in stdout
        assert f"all values: repairkit attribution {out / name}" in stderr
        assert (out / name / "report.html").exists()
    costs = {name: {cost.part: cost.passes for cost in result.costs} for name, result in results.items()}
    assert costs["male"]["control"] == planned["control"]
    assert "control" not in costs["female"]


def test_one_class_and_accuracy_have_the_run_directory_to_themselves(classes, tmp_path):
    recipe = classes[0]
    recipe.write_text(CLASSES.replace('"recall"', '"accuracy"').replace('classes = ["male", "female"]\n', ""))
    out = tmp_path / "run"
    code, stdout, _ = call("run", *classes, "--seed", "4", "--out", out, "--json")
    result = CriticalResult.model_validate_json(stdout)
    assert code == (0 if result.verdict.outcome == "critical filters found" else 1)
    assert (result.extra.subject, result.title, result.reproduction.seed) == (None, "Filters that recall depends on", 4)
    assert CriticalResult.read(out / "result.json") == result


@pytest.mark.parametrize(
    ("change", "more", "expected", "message"),
    [
        (('"female"]', '"femal"]'), (), 2, "no class is called 'femal'; did you mean female"),
        (('"female"]', '"Male"]'), (), 2, "two classes would have the run directory male; name each class once"),
        (("own.", "none."), (), 3, "expected weights at .*none.safetensors, found no file"),
        (('folder = "faces"', 'folder = "photos"'), (), 3, "expected a folder at .*photos"),
        (('folder = "faces"', 'folder = "faces"\nparts = ["train"]'), (), 3, "expected a folder at .*train"),
        (("budget = 700", "budget = 7"), (), 2, "the budget of 7 image passes is too small"),
        (("", ""), ("--training-seed", "1"), 2, "trains no network, so it has no training seed; leave --training-seed out"),
        (("", ""), ("--no-with-compare-model",), 2, "recipes of recall keep their comparison model or have none; leave --no-with"),
    ],
)
def test_recipes_of_classes_that_cannot_work(classes, tmp_path, change, more, expected, message):
    recipe = classes[0]
    recipe.write_text(CLASSES.replace(*change))
    before = sorted(tmp_path.iterdir())
    one_error(*call("run", *classes, *more, "--out", tmp_path / "run"), expected=expected, message=message)
    assert sorted(tmp_path.iterdir()) == before


def test_a_class_that_the_digits_do_not_have_is_told_before_a_network_is_fitted(tmp_path, monkeypatch):
    monkeypatch.setattr("repairkit.models.embedded.load", lambda *_, **__: pytest.fail("a network was fitted"))
    recipe = tmp_path / "digits.toml"
    recipe.write_text('command = "recall"\ntitle = "Digits"\nmodel = "squeezenet1_1"\nsize = 48\nclasses = ["8", "zebra"]\n')
    one_error(*call("run", recipe), expected=2, message="no class is called 'zebra'.*The 10 classes are 0, 1, 2")


def test_paths_of_a_recipe_need_the_data_root(classes, tmp_path):
    one_error(*call("run", classes[0]), expected=2, message="the recipe takes own.safetensors: give --data-root, the folder that it is")


TRUNCATION = """
command = "truncation"
title = "Random filters"
trajectories = 3
images = 24
shares = [0.05, 0.3]
[[networks]]
name = "as faces"
size = 48
model = "{weights}"
target.name = "{faces}/target.csv"
[[networks]]
name = "as classes"
size = 48
model = "squeezenet1_0"
weights = "own.safetensors"
data.folder = "faces"
[options]
t0 = 0.9
"""


@pytest.fixture
def truncation(classes, own_faces):
    classes[0].write_text(TRUNCATION.format(weights=tiny_faces.spoilt_weights(), faces=own_faces))
    return classes


def test_run_a_recipe_of_truncation(truncation, tmp_path, monkeypatch):
    code, stdout, stderr = call("run", *truncation, "--dry-run", "--json")
    assert code == 0, stderr
    planned = json.loads(stdout)["passes"]
    assert planned["as faces: trajectories"] == (24 * (2 + 3 * 2))
    assert call("run", *truncation, "--dry-run")[1].startswith("3 orders of removal, each measured at 2 shares of the filters")

    out = tmp_path / "run"
    real = Trajectory.observe
    with monkeypatch.context() as patch:
        patch.setattr(Trajectory, "observe", lambda self, game: real(self, game) if self.index < 2 else interrupt())
        assert call("run", *truncation, "--out", out)[0] == 130
    assert not out.exists()
    assert {file.name for file in (tmp_path / "run.unfinished" / "network-1").glob("*.npz")} == {
        "trajectory-0.arrays.npz",
        "trajectory-1.arrays.npz",
    }
    code, stdout, stderr = call("run", *truncation, "--out", out, "--resume", "--json")
    result = TruncationResult.model_validate_json(stdout)
    assert code == 0
    assert TruncationResult.read(out / "result.json") == result
    assert [curve.metric for curve in result.extra.curves] == ["mean recall", "accuracy", "accuracy"]
    assert {cost.part: cost.passes for cost in result.costs} == planned
    assert "no weights were changed" in stderr
    assert [entry.name for entry in tmp_path.iterdir() if "unfinished" in entry.name] == []
    assert call("report", out)[1].startswith(result.verdict.headline)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("trajectories = 3", "trajectories = 1"), "expected at least 2 trajectories"),
        (("0.05, 0.3", "0.3, 0.05"), "shares must rise and lie between 0 and 1"),
        (("as classes", "as faces"), "networks: two of them have the same name"),
        (("t0 = 0.9", "budget = 9"), "options.budget is no option; the options are"),
        (('data.folder = "faces"', 'target.name = "drawn"'), "as classes: target names faces in subgroups, so leave out data, weights"),
        (('model = "squeezenet1_0"', ""), "as classes: give either a model or a training section"),
        (('data.folder = "faces"', 'source.name = "drawn"'), "as classes: source and training go with a target"),
    ],
)
def test_recipes_of_truncation_that_cannot_work(truncation, tmp_path, change, message):
    recipe = truncation[0]
    before = recipe.read_text()
    assert change[0] in before
    recipe.write_text(before.replace(*change))
    one_error(*call("run", *truncation, "--out", tmp_path / "run"), expected=2, message=message)


EFFICIENCY = """
command = "efficiency"
title = "Samples"
model = "small"
channels = [3, 3, 3, 4]
top = 2
images = 40
evaluated_on = 4
permutations = 400
most = 4000
tolerances = [0.3, 0.2]
[options]
batch = 512
"""


def test_run_a_recipe_of_sample_efficiency(tmp_path, monkeypatch):
    recipe = tmp_path / "samples.toml"
    recipe.write_text(EFFICIENCY)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim, "Adam", lambda *_, **__: mock.Mock(step=lambda: pytest.fail("a network was trained")))
        code, stdout, stderr = call("run", recipe, "--threads", "1", "--dry-run", "--json")
    assert (code, json.loads(stdout)["passes"]) == (0, {"calibration": 40, "permutations": 400 * (13 + 1) * 4})
    code, stdout, stderr = call("run", recipe, "--threads", "1", "--out", tmp_path / "run", "--json")
    result = EfficiencyResult.model_validate_json(stdout)
    assert EfficiencyResult.read(tmp_path / "run" / "result.json") == result
    assert code == (0 if result.verdict.outcome == "measured" else 1)
    assert (result.extra.filters, [stop.tolerance for stop in result.extra.stops]) == (13, [0.3, 0.2])
    assert {cost.part: cost.passes for cost in result.costs}["permutations"] == 400 * 14 * 4
    assert result.reproduction.settings["tolerances"] == "(0.3, 0.2)"
    assert "no weights were changed" in stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run", "samples.toml"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"small"', '"resnet18"'), 'channels are those of model = "small"; leave them out'),
        (("top = 2", 'top = 2\nweights = "own.pth"'), 'model = "small" brings its weights and images'),
        (("[0.3, 0.2]", "[0.0]"), "tolerances must be numbers above 0"),
        (("[0.3, 0.2]", "[0.3, nan]"), r"tolerances.*finite number"),
        (("top = 2", "top = 13"), "top must be less than the 13 filters of the network, got 13"),
        (("top = 2", 'top = 2\nmethod = "both"'), "method: Input should be 'replay' or 'budget'"),
        (("batch = 512", "folds = 5"), "options.folds is no option"),
    ],
)
def test_recipes_of_sample_efficiency_that_cannot_work(tmp_path, change, message):
    recipe = tmp_path / "samples.toml"
    assert change[0] in EFFICIENCY
    recipe.write_text(EFFICIENCY.replace(*change))
    one_error(*call("run", recipe, "--threads", "1", "--out", tmp_path / "run"), expected=2, message=message)
    assert [entry.name for entry in tmp_path.iterdir()] == ["samples.toml"]
