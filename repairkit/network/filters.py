"""The filters of a network as players: which there are, the constants they are frozen at, and passes with some frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from repairkit.errors import ModelError, UsageError
from repairkit.network.tracing import Site, Snapshot, TracedNetwork, trace
from repairkit.run.options import FreezeAt

Coalitions = npt.NDArray[np.bool_]
"""True where a filter is live; shape (k, n), or (1, n) where all examples share one coalition."""


@dataclass(frozen=True, order=True)
class FilterId:
    """One filter: the convolution's name in `named_modules()` and the output channel.

    Example:
        >>> str(FilterId("features.3.squeeze", 7)), FilterId.parse("features.3.squeeze:7").channel
        ('features.3.squeeze:7', 7)
    """

    layer: str
    channel: int

    def __str__(self) -> str:
        return f"{self.layer}:{self.channel}"

    @classmethod
    def parse(cls, text: str) -> FilterId:
        """Read "layer:channel"; `UsageError` for another form."""
        layer, colon, channel = text.rpartition(":")
        if not colon or not layer or not channel.isdecimal():
            raise UsageError(f"expected a filter as LAYER:CHANNEL, for instance features.3.squeeze:7, got {text!r}")
        return cls(layer, int(channel))


class ConvFilters:
    """Every `nn.Conv2d` filter of a network except its final classifier's, as players of a game. The network is copied, never changed.

    A frozen filter sends on a constant, the mean of its signal over the calibration images, in place of its signal (Ghorbani & Zou 2020,
    section 2). Deviation from the paper's code: the signal is taken after the batch norm and the ReLU (`freeze_at="post"`). `"pre"` takes it
    before the ReLU, as that code does. There a filter that is shut carries no gradient, which blinds the gradient estimates.

    Args:
        network: takes prepared images (normalised as the network expects), returns logits.
        freeze_at: "post" or "pre".
        device: where passes run.

    Attributes:
        sites: one per convolution, in the order in which the network runs them.
        ids: a `FilterId` per player; player i is `ids[i]`.
        constants: float64, shape (n,); NaN until `calibrate` has run.

    Raises:
        ModelError: no convolution before the classifier.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
        >>> filters = ConvFilters(network)
        >>> len(filters), str(filters.ids[3])
        (4, '0:3')
        >>> filters.calibrate([torch.rand(5, 3, 8, 8)])
        >>> filters.forward(torch.rand(2, 3, 8, 8), np.array([[True, True, False, True]])).shape
        torch.Size([2, 2])
    """

    def __init__(self, network: nn.Module, *, freeze_at: FreezeAt = "post", device: torch.device | str = "cpu") -> None:
        if freeze_at not in ("post", "pre"):
            raise UsageError(f"freeze_at must be 'post' (after the ReLU) or 'pre' (before it), got {freeze_at!r}")
        self.freeze_at: FreezeAt = freeze_at
        self.device = torch.device(device)
        self._runner = trace(network, freeze_at=freeze_at)
        self._runner.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sites: tuple[Site, ...] = self._runner.sites
        self.ids = tuple(FilterId(site.layer, channel) for site in self.sites for channel in range(site.filters))
        self.constants: npt.NDArray[np.float64] = np.full(len(self.ids), math.nan)
        self.shares: npt.NDArray[np.float64] = np.ones(len(self.ids))
        """Share of a pass that a rerun from each player's layer costs, shape (n,); measured by `calibrate`."""
        self.site_of = np.repeat(np.arange(len(self.sites)), [site.filters for site in self.sites])
        self._constants: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"ConvFilters({type(self._runner.network).__name__}, filters={len(self)}, layers={len(self.sites)}, freeze_at={self.freeze_at!r})"

    def index(self, filters: Iterable[FilterId]) -> npt.NDArray[np.int64]:
        """The players of these filters; `ModelError` where the network has no such filter."""
        layers = {site.layer: site for site in self.sites}
        players = []
        for name in filters:
            site = layers.get(name.layer)
            if site is None or not 0 <= name.channel < site.filters:
                raise ModelError(f"the network has no filter {name}; its layers are {', '.join(list(layers)[:4])} ...; give its patch")
            players.append(site.start + name.channel)
        return np.array(players, dtype=np.int64)

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Set every filter's constant to the mean of its signal over images and positions, with sums in float64.

        Args:
            batches: prepared images, float, (k, 3, height, width) each.

        Raises:
            ModelError: there is no image, or a signal is not finite.
        """
        sums = [torch.zeros(site.filters, dtype=torch.float64, device=self.device) for site in self.sites]
        counts = [0] * len(self.sites)

        def accumulate(index: int, signal: Tensor) -> None:
            sums[index] += signal.sum(dim=(0, 2, 3), dtype=torch.float64)
            counts[index] += signal.numel() // signal.shape[1]

        with torch.inference_mode():
            for batch in batches:
                images = self._to_device(batch)
                if not any(counts):
                    per_site = np.array(self._runner.shares(images))
                    self.shares = per_site[self.site_of]
                self.watch(images, accumulate)
        if not any(counts):
            raise ModelError("calibration needs at least one image, got none; give the attribution images")
        constants = torch.cat([total / max(count, 1) for total, count in zip(sums, counts, strict=True)]).cpu().numpy()
        if not np.isfinite(constants).all():
            worst = self.ids[int(np.flatnonzero(~np.isfinite(constants))[0])]
            raise ModelError(f"the mean signal of filter {worst} is not finite; check the weights and the normalisation of the images")
        self.set_constants(constants)

    def set_constants(self, constants: npt.NDArray[np.float64]) -> None:
        """Use these constants, shape (n,), instead of calibrating."""
        if constants.shape != (len(self),):
            raise ModelError(f"expected one constant for each of the {len(self)} filters, got shape {constants.shape}")
        self.constants = constants.astype(np.float64)
        as_tensor = torch.from_numpy(self.constants).to(torch.float32).to(self.device)
        self._constants = [as_tensor[site.start : site.stop].reshape(1, -1, 1, 1) for site in self.sites]

    def forward(self, images: Tensor, live: Coalitions) -> Tensor:
        """Logits with only the `live` filters live; `live` is (k, n) or (1, n) for all images."""
        masks, all_live = self._masks(live), self._all_live(live)

        def freeze(site: int, signal: Tensor) -> Tensor:
            return signal if all_live[site] else self._freeze_in_place(site, signal, masks[site])

        with torch.inference_mode():
            return self._runner.run(self._to_device(images), freeze)[0]

    def gradients(self, images: Tensor, live: Coalitions, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Derivative of a score per example by every filter's mask.

        The mask m of a filter blends its signal s with its constant c: `m s + (1 - m) c`. The derivative at a coalition is the first-order
        marginal contribution of each filter, live or frozen.

        Args:
            images: prepared, (k, 3, height, width).
            live: (k, n).
            loss: logits (k, classes) -> score per example (k,).

        Returns:
            The derivatives, float32 (k, n), and the logits (k, classes).
        """
        masks = [mask.expand(len(images), -1, -1, -1).to(torch.float32).requires_grad_() for mask in self._masks(live)]
        with torch.enable_grad():
            logits, _ = self._runner.run(
                self._to_device(images), lambda site, signal: cast(Tensor, _Blend.apply(signal, masks[site], self._constants[site]))
            )
            slopes = torch.autograd.grad(loss(logits).sum(), masks, allow_unused=True)
        flat = [torch.zeros_like(mask) if slope is None else slope for slope, mask in zip(slopes, masks, strict=True)]
        return torch.cat([slope.flatten(1) for slope in flat], dim=1).detach(), logits.detach()

    def watch(self, images: Tensor, look: Callable[[int, Tensor], None]) -> Tensor:
        """Logits with every filter live; `look` is called with each site's number and signal, which are parts of the graph."""

        def hook(site: int, signal: Tensor) -> Tensor:
            look(site, signal)
            return signal.clone() if torch.is_grad_enabled() else signal  # the next operation may write in place

        return self._runner.run(self._to_device(images), hook)[0]

    @property
    def network(self) -> nn.Module:
        """The private copy that passes run on; its parameters are those of the user's network."""
        return self._runner.network

    @property
    def can_rerun(self) -> bool:
        """Whether passes can rerun from a layer: true where the network was traced."""
        return isinstance(self._runner, TracedNetwork)

    def snapshot(self, images: Tensor, live: Coalitions) -> tuple[Tensor, Snapshot | None]:
        """As `forward`, with what `forward_from` needs."""
        masks = self._masks(live)
        with torch.inference_mode():
            return self._runner.run(self._to_device(images), lambda site, signal: self._freeze(site, signal, masks[site]), keep=True)

    def forward_from(self, snapshot: Snapshot, site: int, live: Coalitions, rows: npt.NDArray[np.int64] | None = None) -> Tensor:
        """Logits of a snapshot's images under coalitions that differ from the snapshot's only from `site` on.

        Args:
            snapshot: from `snapshot`.
            site: the first convolution at which a coalition may differ.
            live: (k, n) or (1, n).
            rows: the snapshot's image for each row of `live`, shape (k,); None for all in order.
        """
        if not isinstance(self._runner, TracedNetwork):
            raise ModelError("a network that cannot be traced cannot rerun from a layer; use forward")
        masks, all_live = self._masks(live), self._all_live(live)
        index = None if rows is None else torch.from_numpy(rows).to(self.device)

        def freeze(later: int, signal: Tensor) -> Tensor:
            if later == site and index is None:  # the signal is the snapshot's: it must not change
                return self._freeze(later, signal, masks[later])
            return signal if all_live[later] else self._freeze_in_place(later, signal, masks[later])

        with torch.inference_mode():
            return self._runner.rerun(snapshot, site, freeze, lambda value: value if index is None else value.index_select(0, index))

    def _masks(self, live: Coalitions) -> list[Tensor]:
        if not self._constants:
            raise ModelError("the filters have no constants yet; call calibrate with the attribution images first")
        if live.ndim != 2 or live.shape[1] != len(self):
            raise ModelError(f"expected coalitions of shape (k, {len(self)}), got {live.shape}")
        rows = torch.from_numpy(np.array(live, dtype=bool)).to(self.device)  # a copy: broadcast rows are read-only
        return [rows[:, site.start : site.stop].reshape(len(live), -1, 1, 1) for site in self.sites]

    def _all_live(self, live: Coalitions) -> list[bool]:
        """Whether no row freezes a filter of the site. Writing the signal of these sites again would cost a tenth of a pass."""
        always: npt.NDArray[np.bool_] = np.logical_and.reduce(live, axis=0)
        return [bool(always[site.start : site.stop].all()) for site in self.sites]

    def _freeze(self, site: int, signal: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, signal, self._constants[site].to(signal.dtype))

    def _freeze_in_place(self, site: int, signal: Tensor, mask: Tensor) -> Tensor:
        """The same into the signal's memory: allocating large tensors costs more than the arithmetic."""
        return torch.where(mask, signal, self._constants[site].to(signal.dtype), out=signal)

    def _to_device(self, images: Tensor) -> Tensor:
        return images.to(self.device).contiguous(memory_format=torch.channels_last)


class _Blend(torch.autograd.Function):
    """`m s + (1 - m) c` at masks of 0 and 1; its derivative by the mask is `sum over positions of g (s - c)`."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, mask: Tensor, constant: Tensor) -> Tensor:
        ctx.save_for_backward(signal, mask, constant)
        return torch.where(mask > 0.5, signal, constant.to(signal.dtype))

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        signal, mask, constant = ctx.saved_tensors
        total = slope.sum(dim=(2, 3), keepdim=True, dtype=mask.dtype)
        return slope * mask.to(slope.dtype), (slope * signal).sum(dim=(2, 3), keepdim=True, dtype=mask.dtype) - constant * total, None
