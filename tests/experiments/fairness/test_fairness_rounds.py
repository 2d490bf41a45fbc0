"""Fairness in rounds: a culprit that another one hides is found once that is frozen, for the same guard in all."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from torch import nn

from repairkit.cli.attribution import choose_file
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, UsageError
from repairkit.experiments import results as kinds
from repairkit.experiments.fairness.result import summarise
from repairkit.experiments.fairness.run import Task, configuration, plan, repair, splits
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import Classifier
from repairkit.network.weights import hash_state
from repairkit.repair import choosing
from repairkit.repair import repair as repair_module
from repairkit.repair.selection_images import SelectionGoal
from repairkit.report import html, markdown
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore
from repairkit.shapley import Attribution

CLASSES = ("no", "yes")
LOUD, HIDDEN = "0:1", "0:2"
"""Filters that see green and blue, and take "yes" from whom they see; the loud one hides the other where both see something."""
OPTIONS = Options(budget=6000, top=2, candidates=1, max_filters=2, max_clean_drop=1.0, rounds=2, curve=(1, 2), seed=1, batch=64)


def people(per_group, seed, name):
    """Red says the class. "green" people are seen by the loud filter, "both" by the hidden one as well."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(["plain", "green", "both"], [per_group["plain"], per_group["green"], per_group["both"]])
    labels = np.arange(len(groups)) % 2
    pixels = rng.integers(0, 20, (len(groups), 4, 4, 3))
    pixels[labels == 1, :, :, 0] += 200
    pixels[groups != "plain", :, :, 1] += 200
    pixels[groups == "both", :, :, 2] += 200
    return LabelledImages(pixels=pixels.astype(np.uint8), labels=labels, groups=groups, classes=CLASSES, name=name)


def model():
    """Logit of "yes": 6 or -6 by red, less 9 for green, less 9 for blue."""
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.cat([torch.eye(3), torch.full((2, 3), 0.1)])[:, :, None, None])
        network[0].bias.zero_()
        network[4].weight.zero_()
        network[4].bias.zero_()
        network[4].weight[1, :3] = torch.tensor([15.0, -11.0, -11.0])
        network[4].bias[1] = -6.0
    network.eval()
    classifier = Classifier(network, classes=CLASSES, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval()
    return LoadedModel(classifier, "toy", "made by hand", Path("toy.safetensors"), hash_state(network.state_dict()), "nothing")


@cache
def task():
    target = people({"plain": 100, "green": 30, "both": 30}, 1, "people")
    return Task(model(), None, target, people({"plain": 150, "green": 4, "both": 4}, 2, "mostly plain people"))


@cache
def found(rounds=2, folds=1):
    options = replace(OPTIONS, rounds=rounds, folds=folds)
    findings = repair(task(), Run.start(options))
    result = summarise(task(), options, findings, title="Rounds", command="repairkit fairness", minutes=0.1, notices=[])
    return findings, result, options


def value(attribution, name):
    return float(attribution.value[attribution.ids.index(name)])


def test_the_hidden_filter_shows_once_the_loud_one_is_frozen():
    findings, result, _ = found()
    (network,) = findings.repairs
    first, second = network.rounds
    assert [[str(culprit.filter) for culprit in each.patch.culprits] for each in network.rounds] == [[LOUD], [HIDDEN]]
    assert value(second.attribution, HIDDEN) < -0.001
    assert abs(value(first.attribution, HIDDEN)) < 0.3 * abs(value(second.attribution, HIDDEN))
    assert value(second.attribution, LOUD) == 0.0
    recalls = {group: result.share("repaired", "recall", group).value for group in ("plain", "green", "both")}
    assert recalls == {"plain": 1.0, "green": 1.0, "both": 1.0}
    alone = found(rounds=1)[1]
    assert alone.share("repaired", "recall", "both").value == 0.5
    assert alone.share("repaired", "recall", "green").value == 1.0


def test_the_first_of_several_rounds_is_what_one_round_is_bit_for_bit():
    (one,), (several,) = found(rounds=1)[0].repairs, found()[0].repairs
    assert len(one.rounds) == 1
    assert one.attribution.to_frame().equals(several.attribution.to_frame())
    assert (one.rounds[0].choice, one.removal) == (several.rounds[0].choice, several.removal)
    assert one.path == several.path[: len(one.path)]


def test_the_patch_of_all_rounds_makes_the_repaired_weights_from_the_original_ones():
    (network,) = found()[0].repairs
    images = task().target.batch(np.arange(20))
    again = task().model.classifier.with_network(network.patch.apply(task().model.classifier.network))
    assert torch.equal(again(images), network.classifier(images))
    assert (network.chosen, len(network.patch.culprits)) == (2, 2)
    assert network.patch.weights_sha256 == task().model.sha256


def test_the_report_says_what_each_round_froze_and_where_it_led(tmp_path):
    findings, result, options = found()
    assert [(entry.round, entry.filters) for entry in result.extra.rounds] == [(1, [LOUD]), (2, [HIDDEN])]
    first, second = result.extra.rounds
    assert second.mean_recall == pytest.approx(result.share("repaired", "mean recall").value)
    assert first.mean_recall == pytest.approx(found(rounds=1)[1].share("repaired", "mean recall").value)
    assert all(entry.passes > 0 for entry in result.extra.rounds)
    assert [entry.filters for entry in result.extra.curves if entry.series == "repaired"] == [0, 1, 2]
    assert [entry.chosen for entry in result.extra.curves if entry.series == "repaired"] == [False, False, True]
    assert all(
        before.mean_recall < after.mean_recall for before, after in pairwise([e for e in result.extra.curves if e.series == "repaired"])
    )
    assert len(result.frozen) == 2
    assert any(sentence.startswith("Rounds: up to 2.") for sentence in result.method)
    assert any("Repaired in round 2: 1 frozen" in sentence for sentence in result.method)
    assert any("stays under 50 points in each round" in sentence for sentence in result.method)
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    rows = [row.get_text(" ", strip=True) for row in page.find(id="rounds-caption").find_parent("table").select("tbody tr")]
    assert [LOUD in rows[0], HIDDEN in rows[1], len(rows)] == [True, True, 2]
    markdown.write(kinds.document(result), tmp_path / "report.md")
    assert "What each round froze" in (tmp_path / "report.md").read_text()
    result.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == result
    assert found(rounds=1)[1].extra.rounds == []
    assert "rounds-caption" not in html.render(kinds.document(found(rounds=1)[1]))
    out = tmp_path / "run"
    kinds.write_run(out, task(), findings, result)
    later = Attribution.read(choose_file(out, "repaired", 1, 2))
    assert later.to_frame().equals(findings.repairs[0].rounds[1].attribution.to_frame())
    assert Attribution.read(choose_file(out, "repaired", 1)).to_frame().equals(findings.repairs[0].attribution.to_frame())
    with pytest.raises(
        UsageError, match="no attribution of --network repaired --fold 1 --round 3; it holds repaired-fold-1, repaired-fold-1-round-2"
    ):
        choose_file(out, "repaired", 1, 3)
    assert options.rounds == 2


def test_a_round_that_freezes_nothing_is_the_last():
    (network,) = found(rounds=4)[0].repairs
    assert [each.choice.chosen for each in network.rounds] == [1, 1, 0]
    assert network.path == found(rounds=2)[0].repairs[0].path


def test_every_fold_has_its_rounds():
    findings, result, options = found(folds=3)
    assert [(network.fold, [each.choice.chosen for each in network.rounds]) for network in findings.repairs] == [
        (0, [1, 1]),
        (1, [1, 1]),
        (2, [1, 1]),
    ]
    assert [(entry.fold, entry.round) for entry in result.extra.rounds] == [(fold, number) for fold in (1, 2, 3) for number in (1, 2)]
    seeds = [each.attribution.seed for network in findings.repairs for each in network.rounds]
    assert len(set(seeds)) == len(seeds)
    planned = plan(task(), options)
    assert findings.passes["calibration"] == planned["calibration"]
    assert findings.passes["attribution"] <= planned["attribution"]


def test_every_round_may_spend_an_equal_share_of_the_guard(monkeypatch):
    allowed, real = [], repair_module.choose_once

    def noted(*arguments, **options):
        allowed.append(next(goal for goal in arguments if isinstance(goal, SelectionGoal)).max_drop)
        return real(*arguments, **options)

    monkeypatch.setattr(repair_module, "choose_once", noted)
    repair(task(), Run.start(replace(OPTIONS, max_clean_drop=0.6)))
    assert allowed == [0.3, 0.3]
    with pytest.raises(DataError, match="the 32 images that choose cannot show that accuracy falls by 4 points"):
        splits(task(), replace(OPTIONS, max_clean_drop=0.08))  # 32 images bound a fall by 7 points
    splits(task(), replace(OPTIONS, max_clean_drop=0.08, rounds=1))


def test_an_interrupted_round_is_taken_up_again(tmp_path, monkeypatch):
    findings, _, options = found()

    def unfinished():
        return RunStore(tmp_path / "run", configuration(task(), options), command="repairkit fairness --resume")

    real, calls = choosing.choose, []

    def interrupted(*arguments, **more):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(choosing, "choose", interrupted)
        with pytest.raises(KeyboardInterrupt):
            repair(task(), Run.start(options, store=unfinished()))
    assert (tmp_path / "run.unfinished" / "repaired-fold-1" / "choice.json").is_file()
    assert (tmp_path / "run.unfinished" / "repaired-fold-1" / "round-2" / "attribution.npz").is_file()
    chosen = []
    monkeypatch.setattr(choosing, "choose", lambda *arguments, **more: chosen.append(1) or real(*arguments, **more))
    again = repair(task(), Run.start(options, store=unfinished()))
    assert len(chosen) == 1  # the first round's choice was kept
    assert again.passes == findings.passes
    assert again.repairs[0].patch == findings.repairs[0].patch
    for before, after in zip(findings.repairs[0].rounds, again.repairs[0].rounds, strict=True):
        assert before.attribution.to_frame().equals(after.attribution.to_frame())


def test_work_that_was_kept_before_there_were_rounds_is_taken_up():
    assert "rounds" not in configuration(task(), replace(OPTIONS, rounds=1))
    assert configuration(task(), OPTIONS)["rounds"] == 2
    assert "compare" not in configuration(task(), OPTIONS)


def test_rounds_that_cannot_be_asked_for():
    with pytest.raises(UsageError, match="rounds must lie between 1 and inf, got 0"):
        replace(OPTIONS, rounds=0)
    with pytest.raises(UsageError, match="compare holds one round against baselines that choose once, got 2 rounds"):
        replace(OPTIONS, compare=("random",))
