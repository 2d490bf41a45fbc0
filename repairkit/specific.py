"""Class-specific ranking: a filter's value for one class, less a price for what the other classes lose with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from repairkit.clock import Clock
from repairkit.data.images import LabelledImages
from repairkit.errors import ModelWarning
from repairkit.objectives import ClassRecall, Smooth
from repairkit.options import Options
from repairkit.screens import screens_of
from repairkit.shapley.game import Examples, Floats
from repairkit.shapley.model_game import ModelGame
from repairkit.shapley.rounds import GRADIENT_COST, SCREEN_ROUND
from repairkit.unfinished import Unfinished

FACTORS = (0.0, 1.0, 3.0, 10.0, 30.0)
"""Of the price, the least of which that spares the other classes is taken; the first is the paper's ranking."""
SHARE = 0.4
"""Of the budget, for the screens of all classes together, which all classes that are asked about share."""
PART, CHOOSING = "screens of classes", "choosing the price"
"""Under which the clock books them."""
Right = Callable[[Examples], Floats]
"""Players to freeze -> who is right of the images that choose, shape (N,)."""


@dataclass(frozen=True, eq=False)
class Specific:
    """What other classes lose with each filter, and what a class pays for it.

    Attributes:
        factor: one of `FACTORS`.
        prices: float64 (n,), in units of recall: `factor` times the mean over the other classes of the size of the filter's first-order marginal.
        fall: of the mean recall of the other classes on the images that choose, with the filters frozen that a first-order order names.
        spared: whether that is at most what the options allow.
    """

    factor: float
    prices: Floats
    fall: float
    spared: bool


def passes_of_each(options: Options, classes: int) -> float:
    """Image passes of the screen of one class: its part of `SHARE` of the budget, in whole rounds, at least one.

    Example:
        >>> passes_of_each(Options(budget=12_000), 20), passes_of_each(Options(budget=12_000), 1_000)
        (192.0, 96.0)
    """
    one = SCREEN_ROUND * GRADIENT_COST
    return float(one * max(1, int(SHARE * options.budget / classes / one)))


class Elsewhere:
    """First-order marginals of every filter for every class, on the images that find; made once for a live zone, whichever class asks.

    Args:
        unfinished: where they are kept; None for nowhere.
    """

    def __init__(self, unfinished: Unfinished | None = None) -> None:
        self._unfinished = unfinished
        self._made: dict[float, dict[int, Floats]] = {}

    def at(self, t0: float, game: ModelGame, images: LabelledImages, options: Options, clock: Clock) -> dict[int, Floats]:
        """By label, the mean gradient of the smooth recall of that class by every filter's mask, shape (n,)."""
        if t0 not in self._made:
            labels = np.unique(images.labels).tolist()
            worths = [Smooth(ClassRecall(label)).on(images.subset(np.flatnonzero(images.labels == label))) for label in labels]
            values = screens_of(
                game.classifier,
                game.filters,
                worths,
                options,
                passes=passes_of_each(options, len(labels)),
                t0=t0,
                batch=game.batch,
                clock=clock,
                part=PART,
                kept=self._unfinished.network(f"{PART.replace(' ', '-')}-{t0:g}") if self._unfinished else None,
            )
            self._made[t0] = dict(zip(labels, values / (1 - t0), strict=True))
        return self._made[t0]


def specific(
    screens: Mapping[int, Floats], label: int, labels: Examples, right: Right, *, most: int, options: Options, clock: Clock
) -> Specific:
    """The least of `FACTORS` with which the other classes are spared, and its prices.

    Spared means: with the `most` filters frozen whose first-order marginal less price is highest, the mean recall of the other classes
    falls by `max_clean_drop` at most. Where no factor spares them it is the last, with a warning.

    Deviation from Ghorbani & Zou 2020, who rank by recall of the class alone. Filters that every class needs are then among the highest, and
    all classes fall; counting against a filter the mean of what the others lose is not enough, since a filter may help some as it harms
    others, hence its size.

    Args:
        screens: first-order marginals by class, from `Elsewhere`.
        label: of the class that is asked about.
        labels: int64, shape (N,), of the images that choose.
        right: who is right of them, with filters frozen.
        most: how many filters are frozen.
        options: `max_clean_drop`.
        clock: books the passes.

    Example:
        >>> found = specific({0: np.array([0.5, 0.6]), 1: np.array([0.0, -0.3])}, 0, np.array([0, 1]),
        ...     lambda frozen: np.array([0.0, 1.0 - (1 in frozen)]), most=1, options=Options(), clock=Clock(None, 0))
        >>> found.factor, found.prices.tolist(), found.spared  # by value for the class alone it is the second, which the other needs
        (1.0, [0.0, 0.3], True)
    """
    others = np.mean([np.abs(values) for other, values in screens.items() if other != label], axis=0)
    strata = [np.flatnonzero(labels == other) for other in np.unique(labels) if other != label]

    def elsewhere(frozen: Examples) -> float:
        counted = right(frozen)
        clock.add(CHOOSING, len(labels))
        clock.tell(CHOOSING, 0, 0)
        return float(np.mean([counted[rows].mean() for rows in strata]))

    with clock.part(CHOOSING):
        before = elsewhere(np.array([], dtype=np.int64))
        for factor in FACTORS:
            prices = factor * others
            fall = before - elsewhere(np.argsort(prices - screens[label], kind="stable")[:most])
            if fall <= options.max_clean_drop:
                return Specific(factor, prices, fall, spared=True)
    warnings.warn(
        f"at every price up to {factor:g} times what they lose, the other classes fall by more than {100 * options.max_clean_drop:g} points on "
        f"the images that choose ({100 * fall:.1f}); give a smaller --top, or a larger --max-clean-drop",
        ModelWarning,
        stacklevel=2,
    )
    return Specific(factor, prices, fall, spared=False)
