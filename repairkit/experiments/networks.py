"""A classifier of torchvision and labelled images of its classes, as experiments on class folders take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from repairkit.data import digits
from repairkit.data import folders as imagenet
from repairkit.data.classes import find_class, imagenet_classes, relabel
from repairkit.data.images import LabelledImages
from repairkit.errors import ModelError, UsageError
from repairkit.experiments.base import Loading, below
from repairkit.experiments.recipe_base import ClassifierRecipe
from repairkit.experiments.settings import FolderSettings
from repairkit.models import embedded, zoo
from repairkit.models.class_subset import restrict_classes
from repairkit.network.weights import read_weights

EMBEDDED_DROPOUT = 0.2
"""Filter dropout of embedded networks that are compared with."""


def load_from_settings(settings: FolderSettings, loading: Loading, subjects: Sequence[str] = ()) -> tuple[zoo.LoadedModel, LabelledImages]:
    """The network and the images that options of the command line name; see `load_network_and_images`."""
    return load_network_and_images(
        settings.model, loading, weights=settings.weights, data_root=settings.data_root, parts=settings.subsets,
        annotations=settings.annotation_file, per_class=settings.max_per_class, narrow=settings.restrict_classes, size=settings.size,
        mean=settings.mean, std=settings.std, subjects=subjects,
    )  # fmt: skip


def load_from_recipe(recipe: ClassifierRecipe, loading: Loading, subjects: Sequence[str] = ()) -> tuple[zoo.LoadedModel, LabelledImages]:
    """The network and the images that a recipe names; see `load_network_and_images`.

    Raises:
        UsageError: paths in the recipe, but no data root that they are relative to.
    """
    folder, parts = (recipe.data.folder, recipe.data.parts) if recipe.data else (None, None)
    return load_network_and_images(
        recipe.model, loading, weights=below(loading.data_root, recipe.weights),
        data_root=below(loading.data_root, folder) if folder else loading.data_root, parts=parts, per_class=recipe.per_class,
        narrow=recipe.narrow, size=recipe.size, mean=recipe.mean, std=recipe.std, subjects=subjects,
    )  # fmt: skip


def load_network_and_images(
    model: str,
    loading: Loading,
    *,
    weights: Path | None = None,
    data_root: Path | None = None,
    parts: Sequence[str] | None = None,
    per_class: int | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    annotations: Path | None = None,
    subjects: Sequence[str] = (),
    narrow: bool = False,
) -> tuple[zoo.LoadedModel, LabelledImages]:
    """The network, and images labelled by the columns of its logits.

    Without weights and data the embedded default: the architecture fitted on handwritten digits, and digits that it has not seen.

    Args:
        model: torchvision's name, or a weights file of ours.
        loading: the device, and whether an embedded network is fitted.
        weights: for a named model, of the folder's classes or of ImageNet's; by default what torchvision publishes, where torch's cache holds it.
        data_root: class folders or the flat layout, see `repairkit.data.folders.load`.
        parts: folders in it that are pooled.
        per_class: load at most so many images of a class.
        size: side in pixels; by default the one that torchvision uses the network with, or the digits' own.
        mean: of each channel of images in [0, 1], that the network's images are normalised with; by default as its file says.
        std: likewise.
        annotations: the annotation file, where a folder holds several texts.
        subjects: classes that are asked about; digits that do not exist are refused before a network is fitted to digits.
        narrow: keep the logits of the folder's classes alone, of a network that knows more.

    Raises:
        UsageError: weights or a model of one's own without images, an option or a class that the digits do not have.
        DataError, ModelError: as the loaders.
    """
    if data_root is None:
        given = {
            "--subsets": parts, "--annotation-file": annotations, "--max-per-class": per_class, "--mean": mean, "--std": std,
            "--restrict-classes": narrow or None,
        }  # fmt: skip
        _check_embedded(model, weights, given)
        for subject in subjects:
            find_class(subject, digits.CLASSES)
        side = size or digits.SIZE
        return digits_network(model, side, loading), digits.held_out_digits(size=side)
    name = data_root.absolute().name
    images = imagenet.load(data_root, size=size or usual_size(model), per_class=per_class, parts=parts, annotations=annotations, name=name)
    loaded = load_any(model, weights, images.classes, loading.device, mean=mean, std=std)
    if narrow:
        loaded = restrict_classes(loaded, images.classes)
    return loaded, relabel(images, loaded.classifier.classes)


def _check_embedded(model: str, weights: Path | None, given: Mapping[str, object]) -> None:
    """Refuse a network that is not fitted on digits, and options that say something of images, where no images are given."""
    if not embedded.applies_to(model, weights):
        if not Path(model).suffix and model not in zoo.CELEBA:
            usual_size(model)  # of a name that nobody knows it is the name that is wrong
        raise UsageError(
            "give --data-root: labelled images of the network's classes, in a folder for each class or beside an annotation file"
        )
    if unfit := next((name for name, value in given.items() if value is not None), None):
        raise UsageError(f"{unfit} goes with --data-root, got it without; give the images, or leave it out")


def digits_network(architecture: str, side: int, loading: Loading, *, filter_dropout: float = 0.0) -> zoo.LoadedModel:
    """The embedded default of an architecture: fitted now, from the cache, or with fresh weights for a plan.

    Raises:
        ModelError: as `repairkit.models.embedded.load`.
    """
    if not loading.fit:
        return embedded.fresh(architecture, device=loading.device)
    return embedded.load(
        architecture,
        size=side,
        threads=torch.get_num_threads(),
        device=loading.device,
        progress=loading.progress,
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
