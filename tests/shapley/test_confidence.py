from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest

from repairkit.errors import UsageError
from repairkit.shapley.confidence import ConfidenceSequence, Moments, log_capital, published_bound, published_count

STAKES = [0.03 * (0.98 / 0.03) ** (step / 7) for step in range(8)]
"""Eight fractions from .03 to .98, each the same multiple of the one before."""


def log_of_capital(observations, mean: float, low: float, high: float) -> float:
    """Logarithm of what gamblers on more than `mean` have, one observation after the other; they began with 1 in all."""
    gamblers = [0.0] * len(STAKES)
    for x in observations:
        gain = (x - mean) / (mean - low)
        gamblers = [money + math.log(1 + stake * gain) for money, stake in zip(gamblers, STAKES, strict=True)]
    most = max(gamblers)
    return most + math.log(sum(math.exp(money - most) for money in gamblers) / len(gamblers))


def exact_lower(observations, low: float, high: float, alpha: float) -> float:
    """Where the true capital reaches 2 / alpha: everything below is ruled out."""
    return brentq(lambda mean: log_of_capital(observations, mean, low, high) - math.log(2 / alpha), low + 1e-3, np.mean(observations))


def plug_in_bernstein(observations, low: float, high: float, alpha: float) -> tuple[float, float]:
    """Theorem 2 of Waudby-Smith & Ramdas 2023 with its recommended bets, truncated at 1/2: the interval after the last observation."""
    total, squares, bets, weighted, penalty = 0.0, 0.0, 0.0, 0.0, 0.0
    mean, variance = 0.5, 0.25
    for t, observation in enumerate(observations, start=1):
        x = (observation - low) / (high - low)
        bet = min(0.5, math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(1 + t))))
        bets, weighted = bets + bet, weighted + bet * x
        penalty += 4 * (x - mean) ** 2 * (-math.log(1 - bet) - bet) / 4
        total += x
        mean = (0.5 + total) / (t + 1)
        squares += (x - mean) ** 2
        variance = (0.25 + squares) / (t + 1)
    half = (math.log(2 / alpha) + penalty) / bets
    return low + (high - low) * (weighted / bets - half), low + (high - low) * (weighted / bets + half)


def observed(kind: str, k: int, seed: int = 0) -> np.ndarray:
    """Observations in [-2, 1]."""
    rng = np.random.default_rng(seed)
    return {
        "narrow": lambda: np.clip(rng.normal(-0.4, 0.05, k), -2, 1),
        "two values": lambda: np.where(rng.random(k) < 0.3, 1.0, -1.0),
        "rare": lambda: np.where(rng.random(k) < 0.03, -2.0, 0.0),
        "uniform": lambda: rng.uniform(-2, 1, k),
    }[kind]()


@pytest.mark.parametrize("kind", ["narrow", "two values", "rare", "uniform"])
def test_what_is_ruled_out_the_true_capital_rules_out_and_little_is_lost(kind):
    for k, lost in ((60, 1.0 if kind == "rare" else 0.4), (400, 0.6 if kind == "rare" else 0.06)):
        rows = observed(kind, k)
        sequence = ConfidenceSequence(1, -2, 1, 0.01)
        sequence.add(rows[:, None], np.array([0]))
        for end, mirrored in ((sequence.lower[0], rows), (-1 - sequence.upper[0], -1 - rows)):
            exact = exact_lower(mirrored, -2, 1, 0.01)
            assert end <= exact
            assert np.mean(mirrored) - end <= (1 + lost) * (np.mean(mirrored) - exact)
        assert sequence.mean[0] == pytest.approx(rows.mean())


def test_the_polynomial_lies_below_the_logarithm():
    for x in np.linspace(-0.5, 0.5, 21):
        for mean in (-0.45, -0.2, 0.0, 0.3, 0.49):
            powers = np.array([[x**power] for power in range(7)])
            assert log_capital(powers, np.array([mean]))[0] <= log_of_capital([x], mean, -0.5, 0.5) + 1e-9


@pytest.mark.parametrize(("kind", "k", "times"), [("narrow", 200, 2.5), ("narrow", 1500, 1.8), ("uniform", 1500, 1.05)])
def test_narrower_than_empirical_bernstein(kind, k, times):
    rows = observed(kind, k)
    sequence = ConfidenceSequence(1, -2, 1, 0.001)
    sequence.add(rows[:, None], np.array([0]))
    low, high = plug_in_bernstein(rows, -2, 1, 0.001)
    assert (high - low) > times * (sequence.upper[0] - sequence.lower[0])


def test_every_player_has_its_own_observations():
    rng = np.random.default_rng(3)
    together, alone = ConfidenceSequence(4, -1, 1, 0.05), [ConfidenceSequence(1, -1, 1, 0.05) for _ in range(4)]
    for players in ([0, 1, 2, 3], [1, 3], [3], [3, 1, 0], [2]):
        rows = rng.uniform(-0.3, 0.5, (40, len(players)))
        together.add(rows, np.array(players))
        for column, player in enumerate(players):
            alone[player].add(rows[:, [column]], np.array([0]))
    assert together.count.tolist() == [80, 120, 80, 160]
    for player in range(4):
        for name in ("lower", "upper", "mean"):
            np.testing.assert_allclose(getattr(together, name)[player], getattr(alone[player], name)[0], rtol=1e-9)


def test_intervals_only_shrink_and_order_within_a_look_does_not_matter():
    rows = observed("uniform", 300)
    sequence, shuffled = ConfidenceSequence(1, -2, 1, 0.05), ConfidenceSequence(1, -2, 1, 0.05)
    before = (-2.0, 1.0)
    for start in range(0, 300, 20):
        chunk = rows[start : start + 20, None]
        sequence.add(chunk, np.array([0]))
        shuffled.add(chunk[::-1], np.array([0]))
        assert before[0] <= sequence.lower[0] <= sequence.upper[0] <= before[1]
        before = sequence.lower[0], sequence.upper[0]
    np.testing.assert_allclose([shuffled.lower[0], shuffled.upper[0]], before, rtol=1e-9)


def test_intervals_scale_shift_and_mirror_with_the_units():
    rows = observed("rare", 300)[:, None]
    sequence, moved, mirrored = ConfidenceSequence(1, -2, 1, 0.05), ConfidenceSequence(1, -3, 6, 0.05), ConfidenceSequence(1, -1, 2, 0.05)
    sequence.add(rows, np.array([0]))
    moved.add(3 * rows + 3, np.array([0]))
    mirrored.add(-rows, np.array([0]))
    np.testing.assert_allclose([moved.lower, moved.upper], [3 * sequence.lower + 3, 3 * sequence.upper + 3], rtol=1e-9)
    np.testing.assert_allclose([mirrored.lower, mirrored.upper], [-sequence.upper, -sequence.lower], rtol=1e-9)


@pytest.mark.parametrize("chance", [0.5, 0.03])
def test_all_looks_together_miss_no_more_often_than_alpha(chance):
    """Players whose mean looks high drop out for a while: that depends on the past only."""
    n, alpha = 1500, 0.2
    rng = np.random.default_rng(4)
    sequence = ConfidenceSequence(n, 0, 1, alpha)
    for look in range(30):
        playing = np.flatnonzero((look == 0) | (rng.random(n) < 0.5) | ~(sequence.mean > chance))
        sequence.add((rng.random((1 + 2 * look, len(playing))) < chance).astype(float), playing)
    misses = int(((sequence.lower > chance) | (sequence.upper < chance)).sum())
    assert binomtest(misses, n).proportion_ci(0.999, "exact").low <= alpha
    assert misses > 0.01 * n  # nor are they so wide that nothing could ever be decided


def test_constant_observations_at_an_end_of_the_range():
    for value in (0.0, 1.0):
        sequence = ConfidenceSequence(1, 0, 1, 0.05)
        for _ in range(5):
            sequence.add(np.full((100, 1), value), np.array([0]))
        assert sequence.lower[0] <= value <= sequence.upper[0]
        assert sequence.upper[0] - sequence.lower[0] < 0.05


def test_a_saved_state_goes_on_bit_for_bit():
    rng = np.random.default_rng(5)
    rows = rng.uniform(-1, 1, (60, 3))
    sequence, resumed = ConfidenceSequence(3, -1, 1, 0.05), ConfidenceSequence(3, -1, 1, 0.05)
    sequence.add(rows[:30], np.arange(3))
    saved = {name: array.copy() for name, array in sequence.arrays("s").items()}
    resumed.restore(saved, "s")
    for each in (sequence, resumed):
        each.add(rows[30:, 1:], np.array([1, 2]))
    assert all(array.tobytes() == resumed.arrays("s")[name].tobytes() for name, array in sequence.arrays("s").items())
    assert saved["s.powers"][0].tolist() == [30, 30, 30]  # what was saved is not touched by going on


def test_ends_that_contradict_each_other_meet_and_never_cross():
    sequence = ConfidenceSequence(1, -1, 1, 0.05)
    sequence.add(np.full((300, 1), -0.8), np.array([0]))
    before = sequence.upper[0]
    sequence.add(np.full((3000, 1), 0.8), np.array([0]))
    assert sequence.lower[0] == sequence.upper[0] == before


def test_standard_errors_are_those_of_the_mean():
    rng = np.random.default_rng(2)
    rows = rng.uniform(-1, 2, (50, 2))
    sequence = ConfidenceSequence(4, -2, 3, 0.05)
    sequence.add(rows, np.array([0, 2]))
    sequence.add(rows[:1, :1], np.array([3]))
    np.testing.assert_allclose(sequence.standard_error[[0, 2]], rows.std(axis=0, ddof=1) / np.sqrt(50))
    assert np.isinf(sequence.standard_error[[1, 3]]).all()


def test_nothing_is_known_before_the_first_observation():
    sequence = ConfidenceSequence(2, -1, 1, 0.05)
    sequence.add(np.empty((0, 2)), np.arange(2))
    assert sequence.lower.tolist() == [-1, -1]
    assert sequence.upper.tolist() == [1, 1]
    assert np.isnan(sequence.mean).all()
    assert sequence.count.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((1.0, 1.0, 0.05), "low below high"),
        ((0.0, np.inf, 0.05), "low below high"),
        ((0.0, 1.0, 0.0), "alpha must lie between 0 and 1"),
        ((0.0, 1.0, 1.0), "alpha must lie between 0 and 1"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(UsageError, match=message):
        ConfidenceSequence(1, *settings)


@pytest.mark.parametrize("value", [1.01, -0.01, np.nan])
def test_observations_outside_the_range_are_refused(value):
    with pytest.raises(UsageError, match=r"expected observations in \[0, 1\]"):
        ConfidenceSequence(1, 0, 1, 0.05).add(np.array([[value]]), np.array([0]))


def test_the_published_bound_takes_range_one_and_one_side():
    variance, count = np.array([0.2]), np.array([40.0])
    expected = math.sqrt(2 * 0.2 * math.log(20) / 40) + 7 * math.log(20) / (3 * 39)
    np.testing.assert_allclose(published_bound(variance, count, delta=0.1), expected)


def test_fewer_than_two_observations_bound_nothing():
    assert np.isinf(published_bound(np.zeros(2), np.array([0.0, 1.0]), delta=0.1)).all()


def test_moments_are_numpys_for_players_seen_at_different_times():
    rng = np.random.default_rng(1)
    moments, seen = Moments(5), [[] for _ in range(5)]
    for players in ([0, 1, 2, 3], [1, 3], [3], [0, 3, 1]):
        rows = rng.normal(size=(7, len(players))) + 1e3
        moments.add(rows, np.array(players))
        for column, player in enumerate(players):
            seen[player].extend(rows[:, column])
    assert moments.count.tolist() == [len(values) for values in seen]
    for player in range(4):
        assert moments.mean[player] == pytest.approx(np.mean(seen[player]), rel=1e-12)
        assert moments.variance[player] == pytest.approx(np.var(seen[player], ddof=1), rel=1e-8)
    assert moments.variance[4] == 0


def test_the_count_that_a_half_width_needs_is_the_inverse_of_the_published_bound():
    variance, wanted = np.array([0.0, 0.01, 0.25, 0.01]), np.array([0.02, 0.02, 0.001, 0.5])
    count = published_count(variance, wanted, delta=0.1)
    np.testing.assert_allclose(published_bound(variance, count, delta=0.1), wanted, rtol=0.02)
    assert (published_bound(variance, count, delta=0.1) <= wanted * (1 + 1e-9)).all()
    assert np.isinf(published_count(variance[:1], np.zeros(1), delta=0.1))
