"""A user's network and images: checked before any work, and split into attribution, selection and test images."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, ModelError, UsageError
from repairkit.evaluation.splits import Split, check_disjoint, three_way, ungrouped
from repairkit.network.classifier import Classifier, check_logits, check_not_probabilities
from repairkit.network.tracing import private_copy
from repairkit.network.weights import hash_state
from repairkit.objectives import AttackSuccess, Objective

UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Mean and standard deviation that leave images in [0, 1] as they are."""


@dataclass(frozen=True, eq=False)
class RepairInputs:
    """A private copy of the network, and its images.

    Attributes:
        classifier: in eval mode, without gradients; the user's module is never touched.
        bare: whether the user gave a module that takes images in [0, 1], in place of a `Classifier`.
        data: images that the objective is of.
        source: images of what the network must go on doing; None for `data`.
    """

    classifier: Classifier
    bare: bool
    data: LabelledImages
    source: LabelledImages | None

    @property
    def architecture(self) -> str:
        """Name of the network's class."""
        return type(self.classifier.network).__name__

    @property
    def sha256(self) -> str:
        """Hash of the original weights."""
        return hash_state(self.classifier.network.state_dict())

    def handed_back(self, repaired: Classifier) -> nn.Module:
        """A repaired network in the form in which the original was given, on the CPU, ready to be used or trained."""
        network = copy.deepcopy(repaired.network).cpu().requires_grad_()
        return network if self.bare else self.classifier.with_network(network).cpu()


def check_inputs(model: nn.Module, data: LabelledImages, objective: Objective, source: LabelledImages | None) -> RepairInputs:
    """The inputs of a repair.

    Raises:
        UsageError: an argument of another type, or adversarial images without a source.
        DataError: one class alone, or sets of different classes or with a shared image.
        ModelError: the network cannot take the images, or its answers are not finite logits, one for each class.
    """
    for name, argument, wanted in (("model", model, nn.Module), ("data", data, LabelledImages), ("objective", objective, Objective)):
        if not isinstance(argument, wanted):
            shown = f"the class {argument.__name__}" if isinstance(argument, type) else type(argument).__name__
            hint = "give an object such as SubgroupRecall()" if name == "objective" else f"give a {wanted.__name__}"
            raise UsageError(f"expected {name} to be a {wanted.__name__}, got {shown}; {hint}")
    if isinstance(objective, AttackSuccess) and source is None:
        raise UsageError("AttackSuccess needs clean images to guard, got no source; give source=")
    if len(data.classes) < 2 or len(np.unique(data.labels)) < 2:
        raise DataError(f"{data.name}: expected images of two classes or more, got one; a repair would only learn to answer it")
    if source is not None:
        if source.classes != data.classes:
            raise DataError(f"{source.name} has the classes {source.classes}, {data.name} {data.classes}; give images of one task")
        check_disjoint(data=data, source=source)
    bare = not isinstance(model, Classifier)
    classifier = _classifier(model, data)
    _try_one(classifier, data)
    return RepairInputs(classifier, bare, data, source)


def _classifier(model: nn.Module, data: LabelledImages) -> Classifier:
    if isinstance(model, Classifier):
        if model.classes != data.classes:
            raise DataError(f"{data.name} has the classes {data.classes}, the model {model.classes}; give images of the model's classes")
        return model.with_network(private_copy(model.network)).cpu()
    mean, std = UNCHANGED
    return Classifier(private_copy(model).cpu(), classes=data.classes, mean=mean, std=std).eval()


def _try_one(classifier: Classifier, data: LabelledImages) -> None:
    """One pass, to find out before any work whether images and network fit."""
    image = data.batch(np.array([0]))
    with torch.inference_mode():
        try:
            logits = classifier(image)
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"the model cannot take images of shape {tuple(image.shape)} ({reason}); give images of its size") from None
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, len(data.classes)):
        shape = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(
            f"expected logits of shape (images, {len(data.classes)}), one for each of the classes of {data.name}, got {shape} for one image; "
            "give a model and class names of one task"
        )
    check_not_probabilities(check_logits(logits, data.describe(0)))


def split_data(inputs: RepairInputs, split: Split | None, *, shares: tuple[float, float, float], seed: int) -> tuple[Split, Split | None]:
    """The split of the data, and that of the source where there is one.

    Raises:
        DataError: a part would have no image of a group, or parts of a given split share an image.
    """
    data, source = inputs.data, inputs.source
    if split is None:
        split = three_way(data, shares=shares, seed=seed)
    else:
        check_disjoint(attribution=data.subset(split.attribute), selection=data.subset(split.choose), test=data.subset(split.report))
    return split, None if source is None else three_way(ungrouped(source), shares=shares, seed=seed)
