"""A network narrowed to some of its classes, so that it answers the question that another network was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from repairkit.data.classes import find_class
from repairkit.errors import ModelError, UsageError
from repairkit.models import zoo
from repairkit.network.weights import hash_state, load_state


def narrowed(loaded: zoo.LoadedModel, classes: Sequence[str]) -> zoo.LoadedModel:
    """The same network with the logits of these classes alone, in this order.

    The rows of its last layer are chosen, so that it is a plain network of its architecture with weights and a hash of its
    own: images can be made against it with the labels and targets of a network of these classes, and are cached as its own.

    Args:
        loaded: a network of, for instance, ImageNet's 1,000 classes; stays as it is.
        classes: names among its classes, looked up as `repairkit.data.classes.find_class` does; the new network has them as given here.

    Raises:
        ModelError: the network does not have all of these classes; the message names them, and classes with similar names.

    Example:
        >>> model = zoo.load("squeezenet_celeba")
        >>> swapped = narrowed(model, ("male", "female"))
        >>> images = torch.rand(2, 3, 64, 64)
        >>> torch.allclose(swapped.classifier(images), model.classifier(images)[:, [1, 0]], atol=1e-5)
        True
    """
    classifier, architecture = loaded.classifier, loaded.architecture
    columns = torch.tensor(_columns(classifier.classes, classes))
    state = classifier.network.state_dict()
    auxiliary = zoo.has_auxiliary_head(architecture, state)
    with torch.device("meta"):  # nothing is allocated; what has another shape here is sized by the number of classes
        other = zoo.build(architecture, len(classifier.classes) + 1, auxiliary=auxiliary).state_dict()
    chosen = {key: tensor if tensor.shape == other[key].shape else tensor[columns.to(tensor.device)] for key, tensor in state.items()}
    network = zoo.build(architecture, len(classes), auxiliary=auxiliary)
    load_state(network, chosen, where=str(loaded.weights))
    narrow = classifier.with_network(network)
    narrow.classes = tuple(classes)
    narrow.requires_grad_(requires_grad=False)
    return replace(
        loaded,
        classifier=narrow,
        sha256=hash_state(network.state_dict()),
        provenance=f"{loaded.provenance} Narrowed to {len(classes)} of its {len(classifier.classes)} classes.",
    )


def _columns(known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """The column of each wanted class."""
    columns, missing, reason = [], [], ""
    for name in wanted:
        try:
            columns.append(find_class(name, known))
        except UsageError as error:
            missing.append(name)
            reason = reason or str(error)
    if missing:
        raise ModelError(
            f"expected a network of the {len(wanted)} classes wanted, it lacks {len(missing)} of them: {', '.join(missing)} ({reason}); "
            "name the classes as the network does"
        )
    return columns
