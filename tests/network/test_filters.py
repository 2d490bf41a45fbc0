from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from networks import CASES, UNTRACEABLE, Case, SharedWithClassifier, case_id, coalitions, inputs, randomised
from oracles import blended_score, masked_logits, mean_signals
from torch import nn
from torchvision import models
from torchvision.models.inception import InceptionA

from repairkit.errors import ModelError, ModelWarning, UsageError
from repairkit.network.filters import ConvFilters, FilterId

FREEZE_AT = ("post", "pre")


def build_filters(case: Case, freeze_at: str = "post", *, seed: int = 0) -> tuple[ConvFilters, nn.Module]:
    """The filters of a case with constants of 7 images, and its twin."""
    network, twin = case.networks(seed)
    filters = ConvFilters(network, freeze_at=freeze_at)
    filters.calibrate([inputs(7)])
    return filters, twin


def build_untraceable() -> tuple[ConvFilters, nn.Module]:
    network, twin = UNTRACEABLE.networks()
    with pytest.warns(ModelWarning, match="torch.fx cannot trace Untraceable"):
        filters = ConvFilters(network)
    filters.calibrate([inputs(7)])
    return filters, twin


class InceptionNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.block = InceptionA(8, pool_features=4)
        self.fc = nn.Linear(228, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.block(torch.relu(self.stem(x))).mean(dim=(2, 3)))


def large_networks() -> list:
    return [
        pytest.param(lambda: models.squeezenet1_0(num_classes=2), 47, id="SqueezeNet-1.0"),
        pytest.param(lambda: models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=2), 32, id="ResNet-10"),
        pytest.param(lambda: models.mobilenet_v2(num_classes=2, width_mult=0.25), 32, id="MobileNet-v2"),
        pytest.param(InceptionNetwork, 16, id="Inception block"),
    ]


# ---- which filters there are ----


def test_squeezenet_has_the_papers_count():
    assert len(ConvFilters(models.squeezenet1_0())) == 2976


@pytest.mark.parametrize("auxiliary", [False, True])
def test_inception_has_the_papers_count_with_and_without_its_auxiliary_head(auxiliary):
    network = models.inception_v3(weights=None, init_weights=False, aux_logits=auxiliary)
    filters = ConvFilters(network)
    assert len(filters) == 17216
    assert not any("Aux" in name.layer for name in filters.ids)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_players_are_the_channels_of_the_convolutions_in_running_order(case):
    network, _ = case.networks()
    filters = ConvFilters(network)
    expected = [f"{layer}:{channel}" for layer in case.post for channel in range(network.get_submodule(layer).out_channels)]
    assert [str(name) for name in filters.ids] == expected
    assert filters.index([FilterId.parse(name) for name in expected]).tolist() == list(range(len(expected)))


def test_a_convolution_that_makes_the_logits_is_no_player_even_where_it_also_runs_before():
    assert {name.layer for name in ConvFilters(randomised(SharedWithClassifier())).ids} == {"conv1"}


# ---- constants ----


@pytest.mark.parametrize("freeze_at", FREEZE_AT)
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_constants_are_the_mean_signal_over_uneven_batches(case, freeze_at):
    network, twin = case.networks()
    filters = ConvFilters(network, freeze_at=freeze_at)
    batches = [inputs(5, seed=1), inputs(1, seed=2), inputs(3, seed=3)]
    filters.calibrate(batches)
    np.testing.assert_allclose(filters.constants, mean_signals(twin, case.signals(freeze_at), batches), rtol=1e-5, atol=1e-6)


def test_constants_are_summed_in_double_precision():
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.fill_(0.1)
    filters = ConvFilters(network)
    filters.calibrate([inputs(64) for _ in range(40)])
    assert filters.constants[0] == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)  # float32 sums of 164k values drift by 1e-5


# ---- the masked pass ----


@pytest.mark.parametrize("freeze_at", FREEZE_AT)
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_masked_pass_equals_hooks_on_explicit_modules(case, freeze_at):
    filters, twin = build_filters(case, freeze_at)
    images, live = inputs(6, seed=5), coalitions(6, len(filters))
    expected = masked_logits(twin, case.signals(freeze_at), images, live, filters.constants)
    torch.testing.assert_close(filters.forward(images, live), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_everyone_live_is_the_plain_network(case):
    network, _ = case.networks()
    filters, _ = build_filters(case)
    images = inputs(4, seed=6)
    torch.testing.assert_close(filters.forward(images, np.ones((1, len(filters)), dtype=bool)), network(images).detach(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_one_coalition_for_all_equals_the_same_for_each(case):
    filters, _ = build_filters(case)
    images, live = inputs(5, seed=7), coalitions(1, len(filters))
    torch.testing.assert_close(filters.forward(images, live), filters.forward(images, np.repeat(live, 5, axis=0)), rtol=0, atol=0)


def test_masks_of_an_untraceable_network_act_on_the_convolutions_outputs():
    filters, twin = build_untraceable()
    images, live = inputs(5, seed=9), coalitions(5, len(filters))
    assert not filters.can_rerun
    np.testing.assert_allclose(filters.constants, mean_signals(twin, UNTRACEABLE.post, [inputs(7)]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(filters.forward(images, live), masked_logits(twin, UNTRACEABLE.post, images, live, filters.constants))
    np.testing.assert_array_equal(filters.shares, 1)


def test_read_only_rows_are_taken():
    filters, _ = build_filters(CASES[0])
    live = np.broadcast_to(coalitions(1, len(filters)), (3, len(filters)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters.forward(inputs(3), live)


# ---- running again from a layer ----


def check_reruns(filters: ConvFilters, images: torch.Tensor, *, sites: list[int]) -> None:
    rng = np.random.default_rng(0)
    base = coalitions(len(images), len(filters), seed=2, share=0.9)
    logits, snapshot = filters.snapshot(images, base)
    torch.testing.assert_close(logits, filters.forward(images, base), rtol=0, atol=1e-6)
    for index in sites:
        site = filters.sites[index]
        rows = rng.integers(0, len(images), 5)  # another batch size than the snapshot's
        changed = base[rows].copy()
        changed[:, site.start :] ^= rng.random((5, len(filters) - site.start)) < 0.3
        again = filters.forward_from(snapshot, index, changed, rows)
        torch.testing.assert_close(again, filters.forward(images[torch.from_numpy(rows)], changed), rtol=1e-5, atol=2e-6)
        for _ in range(2):  # one coalition for all images, more than once: the snapshot must stay as it is
            one = base.copy()
            one[:, site.start :] ^= rng.random(len(filters) - site.start) < 0.3
            torch.testing.assert_close(filters.forward_from(snapshot, index, one), filters.forward(images, one), rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(filters.forward(images, base), logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("freeze_at", FREEZE_AT)
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_rerun_from_any_layer_equals_a_whole_pass(case, freeze_at):
    filters, _ = build_filters(case, freeze_at)
    assert filters.can_rerun
    check_reruns(filters, inputs(3, seed=4), sites=list(range(len(filters.sites))))


@pytest.mark.parametrize(("build", "size"), large_networks())
def test_rerun_of_published_architectures(build, size):
    filters = ConvFilters(randomised(build()))
    filters.calibrate([inputs(2, size=size)])
    sites = sorted({0, 1, len(filters.sites) // 3, len(filters.sites) // 2, len(filters.sites) - 2, len(filters.sites) - 1})
    check_reruns(filters, inputs(3, size=size, seed=4), sites=sites)
    network = randomised(build())
    images = inputs(2, size=size, seed=5)
    torch.testing.assert_close(
        filters.forward(images, np.ones((1, len(filters)), dtype=bool)), network(images).detach(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.extended
def test_rerun_of_inception():
    filters = ConvFilters(randomised(models.inception_v3(weights=None, init_weights=False, num_classes=2)))
    filters.calibrate([inputs(2, size=75)])
    check_reruns(filters, inputs(2, size=75, seed=4), sites=[0, 20, 50, len(filters.sites) - 1])


def test_shares_are_the_multiplications_that_come_after_the_layer():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.Flatten(), nn.Linear(6 * 9, 2)
    )
    filters = ConvFilters(network)
    filters.calibrate([inputs(2)])
    first, second, last = 8 * 8 * 4 * 3 * 9, 3 * 3 * 6 * 2 * 9, 6 * 9 * 2
    np.testing.assert_allclose(filters.shares, [(second + last) / (first + second + last)] * 4 + [last / (first + second + last)] * 6)


def test_an_untraceable_network_cannot_run_again_from_a_layer():
    filters, _ = build_untraceable()
    logits, snapshot = filters.snapshot(inputs(2), coalitions(2, len(filters)))
    assert snapshot is None
    torch.testing.assert_close(logits, filters.forward(inputs(2), coalitions(2, len(filters))))
    with pytest.raises(ModelError, match="use forward"):
        filters.forward_from(None, 0, coalitions(2, len(filters)), np.arange(2))


# ---- gradients ----


def first_logit(logits: torch.Tensor) -> torch.Tensor:
    return torch.tanh(logits[:, 0] - 0.5 * logits[:, 1])


@pytest.mark.parametrize("freeze_at", FREEZE_AT)
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_gradients_are_the_derivative_of_the_blend(case, freeze_at):
    filters, twin = build_filters(case, freeze_at)
    twin = copy.deepcopy(twin).double()
    images, live = inputs(3, seed=11), coalitions(3, len(filters))
    slopes, logits = filters.gradients(images, live, first_logit)
    torch.testing.assert_close(logits, filters.forward(images, live), rtol=0, atol=2e-6)
    for row in range(3):
        mask = torch.from_numpy(live[row].astype(float)).requires_grad_()
        score = blended_score(twin, case.signals(freeze_at), images[row : row + 1].double(), mask, filters.constants, first_logit)
        (expected,) = torch.autograd.grad(score, mask)
        torch.testing.assert_close(slopes[row].double(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("freeze_at", FREEZE_AT)
def test_passes_run_under_bfloat16_autocast(freeze_at):
    filters, _ = build_filters(CASES[0], freeze_at)
    images, live = inputs(6), coalitions(6, len(filters))
    expected, slopes = filters.forward(images, live), filters.gradients(images, live, first_logit)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, (rough, _) = filters.forward(images, live), filters.gradients(images, live, first_logit)
        again = filters.forward_from(filters.snapshot(images, live)[1], 1, live)
    torch.testing.assert_close(logits.float(), expected, atol=0.05, rtol=0.05)
    torch.testing.assert_close(again, logits)
    assert rough.dtype == torch.float32
    assert np.corrcoef(rough.flatten(), slopes.flatten())[0, 1] > 0.99


# ---- the user's model ----


def fingerprint(network: nn.Module) -> list:
    weights = [(name, tensor.clone()) for name, tensor in network.state_dict().items()]
    facts = [
        (name, module.training, len(module._forward_hooks), len(module._forward_pre_hooks), getattr(module, "inplace", None))
        for name, module in network.named_modules()
    ]
    asked = [(name, parameter.requires_grad, parameter.grad is None) for name, parameter in network.named_parameters()]
    return [weights, facts, asked]


def assert_same(before: list, after: list) -> None:
    assert before[1:] == after[1:]
    for (name, old), (_, new) in zip(before[0], after[0], strict=True):
        assert torch.equal(old, new), name


@pytest.mark.parametrize("case", [*CASES, UNTRACEABLE], ids=case_id)
@pytest.mark.filterwarnings("ignore::repairkit.errors.ModelWarning")
def test_the_users_model_is_never_changed(case):
    network = randomised(case.build()).train()
    next(network.parameters()).requires_grad_(False)
    before = fingerprint(network)
    filters = ConvFilters(network)
    filters.calibrate([inputs(4)])
    live = coalitions(4, len(filters))
    filters.forward(inputs(4), live)
    filters.snapshot(inputs(4), live)
    filters.gradients(inputs(4), live, first_logit)

    def breaks(_logits: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        filters.gradients(inputs(4), live, breaks)
    with pytest.raises(RuntimeError):
        filters.forward(torch.zeros(4, 5, 8, 8), live)
    assert_same(before, fingerprint(network))
    assert not any(module._forward_hooks for module in filters.network.modules())
    torch.testing.assert_close(filters.forward(inputs(4), live), filters.forward(inputs(4), live), rtol=0, atol=0)


# ---- errors ----


@pytest.mark.parametrize("text", ["features.3", ":4", "conv1:", "conv1:-1", "conv1:²"])
def test_a_filter_must_be_written_as_layer_and_channel(text):
    with pytest.raises(UsageError, match="expected a filter as LAYER:CHANNEL"):
        FilterId.parse(text)


def test_wrong_use_is_named():
    network, _ = CASES[0].networks()
    with pytest.raises(UsageError, match="freeze_at must be 'post'"):
        ConvFilters(network, freeze_at="after")
    filters = ConvFilters(network)
    with pytest.raises(ModelError, match="call calibrate"):
        filters.forward(inputs(1), np.ones((1, 10), dtype=bool))
    with pytest.raises(ModelError, match="at least one image, got none"):
        filters.calibrate([])
    with pytest.raises(ModelError, match="expected one constant for each of the 10 filters"):
        filters.set_constants(np.zeros(9))
    filters.calibrate([inputs(2)])
    with pytest.raises(ModelError, match=r"expected coalitions of shape \(k, 10\), got \(1, 9\)"):
        filters.forward(inputs(1), np.ones((1, 9), dtype=bool))
    for name in ("conv3:0", "conv1:4"):
        with pytest.raises(ModelError, match=f"no filter {name}"):
            filters.index([FilterId.parse(name)])


def test_a_signal_that_is_not_finite_names_its_filter():
    network, _ = CASES[0].networks()
    with torch.no_grad():
        network.conv1.bias[2] = float("nan")
    with pytest.raises(ModelError, match="the mean signal of filter conv1:2 is not finite"):
        ConvFilters(network).calibrate([inputs(2)])


@pytest.mark.parametrize("network", [nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())])
def test_a_network_without_filters_is_refused(network):
    with pytest.raises(ModelError, match=r"has no nn.Conv2d before its classifier"):
        ConvFilters(network)
