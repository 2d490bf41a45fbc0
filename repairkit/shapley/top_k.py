"""What intervals show about the k lowest of some values (LUCB)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repairkit.shapley.game import Floats

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TopKBound:
    """Where the k lowest of n values end; every claim holds when all intervals do. Flags have shape (n,).

    The slack is the tolerance in units of value: `tolerance` times a lower bound of |k-th lowest value|.

    Attributes:
        inside: the k lowest by estimate.
        separated: shown to be among the k lowest; never more than k, all of them inside.
        apart: shown not to be among them.
        above: shown to lie no further below the k-th lowest value than the slack.
        tied: neither separated nor apart, and shown to lie within the slack of the k-th lowest value.
        placed: shown to be on the right side, or on the wrong one by the slack at most.
        active: overlap the other side by more than the slack; nobody when decided.
        slack: as above.
        decided: those inside overlap the others by the slack at most; then all are placed.
    """

    inside: Flags
    separated: Flags
    apart: Flags
    above: Flags
    tied: Flags
    placed: Flags
    active: Flags
    slack: float
    decided: bool


def border(estimate: Floats, lower: Floats, upper: Floats, *, top_k: int, tolerance: float) -> TopKBound:
    """What intervals [lower, upper] of n values show of the `top_k` lowest, top_k < n.

    The k-th smallest lower end is a lower bound of the k-th value, and likewise above. A player is separated when its upper end lies below all
    lower ends but k - 1 others', apart when its lower end lies above k others' upper ends. An inside player that is not among the k lowest
    lies above one of the others. If its upper end exceeds the k-th lower end *of the others* by the slack at most, so does its value.

    Source: LUCB (Kalyanakrishnan, Tewari, Auer & Stone 2012). Deviations: all overlapping players are observed again, not the two most
    critical ones; the tolerance is relative to the k-th value.

    Args:
        estimate: float64 (n,), each within its interval.
        lower: lower ends, none above its upper end.
        upper: upper ends.
        top_k: k.
        tolerance: in [0, 1), relative to the k-th value.

    Example:
        >>> found = border(np.array([-2.0, -1.0, 0.9]), np.array([-2.2, -1.4, 0.7]), np.array([-1.8, -0.6, 1.1]), top_k=1, tolerance=0.2)
        >>> found.separated, found.apart, found.decided, round(found.slack, 2)
        (array([ True, False, False]), array([False,  True,  True]), True, 0.36)
    """
    inside = np.zeros(len(estimate), dtype=bool)
    inside[np.argsort(estimate, kind="stable")[:top_k]] = True
    by_lower = np.sort(lower)
    least, following, most = by_lower[top_k - 1], by_lower[top_k], np.sort(upper)[top_k - 1]
    others_least = np.where(lower <= least, following, least)  # k-th smallest lower end of all but each player itself
    slack = tolerance * max(0.0, least, -most)
    worst, best = upper[inside].max(), lower[~inside].min()
    separated, apart, above = upper < following, lower > most, lower >= most - slack
    overlapping = np.where(inside, upper > best + slack, lower < worst - slack)
    return TopKBound(
        inside=inside,
        separated=separated,
        apart=apart,
        above=above,
        tied=above & (upper <= least + slack) & ~separated & ~apart,
        placed=np.where(inside, upper <= others_least + slack, above),
        active=overlapping & ~separated & ~apart,
        slack=float(slack),
        decided=not overlapping.any(),
    )


def borders(estimate: Floats, lower: Floats, upper: Floats, *, top_k: int, tolerance: float) -> tuple[TopKBound, TopKBound]:
    """The borders of the k lowest and, with all signs turned, of the k highest."""
    return (
        border(estimate, lower, upper, top_k=top_k, tolerance=tolerance),
        border(-estimate, -upper, -lower, top_k=top_k, tolerance=tolerance),
    )
