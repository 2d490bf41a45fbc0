"""Structural pruning: frozen filters are taken out of a network, whose layers become narrower.

A frozen filter sends on the same constant for every image. What a later layer makes of that constant is folded into its batch norm or bias.
Torch-Pruning's graph of dependencies (Fang et al. 2023, *DepGraph: Towards Any Structural Pruning*) says which rows and columns of which
layers go with a filter. A filter is taken out only where all these carry constants; of a residual sum all filters must be frozen.

Zero padding cuts a constant short at the borders, so that no bias can replace it. There one frozen filter, the carrier, stays, and the
weights of the others are added to its own in proportion to their constants. A convolution is linear, so the output is the same up to
rounding. Filters for which none of this works stay frozen.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from repairkit.errors import ModelError
from repairkit.network.filters import FilterId
from repairkit.network.freezing import Constants, Freeze, baked_copy, why_not_bakeable
from repairkit.network.tracing import FreezeAt, trace

LAST = "the layer would be left without any"
DEPENDS = "what it is added to or multiplied with depends on the image"
CARRIES = "it carries the constants of others, which zero padding cuts short at the borders"
BORDERS = "its constant differs by position in a way of its own"
TOLERANCE = 1e-5
"""Of a constant's rounding over positions, relative to it."""
AGREEMENT = 1e-3
"""Largest difference of logits, relative to the largest of them, between the frozen network and the pruned one."""

Channels = dict[str, list[int]]


@dataclass(frozen=True, eq=False)
class PrunedNetwork:
    """A network without those frozen filters that could be taken out.

    Attributes:
        network: in eval mode; its other frozen filters are baked.
        outputs, inputs: layer -> output and input channels that are gone.
        biased: convolutions without a bias that were given one, for what was folded into them.
        removed: the frozen filters that are gone.
        kept: why others are not, and which.
    """

    network: nn.Module
    outputs: Channels
    inputs: Channels
    biased: list[str]
    removed: list[FilterId]
    kept: dict[str, list[FilterId]]


@dataclass
class _Group:
    """What goes with one filter: rows and columns as (layer, channel), and why it cannot go at all."""

    outputs: set[tuple[str, int]]
    inputs: set[tuple[str, int]]
    unfit: str | None = None


class DependencyGraph:
    """Which rows and columns of a network's layers go together, by Torch-Pruning's graph of dependencies.

    Args:
        network: in eval mode; it is copied, and never changed.
        example: one prepared image, shape (1, 3, height, width), that the graph is drawn with.

    Raises:
        ModelError: Torch-Pruning cannot follow the network, or its layers compute something else when one filter of each is taken out.

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
                warnings.simplefilter("ignore")  # of what it takes for elementwise; the cut network is compared below
                self._graph.build_dependency(private, example_inputs=example.clone(), verbose=False)
        except Exception as error:  # whatever a network makes it raise
            raise self._unfollowed(error) from error
        rehearsed: dict[FilterId, float] = {}
        for site in trace(network, freeze_at="post").sites:
            if site.filters > 1 and why_not_bakeable(network, site, 0.0) is None:
                rehearsed[FilterId(site.layer, 0)] = 0.0
        self.prune(rehearsed)

    def _unfollowed(self, reason: object) -> ModelError:
        text = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
        return ModelError(
            f"Torch-Pruning cannot take filters out of this {type(self.network).__name__} ({text[:200]}); "
            "prune it with --no-structural-pruning, which freezes them and leaves every layer as it is"
        )

    def prune(self, constants: Constants, *, freeze_at: FreezeAt = "post") -> PrunedNetwork:
        """The network with these filters frozen, and taken out where that is possible.

        Args:
            constants: filter -> constant; plain weights must be able to hold each (`repairkit.network.freezing.bake`).
            freeze_at: where the constants were measured.

        Raises:
            ModelError: the graph is wrong about this network: cut as it says it does not run, or answers otherwise than the frozen one.
            BakeError: as `repairkit.network.freezing.bake`.
        """
        frozen = baked_copy(self.network, constants, freeze_at=freeze_at)
        seen = constant_inputs(self.network, constants, self.example, freeze_at=freeze_at)
        groups = self._all_groups(constants)
        kept = {name: reason for name, group in groups.items() if (reason := _why_not(group, seen))}
        left = {name: group for name, group in groups.items() if name not in kept}
        uneven = {name: [each for each in group.inputs if not _even(self._modules[each[0]], seen, *each)] for name, group in left.items()}
        carriers = _carriers([each for columns in uneven.values() for each in columns], seen)
        for name, columns in uneven.items():
            if any(carriers[layer] == column for layer, column in columns):
                kept[name] = CARRIES
            elif not all(_proportional(seen[layer][column], seen[layer][carriers[layer]]) for layer, column in columns):
                kept[name] = BORDERS
        gone_outputs, gone_inputs = self._removable(left, kept)
        outputs, inputs = _sorted(gone_outputs), _sorted(gone_inputs)
        pruned = copy.deepcopy(frozen)
        used = {layer: carriers[layer] for layer, column in chain(*uneven.values()) if (layer, column) in gone_inputs}
        biased = fold(pruned, inputs, seen, used)
        self._cut(pruned, frozen, outputs, inputs)
        removed = [name for name in constants if (name.layer, name.channel) in gone_outputs]
        reasons: dict[str, list[FilterId]] = {}
        for name, reason in kept.items():
            if (name.layer, name.channel) not in gone_outputs:
                reasons.setdefault(reason, []).append(name)
        return PrunedNetwork(pruned, outputs, inputs, biased, removed, reasons)

    def _removable(self, left: Mapping[FilterId, _Group], kept: dict[FilterId, str]) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
        """Rows and columns that go; a filter whose layer would be left without any is added to `kept`."""
        rows = {name: output_channels(module) for name, module in self._modules.items()}
        outputs: set[tuple[str, int]] = set()
        inputs: set[tuple[str, int]] = set()
        for name, group in left.items():
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
        except Exception as error:  # the layers no longer fit together, in whatever way the network notices
            raise self._unfollowed(error) from error
        furthest = float((before - after).abs().max()) if before.shape == after.shape else float("inf")
        if not furthest <= AGREEMENT * max(1.0, float(before.abs().max())):
            raise self._unfollowed(f"cut as its graph of dependencies says, the network answers otherwise, by {furthest:.2g}")

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
        """What goes with each of these filters of a convolution."""
        module = self._modules[layer]
        found = {channel: _Group({(layer, channel)}, set()) for channel in channels}
        if module not in self._graph.module2node:
            return {
                channel: _Group(group.outputs, group.inputs, "Torch-Pruning does not see its layer") for channel, group in found.items()
            }
        try:
            coupled = self._graph.get_pruning_group(module, self._graph.get_pruner_of_module(module).prune_out_channels, channels)
        except Exception as error:  # whatever a network makes it raise
            raise self._unfollowed(error) from error
        for item in coupled:
            target, output = item.dep.target.module, self._graph.is_out_channel_pruning_fn(item.dep.handler)
            name = self._names.get(target)
            for index, root in zip(item.idxs, item.root_idxs, strict=True):
                group = found[root]
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
        return found


def _why_not_passed(operation: object) -> str | None:
    """Why what is no module of the network stands in the way: a bare parameter or the logits themselves; None for sums, concatenations and such."""
    if isinstance(operation, nn.Parameter):
        return "a parameter outside of layers goes with it, which is not cut here"
    return "its signal is part of the answer" if type(operation).__name__ == "_OutputOp" else None


def _depthwise(module: object) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1


def output_channels(module: nn.Module) -> int:
    """Output channels of a layer that may lose some; 0 for others."""
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    return module.num_features if isinstance(module, nn.BatchNorm2d) else 0


def input_channels(module: nn.Module) -> int:
    """Inputs of a layer that may lose some; 0 for others."""
    return module.weight.shape[1] if isinstance(module, nn.Conv2d | nn.Linear) else 0


def _sorted(entries: Iterable[tuple[str, int]]) -> Channels:
    grouped: Channels = {}
    for layer, channel in sorted(entries):
        grouped.setdefault(layer, []).append(channel)
    return grouped


def constant_inputs(network: nn.Module, constants: Constants, example: Tensor, *, freeze_at: FreezeAt = "post") -> dict[str, Tensor]:
    """Inputs of convolutions and linear layers with these filters frozen, by layer, shape (channels, height, width) or (features,).

    An image of NaN goes through the network, so that NaN marks what depends on the image. Layers that run more than once, or on another
    shape, are left out.
    """
    seen: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    readers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    handles = []

    def watch(name: str) -> Any:
        def look(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls[name] = calls.get(name, 0) + 1
            seen[name] = inputs[0].detach().clone()

        return look

    try:
        handles = [module.register_forward_pre_hook(watch(name)) for name, module in readers.items()]
        with torch.inference_mode(), Freeze(network, constants, freeze_at=freeze_at):
            network(torch.full_like(example, float("nan")))
    finally:
        for handle in handles:
            handle.remove()
    shapes = {nn.Conv2d: 4, nn.Linear: 2}
    return {
        name: value[0]
        for name, value in seen.items()
        if calls[name] == 1 and value.dim() == next(dims for kind, dims in shapes.items() if isinstance(readers[name], kind))
    }


def _why_not(group: _Group, seen: Mapping[str, Tensor]) -> str | None:
    """Why a filter cannot go whatever happens to others; None where it can."""
    if group.unfit is not None:
        return group.unfit
    same = all(layer in seen and bool(torch.isfinite(seen[layer][column]).all()) for layer, column in group.inputs)
    return None if same else DEPENDS


def _even(module: nn.Module, seen: Mapping[str, Tensor], layer: str, column: int) -> bool:
    """Whether what a layer makes of this input, which is the same for every image, is the same at every position, too."""
    if isinstance(module, nn.Linear):
        return True
    value = seen[layer][column]
    largest = float(value.abs().max())
    padded = isinstance(module, nn.Conv2d) and module.padding not in ((0, 0), "valid") and module.padding_mode == "zeros"
    return float(value.max() - value.min()) <= TOLERANCE * largest and (largest == 0 or not padded)


def _carriers(columns: Iterable[tuple[str, int]], seen: Mapping[str, Tensor]) -> dict[str, int]:
    """Of each layer's columns, the one of the largest constant: the others' weights are scaled down to it."""
    found: dict[str, int] = {}
    for layer, column in sorted(columns):
        best = found.setdefault(layer, column)
        if seen[layer][column].abs().max() > seen[layer][best].abs().max():
            found[layer] = column
    return found


def _ratio(value: Tensor, to: Tensor) -> Tensor:
    """How many times one map another is, taken where that is largest."""
    place = to.abs().argmax()
    return value.flatten()[place].double() / to.flatten()[place].double()


def _proportional(value: Tensor, to: Tensor) -> bool:
    """Whether one map is a multiple of another."""
    return bool((value - _ratio(value, to) * to).abs().max() <= TOLERANCE * to.abs().max())


def fold(network: nn.Module, inputs: Channels, seen: Mapping[str, Tensor], carriers: Mapping[str, int] | None = None) -> list[str]:
    """Replace some inputs of layers in place: their share goes to the carrier's weights, else to batch norm or bias; their weights become 0.

    `seen` holds the constant inputs of each layer, `carriers` the input that takes over the others. The convolutions that were given a bias
    are returned.
    """
    norms = {site.layer: site.norm for site in trace(network, freeze_at="post").sites}
    biased: list[str] = []
    with torch.no_grad():
        for layer, columns in inputs.items():
            module = reader_of(network, layer)
            carried = [column for column in columns if carriers and layer in carriers and not _even(module, seen, layer, column)]
            for column in carried:
                carrier = (carriers or {})[layer]
                ratio = _ratio(seen[layer][column], seen[layer][carrier])
                module.weight[:, carrier] += (ratio * module.weight[:, column].double()).to(module.weight)
            plain = [column for column in columns if column not in set(carried)]
            share = _share(module, seen[layer][plain], plain) if plain else None
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
    """The convolution or linear layer of this name.

    Raises:
        ModelError: it is another module.
    """
    module = network.get_submodule(layer)
    if not isinstance(module, nn.Conv2d | nn.Linear):
        raise ModelError(
            f"expected a convolution or a linear layer at {layer}, got {type(module).__name__}; give the network that was pruned"
        )
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
    made: Tensor = alone(value[None])
    return made.mean(dim=(0, 2, 3))


def cut(network: nn.Module, outputs: Channels, inputs: Channels) -> None:
    """Take rows and columns out of a network's layers, in place, by Torch-Pruning's functions for each kind of layer."""
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
