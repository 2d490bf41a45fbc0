"""Figures of a report on sample efficiency."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.experiments.sample_efficiency.result import EfficiencyResult
from repairkit.experiments.sample_efficiency.sections import LABELS
from repairkit.report import formatting
from repairkit.report.figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

BINS = 20
_STYLES = {"monte-carlo": plots.BASELINE, "tmab": plots.SECONDARY, "tmab-paper": plots.SECONDARY}


def draw(result: EfficiencyResult) -> list[Figure]:
    """Samples per filter, and values against values."""
    return [_samples(result), _values(result)]


def _samples(result: EfficiencyResult) -> Figure:
    """Histograms of the samples per filter, on one logarithmic axis."""
    title = f"Samples per filter{f', {result.extra.shown}' if result.extra.shown else ''}"
    if not result.extra.samples:
        return Figure("samples", title, "Not drawn: the algorithms did not stop.")
    edges = _bins(result)

    def chart(canvas: Canvas) -> None:
        panels = canvas.subplots(len(result.extra.samples), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (engine, samples) in zip(panels, result.extra.samples.items(), strict=True):
            positions = [min(bisect.bisect_right(edges, number), BINS) - 1 for number in samples if number]
            plots.plot_histogram(axes, edges, [positions.count(position) for position in range(BINS)], color=_STYLES[engine].color)
            axes.set_title(LABELS[engine])
            if never := sum(number == 0 for number in samples):
                axes.set_title(f"{formatting.count(never)} never sampled", loc="right", weight="normal", color=plots.MUTED)
            axes.set_xscale("log")
        plots.log_ticks(panels[-1].xaxis, [(tick, formatting.count(tick)) for tick in _powers(math.log10(edges[0]), math.log10(edges[-1]))])
        panels[-1].set_xlabel("samples of a filter (log scale)")

    nevers = {engine: sum(number == 0 for number in samples) for engine, samples in result.extra.samples.items()}
    details = [
        f"{LABELS[engine]}: {_spread(samples)}{f', {formatting.count(nevers[engine])} filters never' if nevers[engine] else ''}"
        for engine, samples in result.extra.samples.items()
    ]
    return Figure("samples", title, f"{'; '.join(details)}.", "", chart, 0.4 + 1.8 * len(result.extra.samples))


def _bins(result: EfficiencyResult) -> list[float]:
    """Edges of equal width by logarithms that hold all samples."""
    numbers = [number for samples in result.extra.samples.values() for number in samples]
    low, high = math.log10(min((number for number in numbers if number), default=1)), math.log10(max(*numbers, 2))
    width = max(high - low, 0.1) / BINS
    return [10 ** (low + position * width) for position in range(BINS + 1)]


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


def _values(result: EfficiencyResult) -> Figure:
    """Values of each filter by one algorithm against those by the other, or of both against the reference."""
    title = f"Values against values{f', {result.extra.shown}' if result.extra.shown else ''}"
    if not result.extra.values:
        return Figure("values", title, "Not drawn: the algorithms did not stop.")
    engines = list(result.extra.values)
    across = engines[-1]  # the reference, or Monte Carlo
    others = engines[:-1]

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, [(LABELS[engine], _STYLES[engine]) for engine in others])
        axes = canvas.subplots()
        pairs = {engine: list(zip(result.extra.values[across], result.extra.values[engine], strict=True)) for engine in others}
        plots.plot_scatter(axes, {LABELS[engine]: (_STYLES[engine], _some(pairs[engine])) for engine in others})
        plots.plain(axes.xaxis)
        plots.plain(axes.yaxis)
        axes.set(xlabel=f"value by {LABELS[across]}", ylabel="value")

    return Figure("values", title, _agreement(result), f"{formatting.count(len(result.extra.values[across]))} filters.", chart, 3.8)


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
