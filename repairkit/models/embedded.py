"""The embedded default: a classifier of torchvision fitted on handwritten digits, where there are no ImageNet weights.

All its filters are there (17,216 in `inception_v3`), so that finding, freezing and attacking can be shown on
a machine without a download. It says nothing about a network trained on ImageNet.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from repairkit.data import digits
from repairkit.data.record import record_path, write_record
from repairkit.files import cache_directory
from repairkit.models import zoo
from repairkit.models.training import TrainingProgress, train

NOTICE = (
    "Embedded default for {architecture}: fitted on scikit-learn's handwritten digits and not on ImageNet, because its weights "
    "are neither given (--weights) nor in torch's cache. Nothing here is evidence about a network trained on photographs."
)
EPOCHS, EPOCHS_WITHOUT_NORM = 8, 25
"""Passes over the 600 training digits; a network without batch norm learns more slowly, and a pass costs it less."""


def needed(name: str, weights: Path | None = None) -> bool:
    """Whether this model is a classifier of torchvision whose weights are neither given nor in torch's cache.

    Example:
        >>> needed("squeezenet_celeba"), needed("resnet18", Path("own.pth"))
        (False, False)
    """
    return weights is None and zoo.is_torchvision(name) and zoo.published_weights(name) is None


def load(
    architecture: str = "inception_v3",
    *,
    size: int = digits.SIZE,
    seed: int = 0,
    threads: int | None = None,
    device: str | torch.device = "cpu",
    progress: TrainingProgress | None = None,
) -> zoo.LoadedModel:
    """The embedded default of this architecture, fitted now if no earlier call left it in the cache.

    It is fitted on `repairkit.data.digits.training_digits(size=size)`; `held_out_digits` are for
    everything else. The weights lie in `models` in `repairkit.files.cache_directory()`, with the settings in a `.train.json` and
    the hashes of the training images beside them, so that `repairkit.data.record.check_unseen` knows them.

    Args:
        architecture: torchvision's name of a classifier.
        size: side of the digits in pixels.
        seed: of the fit; same seed, threads and machine, same weights.
        threads: CPU threads; None leaves torch's setting.
        device: where to fit, and where the model goes.
        progress: called as in `repairkit.models.training.train`, only while the network is fitted.

    Raises:
        ModelError: torchvision has no such classifier, it cannot take digits of this size, or it learned nothing.
    """
    file = _fitted(architecture, size=size, seed=seed, threads=threads, device=device, progress=progress)
    return replace(zoo.load(file, device=device), stand_in=True, provenance=NOTICE.format(architecture=architecture))


def _fitted(
    architecture: str, *, size: int, seed: int, threads: int | None, device: str | torch.device, progress: TrainingProgress | None
) -> Path:
    """The weights file, named after all that decides what is in it."""
    images = digits.training_digits(size=size)
    with torch.device("meta"):
        normalised = any(isinstance(module, torch.nn.BatchNorm2d) for module in zoo.build(architecture, len(images.classes)).modules())
    settings: dict[str, Any] = {
        "architecture": architecture,
        "epochs": EPOCHS if normalised else EPOCHS_WITHOUT_NORM,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "flip": False,
        "settle_norms": True,
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps([settings, images.hashes.tolist(), images.labels.tolist()]).encode()).hexdigest()[:16]
    file = cache_directory() / "models" / f"{architecture}-digits-{key}.safetensors"
    if not (file.is_file() and record_path(file).is_file()):  # the record is written last
        train(images, **settings, threads=threads, device=device, progress=progress).write(file, half=False)
        write_record(file, images)
    return file
