"""The embedded default: a classifier of torchvision fitted on handwritten digits, where there are no ImageNet weights.

It has all filters of its architecture (17,216 in `inception_v3`), so that attribution, repair and attacks run without a download. It says
nothing about a network trained on ImageNet.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from repairkit.data import digits
from repairkit.data.images import LabelledImages
from repairkit.data.training_hashes import record_path, write_record
from repairkit.errors import UsageError
from repairkit.files import cache_directory
from repairkit.models import zoo
from repairkit.models.training import train
from repairkit.models.training_loop import TrainingProgress, TrainingSettings

NOTICE = (
    "Embedded default for {architecture}: fitted on scikit-learn's handwritten digits and not on ImageNet, because its weights "
    "are neither given (--weights) nor in torch's cache. Nothing here is evidence about a network trained on photographs."
)
EPOCHS, EPOCHS_OF_SLOW_LEARNERS = 8, 25
"""Passes over the 600 training digits; networks without batch norm and small ones need more (MobileNetV3: .77 after 8)."""
_SMALL = 5_000_000
_DROPOUT_SETTINGS = {"learning_rate": 5e-4, "ramp": 1.0}
"""As for the example weights of faces: it starts from the network without dropout, and p rises to the end (see `models/filter_dropout.py`)."""


def applies_to(name: str, weights: Path | None = None) -> bool:
    """Whether this model is a classifier of torchvision whose weights are neither given nor in torch's cache.

    Example:
        >>> applies_to("squeezenet_celeba"), applies_to("resnet18", Path("own.pth"))
        (False, False)
    """
    return weights is None and zoo.is_torchvision(name) and zoo.published_weights(name) is None


def load(
    architecture: str = "inception_v3",
    *,
    size: int = digits.SIZE,
    filter_dropout: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    device: str | torch.device = "cpu",
    progress: TrainingProgress | None = None,
) -> zoo.LoadedModel:
    """The embedded default of this architecture, from the cache or fitted now.

    It is fitted on `repairkit.data.digits.training_digits(size=size)`; `held_out_digits` are for everything else. The weights lie in `models` in
    `repairkit.files.cache_directory()`, beside their settings (`.train.json`) and the hashes of the training images.

    Args:
        architecture: torchvision's name of a classifier.
        size: side of the digits in pixels.
        filter_dropout: above 0, the comparison model: the same network fitted as long again, with dropout rising to this probability below 1.
        seed: the same seed, threads and machine give the same weights.
        threads: CPU threads; None leaves torch's setting.
        device: where to fit, and where the model goes.
        progress: called as in `repairkit.models.training.train` while the network is fitted.

    Raises:
        UsageError: a filter dropout that is no probability below 1.
        ModelError: an unknown architecture, one that cannot take digits of this size, or one that learned nothing.
    """
    if not 0 <= filter_dropout < 1:
        raise UsageError(f"expected a filter dropout of 0 or more and below 1, got {filter_dropout:g}; 0.5 is usual")
    images = digits.training_digits(size=size)
    settings = _settings(architecture, seed)
    notice = NOTICE.format(architecture=architecture)
    file = _fitted(images, settings, threads=threads, device=device, progress=progress)
    if filter_dropout:
        settings |= {**_DROPOUT_SETTINGS, "filter_dropout": filter_dropout}
        file = _fitted(images, settings, init=file, threads=threads, device=device, progress=progress)
        notice += f" Fitted with filter dropout of {filter_dropout:g}."
    return replace(zoo.load(file, device=device), stand_in=True, provenance=notice)


def fresh(architecture: str, *, device: str | torch.device = "cpu") -> zoo.LoadedModel:
    """The embedded default with fresh weights, for a plan: nothing is fitted or written.

    Example:
        >>> fresh("squeezenet1_1").classifier.classes[-1]
        '9'
    """
    return replace(
        zoo.fresh(architecture, digits.CLASSES, device=device), stand_in=True, provenance=NOTICE.format(architecture=architecture)
    )


def _settings(architecture: str, seed: int) -> dict[str, Any]:
    with torch.device("meta"):  # nothing is allocated
        network = zoo.build(architecture, len(digits.CLASSES))
    slow = not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    slow = slow or sum(weights.numel() for weights in network.parameters()) < _SMALL
    return {
        "architecture": architecture,
        "epochs": EPOCHS_OF_SLOW_LEARNERS if slow else EPOCHS,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "flip": False,
        "settle_norms": True,
        "seed": seed,
    }


def _fitted(
    images: LabelledImages,
    settings: dict[str, Any],
    *,
    init: Path | None = None,
    threads: int | None,
    device: str | torch.device,
    progress: TrainingProgress | None,
) -> Path:
    """The weights file, named by a hash of all that decides its content."""
    facts = [settings, images.hashes.tolist(), images.labels.tolist()] + ([] if init is None else [init.name])
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    kind = "digits" if init is None else "digits-dropout"
    file = cache_directory() / "models" / f"{settings['architecture']}-{kind}-{key}.safetensors"
    if not (file.is_file() and record_path(file).is_file()):  # the record is written last
        trained = train(images, TrainingSettings(**settings), init=init, threads=threads, device=device, progress=progress)
        trained.write(file, half=False)
        write_record(file, images)
    return file
