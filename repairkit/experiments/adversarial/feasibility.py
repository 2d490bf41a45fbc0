"""Whether an attack fools a network, and on enough images for filters to be found against it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from repairkit.attacks.generate import Attacked
from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import DataError
from repairkit.experiments.adversarial.task import LEAST, PARTS, AdversarialTask
from repairkit.network.classifier import Classifier
from repairkit.network.predict import predict
from repairkit.run.context import Run

FOOLED = 0.05
"""Share of the adversarial images, but those taken for their target anyway, that must reach it; with no more the attack does not fool the network."""


def moved(classifier: Classifier, made: Attacked, clean: LabelledImages, run: Run) -> Attacked:
    """Those adversarial images that the network does not take for their target without any attack: with few classes a mistake often hits it."""
    already = predict(classifier, clean, run) == made.targets
    return made.subset(np.flatnonzero(~already))


def fooled(made: Sequence[Attacked]) -> bool:
    """Whether the attack reaches its target on a twentieth of all these images, however few they are."""
    return sum(int(each.hit.sum()) for each in made) > FOOLED * sum(map(len, made))


def too_few(made: Sequence[Attacked]) -> str:
    """Where too few images of a part reach their target for filters to be found, that and what would do, in words; else ""."""
    if all(int(each.hit.sum()) >= LEAST for each in made):
        return ""
    hits = [int(each.hit.sum()) for each in made]
    rate = sum(hits) / sum(map(len, made))
    counts = " and ".join(f"{hit} of {len(each)}" for hit, each in zip(hits, made, strict=True))
    return (
        f"the attack takes {counts} images to their target, and {LEAST} in each part are needed to find filters by: at this rate ({100 * rate:.0f} %) "
        f"attack {math.ceil(LEAST / rate)} or more in each"
    )


def of_the_attack(
    task: AdversarialTask, classifier: Classifier, made: dict[str, Attacked], rows: dict[str, Indices], run: Run
) -> list[Attacked]:
    """The images that find and choose, without those that the network takes for their target anyway."""
    with run.phase("attack"):
        return [moved(classifier, made[part], task.images.subset(rows[part]), run) for part in PARTS[:2]]


def won(task: AdversarialTask, original: Classifier, made: dict[str, Attacked], rows: dict[str, Indices], run: Run) -> bool:
    """Whether the attack fools the network as it was given.

    Raises:
        DataError: it does, but on too few images; says how many must be attacked.
    """
    if not fooled(of_the_attack(task, original, made, rows, run)):
        return False
    check_hits([made[part] for part in PARTS[:2]], task.images.name)
    return True


def out_of_reach(task: AdversarialTask, repaired: Classifier, made: dict[str, Attacked], rows: dict[str, Indices], run: Run) -> str:
    """Why a further round cannot be played against the network that the last one left, in words; "" where it can."""
    if not fooled(of_the_attack(task, repaired, made, rows, run)):
        return "the attack no longer fooled the network"
    return too_few([made[part] for part in PARTS[:2]])


def check_hits(made: Sequence[Attacked], name: str) -> None:
    """Enough images of a network that is fooled reach their target.

    Raises:
        DataError: too few do; says how many must be attacked.
    """
    if why := too_few(made):
        raise DataError(f"{name}: {why}; give more images, or let more of them be attacked (--attack-images)")
