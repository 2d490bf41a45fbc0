"""The benchmarks' own estimators and yardsticks, on games whose values are known in closed form."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from games import TableGame, second_order

from repairkit.shapley import exact_values, walk
from repairkit.shapley.attribution import Ledger
from repairkit.shapley.walk import permutation

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TMAB = ("tmab, both ends", "tmab, everyone")
WALKS = (("monte-carlo", 60_000), ("monte-carlo, batch 16", 10_000))
THEIRS = (
    ("shapiq", "shapiq permutation", 0.35),
    ("shapiq", "shapiq SVARM", 1.0),
    ("shapiq", "shapiq KernelSHAP", 1e-6),  # all coalitions of 8 players fit into the budget
    ("shapiq", "shapiq KernelSHAP, paired", 1e-6),
    ("captum", "Captum ShapleyValueSampling", 0.35),
)


@pytest.fixture
def module(monkeypatch):
    """Import a script of the benchmarks as `python benchmarks/NAME.py` would; their folder does not stay on the path."""

    def load(name: str) -> ModuleType:
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(BENCHMARKS))
            return importlib.import_module(name)

    return load


def error_of(module: ModuleType, shared: ModuleType, name: str, per_player: int) -> float:
    """Largest error on a game of eight players with interactions of pairs."""
    game, truth = second_order(8)
    worth = shared.WholeWorth(game)
    found = module.estimators()[name](worth, per_player * game.n, 3, 0)
    assert worth.evaluations <= per_player * game.n + 1
    return float(np.abs(found.values - truth)[found.nameable].max())


@pytest.mark.parametrize("name", TMAB)
def test_tmab_in_the_harness_is_exact_where_only_pairs_interact(module, name):
    assert error_of(module("other_libraries"), module("small_network"), name, 600) < 1e-9


@pytest.mark.parametrize(("name", "per_player"), WALKS)
def test_walks_in_the_harness_recover_a_closed_form(module, name, per_player):
    assert error_of(module("other_libraries"), module("small_network"), name, per_player) < 0.35


@pytest.mark.filterwarnings("ignore")  # of other packages
@pytest.mark.parametrize(("package", "name", "tolerance"), THEIRS, ids=[name for _, name, _ in THEIRS])
def test_other_libraries_in_the_harness_recover_a_closed_form(module, package, name, tolerance):
    pytest.importorskip(package)
    assert error_of(module("other_libraries"), module("small_network"), name, 400) < tolerance


def test_the_truth_is_exact_where_only_pairs_interact(module):
    game, truth = second_order(6)
    values, errors = module("small_network").true_values(game, pairs=3, seed=0)
    np.testing.assert_allclose(values, truth, atol=1e-9)
    assert errors.max() < 1e-6


def test_the_truth_of_weighted_examples_lies_within_its_error(module):
    game = TableGame(4, 5, signed=True)
    values, errors = module("small_network").true_values(game, pairs=2000, seed=0)
    assert (np.abs(values - exact_values(game)) < 4 * errors).all()
    assert 0 < errors.max() < 0.01


def test_the_worth_over_all_images_is_the_game_s_and_counts_every_question(module):
    game = TableGame(5, 7, signed=True)
    worth = module("small_network").WholeWorth(game)
    live = np.random.default_rng(0).random((70, 5)) < 0.5
    np.testing.assert_allclose(worth(live), [game.worth(row) for row in live])
    passes = game.cost
    np.testing.assert_allclose(worth(live[:3]), [game.worth(row) for row in live[:3]])
    assert worth.evaluations == 73
    assert game.cost == passes + 3 * 7  # those of the comparison


def test_precision_counts_ties_as_right_and_names_only_what_was_measured(module):
    bench = module("other_libraries")
    truth, errors = np.array([-3.0, -2.0, -1.9, 0.0, 1.0]), np.full(5, 0.1)
    everyone = np.ones(5, dtype=bool)
    values = np.array([-3.0, 0.0, -2.0, -2.5, 1.0])
    assert bench.precision(bench.Found(values, everyone), truth, errors, 2, low=True) == 0.5
    assert bench.precision(bench.Found(np.array([-3.0, 0, -2.0, 0, 1]), everyone), truth, errors, 2, low=True) == 1
    assert bench.precision(bench.Found(values, everyone & (values != -2.5)), truth, errors, 2, low=True) == 1
    assert bench.precision(bench.Found(values, everyone), truth, errors, 1, low=False) == 1


def test_replays_are_what_the_engine_does(module):
    """Permutations walked once for everybody give the engine's own TMAB, sample for sample."""
    bench = module("figure8")
    game = TableGame(6, 9)
    settings = {"batch": 4, "seed": 3}
    rows = [bench.permutation(game, 3, index, batch=4) for index in range(400)]
    everyone = permutation(game, Ledger(1e9), np.random.default_rng([3, 0]), np.ones(6, dtype=bool), truncation=None, batch=4)
    np.testing.assert_allclose(rows[0], everyone)
    replayed = bench.replay(rows, 6, bandit=True, top=2, end="high", tolerance=0.05)
    found = walk(game, budget=1e9, bandit=True, top=2, end="high", tolerance=0.05, delta=bench.DELTA, **settings)
    assert replayed.stopped
    np.testing.assert_allclose(replayed.values, found.value)
    np.testing.assert_array_equal(replayed.samples, found.samples)
    plain = bench.replay(rows, 6, bandit=False, top=2, end="high", tolerance=0.05)
    assert plain.stopped
    assert len(set(plain.samples)) == 1
    assert replayed.samples.sum() <= plain.samples.sum()
    assert bench.Comparison(replayed, plain).rank > 0.5


@pytest.mark.extended
def test_the_small_network_learns_and_its_game_is_alive(module):
    game = module("small_network").digits_game(50, epochs=8)
    assert game.n <= 300
    assert game.worth(np.ones(game.n, dtype=bool)) > 0.8
    assert game.worth(np.zeros(game.n, dtype=bool)) < 0.3
