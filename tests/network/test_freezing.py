from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from networks import (
    CASES,
    UNTRACEABLE,
    Case,
    case_id,
    coalitions,
    conv_bn_relu,
    conv_relu,
    conv_without_bias,
    depthwise,
    inputs,
    norm_without_parameters,
    randomised,
)
from oracles import masked_logits
from torch import nn
from torchvision import models

from repairkit.errors import BakeError, ModelError
from repairkit.network.filters import ConvFilters, FilterId
from repairkit.network.freezing import Freeze, bake, baked_copy

EXACT = 1e-5
"""Largest difference of logits that counts as equal in float32."""


def gap(first: torch.Tensor, second: torch.Tensor) -> float:
    return (first - second).detach().abs().max().item()


def constants_of(filters: ConvFilters, live: np.ndarray) -> dict[FilterId, float]:
    return {filters.ids[player]: float(filters.constants[player]) for player in np.flatnonzero(~live)}


@pytest.mark.parametrize("freeze_at", ["post", "pre"])
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_baked_frozen_and_masked_networks_are_one(case: Case, freeze_at: str):
    network, twin = case.networks()
    filters = ConvFilters(network, freeze_at=freeze_at)
    filters.calibrate([inputs(9)])
    images = inputs(5, seed=1)
    for seed in range(3):
        live = coalitions(1, len(filters), seed=seed)
        constants = constants_of(filters, live[0])
        oracle = masked_logits(twin, case.signals(freeze_at), images, live, filters.constants)
        state = bake(network, constants, freeze_at=freeze_at)
        fresh = case.build().eval()
        fresh.load_state_dict(state, strict=True)
        with torch.no_grad():
            baked = fresh(images)
            with Freeze(network, constants, freeze_at=freeze_at):
                frozen = network(images)
        masked = filters.forward(images, live)
        for logits in (baked, frozen, masked):
            assert gap(logits, oracle) < EXACT
        assert gap(oracle, network(images)) > 1e-3  # freezing did something


@pytest.mark.parametrize(
    ("build", "size"),
    [
        pytest.param(lambda: models.squeezenet1_0(num_classes=2), 47, id="SqueezeNet-1.0"),
        pytest.param(lambda: models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=2), 32, id="ResNet-10"),
        pytest.param(lambda: models.mobilenet_v2(num_classes=2, width_mult=0.25), 32, id="MobileNet-v2"),
    ],
)
def test_baking_published_architectures(build, size):
    torch.manual_seed(0)
    network = build().eval()
    filters = ConvFilters(network)
    filters.calibrate([inputs(4, size=size)])
    live = coalitions(1, len(filters), share=0.97)
    fresh = build().eval()
    fresh.load_state_dict(bake(network, constants_of(filters, live[0])), strict=True)
    images = inputs(3, size=size, seed=1)
    assert gap(fresh(images), filters.forward(images, live)) < EXACT


@pytest.mark.filterwarnings("ignore::repairkit.errors.ModelWarning")
def test_an_untraceable_network_is_frozen_at_its_convolutions_outputs():
    network, twin = UNTRACEABLE.networks()
    filters = ConvFilters(network)
    filters.calibrate([inputs(9)])
    live, images = coalitions(1, len(filters)), inputs(4, seed=1)
    constants = constants_of(filters, live[0])
    oracle = masked_logits(twin, UNTRACEABLE.post, images, live, filters.constants)
    assert gap(baked_copy(network, constants)(images), oracle) < EXACT
    with Freeze(network, constants):
        assert gap(network(images), oracle) < EXACT


def test_baking_changes_neither_the_network_nor_the_form_of_its_state():
    network, _ = CASES[2].networks()
    before = copy.deepcopy(network.state_dict())
    state = bake(network, {FilterId("conv1", 2): 0.5})
    assert [(key, value.shape, value.dtype) for key, value in state.items()] == [
        (key, value.shape, value.dtype) for key, value in before.items()
    ]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    touched = [key for key in state if not torch.equal(state[key], before[key])]
    assert touched == ["conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias"]
    for key in touched:
        assert torch.equal(torch.cat([state[key][:2], state[key][3:]]), torch.cat([before[key][:2], before[key][3:]])), key


# ---- Freeze is reversible ----


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_freeze_is_undone_on_leaving_and_after_an_exception():
    network, _ = CASES[6].networks()
    network.train()
    before = copy.deepcopy(network.state_dict())
    plain = network.eval()(inputs(3)).detach()
    network.train()

    def fail_inside() -> None:
        with Freeze(network, {FilterId("conv1", 0): 0.1, FilterId("conv2", 3): -0.1}):
            assert hooks(network) == 2
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail_inside()
    assert hooks(network) == 0
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(network.eval()(inputs(3)), plain)


def test_two_freezes_nest():
    network, _ = CASES[0].networks()
    with Freeze(network, {FilterId("conv1", 0): 2.0}):
        one = network(inputs(3))
        with Freeze(network, {FilterId("conv1", 1): 1.0, FilterId("conv2", 0): 0.0}):
            three = network(inputs(3))
        assert torch.equal(network(inputs(3)), one)
    both = {FilterId("conv1", 0): 2.0, FilterId("conv1", 1): 1.0, FilterId("conv2", 0): 0.0}
    assert gap(baked_copy(network, both)(inputs(3)), three) < EXACT


# ---- what cannot be baked ----


def pruned() -> nn.Module:
    network = conv_relu()
    torch.nn.utils.parametrizations.weight_norm(network.conv1)
    return network


@pytest.mark.parametrize(
    ("build", "constant", "reason"),
    [
        pytest.param(conv_without_bias, 0.5, "has neither a bias nor a batch norm", id="no bias, no norm"),
        pytest.param(norm_without_parameters, 0.5, "batch norm bn1 has no weight and bias", id="affine=False"),
        pytest.param(conv_relu, -0.5, "the ReLU after it cannot produce", id="below ReLU"),
        pytest.param(conv_bn_relu, -0.5, "the ReLU after it cannot produce", id="below ReLU after norm"),
        pytest.param(depthwise, 6.5, "the ReLU after it cannot produce", id="above ReLU6"),
        pytest.param(conv_relu, float("nan"), "cannot", id="NaN"),
        pytest.param(pruned, 0.5, "is computed from other parameters", id="parametrized"),
    ],
)
def test_what_plain_weights_cannot_hold_is_refused(build, constant, reason):
    with pytest.raises(BakeError, match=rf"filter conv1:1 .*{reason}"):
        bake(randomised(build()), {FilterId("conv1", 1): constant})


def test_a_filter_without_bias_can_be_baked_at_zero():
    network = randomised(conv_without_bias())
    constants = {FilterId("conv1", 1): 0.0}
    with Freeze(network, constants):
        frozen = network(inputs(3))
    assert gap(baked_copy(network, constants)(inputs(3)), frozen) < EXACT


def test_before_the_relu_a_negative_constant_is_allowed():
    network = randomised(conv_relu())
    assert float(bake(network, {FilterId("conv1", 1): -0.5}, freeze_at="pre")["conv1.bias"][1]) == -0.5


@pytest.mark.parametrize(("name", "hint"), [("conv9:0", "the layers are conv1, conv2"), ("conv1:4", "conv1 has 4 filters")])
def test_an_unknown_filter_is_named(name, hint):
    network, _ = CASES[0].networks()
    for freeze in (bake, Freeze):
        with pytest.raises(ModelError, match=f"no filter {name} .{hint}"):
            freeze(network, {FilterId("conv1", 0): 0.0, FilterId.parse(name): 0.0})
    assert hooks(network) == 0
