from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from repairkit.shapley.audit import audit_chances, clopper_pearson, judge


@pytest.mark.parametrize(("hits", "draws"), [(0, 1), (0, 64), (3, 64), (63, 64), (64, 64)])
@pytest.mark.parametrize("delta", [0.0125, 0.3])
def test_the_bound_is_clopper_and_pearsons(hits, draws, delta):
    assert clopper_pearson(hits, draws, delta) == pytest.approx(
        binomtest(hits, draws, alternative="less").proportion_ci(1 - delta, "exact").high
    )


def test_chances_are_known_and_rise_towards_both_ends():
    rng = np.random.default_rng(0)
    for m in (1, 2, 3, 50):
        screen = rng.normal(size=m)
        chances = audit_chances(screen)[np.argsort(screen)]
        assert chances.sum() == pytest.approx(1)
        assert chances.min() >= 1 / (2 * m)
        np.testing.assert_allclose(chances, chances[::-1])
        assert (np.diff(chances[: (m + 1) // 2]) < 0).all()


def test_the_number_missed_is_the_most_that_have_so_little_chance_together():
    chances = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    cleared = np.array([True, False, False, True, False, False])
    found = judge(chances, np.array([0, 0, 0, 3, 0, 1, 0, 0]), cleared, delta=0.2)
    assert (found.draws, found.hits) == (8, 1)
    assert found.mass == clopper_pearson(1, 8, 0.2)
    assert found.count == max(j for j in range(5) if sum(sorted(chances[~cleared])[:j]) <= found.mass)
    assert found.share == found.count / 6
    nothing = judge(chances, np.array([1, 1]), cleared, delta=0.2)
    assert (nothing.hits, nothing.mass, nothing.count, nothing.share) == (2, 1.0, 4, 4 / 6)


@pytest.mark.parametrize("doubtful", [0.0, 0.5])
def test_the_bound_is_too_low_no_more_often_than_delta(doubtful):
    """Some players are missed; draws of others are cleared, or are not although nothing is wrong with them."""
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(800):
        chances = audit_chances(rng.normal(size=40))
        missed = rng.random(40) < 0.1
        drawn = rng.choice(40, size=24, p=chances)
        cleared = np.isin(np.arange(40), drawn) & ~missed & (rng.random(40) >= doubtful)
        found = judge(chances, drawn, cleared, delta=0.2)
        wrong += chances[missed].sum() > found.mass
        assert (missed.sum() <= found.count) or chances[missed].sum() > found.mass
    assert binomtest(wrong, 800).proportion_ci(0.999, "exact").low <= 0.2
    assert wrong > 0 or doubtful
