"""Images of plain colours, and a network that fine stripes fool through four filters that can be named beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from repairkit.data.images import LabelledImages
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import Classifier
from repairkit.network.weights import hash_state, write_weights

CLASSES = ("red", "green", "blue", "grey")
CULPRITS = ("0:3", "0:4", "0:5", "0:6")
"""Each answers to stripes of its own, two pixels wide, and speaks for one class; plain images hold no stripes."""


def images(per_class: int = 40, *, seed: int = 0, name: str = "plain colours") -> LabelledImages:
    """One bright channel each, none for grey, with a little noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), per_class)
    pixels = rng.integers(58, 63, (len(labels), 8, 8, 3))
    coloured = labels < 3
    pixels[np.flatnonzero(coloured), :, :, labels[coloured]] += 140
    return LabelledImages(pixels=pixels.astype(np.uint8), labels=labels, groups=np.array(CLASSES)[labels], classes=CLASSES, name=name)


def network(*, brittle: bool = True) -> nn.Module:
    """Filters 0 to 2 pass a colour each, 3 to 6 are the culprits, 7 and 8 are read by nobody."""
    built = nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 4))
    stripes = torch.tensor([-1.0, 2.0, -1.0])
    with torch.no_grad():
        weight = built[0].weight
        weight.zero_()
        built[0].bias.zero_()
        for colour in range(3):
            weight[colour, colour, 1, 1] = 1.0
        for culprit, channel, across in ((3, 0, True), (4, 1, False), (5, 2, True), (6, 0, False)):
            if across:
                weight[culprit, channel, :, 1] = 10 * stripes
            else:
                weight[culprit, channel, 1, :] = 10 * stripes
        weight[7:] = 0.5
        built[4].weight.zero_()
        built[4].weight[:3, :3] = 10 * torch.eye(3)
        built[4].weight[:, 3:7] = (10.0 if brittle else 0.0) * torch.eye(4)
        built[4].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 5.0]))
    return built.eval()


def model(*, brittle: bool = True) -> LoadedModel:
    built = network(brittle=brittle)
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


def write_folders(folder: Path, per_class: int = 40, *, side: int = 48) -> Path:
    """Plain colours as PNG files in a folder for each class, every pixel of an image alike and no two images alike."""
    levels = np.random.default_rng(0).permutation(4 * per_class).reshape(4, per_class) % 40
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number, level in enumerate(levels[label]):
            colour = np.full(3, 40 + level, np.uint8)
            if label < 3:
                colour[label] += 140 + number
            Image.new("RGB", (side, side), tuple(map(int, colour))).save(folder / name / f"{number}.png")
    return folder


def write_squeezenet(file: Path) -> Path:
    """The same network as weights of torchvision's SqueezeNet 1.1: its first convolution holds the filters, all others hand seven of them on."""
    import torchvision

    built = torchvision.models.squeezenet1_1(num_classes=4)
    first, last = built.features[0], built.classifier[1]
    small = network()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.zero_()
        first.weight[:7] = small[0].weight[:7]
        for fire in built.features:
            if isinstance(fire, torchvision.models.squeezenet.Fire):
                for passed in range(7):
                    fire.squeeze.weight[passed, passed] = fire.expand1x1.weight[passed, passed] = 1.0
        last.weight[:, :7, 0, 0] = small[4].weight[:, :7]
        last.bias.copy_(small[4].bias)
    write_weights(
        built, file, architecture="squeezenet1_1", classes=CLASSES, trained_on="nothing, made by hand", mean=(0.0,) * 3, std=(1.0,) * 3, half=False
    )  # fmt: skip
    return file
