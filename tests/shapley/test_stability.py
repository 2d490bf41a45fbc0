from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from attributions import attribution
from scipy import stats
from test_splits import SKEWED, faces

from repairkit.errors import DataError, UsageError
from repairkit.evaluation.splits import halves
from repairkit.shapley.stability import Overlap, stability


def shares(found, by, end):
    return {overlap.k: overlap.share for overlap in found.overlaps if (overlap.by, overlap.end) == (by, end)}


def literal(one, other, k, *, draws=4000):
    """Share in common when ties are broken at random, by doing so."""
    rng = np.random.default_rng(0)
    total = 0
    for _ in range(draws):
        chosen = []
        for ranking in (one, other):
            order = sorted((i for i in range(len(ranking)) if not math.isnan(ranking[i])), key=lambda i: (ranking[i], rng.random()))
            chosen.append(set(order[:k]))
        total += len(chosen[0] & chosen[1])
    return total / draws / k


def test_overlap_of_both_ends_by_hand():
    one, other = attribution([-3, -2, -1, 0, 1, 2]), attribution([-3, -1, -2, 0, 2, 1])
    found = stability(one, other, ks=(1, 2, 3))
    assert shares(found, "value", "low") == {1: 1.0, 2: 0.5, 3: 1.0}
    assert shares(found, "value", "high") == {1: 0.0, 2: 1.0, 3: 1.0}
    assert {overlap.chance for overlap in found.overlaps if overlap.k == 2} == {2 / 6}
    assert found.rank_correlation["value"] == pytest.approx(stats.spearmanr(one.value, other.value).statistic)
    assert found.skipped == ("by screen: the engine makes no screen",)


def test_a_filter_that_one_half_never_valued_is_a_disagreement():
    nan = math.nan
    one = attribution([-5, -4, -3, nan, nan, nan, 1, 2], screen=np.arange(8))
    other = attribution([-5, nan, -3, -4, nan, -1, nan, 2], screen=-np.arange(8))
    found = stability(one, other, ks=(2, 3, 4, 6))
    # the two lowest of each: {0, 1} and {0, 3}; three: {0, 1, 2} and {0, 3, 2}
    assert shares(found, "value", "low") == {2: 0.5, 3: pytest.approx(2 / 3), 4: 0.5}
    assert shares(found, "value", "high") == {}  # that end was not sought
    assert found.valued == (5, 5, 3)
    assert found.rank_correlation == {"value": pytest.approx(1.0), "screen": pytest.approx(-1.0)}
    assert "6 by value: the halves valued 5 and 5 filters" in found.skipped
    # by screen all filters and both ends are compared
    assert shares(found, "screen", "low") == {2: 0, 3: 0, 4: 0, 6: pytest.approx(4 / 6)}
    assert shares(found, "screen", "high") == {2: 0, 3: 0, 4: 0, 6: pytest.approx(4 / 6)}


def test_the_sought_end_counts():
    nan = math.nan
    one = attribution([nan, 1, 2, 3, 4], end="high", harmful=1)
    other = attribution([0, nan, 2, 4, 3], end="high", harmful=1)
    found = stability(one, other, ks=[1, 2])
    assert shares(found, "value", "high") == {1: 0.0, 2: 1.0}
    assert shares(found, "value", "low") == {}


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_ties_do_not_agree_by_the_order_of_rows(k):
    one = [0.0, -1.0, 0.0, math.nan, 0.0, 0.0, 2.0, -1.0]
    other = [0.0, 0.0, -1.0, 0.0, math.nan, 0.0, 0.0, -2.0]
    found = stability(attribution(one), attribution(other), ks=(k,))
    assert shares(found, "value", "low")[k] == pytest.approx(literal(one, other, k), abs=0.02)


def test_rankings_of_nothing_but_ties_agree_by_chance():
    found = stability(attribution(np.zeros(40)), attribution(np.zeros(40)), ks=(10,))
    assert found.overlaps[0] == Overlap("value", "low", 10, pytest.approx(0.25), 0.25)
    assert found.rank_correlation == {}
    assert "rank correlation by value: fewer than three filters in both halves, or all equal" in found.skipped


def test_random_rankings_agree_by_chance():
    rng = np.random.default_rng(0)
    found = [stability(attribution(rng.normal(size=60)), attribution(rng.normal(size=60)), ks=(15,)) for _ in range(200)]
    assert np.mean([each.overlaps[0].share for each in found]) == pytest.approx(found[0].overlaps[0].chance, abs=0.02)


def test_the_paper_s_numbers_by_default_and_no_more_than_there_are():
    rng = np.random.default_rng(0)
    one = attribution(rng.normal(size=150), screen=rng.normal(size=150))
    found = stability(one, one)
    assert sorted(shares(found, "value", "low")) == sorted(shares(found, "screen", "high")) == [25, 50, 100]
    assert all(overlap.share == 1 for overlap in found.overlaps)
    assert "200 by value: there are 150 filters" in found.skipped
    assert found.rank_correlation == {"value": pytest.approx(1), "screen": pytest.approx(1)}


def test_what_is_printed():
    one = attribution([-3, -2, -1, 0, math.nan], screen=[-2, -1, 0, 1, 2])
    assert str(stability(one, one, ks=(2, 4, 5))).splitlines() == [
        "two halves of the images, 5 filters, 4 valued by both",
        "  lowest by value: 100% of 2 (chance 40.0%), 100% of 4 (chance 80.0%)",
        "  lowest by screen: 100% of 2 (chance 40.0%), 100% of 4 (chance 80.0%)",
        "  highest by screen: 100% of 2 (chance 40.0%), 100% of 4 (chance 80.0%)",
        "  rank correlation by value: 1.00",
        "  rank correlation by screen: 1.00",
        "  left out: 5 by value: there are 5 filters",
        "  left out: 5 by screen: there are 5 filters",
    ]


@pytest.mark.parametrize(
    ("other", "ks", "message"),
    [
        (attribution([1, 2, 3], ids=("b:0", "b:1", "b:2")), (1,), "expected two attributions of the same filters and the same end"),
        (attribution([1, 2, 3], end="high"), (1,), "expected two attributions of the same filters and the same end"),
        (attribution([1, 2, 3]), (2, 0), "expected numbers of filters of at least 1, got 0"),
    ],
)
def test_what_cannot_be_compared(other, ks, message):
    with pytest.raises(UsageError, match=message):
        stability(attribution([1, 2, 3]), other, ks=ks)


def test_nothing_valued_in_a_half():
    found = stability(attribution(np.full(4, math.nan)), attribution(np.arange(4)), ks=(2,))
    assert found.overlaps == ()
    assert "by value: a half valued no filter" in found.skipped


# ---- the halves


@pytest.mark.parametrize("copies", [0, 13])
def test_halves_are_disjoint_whole_and_stratified(copies):
    images = faces(SKEWED, copies=copies)
    one, other = halves(images, seed=0)
    assert sorted(np.concatenate([one, other]).tolist()) == list(range(len(images)))
    assert not set(images.hashes[one].tolist()) & set(images.hashes[other].tolist())
    if not copies:
        assert len(one) - len(other) in (0, 1)
        kinds = [Counter(zip(images.groups[half].tolist(), images.labels[half].tolist(), strict=True)) for half in (one, other)]
        for kind, n in SKEWED.items():
            assert all(abs(count[kind] - n / 2) <= 1 for count in kinds)


def test_halves_repeat_for_a_seed():
    images = faces(SKEWED)
    assert np.array_equal(halves(images, seed=1)[0], halves(images, seed=1)[0])
    assert not np.array_equal(halves(images, seed=1)[0], halves(images, seed=2)[0])


def test_a_subgroup_of_one_image_has_no_halves():
    with pytest.raises(DataError, match=r"faces: the (first|second) half has no image of subgroup 'rare' \(1 in all\); add images"):
        halves(faces({("a", 0): 9, ("rare", 1): 1}), seed=0)
