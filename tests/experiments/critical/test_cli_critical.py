"""`repairkit recall` and `repairkit accuracy`: what they leave behind, what they refuse, and their exit codes."""

import json
import shutil

import pytest
import tiny_faces
from command_line import call, one_error
from PIL import Image

from repairkit.experiments.critical.result import CriticalResult
from repairkit.network.weights import read_weights

QUICK = ["--size", "48", "--budget", "700", "--top-k", "2", "--threads", "1"]


def recall(folder, *more, name="male"):
    return call(
        "recall",
        "--model",
        tiny_faces.spoilt_weights(),
        "--class",
        name,
        "--data-root",
        folder,
        "--max-other-class-drop",
        "1",
        *QUICK,
        *more,
    )


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
    assert (code, result.verdict.outcome) == (0, "critical filters found")
    assert result.extra.subject == "male"
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


@pytest.fixture(scope="module")
def more_faces(tmp_path_factory):
    """Sixty of each class, so that what one loud filter costs the men can be told from chance."""
    folder = tmp_path_factory.mktemp("more faces")
    images = tiny_faces.target(per_group=30)
    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        (folder / images.classes[label]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / images.classes[label] / f"{number}.png")
    return folder


REPAIR = ["--repair", "--min-live", "0.97", "--max-accuracy-drop", "1", "--max-filters", "1", "--candidates", "4"]


def test_a_repair_that_works_exits_with_0_and_hands_over_weights(more_faces, tmp_path):
    """One loud filter costs the spoilt stand-in most men; frozen, it gives 10 of 24 back."""
    out = tmp_path / "run"
    code, stdout, stderr = recall(more_faces, *REPAIR, "--out", out)
    result = CriticalResult.read(out / "result.json")
    assert (code, result.verdict.outcome, len(result.frozen)) == (0, "repaired", 1)
    assert stdout.startswith("Freezing 1 filter: recall of male rose by ")
    assert stdout.startswith(result.verdict.headline)
    assert f"repairkit apply {out / 'patch.json'} --weights" in stderr
    state, _ = read_weights(out / "repaired.safetensors")
    assert state.keys() == read_weights(tiny_faces.spoilt_weights())[0].keys()
    assert [culprit["channel"] for culprit in json.loads((out / "patch.json").read_text())["culprits"]] == [result.frozen[0].channel]
    assert call("attribution", out, "--network", "culprits")[0] == 0


def test_a_class_that_needs_no_repair_exits_with_1(folders, tmp_path):
    """The spoilt stand-in calls nearly everybody a woman, so that no filter stands in the way of women."""
    out = tmp_path / "run"
    code, stdout, stderr = recall(folders, *REPAIR, "--out", out, name="female")
    result = CriticalResult.read(out / "result.json")
    assert (code, result.verdict.outcome, result.frozen) == (1, "no repair", [])
    assert stdout.startswith("No filter was worth freezing for female")
    assert "no repair was worth making: keep the original weights" in stderr


def test_dry_run_of_accuracy_prints_the_plan_and_writes_nothing(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, stdout, _ = call("accuracy", "--model", tiny_faces.spoilt_weights(), "--data-root", folders, *QUICK, "--dry-run", "--json")
    planned = json.loads(stdout)["passes"]
    assert (code, planned["attribution"], set(planned)) == (
        0,
        700,
        {"calibration", "live range", "settling the live range", "attribution", "evaluation", "control"},
    )
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_default_is_not_fitted_for_a_plan_or_for_a_class_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("repairkit.models.embedded.load", lambda *_, **__: pytest.fail("a network was fitted"))
    digits = ["--model", "squeezenet1_1", "--size", "48", "--threads", "1"]
    code, stdout, stderr = call("recall", *digits, "--class", "8", "--dry-run", "--json")
    planned = json.loads(stdout)
    assert (code, planned["passes"]["attribution"]) == (0, 6000)
    assert planned["minutes"] > 0
    assert "note: Embedded default for squeezenet1_1" in stderr
    for command in ("accuracy", "prune", "adversarial", "dropout"):
        assert call(command, *digits, "--dry-run")[0] == 0
    one_error(*call("recall", *digits, "--class", "zebra"), expected=2, message="no class is called 'zebra'.*The 10 classes are 0, 1, 2")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        (["--class", "mail"], 2, "no class is called 'mail'; did you mean male.*The 2 classes are female, male"),
        (["--max-per-class", "20"], 3, "the class 'male' has 20 images, but 25 are needed: 10 that find filters, 10 that report"),
        (["--repair"], 3, "other classes: the 6 images that choose cannot show that accuracy falls by 1 point at most, 230 or more can"),
        (["--subsets", "train,val"], 3, "expected a folder at .*train"),
        (["--top-k", "2976"], 2, "top must be less than the 2976 filters"),
        (["--budget", "10"], 2, "the budget of 10 image passes is too small"),
        (["--weights", "gone.safetensors"], 3, "is a file, so that it takes no --weights"),
    ],
)
def test_arguments_that_cannot_work(folders, tmp_path, arguments, expected, message):
    one_error(*recall(folders, "--out", tmp_path / "run", *arguments), expected=expected, message=message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["0", "-3"])
def test_counts_below_one_are_refused(folders, number):
    code, stdout, stderr = recall(folders, "--top-k", number)
    assert (code, stdout) == (2, "")
    assert "--top-k" in stderr


def test_a_folder_in_neither_layout(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    one_error(*recall(tmp_path), expected=3, message="expected class folders .* or images with one annotation file .*found neither")


def test_one_of_two_texts_is_named(folders, tmp_path):
    """A flat folder with two texts is refused, unless --annotation-file says which of them lists the images."""
    flat = tmp_path / "flat"
    flat.mkdir()
    lines = []
    for number, image in enumerate(sorted(folders.rglob("*.png"))):
        shutil.copy(image, flat / f"{number}.png")
        lines.append(f"{number}.png {image.parent.name}\n")
    (flat / "notes.txt").write_text("taken in spring\n")
    (flat / "val.txt").write_text("".join(lines))
    one_error(
        *recall(flat, "--dry-run"),
        expected=3,
        message="found notes.txt, val.txt; remove the others, or choose one with --annotation-file",
    )
    assert recall(flat, "--annotation-file", flat / "val.txt", "--dry-run")[0] == 0
    one_error(*call("recall", "--class", "3", "--annotation-file", "a.txt"), expected=2, message="--annotation-file goes with --data-root")


def test_weights_without_images(tmp_path):
    done = call("recall", "--model", tiny_faces.spoilt_weights(), "--class", "male")
    one_error(*done, expected=2, message="give --data-root: labelled images of the network's classes")
    done = call("accuracy", "--model", "nosuch", "--threads", "1", "--out", tmp_path / "run")
    one_error(*done, expected=3, message="torchvision has no classifier called 'nosuch'")
    done = call("recall", "--class", "3", "--subsets", "val")
    one_error(*done, expected=2, message="--subsets goes with --data-root, got it without")
