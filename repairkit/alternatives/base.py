"""An alternative to a repair: what it is, what it is fitted on, and which of its settings is taken under the guard of the repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from repairkit.attacks.generate import Booleans
from repairkit.data.images import LabelledImages
from repairkit.evaluation.metrics import MEAN, SOURCE
from repairkit.evaluation.splits import Split
from repairkit.evaluation.statistics import paired_drop_bound
from repairkit.network.classifier import Classifier
from repairkit.network.predict import Logits, predict
from repairkit.objectives import Accuracy, SubgroupRecall
from repairkit.repair.selection import GUARD_CONFIDENCE
from repairkit.run.context import Run
from repairkit.shapley.game import Floats

PART = "alternatives"
"""The phase in which everything here is booked."""
UNCHANGED = "no setting gained within the guard, so the network stays unchanged"


@dataclass(frozen=True)
class Description:
    """What a report says of an alternative.

    Attributes:
        key: its column.
        explanation: what it is and what it needs.
        training_data: it needs the data that the network was trained on.
        changes_weights: the network gets other weights.
        group_at_run_time: it must know the group of every image that it classifies.
    """

    key: str
    label: str
    explanation: str
    training_data: bool = False
    changes_weights: bool = True
    group_at_run_time: bool = False


@dataclass(frozen=True, eq=False)
class AlternativeResult:
    """One alternative on one fold.

    Attributes:
        key: its column.
        images: labelled images that it learned from or was selected on.
        passes, seconds: what fitting and selecting cost, without evaluation.
        chosen: the setting, in words.
        left_out: why it could not be had, in words; "" where it could.
        as_given: no setting gained within the guard, so that it is the unchanged network.
        right: bool (N,), which test images of the target it classifies correctly; None where it was left out or is evaluated elsewhere.
        source_right: bool (M,), the same of the source.
    """

    key: str
    images: int = 0
    passes: float = 0.0
    seconds: float = 0.0
    chosen: str = ""
    left_out: str = ""
    as_given: bool = False
    right: Booleans | None = None
    source_right: Booleans | None = None


@dataclass(frozen=True)
class SettingScore:
    """What one setting does to the selection images, all shares."""

    gained: float  # mean recall over the subgroups, or the share of adversarial images whose label is recovered
    accuracy: float  # on the guarded images: the source's, or clean ones
    fall: float  # one-sided upper bound of what the guard bounds, against the unchanged network


@dataclass(frozen=True, eq=False)
class Fold:
    """A network, the images of one fold, and the network's logits on those that select and test.

    Attributes:
        classifier: the original network.
        target, source: all images.
        split, source_split: their parts.
        target_logits, source_logits: float64 (all images, classes); those of the attribution images may be NaN.
        run: books passes, and stores what was fitted.
        seed: of this fold.
        threshold: the moved threshold that was selected, where there are two classes; 0 is that of the original network.
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
        """Selection images of target and source."""
        return self.target.subset(self.split.choose), self.source.subset(self.source_split.choose)

    @property
    def images(self) -> int:
        """How many attribution and selection images there are, of target and source."""
        return sum(map(len, (*self.learned_from, *self.chosen_on)))

    @property
    def weights(self) -> Floats:
        """Of each attribution image, target before source: groups count alike, and target and source do."""
        target, source = self.learned_from
        return (SubgroupRecall().on(target) + Accuracy().on(source)).weights

    def score(self, predicted: npt.NDArray[np.int64], source_predicted: npt.NDArray[np.int64]) -> SettingScore:
        """The score of a network that predicts this on the selection images."""
        target, source = self.chosen_on
        before = self.source_logits[self.source_split.choose].argmax(1) == source.labels
        return score_setting(predicted == target.labels, target.groups, source_predicted == source.labels, before)

    @property
    def unchanged(self) -> SettingScore:
        """The score of the original network."""
        return self.score(self.target_logits[self.split.choose].argmax(1), self.source_logits[self.source_split.choose].argmax(1))

    def evaluate(self, classifier: Classifier | None) -> tuple[Booleans, Booleans]:
        """Which test images a network classifies correctly; None stands for the original one."""
        target, source = self.target.subset(self.split.report), self.source.subset(self.source_split.report)
        if classifier is None:
            answers = self.target_logits[self.split.report].argmax(1), self.source_logits[self.source_split.report].argmax(1)
        else:
            answers = predict(classifier, target, self.run), predict(classifier, source, self.run)
        return answers[0] == target.labels, answers[1] == source.labels


class Alternative(Protocol):
    """A module of an alternative."""

    DESCRIPTION: Description

    def evaluate(self, fold: Fold) -> AlternativeResult:
        """What it does on a fold, or why it cannot be had."""

    def cost(self, split: Split, source: Split, classes: int) -> float:
        """Image passes that it makes on a fold, at most."""


def sizes(split: Split, source: Split) -> tuple[int, int, int]:
    """Attribution, selection and test images of a fold, of target and source together."""
    attribution, selection, test = (len(getattr(split, part)) + len(getattr(source, part)) for part in ("attribute", "choose", "report"))
    return attribution, selection, test


def score_setting(
    right: Booleans, groups: npt.NDArray[np.str_], source_right: Booleans, source_before: Booleans, confidence: float = GUARD_CONFIDENCE
) -> SettingScore:
    """What a setting does to the selection images.

    Args:
        right: shape (N,), which target images are classified correctly.
        groups: shape (N,), their subgroups.
        source_right: shape (M,), the same of the source.
        source_before: shape (M,), the same of the original network.
        confidence: of the bound.

    Example:
        >>> score_setting(np.array([True, False, True]), np.array(["a", "a", "b"]), np.ones(230, bool), np.ones(230, bool))
        SettingScore(gained=0.75, accuracy=1.0, fall=0.00996...)
    """
    recalls = [float(right[groups == name].mean()) for name in np.unique(groups)]
    bound = paired_drop_bound(source_before, source_right, confidence)
    return SettingScore(float(np.mean(recalls)), float(source_right.mean()), bound)


def best_setting(scores: Sequence[SettingScore], allowed: float) -> int:
    """The setting that gains most whose fall stays within what is allowed; of equals the first, and the first where none does.

    Args:
        scores: the unchanged network first.
        allowed: the most that may fall, a share.

    Example:
        >>> best_setting([SettingScore(0.7, 0.95, 0.005), SettingScore(0.9, 0.8, 0.17), SettingScore(0.8, 0.95, 0.009)], 0.01)
        2
    """
    within = [number for number, score in enumerate(scores) if score.fall <= allowed + 1e-12]
    return max(within, key=lambda number: (scores[number].gained, -number), default=0)


def describe_unchanged(scores: Sequence[SettingScore], names: Sequence[str], *, gain: str = MEAN, guarded: str = SOURCE) -> str:
    """That no setting gained within the guard, and what the setting that gained most beyond it did.

    Args:
        scores: the unchanged network first.
        names: the settings but the first, in words.
        gain: what is to be won, in words.
        guarded: what is guarded, in words.

    Example:
        >>> describe_unchanged([SettingScore(0.7, 0.95, 0.005), SettingScore(0.9, 0.8, 0.17)], ["penalty 1"]).partition("; ")[2]
        'beyond it penalty 1 took mean recall from 70.0 to 90.0 % and source accuracy from 95.0 to 80.0 % (bound on the fall: 17.0 points)'
    """
    most = max(range(len(scores)), key=lambda number: (scores[number].gained, -number))
    if not most:
        return UNCHANGED
    before, after = scores[0], scores[most]
    return (
        f"{UNCHANGED}; beyond it {names[most - 1]} took {gain} from {100 * before.gained:.1f} to {100 * after.gained:.1f} % and {guarded} from "
        f"{100 * before.accuracy:.1f} to {100 * after.accuracy:.1f} % (bound on the fall: {100 * after.fall:.1f} points)"
    )


def pack_scores(scores: Sequence[SettingScore]) -> Floats:
    """As rows that can be stored, shape (k, 3)."""
    return np.array([(score.gained, score.accuracy, score.fall) for score in scores])


def unpack_scores(rows: Floats) -> list[SettingScore]:
    """The scores of stored rows."""
    return [SettingScore(*map(float, row)) for row in rows]
