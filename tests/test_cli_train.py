"""`repairkit train`: weights, and on record how they came about."""

import importlib
import json
from dataclasses import asdict

import numpy as np
import pytest
import tiny_faces
import torch
from command_line import call, fairness, one_error
from PIL import Image
from safetensors.torch import load_file
from tiny_faces import STAND_IN

from repairkit.data import digits
from repairkit.models import zoo
from repairkit.models.training_checkpoint import TrainingCheckpoint

training_command = importlib.import_module("repairkit.cli.train")


def train(faces, *more):
    arguments = ["train", "--data", faces / "source.csv", "--size", "48", "--init", STAND_IN, "--epochs", "1", "--threads", "1"]
    return call(*arguments, "--learning-rate", "1e-5", *more)


def test_train_writes_weights_and_how_they_came_about(faces, tmp_path):
    out = tmp_path / "models" / "own.safetensors"
    code, stdout, stderr = train(faces, "--out", out, "--seed", "4")
    assert (code, stdout) == (0, "")
    assert "epoch 1: loss" in stderr
    assert sorted(entry.name for entry in out.parent.iterdir()) == ["own.safetensors", "own.train-images.txt", "own.train.json"]
    record = json.loads((out.parent / "own.train.json").read_text())
    assert record["stages"][0]["settings"] | {"images": 60, "seed": 4, "epochs": 1} == record["stages"][0]["settings"]
    model = zoo.load(out)
    assert model.classifier.classes == ("female", "male")
    assert not np.array_equal(load_file(out)["features.0.weight"], load_file(STAND_IN)["features.0.weight"])
    one_error(*train(faces, "--out", out), expected=2, message="own.safetensors already exists; give another --out or remove it")


def test_images_that_a_network_was_trained_on_are_refused_whatever_their_crop(faces, tmp_path):
    out, later = tmp_path / "own.safetensors", tmp_path / "later.safetensors"
    train(faces, "--out", out)
    record = (tmp_path / "own.train-images.txt").read_text().splitlines()[1:]
    assert len(record) == len(tiny_faces.source())
    message = r"60 of the 60 source images are among the 60 that own.safetensors was trained on .*; give source images that it was not"
    one_error(*fairness(faces, "--dry-run", model=out), expected=3, message=message)
    swapped = ["--data", faces / "source.csv", "--source-data", faces / "target.csv", "--crop", "0.9,0.5"]
    one_error(*fairness(faces, "--dry-run", *swapped, model=out), expected=3, message="60 of the 60 target images are among")
    # what the weights that it started from had seen is on record too
    train(faces, "--data", faces / "target.csv", "--init", out, "--out", later)
    assert set(record) < set((tmp_path / "later.train-images.txt").read_text().splitlines())
    (tmp_path / "own.train-images.txt").unlink()
    assert fairness(faces, "--dry-run", model=out)[0] == 0


def celeba_of(images, folder):
    """Drawn faces in CelebA's published layout, all of them in its training part."""
    (folder / "img_align_celeba").mkdir(parents=True)
    files = [f"{number:06d}.png" for number in range(len(images))]
    for file, pixels in zip(files, images.pixels, strict=True):
        Image.fromarray(pixels).resize((178, 218)).save(folder / "img_align_celeba" / file)
    rows = [f"{file} {2 * label - 1}" for file, label in zip(files, images.labels, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(rows)), "Male", *rows]))
    (folder / "list_eval_partition.txt").write_text("\n".join(f"{file} 0" for file in files))
    return folder


def test_trained_under_our_own_name_is_found_by_it(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path))
    assert zoo.load("squeezenet_celeba").stand_in
    root = celeba_of(tiny_faces.source(), tmp_path / "data" / "celeba")
    assert train(faces, "--data", "celeba", "--data-root", root, "--out", "squeezenet_celeba")[0] == 0
    model = zoo.load("squeezenet_celeba")
    assert not model.stand_in
    assert model.weights == tmp_path / "models" / "squeezenet_celeba.safetensors"
    assert model.trained_on == "CelebA, 60 images"


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        ("", 2, "give --out: a .safetensors file, or squeezenet_celeba to keep the weights"),
        ("--out own", 2, "expected an --out that ends in .safetensors, or one of squeezenet_celeba, .*got own"),
        (
            "--out squeezenet_celeba",
            2,
            r"squeezenet_celeba names a squeezenet1_0 trained on CelebA, got --arch squeezenet1_0 --data .*source.csv",
        ),
        (
            "--out squeezenet_celeba_dropout --data drawn",
            2,
            "squeezenet_celeba_dropout names a squeezenet1_0 trained on CelebA, got .* drawn;",
        ),
        ("--out squeezenet_celeba --data celeba --arch resnet18", 2, "got --arch resnet18 --data celeba; give"),
        (
            "--out squeezenet_celeba_dropout --data celeba",
            2,
            "squeezenet_celeba_dropout names weights trained with filter dropout .*, got --out squeezenet_celeba_dropout --filter-dropout 0;",
        ),
        ("--out squeezenet_celeba --data celeba --filter-dropout 0.2", 2, "got --out squeezenet_celeba --filter-dropout 0.2; change one"),
        ("--out own.safetensors --data faces", 2, "a FOLDER of images as --data, and found no folder .faces."),
        ("--out own.safetensors --data ppb", 2, "the data set ppb needs its folder"),
        ("--out own.safetensors --data celeba --data-root nowhere", 3, "expected a folder at nowhere"),
        ("--out own.safetensors --arch magicnet", 3, "magicnet"),
        ("--out own.safetensors --init none.safetensors", 3, "expected weights at none.safetensors, found no file"),
        ("--out own.safetensors --learning-rate 0", 2, "learning rate > 0"),
        ("--out own.safetensors --size 16", 3, "cannot take images of 16 pixels"),
        ("--out own.safetensors --data drawn", 2, "drawn faces come in 96 pixels and whole, got size 48; leave out size"),
    ],
)
def test_train_that_cannot_work(faces, tmp_path, monkeypatch, arguments, expected, message):
    monkeypatch.chdir(tmp_path)
    one_error(*train(faces, *arguments.split()), expected=expected, message=message)
    assert list(tmp_path.iterdir()) == []


LONG = ["--epochs", "3", "--patience", "2", "--validation-share", "0.25", "--batch-size", "15", "--filter-dropout", "0.2"]


def test_patience_holds_images_out_and_says_so(faces, tmp_path):
    out = tmp_path / "own.safetensors"
    code, _, stderr = train(faces, "--out", out, *LONG)
    assert code == 0
    assert "validation accuracy" in stderr
    assert "kept epoch " in stderr
    (stage,) = json.loads((tmp_path / "own.train.json").read_text())["stages"]
    settings = stage["settings"]
    assert (settings["images"], settings["validation"]["images"], settings["batch_size"], settings["patience"]) == (45, 15, 15, 2)
    assert settings["validation"]["data"] == "source, held out"
    assert 1 <= stage["kept_epoch"] <= len(stage["history"]) <= 3
    assert stage["ended"]
    # those held out chose the epoch, so they count as seen
    assert len((tmp_path / "own.train-images.txt").read_text().splitlines()) == 1 + 60


def test_an_interrupted_training_goes_on_by_the_command_that_it_prints(faces, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.safetensors", tmp_path / "own.safetensors"
    assert train(faces, "--out", whole, *LONG)[0] == 0
    write = TrainingCheckpoint.write

    def interrupted(self, configuration, state):
        write(self, configuration, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingCheckpoint, "write", interrupted)
    code, _, stderr = train(faces, "--out", out, *LONG)
    assert code == 130
    assert "the epochs so far are kept; to go on: repairkit" in stderr
    assert "--resume" in stderr
    assert sorted(entry.name for entry in tmp_path.glob("own*")) == ["own.safetensors.unfinished"]
    monkeypatch.undo()
    one_error(
        *train(faces, "--out", out, *LONG), expected=2, message="own.safetensors.unfinished holds the work of a run that did not finish"
    )
    message = "own.safetensors.unfinished was made with seed 0, this run has seed 1; go on with the same configuration"
    one_error(*train(faces, "--out", out, *LONG, "--resume", "--seed", "1"), expected=2, message=message)
    assert train(faces, "--out", out, *LONG, "--resume")[0] == 0
    for name, tensor in load_file(whole).items():
        assert torch.equal(tensor, load_file(out)[name])
    assert sorted(entry.name for entry in tmp_path.glob("own*")) == ["own.safetensors", "own.train-images.txt", "own.train.json"]
    one_error(*train(faces, "--out", out, *LONG, "--resume"), expected=2, message="own.safetensors already exists")
    gone = tmp_path / "gone.safetensors"
    one_error(
        *train(faces, "--out", gone, *LONG, "--resume"), expected=2, message="there is no unfinished run at .*gone.safetensors.unfinished"
    )


def recorded(monkeypatch):
    """What the command would train on, without training."""
    calls = []

    def no_training(images, settings, **options):
        calls.append((images, asdict(settings) | options))
        raise KeyboardInterrupt

    monkeypatch.setattr(training_command, "fit", no_training)
    return calls


def test_train_on_class_folders_and_digits(folders, tmp_path, monkeypatch):
    calls = recorded(monkeypatch)
    out = tmp_path / "own.safetensors"
    parted = tmp_path / "parted"
    parted.mkdir()
    for part in ("train", "val"):
        (parted / part).symlink_to(folders)
    call("train", "--data", folders, "--size", "48", "--out", out, "--max-per-class", "5", "--threads", "1")
    call("train", "--data", parted, "--size", "48", "--out", out, "--threads", "1")
    call("train", "--data", parted, "--size", "48", "--out", out, "--threads", "1", "--subsets", "val", "--no-flip")
    call("train", "--data", folders, "--arch", "alexnet", "--max-per-class", "1", "--out", out, "--threads", "1")
    call("train", "--data", "digits", "--size", "16", "--out", out, "--threads", "1", "--patience", "1")
    (few, settings), (train_part, _), (val_part, unflipped), (usual, _), (written, of_digits) = calls
    assert (few.classes, len(few), settings["flip"], settings["validation"]) == (("female", "male"), 10, True, None)
    assert (train_part.sources[0].split("/")[0], len(train_part)) == ("train", 64)
    assert (val_part.sources[0].split("/")[0], unflipped["flip"]) == ("val", False)
    assert usual.pixels.shape[1:3] == (224, 224)
    assert (len(written), of_digits["flip"], len(of_digits["validation"])) == (540, False, 60)  # a mirrored digit is another
    assert set(written.hashes) | set(of_digits["validation"].hashes) == set(digits.training_digits(size=16).hashes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits", "--data-root", "here"], "--data-root does not go with --data digits; leave it out"),
        (["--subsets", "val"], "--subsets does not go with --data .*source.csv; leave it out"),
        (["--data", "digits", "--max-per-class", "3"], "--max-per-class does not go with --data digits"),
        (["--validation-share", "0.2"], "--validation-share is what --patience holds out, got 0.2 without it"),
        (["--patience", "1", "--validation-share", "0.9"], "a share above 0 and up to 0.5 of the images, got 0.9"),
    ],
)
def test_data_and_options_that_do_not_go_together(faces, tmp_path, arguments, message):
    one_error(*train(faces, "--out", tmp_path / "own.safetensors", *arguments), expected=2, message=message)
    assert list(tmp_path.iterdir()) == []
