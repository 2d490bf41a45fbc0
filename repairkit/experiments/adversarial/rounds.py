"""One round: filters are found against the attack, chosen and frozen; after it both networks may be trained further."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from repairkit.attacks.generate import Attacked
from repairkit.data.images import LabelledImages
from repairkit.evaluation.splits import Split, ungrouped
from repairkit.experiments.adversarial.objective import margins, worth_on
from repairkit.experiments.adversarial.task import AdversarialTask, AttackOptions
from repairkit.models.finetuning import finetune
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters, FilterId
from repairkit.network.patch import Patch
from repairkit.network.predict import Logits, predict_logits
from repairkit.objectives import Accuracy
from repairkit.repair.repair import repair_round
from repairkit.repair.selection import Choice, guard_bound
from repairkit.repair.selection_images import SelectionGoal
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley import Attribution
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import GRADIENT_COST
from repairkit.shapley.live_range import LiveRange

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
        live_range: where t0 was measured.
        halved: images of a pass of the attribution, where memory ran out.
        tuned: what became of the training after it; None where there was none.
    """

    made: dict[str, Attacked]
    filters: ConvFilters
    attribution: Attribution
    choice: Choice
    patch: Patch
    live_range: LiveRange | None
    halved: int | None
    tuned: FineTuned | None = None


def find_and_freeze(
    task: AdversarialTask,
    classifier: Classifier,
    made: dict[str, Attacked],
    split: Split,
    run: Run,
    attacks: AttackOptions,
    earlier: list[Round],
) -> tuple[Round, Classifier]:
    """One round on the network as the earlier rounds left it."""
    found = repair_round(
        task.model,
        classifier,
        lambda clean: worth_on(made["attribute"], clean, run.settings, attacks),
        (task.images.subset(split.attribute),),
        selection_goal(task, made["choose"], split, run, attacks),
        run,
        seed=run.settings.seed + len(earlier),
        earlier=[each.patch for each in earlier],
    )
    filters = found.game.filters
    return Round(made, filters, found.attribution, found.selection, found.patch, found.live_range, found.reduced_batch), found.classifier


def selection_goal(task: AdversarialTask, adversarial: Attacked, split: Split, run: Run, attacks: AttackOptions) -> SelectionGoal:
    """What filters are selected by on the adversarial and the clean selection images; every round may spend an equal share of the guard."""
    clean = task.images.subset(split.choose)
    return SelectionGoal(
        target=Accuracy().on(ungrouped(adversarial.images)),
        guard=Accuracy().on(clean),
        max_drop=run.settings.max_clean_drop / attacks.rounds,
        measure=margins(adversarial, clean),
        guard_weights=PRICES,
        guard_images=len(adversarial),
        guarded="probability",
    )


def train_on(
    task: AdversarialTask,
    repaired: Classifier,
    alone: Classifier,
    rounds: list[Round],
    clean: LabelledImages,
    run: Run,
    attacks: AttackOptions,
) -> tuple[Classifier, Classifier]:
    """Both networks trained further on the clean attribution images: the repaired one with its filters frozen, the other as it is.

    What an earlier session trained is stored, since training again need not give the same bits on every device.
    """
    frozen = {name: value for each in rounds for name, value in each.patch.constants.items()}
    trained = []
    for name, network, held in (("repaired", repaired, frozen), ("alone", alone, None)):
        weights = run.cached(f"tuned-{name}", partial(_trained, network, clean, held, run, attacks, len(rounds) - 1), ARRAYS)
        tuned = network.with_weights({key: torch.from_numpy(value) for key, value in weights.items()})
        trained.append(tuned)
    return trained[0], trained[1]


def _trained(
    network: Classifier, clean: LabelledImages, held: dict[FilterId, float] | None, run: Run, attacks: AttackOptions, earlier: int
) -> Arrays:
    """The weights after training on the clean images."""
    options = {"frozen": held, "freeze_at": run.settings.freeze_at, "seed": run.settings.seed + earlier}
    tuned = finetune(network, clean, epochs=attacks.finetune_epochs, **options)  # type: ignore[arg-type]
    return {key: value.cpu().numpy() for key, value in tuned.network.state_dict().items()}


def tune(
    task: AdversarialTask, repaired: Classifier, alone: Classifier, rounds: list[Round], split: Split, run: Run, attacks: AttackOptions
) -> tuple[Classifier, Classifier, Round]:
    """Both networks trained further, the repaired one as it was where training breaks its guard; and the last round with what was measured."""
    learned, clean = task.images.subset(split.attribute), task.images.subset(split.choose)
    with run.phase("fine-tuning"):
        tuned, alone = train_on(task, repaired, alone, rounds, learned, run, attacks)
        run.spend(2 * GRADIENT_COST * attacks.finetune_epochs * len(learned))
        said = [predict_logits(each, clean, run) for each in (task.model.classifier, tuned)]
    held = FineTuned(fall_bound_of(said[0], said[1], clean.labels), run.settings.max_clean_drop * len(rounds) / attacks.rounds)
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
