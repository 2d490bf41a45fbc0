"""Class names: looking one up, and bringing labels into the order of a network's outputs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, UsageError

_FEW = 12


def find_class(name: str, classes: Sequence[str]) -> int:
    """The position of a class by its name; case matters only where two names differ by nothing else.

    Raises:
        UsageError: no class has this name; the message lists similar names.

    Example:
        >>> find_class("Zebra", ("horse", "zebra"))
        1
    """
    names = list(classes)
    if name in names:
        return names.index(name)
    plain = [candidate.casefold() for candidate in names]
    query = name.strip().casefold()
    if plain.count(query) == 1:
        return plain.index(query)
    near = difflib.get_close_matches(query, plain, n=5, cutoff=0.6)
    near += [candidate for candidate in plain if query and query in candidate and candidate not in near][: 5 - len(near)]
    hint = f"; did you mean {' or '.join(names[plain.index(candidate)] for candidate in near)}?" if near else "; none is similar."
    listed = ", ".join(names[:_FEW]) + (" ..." if len(names) > _FEW else "")
    raise UsageError(f"no class is called {name!r}{hint} The {len(names)} classes are {listed}")


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes in torchvision's order."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def relabel(images: LabelledImages, classes: Sequence[str]) -> LabelledImages:
    """The same images with the labels of a network that has these classes.

    Raises:
        DataError: images of a class that the network does not have.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0, 1]),
        ...     groups=np.array(["cat", "dog"]), classes=("cat", "dog"), name="pets")
        >>> relabel(images, ("bird", "dog", "cat")).labels.tolist()
        [2, 1]
    """
    names = tuple(classes)
    if names == images.classes:
        return images
    position = {class_name: column for column, class_name in enumerate(names)}
    unknown = [images.classes[label] for label in np.unique(images.labels) if images.classes[label] not in position]
    if unknown:
        raise DataError(
            f"{images.name}: the network has {len(names)} classes ({', '.join(names[:3])} ...) and none is called {unknown[0]!r} "
            f"({len(unknown)} such classes in the data); name the data's classes as the network does, for instance with a classes.tsv"
        )
    columns = np.array([position.get(class_name, -1) for class_name in images.classes], dtype=np.int64)
    return replace(images, labels=columns[images.labels], classes=names)
