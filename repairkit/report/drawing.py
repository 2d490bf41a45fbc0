"""What figures of a report are drawn with: hand-made SVG, small, themable by CSS variables, the same bytes for the same result.

Each figure is drawn 400 units wide, so that its text stays legible on a phone; colours and line styles
live in `figure.css`. Shape and colour both tell the columns apart.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

WIDTH = 400
_KNOWN = ("original", "repaired", "threshold", "dropout", "dropout_repaired")
_STAND_IN = {"adversarially_trained": 4}  # no report has it beside a repaired dropout-trained network
_STYLES = 6
_INVALID_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Figure:
    """A drawing, what it shows, and what it finds.

    Attributes:
        key: file name and element id.
        title: what is drawn.
        finding: what the reader should see, in a sentence or two; caption and alternative text.
        detail: the numbers in the drawing in words, for those who cannot see it.
        height: in SVG units; the width is always 400.
        body: SVG elements; empty when there was nothing to draw, which `finding` then explains.
    """

    key: str
    title: str
    finding: str
    detail: str = ""
    height: float = 0
    body: str = ""

    @property
    def alt(self) -> str:
        """Title, finding and numbers as one text."""
        return " ".join(part for part in (f"{self.title}.", self.finding, self.detail) if part)

    def svg(self, *, standalone: bool = False) -> str:
        """The drawing as an `<svg>` element, or as a file of its own with its style sheet and background."""
        attributes = {"class": "fig", "viewBox": f"0 0 {WIDTH} {number(self.height)}", "role": "img", "aria-label": self.alt}
        body = self.body
        if standalone:
            attributes |= {"xmlns": "http://www.w3.org/2000/svg", "width": str(WIDTH * 2), "height": number(self.height * 2)}
            background = tag("rect", css="paper", x=0, y=0, width=WIDTH, height=self.height)
            body = f"<title>{escape(self.title)}</title><desc>{escape(self.alt)}</desc><style>{style()}</style>{background}{body}"
        written = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items())
        return f"<svg {written}>{body}</svg>"


@dataclass(frozen=True)
class Scale:
    """A linear map from values to SVG units.

    Example:
        >>> scale = Scale(0.5, 1.0, 0, 100)
        >>> scale(0.75), scale.ticks()
        (50.0, [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    """

    low: float
    high: float
    start: float
    stop: float

    @classmethod
    def around(cls, values: Iterable[float], start: float, stop: float, *, pad: float = 0.05, top: float = math.inf) -> Scale:
        """A scale that holds all values with a margin, not above `top`."""
        found = list(values)
        low, high = min(found), max(found)
        margin = (high - low) * pad or max(abs(high), 1.0) * 0.01
        return cls(low - margin, max(min(high + margin, top), high), start, stop)

    def __call__(self, value: float) -> float:
        """Where `value` lies, in SVG units."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """At most `most` round numbers inside the scale."""
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        for step in (power * factor for factor in (1, 2, 5, 10, 20, 50)):
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first + 1 <= most:
                return [round(position * step, 12) for position in range(first, last + 1)]
        return []


def style() -> str:
    """The style sheet of figures, with the light and the dark palette."""
    return files("repairkit.report").joinpath("figure.css").read_text(encoding="utf-8")


def escape(text: str) -> str:
    """Text that is safe in XML, in elements as in attributes; characters that XML forbids are replaced.

    Example:
        >>> escape("<b> & 'c'"), escape("tab" + chr(0)) == "tab" + chr(0xFFFD)
        ('&lt;b&gt; &amp; &#x27;c&#x27;', True)
    """
    return html.escape(_INVALID_XML.sub("\ufffd", text))


def tag(name: str, content: str = "", *, css: str = "", **attributes: float | str) -> str:
    """An SVG element; underscores in attribute names stand for hyphens. `content` is SVG already."""
    written = [f'class="{css}"'] if css else []
    for key, value in attributes.items():
        written.append(f'{key.replace("_", "-")}="{escape(value) if isinstance(value, str) else number(value)}"')
    opening = " ".join([name, *written])
    return f"<{opening}>{content}</{name}>" if content else f"<{opening}/>"


def number(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(x: float, y: float, words: str, *, css: str = "", anchor: str = "start", most: int = 80) -> str:
    """Text at a point, cut to `most` characters."""
    clipped = words if len(words) <= most else words[: most - 1] + "…"
    return tag("text", escape(clipped), css=css, x=x, y=y, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return tag("line", css=css, x1=x1, y1=y1, x2=x2, y2=y2)


def marker(style_index: int, x: float, y: float, hint: str = "") -> str:
    """The mark of a column: its shape and colour both follow from its style."""
    css = f"{'hollow' if style_index in (0, 3) else 'full'} s{style_index}"
    content = f"<title>{escape(hint)}</title>" if hint else ""
    if style_index in (0, 1):
        return tag("circle", content, css=css, cx=x, cy=y, r=4)
    corners = {
        2: ((0, -5.2), (5.2, 0), (0, 5.2), (-5.2, 0)),
        3: ((0, -5), (5, 3.8), (-5, 3.8)),
        4: ((0, -5), (5, 3.8), (-5, 3.8)),
        5: ((-3.8, -3.8), (3.8, -3.8), (3.8, 3.8), (-3.8, 3.8)),
    }[style_index]
    return tag("polygon", content, css=css, points=" ".join(f"{number(x + dx)},{number(y + dy)}" for dx, dy in corners))


def style_of(key: str) -> int:
    """The style of a column: one of its own for those that are usual, another for all others."""
    return _KNOWN.index(key) if key in _KNOWN else _STAND_IN.get(key, _STYLES - 1)


def legend(entries: Sequence[tuple[int, str]], y: float) -> tuple[str, float]:
    """Marks and names from left to right, wrapped; returns the drawing and the y below it."""
    drawn, x = [], 8.0
    for style_index, label in entries:
        width = 28 + 6.8 * min(len(label), 44)
        if x + width > WIDTH and x > 8:
            x, y = 8.0, y + 18
        drawn += [marker(style_index, x, y - 4), text(x + 10, y, label, most=44)]
        x += width
    return "".join(drawn), y + 14


def ticks_below(scale: Scale, top: float, bottom: float, form: Callable[[float], str], most: int = 6) -> str:
    """Grid lines and numbers of a horizontal scale."""
    return "".join(line(scale(tick), top, scale(tick), bottom, "grid") for tick in scale.ticks(most)) + numbers_below(
        [(scale(tick), form(tick)) for tick in scale.ticks(most)], bottom + 15
    )


def numbers_below(places: Sequence[tuple[float, str]], y: float) -> str:
    """Numbers centred below their places, from left to right: moved in from the right edge, and left out where they would run into the last."""
    drawn, end = [], -math.inf
    for x, words in places:
        half = 3.5 * len(words)
        middle = min(x, WIDTH - half)
        if middle - half >= end:
            drawn.append(text(middle, y, words, css="m", anchor="middle"))
            end = middle + half + 2
    return "".join(drawn)


def ticks_left(scale: Scale, left: float, right: float, form: Callable[[float], str], most: int = 5) -> str:
    """Grid lines and numbers of a vertical scale."""
    return "".join(
        line(left, scale(tick), right, scale(tick), "grid") + text(left - 6, scale(tick) + 4, form(tick), css="m", anchor="end")
        for tick in scale.ticks(most)
    )


def percent_form(scale: Scale, most: int) -> Callable[[float], str]:
    """Percent without decimals, unless the ticks lie closer than that."""
    ticks = scale.ticks(most)
    close = any(abs(tick * 100 - round(tick * 100)) > 1e-6 for tick in ticks)
    return lambda share: f"{share:.1%}" if close else f"{share:.0%}"


def curve(style_index: int, points: Sequence[tuple[float, float]]) -> str:
    """Marks joined by lines."""
    path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return tag("polyline", css=f"line s{style_index}", points=path) + "".join(marker(style_index, x, y) for x, y in points)
