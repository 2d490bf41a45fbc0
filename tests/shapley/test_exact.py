from __future__ import annotations

import numpy as np
import pytest
from oracles import mean_worth_at, shapley_by_permutations, truncated_values

from repairkit.errors import UsageError
from repairkit.shapley.exact import all_objective_values, exact_values
from repairkit.shapley.game import FunctionGame, Game


def table_game(n: int, seed: int = 0) -> tuple[FunctionGame, np.ndarray]:
    """A game of random worths, one for each coalition."""
    table = np.random.default_rng(seed).random(2**n)
    return FunctionGame(n, lambda live: table[live @ (1 << np.arange(n))], bounds=(0, 1)), table


def value_of(table: np.ndarray):
    return lambda members: float(table[sum(1 << player for player in members)])


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_values_are_the_mean_over_all_orders(n):
    game, table = table_game(n)
    np.testing.assert_allclose(exact_values(game), shapley_by_permutations(n, value_of(table)), atol=1e-12)


@pytest.mark.parametrize("min_live", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_truncated_values_are_the_integral_over_the_live_range(n, min_live):
    game, table = table_game(n, seed=1)
    np.testing.assert_allclose(exact_values(game, min_live=min_live), truncated_values(n, value_of(table), min_live), atol=1e-12)


@pytest.mark.parametrize("min_live", [0.0, 0.25, 0.75])
def test_values_sum_to_the_worth_of_all_minus_the_mean_worth_at_t0(min_live):
    game, table = table_game(6, seed=2)
    assert exact_values(game, min_live=min_live).sum() == pytest.approx(table[-1] - mean_worth_at(6, value_of(table), min_live))


def test_symmetric_players_are_equal_and_null_players_get_nothing():
    game = FunctionGame(4, lambda live: (live[:, 0] & live[:, 1]) * 1.0 + 0.5 * live[:, 2], bounds=(0, 2))
    np.testing.assert_allclose(exact_values(game), [0.5, 0.5, 0.5, 0.0], atol=1e-15)


def test_values_of_a_sum_of_games_add_up():
    first, one = table_game(5, seed=3)
    second, two = table_game(5, seed=4)
    both = FunctionGame(5, lambda live: (2 * one - 3 * two)[live @ (1 << np.arange(5))], bounds=(-3, 2))
    np.testing.assert_allclose(exact_values(both), 2 * exact_values(first) - 3 * exact_values(second), atol=1e-12)


class ManyExamples(Game):
    """Example x is worth x + 1 when player x mod n is live."""

    def __init__(self, n: int, examples: int) -> None:
        super().__init__(n, np.linspace(-1, 2, examples), bounds=(0, examples))

    def _scores(self, coalitions, examples):
        live = np.broadcast_to(coalitions, (len(examples), self.n))
        return (examples + 1.0) * live[np.arange(len(examples)), examples % self.n]

    def _gradients(self, coalitions, examples):
        raise NotImplementedError


@pytest.mark.parametrize("examples", [1, 7, 5000])
def test_every_coalition_is_scored_on_every_example_with_its_weight(examples):
    game = ManyExamples(3, examples)
    worths = all_objective_values(game)
    for coalition in range(8):
        live = np.array([bool(coalition >> player & 1) for player in range(3)])
        expected = sum(weight * (x + 1) for x, weight in enumerate(game.weights) if live[x % 3])
        assert worths[coalition] == pytest.approx(expected)
        assert worths[coalition] == pytest.approx(game.objective_value(live))


def test_limits_are_named():
    with pytest.raises(UsageError, match="at most 20 players, the game has 21"):
        exact_values(FunctionGame(21, lambda live: live[:, 0] * 1.0, bounds=(0, 1)))
    for min_live in (-0.1, 1.0):
        with pytest.raises(UsageError, match=r"min_live must lie in \[0, 1\)"):
            exact_values(table_game(2)[0], min_live=min_live)
