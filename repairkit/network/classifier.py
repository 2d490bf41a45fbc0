"""A classifier of images in [0, 1]: a plain architecture with its normalisation around it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from repairkit.data.images import LabelledImages
from repairkit.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Classifier(nn.Module):
    """An unmodified architecture that takes images in [0, 1]; its normalisation is no part of the state dict.

    Attributes:
        network: the architecture, for instance torchvision's `squeezenet1_0(num_classes=2)`.
        classes: class names; the position is the label and the column of the logits.
        size: images are resized to size x size pixels (bicubic, anti-aliased); None leaves them.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> classifier = Classifier(network, classes=("no", "yes"), size=8)
        >>> classifier(torch.rand(4, 3, 16, 16)).shape, list(classifier.state_dict())
        (torch.Size([4, 2]), ['network.0.weight', 'network.0.bias'])
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        classes: Sequence[str],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.classes = tuple(classes)
        self.size = size
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Resize and normalise images in [0, 1], shape (n, 3, height, width), for `network`."""
        images = images.to(self.mean.device)
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, size=(self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        return (images - self.mean) / self.std

    def with_network(self, network: nn.Module) -> Classifier:
        """The same classes and normalisation around another network of the same task, in eval mode."""
        mean, std = (numbers.flatten().tolist() for numbers in (self.mean, self.std))
        return Classifier(network, classes=self.classes, mean=mean, std=std, size=self.size).eval().to(self.mean.device)

    def with_weights(self, state: Mapping[str, torch.Tensor]) -> Classifier:
        """The same around a copy of the network with this state dict, in eval mode without gradients."""
        network = copy.deepcopy(self.network).requires_grad_(requires_grad=False)
        network.load_state_dict(dict(state), strict=True)
        return self.with_network(network)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, shape (n, number of classes), of images in [0, 1]."""
        logits: torch.Tensor = self.network(self.prepare(images))
        return logits


def check_logits(logits: torch.Tensor, what: str = "the model") -> torch.Tensor:
    """Return `logits` unchanged; `ModelError` where one is NaN or infinite.

    Example:
        >>> check_logits(torch.tensor([[0.0, float("nan")]]))
        Traceback (most recent call last):
        repairkit.errors.ModelError: the model: 1 of 2 logits is NaN or infinite, ...
    """
    if wrong := int((~torch.isfinite(logits)).sum()):
        verb = "is" if wrong == 1 else "are"
        raise ModelError(
            f"{what}: {wrong} of {logits.numel()} logits {verb} NaN or infinite, expected finite numbers; "
            "check the weights, the normalisation and the images"
        )
    return logits


def check_not_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Return `logits`, shape (n, classes), unchanged; `ModelError` where every row is non-negative and sums to 1.

    Losses of probabilities are flat where the network is certain, so that attacks fail for want of a gradient.

    Example:
        >>> check_not_probabilities(torch.tensor([[0.25, 0.75]]))
        Traceback (most recent call last):
        repairkit.errors.ModelError: expected logits, got rows of non-negative numbers that sum to 1, ...
    """
    sums = logits.double().sum(dim=1)
    if (logits >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
        raise ModelError(
            "expected logits, got rows of non-negative numbers that sum to 1, which are probabilities; "
            "remove the softmax at the end of the network"
        )
    return logits


def try_one(classifier: Classifier, images: LabelledImages) -> None:
    """One pass before any work; `ModelError` where the network cannot take images of this size, or its logits are not finite."""
    with torch.inference_mode():
        try:
            logits = classifier(images.batch(np.array([0])))
        except (RuntimeError, AssertionError) as error:  # torchvision asserts the size that a transformer takes
            reason = str(error).splitlines()[0]
            side = classifier.size or images.pixels.shape[1]
            raise ModelError(f"the network cannot take images of {side} pixels ({reason}); give a larger --size") from None
    check_logits(logits, images.describe(0))
