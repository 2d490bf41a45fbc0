"""The page that lists the reports of several recipes: `index.html` and `index.md` beside their folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from repairkit.files import write_text
from repairkit.report import html
from repairkit.report.formatting import NONE, OUTCOME_SYMBOL
from repairkit.report.html import element, text
from repairkit.report.markdown import escape
from repairkit.result import Result

FAILED = "failed"
Reader = Callable[[Path], Result]
"""Reads a `result.json`."""


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
    symbol: str
    outcome: str
    headline: str
    minutes: str


@dataclass(frozen=True)
class Page:
    """What the page shows.

    Attributes:
        lead: how many ran and what that took, failures first.
        notices: of the reports, each once.
    """

    lead: str
    notices: list[str]
    rows: list[Row]


def page(entries: Sequence[Entry], directory: Path, read: Reader) -> Page:
    """A row for each run directory of each recipe, from its `result.json`.

    Raises:
        DataError: a run directory without a result of this version.
    """
    rows: list[Row] = []
    notices: list[str] = []
    failed: list[str] = []
    minutes = 0.0
    for entry in entries:
        found = {file.parent: read(file) for file in sorted((directory / entry.name).rglob("result.json"))}
        rows += [_row(entry.name, place.relative_to(directory).as_posix(), result) for place, result in found.items()]
        notices += [notice for result in found.values() for notice in result.notices]
        # Results of several classes each state the minutes of the whole run.
        minutes += max((result.reproduction.minutes for result in found.values()), default=0.0)
        if not found:
            failed.append(entry.name)
            rows.append(Row(entry.name, "", entry.name, "▼", FAILED, entry.error or "nothing was written", NONE))
    ran = f"{len(entries) - len(failed)} of {len(entries)} recipes ran, in {minutes:.1f} minutes."
    lead = f"Failed: {', '.join(failed)}. {ran}" if failed else ran
    return Page(lead, list(dict.fromkeys(notices)), rows)


def _row(name: str, place: str, result: Result) -> Row:
    verdict = result.verdict
    return Row(
        name, place, result.title, OUTCOME_SYMBOL[verdict.outcome], verdict.outcome, verdict.headline, f"{result.reproduction.minutes:.1f}"
    )


def render_markdown(entries: Sequence[Entry], directory: Path, read: Reader) -> str:
    """The page as Markdown, with links to each `report.md`.

    Raises:
        DataError: as `page`.
    """
    content = page(entries, directory, read)
    lines = ["# Reports", "", escape(content.lead), "", "| Recipe | Report | Outcome | What it found | Minutes |"]
    lines += ["| :--- | :--- | :--- | :--- | ---: |", *map(_markdown_row, content.rows)]
    if content.notices:
        lines += ["", "## Notes of these reports", "", *(f"- {escape(notice)}" for notice in content.notices)]
    return "\n".join(lines) + "\n"


def _markdown_row(row: Row) -> str:
    title = f"[{escape(row.title)}]({escape(row.place)}/report.md)" if row.place else escape(row.title)
    return f"| {escape(row.name)} | {title} | {row.symbol} {escape(row.outcome)} | {escape(row.headline)} | {escape(row.minutes)} |"


def render_html(entries: Sequence[Entry], directory: Path, read: Reader) -> str:
    """The page as HTML, with links to each `report.html`.

    Raises:
        DataError: as `page`.
    """
    content = page(entries, directory, read)
    articles = list(map(_article, content.rows))
    if content.notices:
        articles.append(element("article", element("h2", text("Notes of these reports")), *map(html.notice, content.notices)))
    return html.page(
        "Reports",
        kicker=f"repairkit · {len(content.rows)} reports",
        header=element("p", text(content.lead)),
        main=Markup("\n").join(articles),
        footer=Markup("Each report is rendered from its own <code>result.json</code>."),
    )


def _article(row: Row) -> Markup:
    title = element("a", text(row.title), href=f"{row.place}/report.html") if row.place else text(row.title)
    return element(
        "article",
        element("p", text(f"{row.name} · {row.minutes} minutes"), class_="kicker"),
        element("h2", title),
        html.outcome(row.outcome, row.symbol),
        element("p", text(row.headline)),
    )


def write(entries: Sequence[Entry], directory: Path, read: Reader) -> None:
    """Write both pages anew, each whole or not at all.

    Raises:
        DataError: as `page`.
    """
    write_text(directory / "index.html", render_html(entries, directory, read))
    write_text(directory / "index.md", render_markdown(entries, directory, read))
