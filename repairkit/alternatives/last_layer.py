"""Refit the last layer on group-balanced images, and leave all that comes before it as it is."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from repairkit.errors import DataError, ModelError
from repairkit.network.head import Head

Floats = npt.NDArray[np.float64]

STRENGTHS = (1.0, 0.1, 0.01, 0.001, 0.0001)
"""Of the penalty, from the one that holds the layer nearly where it was."""
_CHUNK, _STEPS = 256, 500


def refit(
    head: Head, features: Tensor, labels: npt.NDArray[np.int64], weights: Floats, *, strength: float, start: nn.Module | None = None
) -> nn.Module:
    """The last layer of least weighted log-loss, held near the one that was given.

    The loss is `sum_i w_i log-loss_i + strength / 2 * sum_kj (s_j (W_kj - W0_kj))^2`, with weights that sum to 1, W0 the layer as it was given and s_j the
    standard deviation of feature j: the units of features do not matter, and biases are free. Where W0 is 0 and nothing follows the layer, this is
    scikit-learn's `LogisticRegression` with C = 1 / strength on features scaled to unit variance. Last-layer retraining usually begins at 0 (Kirichenko
    et al.); from where the network was, a strong penalty changes little, so that a guard can be kept.

    Args:
        head: whose layer, and what comes after it.
        features: float (N, features) or (N, channels, height, width), what enters the layer.
        labels: int64 (N,).
        weights: float64 (N,), of each image, 0 or more.
        strength: of the penalty, above 0.
        start: where to begin; the layer as it was given unless told otherwise.

    Returns:
        A layer of the same shape, float64.

    Raises:
        DataError: not a label and a weight for every image.
        ModelError: a loss that is not finite.

    Source: Kirichenko, Izmailov and Wilson (2023), Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations.
    """
    if not len(features) == len(labels) == len(weights) > 0:
        raise DataError(f"expected a label and a weight for each of {len(features)} images, got {len(labels)} and {len(weights)}")
    layer = copy.deepcopy(start or head.layer)
    own: dict[str, Tensor] = dict(layer.named_parameters())
    given: Tensor = head.layer.get_parameter("weight").detach()
    share = torch.from_numpy(weights / weights.sum()).to(features.device)
    classes = torch.from_numpy(labels).to(features.device)
    mean, spread = (each.reshape(1, -1, *(1 for _ in range(given.dim() - 2))) for each in _moments(features))
    scale = torch.where(spread > 0, spread, 1.0)

    def layer_of(flat: Tensor) -> dict[str, Tensor]:
        """The layer's parameters, of features that were brought to mean 0 and variance 1: there L-BFGS takes few steps."""
        weight = flat[: given.numel()].view_as(given) / scale
        if "bias" not in own:
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
        first = [(own["weight"] * scale).flatten()]
        if "bias" in own:
            first.append(own["bias"] + (own["weight"] * mean).flatten(1).sum(dim=1))
        begun = torch.cat(first).detach().cpu().numpy()
        found = minimize(loss, begun, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "ftol": 1e-10, "gtol": 1e-6})
    layer.load_state_dict(layer_of(torch.from_numpy(found.x).to(features.device)))
    return layer


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature over images (and positions), float64."""
    over = (0, *range(2, features.dim()))
    mean = features.mean(dim=over, dtype=torch.float64)
    return mean, (features.square().mean(dim=over, dtype=torch.float64) - mean**2).clamp(min=0).sqrt()
