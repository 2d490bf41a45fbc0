from __future__ import annotations

import numpy as np
import pytest
from games import TableGame, model_game
from networks import labelled, twelve_filters

from repairkit.errors import GameError, UsageError
from repairkit.objectives import Accuracy, Probability, SubgroupRecall
from repairkit.shapley.game import FunctionGame, Game
from repairkit.shapley.live_range import GRID, POINT_PASSES, measure_live_range


class Played(Game):
    """A game given by a function of coalitions (k, n) and examples (k,)."""

    def __init__(self, n, weights, function) -> None:
        super().__init__(n, np.asarray(weights, dtype=float), bounds=(0, 1))
        self.function = function

    def _scores(self, coalitions, examples):
        return np.asarray(self.function(np.broadcast_to(coalitions, (len(examples), self.n)), examples), dtype=float)

    def _gradients(self, coalitions, examples):
        return self._flips(coalitions, examples, np.arange(self.n))


def alive_above(border):
    """The first three players count while more than `border` of all are live; a hundred players and more make that border sharp."""
    return lambda live: (live.mean(axis=1) > border) * live[:, :3].mean(axis=1) * 0.9


def exact_activity(game: TableGame, examples: np.ndarray, t: float) -> float:
    """Mean over players of the squared mean marginal of the examples' score, by enumeration."""
    n = game.n
    live = (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 1
    share = np.abs(game.weights[examples]) / np.abs(game.weights[examples]).sum()
    worth = (share * np.sign(game.weights[examples])) @ game.table[examples]
    squares = []
    for player in range(n):
        others = np.delete(live, player, axis=1)
        probability = np.prod(np.where(others, t, 1 - t), axis=1)
        without = ~live[:, player]
        change = worth[np.flatnonzero(without) | (1 << player)] - worth[np.flatnonzero(without)]
        squares.append((probability[without] @ change) ** 2)
    return float(np.mean(squares))


@pytest.mark.parametrize("border", [0.82, 0.6])
def test_the_live_range_begins_where_flips_stop_to_matter(border):
    live_range = measure_live_range(FunctionGame(150, alive_above(border), bounds=(0, 1)), coalitions=24, examples=1)
    assert abs(live_range.min_live - border) <= 0.1
    assert live_range.min_live in live_range.grid
    assert live_range.grid.tolist() == sorted(GRID, reverse=True)[: len(live_range.grid)]


def test_one_part_that_is_alive_is_enough():
    parts = np.repeat([0, 1], 5)
    game = Played(
        150, np.full(10, 0.1), lambda live, examples: np.where(parts[examples] == 0, alive_above(0.9)(live), alive_above(0.72)(live))
    )
    live_range = measure_live_range(game, part_of=parts, coalitions=24, examples=2)
    assert live_range.min_live <= 0.8
    first = measure_live_range(Played(150, np.where(parts == 0, 0.2, 0.0), game.function), part_of=parts, coalitions=24, examples=2)
    assert first.min_live >= 0.875
    assert first.activity.shape[1] == 1  # the other part has no weight
    assert live_range.activity.shape == live_range.standard_error.shape == (len(live_range.grid), 2)
    dying = live_range.activity[live_range.grid.tolist().index(0.8)]
    assert dying[1] > 10 * abs(dying[0])


def test_the_live_range_is_not_where_the_score_is_high():
    """An attack that succeeds until half the filters are gone: flips change nothing near the whole network."""
    live_range = measure_live_range(FunctionGame(21, lambda live: live.mean(axis=1) > 0.5, bounds=(0, 1)), coalitions=100, examples=1)
    top_k = dict(zip(live_range.grid, live_range.activity[:, 0], strict=True))
    assert top_k[0.99] == top_k[0.95] == 0
    assert live_range.min_live == 0.5
    assert top_k[0.5] > 0.01


def test_a_network_that_is_alive_throughout_has_the_shapley_value():
    live_range = measure_live_range(
        FunctionGame(5, lambda live: live @ np.array([0.5, 0, -0.25, 0.1, 0.1]), bounds=(-1, 1)), coalitions=3, examples=1
    )
    assert live_range.min_live == 0
    np.testing.assert_allclose(live_range.activity, np.mean([0.5**2, 0, 0.25**2, 0.1**2, 0.1**2]))
    np.testing.assert_allclose(live_range.standard_error, 0, atol=1e-12)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("handful", [1, 4])
def test_activity_is_unbiased_and_its_standard_error_is_right(signed, handful):
    game = TableGame(5, 6, signed=signed)
    effects = ((np.arange(32)[:, None] >> np.arange(5)) & 1) @ np.array([0.6, 0.3, 0.1, 0, 0])
    game.table = (game.table + np.where(game.weights[:, None] > 0, effects, 1 - effects)) / 2
    parts = np.array([0, 0, 1, 1, 1, 0])
    live_ranges = [
        measure_live_range(game, part_of=parts, grid=(0.7,), coalitions=40, examples=handful, seed=seed, share=0.5) for seed in range(60)
    ]
    activity = np.array([live_range.activity[0] for live_range in live_ranges])
    for part in (0, 1):
        expected = exact_activity(game, np.flatnonzero(parts == part), 0.7)
        spread = activity[:, part].std(ddof=1)
        assert activity[:, part].mean() == pytest.approx(expected, abs=3.5 * spread / 60**0.5)
        assert np.mean([live_range.standard_error[0, part] for live_range in live_ranges]) == pytest.approx(spread, rel=0.35)


def answer(live, examples):
    """Below nine tenths the network gives all images one answer, which every flip moves; above, it tells them apart."""
    label = np.where(examples % 2, 1, -1)
    strength = live[:, ::2].mean(axis=1) - live[:, 1::2].mean(axis=1)
    alive = live.mean(axis=1) > 0.88
    return 0.5 + 0.4 * np.where(alive, live[:, :4].mean(axis=1), label * strength)


def test_an_answer_that_moves_for_all_images_alike_is_no_life():
    game = Played(150, np.full(12, 1 / 12), answer)
    live = np.random.default_rng(0).random((50, 150)) < 0.7
    assert np.abs(game.flips(live, np.arange(50) % 12, np.arange(150))).mean() > 0.001  # every example's score changes
    live_range = measure_live_range(game, stratum_of=np.arange(12) % 2, coalitions=24, examples=4)
    assert 0.85 <= live_range.min_live <= 0.9


DEAD = {
    "constant": lambda live, examples: np.full(len(live), 0.5),
    "rounding": lambda live, examples: 0.5 + 1e-8 * live[:, 0],
    "one answer": lambda live, examples: 0.5 + np.where(examples % 2, 0.4, -0.4) * live.mean(axis=1),
}


@pytest.mark.parametrize("case", DEAD)
def test_a_network_dead_on_arrival(case):
    game = Played(12, np.full(8, 1 / 8), DEAD[case])
    with pytest.raises(GameError, match=r"no filter's change of side alters the score .* check that weights"):
        measure_live_range(game, stratum_of=np.arange(8) % 2, examples=4)


def test_a_network_of_no_weights_is_dead_on_arrival():
    network = twelve_filters()
    network[6].weight.data.zero_()
    game = model_game(network, Probability(SubgroupRecall()).on(labelled(6)))
    with pytest.raises(GameError, match="there is no live range"):
        measure_live_range(game, part_of=game.part_of, stratum_of=game.stratum_of, coalitions=4, examples=2)


def test_what_it_cost_is_what_was_made():
    game = TableGame(4, 6)
    live_range = measure_live_range(game, grid=(0.9, 0.5), coalitions=5, examples=3)
    assert live_range.passes == game.cost == 3 * 5 * 3 * len(live_range.grid)
    game.cost, game.flip_shares = 0.0, np.full(4, 0.3)
    live_range = measure_live_range(game, grid=(0.9, 0.5), coalitions=5, examples=3, players=np.array([0, 2]))
    assert live_range.passes == pytest.approx(game.cost) == pytest.approx(1.6 * 5 * 3 * len(live_range.grid))
    assert measure_live_range(TableGame(4, 6)).passes == POINT_PASSES * len(measure_live_range(TableGame(4, 6)).grid)


def test_dead_sizes_are_not_paid_for():
    live_range = measure_live_range(FunctionGame(150, alive_above(0.9), bounds=(0, 1)), coalitions=24, examples=1)
    assert len(live_range.grid) < len(GRID)
    assert live_range.grid[-1] >= 0.7


def test_same_seed_same_bits():
    game = TableGame(4, 6)
    one, again, other = (measure_live_range(game, seed=seed) for seed in (3, 3, 4))
    assert one.activity.tobytes() == again.activity.tobytes()
    assert one.standard_error.tobytes() == again.standard_error.tobytes()
    assert str(one) == str(again)
    assert one.activity.tobytes() != other.activity.tobytes()


def test_gradients_and_flips_find_the_same_live_range_of_a_network():
    game = model_game(twelve_filters(), Probability(Accuracy()).on(labelled(12)) + Probability(SubgroupRecall()).on(labelled(9, seed=1)))
    settings = {"part_of": game.part_of, "stratum_of": game.stratum_of, "grid": (0.9, 0.5, 0.0), "coalitions": 24, "examples": 4}
    first_order, exact = measure_live_range(game, **settings), measure_live_range(game, players=np.arange(12), **settings)
    assert first_order.min_live == exact.min_live
    assert exact.passes == pytest.approx(game.flip_cost(np.arange(12)) * 24 * 4 * 2 * len(exact.grid))


def test_parts_and_strata_of_a_worth():
    one, two = labelled(7), labelled(5, seed=1)
    game = model_game(twelve_filters(), Accuracy().on(one) + Accuracy().on(two))
    assert game.part_of.tolist() == [0] * 7 + [1] * 5
    kinds = [(0, *kind) for kind in zip(one.groups, one.labels, strict=True)] + [
        (1, *kind) for kind in zip(two.groups, two.labels, strict=True)
    ]
    for first in range(12):
        for second in range(12):
            assert (game.stratum_of[first] == game.stratum_of[second]) == (kinds[first] == kinds[second])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": ()}, r"grid of sizes must lie in \[0, 1\), got \(\)"),
        ({"grid": (0.5, 1.0)}, r"grid of sizes must lie in \[0, 1\)"),
        ({"grid": (-0.1,)}, r"grid of sizes must lie in \[0, 1\)"),
        ({"share": 0.0}, r"a share in \(0, 1\)"),
        ({"coalitions": 2}, "at least 3 coalitions"),
        ({"examples": 0}, "at least 1 example of each"),
        ({"part_of": np.zeros(3, dtype=int)}, r"part_of must give a number for each of the 6 examples, got shape \(3,\)"),
        ({"stratum_of": np.zeros((6, 1), dtype=int)}, "stratum_of must give a number for each"),
    ],
)
def test_arguments_that_cannot_work(arguments, message):
    with pytest.raises(UsageError, match=message):
        measure_live_range(TableGame(3, 6), **arguments)
