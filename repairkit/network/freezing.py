"""Freezing filters in a network: reversibly with `Freeze`, for good in plain weights with `bake`."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from types import TracebackType

import torch
from torch import Tensor, nn

from repairkit.errors import BakeError, ModelError
from repairkit.network.filters import FilterId
from repairkit.network.tracing import Site, trace
from repairkit.run.options import FreezeAt

Constants = Mapping[FilterId, float]
"""Each frozen filter and the constant that it sends on."""


class Freeze:
    """Freeze filters of a network until undone; the network's weights are not touched.

    A forward hook on each filter's batch norm, else its convolution, replaces the output by the constant. At most a ReLU follows, which passes
    the constant on, so that the network computes the masked pass of `ConvFilters`.

    Args:
        network: the module to freeze filters in, for instance a torchvision model.
        constants: filter -> constant.
        freeze_at: where the constants were measured, after ("post") or before ("pre") the ReLU.

    Raises:
        ModelError: the network has no such filter.
        BakeError: a constant that the ReLU after the filter cannot produce.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
        >>> images = torch.rand(1, 3, 4, 4)
        >>> before = network(images)
        >>> with Freeze(network, {FilterId("0", 1): 0.25}):
        ...     frozen = network(images)
        >>> torch.equal(before, network(images)), torch.equal(before, frozen)
        (True, False)
    """

    def __init__(self, network: nn.Module, constants: Constants, *, freeze_at: FreezeAt = "post") -> None:
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        by_site = _by_site(network, constants, freeze_at)
        try:
            for site, channels in by_site:
                self._handles.append(network.get_submodule(site.source).register_forward_hook(_Replace(channels)))
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Let the filters live again; a second call does nothing."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> Freeze:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None) -> None:
        self.undo()


class _Replace:
    """Forward hook: the output with some channels replaced by constants."""

    def __init__(self, channels: Mapping[int, float]) -> None:
        self._channels = torch.tensor(list(channels), dtype=torch.long)
        self._values = torch.tensor(list(channels.values()), dtype=torch.float64)

    def __call__(self, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        values = self._values.to(output.device, output.dtype).reshape(1, -1, 1, 1)
        frozen = values.expand(output.shape[0], -1, *output.shape[2:])
        return output.index_copy(1, self._channels.to(output.device), frozen)


def bake(network: nn.Module, constants: Constants, *, freeze_at: FreezeAt = "post") -> dict[str, Tensor]:
    """The network's `state_dict` with filters frozen for good; it loads into the same architecture with `strict=True`.

    A frozen filter gets zero weights, and its constant as bias of its batch norm, else of its convolution. The logits equal those of the masked
    pass. The network itself is not changed.

    Raises:
        ModelError: the network has no such filter.
        BakeError: plain weights cannot hold the constant: neither bias nor batch norm, a batch norm without parameters, or a value below 0
            before a ReLU.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        >>> bake(network, {FilterId("0", 1): 0.25})["0.bias"][1]
        tensor(0.2500)
    """
    state = {key: value.detach().clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        for name, row, number in baked_rows(network, constants, freeze_at=freeze_at):
            state[name][row] = number
    return state


def baked_rows(network: nn.Module, constants: Constants, *, freeze_at: FreezeAt = "post") -> Iterator[tuple[str, int, float]]:
    """What `bake` sets: name of a parameter, row, and the number for the whole row.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        >>> list(baked_rows(network, {FilterId("0", 1): 0.25}))
        [('0.weight', 1, 0.0), ('0.bias', 1, 0.25)]
    """
    original = network.state_dict()
    storages = Counter(value.data_ptr() for value in original.values() if value.numel())
    for site, channels in _by_site(network, constants, freeze_at):
        for channel, constant in channels.items():
            if reason := why_not_bakeable(network, site, constant):
                raise BakeError(f"filter {FilterId(site.layer, channel)} cannot be baked: {reason}; leave it out, or use Freeze")
            if storages[original[f"{site.layer}.weight"].data_ptr()] > 1:
                raise BakeError(f"the weights of {site.layer} are shared with another layer, where they would be frozen, too; use Freeze")
            yield f"{site.layer}.weight", channel, 0.0
            if site.norm is not None:
                yield f"{site.norm}.weight", channel, 0.0
                yield f"{site.norm}.bias", channel, constant
            if f"{site.layer}.bias" in original:
                yield f"{site.layer}.bias", channel, constant if site.norm is None else 0.0


def why_not_bakeable(network: nn.Module, site: Site, constant: float) -> str | None:
    """Why plain weights cannot hold this site's filters at `constant`; None where they can."""
    if not math.isfinite(constant):
        return f"its constant is {constant}"
    if not site.floor <= constant <= site.ceiling:
        return f"the ReLU after it cannot produce {constant:.4g}"
    convolution = network.get_submodule(site.layer)
    if not isinstance(convolution._parameters.get("weight"), nn.Parameter):
        return f"the weight of {site.layer} is computed from other parameters (pruning, weight norm)"
    if site.norm is not None:
        affine = isinstance(network.get_submodule(site.norm).weight, nn.Parameter)
        return None if affine else f"the batch norm {site.norm} has no weight and bias"
    if not isinstance(convolution.bias, nn.Parameter) and constant != 0:
        return f"the convolution {site.layer} has neither a bias nor a batch norm of its own"
    return None


def baked_copy(network: nn.Module, constants: Constants, *, freeze_at: FreezeAt = "post") -> nn.Module:
    """A copy of the network with the baked weights."""
    repaired = copy.deepcopy(network)
    repaired.load_state_dict(bake(network, constants, freeze_at=freeze_at), strict=True)
    return repaired


def _by_site(network: nn.Module, constants: Constants, freeze_at: FreezeAt) -> list[tuple[Site, dict[int, float]]]:
    """The constants grouped by convolution, checked against the network."""
    if not constants:
        return []
    sites = {site.layer: site for site in trace(network, freeze_at=freeze_at).sites}
    grouped: dict[str, dict[int, float]] = {}
    for name, constant in constants.items():
        site = sites.get(name.layer)
        if site is None or not 0 <= name.channel < site.filters:
            hint = f"{name.layer} has {site.filters} filters" if site else f"the layers are {', '.join(sites)}"
            raise ModelError(f"the network has no filter {name} ({hint[:200]}); take the patch that was made for this architecture")
        if not site.floor <= constant <= site.ceiling:
            raise BakeError(
                f"filter {name} cannot be frozen at {constant:.4g}: the ReLU after it cannot produce that; recompute its constant for freeze_at={freeze_at!r}"
            )
        grouped.setdefault(name.layer, {})[name.channel] = float(constant)
    return [(sites[layer], channels) for layer, channels in grouped.items()]
