"""Refit the last layer on group-balanced images, and leave the layers before it unchanged."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from repairkit.alternatives.base import (
    AlternativeResult,
    Description,
    Fold,
    best_setting,
    describe_unchanged,
    pack_scores,
    sizes,
    unpack_scores,
)
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, ModelError, RepairkitError
from repairkit.evaluation.splits import Split
from repairkit.network.game import full_memory
from repairkit.network.head import Head
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import Floats

DESCRIPTION = Description(
    "last_layer",
    "Last layer refitted",
    "Logistic regression on what enters the last layer. Groups count alike, and the source as much as the target. A penalty holds it near the "
    "original weights; its strength is selected under the guard of the repair.",
)
STRENGTHS = (1.0, 0.1, 0.01, 0.001, 0.0001)
"""Of the penalty, from the one that holds the layer nearly where it was."""
_CHUNK, _STEPS = 256, 500


def cost(split: Split, source: Split, classes: int) -> float:
    """Image passes: every image once."""
    return float(sum(sizes(split, source)))


def evaluate(fold: Fold) -> AlternativeResult:
    """Refitted on the attribution images, by the penalty that does best on the selection images."""
    try:
        head = Head(fold.classifier)
        with full_memory(fold.run.settings.batch):
            saved = fold.run.cached(DESCRIPTION.key, lambda: fit(fold, head), ARRAYS)
    except RepairkitError as error:
        return AlternativeResult(DESCRIPTION.key, fold.images, left_out=str(error))
    number, seconds, scores = int(saved.pop("number")), float(saved.pop("seconds")), saved.pop("scores")
    refitted = None
    if number:
        head.layer.load_state_dict({name: torch.from_numpy(value) for name, value in saved.items()})
        refitted = head.replace_in(fold.classifier, head.layer)
    names = [f"penalty {strength:g}" for strength in STRENGTHS]
    chosen = names[number - 1] if number else describe_unchanged(unpack_scores(scores), names)
    right, source_right = fold.evaluate(refitted)
    return AlternativeResult(
        DESCRIPTION.key, fold.images, float(fold.images), seconds, chosen, as_given=not number, right=right, source_right=source_right
    )


def fit(fold: Fold, head: Head) -> Arrays:
    """The selected layer, its number among the penalties (0: unchanged), scores of all settings, and seconds."""
    began = time.perf_counter()
    parts = fold.learned_from
    features = torch.cat([entering for images in parts for entering in _features(fold, head, images)])
    labels = np.concatenate([images.labels for images in parts])
    layers = [head.layer]
    for strength in STRENGTHS:
        fold.run.ledger.progress("last layer", 0, 0)
        layers.append(refit(head, features, labels, fold.weights, strength=strength, start=layers[-1]))
    predicted = []
    for images in fold.chosen_on:
        answers = [
            torch.stack([head.after(layer(entering.double())).argmax(1) for layer in layers[1:]]).cpu().numpy()
            for entering in _features(fold, head, images)
        ]
        predicted.append(np.concatenate(answers, axis=1))
    scores = [fold.unchanged, *(fold.score(target, source) for target, source in zip(*predicted, strict=True))]
    number = best_setting(scores, fold.run.settings.max_clean_drop)
    weights = {name: value.cpu().numpy() for name, value in layers[number].state_dict().items()}
    return weights | {"number": np.array(number), "scores": pack_scores(scores), "seconds": np.array(time.perf_counter() - began)}


def _features(fold: Fold, head: Head, images: LabelledImages) -> Iterator[Tensor]:
    """What enters the last layer, a batch at a time, booked."""
    for features in head.features(fold.classifier, images, fold.run.settings.batch):
        fold.run.spend(len(features))
        fold.run.ledger.progress("last layer", 0, 0)
        yield features


def refit(
    head: Head, features: Tensor, labels: npt.NDArray[np.int64], weights: Floats, *, strength: float, start: nn.Module | None = None
) -> nn.Module:
    """The last layer of least weighted log-loss, held near the original one; float64.

    The loss is `sum_i w_i log-loss_i + strength / 2 * sum_kj (s_j (W_kj - W0_kj))^2`, with weights that sum to 1, W0 the original layer and
    s_j the standard deviation of feature j. So the units of features do not matter, and biases are free. Where W0 is 0 and nothing follows
    the layer, this is scikit-learn's `LogisticRegression` with C = 1 / strength on features scaled to unit variance. Last-layer retraining
    usually begins at 0 (Kirichenko et al.). From the original weights a strong penalty changes little, so that a guard can be kept.

    Args:
        head: holds the layer, and what comes after it.
        features: float (N, features) or (N, channels, height, width), what enters the layer.
        labels: int64 (N,).
        weights: float64 (N,), of each image, 0 or more.
        strength: of the penalty, above 0.
        start: where to begin; the original layer by default.

    Raises:
        DataError: not a label and a weight for every image.
        ModelError: a loss that is not finite.

    Source: Kirichenko, Izmailov and Wilson (2023), Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations.
    """
    if not len(features) == len(labels) == len(weights) > 0:
        raise DataError(f"expected a label and a weight for each of {len(features)} images, got {len(labels)} and {len(weights)}")
    layer = copy.deepcopy(start or head.layer)
    parameters: dict[str, Tensor] = dict(layer.named_parameters())
    given: Tensor = head.layer.get_parameter("weight").detach()
    share = torch.from_numpy(weights / weights.sum()).to(features.device)
    classes = torch.from_numpy(labels).to(features.device)
    mean, spread = (moment.reshape(1, -1, *(1 for _ in range(given.dim() - 2))) for moment in _moments(features))
    scale = torch.where(spread > 0, spread, 1.0)

    def layer_of(flat: Tensor) -> dict[str, Tensor]:
        """The layer's parameters, of features that were brought to mean 0 and variance 1: there L-BFGS takes few steps."""
        weight = flat[: given.numel()].view_as(given) / scale
        if "bias" not in parameters:
            return {"weight": weight}
        return {"weight": weight, "bias": flat[given.numel() :] - (weight * mean).flatten(1).sum(dim=1)}

    def loss(flat: Floats) -> tuple[float, Floats]:
        at = torch.from_numpy(flat).to(features.device).requires_grad_()
        penalty = strength / 2 * ((spread * (layer_of(at)["weight"] - given)) ** 2).sum()
        penalty.backward()  # type: ignore[no-untyped-call]
        total = float(penalty.detach())
        for begin in range(0, len(features), _CHUNK):  # a chunk at a time: in double precision all would take much memory
            part = slice(begin, begin + _CHUNK)
            logits = head.after(torch.func.functional_call(layer, layer_of(at), (features[part].double(),)))
            value = (share[part] * F.cross_entropy(logits, classes[part], reduction="none")).sum()
            value.backward()  # type: ignore[no-untyped-call]
            total += float(value.detach())
        if not np.isfinite(total) or at.grad is None:
            raise ModelError(f"the loss of the last layer became {total}; check the features, that is the network on these images")
        return total, at.grad.cpu().numpy()

    with torch.inference_mode(mode=False), torch.enable_grad():
        first = [(parameters["weight"] * scale).flatten()]
        if "bias" in parameters:
            first.append(parameters["bias"] + (parameters["weight"] * mean).flatten(1).sum(dim=1))
        begun = torch.cat(first).detach().cpu().numpy()
        found = minimize(loss, begun, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "ftol": 1e-10, "gtol": 1e-6})
    layer.load_state_dict(layer_of(torch.from_numpy(found.x).to(features.device)))
    return layer


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature over images (and positions), float64."""
    over = (0, *range(2, features.dim()))
    mean = features.mean(dim=over, dtype=torch.float64)
    return mean, (features.square().mean(dim=over, dtype=torch.float64) - mean**2).clamp(min=0).sqrt()
