"""Share of images that the network gets right."""

from __future__ import annotations

import numpy as np

from repairkit.data.images import LabelledImages
from repairkit.objectives.base import CorrectnessObjective, Weights


class Accuracy(CorrectnessObjective):
    """Share of correct images, each weighing 1 / N; score in 0 .. 1.

    Source: the "overall accuracy" metric of Ghorbani & Zou 2020, section 4.1.

    Example:
        >>> import torch
        >>> Accuracy().score(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
        tensor([1., 0.])
    """

    def weights(self, images: LabelledImages) -> Weights:
        """1 / N for every image."""
        return np.full(len(images), 1 / len(images))
