"""A classifier of torchvision and labelled images of its classes, as commands on class folders take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from repairkit.cli.console import Reporter
from repairkit.cli.train import Telling
from repairkit.data import digits, imagenet
from repairkit.data.classes import relabel
from repairkit.data.images import LabelledImages
from repairkit.errors import ModelError, UsageError
from repairkit.models import embedded, zoo


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
) -> tuple[zoo.LoadedModel, LabelledImages]:
    """The network, and images labelled by the columns of its logits.

    Without weights and data the embedded default: the architecture fitted on handwritten digits, and digits that it has not seen.

    Args:
        model: torchvision's name, or a weights file of ours.
        weights: for a named model; by default what torchvision publishes, where torch's cache holds it.
        data_root: class folders or the flat layout, see `repairkit.data.imagenet.load`.
        parts: folders in it that are pooled.
        per_class: load at most so many images of a class.
        size: side in pixels; by default the one that torchvision uses the network with, or the digits' own.
        mean: of each channel of images in [0, 1], that the network's images are normalised with; by default as its file says.
        std: likewise.
        device: where the model goes.

    Raises:
        UsageError: weights or a model of one's own without images, or an option that the digits do not have.
        DataError, ModelError: as the loaders.
    """
    if data_root is None:
        if not embedded.needed(model, weights):
            raise UsageError(
                "give --data-root: labelled images of the network's classes, in a folder for each class or beside an annotation file"
            )
        given = {"--parts": parts, "--per-class": per_class, "--mean": mean, "--std": std}
        if unfit := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{unfit[0]} goes with --data-root, got it without; give the images, or leave it out")
        side = size or digits.SIZE
        with Reporter("training steps").running() as reporter:
            fitted = embedded.load(model, size=side, threads=torch.get_num_threads(), device=device, progress=Telling(reporter))
        return fitted, digits.held_out_digits(size=side)
    images = imagenet.load(
        data_root,
        size=size or usual_size(model),
        per_class=per_class,
        parts=parts,
        name=data_root.absolute().name,
    )
    loaded = zoo.load(model, weights=weights, classes=images.classes, mean=mean, std=std, device=device)
    return loaded, relabel(images, loaded.classifier.classes)


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
    architecture = zoo.read_weights(Path(model))[1].get("architecture")
    if architecture is None:
        raise ModelError(f"{model} does not say its architecture; give that as the model and this file with --weights")
    return zoo.preset_size(architecture)
