"""Recall of one class."""

from __future__ import annotations

import numpy as np

from repairkit.data.images import LabelledImages
from repairkit.errors import DataError
from repairkit.objectives.base import CorrectnessObjective, Weights


class ClassRecall(CorrectnessObjective):
    """Recall of one class; score in 0 .. 1.

    Images of other classes weigh 0, so they are never sampled. Filters with high values are important for the class,
    those with negative values are harmful.

    Args:
        label: number of the class, its position in the class names.

    Source: the "class recall" metric of Ghorbani & Zou 2020, section 4.

    Example:
        >>> images = LabelledImages(pixels=np.zeros((3, 8, 8, 3), np.uint8), labels=np.array([1, 0, 1]),
        ...     groups=np.array(["a", "a", "b"]), classes=("no", "yes"), name="tiny")
        >>> ClassRecall(1).weights(images).tolist()
        [0.5, 0.0, 0.5]
    """

    def __init__(self, label: int) -> None:
        self.label = label

    def weights(self, images: LabelledImages) -> Weights:
        """1 / size of the class for its images, 0 for all others.

        Raises:
            DataError: the label is not among the classes, or no image has it.
        """
        if not 0 <= self.label < len(images.classes):
            raise DataError(f"{images.name} has {len(images.classes)} classes, so labels 0 to {len(images.classes) - 1}; got {self.label}")
        members = images.labels == self.label
        if not members.any():
            raise DataError(
                f"{images.name} has no image of the class {images.classes[self.label]!r} among its {len(images):,}; "
                "give images of it, or another class"
            )
        return np.where(members, 1 / members.sum(), 0.0)

    def __repr__(self) -> str:
        return f"ClassRecall({self.label})"
