"""Share of adversarial images that the network assigns to the adversary's target."""

from __future__ import annotations

from typing import Literal

import numpy as np

from repairkit.data.images import LabelledImages
from repairkit.objectives.base import CorrectnessObjective, Weights


class AttackSuccess(CorrectnessObjective):
    """Share of adversarial images that get the adversary's target, each weighing 1 / N; score in 0 .. 1.

    The label of an image is the target, not what the image shows. Filters with positive values help the attack: they are harmful. Clean accuracy
    needs some of them, so that `AttackSuccess().on(adversarial) - Accuracy().on(clean)` ranks better for a repair.

    Source: the vulnerability metric of Ghorbani & Zou 2020, section 4; the difference to clean accuracy is ours.

    Example:
        >>> from repairkit.objectives import Accuracy
        >>> faces = LabelledImages(pixels=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0, 1]),
        ...     groups=np.array(["a", "b"]), classes=("no", "yes"), name="tiny")
        >>> (AttackSuccess().on(faces) - Accuracy().on(faces)).harmful
        1
    """

    harmful: Literal[-1, 1] = 1

    def weights(self, images: LabelledImages) -> Weights:
        """1 / N for every image."""
        return np.full(len(images), 1 / len(images))
