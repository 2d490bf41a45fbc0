"""The page that lists the reports of several recipes: `index.html` and `index.md` beside their folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repairkit.files import write_text
from repairkit.report import html, kinds, markdown
from repairkit.report.result import Result


@dataclass(frozen=True)
class Entry:
    """What became of a recipe.

    Attributes:
        name: its name, and the folder of its run directory, which may hold several.
        error: why it has none; empty where it has.
    """

    name: str
    error: str = ""


@dataclass(frozen=True)
class Row:
    """A report as the page shows it; without a place the error in place of the headline."""

    name: str
    place: str
    title: str
    outcome: str
    headline: str
    minutes: str


def rows(entries: Sequence[Entry], directory: Path) -> list[Row]:
    """A row for each run directory of each recipe, from its `result.json`.

    Raises:
        DataError: a run directory without a result of this version.
    """
    found: list[Row] = []
    for entry in entries:
        files = sorted((directory / entry.name).rglob("result.json"))
        found += [_row(entry.name, file.parent.relative_to(directory).as_posix(), kinds.read(file)) for file in files]
        if not files:
            found.append(Row(entry.name, "", entry.name, "failed", entry.error or "nothing was written", "—"))
    return found


def _row(name: str, place: str, result: Result) -> Row:
    return Row(name, place, result.title, result.verdict.outcome, result.verdict.headline, f"{result.reproduction.minutes:.0f}")


def write(entries: Sequence[Entry], directory: Path) -> None:
    """Write both pages anew, each whole or not at all."""
    found = rows(entries, directory)
    write_text(directory / "index.html", html.page("index.html.j2", rows=found))
    write_text(directory / "index.md", markdown.page("index.md.j2", rows=found))
