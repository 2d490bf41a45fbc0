"""What adversarial experiments ask: the networks, the images, the attack, and whether the attack succeeds at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from repairkit.attacks.generate import AdversarialSet
from repairkit.attacks.methods import PGD
from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.splits import Split, check_disjoint, some, three_way, ungrouped
from repairkit.experiments.fitting import check_fit, check_takes
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import Classifier
from repairkit.network.predict import predict
from repairkit.repair.choosing import check_guard
from repairkit.run.context import Run
from repairkit.run.options import Options

Ranking = Literal["success - accuracy", "success"]
SHARES = (0.3, 0.3, 0.4)
"""Default shares of the clean images for attribution, selection and test."""
MAX_CLEAN_DROP = 0.03
"""Default guard; the paper gives up seven points."""
PARTS = ("attribute", "choose", "report")
LEAST = 10
"""Adversarial images of each part that must reach their target, so that filters can be valued against the attack."""
SUCCEEDS = 0.05
"""An attack succeeds if it takes more than this share of the images to their target. Images that a network takes for their target anyway do not count."""


@dataclass(frozen=True, kw_only=True)
class AttackBudget:
    """How much the evaluating attacks spend; the defaults fit two cores.

    Raises:
        UsageError: one below 1.

    Example:
        >>> AttackBudget(adaptive=0)
        Traceback (most recent call last):
        repairkit.errors.UsageError: adaptive must be at least 1, got 0
    """

    carried: int = 200  # test images for noise and for the attacks on other networks
    adaptive: int = 64  # test images for the adaptive attacks
    restarts: int = 2  # of adaptive PGD, of APGD-T, and of PGD within each bound of the sweep
    queries: int = 500  # of Square
    apgd_steps: int = 30
    apgd_classes: int = 1  # that APGD-T aims at
    checked: int = 16  # images of the sanity checks

    def __post_init__(self) -> None:
        for name, number in vars(self).items():
            if number < 1:
                raise UsageError(f"{name} must be at least 1, got {number}")


PRESETS = {
    "quick": AttackBudget(carried=40, adaptive=12, queries=200, checked=4),
    "standard": AttackBudget(),
    "full": AttackBudget(carried=1000, adaptive=1000, restarts=5, queries=5000, apgd_steps=100, apgd_classes=9, checked=64),
}
"""Quick is for the embedded data, full for a GPU or a night."""


def attack_budget(given: Mapping[str, int], *, thorough: bool, device: str, embedded: bool) -> AttackBudget:
    """The budget of a command or a recipe: full where that is asked for or a GPU is there, and quick for the embedded data on any device.

    Example:
        >>> attack_budget({}, thorough=False, device="cuda", embedded=False) == PRESETS["full"]
        True
        >>> attack_budget({"queries": 7}, thorough=False, device="cuda", embedded=True) == replace(PRESETS["quick"], queries=7)
        True
    """
    full = thorough or (device == "cuda" and not embedded)
    return replace(PRESETS["full" if full else "quick" if embedded else "standard"], **given)


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """Every choice about the attack; `repairkit.run.options.Options` holds those of attribution and selection.

    Raises:
        UsageError: a value out of its range.
    """

    method: PGD = field(default_factory=PGD)  # the attack that filters are valued against
    ranking: Ranking = "success - accuracy"  # objective; "success" is the paper's
    images: tuple[int, int, int] = (200, 200, 400)  # adversarial images for attribution, selection and test, at most
    rounds: int = 1  # a further round attacks the network that the last one left
    finetune_epochs: int = 0  # after each round; undone where they break the guard on the selection images
    frontier: int = 64  # most filters on the trade-off curve
    effort: AttackBudget = field(default_factory=AttackBudget)  # of the evaluation

    def __post_init__(self) -> None:
        if self.ranking not in get_args(Ranking):
            raise UsageError(f"ranking must be {' or '.join(map(repr, get_args(Ranking)))}, got {self.ranking!r}")
        if min(self.images) < LEAST:
            raise UsageError(f"images must be at least {LEAST} in each part, got {self.images}")
        if self.method.eps * 255 < 1 - 1e-6:
            raise UsageError(f"stored images have 8 bits, which hold no change below 1/255, got eps {self.method.eps:g}")
        for name, least in (("rounds", 1), ("finetune_epochs", 0), ("frontier", 1)):
            if (number := getattr(self, name)) < least:
                raise UsageError(f"{name} must be at least {least}, got {number}")


@dataclass(frozen=True)
class AttackTask:
    """A network, clean images of its classes, and what else takes part in the evaluation.

    Raises:
        DataError: other classes than the network's, images that were seen in training, or an image in both data sets.
        UsageError: a transfer model that is the network itself, or a dropout-trained network of another architecture.
        ModelError: a network that cannot take images of this size, or that answers with probabilities or what is not finite.
    """

    model: LoadedModel
    images: LabelledImages  # clean, labelled by the columns of the network's logits
    carriers: tuple[LoadedModel, ...] = ()  # transfer models: networks of the same classes
    elsewhere: LabelledImages | None = None  # images of another data set, for evaluation alone
    dropout: LoadedModel | None = None  # the same architecture trained with filter dropout, to compare with

    def __post_init__(self) -> None:
        data = {"report": self.images} | ({} if self.elsewhere is None else {"elsewhere": self.elsewhere})
        check_disjoint(**data)
        if self.dropout is not None and self.dropout.architecture != self.model.architecture:
            raise UsageError(
                f"the dropout-trained network is a {self.dropout.architecture}, the model a {self.model.architecture}; give one of the same architecture"
            )
        if any(model.sha256 == self.model.sha256 for model in self.carriers):
            raise UsageError("a transfer model is the network to repair itself; give another")
        for images in data.values():
            for model in (self.model, *([self.dropout] if self.dropout else [])):
                check_fit(model, images)
            for model in self.carriers:
                check_takes(model, images)

    @property
    def others(self) -> tuple[LoadedModel, ...]:
        """All networks but the one to repair."""
        return (*self.carriers, *([self.dropout] if self.dropout else []))

    @property
    def named_others(self) -> dict[str, LoadedModel]:
        """All networks but the one to repair, by names of which no two are alike."""
        named: dict[str, LoadedModel] = {}
        for model in self.others:
            name = f"{'dropout-trained ' if model is self.dropout else ''}{model.architecture}"
            alike = sum(known.partition(" (")[0] == name for known in named)
            named[f"{name} ({alike + 1})" if alike else name] = model
        return named


def split_of(task: AttackTask, options: Options, attacks: AttackOptions) -> Split:
    """The clean images for attribution, selection and test, stratified by class.

    Raises:
        DataError: too few images, or too few selection images to show that the guard holds.
    """
    shares = options.target_shares
    needed = math.ceil(LEAST / min(shares))
    if len(task.images) < needed:
        raise DataError(
            f"{task.images.name} has {len(task.images)} images, but {needed} are needed: {LEAST} in each part; give more images"
        )
    split = three_way(ungrouped(task.images), shares=shares, seed=options.seed)
    check_guard(len(split.choose), options.max_clean_drop / attacks.rounds, task.images.name)
    return split


def attacked_rows(task: AttackTask, split: Split, options: Options, attacks: AttackOptions) -> dict[str, Indices]:
    """Positions of the clean images of each part that are attacked, spread evenly over the classes."""
    images = ungrouped(task.images)
    parts = ((name, getattr(split, name), count) for name, count in zip(PARTS, attacks.images, strict=True))
    return {name: rows[some(images.subset(rows), count, seed=options.seed)] for name, rows, count in parts}


def exclude_prior_hits(classifier: Classifier, adversarial: AdversarialSet, clean: LabelledImages, run: Run) -> AdversarialSet:
    """The adversarial images less those that the network takes for their target without an attack: with few classes a mistake often does."""
    prior = predict(classifier, clean, run) == adversarial.targets
    return adversarial.subset(np.flatnonzero(~prior))


def attack_succeeds(sets: Sequence[AdversarialSet]) -> bool:
    """Whether the attack reaches its target on a twentieth of all these images, however few they are."""
    return sum(int(adversarial.hit.sum()) for adversarial in sets) > SUCCEEDS * sum(map(len, sets))


def missing_hits(sets: Sequence[AdversarialSet]) -> str:
    """Where too few images of a part reach their target, how many do and how many would have to be attacked; else ""."""
    hits = [int(adversarial.hit.sum()) for adversarial in sets]
    if min(hits) >= LEAST:
        return ""
    rate = sum(hits) / sum(map(len, sets))
    counts = " and ".join(f"{hit} of {len(adversarial)}" for hit, adversarial in zip(hits, sets, strict=True))
    return (
        f"the attack takes {counts} images to their target, and attribution needs {LEAST} in each part: "
        f"at this rate ({100 * rate:.0f} %) attack {math.ceil(LEAST / rate)} or more in each"
    )


def check_hits(sets: Sequence[AdversarialSet], name: str) -> None:
    """Enough images of a network that the attack succeeds on reach their target.

    Raises:
        DataError: too few do; says how many must be attacked.
    """
    if reason := missing_hits(sets):
        raise DataError(f"{name}: {reason}; give more images, or attack more of them (--attack-images)")
