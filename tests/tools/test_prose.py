"""The pages that users read keep the limits on sentences."""

from pathlib import Path

import pytest

from tools import prose

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "reports" / "paper.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_sentence_is_too_long(page):
    assert not prose.problems(page.read_text(encoding="utf-8"))


def test_code_tables_and_addresses_do_not_count():
    words = " ".join(["word"] * 30)
    page = f"# {words} x\n\n{words}.\n\n| {words} x |\n\n```\n{words} x\n```\n\n[{words}](a b c d)\n<!-- {words} x -->"
    assert [len(sentence.split()) for sentence in prose.sentences(page)] == [30, 30]
    assert prose.problems(words) == ["a mean of 30.0 words per sentence"]
    assert len(prose.problems(f"{words} more.")) == 2


def test_the_readme_is_for_two_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
