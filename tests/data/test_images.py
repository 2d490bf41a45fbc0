import hashlib
import pickle

import numpy as np
import pytest
import torch

from repairkit.data.images import ChosenPixels, LabelledImages, hash_pixels
from repairkit.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)


def images(**changes):
    fields = {
        "pixels": PIXELS,
        "labels": np.array([0, 1, 1, 0, 2]),
        "groups": np.array(["b", "a", "b", "a", "c c"]),
        "classes": ("x", "y", "z"),
        "name": "tiny",
        "sources": ("0.png", "1.png", "2.png", "3.png", "4.png"),
    }
    return LabelledImages(**(fields | changes))


def test_batch_is_channels_first_in_unit_range():
    batch = images().batch(np.array([3, 0]))
    assert batch.dtype == torch.float32
    assert batch.shape == (2, 3, 6, 4)
    for row, index in enumerate((3, 0)):
        for channel in range(3):
            np.testing.assert_allclose(batch[row, channel].numpy(), PIXELS[index, :, :, channel] / 255, rtol=1e-6)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_batch_does_not_touch_the_pixels(tmp_path):
    PIXELS.tofile(tmp_path / "pixels")
    read_only = np.memmap(tmp_path / "pixels", np.uint8, "r", shape=PIXELS.shape)
    images(pixels=read_only).batch(np.array([0, 1])).zero_()
    np.testing.assert_array_equal(read_only, PIXELS)


def test_subset_keeps_everything_in_the_order_asked_for():
    whole = images(drawn=True, origins=np.array(["a", "b", "c", "d", "e"]))
    some = whole.subset([4, 1], name="part")
    assert (len(some), some.name, some.classes, some.drawn) == (2, "part", whole.classes, True)
    assert some.labels.tolist() == [2, 1]
    assert some.groups.tolist() == ["c c", "a"]
    assert some.sources == ("4.png", "1.png")
    np.testing.assert_array_equal(some.pixels, PIXELS[[4, 1]])
    np.testing.assert_array_equal(some.hashes, whole.hashes[[4, 1]])
    assert some.origins.tolist() == ["e", "b"]
    assert whole.subset([0]).name == "tiny"


def test_parts_of_a_memory_map_stay_on_disk_also_for_other_processes(tmp_path):
    many = np.random.default_rng(0).integers(0, 256, size=(500, 20, 20, 3), dtype=np.uint8)
    many.tofile(tmp_path / "pixels")
    kept = np.memmap(tmp_path / "pixels", np.uint8, "r", shape=many.shape)
    settings = {"labels": np.zeros(500, int), "groups": np.full(500, "a"), "sources": ()}
    part = images(pixels=kept, **settings).subset(np.arange(400)[::-1]).subset([5, 0, 7])
    sent = pickle.dumps(part.pixels)
    assert len(sent) < 1000
    for pixels in (part.pixels, pickle.loads(sent)):  # noqa: S301 - made here
        np.testing.assert_array_equal(pixels, many[[394, 399, 392]])
        np.testing.assert_array_equal(pixels[1, 3], many[399, 3])
        np.testing.assert_array_equal(pixels[:, :4, 0], many[[394, 399, 392], :4, 0])
        assert (len(pixels), pixels.shape) == (3, (3, 20, 20, 3))
    many[399] = 0
    many.tofile(tmp_path / "pixels")
    assert part.batch(np.array([1])).abs().max() == 0  # read when asked for
    later = ChosenPixels(kept[100:], np.array([2]))  # no map of its own: sent as it is
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(later)), many[[102]])  # noqa: S301


def test_hashes_are_of_the_pixels():
    expected = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in PIXELS]
    assert images().hashes.tolist() == hash_pixels(PIXELS).tolist() == expected
    assert hash_pixels(PIXELS[:, ::-1])[0] == hashlib.sha256(PIXELS[0, ::-1].tobytes()).hexdigest()[:16]
    given = np.array(["a", "b", "c", "d", "e"])
    assert images(hashes=given).hashes is given


def test_names():
    assert images().group_names == ("a", "b", "c c")
    assert images().describe(1) == "1.png"
    assert images(sources=()).describe(1) == "image 1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": PIXELS[:0]}, "expected at least one image, found none"),
        ({"pixels": PIXELS.astype(np.float32)}, r"got float32 \(5, 6, 4, 3\)"),
        ({"pixels": PIXELS[..., :2]}, r"got uint8 \(5, 6, 4, 2\)"),
        ({"labels": np.array([0, 1])}, "5 images but 2 labels and 5 groups"),
        ({"groups": np.array(["a"])}, "5 images but 5 labels and 1 groups"),
        ({"labels": np.array([0, 1, 3, 0, 1])}, r"label 3 of 2.png is outside the 3 classes \('x', 'y', 'z'\)"),
        ({"labels": np.array([0, -1, 3, 0, 1])}, "label -1 of 1.png is outside"),
        ({"labels": np.array([0, 1, 1, 7, 1]), "sources": ()}, "label 7 of image 3 is outside"),
        ({"sources": ("one.png",)}, "5 images but 1 sources, 0 hashes and 0 origins"),
        ({"hashes": np.array(["a", "b"])}, "5 images but 5 sources, 2 hashes and 0 origins"),
    ],
)
def test_what_does_not_fit(changes, message):
    with pytest.raises(DataError, match=f"^tiny: .*{message}") as error:
        images(**changes)
    assert "\n" not in str(error.value)
