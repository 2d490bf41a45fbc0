"""A game in which every live filter has a price."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from repairkit.errors import UsageError
from repairkit.network.game import ModelGame
from repairkit.shapley.game import Coalitions, Examples, Floats


class PricedGame(ModelGame):
    """The game of a network's filters, `V(S)` less the prices of all filters in `S`.

    Every marginal contribution of a filter is that of the game less its price, and so, by linearity, is its Shapley value; with a live zone
    `t0` the value is less by `(1 - t0)` times the price. Any engine thus ranks by value less price, and estimates that with intervals.
    `surrogate` stays without prices.

    Args:
        game: what is played otherwise; it and this one share network and filters, not the images of a pass.
        prices: float64 (n,), at least 0, in units of the worth.

    Raises:
        UsageError: prices of another shape, negative, or not finite.

    Example:
        See `repairkit.experiments.critical.class_ranking`, which prices what other classes lose with a filter.
    """

    def __init__(self, game: ModelGame, prices: Floats) -> None:
        super().__init__(game.classifier, game.filters, game.stake, batch=game.batch, precision=game.precision)
        self.prices = np.asarray(prices, dtype=np.float64)
        if self.prices.shape != (self.n,) or not (np.isfinite(self.prices) & (self.prices >= 0)).all():
            raise UsageError(f"expected {self.n} prices, finite and not negative, got an array of shape {self.prices.shape}")
        self._unpriced = self.bounds
        most = float(self.prices.sum()) / self.scale
        self.bounds = (self.bounds[0] - most, self.bounds[1] + most)

    @property
    def marginal_range(self) -> float:
        """Greatest absolute marginal contribution of a drawn example, in natural units: that of the game and the highest price."""
        return self.scale * (self._unpriced[1] - self._unpriced[0]) + float(self.prices.max())

    def __reduce__(self) -> tuple[object, ...]:
        """The game is rebuilt in other processes, and priced there."""
        rebuilt, arguments = super().__reduce__()
        return _priced, (rebuilt, arguments, self.prices)

    def _content(self) -> Iterator[bytes]:
        yield from super()._content()
        yield self.prices.tobytes()

    def _of(self, examples: Examples) -> Floats:
        """What an example's score loses with each live filter: a drawn example's factor makes it the price."""
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
