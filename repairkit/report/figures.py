"""Figures of a fairness report, and those that other reports share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from repairkit.experiments.fairness.result import CurvePoint, FairnessResult
from repairkit.report import drawing, formatting, tables
from repairkit.result import Difference, Histogram, Result, Share

NOT_COMPARED = "There is no repair to compare with the original."


def draw(result: FairnessResult) -> list[drawing.Figure]:
    """All figures of a fairness report, in order.

    Example:
        >>> [figure.key for figure in draw(FairnessResult.model_construct(
        ...     columns=[], groups=[], shares=[], differences=[], curves=[], histograms=[], folds=1))]
        ['recall', 'removal', 'values', 'tradeoff']
    """
    histograms = [histogram(entry, "values" if i == 0 else f"values-{i + 1}") for i, entry in enumerate(result.histograms)]
    if not histograms:
        histograms = [drawing.Figure("values", "Values of filters", "Not drawn: the run recorded no histogram of values.")]
    return [recall(result), _removal(result), *histograms, _tradeoff(result)]


def _stated(entry: Difference) -> str:
    interval, status = formatting.interval(entry.low, entry.high, formatting.points), formatting.STATUS[entry.claim].replace(" ", "\u00a0")
    return f"{tables.row_label(entry.metric, entry.group)} {formatting.points(entry.value)} points ({interval}, {status})"


def _repair_effect(result: Result, *, groups: bool) -> str:
    """What the repair did to the groups or to the aggregates; "" when it was not compared."""
    entries = [entry for entry in tables.repair_effects(result) if (entry.group is not None) == groups]
    return f"Repaired against original: {'; '.join(map(_stated, entries))}." if entries else ""


def recall(result: Result) -> drawing.Figure:
    """Recall of each group and their mean, one row per column, with intervals."""
    wanted: list[tuple[str, str | None, str]] = [("recall", group, group) for group in result.groups]
    finding = _repair_effect(result, groups=True) or NOT_COMPARED
    wanted += [("mean recall", None, "mean recall")]
    return share_rows(result, "recall", "Recall of each group", "recalls", wanted, finding, bounds=[1.0])


def share_rows(
    result: Result, key: str, title: str, what: str, wanted: Sequence[tuple[str, str | None, str]], finding: str, bounds: Sequence[float]
) -> drawing.Figure:
    """Shares with their intervals: a block for each metric and group that is wanted, and in it a row for each column.

    Args:
        result: whose shares.
        key: of the figure.
        title: of the figure.
        what: is shown, in a word or two.
        wanted: metric, group and name of each block.
        finding: of the figure.
        bounds: shares that the scale holds in any case.
    """
    found = {(s.metric, s.group, s.column): s for s in result.shares}
    blocks = [
        (label, [found[metric, group, c.key] for c in result.columns if (metric, group, c.key) in found]) for metric, group, label in wanted
    ]
    blocks = [(label, shares) for label, shares in blocks if shares]
    if not blocks:
        return drawing.Figure(key, title, f"Not drawn: the run recorded no {what}.")
    legend, y = drawing.legend([(drawing.style_of(c.key), c.label) for c in result.columns], 14)
    scale = drawing.Scale.around([*(s.low for _, shares in blocks for s in shares), *bounds], 8, 336, top=1.0)
    top, rows = y, []
    for label, shares in blocks:
        y += 20
        rows += [
            drawing.text(8, y, label, css="b", most=40),
            drawing.text(drawing.WIDTH - 8, y, f"n = {formatting.count(shares[0].n)}", css="m", anchor="end"),
        ]
        for share in shares:
            y += 15
            rows.append(_recall_row(result, scale, share, label, y))
        y += 8
    axis = drawing.ticks_below(scale, top, y, drawing.percent_form(scale, 5), 5)
    detail = " ".join(f"{label}: {'; '.join(_said(result, s) for s in shares)}." for label, shares in blocks)
    return drawing.Figure(key, title, finding, detail, y + 24, legend + axis + "".join(rows))


def _recall_row(result: Result, scale: drawing.Scale, share: Share, label: str, y: float) -> str:
    index, middle = drawing.style_of(share.column), y - 3
    whisker = drawing.line(scale(max(share.low, scale.low)), middle, scale(min(share.high, scale.high)), middle, f"whisker s{index}")
    mark = drawing.marker(index, scale(share.value), middle, f"{label}, {_said(result, share)}")
    return whisker + mark + drawing.text(drawing.WIDTH - 8, y + 1, formatting.percent(share.value), anchor="end")


def _said(result: Result, share: Share) -> str:
    label, interval = tables.column_label(result, share.column), formatting.interval(share.low, share.high, formatting.percent)
    return f"{label} {formatting.percent(share.value)} ({interval})"


def _by_series(points: Iterable[CurvePoint]) -> dict[str, list[CurvePoint]]:
    series: dict[str, list[CurvePoint]] = {}
    for point in points:
        series.setdefault(point.series, []).append(point)
    return {name: sorted(found, key=lambda point: point.filters) for name, found in series.items()}


def _removal(result: FairnessResult) -> drawing.Figure:
    """Mean recall and source accuracy against the number of frozen filters."""
    title = "Removal curve: filters frozen one by one"
    curves = {name: found for name, found in _by_series(result.extra.curves).items() if len({point.filters for point in found}) > 1}
    if not curves:
        return drawing.Figure("removal", title, "Not drawn: the run recorded no removal curve, because no filter was tried.")
    legend, y = drawing.legend([(drawing.style_of(name), tables.column_label(result, name)) for name in curves], 14)
    x = drawing.Scale.around([float(p.filters) for found in curves.values() for p in found], 48, drawing.WIDTH - 10, pad=0.02)
    chosen = [point for found in curves.values() for point in found if point.chosen][:1]
    body = legend
    for metric, value in (("Mean recall", _mean_recall), ("Source accuracy", _source_accuracy)):
        scale = drawing.Scale.around([value(p) for found in curves.values() for p in found], y + 130, y + 22, top=1.0)
        body += drawing.text(8, y + 10, metric, css="b") + drawing.ticks_left(scale, 48, drawing.WIDTH - 10, drawing.percent_form(scale, 5))
        body += "".join(drawing.line(x(p.filters), y + 18, x(p.filters), y + 134, "chosen") for p in chosen)
        body += "".join(
            drawing.curve(drawing.style_of(name), [(x(p.filters), scale(value(p))) for p in found]) for name, found in curves.items()
        )
        y += 150
    counted = "most filters frozen in a fold" if result.folds > 1 else "number of frozen filters"
    body += filters_below(x, y, f"{counted}{f' (chosen: {chosen[0].filters})' if chosen else ''}")
    most = "up to " if result.folds > 1 else ""
    detail = " ".join(
        f"{tables.column_label(result, name)}: {_at(found[0], most)}; {_at(found[-1], most)}." for name, found in curves.items()
    )
    return drawing.Figure("removal", title, _removal_finding(result, chosen, curves), detail, y + 28, body)


def panel(
    x: drawing.Scale, y: float, title: str, curves: Iterable[tuple[int, Sequence[tuple[float, float, float, float]]]], height: float = 150
) -> str:
    """A share of 0 .. 1 against x, with whiskers; the points of a curve are x, low, value and high, after the curve's style."""
    scale = drawing.Scale.around([0.0, 1.0], y + height - 20, y + 22, pad=0.02, top=1.0)
    body = drawing.text(8, y + 10, title, css="b")
    body += drawing.ticks_left(scale, 48, drawing.WIDTH - 10, drawing.percent_form(scale, 5))
    for index, points in curves:
        body += "".join(drawing.line(x(at), scale(low), x(at), scale(high), f"whisker s{index}") for at, low, _, high in points)
        body += drawing.curve(index, [(x(at), scale(value)) for at, _, value, _ in points])
    return body


def filters_below(x: drawing.Scale, y: float, label: str) -> str:
    """Whole numbers and a label below panels that count frozen filters."""
    whole = [tick for tick in x.ticks(8) if tick == int(tick)]
    ticks = "".join(drawing.text(x(tick), y, formatting.count(tick), css="m", anchor="middle") for tick in whole)
    return ticks + drawing.text((48 + drawing.WIDTH) / 2, y + 18, label, css="m", anchor="middle")


def _mean_recall(point: CurvePoint) -> float:
    return point.mean_recall


def _source_accuracy(point: CurvePoint) -> float:
    return point.source_accuracy


def _removal_finding(result: FairnessResult, chosen: Sequence[CurvePoint], curves: dict[str, list[CurvePoint]]) -> str:
    folds = f" (means over {result.folds} folds)" if result.folds > 1 else ""
    if not chosen:
        return f"No number of frozen filters was chosen{folds}."
    before, after = curves[chosen[0].series][0], chosen[0]
    return f"Before, {_read(before)}; as chosen, {_read(after)}{folds}."


def _at(point: CurvePoint, most: str) -> str:
    return f"with {most if point.filters else ''}{point.filters} frozen, {_read(point)}"


def _read(point: CurvePoint) -> str:
    return f"mean recall is {formatting.percent(point.mean_recall)} and source accuracy {formatting.percent(point.source_accuracy)}"


def histogram(entry: Histogram, key: str) -> drawing.Figure:
    """Values over filters, with the frozen ones marked; counts on a log scale where they differ much."""
    title = f"Histogram: {entry.title}"
    if not entry.counts or max(entry.counts) == 0 or len(entry.edges) != len(entry.counts) + 1:
        return drawing.Figure(key, title, "Not drawn: the histogram holds no filters.")
    most = max(entry.counts)
    log = most > 50
    x = drawing.Scale.around([*entry.edges, *entry.culprits], 48, drawing.WIDTH - 10, pad=0.01)
    top, bottom = 40.0, 200.0
    y = drawing.Scale(math.log10(0.6) if log else 0.0, math.log10(most * 1.3) if log else most * 1.05, bottom, top)
    levels = (
        [10.0**power for power in range(math.floor(math.log10(most)) + 1)] if log else [tick for tick in y.ticks(5) if tick == int(tick)]
    )

    def height(number: float) -> float:
        return y(math.log10(number) if log else number)

    body = "".join(
        drawing.line(48, height(n), drawing.WIDTH - 10, height(n), "grid")
        + drawing.text(42, height(n) + 4, formatting.count(n), css="m", anchor="end")
        for n in levels
    )
    for left, right, number in zip(entry.edges, entry.edges[1:], entry.counts, strict=False):
        if number:
            hint = f"<title>{drawing.escape(f'{formatting.small(left)} to {formatting.small(right)}: {formatting.count(number)}')}</title>"
            width = max(x(right) - x(left) - 0.8, 0.6)
            body += drawing.tag("rect", hint, css="bar", x=x(left), y=height(number), width=width, height=bottom - height(number))
    for culprit in entry.culprits:
        at = x(culprit)
        body += drawing.line(at, 30, at, bottom, "culprit-line") + drawing.tag(
            "polygon", css="culprit", points=f"{drawing.number(at - 5)},22 {drawing.number(at + 5)},22 {drawing.number(at)},31"
        )
    body += drawing.line(48, bottom, drawing.WIDTH - 10, bottom, "axis")
    body += "".join(drawing.text(x(tick), bottom + 15, formatting.small(tick), css="m", anchor="middle") for tick in x.ticks(5))
    body += drawing.text(8, 14, "filters (log scale)" if log else "filters", css="m")
    body += drawing.text(drawing.WIDTH - 10, 14, "▼ frozen" if entry.culprits else "none frozen", anchor="end")
    body += drawing.text((48 + drawing.WIDTH) / 2, bottom + 33, "value", css="m", anchor="middle")
    return drawing.Figure(key, title, _histogram_finding(entry), "", bottom + 42, body)


def _histogram_finding(entry: Histogram) -> str:
    span = f"from {formatting.small(entry.edges[0])} to {formatting.small(entry.edges[-1])}"
    tallest = max(range(len(entry.counts)), key=entry.counts.__getitem__)
    mode = f"{formatting.small(entry.edges[tallest])} to {formatting.small(entry.edges[tallest + 1])}"
    frozen = ", ".join(formatting.small(value) for value in entry.culprits[:8]) + (", …" if len(entry.culprits) > 8 else "")
    marked = f"Frozen filters lie at {frozen}." if entry.culprits else "None of these filters was frozen."
    return f"Values reach {span}; the fullest bin is {mode}. {marked}"


def _tradeoff(result: FairnessResult) -> drawing.Figure:
    """Mean recall against source accuracy: every column with its intervals, and the curves between them."""
    title = "Trade-off: mean recall against source accuracy"
    found = {(s.metric, s.column): s for s in result.shares if s.group is None}
    keys = [c.key for c in result.columns if ("mean recall", c.key) in found and ("source accuracy", c.key) in found]
    pairs = {key: (found["source accuracy", key], found["mean recall", key]) for key in keys}
    curves = _by_series(result.extra.curves)
    if not pairs:
        return drawing.Figure("tradeoff", title, "Not drawn: the run recorded no mean recall with a source accuracy.")
    names = list(dict.fromkeys([*pairs, *curves]))
    legend, y = drawing.legend([(drawing.style_of(name), tables.column_label(result, name)) for name in names], 14)
    horizontal = [bound for source, _ in pairs.values() for bound in (source.low, source.high)]
    vertical = [bound for _, recall in pairs.values() for bound in (recall.low, recall.high)]
    x = drawing.Scale.around([*horizontal, *map(_source_accuracy, result.extra.curves)], 48, drawing.WIDTH - 10, top=1.0)
    scale = drawing.Scale.around([*vertical, *map(_mean_recall, result.extra.curves)], y + 250, y + 16, top=1.0)
    body = (
        legend + drawing.text(8, y + 4, "mean recall", css="m") + drawing.text(drawing.WIDTH - 10, y + 4, "better ↗", css="m", anchor="end")
    )
    body += drawing.ticks_left(scale, 48, drawing.WIDTH - 10, drawing.percent_form(scale, 6), 6) + drawing.ticks_below(
        x, y + 16, y + 250, drawing.percent_form(x, 5), 5
    )
    body += drawing.text((48 + drawing.WIDTH) / 2, y + 285, "source accuracy", css="m", anchor="middle")
    for name, points in curves.items():
        on_path = [p for p in points if p.filters or not p.chosen]  # the threshold as chosen is a column, and comes after those tried
        path = " ".join(f"{drawing.number(x(p.source_accuracy))},{drawing.number(scale(p.mean_recall))}" for p in on_path)
        body += drawing.tag("polyline", css=f"line s{drawing.style_of(name)}", points=path)
    for key, (source, recall) in pairs.items():
        css, at_x, at_y = f"cross s{drawing.style_of(key)}", x(source.value), scale(recall.value)
        body += drawing.line(x(source.low), at_y, x(source.high), at_y, css) + drawing.line(
            at_x, scale(recall.low), at_x, scale(recall.high), css
        )
    said = {
        key: f"{tables.column_label(result, key)} {formatting.percent(recall.value)} at {formatting.percent(source.value)}"
        for key, (source, recall) in pairs.items()
    }
    body += "".join(
        drawing.marker(drawing.style_of(key), x(source.value), scale(recall.value), said[key]) for key, (source, recall) in pairs.items()
    )
    finding = _repair_effect(result, groups=False) or NOT_COMPARED
    return drawing.Figure("tradeoff", title, finding, f"Mean recall at source accuracy: {'; '.join(said.values())}.", y + 294, body)
