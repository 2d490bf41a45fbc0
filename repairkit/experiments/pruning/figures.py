"""Figures of a report on pruning."""

from __future__ import annotations

from repairkit.experiments.pruning.result import PruningResult
from repairkit.report import drawing, figures, formatting
from repairkit.result import RemovalPoint

LABELS = {"least": "least absolute value first", "random": "random filters"}
_STYLE = {"least": 2, "random": 0}


def draw(result: PruningResult) -> list[drawing.Figure]:
    """All figures of the report, in order.

    Example:
        >>> [figure.key for figure in draw(PruningResult.model_construct(curve=[], layers=[], histograms=[]))]
        ['curve', 'layers']
    """
    histograms = [figures.histogram(entry, f"values-{i + 1}") for i, entry in enumerate(result.histograms)]
    return [_curve(result), _layers(result), *histograms]


def _curve(result: PruningResult) -> drawing.Figure:
    """Accuracy against the number of frozen filters, with intervals, the chosen number marked."""
    title = "Accuracy as filters are frozen"
    most = max((point.filters for point in result.extra.curve), default=0)
    if not most:
        return drawing.Figure("curve", title, "Not drawn: no filter could be frozen.")
    legend, y = drawing.legend([(_STYLE[series], label) for series, label in LABELS.items()], 14)
    x = drawing.Scale.around([0.0, float(most)], 48, drawing.WIDTH - 10, pad=0.02)
    found = {series: [point for point in result.extra.curve if point.series == series] for series in LABELS}
    curves = [(_STYLE[series], [(float(p.filters), p.low, p.value, p.high) for p in line]) for series, line in found.items()]
    body = legend + figures.panel(x, y, "Accuracy on report images", curves)
    if result.extra.chosen:
        body += drawing.line(x(result.extra.chosen), y + 18, x(result.extra.chosen), y + 134, "chosen")
    y += 150
    body += figures.filters_below(
        x, y, f"number of frozen filters{f' (chosen: {formatting.count(result.extra.chosen)})' if result.extra.chosen else ''}"
    )
    at = result.extra.chosen or most
    finding = (
        f"With {formatting.count(at)} filters frozen accuracy is {_at(found['least'], at)} where they are those of least absolute value, "
        f"and {_at(found['random'], at)} where they are drawn at random; without frozen filters {_at(found['least'], 0)}."
    )
    detail = " ".join(
        f"{label.capitalize()}: {'; '.join(f'{formatting.count(p.filters)} {formatting.percent(p.value)}' for p in found[series])}."
        for series, label in LABELS.items()
    )
    return drawing.Figure("curve", title, finding, detail, y + 28, body)


def _at(line: list[RemovalPoint], filters: int) -> str:
    return formatting.percent(next(point.value for point in line if point.filters == filters))


def _layers(result: PruningResult) -> drawing.Figure:
    """A bar for each layer with a frozen filter: how many it has, and how many are left."""
    title = "How narrow each layer became"
    if not result.extra.layers:
        return drawing.Figure("layers", title, "Not drawn: no filter was frozen.")
    said = [f"{formatting.count(entry.filters - entry.removed)} of {formatting.count(entry.filters)}" for entry in result.extra.layers]
    room = 6 + 7 * max(map(len, said))
    scale = drawing.Scale(0.0, float(max(entry.filters for entry in result.extra.layers)), 190, drawing.WIDTH - room)
    y, body = 8.0, ""
    for entry, words in zip(result.extra.layers, said, strict=True):
        y += 16
        label = entry.layer if len(entry.layer) <= 26 else f"…{entry.layer[-25:]}"
        left = entry.filters - entry.removed
        body += drawing.text(182, y, label, anchor="end")
        body += drawing.line(190, y - 4, scale(entry.filters), y - 4, "grid")
        body += drawing.tag("rect", css="bar", x=190, y=y - 9, width=max(scale(left) - 190, 1), height=10)
        body += drawing.text(scale(entry.filters) + 6, y, words, css="m")
    removed = sum(entry.removed for entry in result.extra.layers)
    finding = (
        f"{formatting.count(removed)} filters are gone from {len(result.extra.layers)} layer{'s' if len(result.extra.layers) > 1 else ''}; bars are what is left."
        if removed
        else "Every layer is as wide as it was."
    )
    detail = "; ".join(f"{entry.layer} {entry.filters - entry.removed} of {entry.filters}" for entry in result.extra.layers) + "."
    return drawing.Figure("layers", title, finding, detail, y + 16, body)
