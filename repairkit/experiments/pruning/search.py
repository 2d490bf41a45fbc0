"""The search of a pruning: in which order filters are frozen, and how many of them the choose images allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from repairkit.data.images import LabelledImages
from repairkit.evaluation.ablation import counts_up_to, freeze_first
from repairkit.evaluation.statistics import paired_drop_bound
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.freezing import why_not_bakeable
from repairkit.repair.selection import GUARD_CONFIDENCE
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley import Attribution
from repairkit.shapley.game import Examples

CLOSE = 0.02
"""The search ends where the next number of filters that was refused lies this share above the largest that held."""
TRIES = 24
"""Numbers of filters that a search of some thousands tries, for planning."""

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Try:
    """A number of filters frozen, on the choose images.

    Attributes:
        filters: how many.
        accuracy: share of choose images that are right.
        drop_bound: upper end of the one-sided 90 % interval of the fall of accuracy; see `paired_drop_bound`.
        held: whether that is within the guard.
    """

    filters: int
    accuracy: float
    drop_bound: float
    held: bool


def least_first(filters: ConvFilters, attribution: Attribution) -> Examples:
    """The players that plain weights can hold frozen, by absolute value, least first; int64.

    The value where exact flips were made, else the screen, which is in the same unit. Flips are spent on the highest filters of the
    screen, so that of the thousands at the other end nearly all are ranked by their screen alone: which of them are frozen is a guess by
    gradients, and how many is measured. A walk makes no screen; players that it did not value come in no order and are left out.
    """
    rank = np.abs(valued(attribution).value)
    order = np.argsort(rank, kind="stable")
    return np.array(
        [
            player
            for player in order
            if not np.isnan(rank[player])
            and why_not_bakeable(filters.network, filters.sites[filters.site_of[player]], float(filters.constants[player])) is None
        ],
        dtype=np.int64,
    )


def valued(attribution: Attribution) -> Attribution:
    """The same with the screen as the value of each player that no exact flip valued."""
    return replace(attribution, value=np.where(np.isnan(attribution.value), attribution.screen, attribution.value))


def by_size(players: Examples, found: Attribution) -> list[int]:
    """These players by absolute value, least first."""
    ordered = np.sort(players)
    least: list[int] = ordered[np.argsort(np.abs(found.value[ordered]), kind="stable")].tolist()
    return least


class Measured:
    """Who is right on some images with the first so many of an order frozen; measured once, and stored for a run that goes on.

    `before` is who is right with none frozen, where that is known.
    """

    def __init__(
        self,
        classifier: Classifier,
        filters: ConvFilters,
        order: Examples,
        images: LabelledImages,
        run: Run,
        *,
        before: Booleans | None = None,
    ) -> None:
        self._of, self._run = (classifier, filters, order), run
        self._images = images
        self._found: dict[int, Booleans] = {} if before is None else {0: before}

    def right(self, count: int) -> Booleans:
        """Shape (N,)."""
        if count not in self._found:
            stored = self._run.cached(
                f"choose-{count}", lambda: {"right": freeze_first(*self._of, (count,), self._images, self._run)[0]}, ARRAYS
            )
            self._found[count] = stored["right"]
        return self._found[count]


def most_within(right: Callable[[int], Booleans], most: int, allowed: float) -> list[Try]:
    """Numbers of filters tried, 0 first: 1, 2, 5, 10, ... until two in a row break the guard, then halves of what lies between.

    Args:
        right: who is right on the choose images with so many frozen, shape (N,).
        most: how many may be frozen.
        allowed: guard on `drop_bound`, a share.

    Example:
        >>> tries = most_within(lambda count: np.arange(1000) >= (count > 37) * count, 100, 0.01)
        >>> [each.filters for each in tries], max(each.filters for each in tries if each.held)
        ([0, 1, 2, 5, 10, 20, 50, 100, 35, 42, 38, 36, 37], 37)
    """
    before = right(0)
    found = {0: Try(0, float(before.mean()), 0.0, held=True)}

    def holds(count: int) -> bool:
        if count not in found:
            after = right(count)
            bound = paired_drop_bound(before, after, GUARD_CONFIDENCE)
            found[count] = Try(count, float(after.mean()), bound, held=bound <= allowed + 1e-12)
        return found[count].held

    steps, broken = counts_up_to(most), 0
    for count in steps[1:]:
        broken = 0 if holds(count) else broken + 1
        if broken == 2:
            break
    held = most_held(found.values())
    above = [count for count in found if count > held]
    refused = min(above) if above else held
    while refused - held > max(1, int(held * CLOSE)):
        middle = (held + refused) // 2
        held, refused = (middle, refused) if holds(middle) else (held, middle)
    return list(found.values())


def most_held(tries: Iterable[Try]) -> int:
    """The largest number of filters with which the guard held."""
    return max(each.filters for each in tries if each.held)
