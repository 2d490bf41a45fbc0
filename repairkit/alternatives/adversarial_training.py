"""Train on images that an attack changes anew in every step, and freeze nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import torch

from repairkit.attacks.generate import derived_seed, draw_targets, perturb
from repairkit.attacks.methods import PGD
from repairkit.data.images import Indices, LabelledImages
from repairkit.models.finetuning import finetune
from repairkit.models.training_loop import TrainingProgress
from repairkit.network.classifier import Classifier
from repairkit.shapley.game import GRADIENT_COST

EPOCHS, STEPS, MOST_IMAGES = 3, 7, 500
LEARNING_RATES = (1e-5, 1e-4)
"""Few enough for a CPU: 72 image passes for each image and learning rate, 72,000 at most. The network after each epoch at each rate is a candidate."""


def shortened(method: PGD) -> PGD:
    """The attack in few steps that together go as far.

    Example:
        >>> short = shortened(PGD())
        >>> short.steps, round(short.step * 255, 3), short.eps == PGD().eps
        (7, 3.429, True)
    """
    steps = min(STEPS, method.steps)
    return replace(method, steps=steps, step=method.step * method.steps / steps)


def passes_of(method: PGD, images: int) -> float:
    """Image passes that training on so many images makes, at one learning rate.

    Example:
        >>> passes_of(PGD(), 100)
        7200.0
    """
    return EPOCHS * images * (shortened(method).passes + GRADIENT_COST)


def passes_of_all(method: PGD, images: int, choose: int) -> float:
    """Image passes of all learning rates, with choosing among what they leave on so many images.

    Example:
        >>> passes_of_all(PGD(), 100, 10)
        14470.0
    """
    return len(LEARNING_RATES) * (passes_of(method, images) + EPOCHS * choose) + choose


def train_against(
    classifier: Classifier,
    images: LabelledImages,
    method: PGD,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    seed: int = 0,
    look: Callable[[int, Classifier], None] | None = None,
    progress: TrainingProgress | None = None,
) -> Classifier:
    """A classifier trained further on images under attack, with their true labels.

    In every step PGD attacks the network as it is then, towards a class that is drawn anew for each image, as the adversary of a repair does.
    Batch norms keep their statistics, as in `finetune`. Madry et al. train from the start, for many epochs and against an untargeted attack;
    this is what a few minutes give to a network that is trained already.

    Args:
        classifier: what to train further; a copy is.
        images: clean, labelled with its classes.
        method: the adversary's; it is shortened to a few steps that go as far.
        epochs: passes over the images.
        learning_rate: its highest value.
        batch_size: images per step.
        seed: of order, targets and attacks: same seed, threads and device, same weights.
        look: shown the network after each epoch, see `finetune`.
        progress: see `repairkit.models.training_loop.TrainingProgress`.

    Raises:
        UsageError, ModelError: as `finetune`.

    Source: Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks.
    """
    short, steps = shortened(method), count()

    def under_attack(network: Classifier, batch: torch.Tensor, labels: Indices) -> torch.Tensor:
        own = derived_seed(seed, next(steps))
        return perturb(network, batch, draw_targets(labels, len(images.classes), own), short, seed=own)

    return finetune(
        classifier,
        images,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        perturb=under_attack,
        on_epoch=look,
        progress=progress,
    )
