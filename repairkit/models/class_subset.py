"""A network restricted to some of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from repairkit.data.classes import find_class
from repairkit.errors import ModelError, UsageError
from repairkit.models import zoo
from repairkit.network.weights import hash_state, load_state


def restrict_classes(loaded: zoo.LoadedModel, classes: Sequence[str]) -> zoo.LoadedModel:
    """The same network with the logits of these classes alone, in this order: a plain network of its architecture.

    Args:
        loaded: a network of, for instance, ImageNet's 1,000 classes; stays as it is.
        classes: names among its classes, looked up by `repairkit.data.classes.find_class`; the new network has them as given.

    Raises:
        ModelError: the network lacks some of these classes; the message names them and similar ones.

    Example:
        >>> model = zoo.load("squeezenet_celeba")
        >>> swapped = restrict_classes(model, ("male", "female"))
        >>> images = torch.rand(2, 3, 64, 64)
        >>> torch.allclose(swapped.classifier(images), model.classifier(images)[:, [1, 0]], atol=1e-5)
        True
    """
    classifier, architecture = loaded.classifier, loaded.architecture
    columns = torch.tensor(_columns(classifier.classes, classes))
    state = classifier.network.state_dict()
    auxiliary = zoo.has_auxiliary_head(architecture, state)
    with torch.device("meta"):  # allocates nothing; tensors of another shape here have one row per class
        other = zoo.build(architecture, len(classifier.classes) + 1, auxiliary=auxiliary).state_dict()
    restricted = {key: tensor if tensor.shape == other[key].shape else tensor[columns.to(tensor.device)] for key, tensor in state.items()}
    network = zoo.build(architecture, len(classes), auxiliary=auxiliary)
    load_state(network, restricted, where=str(loaded.weights))
    narrow = classifier.with_network(network)
    narrow.classes = tuple(classes)
    narrow.requires_grad_(requires_grad=False)
    return replace(
        loaded,
        classifier=narrow,
        sha256=hash_state(network.state_dict()),
        provenance=f"{loaded.provenance} Narrowed to {len(classes)} of its {len(classifier.classes)} classes.",
    )


def _columns(available: Sequence[str], requested: Sequence[str]) -> list[int]:
    """The column of each requested class."""
    columns, missing, reason = [], [], ""
    for name in requested:
        try:
            columns.append(find_class(name, available))
        except UsageError as error:
            missing.append(name)
            reason = reason or str(error)
    if missing:
        raise ModelError(
            f"expected a network of the {len(requested)} classes requested, it lacks {len(missing)} of them: {', '.join(missing)} ({reason}); "
            "name the classes as the network does"
        )
    return columns
