"""Train all weights on, and freeze nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

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
from repairkit.data.images import concatenate
from repairkit.errors import RepairkitError
from repairkit.evaluation.splits import Split
from repairkit.models.finetuning import finetune
from repairkit.network.classifier import Classifier
from repairkit.network.game import full_memory
from repairkit.network.predict import predict
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import GRADIENT_COST

DESCRIPTION = Description(
    "whole_network",
    "Fine-tuned",
    "All weights are trained further on the same images. They are drawn so that groups count alike, and the source as much as the target. "
    "Learning rate and epochs are selected under the guard of the repair.",
)
LEARNING_RATES = (1e-4, 3e-4)
EPOCHS = 3
"""Each learning rate is run for so many epochs, and the network after each of them is a candidate."""


def cost(split: Split, source: Split, classes: int) -> float:
    """Image passes."""
    attribution, selection, test = sizes(split, source)
    return float(_training_cost(attribution, selection) + test)


def _training_cost(attribution: int, selection: int) -> float:
    return len(LEARNING_RATES) * EPOCHS * (GRADIENT_COST * attribution + selection)


def evaluate(fold: Fold) -> AlternativeResult:
    """Trained on the attribution images, drawn by weight; learning rate and epochs are those that do best on the selection images."""
    try:
        with full_memory(fold.run.settings.batch):
            runs = [fold.run.cached(f"{DESCRIPTION.key}-{rate:g}", partial(_train, fold, rate), ARRAYS) for rate in LEARNING_RATES]
    except RepairkitError as error:
        return AlternativeResult(DESCRIPTION.key, fold.images, left_out=str(error))
    scores = [unpack_scores(run["scores"]) for run in runs]
    best = [fold.unchanged, *(of_run[int(run["epoch"])] for run, of_run in zip(runs, scores, strict=True))]
    number = best_setting(best, fold.run.settings.max_clean_drop)
    tuned = None
    if number:
        run = runs[number - 1]
        tuned = fold.classifier.with_weights(unpack_weights(run))
        epochs = int(run["epoch"])
        chosen = f"{epochs} epoch{'s' if epochs > 1 else ''} of at most {EPOCHS} at a learning rate of {LEARNING_RATES[number - 1]:g}"
    else:
        names = [f"epoch {epoch} at {rate:g}" for rate in LEARNING_RATES for epoch in range(1, EPOCHS + 1)]
        chosen = describe_unchanged([fold.unchanged, *(score for of_run in scores for score in of_run[1:])], names)
    right, source_right = fold.evaluate(tuned)
    passes = _training_cost(*(sum(map(len, part)) for part in (fold.learned_from, fold.chosen_on)))
    seconds = sum(float(run["seconds"]) for run in runs)
    return AlternativeResult(
        DESCRIPTION.key, fold.images, passes, seconds, chosen, as_given=not number, right=right, source_right=source_right
    )


def pack_weights(classifier: Classifier) -> Arrays:
    """The weights of a network as they can be stored, under names that begin with "network."."""
    return {f"network.{key}": value.cpu().numpy().copy() for key, value in classifier.network.state_dict().items()}


def unpack_weights(arrays: Arrays) -> dict[str, torch.Tensor]:
    """The weights among stored arrays."""
    return {key.removeprefix("network."): torch.from_numpy(value) for key, value in arrays.items() if key.startswith("network.")}


def _train(fold: Fold, rate: float) -> Arrays:
    """Weights after the best epoch within the guard (none where it is epoch 0), its number, the scores of all epochs, and seconds."""
    passes = GRADIENT_COST * sum(map(len, fold.learned_from)) * EPOCHS
    began = time.perf_counter()
    scores, best, weights = [fold.unchanged], 0, {}

    def look(epoch: int, network: Classifier) -> None:
        nonlocal best, weights
        target, source = (predict(network, images, fold.run) for images in fold.chosen_on)
        scores.append(fold.score(target, source))
        if best_setting(scores, fold.run.settings.max_clean_drop) == epoch:
            best, weights = epoch, pack_weights(network)

    finetune(
        fold.classifier,
        concatenate(*fold.learned_from),
        epochs=EPOCHS,
        learning_rate=rate,
        seed=fold.seed,
        weights=fold.weights,
        on_epoch=look,
        progress=show_progress(fold.run, f"fine-tuning at {rate:g}", passes),
    )
    fold.run.spend(passes)
    return weights | {"epoch": np.array(best), "scores": pack_scores(scores), "seconds": np.array(time.perf_counter() - began)}


def show_progress(run: Run, phase: str, passes: float) -> Callable[[int, int, object], None]:
    """A callback of training that shows its progress among the passes of the run."""
    return lambda step, steps, _: run.ledger.progress(phase, passes * step / steps, passes)
