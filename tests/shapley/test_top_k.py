from __future__ import annotations

import numpy as np
import pytest

from repairkit.shapley.top_k import border, borders


def shown_by_definition(lower, upper, inside, k, tolerance):
    """The claims about the k lowest, from their definitions by counting."""
    n = len(lower)
    separated = [sum(lower[other] > upper[i] for other in range(n) if other != i) >= n - k for i in range(n)]
    apart = [sum(upper[other] < lower[i] for other in range(n) if other != i) >= k for i in range(n)]
    least, most = sorted(lower)[k - 1], sorted(upper)[k - 1]
    slack = tolerance * (least if least > 0 else -most if most < 0 else 0.0)
    overlap = max(upper[i] for i in range(n) if inside[i]) - min(lower[i] for i in range(n) if not inside[i])
    tied = [
        not separated[i] and not apart[i] and all(abs(v - kth) <= slack + 1e-12 for v in (lower[i], upper[i]) for kth in (least, most))
        for i in range(n)
    ]
    return separated, apart, tied, overlap <= slack, slack


def some_intervals(rng: np.random.Generator):
    """True values, intervals that hold them (narrow ones within wide ones, too), estimates in the intervals, and k."""
    n = int(rng.integers(2, 9))
    truth = np.round(rng.normal(size=n), 1) + rng.choice([-3, 0, 3])
    wide = rng.choice([0.02, 0.3, 3.0], size=(2, n))
    lower, upper = truth - rng.random(n) * wide[0], truth + rng.random(n) * wide[1]
    return truth, lower, upper, rng.uniform(lower, upper), int(rng.integers(1, n // 2 + 1))


def test_claims_are_those_of_the_definitions():
    rng = np.random.default_rng(0)
    decisions = 0
    for _ in range(1000):
        _, lower, upper, estimate, k = some_intervals(rng)
        found = border(estimate, lower, upper, top_k=k, tolerance=0.3)
        separated, apart, tied, decided, slack = shown_by_definition(lower, upper, found.inside, k, 0.3)
        assert found.separated.tolist() == separated
        assert found.apart.tolist() == apart
        assert found.tied.tolist() == tied
        assert found.decided == decided
        assert found.slack == pytest.approx(slack)
        assert found.active.any() != decided
        assert found.placed.all() or not decided
        assert found.separated.sum() <= k
        assert (found.inside | ~found.separated).all()
        assert (found.placed | ~(found.separated | found.apart)).all()
        decisions += decided
    assert 100 < decisions < 900


def test_claims_are_true_of_all_values_inside_the_intervals():
    rng = np.random.default_rng(1)
    claims = np.zeros(5)
    for _ in range(6000):
        truth, lower, upper, estimate, k = some_intervals(rng)
        found = border(estimate, lower, upper, top_k=k, tolerance=0.3)
        kth = np.sort(truth)[k - 1]
        room = 0.3 * abs(kth) + 1e-9
        below = np.array([(truth < value).sum() for value in truth])
        assert (below[found.separated] < k).all()
        assert (below[found.apart] >= k).all()
        assert (np.abs(truth - kth)[found.tied] <= room).all()
        assert (truth[found.above] >= kth - room).all()
        assert (truth[found.inside & found.placed] <= kth + room).all()
        assert (truth[~found.inside & found.placed] >= kth - room).all()
        if found.decided:
            assert truth[found.inside].max() <= truth[~found.inside].min() + room
        claims += [found.separated.sum(), found.apart.sum(), found.tied.sum(), (found.inside & found.placed).sum(), found.decided]
    assert (claims > 100).all()


def test_a_narrow_interval_is_not_placed_by_its_own_lower_end():
    """The second player is the lowest by estimate, but the first may well be a tenth of it."""
    found = border(np.array([6.0, 5.05]), np.array([1.0, 5.0]), np.array([11.0, 5.1]), top_k=1, tolerance=0.2)
    assert found.inside.tolist() == [False, True]
    assert not found.placed[1]


def test_the_high_end_is_the_low_end_with_all_signs_turned():
    _, lower, upper, estimate, _ = some_intervals(np.random.default_rng(5))
    low, high = borders(estimate, lower, upper, top_k=1, tolerance=0.2)
    other_high, other_low = borders(-estimate, -upper, -lower, top_k=1, tolerance=0.2)
    for one, other in ((low, other_low), (high, other_high)):
        for name in ("inside", "separated", "apart", "tied", "placed", "active"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist()
        assert one.slack == other.slack
