import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from report_example import example_result

from repairkit.errors import DataError, UsageError
from repairkit.report import embed

ROOT = Path(__file__).parent.parent
QUOTING = [ROOT / "README.md", *sorted((ROOT / "recipes").glob("*.toml"))]


@pytest.mark.parametrize("file", QUOTING, ids=lambda file: file.name)
def test_committed_figures_are_those_of_the_committed_results(file):
    """Nobody types a number twice: rendering the blocks again changes nothing."""
    text = file.read_text(encoding="utf-8")
    quoted = [path for paths in re.findall(r"figures: (\S+\.json(?: \S+\.json)*)", text) for path in paths.split()]
    assert quoted
    if not all((ROOT / path).exists() for path in quoted):
        pytest.skip("the result that this file quotes is not there yet; run the recipe, then make figures")
    assert embed.render(text, toml=file.suffix == ".toml", base=ROOT) == text


@pytest.fixture
def run(tmp_path):
    example_result().write(tmp_path / "run" / "result.json")
    return tmp_path


MARKDOWN = "before\n\n<!-- figures: run/result.json -->\nstale\n<!-- /figures -->\n\nafter\n"
TOML = "# about\n# figures: run/result.json\n# stale\n# /figures\n\ncommand = 'fairness'\n"


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
    assert "repairkit run again" in rows[1]
    assert all(f"{100 * change.value:+.1f}" in row and f"{100 * change.low:+.1f}" in row for row in rows)
    assert embed.render(filled, toml=toml, base=run) == filled


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
