"""A small network fitted on drawn images, with one filter planted that makes it unfair to a group."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from repairkit.data.images import LabelledImages

CLASSES = ("female", "male")
SIDE = 8
PLANTED = ("2", 5)
"""Layer and channel of the filter that answers to darker images and votes for male."""
READERS = (0, 1)
"""Filters of the first layer that read blue for the planted one, half each, and for no other."""


@cache
def images(per_group: int = 320, seed: int = 0, name: str = "faces") -> LabelledImages:
    """Men have a bright bar that stands, women one that lies; darker images have a blue background."""
    rng = np.random.default_rng(seed)
    names = [f"{skin} {people}" for skin in ("lighter", "darker") for people in ("women", "men")]
    groups = np.repeat(names, per_group)
    labels = np.array([int(group.endswith(" men")) for group in groups])
    pixels = rng.integers(0, 90, (len(groups), SIDE, SIDE, 3))
    for image, label, place in zip(pixels, labels, rng.integers(1, SIDE - 1, len(groups)), strict=True):
        bar = image[:, place] if label else image[place]
        bar[:, :2] += 120
    darker = np.flatnonzero(np.char.startswith(groups, "darker"))
    pixels[darker, :, :, 2] += rng.integers(60, 160, (len(darker), 1, 1))
    return LabelledImages(pixels.astype(np.uint8), labels, groups, CLASSES, name)


def _layers() -> nn.Sequential:
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(6, 2))


@cache
def _fitted() -> dict[str, torch.Tensor]:
    """Weights fitted on fair images with the place of the planted filter empty, then the filter planted."""
    torch.manual_seed(0)
    network, data = _layers(), images(80, seed=1)
    pixels, labels = data.batch(np.arange(len(data))), torch.from_numpy(data.labels)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        with torch.no_grad():
            network[2].weight[:, READERS], network[6].weight[:, PLANTED[1]] = 0, 0  # nothing depends on the filters that are planted
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(pixels), labels).backward()
        optimiser.step()
    with torch.no_grad():
        _plant(network, pixels, labels, np.char.startswith(data.groups, "darker"))
    return {name: value.clone() for name, value in network.state_dict().items()}


def _plant(network: nn.Sequential, pixels: torch.Tensor, labels: torch.Tensor, darker: np.ndarray) -> None:
    """The planted filter passes on what its readers see, and votes for male by half more than the margin of darker women."""
    channel = PLANTED[1]
    network[2].weight[:, READERS] = 0.0
    network[2].weight[channel], network[2].bias[channel] = 0.0, 0.0
    for reader in READERS:
        network[0].weight[reader], network[0].bias[reader] = 0.0, -0.35
        network[0].weight[reader, 2, 1, 1] = 1.0
        network[2].weight[channel, reader, 1, 1] = 0.5
    network[6].weight[:, channel] = 0.0
    women = pixels[torch.from_numpy(darker) & (labels == 0)]
    logits, pooled = network(women), network[:6](women)[:, channel]
    network[6].weight[1, channel] = 1.5 * float((logits[:, 0] - logits[:, 1]).median() / pooled.median())


def network() -> nn.Sequential:
    """In eval mode; a new one for each call."""
    built = _layers()
    built.load_state_dict(_fitted())
    return built.eval()
