"""Figures inside README, docs and recipe headers are those of the committed results."""

import re
import tomllib
from pathlib import Path

import pytest

from repairkit.errors import DataError, UsageError
from repairkit.experiments import results as kinds
from tools import embed

ROOT = Path(__file__).parents[2]
QUOTING = [ROOT / "README.md", ROOT / "docs" / "results.md", *sorted((ROOT / "recipes").glob("*.toml"))]
FAIR, OTHER_SEED = (f"reports/{name}/result.json" for name in ("fig3a_fairness", "fig3a_fairness_seed1"))
MARKDOWN = f"before\n\n<!-- figures: {FAIR} -->\nstale\n<!-- /figures -->\n\nafter\n"
TOML = f"# about\n# figures: {FAIR}\n# stale\n# /figures\n\ncommand = 'fairness'\n"


@pytest.mark.parametrize("file", QUOTING, ids=lambda file: file.name)
def test_committed_figures_are_those_of_the_committed_results(file):
    """Nobody types a number twice: rendering the blocks again changes nothing."""
    text = file.read_text(encoding="utf-8")
    assert embed.render(text, toml=file.suffix == ".toml", base=ROOT) == text


@pytest.mark.parametrize(("text", "toml"), [(MARKDOWN, False), (TOML, True)])
def test_a_block_is_filled_from_its_result(text, toml):
    filled = embed.render(text, toml=toml, base=ROOT)
    assert embed.render(filled, toml=toml, base=ROOT) == filled
    assert "stale" not in filled
    result = kinds.read(ROOT / FAIR)
    for group in result.groups:
        share = result.share("repaired", "recall", group)
        assert re.search(rf"{group}.*\b{100 * share.value:.1f}% \({100 * share.low:.1f} to {100 * share.high:.1f}\)", filled)
    if toml:
        assert tomllib.loads(filled) == {"command": "fairness"}


def test_several_results_share_one_table_with_a_row_for_each():
    filled = embed.render(MARKDOWN.replace(FAIR, f"{FAIR} {OTHER_SEED}"), toml=False, base=ROOT)
    rows = [line for line in filled.splitlines() if "repairkit run" in line]
    for row, path in zip(rows, (FAIR, OTHER_SEED), strict=True):
        changes = kinds.read(ROOT / path).differences
        change = next(c for c in changes if (c.first, c.second, c.metric) == ("original", "repaired", "mean recall"))
        assert f"{100 * change.value:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})" in row


def test_headlines_give_the_verdict_of_results_of_any_kind():
    pruned = "reports/example_digits_prune/result.json"
    text = MARKDOWN.replace("figures", "headlines").replace(FAIR, f"{FAIR} {pruned}")
    lines = [line for line in embed.render(text, toml=False, base=ROOT).splitlines() if line.startswith("- ")]
    assert [kinds.read(ROOT / path).verdict.headline in line for path, line in zip((FAIR, pruned), lines, strict=True)] == [True, True]


def test_results_of_different_kinds_share_no_table():
    with pytest.raises(UsageError):
        embed.render(MARKDOWN.replace(FAIR, f"{FAIR} reports/example_digits_prune/result.json"), toml=False, base=ROOT)


def test_only_a_recipe_may_lack_its_results(tmp_path):
    assert embed.NOT_RUN in embed.render(TOML, toml=True, base=tmp_path)
    with pytest.raises(DataError, match="fig3a_fairness"):
        embed.render(MARKDOWN, toml=False, base=tmp_path)
    with pytest.raises(DataError, match="absent"):
        embed.render(TOML.replace(FAIR, f"{FAIR} absent.json"), toml=True, base=ROOT)


def test_a_file_changes_in_place_and_stays_as_it_is_where_a_result_is_missing(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(MARKDOWN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        embed.main([str(page)])
    assert page.read_text() == MARKDOWN
    monkeypatch.chdir(ROOT)
    embed.main([str(page)])
    assert page.read_text() == embed.render(MARKDOWN, toml=False, base=ROOT)
