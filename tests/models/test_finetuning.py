from __future__ import annotations

import copy

import numpy as np
import pytest
import three_colours
import torch
from networks import CASES, CLASSES, IMAGE, Case, case_id, conv_bn_relu, conv_relu, conv_without_bias, inputs, labelled, randomised
from oracles import outputs_of
from torch import Tensor, nn

from repairkit.errors import BakeError, ModelError, UsageError
from repairkit.models.finetuning import finetune
from repairkit.models.training_loop import measure
from repairkit.network.classifier import Classifier
from repairkit.network.filters import FilterId
from repairkit.network.freezing import baked_copy
from repairkit.network.weights import hash_state

HARD = {"epochs": 2, "learning_rate": 0.05, "batch_size": 8}
"""Far above the default, so that whatever can move does."""
CONSTANT = 0.3


def classifier(network: nn.Module) -> Classifier:
    return Classifier(network, classes=CLASSES).eval()


def images(count: int = 24):
    return labelled(count, size=IMAGE)


@pytest.mark.parametrize("freeze_at", ["post", "pre"])
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_frozen_signals_are_their_constant_for_any_image_and_the_others_move(case: Case, freeze_at: str):
    network, twin = case.networks()
    frozen = {FilterId(layer, 1): CONSTANT for layer in case.post}
    tuned = finetune(classifier(network), images(), frozen=frozen, freeze_at=freeze_at, **HARD)
    fresh = case.networks()[1]
    twin.load_state_dict(tuned.network.state_dict(), strict=True)
    for signal in case.signals(freeze_at).values():
        for after, before in zip(outputs_of(twin, signal, 40 * inputs(6)), outputs_of(fresh, signal, 40 * inputs(6)), strict=True):
            assert torch.equal(after[:, 1], torch.full_like(after[:, 1], CONSTANT))
            assert not torch.equal(after[:, 0], before[:, 0])


def test_weights_move_and_the_statistics_of_batch_norms_stay():
    network = randomised(conv_bn_relu())
    before = copy.deepcopy(network.state_dict())
    tuned = finetune(classifier(network), images(), **HARD)
    assert not tuned.training
    assert not any(parameter.requires_grad for parameter in tuned.parameters())
    after = tuned.network.state_dict()
    same = {name for name in after if torch.equal(after[name], before[name])}
    assert same == {f"bn{number}.{name}" for number in (1, 2) for name in ("running_mean", "running_var", "num_batches_tracked")}


@pytest.mark.parametrize("settings", [HARD, HARD | {"learning_rate": 1e38}], ids=["success", "failure"])
def test_what_was_given_is_left_as_it_was(settings):
    given = classifier(randomised(conv_bn_relu()))
    given.train()
    given.network.bn1.eval()
    given.network.conv1.requires_grad_(requires_grad=False)
    given(torch.rand(4, 3, IMAGE, IMAGE)).sum().backward()

    def everything() -> list[object]:
        parameters = list(given.parameters())
        return [
            hash_state(given.state_dict()),
            [None if parameter.grad is None else parameter.grad.tolist() for parameter in parameters],
            [parameter.requires_grad for parameter in parameters],
            [module.training for module in given.modules()],
            [len(module._forward_hooks) for module in given.modules()],
            torch.get_rng_state().tolist(),
        ]

    before = everything()
    try:
        finetune(given, images(), frozen={FilterId("conv1", 1): CONSTANT}, **settings)
    except ModelError:
        assert settings is not HARD
    assert everything() == before


def test_a_class_lost_with_its_filter_is_learned_anew():
    pictures = three_colours.images()
    given = three_colours.model().classifier
    frozen = {FilterId.parse(three_colours.CRITICAL["green"]): 0.0}
    calls = []
    tuned = finetune(given, pictures, epochs=4, frozen=frozen, learning_rate=0.05, batch_size=8, progress=lambda *now: calls.append(now))
    losses = [epoch.loss for *_, epoch in calls if epoch]
    assert measure(given.with_network(baked_copy(given.network, frozen)), pictures)[0] == pytest.approx(2 / 3)
    assert calls[0][:2] == (1, 60)
    assert losses[0] > 1
    assert losses[-1] < 0.1
    assert measure(tuned, pictures)[0] > 0.95


class TwoHeads(nn.Module):
    """Like Inception-v3 on small images: in training mode the auxiliary head fails, and the answer would be a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.dropout, self.fc, self.auxiliary = nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Linear(4, 2), nn.Conv2d(4, 2, IMAGE)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        if self.training:
            return self.fc(x.mean(dim=(2, 3))), self.auxiliary(x)
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


def test_dropout_is_on_while_training_and_an_auxiliary_head_is_left_alone():
    network = randomised(TwoHeads())
    modes: list[bool] = []
    network.dropout.register_forward_hook(lambda module, _inputs, _output: modes.append(module.training))
    tuned = finetune(classifier(network), images(), frozen={FilterId("conv1", 0): CONSTANT}, **HARD)
    assert modes.count(True) == 6
    assert not tuned.network.dropout.training
    for name, value in network.auxiliary.state_dict().items():
        assert torch.equal(tuned.network.auxiliary.state_dict()[name], value)


@pytest.mark.parametrize(("count", "steps"), [(1, 1), (8, 2), (36, 9), (40, 10)])
def test_any_number_of_steps_can_be_made_to_the_same_bits(count, steps):
    calls = []
    given = classifier(randomised(conv_relu()))
    tuned = finetune(given, images(count), epochs=1, batch_size=4, progress=lambda *now: calls.append(now))
    assert [step for step, _, epoch in calls if epoch is None] == list(range(1, steps + 1))
    again = finetune(given, images(count), epochs=1, batch_size=4)
    assert hash_state(again.state_dict()) == hash_state(tuned.state_dict()) != hash_state(given.state_dict())


@pytest.mark.parametrize(("count", "when"), [(24, "at step 2 of 3"), (8, "after the last step")])
def test_a_loss_that_is_not_finite_asks_for_a_lower_rate(count, when):
    with pytest.raises(ModelError, match=rf"the training loss became (nan|inf) {when}; lower the learning rate"):
        finetune(classifier(randomised(conv_relu())), images(count), epochs=1, batch_size=8, learning_rate=1e38)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}),
        *({"weights": np.ones(3)}, {"weights": -np.ones(24)}, {"weights": np.zeros(24)}),
    ],
)
def test_settings_outside_their_range(wrong):
    with pytest.raises(UsageError, match="expected"):
        finetune(classifier(conv_relu()), images(24), **(HARD | wrong))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ModelError, match="the network has 2 classes, colours has 3"):
        finetune(classifier(conv_relu()), three_colours.images(), epochs=1)
    with pytest.raises(ModelError, match="the network cannot take images of 2 pixels"):
        finetune(classifier(conv_relu()), labelled(4, size=2), epochs=1)
    with pytest.raises(BakeError, match="neither a bias nor a batch norm"):
        finetune(classifier(conv_without_bias()), images(), epochs=1, frozen={FilterId("conv1", 0): CONSTANT})


def test_images_are_drawn_by_their_weights_and_may_be_perturbed():
    given, pictures = classifier(randomised(conv_relu())), images(24)
    weights = np.where(pictures.labels == 1, 1.0, 0.0)
    seen = []

    def perturb(network, batch, labels):
        seen.append(labels.tolist())
        assert batch.shape[1:] == (3, IMAGE, IMAGE)
        assert network is not given
        return torch.zeros_like(batch)

    tuned = finetune(given, pictures, weights=weights, perturb=perturb, **HARD)
    assert len(seen) == 6
    assert {label for step in seen for label in step} == {1}
    first = tuned.network.get_submodule("conv1").weight
    plain = finetune(given, pictures, weights=weights, **HARD).network.get_submodule("conv1").weight
    assert not torch.equal(first, plain)


def test_the_network_after_each_epoch_can_be_looked_at():
    given = classifier(randomised(conv_bn_relu()))
    seen = []
    tuned = finetune(given, images(), on_epoch=lambda epoch, now: seen.append((epoch, now)), **HARD)
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert hash_state(seen[1][1].state_dict()) == hash_state(tuned.state_dict()) != hash_state(seen[0][1].state_dict())
    for _, now in seen:
        assert not now.training
        assert not any(parameter.requires_grad for parameter in now.parameters())
        assert not any(module._forward_hooks for module in now.modules())
    alone = finetune(given, images(), **HARD)
    assert hash_state(alone.state_dict()) == hash_state(tuned.state_dict())
