"""Images of three colours, and a network in which each class hangs on one filter that can be named beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from repairkit.data.images import LabelledImages
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import Classifier
from repairkit.network.weights import hash_state

CLASSES = ("red", "green", "blue")
CRITICAL = {"green": "0:1", "blue": "0:2"}
IDLE = ("0:4", "0:5")
"""Filters that nothing reads: they cannot matter."""


def images(per_class: int = 40, *, seed: int = 0, name: str = "colours") -> LabelledImages:
    """One bright channel each, with noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    pixels = rng.integers(10, 60, (len(labels), 4, 4, 3))
    pixels[np.arange(len(labels)), :, :, labels] += 160
    return LabelledImages(pixels=pixels.astype(np.uint8), labels=labels, groups=np.array(CLASSES)[labels], classes=CLASSES, name=name)


def network() -> nn.Module:
    """Filters 0 to 2 pass a colour each, 3 passes a little of all, 4 and 5 are read by nobody; red is what is answered in doubt."""
    built = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    with torch.no_grad():
        built[0].weight.copy_(torch.cat([torch.eye(3), torch.full((1, 3), 0.1), torch.ones(2, 3)])[:, :, None, None])
        built[0].bias.zero_()
        built[4].weight.zero_()
        built[4].weight[:, :3] = 10 * torch.eye(3)
        built[4].weight[0, 3] = 0.1
        built[4].bias.copy_(torch.tensor([4.0, 0.0, 0.0]))
    return built.eval()


def model() -> LoadedModel:
    built = network()
    return LoadedModel(
        classifier=Classifier(built, classes=CLASSES, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval(),
        architecture="toy",
        provenance="made by hand",
        weights=Path("toy.safetensors"),
        sha256=hash_state(built.state_dict()),
        trained_on="nothing",
        stand_in=False,
        assumed_normalisation=False,
        stages=(),
    )
