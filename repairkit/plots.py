"""Charts of results, drawn on a matplotlib `Axes`: the same functions serve a notebook and a report.

The functions take plain numbers. Shape and colour both tell series apart, and the palette is safe for colour-blind readers.
`STYLE` holds the matplotlib settings of a report; `with matplotlib.rc_context(STYLE)` gives a notebook the same look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, MUTED, RULE, PAPER, ACCENT = "#1c1d20", "#5c5f66", "#d8d6cc", "#fffffc", "#d55e00"
STYLE: dict[str, Any] = {
    "figure.facecolor": PAPER,
    "figure.figsize": (4.2, 3.0),
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.left": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "svg.fonttype": "none",
}
LOG_ABOVE = 50
"""A histogram with a fuller bin than this has a logarithmic axis of counts."""


class Style(NamedTuple):
    """Colour and shape of a series."""

    color: str
    marker: str
    hollow: bool = False

    @property
    def artist(self) -> dict[str, Any]:
        """The keyword arguments of a matplotlib line or marker."""
        face = PAPER if self.hollow else self.color
        return {"color": self.color, "marker": self.marker, "markerfacecolor": face, "markeredgecolor": self.color, "markeredgewidth": 1.3}


BASELINE, PRIMARY, SECONDARY, TERTIARY, QUATERNARY, OTHER = (
    Style("#3c3f45", "o", hollow=True),
    Style("#0072b2", "o"),
    Style("#d55e00", "D"),
    Style("#b0508a", "^", hollow=True),
    Style("#00805d", "^"),
    Style("#8a6d00", "s"),
)
_STYLES = {
    "original": BASELINE,
    "repaired": PRIMARY,
    "threshold": SECONDARY,
    "dropout": TERTIARY,
    "dropout_repaired": QUATERNARY,
    "adversarially_trained": QUATERNARY,  # no report has it beside a repaired dropout-trained network
}


class Interval(NamedTuple):
    """A value between the ends of its interval."""

    value: float
    low: float
    high: float


class Group(NamedTuple):
    """Shares that belong together: a row for each series, and the number of images behind them."""

    label: str
    n: int
    shares: Sequence[tuple[Style, Interval]]


class Series(NamedTuple):
    """Values against x, each with its interval."""

    label: str
    style: Style
    x: Sequence[float]
    values: Sequence[Interval]


class Track(NamedTuple):
    """Points in a plane joined by a line, with marks or without; the points that matter have intervals in both directions."""

    label: str
    style: Style
    points: Sequence[tuple[float, float]]
    crosses: Sequence[tuple[Interval, Interval]] = ()
    marked: bool = False


def style_of(column: str) -> Style:
    """The style of a network or decision rule in all charts; those without a style of their own share one.

    Example:
        >>> style_of("repaired").marker, style_of("fine-tuned").marker
        ('o', 's')
    """
    return _STYLES.get(column, OTHER)


def clip(text: str, most: int = 44) -> str:
    """One line of at most `most` characters.

    Example:
        >>> clip("features.denseblock4", 8)
        'feature…'
    """
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def add_legend(figure: Figure, entries: Sequence[tuple[str, Style]]) -> None:
    """Name the series above all panels of a figure, in as many columns as have room."""
    from matplotlib.lines import Line2D

    labels = [clip(label) for label, _ in entries]
    room = 13.5 * figure.get_figwidth()  # characters

    def width(columns: int) -> int:
        length = -(-len(labels) // columns)
        return sum(max(map(len, labels[start : start + length])) + 5 for start in range(0, len(labels), length))

    columns = next((number for number in range(len(labels), 1, -1) if width(number) <= room), 1)
    handles = [Line2D([], [], linestyle="none", label=label, **style.artist) for label, (_, style) in zip(labels, entries, strict=True)]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, handletextpad=0.2, borderpad=0, borderaxespad=0.1, columnspacing=1.2
    )


def plot_shares(axes: Axes, groups: Sequence[Group]) -> None:
    """A dot with its interval for every group and series, the number beside it; all values are shares in 0 .. 1.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().subplots()
        >>> plot_shares(axes, [Group("darker women", 271, [(style_of("repaired"), Interval(0.75, 0.70, 0.80))])])
        >>> [text.get_text() for text in axes.texts]
        ['darker women', 'n = 271', '75.0%']
    """
    y = 0.0
    for group in groups:
        axes.annotate(clip(group.label, 38), (0, y), xycoords=("axes fraction", "data"), weight="bold", va="center")
        beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "ha": "right", "annotation_clip": False}
        axes.annotate(f"n = {group.n:,}", (1.17, y), color=MUTED, **beside)
        for style, share in group.shares:
            y += 1
            axes.hlines(y, share.low, share.high, color=style.color, linewidth=1.5)
            axes.plot(share.value, y, linestyle="none", **style.artist)
            axes.annotate(f"{share.value:.1%}", (1.17, y), **beside)
        y += 1.4
    axes.set_ylim(y - 0.8, -0.6)
    axes.set_yticks([])
    low = min(share.low for group in groups for _, share in group.shares)
    axes.set_xlim(max(low - 0.04 * (1 - low), -0.04), 1.01)
    percent(axes.xaxis)


def plot_curves(axes: Axes, series: Sequence[Series], *, title: str = "", chosen: float | None = None) -> None:
    """Shares against x with a band for their intervals; a dashed line marks the chosen x.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().subplots()
        >>> plot_curves(axes, [Series("highest first", PRIMARY, [0, 8], [Interval(0.9, 0.88, 0.92), Interval(0.4, 0.36, 0.44)])])
        >>> axes.lines[0].get_ydata().tolist()
        [0.9, 0.4]
    """
    for entry in series:
        low, values, high = ([getattr(value, name) for value in entry.values] for name in ("low", "value", "high"))
        if any(high[i] > low[i] for i in range(len(values))):
            axes.fill_between(list(entry.x), low, high, color=entry.style.color, alpha=0.16, linewidth=0)
        axes.plot(list(entry.x), values, label=entry.label, **entry.style.artist)
    if chosen is not None:
        axes.axvline(chosen, color=INK, linewidth=1, linestyle=(0, (2, 2)))
    axes.set_title(clip(title, 50), loc="left")
    percent(axes.yaxis)


def plot_histogram(
    axes: Axes, edges: Sequence[float], counts: Sequence[int], *, marked: Sequence[float] = (), color: str = "#8a8d93"
) -> None:
    """How many filters have which value; triangles mark single filters.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().subplots()
        >>> plot_histogram(axes, [0.0, 0.1, 0.2], [3, 7], marked=[0.05])
        >>> [int(bar.get_height()) for bar in axes.patches]
        [3, 7]
    """
    full = [(left, right, count) for left, right, count in zip(edges, edges[1:], counts, strict=False) if count]
    axes.bar([e[0] for e in full], [e[2] for e in full], width=[0.94 * (e[1] - e[0]) for e in full], align="edge", color=color)
    top = _counts(axes, max(counts), margin=1.9 if marked else 1.3)
    if marked:
        axes.vlines(list(marked), 0.6, top, color=ACCENT, linewidth=0.8, alpha=0.5)
        axes.plot(list(marked), [top] * len(marked), linestyle="none", color=ACCENT, marker="v", clip_on=False)
    axes.grid(visible=False, axis="x")


def plot_outlines(axes: Axes, edges: Sequence[float], counts: Mapping[str, tuple[Style, Sequence[int]]]) -> None:
    """Outlines of several histograms over the same edges, with a mark at the fullest bin of each."""
    for label, (style, heights) in counts.items():
        axes.stairs(list(heights), list(edges), color=style.color, label=label, linewidth=1.5)
        fullest = max(range(len(heights)), key=heights.__getitem__)
        axes.plot((edges[fullest] + edges[fullest + 1]) / 2, heights[fullest], linestyle="none", **style.artist)
    _counts(axes, max(max(heights) for _, heights in counts.values()), margin=1.3)
    axes.grid(visible=False, axis="x")


def plot_scatter(axes: Axes, points: Mapping[str, tuple[Style, Sequence[tuple[float, float]]]]) -> None:
    """Values against values; the dashed line is equality."""
    for label, (style, pairs) in points.items():
        axes.plot(
            [x for x, _ in pairs],
            [y for _, y in pairs],
            linestyle="none",
            marker=".",
            markersize=3,
            color=style.color,
            alpha=0.6,
            label=label,
        )
    axes.axline((0, 0), slope=1, color=INK, linewidth=1, linestyle=(0, (2, 2)))
    axes.locator_params(nbins=5)


def plot_trade_off(axes: Axes, tracks: Sequence[Track], *, zoom: bool = False) -> None:
    """Two measures against each other: lines through what was tried, and points with intervals in both directions.

    `zoom` shows the surroundings of the points with intervals, and not the whole of every line.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().subplots()
        >>> point = (Interval(0.97, 0.96, 0.98), Interval(0.7, 0.6, 0.8))
        >>> plot_trade_off(axes, [Track("Repaired", PRIMARY, [(0.98, 0.5), (0.97, 0.7)], [point])])
        >>> axes.lines[0].get_xydata().tolist()
        [[0.98, 0.5], [0.97, 0.7]]
    """
    for track in tracks:
        style = track.style
        shape = style.artist if track.marked else {"color": style.color, "linewidth": 1.2}
        axes.plot([x for x, _ in track.points], [y for _, y in track.points], label=track.label, **shape)
    for style, x, y in [(track.style, *cross) for track in tracks for cross in track.crosses]:
        axes.hlines(y.value, x.low, x.high, color=style.color, linewidth=1, alpha=0.6)
        axes.vlines(x.value, y.low, y.high, color=style.color, linewidth=1, alpha=0.6)
        axes.plot(x.value, y.value, linestyle="none", **style.artist)
    crosses = [cross for track in tracks for cross in track.crosses]
    if zoom and crosses:
        axes.set_xlim(*_around([end for x, _ in crosses for end in (x.low, x.high)]))
        axes.set_ylim(*_around([end for _, y in crosses for end in (y.low, y.high)]))
    percent(axes.xaxis)
    percent(axes.yaxis)


def _around(values: Sequence[float]) -> tuple[float, float]:
    margin = max(0.15 * (max(values) - min(values)), 0.005)
    return min(values) - margin, min(max(values) + margin, max(*values, 1.0) + 0.005)


def plot_bars(axes: Axes, bars: Sequence[tuple[str, float, str]], *, outer: Sequence[float] = ()) -> None:
    """A bar for each name, with text beside it; `outer` is the length of which the bar is a part.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().subplots()
        >>> plot_bars(axes, [("layer1.conv1", 5, "5 of 64")], outer=[64])
        >>> [int(bar.get_width()) for bar in axes.patches]
        [64, 5]
    """
    rows = range(len(bars))
    if outer:
        axes.barh(rows, list(outer), height=0.64, color=RULE)
    axes.barh(rows, [length for _, length, _ in bars], height=0.64, color=MUTED)
    for row, (_, length, words) in enumerate(bars):
        end = max(length, outer[row] if outer else 0)
        axes.annotate(words, (end, row), xytext=(4, 0), textcoords="offset points", va="center", color=MUTED, annotation_clip=False)
    axes.set_yticks(rows, [name if len(name) <= 26 else f"…{name[-25:]}" for name, _, _ in bars], color=INK)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, max([length for _, length, _ in bars] + list(outer)))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)


def plot_cells(axes: Axes, counts: Sequence[Sequence[int]]) -> None:
    """A square for each cell of a table of counts, its area in proportion to the count; the first row is at the bottom."""
    most = max(max(row) for row in counts)
    for row, line in enumerate(counts):
        sides = [0.94 * math.sqrt(count / most) for count in line]
        for column, side in enumerate(sides):
            if side:
                corner = (column + 0.5 - side / 2, row + 0.5 - side / 2)
                axes.add_patch(_rectangle(corner, side))
    axes.set_xlim(0, len(counts[0]))
    axes.set_ylim(0, len(counts))
    axes.set_aspect("equal")
    axes.spines["left"].set_visible(True)
    axes.grid(visible=False)


def plot_trajectories(axes: Axes, x: Sequence[float], trajectories: Sequence[Sequence[float]], mean: Sequence[float]) -> None:
    """Shares of single runs as thin lines, and their mean with marks."""
    for values in trajectories:
        axes.plot(list(x)[: len(values)], list(values), color=BASELINE.color, linewidth=0.5, alpha=0.35)
    axes.plot(list(x), list(mean), **SECONDARY.artist)
    percent(axes.xaxis)
    percent(axes.yaxis)


def percent(axis: Axis, most: int = 5) -> None:
    """Ticks of an axis as per cent, with decimals only where they lie closer than that."""
    _round_ticks(axis, most)

    def formatted(share: float, _: object) -> str:
        low, high = sorted(axis.get_view_interval())
        return f"{share + 0.0:.1%}" if high - low < 0.04 else f"{share + 0.0:.0%}"

    axis.set_major_formatter(formatted)


def whole(axis: Axis, most: int = 6) -> None:
    """Ticks of an axis as whole numbers."""
    _round_ticks(axis, most, integer=True)
    axis.set_major_formatter(lambda number, _: f"{number:,.0f}")


def plain(axis: Axis, most: int = 5) -> None:
    """Ticks of an axis as numbers without an offset."""
    _round_ticks(axis, most)
    axis.set_major_formatter(lambda number, _: f"{number + 0.0:.6g}")


def log_ticks(axis: Axis, ticks: Sequence[tuple[float, str]]) -> None:
    """Given ticks, and no others, on a logarithmic axis."""
    axis.set_ticks([value for value, _ in ticks], [label for _, label in ticks])
    axis.set_ticks([], minor=True)


def _round_ticks(axis: Axis, most: int, *, integer: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=integer))


def _counts(axes: Axes, most: int, *, margin: float) -> float:
    """Scale an axis of counts, by logarithms where they differ much; returns its upper end."""
    if most > LOG_ABOVE:
        top = most * margin
        axes.set_yscale("log")
        axes.set_ylim(0.6, top)
        log_ticks(axes.yaxis, [(10.0**power, f"{10**power:,}") for power in range(math.floor(math.log10(most)) + 1)])
        axes.set_ylabel("filters (log scale)")
        return top
    top = most * (1.05 + (margin - 1) / 10)
    axes.set_ylim(0, top)
    whole(axes.yaxis)
    axes.set_ylabel("filters")
    return top


def _rectangle(corner: tuple[float, float], side: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, side, side, color=MUTED, linewidth=0)
