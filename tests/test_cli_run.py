"""`repairkit run`: a recipe."""

import pytest
from command_line import call, one_error

from repairkit.report.result import FairnessResult

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
