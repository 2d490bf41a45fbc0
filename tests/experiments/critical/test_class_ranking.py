"""Class-specific ranking: what other classes lose with a filter counts against it, at the least price that spares them."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import three_colours
from scipy import stats

from repairkit.baselines import compare as comparing
from repairkit.errors import BudgetError, ModelWarning, UsageError
from repairkit.evaluation.curves import AblationCurves
from repairkit.evaluation.statistics import posterior_drop_bound
from repairkit.experiments.classifier_task import CriticalTask, critical_ones, split_of, worth_on
from repairkit.experiments.critical import class_ranking as module
from repairkit.experiments.critical import run as critical_module
from repairkit.experiments.critical.class_ranking import (
    CHOOSING,
    FACTORS,
    FIRST,
    PART,
    PRICED_AT,
    ROUND,
    SHARE,
    choose_factor,
    class_marginals,
    first_factor,
    planned_screens,
    ranked_by_price,
    sampled,
)  # fmt: skip
from repairkit.experiments.critical.result import recall_less_others, summarise
from repairkit.experiments.critical.run import find, find_each, plan, plan_each
from repairkit.network.predict import predict
from repairkit.repair import repair as repair_module
from repairkit.repair import screens
from repairkit.repair.attribute import game_of
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore
from repairkit.shapley.values import Attribution

SMALL = Options(budget=4000, top=2, contested=6, ranking="specific", t0=0.5, seed=1, spare=0.2)
OWN = np.array([0.51, 0.41, 0.1, 0.1])
SIZES = np.array([0.2, 0.1, 0.01, 0.0])


def task_of(name, **options):
    return CriticalTask(three_colours.model(), three_colours.images(), three_colours.CLASSES.index(name), **options)


@pytest.fixture
def never_free(monkeypatch):
    """Of three colours each hangs on a filter of its own, so that no price is needed; with this one is paid all the same."""
    monkeypatch.setattr(module, "FIRST", FIRST[1:])
    monkeypatch.setattr(module, "FACTORS", tuple(factor for factor in FACTORS if factor >= 1))


def falling(costs, frozen):
    """The others fall by what the frozen filters cost them; the bound is a point more."""
    fall = sum(costs[player] for player in frozen)
    return fall, fall + 0.01


@pytest.mark.parametrize(
    ("gains", "factor"),
    [([0.5, 0.5, 0.5, 0.5], 0.0), ([-1.0, 0.5, 0.0, 0.1], 3.0), ([-1.0, -1.0, 0.1, 0.1], 5.0), ([0.0, 0.0, 0.0, 0.0], 0.0)],
)
def test_filters_are_picked_where_the_class_falls_furthest_beyond_the_others_to_first_order(gains, factor):
    assert first_factor(OWN, SIZES, lambda frozen: sum(gains[player] for player in frozen), most=2) == factor


def factor_for(drop, *, unmoved=0.0, important=lambda factor: np.argsort(factor * SIZES - OWN, kind="stable")[:2], **options):
    return choose_factor(important, SIZES, drop, unmoved=unmoved, classes=2, first=1.0, options=Options(**options))


@pytest.mark.parametrize(("costs", "factor"), [([0, 0, 0, 0], 0.0), ([0.5, 0.0, 0.0, 0.0], 2.38), ([0.5, 0.5, 0.0, 0.0], 4.0)])
def test_the_least_factor_that_spares_the_others_is_chosen(costs, factor):
    """Of the order that is frozen, not of the first-order one; as trying every factor in turn finds it."""
    ranking = factor_for(partial(falling, costs))
    assert (ranking.factor, ranking.spared, ranking.fall, ranking.bound) == (factor, True, 0.0, 0.01)
    frozen = (np.argsort(tried * SIZES - OWN, kind="stable")[:2] for tried in FACTORS)
    assert factor == next(tried for tried, order in zip(FACTORS, frozen, strict=True) if falling(costs, order)[1] <= 0.05)
    assert (ranking.classes, ranking.first) == (2, 1.0)


def test_the_guard_is_on_the_bound_and_as_wide_as_asked():
    drop = partial(falling, [0.035, 0.0, 0.0, 0.0])
    assert [factor_for(drop, spare=spare).factor for spare in (0.04, 0.05)] == [2.38, 0]


def test_where_no_factor_spares_them_the_last_is_taken_with_a_warning():
    with pytest.warns(ModelWarning, match=r"by 20\.0, at most 21\.0"):
        ranking = factor_for(partial(falling, [0.1] * 4), important=lambda _: np.array([0, 1]))
    assert (ranking.factor, ranking.spared, ranking.fall) == (FACTORS[-1], False, pytest.approx(0.2))


def test_images_too_few_to_show_it_are_asked_for_what_they_can_show():
    with pytest.warns(ModelWarning, match=r"too few to show .* by 5 points at most; with no image lost they show 10\.0"):
        ranking = factor_for(lambda frozen: (0.3, 0.4) if 0 in frozen else (0.0, 0.1), unmoved=0.1)
    assert (ranking.factor, ranking.spared, ranking.bound) == (2.38, True, 0.1)


def test_a_run_that_spares_others_goes_on_under_the_same_bound_alone():
    specific, plain = Options(ranking="specific", spare=0.04), Options(spare=0.04)
    assert specific.configuration["spare"] == 0.04
    assert "spare" not in plain.configuration


def test_the_fall_is_a_mean_over_classes_and_its_bound_is_above_it():
    classes = np.repeat([0, 1], [30, 10])
    after = np.r_[np.zeros(3), np.ones(37)]
    fall, bound = posterior_drop_bound(np.ones(40), after, classes, confidence=0.9, seed=0)
    assert fall == pytest.approx(0.05)
    assert fall < bound < 0.15
    assert posterior_drop_bound(np.ones(40), after, classes, confidence=0.99, seed=0)[1] > bound
    assert posterior_drop_bound(np.ones(40), np.ones(40), classes, confidence=0.9, seed=0)[1] > 0


def test_the_bound_on_a_fall_is_clopper_and_pearson_s_where_there_is_one_class():
    for lost, n in ((0, 50), (3, 100), (20, 60)):
        after = np.r_[np.zeros(lost), np.ones(n - lost)]
        bound = posterior_drop_bound(np.ones(n), after, np.zeros(n, dtype=np.int64), confidence=0.9, seed=0)[1]
        assert bound == pytest.approx(stats.beta.ppf(0.9, lost + 1, n - lost), rel=0.05)


@pytest.mark.parametrize(("lost", "gained"), [(0.008, 0.0), (0.03, 0.0), (0.035, 0.005), (0.08, 0.03)])
@pytest.mark.parametrize("classes", [2, 9])
def test_the_bound_on_a_fall_covers_as_often_as_it_says(lost, gained, classes):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), 24)

    def bound():
        drawn = rng.random(len(labels))
        before, after = drawn >= gained, drawn < 1 - lost
        return posterior_drop_bound(before, after, labels, confidence=0.9, seed=int(rng.integers(1 << 30)))[1]

    covered = np.mean([bound() >= lost - gained for _ in range(400)])
    assert covered >= 0.87  # .90 less two standard errors


def test_values_stay_those_of_the_class_and_the_ranking_is_less_by_the_price(never_free):
    """The prices are those of a game by hand: mean sizes of the gradients of the other classes, at the same live range."""
    task = task_of("green")
    plain, priced = (find(task, Run.start(replace(SMALL, ranking=ranking))) for ranking in ("recall", "specific"))
    assert plain.ranking is None
    price, found = priced.ranking, priced.attribution
    assert (price.spared, price.factor, price.first, price.classes) == (True, 1.0, 1.0, 2)
    np.testing.assert_allclose(found.price, 0.5 * price.sizes)
    by_name = dict(zip(found.ids, price.sizes, strict=True))
    assert by_name[three_colours.CRITICAL["blue"]] > 3 * by_name[three_colours.CRITICAL["green"]] >= 0
    assert [by_name[name] for name in three_colours.IDLE] == [0.0, 0.0]
    images = task.images.subset(priced.split.attribute)
    game = priced_game(task, images)
    live = np.random.default_rng(5).random((4000, 6)) < np.random.default_rng(6).uniform(PRICED_AT, 1, (4000, 1))
    blue = np.flatnonzero(images.labels == 2)
    slope = game.gradients(live, np.random.default_rng(7).choice(blue, 4000))[:, found.ids.index(three_colours.CRITICAL["blue"])].mean()
    assert 2 * by_name[three_colours.CRITICAL["blue"]] == pytest.approx(
        abs(slope), rel=0.3
    )  # the other of two classes loses next to nothing
    both = np.isfinite(plain.attribution.value) & np.isfinite(found.value)
    np.testing.assert_allclose(plain.attribution.value[both], found.value[both], atol=0.02)
    np.testing.assert_allclose(plain.attribution.screen, found.screen, atol=1e-12)
    assert found.ids[priced.important[0]] == three_colours.CRITICAL["green"]
    result = summarise(task, SMALL, priced, title="", command="", minutes=0.1, notices=[])
    assert result.objective == "recall of green, less 1 times the mean size of what it is to other classes"
    assert {entry.part for entry in result.costs} >= {PART, CHOOSING}
    assert [each.end for each in result.extra.extremes] == ["high"]
    assert all(entry.price is not None for entry in result.extra.extremes[0].filters)


def priced_game(task, images):
    from repairkit.objectives import Accuracy, Probability

    return game_of(task.model.classifier, Probability(Accuracy()).on(images), (images,), SMALL)


def test_where_the_others_bear_it_the_ranking_is_the_papers():
    plain, priced = (find(task_of("green"), Run.start(replace(SMALL, ranking=ranking))) for ranking in ("recall", "specific"))
    assert priced.ranking.factor == 0
    np.testing.assert_array_equal(plain.attribution.value, priced.attribution.value)
    assert plain.important.tolist() == priced.important.tolist()
    assert summarise(task_of("green"), SMALL, priced, title="", command="", minutes=0.1, notices=[]).objective == "recall of green"


def attribution(value, half_width, price=None, **changes):
    n = len(value)
    found = Attribution(
        ids=tuple(f"a:{index}" for index in range(n)), screen=np.array(value), value=np.array(value), half_width=np.full(n, half_width),
        samples=np.full(n, 100.0), decided=np.zeros(n, dtype=bool), harmful=-1, end="high", top_k=1, min_live=0.5, delta=0.05, seed=0, engine="tmab", **changes,
    )  # fmt: skip
    return found if price is None else ranked_by_price(found, np.zeros(n), np.array(price))


def test_the_price_says_who_comes_first_and_not_how_many_are_needed():
    found = attribution([0.3, 0.2, -0.1, 0.1], 0.001, price=[0.5, 0.1, 0.0, 0.2])
    assert critical_ones(found, 4).tolist() == [1, 3, 0]
    assert found.ranked.tolist() == pytest.approx([-0.2, 0.1, -0.1, -0.1])


def test_another_price_ranks_and_decides_anew_and_is_written_down(tmp_path):
    """The lead of the first over the second is .1 without a price and with one the other way round."""
    plain = attribution([0.3, 0.2, 0.0], 0.01, price=[0.0, 0.0, 0.0])
    assert (plain.extremes()["high"].tolist(), plain.decided.tolist()) == ([0], [True] * 3)
    priced = attribution([0.3, 0.2, 0.0], 0.01, price=[0.2, 0.0, 0.0])
    assert (priced.extremes()["high"].tolist(), priced.decided.tolist()) == ([1], [True] * 3)
    assert not attribution([0.3, 0.2, 0.0], 0.06, price=[0.2, 0.1, 0.0]).decided.any()
    paid = ranked_by_price(attribution([0.1, 0.2, 0.0], 0.01), np.array([0.2, 0.0, 0.0]), np.array([0.2, 0.0, 0.0]))
    np.testing.assert_allclose(paid.value, priced.value)
    np.testing.assert_allclose(paid.ranked, priced.ranked)
    priced.write(tmp_path / "a.parquet")
    again = Attribution.read(tmp_path / "a.parquet")
    np.testing.assert_array_equal(again.price, priced.price)
    assert len(attribution([0.1, 0.2, 0.3], 0.01).price) == 0


def test_half_widths_of_all_are_wider_than_those_of_one():
    """Two values .02 apart are told apart by intervals of .0095 each, but not where they are to hold for all three at once."""
    found = attribution([0.12, 0.1, 0.0], 0.0095, price=[0.0] * 3)
    assert found.decided.tolist() == [False, False, True]


def test_screens_are_made_once_for_all_classes_and_taken_up_again(tmp_path, monkeypatch):
    tasks = [task_of(name) for name in ("green", "blue")]
    made = []
    whole = module.screens_of
    monkeypatch.setattr(module, "screens_of", lambda *arguments, **named: made.append(1) or whole(*arguments, **named))

    def unfinished():
        return RunStore(tmp_path / "run", {}, command="repairkit recall --resume")

    first, second = find_each(tasks, Run.start(SMALL, store=unfinished()))
    assert len(made) == 1
    assert PART in first.passes
    assert PART not in second.passes
    assert second.attribution.passes[PART] == first.passes[PART]  # each class is charged with what its values rest on
    alone = find(tasks[1], Run.start(SMALL))
    np.testing.assert_array_equal(alone.attribution.value, second.attribution.value)
    again = find_each(tasks, Run.start(SMALL, store=unfinished()))
    np.testing.assert_array_equal(again[1].attribution.price, second.attribution.price)
    assert again[0].passes == first.passes


def test_a_screen_that_was_made_is_not_made_again(tmp_path, monkeypatch):
    """A run that is stopped between the classes goes on with the next."""
    task = task_of("green")
    kept = RunStore(tmp_path / "run", {}, command="repairkit recall --resume")
    whole = screens.screen
    made = []

    def stopped(*arguments, **named):
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(screens, "screen", stopped)
    with pytest.raises(KeyboardInterrupt):
        find(task, Run.start(SMALL, store=kept))
    find(task, Run.start(SMALL, store=kept))
    assert len(made) == 4  # one, the one that was stopped, and two more


@pytest.mark.parametrize("repair", [False, True])
def test_the_plan_bounds_the_cost_and_shares_the_screens(repair):
    tasks = [task_of(name, repair=repair) for name in ("green", "blue")]
    options = replace(SMALL, max_clean_drop=0.2)
    one = plan(tasks[0], options)
    both = plan_each(tasks, options)
    assert (both[PART], both[CHOOSING]) == (one[PART], 2 * one[CHOOSING])
    findings = find(tasks[0], Run.start(options))
    for part in (PART, CHOOSING, "attribution"):
        assert findings.passes[part] <= one[part]
    assert findings.passes[PART] == one[PART]


def test_many_classes_are_sampled_as_the_budget_pays_and_those_asked_about_have_their_own():
    """Of 60 classes 3 stand for all; one that is asked about is screened all the same, and its size counts for nobody else."""
    labels = np.repeat(np.arange(60), 2)
    options = replace(SMALL, budget=3 * ROUND / SHARE)
    sample = sampled(labels, options)
    assert len(sample) == 3
    assert sample == sampled(labels, options) != sampled(labels, replace(options, seed=2))
    assert planned_screens(labels, sample[:1], options) == 3 * ROUND
    assert planned_screens(labels, [label for label in range(4) if label not in sample][:1], options) == 4 * ROUND
    assert planned_screens(labels, [], replace(options, budget=100 * ROUND / SHARE)) == 60 * ROUND


def test_a_class_outside_the_sample_leaves_the_others_as_they_were(monkeypatch):
    monkeypatch.setattr(module, "sampled", lambda *_: [0, 2])
    task = task_of("green")
    split = split_of(task, SMALL)
    images = task.images.subset(split.attribute)
    game = game_of(task.model.classifier, worth_on(task, images, SMALL), (images,), SMALL)
    own, others = class_marginals(1, [1], game, images, Run.start(SMALL))
    assert (own.shape, others.shape) == ((6,), (2, 6))
    for together, alone in zip(*(class_marginals(2, asked, game, images, Run.start(SMALL)) for asked in ([1, 2], [2])), strict=True):
        np.testing.assert_array_equal(together, alone)


def test_a_budget_or_top_that_cannot_work_is_told_before_the_screens(monkeypatch):
    monkeypatch.setattr(module, "screens_of", lambda *_, **__: pytest.fail("screens were made"))
    with pytest.raises(BudgetError, match="the budget of 10 image passes is too small: tmab needs at least"):
        find(task_of("green"), Run.start(replace(SMALL, budget=10)))
    with pytest.raises(UsageError, match="top must be less than the 6 filters"):
        find(task_of("green"), Run.start(replace(SMALL, top=6)))


def test_what_takes_no_price_refuses_it():
    with pytest.raises(UsageError, match="ranking specific is for the engine tmab, got monte-carlo"):
        Options(engine="monte-carlo", ranking="specific")
    with pytest.raises(UsageError, match="ranking specific keeps no guarantee"):
        Options(guarantee=0.05, ranking="specific")


def test_culprits_of_a_repair_and_of_baselines_are_those_of_the_class_alone(never_free, monkeypatch):
    """What other classes lose with a filter is no reason to freeze it."""
    options = replace(SMALL, max_clean_drop=0.2, compare=("leave-one-out", "taylor"))
    suspects = []
    whole = critical_module.choose_once
    for where in (critical_module, repair_module):
        monkeypatch.setattr(where, "choose_once", lambda *arguments, **named: suspects.append(arguments[2]) or whole(*arguments, **named))
    task = task_of("green", repair=True)
    findings = [find(task, Run.start(replace(options, ranking=ranking))) for ranking in ("specific", "recall")]
    rows = [summarise(task, options, each, title="", command="", minutes=0.1, notices=[]).comparison.baselines for each in findings]
    assert [row.total for row in rows[0]] == [row.total for row in rows[1]]  # what ranks the class had no part in the choice
    assert len(suspects) == 6
    for with_price, without in zip(suspects[: len(suspects) // 2], suspects[len(suspects) // 2 :], strict=True):
        np.testing.assert_array_equal(with_price.value, without.value)
        assert with_price.harmful_players().tolist() == without.harmful_players().tolist()


def test_comparing_looks_at_the_class_beyond_the_others_at_the_passes_of_all_that_was_asked(never_free, monkeypatch):
    task = task_of("green")
    options = replace(SMALL, compare=("random", "leave-one-out"))
    budgets = []
    whole = comparing.baselines.leave_one_out
    monkeypatch.setattr(
        comparing.baselines, "leave_one_out", lambda *arguments, **named: budgets.append(named["budget"]) or whole(*arguments, **named)
    )
    findings = find(task, Run.start(options))
    result = summarise(task, options, findings, title="", command="", minutes=0.1, notices=[])
    comparison = result.comparison
    asked = sum(findings.attribution.passes.values())
    assert {PART, CHOOSING} <= set(findings.attribution.passes)
    assert comparison.metric == "recall of green less mean recall of the other classes"
    assert comparison.k == min(2, len(findings.important))
    assert [point.value for point in comparison.baselines[0].points] == pytest.approx([0.0, -1.0, -1.0], abs=0.1)
    loo = next(each for each in findings.comparison.contenders if each.name == "leave-one-out")
    assert budgets == [asked - loo.attributions[0].passes["price"]]
    assert loo.attributions[0].passes["price"] == findings.attribution.passes[PART] + 5 * len(findings.split.choose)


def test_a_baseline_in_the_unit_of_the_worth_has_the_price_that_spares_the_others_for_it(monkeypatch):
    """Not the one that was settled for the Shapley values; its order is of what is worth more than that, and nothing else is frozen."""
    task, options = task_of("green"), replace(SMALL, compare=("weight norm", "leave-one-out", "taylor"))
    asked = []
    whole = critical_module.choose_factor

    def settle(critical, *arguments, **named):
        found = whole(critical, *arguments, **named)
        asked.append((named.get("whose", ""), found.factor, critical(found.factor).tolist()))
        return found

    monkeypatch.setattr(critical_module, "choose_factor", settle)
    findings = find(task, Run.start(options))
    assert [name for name, *_ in asked] == ["", "leave-one-out", "taylor"]
    rows = {each.name: each for each in findings.comparison.contenders}
    for name, factor, critical in asked[1:]:
        found = rows[name].attributions[0]
        np.testing.assert_allclose(rows[name].scores[0], found.value - factor * findings.ranking.sizes)
        assert set(found.passes) == {name, "price"}
        assert rows[name].named == (len(critical) if len(critical) < findings.curves.counts[-1] else None)
        images, run = task.images.subset(findings.split.report), Run.start(SMALL)
        with run.phase("evaluation"):
            labels = predict(task.model.classifier, images, run, filters=findings.filters, frozen=critical)
        np.testing.assert_array_equal(rows[name].right[-1], labels == images.labels)
    assert set(rows["weight norm"].attributions[0].passes) == set()
    np.testing.assert_array_equal(rows["weight norm"].scores[0], rows["weight norm"].attributions[0].ranked)


def test_the_interval_of_the_class_beyond_the_others_covers_as_it_says():
    """True recall of the class .05 and of the 19 others .9, 36 images each; the class alone weighs as much as all others."""
    labels = np.repeat(np.arange(20), 36)
    truth = np.where(labels == 0, 0.05, 0.9)
    rng = np.random.default_rng(0)
    held = 0
    for number in range(200):
        right = (rng.random(720) < truth)[None]
        curves = AblationCurves(labels, tuple(map(str, range(20))), 0, (0,), {"highest": right.astype(float)})
        interval = recall_less_others(curves).interval(right[0].astype(float), seed=number)
        held += interval.low <= 0.05 - 0.9 <= interval.high
    assert held / 200 > 0.9
