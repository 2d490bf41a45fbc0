"""`repairkit.repair` on a network of one's own, with a filter planted that is unfair to darker women."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import command_line
import numpy as np
import pytest
import torch
import unfair_network
from bs4 import BeautifulSoup
from safetensors.torch import load_file
from torch import nn

import repairkit
from repairkit import Accuracy, AttackSuccess, ClassRecall, LogLoss, RecallGap, SubgroupRecall
from repairkit.errors import DataError, ModelError, RepairkitError, UsageError
from repairkit.evaluation.splits import Split
from repairkit.experiments.fairness import run as fairness
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import Classifier
from repairkit.network.freezing import Freeze
from repairkit.network.patch import Patch
from repairkit.network.weights import hash_state
from repairkit.repair import report as repair_report
from repairkit.result import Result
from repairkit.run.context import Run

QUICK = repairkit.RepairSettings(budget=2_000)
WOMEN = "darker women"


@cache
def fixed() -> repairkit.Repair:
    return repairkit.repair(unfair_network.network(), unfair_network.images(), SubgroupRecall(), settings=QUICK)


@cache
def source() -> repairkit.LabelledImages:
    return unfair_network.images(seed=5, name="source")


def logits_of(network: nn.Module, images: repairkit.LabelledImages) -> torch.Tensor:
    with torch.inference_mode():
        return network(images.batch(np.arange(len(images))))


def test_the_planted_filter_is_named_first_and_frozen():
    layer, channel = unfair_network.PLANTED
    first = fixed().attribution.culprits(1).iloc[0]
    assert (first["layer"], first["channel"]) == (layer, channel)
    assert first["value"] + first["half_width"] < 0
    frozen = fixed().culprits
    assert frozen[["layer", "channel"]].values.tolist()[0] == [layer, channel]
    assert frozen["value"].iloc[0] == first["value"]
    assert frozen["constant"].iloc[0] > 0


def test_recall_rises_on_test_images_and_accuracy_holds():
    found = fixed().evaluate()
    assert found.verdict.outcome == "repaired"
    assert found.difference("recall", WOMEN).claim == "better"
    assert found.difference("mean recall").low > 0.05
    assert found.difference("accuracy").claim != "worse"
    assert found.difference("recall", WOMEN).n == 128  # of 320, 40 % are test images
    assert {(entry.metric, entry.group) for entry in found.worse} == {("recall", "lighter women")}
    test = fixed().inputs.data.subset(fixed().split.report)
    right = (logits_of(fixed().model(), test).argmax(1).numpy() == test.labels)[test.groups == WOMEN]
    row = found.to_frame().set_index("metric").loc[f"recall of {WOMEN}"]
    assert row["after"] == right.mean()
    assert row["change"] == pytest.approx(row["after"] - row["before"])


def test_the_model_has_plain_weights_that_equal_the_masked_network():
    original, repaired = unfair_network.network(), fixed().model()
    original.load_state_dict(repaired.state_dict(), strict=True)
    assert type(repaired) is nn.Sequential
    assert not repaired.training
    assert all(weights.requires_grad for weights in repaired.parameters())
    images = unfair_network.images(40)
    masked = unfair_network.network()
    with torch.inference_mode(), Freeze(masked, fixed().patch.constants):
        expected = logits_of(masked, images)
    torch.testing.assert_close(logits_of(repaired, images), expected)
    torch.testing.assert_close(logits_of(fixed().patch.apply(unfair_network.network()), images), expected)
    assert fixed().model() is not repaired


def test_the_users_module_is_as_it_was():
    network = unfair_network.network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    repairkit.repair(network, unfair_network.images(), SubgroupRecall(), settings=QUICK)
    assert network.training
    assert network[2].training
    assert all(weights.requires_grad for weights in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_same_call_gives_the_same_patch_and_a_classifier_gives_a_classifier():
    again = repairkit.repair(unfair_network.network(), unfair_network.images(), SubgroupRecall(), settings=QUICK)
    assert again.patch == fixed().patch
    classifier = Classifier(unfair_network.network(), classes=unfair_network.CLASSES, mean=(0.0,) * 3, std=(1.0,) * 3)
    wrapped = repairkit.repair(classifier, unfair_network.images(), SubgroupRecall(), settings=QUICK)
    assert wrapped.patch == fixed().patch
    assert isinstance(wrapped.model(), Classifier)


def test_the_result_is_that_of_the_fairness_experiment():
    """The same data, split, seed and settings give the same values, the same filters and the same recalls."""
    network, data, options = unfair_network.network(), unfair_network.images(), QUICK.options()
    classifier = Classifier(network.requires_grad_(False), classes=unfair_network.CLASSES, mean=(0.0,) * 3, std=(1.0,) * 3).eval()
    model = LoadedModel(classifier, "Sequential", "fitted", Path("none"), hash_state(network.state_dict()), "drawn images")
    findings = fairness.repair(fairness.Task(model, None, data, source()), Run.start(options))
    found = repairkit.repair(unfair_network.network(), data, SubgroupRecall(), source=source(), settings=QUICK)
    assert found.patch == findings.repairs[0].patch
    np.testing.assert_array_equal(found.attribution.value, findings.repairs[0].attribution.value)
    outcomes = findings.outcomes
    assert found.evaluate().difference("recall", WOMEN).value == pytest.approx(
        float(
            np.mean(outcomes.correct["repaired"][outcomes.groups == WOMEN])
            - np.mean(outcomes.correct["original"][outcomes.groups == WOMEN])
        )
    )
    guarded = found.evaluate().difference("source accuracy")
    assert guarded.n == len(outcomes.source_correct["repaired"])
    assert guarded.value == pytest.approx(float(outcomes.source_correct["repaired"].mean() - outcomes.source_correct["original"].mean()))


def test_a_given_split_is_used_and_may_share_no_image():
    data, split = unfair_network.images(), fixed().split
    swapped = Split(split.report, split.choose, split.attribute)
    found = repairkit.repair(unfair_network.network(), data, SubgroupRecall(), split=swapped, settings=QUICK)
    assert found.evaluate().difference("accuracy").n == len(split.attribute)
    with pytest.raises(DataError, match="attribution and test share"):
        repairkit.repair(unfair_network.network(), data, SubgroupRecall(), split=replace(split, report=split.attribute), settings=QUICK)


@pytest.mark.parametrize(
    ("objective", "metric", "group"),
    [
        (ClassRecall(0), "recall", "female"),
        (RecallGap("darker men", WOMEN), "gap", None),
        (Accuracy(), "accuracy", None),
        (LogLoss(), "accuracy", None),
    ],
    ids=repr,
)
def test_every_objective_finds_the_planted_filter_and_is_judged_by_its_own_metric(objective, metric, group):
    settings = QUICK.model_copy(update={"budget": 10_000.0})
    found = repairkit.repair(unfair_network.network(), unfair_network.images(), objective, settings=settings)
    first = found.patch.culprits[0]
    assert (first.layer, first.channel) == unfair_network.PLANTED
    assert found.evaluate().difference(metric, group).claim == "better"
    assert found.evaluate().verdict.outcome == "repaired"


def test_where_nothing_is_worth_freezing_the_weights_stay(tmp_path):
    network = unfair_network.network()
    network[0].bias = network[2].bias = None  # plain weights cannot hold a constant
    with torch.no_grad():
        network[2].weight[4] = network[2].weight[3]  # nor is a filter shut, which is a constant already
    found = repairkit.repair(network, unfair_network.images(), SubgroupRecall(), settings=QUICK)
    assert found.culprits.empty
    assert found.evaluate().verdict.outcome == "no repair"
    assert found.evaluate().worse == []
    assert hash_state(found.model().state_dict()) == hash_state(network.state_dict())
    found.report(tmp_path / "report.html")
    assert (tmp_path / "report.html").exists()


def test_a_report_is_a_page_or_markdown_by_its_name(tmp_path):
    for name in ("report.html", "report.md"):
        fixed().report(tmp_path / name)
    page = BeautifulSoup((tmp_path / "report.html").read_text(), "html.parser")
    assert "repaired" in page.find(class_="outcome").text
    assert [section["aria-labelledby"] for section in page.find_all("section")][:3] == ["verdict", "before-after", "worse"]
    assert WOMEN in (tmp_path / "report.md").read_text()
    with pytest.raises(UsageError, match=r"\.html or \.md"):
        fixed().report(tmp_path / "report.pdf")


def test_a_saved_repair_is_whole_and_reads_back(tmp_path, monkeypatch):
    out = tmp_path / "fixed"
    fixed().save(out)
    names = {"repaired.safetensors", "patch.json", "attribution.parquet", "result.json", "report.html", "report.md", "figures"}
    assert {file.name for file in out.iterdir()} == names
    unfair_network.network().load_state_dict(load_file(out / "repaired.safetensors"), strict=True)
    assert Patch.read(out / "patch.json") == fixed().patch
    np.testing.assert_array_equal(repairkit.Attribution.read(out / "attribution.parquet").value, fixed().attribution.value)
    result = Result.read(out / "result.json")
    assert result.verdict == fixed().evaluate().verdict
    assert [entry.channel for entry in result.frozen] == fixed().culprits["channel"].tolist()
    assert json.loads((out / "result.json").read_text())["kind"] == "repair"
    with pytest.raises(UsageError, match="already exists"):
        fixed().save(out)
    monkeypatch.setattr(repair_report.markdown, "write", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        fixed().save(tmp_path / "second")
    assert [path.name for path in tmp_path.iterdir()] == ["fixed"]


def test_the_command_line_shows_a_saved_repair(tmp_path):
    out = tmp_path / "fixed"
    fixed().save(out)
    page = (out / "report.html").read_bytes()
    code, stdout, stderr = command_line.call("report", out)
    assert (code, (out / "report.html").read_bytes()) == (0, page), stderr
    assert fixed().evaluate().verdict.headline in stdout
    code, stdout, stderr = command_line.call("attribution", out)
    assert (code, "2:5" in stdout) == (0, True), stderr


def test_notebooks_show_escaped_tables():
    tables = BeautifulSoup(fixed()._repr_html_(), "html.parser"), BeautifulSoup(fixed().attribution._repr_html_(), "html.parser")
    for table in tables:
        assert [cell.text for cell in table.find("tbody").find("tr").find_all("td")][:2] == list(map(str, unfair_network.PLANTED))
    renamed = replace(fixed().attribution, ids=tuple(f"<b>:{number}" for number in range(14)))
    assert "<b>" not in renamed._repr_html_()
    assert max(map(len, (repr(fixed()), repr(fixed().attribution)))) < 120


def test_attribute_values_every_filter_on_all_images():
    found = repairkit.attribute(unfair_network.network(), unfair_network.images(), SubgroupRecall(), settings=QUICK)
    assert found.to_frame()["id"].tolist() == list(found.ids)
    assert found.culprits(1)["id"].tolist() == ["2:5"]
    highest = found.highest(3)["value"]
    assert highest.tolist() == sorted(found.value[~np.isnan(found.value)].tolist(), reverse=True)[:3]
    axes = found.plot(k=3)
    assert next(label.get_text() for label in axes.get_yticklabels()) == "2:5"
    assert found.plot(axes, k=2) is axes


def changed(**changes: object) -> dict[str, object]:
    return {"model": unfair_network.network(), "data": unfair_network.images(), "objective": SubgroupRecall(), "settings": QUICK} | changes


def remade(**changes: object) -> repairkit.LabelledImages:
    data = unfair_network.images()
    fields = {"pixels": data.pixels, "labels": data.labels, "groups": data.groups, "classes": data.classes, "name": "mine"}
    return repairkit.LabelledImages(**(fields | changes))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda: changed(model="resnet50"), UsageError, "expected model to be a Module, got str"),
        (lambda: changed(data=np.zeros(3)), UsageError, "expected data to be a LabelledImages, got ndarray"),
        (lambda: changed(objective=SubgroupRecall), UsageError, "got the class SubgroupRecall"),
        (lambda: changed(objective=AttackSuccess()), UsageError, "AttackSuccess needs clean images"),
        (lambda: changed(run=Run.start(QUICK.options())), UsageError, "expected settings or a run, got both"),
        (lambda: changed(data=remade(pixels=np.zeros((4, 8, 8, 3)))), DataError, "expected uint8 pixels"),
        (lambda: changed(data=remade(pixels=[[1]])), DataError, "expected pixels as a numpy array of uint8, got list"),
        (lambda: changed(data=remade(labels=np.full(1280, 0.5))), DataError, "expected labels as whole numbers"),
        (lambda: changed(data=remade(labels=np.zeros(1280, int))), DataError, "expected images of two classes or more"),
        (lambda: changed(data=remade(classes=("a", "b", "c"))), ModelError, r"expected logits of shape \(images, 3\)"),
        (lambda: changed(source=unfair_network.images()), DataError, "data and source share"),
        (lambda: changed(source=remade(classes=("a", "b"))), DataError, "mine has the classes"),
        (lambda: changed(model=nn.Sequential(nn.Flatten(), nn.Linear(192, 2))), ModelError, "no nn.Conv2d"),
        (lambda: changed(model=nn.Sequential(unfair_network.network(), nn.Softmax(1))), ModelError, "remove the softmax"),
        (lambda: changed(model=nn.Sequential(nn.Conv2d(1, 2, 3))), ModelError, "cannot take images of shape"),
        (lambda: changed(data=unfair_network.images().subset(range(0, 1280, 4))), DataError, "larger max_accuracy_drop"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(arguments, error, message):
    with pytest.raises(RepairkitError, match=message) as caught:
        repairkit.repair(**arguments())
    assert isinstance(caught.value, error)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"budgte": 3}, "budgte"), ({"seed": -1}, "seed.*got -1"), ({"engine": "monte-carlo", "min_live": 0.5}, "no live range")],
)
def test_settings_that_cannot_be_are_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        repairkit.RepairSettings(**options)
    assert "\n" not in str(caught.value)


def test_a_larger_guard_needs_fewer_images():
    few = unfair_network.images().subset(range(0, 1280, 4))
    assert not repairkit.repair(**changed(data=few, max_accuracy_drop=0.05)).culprits.empty


def run_code_block(page: str) -> dict[str, object]:
    """Run the first block of Python on a page as it stands; names that the page speaks of are given."""
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    block = re.search(r"```python\n(?!>>>)(.*?)```", text, re.DOTALL)[1]
    data = unfair_network.images()
    names = {"pixels": data.pixels, "labels": data.labels, "groups": data.groups, "network": unfair_network.network(), "source": source()}
    exec(block, names)  # noqa: S102 - our own words
    return names | {"lines": len(block.strip().splitlines())}


def test_the_first_code_block_of_the_readme_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_code_block("README.md")
    assert names["lines"] <= 10
    assert names["fix"].culprits[["layer", "channel"]].values.tolist()[0] == list(unfair_network.PLANTED)
    assert names["fix"].evaluate().verdict.outcome == "repaired"
    assert (tmp_path / "report.html").exists()


def test_the_code_block_of_the_usage_page_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_code_block("docs/usage.md")
    assert names["values"].culprits(1)["id"].tolist() == ["2:5"]
    assert names["fix"].evaluate().difference("recall", "female").claim == "better"
    assert (tmp_path / "runs" / "mine" / "repaired.safetensors").exists()


@pytest.mark.parametrize("first", ["import repairkit.repair.settings", "import repairkit.shapley"])
def test_repair_is_a_function_and_a_package_and_importing_it_loads_no_torch(first):
    script = f"{first}; import sys, repairkit; assert callable(repairkit.repair); print(sorted({{'torch', 'pandas'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
