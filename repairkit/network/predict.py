"""Ask a network about images: the one loop over batches, with filters frozen or not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from repairkit.data.images import LabelledImages
from repairkit.errors import FullMemoryError, ModelWarning
from repairkit.network.classifier import Classifier, check_logits
from repairkit.network.filters import ConvFilters
from repairkit.network.game import full_memory
from repairkit.run.context import Run

Logits = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def predict(
    classifier: Classifier,
    images: LabelledImages,
    run: Run,
    *,
    filters: ConvFilters | None = None,
    frozen: Sequence[int] | Labels = (),
) -> Labels:
    """The class that each image is given, int64 (N,); see `predict_logits`."""
    labels: Labels = predict_logits(classifier, images, run, filters=filters, frozen=frozen).argmax(axis=1)
    return labels


def predict_logits(
    classifier: Classifier,
    images: LabelledImages,
    run: Run,
    *,
    filters: ConvFilters | None = None,
    frozen: Sequence[int] | Labels = (),
    rows: Labels | None = None,
) -> Logits:
    """Logits, float64 (N, classes); the passes are spent in the phase at work.

    Where memory runs out, passes carry half as many images from then on, with a warning.

    Args:
        classifier: the network.
        images: in [0, 1].
        run: its batch and device.
        filters: the players of the network, with constants; needed where some are frozen.
        frozen: players that are frozen.
        rows: of these images alone; the rows of the others are NaN.

    Raises:
        FullMemoryError: no memory for a pass of one image.
        ModelError: logits that are not finite.
    """
    ask = _plain(classifier, run) if filters is None else _frozen(classifier, filters, frozen)
    wanted = np.arange(len(images)) if rows is None else rows
    logits: Logits = np.full((len(images), len(images.classes)), np.nan)
    start, batch = 0, run.settings.batch
    while start < len(wanted):
        chunk = wanted[start : start + batch]
        try:
            with full_memory(batch):
                logits[chunk] = check_logits(ask(images.batch(chunk)), images.name).double().cpu().numpy()
        except FullMemoryError:
            if batch == 1:
                raise
            batch //= 2
            warnings.warn(f"memory ran out ({images.name}): passes now carry {batch} images", ModelWarning, stacklevel=2)
            continue
        start += len(chunk)
    run.spend(len(wanted))
    return logits


def _plain(classifier: Classifier, run: Run) -> Callable[[torch.Tensor], torch.Tensor]:
    device = torch.device(run.settings.device)
    placed = classifier.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def ask(batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = placed(batch.to(device))
        return logits

    return ask


def _frozen(classifier: Classifier, filters: ConvFilters, frozen: Sequence[int] | Labels) -> Callable[[torch.Tensor], torch.Tensor]:
    live = np.ones((1, len(filters)), dtype=bool)
    live[0, np.asarray(frozen, dtype=np.int64)] = False
    return lambda batch: filters.forward(classifier.prepare(batch), live)
