"""Mean recall over subgroups."""

from __future__ import annotations

import numpy as np

from repairkit.data.images import LabelledImages
from repairkit.objectives.base import CorrectnessObjective, Weights


class SubgroupRecall(CorrectnessObjective):
    """Mean recall over the subgroups, so that a small group counts as much as a large one.

    Each image weighs 1 / (groups x group size); score in 0 .. 1. Source: the fairness objective of
    Ghorbani & Zou 2020, section 4.3 (equally weighted Pilot Parliaments Benchmark).

    Example:
        >>> images = LabelledImages(pixels=np.zeros((3, 8, 8, 3), np.uint8), labels=np.zeros(3, int),
        ...     groups=np.array(["a", "a", "b"]), classes=("no", "yes"), name="tiny")
        >>> SubgroupRecall().weights(images).tolist()
        [0.25, 0.25, 0.5]
    """

    def weights(self, images: LabelledImages) -> Weights:
        """1 / (groups x group size) for every image."""
        names, member, sizes = np.unique(images.groups, return_inverse=True, return_counts=True)
        return 1 / (len(names) * sizes[member].astype(np.float64))
