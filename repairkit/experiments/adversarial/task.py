"""What an adversarial repair is asked: the adversary, the networks, and which clean images find, choose and report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from repairkit.attacks.methods import PGD
from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.splits import Split, check_disjoint, some, three_way, ungrouped
from repairkit.experiments.adversarial.adversaries import Effort
from repairkit.experiments.fitting import check_fit, check_takes
from repairkit.models.zoo import LoadedModel
from repairkit.repair.choosing import check_guard
from repairkit.run.options import Options

Ranking = Literal["success - accuracy", "success"]
SHARES = (0.3, 0.3, 0.4)
"""Of the clean images, that find, choose and report, unless told otherwise."""
MAX_CLEAN_DROP = 0.03
"""Guard, unless told otherwise: the paper gives up seven points."""
PARTS = ("attribute", "choose", "report")
LEAST = 10
"""Adversarial images of each part that must reach their target for filters to be found against the attack."""


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """Every choice about the adversary; `repairkit.run.options.Options` holds those of finding and choosing.

    Attributes:
        method: the attack that filters are found against.
        ranking: worth whose values rank the filters: "success - accuracy" (attack success minus clean accuracy, the default) or
            "success" (attack success alone, the paper's).
        images: adversarial images that find, choose and report, at most.
        rounds: how often filters are found and frozen; each further round attacks the network that the last one left.
        finetune_epochs: epochs of training on the clean attribution images after each round, the filters staying frozen; undone where they
            break the guard on the clean images that choose.
        frontier: most filters on the frontier of attack success and clean accuracy.
        effort: of the evaluation.

    Raises:
        UsageError: a value out of its range.
    """

    method: PGD = field(default_factory=PGD)
    ranking: Ranking = "success - accuracy"
    images: tuple[int, int, int] = (200, 200, 400)
    rounds: int = 1
    finetune_epochs: int = 0
    frontier: int = 64
    effort: Effort = field(default_factory=Effort)

    def __post_init__(self) -> None:
        if self.ranking not in get_args(Ranking):
            raise UsageError(f"ranking must be {' or '.join(map(repr, get_args(Ranking)))}, got {self.ranking!r}")
        if min(self.images) < LEAST:
            raise UsageError(f"images must be at least {LEAST} that find, choose and report each, got {self.images}")
        if self.method.eps * 255 < 1 - 1e-6:
            raise UsageError(f"stored images have 8 bits, which hold no change below 1/255, got eps {self.method.eps:g}")
        for name, least in (("rounds", 1), ("finetune_epochs", 0), ("frontier", 1)):
            if (number := getattr(self, name)) < least:
                raise UsageError(f"{name} must be at least {least}, got {number}")


@dataclass(frozen=True)
class AdversarialTask:
    """A network, clean images of its classes, and who else takes part in judging the repair.

    Attributes:
        model: the network to repair.
        images: clean, labelled by the columns of its logits.
        carriers: networks of the same classes that images are made against to be carried over to this one.
        elsewhere: images of another data set, attacked and replayed, none of which finds or chooses.
        dropout: the same architecture trained with filter dropout, to compare with.

    Raises:
        DataError: other classes than the network's, images that were seen in training, or an image in both data sets.
        UsageError: a carrier that is the network itself, or a dropout-trained network of another architecture.
        ModelError: a network that cannot take images of this size, or that answers with probabilities or what is not finite.
    """

    model: LoadedModel
    images: LabelledImages
    carriers: tuple[LoadedModel, ...] = ()
    elsewhere: LabelledImages | None = None
    dropout: LoadedModel | None = None

    def __post_init__(self) -> None:
        data = {"report": self.images} | ({} if self.elsewhere is None else {"elsewhere": self.elsewhere})
        check_disjoint(**data)
        if self.dropout is not None and self.dropout.architecture != self.model.architecture:
            raise UsageError(
                f"the dropout-trained network is a {self.dropout.architecture}, the model a {self.model.architecture}; give one of the same architecture"
            )
        if any(each.sha256 == self.model.sha256 for each in self.carriers):
            raise UsageError("a network that images are carried over from is the very one to repair; give another")
        for images in data.values():
            for judged in (self.model, *([self.dropout] if self.dropout else [])):
                check_fit(judged, images)
            for carrier in self.carriers:
                check_takes(carrier, images)

    @property
    def others(self) -> tuple[LoadedModel, ...]:
        """All networks but the one to repair."""
        return (*self.carriers, *([self.dropout] if self.dropout else []))

    @property
    def named_others(self) -> dict[str, LoadedModel]:
        """All networks but the one to repair, by names of which no two are alike."""
        named: dict[str, LoadedModel] = {}
        for each in self.others:
            name = f"{'dropout-trained ' if each is self.dropout else ''}{each.architecture}"
            alike = sum(known.partition(" (")[0] == name for known in named)
            named[f"{name} ({alike + 1})" if alike else name] = each
        return named


def split_of(task: AdversarialTask, options: Options, attacks: AttackOptions) -> Split:
    """The clean images that find, choose and report, stratified by class.

    Raises:
        DataError: too few images, or too few that choose to show that the guard holds.
    """
    shares = options.target_shares
    needed = int(np.ceil(LEAST / min(shares)))
    if len(task.images) < needed:
        raise DataError(
            f"{task.images.name} has {len(task.images)} images, but {needed} are needed: {LEAST} in each part; give more images"
        )
    split = three_way(ungrouped(task.images), shares=shares, seed=options.seed)
    check_guard(len(split.choose), options.max_clean_drop / attacks.rounds, task.images.name)
    return split


def attacked_rows(task: AdversarialTask, split: Split, options: Options, attacks: AttackOptions) -> dict[str, Indices]:
    """Positions of the clean images of each part that are attacked, spread evenly over the classes."""
    images = ungrouped(task.images)
    parts = ((name, getattr(split, name), count) for name, count in zip(PARTS, attacks.images, strict=True))
    return {name: rows[some(images.subset(rows), count, seed=options.seed)] for name, rows, count in parts}
