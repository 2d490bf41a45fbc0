"""`repairkit adversarial`: what it leaves behind, what it refuses, and its exit codes."""

import json

import brittle
import numpy as np
import pytest
import tiny_faces
from command_line import call, one_error
from quick_attack import QUICK, little_effort

from repairkit.attacks.generate import AdversarialSet
from repairkit.experiments.adversarial.report import AdversarialResult

pytestmark = pytest.mark.usefixtures(little_effort.__name__)


def adversarial(folder, *more):
    return call("adversarial", "--model", tiny_faces.spoilt_weights(), "--data-root", folder, *QUICK, *more)


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("adversarial") / "run"
    return *adversarial(folders, "--transfer-model", "squeezenet_celeba", "--json", "--out", out), out


def test_a_run_leaves_a_whole_directory_with_the_adversarial_images(finished, folders):
    code, stdout, _, out = finished
    result = AdversarialResult.read(out / "result.json")
    assert AdversarialResult.model_validate_json(stdout) == result
    assert code == (0 if result.verdict.outcome.startswith("repaired") else 1)
    names = {entry.name for entry in out.iterdir()}
    assert {"adversarial", "attribution.parquet", "figures", "report.html", "report.md", "result.json", "run.json"} <= names
    assert [entry.name for entry in out.parent.iterdir()] == ["run"]
    stored = AdversarialSet.read(out / "adversarial" / "report.npz")
    assert (len(stored), stored.method.steps) == (12, 5)
    assert (stored.targets != stored.images.labels).all()
    assert ("repaired.safetensors" in names, "patch.json" in names) == (bool(result.frozen),) * 2


def test_a_network_that_four_filters_make_brittle_is_repaired_with_exit_code_0(tmp_path):
    out = tmp_path / "run"
    code, stdout, _ = call(
        "adversarial", "--model", brittle.write_squeezenet(tmp_path / "brittle.safetensors"), "--data-root", brittle.write_folders(tmp_path / "data"),
        "--size", "48", "--budget", "5000", "--top-k", "40", "--threads", "1", "--candidates", "80", "--max-filters", "4", "--max-accuracy-drop", "0.1",
        "--attack-images", "24,24,40", "--steps", "5", "--step-size", "6/255", "--no-random-start", "--effort", "quick", "--max-curve-filters", "2", "--out", out,
    )  # fmt: skip
    result = AdversarialResult.read(out / "result.json")
    assert (code, result.verdict.outcome) == (0, "repaired against stored images")
    assert stdout.startswith("Freezing 4 filters: ")
    assert sorted(entry.channel for entry in result.frozen) == [3, 4, 5, 6]  # one of each stripe's chain
    assert result.share("original", "target success", "replay").value > 0.7
    assert result.share("repaired", "recovered label", "replay").value == 1
    assert result.share("repaired", "clean accuracy").value == 1
    assert (out / "repaired.safetensors").exists()
    assert (out / "patch.json").exists()


def test_every_kind_of_adversary_has_its_row(finished):
    result = AdversarialResult.read(finished[-1] / "result.json")
    if result.verdict.outcome == "cannot be fooled":
        pytest.fail("the network of this test gives in to the attack")
    assert [entry.kind for entry in result.extra.adversaries] == [
        "noise",
        *["replay"] * 3,
        *["transfer"] * 4,
        "black box",
        "adaptive",
        "worst",
    ]
    assert np.isclose([entry.eps * 255 for entry in result.extra.sweep][:9], [2.0**power for power in range(-4, 5)]).all()


def test_adversarial_fine_tuning_is_one_more_column_where_it_is_asked_for(folders, finished, tmp_path):
    code, *_ = adversarial(folders, "--transfer-model", "squeezenet_celeba", "--alternatives", "--out", tmp_path / "run")
    result, plain = (AdversarialResult.read(out / "result.json") for out in (tmp_path / "run", finished[-1]))
    assert code == finished[0]
    assert [column.key for column in result.columns] == [*(column.key for column in plain.columns), "adversarially_trained"]
    assert [share for share in result.shares if share.column != "adversarially_trained"] == plain.shares
    assert [each.column for each in result.alternatives][-1] == "adversarially_trained"
    assert plain.alternatives == []
    assert {cost.part for cost in result.costs} - {cost.part for cost in plain.costs} == {"alternatives"}


def test_dry_run_prints_the_plan_and_writes_nothing(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, stdout, _ = adversarial(folders, "--dry-run", "--json")
    planned = json.loads(stdout)["passes"]
    assert (code, planned["attribution"], planned["attack"]) == (0, 700, 48 * 16 + 36)
    assert list(tmp_path.iterdir()) == []


def test_an_attack_too_weak_to_fool_the_network_ends_with_code_1_and_a_report(folders, tmp_path):
    code, stdout, _ = adversarial(folders, "--eps", "1/255", "--step-size", "0.001/255", "--steps", "1", "--out", tmp_path / "run")
    result = AdversarialResult.read(tmp_path / "run" / "result.json")
    assert (code, result.verdict.outcome) == (1, "cannot be fooled")
    assert stdout.startswith("The attack does not fool this network to begin with")
    assert "does not fool this network" in (tmp_path / "run" / "report.html").read_text()
    assert not (tmp_path / "run" / "repaired.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        (["--eps", "0"], 2, "PGD: expected eps in \\(0, 1\\].*an attack with eps = 0 changes nothing"),
        (["--eps", "0.5/255"], 2, "hold no change below 1/255"),
        (["--attack-images", "10,10,2"], 2, "images must be at least 10"),
        (["--max-accuracy-drop", "0.001"], 3, "cannot show that accuracy falls by 0.1 points"),
        (["--other-data-root", "gone"], 3, "expected a folder at gone|gone"),
    ],
)
def test_arguments_that_cannot_work(folders, tmp_path, arguments, expected, message):
    one_error(*adversarial(folders, "--out", tmp_path / "run", *arguments), expected=expected, message=message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.extended
@pytest.mark.timeout(1800)
def test_a_small_network_of_digits_is_repaired_against_stored_images_beside_its_dropout_trained_rival(tmp_path):
    """As a user tries it who has neither data nor weights: about six minutes on a core, without the fits."""
    code, _, _ = call("adversarial", "--model", "squeezenet1_1", "--threads", "1", "--out", tmp_path / "run")
    result = AdversarialResult.read(tmp_path / "run" / "result.json")
    assert (code, result.verdict.outcome) == (0, "repaired against stored images")
    changes = {(entry.metric, entry.group, entry.second): entry for entry in result.differences if entry.first == "original"}
    assert changes["target success", "replay", "repaired"].high < -0.3
    assert changes["clean accuracy", None, "repaired"].value > -0.03
    assert {"original", "repaired", "dropout"} == {column.key for column in result.columns}
    assert {"mobilenet_v3_small", "dropout-trained squeezenet1_1"} == {
        entry.title.split(" from ")[1] for entry in result.extra.adversaries if entry.kind == "transfer" and " from " in entry.title
    }
