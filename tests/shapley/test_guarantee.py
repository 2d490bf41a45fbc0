from __future__ import annotations

import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from engines import tmab
from games import TableGame, model_game, second_order
from networks import labelled, twelve_filters
from scipy.stats import binomtest

from repairkit.errors import BudgetError, GameError
from repairkit.objectives import Accuracy, Probability
from repairkit.shapley import Attribution, FunctionGame, exact_values
from repairkit.shapley.audit import audit_chances
from repairkit.shapley.game import GRADIENT_COST
from repairkit.shapley.guarantee import Guarantee
from repairkit.shapley.sampling import SCREEN_ROUND

ALL = 10**6
"""Contested players that are more than any game has: all of them, without a screen."""


class Additive(FunctionGame):
    """Player i is worth effects[i]; gradients say what they are told to say."""

    def __init__(self, effects, screen=None) -> None:
        values = np.array(effects, dtype=float)
        bounds = float(values[values < 0].sum()), float(values[values > 0].sum())
        super().__init__(len(values), lambda live: live @ values, bounds=bounds)
        self.screen = values if screen is None else screen

    def _gradients(self, coalitions, examples):
        return np.tile(self.screen, (len(examples), 1))


def certify(game, **options) -> Attribution:
    return tmab(game, **{"budget": 50_000, "guarantee": 0.05, "candidates": ALL, **options})


def same(first: Attribution, second: Attribution) -> bool:
    """Whether two results agree in every bit."""
    arrays = ("screen", "value", "half_width", "samples", "decided", "standard_error")
    alike = all(getattr(first, name).tobytes() == getattr(second, name).tobytes() for name in arrays)
    return alike and first.guarantee == second.guarantee and first.passes == second.passes


def named(players) -> set[str]:
    return {f"player:{player}" for player in players}


# ---- decisions ----


@pytest.mark.parametrize("min_live", [0.0, 0.5])
def test_separated_games_are_decided_at_both_ends(min_live):
    game = Additive([-0.5, 0.0, 0.4, -0.3, 0.0, 0.05, 0.3, -0.02])
    found = certify(game, budget=100_000, top_k=2, min_live=min_live)
    guarantee = found.guarantee
    assert guarantee.stopped == "decided"
    assert guarantee.low.members == ("player:0", "player:3")
    assert guarantee.high.members == ("player:2", "player:6")
    for end in (guarantee.low, guarantee.high):
        assert end.decided
        assert end.undecided == 0
        assert set(end.certified) == set(end.members)
        assert end.audit is None
    assert found.decided.all()
    truth = (1 - min_live) * exact_values(game)
    np.testing.assert_allclose(found.value, truth, atol=1e-9)
    assert (np.abs(found.value - truth) <= found.half_width).all()
    assert found.samples.min() < found.samples.max()  # whoever is sure is observed no more
    assert found.samples.max() == guarantee.pairs
    assert sum(found.passes.values()) < 100_000
    assert guarantee.low.slack <= 0.2 * (1 - min_live) * 0.3


def test_interactions_and_examples_are_decided_by_their_values():
    game = TableGame(6, 5, seed=11, signed=True)
    single = np.array([0.2, -0.25, 0.0, 0.02, -0.02, 0.0]) @ ((np.arange(64) >> np.arange(6)[:, None]) & 1)
    game.table = 0.45 + np.sign(game.weights)[:, None] * single + 0.1 * game.table
    found = certify(game, top_k=1, min_live=0.5)
    assert found.guarantee.stopped == "decided"
    assert (found.guarantee.low.members, found.guarantee.high.members) == (("player:1",), ("player:0",))
    assert (np.abs(found.value - exact_values(game, min_live=0.5)) <= found.half_width).all()


def test_a_smaller_tolerance_separates_more():
    game = Additive([-0.4, -0.1, 0.0, 0.0, 0.1, 0.4])
    loose, strict = (certify(game, top_k=1, tolerance=tolerance) for tolerance in (0.4, 0.0))
    assert loose.guarantee.stopped == strict.guarantee.stopped == "decided"
    assert loose.guarantee.pairs < strict.guarantee.pairs
    assert loose.guarantee.low.separated == ()  # decided within the tolerance, with a rest of overlap
    assert strict.guarantee.low.separated == ("player:0",)
    assert loose.status(0, "low") == "within tolerance"
    assert strict.status(0, "low") == strict.status(5, "high") == "separated"


def test_ties_are_listed_as_ties():
    game = Additive([-0.5, -0.3, -0.3, -0.3, 0.0, 0.0, 0.0, 0.3, 0.4, 0.5])
    found = certify(game, budget=200_000, top_k=3, tolerance=0.3)
    assert found.guarantee.stopped == "decided"
    assert set(found.guarantee.low.ties) == named([1, 2, 3])  # also the one that is not a member
    assert found.guarantee.high.ties == ()
    assert found.status(1, "low") == "tie"
    assert "ties: player:1, player:2, player:3" in str(found)


def test_a_border_at_zero_is_never_decided():
    found = certify(Additive([-0.5, 0.0, 0.0, 0.0, 0.5, 0.6]), budget=10_000, top_k=2)
    guarantee = found.guarantee
    assert guarantee.stopped == "budget"
    assert not guarantee.low.decided
    assert guarantee.high.decided
    assert guarantee.low.slack == 0
    assert guarantee.low.undecided == 3
    assert np.flatnonzero(~found.decided).tolist() == [1, 2, 3]
    high = certify(Additive([-0.5, 0.0, 0.0, 0.0, 0.5, 0.6]), budget=10_000, top_k=2, end="high")
    assert high.decided.all()  # of the end that was asked for


class Remembering(FunctionGame):
    """Remembers whose flips were asked for, pair by pair."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.flipped: list[set[int]] = []

    def _flips(self, coalitions, examples, players):
        self.flipped += [set(players.tolist())] * (len(examples) // 2)
        return super()._flips(coalitions, examples, players)


@pytest.mark.parametrize(("seed", "player"), [(3, 0), (6, 2)])
def test_excluded_players_come_back(seed, player):
    """Player 1 varies most: while it seems to be the lowest or not to be, the border moves to and from the others."""

    def worth(live):
        alike = (live[:, 3] == live[:, 4]) & (live[:, 4] == live[:, 5])
        return -0.3 * live[:, 0] - 1.0 * live[:, 1] * alike - 0.22 * live[:, 2]

    game = Remembering(6, worth, bounds=(-1.52, 0))
    found = certify(game, budget=6_000, top_k=1, seed=seed, tolerance=0.3)
    played = [player in players for players in game.flipped]
    assert found.samples[player] == sum(played)
    assert "out, in" in ", ".join("in" if each else "out" for each in played)


# ---- budget, seeds, workers ----


@pytest.mark.parametrize("candidates", [ALL, 2])
@pytest.mark.parametrize("shares", ["whole passes", "shares"])
def test_the_budget_is_never_exceeded(shares, candidates):
    rng = np.random.default_rng(0)
    for budget in [*rng.integers(500, 3000, 6), 733.25]:
        game = TableGame(8, 7)
        if shares == "shares":
            game.flip_shares = rng.random(8)
        found = certify(game, budget=float(budget), top_k=2, candidates=candidates)
        assert game.cost <= budget + 1e-6
        assert sum(found.passes.values()) == pytest.approx(game.cost)
        assert set(found.passes) == ({"flips"} if candidates == ALL else {"screen", "flips"})
        assert found.guarantee.stopped == "budget"
        assert found.guarantee.pairs >= 16
        assert found.samples.max() == found.guarantee.pairs


@pytest.mark.parametrize("candidates", [ALL, 2])
def test_the_least_budget_is_named_and_is_enough(candidates):
    game = TableGame(9, 7)
    game.flip_shares = np.linspace(0.1, 0.9, 9)
    with pytest.raises(BudgetError, match=r"the budget of 10 image passes is too small: a guarantee needs at least [\d,]+ here") as error:
        certify(game, budget=10, top_k=2, candidates=candidates, audit=3)
    least = float(re.search(r"at least ([\d,]+)", str(error.value)).group(1).replace(",", ""))
    assert certify(game, budget=least, top_k=2, candidates=candidates, audit=3).guarantee.pairs >= 16
    with pytest.raises(BudgetError):
        certify(game, budget=least - 1, top_k=2, candidates=candidates, audit=3)


def test_two_workers_give_the_same_bits():
    game = model_game(twelve_filters(), Probability(Accuracy()).on(labelled(40)), batch=16)
    options = {"budget": 3_000, "top_k": 2, "candidates": 3, "audit": 4}
    one, two = (certify(game, workers=workers, **options) for workers in (1, 2))
    assert same(one, two)
    assert one.guarantee.pairs > 16


# ---- screen and audit ----


def hidden() -> tuple[Additive, np.ndarray]:
    """Players 0, 1 and 22, 23 of 24 stand out and the screen says so; player 12 stands out lowest and it does not."""
    values = np.zeros(24)
    values[[0, 1, 22, 23, 12]] = [-0.2, -0.15, 0.15, 0.2, -0.4]
    screen = np.where(values == 0, np.linspace(-0.01, 0.01, 24), values)
    screen[12] = 0.0
    return Additive(values, screen), screen


def test_the_audit_finds_a_player_that_the_screen_hides():
    game, screen = hidden()
    candidates, outside = {0, 1, 2, 21, 22, 23}, np.arange(3, 21)
    chances = dict(zip(outside.tolist(), audit_chances(screen[outside]), strict=True))
    found_it = []
    for seed in range(3):
        found = certify(game, budget=90_000, top_k=2, candidates=3, seed=seed, audit=16)
        guarantee = found.guarantee
        valued = set(np.flatnonzero(found.samples).tolist())
        assert guarantee.stopped == "decided"
        assert candidates <= valued
        assert (guarantee.candidates, guarantee.audited) == (6, len(valued - candidates))
        assert np.isnan(found.value[found.samples == 0]).all()
        assert not found.decided[found.samples == 0].any()
        np.testing.assert_allclose(found.screen, screen, atol=1e-9)
        low, high = guarantee.low.audit, guarantee.high.audit
        assert (low.draws, high.draws, high.hits) == (16, 16, 0)
        assert high.mass == pytest.approx(binomtest(0, 16, alternative="less").proportion_ci(1 - 0.05 / 4, "exact").high)
        found_it.append(12 in valued)
        assert guarantee.low.members == (("player:12", "player:0") if found_it[-1] else ("player:0", "player:1"))
        assert (low.hits >= 1) == found_it[-1]
        assert chances[12] <= low.mass
        assert 1 <= low.count <= 18
        unseen = sorted(chances[player] for player in outside if player not in valued or player == 12)
        assert high.count == pytest.approx(max(j for j in range(len(unseen) + 1) if sum(unseen[:j]) <= high.mass), abs=1)
    assert any(found_it)


def test_undecided_draws_count_as_hits():
    game, _ = hidden()
    found = certify(game, budget=1_500, top_k=2, candidates=3, audit=16)
    for end in (found.guarantee.low, found.guarantee.high):
        assert (end.audit.hits, end.audit.mass, end.audit.count, end.audit.share) == (16, 1.0, 18, 1.0)


def test_half_of_the_players_at_each_end_are_all_and_need_no_screen():
    game = Additive([-0.5, 0.0, 0.0, 0.0, 0.5], screen=np.full(5, np.nan))  # gradients would be refused
    found = certify(game, top_k=1, candidates=3)
    assert found.guarantee.candidates == found.guarantee.players == 5
    assert found.guarantee.low.audit is None
    assert np.isnan(found.screen).all()
    assert same(found, certify(game, top_k=1))


def test_a_guarantee_survives_its_file_bit_for_bit(tmp_path):
    game, _ = hidden()
    for number, options in enumerate(({"candidates": 3, "audit": 5, "budget": 3_000}, {"budget": 3_000})):
        found = certify(game, top_k=2, **options)
        found.write(tmp_path / f"{number}.parquet")
        again = Attribution.read(tmp_path / f"{number}.parquet")
        assert same(found, again)
        assert isinstance(again.guarantee, Guarantee)
        assert str(again) == str(found)
        assert json.dumps(asdict(again.guarantee)) == json.dumps(asdict(found.guarantee))


# ---- bad input ----


@pytest.mark.parametrize(
    ("worth", "message"),
    [
        (lambda live: 9.0 * live[:, 0], "outside its range"),
        (lambda live: np.where(live[:, 0], np.nan, 0.0), "NaN or infinity"),
    ],
)
@pytest.mark.parametrize("candidates", [1, ALL])
def test_a_game_that_breaks_its_word_is_refused(worth, message, candidates):
    with pytest.raises(GameError, match=message):
        certify(FunctionGame(4, worth, bounds=(0, 1)), top_k=1, candidates=candidates)


def test_a_second_order_game_needs_no_more_than_its_range_term():
    game, values = second_order(6)
    found = certify(game, budget=20_000, top_k=1)
    np.testing.assert_allclose(found.value, values, atol=1e-9)
    assert (found.half_width <= 2 * game.marginal_range * 30 / found.samples).all()


def test_the_budget_pays_a_screen_of_a_fifth():
    game, _ = hidden()
    found = certify(game, budget=20_000, top_k=2, candidates=3, tolerance=0.0)
    assert found.passes["screen"] % (GRADIENT_COST * SCREEN_ROUND) == 0
    assert found.passes["screen"] <= 0.2 * 20_000 < found.passes["screen"] + GRADIENT_COST * SCREEN_ROUND
