"""Sentences about intervals and differences; no sentence decides anything."""

from __future__ import annotations

from collections.abc import Sequence

from repairkit.result import Difference


def capitalise(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]


def join_numbers(numbers: Sequence[float]) -> str:
    """Numbers in a row.

    Example:
        >>> join_numbers((1.0, 3.0, 10.0)), join_numbers((5,))
        ('1, 3 and 10', '5')
    """
    *before, last = (f"{number:g}" for number in numbers)
    return f"{', '.join(before)} and {last}" if before else last


def count_filters(counts: Sequence[int]) -> str:
    """The numbers of filters at which a curve is measured.

    Example:
        >>> count_filters((0, 1, 2, 5)), count_filters((0, 1))
        ('1, 2 and 5 filters', '1 filter')
    """
    frozen = counts[1:] or counts
    return f"{join_numbers(frozen)} filter{'s' if tuple(frozen) != (1,) else ''}"


def format_points(share: float) -> str:
    """Percentage points without sign, with as many digits as it takes to be no zero.

    Example:
        >>> format_points(-0.047), format_points(0.0001), format_points(0.00001)
        ('4.7', '0.01', 'under 0.01')
    """
    points = abs(100 * share)
    if points == 0 or points >= 0.05:
        return f"{points:.1f}"
    return f"{points:.2f}" if points >= 0.005 else "under 0.01"


def describe_interval(low: float, high: float, level: float, n: int | str, directions: tuple[str, str] = ("lower", "higher")) -> str:
    """The interval of a change and its n; several numbers of images are given in words.

    Example:
        >>> describe_interval(-0.01, 0.04, 0.95, 300)
        '95% interval: from 1.0 points lower to 4.0 points higher; n = 300'
    """
    start, stop = format_points(low), format_points(high)
    down, up = directions
    if low > 0:
        ends = f"{start} to {stop} points {up}"
    elif high < 0:
        ends = f"{stop} to {start} points {down}"
    else:
        ends = f"from {start} points {down} to {stop} points {up}"
    return f"{100 * level:g}% interval: {ends}; n = {n}"


def describe_interval_change(value: float, low: float, high: float, level: float, n: int) -> str:
    """What became of something whose interval alone decides, as the end of a sentence."""
    interval = describe_interval(low, high, level, n)
    if low > 0 or high < 0:
        return f"{'rose' if value > 0 else 'fell'} by {format_points(value)} percentage points ({interval})"
    return f"did not change by more than these images can tell from chance ({interval})"


def describe_change(entry: Difference, level: float) -> str:
    """What became of a row of a table, as the end of a sentence that claims what the row claims."""
    interval = describe_interval(entry.low, entry.high, level, entry.n)
    if entry.value == 0:
        return f"did not change ({interval})"
    doubt = ""
    if entry.claim == "no claim":
        excluded = entry.low > 0 or entry.high < 0
        doubt = f", which is no proof (exact test, p = {entry.p_adjusted:.2g})" if excluded else ", an amount that may be chance"
    return f"{'rose' if entry.value > 0 else 'fell'} by {format_points(entry.value)} percentage points{doubt} ({interval})"
