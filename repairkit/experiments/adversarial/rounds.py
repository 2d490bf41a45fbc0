"""Rounds of an adversarial repair: value filters against the attack, freeze the selected ones, train on if asked, and attack again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from repairkit.attacks.generate import AdversarialSet, attack, draw_targets
from repairkit.data.images import Indices, LabelledImages
from repairkit.evaluation.splits import Split, ungrouped
from repairkit.experiments.attack_task import (
    PARTS,
    AttackOptions,
    AttackTask,
    attack_succeeds,
    attacked_rows,
    check_hits,
    exclude_prior_hits,
    missing_hits,
    split_of,
)
from repairkit.models.finetuning import finetune
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters, FilterId
from repairkit.network.patch import Patch
from repairkit.network.predict import Logits, predict_logits
from repairkit.objectives import Accuracy, AttackSuccess, ObjectiveSum, Probability
from repairkit.repair.choosing import DOWNSTREAM
from repairkit.repair.repair import repair_round
from repairkit.repair.selection import Choice, guard_bound
from repairkit.repair.selection_images import Measure, SelectionGoal
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import ARRAYS
from repairkit.shapley import Attribution
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import GRADIENT_COST, Examples, Floats

CEILING = 3.0
"""Logits by which the label may lie above the target; a larger margin counts as no better."""
PRICES = (300.0, 100.0, 30.0, 10.0)
"""Logits of margin on adversarial images that must be won for the whole probability of the label on clean ones, in the order that selection tries
them: three for a point at first, so that it begins with what costs nothing, and a tenth of a logit in the end, where the guard alone sets the limit."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What all steps share: the task, the options, and which images each part has."""

    task: AttackTask
    attacks: AttackOptions
    split: Split
    rows: dict[str, Indices]  # clean images of each part that are attacked
    targets: Indices  # of all images

    @classmethod
    def of(cls, task: AttackTask, options: Options, attacks: AttackOptions) -> Setup:
        """Split the images and draw the targets; raises a DataError for too few images."""
        split = split_of(task, options, attacks)
        targets = draw_targets(task.images.labels, len(task.images.classes), options.seed)
        return cls(task, attacks, split, attacked_rows(task, split, options, attacks), targets)

    @property
    def original(self) -> Classifier:
        """The network to repair."""
        return self.task.model.classifier

    def clean(self, part: str) -> LabelledImages:
        """All clean images of a part."""
        return self.task.images.subset(getattr(self.split, part))

    def attacked(self, part: str) -> LabelledImages:
        """Those clean images of a part that are attacked."""
        return self.task.images.subset(self.rows[part])

    def attack(self, classifier: Classifier, part: str, run: Run) -> AdversarialSet:
        """The adversarial images of a part against one network."""
        given = self.attacked(part), self.targets[self.rows[part]], self.attacks.method
        with run.phase("attack"):
            return attack(classifier, *given, batch=run.settings.batch, seed=run.settings.seed, run=run.of("attack"))

    def succeeds(self, classifier: Classifier, adversarial: dict[str, AdversarialSet], run: Run) -> bool:
        """Whether the attack succeeds on the attribution and selection images, less those that the network takes for their target anyway."""
        with run.phase("attack"):
            return attack_succeeds([exclude_prior_hits(classifier, adversarial[part], self.attacked(part), run) for part in PARTS[:2]])

    def goal(self, adversarial: AdversarialSet, run: Run) -> SelectionGoal:
        """What filters are selected by on the selection images; every round may spend an equal share of the guard."""
        clean = self.clean("choose")
        return SelectionGoal(
            target=Accuracy().on(ungrouped(adversarial.images)),
            guard=Accuracy().on(clean),
            max_drop=run.settings.max_clean_drop / self.attacks.rounds,
            measure=margins(adversarial, clean),
            guard_weights=PRICES,
            guard_images=len(adversarial),
            guarded="probability",
        )


@dataclass(frozen=True)
class FineTuned:
    """Whether training after a round held the guard on the clean selection images, against the original network."""

    bound: float  # one-sided 90 % bound on the drop of the label's probability, and no less than that of accuracy
    allowed: float  # the share of the guard of all rounds so far

    @property
    def kept(self) -> bool:
        """False: the epochs were undone."""
        return self.bound <= self.allowed + 1e-12


@dataclass(frozen=True, eq=False)
class Round:
    """One time that filters were valued, selected and frozen."""

    made: dict[str, AdversarialSet]  # attribution and selection images against the network of this round
    filters: ConvFilters  # players with their constants
    attribution: Attribution
    choice: Choice
    patch: Patch
    halved: int | None  # images of a pass of the attribution, where memory ran out
    tuned: FineTuned | None = None  # training after it; None where there was none


@dataclass(eq=False)
class Rounds:
    """The rounds so far, the network that they left, and the one that was only trained."""

    repaired: Classifier
    alone: Classifier
    rounds: list[Round] = field(default_factory=list)
    ended: str = ""  # why no further round was played, in words


def objective_on(adversarial: AdversarialSet, clean: LabelledImages, options: Options, attacks: AttackOptions) -> ObjectiveSum:
    """Attack success, less clean accuracy unless the paper's ranking is asked for."""
    success, accuracy = (Probability(part) if options.score == "smooth" else part for part in (AttackSuccess(), Accuracy()))
    objective = success.on(adversarial.toward_targets)
    return objective - accuracy.on(clean) if attacks.ranking == "success - accuracy" else objective


def margins(adversarial: AdversarialSet, clean: LabelledImages) -> Measure:
    """What selection gains in: the margin of the label over the target on adversarial images, clipped above; the label's probability on clean ones.

    Networks are certain about adversarial images: probabilities are flat there, and so is a margin that is clipped below.
    """
    labels = np.concatenate([adversarial.images.labels, clean.labels])
    targets = np.concatenate([adversarial.targets, clean.labels])

    def measure(logits: torch.Tensor, examples: Examples) -> Floats:
        logs = torch.log_softmax(logits.double().cpu(), dim=1).numpy()
        rows = np.arange(len(examples))
        label, target = logs[rows, labels[examples]], logs[rows, targets[examples]]
        measured: Floats = np.where(examples < len(adversarial), np.minimum(label - target, CEILING), np.exp(label))
        return measured

    return measure


def probability_drop_bound(before: Logits, after: Logits, labels: npt.NDArray[np.int64]) -> float:
    """What the guard of selection says of a trained network: the bound on the drop of the label's probability on clean images.

    Args:
        before: logits of the original network, shape (N, classes).
        after: logits of the trained one.
        labels: shape (N,).
    """
    labelled = np.arange(len(labels)), labels
    probability, probability_after = (torch.softmax(torch.from_numpy(logits), dim=1).numpy()[labelled] for logits in (before, after))
    right, right_after = ((logits.argmax(1) == labels).astype(np.float64) for logits in (before, after))
    weights, strata = np.full(len(labels), 1 / len(labels)), np.full(len(labels), "clean")
    return guard_bound(probability - probability_after, right - right_after, weights, strata)


def selection_cost(setup: Setup, options: Options) -> float:
    """Image passes of one selection: a path of as many filters as may be frozen, each of which asks half of the candidates again."""
    steps = options.max_filters
    scored = 2 * len(setup.rows["choose"])
    return scored * (1 + steps + DOWNSTREAM * steps / 2 * options.candidates) + steps * len(setup.split.choose)


def fine_tuning_cost(setup: Setup) -> float:
    """Image passes of training after every round, of both networks, and of checking the guard; 0 where nothing is trained."""
    epochs = setup.attacks.finetune_epochs
    return 2 * setup.attacks.rounds * (GRADIENT_COST * epochs * len(setup.split.attribute) + len(setup.split.choose)) if epochs else 0.0


def play_rounds(setup: Setup, adversarial: dict[str, AdversarialSet], run: Run) -> Rounds:
    """All rounds on a network that the attack succeeds on; `adversarial` are the images against it.

    Raises:
        DataError: the attack reaches its target on too few images; says how many must be attacked.
    """
    check_hits([adversarial[part] for part in PARTS[:2]], setup.task.images.name)
    played = Rounds(setup.original, setup.original)
    for number in range(1, setup.attacks.rounds + 1):
        part = run.of(f"round-{number}")
        run.ledger.label = f"round {number}" if setup.attacks.rounds > 1 else ""
        made = adversarial if number == 1 else {name: setup.attack(played.repaired, name, run) for name in PARTS[:2]}
        if number > 1 and (reason := _unreachable_targets(setup, played.repaired, made, run)):
            played.ended = f"in round {number} {reason}"
            break
        _value_and_freeze(setup, played, made, part)
        if not played.rounds[-1].choice.chosen:
            played.ended = f"in round {number} no filter was worth freezing"
            break
        if setup.attacks.finetune_epochs:
            _fine_tune(setup, played, part)
    run.ledger.label = ""
    return played


def _unreachable_targets(setup: Setup, repaired: Classifier, made: dict[str, AdversarialSet], run: Run) -> str:
    """Why no further round can be played on the network that the last one left, in words; "" where it can."""
    if not setup.succeeds(repaired, made, run):
        return "the attack no longer succeeded on the network"
    return missing_hits([made[part] for part in PARTS[:2]])


def _value_and_freeze(setup: Setup, played: Rounds, made: dict[str, AdversarialSet], run: Run) -> None:
    """One round on the network as the earlier rounds left it."""
    repair = repair_round(
        setup.task.model,
        played.repaired,
        lambda clean: objective_on(made["attribute"], clean, run.settings, setup.attacks),
        (setup.clean("attribute"),),
        setup.goal(made["choose"], run),
        run,
        seed=run.settings.seed + len(played.rounds),
        earlier=[earlier.patch for earlier in played.rounds],
    )
    played.repaired = repair.classifier
    played.rounds.append(Round(made, repair.game.filters, repair.attribution, repair.selection, repair.patch, repair.reduced_batch))


def _fine_tune(setup: Setup, played: Rounds, run: Run) -> None:
    """Train both networks on the clean attribution images; the repaired one stays as it was where that breaks its guard.

    What an earlier session trained is stored, since training again need not give the same bits on every device.
    """
    frozen = {name: value for earlier in played.rounds for name, value in earlier.patch.constants.items()}
    clean, guarded = setup.clean("attribute"), setup.clean("choose")

    def train(name: str, network: Classifier, constants: dict[FilterId, float] | None) -> Classifier:
        def compute() -> Arrays:
            seed = run.settings.seed + len(played.rounds) - 1
            epochs, freeze_at = setup.attacks.finetune_epochs, run.settings.freeze_at
            trained = finetune(network, clean, epochs=epochs, frozen=constants, freeze_at=freeze_at, seed=seed)
            return {key: value.cpu().numpy() for key, value in trained.network.state_dict().items()}

        weights = run.cached(f"tuned-{name}", compute, ARRAYS)
        return network.with_weights({key: torch.from_numpy(value) for key, value in weights.items()})

    with run.phase("fine-tuning"):
        tuned, played.alone = train("repaired", played.repaired, frozen), train("alone", played.alone, None)
        run.spend(2 * GRADIENT_COST * setup.attacks.finetune_epochs * len(clean))
        before, after = map(partial(predict_logits, images=guarded, run=run), (setup.original, tuned))
    allowed = run.settings.max_clean_drop * len(played.rounds) / setup.attacks.rounds
    outcome = FineTuned(probability_drop_bound(before, after, guarded.labels), allowed)
    if outcome.kept:
        played.repaired = tuned
    played.rounds[-1] = replace(played.rounds[-1], tuned=outcome)
