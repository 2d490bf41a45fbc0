"""Views of committed results, written anew by `make figures`."""

from pathlib import Path

from repairkit.experiments.recipe import recipes_in, ways_of
from tools import views

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "reports" / "embedded"


def test_the_committed_page_lists_the_committed_reports_of_every_recipe():
    assert (EMBEDDED / "index.md").read_text(encoding="utf-8") == views.listed(EMBEDDED)
    recipes = {file.stem for file in recipes_in(ROOT / "recipes") if "embedded" in ways_of(file)}
    assert {folder.name for folder in EMBEDDED.iterdir() if folder.is_dir()} == recipes


def test_committed_reports_name_no_place_of_a_machine():
    for file in (path for path in (ROOT / "reports").rglob("*") if path.suffix in {".md", ".json", ".html"}):
        text = file.read_text(encoding="utf-8")
        assert not [place for place in ("/work", "/tmp", "/root", "/home") if place in text], file  # noqa: S108


def test_every_view_of_a_folder_is_written_anew_and_html_only_where_there_was_one(tmp_path):
    result = (ROOT / "reports" / "example_drawn_faces" / "result.json").read_bytes()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_bytes(result)
    for stale in ("one/report.html", "index.md"):
        (tmp_path / stale).write_text("stale")
    views.main([str(tmp_path)])
    assert (tmp_path / "one" / "report.md").read_text() == (tmp_path / "two" / "report.md").read_text()
    assert (tmp_path / "one" / "report.html").stat().st_size > 10_000
    assert not (tmp_path / "two" / "report.html").exists()
    assert "(two/report.md)" in (tmp_path / "index.md").read_text()
