import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from repairkit.errors import DataError, UsageError
from repairkit.evaluation.statistics import holm, newcombe_paired
from repairkit.experiments.fairness.evaluation import Outcomes, differences, disparities, shares, verdict
from repairkit.result import Claim, Difference

SIZES = {"darker men": 80, "darker women": 70, "lighter men": 90, "lighter women": 75}


def outcomes_of(
    recalls: dict[str, tuple[float, ...]], source: dict[str, float], *, keep: float = 0.9, sizes: dict[str, int] = SIZES
) -> Outcomes:
    """Random outcomes with given recalls; columns agree on most images (`keep`), as networks do."""
    rng = np.random.default_rng(4)
    groups = np.repeat(list(sizes), list(sizes.values()))
    shared, m_shared = rng.random(len(groups)), rng.random(600)
    correct, source_correct = {}, {}
    for column, per_group in recalls.items():
        wanted = np.repeat(per_group, list(sizes.values()))
        noise = np.where(rng.random(len(groups)) < keep, shared, rng.random(len(groups)))
        correct[column] = noise < wanted
        source_correct[column] = (np.where(rng.random(600) < keep, m_shared, rng.random(600)) < source[column]).astype(float)
    return Outcomes(groups, correct, source_correct)


REPAIRED = outcomes_of(
    {"original": (0.96, 0.5, 0.99, 0.77), "repaired": (0.9, 0.82, 0.98, 0.82), "threshold": (0.91, 0.7, 0.9, 0.85)},
    {"original": 0.94, "repaired": 0.92, "threshold": 0.93},
)


def by_key(entries):
    return {(entry.metric, entry.group): entry for entry in entries}


def test_shares_are_plain_averages_with_scipys_intervals():
    found = {(share.column, share.metric, share.group): share for share in shares(REPAIRED)}
    assert len(found) == 3 * (4 + 4)
    for column, right in REPAIRED.correct.items():
        recalls = {name: right[REPAIRED.groups == name] for name in SIZES}
        for name, own in recalls.items():
            share = found[column, "recall", name]
            expected = stats.binomtest(int(own.sum()), len(own)).proportion_ci(method="wilson")
            assert (share.value, share.low, share.high, share.n) == pytest.approx((own.mean(), expected.low, expected.high, SIZES[name]))
        mean = found[column, "mean recall", None]
        error = np.sqrt(sum(own.var() / len(own) for own in recalls.values())) / 4
        assert mean.value == pytest.approx(np.mean([own.mean() for own in recalls.values()]))
        assert (mean.high - mean.low) / 2 == pytest.approx(1.96 * error, rel=0.1)
        lowest = found[column, "lowest recall", None]
        weakest = min(recalls, key=lambda name: recalls[name].mean())
        assert (lowest.value, lowest.n) == (pytest.approx(recalls[weakest].mean()), SIZES[weakest])
        gap = found[column, "gap", None]
        values = [own.mean() for own in recalls.values()]
        assert (gap.value, gap.n) == (pytest.approx(max(values) - min(values)), len(right))
        assert gap.low < gap.value < gap.high
        source = REPAIRED.source_correct[column]
        expected = stats.binomtest(int(source.sum()), 600).proportion_ci(method="wilson")
        accuracy = found[column, "source accuracy", None]
        assert (accuracy.value, accuracy.low, accuracy.high, accuracy.n) == pytest.approx((source.mean(), expected.low, expected.high, 600))


def test_fractions_of_networks_get_a_bootstrap_over_images():
    fractions = np.random.default_rng(0).integers(0, 6, size=600) / 5
    outcomes = replace(REPAIRED, source_correct=dict.fromkeys(REPAIRED.correct, fractions))
    share = next(share for share in shares(outcomes) if share.metric == "source accuracy")
    assert share.value == pytest.approx(fractions.mean())
    assert share.high - share.low == pytest.approx(2 * 1.96 * fractions.std() / 600**0.5, rel=0.06)


def test_group_differences_are_newcombe_and_mcnemar_with_holm():
    found = [entry for entry in differences(REPAIRED, [("original", "repaired")]) if entry.group is not None]
    tests = []
    for entry in found:
        own = entry.group == REPAIRED.groups
        before, after = REPAIRED.correct["original"][own], REPAIRED.correct["repaired"][own]
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        tests.append(stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0)
        assert (entry.value, entry.low, entry.high) == pytest.approx(newcombe_paired(before, after))
        assert entry.value == pytest.approx((gained - lost) / own.sum())
    assert [entry.p_value for entry in found] == pytest.approx(tests)
    assert [entry.p_adjusted for entry in found] == pytest.approx(holm(tests).tolist())
    assert {entry.group: entry.claim for entry in found}["darker women"] == "better"


def test_a_group_claim_needs_the_adjusted_test_as_well_as_the_interval():
    """Seven gains and one loss exclude zero, but the exact test gives .07, and six gains in one of four groups .125."""
    groups = np.repeat(["a", "b", "c", "d"], 100)
    for gains, losses in ((7, 1), (6, 0)):
        before, after = np.ones(400, bool), np.ones(400, bool)
        before[:gains], after[50 : 50 + losses] = False, False
        source = dict.fromkeys(("original", "repaired"), np.ones(5))
        entry = differences(Outcomes(groups, {"original": before, "repaired": after}, source), [("original", "repaired")])[0]
        assert entry.low > 0
        assert entry.claim == "no claim"


def test_aggregates_are_differences_of_the_shares_and_of_fairlearn():
    share = {(s.column, s.metric): s.value for s in shares(REPAIRED) if s.group is None}
    gap = {d.column: d.difference for d in disparities(REPAIRED)}
    for pair in (("original", "repaired"), ("threshold", "repaired")):
        found = by_key(differences(REPAIRED, [pair]))
        for metric in ("mean recall", "lowest recall", "source accuracy"):
            assert found[metric, None].value == pytest.approx(share[pair[1], metric] - share[pair[0], metric])
        assert found["gap", None].value == pytest.approx(gap[pair[1]] - gap[pair[0]])
        for entry in found.values():
            assert entry.low <= entry.value <= entry.high


def test_a_smaller_gap_is_better_and_swapping_the_pair_swaps_the_claim():
    forth, back = (by_key(differences(REPAIRED, [pair])) for pair in (("original", "repaired"), ("repaired", "original")))
    assert (forth["gap", None].value < 0, forth["gap", None].claim, back["gap", None].claim) == (True, "better", "worse")
    assert (forth["mean recall", None].claim, back["mean recall", None].claim) == ("better", "worse")
    assert (forth["recall", "darker women"].claim, back["recall", "darker women"].claim) == ("better", "worse")


def test_disparities_are_those_of_the_recalls():
    for entry in disparities(REPAIRED):
        recalls = {name: REPAIRED.correct[entry.column][REPAIRED.groups == name].mean() for name in SIZES}
        assert entry.difference == pytest.approx(max(recalls.values()) - min(recalls.values()))
        assert entry.ratio == pytest.approx(min(recalls.values()) / max(recalls.values()))
        assert entry.lowest_group == min(recalls, key=lambda name: recalls[name])


@pytest.mark.parametrize("right", [True, False])
def test_identical_and_extreme_columns_claim_nothing(right):
    groups = np.repeat(["a", "b"], [3, 4])
    same = dict.fromkeys(("original", "repaired"), np.full(7, right))
    outcomes = Outcomes(groups, same, {column: values.astype(float) for column, values in same.items()})
    for entry in differences(outcomes, [("original", "repaired")]):
        assert (entry.claim, entry.value) == ("no claim", 0)
        assert entry.low < 0 < entry.high
    for share in shares(outcomes):
        assert share.high - share.low > 0.2
    assert all((entry.difference, entry.ratio) == (0, 1) for entry in disparities(outcomes))


def test_two_images_that_improve_in_a_group_prove_nothing():
    groups = np.repeat(["a", "b"], [2, 60])
    before, after = groups == "b", np.ones(62, bool)
    outcomes = Outcomes(groups, {"original": before, "repaired": after}, dict.fromkeys(("original", "repaired"), np.ones(9)))
    assert {entry.claim for entry in differences(outcomes, [("original", "repaired")])} == {"no claim"}


def entry(
    value: float, low: float, high: float, claim: Claim, *, metric: str = "mean recall", group: str | None = None, first: str = "original"
) -> Difference:
    return Difference(metric=metric, group=group, first=first, second="repaired", n=318, value=value, low=low, high=high, claim=claim)


RISE = entry(0.064, 0.04, 0.09, "better")
BEYOND = entry(0.025, 0.005, 0.045, "better", first="threshold")
LEVEL = entry(0.006, -0.014, 0.026, "no claim", first="threshold")
BELOW = entry(-0.03, -0.05, -0.01, "worse", first="threshold")
NOTHING = entry(0.01, -0.01, 0.03, "no claim")
LOSS = entry(-0.05, -0.08, -0.02, "worse")
SOURCE_FELL = entry(-0.013, -0.02, -0.006, "worse", metric="source accuracy")
MEN_FELL = entry(-0.032, -0.07, 0.006, "no claim", metric="recall", group="darker men")
BOYS_FELL = entry(-0.032, -0.07, -0.001, "no claim", metric="recall", group="boys")
WOMEN_ROSE = entry(0.25, 0.14, 0.35, "better", metric="recall", group="darker women")
GAP_GREW = entry(0.1, 0.02, 0.2, "worse", metric="gap")


@pytest.mark.parametrize(
    ("found", "filters", "outcome"),
    [
        ([RISE, BEYOND], [3], "repaired"),
        ([RISE], [3], "repaired"),
        ([RISE, LEVEL], [3], "no better than the threshold"),
        ([RISE, BELOW], [3], "no better than the threshold"),
        ([NOTHING, BEYOND], [3], "no claim"),
        ([LOSS, BEYOND], [3], "no claim"),
        ([RISE, BEYOND], [0, 0], "no repair"),
        ([RISE, BEYOND], [0, 2], "repaired"),
        ([], [0], "no repair"),
    ],
)
def test_outcomes(found, filters, outcome):
    assert verdict(found, filters=filters).outcome == outcome


def test_what_got_worse_stands_first_the_proven_before_what_may_be_chance():
    found = verdict([WOMEN_ROSE, RISE, BEYOND, MEN_FELL, SOURCE_FELL, BOYS_FELL, GAP_GREW], filters=[2, 4, 3])
    assert found.outcome == "repaired"
    assert found.headline == (
        "Freezing 2 to 4 filters in each of 3 folds raised mean recall by 6.4 points (95 % interval 4.0 to 9.0; n = 318). "
        "That is 2.5 points more than moving the threshold gains. "
        "Measurably worse: source accuracy, the gap between the highest and the lowest recall."
    )
    assert found.sentences[: len(found.worse)] == found.worse
    subjects = ["Source accuracy", "The gap between the highest and the lowest recall", "Recall of darker men", "Recall of boys"]
    assert [next(subject for subject in subjects if sentence.startswith(subject)) for sentence in found.worse] == subjects


def test_no_improvement_is_claimed_where_the_interval_covers_zero():
    hopeful = [
        NOTHING,
        LEVEL,
        entry(0.1, -0.01, 0.2, "no claim", metric="recall", group="darker women"),
        entry(0.1, 0.0, 0.2, "no claim", metric="lowest recall"),
        entry(-0.1, -0.2, 0.01, "no claim", metric="gap"),
        entry(0.1, -0.2, 0.3, "no claim", first="dropout"),
    ]
    found = verdict(hopeful, filters=[3])
    assert not re.search(r"raised|rose|narrowed|better|improve", " ".join([found.headline, *found.sentences]))
    assert found.worse == []


def test_rivals_and_the_threshold_alone_have_a_sentence():
    threshold = entry(0.05, 0.03, 0.07, "better").model_copy(update={"second": "threshold"})
    dropout = entry(-0.04, -0.06, -0.02, "worse", first="dropout")
    assert len(verdict([threshold], filters=[0]).sentences) == 2
    found = verdict([RISE, BEYOND, threshold, dropout], filters=[3]).sentences
    assert [sentence.split(":")[0] for sentence in found] == [
        "Against moving the threshold alone", "Against training with filter dropout alone", "Moving the threshold alone, with no filter frozen"
    ]  # fmt: skip


def test_the_whole_way_from_outcomes_to_a_verdict():
    pairs = [("original", "repaired"), ("threshold", "repaired")]
    original, repaired = (np.mean([REPAIRED.correct[c][REPAIRED.groups == g].mean() for g in SIZES]) for c in ("original", "repaired"))
    change = next(entry for entry in differences(REPAIRED, pairs, seed=1) if entry.metric == "mean recall")
    assert change.value == pytest.approx(repaired - original)
    assert differences(REPAIRED, pairs, seed=1) == differences(REPAIRED, pairs, seed=1) != differences(REPAIRED, pairs, seed=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct": {}}, "same columns for target and source"),
        ({"source_correct": {"other": np.ones(3)}}, r"same columns .* \['original'\] and \['other'\]"),
        ({"correct": {"original": np.ones(2)}}, "column original: expected bool of shape"),
        ({"correct": {"original": np.ones(3, bool)}}, r"expected bool of shape \(2,\), got bool of shape \(3,\)"),
        ({"source_correct": {"original": np.array([1.0, 1.5])}}, r"expected 2 source values in \[0, 1\]"),
        ({"groups": np.empty(0, str), "correct": {"original": np.ones(0, bool)}}, "got 0 and 2"),
    ],
)
def test_outcomes_that_do_not_fit_are_refused(change, message):
    fitting = {"groups": np.array(["a", "b"]), "correct": {"original": np.ones(2, bool)}, "source_correct": {"original": np.ones(2)}}
    Outcomes(**fitting)
    with pytest.raises(DataError, match=message):
        Outcomes(**{**fitting, **change})


def test_missing_columns_and_pairs_are_usage_errors():
    with pytest.raises(UsageError, match=r"got \['dropout'\]; evaluate them first"):
        differences(REPAIRED, [("dropout", "repaired")])
    with pytest.raises(UsageError, match="differences of original and repaired"):
        verdict([BEYOND], filters=[3])
