"""Adversarial fine-tuning: train on images that an attack changes anew in every step, and freeze nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import numpy.typing as npt
import torch

from repairkit.alternatives.base import (
    PART,
    AlternativeResult,
    Description,
    SettingScore,
    best_setting,
    describe_unchanged,
    pack_scores,
    unpack_scores,
)
from repairkit.alternatives.fine_tuning import pack_weights, show_progress, unpack_weights
from repairkit.attacks.generate import derived_seed, draw_targets, perturb
from repairkit.attacks.methods import PGD
from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import RepairkitError
from repairkit.evaluation.splits import some, ungrouped
from repairkit.models.finetuning import finetune
from repairkit.models.training_loop import TrainingProgress
from repairkit.network.classifier import Classifier
from repairkit.network.game import full_memory
from repairkit.network.predict import Logits, predict_logits
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import GRADIENT_COST

DESCRIPTION = Description(
    "adversarially_trained",
    "Adversarially fine-tuned",
    "All weights are trained for a few epochs on attribution images that a short attack of the run changes anew in every step. No filter is "
    "frozen. Learning rate and epochs are selected by the labels recovered on stored images, under the guard of the repair.",
)
FallBound = Callable[[Logits, Logits, npt.NDArray[np.int64]], float]
"""Logits before and after, and labels -> the bound on what the guard bounds."""
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


def cost(method: PGD, attribution: int, selection: int) -> float:
    """Image passes of all learning rates, and of selecting among what they leave.

    Args:
        method: the attack.
        attribution: how many attribution images there are.
        selection: how many selection images, stored and clean.

    Example:
        >>> cost(PGD(), 100, 10)
        14470.0
    """
    return len(LEARNING_RATES) * (passes_of(method, min(MOST_IMAGES, attribution)) + EPOCHS * selection) + selection


def adversarial_fine_tune(
    classifier: Classifier, method: PGD, learned_from: LabelledImages, stored: LabelledImages, guarded: LabelledImages, run: Run,
    *, fall_bound: FallBound,
) -> tuple[AlternativeResult, Classifier | None]:  # fmt: skip
    """The original network trained on clean attribution images, 500 at most, under a short attack.

    Learning rate and epochs are those that recover most labels within the guard of the repair. Where none does, the network stays unchanged.

    Args:
        classifier: the original network.
        method: the attack.
        learned_from: attribution images.
        stored: adversarial selection images with their true labels.
        guarded: clean selection images.
        run: books passes, and stores the weights.
        fall_bound: what the guard bounds.

    Returns:
        The result and the network; no network where training failed, and the result says why.
    """
    count = min(MOST_IMAGES, len(learned_from))
    images, run = count + len(guarded), run.of("instead")
    try:
        with run.phase(PART), full_memory(run.settings.batch):
            learned = learned_from.subset(some(ungrouped(learned_from), MOST_IMAGES, seed=run.settings.seed))
            trained = run.cached(DESCRIPTION.key, partial(_train, classifier, method, learned, stored, guarded, run, fall_bound), ARRAYS)
    except RepairkitError as error:
        return AlternativeResult(DESCRIPTION.key, images, left_out=str(error)), None
    epoch, rate, short = int(trained["epoch"]), float(trained["rate"]), shortened(method)
    if epoch:
        chosen = (
            f"{epoch} epoch{'s' if epoch > 1 else ''} of at most {EPOCHS} at a learning rate of {rate:g}, over {count:,} images under "
            f"{short.steps} steps of {short.step * 255:.3g}/255"
        )
    else:
        names = [f"epoch {number:.0f} at {rate:g}" for number, rate in trained["settings"].tolist()]
        chosen = describe_unchanged(unpack_scores(trained["scores"]), names, gain="recovered labels", guarded="clean accuracy")
    passes, seconds = cost(method, len(learned_from), len(stored) + len(guarded)), float(trained["seconds"])
    network = classifier.with_weights(unpack_weights(trained))
    return AlternativeResult(DESCRIPTION.key, images, passes, seconds, chosen, as_given=not epoch), network


def _train(
    original: Classifier,
    method: PGD,
    images: LabelledImages,
    stored: LabelledImages,
    guarded: LabelledImages,
    run: Run,
    fall_bound: FallBound,
) -> Arrays:
    """The selected weights, their learning rate and epoch (0: unchanged), all settings with their scores, and seconds."""
    began = time.perf_counter()
    before = predict_logits(original, guarded, run)

    def score(recovering: Logits, after: Logits) -> SettingScore:
        gained, accuracy = (float((logits.argmax(1) == of.labels).mean()) for logits, of in ((recovering, stored), (after, guarded)))
        return SettingScore(gained, accuracy, fall_bound(before, after, guarded.labels))

    scores, settings = [score(predict_logits(original, stored, run), before)], []
    best = {"epoch": np.array(0), "rate": np.array(0.0), **pack_weights(original)}

    def look(epoch: int, network: Classifier, *, rate: float) -> None:
        nonlocal best
        scores.append(score(predict_logits(network, stored, run), predict_logits(network, guarded, run)))
        settings.append((epoch, rate))
        if best_setting(scores, run.settings.max_clean_drop) == len(scores) - 1:
            best = {"epoch": np.array(epoch), "rate": np.array(rate), **pack_weights(network)}

    passes = passes_of(method, len(images))
    for rate in LEARNING_RATES:
        train_against(
            original,
            images,
            method,
            learning_rate=rate,
            batch_size=run.settings.batch,
            seed=run.settings.seed,
            look=partial(look, rate=rate),
            progress=show_progress(run, "adversarial fine-tuning", passes),
        )
        run.spend(passes)
    return best | {"settings": np.array(settings), "scores": pack_scores(scores), "seconds": np.array(time.perf_counter() - began)}


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
    """A copy of the classifier trained further on images under attack, with their true labels; arguments as in `finetune`.

    In every step PGD attacks the network of that step, towards a class that is drawn anew for each image, as the attack of a repair does.
    Batch norms keep their statistics. Madry et al. train from the start, for many epochs and against an untargeted attack. This is what a
    few minutes give to a trained network.

    Raises:
        UsageError, ModelError: as `finetune`.

    Source: Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks.
    """
    short, steps = shortened(method), count()

    def under_attack(network: Classifier, batch: torch.Tensor, labels: Indices) -> torch.Tensor:
        step_seed = derived_seed(seed, next(steps))
        return perturb(network, batch, draw_targets(labels, len(images.classes), step_seed), short, seed=step_seed)

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
