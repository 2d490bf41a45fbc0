"""Class-specific ranking: what other classes lose with a filter counts against it, at the least price that spares them."""

from dataclasses import replace

import numpy as np
import pytest
import three_colours

from repairkit import specific as module
from repairkit.attributing import game_of
from repairkit.clock import Clock
from repairkit.critical import CriticalTask, find, find_each, plan, plan_each, split_of, worth_on
from repairkit.critical_summary import summarise
from repairkit.errors import BudgetError, ModelWarning, UsageError
from repairkit.options import Options
from repairkit.specific import CHOOSING, FACTORS, PART, ROUND, SHARE, Elsewhere, planned_screens, sampled, specific
from repairkit.unfinished import Unfinished

SMALL = Options(budget=4000, top=2, contested=6, ranking="specific", t0=0.5, seed=1)
LABELS = np.array([0, 0, 1, 1, 2, 2])


def task_of(name, **options):
    return CriticalTask(three_colours.model(), three_colours.images(), three_colours.CLASSES.index(name), **options)


def chosen(screens, costs, **options):
    """With filters frozen each costs so much of the recall of the others."""
    clock = Clock(None, 0)

    def right(frozen):
        counted = np.ones(6)
        counted[2:] -= sum(costs[player] for player in frozen)
        return counted

    own, *others = np.array(screens)
    apart = [np.flatnonzero(label == LABELS) for label in (1, 2)]
    return specific(own, np.array(others), apart, right, most=2, options=Options(**options), clock=clock), clock


@pytest.fixture
def never_free(monkeypatch):
    """Of three colours each hangs on a filter of its own, so that no price is needed; with this one is paid all the same."""
    monkeypatch.setattr(module, "FACTORS", FACTORS[1:])


SCREENS = [[0.5, 0.4, 0.1, 0.1], [0.2, -0.1, 0.0, 0.0], [-0.2, 0.1, 0.02, 0.0]]
"""The first filter helps one class and harms another as much: its mean over them is 0, its size is not."""


@pytest.mark.parametrize(
    ("costs", "factor", "passes"),
    [([0, 0, 0, 0], 0.0, 12), ([0.5, 0.0, 0.0, 0.0], 3.0, 24), ([0.5, 0.5, 0.0, 0.0], 10.0, 30)],
)
def test_the_least_price_that_spares_the_others(costs, factor, passes):
    found, clock = chosen(SCREENS, costs)
    assert (found.factor, found.spared, found.fall) == (factor, True, 0.0)
    np.testing.assert_allclose(found.prices, factor * np.array([0.2, 0.1, 0.01, 0.0]))
    assert clock.passes == {CHOOSING: passes}


def test_the_guard_is_what_the_options_allow():
    costs = [0.02, 0.0, 0.0, 0.0]
    assert chosen(SCREENS, costs, max_clean_drop=0.01)[0].factor == 3
    assert chosen(SCREENS, costs, max_clean_drop=0.03)[0].factor == 0


def test_where_no_price_spares_them_the_last_is_taken_and_told():
    with pytest.warns(ModelWarning, match=r"at every price up to 30 times .* fall by more than 1 points .*\(20\.0\); give a smaller --top"):
        found, clock = chosen(SCREENS, [0.1] * 4)
    assert (found.factor, found.spared, found.fall) == (FACTORS[-1], False, pytest.approx(0.2))
    assert clock.passes == {CHOOSING: 6 * (1 + len(FACTORS))}


def test_values_are_less_by_the_price_and_the_report_says_so(never_free):
    task = task_of("green")
    plain, priced = (find(task, replace(SMALL, ranking=ranking)) for ranking in ("recall", "specific"))
    assert plain.specific is None
    price = priced.specific
    assert price.spared
    assert price.factor == 1.0
    by_name = dict(zip(priced.attribution.ids, price.prices, strict=True))
    assert by_name[three_colours.CRITICAL["blue"]] > 3 * by_name[three_colours.CRITICAL["green"]] >= 0
    assert [by_name[name] for name in three_colours.IDLE] == [0.0, 0.0]
    both = np.isfinite(plain.attribution.value) & np.isfinite(priced.attribution.value)
    np.testing.assert_allclose((plain.attribution.value - priced.attribution.value)[both], 0.5 * price.prices[both], atol=0.02)
    assert priced.attribution.ids[priced.critical[0]] == three_colours.CRITICAL["green"]
    result = summarise(task, SMALL, priced, title="", command="", minutes=0.1, notices=[])
    assert result.objective == "recall of green, less 1 times what other classes lose"
    assert any("That factor is the least of 0, 1, 3, 10 and 30 with which the highest 2" in sentence for sentence in result.method)
    assert {entry.part for entry in result.costs} >= {PART, CHOOSING}


def test_where_the_others_bear_it_the_ranking_is_the_papers():
    plain, priced = (find(task_of("green"), replace(SMALL, ranking=ranking)) for ranking in ("recall", "specific"))
    assert priced.specific.factor == 0
    np.testing.assert_array_equal(plain.attribution.value, priced.attribution.value)
    assert summarise(task_of("green"), SMALL, priced, title="", command="", minutes=0.1, notices=[]).objective == "recall of green"


def test_a_filter_that_the_class_needs_is_frozen_though_its_value_less_price_is_negative(never_free):
    """The price says which filters come first, and not how many the class needs."""
    priced = find(task_of("green"), SMALL)
    value = priced.attribution.value[priced.critical]
    own = value + 0.5 * priced.specific.prices[priced.critical]
    assert (own > 0).all()
    assert (np.diff(value) <= 0).all()


def test_screens_are_made_once_for_all_classes_and_taken_up_again(tmp_path, monkeypatch):
    tasks = [task_of(name) for name in ("green", "blue")]
    made = []
    whole = module.screens_of
    monkeypatch.setattr(module, "screens_of", lambda *arguments, **named: made.append(1) or whole(*arguments, **named))

    def unfinished():
        return Unfinished(tmp_path / "run", {}, command="repairkit recall --resume")

    first, second = find_each(tasks, SMALL, unfinished=unfinished())
    assert len(made) == 1
    assert PART in first.passes
    assert PART not in second.passes
    alone = find(tasks[1], SMALL)
    np.testing.assert_array_equal(alone.attribution.value, second.attribution.value)
    again = find_each(tasks, SMALL, unfinished=unfinished())
    np.testing.assert_array_equal(again[1].specific.prices, second.specific.prices)
    assert again[0].passes == first.passes


@pytest.mark.parametrize("repair", [False, True])
def test_the_plan_bounds_the_cost_and_shares_the_screens(repair):
    tasks = [task_of(name, repair=repair) for name in ("green", "blue")]
    options = replace(SMALL, max_clean_drop=0.2)
    one = plan(tasks[0], options)
    both = plan_each(tasks, options)
    assert (both[PART], both[CHOOSING]) == (one[PART], 2 * one[CHOOSING])
    findings = find(tasks[0], options)
    for part in (PART, CHOOSING, "attribution"):
        assert findings.passes[part] <= one[part]
    assert findings.passes[PART] == one[PART]


def test_culprits_of_a_repair_are_those_of_the_class_alone(never_free):
    """What other classes lose with a filter is no reason to freeze it."""
    options = replace(SMALL, max_clean_drop=0.2)
    with_price, without = (
        find(task_of("green", repair=True), replace(options, ranking=ranking)).repair.attribution for ranking in ("specific", "recall")
    )
    np.testing.assert_array_equal(with_price.value, without.value)


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
    assert task.label == 1
    split = split_of(task, SMALL)
    images = task.images.subset(split.attribute)
    game = game_of(task.model.classifier, worth_on(task, images, SMALL), (images,), SMALL)
    own, others = Elsewhere([1]).of(1, 0.5, game, images, SMALL, Clock(None, 0))
    assert (own.shape, others.shape) == ((6,), (2, 6))
    _, one = Elsewhere([1, 2]).of(2, 0.5, game, images, SMALL, Clock(None, 0))
    np.testing.assert_array_equal(one, others[:1])


def test_a_budget_or_top_that_cannot_work_is_told_before_the_screens(monkeypatch):
    monkeypatch.setattr(module, "screens_of", lambda *_, **__: pytest.fail("screens were made"))
    with pytest.raises(BudgetError, match="the budget of 10 image passes is too small: tmab needs at least"):
        find(task_of("green"), replace(SMALL, budget=10))
    with pytest.raises(UsageError, match="top must be less than the 6 filters"):
        find(task_of("green"), replace(SMALL, top=6))


def test_what_takes_no_price_refuses_it():
    with pytest.raises(UsageError, match="ranking specific is for the engine tmab, got monte-carlo"):
        Options(engine="monte-carlo", ranking="specific")


def test_comparing_looks_at_the_class_beyond_the_others(never_free):
    task = task_of("green")
    options = replace(SMALL, compare=("random", "leave-one-out"))
    result = summarise(task, options, find(task, options), title="", command="", minutes=0.1, notices=[])
    comparison = result.comparison
    assert comparison.metric == "recall of green less mean recall of the other classes"
    assert [point.value for point in comparison.baselines[0].points] == pytest.approx([0.0, -1.0, -1.0], abs=0.1)
    assert any("leave-one-out and Taylor" in sentence for sentence in result.method)
