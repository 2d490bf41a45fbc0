"""Class-specific ranking: a filter's value for one class, less a penalty for what the other classes lose with it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import stats

from repairkit.data.images import LabelledImages
from repairkit.errors import ModelWarning, UsageError
from repairkit.evaluation.statistics import posterior_drop_bound
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.network.predict import predict
from repairkit.objectives import ClassRecall, Probability
from repairkit.repair.screens import screens_of
from repairkit.repair.selection import GUARD_CONFIDENCE
from repairkit.report.formatting import limit
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley.game import GRADIENT_COST, Coalitions, Examples, Floats
from repairkit.shapley.live_range import check_alive
from repairkit.shapley.sampling import SCREEN_ROUND
from repairkit.shapley.values import Attribution, decide

FIRST = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0)
"""Factors of the penalty of which one says where to flip, by first-order values."""
FACTORS = (0.0, *(float(f"{0.5 * 2 ** (step / 4):.3g}") for step in range(29)))
"""Factors of the penalty by which filters are ranked, four to an octave; the first is the paper's ranking. Bisection takes five tries."""
PRICED_AT = 0.97
"""Least live share of the gradient estimates: what the other classes lose is asked near the whole network, since they are to stay as they are."""
SHARE = 0.4
"""Of the budget, for the gradient estimates of all classes together, which all classes that are asked about share."""
PART, CHOOSING = "screens of classes", "choosing the price"
"""Parts of a run."""
ROUND = SCREEN_ROUND * GRADIENT_COST
"""Image passes of a round of gradients."""
Lead = Callable[[Examples], float]
"""Players to freeze -> by how much further recall of the class falls than the mean recall of the others, on the selection images."""
Drop = Callable[[Examples], tuple[float, float]]
"""Players to freeze -> how far the mean recall of the other classes falls on the selection images, and its one-sided 90 % bound."""
Booleans = npt.NDArray[np.bool_]


class PricedGame(NetworkGame):
    """The game of a network's filters, `V(S)` less the prices of all filters in `S`.

    Every marginal contribution of a filter is that of the game less its price, and so is its Shapley value. With a live range from `t0` the
    value is less by `(1 - t0)` times the price. An engine therefore ranks by value less price. The surrogate stays without prices.

    Args:
        game: the game without prices; both share network and filters.
        prices: float64 (n,), at least 0, in units of the objective.

    Raises:
        UsageError: prices of another shape, negative, or not finite.
    """

    def __init__(self, game: NetworkGame, prices: Floats) -> None:
        super().__init__(game.classifier, game.filters, game.objective, batch=game.batch, precision=game.precision)
        self.prices = np.asarray(prices, dtype=np.float64)
        if self.prices.shape != (self.n,) or not (np.isfinite(self.prices) & (self.prices >= 0)).all():
            raise UsageError(f"expected {self.n} prices, finite and not negative, got an array of shape {self.prices.shape}")
        self._unpriced = self.bounds
        most = float(self.prices.sum()) / self.scale
        self.bounds = (self.bounds[0] - most, self.bounds[1] + most)

    @property
    def marginal_range(self) -> float:
        """Greatest absolute marginal contribution of a drawn example: that of the game and the highest price."""
        return self.scale * (self._unpriced[1] - self._unpriced[0]) + float(self.prices.max())

    def __reduce__(self) -> tuple[object, ...]:
        """Another process rebuilds the game and prices it there."""
        rebuilt, arguments = super().__reduce__()
        return _priced, (rebuilt, arguments, self.prices)

    def _content(self) -> Iterator[bytes]:
        yield from super()._content()
        yield self.prices.tobytes()

    def _of(self, examples: Examples) -> Floats:
        """What an example's score loses with each live filter: the factor of a drawn example makes it the price."""
        lost: Floats = np.sign(self.weights[examples])[:, None] * self.prices / self.scale
        return lost

    def _scores(self, coalitions: Coalitions, examples: Examples) -> Floats:
        lost: Floats = (self._of(examples) * coalitions).sum(axis=1)
        return super()._scores(coalitions, examples) - lost

    def _gradients(self, coalitions: Coalitions, examples: Examples) -> Floats:
        return super()._gradients(coalitions, examples) - self._of(examples)

    def _flips(self, coalitions: Coalitions, examples: Examples, players: Examples) -> Floats:
        return super()._flips(coalitions, examples, players) - self._of(examples)[:, players]


def _priced(rebuilt, arguments, prices: Floats) -> PricedGame:  # type: ignore[no-untyped-def]
    return PricedGame(rebuilt(*arguments), prices)


def check_priced_alive(found: Attribution, paid: Floats) -> None:
    """Refuse a network of which the engine saw nothing but the prices, up to rounding.

    Raises:
        GameError: no filter changed the score of any drawn example.
    """
    observed = [np.nan_to_num(values + paid) for values in (found.screen, found.value)]
    check_alive(found.min_live, *(np.where(np.abs(values) > 1e-9 * paid, values, 0.0) for values in observed))


def ranked_by_price(found: Attribution, paid: Floats, price: Floats) -> Attribution:
    """The values without the prices that a game had, ranked by value less another price.

    Values are additive in prices, so this is exact. Who is `decided` is found anew. The half-widths are widened for that (Student's, after
    Bonferroni), so that they hold for all valued players at once.

    Args:
        found: values of a `PricedGame`.
        paid: what value and screen are less by, shape (n,).
        price: what counts against each player from now on, shape (n,).
    """
    value = found.value + paid
    valued = max(int((~np.isnan(value)).sum()), 1)
    freedom = np.maximum(found.samples - 1, 1)
    wider = stats.t.isf(found.delta / valued / 2, freedom) / stats.t.isf(found.delta / 2, freedom)
    decided = decide(value - price, found.half_width * wider, top_k=found.top_k, end=found.end)
    return replace(found, screen=found.screen + paid, value=value, price=price, decided=decided)


@dataclass(frozen=True, eq=False)
class ClassRanking:
    """What other classes lose with each filter, and the penalty for it."""

    factor: float  # one of `FACTORS`
    sizes: Floats  # shape (n,): mean over the other classes of the size of the filter's first-order marginal, in units of recall
    classes: int  # that `sizes` is over
    first: float  # factor by which filters were picked for flips
    fall: float  # of the mean recall of the other classes on the selection images, with the important filters frozen
    bound: float  # one-sided 90 % bound of that
    spared: bool  # whether the bound is at most what the options allow


@dataclass(frozen=True, eq=False)
class OtherClasses:
    """A class and the other classes on the selection images, with filters of a network frozen; `run` is booked for the passes."""

    classifier: Classifier
    filters: ConvFilters
    images: LabelledImages
    label: int
    run: Run

    @cached_property
    def unmoved(self) -> float:
        """The bound on the fall of the other classes where nothing is frozen."""
        unchanged = np.ones(len(self._others))
        return self._fall(unchanged, unchanged)[1]

    def lead(self, frozen: Examples) -> float:
        """By how much further recall of the class falls than the mean recall of the others."""
        return self._recall_less_others(self._original) - self._recall_less_others(self._outcomes(frozen))

    def drop(self, frozen: Examples) -> tuple[float, float]:
        """How far the mean recall of the other classes falls, and its one-sided bound."""
        after = self._outcomes(frozen)
        return self._fall(self._original[self.images.labels != self.label], after[self.images.labels != self.label])

    @cached_property
    def _original(self) -> Booleans:
        return self._outcomes(np.array([], dtype=np.int64))

    @property
    def _others(self) -> Examples:
        labels: Examples = self.images.labels[self.images.labels != self.label]
        return labels

    def _outcomes(self, frozen: Examples) -> Booleans:
        outcomes: Booleans = predict(self.classifier, self.images, self.run, filters=self.filters, frozen=frozen) == self.images.labels
        return outcomes

    def _fall(self, before: Booleans | Floats, after: Booleans | Floats) -> tuple[float, float]:
        return posterior_drop_bound(before, after, self._others, confidence=GUARD_CONFIDENCE, seed=self.run.settings.seed)

    def _recall_less_others(self, outcomes: Booleans) -> float:
        labels = self.images.labels
        others = [outcomes[labels == label].mean() for label in np.unique(self._others)]
        return float(outcomes[labels == self.label].mean() - np.mean(others))


def sampled(labels: Examples, options: Options) -> list[int]:
    """The classes whose gradients say what other classes lose.

    These are all classes, or as many drawn at random as `SHARE` of the budget pays a round each, two at least.

    Example:
        >>> len(sampled(np.arange(1000), Options(budget=9_600))), sampled(np.array([0, 0, 1]), Options(budget=100))
        (20, [0, 1])
    """
    most = max(2, int(SHARE * options.budget / ROUND))
    drawn: list[int] = np.sort(np.random.default_rng(options.seed).permutation(np.unique(labels))[:most]).tolist()
    return drawn


def passes_of_each(classes: int, options: Options) -> float:
    """Image passes of the gradient estimate of one class, where so many share `SHARE` of the budget: in whole rounds, at least one."""
    return float(ROUND * max(1, int(SHARE * options.budget / classes / ROUND)))


def planned_screens(labels: Examples, asked: Sequence[int], options: Options) -> float:
    """Image passes of all gradient estimates that these classes need."""
    sample = sampled(labels, options)
    return len({*sample, *asked}) * passes_of_each(len(sample), options)


def class_marginals(label: int, asked: Sequence[int], game: NetworkGame, images: LabelledImages, shared: Run) -> tuple[Floats, Floats]:
    """Mean gradients of the smooth recall by every filter's mask: of this class, shape (n,), and of the sampled others, shape (k, n).

    They are made once for all classes, whichever asks first.

    Args:
        label: of the class.
        asked: labels of all classes that are asked about.
        game: players and constants.
        images: attribution images.
        shared: the run that all classes share.
    """
    sample = sampled(images.labels, shared.settings)
    labels = sorted({*sample, *asked})
    if PART not in shared.shared:
        shared.shared[PART] = screens_of(
            game.classifier,
            game.filters,
            {other: Probability(ClassRecall(other)).on(images.subset(np.flatnonzero(images.labels == other))) for other in labels},
            shared,
            passes=passes_of_each(len(sample), shared.settings),
            t0=PRICED_AT,
            batch=game.batch,
            part=PART,
        )
    values = dict(zip(labels, shared.shared[PART] / (1 - PRICED_AT), strict=True))
    return values[label], np.stack([values[other] for other in sample if other != label])


def first_factor(marginals: Floats, sizes: Floats, lead: Lead, *, most: int) -> float:
    """The factor of `FIRST` with which the class falls furthest beyond the others where first-order values rank; the least of several.

    At a smaller one the filters are picked that all classes need, at a greater one those that none needs.

    Args:
        marginals: first-order marginals of every filter for the class, shape (n,).
        sizes: mean size of those of the others, shape (n,).
        lead: of the class, with filters frozen.
        most: how many filters are frozen.

    Example:
        >>> first_factor(np.array([0.5, 0.6]), np.array([0.0, 0.3]), lambda frozen: float(0 in frozen), most=1)
        1.0
    """
    return max(FIRST, key=lambda factor: lead(np.argsort(factor * sizes - marginals, kind="stable")[:most]))


def choose_factor(
    important: Callable[[float], Examples],
    sizes: Floats,
    drop: Drop,
    *,
    unmoved: float,
    classes: int,
    first: float,
    options: Options,
    whose: str = "",
) -> ClassRanking:
    """The least factor of `FACTORS`, by bisection, with which the one-sided 90 % bound on the fall of the other classes is at most `spare`.

    Images that are too few to show that of an unchanged network need to show no more than they can, with a warning. Where no factor does,
    it is the last, with a warning. Bisection takes a factor to do where a smaller one does.

    Deviation from Ghorbani & Zou 2020, who rank by recall of the class alone. Filters that every class needs are then among the highest,
    and all classes fall. A filter may help some classes as it harms others, so what counts is the size of its marginals and not their mean.

    Args:
        important: the players that are frozen, where filters are ranked by value less so many times the penalty.
        sizes: mean size over the others of each filter's first-order marginal, shape (n,).
        drop: of the others, with filters frozen.
        unmoved: the bound with nothing frozen.
        classes: how many others `sizes` is over.
        first: the factor by which filters were picked for flips.
        options: `spare`.
        whose: the baseline whose ranking it is, which repeats no warning about too few images.
    """
    allowed = max(options.spare, unmoved)
    if unmoved > options.spare and not whose:
        warnings.warn(
            f"the selection images of other classes are too few to show that these fall by {limit(options.spare)} at most; with no image lost "
            f"they show {100 * unmoved:.1f}, which is asked for; give more images, or a larger --max-other-class-drop",
            ModelWarning,
            stacklevel=2,
        )
    low, high = -1, len(FACTORS)
    measured: dict[int, tuple[float, float]] = {}
    while high - low > 1:
        middle = (low + high) // 2
        measured[middle] = drop(important(FACTORS[middle]))
        low, high = (low, middle) if measured[middle][1] <= allowed else (middle, high)
    spared = high < len(FACTORS)
    last = high if spared else len(FACTORS) - 1
    fall, bound = measured[last]
    if not spared:
        warnings.warn(
            f"{whose}{': ' if whose else ''}at every penalty up to {FACTORS[-1]:g} times what they lose, the other classes may fall by more than {limit(allowed)} on the "
            f"selection images (by {100 * fall:.1f}, at most {100 * bound:.1f}); give more images, a smaller --top-k, or a larger --max-other-class-drop",
            ModelWarning,
            stacklevel=2,
        )
    return ClassRanking(FACTORS[last], sizes, classes, first, fall, bound, spared)


def planned_choosing(images: int) -> float:
    """Image passes of choosing both factors, at most."""
    return float(images * (1 + len(FIRST))) + tries(images)


def tries(images: int) -> float:
    """Image passes of choosing one factor, at most."""
    return float(images * math.ceil(math.log2(len(FACTORS) + 1)))
