from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from engines import tmab
from games import TableGame, model_game, second_order
from networks import labelled, twelve_filters
from oracles import mean_worth_at, truncated_values

from repairkit.errors import BudgetError, UsageError
from repairkit.objectives import Accuracy
from repairkit.shapley.exact import exact_values
from repairkit.shapley.game import FunctionGame
from repairkit.shapley.sampling import draw_round, pair_means
from repairkit.shapley.tmab import SCREEN_ROUND, halving_sizes


@pytest.mark.parametrize("min_live", [0.0, 0.6])
def test_coalition_sizes_are_uniform_over_the_live_range(min_live):
    n = 400
    game = FunctionGame(n, lambda live: live[:, 0] * 1.0, bounds=(0, 1))
    samples = draw_round(game, seed=0, stage=2, index=0, size=4000, min_live=min_live)
    for half in (samples.live[0::2], samples.live[1::2]):
        share = half.mean(axis=1)
        for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
            assert np.mean(share <= min_live + quantile * (1 - min_live)) == pytest.approx(quantile, abs=0.03)
    np.testing.assert_allclose(samples.live[0::2].mean(axis=1) + samples.live[1::2].mean(axis=1), 1 + min_live, atol=0.1)


def test_at_t0_zero_a_pair_is_a_coalition_and_its_complement():
    game = FunctionGame(30, lambda live: live[:, 0] * 1.0, bounds=(0, 1))
    samples = draw_round(game, seed=1, stage=2, index=3, size=500, min_live=0.0)
    np.testing.assert_array_equal(samples.live[0::2], ~samples.live[1::2])


def test_a_round_is_a_pure_function_of_its_arguments():
    game = TableGame(5, 20)
    first, again = (draw_round(game, seed=1, stage=2, index=3, size=8, min_live=0.2) for _ in range(2))
    assert first.live.tobytes() == again.live.tobytes()
    assert first.examples.tobytes() == again.examples.tobytes()
    for other in ({"seed": 2}, {"stage": 3}, {"index": 4}):
        different = draw_round(game, **{"seed": 1, "stage": 2, "index": 3, "size": 8, "min_live": 0.2, **other})
        assert different.live.tobytes() != first.live.tobytes()
    for size in (1, 7, 0):
        with pytest.raises(UsageError, match="whole antithetic pairs"):
            draw_round(game, seed=1, stage=2, index=3, size=size, min_live=0.2)


def test_one_antithetic_pair_is_exact_on_second_order_games():
    game, values = second_order(7)
    for seed in range(5):
        pair = draw_round(game, seed=seed, stage=2, index=0, size=2, min_live=0.0)
        np.testing.assert_allclose(pair_means(game.flips(pair.live, pair.examples, np.arange(7)))[0], values, atol=1e-9)
    found = tmab(game, budget=SCREEN_ROUND * 3 + 2 * 2 * 8, top_k=6, candidates=7)
    assert sorted(found.samples) == [1] + [2] * 6
    np.testing.assert_allclose(found.value, values, atol=1e-9)
    np.testing.assert_allclose(found.screen, values, atol=1e-9)


@pytest.mark.parametrize("min_live", [0.0, 0.5])
def test_values_are_the_integral_over_the_live_range(min_live):
    game = TableGame(5, 8, seed=3)
    found = tmab(game, budget=200_000, top_k=4, candidates=5, min_live=min_live)
    expected = truncated_values(5, lambda members: float(game.worths[sum(1 << player for player in members)]), min_live)
    np.testing.assert_allclose(exact_values(game, min_live=min_live), expected, atol=1e-12)
    error = 4 * (1 - min_live) * 0.6 / np.sqrt(2 * found.samples)
    assert (np.abs(found.value - expected) < error).all()
    assert (np.abs(found.screen - expected) < 4 * (1 - min_live) * 0.6 / np.sqrt(0.3 * 200_000 / 3)).all()
    total = game.worths[-1] - mean_worth_at(5, lambda members: float(game.worths[sum(1 << player for player in members)]), min_live)
    assert found.value.sum() == pytest.approx(total, abs=float(error.sum()) / 2)
    assert (np.abs(found.value - expected) <= found.half_width).all()


def test_signed_weights_are_carried():
    game = TableGame(4, 8, seed=5, signed=True)
    found = tmab(game, budget=100_000, top_k=3, candidates=4)
    np.testing.assert_allclose(found.value, exact_values(game), atol=0.03)


def test_axioms():
    def worth(live):
        return 2.0 * live[:, 0] * live[:, 1] + live[:, 2] - 3.0 * live[:, 4] * live[:, 5]

    found = tmab(FunctionGame(6, worth, bounds=(-3, 3)), budget=2000, top_k=5, candidates=6)
    np.testing.assert_allclose(found.value, [1, 1, 1, 0, -1.5, -1.5], atol=1e-12)  # second order: exact
    assert found.value[3] == 0
    third = tmab(FunctionGame(6, lambda live: 1.0 * live[:, :3].all(axis=1), bounds=(0, 1)), budget=40_000, top_k=5, candidates=6)
    np.testing.assert_allclose(third.value, [1 / 3] * 3 + [0] * 3, atol=0.03)
    doubled = tmab(FunctionGame(6, lambda live: 2 * worth(live), bounds=(-6, 6)), budget=2000, top_k=5, candidates=6)
    np.testing.assert_allclose(doubled.value, 2 * found.value, atol=1e-12)


@pytest.mark.parametrize("min_live", [0.0, 0.4])
def test_one_player_gets_everything(min_live):
    game = FunctionGame(2, lambda live: 0.25 + 0.5 * live[:, 0], bounds=(0, 1))
    found = tmab(game, budget=1000, top_k=1, min_live=min_live)
    assert found.value == pytest.approx([0.5 * (1 - min_live), 0])
    assert found.screen == pytest.approx([0.5 * (1 - min_live), 0])


def test_values_of_a_network_sum_to_what_its_filters_are_worth():
    game = model_game(twelve_filters(seed=2), Accuracy().on(labelled(8)), batch=256)
    for min_live in (0.0, 0.5):
        found = tmab(game, budget=20_000, top_k=11, candidates=12, min_live=min_live)
        exact = exact_values(game, min_live=min_live)
        np.testing.assert_allclose(found.value, exact, atol=4 * (1 - min_live) * 0.5 / np.sqrt(found.samples.min()))
        assert found.value.sum() == pytest.approx(exact.sum(), abs=0.1)


# ---- who is flipped ----


def ladder(n: int) -> FunctionGame:
    """Player i is worth i - n / 2."""
    return FunctionGame(n, lambda live: live @ (np.arange(n) - n / 2), bounds=(-(n**2), n**2))


@pytest.mark.parametrize(("end", "first"), [("low", range(6)), ("high", range(94, 100))])
def test_the_sought_end_of_the_screen_is_flipped_and_a_random_sample_of_the_others(end, first):
    found = tmab(ladder(100), budget=5000, top_k=2, end=end, audit=8)
    flipped = np.flatnonzero(found.samples)
    assert set(first) <= set(flipped)
    assert len(flipped) == 6 + 8
    np.testing.assert_array_equal(np.isnan(found.value), found.samples == 0)
    np.testing.assert_array_equal(np.isnan(found.half_width), found.samples == 0)
    assert not np.isnan(found.screen).any()
    others = {tuple(np.flatnonzero(tmab(ladder(100), budget=2000, top_k=2, end=end, audit=8, seed=seed).samples)) for seed in range(4)}
    assert len(others) == 4
    best = sorted(first, reverse=end == "high")[:2]
    assert found.samples[best].min() == found.samples.max()  # halving keeps the sought end to the last round
    assert found.samples.max() > found.samples[flipped].min()


def test_an_audited_player_that_turns_out_extreme_stays():
    class Blind(FunctionGame):
        """A game whose gradients tell nothing."""

        def _gradients(self, coalitions, examples):
            return np.zeros((len(examples), self.n))

    effect = np.zeros(10)
    effect[9] = -1.0
    found = tmab(Blind(10, lambda live: live @ effect, bounds=(-1, 0)), budget=3000, top_k=1, candidates=2, audit=8)
    assert found.samples[9] == found.samples.max()
    assert found.harmful_players().tolist() == [9]


def test_one_that_dropped_out_comes_back_when_those_that_stayed_fall_behind():
    class Turning(FunctionGame):
        """The two best players are the worst from the second round of halving on."""

        def _flips(self, coalitions, examples, players):
            values = np.array([-4.0, -3.0, -2.0, -1.0]) if len(players) == 4 else np.array([50.0, 50.0, -2.0, -1.0])
            return np.tile(values[players], (len(examples), 1))

        def _gradients(self, coalitions, examples):
            return np.ones((len(examples), self.n))

    found = tmab(Turning(4, lambda live: live @ np.ones(4), bounds=(-50, 50)), budget=3000, top_k=1, candidates=4, audit=0, end="low")
    assert found.samples[2] == found.samples.max() > found.samples[3]  # of the first round and of the last
    assert found.samples[0] == found.samples[1] < found.samples[2]
    assert np.nanargmin(found.value) == 2


def test_the_harmful_end_is_sought_by_default():
    for harmful, end in ((-1, "low"), (1, "high")):
        game = FunctionGame(20, lambda live: live @ (np.arange(20) - 9.5), bounds=(-200, 200), harmful=harmful)
        found = tmab(game, budget=3000, top_k=2)
        assert found.end == end
        assert set(found.harmful_players(2)) == ({0, 1} if harmful < 0 else {18, 19})


def test_a_player_with_only_a_screen_is_never_a_culprit():
    found = tmab(ladder(100), budget=3000, top_k=2, end="high", audit=4)  # seeks the other end than the harmful one
    assert (found.screen[:20] < 0).all()
    assert set(found.harmful_players()) <= set(np.flatnonzero(found.samples))
    assert set(found.harmful_players()) == {player for player in np.flatnonzero(found.samples) if player < 50}


@pytest.mark.parametrize(("first", "audited", "top_k"), [(120, 16, 40), (1, 0, 1), (40, 0, 40), (6, 8, 2), (41, 0, 40)])
def test_halving_never_drops_below_the_top(first, audited, top_k):
    sizes = halving_sizes(first, audited, top_k)
    assert sizes[0] == first + audited
    assert sizes[-1] == top_k
    for before, after in itertools.pairwise(sizes):
        assert after == max(top_k, before // 2)


# ---- budget and seeds ----


@pytest.mark.parametrize("shares", ["whole passes", "shares"])
def test_the_budget_is_never_exceeded(shares):
    rng = np.random.default_rng(0)
    for budget in [*rng.integers(700, 2000, 12), 733.25, 5000, 9999]:
        game = TableGame(9, 7)
        if shares == "shares":
            game.flip_shares = rng.random(9)
        found = tmab(game, budget=float(budget), top_k=2, audit=2)
        assert game.cost <= budget + 1e-6
        assert set(found.passes) == {"screen", "flips"}
        assert sum(found.passes.values()) == pytest.approx(game.cost)
        assert found.passes["screen"] % (3 * SCREEN_ROUND) == 0
        assert found.passes["screen"] <= max(3 * SCREEN_ROUND, 0.4 * budget)


@pytest.mark.parametrize(("n", "top_k", "audit"), [(100, 10, 16), (100, 40, 16), (30, 29, 0), (9, 2, 2), (2, 1, 0)])
def test_the_least_budget_is_named_and_is_enough(n, top_k, audit):
    with pytest.raises(BudgetError, match="tmab needs at least") as error:
        tmab(ladder(n), budget=10, top_k=top_k, audit=audit)
    least = float(re.search(r"at least ([\d,]+)", str(error.value)).group(1).replace(",", ""))
    for budget in np.arange(least, 1.8 * least, 45):
        found = tmab(ladder(n), budget=budget, top_k=top_k, audit=audit)
        assert sum(found.passes.values()) <= budget
        assert (found.samples > 0).sum() >= top_k
    with pytest.raises(BudgetError):
        tmab(ladder(n), budget=least - 1, top_k=top_k, audit=audit)
