"""`repairkit recall` and `repairkit accuracy`: what they leave behind, what they refuse, and their exit codes."""

import json

import pytest
import tiny_faces
from command_line import call, one_error

from repairkit.cli import loading
from repairkit.models import zoo
from repairkit.report.critical_result import CriticalResult

QUICK = ["--size", "48", "--budget", "700", "--top", "2", "--threads", "1"]


def recall(folder, *more, name="male"):
    return call("recall", "--model", tiny_faces.spoilt_weights(), "--class", name, "--data-root", folder, *QUICK, *more)


@pytest.fixture(scope="module")
def finished_recall(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("recall") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPAIRKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return *recall(folders, "--json", "--out", out), out


def test_recall_leaves_a_whole_directory_and_no_weights(finished_recall):
    code, stdout, stderr, out = finished_recall
    result = CriticalResult.read(out / "result.json")
    assert CriticalResult.model_validate_json(stdout) == result
    assert code == (0 if result.verdict.outcome == "critical filters found" else 1)
    assert result.subject == "male"
    assert sorted(entry.name for entry in out.iterdir()) == [
        "attribution.parquet", "figures", "report.html", "report.md", "result.json", "run.json",
    ]  # fmt: skip
    assert f"all values: repairkit attribution {out}" in stderr
    assert json.loads((out / "run.json").read_text())["kind"] == "critical filters"
    assert [entry.name for entry in out.parent.iterdir()] == ["run"]


def test_report_and_attribution_read_such_a_run(finished_recall):
    out = finished_recall[-1]
    before = (out / "report.html").read_bytes()
    code, stdout, _ = call("report", out)
    assert (code, (out / "report.html").read_bytes()) == (0, before)
    assert stdout.startswith(CriticalResult.read(out / "result.json").verdict.headline)
    assert "Recall of male as filters are frozen" in stdout
    assert call("attribution", out)[0] == 0


def test_a_repair_hands_over_weights(folders, tmp_path):
    out = tmp_path / "run"
    code, stdout, stderr = recall(folders, "--repair", "--max-clean-drop", "1", "--max-filters", "1", "--candidates", "4", "--out", out)
    result = CriticalResult.read(out / "result.json")
    assert code == (0 if result.verdict.outcome == "repaired" else 1)
    assert stdout.startswith(result.verdict.headline)
    next_step = f"repairkit apply {out / 'patch.json'} --weights" if code == 0 else "no repair was worth making"
    assert next_step in stderr
    state, _ = zoo.read_weights(out / "repaired.safetensors")
    assert state.keys() == zoo.read_weights(tiny_faces.spoilt_weights())[0].keys()
    assert len(json.loads((out / "patch.json").read_text())["culprits"]) == len(result.frozen)
    assert call("attribution", out, "--network", "culprits")[0] == 0


def test_dry_run_of_accuracy_prints_the_plan_and_writes_nothing(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, stdout, _ = call("accuracy", "--model", tiny_faces.spoilt_weights(), "--data-root", folders, *QUICK, "--dry-run", "--json")
    planned = json.loads(stdout)["passes"]
    assert (code, planned["attribution"], set(planned)) == (0, 700, {"calibration", "live zone", "attribution", "evaluation", "control"})
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_default_is_not_fitted_for_a_plan_or_for_a_class_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "fitted_digits", lambda *_, **__: pytest.fail("a network was fitted"))
    digits = ["--model", "squeezenet1_1", "--size", "48", "--threads", "1"]
    code, stdout, stderr = call("recall", *digits, "--class", "8", "--dry-run", "--json")
    planned = json.loads(stdout)
    assert (code, planned["passes"]["attribution"]) == (0, 6000)
    assert planned["minutes"] > 0
    assert "note: Embedded default for squeezenet1_1" in stderr
    for command in ("accuracy", "prune"):
        assert call(command, *digits, "--dry-run")[0] == 0
    one_error(*call("recall", *digits, "--class", "zebra"), expected=2, message="no class is called 'zebra'.*The 10 classes are 0, 1, 2")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        (["--class", "mail"], 2, "no class is called 'mail'; did you mean male.*The 2 classes are female, male"),
        (["--per-class", "20"], 3, "the class 'male' has 20 images, but 25 are needed: 10 that find filters, 10 that report"),
        (["--repair"], 3, "other classes: the 6 images that choose cannot show that accuracy falls by 1 points at most, 230 or more can"),
        (["--parts", "train,val"], 3, "expected a folder at .*train"),
        (["--top", "2976"], 2, "top must be less than the 2976 filters"),
        (["--budget", "10"], 2, "the budget of 10 image passes is too small"),
        (["--strategy", "backward"], 2, "strategy must be 'forward' or 'prefix', got 'backward'"),
        (["--weights", "gone.safetensors"], 3, "is a file, so it cannot take --weights"),
    ],
)
def test_arguments_that_cannot_work(folders, tmp_path, arguments, expected, message):
    one_error(*recall(folders, "--out", tmp_path / "run", *arguments), expected=expected, message=message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["0", "-3"])
def test_counts_below_one_are_refused(folders, number):
    code, stdout, stderr = recall(folders, "--top", number)
    assert (code, stdout) == (2, "")
    assert "--top" in stderr


def test_a_folder_in_neither_layout(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    one_error(*recall(tmp_path), expected=3, message="expected class folders .* or images with one annotation file .*found neither")


def test_weights_without_images(tmp_path):
    done = call("recall", "--model", tiny_faces.spoilt_weights(), "--class", "male")
    one_error(*done, expected=2, message="give --data-root: labelled images of the network's classes")
    done = call("recall", "--class", "3", "--parts", "val")
    one_error(*done, expected=2, message="--parts goes with --data-root, got it without")
