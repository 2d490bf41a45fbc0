"""Structural pruning: frozen filters are removed from a network, whose layers become narrower.

A frozen filter sends on the same constant for every image. The effect of that constant on a later layer is folded into its batch norm or
bias. Torch-Pruning's dependency graph (Fang et al. 2023, *DepGraph: Towards Any Structural Pruning*) says which rows and columns of which
layers go with a filter. A filter is removed only where all of them carry constants; of a residual sum all filters must be frozen.

Zero padding cuts a constant short at the borders, where no bias can replace it. There one frozen filter, the carrier, stays. The weights of
the others are added to the carrier's in proportion to their constants. A convolution is linear, so that the output is the same up to
rounding. Filters for which none of this works stay frozen.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from repairkit.errors import ModelError
from repairkit.network.filters import FilterId
from repairkit.network.freezing import Constants, Freeze, baked_copy, why_not_bakeable
from repairkit.network.tracing import trace
from repairkit.run.options import FreezeAt

LAST = "the layer would be left without any"
DEPENDS = "what it is added to or multiplied with depends on the image"
CARRIES = "it carries the constants of others, which zero padding cuts short at the borders"
BORDERS = "its constant differs by position in a way of its own"
TOLERANCE = 1e-5  # largest relative difference of a constant between positions
AGREEMENT = 1e-3  # largest difference of logits between frozen and pruned network, relative to the largest logit

Channel = tuple[str, int]  # layer and channel
Channels = dict[str, list[int]]


@dataclass(frozen=True, eq=False)
class PrunedNetwork:
    """A network without the frozen filters that could be removed."""

    network: nn.Module  # in eval mode; its other frozen filters are baked
    outputs: Channels  # layer -> removed output channels
    inputs: Channels  # layer -> removed input channels
    biased: list[str]  # convolutions that were given a bias
    removed: list[FilterId]
    kept: dict[str, list[FilterId]]  # reason -> frozen filters that stay


@dataclass
class _Group:
    """The rows and columns, as (layer, channel), that go with one filter, and why it cannot be removed at all."""

    outputs: set[Channel]
    inputs: set[Channel]
    unfit: str | None = None


class DependencyGraph:
    """The rows and columns of a network's layers that go together, by Torch-Pruning's dependency graph.

    Args:
        network: in eval mode; it is copied, never changed.
        example: one prepared image, shape (1, 3, height, width), to trace the graph with.

    Raises:
        ModelError: Torch-Pruning cannot follow the network, or removing one filter of each layer changes what it computes.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        >>> pruned = DependencyGraph(network, torch.rand(1, 3, 8, 8)).prune({FilterId("0", 1): 0.25})
        >>> pruned.network[0].out_channels, pruned.outputs, pruned.inputs
        (3, {'0': [1]}, {'2': [1]})
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        import torch_pruning

        self.network, self.example = network, example
        private = copy.deepcopy(network).requires_grad_(requires_grad=True)
        self._names = {module: name for name, module in private.named_modules()}
        self._modules = dict(private.named_modules())
        self._graph = torch_pruning.DependencyGraph()
        try:
            with torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about operations it takes for elementwise; the cut network is compared below
                self._graph.build_dependency(private, example_inputs=example.clone(), verbose=False)
        except Exception as error:  # networks make it raise any error
            raise self._not_prunable(error) from error
        sites = trace(network, freeze_at="post").sites
        self.prune({FilterId(site.layer, 0): 0.0 for site in sites if site.filters > 1 and why_not_bakeable(network, site, 0.0) is None})

    def _not_prunable(self, reason: object) -> ModelError:
        text = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
        return ModelError(
            f"Torch-Pruning cannot remove filters of this {type(self.network).__name__} ({text[:200]}); "
            "give --no-structural-pruning, which freezes them and leaves every layer as it is"
        )

    def prune(self, constants: Constants, *, freeze_at: FreezeAt = "post") -> PrunedNetwork:
        """The network with these filters frozen, and removed where that is possible.

        Args:
            constants: filter -> constant; plain weights must be able to hold each.
            freeze_at: where the constants were measured.

        Raises:
            ModelError: the dependency graph is wrong: the pruned network does not run, or its logits differ from the frozen network's.
            BakeError: as `repairkit.network.freezing.bake`.
        """
        frozen = baked_copy(self.network, constants, freeze_at=freeze_at)
        values = constant_inputs(self.network, constants, self.example, freeze_at=freeze_at)
        groups = self._all_groups(constants)
        kept = {name: reason for name, group in groups.items() if (reason := _why_not(group, values))}
        candidates = {name: group for name, group in groups.items() if name not in kept}
        uneven = {
            name: [(layer, column) for layer, column in group.inputs if not _even(self._modules[layer], values[layer][column])]
            for name, group in candidates.items()
        }
        carriers = _carriers(chain(*uneven.values()), values)
        for name, columns in uneven.items():
            if any(carriers[layer] == column for layer, column in columns):
                kept[name] = CARRIES
            elif not all(_proportional(values[layer][column], values[layer][carriers[layer]]) for layer, column in columns):
                kept[name] = BORDERS
        rows, columns_removed = self._removable(candidates, kept)
        outputs, inputs = _sorted(rows), _sorted(columns_removed)
        pruned = copy.deepcopy(frozen)
        used = {layer: carriers[layer] for layer, column in chain(*uneven.values()) if (layer, column) in columns_removed}
        biased = fold(pruned, inputs, values, used)
        self._cut(pruned, frozen, outputs, inputs)
        removed = [name for name in constants if (name.layer, name.channel) in rows]
        reasons: dict[str, list[FilterId]] = {}
        for name, reason in kept.items():
            if (name.layer, name.channel) not in rows:
                reasons.setdefault(reason, []).append(name)
        return PrunedNetwork(pruned, outputs, inputs, biased, removed, reasons)

    def _removable(self, groups: Mapping[FilterId, _Group], kept: dict[FilterId, str]) -> tuple[set[Channel], set[Channel]]:
        """Rows and columns to remove; a filter without which its layer would be empty is added to `kept`."""
        rows = {name: output_channels(module) for name, module in self._modules.items()}
        outputs: set[Channel] = set()
        inputs: set[Channel] = set()
        for name, group in groups.items():
            losses = Counter(layer for layer, _ in group.outputs - outputs)
            if name not in kept and any(rows[layer] <= loss for layer, loss in losses.items()):
                kept[name] = LAST
            if name not in kept:
                rows |= {layer: rows[layer] - loss for layer, loss in losses.items()}
                outputs |= group.outputs
                inputs |= group.inputs
        return outputs, inputs

    def _cut(self, pruned: nn.Module, frozen: nn.Module, outputs: Channels, inputs: Channels) -> None:
        """Cut in place, and compare with the frozen network."""
        try:
            cut(pruned, outputs, inputs)
            with torch.inference_mode():
                before, after = frozen(self.example), pruned(self.example)
        except Exception as error:  # the layers do not fit together, which networks report by any error
            raise self._not_prunable(error) from error
        furthest = float((before - after).abs().max()) if before.shape == after.shape else float("inf")
        if not furthest <= AGREEMENT * max(1.0, float(before.abs().max())):
            raise self._not_prunable(f"logits of the pruned network differ by {furthest:.2g}")

    def _all_groups(self, names: Iterable[FilterId]) -> dict[FilterId, _Group]:
        by_layer: dict[str, list[int]] = {}
        for name in names:
            by_layer.setdefault(name.layer, []).append(name.channel)
        return {
            FilterId(layer, channel): group
            for layer, channels in by_layer.items()
            for channel, group in self._groups(layer, channels).items()
        }

    def _groups(self, layer: str, channels: list[int]) -> dict[int, _Group]:
        """The groups of some filters of a convolution."""
        module = self._modules[layer]
        unseen = None if module in self._graph.module2node else "Torch-Pruning does not see its layer"
        groups = {channel: _Group({(layer, channel)}, set(), unseen) for channel in channels}
        if unseen:
            return groups
        try:
            coupled = self._graph.get_pruning_group(module, self._graph.get_pruner_of_module(module).prune_out_channels, channels)
        except Exception as error:  # networks make it raise any error
            raise self._not_prunable(error) from error
        for item in coupled:
            target, output = item.dep.target.module, self._graph.is_out_channel_pruning_fn(item.dep.handler)
            name = self._names.get(target)
            for index, root in zip(item.idxs, item.root_idxs, strict=True):
                group = groups[root]
                if name is None:
                    group.unfit = group.unfit or _why_not_passed(target)
                elif isinstance(target, nn.BatchNorm2d) or _depthwise(target) or (isinstance(target, nn.Conv2d) and output):
                    group.outputs.add((name, index))
                elif isinstance(target, nn.Conv2d | nn.Linear) and not output:
                    group.inputs.add((name, index))
                elif output_channels(target) or isinstance(target, nn.Linear) or list(target.parameters(recurse=False)):
                    group.unfit = group.unfit or f"{type(target).__name__} layers go with it, which are not cut here"
                if isinstance(target, nn.Conv2d) and target.groups > 1 and not _depthwise(target):
                    group.unfit = group.unfit or "convolutions in groups go with it, which are not cut here"
        return groups


def _why_not_passed(operation: object) -> str | None:
    """Why an operation that is no module is in the way: a bare parameter or the logits. None for sums and concatenations."""
    if isinstance(operation, nn.Parameter):
        return "a parameter outside of layers goes with it, which is not cut here"
    return "its signal is part of the answer" if type(operation).__name__ == "_OutputOp" else None


def _depthwise(module: object) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1


def output_channels(module: nn.Module) -> int:
    """Number of output channels of a convolution or batch norm; 0 for other layers."""
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    return module.num_features if isinstance(module, nn.BatchNorm2d) else 0


def input_channels(module: nn.Module) -> int:
    """Number of inputs of a convolution or linear layer; 0 for other layers."""
    return module.weight.shape[1] if isinstance(module, nn.Conv2d | nn.Linear) else 0


def _sorted(entries: Iterable[Channel]) -> Channels:
    grouped: Channels = {}
    for layer, channel in sorted(entries):
        grouped.setdefault(layer, []).append(channel)
    return grouped


def constant_inputs(network: nn.Module, constants: Constants, example: Tensor, *, freeze_at: FreezeAt = "post") -> dict[str, Tensor]:
    """Inputs of convolutions and linear layers with these filters frozen, by layer, shape (channels, height, width) or (features,).

    An image of NaN goes through the network, so that NaN marks what depends on the image. Layers that run more than once are left out.
    """
    inputs: dict[nn.Module, list[Tensor]] = {}
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}

    def record(module: nn.Module, values: tuple[Tensor, ...]) -> None:
        inputs.setdefault(module, []).append(values[0].detach().clone())

    handles = [module.register_forward_pre_hook(record) for module in layers.values()]
    try:
        with torch.inference_mode(), Freeze(network, constants, freeze_at=freeze_at):
            network(torch.full_like(example, float("nan")))
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: inputs[module][0][0]
        for name, module in layers.items()
        if len(inputs.get(module, [])) == 1 and inputs[module][0].dim() == (4 if isinstance(module, nn.Conv2d) else 2)
    }


def _why_not(group: _Group, values: Mapping[str, Tensor]) -> str | None:
    """Why a filter cannot be removed, whatever happens to others; None where it can."""
    if group.unfit is not None:
        return group.unfit
    constant = all(layer in values and bool(torch.isfinite(values[layer][column]).all()) for layer, column in group.inputs)
    return None if constant else DEPENDS


def _even(module: nn.Module, value: Tensor) -> bool:
    """Whether a layer maps this input, the same for every image, to the same output at every position."""
    if isinstance(module, nn.Linear):
        return True
    largest = float(value.abs().max())
    padded = isinstance(module, nn.Conv2d) and module.padding not in ((0, 0), "valid") and module.padding_mode == "zeros"
    return float(value.max() - value.min()) <= TOLERANCE * largest and (largest == 0 or not padded)


def _carriers(columns: Iterable[Channel], values: Mapping[str, Tensor]) -> dict[str, int]:
    """For each layer the column with the largest constant, so that the weights of the others are scaled down."""
    carriers: dict[str, int] = {}
    for layer, column in sorted(columns):
        best = carriers.setdefault(layer, column)
        if values[layer][column].abs().max() > values[layer][best].abs().max():
            carriers[layer] = column
    return carriers


def _ratio(value: Tensor, to: Tensor) -> Tensor:
    """The ratio of two maps where the second is largest."""
    place = to.abs().argmax()
    return value.flatten()[place].double() / to.flatten()[place].double()


def _proportional(value: Tensor, to: Tensor) -> bool:
    """Whether one map is a multiple of the other."""
    return bool((value - _ratio(value, to) * to).abs().max() <= TOLERANCE * to.abs().max())


def fold(network: nn.Module, inputs: Channels, values: Mapping[str, Tensor], carriers: Mapping[str, int] | None = None) -> list[str]:
    """Move the effect of constant inputs into the carrier's weights, else into batch norm or bias, in place; their weights become 0.

    Args:
        network: with frozen filters.
        inputs: layer -> inputs to replace.
        values: layer -> its constant inputs, from `constant_inputs`.
        carriers: layer -> the input whose weights take over the others'.

    Returns:
        The convolutions that were given a bias.
    """
    norms = {site.layer: site.norm for site in trace(network, freeze_at="post").sites}
    biased: list[str] = []
    with torch.no_grad():
        for layer, columns in inputs.items():
            module = reader_of(network, layer)
            carrier = (carriers or {}).get(layer)
            uneven = [column for column in columns if carrier is not None and not _even(module, values[layer][column])]
            for column in uneven:
                ratio = _ratio(values[layer][column], values[layer][carrier])
                module.weight[:, carrier] += (ratio * module.weight[:, column].double()).to(module.weight)
            even = [column for column in columns if column not in set(uneven)]
            share = _share(module, values[layer][even], even) if even else None
            module.weight[:, columns] = 0.0
            if share is None or not share.any():
                continue
            name = norms.get(layer)
            norm = network.get_submodule(name) if name else None
            if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
                norm.running_mean -= share.to(norm.running_mean)
                continue
            bias = module.bias
            if bias is None:
                bias = give_bias(module)
                biased.append(layer)
            bias += share.to(bias)
    return biased


def reader_of(network: nn.Module, layer: str) -> nn.Conv2d | nn.Linear:
    """The convolution or linear layer of this name; `ModelError` where it is another module."""
    module = network.get_submodule(layer)
    if not isinstance(module, nn.Conv2d | nn.Linear):
        kind = type(module).__name__
        raise ModelError(f"expected a convolution or a linear layer at {layer}, got {kind}; give the network that was pruned")
    return module


def give_bias(module: nn.Conv2d | nn.Linear) -> nn.Parameter:
    """Give a layer a bias of zeros, in place."""
    module.bias = nn.Parameter(torch.zeros_like(module.weight.flatten(1)[:, 0]), requires_grad=False)
    return module.bias


def _share(module: nn.Conv2d | nn.Linear, value: Tensor, channels: list[int]) -> Tensor:
    """What a layer makes of these inputs alone, the same at every position, shape (rows,); in float64."""
    weight = module.weight.detach()[:, channels].double()
    value = value.to(weight)
    if isinstance(module, nn.Linear):
        return weight @ value
    alone = copy.deepcopy(module)
    alone.weight, alone.bias, alone.in_channels = nn.Parameter(weight, requires_grad=False), None, len(channels)
    output: Tensor = alone(value[None])
    return output.mean(dim=(0, 2, 3))


def cut(network: nn.Module, outputs: Channels, inputs: Channels) -> None:
    """Remove rows and columns of a network's layers, in place, with Torch-Pruning's function for each kind of layer."""
    import torch_pruning

    for layer, channels in outputs.items():
        module = network.get_submodule(layer)
        if isinstance(module, nn.BatchNorm2d):
            torch_pruning.prune_batchnorm_out_channels(module, channels)
        elif _depthwise(module):
            torch_pruning.prune_depthwise_conv_out_channels(module, channels)
        else:
            torch_pruning.prune_conv_out_channels(module, channels)
    for layer, channels in inputs.items():
        module = network.get_submodule(layer)
        if isinstance(module, nn.Linear):
            torch_pruning.prune_linear_in_channels(module, channels)
        else:
            torch_pruning.prune_conv_in_channels(module, channels)
    network.requires_grad_(requires_grad=False)
    network.eval()
