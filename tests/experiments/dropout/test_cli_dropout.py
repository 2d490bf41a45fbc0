"""`repairkit dropout`, and recipes of it: what a run leaves behind, and what it refuses."""

import importlib
import json
import shutil

import pytest
import tiny_faces
import torch
from command_line import call, one_error
from torch import nn

from repairkit.data import digits
from repairkit.data.images import data_hash
from repairkit.experiments.dropout import run as dropout
from repairkit.experiments.dropout.result import DropoutResult
from repairkit.models import embedded, zoo
from repairkit.network.classifier import Classifier
from repairkit.network.weights import hash_state, write_weights

command, run = map(importlib.import_module, ("repairkit.experiments.dropout.experiment", "repairkit.cli.run"))
QUICK = ["--size", "48", "--budget", "560", "--top-k", "2", "--threads", "1"]


def compare(folder, *more):
    networks = ["--model", tiny_faces.STAND_IN, "--compare-model", tiny_faces.DROPOUT_STAND_IN]
    return call("dropout", *networks, "--data-root", folder, *QUICK, *more)


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("dropout") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPAIRKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return *compare(folders, "--json", "--out", out), out


def test_a_run_leaves_a_whole_directory(finished):
    code, stdout, stderr, out = finished
    result = DropoutResult.model_validate_json(stdout)
    assert (code, DropoutResult.read(out / "result.json")) == (0, result)
    assert sorted(entry.name for entry in out.iterdir()) == [
        "attribution.parquet", "figures", "networks", "report.html", "report.md", "result.json", "run.json",
    ]  # fmt: skip
    assert [entry.name for entry in out.parent.iterdir()] == ["run"]
    assert (result.extra.players, result.extra.parts["report"]) == (2976, 26)
    assert "(p = 0.5 at the end of training)" in next(column.explanation for column in result.columns if column.key == "dropout")
    parts = {"calibration", "live range", "settling the live range", "attribution", "evaluation", "control"}
    assert {cost.part for cost in result.costs} == parts
    assert f"all values: repairkit attribution {out}" in stderr


def test_report_and_attribution_read_such_a_run(finished):
    out = finished[-1]
    before = (out / "report.html").read_bytes()
    code, stdout, _ = call("report", out)
    assert (code, (out / "report.html").read_bytes()) == (0, before)
    assert stdout.startswith(DropoutResult.read(out / "result.json").verdict.headline)
    assert "The highest values frozen first" in stdout
    ends = {
        network: json.loads(call("attribution", out, "--json", *(["--network", network] if network else []))[1])["end"]
        for network in (None, "original-lowest", "dropout", "dropout-lowest")
    }
    assert list(ends.values()) == ["high", "low", "high", "low"]


def test_an_interrupted_run_goes_on(folders, tmp_path, finished, monkeypatch):
    real = dropout.ablate

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(dropout, "ablate", interrupted)
    code, _, stderr = compare(folders, "--out", tmp_path / "run")
    assert code == 130
    assert "to go on: repairkit" in stderr
    monkeypatch.setattr(dropout, "ablate", real)
    code, stdout, _ = compare(folders, "--out", tmp_path / "run", "--resume", "--json")
    assert code == 0
    assert DropoutResult.model_validate_json(stdout).extra.curves == DropoutResult.read(finished[-1] / "result.json").extra.curves
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_the_default_is_the_shipped_pair_on_drawn_faces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tasks = []
    real = dropout.plan
    monkeypatch.setattr(command, "plan", lambda task, options: tasks.append(task) or real(task, options))
    code, stdout, stderr = call("dropout", "--dry-run", "--json", "--threads", "1")
    assert code == 0
    assert sum(json.loads(stdout)["passes"].values()) < 35_000
    (task,) = tasks
    assert (task.model.weights, task.dropout.weights) == (tiny_faces.STAND_IN, tiny_faces.DROPOUT_STAND_IN)
    assert (task.images.name, len(task.images)) == ("drawn source faces", 600)
    assert stderr.count("note: Stand-in for squeezenet_celeba") == 2
    assert "The faces are drawn, not photographed" in stderr
    assert list(tmp_path.iterdir()) == []


def tiny_reader(seed, *, filter_dropout):
    """A toy in place of an embedded network: digits by a linear map of two filters' means."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)).eval()
    return zoo.LoadedModel(
        Classifier(network, classes=digits.CLASSES).eval().requires_grad_(False),
        "squeezenet1_1", f"toy with {filter_dropout:g}", tiny_faces.STAND_IN.with_name("toy.safetensors"), hash_state(network.state_dict()), "digits", True,
    )  # fmt: skip


def test_a_network_without_weights_is_embedded_and_so_is_its_rival(tmp_path, monkeypatch):
    asked = []

    def load(architecture, *, size, filter_dropout=0.0, **_):
        asked.append((architecture, size, filter_dropout))
        return tiny_reader(len(asked), filter_dropout=filter_dropout)

    monkeypatch.setattr(embedded, "load", load)
    quick = ["--size", "16", "--budget", "1500", "--top-k", "2", "--threads", "1", "--min-live", "0.5"]
    code, stdout, stderr = call("dropout", "--model", "squeezenet1_1", *quick, "--json", "--out", tmp_path / "run")
    assert code == 0
    assert asked == [("squeezenet1_1", 16, 0.0), ("squeezenet1_1", 16, 0.2)]
    result = DropoutResult.model_validate_json(stdout)
    assert result.extra.images == "handwritten digits (held out), 1,197 images of 10 classes"
    assert "note: toy with 0.2" in stderr


def test_faces_come_by_their_names_and_manifests(faces, tmp_path):
    networks = ["--model", tiny_faces.STAND_IN, "--compare-model", tiny_faces.DROPOUT_STAND_IN]
    code, stdout, _ = call("dropout", *networks, "--data", faces / "target.csv", *QUICK, "--dry-run")
    assert code == 0
    assert "images: target, 64; networks: squeezenet1_0 and its dropout-trained comparison model" in stdout


def test_a_rival_that_was_trained_without_dropout_is_named(folders, tmp_path):
    rival = shutil.copy(tiny_faces.STAND_IN, tmp_path / "rival.safetensors")
    shutil.copy(tiny_faces.STAND_IN.with_suffix(".train.json"), tmp_path / "rival.train.json")
    code, _, stderr = call(
        "dropout", "--model", tiny_faces.DROPOUT_STAND_IN, "--compare-model", rival, "--data-root", folders, *QUICK, "--dry-run"
    )
    assert code == 0
    assert "note: rival.safetensors was trained without filter dropout, as its train.json says" in stderr


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        (["--compare-model", tiny_faces.STAND_IN], 3, "are the same network; give one that was trained with filter dropout"),
        (["--compare-model", "gone.safetensors"], 3, "expected weights at gone.safetensors, found no file"),
        (["--top-k", "2976"], 2, "top must be less than the 2976 filters"),
        (["--budget", "10"], 2, "the budget of 10 image passes is too small"),
        (["--max-per-class", "9"], 3, "has 18 images, but 25 are needed"),
        (["--data", "ppb", "--subsets", "val"], 2, "--subsets goes with class folders, got it with --data ppb"),
        (["--data", "drawn"], 2, "drawn faces come in 96 pixels and whole, got size 48"),
    ],
)
def test_arguments_that_cannot_work(folders, tmp_path, arguments, expected, message):
    one_error(*compare(folders, "--out", tmp_path / "run", *arguments), expected=expected, message=message)
    assert list(tmp_path.iterdir()) == []


def test_a_rival_must_be_named_and_of_the_same_architecture(folders, tmp_path):
    given = ["--data-root", folders, *QUICK]
    one_error(
        *call("dropout", "--model", tiny_faces.STAND_IN, *given),
        expected=2,
        message="give --compare-model: weights of the same architecture",
    )
    other = tmp_path / "other.safetensors"
    write_weights(zoo.build("squeezenet1_1", 2), other, architecture="squeezenet1_1", classes=("female", "male"), trained_on="nothing")
    done = call("dropout", "--model", tiny_faces.STAND_IN, "--compare-model", other, *given)
    one_error(*done, expected=3, message="two networks of one architecture, got squeezenet1_0 and squeezenet1_1")
    classes = tmp_path / "classes.safetensors"
    write_weights(zoo.build("squeezenet1_0", 3), classes, architecture="squeezenet1_0", classes=("a", "b", "c"), trained_on="nothing")
    done = call("dropout", "--model", tiny_faces.STAND_IN, "--compare-model", classes, *given)
    one_error(*done, expected=3, message="the dropout-trained one .*'a', 'b', 'c'.*; give two networks of one task")


RECIPE = """
command = "dropout"
title = "Dropout by recipe"
size = 48
model = "squeezenet_celeba"
dropout_model = "rival.safetensors"
[data]
folder = "faces"
[options]
budget = 560
top = 2
"""


@pytest.fixture
def recipe(folders, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "faces").symlink_to(folders)
    shutil.copy(tiny_faces.DROPOUT_STAND_IN, root / "rival.safetensors")
    file = tmp_path / "dropout.toml"
    file.write_text(RECIPE)
    return file, "--data-root", root, "--threads", "1"


def test_run_a_recipe(recipe, finished, monkeypatch):
    asked = []
    monkeypatch.setattr(run, "carry_out", lambda _, task, options, running, *, title: asked.append((task, options, title)) or 0)
    assert call("run", *recipe, "--seed", "4")[0] == 0
    ((task, options, title),) = asked
    by_command = DropoutResult.read(finished[-1] / "result.json").reproduction.hashes
    assert (task.model.sha256, task.dropout.sha256, data_hash(task.images)) == tuple(
        by_command[key] for key in ("model", "dropout model", "images")
    )
    assert (options.budget, options.top, options.seed, options.ranking, title) == (560, 2, 4, "recall", "Dropout by recipe")


def test_a_recipe_of_faces(recipe, faces, tmp_path):
    file, _, root, *_ = recipe
    (root / "manifests").symlink_to(faces)
    file.write_text(RECIPE.replace('[data]\nfolder = "faces"', f'[source]\nname = "{faces / "source.csv"}"\nfolder = "manifests"'))
    code, stdout, _ = call("run", file, *recipe[1:], "--dry-run", "--json")
    assert (code, json.loads(stdout)["passes"]["attribution"]) == (0, 4 * 560)


TRAINING = """
[source]
name = "source.csv"
[training]
architecture = "squeezenet1_0"
seed = 5
quotas = {men = 24, women = 16}
plain = {epochs = 1, learning_rate = 1e-5}
dropout = {epochs = 1, learning_rate = 1e-5, filter_dropout = 0.1}
"""


def test_networks_of_a_recipe_are_trained_from_the_seed_that_is_asked_for(tmp_path, monkeypatch):
    file = tmp_path / "trained.toml"
    file.write_text(f'command = "dropout"\ntitle = "Trained"\n{TRAINING}')
    asked = []
    monkeypatch.setattr(command.Dropout, "load_recipe", lambda _, recipe, loading: asked.append((recipe.training.seed, loading.fit)))
    monkeypatch.setattr(run, "carry_out", lambda *_, **__: 0)
    for more in ((), ("--training-seed", "6"), ("--training-seed", "0", "--dry-run")):
        assert call("run", file, "--data-root", tmp_path, "--threads", "1", *more)[0] == 0
    assert asked == [(5, True), (6, True), (0, False)]


@pytest.mark.parametrize(
    ("change", "more", "expected", "message"),
    [
        (("rival.", "none."), (), 3, "expected weights at .*none.safetensors, found no file"),
        (('folder = "faces"', 'folder = "photos"'), (), 3, "expected a folder at .*photos"),
        (("", ""), ("--no-with-compare-model",), 2, "recipes of dropout keep their comparison model or have none; leave --no-with"),
        (("", ""), ("--training-seed", "3"), 2, "trains no network, so it has no training seed; leave --training-seed out"),
        (('dropout_model = "rival.safetensors"\n', ""), (), 2, "give --compare-model"),
    ],
)
def test_recipes_that_cannot_work(recipe, tmp_path, change, more, expected, message):
    recipe[0].write_text(RECIPE.replace(*change))
    before = sorted(tmp_path.iterdir())
    one_error(*call("run", *recipe, *more, "--out", tmp_path / "run"), expected=expected, message=message)
    assert sorted(tmp_path.iterdir()) == before


def test_paths_of_a_recipe_need_the_data_root(recipe):
    one_error(*call("run", recipe[0]), expected=2, message="the recipe takes rival.safetensors: give --data-root, the folder")
