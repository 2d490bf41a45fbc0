"""Figures of a report as hand-made SVG: small, themable by CSS variables, the same bytes for the same result.

Each is drawn 400 units wide, so that its text stays legible on a phone; colours and line styles
live in `templates/figure.css`. Shape and colour both tell the columns apart.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from repairkit.report import tables
from repairkit.report.result import CurvePoint, Difference, Histogram, Result, Share

WIDTH = 400
_KNOWN = ("original", "repaired", "threshold", "dropout", "dropout_repaired")
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
        attributes = {"class": "fig", "viewBox": f"0 0 {WIDTH} {_number(self.height)}", "role": "img", "aria-label": self.alt}
        body = self.body
        if standalone:
            attributes |= {"xmlns": "http://www.w3.org/2000/svg", "width": str(WIDTH * 2), "height": _number(self.height * 2)}
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
    return files("repairkit.report").joinpath("templates/figure.css").read_text(encoding="utf-8")


def draw(result: Result) -> list[Figure]:
    """All figures of a report, in order.

    Example:
        >>> [figure.key for figure in draw(Result.model_construct(
        ...     columns=[], groups=[], shares=[], differences=[], curves=[], histograms=[], folds=1))]
        ['recall', 'removal', 'values', 'tradeoff']
    """
    histograms = [_histogram(histogram, "values" if i == 0 else f"values-{i + 1}") for i, histogram in enumerate(result.histograms)]
    if not histograms:
        histograms = [Figure("values", "Values of filters", "Not drawn: the run recorded no histogram of values.")]
    return [_recall(result), _removal(result), *histograms, _tradeoff(result)]


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
        written.append(f'{key.replace("_", "-")}="{escape(value) if isinstance(value, str) else _number(value)}"')
    opening = " ".join([name, *written])
    return f"<{opening}>{content}</{name}>" if content else f"<{opening}/>"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(x: float, y: float, text: str, *, css: str = "", anchor: str = "start", most: int = 80) -> str:
    clipped = text if len(text) <= most else text[: most - 1] + "…"
    return tag("text", escape(clipped), css=css, x=x, y=y, text_anchor=anchor)


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return tag("line", css=css, x1=x1, y1=y1, x2=x2, y2=y2)


def _marker(style_index: int, x: float, y: float, hint: str = "") -> str:
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
    return tag("polygon", content, css=css, points=" ".join(f"{_number(x + dx)},{_number(y + dy)}" for dx, dy in corners))


def _style_of(key: str) -> int:
    return _KNOWN.index(key) if key in _KNOWN else _STYLES - 1


def _legend(entries: Sequence[tuple[int, str]], y: float) -> tuple[str, float]:
    """Marks and names from left to right, wrapped; returns the drawing and the y below it."""
    drawn, x = [], 8.0
    for style_index, label in entries:
        width = 28 + 6.8 * min(len(label), 44)
        if x + width > WIDTH and x > 8:
            x, y = 8.0, y + 18
        drawn += [_marker(style_index, x, y - 4), _text(x + 10, y, label, most=44)]
        x += width
    return "".join(drawn), y + 14


def _ticks_below(scale: Scale, top: float, bottom: float, form: Callable[[float], str], most: int = 6) -> str:
    return "".join(
        _line(scale(tick), top, scale(tick), bottom, "grid") + _text(scale(tick), bottom + 15, form(tick), css="m", anchor="middle")
        for tick in scale.ticks(most)
    )


def _ticks_left(scale: Scale, left: float, right: float, form: Callable[[float], str], most: int = 5) -> str:
    return "".join(
        _line(left, scale(tick), right, scale(tick), "grid") + _text(left - 6, scale(tick) + 4, form(tick), css="m", anchor="end")
        for tick in scale.ticks(most)
    )


def _percent_form(scale: Scale, most: int) -> Callable[[float], str]:
    """Percent without decimals, unless the ticks lie closer than that."""
    ticks = scale.ticks(most)
    close = any(abs(tick * 100 - round(tick * 100)) > 1e-6 for tick in ticks)
    return lambda share: f"{share:.1%}" if close else f"{share:.0%}"


def _stated(entry: Difference) -> str:
    interval, status = tables.interval(entry.low, entry.high, tables.points), tables.STATUS[entry.claim].replace(" ", "\u00a0")
    return f"{tables.row_label(entry.metric, entry.group)} {tables.points(entry.value)} points ({interval}, {status})"


def _repair_effect(result: Result, *, groups: bool) -> str:
    """What the repair did to the groups or to the aggregates; "" when it was not compared."""
    entries = [e for e in result.differences if (e.first, e.second) == ("original", "repaired") and (e.group is not None) == groups]
    return f"Repaired against original: {'; '.join(map(_stated, entries))}." if entries else ""


def _recall(result: Result) -> Figure:
    """Recall of each group and their mean, one row per column, with intervals."""
    title = "Recall of each group"
    wanted = [(("recall", group), group) for group in result.groups] + [(("mean recall", None), "mean recall")]
    found = {(s.metric, s.group, s.column): s for s in result.shares}
    blocks = [(label, [found[*key, c.key] for c in result.columns if (*key, c.key) in found]) for key, label in wanted]
    blocks = [(label, shares) for label, shares in blocks if shares]
    if not blocks:
        return Figure("recall", title, "Not drawn: the run recorded no recalls.")
    legend, y = _legend([(_style_of(c.key), c.label) for c in result.columns], 14)
    scale = Scale.around([s.low for _, shares in blocks for s in shares] + [1.0], 8, 336, top=1.0)
    top, rows = y, []
    for label, shares in blocks:
        y += 20
        rows += [_text(8, y, label, css="b", most=40), _text(WIDTH - 8, y, f"n = {tables.count(shares[0].n)}", css="m", anchor="end")]
        for share in shares:
            y += 15
            rows.append(_recall_row(result, scale, share, label, y))
        y += 8
    axis = _ticks_below(scale, top, y, _percent_form(scale, 5), 5)
    detail = " ".join(f"{label}: {'; '.join(_said(result, s) for s in shares)}." for label, shares in blocks)
    effect = _repair_effect(result, groups=True) or "There is no repair to compare with the original."
    return Figure("recall", title, effect, detail, y + 24, legend + axis + "".join(rows))


def _recall_row(result: Result, scale: Scale, share: Share, label: str, y: float) -> str:
    index, middle = _style_of(share.column), y - 3
    whisker = _line(scale(max(share.low, scale.low)), middle, scale(min(share.high, scale.high)), middle, f"whisker s{index}")
    mark = _marker(index, scale(share.value), middle, f"{label}, {_said(result, share)}")
    return whisker + mark + _text(WIDTH - 8, y + 1, tables.percent(share.value), anchor="end")


def _said(result: Result, share: Share) -> str:
    label, interval = tables.column_label(result, share.column), tables.interval(share.low, share.high, tables.percent)
    return f"{label} {tables.percent(share.value)} ({interval})"


def _by_series(points: Iterable[CurvePoint]) -> dict[str, list[CurvePoint]]:
    series: dict[str, list[CurvePoint]] = {}
    for point in points:
        series.setdefault(point.series, []).append(point)
    return {name: sorted(found, key=lambda point: point.filters) for name, found in series.items()}


def _removal(result: Result) -> Figure:
    """Mean recall and source accuracy against the number of frozen filters."""
    title = "Removal curve: filters frozen one by one"
    curves = {name: found for name, found in _by_series(result.curves).items() if len({point.filters for point in found}) > 1}
    if not curves:
        return Figure("removal", title, "Not drawn: the run recorded no removal curve, because no filter was tried.")
    legend, y = _legend([(_style_of(name), tables.column_label(result, name)) for name in curves], 14)
    x = Scale.around([float(p.filters) for found in curves.values() for p in found], 48, WIDTH - 10, pad=0.02)
    chosen = [point for found in curves.values() for point in found if point.chosen][:1]
    body = legend
    for metric, value in (("Mean recall", _mean_recall), ("Source accuracy", _source_accuracy)):
        scale = Scale.around([value(p) for found in curves.values() for p in found], y + 130, y + 22, top=1.0)
        body += _text(8, y + 10, metric, css="b") + _ticks_left(scale, 48, WIDTH - 10, _percent_form(scale, 5))
        body += "".join(_line(x(p.filters), y + 18, x(p.filters), y + 134, "chosen") for p in chosen)
        body += "".join(_curve(name, [(x(p.filters), scale(value(p))) for p in found]) for name, found in curves.items())
        y += 150
    whole = [tick for tick in x.ticks(8) if tick == int(tick)]
    body += "".join(_text(x(tick), y, tables.count(tick), css="m", anchor="middle") for tick in whole)
    body += _text(
        (48 + WIDTH) / 2,
        y + 18,
        f"{'most filters frozen in a fold' if result.folds > 1 else 'number of frozen filters'}{f' (chosen: {chosen[0].filters})' if chosen else ''}",
        css="m",
        anchor="middle",
    )
    most = "up to " if result.folds > 1 else ""
    detail = " ".join(
        f"{tables.column_label(result, name)}: {_at(found[0], most)}; {_at(found[-1], most)}." for name, found in curves.items()
    )
    return Figure("removal", title, _removal_finding(result, chosen, curves), detail, y + 28, body)


def _mean_recall(point: CurvePoint) -> float:
    return point.mean_recall


def _source_accuracy(point: CurvePoint) -> float:
    return point.source_accuracy


def _removal_finding(result: Result, chosen: Sequence[CurvePoint], curves: dict[str, list[CurvePoint]]) -> str:
    folds = f" (means over {result.folds} folds)" if result.folds > 1 else ""
    if not chosen:
        return f"No number of frozen filters was chosen{folds}."
    before, after = curves[chosen[0].series][0], chosen[0]
    return f"Before, {_read(before)}; as chosen, {_read(after)}{folds}."


def _at(point: CurvePoint, most: str) -> str:
    return f"with {most if point.filters else ''}{point.filters} frozen, {_read(point)}"


def _read(point: CurvePoint) -> str:
    return f"mean recall is {tables.percent(point.mean_recall)} and source accuracy {tables.percent(point.source_accuracy)}"


def _curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    index = _style_of(name)
    path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    return tag("polyline", css=f"line s{index}", points=path) + "".join(_marker(index, x, y) for x, y in points)


def _histogram(histogram: Histogram, key: str) -> Figure:
    """Values over filters, with the frozen ones marked; counts on a log scale where they differ much."""
    title = f"Histogram: {histogram.title}"
    if not histogram.counts or max(histogram.counts) == 0 or len(histogram.edges) != len(histogram.counts) + 1:
        return Figure(key, title, "Not drawn: the histogram holds no filters.")
    most = max(histogram.counts)
    log = most > 50
    x = Scale.around([*histogram.edges, *histogram.culprits], 48, WIDTH - 10, pad=0.01)
    top, bottom = 40.0, 200.0
    y = Scale(math.log10(0.6) if log else 0.0, math.log10(most * 1.3) if log else most * 1.05, bottom, top)
    levels = (
        [10.0**power for power in range(math.floor(math.log10(most)) + 1)] if log else [tick for tick in y.ticks(5) if tick == int(tick)]
    )

    def height(number: float) -> float:
        return y(math.log10(number) if log else number)

    body = "".join(
        _line(48, height(n), WIDTH - 10, height(n), "grid") + _text(42, height(n) + 4, tables.count(n), css="m", anchor="end")
        for n in levels
    )
    for left, right, number in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        if number:
            hint = f"<title>{escape(f'{tables.small(left)} to {tables.small(right)}: {tables.count(number)}')}</title>"
            width = max(x(right) - x(left) - 0.8, 0.6)
            body += tag("rect", hint, css="bar", x=x(left), y=height(number), width=width, height=bottom - height(number))
    for culprit in histogram.culprits:
        at = x(culprit)
        body += _line(at, 30, at, bottom, "culprit-line") + tag(
            "polygon", css="culprit", points=f"{_number(at - 5)},22 {_number(at + 5)},22 {_number(at)},31"
        )
    body += _line(48, bottom, WIDTH - 10, bottom, "axis")
    body += "".join(_text(x(tick), bottom + 15, tables.small(tick), css="m", anchor="middle") for tick in x.ticks(5))
    body += _text(8, 14, "filters (log scale)" if log else "filters", css="m")
    body += _text(WIDTH - 10, 14, "▼ frozen" if histogram.culprits else "none frozen", anchor="end")
    body += _text((48 + WIDTH) / 2, bottom + 33, "value", css="m", anchor="middle")
    return Figure(key, title, _histogram_finding(histogram), "", bottom + 42, body)


def _histogram_finding(histogram: Histogram) -> str:
    span = f"from {tables.small(histogram.edges[0])} to {tables.small(histogram.edges[-1])}"
    tallest = max(range(len(histogram.counts)), key=histogram.counts.__getitem__)
    mode = f"{tables.small(histogram.edges[tallest])} to {tables.small(histogram.edges[tallest + 1])}"
    frozen = ", ".join(tables.small(value) for value in histogram.culprits[:8]) + (", …" if len(histogram.culprits) > 8 else "")
    marked = f"Frozen filters lie at {frozen}." if histogram.culprits else "No filter was frozen."
    return f"Values reach {span}; the fullest bin is {mode}. {marked}"


def _tradeoff(result: Result) -> Figure:
    """Mean recall against source accuracy: every column with its intervals, and the curves between them."""
    title = "Trade-off: mean recall against source accuracy"
    found = {(s.metric, s.column): s for s in result.shares if s.group is None}
    keys = [c.key for c in result.columns if ("mean recall", c.key) in found and ("source accuracy", c.key) in found]
    pairs = {key: (found["source accuracy", key], found["mean recall", key]) for key in keys}
    curves = _by_series(result.curves)
    if not pairs:
        return Figure("tradeoff", title, "Not drawn: the run recorded no mean recall with a source accuracy.")
    names = list(dict.fromkeys([*pairs, *curves]))
    legend, y = _legend([(_style_of(name), tables.column_label(result, name)) for name in names], 14)
    horizontal = [bound for source, _ in pairs.values() for bound in (source.low, source.high)]
    vertical = [bound for _, recall in pairs.values() for bound in (recall.low, recall.high)]
    x = Scale.around([*horizontal, *map(_source_accuracy, result.curves)], 48, WIDTH - 10, top=1.0)
    scale = Scale.around([*vertical, *map(_mean_recall, result.curves)], y + 250, y + 16, top=1.0)
    body = legend + _text(8, y + 4, "mean recall", css="m") + _text(WIDTH - 10, y + 4, "better ↗", css="m", anchor="end")
    body += _ticks_left(scale, 48, WIDTH - 10, _percent_form(scale, 6), 6) + _ticks_below(x, y + 16, y + 250, _percent_form(x, 5), 5)
    body += _text((48 + WIDTH) / 2, y + 285, "source accuracy", css="m", anchor="middle")
    for name, points in curves.items():
        path = " ".join(f"{_number(x(p.source_accuracy))},{_number(scale(p.mean_recall))}" for p in points)
        body += tag("polyline", css=f"line s{_style_of(name)}", points=path)
    for key, (source, recall) in pairs.items():
        css, at_x, at_y = f"cross s{_style_of(key)}", x(source.value), scale(recall.value)
        body += _line(x(source.low), at_y, x(source.high), at_y, css) + _line(at_x, scale(recall.low), at_x, scale(recall.high), css)
    said = {
        key: f"{tables.column_label(result, key)} {tables.percent(recall.value)} at {tables.percent(source.value)}"
        for key, (source, recall) in pairs.items()
    }
    body += "".join(_marker(_style_of(key), x(source.value), scale(recall.value), said[key]) for key, (source, recall) in pairs.items())
    finding = _repair_effect(result, groups=False) or "There is no repair to compare with the original."
    return Figure("tradeoff", title, finding, f"Mean recall at source accuracy: {'; '.join(said.values())}.", y + 294, body)
