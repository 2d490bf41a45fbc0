"""A result as GitHub-flavoured Markdown, with its figures as SVG files in a folder beside it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.report_kinds import drawings_of, kind_of
from repairkit.files import write_text
from repairkit.report import tables
from repairkit.report.drawing import Figure
from repairkit.result import Result

_SPECIAL = re.compile(r"([\\`*_\[\]|~!$])")
_LEADING = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[#+=-]+(?:\s|$)))")
_ALIGNMENT = {"number": "---:", "text": ":---", "code": ":---", "status": ":---"}


def escape(text: object) -> str:
    r"""One line of text in which no character starts markup, ends a table cell or opens a tag.

    Example:
        >>> print(escape("a|b `c` <d> & 1_2"), escape("1. x"), escape("98.4%"), sep="; ")
        a\|b \`c\` &lt;d&gt; &amp; 1\_2; 1\. x; 98.4%
    """
    if isinstance(text, Markup):
        return str(text)
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LEADING.sub(r"\1\\", _SPECIAL.sub(r"\\\1", line))


def code(text: str) -> str:
    r"""An inline code span, or escaped text where a code span could break out of its table cell.

    Example:
        >>> print(code("features.3:17"), code("a|b"), sep="; ")
        `features.3:17`; a\|b
    """
    line = " ".join(text.split())
    return f"`{line}`" if line and not set(line) & set("`|\\") else escape(line)


def code_block(text: str) -> Markup:
    """A fenced block whose fence is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markup(f"{fence}sh\n{text}\n{fence}")  # noqa: S704  (fenced, so nothing in it is markup)


def table(content: tables.Table) -> Markup:
    """A pipe table under its caption; details follow in brackets."""
    rows = [row for body in content.bodies for row in body]
    lines = [
        [escape(head) for head in content.heads],
        [_ALIGNMENT[kind] for kind in content.kinds],
        *(list(map(_cell, row)) for row in rows),
    ]
    written = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return Markup(f"**{escape(content.caption)}**\n\n{written}")  # noqa: S704  (every cell is escaped)


def _cell(cell: tables.Cell) -> str:
    text = code(cell.text) if cell.kind == "code" else escape(cell.text)
    return f"{text} ({escape(cell.detail)})" if cell.detail else text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("repairkit.report"),
        autoescape=False,  # noqa: S701  (escaped by `finalize`, for Markdown instead of HTML)
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"table": table, "code_block": code_block}
    return environment


def render(result: Result, drawings: list[Figure], folder: str = "figures") -> str:
    """The report as text; everything that is not marked safe is escaped on its way out."""
    kind = kind_of(result)
    words = tables.words(result.kind)
    return page(
        f"{kind.template}.md.j2",
        result=result,
        tables=tables,
        own=kind.tables,
        compared=comparison_tables,
        words=words,
        drawings=drawings,
        folder=folder,
    )


def page(template: str, **shown: object) -> str:
    """A page of one of the templates; what is shown is escaped."""
    return _environment().get_template(template).render(**shown)


def write(result: Result, path: Path) -> None:
    """Write the report to `path` and its figures to `figures/` beside it, each file whole or not at all."""
    drawings = drawings_of(result)
    for drawing in drawings:
        if drawing.body:
            write_text(path.parent / "figures" / f"{drawing.key}.svg", drawing.svg(standalone=True) + "\n")
    write_text(path, render(result, drawings))
