"""A threshold for each group by fairlearn: people are told apart by group when they are judged, and no weight is touched."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from repairkit.alternatives.base import AlternativeResult, Description, Fold
from repairkit.alternatives.threshold import attribution_logits
from repairkit.attacks.generate import Booleans
from repairkit.errors import DataError, ModelError, RepairkitError
from repairkit.evaluation.splits import Split
from repairkit.shapley.game import Floats

DESCRIPTION = Description(
    "group_thresholds",
    "Thresholds by group",
    "fairlearn's ThresholdOptimizer on the network's margins, with a threshold or two for each group. It must know the group of every image, "
    "apart from the label. It draws some answers at random (once here, from the seed), and keeps no guard on the source.",
    changes_weights=False,
    group_at_run_time=True,
)

CONSTRAINTS = {
    "equalized_odds": "equal recall of both classes",
    "true_positive_rate_parity": "equal recall of the second class",
    "true_negative_rate_parity": "equal recall of the first class",
}
"""What fairlearn may make equal over groups, in words: recalls by group and label, all or half of them."""
OBJECTIVE = "balanced_accuracy_score"
_WORDS = re.compile(r"[\s_\-/,;|]+")


def cost(split: Split, source: Split, classes: int) -> float:
    """None: it takes the logits that the moved threshold pays for."""
    return 0.0


def evaluate(fold: Fold) -> AlternativeResult:
    """Fitted on the attribution images; the constraint is what does best on the selection images."""
    classes = len(fold.target.classes)
    if classes != 2:
        return AlternativeResult(DESCRIPTION.key, left_out=f"it is a rule for two classes, and there are {classes}")
    attribution, a_pass = attribution_logits(fold)
    logits = fold.target_logits.copy()
    logits[fold.split.attribute] = attribution
    began = time.perf_counter()
    try:
        rule, constraint = _fit(fold, logits[:, 1] - logits[:, 0])
    except RepairkitError as error:
        return AlternativeResult(DESCRIPTION.key, left_out=str(error))
    images = len(fold.split.attribute) + len(fold.split.choose)
    seconds = images * a_pass + time.perf_counter() - began
    target, source = fold.target.subset(fold.split.report), fold.source.subset(fold.source_split.report)
    chosen = f"{CONSTRAINTS[constraint]} in the groups {', '.join(value or 'the rest' for value in rule.sensitive.values)}"
    if unknown := int((~rule.sensitive.known(source.groups)).sum()):
        chosen += f"; {unknown:,} of {len(source):,} source test images are of other groups and keep the network's own answer"
    right, source_right = (
        rule.predict(answers[:, 1] - answers[:, 0], images.groups, seed=fold.seed) == images.labels
        for answers, images in ((fold.target_logits[fold.split.report], target), (fold.source_logits[fold.source_split.report], source))
    )
    return AlternativeResult(DESCRIPTION.key, images, float(images), seconds, chosen, right=right, source_right=source_right)


def _fit(fold: Fold, margins: Floats) -> tuple[GroupThresholds, str]:
    """Fitted on attribution and selection images, after the constraint was selected."""
    images, attribution, selection = fold.target, fold.split.attribute, fold.split.choose

    def fitted(constraint: str, rows: npt.NDArray[np.int64]) -> GroupThresholds:
        return GroupThresholds(margins[rows], images.labels[rows], images.groups[rows], constraint=constraint)

    def recall(constraint: str) -> float:
        answers = fitted(constraint, attribution).predict(margins[selection], images.groups[selection], seed=fold.seed)
        right = answers == images.labels[selection]
        return float(np.mean([right[images.groups[selection] == name].mean() for name in images.group_names]))

    constraint = max(CONSTRAINTS, key=recall)
    return fitted(constraint, np.concatenate([attribution, selection])), constraint


class SensitiveFeature:
    """What is left of group names once the words that give the label away are struck out.

    A group of a repair may hold the label: "darker women" is a skin and a gender, and the network is asked for the gender. A threshold for
    each such group would know the answer. So every word that occurs with one label only is struck out of the names. What is left, "darker",
    is the sensitive feature, if it tells images apart and each of its values holds both labels.

    Args:
        groups: shape (N,), names of images that may be fitted on.
        labels: shape (N,), 0 or 1.

    Raises:
        DataError: nothing is left that tells images apart, or what is left holds one label only.

    Example:
        >>> sensitive = SensitiveFeature(["darker men", "darker women", "lighter men", "lighter women"], [0, 1, 0, 1])
        >>> sensitive.values, sensitive.of(["darker women", "white women"]).tolist()
        (('darker', 'lighter'), ['darker', ''])
        >>> SensitiveFeature(["men", "women"], [0, 1])
        Traceback (most recent call last):
        repairkit.errors.DataError: the group names say nothing but the label ...
    """

    def __init__(self, groups: Sequence[str] | npt.NDArray[np.str_], labels: Sequence[int] | npt.NDArray[np.int64]) -> None:
        names = np.asarray(groups).tolist()
        seen: dict[str, set[int]] = defaultdict(set)
        for name, label in zip(names, np.asarray(labels).tolist(), strict=True):
            for word in _words(name):
                seen[word].add(label)
        self._struck = {word for word, found in seen.items() if len(found) == 1}
        self.values = tuple(sorted({self._left(name) for name in names}))
        if len(self.values) < 2:
            raise DataError(
                f"the group names say nothing but the label ({', '.join(sorted(set(names)))}), so that no group is left to have a threshold of its "
                "own; name what else tells people apart in every group, as in 'darker women'"
            )
        values = np.array([self._left(name) for name in names])
        for value in self.values:
            if len(np.unique(np.asarray(labels)[values == value])) < 2:
                single = ", ".join(sorted({name for name in names if self._left(name) == value}))
                raise DataError(
                    f"the images of {single} hold one class only, so that no threshold of theirs can serve both; "
                    "give images of the other class in a group named alike"
                )

    def of(self, groups: Sequence[str] | npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
        """The value of each image, shape (N,); "" where its group's name leaves none of the `values`."""
        return np.array([left if (left := self._left(name)) in self.values else "" for name in np.asarray(groups).tolist()])

    def known(self, groups: Sequence[str] | npt.NDArray[np.str_]) -> Booleans:
        """Whether the name of each image's group leaves one of the `values`; bool (N,)."""
        return np.array([self._left(name) in self.values for name in np.asarray(groups).tolist()], dtype=np.bool_)

    def _left(self, name: str) -> str:
        return " ".join(word for word in _words(name) if word not in self._struck)


def _words(name: str) -> list[str]:
    return [word for word in _WORDS.split(name.lower()) if word]


class GroupThresholds:
    """fairlearn's `ThresholdOptimizer` on the margins of a network that stays unchanged.

    A constraint makes recall of one class, or of both, equal over the groups. Of all rules that keep the constraint, it takes the one of
    highest balanced accuracy on the images it was fitted on. Where thresholds cannot make recalls equal, some answers are random: drawn once, from the seed.

    Args:
        margins: shape (N,), logit of class 1 minus logit of class 0.
        labels: shape (N,), 0 or 1.
        groups: shape (N,), subgroup names.
        constraint: one of `CONSTRAINTS`.

    Raises:
        DataError: shapes that disagree, labels other than 0 and 1, or group names that leave no sensitive feature (`SensitiveFeature`).
        ModelError: a margin is NaN or infinite.

    Source: Hardt, Price and Srebro (2016), Equality of Opportunity in Supervised Learning.

    Example:
        >>> groups = np.array(["x men", "x women", "y men", "y women"] * 3)
        >>> rule = GroupThresholds(np.array([-1.0, 1.0, 1.0, 3.0] * 3), np.array([0, 1] * 6), groups)
        >>> rule.predict([0.5, 0.5], ["x women", "y women"], seed=0).tolist()
        [1, 0]
    """

    def __init__(
        self, margins: npt.ArrayLike, labels: npt.NDArray[np.int64], groups: npt.NDArray[np.str_], *, constraint: str = "equalized_odds"
    ) -> None:
        from fairlearn.postprocessing import ThresholdOptimizer
        from sklearn.linear_model import LogisticRegression

        if not len(np.atleast_1d(margins)) == len(labels) == len(groups) > 0:
            raise DataError(f"expected a margin, label and group for each image, got {np.shape(margins)}, {len(labels)} and {len(groups)}")
        if not np.isin(labels, (0, 1)).all():
            raise DataError("expected labels of 0 and 1, got others; thresholds belong to tasks of two classes")
        self.sensitive = SensitiveFeature(groups, labels)
        as_it_is = LogisticRegression()  # the identity: fairlearn takes scores from an estimator alone
        as_it_is.coef_, as_it_is.intercept_, as_it_is.classes_ = np.ones((1, 1)), np.zeros(1), np.array([0, 1])
        self._rule = ThresholdOptimizer(
            estimator=as_it_is, constraints=constraint, objective=OBJECTIVE, prefit=True, predict_method="decision_function"
        )
        self._rule.fit(_column(margins), labels, sensitive_features=self.sensitive.of(groups))

    def predict(self, margins: npt.ArrayLike, groups: Sequence[str] | npt.NDArray[np.str_], *, seed: int) -> npt.NDArray[np.int64]:
        """The class of each image, int64 (N,); the network's own where the group has no threshold."""
        values = np.asarray(margins, dtype=np.float64)
        answers = (values > 0).astype(np.int64)
        known = self.sensitive.known(groups)
        if known.any():
            answers[known] = self._rule.predict(
                _column(values[known]), sensitive_features=self.sensitive.of(groups)[known], random_state=seed
            )
        return answers


def _column(margins: npt.ArrayLike) -> npt.NDArray[np.float64]:
    column = np.asarray(margins, dtype=np.float64).reshape(-1, 1)
    if not np.isfinite(column).all():
        raise ModelError(f"expected finite margins, got {int((~np.isfinite(column)).sum())} that are not; check the model's logits")
    return column
