"""`repairkit train`: weights, and on record how they came about."""

import importlib
import json

import numpy as np
import pytest
import tiny_faces
from command_line import call, fairness, one_error
from PIL import Image
from safetensors.torch import load_file
from tiny_faces import STAND_IN

from repairkit.models import zoo

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


def test_stand_ins_take_no_settings(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(training_command, "train_stand_ins", lambda *_, **settings: trained.append(settings["threads"]) or {})
    for more, option in (
        (["--epochs", "2"], "--epochs"),
        (["--data", "drawn"], "--data"),
        (["--filter-dropout", "0.5"], "--filter-dropout"),
    ):
        message = f"--stand-ins trains with settings of its own and takes only --threads beside it, got {option}; leave it out"
        one_error(*call("train", "--stand-ins", tmp_path, *more), expected=2, message=message)
    assert trained == []
    assert call("train", "--stand-ins", tmp_path, "--threads", "2")[0] == 0
    assert trained == [2]


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
        ("--out own.safetensors --data faces", 2, "expected a data set"),
        ("--out own.safetensors --data ppb", 2, "the data set ppb needs its folder"),
        ("--out own.safetensors --data celeba --data-root nowhere", 3, "expected a folder at nowhere"),
        ("--out own.safetensors --arch magicnet", 3, "magicnet"),
        ("--out own.safetensors --init none.safetensors", 3, "expected weights at none.safetensors, found no file"),
        ("--out own.safetensors --learning-rate 0", 2, "learning rate > 0"),
        ("--out own.safetensors --device tpu", 2, "device must be cpu or cuda"),
        ("--out own.safetensors --size 16", 3, r"the network cannot take images of 16 pixels \(.*\); give a larger --size"),
        ("--out own.safetensors --data drawn", 2, "drawn faces come in 96 pixels and whole, got size 48; leave out size"),
    ],
)
def test_train_that_cannot_work(faces, tmp_path, monkeypatch, arguments, expected, message):
    monkeypatch.chdir(tmp_path)
    one_error(*train(faces, *arguments.split()), expected=expected, message=message)
    assert list(tmp_path.iterdir()) == []
