import itertools

import numpy as np
import pytest
from scipy import stats

from repairkit.errors import DataError, UsageError
from repairkit.evaluation.statistics import (
    Interval,
    holm,
    mcnemar_exact,
    newcombe_paired,
    paired_drop_bound,
    standard_error,
    stratified_bootstrap,
    stratum_prior,
    wilson,
)


def pairs(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    before = np.repeat([1, 0, 1, 0], [both, gained, lost, neither])
    after = np.repeat([1, 1, 0, 0], [both, gained, lost, neither])
    return before, after


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (159, 318)])
def test_wilson_equals_scipy(successes, n, level):
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert wilson(successes, n, level) == pytest.approx((successes / n, expected.low, expected.high), abs=1e-12)


# Newcombe (1998), Statistics in Medicine 17:2635, worked examples, method 10; the last one Fagerland, Lydersen and
# Laake (2014), Statistics in Medicine 33:2850 (airway hyperresponsiveness).
@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((18, 12, 2, 18), 0.0562, 0.3290),
        ((53, 0, 0, 1), -0.0729, 0.0729),
        ((0, 30, 0, 0), 0.8395, 1.0),
        ((1, 1, 7, 12), -0.507, -0.026),
    ],
)
def test_newcombe_reproduces_published_examples(cells, low, high):
    interval = newcombe_paired(*pairs(*cells))
    digits = 1e-3 if low == -0.507 else 1e-4
    assert interval.low == pytest.approx(low, abs=digits)
    assert interval.high == pytest.approx(high, abs=digits)
    assert interval.value == pytest.approx((cells[1] - cells[2]) / sum(cells))


def literal_method_10(e: int, f: int, g: int, h: int) -> tuple[float, float]:
    """The paper's formulas, letter by letter: theta = (f - g) / n of p1 = (e + f) / n and p2 = (e + g) / n."""
    n = e + f + g + h
    l2, u2 = stats.binomtest(e + f, n).proportion_ci(method="wilson")
    l3, u3 = stats.binomtest(e + g, n).proportion_ci(method="wilson")
    dl2, du2, dl3, du3 = (e + f) / n - l2, u2 - (e + f) / n, (e + g) / n - l3, u3 - (e + g) / n
    denominator = (e + f) * (g + h) * (e + g) * (f + h)
    if denominator == 0:
        phi = 0.0
    elif e * h > f * g:
        phi = max(e * h - f * g - n / 2, 0) / denominator**0.5
    else:
        phi = (e * h - f * g) / denominator**0.5
    delta, epsilon = (dl2**2 - 2 * phi * dl2 * du3 + du3**2) ** 0.5, (du2**2 - 2 * phi * du2 * dl3 + dl3**2) ** 0.5
    return (f - g) / n - delta, (f - g) / n + epsilon


def test_newcombe_equals_the_formulas_on_all_tables_of_seven_and_is_antisymmetric():
    for cells in itertools.product(range(8), repeat=4):
        if sum(cells) != 7:
            continue
        before, after = pairs(*cells)
        interval, mirrored = newcombe_paired(before, after), newcombe_paired(after, before)
        assert (interval.low, interval.high) == pytest.approx(literal_method_10(*cells), abs=1e-12)
        assert (interval.low, interval.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-12)
        assert -1 <= interval.low <= interval.value <= interval.high <= 1


@pytest.mark.parametrize(
    ("probabilities", "n"), [((0.9, 0.02, 0.02, 0.06), 40), ((0.5, 0.3, 0.04, 0.16), 80), ((0.97, 0.01, 0.0, 0.02), 60)]
)
def test_newcombe_covers(probabilities, n):
    truth, covered = probabilities[1] - probabilities[2], 0
    drawn = np.random.default_rng(0).multinomial(n, probabilities, size=4000)
    tables, counts = np.unique(drawn, axis=0, return_counts=True)
    for cells, count in zip(tables, counts, strict=True):
        interval = newcombe_paired(*pairs(*cells))
        covered += count * (interval.low <= truth <= interval.high)
    assert covered / 4000 > 0.94


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (0, 6), (5, 1), (12, 12), (30, 11)])
def test_mcnemar_equals_the_binomial_test_of_discordant_pairs(gained, lost):
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar_exact(*pairs(9, gained, lost, 4)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("p_values", [[0.2], [0.01, 0.01, 0.01], [0.04, 0.001, 0.03, 0.5], [0.9, 1.0, 0.8], [0.0, 0.02, 0.02, 0.049, 0.3]])
def test_holm_is_the_closure_of_bonferroni(p_values):
    """An hypothesis is rejected when every intersection that holds it is, each by Bonferroni's test."""
    k = len(p_values)
    subsets = [subset for size in range(1, k + 1) for subset in itertools.combinations(range(k), size)]
    expected = [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s) for i in range(k)]
    assert holm(p_values) == pytest.approx(expected)


def mean_of_strata(means):
    return means[..., 0].mean(-1)


def mean_change(means):
    return (means[..., 1] - means[..., 0]).mean(-1)


def lowest_change(means):
    return means[..., 1].min(-1) - means[..., 0].min(-1)


@pytest.mark.parametrize(("successes", "n"), [(0, 12), (12, 12), (7, 12), (190, 200)])
def test_one_stratum_of_zeros_and_ones_has_jeffreys_interval(successes, n):
    interval = stratified_bootstrap(np.arange(n) < successes, None, mean_of_strata)
    low, high = stats.beta.ppf([0.025, 0.975], successes + 0.5, n - successes + 0.5)
    assert interval == pytest.approx((successes / n, min(low, successes / n), max(high, successes / n)), abs=0.015)


def test_without_prior_it_agrees_with_scipys_bootstrap_on_fractions():
    values = np.random.default_rng(3).integers(0, 6, size=400) / 5
    ours = stratified_bootstrap(values, None, mean_of_strata, prior=0)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)


def test_strata_are_resampled_apart_and_columns_together():
    strata = np.repeat(["a", "b"], [200, 50])
    right = np.random.default_rng(0).random(250) < np.where(strata == "a", 0.9, 0.5)
    p, n = np.array([right[strata == s].mean() for s in "ab"]), np.array([200, 50])
    interval = stratified_bootstrap(right, strata, mean_of_strata)
    error = np.sqrt((p * (1 - p) / n).sum()) / 2
    assert interval.value == pytest.approx(p.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * error, rel=0.05)
    same = stratified_bootstrap(np.column_stack([right, right]), strata, mean_change, prior=0)
    assert same == pytest.approx((0, 0, 0), abs=1e-12)


def test_the_seed_decides_every_bit():
    values, strata = np.random.default_rng(0).random((60, 2)), np.repeat(["a", "b", "c"], 20)
    runs = [stratified_bootstrap(values, strata, mean_change, seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def false_claims(cells_of: dict[str, tuple[float, ...]], n: int, statistic, *, reflect: bool, prior: float = 0.5) -> float:
    """How often an interval excludes zero; the truth is zero."""
    rng, claims, trials = np.random.default_rng(1), 0, 300
    strata = np.repeat(list(cells_of), n)
    for seed in range(trials):
        rows = [np.column_stack(pairs(*rng.multinomial(n, cells))) for cells in cells_of.values()]
        interval = stratified_bootstrap(np.concatenate(rows), strata, statistic, seed=seed, reflect=reflect, prior=prior)
        claims += interval.excludes_zero
    return claims / trials


# (both, gained, lost, neither) for each group; the nominal rate is .05, its standard error over 300 trials .013.
RARE = dict.fromkeys("abcd", (0.97, 0.01, 0.01, 0.01))
ONE_WEAK = {"a": (0.97, 0.01, 0.01, 0.01), "b": (0.7, 0.05, 0.05, 0.2), "c": (0.96, 0.01, 0.01, 0.02), "d": (0.5, 0.04, 0.04, 0.42)}
TIED_BEFORE = {"a": (0.65, 0.05, 0.05, 0.25), **dict.fromkeys("bcd", (0.68, 0.27, 0.02, 0.03))}


@pytest.mark.parametrize(
    ("cells_of", "n", "statistic", "reflect"),
    [
        (RARE, 100, mean_change, False),
        (ONE_WEAK, 20, mean_change, False),
        (ONE_WEAK, 80, mean_change, False),
        (ONE_WEAK, 80, lowest_change, True),
    ],
)
def test_claims_are_rarely_false(cells_of, n, statistic, reflect):
    assert false_claims(cells_of, n, statistic, reflect=reflect) <= 0.06


@pytest.mark.parametrize(("right", "after"), [(0.9, None), (0.9, 0.1), (0.9, 0.85)])
def test_the_mean_over_many_small_classes_is_covered(right, after):
    """Nineteen classes of 36 images: a prior of their own for each would pull their mean away from what it was by more than its interval."""
    rng, strata, inside, trials = np.random.default_rng(0), np.repeat(np.arange(19), 36), 0, 150
    truth = right if after is None else after - right
    for seed in range(trials):
        values = np.column_stack([rng.random(len(strata)) < share for share in (right, after) if share is not None])
        statistic = (lambda means: means[..., 0].mean(-1)) if after is None else mean_change
        interval = stratified_bootstrap(values, strata, statistic, seed=seed, prior=stratum_prior(np.full(19, 1 / 19)))
        assert interval.low < interval.value < interval.high
        inside += interval.low <= truth <= interval.high
    assert inside / trials >= 0.92


def test_reflection_keeps_the_minimum_from_promising_too_much():
    """The lowest of four equal recalls looks lower than it is: rising for all but one is no gain of the lowest."""
    plain, reflected = (false_claims(TIED_BEFORE, 50, lowest_change, reflect=reflect) for reflect in (False, True))
    assert plain > 0.15
    assert reflected < 0.11


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_handful_of_images_that_all_improve_is_no_proof_of_certainty(n):
    rows = np.column_stack(pairs(0, n, 0, 0))
    assert stratified_bootstrap(rows, None, mean_change, prior=0) == pytest.approx((1, 1, 1))
    interval = stratified_bootstrap(rows, None, mean_change)
    assert interval.high == pytest.approx(1)
    assert not interval.excludes_zero


def test_one_gain_in_each_of_four_groups_is_no_claim():
    """Four gains and no loss: the exact test gives .125, the plain bootstrap would exclude zero."""
    rows = np.concatenate([np.column_stack(pairs(99, 1, 0, 0))] * 4)
    strata = np.repeat(list("abcd"), 100)
    assert mcnemar_exact(rows[:, 0], rows[:, 1]) == pytest.approx(0.125)
    assert stratified_bootstrap(rows, strata, mean_change, prior=0).excludes_zero
    assert not stratified_bootstrap(rows, strata, mean_change).excludes_zero


def test_the_standard_error_is_that_of_a_stratified_mean():
    rng = np.random.default_rng(0)
    sizes, weights = (30, 10, 5), np.concatenate([np.full(30, 1 / 90), np.full(10, 1 / 30), np.full(5, 1 / 15)])
    draws = np.concatenate([rng.normal(0, 1 + index, (4000, size)) for index, size in enumerate(sizes)], axis=1)
    strata = np.repeat(["a", "b", "c"], sizes)
    estimates = np.array([standard_error(row, weights, strata) for row in draws])
    assert np.sqrt(np.mean(estimates**2)) == pytest.approx(np.std(draws @ weights), rel=0.05)


def test_groups_of_equal_size_are_strata_too():
    change = np.concatenate([np.full(20, 0.3), np.full(20, -0.1)])
    weights = np.full(40, 1 / 40)
    assert standard_error(change, weights, np.repeat(["a", "b"], 20)) == pytest.approx(0, abs=1e-12)
    assert standard_error(change, weights, np.repeat("a", 40)) > 0.02
    assert standard_error(np.zeros(2), np.array([0.5, 0.5]), np.array(["a", "b"])) == pytest.approx(np.sqrt(0.5))


def test_the_guards_bound_is_the_normal_one_but_never_below_that_of_no_loss():
    before = np.ones(400, dtype=bool)
    after = np.arange(400) >= 20
    spread = np.std(before.astype(float) - after, ddof=1) / 20
    assert paired_drop_bound(before, after, 0.9) == pytest.approx(0.05 + 1.2815516 * spread)
    for unchanged in (paired_drop_bound(before, before, 0.9), paired_drop_bound(after, before, 0.9)):
        assert unchanged == pytest.approx(1 - 0.1 ** (1 / 400))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: wilson(0, 0), DataError, "got 0 of 0"),
        (lambda: wilson(5, 4), DataError, "got 5 of 4"),
        (lambda: wilson(1, 4, 95), UsageError, "between 0 and 1, got 95"),
        (lambda: newcombe_paired([1, 0], [1]), DataError, r"shapes \(2,\) and \(1,\)"),
        (lambda: newcombe_paired([], []), DataError, "one or more images"),
        (lambda: mcnemar_exact([1, 0.4], [1, 0]), DataError, "got 0.4; fractions belong in stratified_bootstrap"),
        (lambda: stratified_bootstrap([0.5, 1.5], None, mean_of_strata), DataError, "got 0.5 to 1.5"),
        (lambda: stratified_bootstrap([0.5, np.nan], None, mean_of_strata), DataError, r"values in \[0, 1\]"),
        (lambda: stratified_bootstrap([0, 1], ["a"], mean_of_strata), DataError, "one stratum for each of 2 images, got 1"),
        (lambda: stratified_bootstrap([], None, mean_of_strata), DataError, "at least one image"),
    ],
)
def test_errors_say_what_came(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_interval_that_ends_at_zero_does_not_exclude_it():
    assert not Interval(0.1, 0.0, 0.2).excludes_zero
    assert Interval(-0.1, -0.2, -0.01).excludes_zero
