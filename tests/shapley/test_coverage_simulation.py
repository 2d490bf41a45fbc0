"""The simulation behind the figures on coverage: that it can tell right from wrong, and what it finds."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from engines import tmab

from repairkit.shapley import Game, exact_values


@pytest.fixture(scope="module")
def simulation():
    path = Path(__file__).parents[2] / "benchmarks" / "coverage_simulation.py"
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
    order = [f"player:{player}" for player in np.argsort(truth)]
    found = tmab(game, budget=4_000, top_k=2, guarantee=0.05, candidates=game.n)
    low, high = found.guarantee.low, found.guarantee.high
    wrong = partial(simulation.wrong_end, found, truth=truth)
    assert not wrong(low)
    assert not wrong(high)
    assert wrong(replace(low, separated=(order[2],)))
    assert wrong(replace(low, certified=(order[-1],)))
    assert wrong(replace(low, ties=(order[-1],)))
    assert wrong(replace(high, decided=True, members=(order[0], order[1])))
    lying = replace(found, value=-found.value, decided=np.ones(game.n, dtype=bool))
    assert simulation.wrong_end(lying, replace(low, members=high.members, certified=(), decided=False), truth)

    game.screen = -truth  # the lowest is found at the high end, so hide it in the middle
    game.screen[np.argmin(truth)] = np.median(truth)
    audited = tmab(game, budget=9_000, top_k=2, guarantee=0.05, candidates=2, audit=4)
    end = audited.guarantee.low
    assert not simulation.wrong_end(audited, end, truth)
    assert np.argsort(audited.screen)[0] != np.argmin(truth)
    assert simulation.wrong_end(audited, replace(end, audit=replace(end.audit, mass=0.0, count=0)), truth)


def test_every_statement_is_counted_once_a_game(simulation):
    findings = simulation.simulate(range(2), pairs=20)
    split = {"smooth scores": 1, "scores of 0 and 1": 1}
    assert {name: tally.made for name, tally in findings.tallies.items()} == {
        name: next((made for kind, made in split.items() if kind in name), 2) for name in findings.tallies
    }
    assert len(findings.tallies) == 9
    assert findings.refused == 0
    table = findings.table()
    assert all(statement in table for statement in findings.tallies)
    tally = simulation.Tally("a statement", 0.1)
    for number in range(10):
        tally.add("ties" if number < 2 else "hard", wrong=number > 0)
    assert not tally.holds
    assert tally.row() == "| a statement | 10.0% | 9 of 10 | 90.00% | 55.50% to 99.75% | 100.0% (hard) |"


@pytest.mark.extended
@pytest.mark.timeout(7200)
def test_intervals_cover_and_the_guarantee_errs_no_more_than_delta(simulation):
    findings = simulation.simulate(range(500), delta=0.1)
    assert findings.refused <= 15  # of 2,000: no change of any score was seen
    for tally in findings.tallies.values():
        least = 500 * (2 if "smooth scores" in tally.statement else 3 if "0 and 1" in tally.statement else 5) // 5
        assert least - findings.refused <= tally.made <= least
        assert tally.wrong / tally.made <= tally.nominal, tally.row()
