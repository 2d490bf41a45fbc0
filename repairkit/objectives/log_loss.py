"""Mean negative log-probability of the label."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.objectives.base import Objective, Weights


class LogLoss(Objective):
    """Mean of -log p(label), in nats; high is bad, so positive values are harmful.

    Args:
        floor: probabilities below it count as it, so that a score has a range, 0 .. -log(floor),
            which the bounds need.

    Example:
        >>> LogLoss().score(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor([0.6931])
    """

    harmful: Literal[-1, 1] = 1

    def __init__(self, *, floor: float = 1e-4) -> None:
        if not 0 < floor < 1:
            raise UsageError(f"expected a floor between 0 and 1, got {floor}; it is the least probability that counts")
        self.floor = floor
        self.bounds = (0.0, -math.log(floor))

    def weights(self, images: LabelledImages) -> Weights:
        """1 / N for every image."""
        return np.full(len(images), 1 / len(images))

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """`-log max(p(label), floor)` per example."""
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none").clamp(max=self.bounds[1])

    def surrogate(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss without the floor, where its gradient would vanish."""
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    def __repr__(self) -> str:
        return f"LogLoss(floor={self.floor:g})"
