import os
from pathlib import Path

import pytest
import torch
from networks import randomised

from repairkit.data import imagenet
from repairkit.data.classes import imagenet_classes
from repairkit.errors import ModelError
from repairkit.filters import ConvFilters
from repairkit.models import zoo
from repairkit.models.narrowing import narrowed
from repairkit.models.training import measure

DATA = Path(os.environ.get("REPAIRKIT_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
CLASSES = ("goldfish", "zebra", "Granny Smith", "tench", "lemon")


def saved(architecture: str, folder: Path, *, auxiliary: bool = False) -> zoo.LoadedModel:
    network = randomised(zoo.build(architecture, len(CLASSES), auxiliary=auxiliary), 0)
    zoo.save(
        network, folder / "a.safetensors", architecture=architecture, classes=CLASSES, trained_on="nothing", mean=(0.5,) * 3, half=False
    )
    return zoo.load(folder / "a.safetensors")


@pytest.mark.parametrize("wanted", [("lemon", "Zebra", "tench"), CLASSES[::-1]], ids=["some", "all in another order"])
@pytest.mark.parametrize(("architecture", "auxiliary"), [("squeezenet1_1", False), ("mobilenet_v3_small", False), ("googlenet", True)])
def test_its_logits_are_the_columns_of_these_classes(tmp_path, architecture, auxiliary, wanted):
    whole = saved(architecture, tmp_path, auxiliary=auxiliary)
    whole.classifier.size = 64
    before = whole.sha256
    narrow = narrowed(whole, wanted)
    images = torch.rand(3, 3, 70, 70)
    columns = [["goldfish", "zebra", "granny smith", "tench", "lemon"].index(name.lower()) for name in wanted]
    expected = whole.classifier(images)[:, columns]
    assert (expected.std(dim=1) > 0).all()  # a wrong column would show
    torch.testing.assert_close(narrow.classifier(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert narrow.classifier.classes == wanted
    assert whole.classifier.classes == CLASSES
    assert zoo.hash_state(whole.classifier.network.state_dict()) == before != narrow.sha256
    assert len(ConvFilters(narrow.classifier.network)) == len(ConvFilters(whole.classifier.network))
    assert not any(module.training for module in narrow.classifier.modules())
    assert not any(weights.requires_grad for weights in narrow.classifier.parameters())
    assert narrow.provenance.endswith(f"Narrowed to {len(wanted)} of its 5 classes.")
    zoo.save(narrow.classifier.network, tmp_path / "b.safetensors", architecture=architecture, classes=wanted, trained_on="", half=False)
    assert zoo.load(tmp_path / "b.safetensors").sha256 == narrow.sha256


def test_classes_that_it_does_not_have_are_named(tmp_path):
    message = (
        r"it lacks 2 of them: zebre, moon \(no class is called 'zebre'; did you mean zebra\? .*\); name the classes as the network does"
    )
    with pytest.raises(ModelError, match=message):
        narrowed(saved("squeezenet1_1", tmp_path), ("lemon", "zebre", "moon"))


@pytest.mark.extended
@pytest.mark.skipif(not (DATA / "weights").is_dir(), reason="no shared data on this machine")
def test_an_imagenet_network_tells_twenty_of_its_classes_apart(tmp_path):
    images = imagenet.load(DATA / "tiny-imagenet-20", size=224, per_class=5, cache=tmp_path)
    whole = zoo.load("squeezenet1_1", weights=DATA / "weights" / "squeezenet1_1_imagenet.safetensors", classes=imagenet_classes())
    assert len(images) == 100
    assert measure(narrowed(whole, images.classes).classifier, images)[0] > 0.5
