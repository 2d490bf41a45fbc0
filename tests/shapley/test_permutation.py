from __future__ import annotations

import numpy as np
import pytest
from engines import estimate, permutation_sampling
from games import TableGame, model_game, second_order
from networks import labelled, twelve_filters
from oracles import algorithm_one, shapley_by_sizes

from repairkit.errors import BudgetError, UsageError
from repairkit.objectives import LogLoss
from repairkit.shapley import Attribution
from repairkit.shapley.exact import all_objective_values, exact_values
from repairkit.shapley.game import FunctionGame

ENGINES = ["monte-carlo", "tmab-paper"]


def batches(game: TableGame, *, seed: int, rounds: int, batch: int) -> tuple[list, list, list]:
    """Orders, examples and factors of the permutations that `permutation_sampling` documents."""
    orders, examples, factors = [], [], []
    for t in range(rounds):
        rng = np.random.default_rng([seed, t])
        drawn = game.draw(rng, batch)
        examples.append(drawn[0])
        factors.append(drawn[1])
        orders.append(rng.permutation(game.n).tolist())
    return orders, examples, factors


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("threshold", [None, 14.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_tmab_paper_is_algorithm_one(end, threshold, seed):
    game = TableGame(5, 30, seed=seed, high=30.0)
    game.table += 15 * np.array([(np.arange(32) >> player & 1) * player for player in range(5)]).sum(axis=0)[None] / 5
    game.bounds = (0.0, 100.0)
    options = {"delta": 0.2, "tolerance": 0.01, "batch": 20}
    found = permutation_sampling(game, budget=10_000, engine="tmab-paper", seed=seed, top_k=2, end=end, truncation=threshold, **options)
    orders, examples, factors = batches(game, seed=seed, rounds=400, batch=20)

    def value(members: frozenset[int], t: int) -> float:
        number = sum(1 << player for player in members)
        return float(np.mean([factor * game.table[x, number] for x, factor in zip(examples[t], factors[t], strict=True)]))

    # The walk ends when nobody is active or the budget cannot pay the next permutation: follow it as far.
    means, counts, rounds = algorithm_one(
        value,
        orders[: int(found.samples.max())],
        k=2,
        delta=0.2,
        tolerance=0.01,
        threshold=threshold,
        lowest=end == "low",
    )
    np.testing.assert_array_equal(found.samples, counts)
    np.testing.assert_allclose(found.value, means, atol=1e-9)
    assert rounds == found.samples.max()
    assert counts.min() < counts.max()  # some were dropped before others
    assert np.isnan(found.screen).all()


def test_the_worth_is_asked_just_before_and_after_each_active_player_only():
    """Inactive players leave the walk in their turn, and what that changes counts for nobody."""
    n = 6
    game = TableGame(n, 10, high=1.0)
    effect = np.array([4.0, 3.0, 2.0, 1.0, 1.0, 0.0])
    game.table[:] = np.array([(np.arange(64) >> player & 1) * effect[player] for player in range(n)]).sum(axis=0)
    game.bounds = (0.0, 200.0)
    found = permutation_sampling(game, budget=5000, engine="tmab-paper", top_k=4, end="high", batch=4, delta=0.2, tolerance=0.5)
    assert len(set(found.samples)) >= 3
    assert sum(found.passes.values()) < 5000
    np.testing.assert_allclose(found.value, effect)

    orders, examples, _ = batches(game, seed=0, rounds=int(found.samples.max()), batch=4)
    cursor = 0
    for t, order in enumerate(orders):
        active = {player for player in range(n) if found.samples[player] > t}  # with these effects nobody comes back
        live, known, expected = np.ones(n, dtype=bool), False, []
        for player in order:
            if player in active and not known:
                expected.append(live.copy())
            live[player] = False
            if player in active:
                expected.append(live.copy())
            known = player in active
        for row in expected:
            np.testing.assert_array_equal(game.asked[cursor][0][0], row)
            np.testing.assert_array_equal(game.asked[cursor][1], examples[t])
            cursor += 1
    assert cursor == len(game.asked)


def test_every_permutation_has_a_fresh_batch_that_all_its_steps_share():
    game = TableGame(4, 50)
    permutation_sampling(game, budget=3 * 5 * 8, engine="monte-carlo", top_k=1, batch=8)
    drawn = [tuple(examples) for _, examples in game.asked]
    assert len(drawn) == 15
    assert [len(set(drawn[start : start + 5])) for start in (0, 5, 10)] == [1, 1, 1]
    assert len(set(drawn)) == 3


def test_marginals_after_truncation_count_as_zero():
    game = FunctionGame(4, lambda live: live.mean(axis=1), bounds=(0, 1))
    found = permutation_sampling(game, budget=4000, engine="monte-carlo", top_k=1, truncation=0.6, batch=1)
    # From 1 by quarters: the worths 1 and 0.75 are walked from, 0.5 is below: two of four removals count a quarter.
    assert found.value.sum() == pytest.approx(0.5)
    assert len(set(found.samples)) == 1
    whole = permutation_sampling(game, budget=4000, engine="monte-carlo", top_k=1, batch=1)
    np.testing.assert_allclose(whole.value, 0.25)
    assert found.samples[0] > whole.samples[0]  # what truncation saves buys more permutations


def test_it_stops_when_no_interval_holds_the_kth_value():
    effect = np.array([0.0, 50.0, 100.0])
    game = FunctionGame(3, lambda live: live @ effect, bounds=(0, 150))
    found = permutation_sampling(game, budget=100_000, engine="tmab-paper", top_k=1, end="high", batch=1, tolerance=1.0)
    # The variance is 0, so a player leaves once 7 ln(20) / (3 (t - 1)) is below its distance plus the tolerance.
    half_width = 7 * np.log(20) / (3 * (np.arange(2, 30) - 1))
    expected = [np.flatnonzero(half_width - 1.0 <= distance)[0] + 2 for distance in (100.0, 50.0, 0.0)]
    assert found.samples.tolist() == expected
    assert sum(found.passes.values()) < 100
    np.testing.assert_allclose(found.value, effect)
    everyone = permutation_sampling(game, budget=1000, engine="monte-carlo", top_k=1, end="high", batch=1)
    assert everyone.samples.tolist() == [250] * 3


@pytest.mark.parametrize("engine", ENGINES)
def test_axioms(engine):
    def worth(live):
        return 2.0 * live[:, 0] * live[:, 1] + live[:, 2] - 3.0 * live[:, 4] * live[:, 5]

    game = FunctionGame(6, worth, bounds=(-3, 3))
    found = permutation_sampling(game, budget=7 * 600, engine=engine, top_k=2, batch=1, tolerance=0.0)
    # Efficiency: V(all) - V(none) in every permutation, unless some players left before others.
    assert found.value.sum() == pytest.approx(0.0, abs=0.3 if engine == "tmab-paper" else 1e-9)
    assert found.value[3] == 0  # null player
    np.testing.assert_allclose(found.value, [1, 1, 1, 0, -1.5, -1.5], atol=0.2)
    doubled = permutation_sampling(
        FunctionGame(6, lambda live: 2 * worth(live), bounds=(-6, 6)), budget=7 * 600, engine="monte-carlo", top_k=2, batch=1
    )
    np.testing.assert_allclose(doubled.value, 2 * permutation_sampling(game, budget=7 * 600, engine="monte-carlo", top_k=2, batch=1).value)


def test_second_order_games_converge():
    game, values = second_order(6)
    found = permutation_sampling(game, budget=7 * 2000, engine="monte-carlo", top_k=2, batch=1)
    np.testing.assert_allclose(found.value, values, atol=0.12)
    np.testing.assert_allclose(exact_values(game), values, atol=1e-9)


@pytest.mark.parametrize(("engine", "budget"), [("monte-carlo", 150_000), ("tmab-paper", 150_000), ("tmab", 50_000)])
def test_every_engine_agrees_with_enumeration_on_a_network_of_twelve_filters(engine, budget):
    game = model_game(twelve_filters(seed=2), LogLoss(floor=0.01).on(labelled(6)), batch=256)
    exact = exact_values(game)
    np.testing.assert_allclose(exact, shapley_by_sizes(all_objective_values(game), 12), atol=1e-12)
    found = estimate(game, engine=engine, budget=budget, seed=0, top_k=11)
    spread = np.abs(exact).max()
    assert spread > 0.02
    np.testing.assert_allclose(found.value, exact, atol=0.35 * spread)
    assert np.corrcoef(found.value, exact)[0, 1] > 0.95
    assert (np.abs(found.value - exact) <= found.half_width).all()
    assert set(found.harmful_players(2)) <= set(np.argsort(-exact)[:4])


# ---- what the stopping rule would still need ----


@pytest.mark.parametrize("truncation", [None, 30.0])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_what_is_still_needed_is_about_what_it_takes(truncation, share):
    """A run that stops by its own rule, cut off early: what was spent and what it says it still needs make up what it took."""
    game = TableGame(8, 20, seed=3, high=40.0)
    game.table += 5 * np.array([(np.arange(256) >> player & 1) * player for player in range(8)]).sum(axis=0)[None]
    game.bounds = (0.0, 400.0)
    options = {"engine": "tmab-paper", "top_k": 3, "delta": 0.2, "tolerance": 0.25, "batch": 8, "truncation": truncation}
    whole = permutation_sampling(game, budget=1e7, **options)
    took = sum(whole.passes.values())
    assert whole.still_needed == 0
    assert took < 1e6
    assert "its own stopping rule" not in str(whole)
    early = permutation_sampling(game, budget=share * took, **options)
    spent = sum(early.passes.values())
    assert spent + early.still_needed == pytest.approx(took, rel=0.35)
    assert f"{early.still_needed:.2g} passes" in early.opening


def test_the_range_term_alone_takes_seven_over_t():
    """Nothing varies: at the paper's tolerance and delta the k-th value is settled after 7 ln(20) / 3e-4 permutations, and the others long before."""
    game = FunctionGame(5, lambda live: live @ np.array([1.0, 0.5, 0.2, 0.0, 0.0]), bounds=(0, 1.7))
    found = estimate(game, engine="tmab-paper", budget=20_000, top_k=1, end="high")
    permutations = 7 * np.log(20) / 3 / 1e-4
    assert found.still_needed == pytest.approx(2 * 128 * permutations, rel=0.03)  # one player is active: before and after it


def test_only_the_engine_of_the_paper_has_a_rule_and_its_need_survives_the_file(tmp_path):
    game = TableGame(5, 9)
    assert estimate(game, engine="monte-carlo", budget=3000, top_k=1).still_needed is None
    assert estimate(game, budget=3000, top_k=1).still_needed is None
    endless = permutation_sampling(game, budget=3000, engine="tmab-paper", top_k=1, tolerance=0.0)
    assert endless.still_needed == np.inf
    for found in (estimate(game, engine="tmab-paper", budget=3000, top_k=1), endless):
        found.write(tmp_path / "a.parquet")
        assert Attribution.read(tmp_path / "a.parquet").still_needed == found.still_needed > 3000


@pytest.mark.parametrize("engine", ENGINES)
def test_the_budget_is_never_exceeded(engine):
    for budget in [*range(50, 60), 99.5, 137, 1000, 2345]:
        game = TableGame(4, 9)
        found = permutation_sampling(game, budget=budget, engine=engine, top_k=1, batch=10)
        assert game.cost <= budget
        assert sum(found.passes.values()) == pytest.approx(game.cost)
        assert game.cost > budget - 10  # the walk uses what it has


def test_a_permutation_cut_short_is_dropped():
    game = TableGame(4, 9)
    assert permutation_sampling(game, budget=50 + 49, engine="monte-carlo", top_k=1, batch=10).samples.tolist() == [1] * 4


def test_a_budget_below_one_permutation_names_what_one_costs():
    with pytest.raises(BudgetError, match=r"does not pay one permutation of 4 players \(up to 50 passes\)"):
        permutation_sampling(TableGame(4, 9), budget=49, engine="monte-carlo", top_k=1, batch=10)


def test_truncation_is_stated_and_survives_the_file(tmp_path):
    found = permutation_sampling(TableGame(4, 9), budget=500, engine="monte-carlo", top_k=1, batch=10, truncation=0.2)
    assert found.truncation == 0.2
    assert "truncated below an objective value of 0.2" in found.opening
    found.write(tmp_path / "a.parquet")
    assert Attribution.read(tmp_path / "a.parquet").truncation == 0.2


@pytest.mark.parametrize("tolerance", [-1.0, float("nan")])
def test_a_tolerance_is_a_number_from_0(tolerance):
    with pytest.raises(UsageError, match="tolerance must be a number from 0"):
        permutation_sampling(TableGame(4, 9), engine="tmab-paper", budget=1000, top_k=1, tolerance=tolerance)
