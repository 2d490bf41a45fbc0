import json

import numpy as np
import pytest

from repairkit.data import digits
from repairkit.data.training_hashes import check_unseen, read_record
from repairkit.errors import DataError, ModelError, UsageError
from repairkit.models import embedded
from repairkit.models.training_loop import measure
from repairkit.network.filters import ConvFilters

SMALL = {"architecture": "mobilenet_v3_small", "size": 32}
EPOCHS = 3


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A fit of a few seconds, its progress, and the cache that it lies in."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("REPAIRKIT_CACHE", str(folder))
        patch.setenv("TORCH_HOME", str(folder))
        patch.setattr(embedded, "EPOCHS_OF_SLOW_LEARNERS", EPOCHS)
        calls = []
        model = embedded.load(**SMALL, progress=lambda *now: calls.append(now))
        yield model, calls, folder


def test_it_reads_digits_that_it_was_not_fitted_on(first):
    model, calls, _ = first
    assert [step for step, _, epoch in calls if epoch is None] == list(range(1, EPOCHS * 18 + 1))
    assert model.classifier.classes == digits.CLASSES
    assert model.stand_in
    assert "not on ImageNet" in model.provenance
    held_out = digits.held_out_digits(size=32).subset(np.arange(300))
    assert measure(model.classifier, held_out)[0] > 0.5
    check_unseen(model.weights, held_out=held_out)
    with pytest.raises(DataError, match="600 of the 600 training images are among"):
        check_unseen(model.weights, training=digits.training_digits(size=32))


def test_it_is_kept_with_its_record(first, monkeypatch):
    model, _, folder = first
    monkeypatch.setenv("REPAIRKIT_CACHE", str(folder))
    monkeypatch.setattr(embedded, "EPOCHS_OF_SLOW_LEARNERS", EPOCHS)
    monkeypatch.setattr(embedded, "train", None)  # nothing is fitted again
    again = embedded.load(**SMALL)
    assert again.sha256 == model.sha256
    assert again.weights == model.weights
    assert model.weights.parent == folder / "models"
    (stage,) = json.loads(model.weights.with_suffix(".train.json").read_text())["stages"]
    assert stage["settings"]["seed"] == 0
    assert not stage["settings"]["flip"]  # a mirrored digit is another
    assert len(read_record(model.weights)) == 600
    with pytest.raises(TypeError):
        embedded.load(**SMALL, seed=1)


def test_a_rival_is_the_same_network_fitted_on_with_filter_dropout(first, monkeypatch):
    model, _, folder = first
    monkeypatch.setenv("REPAIRKIT_CACHE", str(folder))
    monkeypatch.setattr(embedded, "EPOCHS_OF_SLOW_LEARNERS", EPOCHS)
    calls = []
    rival = embedded.load(**SMALL, filter_dropout=0.2, progress=lambda *now: calls.append(now))
    assert len([step for step, _, epoch in calls if epoch is None]) == EPOCHS * 18  # the network without was in the cache
    assert rival.stages[-1].settings.filter_dropout == 0.2
    assert rival.stand_in
    assert rival.provenance.startswith("Embedded default for mobilenet_v3_small")
    assert rival.provenance.endswith("Fitted with filter dropout of 0.2.")
    held_out = digits.held_out_digits(size=32).subset(np.arange(300))
    assert measure(rival.classifier, held_out)[0] > 0.5
    check_unseen(rival.weights, held_out=held_out)
    monkeypatch.setattr(embedded, "train", None)  # nothing is fitted again
    assert embedded.load(**SMALL).sha256 == model.sha256 != rival.sha256
    assert embedded.load(**SMALL, filter_dropout=0.2).sha256 == rival.sha256
    with pytest.raises(TypeError):
        embedded.load(**SMALL, filter_dropout=0.3)


def test_small_networks_and_those_without_batch_norm_learn_longer(monkeypatch):
    def no_fit(_images, settings, **_):
        raise KeyboardInterrupt(settings.epochs)

    monkeypatch.setattr(embedded, "train", no_fit)
    monkeypatch.setattr(embedded, "EPOCHS", 2)
    monkeypatch.setattr(embedded, "EPOCHS_OF_SLOW_LEARNERS", 7)
    for architecture, epochs in (("mobilenet_v3_small", 7), ("squeezenet1_1", 7), ("vgg11", 7), ("resnet18", 2)):
        with pytest.raises(KeyboardInterrupt, match=f"^{epochs}$"):
            embedded.load(architecture, size=33)


@pytest.mark.extended
def test_a_fit_that_was_cut_off_is_made_again_to_the_same_bits(first, monkeypatch):
    model, _, folder = first
    monkeypatch.setenv("REPAIRKIT_CACHE", str(folder))
    monkeypatch.setattr(embedded, "EPOCHS_OF_SLOW_LEARNERS", EPOCHS)
    model.weights.with_suffix(".train-images.txt").unlink()
    model.weights.write_bytes(b"cut")
    assert embedded.load(**SMALL).sha256 == model.sha256


def test_when_it_applies(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert embedded.applies_to("inception_v3")
    assert not embedded.applies_to("inception_v3", tmp_path / "own.pth")
    assert not embedded.applies_to("squeezenet_celeba")
    assert not embedded.applies_to("own.safetensors")
    published = tmp_path / "hub" / "checkpoints" / "inception_v3_google-0cc3c7bd.pth"
    published.parent.mkdir(parents=True)
    published.touch()
    assert not embedded.applies_to("inception_v3")


def test_what_it_cannot_be():
    with pytest.raises(ModelError, match="no classifier called 'resnet19'"):
        embedded.load("resnet19")
    with pytest.raises(UsageError, match="filter dropout of 0 or more and below 1, got 1"):
        embedded.load(filter_dropout=1.0)
    with pytest.raises(ModelError, match="cannot take images of 32 pixels"):
        embedded.load("inception_v3", size=32)


@pytest.mark.extended
@pytest.mark.timeout(1800)
def test_the_default_has_all_of_inception_s_filters_and_reads_digits():
    model = embedded.load(threads=1)
    assert len(ConvFilters(model.classifier.network)) == 17_216
    assert measure(model.classifier, digits.held_out_digits())[0] > 0.9
