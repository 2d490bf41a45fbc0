import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import three_colours
from adversarial_example import adversarial_cases, adversarial_result
from report_example import example_result

from repairkit.errors import DataError, UsageError
from repairkit.experiments import report_kinds as kinds
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.critical.run import find_each
from repairkit.experiments.critical.summary import summarise
from repairkit.experiments.options import Options
from tools import embed

ROOT = Path(__file__).parent.parent
QUOTING = [ROOT / "README.md", ROOT / "docs" / "results.md", *sorted((ROOT / "recipes").glob("*.toml"))]


@pytest.mark.parametrize("file", QUOTING, ids=lambda file: file.name)
def test_committed_figures_are_those_of_the_committed_results(file):
    """Nobody types a number twice: rendering the blocks again changes nothing."""
    text = file.read_text(encoding="utf-8")
    quoted = [path for paths in re.findall(r"figures: (\S+\.json(?: \S+\.json)*)", text) for path in paths.split()]
    assert quoted
    assert embed.render(text, toml=file.suffix == ".toml", base=ROOT) == text


@pytest.fixture
def run(tmp_path):
    example_result().write(tmp_path / "run" / "result.json")
    return tmp_path


MARKDOWN = "before\n\n<!-- figures: run/result.json -->\nstale\n<!-- /figures -->\n\nafter\n"
TOML = "# about\n# figures: run/result.json\n# stale\n# /figures\n\ncommand = 'fairness'\n"


def test_a_recipe_without_a_result_says_so_and_one_that_lacks_some_is_an_error(run):
    absent = TOML.replace("run/result.json", "absent/result.json other/result.json")
    assert "result.json\n# not run yet\n# /figures" in embed.render(absent, toml=True, base=run)
    with pytest.raises(DataError, match="absent"):
        embed.render(TOML.replace("run/result.json", "run/result.json absent/result.json"), toml=True, base=run)
    with pytest.raises(DataError, match="absent"):
        embed.render(MARKDOWN.replace("run/", "absent/"), toml=False, base=run)


@pytest.mark.parametrize(("text", "toml"), [(MARKDOWN, False), (TOML, True)])
def test_blocks_are_filled_from_the_result_and_stay_so(run, text, toml):
    result = example_result()
    filled = embed.render(text, toml=toml, base=run)
    assert embed.render(filled, toml=toml, base=run) == filled
    assert "stale" not in filled
    before, after = text.split("# stale\n" if toml else "stale\n")
    assert filled.startswith(before)
    assert filled.endswith(after)
    block = filled[len(before) : len(filled) - len(after)]
    for group in result.groups:
        share = result.share("repaired", "recall", group)
        assert re.search(rf"{group}.*{100 * share.value:.1f}", block)
    assert f"{result.reproduction.minutes:.0f} minutes" in block
    assert result.reproduction.machine in block
    assert all(line.startswith("#") for line in block.splitlines()) == toml


@pytest.mark.parametrize(("text", "toml"), [(MARKDOWN, False), (TOML, True)])
def test_several_results_share_one_table(run, text, toml):
    first = example_result()
    second = first.model_copy(update={"reproduction": first.reproduction.model_copy(update={"command": "repairkit run again"})})
    second.write(run / "second" / "result.json")
    filled = embed.render(text.replace("run/result.json", "run/result.json second/result.json"), toml=toml, base=run)
    rows = [line for line in filled.splitlines() if "repairkit " in line]
    change = next(e for e in first.differences if (e.first, e.second, e.metric) == ("original", "repaired", "mean recall"))
    assert len(rows) == 2
    sizes = [first.share("original", metric).n for metric in ("mean recall", "source accuracy")]
    assert all(f"| {sizes[0]:,} and {sizes[1]:,} |" in row for row in rows)
    assert "repairkit run again" in rows[1]
    assert all(f"{100 * change.value:+.1f}" in row and f"{100 * change.low:+.1f}" in row for row in rows)
    assert embed.render(filled, toml=toml, base=run) == filled


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Results on green, blue and accuracy, in folders of these names."""
    folder = tmp_path_factory.mktemp("classes")
    options = Options(budget=600, top=2, contested=6, ranking="recall", t0=0.5)
    tasks = [CriticalTask(three_colours.model(), three_colours.images(), label) for label in (1, 2, None)]
    results = {}
    for task, findings in zip(tasks, find_each(tasks, options), strict=True):
        name = task.subject or "accuracy"
        results[name] = summarise(task, options, findings, title=name, command="c", minutes=3.0, notices=[])
        results[name].write(folder / name / "result.json")
    return folder, results


def point(result, metric, series="critical", *, frozen=True):
    return [entry for entry in result.removal if (entry.metric, entry.series) == (metric, series)][-1 if frozen else 0]


def test_a_removal_is_quoted_with_every_curve(classes):
    folder, results = classes
    filled = embed.render(TOML.replace("run/", "green/"), toml=True, base=folder)
    block = [line for line in filled.splitlines() if line.startswith("#")]
    assert results["green"].verdict.headline in filled
    assert "120 images of 3 classes, 48 of them in the report; seed 0" in filled
    for entry in results["green"].removal:
        assert any(f"{100 * entry.value:.1f}% ({100 * entry.low:.1f} to {100 * entry.high:.1f})" in line for line in block)
    assert embed.render(filled, toml=True, base=folder) == filled


def test_several_classes_share_one_table(classes):
    folder, results = classes
    paths = "green/result.json blue/result.json accuracy/result.json"
    rows = embed.render(MARKDOWN.replace("run/result.json", paths), toml=False, base=folder).splitlines()
    for name, metric in (("green", "recall"), ("blue", "recall"), ("accuracy", "accuracy")):
        row = next(line for line in rows if line.startswith("| Accuracy" if name == "accuracy" else f"| Recall of {name}"))
        before, after = point(results[name], metric, frozen=False), point(results[name], metric)
        assert f"| {before.n} | {after.filters} | {100 * before.value:.1f}%" in row
        assert f"| {100 * after.value:.1f}%" in row
        for entry in (after, point(results[name], metric, "random")):
            assert f"{100 * entry.change:+.1f}".replace("-", "−").replace("+0.0", "0.0") in row
        assert ("—" in row) == (name == "accuracy")


def test_several_adversarial_runs_share_one_table_with_training_alone_below_its_run(tmp_path):
    first = adversarial_result()
    second = adversarial_cases()["nothing frozen"]
    first.write(tmp_path / "a.json")
    second.write(tmp_path / "b.json")
    filled = embed.render(MARKDOWN.replace("run/result.json", "a.json b.json"), toml=False, base=tmp_path)
    rows = filled[filled.index("| :---") :].splitlines()[1:4]
    change = {(e.first, e.second, e.metric, e.group): e for e in first.differences}
    for row, column, frozen in ((rows[0], "repaired", len(first.frozen)), (rows[1], "finetuned", 0)):
        assert row.split(" | ")[1] == str(frozen)
        sizes = [first.share(column, *kind).n for kind in (("target success", "replay"), ("recovered label", "worst"), ("clean accuracy",))]
        assert row.split(" | ")[2] == ", ".join(f"{n:,}" for n in sizes)
        for metric, group in (
            ("target success", "replay"),
            ("recovered label", "replay"),
            ("recovered label", "worst"),
            ("clean accuracy", None),
        ):
            entry = change["original", column, metric, group]
            assert f"({100 * entry.low:+.1f} to {100 * entry.high:+.1f})".replace("-", "−").replace("+0.0", "0.0") in row
    assert rows[1].startswith("| Fine-tuned alone, in that run |")
    assert rows[2].count("—") == 5


def test_results_of_different_kinds_share_no_table(run, classes):
    shutil.copytree(classes[0] / "green", run / "green")
    with pytest.raises(
        UsageError, match="expected results of one kind in a block of figures, got critical filters and fairness; give each"
    ):
        embed.render(MARKDOWN.replace("run/result.json", "run/result.json green/result.json"), toml=False, base=run)


def test_headlines_give_the_verdict_of_each_result_of_any_kind_and_no_table(run, classes):
    shutil.copytree(classes[0] / "green", run / "green")
    text = MARKDOWN.replace("figures", "headlines").replace("run/result.json", "run/result.json green/result.json")
    filled = embed.render(text, toml=False, base=run)
    lines = [line for line in filled.splitlines() if line.startswith("- ")]
    for line, result in zip(lines, (example_result(), classes[1]["green"]), strict=True):
        assert result.verdict.headline in line
        assert f"seed {result.reproduction.seed}" in line
    assert "stale" not in filled
    assert "|" not in filled
    assert embed.render(filled, toml=False, base=run) == filled


def test_a_recipe_with_figures_still_parses(run):
    import tomllib

    assert tomllib.loads(embed.render(TOML, toml=True, base=run)) == {"command": "fairness"}


def test_two_blocks_in_one_file(run):
    other = example_result().model_copy(update={"created": "1999-12-31"})
    other.write(run / "other" / "result.json")
    filled = embed.render(MARKDOWN + MARKDOWN.replace("run/", "other/"), toml=False, base=run)
    assert filled.count("1999-12-31") == 1
    assert filled.count("<!-- /figures -->") == 2
    assert filled.index(example_result().created) < filled.index("after") < filled.index("1999-12-31")


def test_files_are_changed_in_place(run, monkeypatch):
    monkeypatch.chdir(run)
    Path("README.md").write_text(MARKDOWN)
    Path("a.toml").write_text(TOML)
    Path("plain.md").write_text("no figures here\n")
    embed.main(["README.md", "a.toml", "plain.md"])
    assert Path("README.md").read_text() == embed.render(MARKDOWN, toml=False)
    assert Path("a.toml").read_text() == embed.render(TOML, toml=True)
    assert Path("plain.md").read_text() == "no figures here\n"


def test_without_a_result_the_file_stays_as_it_is(run, monkeypatch):
    monkeypatch.chdir(run)
    shutil.rmtree(run / "run")
    Path("README.md").write_text(MARKDOWN)
    with pytest.raises(DataError, match=r"expected a result at run/result.json, found none"):
        embed.main(["README.md"])
    assert Path("README.md").read_text() == MARKDOWN


def test_no_file_is_a_usage_error():
    with pytest.raises(UsageError, match="give the files whose figures are to be filled in"):
        embed.main([])


def test_as_a_command_it_says_one_line(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text(MARKDOWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["embed", "README.md"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(embed.__file__, run_name="__main__")
    assert ended.value.code == "error: expected a result at run/result.json, found none; give the directory of a finished run"


@pytest.mark.parametrize(("name", "chosen"), [("fig1_critical_filters_squeezenet", False), ("fig3b_adversarial_squeezenet", True)])
def test_who_is_ahead_of_the_baselines_is_quoted_and_what_is_chosen_from_their_candidates(name, chosen):
    result = kinds.read(ROOT / "reports" / name / "result.json")
    rows = [line for line in embed.single(result).splitlines() if line.startswith("| ")]
    for each in result.comparison.baselines:
        assert sum(line.startswith(f"| {each.name} |") for line in rows) == (3 if chosen else 1)
