from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import labelled

from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, UsageError
from repairkit.objectives import Accuracy, AttackSuccess, ClassRecall, LogLoss, Probability, RecallGap, SubgroupRecall

GROUPS = ("a", "b", "b", "c", "c", "c", "a", "c")
LOGITS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
LABELS = torch.where(torch.arange(8) % 3 == 0, LOGITS.argmin(dim=1), LOGITS.argmax(dim=1))
ALL = (
    Accuracy(),
    AttackSuccess(),
    ClassRecall(1),
    SubgroupRecall(),
    RecallGap("a", "c"),
    LogLoss(floor=0.05),
    Probability(AttackSuccess()),
    Probability(ClassRecall(0)),
    Probability(SubgroupRecall()),
    Probability(RecallGap("a", "b")),
)


def literal_score(objective, logits: np.ndarray, label: int) -> float:
    if isinstance(objective, LogLoss):
        exponentials = np.exp(logits - logits.max())
        return float(-np.log(max(exponentials[label] / exponentials.sum(), objective.floor)))
    if isinstance(objective, Probability):
        return float(1 / (1 + np.exp(max(np.delete(logits, label)) - logits[label])))
    return float(int(np.argmax(logits)) == label)


def literal_metric(objective, scores: np.ndarray, images: LabelledImages) -> float:
    """The number that a reader knows under the objective's name."""
    groups = images.groups
    means = {group: float(np.mean([s for s, g in zip(scores, groups, strict=True) if g == group])) for group in sorted(set(groups))}
    if isinstance(objective, Probability):
        objective = objective.objective
    if isinstance(objective, ClassRecall):
        return float(np.mean([s for s, label in zip(scores, images.labels.tolist(), strict=True) if label == objective.label]))
    if isinstance(objective, SubgroupRecall):
        return sum(means.values()) / len(means)
    if isinstance(objective, RecallGap):
        return means[objective.favoured] - means[objective.disadvantaged]
    return float(np.mean(scores))


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_weights_times_scores_are_the_metric(objective):
    images = labelled(8, groups=GROUPS)
    scores = objective.score(LOGITS, LABELS).numpy()
    expected = np.array([literal_score(objective, row, label) for row, label in zip(LOGITS.numpy(), LABELS.tolist(), strict=True)])
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert np.ptp(expected) > 0
    assert float(objective.weights(images) @ scores) == pytest.approx(literal_metric(objective, expected, images))
    assert scores.min() >= objective.bounds[0]
    assert scores.max() <= objective.bounds[1] + 1e-9


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_the_surrogate_is_smooth_and_in_the_units_of_the_score(objective):
    logits = LOGITS.clone().requires_grad_()
    torch.autograd.gradcheck(lambda x: objective.surrogate(x, LABELS), (logits,))
    certain = torch.full((4, 4), -40.0).fill_diagonal_(40.0)
    for labels in (torch.arange(4), torch.tensor([1, 2, 3, 0])):
        difference = objective.surrogate(certain, labels) - objective.score(certain, labels)
        if not isinstance(objective, LogLoss):
            assert float(difference.abs().max()) < 1e-6  # a certain network scores the same on both
        else:
            assert float(difference.min()) >= 0  # unclipped


def test_a_tie_goes_to_the_first_class_as_argmax_does():
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]])
    assert Accuracy().score(logits, torch.tensor([0, 1])).tolist() == [1, 1]
    assert Accuracy().score(logits, torch.tensor([1, 2])).tolist() == [0, 0]


def test_small_groups_count_as_much_as_large_ones():
    images = labelled(8, groups=GROUPS)
    weights = SubgroupRecall().weights(images)
    for group in "abc":
        assert weights[images.groups == group].sum() == pytest.approx(1 / 3)
    gap = RecallGap("b", "c").weights(images)
    assert [gap[images.groups == group].sum() for group in "abc"] == pytest.approx([0, 1, -1])


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Accuracy(), -1),
        (SubgroupRecall(), -1),
        (RecallGap("a", "b"), 1),
        (LogLoss(), 1),
        (AttackSuccess(), 1),
        (ClassRecall(1), -1),
        (Probability(RecallGap("a", "b")), 1),
        (Probability(AttackSuccess()), 1),
        (Probability(Accuracy()), -1),
    ],
    ids=repr,
)
def test_which_sign_of_a_value_is_harmful(objective, expected):
    total = objective.on(labelled(6))
    assert total.harmful == expected
    assert (-1 * total).harmful == -expected
    assert (Accuracy().on(labelled(6)) - 0.5 * LogLoss().on(labelled(6))).harmful == -1


@pytest.mark.parametrize("wrap", [lambda objective: objective, Probability], ids=["hard", "smooth"])
def test_attack_success_minus_clean_accuracy_is_one_objective(wrap):
    """Label of an adversarial image: the target. A filter that helps the attack or hurts clean images has a positive value."""
    attacked, clean = labelled(6, name="attacked"), labelled(4, seed=1, name="clean")
    objective = wrap(AttackSuccess()).on(attacked) - wrap(Accuracy()).on(clean)
    assert objective.harmful == 1
    assert objective.bounds == (0.0, 1.0)
    assert objective.scale == pytest.approx(2)
    np.testing.assert_allclose(objective.weights, [1 / 6] * 6 + [-1 / 4] * 4)
    with pytest.raises(UsageError, match="no sign of a value is harmful"):
        _ = (wrap(AttackSuccess()).on(attacked) + wrap(Accuracy()).on(clean)).harmful


def test_weighted_sums_add_and_keep_natural_units():
    target, source = labelled(6, name="target"), labelled(9, seed=1, name="source")
    objective = SubgroupRecall().on(target) + 2 * Accuracy().on(source) - 0.5 * LogLoss(floor=0.01).on(target)
    assert len(objective) == 21
    assert objective.offsets.tolist() == [0, 6, 15, 21]
    expected = np.concatenate([SubgroupRecall().weights(target), 2 * np.full(9, 1 / 9), -0.5 * np.full(6, 1 / 6)])
    np.testing.assert_allclose(objective.weights, expected)
    assert objective.scale == pytest.approx(3.5)
    assert objective.bounds == (0.0, -np.log(0.01))
    assert repr(objective) == "SubgroupRecall() on target + 2 * Accuracy() on source + -0.5 * LogLoss(floor=0.01) on target"


def test_an_objective_without_weight_is_refused():
    with pytest.raises(UsageError, match="every factor is 0"):
        _ = 0 * Accuracy().on(labelled(3))


def test_bad_settings_are_named():
    with pytest.raises(DataError, match=r"tiny has no image of the group 'z'; its groups are a, b"):
        RecallGap("a", "z").weights(labelled(6))
    images = labelled(6)
    with pytest.raises(DataError, match=r"tiny has no image of the class 'female' among its \d; give images of it"):
        ClassRecall(0).weights(images.subset(np.flatnonzero(images.labels == 1)))
    for label in (-1, 2):
        with pytest.raises(DataError, match=rf"tiny has 2 classes, so labels 0 to 1; got {label}"):
            ClassRecall(label).weights(images)
    for floor in (0.0, 1.0, -0.1):
        with pytest.raises(UsageError, match="expected a floor between 0 and 1"):
            LogLoss(floor=floor)
