"""Runs held against baselines: who wins, what it cost, and that it changes nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import three_colours
import tiny_faces
import torch
from adversarial_toy import ATTACKS, OPTIONS
from adversarial_toy import result_of as adversarial_result
from adversarial_toy import task as adversarial_task
from games import model_game
from networks import labelled, twelve_filters
from results import changed
from scipy import stats

from repairkit.baselines import compare as comparing
from repairkit.baselines import tables as comparison_tables
from repairkit.baselines.compare import AS_DEAR, AS_PUBLISHED, SHAPLEY, Compared, Contender, by_harm, by_value, join, suited
from repairkit.baselines.evaluation import comparison
from repairkit.baselines.rankings import BASELINES, DRAWS, suspects
from repairkit.errors import FullMemoryError, ModelWarning
from repairkit.evaluation import ablation
from repairkit.evaluation.metrics import Metric
from repairkit.experiments.adversarial import run as repairing
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.critical import result as critical_result
from repairkit.experiments.critical import run as critical
from repairkit.experiments.fairness import run as fairness
from repairkit.models import zoo
from repairkit.network.freezing import Freeze, baked_copy
from repairkit.objectives import SubgroupRecall
from repairkit.repair import choosing
from repairkit.repair.attribute import attribute_network, rank_by
from repairkit.repair.selection import Choice, eligible
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore

SMALL = Options(budget=4000, top=2, contested=6, ranking="recall", t0=0.5, seed=1)
CHEAP = {"budget": 800, "candidates": 4, "max_filters": 2}
EVERY = suited(fairness=True)


def row(result, name):
    return next(each for each in result.comparison.baselines if each.name == name)


def colours(name, compare=EVERY, **more):
    task = CriticalTask(three_colours.model(), three_colours.images(), three_colours.CLASSES.index(name) if name else None)
    options = replace(SMALL, compare=compare)
    findings = critical.find(task, Run.start(options, **more))
    return task, findings, critical_result.summarise(task, options, findings, title="t", command="c", minutes=0.1, notices=[])


@cache
def compared_colours(name):
    return colours(name)


@cache
def compared_faces(folds=1):
    return tiny_faces.small_run(folds=folds, compare=("random", "weight norm"), **CHEAP)


# ---- removal curves ----


@pytest.mark.parametrize("name", ["green", None])
def test_a_planted_filter_is_removed_sooner_than_by_norms_and_the_report_says_so(name):
    _, _, result = compared_colours(name)
    for norm in ("weight norm", "response norm", "mean activation"):
        found = row(result, norm)
        assert found.claim == "better"
        assert found.lead_low > 0
        assert found.points[-1].value == 1.0
        assert norm in result.comparison.sentences[0].partition("it beats")[2].partition("cannot be told")[0]
    assert row(result, "leave-one-out").claim == "no claim"
    assert "measurably loses to none" in result.comparison.sentences[0]
    assert row(result, SHAPLEY).lead is None


def test_the_curve_area_and_lead_of_a_norm_are_what_freezing_its_filters_by_hand_gives():
    task, findings, result = compared_colours("green")
    network, found = task.model.classifier.network, row(result, "weight norm")
    order = np.argsort(-np.linalg.norm(network[0].weight.detach().flatten(1).double().numpy(), axis=1))
    images = task.images.subset(findings.split.report)
    own = images.labels == task.label
    heights = {}
    for contender, players in (("theirs", order), ("ours", findings.attribution.extremes(2)["high"])):
        heights[contender] = []
        for count in findings.curves.counts:
            constants = {findings.filters.ids[player]: float(findings.filters.constants[player]) for player in players[:count]}
            with Freeze(network, constants), torch.no_grad():
                heights[contender].append((network(images.batch(np.arange(len(images)))).argmax(1).numpy() == images.labels).astype(float))
    assert [point.value for point in found.points] == [right[own].mean() for right in heights["theirs"]]
    assert [point.beside for point in found.points] == pytest.approx(
        [np.mean([right[images.labels == label].mean() for label in (0, 2)]) for right in heights["theirs"]]
    )
    areas = {
        each: sum((curve[k][own].mean() + curve[k + 1][own].mean()) / 2 for k in range(2)) / 2  # at 0, 1 and 2 filters
        for each, curve in heights.items()
    }
    assert findings.curves.counts == (0, 1, 2)
    assert found.area == pytest.approx(areas["theirs"])
    assert found.lead == pytest.approx(areas["theirs"] - areas["ours"])


def test_passes_are_those_of_the_shapley_values_at_most_but_for_the_published_conductance():
    task, findings, result = compared_colours(None)
    spent = sum(findings.attribution.passes.values())
    assert row(result, SHAPLEY).passes == spent
    for each in result.comparison.baselines:
        if each.passes is not None and each.name != AS_PUBLISHED:
            assert each.passes <= spent
    assert row(result, AS_DEAR).images == int(spent / 153)
    assert (row(result, AS_PUBLISHED).images, row(result, AS_PUBLISHED).passes) == (48, 48 * 153)
    measured = (
        7 * 2 * 48
    )  # with 1 and 2 frozen; with none it is what the Shapley values' curve begins with, and random filters are the control
    booked = next(cost.passes for cost in result.costs if cost.part == "baselines")
    assert booked == pytest.approx(sum(each.passes or 0 for each in result.comparison.baselines[1:]) + measured)
    assert booked <= critical.plan(task, replace(SMALL, compare=EVERY))["baselines"]


def test_agreement_is_spearmans_over_filters_that_both_value_and_the_overlap_of_the_first():
    _, findings, result = compared_colours(None)
    for each in findings.comparison.contenders[1:]:
        if each.why_not:
            continue
        ours, theirs = findings.attribution.value, each.attributions[0].value
        both = np.isfinite(ours) & np.isfinite(theirs)
        found = row(result, each.name)
        assert found.both == both.sum()
        assert found.rank_correlation == pytest.approx(stats.spearmanr(ours[both], theirs[both]).statistic)
        assert found.overlap == len({*np.argsort(-ours)[:2]} & {*np.argsort(-theirs, kind="stable")[:2]}) / 2


def test_what_cannot_be_compared_says_why_and_nothing_fails():
    _, _, result = compared_colours(None)
    assert row(result, "fairprune").why_not == (
        "fairprune compares subgroups, got Probability(Accuracy()) on colours; it is for repairs of fairness"
    )
    game = model_game(twelve_filters(), SubgroupRecall().on(labelled(9)), batch=4)
    shapley = replace(suspects(comparing.baselines.weight_norm(game)), passes={"flips": 3.0})
    found = comparing.compare(game, shapley, Run.start(Options(compare=("leave-one-out", "taylor", "conductance"))), seed=0, ranking=comparing.Ranking(by_harm, lambda each: np.argsort(-by_harm(each))), curve=comparing.Curve((0, 1), lambda frozen: np.full(9, len(frozen) == 0)))  # fmt: skip
    reasons = {each.name: each.why_not for each in found.contenders}
    assert reasons["leave-one-out"].startswith("leave-one-out of 12 filters costs ")
    assert reasons[AS_DEAR] == "conductance of 12 filters costs 153 image passes for one image, got a budget of 3"
    assert reasons[SHAPLEY] == reasons["taylor"] == reasons[AS_PUBLISHED] == ""
    rich = replace(shapley, passes={"flips": 9 * 153.0})
    found = comparing.compare(game, rich, Run.start(Options(compare=("conductance",))), seed=0, ranking=comparing.Ranking(by_harm, lambda each: np.argsort(-by_harm(each))), curve=comparing.Curve((0, 1), lambda frozen: np.full(9, len(frozen) == 0)))  # fmt: skip
    assert found.contenders[-1].why_not == f"{AS_PUBLISHED} takes all 9 images that find already, and the passes pay for more"


def test_first_filters_stand_with_value_and_place_under_both():
    _, findings, result = compared_colours("green")
    first = result.comparison.ranked[0]
    assert (f"{first.layer}:{first.channel}", first.rank) == (three_colours.CRITICAL["green"], 1)
    conductance = next(each for each in findings.comparison.contenders if each.name == AS_PUBLISHED).attributions[0]
    assert result.comparison.other == AS_PUBLISHED
    for entry in result.comparison.ranked:
        player = findings.attribution.ids.index(f"{entry.layer}:{entry.channel}")
        assert (entry.value, entry.other_value) == (findings.attribution.value[player], conductance.value[player])
        assert entry.other_rank == 1 + list(np.argsort(-conductance.value, kind="stable")).index(player)
    assert comparison_tables.ranked(result.comparison).caption.startswith("First filters: ")
    own, *others = result.comparison.baselines
    folded = result.comparison.model_copy(update={"baselines": [own.model_copy(update={"frozen": [3, 4]}), *others]})
    assert comparison_tables.ranked(folded).caption.startswith("First filters, in the first of 2 folds: ")


# ---- statistics ----


def test_a_loss_is_said_first_and_one_that_may_be_chance_is_none():
    rng = np.random.default_rng(0)
    rows = {SHAPLEY: 0.5, "taylor": 0.1, "random": 0.95, "weight norm": 0.52}
    game = model_game(twelve_filters(), SubgroupRecall().on(labelled(9)), batch=4)
    found = comparing.baselines.weight_norm(game)
    outcomes = {name: np.stack([np.ones(300), (rng.random(300) < share).astype(float)]) for name, share in rows.items()}
    contenders = [Contender(name, (found,), (found.value,), right) for name, right in outcomes.items()]
    metric = Metric("accuracy", np.zeros(300), {0: 1.0}, lower_is_better=True)
    result = comparison(Compared((0, 4), tuple(contenders)), metric, order="highest value first")
    assert [each.claim for each in result.baselines] == [None, "worse", "better", "no claim"]
    said = result.sentences[0]
    assert "loses to taylor (by 18.8 points; " in said
    assert "n = 300); it beats random (by 25.5 points; " in said
    assert said.endswith("it cannot be told from weight norm.")
    assert result.baselines[1].lead == pytest.approx((outcomes["taylor"][1].mean() - outcomes[SHAPLEY][1].mean()) / 2)
    rising = comparison(Compared((0, 4), tuple(contenders)), replace(metric, lower_is_better=False), order="most harmful first")
    assert [each.claim for each in rising.baselines] == [None, "better", "worse", "no claim"]


def test_claims_hold_for_all_baselines_together():
    found = comparing.baselines.weight_norm(model_game(twelve_filters(), SubgroupRecall().on(labelled(9)), batch=4))
    images = np.arange(400)
    right = {
        SHAPLEY: (images < 163).astype(float),
        "taylor": ((images < 150) | (images >= 373)).astype(float),
        "weight norm": np.ones(400),
    }

    def entries(*names):
        contenders = [Contender(name, (found,), (found.value,), np.stack([np.ones(400), right[name]]), after=right[name]) for name in names]
        metric = Metric("accuracy", np.zeros(400), {0: 1.0})
        result = comparison(Compared((0, 4), tuple(contenders)), metric, order="", before=np.ones(400), judged=(metric,))
        return next(each for each in result.baselines if each.name == "taylor"), result.sentences

    (alone, said), (among, said_together) = entries(SHAPLEY, "taylor"), entries(SHAPLEY, "taylor", "weight norm")
    for one, other in ((alone, among), (alone.selections[0], among.selections[0])):
        assert (one.lead, one.lead_low, one.lead_high) == (other.lead, other.lead_low, other.lead_high)
        assert one.lead_high < 0
        assert (one.claim, other.claim) == ("worse", "no claim")
    assert "the 97.5% interval must exclude zero" in said_together[-1]
    assert not any("together" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("random", "shapley", "concluded"),
    [
        (0.5, 0.9, "of the selection alone no gain can be shown, and these candidates win more than random ones"),
        (0.7, 0.9, "the selection alone gains as well, and more comes with the candidates"),
        (0.895, 0.9, "these images do not show that more of the gain comes from the candidates than the selection alone would win"),
        (0.95, 0.8, "the gain does not come from the candidates, since random ones do better"),
        (0.5, 0.51, "the repair itself shows no gain that could come from either"),
    ],
)
def test_where_the_gain_comes_from_follows_from_the_numbers(random, shapley, concluded):
    game = model_game(twelve_filters(), SubgroupRecall().on(labelled(9)), batch=4)
    found = comparing.baselines.weight_norm(game)

    def right(share):
        return (np.arange(400) < 400 * share).astype(float)

    contenders = tuple(
        Contender(name, (found,), (found.value,), np.ones((1, 400)), after=right(share))
        for name, share in ((SHAPLEY, shapley), ("random", random))
    )
    metric = Metric("mean recall", np.zeros(400), {0: 1.0})
    result = comparison(Compared((0,), contenders), metric, order="most harmful first", before=right(0.5), judged=(metric,))
    assert [each.area for each in result.baselines] == [None, None]
    assert concluded in result.sentences[0]
    assert result.baselines[1].selections[0].lead == pytest.approx(shapley - random)


def orders_of(lengths, counts=(0, 2, 8), names=("weight norm",)):
    """A comparison in which the Shapley values name `lengths[0]` filters and each baseline `lengths[1]`, and the worth falls by an image a filter."""
    game = model_game(twelve_filters(), SubgroupRecall().on(labelled(9)), batch=4)
    shapley = replace(suspects(comparing.baselines.weight_norm(game)), passes={"flips": 3.0})
    frozen = []

    def measure(players):
        frozen.append(list(players))
        return np.arange(9) >= len(players)

    found = comparing.compare(game, shapley, Run.start(Options(compare=names)), seed=5, ranking=comparing.Ranking(by_harm, lambda each: np.argsort(-by_harm(each))[: lengths[0] if each is shapley else lengths[1]].tolist()), curve=comparing.Curve(counts, measure))  # fmt: skip
    return found, frozen


@pytest.mark.parametrize("lengths", [(3, 12), (12, 3), (12, 12), (1, 12), (12, 0)])
def test_a_curve_goes_on_as_it_is_where_its_order_names_no_more(lengths):
    """And no other curve is cut short for it."""
    found, frozen = orders_of(lengths)
    assert found.counts == (0, 2, 8)
    for each, length in zip(found.contenders, lengths, strict=True):
        assert each.right.sum(axis=1).tolist() == [9 - min(count, length) for count in (0, 2, 8)]
        assert each.named == (length if length < 8 else None)
    assert len(frozen) == len({0, *(min(count, lengths[0]) for count in (2, 8))}) + len({min(count, lengths[1]) for count in (2, 8)})
    table = comparison(found, Metric("accuracy", np.zeros(9), {0: 1.0}), order="most harmful first")
    assert [[point.filters for point in each.points] for each in table.baselines] == [[0, 2, 8]] * 2
    told = [sentence for sentence in table.sentences if "names" in sentence]
    short = [(each.name, length) for each, length in zip(found.contenders, lengths, strict=True) if length < 8]
    assert told == [
        f"{name} names {length} filter{'' if length == 1 else 's'} alone; where more are frozen, its curve is that of these."
        for name, length in short
    ]


def test_where_nothing_was_frozen_there_is_nothing_to_measure_and_nothing_fails():
    found, frozen = orders_of((12, 12), counts=(0,))
    assert [each.right.shape for each in found.contenders] == [(1, 9)] * 2
    assert frozen == [[]]


def test_a_full_memory_of_one_baseline_leaves_the_passes_of_the_next_alone(monkeypatch):
    """What is kept of the one says nothing of the other, so that a run that goes on makes it in passes as large."""
    sizes = {}

    def made(row, game, *_):
        sizes.setdefault(row, []).append(game.batch)
        if row == "weight norm" and game.batch > 2:
            raise FullMemoryError("memory ran out")
        return comparing.baselines.weight_norm(game)

    monkeypatch.setattr(comparing, "_made", made)
    with pytest.warns(ModelWarning, match=r"memory ran out \(weight norm\): passes now carry 2 images"):
        orders_of((12, 12), names=("weight norm", "taylor"))
    assert sizes == {"weight norm": [4, 2], "taylor": [4]}


def test_work_of_another_meaning_is_not_taken_up():
    plain = Options()
    assert "comparing" not in plain.configuration
    assert replace(plain, compare=("random",)).configuration["comparing"] == replace(plain, alternatives=True).configuration["comparing"]


def test_of_folds_the_fewest_named_are_told():
    joined = join([orders_of(lengths)[0] for lengths in ((12, 12), (12, 3), (12, 5))], [9, 9, 9])
    assert joined.counts == (0, 2, 8)
    assert [each.right.shape for each in joined.contenders] == [(3, 27)] * 2
    assert [each.named for each in joined.contenders] == [None, 3]
    table = comparison(joined, Metric("accuracy", np.zeros(27), {0: 1.0}), order="most harmful first")
    assert "weight norm names 3 filters alone in one of the folds; where more are frozen, its curve is that of these." in table.sentences


def test_the_curve_of_random_filters_is_the_mean_of_several_orders():
    found, frozen = orders_of((12, 12), counts=(0, 4), names=("random", "weight norm"))
    drawn = [tuple(players) for players in frozen if len(players) == 4][1:-1]  # the first is of the Shapley values, the last of the norm
    assert len(set(drawn)) == len(drawn) == DRAWS
    network = twelve_filters()
    game = model_game(network, SubgroupRecall().on(labelled(9)), batch=4)
    random = next(each for each in found.contenders if each.name == "random")
    assert drawn[0] == tuple(np.argsort(-comparing.baselines.random(game, seed=5).value)[:4])

    def measure(players):  # image i is right unless filter i is frozen
        return ~np.isin(np.arange(9), players)

    shapley = replace(suspects(comparing.baselines.weight_norm(game)), passes={"flips": 3.0})
    again = comparing.compare(game, shapley, Run.start(Options(compare=("random",))), seed=5, ranking=comparing.Ranking(by_harm, lambda each: np.argsort(-by_harm(each)).tolist()), curve=comparing.Curve((0, 4), measure))  # fmt: skip
    np.testing.assert_allclose(again.contenders[1].right[1], np.mean([measure(players) for players in drawn], axis=0))
    assert random.right[1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_folds_are_joined_image_by_image_and_shared_images_averaged():
    def fold(own, shared, why_not=""):
        right = np.array([[*own, *shared]], dtype=float)
        weak = Contender("taylor", why_not=why_not) if why_not else Contender("taylor", right=right)
        return Compared((0,), (Contender(SHAPLEY, right=right, after=right[0]), weak))

    joined = join([fold([1, 0], [1, 1]), fold([0], [0, 1], "too dear")], [2, 1])
    assert joined.contenders[0].right.tolist() == [[1, 0, 0, 0.5, 1]]
    assert joined.contenders[0].after.tolist() == [1, 0, 0, 0.5, 1]
    assert joined.contenders[1].why_not == "too dear"


# ---- the run itself, kept work ----


def test_a_run_that_compares_finds_what_one_that_does_not_compare_finds():
    _, alone, result = colours("green", compare=())
    _, compared, with_baselines = compared_colours("green")
    assert result.comparison is None
    np.testing.assert_array_equal(alone.attribution.value, compared.attribution.value)
    np.testing.assert_array_equal(alone.curves.outcomes["highest"], compared.curves.outcomes["highest"])
    np.testing.assert_array_equal(alone.curves.outcomes["random"], compared.curves.outcomes["random"])
    assert alone.passes == {part: passes for part, passes in compared.passes.items() if part != "baselines"}
    assert changed(with_baselines, {"comparisons": {}, "costs": [], "reproduction": None}) == changed(
        result, {"costs": [], "reproduction": None}
    )


def test_every_draw_of_random_filters_keeps_to_those_that_the_order_may_name():
    """Pruning leaves out filters that must stay."""
    game = model_game(twelve_filters(), SubgroupRecall().on(labelled(9)), batch=4)
    shapley = replace(suspects(comparing.baselines.weight_norm(game)), passes={"flips": 3.0})
    frozen = []

    def measure(players):
        frozen.append(tuple(players))
        return np.ones(9, dtype=bool)

    comparing.compare(game, shapley, Run.start(Options(compare=("random",))), seed=5, ranking=comparing.Ranking(by_harm, lambda each: [player for player in np.argsort(-each.value).tolist() if player % 2]), curve=comparing.Curve((0, 4), measure))  # fmt: skip
    drawn = [players for players in frozen if players][1:]
    assert len(set(drawn)) == DRAWS
    assert {player % 2 for players in drawn for player in players} == {1}


def test_random_filters_are_those_of_the_control_and_measured_once():
    _, findings, result = compared_colours(None)
    contender = next(each for each in findings.comparison.contenders if each.name == "random")
    np.testing.assert_array_equal(contender.right, findings.curves.outcomes["random"][: len(contender.right)])
    control = [point.value for point in result.extra.curves if (point.series, point.metric) == ("random", "accuracy")]
    assert [point.value for point in row(result, "random").points] == pytest.approx(control)
    first = comparing.baselines.random_order(len(findings.filters), seed=SMALL.seed)
    assert np.argsort(-contender.attributions[0].value).tolist() == first.tolist()


def test_what_was_kept_is_not_made_again_and_the_bits_are_the_same(tmp_path, monkeypatch):
    task, whole, result = compared_colours("green")
    options = replace(SMALL, compare=EVERY)

    def unfinished():
        return RunStore(tmp_path / "run", critical.configuration(task, options), command="repairkit recall --resume")

    real = comparing.baselines.leave_one_out

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing.baselines, "leave_one_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        critical.find(task, Run.start(options, store=unfinished()))
    kept = tmp_path / "run.unfinished" / "class-1" / "baselines"
    assert sorted(each.name for each in kept.iterdir()) == ["mean-activation", "random", "response-norm", "weight-norm"]
    monkeypatch.setattr(comparing.baselines, "leave_one_out", real)
    for name in ("random", "weight_norm", "response_norm", "mean_activation"):
        monkeypatch.setattr(comparing.baselines, name, lambda *_, **__: pytest.fail("made again"))
    again = critical.find(task, Run.start(options, store=unfinished()))
    found = critical_result.summarise(task, options, again, title="t", command="c", minutes=0.1, notices=[])
    assert found.comparison == result.comparison
    assert again.passes == whole.passes


def test_all_that_suits_is_compared():
    assert set(suited(fairness=True)) == set(BASELINES)
    assert set(BASELINES) - set(suited(fairness=False)) == {"fairprune"}


# ---- repairs ----


def test_a_class_is_repaired_from_the_candidates_of_each():
    images = tiny_faces.shrunk(tiny_faces.drawn.target_faces(per_group=20, seed=3), name="tiny faces")
    task = CriticalTask(zoo.load(tiny_faces.spoilt_weights()), images, images.classes.index("male"), repair=True)
    options = replace(SMALL, budget=1600, contested=None, t0=0.97, max_clean_drop=1.0, max_filters=2, candidates=6, compare=("random",))
    findings = critical.find(task, Run.start(options))
    result = critical_result.summarise(task, options, findings, title="t", command="c", minutes=0.1, notices=[])
    own = next(entry for entry in result.differences if entry.group == "male")
    ours = row(result, SHAPLEY).selections[0]
    assert (ours.change, ours.change_low, ours.change_high) == (own.value, own.low, own.high)
    after, entry = findings.comparison.contenders[1].after, row(result, "random").selections[0]
    mine = findings.curves.labels == task.label
    assert entry.value == pytest.approx(after[mine].mean())
    assert entry.lead == pytest.approx(findings.repair.repaired[mine].mean() - after[mine].mean())
    assert result.comparison.sentences[1] == f"Of random filters {DRAWS} orders were drawn; the interval is that of these."
    assert "Forward selection from random candidates (one draw, for which alone" in result.comparison.sentences[2]


@pytest.mark.parametrize("folds", [1, 3])
def test_a_fairness_repair_is_compared_on_the_images_of_its_report(folds):
    task, options, findings, result = compared_faces(folds)
    ours = row(result, SHAPLEY)
    for entry, metric in zip(ours.selections, ("mean recall", "source accuracy"), strict=True):
        share = result.share("repaired", metric)
        assert (entry.n, entry.value, entry.low, entry.high) == pytest.approx((share.n, share.value, share.low, share.high))
        difference = next(e for e in result.differences if (e.first, e.second, e.metric) == ("original", "repaired", metric))
        assert (entry.change, entry.change_low, entry.change_high) == pytest.approx((difference.value, difference.low, difference.high))
    assert ours.frozen == [network.rounds[0].choice.chosen for network in findings.repairs]
    recall, accuracy = (
        [getattr(point, field) for point in result.extra.curves if point.series == "most negative first"]
        for field in ("mean_recall", "source_accuracy")
    )
    if folds == 1:
        assert [point.value for point in ours.points] == pytest.approx(np.add(recall, accuracy))
    assert findings.passes["baselines"] <= fairness.plan(task, options)["baselines"]


def test_a_fairness_repair_from_a_norm_is_what_its_weights_do():
    task, options, findings, result = compared_faces()
    (split,), source = fairness.splits(task, options)
    compared = findings.repairs[0].compared
    (norm,) = (each for each in compared.contenders if each.name == "weight norm")
    assert norm.attributions[0].engine == "weight norm"
    choice = norm.choices[0]
    game = attribute_network(
        task.model.classifier,
        rank_by(SubgroupRecall(), options),
        (task.target.subset(split.attribute), task.source.subset(source.attribute)),
        Run.start(options),
        seed=0,
    ).game
    constants = {game.filters.ids[player]: float(game.filters.constants[player]) for player in choice.players}
    network = task.model.classifier.with_network(baked_copy(task.model.classifier.network, constants))
    entry = row(result, "weight norm").selections[1]
    images, run = task.source.subset(source.report), Run.start(options)
    with run.phase("evaluation"):
        right = fairness.predict(network, images, run) == images.labels
    assert entry.value == pytest.approx(right.mean())
    pool = eligible(game.filters, suspects(norm.attributions[0]), choice.candidates)
    assert len(pool) == choice.candidates
    assert set(choice.players) <= set(pool)
    assert row(result, "weight norm").lead is not None


def test_what_a_baselines_values_cost_less_is_spent_on_more_candidates():
    _, options, findings, result = compared_faces(3)
    spent, chosen = (
        [f(each) for each in findings.repairs] for f in (lambda e: sum(e.attribution.passes.values()), lambda e: e.rounds[0].choice)
    )
    ours, norm = row(result, SHAPLEY), row(result, "weight norm")
    assert ours.candidates == [options.candidates] * 3
    assert norm.candidates == [round(4 * (1 + values / choice.passes)) for values, choice in zip(spent, chosen, strict=True)]
    assert min(norm.candidates) > options.candidates
    assert ours.total == pytest.approx(np.mean(spent) + np.mean([choice.passes for choice in chosen]))
    assert (norm.passes, norm.total) == (0, norm.choosing)
    assert chosen[0].passes < norm.total < 1.25 * ours.total
    tried = [each for each in result.comparison.baselines if each is not ours]
    low, high = (f"{f(each.total for each in tried):,.0f}" for f in (min, max))
    assert f"image passes with the Shapley values and {low} to {high} with a baseline." in result.comparison.sentences[-2]


def test_dearer_values_keep_their_candidates_and_taking_the_most_harmful_first_has_no_use_for_more():
    choice = Choice((), 1, "", passes=100.0, candidates=30)
    by = {spare: comparing.spending(SMALL, choice, spare).candidates for spare in (-50.0, 0.0, 100.0)}
    assert by == {-50.0: 40, 0.0: 40, 100.0: 60}
    prefix = replace(SMALL, strategy="prefix")
    assert comparing.spending(prefix, choice, 100.0) is prefix


def test_an_unsigned_baseline_accuses_what_matters_most_and_a_signed_one_what_harms():
    game = model_game(twelve_filters(), SubgroupRecall().on(labelled(9)), batch=4)
    norm, slope = comparing.baselines.weight_norm(game), comparing.baselines.taylor(game, budget=1e6, seed=0)
    np.testing.assert_array_equal(by_harm(norm), norm.value)
    np.testing.assert_array_equal(by_harm(slope), -slope.value)
    np.testing.assert_array_equal(by_value(slope), slope.value)


def test_an_adversarial_repair_is_compared_along_its_frontier_and_from_the_same_choosing(tmp_path, monkeypatch):
    options = replace(OPTIONS, compare=("random", "mean activation", "weight norm", "leave-one-out"))
    asked = adversarial_task()
    unfinished = RunStore(tmp_path / "run", repairing.configuration(asked, options, ATTACKS), command="repairkit adversarial --resume")
    findings = repairing.repair(asked, Run.start(options, store=unfinished), ATTACKS)
    result = adversarial_result(asked, options, ATTACKS, findings)
    ours = row(result, SHAPLEY)
    line = [point for point in result.extra.frontier if point.series == "highest value first"]
    assert "leave-one-out names 4 filters alone; where more are frozen, its curve is that of these." in result.comparison.sentences
    assert [point.value for point in ours.points] == pytest.approx([point.success - point.clean for point in line])
    assert [point.filters for point in ours.points] == [point.filters for point in line]
    for entry, metric, group in zip(ours.selections, ("target success", "clean accuracy"), ("replay", None), strict=True):
        assert entry.value == result.share("repaired", metric, group).value
        difference = next(e for e in result.differences if (e.metric, e.group) == (metric, group))
        assert (entry.change, entry.change_low, entry.change_high) == (difference.value, difference.low, difference.high)
    colour_first = row(result, "mean activation")
    assert colour_first.claim == "better"
    assert row(result, "random").candidates == [9]  # every filter of this network, at no more passes
    assert row(result, "random").total < ours.total
    assert row(result, "leave-one-out").selections[0].value == 0
    assert any("these images do not show that more of the gain comes from" in sentence for sentence in result.comparison.sentences)
    assert findings.passes["baselines"] <= repairing.plan(asked, options, ATTACKS)["baselines"]

    with monkeypatch.context() as patch:
        patch.setattr(choosing, "choose", lambda *_, **__: pytest.fail("chosen again"))
        ask = repairing.predict
        patch.setattr(ablation, "predict", lambda *_, **__: pytest.fail("measured again"))
        patch.setattr(
            repairing, "predict", lambda *given, frozen=(), **more: pytest.fail("measured again") if frozen else ask(*given, **more)
        )
        resumed = repairing.repair(asked, Run.start(options, store=unfinished), ATTACKS)
    assert adversarial_result(asked, options, ATTACKS, resumed).comparison == result.comparison
    assert resumed.passes == findings.passes

    again = repairing.repair(asked, Run.start(OPTIONS), ATTACKS)
    assert again.rounds[0].choice == findings.rounds[0].choice
    assert again.passes == {part: passes for part, passes in findings.passes.items() if part != "baselines"}


def test_a_network_that_is_not_fooled_is_not_compared():
    options = replace(OPTIONS, compare=("random",))
    findings = repairing.repair(
        adversarial_task(fragile=False), Run.start(options), replace(ATTACKS, effort=replace(ATTACKS.effort, queries=1))
    )
    assert findings.compared is None


def test_a_fairness_repair_that_compares_is_the_same_repair():
    _, _, alone, _ = tiny_faces.small_run(**CHEAP)
    _, _, findings, _ = compared_faces()
    assert alone.repairs[0].rounds[0].choice == findings.repairs[0].rounds[0].choice
    np.testing.assert_array_equal(alone.repairs[0].attribution.value, findings.repairs[0].attribution.value)
