"""A document as GitHub-flavoured Markdown, with its figures as SVG files in a folder beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from repairkit.files import write_text
from repairkit.report.document import Block, Bullets, Cell, Definitions, Document, Heading, Table, Text
from repairkit.report.figure import Figure
from repairkit.report.formatting import OUTCOME_SYMBOL
from repairkit.report.glossary import Glossary

_SPECIAL = re.compile(r"([\\`*_\[\]|~!$])")
_LEADING = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[#+=-]+(?:\s|$)))")
_ALIGNMENT = {"number": "---:", "text": ":---", "code": ":---", "status": ":---"}


def escape(text: str) -> str:
    r"""One line of text in which no character starts markup, ends a table cell or opens a tag.

    Example:
        >>> print(escape("a|b `c` <d> & 1_2"), escape("1. x"), escape("98.4%"), sep="; ")
        a\|b \`c\` &lt;d&gt; &amp; 1\_2; 1\. x; 98.4%
    """
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LEADING.sub(r"\1\\", _SPECIAL.sub(r"\\\1", line))


def code(text: str) -> str:
    r"""An inline code span, or escaped text where a code span could break out of its table cell.

    Example:
        >>> print(code("features.3:17"), code("a|b"), sep="; ")
        `features.3:17`; a\|b
    """
    line = " ".join(text.split())
    return f"`{line}`" if line and not set(line) & set("`|\\") else escape(line)


def code_block(text: str) -> str:
    """A fenced block whose fence is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def table(content: Table) -> str:
    """A pipe table under its caption; details follow in brackets."""
    rows = (list(map(_cell, row)) for body in content.bodies for row in body)
    return f"**{escape(content.caption)}**\n\n{_pipes([list(map(escape, content.heads)), [_ALIGNMENT[kind] for kind in content.kinds], *rows])}"


def render(document: Document, folder: str = "figures") -> str:
    """The report as text; `folder` is the place of its figures."""
    return "\n\n".join(part for part in _parts(document, folder) if part) + "\n"


def write(document: Document, path: Path) -> None:
    """Write the report to `path` and its figures to `figures/` beside it, each file whole or not at all."""
    for section in document.sections:
        for block in section.blocks:
            if isinstance(block, Figure) and block.chart:
                write_text(path.parent / "figures" / f"{block.key}.svg", block.svg(standalone=True) + "\n")
    write_text(path, render(document))


def _parts(document: Document, folder: str) -> Iterator[str]:
    verdict = document.verdict
    yield f"# {escape(document.title)}"
    yield from (f"> **Note.** {escape(notice)}" for notice in document.notices)
    yield "## Verdict"
    yield f"**{OUTCOME_SYMBOL[verdict.outcome]} {verdict.outcome}.** **{escape(verdict.headline)}**"
    yield from map(escape, verdict.sentences)
    yield "\n".join(
        f"- **{escape(figure.metric)}:** {figure.before} → {figure.after}; {figure.difference} points ({figure.interval}) {figure.status}"
        for figure in document.key_figures
    )
    facts = _pipes([[":---", ":---"], *([escape(name), escape(value)] for name, value in document.facts)])
    yield f"| Run | |\n{facts}"
    for section in document.sections:
        yield f"## {escape(section.title)}"
        yield from (_block(block, folder) for block in section.blocks)
    yield "## Glossary"
    yield from _glossary(document.glossary)
    yield "## Reproduce"
    yield code_block(document.command)
    yield "\n".join(
        line
        for name, pairs in document.reproduction
        for line in (f"- **{escape(name)}**", *(f"  - {escape(key)}: {escape(value)}" for key, value in pairs))
    )


def _block(block: Block, folder: str) -> str:
    match block:
        case Text():
            return escape(block.text)
        case Heading():
            return f"### {escape(block.text)}"
        case Bullets():
            return "\n".join(f"- {'▼ ' if block.worse else ''}{escape(item)}" for item in block.items)
        case Definitions():
            return "\n".join(f"- **{escape(term)}:** {escape(what)}" for term, what in block.items)
        case Table():
            return table(block)
        case Figure():
            drawn = f"![{escape(block.alt)}]({folder}/{block.key}.svg)\n\n" if block.chart else ""
            return f"### {escape(block.title)}\n\n{drawn}{escape(block.finding)}"


def _glossary(glossary: Glossary) -> Iterator[str]:
    yield escape(glossary.lead)
    heads = ["Metric", "What is it?", "When does it matter?", "Who fails?"]
    rows = ([f"**{escape(entry.term)}**", *map(escape, (entry.what, entry.when, entry.who))] for entry in glossary.metrics)
    yield _pipes([heads, [":---"] * len(heads), *rows])
    yield "\n".join(f"- **{escape(entry.term)}:** {escape(entry.what)}" for entry in glossary.terms)


def _pipes(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    text = code(cell.text) if cell.kind == "code" else escape(cell.text)
    return f"{text} ({escape(cell.detail)})" if cell.detail else text
