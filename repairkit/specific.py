"""Class-specific ranking: a filter's value for one class, less a price for what the other classes lose with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
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
ROUND = SCREEN_ROUND * GRADIENT_COST
"""Image passes of a round of gradients."""
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


def sampled(labels: Examples, options: Options) -> list[int]:
    """The classes whose screens say what other classes lose: all, or as many drawn at random as `SHARE` of the budget pays a round each, two at least.

    Args:
        labels: int64, shape (N,), of the images that find.
        options: budget and seed.

    Example:
        >>> len(sampled(np.arange(1000), Options(budget=9_600))), sampled(np.array([0, 0, 1]), Options(budget=100))
        (20, [0, 1])
    """
    there = np.unique(labels)
    most = max(2, int(SHARE * options.budget / ROUND))
    drawn: list[int] = np.sort(np.random.default_rng(options.seed).permutation(there)[:most]).tolist()
    return drawn


def passes_of_each(classes: int, options: Options) -> float:
    """Image passes of the screen of one class, where so many share `SHARE` of the budget: in whole rounds, at least one."""
    return float(ROUND * max(1, int(SHARE * options.budget / classes / ROUND)))


def planned_screens(labels: Examples, asked: Sequence[int], options: Options) -> float:
    """Image passes of all screens that these classes need."""
    sample = sampled(labels, options)
    return len({*sample, *asked}) * passes_of_each(len(sample), options)


class Elsewhere:
    """First-order marginals of every filter for each class, on the images that find; made once for a live zone, whichever class asks.

    Args:
        asked: labels of the classes that are asked about.
        unfinished: where they are kept; None for nowhere.
    """

    def __init__(self, asked: Sequence[int], unfinished: Unfinished | None = None) -> None:
        self._asked, self._unfinished = asked, unfinished
        self._made: dict[float, dict[int, Floats]] = {}

    def of(self, label: int, t0: float, game: ModelGame, images: LabelledImages, options: Options, clock: Clock) -> tuple[Floats, Floats]:
        """Mean gradients of the smooth recall by every filter's mask: of this class, shape (n,), and of the sampled others, shape (k, n)."""
        sample = sampled(images.labels, options)
        if t0 not in self._made:
            labels = sorted({*sample, *self._asked})
            values = screens_of(
                game.classifier,
                game.filters,
                [Smooth(ClassRecall(label)).on(images.subset(np.flatnonzero(images.labels == label))) for label in labels],
                options,
                passes=passes_of_each(len(sample), options),
                t0=t0,
                batch=game.batch,
                clock=clock,
                part=PART,
                kept=self._unfinished.network(f"{PART.replace(' ', '-')}-{t0:g}") if self._unfinished else None,
            )
            self._made[t0] = dict(zip(labels, values / (1 - t0), strict=True))
        screens = self._made[t0]
        return screens[label], np.stack([screens[other] for other in sample if other != label])


def specific(
    own: Floats, others: Floats, elsewhere: Sequence[Examples], right: Right, *, most: int, options: Options, clock: Clock
) -> Specific:
    """The least of `FACTORS` with which the other classes are spared, and its prices.

    Spared means: with the `most` filters frozen whose first-order marginal less price is highest, the mean recall of the other classes
    falls by `max_clean_drop` at most. Where no factor spares them it is the last, with a warning.

    Deviation from Ghorbani & Zou 2020, who rank by recall of the class alone. Filters that every class needs are then among the highest, and
    all classes fall; counting against a filter the mean of what the others lose is not enough, since a filter may help some as it harms
    others, hence its size.

    Args:
        own: first-order marginals of every filter for the class, shape (n,).
        others: likewise for other classes, shape (k, n).
        elsewhere: which of the images that choose are of each other class.
        right: who is right of them, with filters frozen.
        most: how many filters are frozen.
        options: `max_clean_drop`.
        clock: books the passes.

    Example:
        >>> found = specific(np.array([0.5, 0.6]), np.array([[0.0, -0.3]]), [np.array([1])],
        ...     lambda frozen: np.array([0.0, 1.0 - (1 in frozen)]), most=1, options=Options(), clock=Clock(None, 0))
        >>> found.factor, found.prices.tolist(), found.spared  # by value for the class alone it is the second, which the other needs
        (1.0, [0.0, 0.3], True)
    """
    sizes = np.abs(others).mean(axis=0)

    def recall(frozen: Examples) -> float:
        counted = right(frozen)
        clock.add(CHOOSING, len(counted))
        clock.tell(CHOOSING, 0, 0)
        return float(np.mean([counted[rows].mean() for rows in elsewhere]))

    with clock.part(CHOOSING):
        before = recall(np.array([], dtype=np.int64))
        for factor in FACTORS:
            prices = factor * sizes
            fall = before - recall(np.argsort(prices - own, kind="stable")[:most])
            if fall <= options.max_clean_drop:
                return Specific(factor, prices, fall, spared=True)
    warnings.warn(
        f"at every price up to {factor:g} times what they lose, the other classes fall by more than {100 * options.max_clean_drop:g} points on "
        f"the images that choose ({100 * fall:.1f}); give a smaller --top, or a larger --max-clean-drop",
        ModelWarning,
        stacklevel=2,
    )
    return Specific(factor, prices, fall, spared=False)
