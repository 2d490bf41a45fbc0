"""A game in which every live filter has a price: all it answers is that of the game less the prices, by hand."""

import pickle

import numpy as np
import pytest
import torch
from engines import estimate
from games import model_game
from networks import coalitions, labelled, twelve_filters
from oracles import shapley_by_permutations

from repairkit.errors import GameError, UsageError
from repairkit.experiments.critical.class_ranking import PricedGame, check_priced_alive
from repairkit.objectives import Accuracy, Probability, RecallGap

PRICES = np.array([0.0, 0.01, 0.02, 0.0, 0.3, 0.0, 0.05, 0.0, 0.0, 0.0, 0.0, 2.0])


def games(worth=None):
    game = model_game(twelve_filters(), (worth or Accuracy()).on(labelled(12)))
    return game, PricedGame(game, PRICES)


@pytest.mark.parametrize("worth", [Accuracy(), RecallGap("a", "b")], ids=["weights of one sign", "weights of both signs"])
def test_worth_and_marginals_are_less_by_the_price(worth):
    game, priced = games(worth)
    rng = np.random.default_rng(0)
    examples, factors = game.draw(rng, 8)
    live = coalitions(8, 12)
    for ask in ("gradients", "flips"):
        more = (np.arange(12),) if ask == "flips" else ()
        plain, less = (factors[:, None] * getattr(each, ask)(live, examples, *more) for each in (game, priced))
        np.testing.assert_allclose(plain - less, np.tile(PRICES, (8, 1)), atol=1e-12)
    for row in live[:3]:
        assert game.objective_value(row) - priced.objective_value(row) == pytest.approx(PRICES[row].sum())


def test_the_values_of_an_engine_are_those_of_the_game_less_the_prices():
    game, priced = games()
    plain, exact = (
        shapley_by_permutations(5, lambda live, each=each: each.objective_value(np.isin(np.arange(12), list(live)) | (np.arange(12) > 4)))
        for each in (game, priced)
    )
    np.testing.assert_allclose(plain - exact, PRICES[:5], atol=1e-9)
    found, less = (
        estimate(each, engine="tmab", budget=20_000, top_k=3, end="high", min_live=0.5, candidates=12, seed=3) for each in (game, priced)
    )
    np.testing.assert_allclose(found.screen - less.screen, 0.5 * PRICES, atol=1e-9)
    both = np.isfinite(found.value) & np.isfinite(less.value)
    assert (np.abs(found.value - less.value - 0.5 * PRICES)[both] <= (found.half_width + less.half_width)[both]).all()
    assert 11 not in less.extremes(3)["high"]


def test_the_range_of_a_marginal_holds_the_price_and_workers_play_the_same():
    game, priced = games()
    assert priced.marginal_range == game.marginal_range + 2.0
    claimed = {"engine": "tmab", "budget": 4_000, "top_k": 2, "min_live": 0.5, "guarantee": 0.1}
    alone, crew = estimate(priced, **claimed), estimate(priced, workers=2, **claimed)
    np.testing.assert_array_equal(alone.value, crew.value)


def test_another_price_is_another_game():
    game, priced = games()
    again = pickle.loads(pickle.dumps(priced))  # noqa: S301
    assert isinstance(again, PricedGame)
    assert again.fingerprint() == priced.fingerprint()
    assert len({game.fingerprint(), priced.fingerprint(), PricedGame(game, PRICES * 2).fingerprint()}) == 3


@pytest.mark.parametrize("prices", [np.zeros(3), np.full(12, -0.1), np.full(12, np.nan)])
def test_prices_that_cannot_be_used_are_refused(prices):
    with pytest.raises(UsageError, match="expected 12 prices, finite and not negative"):
        PricedGame(games()[0], prices)


def test_scores_outside_the_range_are_still_found(monkeypatch):
    _, priced = games()
    monkeypatch.setattr(priced, "prices", PRICES * 10)
    with pytest.raises(GameError, match="outside its range"):
        priced.objective_value(np.ones(12, dtype=bool))


def test_a_dead_network_is_told_although_every_filter_has_a_price():
    network = twelve_filters()
    with torch.no_grad():
        for parameter in list(network.parameters())[-2:]:
            parameter.zero_()
    game = PricedGame(model_game(network, Probability(Accuracy()).on(labelled(12))), np.full(12, 0.1))
    found = estimate(game, engine="tmab", budget=4_000, top_k=3, end="high", min_live=0.5, control=True)
    with pytest.raises(GameError, match="live range"):
        check_priced_alive(found, 0.5 * game.prices)
    check_priced_alive(estimate(games()[1], engine="tmab", budget=4_000, top_k=3, end="high", min_live=0.5), 0.5 * PRICES)
