"""One round: filters are found against the attack, chosen and frozen; after it both networks may be trained further."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from repairkit.attacks.generate import Attacked
from repairkit.data.images import LabelledImages
from repairkit.evaluation.splits import Split, ungrouped
from repairkit.experiments.adversarial.objective import margins, worth_on
from repairkit.experiments.adversarial.task import AdversarialTask, AttackOptions
from repairkit.experiments.options import Options
from repairkit.models.finetuning import finetune
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.patch import Patch
from repairkit.network.predict import Logits, outputs
from repairkit.objectives import Accuracy
from repairkit.repair.attribute import attribute, charged, game_of, zone_of
from repairkit.repair.choosing import choose_once, patch_of, without
from repairkit.repair.selection import Choice, guard_bound
from repairkit.run.ledger import Clock
from repairkit.run.store import KeptNetwork
from repairkit.shapley import Attribution
from repairkit.shapley.game import GRADIENT_COST
from repairkit.shapley.live_range import Zone

PRICES = (300.0, 100.0, 30.0, 10.0)
"""Logits of margin on adversarial images that must be won for the whole probability of the label on clean ones, in the order that choosing asks them:
three for a point at first, so that it begins with what costs nothing, and a tenth of a logit in the end, where the guard alone sets the limit."""


@dataclass(frozen=True)
class FineTuned:
    """Whether training after a round held the guard: fall of clean accuracy against the network as it was given, on the clean images that choose.

    Attributes:
        bound: one-sided 90 % bound of the fall of the label's probability, and no less than that of accuracy; as in choosing.
        allowed: the share of the guard of all rounds so far.
    """

    bound: float
    allowed: float

    @property
    def kept(self) -> bool:
        """False: the epochs were undone."""
        return self.bound <= self.allowed + 1e-12


@dataclass(frozen=True, eq=False)
class Round:
    """One time that filters were found and frozen.

    Attributes:
        made: adversarial images against the network of this round that found and chose.
        filters: the players with their constants.
        attribution, choice, patch: what was found, chosen and made of it.
        zone: where t0 was measured.
        halved: images of a pass of the attribution, where memory ran out.
        tuned: what became of the training after it; None where there was none.
    """

    made: dict[str, Attacked]
    filters: ConvFilters
    attribution: Attribution
    choice: Choice
    patch: Patch
    zone: Zone | None
    halved: int | None
    tuned: FineTuned | None = None


def find_and_freeze(
    task: AdversarialTask,
    classifier: Classifier,
    made: dict[str, Attacked],
    split: Split,
    options: Options,
    attacks: AttackOptions,
    earlier: list[Round],
    clock: Clock,
    workers: int = 1,
    kept: KeptNetwork | None = None,
) -> tuple[Round, Classifier]:
    """One round on the network as the earlier rounds left it; every round may spend an equal share of the guard."""
    clean = task.images.subset(split.attribute)
    with clock.part("calibration"):
        game = game_of(classifier, worth_on(made["attribute"], clean, options, attacks), (clean,), options)
        clock.add("calibration", len(clean))
    seed = options.seed + len(earlier)
    zone, t0 = zone_of(game, options, seed=seed, clock=clock, kept=kept)
    with clock.part("attribution"):
        found = attribute(game, options, budget=options.budget, seed=seed, t0=t0, clock=clock, workers=workers, kept=kept)
        clock.add("attribution", sum(found.passes.values()))
        found = charged(found, zone)
    found = without(found, [str(culprit.filter) for each in earlier for culprit in each.patch.culprits])
    choice = choose_against(task, classifier, game.filters, found, made["choose"], split, options, attacks, clock, kept)
    patch = patch_of(task.model, game.filters, found, choice, game.stake, options.freeze_at)
    repaired = classifier.with_network(patch.apply(classifier.network, check=not earlier))
    halved = game.batch if game.batch < options.batch else None
    return Round(made, game.filters, found, choice, patch, zone, halved), repaired


def choose_against(
    task: AdversarialTask,
    classifier: Classifier,
    filters: ConvFilters,
    found: Attribution,
    adversarial: Attacked,
    split: Split,
    options: Options,
    attacks: AttackOptions,
    clock: Clock,
    kept: KeptNetwork | None,
    part: str = "choosing",
) -> Choice:
    """What to freeze of an attribution's culprits, on the adversarial and the clean images that choose; booked under a part of the run."""
    clean = task.images.subset(split.choose)
    return choose_once(
        classifier,
        filters,
        found,
        (Accuracy().on(ungrouped(adversarial.images)), Accuracy().on(clean)),
        replace(options, max_clean_drop=options.max_clean_drop / attacks.rounds),
        clock,
        kept,
        measure=margins(adversarial, clean),
        source_weights=PRICES,
        guarded="probability",
        source_for_gains=len(adversarial),
        part=part,
    )


def train_on(
    task: AdversarialTask,
    repaired: Classifier,
    alone: Classifier,
    rounds: list[Round],
    clean: LabelledImages,
    options: Options,
    attacks: AttackOptions,
    kept: KeptNetwork | None,
) -> tuple[Classifier, Classifier]:
    """Both networks trained further on the clean attribution images: the repaired one with its filters frozen, the other as it is.

    What an earlier session trained is kept, since training again need not give the same bits on every device.
    """
    frozen = {name: value for each in rounds for name, value in each.patch.constants.items()}
    trained = []
    for name, network, held in (("repaired", repaired, frozen), ("alone", alone, None)):
        saved = kept.arrays(f"tuned-{name}") if kept else None
        if saved is not None:
            tuned = network.with_weights({key: torch.from_numpy(value) for key, value in saved.items()})
        else:
            seed = options.seed + len(rounds) - 1
            tuned = finetune(network, clean, epochs=attacks.finetune_epochs, frozen=held, freeze_at=options.freeze_at, seed=seed)
            if kept is not None:
                kept.keep_arrays(f"tuned-{name}", **{key: value.cpu().numpy() for key, value in tuned.network.state_dict().items()})
        trained.append(tuned)
    return trained[0], trained[1]


def tune(
    task: AdversarialTask,
    repaired: Classifier,
    alone: Classifier,
    rounds: list[Round],
    split: Split,
    options: Options,
    attacks: AttackOptions,
    clock: Clock,
    kept: KeptNetwork | None,
) -> tuple[Classifier, Classifier, Round]:
    """Both networks trained further, the repaired one as it was where training breaks its guard; and the last round with what was measured."""
    learned, clean = task.images.subset(split.attribute), task.images.subset(split.choose)
    with clock.part("fine-tuning"):
        tuned, alone = train_on(task, repaired, alone, rounds, learned, options, attacks, kept)
        clock.add("fine-tuning", 2 * GRADIENT_COST * attacks.finetune_epochs * len(learned))
        said = [outputs(each, clean, options, clock, part="fine-tuning") for each in (task.model.classifier, tuned)]
    held = FineTuned(fall_bound_of(said[0], said[1], clean.labels), options.max_clean_drop * len(rounds) / attacks.rounds)
    return (tuned if held.kept else repaired), alone, replace(rounds[-1], tuned=held)


def fall_bound_of(before: Logits, after: Logits, labels: npt.NDArray[np.int64]) -> float:
    """What the guard of choosing says of a network that was trained: the bound on the fall of the label's probability on clean images.

    Args:
        before: what the network says as it was given, shape (N, classes).
        after: what it says now.
        labels: shape (N,).
    """
    labelled = np.arange(len(labels)), labels
    sure, still_sure = (torch.softmax(torch.from_numpy(logits), dim=1).numpy()[labelled] for logits in (before, after))
    right, still_right = ((logits.argmax(1) == labels).astype(np.float64) for logits in (before, after))
    return guard_bound(sure - still_sure, right - still_right, np.full(len(labels), 1 / len(labels)), np.full(len(labels), "clean"))
