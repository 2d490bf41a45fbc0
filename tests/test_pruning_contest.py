"""Pruning held against baselines: whoever prunes more at the same guard is named first, and a curve that falls less is ahead."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from test_pruning import OPTIONS, few_timings, task_of, told

from repairkit.baselines import compare as comparing
from repairkit.baselines.compare import SHAPLEY, suited
from repairkit.errors import ModelError
from repairkit.evaluation import ablation
from repairkit.evaluation.metrics import Metric
from repairkit.evaluation.statistics import paired_drop_bound
from repairkit.experiments import results as kinds
from repairkit.experiments.pruning import baseline_search as pruning_rivals
from repairkit.experiments.pruning import run as pruning
from repairkit.experiments.pruning.baseline_evaluation import confessed, contest
from repairkit.experiments.pruning.baseline_search import Rival
from repairkit.experiments.pruning.result import Footprint
from repairkit.experiments.pruning.run import configuration, plan, prune
from repairkit.experiments.pruning.search import by_size, valued
from repairkit.network import predict as predicting
from repairkit.network.freezing import Freeze
from repairkit.network.structural_pruning import DependencyGraph
from repairkit.report import html, markdown
from repairkit.result import Verdict
from repairkit.run.context import Run
from repairkit.run.store import RunStore

__all__ = ["few_timings"]  # a fixture that every test here uses, too
COMPARED = replace(OPTIONS, compare=suited(fairness=False))
NORMS = ("weight norm", "response norm", "mean activation")


@cache
def found():
    task = task_of()
    findings = prune(task, Run.start(COMPARED))
    return task, findings, told(task, findings, options=COMPARED)


def row(result, name):
    return next(each for each in result.comparison.baselines if each.name == name)


def order_of(result, name):
    return next(each for each in result.extra.contest.orders if each.name == name)


def by_hand(task, findings, players, rows):
    """Who of these images is right with these filters frozen by hooks."""
    network, images = task.model.classifier.network, task.images.subset(rows)
    constants = {findings.filters.ids[player]: float(findings.filters.constants[player]) for player in players}
    with Freeze(network, constants), torch.no_grad():
        right: np.ndarray = network(images.batch(np.arange(len(images)))).argmax(1).numpy() == images.labels
    return right


def least_norm_first(task):
    """Of the six filters the one with the shortest weights first."""
    weights = task.model.classifier.network[0].weight.detach().double().numpy()
    return sorted(range(6), key=lambda player: float(np.sqrt((weights[player] ** 2).sum())))


def test_what_magnitude_pruning_comes_to_is_what_doing_it_by_hand_gives():
    task, findings, result = found()
    order = least_norm_first(task)
    assert order[0] == 3  # which passes a little of all; those that nobody reads have the longest weights, and go last
    choose = {count: by_hand(task, findings, order[:count], findings.split.choose) for count in range(7)}
    frozen = max(count for count in range(7) if count == 0 or paired_drop_bound(choose[0], choose[count], 0.9) <= COMPARED.max_clean_drop)
    left = 6 - frozen
    entry = order_of(result, "weight norm")
    assert (entry.frozen, entry.removed) == (frozen, frozen)
    assert (entry.parameters, entry.flops) == (left * 4 + left * 3 + 3, 2 * (left * 3 * 16 + left * 3))
    before, after, ours = (
        by_hand(task, findings, players, findings.split.report)
        for players in ([], order[:frozen], findings.order[: findings.chosen].tolist())
    )
    assert (entry.n, entry.before, entry.value) == (len(after), before.mean(), after.mean())
    assert entry.change == pytest.approx(after.mean() - before.mean())
    assert entry.lead == pytest.approx(ours.mean() - after.mean())
    assert entry.frozen < order_of(result, SHAPLEY).frozen


def test_curve_area_and_lead_are_those_by_hand_and_a_smaller_fall_is_ahead():
    task, findings, result = found()
    heights = {}
    for name, order in (("weight norm", least_norm_first(task)), (SHAPLEY, findings.order.tolist())):
        heights[name] = [by_hand(task, findings, order[:count], findings.split.report).mean() for count in findings.removal.counts]
        assert [point.value for point in row(result, name).points] == pytest.approx(heights[name])
    counts = findings.removal.counts
    areas = {
        name: sum((counts[k + 1] - counts[k]) * (curve[k] + curve[k + 1]) / 2 for k in range(len(counts) - 1)) / counts[-1]
        for name, curve in heights.items()
    }
    norm = row(result, "weight norm")
    assert norm.area == pytest.approx(areas["weight norm"])
    assert norm.lead == pytest.approx(areas[SHAPLEY] - areas["weight norm"])
    assert norm.lead > 0
    assert norm.claim == "better"
    assert not result.comparison.lower_is_better
    first = result.comparison.sentences[0]
    assert first.startswith(
        "By area under the curve of accuracy (higher is better) the order of Shapley values measurably loses to none; it beats "
    )
    assert all(name in first.partition("it beats")[2].partition("cannot be told")[0] for name in NORMS)


def test_an_order_that_falls_less_than_the_shapley_values_beats_them_by_area():
    """The curves of both swapped."""
    task, findings, _ = found()
    shapley, *others = findings.compared.contenders
    norm = next(each for each in others if each.name == "weight norm")
    swapped = replace(findings.compared, contenders=(replace(shapley, right=norm.right), replace(norm, right=shapley.right)))
    result = told(task, replace(findings, compared=swapped), options=COMPARED)
    assert row(result, "weight norm").claim == "worse"
    assert row(result, "weight norm").lead < 0
    assert "(higher is better) the order of Shapley values loses to weight norm (by " in result.comparison.sentences[0]
    assert "n = 48)" in result.comparison.sentences[0]


def rival(name, frozen, flops, wrong=0):
    return Rival(name, frozen, frozen, np.arange(400) >= wrong, parameters=1000 - 10 * frozen, flops=flops)


ORIGINAL = Footprint(column="original", parameters=1000, flops=2000)
ACCURACY = Metric("accuracy", np.zeros(400), {0: 1.0})


def held(*rivals, own=None):
    return contest(own or rival(SHAPLEY, 20, 1500), rivals, np.ones(400, dtype=bool), ORIGINAL, ACCURACY)


def test_an_order_that_prunes_more_is_named_first_in_verdict_and_comparison():
    found = held(
        rival("weight norm", 40, 1200), rival("taylor", 10, 1700), rival("random", 20, 1500), rival("conductance", 25, 1600, wrong=40)
    )
    assert found.sentences[:3] == [
        "At the same guard 2 of 4 other orders prune more than that of the Shapley values (20 filters frozen, 20.0 % fewer parameters, 25.0 % fewer operations): "
        "weight norm (40 filters frozen, 40.0 % fewer parameters, 40.0 % fewer operations), "
        "conductance (25 filters frozen, 25.0 % fewer parameters, 20.0 % fewer operations; ahead in filters and parameters, behind in operations).",
        "Just as much is pruned by random.",
        "Less is pruned by taylor.",
    ]
    said = confessed(Verdict(outcome="pruned", headline="Without 20 filters all is well.", sentences=["More."], worse=[]), found)
    assert (
        said.headline
        == "Without 20 filters all is well; at the same guard 2 of 4 other orders prune more filters, parameters or operations: weight norm, conductance."
    )
    assert said.sentences == [found.sentences[0], "More."]


def test_an_order_that_prunes_more_operations_with_fewer_filters_prunes_more():
    found = held(rival("weight norm", 10, 1400))
    assert found.sentences[0].endswith("; ahead in operations, behind in filters and parameters).")
    assert "1 of 1 other orders prunes more" in found.sentences[0]


def test_where_none_prunes_more_the_verdict_is_as_it_was():
    verdict = Verdict(outcome="pruned", headline="All is well.", sentences=[], worse=[])
    found = held(rival("weight norm", 10, 1700))
    assert found.sentences[0].startswith("At the same guard no other order prunes more than that of the Shapley values (20 filters")
    assert confessed(verdict, found) is verdict


def test_accuracy_after_either_pruning_is_paired_and_the_claim_points_to_who_keeps_more():
    found = held(rival("weight norm", 20, 1500), rival("taylor", 20, 1500, wrong=80), own=rival(SHAPLEY, 20, 1500, wrong=40))
    norm, taylor = found.orders[1:]
    assert (norm.lead, norm.claim, taylor.lead, taylor.claim) == (pytest.approx(-0.1), "worse", pytest.approx(0.1), "better")
    assert (taylor.before, taylor.value, taylor.change) == (1.0, 0.8, pytest.approx(-0.2))
    assert norm.lead_low < norm.lead < norm.lead_high < 0 < taylor.lead_low
    assert "that of the Shapley values loses to weight norm (by 10.0 points; " in found.sentences[-2]
    assert "it beats taylor (by 10.0 points; " in found.sentences[-2]


def test_claims_hold_for_all_rivals_together():
    """A lead whose 95 % interval excludes zero is a claim alone, and none among eight."""
    own, other = rival(SHAPLEY, 20, 1500, wrong=0), rival("taylor", 20, 1500, wrong=6)
    alone, among = held(other, own=own), held(other, *[rival(f"other {k}", 20, 1500) for k in range(7)], own=own)
    assert alone.orders[1].lead_low == among.orders[1].lead_low > 0
    assert (alone.orders[1].claim, among.orders[1].claim) == ("better", "no claim")


def test_every_baseline_prunes_by_its_own_least_values():
    _, findings, result = found()
    assert [each.name for each in findings.rivals] == [each.name for each in findings.compared.contenders[1:]]
    assert [each.name for each in result.extra.contest.orders] == [each.name for each in result.comparison.baselines]
    for contender in findings.compared.contenders[1:]:
        assert by_size(np.arange(6), contender.attributions[0]) == sorted(range(6), key=lambda p: abs(contender.attributions[0].value[p]))
    whats = {each.name: each.what for each in result.comparison.baselines}
    assert all("smallest" in whats[name] and "largest" not in whats[name] for name in NORMS)
    assert result.comparison.order == "least absolute value first"
    assert row(result, "leave-one-out").overlap == 1.0  # of the three that go


def test_a_filter_that_may_not_be_frozen_is_in_no_order(monkeypatch):
    real = pruning.least_first
    monkeypatch.setattr(pruning, "least_first", lambda *arguments: np.array([p for p in real(*arguments) if p != 4], dtype=np.int64))
    task, options = task_of(), replace(COMPARED, compare=("taylor", "weight norm"))
    frozen = []
    real_predict = predicting.predict
    for module in (ablation, pruning_rivals):
        monkeypatch.setattr(
            module, "predict", lambda *given, **more: frozen.append(list(more.get("frozen", ()))) or real_predict(*given, **more)
        )
    findings = prune(task, Run.start(options))
    assert not any(4 in players for players in frozen)
    assert max(map(len, frozen)) == 5
    for contender in findings.compared.contenders:
        assert np.flatnonzero(np.isnan(contender.scores[0])).tolist() == [4]


def test_filters_without_a_flip_are_compared_by_their_screen():
    _, findings, _ = found()
    own = replace(findings.attribution, value=np.array([np.nan, 0.5, 0, np.nan, 0, 0]), screen=np.array([0.2, 9, 9, -0.4, 9, 9.0]))
    assert valued(own).value.tolist() == [0.2, 0.5, 0, -0.4, 0, 0]


def test_the_plan_counts_them_and_the_pruning_is_the_same():
    task, findings, _ = found()
    plain, planned = plan(task, OPTIONS), plan(task, COMPARED)
    assert findings.passes["baselines"] <= planned.pop("baselines")
    assert planned == plain
    alone = prune(task, Run.start(OPTIONS))
    assert alone.patch == findings.patch
    booked = {part: passes for part, passes in findings.passes.items() if part not in ("baselines", "timing")}
    assert {part: passes for part, passes in alone.passes.items() if part != "timing"} == booked
    assert told(task, alone).extra.contest is told(task, alone).comparison is None


def test_what_was_measured_of_the_baselines_is_kept(tmp_path, monkeypatch):
    task, options = task_of(), replace(COMPARED, compare=("random", "weight norm", "taylor"))
    whole = prune(task, Run.start(options))

    def unfinished():
        return RunStore(tmp_path / "run", configuration(task, options, remove=True), command="repairkit prune --resume")

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    real = pruning_rivals.rival_of
    with monkeypatch.context() as patch:
        patch.setattr(pruning_rivals, "rival_of", lambda name, *rest: interrupted() if name == "taylor" else real(name, *rest))
        with pytest.raises(KeyboardInterrupt):
            prune(task, Run.start(options, store=unfinished()))
    kept = tmp_path / "run.unfinished" / "network" / "baselines"
    assert {each.name for each in kept.iterdir()} == {"random", "weight-norm", "taylor"}
    assert [(kept / name / "pruned.arrays.npz").exists() for name in ("random", "weight-norm", "taylor")] == [True, True, False]
    measured, pruned = [], []
    real = predicting.predict
    monkeypatch.setattr(ablation, "predict", lambda *given, **more: measured.append(len(given[1])) or real(*given, **more))
    monkeypatch.setattr(pruning_rivals, "predict", lambda *given, **more: pruned.append(more) or real(*given, **more))
    for name in ("random", "weight_norm", "taylor"):
        monkeypatch.setattr(comparing.baselines, name, lambda *_, **__: pytest.fail("made again"))
    again = prune(task, Run.start(options, store=unfinished()))
    assert len(whole.split.choose) not in measured
    assert pruned.count({}) == 1
    first, second = (told(task, each, options=options) for each in (whole, again))
    assert (second.comparison, second.extra.contest) == (first.comparison, first.extra.contest)
    assert {**again.passes, "timing": 0} == {**whole.passes, "timing": 0}


def test_frozen_only_is_compared_by_filters_alone():
    task, options = task_of(), replace(COMPARED, compare=("weight norm",))
    findings = prune(task, Run.start(options), remove=False)
    result = told(task, findings, options=options, remove=False)
    assert {(each.removed, each.parameters, each.flops) for each in result.extra.contest.orders} == {
        (0, 6 * 4 + 18 + 3, 2 * (6 * 3 * 16 + 18))
    }
    assert (
        result.extra.contest.sentences[0]
        == "At the same guard no other order prunes more than that of the Shapley values (3 filters frozen)."
    )
    assert findings.rivals[0].frozen == found()[1].rivals[1].frozen


def test_an_order_whose_filters_cannot_be_taken_out_says_why(monkeypatch):
    task, options = task_of(), replace(COMPARED, compare=("weight norm", "taylor"))
    real, asked = DependencyGraph.prune, []

    def refuse(self, constants, **more):
        asked.append(len(constants))
        if len(asked) == 3:  # after the rehearsal and the pruning of the run
            raise ModelError("the network answers otherwise")
        return real(self, constants, **more)

    monkeypatch.setattr(DependencyGraph, "prune", refuse)
    findings = prune(task, Run.start(options))
    result = told(task, findings, options=options)
    assert row(result, "weight norm").why_not == "the network answers otherwise"
    assert [each.name for each in result.extra.contest.orders] == [SHAPLEY, "taylor"]


def test_both_views_show_every_order(tmp_path):
    _, _, result = found()
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    shown = {
        line.th.get_text(): [cell.get_text() for cell in line.find_all("td")]
        for line in page.find(id="contest-caption").find_parent("table").select("tbody tr")
    }
    assert list(shown) == [each.name for each in result.extra.contest.orders]
    entry = order_of(result, "weight norm")
    assert shown["weight norm"][:2] == [str(entry.frozen), str(entry.removed)]
    section = page.find(id="comparison").parent
    assert section.select_one("li").get_text() == result.extra.contest.sentences[0]
    captions = [each["id"] for each in page.select("caption[id]")]
    assert len(captions) == len(set(captions))
    markdown.write(kinds.document(result), tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert written.index(result.extra.contest.sentences[0]) < written.index(result.comparison.sentences[0])
    assert f"| weight norm | {entry.frozen} | {entry.removed} |" in written
    result.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == result
