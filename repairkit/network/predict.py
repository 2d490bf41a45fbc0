"""What a network says to images, booked where it is paid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from repairkit.data.images import LabelledImages
from repairkit.experiments.options import Options
from repairkit.network.classifier import Classifier, check_logits
from repairkit.run.ledger import Clock

Logits = npt.NDArray[np.float64]


def outputs(
    classifier: Classifier,
    images: LabelledImages,
    options: Options,
    clock: Clock | None = None,
    which: npt.NDArray[np.int64] | None = None,
    *,
    part: str = "evaluation",
) -> Logits:
    """Logits, float64 (N, classes); with `which`, only of those images, and NaN for the others. Passes are booked under `part`."""
    device = torch.device(options.device)
    classifier = classifier.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    wanted = np.arange(len(images)) if which is None else which
    logits: Logits = np.full((len(images), len(images.classes)), np.nan)
    with torch.inference_mode():
        for start in range(0, len(wanted), options.batch):
            rows = wanted[start : start + options.batch]
            logits[rows] = check_logits(classifier(images.batch(rows).to(device)), images.name).double().cpu().numpy()
    if clock is not None:
        clock.add(part, len(wanted))
    return logits
