"""A threshold for each group is fairlearn's own, and never knows the label."""

import numpy as np
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from sklearn.base import BaseEstimator, ClassifierMixin

from repairkit.alternatives.group_thresholds import CONSTRAINTS, GroupThresholds, SensitiveFeature
from repairkit.errors import DataError, ModelError


class AsItIs(ClassifierMixin, BaseEstimator):
    """Scores that were made before."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return np.asarray(X)[:, 0]

    def predict(self, X):
        return (self.decision_function(X) > 0).astype(int)


def faces(n=300, seed=0):
    rng = np.random.default_rng(seed)
    skins, labels = rng.choice(["darker", "lighter"], n), rng.integers(0, 2, n)
    margins = rng.normal(2 * labels - 1 + (skins == "darker"), 1.2)
    return margins, labels, np.array([f"{skin} {('women', 'men')[label]}" for skin, label in zip(skins, labels, strict=True)]), skins


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_the_rule_is_that_of_fairlearn_on_the_skin_alone(constraint):
    margins, labels, groups, skins = faces()
    rule = GroupThresholds(margins, labels, groups, constraint=constraint)
    X = margins[:, None]
    own = ThresholdOptimizer(
        estimator=AsItIs().fit(X, labels), constraints=constraint, objective="balanced_accuracy_score", prefit=True,
        predict_method="decision_function",
    ).fit(X, labels, sensitive_features=skins)  # fmt: skip
    others, _, their_groups, their_skins = faces(seed=1)
    for seed in (0, 7):
        expected = own.predict(others[:, None], sensitive_features=their_skins, random_state=seed)
        np.testing.assert_array_equal(rule.predict(others, their_groups, seed=seed), expected)
    assert (expected != (others > 0)).any()


def test_the_word_for_the_label_changes_no_answer():
    margins, labels, groups, skins = faces()
    rule = GroupThresholds(margins, labels, groups)
    swapped = np.array([f"{skin} {('men', 'women')[label]}" for skin, label in zip(skins, labels, strict=True)])
    np.testing.assert_array_equal(rule.predict(margins, groups, seed=0), rule.predict(margins, swapped, seed=0))
    moved = np.char.replace(np.char.replace(np.char.replace(groups, "darker", "x"), "lighter", "darker"), "x", "lighter")
    assert (rule.predict(margins, groups, seed=0) != rule.predict(margins, moved, seed=0)).any()


def test_who_is_of_no_known_group_keeps_the_networks_answer():
    margins, labels, groups, _ = faces()
    rule = GroupThresholds(margins, labels, groups)
    said = rule.predict([-0.1, 0.1, 0.1], ["white men", "white women", "all"], seed=0)
    assert said.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("groups", "values", "of_first"),
    [
        (["darker men", "darker women", "lighter men", "lighter women"], ("darker", "lighter"), "darker"),
        (["Men_Darker", "women_darker", "men_lighter", "women_lighter"], ("darker", "lighter"), "darker"),
        (["young dark men", "young dark women", "old light men", "old light women"], ("old light", "young dark"), "young dark"),
        (["men", "women", "veiled men", "veiled women"], ("", "veiled"), ""),
        (["darker", "darker", "lighter", "lighter"], ("darker", "lighter"), "darker"),
    ],
)
def test_what_is_left_without_the_label(groups, values, of_first):
    sensitive = SensitiveFeature(groups, [0, 1, 0, 1])
    assert sensitive.values == values
    assert sensitive.of(groups)[0] == of_first
    assert sensitive.known(groups).all()


@pytest.mark.parametrize(
    ("groups", "labels", "message"),
    [
        (["men", "women"], [0, 1], r"say nothing but the label \(men, women\), so that no group is left .*; name what else"),
        (["DM", "DF", "LM", "LF"], [0, 1, 0, 1], "say nothing but the label"),
        (
            ["dark men", "dark women", "asian women"],
            [0, 1, 1],
            "the images of asian women hold one class only, .* give images of the other",
        ),
        (["all", "all"], [0, 1], "say nothing but the label"),
    ],
)
def test_groups_that_leave_nothing_to_tell_apart(groups, labels, message):
    with pytest.raises(DataError, match=message):
        GroupThresholds(np.linspace(-1, 1, len(groups)), np.array(labels), np.array(groups))


def test_errors_say_what_came():
    margins, labels, groups, _ = faces(20)
    with pytest.raises(ModelError, match="expected finite margins, got 1 that are not"):
        GroupThresholds(np.append(margins[1:], np.nan), labels, groups)
    with pytest.raises(DataError, match="labels of 0 and 1, got others"):
        GroupThresholds(margins, labels + 1, groups)
    with pytest.raises(DataError, match="a margin, label and group for each image"):
        GroupThresholds(margins[1:], labels, groups)
