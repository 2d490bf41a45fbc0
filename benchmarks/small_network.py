"""A small network, its game, its true values and a worth over all images: what the benchmarks of estimators share.

The network is that of `repairkit.experiments.sample_efficiency.small_network`, with 120 filters in four convolutions.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import platform
from pathlib import Path

import numpy as np
import torch

import repairkit
from repairkit.experiments.sample_efficiency.small_network import TRAINED_ON, digits, trained_classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame, prepared_batches
from repairkit.objectives import Accuracy, Probability
from repairkit.shapley import Game


def digits_game(images: int = 200, *, epochs: int = 30, smooth: bool = True) -> NetworkGame:
    """The network's game on images it was not trained on; the constants are means over the same images.

    `smooth` scores an image by `sigmoid(margin)`, else by 0 or 1.
    """
    everything = digits()
    classifier = trained_classifier(everything, epochs=epochs)
    held_out = everything.subset(np.arange(TRAINED_ON, TRAINED_ON + images))
    filters = ConvFilters(classifier.network)
    filters.calibrate(prepared_batches(classifier, held_out))
    objective = Probability(Accuracy()) if smooth else Accuracy()
    return NetworkGame(classifier, filters, objective.on(held_out), batch=1024)


class WholeWorth:
    """V(S) over all examples of a game, for libraries that evaluate coalitions; counts what it was asked.

    One evaluation is a pass of every example. A coalition that was asked before is counted, not computed.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.evaluations = 0
        self._known: dict[bytes, float] = {}

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        """Worth of every row: bool (k, n) -> float64 (k,)."""
        rows = np.atleast_2d(coalitions).astype(bool)
        self.evaluations += len(rows)
        keys = [row.tobytes() for row in np.packbits(rows, axis=1)]
        new = {key: index for index, key in enumerate(keys) if key not in self._known}
        for part in np.array_split(np.array(list(new.values()), dtype=np.int64), 1 + len(new) // 32):
            for index, worth in zip(part, worths(self.game, rows[part]), strict=True):
                self._known[keys[index]] = float(worth)
        return np.array([self._known[key] for key in keys])


def worths(game: Game, coalitions: np.ndarray) -> np.ndarray:
    """Exact worth of each coalition over all examples: bool (k, n) -> float64 (k,)."""
    size = len(game.weights)
    scores = game.scores(np.repeat(coalitions, size, axis=0), np.tile(np.arange(size), len(coalitions)))
    return scores.reshape(len(coalitions), size) @ game.weights


def true_values(game: Game, *, pairs: int, seed: int, together: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values from permutations, and their standard errors; both float64 (n,).

    Every example walks `pairs` random orders of its own and their reverses, so that a pass over all
    examples gives as many independent walks as there are examples. No example is drawn: the
    standard error is that of the orders alone. Exact where no three players interact. Shares no code
    with the engines. Costs `2 pairs (n - 1)` evaluations.
    """
    size, n = len(game.weights), game.n
    totals, squares, done = np.zeros((size, n)), np.zeros((size, n)), 0
    rng = np.random.default_rng([seed, 77])
    while done < pairs:
        count = min(together, pairs - done)
        orders = rng.permuted(np.broadcast_to(np.arange(n), (count * size, n)), axis=1)
        forward, backward = _walk(game, orders, count), _walk(game, orders[:, ::-1], count)
        observed = ((forward + backward) / 2).reshape(count, size, n)
        totals += observed.sum(axis=0)
        squares += (observed**2).sum(axis=0)
        done += count
    means = totals / pairs
    variances = (squares / pairs - means**2).clip(0) * pairs / max(pairs - 1, 1)
    return game.weights @ means, np.sqrt(game.weights**2 @ variances / pairs)


def _walk(game: Game, orders: np.ndarray, count: int) -> np.ndarray:
    """Change of each row's score as its players join in the row's order; (rows, n)."""
    rows, examples = np.arange(len(orders)), np.tile(np.arange(len(game.weights)), count)
    live = np.zeros(orders.shape, dtype=bool)
    marginals = np.empty(orders.shape)
    before = game.scores(live, examples)
    for player in orders.T:
        live[rows, player] = True
        after = game.scores(live, examples)
        marginals[rows, player] = after - before
        before = after
    return marginals


def circumstances(*packages: str) -> str:
    """Date, machine, versions and the state of the engines, for the head of a section."""
    sources = hashlib.sha256()
    for path in sorted((Path(repairkit.__file__).parent / "shapley").glob("*.py")):
        sources.update(path.read_bytes())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy", *packages))
    return (
        f"{datetime.datetime.now(tz=datetime.UTC).date()}, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} thread(s), Python {platform.python_version()}, {versions}, "
        f"repairkit {importlib.metadata.version('repairkit')} (engines {sources.hexdigest()[:8]})."
    )
