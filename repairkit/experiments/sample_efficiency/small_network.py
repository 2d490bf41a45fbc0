"""A small network of digits: so few filters that both algorithms of the paper stop by their own rule within minutes.

Four convolutions that read scikit-learn's handwritten digits (8 x 8 pixels, part of that package: nothing is downloaded), trained from a fixed
seed in a few seconds, so that no weights are kept. It stands for no network that anybody uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import Classifier
from repairkit.network.weights import hash_state

NAME = "small"
"""What recipes call it."""
CHANNELS = (16, 24, 32, 48)
EPOCHS = 30
TRAINED_ON = 1200
"""Of 1,797 digits; images of a game come from the others."""


def digits() -> LabelledImages:
    """All digits in a fixed random order, grey repeated over three channels."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))
    grey = np.round(loaded.images[order] * 255 / 16).astype(np.uint8)
    return LabelledImages(
        pixels=np.repeat(grey[..., None], 3, axis=-1),
        labels=loaded.target[order].astype(np.int64),
        groups=np.full(len(order), "digits"),
        classes=tuple("0123456789"),
        name="handwritten digits",
    )


def held_out() -> LabelledImages:
    """The digits that the network is not trained on, 597.

    Example:
        >>> len(held_out())
        597
    """
    everything = digits()
    return everything.subset(np.arange(TRAINED_ON, len(everything)), name="handwritten digits (8 x 8, held out)")


def trained_classifier(images: LabelledImages, *, channels: Sequence[int] = CHANNELS, epochs: int = EPOCHS, seed: int = 0) -> Classifier:
    """Four convolutions with ReLUs, mean over positions, a linear head; Adam on the first images.

    Raises:
        UsageError: other than four numbers of channels, or one below 1.
    """
    if len(channels) != 4 or min(channels) < 1:
        raise UsageError(f"the small network has four convolutions: expected four numbers of channels from 1, got {tuple(channels)}")
    torch.manual_seed(seed)
    first, second, third, fourth = channels
    network = nn.Sequential(
        nn.Conv2d(3, first, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(second, third, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(third, fourth, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(fourth, len(images.classes)),
    )
    classifier = Classifier(network, classes=images.classes, mean=(0.5,) * 3, std=(0.5,) * 3)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        for batch in np.split(rng.permutation(TRAINED_ON), np.arange(64, TRAINED_ON, 64)):
            loss = nn.functional.cross_entropy(classifier(images.batch(batch)), torch.from_numpy(images.labels[batch]))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return classifier.eval().requires_grad_(False)


def load(channels: Sequence[int] = CHANNELS, *, epochs: int = EPOCHS) -> LoadedModel:
    """The network, trained now."""
    classifier = trained_classifier(digits(), channels=channels, epochs=epochs)
    return LoadedModel(
        classifier=classifier,
        architecture=NAME,
        provenance=(
            f"A small network ({', '.join(map(str, channels))} filters in four convolutions) trained on {TRAINED_ON:,} handwritten digits of 8 x 8 "
            "pixels when the run began. It stands for no network that anybody uses."
        ),
        weights=Path("small.safetensors"),
        sha256=hash_state(classifier.network.state_dict()),
        trained_on=f"{TRAINED_ON:,} of scikit-learn's handwritten digits",
        stand_in=True,
    )
