"""Frozen filters taken out: what is left computes the same, is as small as counted by hand, and is refused where it cannot be."""

import json

import networks
import numpy as np
import pytest
import torch
from torch import nn

from repairkit.errors import DataError, ModelError
from repairkit.experiments.pruning.footprint import flops, paired_timings, parameters
from repairkit.models import zoo
from repairkit.models.pruned import CHANNELS, WEIGHTS, load_pruned, pruned_channels_of
from repairkit.network.classifier import Classifier
from repairkit.network.filters import FilterId
from repairkit.network.freezing import Freeze, baked_copy, why_not_bakeable
from repairkit.network.structural_pruning import BORDERS, CARRIES, DEPENDS, LAST, DependencyGraph, constant_inputs
from repairkit.network.tracing import trace
from repairkit.network.weights import write_weights


class TwoHeads(nn.Module):
    """Two convolutions read one; batch norm, concatenation, a flattened map and unpadded kernels: every fold is exact."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.left = nn.Conv2d(4, 3, 3)
        self.right = nn.Conv2d(4, 2, 3, bias=False)
        self.last = nn.Conv2d(5, 2, 1, bias=False)
        self.fc = nn.Linear(2 * 16, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.cat([torch.relu(self.left(x)), self.right(x)], dim=1)
        return self.fc(torch.relu(self.last(x)).flatten(1))


def frozen(**layers):
    """Some filters at constants that any ReLU can produce."""
    return {FilterId(layer, channel): 0.2 + 0.1 * number for layer, channels in layers.items() for number, channel in enumerate(channels)}


def masked(network, constants, images):
    with torch.inference_mode(), Freeze(network, constants):
        return network(images)


def logits(network, images):
    with torch.inference_mode():
        return network(images)


@pytest.mark.parametrize("filters", [{"stem": [1]}, {"stem": [0, 3], "left": [2]}, {"left": [0, 1], "stem": [2]}])
def test_without_padding_the_pruned_network_answers_as_the_frozen_one(filters):
    network = networks.randomised(TwoHeads())
    constants, images = frozen(**filters), networks.inputs(5)
    pruned = DependencyGraph(network, images[:1]).prune(constants)
    torch.testing.assert_close(logits(pruned.network, images), masked(network, constants, images), rtol=1e-5, atol=1e-6)
    assert set(pruned.removed) == set(constants)
    assert pruned.kept == {}


def test_parameters_and_operations_are_those_counted_by_hand():
    """Without filter 1 of the stem: 27 weights and a batch norm's two numbers there, 9 weights in each row of both readers."""
    network = networks.randomised(TwoHeads())
    image = networks.inputs(1)
    pruned = DependencyGraph(network, image).prune(frozen(stem=[1]))
    before, after = parameters(network), parameters(pruned.network)
    assert before == 4 * 27 + 8 + (3 * 36 + 3) + 2 * 36 + 2 * 5 + (2 * 32 + 2)
    # right has no bias and no batch norm: it is given one number for each of its two rows
    assert before - after == 27 + 2 + 3 * 9 + 2 * 9 - 2
    assert pruned.biased == ["right"]
    assert flops(network, image) == 2 * (4 * 27 * 36 + 5 * 36 * 16 + 2 * 5 * 16 + 2 * 32)
    assert flops(network, image) - flops(pruned.network, image) == 2 * (27 * 36 + 5 * 9 * 16)


def test_the_network_that_was_given_stays_as_it_was():
    network = networks.randomised(TwoHeads())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    DependencyGraph(network, networks.inputs(1)).prune(frozen(stem=[1]))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not network.training
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())


def test_of_a_residual_sum_all_filters_must_be_frozen():
    network = networks.randomised(networks.Residual())
    images = networks.inputs(4)
    dependencies = DependencyGraph(network, images[:1])
    alone = dependencies.prune(frozen(conv0=[1], conv2=[2], conv1=[0, 3]))
    assert alone.removed == [FilterId("conv1", 0)]  # within the block, so that nothing is added to it
    assert alone.kept == {DEPENDS: [FilterId("conv0", 1), FilterId("conv2", 2)], CARRIES: [FilterId("conv1", 3)]}
    assert (alone.network.conv0.out_channels, alone.network.conv2.out_channels) == (4, 4)
    sums = {FilterId("conv0", 1): 0.0, FilterId("conv2", 1): 0.7}  # of zero, so that no carrier is needed in the block
    both = dependencies.prune(sums)
    assert set(both.removed) == set(sums)
    torch.testing.assert_close(logits(both.network, images), masked(network, sums, images), rtol=1e-5, atol=1e-6)
    assert (both.network.conv0.out_channels, both.network.conv2.out_channels, both.network.fc.in_features) == (3, 3, 3)
    assert (both.network.conv1.in_channels, both.network.conv1.out_channels) == (3, 4)


def test_behind_zero_padding_one_filter_stays_and_carries_the_others():
    network = networks.randomised(networks.Functional())  # conv3 pads, conv2 does not
    images, constants = networks.inputs(6), frozen(conv1=[0, 1, 3])  # at 0.2, 0.3 and 0.4
    pruned = DependencyGraph(network, images[:1]).prune(constants)
    assert pruned.removed == [FilterId("conv1", 0), FilterId("conv1", 1)]
    assert pruned.kept == {CARRIES: [FilterId("conv1", 3)]}
    own, first, second = (network.conv3.weight[:, channel] for channel in (3, 0, 1))
    torch.testing.assert_close(pruned.network.conv3.weight[:, 1], own + 0.5 * first + 0.75 * second)
    read = network.conv2.weight[:, :, 0, 0]
    torch.testing.assert_close(pruned.network.conv2.bias, network.conv2.bias + 0.2 * read[:, 0] + 0.3 * read[:, 1])
    torch.testing.assert_close(logits(pruned.network, images), masked(network, constants, images), rtol=1e-5, atol=1e-6)


def test_maps_that_differ_by_position_each_in_its_own_way_stay():
    """A frozen filter before a depthwise convolution that pads and lives: what comes out of that is its own at the borders."""
    network = networks.depthwise()
    network.conv2 = nn.Conv2d(4, 4, 3, groups=4, padding=1, bias=False)
    networks.randomised(network)
    with torch.no_grad():
        network.bn2.bias += 3.0  # so that no ReLU is shut
    images, constants = networks.inputs(4), frozen(conv1=[0, 1, 2])
    pruned = DependencyGraph(network, images[:1]).prune(constants)
    assert {reason: len(names) for reason, names in pruned.kept.items()} == {CARRIES: 1, BORDERS: 2}
    torch.testing.assert_close(logits(pruned.network, images), masked(network, constants, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ["squeezenet1_1", "resnet18"])
def test_real_architectures_answer_as_when_frozen(architecture):
    network = networks.randomised(zoo.build(architecture, 3))
    images, rng = networks.inputs(2, size=64), np.random.default_rng(0)
    sites = trace(network, freeze_at="post").sites
    drawn = ((site, channel) for site in sites for channel in range(site.filters) if rng.random() < 0.7)
    constants = {
        FilterId(site.layer, channel): constant
        for site, channel in drawn
        if why_not_bakeable(network, site, constant := rng.random()) is None
    }
    pruned = DependencyGraph(network, images[:1]).prune(constants)
    assert len(pruned.removed) > 0.3 * len(constants)
    assert len(pruned.removed) + sum(map(len, pruned.kept.values())) == len(constants)
    torch.testing.assert_close(logits(pruned.network, images), logits(baked_copy(network, constants), images), rtol=1e-4, atol=1e-5)


def test_a_depthwise_convolution_goes_with_the_filter_before_it():
    network = networks.randomised(networks.depthwise())
    images = networks.inputs(4)
    constants = frozen(conv2=[1])
    pruned = DependencyGraph(network, images[:1]).prune(constants)
    assert pruned.outputs == {"bn2": [1], "conv1": [1], "conv2": [1]}
    assert (pruned.network.conv2.groups, pruned.network.conv3.in_channels) == (3, 3)
    torch.testing.assert_close(logits(pruned.network, images), masked(network, constants, images), rtol=1e-5, atol=1e-6)


def test_a_layer_keeps_a_filter():
    network = networks.randomised(TwoHeads())
    pruned = DependencyGraph(network, networks.inputs(1)).prune(frozen(left=[0, 1, 2]))
    assert pruned.network.left.out_channels == 1
    assert {reason: len(names) for reason, names in pruned.kept.items()} == {LAST: 1}


def test_grouped_convolutions_are_left_alone():
    network = networks.randomised(networks.grouped())
    pruned = DependencyGraph(network, networks.inputs(1)).prune(frozen(conv1=[0], conv2=[3]))
    assert pruned.removed == []
    assert sum(map(len, pruned.kept.values())) == 2
    assert any("groups" in reason for reason in pruned.kept)


def test_what_depends_on_the_image_is_nan_in_the_watched_pass():
    network = networks.randomised(networks.Residual())
    seen = constant_inputs(network, frozen(conv0=[1]), networks.inputs(1))
    finite = {layer: torch.isfinite(value).flatten(1).all(dim=1).tolist() for layer, value in seen.items() if value.dim() == 3}
    assert finite == {"conv0": [False] * 3, "conv1": [False, True, False, False], "conv2": [False] * 4}
    assert not torch.isfinite(seen["fc"]).any()


class FixedWidth(nn.Module):
    """Reads a number of channels that stands in the code."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4 * 36, 2)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).reshape(-1, 4 * 36))


def test_a_network_that_cannot_be_cut_is_named_before_any_work():
    with pytest.raises(ModelError, match=r"Torch-Pruning cannot remove filters of this FixedWidth \(.*--no-structural-pruning"):
        DependencyGraph(networks.randomised(FixedWidth()), networks.inputs(1))


@pytest.fixture
def written(tmp_path):
    """A pruned network of torchvision's with its cuts, as a run leaves it."""
    network = networks.randomised(zoo.build("squeezenet1_1", 2))
    constants = {
        FilterId("features.0", 1): 0.3,
        FilterId("features.3.expand1x1", 5): 0.1,
        FilterId("features.12.squeeze", 0): 0.2,
        FilterId("features.12.squeeze", 7): 0.3,
    }
    pruned = DependencyGraph(network, torch.rand(1, 3, 48, 48)).prune(constants)
    assert len(pruned.removed) == 3
    classifier = Classifier(network, classes=("cat", "dog"), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)).eval()
    pruned_channels_of(pruned, classifier, "squeezenet1_1").write(tmp_path / CHANNELS)
    write_weights(
        pruned.network, tmp_path / WEIGHTS, architecture="squeezenet1_1 without 3", classes=("cat", "dog"), trained_on="", half=False
    )
    return tmp_path, classifier.with_network(pruned.network)


def test_a_pruned_network_is_rebuilt_from_its_files(written):
    folder, expected = written
    loaded = load_pruned(folder)
    images = torch.rand(3, 3, 48, 48)
    assert torch.equal(logits(loaded, images), logits(expected, images))
    assert loaded.classes == ("cat", "dog")
    assert loaded.network.features[0].out_channels == 63
    own = load_pruned(folder, network=zoo.build("squeezenet1_1", 2))
    assert torch.equal(logits(own, images), logits(expected, images))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"outputs": {"features.99": [1]}}, ModelError, "features.99 cannot go, the network has 0"),
        ({"outputs": {"features.0": [64]}}, ModelError, "features.0 cannot go, the network has 64"),
        ({"inputs": {"features.0": [0, 1, 2]}}, ModelError, "3 channels of features.0 cannot go"),
        ({"outputs": {}, "inputs": {}}, ModelError, "features.0.weight has shape"),
        ({"architecture": "squeezenet9"}, ModelError, "no classifier called 'squeezenet9'"),
        ({"format": 2}, DataError, "format: Input should be 1"),
        ({"mean": [0.5]}, DataError, "mean: List should have at least 3 items"),
    ],
)
def test_files_that_do_not_fit(written, change, error, message):
    folder, _ = written
    content = json.loads((folder / CHANNELS).read_text()) | change
    (folder / CHANNELS).write_text(json.dumps(content))
    with pytest.raises(error, match=message):
        load_pruned(folder)
    (folder / CHANNELS).unlink()
    with pytest.raises(DataError, match=r"expected pruned.json"):
        load_pruned(folder)


def test_timings_come_in_pairs_and_in_turn():
    calls = []

    class Noted(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, x):
            calls.append(self.name)
            return x

    timed = paired_timings(Noted("a"), Noted("b"), torch.zeros(1), pairs=10)
    assert timed.shape == (10, 2)
    assert (timed > 0).all()
    assert "".join(calls[-24:]) == "aaabbbbbbaaaaaabbbbbbaaa"
    assert len(paired_timings(Noted("a"), Noted("b"), torch.zeros(1), pairs=50, seconds=0.0)) == 9
    assert np.isfinite(timed).all()
