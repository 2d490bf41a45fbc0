"""Games with closed forms or with everything written down in a table."""

from __future__ import annotations

import numpy as np

from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame, prepared_batches
from repairkit.objectives.base import ObjectiveSum
from repairkit.shapley.game import FunctionGame, Game


class TableGame(Game):
    """Every example has a worth of its own for every coalition; remembers what it was asked."""

    def __init__(self, n: int, examples: int, *, seed: int = 0, high: float = 1.0, signed: bool = False, harmful: int = -1) -> None:
        rng = np.random.default_rng(seed)
        weights = rng.random(examples) * ((-1.0) ** np.arange(examples) if signed else 1)
        super().__init__(n, weights / np.abs(weights).sum(), bounds=(0, high), harmful=harmful)
        self.table = rng.random((examples, 2**n)) * high
        self.asked: list[tuple[np.ndarray, np.ndarray]] = []
        self.cost = 0.0

    def number(self, coalitions: np.ndarray) -> np.ndarray:
        return coalitions @ (1 << np.arange(self.n))

    def _scores(self, coalitions, examples):
        self.asked.append((coalitions.copy(), examples.copy()))
        self.cost += len(examples)
        return self.table[examples, self.number(np.broadcast_to(coalitions, (len(examples), self.n)))]

    def _content(self):
        return [self.table.tobytes()]

    def _flips(self, coalitions, examples, players):
        cost = self.cost + len(examples) * self.flip_cost(players)
        marginals = super()._flips(coalitions, examples, players)
        self.cost = cost
        return marginals

    def _gradients(self, coalitions, examples):
        cost = self.cost + 3 * len(examples)
        slopes = super()._flips(coalitions, examples, np.arange(self.n))
        self.cost = cost
        return slopes

    @property
    def worths(self) -> np.ndarray:
        """V of all coalitions."""
        return self.weights @ self.table


def second_order(n: int, seed: int = 0, **options) -> tuple[FunctionGame, np.ndarray]:
    """A game with interactions of pairs at most, and its Shapley values in closed form."""
    rng = np.random.default_rng(seed)
    single, pair = rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1)

    def worth(live: np.ndarray) -> np.ndarray:
        live = live.astype(float)
        return live @ single + np.einsum("ki,ij,kj->k", live, pair, live)

    bound = float(np.abs(single).sum() + np.abs(pair).sum())
    return FunctionGame(n, worth, bounds=(-bound, bound), **options), single + (pair + pair.T).sum(axis=1) / 2


def model_game(network, worth: ObjectiveSum, *, batch: int = 64, freeze_at: str = "post", precision: str = "float32") -> NetworkGame:
    """The game of a network on a worth, with constants from the worth's own images."""
    classifier = Classifier(network, classes=worth.terms[0].images.classes)
    filters = ConvFilters(network, freeze_at=freeze_at)
    filters.calibrate(batch for part in worth.terms for batch in prepared_batches(classifier, part.images))
    return NetworkGame(classifier, filters, worth, batch=batch, precision=precision)
