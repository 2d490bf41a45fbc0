"""Figures of a report on adversarial repairs."""

from __future__ import annotations

import math

from repairkit.attacks.words import RECOVERED, SUCCESS, eps_text
from repairkit.experiments.adversarial import sections as adversarial_sections
from repairkit.experiments.adversarial.result import AdversarialResult, FrontierPoint
from repairkit.experiments.adversarial.sections import SERIES
from repairkit.report import drawing, figures, formatting, tables
from repairkit.result import Claim

_STYLE = {"order of choosing": 1, "highest value first": 2}
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in SVG units."""


def draw(result: AdversarialResult) -> list[drawing.Figure]:
    """All figures of the report, in order.

    Example:
        >>> empty = AdversarialResult.model_construct(
        ...     columns=[], adversaries=[], shares=[], differences=[], frontier=[], sweep=[], strengths=[], histograms=[])
        >>> [figure.key for figure in draw(empty)]
        ['target-success', 'recovered-label', 'frontier', 'frozen', 'sweep']
    """
    histograms = [figures.histogram(entry, f"values-{i + 1}") for i, entry in enumerate(result.histograms)]
    measures = [_measure(result, SUCCESS, "lower is better"), _measure(result, RECOVERED, "higher is better")]
    return [*measures, _frontier(result), _frozen(result), _sweep(result), *histograms]


def _measure(result: AdversarialResult, metric: str, direction: str) -> drawing.Figure:
    """One measure of every adversary, a row for each network, with intervals."""
    wanted = [(metric, entry.key, entry.title) for entry in adversarial_sections.from_weakest(result)]
    title = f"{metric[0].upper()}{metric[1:]} by adversary ({direction})"
    return figures.share_rows(
        result, metric.replace(" ", "-"), title, f"{metric} of any adversary", wanted, _effect(result, metric), bounds=[0.0, 1.0]
    )


def _effect(result: AdversarialResult, metric: str) -> str:
    """Against whom the repair helps by this measure, what got worse first."""
    claims = {entry.group: entry.claim for entry in tables.repair_effects(result) if entry.metric == metric}
    if not claims:
        return figures.NOT_COMPARED
    order: tuple[Claim, ...] = ("worse", "no claim", "better")
    named = {
        claim: "; ".join(entry.title for entry in adversarial_sections.from_weakest(result) if claims.get(entry.key) == claim)
        for claim in order
    }
    return f"Repaired against original: {' '.join(f'{formatting.STATUS[claim]} for {names}.' for claim, names in named.items() if names)}"


def _series(result: AdversarialResult) -> dict[str, list[FrontierPoint]]:
    """The points of each order that was tried, fewest filters first."""
    found = {series: sorted((p for p in result.extra.frontier if p.series == series), key=lambda point: point.filters) for series in SERIES}
    return {series: points for series, points in found.items() if points}


def _read(point: FrontierPoint) -> str:
    return f"{point.filters} frozen: success {formatting.percent(point.success)}, clean {formatting.percent(point.clean)}"


def _frontier_finding(result: AdversarialResult) -> str:
    chosen = next((point for point in result.extra.frontier if point.chosen), None)
    if chosen is None:
        return "No number of frozen filters was chosen."
    start = next((point for point in result.extra.frontier if point.filters == 0), None)
    return " ".join(
        f"{when}, replayed success is {formatting.percent(point.success)} at a clean accuracy of {formatting.percent(point.clean)}."
        for when, point in (("With none frozen", start), (f"As chosen, with {chosen.filters} frozen", chosen))
        if point
    )


def _frontier(result: AdversarialResult) -> drawing.Figure:
    """Replayed success against clean accuracy, the number of frozen filters at each point that has room for it."""
    title = "Frontier: replayed target success against clean accuracy"
    series = _series(result)
    if not series:
        return drawing.Figure("frontier", title, "Not drawn: no filter was tried.")
    legend, y = drawing.legend([(_STYLE[name], name) for name in series], 14)
    marked = [point for point in result.extra.frontier if point.chosen or point.filters == 0]
    x = drawing.Scale.around(
        [*(p.clean for p in result.extra.frontier), *(end for p in marked for end in (p.clean_low, p.clean_high))],
        48,
        drawing.WIDTH - 14,
        top=1.0,
    )
    top, bottom = y + 24, y + 278
    scale = drawing.Scale.around(
        [0.0, *(p.success for p in result.extra.frontier), *(end for p in marked for end in (p.success_low, p.success_high))],
        bottom,
        top,
        top=1.0,
    )
    body = legend + drawing.text(8, y + 4, "target success on stored images", css="m")
    body += drawing.text(drawing.WIDTH - 10, y + 4, "better ↘", css="m", anchor="end")
    body += drawing.ticks_left(scale, 48, drawing.WIDTH - 10, drawing.percent_form(scale, 6), 6)
    body += drawing.ticks_below(x, top, bottom, drawing.percent_form(x, 5), 5)
    body += drawing.text((48 + drawing.WIDTH) / 2, bottom + 35, "clean accuracy", css="m", anchor="middle")
    for name, points in series.items():
        for point in points:
            if point in marked:
                css, at_x, at_y = f"cross s{_STYLE[name]}", x(point.clean), scale(point.success)
                body += drawing.line(x(point.clean_low), at_y, x(point.clean_high), at_y, css)
                body += drawing.line(at_x, scale(point.success_low), at_x, scale(point.success_high), css)
        body += drawing.curve(_STYLE[name], [(x(p.clean), scale(p.success)) for p in points])
    for point in result.extra.frontier:
        if point.chosen:
            body += drawing.tag("circle", css="chosen", cx=x(point.clean), cy=scale(point.success), r=9, fill="none")
    body += _numbers(series, x, scale)
    detail = " ".join(f"{name}: {'; '.join(map(_read, points))}." for name, points in series.items())
    return drawing.Figure("frontier", title, _frontier_finding(result), detail, bottom + 44, body)


def _numbers(series: dict[str, list[FrontierPoint]], x: drawing.Scale, y: drawing.Scale) -> str:
    """The number of filters beside each point that has room for it, the chosen point and the ends first; all orders begin with the same 0."""
    ends = [points[-1] for points in series.values()]
    everything = [point for points in series.values() for point in points]
    body, taken = "", [(at_x - 4, at_y - 4, at_x + 4, at_y + 4) for at_x, at_y in {(x(p.clean), y(p.success)) for p in everything}]
    numbered = [point for number, point in enumerate(everything) if point.filters or number == 0]
    for point in sorted(numbered, key=lambda p: (not p.chosen, p.filters != 0, p not in ends)):
        label = f"{point.filters} (chosen)" if point.chosen else str(point.filters)
        at_x, at_y, width = x(point.clean), y(point.success), 7.0 * len(label)
        first = point.series == SERIES[0]
        for right, below in ((first, False), (first, True), (not first, False), (not first, True)):
            foot = at_y + 15 if below else at_y - 6
            start = at_x + 8 if right else at_x - 8 - width
            box = (start - 3, foot - 10, start + width + 3, foot)
            if box[0] >= 48 and box[2] <= drawing.WIDTH and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                css, anchor = "b" if point.chosen else "", "start" if right else "end"
                body += drawing.text(at_x + (8 if right else -8), foot, label, css=css, anchor=anchor)
                break
    return body


def _overlap(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _frozen(result: AdversarialResult) -> drawing.Figure:
    """Replayed success and clean accuracy against the number of frozen filters."""
    title = "Target success and clean accuracy as filters are frozen"
    series = _series(result)
    most = max((point.filters for point in result.extra.frontier), default=0)
    if not most:
        return drawing.Figure("frozen", title, "Not drawn: no filter was tried.")
    legend, y = drawing.legend([(_STYLE[name], name) for name in series], 14)
    x = drawing.Scale.around([0.0, float(most)], 48, drawing.WIDTH - 10, pad=0.02)
    chosen = [point for point in result.extra.frontier if point.chosen][:1]
    success = [(_STYLE[name], [(p.filters, p.success_low, p.success, p.success_high) for p in points]) for name, points in series.items()]
    clean = [(_STYLE[name], [(p.filters, p.clean_low, p.clean, p.clean_high) for p in points]) for name, points in series.items()]
    body = legend
    for heading, curves in (("Target success on stored images", success), ("Clean accuracy", clean)):
        body += "".join(drawing.line(x(p.filters), y + 18, x(p.filters), y + 134, "chosen") for p in chosen)
        body += figures.panel(x, y, heading, curves)
        y += 150
    body += figures.filters_below(x, y, f"number of frozen filters{f' (chosen: {chosen[0].filters})' if chosen else ''}")
    detail = f"{_frontier_finding(result)} Every point is in the table of the frontier."
    finding = f"The most that were frozen: {'; '.join(f'{name}, {_read(points[-1])}' for name, points in series.items())}."
    return drawing.Figure("frozen", title, finding, detail, y + 28, body)


def _sweep(result: AdversarialResult) -> drawing.Figure:
    """Target success of the attack run afresh against its bound, on a logarithmic axis."""
    title = "Target success of PGD run afresh against eps"
    columns = [column for column in result.columns if any(point.column == column.key for point in result.extra.sweep)]
    if not columns:
        return drawing.Figure("sweep", title, "Not drawn: no attack was run afresh within several bounds.")
    legend, y = drawing.legend([(drawing.style_of(column.key), column.label) for column in columns], 14)
    bounds = sorted({point.eps for point in result.extra.sweep})
    x = drawing.Scale.around([math.log2(eps) for eps in bounds], 48, drawing.WIDTH - 14, pad=0.03)
    curves, said = [], []
    for column in columns:
        points = sorted((point for point in result.extra.sweep if point.column == column.key), key=lambda point: point.eps)
        curves.append((drawing.style_of(column.key), [(math.log2(p.eps), p.low, p.success, p.high) for p in points]))
        said.append(f"{column.label}: {'; '.join(f'{eps_text(p.eps)} {formatting.percent(p.success)}' for p in points)}.")
    body = legend + figures.panel(x, y, "Target success", curves, height=220)
    y += 220
    body += drawing.numbers_below([(x(math.log2(eps)), eps_text(eps)) for eps in bounds], y)
    body += drawing.text((48 + drawing.WIDTH) / 2, y + 18, "eps, of 255 levels (log scale)", css="m", anchor="middle")
    medians = [
        f"{tables.column_label(result, entry.column)} {adversarial_sections.median_eps(result, entry)}" for entry in result.extra.strengths
    ]
    finding = (
        f"Median eps of 255 levels, which gets half of the targets: {'; '.join(medians)}." if medians else "No median eps was recorded."
    )
    return drawing.Figure("sweep", title, finding, f"Success by eps: {' '.join(said)}", y + 28, body)
