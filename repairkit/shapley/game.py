"""The game that an engine plays: players, examples, and three ways to ask for the value of a coalition."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from repairkit.errors import GameError, UsageError

Coalitions = npt.NDArray[np.bool_]
"""Rows of True for each live player; shape (k, n), or (1, n) where all examples share one."""
Examples = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float, float], None]
"""Called with the phase at work, the passes made so far and the passes planned."""
GRADIENT_COST = 3.0
"""Image passes of one forward and one backward pass."""


class Game(ABC):
    """A cooperative game whose objective value is a weighted sum of per-example scores.

    A new game writes the methods with an underscore; the public methods check shapes and values once. Costs are in image passes: a score
    costs 1, a gradient `gradient_cost`, a flip `flip_shares[player]` after the 1 of its base.

    Args:
        n: number of players.
        weights: signed weight of every example, shape (N,), in natural units.
        bounds: least and greatest score of an example.
        harmful: sign of harmful values, -1 or 1.

    Raises:
        GameError: a score is NaN or outside `bounds`, or has the wrong shape; or the bounds are no range.
    """

    gradient_cost = GRADIENT_COST

    def __init__(self, n: int, weights: Floats, *, bounds: tuple[float, float], harmful: Literal[-1, 1] = -1) -> None:
        if n < 1:
            raise UsageError(f"a game needs at least one player, got {n}")
        if not bounds[0] < bounds[1]:
            raise GameError(f"the bounds of a score must be numbers, the least below the greatest, got {bounds[0]} and {bounds[1]}")
        self.n = n
        self.weights = np.asarray(weights, dtype=np.float64)
        self.bounds = bounds
        self.harmful = harmful
        self.scale = float(np.abs(self.weights).sum())
        if not np.isfinite(self.scale) or self.scale <= 0:
            raise GameError(f"the weights of the examples must be finite and not all 0, their absolute sum is {self.scale}")
        self.flip_shares: Floats = np.ones(n)

    @property
    def marginal_range(self) -> float:
        """Greatest absolute marginal contribution of a drawn example, in natural units."""
        return self.scale * (self.bounds[1] - self.bounds[0])

    def draw(self, rng: np.random.Generator, k: int) -> tuple[Examples, Floats]:
        """`k` examples in proportion to |weight|, and the factor `scale * sign` of each.

        The mean of factor times score over draws is an unbiased estimate of the objective value.
        """
        examples = rng.choice(len(self.weights), size=k, p=np.abs(self.weights) / self.scale).astype(np.int64)
        return examples, self.scale * np.sign(self.weights[examples])

    def scores(self, coalitions: Coalitions, examples: Examples) -> Floats:
        """Score of each example under its coalition: (k, n) or (1, n), (k,) -> float64 (k,)."""
        self._check_coalitions(coalitions, examples)
        return self._check(self._scores(coalitions, examples), (len(examples),))

    def flips(self, coalitions: Coalitions, examples: Examples, players: Examples) -> Floats:
        """Marginal contribution of each player to each (coalition, example): float64 (k, len(players)).

        `score(S with i) - score(S without i)`, exact, whichever side of the coalition i is on.
        """
        self._check_coalitions(coalitions, examples)
        low, high = self.bounds
        marginals = self._flips(coalitions, examples, players)
        return self._check(marginals, (len(examples), len(players)), (low - high, high - low))

    def gradients(self, coalitions: Coalitions, examples: Examples) -> Floats:
        """Derivative of the surrogate score by every player's mask: float64 (k, n)."""
        self._check_coalitions(coalitions, examples)
        slopes = self._gradients(coalitions, examples)
        return self._check(slopes, (len(examples), self.n), (-np.inf, np.inf))

    def objective_value(self, coalition: npt.NDArray[np.bool_]) -> float:
        """V(S) over all examples, exact; costs one pass for every example."""
        return float(self.weights @ self.scores(coalition[None], np.arange(len(self.weights))))

    def flip_cost(self, players: Examples) -> float:
        """Image passes that `flips` of these players costs for each (coalition, example)."""
        return 1.0 + float(self.flip_shares[players].sum())

    def worker_setup(self) -> Callable[[], object] | None:
        """A picklable function that a worker process calls before it receives the game, or None."""
        return None

    def fingerprint(self) -> str:
        """A hash of shape and content; a checkpoint of another game is refused by it."""
        digest = hashlib.sha256(f"{self.n} {self.bounds} {self.harmful}".encode())
        for part in (self.weights.tobytes(), self.flip_shares.tobytes(), *self._content()):
            digest.update(part)
        return digest.hexdigest()[:16]

    @abstractmethod
    def _scores(self, coalitions: Coalitions, examples: Examples) -> Floats: ...

    @abstractmethod
    def _gradients(self, coalitions: Coalitions, examples: Examples) -> Floats: ...

    def _content(self) -> Iterable[bytes]:
        """What tells this game from others of its shape, for `fingerprint`: by default the scores of 16 coalitions.

        These passes are not booked. A game of dear passes names what it is made of instead.
        """
        rng = np.random.default_rng(0)
        examples, _ = self.draw(rng, 16)
        yield self._scores(rng.random((16, self.n)) < np.linspace(1, 0, 16)[:, None], examples).tobytes()

    def _flips(self, coalitions: Coalitions, examples: Examples, players: Examples) -> Floats:
        base = self.scores(coalitions, examples)
        marginals = np.empty((len(examples), len(players)))
        rows = np.broadcast_to(coalitions, (len(examples), self.n))
        for column, player in enumerate(players):
            flipped = rows.copy()
            flipped[:, player] = ~flipped[:, player]
            change = self.scores(flipped, examples) - base
            marginals[:, column] = np.where(rows[:, player], -change, change)
        return marginals

    def _check_coalitions(self, coalitions: Coalitions, examples: Examples) -> None:
        if coalitions.ndim != 2 or coalitions.shape[1] != self.n or coalitions.shape[0] not in (1, len(examples)):
            raise GameError(f"expected coalitions of shape ({len(examples)}, {self.n}) or (1, {self.n}), got {coalitions.shape}")

    def _check(self, values: Floats, shape: tuple[int, ...], bounds: tuple[float, float] | None = None) -> Floats:
        low, high = bounds or self.bounds
        if values.shape != shape:
            raise GameError(f"the game returned values of shape {values.shape}, expected {shape}")
        if not np.isfinite(values).all():
            raise GameError("the game returned NaN or infinity; check the network's logits on these images")
        slack = 1e-6 * max(1.0, high - low) if np.isfinite(high - low) else 0.0
        if values.size and (values.min() < low - slack or values.max() > high + slack):
            raise GameError(
                f"the game returned values in [{values.min():.4g}, {values.max():.4g}], outside its range [{low:g}, {high:g}]; correct the objective's bounds"
            )
        return values


class FunctionGame(Game):
    """A game given by a function of coalitions, for closed forms and for other things than networks.

    Args:
        n: number of players.
        function: coalitions (k, n) bool -> values (k,).
        bounds: least and greatest value.

    Its gradient is the exact marginal contribution.

    Example:
        >>> game = FunctionGame(3, lambda live: live @ np.array([1.0, 2.0, 0.0]), bounds=(0, 3))
        >>> game.objective_value(np.array([True, True, False]))
        3.0
        >>> game.flips(np.array([[True, False, False]]), np.array([0]), np.array([0, 1, 2]))
        array([[1., 2., 0.]])
    """

    def __init__(
        self, n: int, function: Callable[[Coalitions], Floats], *, bounds: tuple[float, float], harmful: Literal[-1, 1] = -1
    ) -> None:
        super().__init__(n, np.ones(1), bounds=bounds, harmful=harmful)
        self._function = function

    def _scores(self, coalitions: Coalitions, examples: Examples) -> Floats:
        return np.asarray(self._function(np.broadcast_to(coalitions, (len(examples), self.n))), dtype=np.float64)

    def _gradients(self, coalitions: Coalitions, examples: Examples) -> Floats:
        return self._flips(coalitions, examples, np.arange(self.n))
