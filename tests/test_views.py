"""`make figures` on reports: views of committed results, written anew."""

from pathlib import Path

import pytest
from report_example import example_result

from repairkit.errors import UsageError
from repairkit.experiments.recipe import recipes_in, ways_of
from repairkit.report import html, markdown
from tools import views

ROOT = Path(__file__).parent.parent
EMBEDDED = ROOT / "reports" / "embedded"


def test_the_committed_page_lists_the_committed_reports_of_every_recipe():
    text = (EMBEDDED / "index.md").read_text(encoding="utf-8")
    assert text == views.listed(EMBEDDED)
    assert "Failed" not in text
    assert {folder.name for folder in EMBEDDED.iterdir() if folder.is_dir()} == {
        file.stem for file in recipes_in(ROOT / "recipes") if "embedded" in ways_of(file)
    }


def test_committed_reports_name_no_place_of_a_machine():
    for file in (path for path in EMBEDDED.rglob("*") if path.is_file()):
        text = file.read_text(encoding="utf-8")
        assert not [place for place in ("/work", "/tmp", "/root", "/home") if place in text], file  # noqa: S108


def test_every_view_is_written_anew_and_a_page_only_where_there_was_one(tmp_path):
    first, second = example_result(), example_result().model_copy(update={"title": "Another"})
    first.write(tmp_path / "all" / "one" / "result.json")
    second.write(tmp_path / "all" / "two" / "pizza" / "result.json")
    (tmp_path / "all" / "one" / "report.html").write_text("stale")
    (tmp_path / "all" / "index.md").write_text("stale")
    views.main([str(tmp_path)])
    markdown.write(first, tmp_path / "expected" / "report.md")
    for file in (tmp_path / "expected").rglob("*.*"):
        assert (tmp_path / "all" / "one" / file.relative_to(tmp_path / "expected")).read_text() == file.read_text()
    assert (tmp_path / "all" / "one" / "report.html").read_text() == html.render(first)
    assert "# Another" in (tmp_path / "all" / "two" / "pizza" / "report.md").read_text()
    assert not (tmp_path / "all" / "two" / "pizza" / "report.html").exists()
    page = (tmp_path / "all" / "index.md").read_text()
    assert "[Another](two/pizza/report.md)" in page
    assert f"2 of 2 recipes ran, in {2 * first.reproduction.minutes:.1f} minutes." in page
    assert page.partition("## Notes of these reports")[2].count("\n- ") == len(first.notices)


def test_it_takes_one_folder():
    with pytest.raises(UsageError, match="give the folder of reports, got nothing"):
        views.main([])
