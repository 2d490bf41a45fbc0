from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from repairkit.alternatives.threshold import best_threshold, threshold_curve
from repairkit.errors import DataError, ModelError, UsageError


def literal_point(data: dict[str, Any], threshold: float) -> tuple[float, float]:
    """Mean recall and source accuracy of one threshold, image by image."""
    right = (data["margin"] > threshold) == (data["labels"] == 1)
    recalls = [right[data["groups"] == name].mean() for name in sorted(set(data["groups"]))]
    return float(np.mean(recalls)), float(((data["source_margin"] > threshold) == (data["source_labels"] == 1)).mean())


def literal_best(data: dict[str, Any], max_drop: float) -> float:
    """Every midpoint tried in turn."""
    values = sorted({*data["margin"].tolist(), *data["source_margin"].tolist()})
    candidates = [0.0, *((a + b) / 2 for a, b in pairwise(values))]
    original = literal_point(data, 0.0)[1]
    allowed = [t for t in candidates if original - literal_point(data, t)[1] <= max_drop + 1e-12]
    best = max(literal_point(data, t)[0] for t in allowed)
    return min((t for t in allowed if literal_point(data, t)[0] > best - 1e-12), key=abs)


def random_task(seed: int, *, digits: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    groups = rng.choice(["m dark", "m light", "w dark", "w light"], size=70, p=[0.2, 0.3, 0.1, 0.4])
    labels = np.where(np.char.startswith(groups, "w"), 1, 0)
    shift = np.where(groups == "w dark", -1.2, 0.0)
    source_labels = rng.integers(0, 2, size=90)
    return {
        "margin": np.round(rng.normal(3.0 * labels - 1.5 + shift, 1.3), digits),
        "labels": labels,
        "groups": groups,
        "source_margin": np.round(rng.normal(3.0 * source_labels - 1.5, 1.2), digits),
        "source_labels": source_labels,
    }


@pytest.mark.parametrize("digits", [6, 1])
@pytest.mark.parametrize("max_drop", [0.0, 0.02, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_that_of_trying_every_midpoint(seed, max_drop, digits):
    """One digit makes margins collide between images, groups and data sets."""
    data = random_task(seed, digits=digits)
    choice = best_threshold(**data, max_source_drop=max_drop)
    assert choice.threshold == pytest.approx(literal_best(data, max_drop), abs=1e-12)
    assert (choice.mean_recall, choice.source_accuracy) == pytest.approx(literal_point(data, choice.threshold))
    original = literal_point(data, 0.0)
    assert choice.mean_recall >= original[0] - 1e-12
    assert original[1] - choice.source_accuracy <= max_drop + 1e-12


def shifted_task() -> dict[str, Any]:
    """Margins of the target lie too low, those of the source do not: every gain has a price."""
    data = random_task(0)
    return {**data, "margin": data["margin"] - 2.5}


def test_a_guard_that_binds_costs_recall():
    data = shifted_task()
    free, bound = (best_threshold(**data, max_source_drop=drop) for drop in (1.0, 0.0))
    assert free.mean_recall > bound.mean_recall
    assert free.source_accuracy < bound.source_accuracy


def test_with_confidence_the_guard_holds_for_the_upper_bound():
    data = shifted_task()
    source_right = {}
    bounded = best_threshold(**data, max_source_drop=0.05, confidence=0.9)
    plain = best_threshold(**data, max_source_drop=0.05)
    for t in (0.0, bounded.threshold, plain.threshold):
        source_right[t] = ((data["source_margin"] > t) == (data["source_labels"] == 1)).astype(float)

    def upper(t: float) -> float:
        fall = source_right[0.0] - source_right[t]
        return float(fall.mean() + 1.2816 * fall.std() / len(fall) ** 0.5)

    assert upper(bounded.threshold) <= 0.05
    assert upper(plain.threshold) > 0.05
    assert bounded.mean_recall < plain.mean_recall


def test_equal_thresholds_tie_to_the_one_nearest_to_zero():
    """Anything from -0.9 to 0.9 separates the classes; 0 is among it."""
    choice = best_threshold([-2, -0.9, 0.9, 2], [0, 0, 1, 1], list("abab"), [-1, 1], [0, 1], max_source_drop=0.5)
    assert choice.threshold == 0


def test_the_curve_can_be_had_on_other_images():
    data = random_task(1)
    points = threshold_curve(**data, thresholds=[-1.0, 0.0, 0.7])
    assert [(point.mean_recall, point.source_accuracy) for point in points] == [
        pytest.approx(literal_point(data, t)) for t in (-1.0, 0.0, 0.7)
    ]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"margin": np.array([np.nan, 1.0])}, ModelError, "finite margins, got 1 that are not; check the model's logits"),
        ({"margin": np.array([1.0])}, DataError, r"shapes \(1,\), \(2,\) and \(2,\)"),
        ({"labels": np.array([0, 2])}, DataError, "two classes only"),
        ({"source_margin": np.empty(0), "source_labels": np.empty(0, int)}, DataError, "one or more images"),
        ({"max_source_drop": -0.1}, UsageError, "max_source_drop must not be negative, got -0.1"),
        ({"confidence": 90}, UsageError, "confidence between 0.5 and 1, got 90"),
    ],
)
def test_errors_say_what_came(change, error, message):
    data = {
        "margin": [-1.0, 1.0],
        "labels": [0, 1],
        "groups": ["a", "b"],
        "source_margin": [1.0],
        "source_labels": [1],
        "max_source_drop": 0.02,
    }
    with pytest.raises(error, match=message):
        best_threshold(**{**data, **change})
