from collections import Counter

import numpy as np
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
    with pytest.raises(UsageError, match="expected digits of at least 8 pixels, got 7"):
        digits.typed_digits(10, size=7)


# ---- typed digits ----


def levels(images):
    """Ink from 0 to 1 in 8 x 8 squares, without most of the grain."""
    return (np.asarray(images.pixels).mean(axis=3).reshape(len(images), -1) - digits.PAPER) / (digits.INK - digits.PAPER)


def test_who_reads_handwritten_digits_reads_typed_ones():
    handwritten, typed = digits.held_out_digits(size=8), digits.typed_digits(300, size=8, seed=1)
    distances = ((levels(typed)[:, None] - levels(handwritten)[None]) ** 2).sum(axis=2)
    assert (handwritten.labels[distances.argmin(axis=1)] == typed.labels).mean() > 0.65  # chance: .1
    assert typed.drawn
    assert not handwritten.drawn


def test_typed_digits_are_their_own_in_every_typeface_and_fixed_by_the_seed():
    typed = digits.typed_digits(300, size=10, seed=1)
    assert Counter(typed.labels.tolist()) == dict.fromkeys(range(10), 30)
    assert typed.groups.tolist() == [str(label) for label in typed.labels]
    assert len(set(typed.origins.tolist())) == 300
    assert {source.split("(")[1].rstrip(")") for source in typed.sources} == set(digits.TYPEFACES)
    fewer, other = digits.typed_digits(25, size=10, seed=1), digits.typed_digits(25, size=10, seed=2)
    np.testing.assert_array_equal(np.asarray(typed.pixels)[:25], fewer.pixels)
    assert not set(fewer.origins.tolist()) & set(other.origins.tolist())
    assert digits.typed_digits(25, size=20, seed=1).origins.tolist() == fewer.origins.tolist()
    check_disjoint(typed=typed, handwritten=digits.held_out_digits(size=10))


def test_a_typed_digit_has_the_greys_and_the_grain_of_a_handwritten_one():
    pixels = np.asarray(digits.typed_digits(100, size=32, seed=0).pixels).astype(float)
    corner = pixels[:, :2, :2]  # paper, in most
    assert abs(np.median(corner) - digits.PAPER) <= 1
    assert abs(corner.std(axis=(1, 2, 3)).mean() - digits.GRAIN) < 1
    assert digits.INK - 15 < np.percentile(pixels.mean(axis=3), 99) < digits.INK + 15


def test_no_typed_digit_is_an_error():
    with pytest.raises(UsageError, match="expected at least 1 typed digit, got 0; give a number of digits"):
        digits.typed_digits(0)
