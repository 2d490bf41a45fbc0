import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
import tiny_faces
from report_example import example_result

from repairkit.errors import DataError, UsageError
from repairkit.experiments import results
from repairkit.experiments.fairness.report import FairnessResult
from repairkit.models import zoo
from repairkit.network.patch import Patch
from repairkit.network.weights import write_weights
from repairkit.run.directory import require_free, whole_directory


@pytest.fixture(scope="module")
def run():
    return tiny_faces.small_run(ranking="recall")


def write(out, run):
    task, _, findings, result = run
    results.write_run(out, task, findings, result)


def test_what_a_run_leaves_behind(tmp_path, run):
    out = tmp_path / "deeper" / "run"
    write(out, run)
    _, _, findings, result = run
    files = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    expected = {"result.json", "run.json", "report.html", "report.md", "patch.json", "repaired.safetensors", "attribution.parquet"}
    assert expected <= files
    assert all(file.startswith("figures/") for file in files - expected)
    assert FairnessResult.read(out / "result.json") == result
    assert Patch.read(out / "patch.json") == findings.repairs[0].patch
    table = pd.read_parquet(out / "attribution.parquet")
    assert len(table) == 2976
    for culprit in findings.repairs[0].patch.culprits:
        assert table.set_index("id").loc[str(culprit.filter), "value"] == culprit.value
    assert [entry.name for entry in out.parent.iterdir()] == ["run"]


def test_run_json_says_how_to_get_it_again(tmp_path, run):
    write(tmp_path / "run", run)
    task, _, findings, _ = run
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    constants = [[f"{culprit.layer}:{culprit.channel}", culprit.constant] for culprit in findings.repairs[0].patch.culprits]
    assert content["hashes"] == {
        "model": task.model.sha256,
        "target": hashlib.sha256("".join(sorted(task.target.hashes)).encode()).hexdigest(),
        "source": hashlib.sha256("".join(sorted(task.source.hashes)).encode()).hexdigest(),
        "frozen constants": hashlib.sha256(json.dumps(constants).encode()).hexdigest(),
    }
    assert content["reproduction"]["settings"]["budget"] == str(tiny_faces.SMALL["budget"])
    assert content["reproduction"]["versions"]["torch"]
    assert content["passes"] == findings.repairs[0].attribution.passes


def test_other_networks_have_folders_of_their_own(tmp_path):
    write(tmp_path / "run", tiny_faces.small_run(dropout=True))
    network = tmp_path / "run" / "networks" / "dropout_repaired-fold-1"
    assert sorted(file.name for file in network.iterdir()) == ["attribution.parquet", "patch.json"]
    rival = zoo.load("squeezenet_celeba_dropout")
    assert Patch.read(network / "patch.json").weights_sha256 == rival.sha256


def test_repaired_weights_keep_the_normalisation(tmp_path, run):
    """Not every network was trained with ImageNet's mean."""
    task, _, findings, result = run
    own = tmp_path / "own.safetensors"
    network = task.model.classifier.network
    write_weights(network, own, architecture="squeezenet1_0", classes=("female", "male"), trained_on="x", mean=(0.5,) * 3, std=(0.25,) * 3)
    other = type(task)(zoo.load(own), None, task.target, task.source)
    results.write_run(tmp_path / "run", other, findings, result)
    repaired = zoo.load(tmp_path / "run" / "repaired.safetensors").classifier
    assert (repaired.mean.flatten().tolist(), repaired.std.flatten().tolist()) == ([0.5] * 3, [0.25] * 3)


@pytest.mark.parametrize("broken", ["write_views", "write_text", "write_weights", "html.write", "markdown.write"])
@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
def test_whole_or_nothing(tmp_path, monkeypatch, run, broken, error):
    def fail(*_, **__):
        raise error

    *path, name = broken.split(".")
    monkeypatch.setattr(getattr(results, path[0]) if path else results, name, fail)
    with pytest.raises(type(error)):
        write(tmp_path / "run", run)
    assert list(tmp_path.iterdir()) == []


def test_files_are_complete_before_the_directory_has_its_name(tmp_path):
    out = tmp_path / "run"
    with whole_directory(out) as directory:
        assert directory.parent == tmp_path
        (directory / "a.txt").write_text("whole")
        assert not out.exists()
    assert (out / "a.txt").read_text() == "whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    assert out.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("existing", ["nothing", "empty"])
def test_free_places(tmp_path, existing):
    out = tmp_path / "run"
    if existing == "empty":
        out.mkdir()
    require_free(out)
    with whole_directory(out) as directory:
        (directory / "a.txt").write_text("new")
    assert (out / "a.txt").read_text() == "new"


def test_the_current_directory_when_it_is_empty(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    with whole_directory(Path()) as directory:
        (directory / "a.txt").write_text("new")
    assert (tmp_path / "run" / "a.txt").read_text() == "new"


@pytest.mark.parametrize("kind", ["full", "file"])
def test_places_that_are_taken(tmp_path, kind):
    out = tmp_path / "run"
    if kind == "full":
        out.mkdir()
        (out / "old.txt").write_text("old")
    else:
        out.write_text("old")
    message = "run already exists; give another --out or remove it, an earlier run is never overwritten"
    with pytest.raises(UsageError, match=message):
        require_free(out)
    with pytest.raises(UsageError, match=message), whole_directory(out) as directory:
        (directory / "a.txt").write_text("new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    assert (out / "old.txt" if kind == "full" else out).read_text() == "old"


def test_places_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(UsageError, match=r"run cannot be made, since .*file is no folder that can be written; give another --out"):
        require_free(tmp_path / "file" / "deeper" / "run")


def test_result_round_trip(tmp_path):
    result = example_result()
    result.write(tmp_path / "result.json")
    assert FairnessResult.read(tmp_path / "result.json") == result


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "found none; give the directory of a finished run"),
        (b"{", "is not a result of this version: the file: Invalid JSON"),
        (b"\xff\xfe", "could not read it|Invalid JSON"),
        (b"{}", "is not a result of this version: schema_version: Field required; run the repair again"),
    ],
)
def test_results_that_cannot_be_read(tmp_path, content, message):
    file = tmp_path / "result.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        FairnessResult.read(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_result_with_an_unknown_key_is_refused(tmp_path):
    content = json.loads(example_result().model_dump_json())
    (tmp_path / "result.json").write_text(json.dumps(content | {"verdikt": 1}))
    with pytest.raises(DataError, match="verdikt: Extra inputs are not permitted"):
        FairnessResult.read(tmp_path / "result.json")


def test_a_folder_in_place_of_a_result(tmp_path):
    with pytest.raises(DataError, match=r"could not read it .*; give the directory of a finished run"):
        FairnessResult.read(tmp_path)
