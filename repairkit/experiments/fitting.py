"""Whether a network and labelled images are for each other."""

from __future__ import annotations

import numpy as np
import torch

from repairkit.data.images import LabelledImages
from repairkit.data.training_hashes import check_unseen
from repairkit.errors import DataError
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import check_not_probabilities, try_one


def check_fit(model: LoadedModel, images: LabelledImages) -> None:
    """The images are of the network's classes and new to it, and it answers them with logits.

    Raises:
        DataError: the images have other classes than the network, or were seen in training.
        ModelError: the network cannot take images of this size, or answers with probabilities or what is not finite.
    """
    check_takes(model, images)
    check_unseen(model.weights, report=images)


def check_takes(model: LoadedModel, images: LabelledImages) -> None:
    """The images are of the network's classes, and it answers them with logits.

    Raises:
        DataError, ModelError: as `check_fit`.
    """
    classes = model.classifier.classes
    if images.classes != classes:
        raise DataError(
            f"{images.name} has other classes than the model {model.architecture} ({len(images.classes)}, the model {len(classes)}); "
            "give data and models of one task"
        )
    try_one(model.classifier, images)
    with torch.inference_mode():
        check_not_probabilities(model.classifier(images.batch(np.arange(min(4, len(images))))))
