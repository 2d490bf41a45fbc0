"""`repairkit recipes` and `repairkit run --all`."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from command_line import call, one_error

from repairkit.errors import DataError
from repairkit.experiments import results as kinds
from repairkit.experiments.fairness.report import FairnessResult
from repairkit.report import index

ROOT = Path(__file__).parent.parent
TINY = """# Tiny.
#
# Source:   nowhere
command = "fairness"
title = "{title}"
model = "squeezenet_celeba"
[options]
max_clean_drop = 1
budget = 700
top = 4
candidates = 6
max_filters = 2
curve = [1]
[embedded]
size = 48
target.name = "{folder}/target.csv"
source.name = "{folder}/source.csv"
[small]
target.name = "ppb"
source.name = "utkface"
"""


@pytest.fixture
def recipes(faces, tmp_path):
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.toml").write_text(TINY.format(title=f"Recipe {name}", folder=faces))
    return folder


def test_recipes_are_listed_with_their_facts(recipes):
    code, stdout, _ = call("recipes", recipes)
    assert code == 0
    assert stdout.split("\n")[:5] == [
        f"{recipes}/one.toml",
        "  title: Recipe one",
        "  command: fairness",
        "  ways: small, embedded",
        "  source: nowhere",
    ]
    code, stdout, _ = call("recipes", recipes, "--json")
    assert [entry["title"] for entry in json.loads(stdout)] == ["Recipe one", "Recipe two"]
    one_error(*call("recipes", recipes.parent), expected=2, message="expected a folder of recipes")


def test_what_was_measured_is_listed_with_the_run_it_is_from():
    code, stdout, _ = call("recipes", ROOT / "recipes", "--json")
    assert code == 0
    listed = {Path(entry["recipe"]).stem: entry for entry in json.loads(stdout)}
    headline = FairnessResult.read(ROOT / "reports" / "fig3a_fairness" / "result.json").verdict.headline
    assert listed["fig3a_fairness"]["measured"].count(f"{headline} (reports/fig3a_fairness)") == 1
    assert listed["fig3b_adversarial"]["title"] == "Adversarial repair"  # and not that of the way on ImageNet, which nobody ran


def test_all_runs_nothing_where_a_recipe_cannot_be_read(recipes, tmp_path):
    """Whatever its way: hours may lie between the first recipe and the last."""
    text = (recipes / "two.toml").read_text()
    (recipes / "two.toml").write_text(text.replace("[small]", "[small]\nbugdet = 3"))
    out = tmp_path / "all"
    one_error(*call("run", recipes, "--all", "--embedded", "--out", out), expected=2, message=r"two.toml \(small\): bugdet")
    assert not out.exists()
    (recipes / "two.toml").write_text("command =")
    one_error(*call("run", recipes, "--all", "--embedded", "--out", out), expected=2, message="two.toml is not TOML")
    assert not out.exists()


def test_run_all_lists_every_report_and_what_failed(recipes, tmp_path):
    (recipes / "two.toml").write_text((recipes / "two.toml").read_text().replace("target.csv", "none.csv"))
    out = tmp_path / "all"
    code, _, stderr = call("run", recipes, "--all", "--embedded", "--threads", "1", "--seed", "2", "--out", out)
    assert code == 3
    assert "error: expected a CSV or Parquet file" in stderr
    result = FairnessResult.read(out / "one" / "result.json")
    assert result.reproduction.command == f"repairkit run {recipes}/one.toml --seed 2 --threads 1 --embedded --out {out / 'one'}"
    page, text = (out / "index.html").read_text(), (out / "index.md").read_text()
    for shown in ("one/report.html", "Recipe one", result.verdict.outcome, "expected a CSV or Parquet file", result.notices[0]):
        assert shown in page
    assert "[Recipe one](one/report.md)" in text
    assert f"Failed: two. 1 of 2 recipes ran, in {result.reproduction.minutes:.1f} minutes." in text
    assert sorted(entry.name for entry in out.iterdir()) == ["index.html", "index.md", "one"]

    # what stands is not run again
    (recipes / "two.toml").unlink()
    written = (out / "one" / "result.json").stat().st_mtime_ns
    code, _, stderr = call("run", recipes, "--all", "--embedded", "--seed", "2", "--out", out, "--resume")
    assert code == 0
    assert (out / "one" / "result.json").stat().st_mtime_ns == written
    assert "failed" not in (out / "index.html").read_text()
    one_error(*call("run", recipes, "--all", "--embedded", "--out", out), expected=2, message="all already exists; give another --out")


def test_all_goes_on_only_beside_finished_runs_of_the_same(recipes, tmp_path, monkeypatch):
    out = tmp_path / "all"
    resumed = ("run", recipes, "--all", "--out", out, "--resume", "--threads", "1", "--dry-run")
    (out / "two").mkdir(parents=True)
    empty = (
        "expected a finished run of .*two.toml at .*two, found a folder without a result.json; give another --out, or move the folder away"
    )
    one_error(*call(*resumed, "--embedded"), expected=2, message=empty)
    (out / "two" / "result.json").write_text("{}")
    one_error(*call(*resumed, "--embedded"), expected=2, message=r"at .*two: .*two/result.json is not a result of this version")
    shutil.rmtree(out / "two")

    alone = ["run", str(recipes / "one.toml"), "--threads", "1", "--variant", "embedded", "--seed", "2", "--out", str(out / "one")]
    monkeypatch.setattr(sys, "argv", ["repairkit", *alone])
    assert call(*alone)[0] in (0, 1)
    found = r"expected a finished run of .*one.toml as it is asked for now at .*one, found that of 'repairkit run .*one.toml --threads 1 --variant embedded --seed 2"
    for other in (
        ("--embedded",),
        ("--embedded", "--seed", "3"),
        ("--embedded", "--seed", "2", "--baselines"),
        ("--variant", "small", "--seed", "2"),
    ):
        one_error(*call(*resumed, *other), expected=2, message=found)
    code, stdout, stderr = call(*resumed, "--embedded", "--seed", "2", "--workers", "2")
    assert (code, "recipe 2 of 2" in stderr) == (0, True), stderr
    assert stdout.count("in all ") == 1
    (out / "one").rename(out / "two")
    one_error(
        *call(*resumed, "--embedded", "--seed", "2"),
        expected=2,
        message="expected a finished run of .*two.toml as it .*, found that of .*one.toml",
    )


@pytest.mark.parametrize("name", ["correlation_attack_accuracy", "fig2_class_filters", "fig3b_adversarial", "fig5_truncation"])
def test_a_plan_of_a_recipe_fits_no_network(name, tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("repairkit.models.embedded.load", lambda *_, **__: pytest.fail("a network was fitted"))
    code, stdout, stderr = call("run", ROOT / "recipes" / f"{name}.toml", "--embedded", "--threads", "1", "--dry-run", "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["minutes"] > 0
    assert "note: Embedded default for squeezenet1_1" in stderr
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_foresaw_stops_no_other_recipe(recipes, tmp_path, monkeypatch):
    module = importlib.import_module("repairkit.cli.run")
    real, out = module.run_one, tmp_path / "all"

    def mistaken(file, *others):
        return 1 / 0 if file.stem == "one" else real(file, *others)

    monkeypatch.setattr(module, "run_one", mistaken)
    code, _, stderr = call("run", recipes, "--all", "--embedded", "--threads", "1", "--out", out)
    assert code == 70
    assert "Traceback (most recent call last):" in stderr
    assert "\nerror: ZeroDivisionError, a mistake in repairkit; please report it with the lines above\n" in stderr
    assert (out / "two" / "result.json").is_file()
    text = (out / "index.md").read_text()
    assert "Failed: one. 1 of 2 recipes ran" in text
    assert "ZeroDivisionError (division by zero), a mistake in repairkit (exit code 70)" in text


def test_an_interrupt_says_how_to_go_on_with_all(recipes, tmp_path, monkeypatch):
    def interrupted(*_args, **_keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("repairkit.cli.run"), "run_one", interrupted)
    code, _, stderr = call("run", recipes, "--all", "--embedded", "--out", tmp_path / "all")
    assert code == 130
    assert f"to go on with all recipes: repairkit run {recipes} --all --embedded --out {tmp_path / 'all'} --resume" in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a recipe, for instance .*, or --all; repairkit recipes lists"),
        (
            ("one.toml", "--embedded", "--variant", "small"),
            "--embedded is short for --variant embedded, got --variant small as well: leave one",
        ),
        (
            ("one.toml", "--embedded", "--data-root", "."),
            "the variant embedded runs on what comes with repairkit, got --data-root as well: leave one",
        ),
        (
            ("one.toml", "--variant", "embedded", "--data-root", "."),
            "the variant embedded runs on what comes with repairkit, got --data-root",
        ),
        (("one.toml", "--variant", "big"), "--variant"),
        (("--all", "--json"), "--json, --training-seed and --no-with-compare-model go with one recipe"),
        (("--all", "nowhere"), "expected a folder of recipes at nowhere"),
    ],
)
def test_what_run_cannot_be_asked(arguments, message):
    one_error(*call("run", *arguments), expected=2, message=message)


def test_a_page_escapes_what_it_shows(tmp_path):
    index.write([index.Entry("a", "<b> & |")], tmp_path, kinds.read)
    assert "&lt;b&gt; &amp; |" in (tmp_path / "index.html").read_text()
    assert r"&lt;b&gt; &amp; \|" in (tmp_path / "index.md").read_text()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "result.json").write_text("{}")
    with pytest.raises(DataError, match="is not a result of this version"):
        index.write([index.Entry("c")], tmp_path, kinds.read)
