import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18, squeezenet1_0

from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, ModelError, UsageError
from repairkit.models import training, training_loop, zoo
from repairkit.models.early_stopping import EarlyStopping, Epoch, hold_out
from repairkit.models.filter_dropout import FilterDropout
from repairkit.models.training import train
from repairkit.models.training_checkpoint import TrainingCheckpoint
from repairkit.models.training_loop import TrainingSettings
from repairkit.network.weights import hash_state


def blobs(n=96, *, noise=False, size=32, classes=("dark", "bright")) -> LabelledImages:
    """Images whose mean brightness is the label (or, with `noise`, says nothing about it)."""
    rng = np.random.default_rng(5)
    labels = np.arange(n) % len(classes)
    level = 60 + 130 * labels if not noise else np.full(n, 120)
    pixels = np.clip(level[:, None, None, None] + 25 * rng.standard_normal((n, size, size, 3)), 0, 255).astype(np.uint8)
    return LabelledImages(pixels=pixels, labels=labels, groups=np.array(["odd", "even"])[labels % 2], classes=classes, name="blobs")


FAST = {"epochs": 6, "batch_size": 16, "learning_rate": 1e-3}
NAMES = {field.name for field in fields(TrainingSettings)}


def fit(images, **options):
    """`train` with settings and other options in one."""
    settings = TrainingSettings(**{name: value for name, value in options.items() if name in NAMES})
    return train(images, settings, **{name: value for name, value in options.items() if name not in NAMES})


@pytest.fixture(scope="module")
def trained():
    return fit(blobs(), validation=blobs(32), **FAST)


def test_training_learns_and_keeps_a_history(trained):
    assert [epoch.epoch for epoch in trained.history] == [1, 2, 3, 4, 5, 6]
    assert trained.history[-1].loss < trained.history[0].loss
    assert trained.history[-1].validation_accuracy > 0.9
    assert set(trained.history[-1].recalls) == {"odd", "even"}
    assert not trained.network.training
    assert not any(p.requires_grad for p in trained.network.parameters())


def test_same_seed_same_bits_and_the_generator_is_left_alone(trained):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    threads = torch.get_num_threads()
    again = fit(blobs(), validation=blobs(32), **FAST)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert torch.get_num_threads() == threads
    assert hash_state(again.network.state_dict()) == hash_state(trained.network.state_dict())
    other = fit(blobs(), seed=1, **FAST)
    assert hash_state(other.network.state_dict()) != hash_state(trained.network.state_dict())


def test_write_leaves_loadable_weights_and_a_record(tmp_path, trained):
    path = tmp_path / "blobs.safetensors"
    trained.write(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["blobs.safetensors", "blobs.train.json"]
    model = zoo.load(path)
    assert model.classifier.classes == ("dark", "bright")
    assert "blobs, 96 images" in model.trained_on
    accuracy, recalls = training_loop.measure(model.classifier, blobs(32))
    assert accuracy == pytest.approx(np.mean(list(recalls.values())))
    assert accuracy > 0.9
    (stage,) = json.loads((tmp_path / "blobs.train.json").read_text())["stages"]
    assert stage["settings"]["learning_rate"] == FAST["learning_rate"]
    assert stage["settings"]["images"] == 96
    assert len(stage["history"]) == FAST["epochs"]
    assert stage["seconds"] > 0


def test_starting_from_weights_with_another_head(trained, tmp_path):
    path = tmp_path / "two.safetensors"
    trained.write(path)
    three = fit(blobs(96, classes=("dark", "middle", "bright")), init=path, epochs=1, batch_size=16, learning_rate=1e-9, flip=False)
    assert len(three.notes) == 2
    assert "classifier.1.weight" in three.notes[0]
    assert "(2, 512, 1, 1)" in three.notes[0]
    body = {key: value for key, value in trained.network.state_dict().items() if key.startswith("features")}
    for key, value in body.items():
        torch.testing.assert_close(three.network.state_dict()[key], value, rtol=2e-3, atol=1e-4)
    with pytest.raises(ModelError, match="missing"):
        fit(blobs(), init={"features.0.weight": torch.zeros(96, 3, 7, 7)}, **FAST)


def test_noise_is_reported_as_chance_and_its_epochs_are_not_kept(tmp_path):
    """Going on with them would end at chance again."""
    checkpoint = TrainingCheckpoint(tmp_path / "weights.unfinished")
    seen = []
    with pytest.raises(ModelError, match="ended at chance"):
        fit(
            blobs(noise=True, n=64), epochs=2, batch_size=16, learning_rate=1e-6, checkpoint=checkpoint,
            progress=lambda *_: seen.append(checkpoint.path.exists()),
        )  # fmt: skip
    assert any(seen)
    assert list(tmp_path.iterdir()) == []


def test_a_diverging_loss_is_an_error():
    with pytest.raises(ModelError, match=r"loss became (nan|inf) at step 2 of .*lower the learning rate"):
        fit(blobs(), architecture="resnet18", **FAST | {"learning_rate": 1e38})


def test_a_network_that_cannot_take_the_images_is_known_before_any_step():
    calls = []
    poison = {key: value * 1e15 for key, value in squeezenet1_0(num_classes=2).state_dict().items()}
    with pytest.raises(ModelError, match="logits are NaN or infinite"):
        fit(blobs(), init=poison, progress=lambda *now: calls.append(now), **FAST)
    for wrong in ({"images": blobs(size=16)}, {"images": blobs(), "size": 16}):
        with pytest.raises(ModelError, match="cannot take images of 16 pixels"):
            fit(**wrong, progress=lambda *now: calls.append(now), **FAST)
    assert calls == []


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"filter_dropout": 1.0}, {"filter_dropout": -0.1}]
)
def test_settings_outside_their_range(wrong):
    with pytest.raises(UsageError, match="expected epochs"):
        fit(blobs(), **{**FAST, **wrong})


@pytest.mark.parametrize(("architecture", "count", "after_norm"), [(squeezenet1_0, 25, False), (resnet18, 20, True)])
def test_filter_dropout_covers_every_convolution_but_the_classifier_s(architecture, count, after_norm):
    network = architecture(num_classes=2)
    dropout = FilterDropout(network, torch.rand(1, 3, 64, 64))
    assert len(set(dropout.modules)) == count
    assert all(isinstance(module, nn.BatchNorm2d if after_norm else nn.Conv2d) for module in dropout.modules)
    assert network.training


def test_filter_dropout_zeroes_whole_filters_per_image_and_scales_the_rest():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2))
    images = torch.rand(32, 3, 8, 8)
    seen = []
    network[2].register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach().clone()))
    network(images)
    with FilterDropout(network, images[:1]) as dropout:
        dropout.p = 0.25
        seen.clear()
        network(images)
        network.eval()
        quiet = network(images)
    torch.testing.assert_close(network(images), quiet)  # eval mode drops nothing, with hooks or without
    plain = network.train()[:3](images)
    dropped = seen[0]
    gone = (dropped == 0).all(dim=(2, 3)) & (plain > 0).any(dim=3).any(dim=2)
    assert gone.float().mean() == pytest.approx(0.25, abs=0.05)
    assert gone.float().mean(dim=0).min() > 0  # other filters for other images
    torch.testing.assert_close(dropped[~gone], plain[~gone] / 0.75)


def test_dropout_ramps_up_and_trains_from_plain_weights(trained):
    at_once = fit(blobs(), init=trained.network.state_dict(), filter_dropout=0.3, ramp=0.0, **{**FAST, "epochs": 1, "learning_rate": 1e-5})
    assert [epoch.dropout for epoch in at_once.history] == [0.3]
    dropped = fit(blobs(), init=trained.network.state_dict(), filter_dropout=0.5, **FAST)
    levels = [epoch.dropout for epoch in dropped.history]
    assert levels == sorted(levels)
    assert levels[0] < 0.25
    assert levels[-1] == 0.5


def test_images_are_resized_for_training_only():
    small = fit(blobs(size=48), size=32, **FAST)
    assert training_loop.measure(training.Classifier(small.network, classes=small.classes, size=32), blobs(32, size=48))[0] > 0.9


def test_progress_is_called_for_steps_and_epochs():
    calls = []
    fit(blobs(), progress=lambda step, steps, epoch: calls.append((step, steps, epoch)), **{**FAST, "epochs": 2, "learning_rate": 2e-3})
    assert [step for step, _, epoch in calls if epoch is None] == list(range(1, 13))
    assert [epoch.epoch for _, _, epoch in calls if epoch] == [1, 2]


def test_settled_norms_hold_the_mean_over_the_training_images():
    trained = fit(blobs(), architecture="resnet18", settle_norms=True, **{**FAST, "epochs": 1})
    classifier = training.Classifier(trained.network, classes=trained.classes)
    seen = classifier.network.conv1(classifier.prepare(blobs().batch(np.arange(96))))
    norm = classifier.network.bn1
    torch.testing.assert_close(norm.running_mean, seen.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert trained.settings["settle_norms"]


def stopping_on(accuracies, *, patience, levels=None, dropout=0.0):
    """Early stopping shown epochs of these validation accuracies, whose networks hold the number of the epoch, until it ends."""
    stopping = EarlyStopping(patience, dropout=dropout)
    network = nn.Linear(1, 1)
    for number, accuracy in enumerate(accuracies, start=1):
        nn.init.constant_(network.weight, number)
        level = levels[number - 1] if levels else 0.0
        stopping.observe(Epoch(number, 1.0, 1.0, 1e-3, level, 1.0, validation_accuracy=accuracy), network)
        if stopping.ended:
            break
    stopping.restore(network)
    return stopping, int(network.weight), number


@pytest.mark.parametrize(
    ("accuracies", "patience", "kept", "last"),
    [
        ([0.5, 0.7, 0.6, 0.65, 0.9], 2, 2, 4),
        ([0.5, 0.7, 0.6, 0.65, 0.9], 3, 5, 5),
        ([0.7, 0.7, 0.7], 2, 1, 3),  # of equals the first, and an equal is no higher one
        ([0.5, 0.6, 0.7], 1, 3, 3),
        ([0.9, 0.8], 1, 1, 2),
    ],
)
def test_the_best_epoch_is_kept_and_patience_ends(accuracies, patience, kept, last):
    stopping, weight, seen = stopping_on(accuracies, patience=patience)
    assert (weight, seen, stopping.best.epoch) == (kept, last, kept)


def test_epochs_with_less_dropout_than_asked_for_neither_count_nor_wait():
    stopping, weight, seen = stopping_on([0.9, 0.8, 0.5, 0.6, 0.4, 0.4], patience=2, levels=[0.1, 0.3, 0.5, 0.5, 0.5, 0.5], dropout=0.5)
    assert (weight, seen) == (4, 6)
    stopping, weight, _ = stopping_on([0.9, 0.8], patience=1, levels=[0.1, 0.3], dropout=0.5)
    assert (stopping.best, weight) == (None, 2)


def test_a_training_keeps_the_network_that_validation_liked_best():
    images, validation = hold_out(blobs(120), 0.2, seed=1)
    settings = FAST | {"epochs": 8, "learning_rate": 3e-3}
    kept = fit(images, validation=validation, patience=2, **settings)
    best = kept.history[kept.kept_epoch - 1]
    assert best.validation_accuracy == max(epoch.validation_accuracy for epoch in kept.history)
    assert all(epoch.validation_accuracy < best.validation_accuracy for epoch in kept.history[: kept.kept_epoch - 1])
    assert len(kept.history) == kept.kept_epoch + 2 < 8
    assert kept.ended == "2 epochs in a row brought no higher validation accuracy"
    # the network is that of its epoch: a training of the same schedule that is cut there has the same bits
    states = []

    def note(_step, _steps, epoch):
        if epoch:
            states.append(epoch.epoch)
            if epoch.epoch == kept.kept_epoch + 1:
                raise KeyboardInterrupt

    class Noting(TrainingCheckpoint):
        def write(self, configuration, state):
            states.append(hash_state(state["loop"]["network"]))

        def read(self, configuration):
            return None

    with pytest.raises(KeyboardInterrupt):
        fit(images, validation=validation, checkpoint=Noting("nowhere"), progress=note, **settings)
    assert states[-2] == hash_state(kept.network.state_dict())
    record = kept.record()
    assert (record["kept_epoch"], record["ended"], record["settings"]["patience"]) == (kept.kept_epoch, kept.ended, 2)
    assert record["settings"]["validation"]["images"] == 24
    assert record["settings"]["validation"]["groups"] == {"even": 12, "odd": 12}
    assert record["settings"]["images"] == 96


def test_held_out_images_are_in_no_training():
    images = blobs(120)
    twice = images.subset([*range(120), 0, 1, 2])  # copies stay on one side
    training_part, validation = hold_out(twice, 0.25, seed=3)
    assert not set(training_part.hashes) & set(validation.hashes)
    assert len(training_part) + len(validation) == 123
    assert abs(np.bincount(validation.labels)[0] - len(validation) / 2) <= 1
    with pytest.raises(DataError, match=r"blobs: a share of 0.1 of 60 images holds out 6, but 10 are needed"):
        hold_out(blobs(60), seed=0)
    with pytest.raises(UsageError, match=r"a share above 0 and up to 0\.5 of the images, got 0\.8"):
        hold_out(images, 0.8, seed=0)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"patience": 0}, UsageError, "patience"),
        ({"validation": None}, UsageError, "validation"),
        ({"filter_dropout": 0.5, "ramp": 1.0}, UsageError, "ramp"),
        ({"settle_norms": True}, UsageError, "settle_norms"),
        ({"validation": blobs(32)}, DataError, "training and validation share"),
    ],
)
def test_patience_that_cannot_work(wrong, error, message):
    images, validation = hold_out(blobs(), 0.2, seed=1)
    with pytest.raises(error, match=message):
        fit(blobs() if error is DataError else images, **{**FAST, "patience": 2, "validation": validation, **wrong})


class Killed(TrainingCheckpoint):
    """A checkpoint whose process is killed in a moment of its choice."""

    def __init__(self, path, *, after=None):
        super().__init__(path)
        self.after, self.written = after, 0

    def write(self, configuration, state):
        super().write(configuration, state)
        self.written += 1
        if self.written == self.after:
            raise KeyboardInterrupt


DROPPED = {"filter_dropout": 0.3, "learning_rate": 1e-3, "epochs": 3, "batch_size": 16, "patience": 2}


@pytest.mark.parametrize(("architecture", "after"), [("squeezenet1_0", 1), ("shufflenet_v2_x0_5", 2)])  # without and with batch norm
def test_a_killed_training_ends_with_the_same_bits(tmp_path, trained, monkeypatch, architecture, after):
    monkeypatch.setattr(training, "_check_learned", lambda *_: None)  # thirty steps teach the second nothing
    images, validation = hold_out(blobs(120), 0.2, seed=1)
    init = trained.network.state_dict() if architecture == "squeezenet1_0" else None
    settings = DROPPED | {"architecture": architecture, "validation": validation, "init": init}
    whole = fit(images, **settings)
    path = tmp_path / "own.safetensors.unfinished"
    with pytest.raises(KeyboardInterrupt):
        fit(images, checkpoint=Killed(path, after=after), **settings)
    # killed once more in the middle of the next epoch, which is then trained again
    calls = []

    def mid_epoch(step, _steps, _epoch):
        calls.append(step)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(images, checkpoint=TrainingCheckpoint(path), progress=mid_epoch, **settings)
    assert calls[0] == after * 6 + 1
    torch.manual_seed(99)  # what the process drew before does not matter
    again = fit(images, checkpoint=TrainingCheckpoint(path), **settings)
    assert hash_state(again.network.state_dict()) == hash_state(whole.network.state_dict())
    assert [replace(epoch, seconds=0) for epoch in again.history] == [replace(epoch, seconds=0) for epoch in whole.history]
    assert (again.kept_epoch, again.ended) == (whole.kept_epoch, whole.ended)
    # killed after the last epoch, before the weights were written: nothing is trained again
    done = fit(images, checkpoint=TrainingCheckpoint(path), progress=lambda *_: pytest.fail("trained again"), **settings)
    assert hash_state(done.network.state_dict()) == hash_state(whole.network.state_dict())


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    path = tmp_path_factory.mktemp("killed") / "own.safetensors.unfinished"
    with pytest.raises(KeyboardInterrupt):
        fit(blobs(), checkpoint=Killed(path, after=1), **FAST)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, "seed 0, this run has seed 3"),
        ({"learning_rate": 2e-3}, "learning_rate 0.001, this run has learning_rate 0.002"),
        ({"images": blobs(80)}, "was made with training images"),
        ({"images": replace(blobs(), labels=1 - blobs().labels)}, "was made with training images"),
        ({"init": squeezenet1_0(num_classes=2).state_dict()}, "was made with init None, this run has init the stage before"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_name(killed, change, message):
    before = killed.read_bytes()
    with pytest.raises(UsageError, match=message):
        fit(**{"images": blobs(), "checkpoint": TrainingCheckpoint(killed), **FAST, **change})
    assert killed.read_bytes() == before


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code was run",))


@pytest.mark.parametrize(
    "content",
    [b"", b"half a file", "evil", {"loop": {}}, {"configuration": "[]", "loop": {}, "stopping": None, "history": [], "seconds": 1.0}],
)
def test_a_file_that_is_no_checkpoint_is_refused_and_runs_no_code(tmp_path, content):
    path = tmp_path / "own.safetensors.unfinished"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(Evil() if content == "evil" else content, path)
    with pytest.raises(DataError, match=r"expected the checkpoint of a training at .*remove it to begin anew"):
        fit(blobs(), checkpoint=TrainingCheckpoint(path), **FAST)


def test_a_checkpoint_with_other_weights_is_refused(killed, tmp_path):
    content = torch.load(killed, weights_only=True)
    content["loop"]["network"].popitem()
    path = tmp_path / "own.safetensors.unfinished"
    torch.save(content, path)
    with pytest.raises(DataError, match=r"expected the checkpoint of a training .*\(RuntimeError\)"):
        fit(blobs(), checkpoint=TrainingCheckpoint(path), **FAST)
