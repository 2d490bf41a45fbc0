from collections import Counter

import pytest

from repairkit.data import digits
from repairkit.errors import UsageError
from repairkit.evaluation.splits import check_disjoint


def test_the_parts_share_no_digit_and_leave_none_out():
    training, held_out = digits.training_digits(size=16), digits.held_out_digits(size=16)
    assert Counter(training.groups.tolist()) == dict.fromkeys(digits.CLASSES, 60)
    counts = Counter(held_out.groups.tolist())
    assert (len(held_out), min(counts.values()), max(counts.values())) == (1197, 114, 123)
    assert len({*training.sources, *held_out.sources}) == 1797
    check_disjoint(training=training, held_out=held_out)


def test_a_digit_is_the_same_at_any_size():
    small, large = digits.held_out_digits(size=8), digits.held_out_digits(size=20)
    assert large.pixels.shape == (1197, 20, 20, 3)
    assert small.origins.tolist() == large.origins.tolist()
    assert small.sources == large.sources
    assert small.labels.tolist() == large.labels.tolist() == [int(group) for group in large.groups]


def test_they_are_the_digits_of_scikit_learn_in_grey_and_with_grain():
    from sklearn.datasets import load_digits

    loaded, ours = load_digits(), digits.held_out_digits(size=8)
    original = loaded.images[[int(source.split("[")[1].rstrip("]")) for source in ours.sources]] / 16
    expected = digits.PAPER + (digits.INK - digits.PAPER) * original
    grain = ours.pixels - expected[..., None]
    assert abs(grain.mean()) < 0.2
    assert abs(grain.std() - digits.GRAIN) < 0.2
    assert len(set(ours.hashes.tolist())) == len(ours)
    assert digits.held_out_digits(size=8).hashes.tolist() == ours.hashes.tolist()


def test_the_least_size():
    with pytest.raises(UsageError, match="expected digits of at least 8 pixels, got 7"):
        digits.held_out_digits(size=7)
