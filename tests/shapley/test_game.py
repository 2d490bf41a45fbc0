from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from games import TableGame, model_game
from networks import CASES, UNTRACEABLE, case_id, coalitions, labelled, twelve_filters
from oracles import masked_logits

from repairkit.errors import GameError, ModelError, UsageError
from repairkit.network.game import NetworkGame
from repairkit.objectives import Accuracy, LogLoss, RecallGap, SubgroupRecall
from repairkit.shapley.game import FunctionGame, Game


class Wrong(Game):
    """Returns whatever it is told to."""

    def __init__(self, values) -> None:
        super().__init__(2, np.ones(3) / 3, bounds=(0, 1))
        self.values = values

    def _scores(self, coalitions, examples):
        return np.array(self.values, dtype=float)

    def _gradients(self, coalitions, examples):
        return np.array(self.values, dtype=float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, float("nan"), 0.5], "NaN or infinity"),
        ([0.5, float("inf"), 0.5], "NaN or infinity"),
        ([0.5, 0.5], r"shape \(2,\), expected \(3,\)"),
        ([[0.5, 0.5, 0.5]], r"expected \(3,\)"),
        ([0.5, 1.5, 0.5], r"values in \[0.5, 1.5\], outside its range \[0, 1\]"),
        ([0.5, -0.1, 0.5], "outside its range"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(values, message):
    with pytest.raises(GameError, match=message):
        Wrong(values).scores(np.ones((1, 2), dtype=bool), np.arange(3))
    with pytest.raises(GameError):
        Wrong(values).gradients(np.ones((3, 2), dtype=bool), np.arange(3))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 2)])
def test_coalitions_of_another_shape_are_refused(shape):
    game = Wrong([0.5] * 3)
    for ask in (game.scores, game.gradients, lambda c, e: game.flips(c, e, np.arange(2))):
        with pytest.raises(GameError, match=r"expected coalitions of shape \(3, 2\) or \(1, 2\)"):
            ask(np.ones(shape, dtype=bool), np.arange(3))


def test_a_game_needs_players_and_weight():
    with pytest.raises(UsageError, match="at least one player"):
        FunctionGame(0, lambda live: live.sum(axis=1), bounds=(0, 1))
    for weights in (np.zeros(3), np.array([1.0, np.nan])):
        with pytest.raises(GameError, match="finite and not all 0"):
            TableGame.__bases__[0].__init__(Wrong([0.5] * 3), 2, weights, bounds=(0, 1))


def test_examples_are_drawn_by_absolute_weight_and_carry_the_sign():
    game = TableGame(3, 6, signed=True)
    assert (game.weights < 0).any()
    assert (game.weights > 0).any()
    examples, factors = game.draw(np.random.default_rng(0), 60_000)
    np.testing.assert_allclose(np.bincount(examples, minlength=6) / 60_000, np.abs(game.weights) / game.scale, atol=0.01)
    np.testing.assert_array_equal(factors, game.scale * np.sign(game.weights[examples]))
    live = np.array([[True, False, True]])
    assert np.mean(factors * game.scores(live, examples)) == pytest.approx(game.objective_value(live[0]), abs=0.01)


def test_the_worth_is_the_weighted_sum_of_scores():
    game = TableGame(3, 6, signed=True)
    for number in range(8):
        live = np.array([bool(number >> player & 1) for player in range(3)])
        assert game.objective_value(live) == pytest.approx(game.worths[number])


def test_a_flip_is_with_minus_without_whichever_side_the_player_is_on():
    game = TableGame(4, 5)
    live, examples = coalitions(9, 4), np.arange(9) % 5
    marginals = game.flips(live, examples, np.array([2, 0]))
    for row in range(9):
        for column, player in enumerate((2, 0)):
            with_player, without = live[row].copy(), live[row].copy()
            with_player[player], without[player] = True, False
            expected = game.table[examples[row], game.number(with_player)] - game.table[examples[row], game.number(without)]
            assert marginals[row, column] == pytest.approx(expected)


def test_marginals_stay_in_the_range_that_the_bounds_use():
    game = TableGame(4, 5, high=3.0, signed=True)
    rng = np.random.default_rng(0)
    examples, factors = game.draw(rng, 500)
    marginals = factors[:, None] * game.flips(rng.random((500, 4)) < 0.5, examples, np.arange(4))
    assert np.abs(marginals).max() <= game.marginal_range
    assert game.marginal_range == pytest.approx(3.0)


def test_games_of_one_shape_have_fingerprints_of_their_own():
    def of(weights) -> str:
        return FunctionGame(4, lambda live: live @ np.array(weights), bounds=(-9, 9)).fingerprint()

    assert of([1.0, 2, 0, 0]) == of([1.0, 2, 0, 0])
    assert len({of([1.0, 2, 0, 0]), of([2.0, 1, 0, 0]), of([1.0, 2, 0, 1e-9]), of([1.0, 2, 1, -1])}) == 4


# ---- the game of a network ----


def two_part_worth():
    return Accuracy().on(labelled(7, size=8, name="one")) - 0.5 * LogLoss(floor=0.02).on(labelled(5, size=8, seed=1, name="two"))


def literal_scores(game, twin, signals, live, examples) -> np.ndarray:
    """Each example by its own objective, from hooks on the twin."""
    scores = []
    everything = [(part.objective, part.images, index) for part in game.objective.terms for index in range(len(part.images))]
    for row, example in enumerate(examples):
        objective, images, index = everything[example]
        prepared = game.classifier.prepare(images.batch(np.array([index])))
        logits = masked_logits(twin, signals, prepared, live[row : row + 1], game.filters.constants)[0].double()
        if isinstance(objective, LogLoss):
            scores.append(min(float(-torch.log_softmax(logits, 0)[images.labels[index]]), objective.bounds[1]))
        else:
            scores.append(float(int(logits.argmax()) == images.labels[index]))
    return np.array(scores)


@pytest.mark.parametrize("case", CASES[:7], ids=case_id)
def test_each_part_of_a_worth_is_scored_by_its_own_objective_on_its_own_images(case):
    network, twin = case.networks()
    game = model_game(network, two_part_worth(), batch=4)
    examples = np.array([11, 0, 3, 7, 7, 6, 9, 1, 10])
    live = coalitions(9, game.n)
    np.testing.assert_allclose(
        game.scores(live, examples), literal_scores(game, twin, case.signals("post"), live, examples), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(game.weights, [1 / 7] * 7 + [-0.1] * 5)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_flips_that_reuse_a_pass_equal_flips_through_scores(case):
    game = model_game(case.networks()[0], two_part_worth(), batch=5)
    rng = np.random.default_rng(0)
    live, examples, players = coalitions(8, game.n), rng.integers(0, 12, 8), rng.permutation(game.n)[: game.n // 2 + 1]
    np.testing.assert_allclose(game.flips(live, examples, players), Game._flips(game, live, examples, players), rtol=1e-4, atol=1e-5)
    one = game.flips(live[:1], examples, players)
    np.testing.assert_allclose(one, Game._flips(game, live[:1], examples, players), rtol=1e-4, atol=1e-5)
    assert np.abs(one).max() > 0


@pytest.mark.filterwarnings("ignore::repairkit.errors.ModelWarning")
def test_an_untraceable_network_can_be_played_at_the_price_of_whole_passes():
    network, twin = UNTRACEABLE.networks()
    game = model_game(network, two_part_worth(), batch=4)
    live, examples = coalitions(6, game.n), np.arange(6) * 2
    np.testing.assert_allclose(
        game.scores(live, examples), literal_scores(game, twin, UNTRACEABLE.post, live, examples), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(game.flips(live, examples, np.arange(game.n)), Game._flips(game, live, examples, np.arange(game.n)))
    assert game.flip_cost(np.arange(4)) == 5


def test_a_flip_costs_the_share_of_the_pass_that_is_run_again():
    game = model_game(twelve_filters(), Accuracy().on(labelled(4)))
    multiplications = np.array([4 * 4 * 5 * 27, 4 * 4 * 7 * 45, 7 * 2])
    first, second = multiplications[1:].sum() / multiplications.sum(), multiplications[2] / multiplications.sum()
    assert game.flip_cost(np.array([0, 4, 5])) == pytest.approx(1 + 2 * first + second)


@pytest.mark.parametrize("smooth", [LogLoss(floor=1e-6), Accuracy()], ids=repr)
def test_gradients_are_the_derivative_of_the_surrogate(smooth):
    network = twelve_filters()
    images = labelled(6)
    game = model_game(network, smooth.on(images), batch=4)
    live, examples = coalitions(6, 12), np.array([5, 0, 1, 1, 2, 4])
    slopes = game.gradients(live, examples)
    for row, example in enumerate(examples):
        prepared = game.classifier.prepare(images.batch(np.array([example])))
        label = torch.from_numpy(images.labels[example : example + 1])
        expected, _ = game.filters.gradients(prepared, live[row : row + 1], lambda logits, label=label: smooth.surrogate(logits, label))
        np.testing.assert_allclose(slopes[row], expected[0].numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(game.gradients(live[:1], examples)[0], slopes[0], rtol=1e-4, atol=1e-6)


def test_micro_batches_do_not_change_values_beyond_rounding():
    worth = two_part_worth()
    games = [model_game(CASES[2].networks()[0], worth, batch=batch) for batch in (1, 5, 64)]
    live, examples = coalitions(11, games[0].n), np.arange(11)
    for game in games[1:]:
        np.testing.assert_allclose(game.scores(live, examples), games[0].scores(live, examples), atol=1e-5)
        np.testing.assert_allclose(game.gradients(live, examples), games[0].gradients(live, examples), atol=1e-5)
        np.testing.assert_allclose(game.flips(live, examples, np.arange(3)), games[0].flips(live, examples, np.arange(3)), atol=1e-5)


class InFloat32(LogLoss):
    """Log loss that takes logits of float32 only."""

    def score(self, logits, labels):
        assert logits.dtype == torch.float32
        return super().score(logits, labels)

    surrogate = score


def test_bfloat16_passes_are_scored_in_float32():
    worth = InFloat32(floor=0.02).on(labelled(12, size=8))
    exact, rough = (model_game(CASES[0].networks()[0], worth, batch=5, precision=precision) for precision in ("float32", "bfloat16"))
    np.testing.assert_array_equal(rough.filters.constants, exact.filters.constants)
    live, examples, players = coalitions(12, exact.n), np.arange(12), np.arange(exact.n)
    for ask in ("scores", "gradients"):
        expected, found = (getattr(game, ask)(live, examples) for game in (exact, rough))
        assert 1e-5 < np.abs(found - expected).max() < 0.05
    expected, found = (game.flips(live, examples, players) for game in (exact, rough))
    assert 1e-5 < np.abs(found - expected).max() < 0.05
    expected = exact.scores(live, examples)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # of a caller
        np.testing.assert_array_equal(exact.scores(live, examples), expected)


def test_another_precision_is_another_game_and_goes_to_other_processes():
    worth = Accuracy().on(labelled(4))
    exact, rough = (model_game(twelve_filters(), worth, precision=precision) for precision in ("float32", "bfloat16"))
    sent = pickle.loads(pickle.dumps(rough))  # noqa: S301 - made here
    assert sent.fingerprint() == rough.fingerprint() != exact.fingerprint()
    slopes = rough.gradients(coalitions(4, 12), np.arange(4))
    np.testing.assert_array_equal(sent.gradients(coalitions(4, 12), np.arange(4)), slopes)
    assert (slopes != exact.gradients(coalitions(4, 12), np.arange(4))).any()
    with pytest.raises(UsageError, match="precision must be 'float32' or 'bfloat16', got 'half'"):
        model_game(twelve_filters(), worth, precision="half")


def test_worths_add_up():
    network, images = twelve_filters(), labelled(9)
    parts = [SubgroupRecall().on(images), -2 * RecallGap("a", "b").on(images), Accuracy().on(labelled(5, seed=1))]
    together = model_game(network, parts[0] + parts[1] + parts[2])
    alone = [model_game(network, part) for part in parts]
    for game in alone:
        game.filters.set_constants(together.filters.constants)
    for live in coalitions(5, 12):
        assert together.objective_value(live) == pytest.approx(sum(game.objective_value(live) for game in alone))


def test_the_fingerprint_of_a_network_knows_weights_constants_and_images_and_runs_nothing(monkeypatch):
    def game(*, images=0, weight=0.0, constant=0.0):
        played = model_game(twelve_filters(), Accuracy().on(labelled(4, seed=images)))
        played.classifier.network[6].bias.data[0] += weight
        played.filters.set_constants(played.filters.constants + constant)
        return played

    games = [game(), game(images=1), game(weight=0.5), game(constant=0.5)]
    games[1].filters.set_constants(games[0].filters.constants)
    monkeypatch.setattr(NetworkGame, "_scores", lambda *_: pytest.fail("a pass was made"))
    assert game().fingerprint() == games[0].fingerprint()
    assert len({each.fingerprint() for each in games}) == 4


def test_logits_that_are_not_finite_are_refused():
    network = twelve_filters()
    game = model_game(network, Accuracy().on(labelled(4)))
    game.filters.network[6].bias.data[0] = float("nan")
    for ask in (game.scores, game.gradients, lambda c, e: game.flips(c, e, np.arange(2))):
        with pytest.raises(ModelError, match="logits are NaN or infinite"):
            ask(coalitions(4, 12), np.arange(4))


def test_parts_of_different_size_cannot_share_a_pass():
    network = CASES[0].networks()[0]
    worth = Accuracy().on(labelled(3, size=8, name="large")) + Accuracy().on(labelled(3, size=6, name="small"))
    game = model_game(network, worth)
    with pytest.raises(ModelError, match=r"small holds images of \(3, 6, 6\), another part of \(3, 8, 8\)"):
        game.scores(np.ones((1, game.n), dtype=bool), np.arange(6))


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (0.0, 0.0), (0.0, float("nan")), (float("nan"), 1.0)])
def test_bounds_that_are_no_range(bounds):
    with pytest.raises(GameError, match="the least below the greatest"):
        FunctionGame(2, lambda live: live[:, 0] * 1.0, bounds=bounds)
