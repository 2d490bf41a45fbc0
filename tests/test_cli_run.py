"""`repairkit run`: a recipe."""

import json
import shutil

import pytest
import tiny_faces
from command_line import call, one_error

from repairkit.report.result import CriticalResult, FairnessResult

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
    assert "note: --alternatives is for recipes of fairness and adversarial; " in stderr


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
        assert (result.subject, result.title) == (name, f"Filters that recall depends on: {name}")
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
    assert (result.subject, result.title, result.reproduction.seed) == (None, "Filters that recall depends on", 4)
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
        (("", ""), ("--training-seed", "1"), 2, "--training-seed and --no-rival are for recipes of fairness, got one of recall"),
        (("", ""), ("--no-rival",), 2, "--training-seed and --no-rival are for recipes of fairness"),
    ],
)
def test_recipes_of_classes_that_cannot_work(classes, tmp_path, change, more, expected, message):
    recipe = classes[0]
    recipe.write_text(CLASSES.replace(*change))
    before = sorted(tmp_path.iterdir())
    one_error(*call("run", *classes, *more, "--out", tmp_path / "run"), expected=expected, message=message)
    assert sorted(tmp_path.iterdir()) == before


def test_paths_of_a_recipe_need_the_data_root(classes, tmp_path):
    one_error(*call("run", classes[0]), expected=2, message="the recipe takes own.safetensors: give --data-root, the folder that it is")
