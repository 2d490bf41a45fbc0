"""Baselines against literal computations, and conductance against Captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from games import model_game
from networks import conv_bn_relu, labelled, randomised, twelve_filters
from scipy import stats

from repairkit.baselines import rankings as baselines
from repairkit.errors import BudgetError, FullMemoryError, ModelWarning, UsageError
from repairkit.objectives import Accuracy, LogLoss, SubgroupRecall
from repairkit.repair.attribute import within_memory


@pytest.fixture(scope="module")
def game():
    return model_game(twelve_filters(), SubgroupRecall().on(labelled(9)) + Accuracy().on(labelled(7, seed=1)), batch=4)


def test_every_baseline_is_an_attribution_of_all_filters_that_says_what_it_cost(game):
    n = len(game.weights)
    found = {
        each.engine: each
        for each in (
            baselines.random(game, seed=0),
            baselines.weight_norm(game),
            baselines.response_norm(game),
            baselines.mean_activation(game),
            baselines.leave_one_out(game, budget=1e6, seed=0),
            baselines.taylor(game, budget=1e6, seed=0),
            baselines.conductance(game, images=3, seed=0),
            baselines.fairprune(game),
        )
    }
    for each in found.values():
        assert each.ids == tuple(map(str, game.filters.ids))
        assert np.isfinite(each.value).all()
        assert each.harmful == game.harmful
    spent = {name: sum(each.passes.values()) for name, each in found.items()}
    groups = game.objective.terms[0].images.groups
    assert spent == {
        "random": 0, "weight norm": 0, "response norm": n, "mean activation": n, "taylor": 3 * n, "conductance": 3 * 3 * 51,
        "leave-one-out": pytest.approx(n * (1 + game.flip_shares.sum())), "fairprune": len(groups) + 3 * len(groups),
    }  # fmt: skip


def test_norms_are_those_of_the_weights_and_of_what_filters_send_on(game):
    network = game.filters.network
    expected = [
        np.sqrt((network.get_submodule(name.layer).weight.detach().numpy()[name.channel].astype(float) ** 2).sum())
        for name in game.filters.ids
    ]
    np.testing.assert_allclose(baselines.weight_norm(game).value, expected, rtol=1e-5)
    norms, means = np.zeros(game.n), np.zeros(game.n)
    for example in range(len(game.weights)):
        signals = {}
        with torch.no_grad():
            game.filters.watch(
                game.prepared(np.array([example])), lambda site, signal, kept=signals: kept.update({site: signal.double().numpy()[0]})
            )
        for index, site in enumerate(game.filters.sites):
            for channel, row in enumerate(signals[index]):
                norms[site.start + channel] += np.sqrt((row**2).sum()) / len(game.weights)
                means[site.start + channel] += row.mean() / len(game.weights)
    np.testing.assert_allclose(baselines.response_norm(game).value, norms, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(baselines.mean_activation(game).value, means, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(means, game.filters.constants, rtol=1e-4, atol=1e-6)


def test_leave_one_out_is_what_the_worth_loses(game):
    found = baselines.leave_one_out(game, budget=1e6, seed=0)
    full = np.ones(game.n, dtype=bool)
    for player in range(game.n):
        without = full.copy()
        without[player] = False
        assert found.value[player] == pytest.approx(game.objective_value(full) - game.objective_value(without), abs=1e-6)


def test_taylor_is_leave_one_out_where_a_filter_hardly_matters():
    game = model_game(randomised(conv_bn_relu(), seed=1), LogLoss().on(labelled(12)), batch=4)
    network = game.filters.network
    with torch.no_grad():
        network.fc.weight.mul_(1e-3)
    exact = baselines.leave_one_out(game, budget=1e6, seed=0).value
    first_order = baselines.taylor(game, budget=1e6, seed=0).value
    last = game.filters.sites[-1]  # between it and the logits nothing bends
    np.testing.assert_allclose(first_order[last.start :], exact[last.start :], rtol=0.02, atol=1e-7)


def test_a_small_budget_draws_images_by_their_weight_and_none_at_all_is_an_error(game):
    cost = game.flip_cost(np.arange(game.n))
    few = baselines.leave_one_out(game, budget=2.5 * cost, seed=1)
    examples, factors = game.draw(np.random.default_rng(1), 2)
    marginals = game.flips(np.ones((1, game.n), dtype=bool), examples, np.arange(game.n))
    np.testing.assert_allclose(few.value, factors @ marginals / 2, atol=1e-9)
    assert sum(few.passes.values()) == pytest.approx(2 * cost)
    with pytest.raises(BudgetError, match=r"leave-one-out of .* for one image, got a budget of 3"):
        baselines.leave_one_out(game, budget=3, seed=0)
    with pytest.raises(UsageError, match="either images or a budget"):
        baselines.conductance(game, seed=0)


@pytest.mark.parametrize("steps", [7, 20])
def test_conductance_is_captum_s(steps):
    """One layer at a time and one image at a time, on the module that the signal leaves."""
    from captum.attr import LayerConductance

    game = model_game(randomised(conv_bn_relu(), seed=3), Accuracy().on(labelled(5)), batch=4, freeze_at="post")
    found = baselines.conductance(game, images=5, steps=steps, seed=0)
    network = game.filters.network
    expected = np.zeros(game.n)
    relus = [name for name, module in network.named_modules() if isinstance(module, torch.nn.ReLU)]
    assert len(relus) == len(game.filters.sites)
    for example in range(5):
        images = game.prepared(np.array([example]))
        black = game.classifier.prepare(torch.zeros_like(images))

        def forward(inputs, example=example):
            return game.surrogate(network(inputs), np.full(len(inputs), example))

        for site, relu in zip(game.filters.sites, relus, strict=True):
            layer = LayerConductance(forward, network.get_submodule(relu))
            flow = layer.attribute(images, baselines=black, n_steps=steps, method="riemann_trapezoid")
            expected[site.start : site.stop] += game.weights[example] * flow.detach().sum(dim=(0, 2, 3)).double().numpy()
    np.testing.assert_allclose(found.value, expected, rtol=1e-3, atol=1e-6)


def test_fairprune_compares_the_groups_served_worst_and_best(game):
    found = baselines.fairprune(game)
    images = game.objective.terms[0].images
    live = np.ones((1, game.n), dtype=bool)
    examples = np.arange(len(images))
    right = game.scores(live, examples)
    recalls = {group: right[images.groups == group].mean() for group in set(images.groups)}
    worst, best = min(recalls, key=recalls.get), max(recalls, key=recalls.get)
    need = [(game.gradients(live, examples[images.groups == group]) ** 2).mean(axis=0) / 2 for group in (worst, best)]
    np.testing.assert_allclose(found.value, need[0] - need[1], atol=1e-9)
    alone = model_game(twelve_filters(), Accuracy().on(labelled(6, groups=("a",))))
    with pytest.raises(UsageError, match="fairprune compares subgroups"):
        baselines.fairprune(alone)


def test_random_values_are_those_of_the_seed_and_suspects_have_the_sign_of_harm(game):
    first, again, other = (baselines.random(game, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.value, again.value)
    assert abs(stats.spearmanr(first.value, other.value).statistic) < 0.9
    assert first.harmful_players().size == 0  # nobody is to blame by chance
    assert baselines.suspects(first).harmful_players(3).tolist() == np.argsort(-first.value)[:3].tolist()
    signed = baselines.taylor(game, budget=1e6, seed=0)
    assert baselines.suspects(signed) is signed


@pytest.mark.parametrize("name", ["response_norm", "mean_activation", "conductance"])
def test_where_memory_is_full_passes_carry_fewer_images(name, monkeypatch):
    """As those of the Shapley values do, and with the same values."""
    game = model_game(twelve_filters(), SubgroupRecall().on(labelled(9)), batch=8)
    maker = {"conductance": lambda: baselines.conductance(game, images=2, seed=0)}.get(name, lambda: getattr(baselines, name)(game))
    expected = maker().value
    watch, sizes = game.filters.watch, []

    def full(images, note):
        sizes.append(len(images))
        if len(images) > 4:
            raise torch.OutOfMemoryError("no memory")
        return watch(images, note)

    monkeypatch.setattr(game.filters, "watch", full)
    with pytest.warns(ModelWarning, match=r"memory ran out \(a baseline\): passes now carry 4 images"):
        found = within_memory(game, maker, store=None, name="a baseline")
    np.testing.assert_allclose(found.value, expected, rtol=1e-5, atol=1e-7)
    assert sizes[0] == 8
    monkeypatch.setattr(game.filters, "watch", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no memory")))
    game.batch = 1
    with pytest.raises(FullMemoryError, match=r"memory ran out in passes of 1 image\(s\)"):
        within_memory(game, maker, store=None, name="a baseline")
