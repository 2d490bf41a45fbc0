"""The simulation behind the figures on coverage: that it can tell right from wrong, and what it finds."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repairkit.shapley import Game, exact_values
from repairkit.shapley.guarantee import certify


@pytest.fixture(scope="module")
def simulation():
    path = Path(__file__).parents[1] / "benchmarks" / "coverage_simulation.py"
    spec = importlib.util.spec_from_file_location("coverage_simulation", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_games_are_bounded_signed_skewed_and_tied(simulation):
    games = {game.family: game for game in map(simulation.RandomGame, range(5))}
    assert set(games) == set(simulation.FAMILIES)
    for seed, game in enumerate(games.values()):
        rng = np.random.default_rng(seed)
        live, examples = rng.random((6, game.n)) < 0.5, rng.integers(len(game.weights), size=6)
        players = np.array([game.n - 1, 0, 3])
        np.testing.assert_array_equal(game.flips(live, examples, players), Game._flips(game, live, examples, players))
    assert games["signed"].scale == pytest.approx(np.abs(games["signed"].weights).sum())
    assert {*np.sign(simulation.RandomGame(2).weights), *np.sign(simulation.RandomGame(7).weights)} == {-1, 1}
    values = np.sort(exact_values(games["ties"]))
    assert (np.diff(values) < 1e-12).sum() >= 2
    assert games["skewed"].weights.max() > 10 * games["skewed"].weights.min()


def test_wrong_claims_are_found(simulation):
    game = simulation.RandomGame(0)
    truth = exact_values(game)
    order = [int(player) for player in np.argsort(truth)]
    found = certify(game, budget=4_000, top=2)
    wrong = lambda end, chances=None: simulation.wrong_end(found, end, truth, chances or {})  # noqa: E731
    assert not wrong(found.low)
    assert not wrong(found.high)
    assert wrong(replace(found.low, separated=(order[2],)))
    assert wrong(replace(found.low, certified=(order[-1],)))
    assert wrong(replace(found.low, ties=(order[-1],)))
    assert wrong(replace(found.high, decided=True, members=(order[0], order[1])))
    outside = order[1:-1]
    audited = certify(game, budget=4_000, top=2, contested=[*order[:1], *order[3:]], screen=truth, audit=4)
    chances = dict.fromkeys(outside, 1 / len(outside))
    lying = replace(audited.low, audit=replace(audited.low.audit, mass=0.0, count=0))
    assert simulation.wrong_end(audited, lying, truth, {order[0]: 1.0})
    assert not simulation.wrong_end(audited, audited.low, truth, chances)


def test_every_statement_is_counted_once_a_game(simulation):
    findings = simulation.simulate(range(2), rounds=20)
    assert {tally.made for tally in findings.tallies.values()} == {2}
    assert len(findings.tallies) == 7
    table = findings.table()
    assert all(statement in table for statement in findings.tallies)
    tally = simulation.Tally("a statement", 0.1, wrong=9, made=10)
    assert not tally.holds
    assert tally.row() == "| a statement | 10.0% | 9 of 10 | 90.0% | 55.5% to 99.7% |"


@pytest.mark.extended
@pytest.mark.timeout(7200)
def test_intervals_cover_and_the_guarantee_errs_no_more_than_delta(simulation):
    findings = simulation.simulate(range(500), delta=0.1)
    for tally in findings.tallies.values():
        assert tally.made == 500
        assert tally.wrong / tally.made <= tally.nominal, tally.row()
