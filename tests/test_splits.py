from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.splits import Split, check_disjoint, draw, rotations, some, three_way


def faces(groups: dict[tuple[str, int], int], *, copies: int = 0, name: str = "faces") -> LabelledImages:
    """Distinct images by (group, label); the first `copies` are there twice, the copy at the end."""
    keys = [key for key, n in groups.items() for _ in range(n)]
    keys += keys[:copies]
    numbers = np.arange(len(keys))
    numbers[len(keys) - copies :] = numbers[:copies]
    pixels = np.zeros((len(keys), 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = numbers % 256, numbers // 256
    return LabelledImages(
        pixels=pixels,
        labels=np.array([label for _, label in keys]),
        groups=np.array([group for group, _ in keys]),
        classes=("man", "woman"),
        name=name,
        sources=tuple(f"{name}_{i}.png" for i in range(len(keys))),
    )


SKEWED = {("a", 0): 131, ("a", 1): 77, ("b", 0): 23, ("b", 1): 9, ("c", 1): 60}


def parts_of(split: Split) -> list[np.ndarray]:
    return [split.attribute, split.choose, split.report]


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [({}, (180, 60, 60)), ({"shares": (0.5, 0.25, 0.25)}, (150, 75, 75)), ({"counts": (40, 150, 60)}, (40, 150, 60))],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_three_way_is_exact_in_size_and_proportional_in_every_stratum(arguments, sizes, seed):
    images = faces(SKEWED)
    parts = parts_of(three_way(images, **arguments, seed=seed))
    assert tuple(len(part) for part in parts) == sizes
    used = np.concatenate(parts)
    assert len(np.unique(used)) == len(used)
    for (group, label), n in SKEWED.items():
        for part in parts:
            inside = ((images.groups[part] == group) & (images.labels[part] == label)).sum()
            assert abs(inside - n * len(part) / len(images)) < 1


def test_three_way_shuffles_within_strata_and_repeats_for_a_seed():
    images = faces(SKEWED)
    again = [three_way(images, seed=seed) for seed in (5, 5, 6)]
    assert all(np.array_equal(one, two) for one, two in zip(parts_of(again[0]), parts_of(again[1]), strict=True))
    assert not np.array_equal(again[0].report, again[2].report)
    # Every image has the same chance to be reported on: 200 seeds, mean .2, standard error .028.
    times = np.zeros(len(images))
    for seed in range(200):
        times[three_way(images, seed=seed).report] += 1
    assert (np.abs(times / 200 - 0.2) < 0.15).all()


@pytest.mark.parametrize("copies", [1, 40, 200])
def test_copies_stay_together(copies):
    images = faces(SKEWED, copies=copies)
    n = len(images)
    splits = [three_way(images, seed=1), three_way(images, counts=(50, 60, 70), seed=2), *rotations(images, 5, seed=3)]
    for split in splits:
        parts = [set(images.hashes[part].tolist()) for part in parts_of(split)]
        assert sum(len(part) for part in parts) == len(set.union(*parts))
        for part in parts_of(split):
            for first in part[part < copies]:
                assert n - copies + first in part
    shares = [len(part) / n for part in parts_of(splits[0])]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.02)


def test_many_copies_of_one_image_overflow_into_one_part_and_every_image_is_placed():
    images = faces({("a", 0): 30})
    images = images.subset([0] * 25 + list(range(1, 30)))
    split = three_way(images, seed=0)
    assert sorted(np.concatenate(parts_of(split)).tolist()) == list(range(54))
    assert sum(bool((part < 25).any()) for part in parts_of(split)) == 1


@pytest.mark.parametrize("folds", [3, 5, 7])
def test_rotations_report_and_choose_every_image_once(folds):
    images = faces(SKEWED, copies=13)
    splits = rotations(images, folds, seed=0)
    assert len(splits) == folds
    for name in ("report", "choose"):
        assert sorted(np.concatenate([getattr(split, name) for split in splits]).tolist()) == list(range(len(images)))
    for split, following in zip(splits, splits[1:] + splits[:1], strict=True):
        assert np.array_equal(split.choose, following.report)
        assert sorted(np.concatenate(parts_of(split)).tolist()) == list(range(len(images)))
        assert Counter(images.groups[split.report].tolist()).keys() == {"a", "b", "c"}


@pytest.mark.parametrize("count", [1, 47, 299])
def test_some_are_proportional_in_every_stratum_and_repeat_for_a_seed(count):
    images = faces(SKEWED)
    chosen = some(images, count, seed=3)
    assert len(chosen) == count
    assert (np.diff(chosen) > 0).all()
    for (group, label), n in SKEWED.items():
        inside = ((images.groups[chosen] == group) & (images.labels[chosen] == label)).sum()
        assert abs(inside - n * count / len(images)) < 1
    np.testing.assert_array_equal(chosen, some(images, count, seed=3))
    if count > 1:
        assert not np.array_equal(chosen, some(images, count, seed=4))


def test_some_stay_the_ones_that_kept_attacks_were_made_on():
    images = faces({("a", 0): 9, ("b", 0): 6})
    assert some(images, 5, seed=3).tolist() == [1, 2, 3, 10, 11]


@pytest.mark.parametrize("count", [300, 1000])
def test_some_are_all_where_there_are_no_more(count):
    assert some(faces(SKEWED), count, seed=0).tolist() == list(range(300))


def test_draw_meets_quotas_and_keeps_copies_out_of_the_rest():
    images = faces({("white men", 0): 50, ("white women", 1): 50, ("black men", 0): 20, ("black women", 1): 20}, copies=60)
    chosen, rest = draw(images, {"white *": 90, "black women": 4}, seed=0)
    drawn = Counter(images.groups[chosen].tolist())
    assert drawn["white men"] + drawn["white women"] == 90
    assert drawn["black women"] == 4
    assert drawn["black men"] == 0
    check_disjoint(train=images.subset(chosen), rest=images.subset(rest))
    expected = set(range(len(images))) - {i for i in range(len(images)) if images.hashes[i] in set(images.hashes[chosen])}
    assert set(rest.tolist()) == expected
    assert np.array_equal(chosen, draw(images, {"white *": 90, "black women": 4}, seed=0)[0])
    assert not np.array_equal(chosen, draw(images, {"white *": 90, "black women": 4}, seed=1)[0])


def test_sets_that_share_an_image_are_named_with_it():
    images = faces({("a", 0): 6})
    other = replace(images.subset([3]), sources=("renamed.png",))
    check_disjoint(train=images.subset([0, 1]), choose=images.subset([2]), report=other)
    with pytest.raises(
        DataError, match=r"^train and report share 1 image\(s\), for instance faces_3.png of train, which is renamed.png of report"
    ):
        check_disjoint(train=images.subset([0, 3]), choose=images.subset([2]), report=other)


def test_sets_that_share_a_file_are_refused_however_it_was_cropped():
    images = replace(faces({("a", 0): 6}), origins=np.array(list("abcdef")))
    cropped = LabelledImages(
        pixels=images.pixels[[4]] + 1,
        labels=images.labels[[4]],
        groups=images.groups[[4]],
        classes=images.classes,
        name="cropped",
        origins=np.array(["b"]),
    )
    assert not set(cropped.hashes) & set(images.hashes)
    with pytest.raises(DataError, match=r"^target and source share 1 image\(s\), for instance image 0 of target, which is faces_1.png of"):
        check_disjoint(target=cropped, source=images)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda images: three_way(images, shares=(0.6, 0.2, 0.2), counts=(1, 1, 1), seed=0), UsageError, "shares or counts, got both"),
        (lambda images: three_way(images, shares=(0.6, 0.2, 0.3), seed=0), UsageError, "sum to 1"),
        (lambda images: three_way(images, shares=(0.8, 0.2, 0.0), seed=0), UsageError, "positive shares"),
        (lambda images: three_way(images, counts=(20, 10, 10), seed=0), DataError, "there are 32 images"),
        (
            lambda images: three_way(images, counts=(28, 2, 2), seed=0),
            DataError,
            "the (choose|report) part has no image of subgroup 'rare' .2 in all",
        ),
        (lambda images: rotations(images, 2, seed=0), UsageError, "at least 3 folds .* got 2"),
        (lambda images: rotations(images, 5, seed=0), DataError, "part . of 5 has no image of subgroup 'rare'"),
        (lambda images: some(images, 0, seed=0), UsageError, "at least 1 image to choose, got 0; give a number of images"),
        (lambda images: draw(images, {"green *": 1}, seed=0), DataError, r"no subgroup matches 'green \*'; there are common, rare"),
        (lambda images: draw(images, {"rare": 3}, seed=0), DataError, "expected 3 images of 'rare', but there are 2"),
        (lambda images: draw(images, {"rare": -1}, seed=0), UsageError, "quota of 0 or more for 'rare', got -1"),
        (lambda images: draw(images, {"r*": 1, "*are": 1}, seed=0), UsageError, r"'rare' matches both 'r\*' and '\*are'"),
    ],
)
def test_errors_name_the_thing(call, error, message):
    with pytest.raises(error, match=message):
        call(faces({("common", 0): 30, ("rare", 1): 2}))
