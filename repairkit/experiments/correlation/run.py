"""Do attacks need the filters that accuracy needs? Values of attack success and of clean accuracy for every filter of one network, twice each.

The second pair has random numbers of its own, so that how well each value repeats is known: noise pulls a rank correlation toward zero,
and a correlation of .3 means little between values that agree with themselves at .3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from repairkit.attacks.generate import AdversarialSet, attack, draw_targets
from repairkit.data.images import labelled_hash
from repairkit.errors import DataError
from repairkit.evaluation.splits import some
from repairkit.experiments.attack_task import LEAST, AttackOptions, AttackTask, attack_succeeds, check_hits, exclude_prior_hits
from repairkit.models.zoo import normalisation_of
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.objectives import Accuracy, AttackSuccess
from repairkit.repair.attribute import game_of, live_range_of, live_range_planned
from repairkit.repair.screens import screens_of
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley.game import Floats


@dataclass(frozen=True, eq=False)
class CorrelationFindings:
    """Everything measured."""

    made: AdversarialSet
    filters: ConvFilters  # the players with their constants
    screens: Floats  # gradient estimates for every filter: attack success, accuracy, and both again; (4, n). Zeros where nothing is fooled
    t0: float  # least live share
    fooled: bool  # whether the attack reaches its target often enough for success to be valued
    passes: dict[str, float]
    seconds: dict[str, float]


def attacked_count(task: AttackTask, attacks: AttackOptions) -> int:
    """How many images are attacked."""
    return min(attacks.images[0], len(task.images))


def plan(task: AttackTask, options: Options, attacks: AttackOptions) -> dict[str, float]:
    """Image passes that a run will make, by part; DataError where there are too few images."""
    count = attacked_count(task, attacks)
    if count < LEAST:
        raise DataError(f"{task.images.name} has {len(task.images)} images, but {LEAST} are needed; give more images")
    return (
        {"attack": float(count * (attacks.method.passes + 2)), "calibration": float(len(task.images))}
        | live_range_planned(options, 2)
        | {"screens": options.budget}
    )


def configuration(task: AttackTask, options: Options, attacks: AttackOptions) -> dict[str, object]:
    """Everything that decides the bits of a run, as JSON can hold it."""
    return options.configuration | {
        "attack": asdict(attacks.method) | {"images": attacks.images[0]},
        "model": [task.model.sha256[:16], *normalisation_of(task.model)],
        "images": labelled_hash(task.images),
        "threads": torch.get_num_threads(),
    }


def measure(task: AttackTask, run: Run, attacks: AttackOptions) -> CorrelationFindings:
    """Attack the images and value every filter for the attack's success and for accuracy, by gradients, a quarter of the budget each time.

    All clean images are used: nothing is chosen and nothing repaired. The first of `attacks.images` says how many are attacked.
    """
    settings = run.settings
    run.ledger.planned = sum(plan(task, settings, attacks).values())
    classifier = task.model.classifier.to(memory_format=torch.channels_last)
    made, fooled = _attack(task, run, attacks, classifier)
    success, accuracy = AttackSuccess().on(made.toward_targets), Accuracy().on(task.images)
    with run.phase("calibration"):
        game = game_of(classifier, success - accuracy, (task.images,), settings)
        run.spend(len(task.images))
    part = run.of("screens")
    _, t0 = live_range_of(game, part, seed=settings.seed)
    values = dict(enumerate([success, accuracy] * 2))
    screens = screens_of(
        classifier, game.filters, values, part, passes=settings.budget / 4, t0=t0, batch=settings.batch, part="screens"
    )  # fmt: skip
    return CorrelationFindings(made, game.filters, screens, t0, fooled, run.ledger.passes, run.ledger.seconds)


def _attack(task: AttackTask, run: Run, attacks: AttackOptions, classifier: Classifier) -> tuple[AdversarialSet, bool]:
    """The adversarial images, and whether they fool the network often enough."""
    seed = run.settings.seed
    rows = some(task.images, attacked_count(task, attacks), seed=seed)
    clean, targets = task.images.subset(rows), draw_targets(task.images.labels, len(task.images.classes), seed)[rows]
    with run.phase("attack"):
        made = attack(classifier, clean, targets, attacks.method, batch=run.settings.batch, seed=seed, run=run.of("attack"))
        hits = [exclude_prior_hits(classifier, made, clean, run)]
    fooled = attack_succeeds(hits)
    if fooled:
        check_hits([made], task.images.name)
    return made, fooled
