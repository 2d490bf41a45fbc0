"""Gap between the recalls of two subgroups."""

from __future__ import annotations

from typing import Literal

import numpy as np

from repairkit.data.images import LabelledImages
from repairkit.errors import DataError
from repairkit.objectives.base import CorrectnessObjective, Weights


class RecallGap(CorrectnessObjective):
    """Recall of the favoured subgroup minus recall of the disadvantaged one; score in -1 .. 1.

    Images of other subgroups weigh 0. Filters with positive values widen the gap: they are harmful.

    Args:
        favoured: name of the subgroup that is served better.
        disadvantaged: name of the subgroup that is served worse.

    Example:
        >>> images = LabelledImages(pixels=np.zeros((3, 8, 8, 3), np.uint8), labels=np.zeros(3, int),
        ...     groups=np.array(["a", "a", "b"]), classes=("no", "yes"), name="tiny")
        >>> RecallGap("a", "b").weights(images).tolist()
        [0.5, 0.5, -1.0]
    """

    harmful: Literal[-1, 1] = 1

    def __init__(self, favoured: str, disadvantaged: str) -> None:
        self.favoured = favoured
        self.disadvantaged = disadvantaged

    def weights(self, images: LabelledImages) -> Weights:
        """1 / size in the favoured group, -1 / size in the disadvantaged one, else 0.

        Raises:
            DataError: a group has no image.
        """
        weights = np.zeros(len(images))
        for group, sign in ((self.favoured, 1.0), (self.disadvantaged, -1.0)):
            members = images.groups == group
            if not members.any():
                raise DataError(f"{images.name} has no image of the group {group!r}; its groups are {', '.join(images.group_names)}")
            weights[members] += sign / members.sum()
        return weights

    def __repr__(self) -> str:
        return f"RecallGap({self.favoured!r}, {self.disadvantaged!r})"
