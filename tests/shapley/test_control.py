"""Control variates of `tmab`: the same values as without, from fewer flips, and no bias from being picked."""

import numpy as np
import pytest
from engines import estimate, tmab

from repairkit.errors import UsageError
from repairkit.shapley import FunctionGame, exact_values


def curved_game(n: int = 8) -> FunctionGame:
    """A smooth worth with interactions of all orders, in 0 .. 1."""
    weights = np.linspace(-1.2, 1.5, n)
    return FunctionGame(n, lambda live: 1 / (1 + np.exp(-(live @ weights))), bounds=(0, 1))


class NoisyGradients(FunctionGame):
    """Gradients that are right on average over examples, and off by a lot on each."""

    def _gradients(self, coalitions, examples):
        noise = np.random.default_rng(int(coalitions.sum())).normal(0, 0.3, (len(examples), self.n))
        return super()._gradients(coalitions, examples) + noise


@pytest.mark.parametrize("min_live", [0.0, 0.6])
def test_control_variates_estimate_the_same_values(min_live):
    game = curved_game()
    found = tmab(game, budget=60_000, top_k=game.n - 1, candidates=game.n, min_live=min_live, control=True)
    assert np.abs(found.value - exact_values(game, min_live=min_live)).max() < 0.004


def test_control_variates_need_no_exact_gradient():
    game = curved_game()
    noisy = NoisyGradients(game.n, game._function, bounds=(0, 1))
    found = tmab(noisy, budget=60_000, top_k=game.n - 1, candidates=game.n, control=True)
    assert np.abs(found.value - exact_values(game)).max() < 0.02


def test_being_picked_for_an_extreme_screen_does_not_carry_over():
    """All values are 0; gradients are noise. The picked must not look harmful, and intervals must hold."""
    covered, values = [], []
    for seed in range(30):
        noise = np.random.default_rng(seed)

        class Nothing(FunctionGame):
            def _gradients(self, coalitions, examples, noise=noise):
                return noise.normal(0, 1, (len(examples), self.n))

        game = Nothing(300, lambda live: np.zeros(len(live)), bounds=(0, 1))
        found = tmab(game, budget=8_000, top_k=10, candidates=20, audit=0, control=True, seed=seed)
        valued = ~np.isnan(found.value)
        covered.append(np.abs(found.value[valued]) <= found.half_width[valued])
        values.append(found.value[valued].mean() / found.standard_error[valued].mean())
    assert np.concatenate(covered).mean() >= 0.93
    assert abs(np.mean(values)) < 0.5


def test_the_budget_is_kept_and_counts_the_gradients():
    found = tmab(curved_game(), budget=3_000, top_k=2, control=True)
    assert sum(found.passes.values()) <= 3_000
    assert found.passes["flips"] > 0


@pytest.mark.parametrize("engine", ["tmab-paper", "monte-carlo"])
def test_only_tmab_has_control_variates(engine):
    with pytest.raises(UsageError, match="control is for tmab"):
        estimate(curved_game(), engine=engine, budget=1_000, top_k=1, control=True)
