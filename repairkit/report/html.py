"""A result as one static web page: no script, no request, readable on a phone, on paper and in the dark."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from repairkit.baselines import tables as comparison_tables
from repairkit.experiments.report_kinds import drawings_of, kind_of
from repairkit.files import write_text
from repairkit.report import drawing, tables
from repairkit.result import Result

_WHOLE = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|[np] = [\d,.]*\d|[\d.,]+ %)")


def whole(shown: object) -> object:
    """What a template shows, in which no option, number of images or percentage is torn apart at the end of a line.

    Example:
        >>> print(whole("a < b (--weights; n = 1,270)"))
        a &lt; b (<span class="whole">--weights</span>; <span class="whole">n = 1,270</span>)
    """
    if not isinstance(shown, str) or isinstance(shown, Markup) or not _WHOLE.search(shown):
        return shown
    return Markup(_WHOLE.sub(r'<span class="whole">\1</span>', str(escape(shown))))  # noqa: S704  (escaped first)


@cache
def _environment() -> Environment:
    # select_autoescape would not escape a template whose name ends in .j2
    return Environment(
        loader=PackageLoader("repairkit.report"),
        autoescape=True,
        finalize=whole,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(result: Result) -> str:
    """The page as text; every string of the result is escaped, and equal results give equal text."""
    kind = kind_of(result)
    drawings = [(figure, Markup(figure.svg()) if figure.body else None) for figure in drawings_of(result)]  # noqa: S704  (figures escape)
    words = tables.words(result.kind)
    return page(
        f"{kind.template}.html.j2",
        result=result,
        tables=tables,
        own=kind.tables,
        compared=comparison_tables,
        words=words,
        drawings=drawings,
    )


def page(template: str, **shown: object) -> str:
    """A page of one of the templates in the style of the reports; what is shown is escaped."""
    page_style = files("repairkit.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    style = Markup(drawing.style() + page_style)  # noqa: S704  (our own files)
    return _environment().get_template(template).render(style=style, **shown)


def write(result: Result, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render(result))
