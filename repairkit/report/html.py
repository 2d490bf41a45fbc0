"""A document as one static web page: no script, no request, readable on a phone, on paper and in the dark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from repairkit.files import write_text
from repairkit.report.document import Block, Bullets, Cell, Definitions, Document, Heading, KeyFigure, Pairs, Section, Table, Text
from repairkit.report.figure import Figure
from repairkit.report.formatting import OUTCOME_SYMBOL
from repairkit.report.glossary import Glossary

_UNBROKEN = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|[np] = [\d,.]*\d|[\d.,]+ %)")
_FOOTER = Markup("Rendered from <code>result.json</code>, which is the truth; this page adds nothing to it.")


def text(shown: str) -> Markup:
    """Escaped text in which no option, number of images or percentage breaks at the end of a line.

    Example:
        >>> print(text("a < b (--weights; n = 1,270)"))
        a &lt; b (<span class="whole">--weights</span>; <span class="whole">n = 1,270</span>)
    """
    return Markup(_UNBROKEN.sub(r'<span class="whole">\1</span>', str(escape(shown))))  # noqa: S704  (escaped first)


def element(name: str, *content: Markup, **attributes: str) -> Markup:
    """An HTML element; in names of attributes a final underscore is dropped, others are hyphens.

    Example:
        >>> print(element("td", text("a & b"), class_="number"))
        <td class="number">a &amp; b</td>
    """
    written = Markup("").join(Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, Markup("").join(content))


def render(document: Document) -> str:
    """The page as text; every string of the document is escaped, and equal documents give equal text."""
    contents = [(section.key, section.title) for section in document.sections]
    return page(
        document.title,
        kicker=f"repairkit · {document.kind} report · {document.created}",
        header=_lines(notice(f" {said}", strong="Note.") for said in document.notices),
        contents=[("verdict", "Verdict"), *contents, ("glossary", "Glossary"), ("reproduce", "Reproduce")],
        main=_lines(_main(document)),
        footer=_FOOTER,
    )


def page(title: str, *, kicker: str, header: Markup, main: Markup, footer: Markup, contents: Sequence[tuple[str, str]] = ()) -> str:
    """A page in the style of the reports; strings are escaped. Without `contents` it is a plain list of articles."""
    style = files("repairkit.report").joinpath("report.css").read_text(encoding="utf-8")
    shown = {"title": title, "kicker": kicker, "header": header, "main": main, "footer": footer, "contents": contents}
    return _template().render(style=Markup(style), **shown)  # noqa: S704  (our own file)


def notice(said: str, *, strong: str = "") -> Markup:
    """A notice at the head of a page."""
    return element("p", *([element("strong", text(strong))] if strong else []), text(said), class_="notice", role="note")


def outcome(name: str, symbol: str) -> Markup:
    """The outcome of a verdict after its symbol."""
    return element("p", element("span", text(symbol), aria_hidden="true"), text(f" {name}"), class_="outcome")


def write(document: Document, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render(document))


@cache
def _template() -> Template:
    # select_autoescape would not escape a template whose name ends in .j2
    loader = PackageLoader("repairkit", "report")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html.j2")


def _main(document: Document) -> Iterable[Markup]:
    yield _verdict(document)
    yield _definitions(document.facts, "facts")
    yield from map(_section, document.sections)
    yield _glossary(document.glossary)
    yield _reproduction(document.command, document.reproduction)


def _verdict(document: Document) -> Markup:
    verdict = document.verdict
    key = [element("ul", *map(_key_figure, document.key_figures), class_="key")] if document.key_figures else []
    return element(
        "section",
        element("h2", text("Verdict"), id="verdict"),
        outcome(verdict.outcome, OUTCOME_SYMBOL[verdict.outcome]),
        element("p", text(verdict.headline), class_="headline"),
        *(element("p", text(sentence)) for sentence in verdict.sentences),
        *key,
        class_=f"verdict {verdict.outcome.replace(' ', '-')}",
        aria_labelledby="verdict",
    )


def _key_figure(figure: KeyFigure) -> Markup:
    arrow = element("span", text("→"), class_="arrow", role="img", aria_label="to")
    change = (text(f"{figure.before} "), arrow, text(" "), element("b", text(figure.after)))
    interval = (text(f"{figure.difference} points "), element("small", text(f"({figure.interval})")))
    return element(
        "li",
        element("span", text(figure.metric), class_="metric"),
        element("span", *change, class_="change"),
        element("span", *interval, class_="by"),
        _status(figure.status, figure.claim),
    )


def _section(section: Section) -> Markup:
    """Figures that follow one another stand in columns."""
    content: list[Markup] = []
    for figures, run in groupby(section.blocks, key=lambda block: isinstance(block, Figure)):
        shown = map(_block, run)
        content += [element("div", *shown, class_="drawings")] if figures else shown
    return element("section", element("h2", text(section.title), id=section.key), *content, aria_labelledby=section.key)


def _block(block: Block) -> Markup:
    match block:
        case Text():
            return element("p", text(block.text))
        case Heading():
            return element("h3", text(block.text))
        case Bullets():
            css = {"class_": "worse-list"} if block.worse else {}
            return element("ul", *(element("li", text(item)) for item in block.items), **css)
        case Definitions():
            return _definitions(block.items, "columns")
        case Table():
            return _table(block)
        case Figure():
            return _figure(block)


def _definitions(items: Pairs, css: str) -> Markup:
    entries = (element("div", element("dt", text(term)), element("dd", text(what))) for term, what in items)
    return element("dl", *entries, class_=css)


def _figure(figure: Figure) -> Markup:
    drawn = [Markup(figure.svg())] if figure.chart else []  # noqa: S704  (figures escape)
    return element(
        "figure", element("h3", text(figure.title)), *drawn, element("figcaption", text(figure.finding)), id=f"figure-{figure.key}"
    )


def _table(table: Table) -> Markup:
    heads = (element("th", text(head), scope="col", class_=kind) for head, kind in zip(table.heads, table.kinds, strict=True))
    rows = (element("tbody", *(element("tr", *map(_cell, row, (True, *(False,) * len(row)))) for row in body)) for body in table.bodies)
    caption = element("caption", element("span", text(table.caption), id=f"{table.key}-caption"))
    css = {"class_": "wide"} if len(table.heads) > 5 else {}
    shown = element("table", caption, element("thead", element("tr", *heads)), *rows, **css)
    return element("div", shown, class_="scroll", role="region", aria_labelledby=f"{table.key}-caption", tabindex="0")


def _cell(cell: Cell, heads_row: bool) -> Markup:
    shown = text(cell.text)
    if cell.claim:
        shown = _status(cell.text, cell.claim)
    elif cell.kind == "code":
        shown = element("code", shown)
    detail = [text(" "), element("small", text(cell.detail))] if cell.detail else []
    name, scope = ("th", {"scope": "row"}) if heads_row else ("td", {})
    return element(name, shown, *detail, **scope, class_=cell.kind)


def _status(said: str, claim: str) -> Markup:
    return element("span", text(said), class_=f"claim {claim.replace(' ', '-')}")


def _glossary(glossary: Glossary) -> Markup:
    metrics = (
        element(
            "div",
            element("dt", text(metric.term)),
            element("dd", text(metric.what)),
            element("dd", element("b", text("When it matters.")), text(f" {metric.when}")),
            element("dd", element("b", text("Who fails.")), text(f" {metric.who}")),
        )
        for metric in glossary.metrics
    )
    terms = (element("div", element("dt", text(term.term)), element("dd", text(term.what))) for term in glossary.terms)
    return element(
        "section",
        element("h2", text("Glossary"), id="glossary"),
        element("p", text(glossary.lead)),
        element("dl", *metrics, *terms, class_="glossary"),
        aria_labelledby="glossary",
    )


def _reproduction(command: str, groups: Sequence[tuple[str, Pairs]]) -> Markup:
    return element(
        "section",
        element("h2", text("Reproduce"), id="reproduce"),
        element("div", element("pre", element("code", text(command))), class_="scroll", role="region", aria_label="Command", tabindex="0"),
        element(
            "div", *(element("div", element("h3", text(name)), _definitions(pairs, "pairs")) for name, pairs in groups), class_="blocks"
        ),
        aria_labelledby="reproduce",
    )


def _lines(parts: Iterable[Markup]) -> Markup:
    return Markup("\n").join(parts)
