"""Numbers as text: the one place where reports format them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from repairkit.result import Claim

STATUS: dict[Claim, str] = {"better": "▲ better", "worse": "▼ worse", "no claim": "● inconclusive"}
OUTCOME_SYMBOL = {
    "repaired": "▲",
    "no better than the threshold": "●",
    "repaired against stored images": "◐",
    "no claim": "●",
    "no repair": "●",
    "guard broken": "▼",
    "cannot be fooled": "●",
    "critical filters found": "▲",
    "measured": "●",
    "less dependent": "▲",
    "more dependent": "▼",
    "pruned": "▲",
    "frozen": "◐",
    "nothing pruned": "●",
}
NONE = "—"


def signed(text: str) -> str:
    """A number's text with a true minus sign, and none on a zero.

    Example:
        >>> signed("-0.4"), signed("-0.0"), signed("+0.0")
        ('−0.4', '0.0', '0.0')
    """
    if not text.strip("+-0."):
        return text.lstrip("+-")
    return text.replace("-", "−")


def percent(share: float) -> str:
    """A share in 0 .. 1 as percent.

    Example:
        >>> percent(0.8141)
        '81.4%'
    """
    return signed(f"{share:.1%}")


def listed(numbers: Sequence[object]) -> str:
    """Numbers one after the other.

    Example:
        >>> listed([1, 2, 5]), listed([1])
        ('1, 2 and 5', '1')
    """
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last


def points(difference: float) -> str:
    """A difference of shares in percentage points, always signed, with a second decimal where it would look like none.

    Example:
        >>> points(0.0663), points(-0.004), points(-0.0003), points(0.0)
        ('+6.6', '−0.4', '−0.03', '0.0')
    """
    decimals = 2 if 0.005 <= abs(difference * 100) < 0.05 else 1
    return signed(f"{difference * 100:+.{decimals}f}")


def limit(share: float) -> str:
    """A limit on a share in percentage points, in words.

    Example:
        >>> limit(0.01), limit(0.015)
        ('1 point', '1.5 points')
    """
    number = f"{100 * share:g}"
    return f"{number} point{'' if number == '1' else 's'}"


def interval(low: float, high: float, form: Callable[[float], str]) -> str:
    """Both ends of an interval, without the percent signs.

    Example:
        >>> interval(0.441, 0.617, percent), interval(-0.012, 0.004, points)
        ('44.1 to 61.7', '−1.2 to +0.4')
    """
    return f"{form(low)} to {form(high)}".replace("%", "")


def p_value(p: float | None) -> str:
    """A p value to three decimals; an em dash where there is none.

    Example:
        >>> p_value(0.0421), p_value(2e-7), p_value(None)
        ('0.042', '<0.001', '—')
    """
    if p is None:
        return NONE
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def small(value: float) -> str:
    """A value or a constant with three significant digits.

    Example:
        >>> small(-0.001234), small(0.52)
        ('−0.00123', '0.52')
    """
    return signed(f"{value:.3g}")


def plus_minus(value: float, half_width: float | None) -> str:
    """An estimate and its half-width, both to the second digit of the half-width.

    Example:
        >>> plus_minus(-0.012345, 0.00321), plus_minus(0.5, 0.0), plus_minus(-0.012345, None), plus_minus(-1.4e-8, 2.53e-8)
        ('−0.0123 ± 0.0032', '0.5 ± 0', '−0.0123 ± unknown', '−1.4e−08 ± 2.53e−08')
    """
    if half_width is None:
        return f"{small(value)} ± unknown"
    if half_width < 1e-6:
        return f"{small(value)} ± {small(half_width)}"
    decimals = max(1 - math.floor(math.log10(half_width)), 0)
    return f"{signed(f'{value:.{decimals}f}')} ± {half_width:.{decimals}f}"


def count(number: float) -> str:
    """A whole number with thousands separators.

    Example:
        >>> count(14208.0)
        '14,208'
    """
    return f"{number:,.0f}"


def hundredths(value: float) -> str:
    """A share, or a sum or difference of shares, times 100 and without a sign of percent.

    Example:
        >>> hundredths(0.8141), hundredths(-0.05), hundredths(1.7)
        ('81.4', '−5.0', '170.0')
    """
    return signed(f"{100 * value:.1f}")


def eps_text(eps: float) -> str:
    """A bound in units of images in [0, 1] as so many of 255 levels.

    Example:
        >>> eps_text(16 / 255), eps_text(0.0625 / 255), eps_text(0.013)
        ('16', '0.0625', '3.31')
    """
    return f"{eps * 255:.3g}"
