"""Figures of a report on sample efficiency."""

from __future__ import annotations

import math
from collections.abc import Sequence

from repairkit.experiments.sample_efficiency.result import EfficiencyResult
from repairkit.experiments.sample_efficiency.sections import LABELS
from repairkit.report import drawing, formatting

BINS = 20
_STYLES = {"monte-carlo": 0, "tmab": 2, "tmab-paper": 2}


def draw(result: EfficiencyResult) -> list[drawing.Figure]:
    """Samples per filter, and values against values.

    Example:
        >>> [figure.key for figure in draw(EfficiencyResult.model_construct(samples={}, values={}, shown=""))]
        ['samples', 'values']
    """
    return [_samples(result), _values(result)]


def _samples(result: EfficiencyResult) -> drawing.Figure:
    """Histograms of the samples per filter, on one logarithmic axis."""
    title = f"Samples per filter{f', {result.extra.shown}' if result.extra.shown else ''}"
    if not result.extra.samples:
        return drawing.Figure("samples", title, "Not drawn: the algorithms did not stop.")
    least = min(number for samples in result.extra.samples.values() for number in samples if number) if _any(result) else 1
    most = max(max(samples) for samples in result.extra.samples.values())
    low, high = math.log10(max(least, 1)), math.log10(max(most, 2))
    width = max(high - low, 0.1) / BINS
    y, body, details = 0.0, "", []
    x = drawing.Scale(low, low + BINS * width, 60, drawing.WIDTH - 14)
    for engine, samples in result.extra.samples.items():
        counts = [0] * BINS
        for number in samples:
            if number:
                counts[min(int((math.log10(number) - low) / width), BINS - 1)] += 1
        never = sum(number == 0 for number in samples)
        scale = drawing.Scale(0.0, max(*counts, 1) * 1.05, y + 150, y + 34)
        body += drawing.marker(_STYLES[engine], 12, y + 14) + drawing.text(22, y + 18, f"{LABELS[engine]}, filters", css="b")
        if never:
            body += drawing.text(drawing.WIDTH - 10, y + 18, f"{formatting.count(never)} never sampled", css="m", anchor="end")
        body += drawing.ticks_left(scale, 60, drawing.WIDTH - 10, formatting.count, 4)
        for bin_number, number in enumerate(counts):
            if number:
                left, right = x(low + bin_number * width), x(low + (bin_number + 1) * width)
                body += drawing.tag(
                    "rect",
                    css=f"full s{_STYLES[engine]}",
                    x=left,
                    y=scale(number),
                    width=max(right - left - 1, 1),
                    height=y + 150 - scale(number),
                )
        body += drawing.line(60, y + 150, drawing.WIDTH - 10, y + 150, "axis")
        details.append(f"{LABELS[engine]}: {_spread(samples)}{f', {formatting.count(never)} filters never' if never else ''}")
        y += 162
    for tick in _powers(low, low + BINS * width):
        body += drawing.text(x(math.log10(tick)), y, formatting.count(tick), css="m", anchor="middle")
    body += drawing.text((60 + drawing.WIDTH) / 2, y + 18, "samples of a filter (log scale)", css="m", anchor="middle")
    return drawing.Figure("samples", title, f"{'; '.join(details)}.", "", y + 28, body)


def _any(result: EfficiencyResult) -> bool:
    return any(number for samples in result.extra.samples.values() for number in samples)


def _powers(low: float, high: float) -> list[float]:
    """Round numbers between two logarithms, seven at most."""
    found = [factor * 10.0**power for power in range(8) for factor in (1, 2, 5) if low - 1e-9 <= math.log10(factor * 10.0**power) <= high]
    return found if len(found) <= 7 else [tick for tick in found if math.log10(tick) % 1 < 1e-9]


def _spread(samples: Sequence[int]) -> str:
    ordered = sorted(samples)
    low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    if low == high:
        return f"{formatting.count(low)} samples of every filter"
    return f"from {formatting.count(low)} to {formatting.count(high)} samples of a filter, half of them up to {formatting.count(middle)}"


def _values(result: EfficiencyResult) -> drawing.Figure:
    """Values of each filter by one algorithm against those by the other, or of both against the reference."""
    title = f"Values against values{f', {result.extra.shown}' if result.extra.shown else ''}"
    if not result.extra.values:
        return drawing.Figure("values", title, "Not drawn: the algorithms did not stop.")
    engines = list(result.extra.values)
    across = engines[-1]  # the reference, or Monte Carlo
    others = engines[:-1]
    legend, y = drawing.legend([(_STYLES[engine], LABELS[engine]) for engine in others], 14)
    every = [value for values in result.extra.values.values() for value in values]
    x = drawing.Scale.around(every, 62, drawing.WIDTH - 10)
    scale = drawing.Scale.around(every, y + 300, y + 8)
    body = (
        legend
        + drawing.ticks_left(scale, 62, drawing.WIDTH - 10, formatting.small)
        + drawing.ticks_below(x, y + 8, y + 300, formatting.small, 5)
    )
    body += drawing.line(x(x.low), scale(x.low), x(x.high), scale(x.high), "chosen")
    for engine in others:
        body += "".join(
            drawing.tag("circle", css=f"full s{_STYLES[engine]}", cx=x(one), cy=scale(value), r=1.6, style="stroke-width:0;opacity:.7")
            for one, value in _some(list(zip(result.extra.values[across], result.extra.values[engine], strict=True)))
        )
    body += drawing.text((62 + drawing.WIDTH) / 2, y + 334, f"value by {LABELS[across]}", css="m", anchor="middle")
    return drawing.Figure("values", title, _agreement(result), f"{formatting.count(len(every) / len(engines))} filters.", y + 344, body)


def _some(points: list[tuple[float, float]], most: int = 1500) -> list[tuple[float, float]]:
    """Of many points every so manyth in order of size, with both ends, to keep the page small."""
    if len(points) <= most:
        return points
    ordered = sorted(points)
    ends = most // 5
    step = -(-(len(points) - 2 * ends) // (most - 2 * ends))
    return ordered[:ends] + ordered[ends:-ends:step] + ordered[-ends:]


def _agreement(result: EfficiencyResult) -> str:
    stop = next((stop for stop in result.extra.stops if stop.stopped and f"{stop.tolerance:g}" in result.extra.shown), None)
    pairs = [(LABELS[entry.engine], entry.rank, entry.r_squared) for entry in result.extra.agreements]
    if stop is not None and stop.rank is not None and stop.r_squared is not None:
        pairs = [("TMAB as published against Monte Carlo", stop.rank, stop.r_squared)]
    return (
        " ".join(
            f"{name}: Spearman {rank.value:.3f} ({rank.low:.3f} to {rank.high:.3f}), R² {r.value:.3f} ({r.low:.3f} to {r.high:.3f})."
            for name, rank, r in pairs
        )
        + " The dashed line is equality."
    )
