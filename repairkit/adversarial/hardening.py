"""What one would do instead of a repair against an attack: adversarial fine-tuning."""

from __future__ import annotations

import time

import numpy as np
import torch

from repairkit.adversarial.task import AdversarialTask, AttackOptions
from repairkit.alternatives import PART, Tried
from repairkit.clock import Clock
from repairkit.data.images import LabelledImages
from repairkit.evaluation.adversarial import HARDENED
from repairkit.evaluation.alternatives import adversarial_training
from repairkit.evaluation.alternatives.adversarial_training import MOST_IMAGES
from repairkit.evaluation.splits import some, ungrouped
from repairkit.models.classifier import Classifier
from repairkit.options import Options
from repairkit.unfinished import Unfinished


def harden(
    task: AdversarialTask,
    networks: dict[str, Classifier],
    clean: LabelledImages,
    options: Options,
    attacks: AttackOptions,
    clock: Clock,
    unfinished: Unfinished | None,
) -> Tried:
    """What one would do instead is added to the networks: the original trained on clean attribution images, 500 at most, under a short attack."""
    images = clean.subset(some(ungrouped(clean), MOST_IMAGES, seed=options.seed))
    passes = adversarial_training.passes_of(attacks.method, len(images))
    kept = unfinished.network("instead") if unfinished else None
    saved = kept.arrays(HARDENED) if kept else None
    classifier = task.model.classifier
    with clock.part(PART, restored=saved is not None):
        if saved is None:
            began = time.perf_counter()
            tuned = adversarial_training.train_against(
                classifier,
                images,
                attacks.method,
                batch_size=options.batch,
                seed=options.seed,
                progress=lambda step, steps, _: clock.tell("adversarial fine-tuning", passes * step / steps, passes),
            )
            saved = {f"network.{key}": value.cpu().numpy() for key, value in tuned.network.state_dict().items()}
            saved["seconds"] = np.array(time.perf_counter() - began)
            if kept is not None:
                kept.keep_arrays(HARDENED, **saved)
        clock.add(PART, passes)
    weights = {key.removeprefix("network."): torch.from_numpy(value) for key, value in saved.items() if key.startswith("network.")}
    short = adversarial_training.shortened(attacks.method)
    about = f"{adversarial_training.EPOCHS} epochs over {len(images):,} images under {short.steps} steps of {short.step * 255:.3g}/255"
    networks[HARDENED] = classifier.with_weights(weights)
    return Tried(HARDENED, len(images), passes, float(saved["seconds"]), about)
