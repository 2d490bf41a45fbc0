"""What one would do instead of a repair against an attack: adversarial fine-tuning, under the same guard."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch

from repairkit.alternatives import adversarial_training
from repairkit.alternatives.adversarial_training import EPOCHS, LEARNING_RATES, MOST_IMAGES, passes_of, passes_of_all, shortened
from repairkit.alternatives.base import HARDENED, PART, Tried
from repairkit.alternatives.choosing import Scored, best, beyond
from repairkit.attacks.generate import Attacked
from repairkit.errors import RepairkitError
from repairkit.evaluation.splits import Split, some, ungrouped
from repairkit.experiments.adversarial.rounds import fall_bound_of
from repairkit.experiments.adversarial.task import AdversarialTask, AttackOptions
from repairkit.network.classifier import Classifier
from repairkit.network.game import full_memory
from repairkit.network.predict import Logits, predict_logits
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import Floats


def harden(
    task: AdversarialTask, networks: dict[str, Classifier], made: dict[str, Attacked], split: Split, run: Run, attacks: AttackOptions
) -> Tried:
    """What one would do instead is added to the networks: the original trained on clean attribution images, 500 at most, under a short attack.

    Learning rate and epochs are those that recover most labels of the stored images that choose, within the guard of the repair (by the label's
    probability); where none recovers more than the original within it, the network stays as it was given. Training that fails says why.
    """
    images = min(MOST_IMAGES, len(split.attribute))
    passes = passes_of_all(attacks.method, images, len(made["choose"]) + len(split.choose))
    run = run.of("instead")
    try:
        with run.phase(PART), full_memory(run.settings.batch):
            found = run.cached(HARDENED, partial(_trained, task, made["choose"], split, run, attacks), ARRAYS)
    except RepairkitError as error:
        return Tried(HARDENED, images + len(split.choose), 0.0, 0.0, left_out=str(error))
    epoch, short = int(found["epoch"]), shortened(attacks.method)
    weights = {key.removeprefix("network."): torch.from_numpy(value) for key, value in found.items() if key.startswith("network.")}
    networks[HARDENED] = task.model.classifier.with_weights(weights)
    about = (
        f"{epoch} epoch{'s' if epoch > 1 else ''} of at most {EPOCHS} at a learning rate of {float(found['rate']):g}, over {images:,} images "
        f"under {short.steps} steps of {short.step * 255:.3g}/255"
        if epoch
        else "no setting recovered more labels within the guard, so the network stays as it was given" + _beyond(found["tried"])
    )
    return Tried(HARDENED, images + len(split.choose), passes, float(found["seconds"]), about, as_given=not epoch)


def _trained(task: AdversarialTask, stored: Attacked, split: Split, run: Run, attacks: AttackOptions) -> Arrays:
    """The weights (`network.`) that were chosen, their learning rate, the epoch after which they were taken (0: as given) and seconds."""
    began = time.perf_counter()
    clean, guarded = task.images.subset(split.attribute), task.images.subset(split.choose)
    images = clean.subset(some(ungrouped(clean), MOST_IMAGES, seed=run.settings.seed))
    said = partial(predict_logits, run=run)
    original = task.model.classifier
    before = said(original, guarded)

    def rated(recovering: Logits, after: Logits) -> Scored:
        accuracy, gained = (
            float((logits.argmax(1) == each.labels).mean()) for logits, each in ((after, guarded), (recovering, stored.images))
        )
        return Scored(gained, accuracy, fall_bound_of(before, after, guarded.labels))

    scored = [rated(said(original, stored.images), before)]
    tried = [(0, 0.0)]
    taken = {"epoch": np.array(0), "rate": np.array(0.0), **_state(original)}

    def look(epoch: int, now: Classifier, *, rate: float) -> None:
        nonlocal taken
        scored.append(rated(said(now, stored.images), said(now, guarded)))
        tried.append((epoch, rate))
        if best(scored, run.settings.max_clean_drop) == len(scored) - 1:
            taken = {"epoch": np.array(epoch), "rate": np.array(rate), **_state(now)}

    passes = passes_of(attacks.method, len(images))
    for rate in LEARNING_RATES:
        adversarial_training.train_against(
            original,
            images,
            attacks.method,
            learning_rate=rate,
            batch_size=run.settings.batch,
            seed=run.settings.seed,
            look=partial(look, rate=rate),
            progress=lambda step, steps, _: run.ledger.progress("adversarial fine-tuning", passes * step / steps, passes),
        )
        run.spend(passes)
    rows = [(*setting, each.gained, each.accuracy, each.fall) for setting, each in zip(tried, scored, strict=True)]
    return taken | {"tried": np.array(rows), "seconds": np.array(time.perf_counter() - began)}


def _beyond(tried: Floats) -> str:
    """What the setting did that recovered most labels of all, in words.

    Args:
        tried: a row for each: epoch, learning rate, labels recovered and clean accuracy on the images that choose, and the bound on the fall; shape
            (k, 5), as given first.
    """
    scored = [Scored(*each) for _, _, *each in tried.tolist()]
    named = [f"epoch {epoch:.0f} at {rate:g}" for epoch, rate, *_ in tried.tolist()]
    return beyond(scored, named, gain="recovered labels", guarded="clean accuracy")


def _state(classifier: Classifier) -> Arrays:
    return {f"network.{key}": value.cpu().numpy().copy() for key, value in classifier.network.state_dict().items()}
