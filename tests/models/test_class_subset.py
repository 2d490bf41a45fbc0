from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import call, one_error
from networks import randomised
from PIL import Image
from shared_data import DATA, needs

from repairkit.data import folders as imagenet
from repairkit.data.classes import imagenet_classes
from repairkit.errors import ModelError, UsageError
from repairkit.experiments.base import Loading
from repairkit.experiments.networks import load_network_and_images
from repairkit.models import zoo
from repairkit.models.class_subset import restrict_classes
from repairkit.models.training_loop import measure
from repairkit.network.filters import ConvFilters
from repairkit.network.weights import hash_state, write_weights

CLASSES = ("goldfish", "zebra", "Granny Smith", "tench", "lemon")


def saved(architecture: str, folder: Path, *, auxiliary: bool = False) -> zoo.LoadedModel:
    network = randomised(zoo.build(architecture, len(CLASSES), auxiliary=auxiliary), 0)
    write_weights(
        network, folder / "a.safetensors", architecture=architecture, classes=CLASSES, trained_on="nothing", mean=(0.5,) * 3, half=False
    )
    return zoo.load(folder / "a.safetensors")


@pytest.mark.parametrize("wanted", [("lemon", "Zebra", "tench"), CLASSES[::-1]], ids=["some", "all in another order"])
@pytest.mark.parametrize(("architecture", "auxiliary"), [("squeezenet1_1", False), ("mobilenet_v3_small", False), ("googlenet", True)])
def test_its_logits_are_the_columns_of_these_classes(tmp_path, architecture, auxiliary, wanted):
    whole = saved(architecture, tmp_path, auxiliary=auxiliary)
    whole.classifier.size = 64
    before = whole.sha256
    narrow = restrict_classes(whole, wanted)
    images = torch.rand(3, 3, 70, 70)
    columns = [["goldfish", "zebra", "granny smith", "tench", "lemon"].index(name.lower()) for name in wanted]
    expected = whole.classifier(images)[:, columns]
    assert (expected.std(dim=1) > 0).all()  # a wrong column would show
    torch.testing.assert_close(narrow.classifier(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert narrow.classifier.classes == wanted
    assert whole.classifier.classes == CLASSES
    assert hash_state(whole.classifier.network.state_dict()) == before != narrow.sha256
    assert len(ConvFilters(narrow.classifier.network)) == len(ConvFilters(whole.classifier.network))
    assert not any(module.training for module in narrow.classifier.modules())
    assert not any(weights.requires_grad for weights in narrow.classifier.parameters())
    assert narrow.provenance.endswith(f"Narrowed to {len(wanted)} of its 5 classes.")
    write_weights(
        narrow.classifier.network, tmp_path / "b.safetensors", architecture=architecture, classes=wanted, trained_on="", half=False
    )
    assert zoo.load(tmp_path / "b.safetensors").sha256 == narrow.sha256


def test_classes_that_it_does_not_have_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"lacks 2 of them: zebre, moon .*did you mean zebra"):
        restrict_classes(saved("squeezenet1_1", tmp_path), ("lemon", "zebre", "moon"))


@pytest.mark.extended
@needs("weights")
def test_an_imagenet_network_tells_twenty_of_its_classes_apart(tmp_path):
    images = imagenet.load(DATA / "tiny-imagenet-20", size=224, per_class=5, cache=tmp_path)
    whole = zoo.load("squeezenet1_1", weights=DATA / "weights" / "squeezenet1_1_imagenet.safetensors", classes=imagenet_classes())
    assert len(images) == 100
    assert measure(restrict_classes(whole, images.classes).classifier, images)[0] > 0.5


def folder_of(path: Path, *names: str) -> Path:
    for label, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (32, 32), (60 * label, 40 * number, 90)).save(path / name / f"{number}.png")
    return path


def test_a_network_is_asked_about_the_classes_of_the_folder_alone(tmp_path):
    whole = saved("squeezenet1_1", tmp_path)
    load = partial(
        load_network_and_images,
        str(whole.weights), Loading(), data_root=folder_of(tmp_path / "images", "tench", "zebra"), size=32,
    )  # fmt: skip
    as_it_is, images = load()
    assert as_it_is.classifier.classes == images.classes == CLASSES
    assert images.labels.tolist() == [3, 3, 1, 1]
    narrow, images = load(narrow=True)
    assert narrow.classifier.classes == images.classes == ("tench", "zebra")
    assert images.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(UsageError, match="--restrict-classes goes with --data-root"):
        load_network_and_images("squeezenet1_1", Loading(), size=32, narrow=True)
    batch = images.batch(np.arange(4))
    with torch.inference_mode():
        torch.testing.assert_close(narrow.classifier(batch), whole.classifier(batch)[:, [3, 1]], rtol=1e-4, atol=1e-5)


RECIPE = """
command = "accuracy"
title = "Narrow"
[small]
model = "{weights}"
narrow = true
size = 32
data.folder = "images"
"""


@pytest.mark.parametrize("command", ["recall", "accuracy", "adversarial", "prune", "run"])
def test_every_command_on_folders_narrows_where_it_is_asked_to(tmp_path, monkeypatch, command):
    def refuse(loaded, classes):
        raise UsageError(f"narrowed from {len(loaded.classifier.classes)} to {len(classes)}")

    whole, folder = saved("squeezenet1_1", tmp_path), folder_of(tmp_path / "images", "tench", "zebra")
    monkeypatch.setattr("repairkit.experiments.networks.restrict_classes", refuse)
    if command == "run":
        recipe = tmp_path / "narrow.toml"
        recipe.write_text(RECIPE.format(weights=whole.weights))
        arguments = ["run", recipe, "--data-root", tmp_path]
    else:
        arguments = [command, "--model", whole.weights, "--data-root", folder, "--size", "32", "--restrict-classes"]
        arguments += ["--class", "zebra"] if command == "recall" else []
    one_error(*call(*arguments, "--dry-run"), expected=2, message="narrowed from 5 to 2")
