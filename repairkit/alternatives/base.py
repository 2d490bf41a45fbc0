"""What one would do instead of a fairness repair, a fold at a time: on the images of the run, and never on those of its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from repairkit.alternatives.choosing import Scored, best, beyond, score
from repairkit.alternatives.group_thresholds import CONSTRAINTS, GroupThresholds
from repairkit.alternatives.last_layer import STRENGTHS, refit
from repairkit.attacks.generate import Booleans
from repairkit.data.images import LabelledImages, concatenate
from repairkit.errors import RepairkitError
from repairkit.evaluation.splits import Split
from repairkit.models.finetuning import finetune
from repairkit.network.classifier import Classifier
from repairkit.network.game import full_memory
from repairkit.network.head import Head
from repairkit.network.predict import Logits, predict, predict_logits
from repairkit.objectives import Accuracy, SubgroupRecall
from repairkit.repair.selection import GUARD_CONFIDENCE
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import GRADIENT_COST

PART = "alternatives"
THRESHOLD, GROUP_THRESHOLDS, LAST_LAYER, WHOLE_NETWORK = "threshold", "group_thresholds", "last_layer", "whole_network"
HARDENED = "adversarially_trained"
LEARNING_RATES = (1e-4, 3e-4)
EPOCHS = 3
"""Of fine-tuning the whole network: each learning rate is run for so many epochs, and the network after each of them is a candidate."""
RECALL, SOURCE = "mean recall", "source accuracy"
KEPT_AS_IT_WAS = "no setting won recall within the guard, so the network stays as it was given"


@dataclass(frozen=True, eq=False)
class Tried:
    """One alternative on one fold.

    Attributes:
        key: column of the report.
        images: labelled images that it learned from or was chosen on.
        passes, seconds: what fitting and choosing cost, without its evaluation.
        chosen: the setting, in words.
        left_out: why it could not be had, in words; "" where it could.
        as_given: no setting gained within the guard, so that it is the network as it was given.
        right: bool (N,), who is right on the target's report images of this fold; None where it was left out or is judged elsewhere.
        source_right: bool (M,), the same on the source's.
    """

    key: str
    images: int
    passes: float
    seconds: float
    chosen: str = ""
    left_out: str = ""
    as_given: bool = False
    right: Booleans | None = None
    source_right: Booleans | None = None


@dataclass(frozen=True, eq=False)
class Fold:
    """A network, the images of one fold, and what it says to those that choose and report.

    Attributes:
        classifier: the network as it was given.
        target, source: all images.
        split, source_split: their parts.
        target_logits, source_logits: float64 (all images, classes); those of the attribute part may be NaN.
        run: books passes under "alternatives", and stores what was fitted.
        seed: of this fold.
        threshold: that was chosen for everybody, where there are two classes; 0 is that of the network as it was given.
    """

    classifier: Classifier
    target: LabelledImages
    source: LabelledImages
    split: Split
    source_split: Split
    target_logits: Logits
    source_logits: Logits
    run: Run
    seed: int
    threshold: float = 0.0

    @property
    def learned_from(self) -> tuple[LabelledImages, LabelledImages]:
        """Attribution images of target and source."""
        return self.target.subset(self.split.attribute), self.source.subset(self.source_split.attribute)

    @property
    def chosen_on(self) -> tuple[LabelledImages, LabelledImages]:
        """Choose images of target and source."""
        return self.target.subset(self.split.choose), self.source.subset(self.source_split.choose)

    @property
    def images(self) -> int:
        """How many images learn and choose, of target and source."""
        return sum(map(len, (*self.learned_from, *self.chosen_on)))

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """Of each image that is learned from, target before source: groups count alike, and target and source do."""
        target, source = self.learned_from
        return (SubgroupRecall().on(target) + Accuracy().on(source)).weights

    def scored(self, said: npt.NDArray[np.int64], source_said: npt.NDArray[np.int64]) -> Scored:
        """A network that says this to the choose images."""
        target, source = self.chosen_on
        before = self.source_logits[self.source_split.choose].argmax(1) == source.labels
        return score(said == target.labels, target.groups, source_said == source.labels, before, GUARD_CONFIDENCE)

    @property
    def as_given(self) -> Scored:
        """The network as it was given, on the choose images."""
        return self.scored(self.target_logits[self.split.choose].argmax(1), self.source_logits[self.source_split.choose].argmax(1))

    def outputs(self, classifier: Classifier, images: LabelledImages) -> npt.NDArray[np.int64]:
        """What a network says to images, booked here."""
        return predict(classifier, images, self.run)

    def judged(self, classifier: Classifier | None) -> tuple[Booleans, Booleans]:
        """Who is right on the report images by a network, or where there is none by the one that was given."""
        target, source = self.target.subset(self.split.report), self.source.subset(self.source_split.report)
        if classifier is None:
            said, source_said = self.target_logits[self.split.report].argmax(1), self.source_logits[self.source_split.report].argmax(1)
        else:
            said, source_said = self.outputs(classifier, target), self.outputs(classifier, source)
        return said == target.labels, source_said == source.labels


def passes_of(classes: int, split: Split, source: Split) -> float:
    """Image passes that all alternatives of one fold make."""
    learned, chosen, report = (len(getattr(split, part)) + len(getattr(source, part)) for part in ("attribute", "choose", "report"))
    thresholds = len(split.attribute) if classes == 2 else 0
    last_layer = learned + chosen + report
    tuned = len(LEARNING_RATES) * EPOCHS * (GRADIENT_COST * learned + chosen) + report
    return float(thresholds + last_layer + tuned)


def alternatives_of(fold: Fold) -> list[Tried]:
    """Every alternative on this fold; those that cannot be had say why."""
    with fold.run.phase(PART):
        return [*thresholds(fold), last_layer(fold), whole_network(fold)]


def thresholds(fold: Fold) -> list[Tried]:
    """What the moved threshold costs, which is judged beside the repair in any case, and the thresholds of each group."""
    if len(fold.target.classes) != 2:
        why = f"it is a rule for two classes, and there are {len(fold.target.classes)}"
        return [Tried(key, 0, 0.0, 0.0, left_out=why) for key in (THRESHOLD, GROUP_THRESHOLDS)]
    attribute = fold.split.attribute
    logits = fold.target_logits.copy()
    began = time.perf_counter()
    logits[attribute] = predict_logits(fold.classifier, fold.target.subset(attribute), fold.run)
    a_pass = (time.perf_counter() - began) / len(attribute)
    chosen_on = sum(map(len, fold.chosen_on))
    moved = Tried(THRESHOLD, chosen_on, float(chosen_on), chosen_on * a_pass, as_given=fold.threshold == 0)
    began = time.perf_counter()
    try:
        rule, made_equal = _group_thresholds(fold, logits[:, 1] - logits[:, 0])
    except RepairkitError as error:
        return [moved, Tried(GROUP_THRESHOLDS, 0, 0.0, 0.0, left_out=str(error))]
    fitted_on = len(attribute) + len(fold.split.choose)
    seconds = fitted_on * a_pass + time.perf_counter() - began
    target, source = fold.target.subset(fold.split.report), fold.source.subset(fold.source_split.report)
    unknown = int((~rule.sensitive.known(source.groups)).sum())
    about = f"{CONSTRAINTS[made_equal]} in the groups {', '.join(value or 'the rest' for value in rule.sensitive.values)}"
    if unknown:
        about += f"; {unknown:,} of {len(source):,} source report images are of other groups and keep the network's own answer"
    right, source_right = (
        rule.predict(said[:, 1] - said[:, 0], images.groups, seed=fold.seed) == images.labels
        for said, images in ((fold.target_logits[fold.split.report], target), (fold.source_logits[fold.source_split.report], source))
    )
    return [moved, Tried(GROUP_THRESHOLDS, fitted_on, float(fitted_on), seconds, about, right=right, source_right=source_right)]


def _group_thresholds(fold: Fold, margins: npt.NDArray[np.float64]) -> tuple[GroupThresholds, str]:
    """Fitted on the attribution images, what is made equal is what does best on the choose images; fitted again on both."""
    images, attribute, choose = fold.target, fold.split.attribute, fold.split.choose

    def fitted(constraint: str, rows: npt.NDArray[np.int64]) -> GroupThresholds:
        return GroupThresholds(margins[rows], images.labels[rows], images.groups[rows], constraint=constraint)

    def recall(constraint: str) -> float:
        right = fitted(constraint, attribute).predict(margins[choose], images.groups[choose], seed=fold.seed) == images.labels[choose]
        return float(np.mean([right[images.groups[choose] == name].mean() for name in images.group_names]))

    constraint = max(CONSTRAINTS, key=recall)
    return fitted(constraint, np.concatenate([attribute, choose])), constraint


def last_layer(fold: Fold) -> Tried:
    """The last layer refitted on the attribution images, by the penalty that does best on the choose images."""
    passes = float(fold.images)
    try:
        head = Head(fold.classifier)
        with full_memory(fold.run.settings.batch):
            saved = fold.run.cached(LAST_LAYER, lambda: _fitted(fold, head), ARRAYS)
    except RepairkitError as error:
        return Tried(LAST_LAYER, fold.images, 0.0, 0.0, left_out=str(error))
    number, seconds, scores = int(saved.pop("number")), float(saved.pop("seconds")), saved.pop("scores")
    refitted = None
    if number:
        head.layer.load_state_dict({name: torch.from_numpy(value) for name, value in saved.items()})
        refitted = head.replace_in(fold.classifier, head.layer)
    right, source_right = fold.judged(refitted)
    penalties = [f"penalty {strength:g}" for strength in STRENGTHS]
    about = penalties[number - 1] if number else KEPT_AS_IT_WAS + beyond(_scored(scores), ["", *penalties], gain=RECALL, guarded=SOURCE)
    return Tried(LAST_LAYER, fold.images, passes, seconds, about, as_given=not number, right=right, source_right=source_right)


def _fitted(fold: Fold, head: Head) -> Arrays:
    """The last layer that does best on the choose images, its number among the penalties (0: as it was given), how all did, and seconds."""
    began = time.perf_counter()
    parts, batch = fold.learned_from, fold.run.settings.batch
    features = torch.cat([entered for images in parts for entered in _entering(fold, head, images, batch)])
    labels = np.concatenate([images.labels for images in parts])
    layers = [head.layer]
    for strength in STRENGTHS:
        fold.run.ledger.progress("last layer", 0, 0)
        layers.append(refit(head, features, labels, fold.weights, strength=strength, start=layers[-1]))
    said: list[list[npt.NDArray[np.int64]]] = []
    for images in fold.chosen_on:
        answers = [
            torch.stack([head.after(layer(entered.double())).argmax(1) for layer in layers[1:]]).cpu().numpy()
            for entered in _entering(fold, head, images, batch)
        ]
        said.append(list(np.concatenate(answers, axis=1)))
    scored = [fold.as_given, *(fold.scored(own, source) for own, source in zip(*said, strict=True))]
    number = best(scored, fold.run.settings.max_clean_drop)
    weights = {name: value.cpu().numpy() for name, value in layers[number].state_dict().items()}
    return weights | {"number": np.array(number), "scores": _numbers(scored), "seconds": np.array(time.perf_counter() - began)}


def _numbers(scored: Sequence[Scored]) -> npt.NDArray[np.float64]:
    """As rows that can be kept, shape (k, 3)."""
    return np.array([(each.gained, each.accuracy, each.fall) for each in scored])


def _scored(rows: npt.NDArray[np.float64]) -> list[Scored]:
    """Rows that were kept, as they were."""
    return [Scored(*map(float, row)) for row in rows]


def _entering(fold: Fold, head: Head, images: LabelledImages, batch: int) -> Iterator[torch.Tensor]:
    """What enters the last layer, booked."""
    for features in head.features(fold.classifier, images, batch):
        fold.run.spend(len(features))
        fold.run.ledger.progress("last layer", 0, 0)
        yield features


def whole_network(fold: Fold) -> Tried:
    """All weights trained on the attribution images, drawn by their weight; learning rate and epochs are those that do best on the choose images."""
    passes = len(LEARNING_RATES) * EPOCHS * (GRADIENT_COST * sum(map(len, fold.learned_from)) + sum(map(len, fold.chosen_on)))
    try:
        with full_memory(fold.run.settings.batch):
            runs = [fold.run.cached(f"{WHOLE_NETWORK}-{rate:g}", partial(_run, fold, rate), ARRAYS) for rate in LEARNING_RATES]
    except RepairkitError as error:
        return Tried(WHOLE_NETWORK, fold.images, 0.0, 0.0, left_out=str(error))
    number = best([fold.as_given, *(_scored(run["scores"])[int(run["epoch"])] for run in runs)], fold.run.settings.max_clean_drop)
    tuned, about = None, ""
    if not number:
        every = [each for run in runs for each in _scored(run["scores"])[1:]]
        named = [f"epoch {epoch} at {rate:g}" for rate in LEARNING_RATES for epoch in range(1, EPOCHS + 1)]
        about = KEPT_AS_IT_WAS + beyond([fold.as_given, *every], ["", *named], gain=RECALL, guarded=SOURCE)
    else:
        run = runs[number - 1]
        weights = {name.removeprefix("network."): value for name, value in run.items() if name.startswith("network.")}
        tuned = fold.classifier.with_weights({name: torch.from_numpy(value) for name, value in weights.items()})
        epochs = int(run["epoch"])
        about = f"{epochs} epoch{'s' if epochs > 1 else ''} of at most {EPOCHS} at a learning rate of {LEARNING_RATES[number - 1]:g}"
    right, source_right = fold.judged(tuned)
    seconds = sum(float(run["seconds"]) for run in runs)
    return Tried(WHOLE_NETWORK, fold.images, passes, seconds, about, as_given=not number, right=right, source_right=source_right)


def _run(fold: Fold, rate: float) -> Arrays:
    """Fine-tuning at one learning rate: the weights (`network.`) after the best epoch within the guard, its number (0: none), all scores, and seconds."""
    learned = sum(map(len, fold.learned_from))
    began = time.perf_counter()
    scores = [fold.as_given]
    states: dict[int, dict[str, npt.NDArray[np.float64]]] = {0: {}}

    def look(epoch: int, now: Classifier) -> None:
        scores.append(fold.scored(*(fold.outputs(now, images) for images in fold.chosen_on)))
        if (taken := best(scores, fold.run.settings.max_clean_drop)) == epoch:
            states.clear()
            states[taken] = {f"network.{key}": value.cpu().numpy() for key, value in now.network.state_dict().items()}

    finetune(
        fold.classifier,
        concatenate(*fold.learned_from),
        epochs=EPOCHS,
        learning_rate=rate,
        seed=fold.seed,
        weights=fold.weights,
        on_epoch=look,
        progress=_telling(fold.run, f"fine-tuning at {rate:g}", GRADIENT_COST * learned * EPOCHS),
    )
    fold.run.spend(GRADIENT_COST * learned * EPOCHS)
    ((epoch, state),) = states.items()
    return state | {
        "epoch": np.array(epoch),
        "scores": _numbers(scores),
        "seconds": np.array(time.perf_counter() - began),
    }


def _telling(run: Run, what: str, planned: float) -> Callable[[int, int, object], None]:
    return lambda step, steps, _epoch: run.ledger.progress(what, planned * step / steps, planned)
