import errno
import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from repairkit.data import decoding
from repairkit.data.decoding import Crop, decode, existing_folder, hash_files, require_groups
from repairkit.errors import DataError, UsageError

ORIENTATION = 0x0112  # the EXIF tag


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.mark.parametrize(
    ("share", "height", "size", "box"),
    [
        (1.0, 0.5, (40, 40), (0, 0, 40, 40)),
        (1.0, 0.5, (60, 40), (10, 0, 50, 40)),
        (0.5, 0.5, (40, 60), (10, 20, 30, 40)),
        (0.75, 0.42, (160, 200), (20, 24, 140, 144)),
        (0.5, 0.0, (40, 60), (10, 0, 30, 20)),  # moved down into the image
        (0.5, 1.0, (40, 60), (10, 40, 30, 60)),  # moved up into the image
        (0.01, 0.5, (10, 10), (4, 4, 5, 5)),  # never empty
    ],
)
def test_crop_box(share, height, size, box):
    assert Crop(share=share, height=height).box(*size) == box


@pytest.mark.parametrize("crop", [Crop(), Crop(share=0.75, height=0.42), Crop(share=1 / 3, height=0.1)])
def test_crop_is_parsed_from_what_it_prints(crop):
    assert Crop.parse(str(crop)) == crop


@pytest.mark.parametrize("crop", [None, Crop(), Crop(share=0.6, height=0.3)])
@pytest.mark.parametrize("size", [16, 90])
def test_decode_equals_torchvision(tmp_path, cache, crop, size):
    images = [noise(70, 50), noise(33, 47, seed=1)]
    paths = [save(tmp_path / f"{i}.png", image) for i, image in enumerate(images)]
    pixels = decode(paths, size=size, crop=crop, name="set")
    for image, got in zip(images, pixels, strict=True):
        left, top, right, bottom = crop.box(*image.size) if crop else (0, 0, *image.size)
        expected = vision.resized_crop(image, top, left, bottom - top, right - left, [size, size], InterpolationMode.BICUBIC)
        assert np.array_equal(got, np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path, cache, orientation):
    upright = np.asarray(noise(8, 8))
    undo = {  # what a camera stored, so that the EXIF instruction restores `upright`
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation]))
    path = save(tmp_path / "turned.png", stored, exif=exif)
    assert np.array_equal(decode([path], size=8, name="set")[0], upright)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (4, 4), 70), (70, 70, 70)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("LA", (4, 4), (10, 0)), (255, 255, 255)),
        (Image.new("RGB", (4, 4), (10, 20, 30)).quantize(4), (10, 20, 30)),
    ],
    ids=["grey", "bilevel", "opaque", "transparent", "transparent grey", "palette"],
)
def test_other_modes_become_rgb(tmp_path, cache, image, expected):
    path = save(tmp_path / "image.png", image)
    assert decode([path], size=2, name="set")[0, 0, 0].tolist() == list(expected)


def test_result_is_a_read_only_map_that_the_cache_serves(tmp_path, cache, monkeypatch):
    paths = [save(tmp_path / f"{i}.png", noise(20, 20, seed=i)) for i in range(3)]
    calls = []
    first = decode(paths, size=8, name="set", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert isinstance(first, np.memmap)
    assert first.shape == (3, 8, 8, 3)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoding, "_square", refuse)
    assert np.array_equal(decode(paths, size=8, name="set", progress=refuse), first)
    assert len(list(cache.iterdir())) == 1


def test_whatever_changes_the_pixels_changes_the_key(tmp_path, cache):
    path = save(tmp_path / "a.bmp", noise(20, 20))
    other = save(tmp_path / "b.bmp", noise(20, 20, seed=1))
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    (tmp_path / "folder").mkdir()
    twin = save(tmp_path / "folder" / "a.bmp", noise(20, 20, seed=2))
    os.utime(twin, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    before = decode([path], size=8, name="set")
    variants = [
        decode([other], size=8, name="set"),
        decode([twin], size=8, name="set"),
        decode([path], size=8, crop=Crop(share=0.5), name="set"),
    ]
    save(path, noise(20, 20, seed=3))
    os.utime(path, ns=(1, 1))
    variants.append(decode([path], size=8, name="set"))
    assert all(not np.array_equal(before, variant) for variant in variants)
    assert decode([path, other], size=8, name="set").shape == (2, 8, 8, 3)
    assert np.array_equal(decode([other, path], size=8, name="set")[0], variants[0][0])


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""], ids=["short", "long", "empty"])
def test_a_cached_file_of_wrong_length_is_decoded_again(tmp_path, cache, damage):
    path = save(tmp_path / "a.png", noise(20, 20))
    expected = np.array(decode([path], size=8, name="set"))
    (cached,) = cache.iterdir()
    cached.write_bytes(damage(cached.read_bytes()))
    assert np.array_equal(decode([path], size=8, name="set"), expected)
    assert cached.stat().st_size == expected.size


@pytest.mark.parametrize("damage", [None, lambda text: text[:17], lambda text: ""], ids=["whole", "short", "empty"])
def test_hashes_of_files_are_kept_and_beside_older_caches_made(tmp_path, cache, monkeypatch, damage):
    paths = [save(tmp_path / f"{i}.png", noise(20, 20, seed=i)) for i in range(2)]
    decode(paths, size=8, name="set")  # what is there without hashes of files
    expected = [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths]
    assert hash_files(paths, name="set").tolist() == expected
    (kept,) = cache.glob("*.sha256")
    if damage is None:
        monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read again"))
    else:
        kept.write_text(damage(kept.read_text()))
    assert hash_files(paths, name="set").tolist() == expected


def test_a_stopped_decode_leaves_nothing(tmp_path, cache):
    paths = [save(tmp_path / f"{i}.png", noise(20, 20, seed=i)) for i in range(3)]

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(paths, size=8, name="set", progress=stop)
    assert list(cache.iterdir()) == []


def truncated_jpeg() -> bytes:
    stream = io.BytesIO()
    noise(64, 64).save(stream, "JPEG")
    return stream.getvalue()[:1000]


@pytest.mark.parametrize(
    "content", [b"", b"no image", truncated_jpeg(), b"\x89PNG\r\n\x1a\n" + b"\0" * 40], ids=["empty", "text", "cut", "broken png"]
)
def test_undecodable_files(tmp_path, cache, content):
    good, bad = save(tmp_path / "good.png", noise(20, 20)), tmp_path / "bad.jpg"
    bad.write_bytes(content)
    with pytest.raises(DataError, match=r"^faces: cannot decode .*bad.jpg .*replace it") as error:
        decode([good, bad], size=8, name="faces")
    assert "\n" not in str(error.value)
    assert str(error.value).count(str(bad)) == 1
    assert list(cache.iterdir()) == []


def test_sixteen_bits_are_refused_not_clipped(tmp_path, cache):
    path = save(tmp_path / "deep.png", Image.fromarray(np.full((4, 4), 30_000, np.uint16)))
    with pytest.raises(DataError, match=r"8 bits a channel, .*deep.png"):
        decode([path], size=2, name="set")


def test_files_changed_are_hashed_again_and_missing_files_are_named(tmp_path, cache):
    path = save(tmp_path / "a.png", noise(20, 20))
    before = hash_files([path], name="set")
    save(path, noise(30, 20))
    assert hash_files([path], name="set")[0] != before[0]
    path.unlink()
    with pytest.raises(DataError, match=r"set: .*a.png"):
        hash_files([path], name="set")
    with pytest.raises(DataError, match=r"faces: .*a.png"):
        decode([path], size=8, name="faces")


def test_wrong_use_is_named(tmp_path, cache):
    with pytest.raises(DataError, match="faces: expected at least one image file"):
        decode([], size=8, name="faces")
    with pytest.raises(UsageError, match="at least 1 pixel, got 0"):
        decode([tmp_path / "none.jpg"], size=0, name="faces")
    for text in ("", "0.5", "0.5,0.5,0.5", "a,b", "0,0.5", "1.1,0.5", "0.5,-0.1", "nan,0.5"):
        with pytest.raises(UsageError, match="crop"):
            Crop.parse(text)
    (tmp_path / "file").write_text("")
    for bad, found in (("none", "nothing"), ("file", "a file")):
        with pytest.raises(DataError, match=f"PPB: expected a folder at .*{bad} holding faces, found {found}"):
            existing_folder(tmp_path / bad, name="PPB", holds="faces")
    require_groups(["a", "b", "c"], ["b", "a"], name="PPB", remedy="look again")
    with pytest.raises(DataError, match=r"PPB: .*none of a, c; look again"):
        require_groups(["b"], ["a", "b", "c"], name="PPB", remedy="look again")


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(20, 20))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"faces: .*file.*REPAIRKIT_CACHE"):
        decode([path], size=8, name="faces", cache=tmp_path / "file" / "cache")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(decoding, "replacing", full)
    with pytest.raises(DataError, match="No space left"):
        decode([path], size=8, name="faces", cache=tmp_path / "cache")
