from __future__ import annotations

import math

import numpy as np
import pytest

from repairkit.shapley.confidence import Moments, published_bound, published_count


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
