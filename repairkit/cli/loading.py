"""A classifier of torchvision and labelled images of its classes, as commands on class folders take them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from repairkit.cli.console import Reporter
from repairkit.cli.train import EpochPrinter
from repairkit.data import digits
from repairkit.data import folders as imagenet
from repairkit.data.classes import find_class, imagenet_classes, relabel
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, ModelError, UsageError
from repairkit.models import embedded, zoo
from repairkit.models.class_subset import restrict_classes
from repairkit.network.weights import read_weights

CARRIERS = ("squeezenet1_1", "mobilenet_v3_small")
"""Embedded networks that images are carried over from; the second where the first is the one to repair. Both are fitted quickly."""
DROPOUT_TRAINED = ("squeezenet1_0", "squeezenet1_1", "resnet18")
"""Embedded networks that are also fitted with filter dropout, to compare with; larger ones only on a GPU, since two cores take too long."""
EMBEDDED_DROPOUT = 0.2
TYPED = 40
"""Typed digits, the other data set of the embedded default."""


def load_network_and_images(
    model: str,
    *,
    weights: Path | None,
    data_root: Path | None,
    parts: Sequence[str] | None,
    per_class: int | None,
    size: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    device: str,
    annotations: Path | None = None,
    subjects: Sequence[str] = (),
    narrow: bool = False,
    fit: bool = True,
) -> tuple[zoo.LoadedModel, LabelledImages]:
    """The network, and images labelled by the columns of its logits.

    Without weights and data the embedded default: the architecture fitted on handwritten digits, and digits that it has not seen.

    Args:
        model: torchvision's name, or a weights file of ours.
        weights: for a named model, of the folder's classes or of ImageNet's; by default what torchvision publishes, where torch's cache holds it.
        data_root: class folders or the flat layout, see `repairkit.data.folders.load`.
        parts: folders in it that are pooled.
        per_class: load at most so many images of a class.
        size: side in pixels; by default the one that torchvision uses the network with, or the digits' own.
        mean: of each channel of images in [0, 1], that the network's images are normalised with; by default as its file says.
        std: likewise.
        device: where the model goes.
        annotations: the annotation file, where a folder holds several texts.
        subjects: classes that are asked about; digits that do not exist are refused before a network is fitted to digits.
        narrow: keep the logits of the folder's classes alone, of a network that knows more.
        fit: whether the embedded default is fitted, which takes minutes; a plan does without.

    Raises:
        UsageError: weights or a model of one's own without images, an option or a class that the digits do not have.
        DataError, ModelError: as the loaders.
    """
    if data_root is None:
        if not embedded.needed(model, weights):
            if not Path(model).suffix and model not in zoo.CELEBA:
                usual_size(model)  # of a name that nobody knows it is the name that is wrong
            raise UsageError(
                "give --data-root: labelled images of the network's classes, in a folder for each class or beside an annotation file"
            )
        given = {
            "--subsets": parts,
            "--annotation-file": annotations,
            "--max-per-class": per_class,
            "--mean": mean,
            "--std": std,
            "--restrict-classes": narrow or None,
        }
        if unfit := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{unfit[0]} goes with --data-root, got it without; give the images, or leave it out")
        for subject in subjects:
            find_class(subject, digits.CLASSES)
        side = size or digits.SIZE
        return digits_network(model, side, device=device, fit=fit), digits.held_out_digits(size=side)
    images = imagenet.load(
        data_root,
        size=size or usual_size(model),
        per_class=per_class,
        parts=parts,
        annotations=annotations,
        name=data_root.absolute().name,
    )
    loaded = load_any(model, weights, images.classes, device, mean=mean, std=std)
    if narrow:
        loaded = restrict_classes(loaded, images.classes)
    return loaded, relabel(images, loaded.classifier.classes)


def digits_network(architecture: str, side: int, *, device: str, fit: bool, filter_dropout: float = 0.0) -> zoo.LoadedModel:
    """The embedded default of an architecture: fitted (`fitted_digits`), or with fresh weights for a plan.

    Raises:
        ModelError: as `repairkit.models.embedded.load`.
    """
    if not fit:
        return embedded.fresh(architecture, device=device)
    return fitted_digits(architecture, side, device=device, filter_dropout=filter_dropout)


def fitted_digits(architecture: str, side: int, *, device: str, filter_dropout: float = 0.0) -> zoo.LoadedModel:
    """The embedded default of an architecture, fitted now, with progress, unless the cache has it.

    Raises:
        ModelError: as `repairkit.models.embedded.load`.
    """
    with Reporter("training steps").running() as reporter:
        return embedded.load(
            architecture,
            size=side,
            threads=torch.get_num_threads(),
            device=device,
            progress=EpochPrinter(reporter),
            filter_dropout=filter_dropout,
        )


def usual_size(model: str) -> int:
    """Side of the images that torchvision uses such a network with.

    Raises:
        ModelError: neither torchvision's name nor a file that says its architecture.

    Example:
        >>> usual_size("inception_v3")
        299
    """
    if not Path(model).suffix:
        return zoo.preset_size(model)
    architecture = read_weights(Path(model))[1].get("architecture")
    if architecture is None:
        raise ModelError(f"{model} does not say its architecture; give that as the model and this file with --weights")
    return zoo.preset_size(architecture)


def load_adversaries(
    model: zoo.LoadedModel,
    images: LabelledImages,
    *,
    carriers: Sequence[tuple[str, Path | None]] | None,
    elsewhere_root: Path | None,
    dropout_model: str | Path | None,
    device: str,
    fit: bool = True,
) -> tuple[tuple[zoo.LoadedModel, ...], LabelledImages | None, zoo.LoadedModel | None]:
    """Who else judges an adversarial repair: networks that images are carried over from, images of another data set, the dropout-trained rival.

    For the embedded default all of them are embedded, too, unless they are given.

    Args:
        model: the network to repair.
        images: its images.
        carriers: names of other networks, which may know more classes, and their weights.
        elsewhere_root: images of another data set, as `repairkit.data.folders.load` takes them; those of other classes are left out.
        dropout_model: a weights file of the same architecture.
        device: where the networks go.
        fit: whether embedded ones are fitted; a plan does without.

    Raises:
        DataError, ModelError: as the loaders, or a network that lacks one of the classes.
    """
    classes, side = model.classifier.classes, images.pixels.shape[1]
    digital = model.stand_in and images.classes == digits.CLASSES

    elsewhere = shared_classes(elsewhere_root, classes, side) if elsewhere_root is not None else None
    if elsewhere is None and digital:
        elsewhere = digits.typed_digits(TYPED, size=side)

    of_digits = partial(digits_network, side=side, device=device, fit=fit)
    others: tuple[zoo.LoadedModel, ...]
    if carriers is None:
        others = (of_digits(CARRIERS[model.architecture == CARRIERS[0]]),) if digital else ()
    else:
        others = tuple(
            of_digits(name) if digital and embedded.needed(name, file) else restrict_classes(load_any(name, file, classes, device), classes)
            for name, file in carriers
        )
    if dropout_model is not None:
        rival: zoo.LoadedModel | None = zoo.load(dropout_model, classes=classes, device=device)
    else:
        rival = (
            of_digits(model.architecture, filter_dropout=EMBEDDED_DROPOUT)
            if digital and (model.architecture in DROPOUT_TRAINED or device == "cuda")
            else None
        )
    return others, elsewhere, rival


def shared_classes(folder: Path, classes: tuple[str, ...], size: int) -> LabelledImages:
    """Those images of a folder that show one of these classes.

    Raises:
        DataError: there are none, or the folder cannot be loaded.
    """
    found = imagenet.load(folder, size=size, name=folder.absolute().name)
    known = np.flatnonzero([found.classes[label] in classes for label in found.labels])
    if not len(known):
        raise DataError(f"{found.name}: none of its {len(found.classes)} classes is one of the network's ({', '.join(classes[:3])} ...)")
    return relabel(found.subset(known), classes)


def load_any(
    name: str,
    weights: Path | None,
    classes: tuple[str, ...],
    device: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> zoo.LoadedModel:
    """A network of these classes or, where its last layer does not fit them, of ImageNet's.

    Raises:
        ModelError: as `repairkit.models.zoo.load`, of these classes.
    """
    load = partial(zoo.load, name, weights=weights, mean=mean, std=std, device=device)
    try:
        return load(classes=classes)
    except ModelError as error:
        try:
            return load(classes=imagenet_classes())
        except ModelError:
            raise error from None
