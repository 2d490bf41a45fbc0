"""A figure of a report: a chart as inline SVG, with what it finds in words."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from repairkit import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

WIDTH = 4.2
"""Inches; 72 SVG units each. Text of nine units then stays legible on a phone."""
FONTS = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"
_INVALID_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>|<defs>\s*</defs>", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """A chart, what it shows, and what it finds.

    Attributes:
        key: file name and element id.
        title: what is drawn.
        finding: what the reader should see, in a sentence or two; caption and alternative text.
        detail: the numbers in the chart in words, for those who cannot see it.
        chart: draws on an empty matplotlib figure; None when there is nothing to draw, which `finding` then explains.
        height: in inches; the width is always 4.2.
    """

    key: str
    title: str
    finding: str
    detail: str = ""
    chart: Callable[[Canvas], None] | None = field(default=None, compare=False, repr=False)
    height: float = 2.8

    @property
    def alt(self) -> str:
        """Title, finding and numbers as one text."""
        return " ".join(part for part in (f"{self.title}.", self.finding, self.detail) if part)

    @cached_property
    def body(self) -> str:
        """The SVG elements of the chart; "" without a chart. Equal results give equal text in every process."""
        return _drawn(self.key, self.chart, self.height) if self.chart else ""

    def svg(self, *, standalone: bool = False) -> str:
        """The chart as an `<svg>` element for a page, or as a file of its own."""
        width, height = WIDTH * 72, self.height * 72
        attributes = {"class": "fig", "viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": self.alt}
        body = self.body
        if standalone:
            attributes |= {"xmlns": "http://www.w3.org/2000/svg", "width": f"{2 * width:g}", "height": f"{2 * height:g}"}
            body = f"<title>{escape(self.title)}</title><desc>{escape(self.alt)}</desc>{body}"
        written = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items())
        return f'<svg {written} font-family="{FONTS}" font-size="9" stroke-linejoin="round">{body}</svg>'


def escape(text: str) -> str:
    """Text that is safe in XML, in elements as in attributes; characters that XML forbids are replaced.

    Example:
        >>> escape("<b> & 'c'"), escape("tab" + chr(0)) == "tab" + chr(0xFFFD)
        ('&lt;b&gt; &amp; &#x27;c&#x27;', True)
    """
    return html.escape(_INVALID_XML.sub("\ufffd", text))


def _drawn(key: str, chart: Callable[[Canvas], None], height: float) -> str:
    """Draw with the settings of reports, whatever the user's are, and without pyplot's state."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(), io.StringIO() as file, warnings.catch_warnings():
        mpl.rcdefaults()
        for name, value in (plots.STYLE | {"svg.hashsalt": key}).items():
            mpl.rcParams[name] = value  # type: ignore[index]
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's fonts draw the text
        canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
        chart(canvas)
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        return _inline(file.getvalue(), key)


def _inline(written: str, key: str) -> str:
    """What stands inside `<svg>`, short, with ids that no other figure of a page has."""
    body = _INVALID_XML.sub("\ufffd", _DROPPED.sub("", written))
    body = body[body.index(">", body.index("<svg")) + 1 : body.rindex("</svg>")]
    used = set(re.findall(r"(?:href=\"|url\()#([^\")]+)", body))
    return re.sub(r"<[^>]*>", lambda tag: _short(tag[0], key, used), re.sub(r">\s+<", "><", body.strip()))


def _short(tag: str, key: str, used: set[str]) -> str:
    """A tag with two decimals and prefixed ids, its font left to the page."""
    tag = re.sub(r' id="([^"]*)"', lambda name: f' id="{key}-{name[1]}"' if name[1] in used else "", tag)
    tag = tag.replace('xlink:href="#', f'href="#{key}-').replace("url(#", f"url(#{key}-")
    tag = re.sub(r" font-family: [^;]*;|font-size: 9px;| transform=\"rotate\\(-0 [^)]*\\)\"", "", tag)
    return re.sub(r"(?<![#\w])(-?\d+\.\d\d)\d+", r"\1", re.sub(r"\s+", " ", tag))
