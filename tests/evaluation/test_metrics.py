import numpy as np
import pytest

from repairkit.errors import DataError
from repairkit.evaluation.metrics import Metric, changed_groups, claim_of, compare_groups, split_by_group
from repairkit.evaluation.statistics import Interval, holm, mcnemar_exact, newcombe_paired, wilson

RNG = np.random.default_rng(0)
BEFORE, AFTER = RNG.random(300) < 0.6, RNG.random(300) < 0.8


@pytest.mark.parametrize(
    "metric",
    [Metric.mean("accuracy", 300), Metric("recall", np.repeat(["a"], 300), {"a": 1.0}), Metric.mean_over("mean recall", np.zeros(300))],
)
def test_a_share_of_images_has_wilsons_interval_and_newcombes_change_whatever_it_is_called(metric):
    assert metric.interval(AFTER, seed=1) == wilson(int(AFTER.sum()), 300)
    assert metric.change(BEFORE, AFTER, seed=1) == newcombe_paired(BEFORE, AFTER)


def test_a_mean_of_fractions_has_a_bootstrap_of_the_usual_width():
    first, second = (RNG.integers(0, 6, size=400) / 5 for _ in range(2))
    interval = Metric.mean("accuracy", 400).change(first, second)
    assert interval.value == pytest.approx((second - first).mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * (second - first).std() / 20, rel=0.06)


def test_weights_say_what_counts():
    strata = np.repeat(["a", "b", "c"], 100)
    metric = Metric("a less b", strata, {"a": 1.0, "b": -1.0})
    assert metric.n == 200
    assert metric.interval(AFTER).value == pytest.approx(AFTER[:100].mean() - AFTER[100:200].mean())
    with pytest.raises(DataError, match="got none"):
        Metric("d", strata, {"d": 1.0})


def test_lowest_and_gap_stay_in_their_range_and_n_is_that_of_the_lowest():
    strata = np.repeat(["a", "b"], [200, 100])
    right = np.concatenate([np.ones(200, bool), np.zeros(100, bool)])
    lowest, gap = (Metric(name, strata, {"a": 0.5, "b": 0.5}, statistic=name) for name in ("lowest", "gap"))
    assert lowest.share(right, "original").n == 100
    assert (lowest.interval(right).value, gap.interval(right).value) == (0, 1)
    assert lowest.interval(right).low >= 0
    assert gap.interval(right).high <= 1
    assert gap.change(~right, right).value == 0


@pytest.mark.parametrize(("lower_is_better", "claim"), [(False, "better"), (True, "worse")])
def test_a_claim_has_a_direction_and_a_lead_follows_it(lower_is_better, claim):
    metric = Metric.mean("success", 300, lower_is_better=lower_is_better)
    entry = metric.difference(BEFORE, AFTER, ("original", "repaired"))
    assert (entry.claim, entry.n, entry.p_value) == (claim, 300, None)
    assert metric.lead(AFTER, BEFORE).value == pytest.approx(-entry.value if lower_is_better else entry.value)


def test_many_claims_need_more_and_show_the_same_interval():
    before = np.zeros(200, dtype=bool)
    after = np.arange(200) < 6
    metric = Metric.mean("accuracy", 200)
    alone, among = (metric.difference(before, after, ("a", "b"), claims=claims) for claims in (1, 100))
    assert (alone.low, alone.high) == (among.low, among.high)
    assert (alone.claim, among.claim) == ("better", "no claim")


def test_groups_are_tested_exactly_and_adjusted_over_all_of_them():
    groups = np.repeat(["a", "b", "c"], 100)
    pairs = split_by_group(groups, BEFORE, AFTER)
    found = compare_groups("recall", pairs, ("original", "repaired"), 0.95)
    p_values = [mcnemar_exact(*pair) for pair in pairs.values()]
    assert [entry.p_adjusted for entry in found] == pytest.approx(holm(p_values).tolist())
    assert [(entry.group, entry.value) for entry in found] == [(name, newcombe_paired(*pair).value) for name, pair in pairs.items()]
    assert all((entry.claim == "better") == (entry.low > 0 and entry.p_adjusted < 0.05) for entry in found)


def test_shown_groups_are_those_with_a_claim_and_the_largest_drops():
    nothing = np.ones(50, dtype=bool)
    pairs = {f"class {drop}": (nothing, np.arange(50) >= drop) for drop in (0, 1, 2, 3, 40)}
    found = compare_groups("recall", pairs, ("original", "repaired"), 0.95)
    assert [entry.group for entry in changed_groups(found, most=2)] == ["class 40", "class 3"]


@pytest.mark.parametrize(
    ("low", "high", "claim"), [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (-0.1, 0.2, "no claim"), (0.0, 0.2, "no claim")]
)
def test_a_claim_excludes_zero(low, high, claim):
    assert claim_of(Interval((low + high) / 2, low, high)) == claim
