import hashlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from repairkit.data import loaders
from repairkit.data import synthetic_faces as drawn
from repairkit.data.decoding import Crop
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.splits import check_disjoint


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        Image.new("RGB", (30, 20), (80 * number, 0, 0)).save(tmp_path / name)
    (tmp_path / "list.csv").write_text("path,label,group\na.png,1,x\nb.png,0,y\nc.png,1,y\n")
    return tmp_path


def faces_of(root):
    """UTKFace: age_gender_race_date; gender 0 is male, race 0 white, 1 black."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, (gender, race) in enumerate([(g, r) for g in (0, 1) for r in range(5)]):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"30_{gender}_{race}_2017010{number}000000000.jpg.chip.jpg")


def test_drawn_target_and_source_are_other_faces(monkeypatch):
    monkeypatch.setattr(drawn, "target_faces", partial(drawn.target_faces, per_group=10))
    monkeypatch.setattr(drawn, "source_faces", partial(drawn.source_faces, n=100))
    target, source = loaders.load("drawn"), loaders.load("drawn", source=True)
    assert target.drawn
    assert source.drawn
    assert not set(target.hashes) & set(source.hashes)
    counts = [np.unique(images.groups, return_counts=True)[1] for images in (target, source)]
    assert counts[0].min() == counts[0].max()
    assert counts[1].max() > 4 * counts[1].min()  # the skew it was made for
    assert set(loaders.load("drawn", seed=1).hashes) != set(target.hashes)


@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize("asked", [{"size": 48}, {"size": 0}, {"crop": Crop(0.9, 0.5)}])
def test_drawn_faces_come_in_one_size(asked, source):
    with pytest.raises(UsageError, match=r"^drawn faces come in 96 pixels and whole, got (size|crop) .*; leave out size and crop"):
        loaders.load("drawn", source=source, **asked)


def test_manifest_by_its_ending(folder):
    images = loaders.load(str(folder / "list.csv"), size=8)
    assert (images.pixels.shape, images.labels.tolist(), images.classes) == ((3, 8, 8, 3), [1, 0, 1], ("0", "1"))
    (folder / "lists").mkdir()
    (folder / "list.csv").rename(folder / "lists" / "LIST.CSV")
    assert len(loaders.load(str(folder / "lists" / "LIST.CSV"), root=folder, size=8)) == 3


def test_a_manifest_is_read_by_the_model_s_classes(folder):
    assert loaders.load(str(folder / "list.csv")).pixels.shape == (3, 96, 96, 3)
    images = loaders.load(str(folder / "list.csv"), size=8, classes=("female", "male"))
    assert (images.classes, images.labels.tolist()) == (("female", "male"), [1, 0, 1])
    with pytest.raises(DataError, match="the label '1' in row 1 is none of the 1 classes"):
        loaders.load(str(folder / "list.csv"), size=8, classes=("only",))


def test_a_file_is_known_again_under_another_crop_and_size(folder):
    one, other = (loaders.load(str(folder / "list.csv"), size=size, crop=Crop(share, 0.5)) for size, share in ((8, 0.9), (10, 0.5)))
    assert not set(one.hashes) & set(other.hashes)
    with pytest.raises(DataError, match=r"^target and source share 3 image\(s\)"):
        check_disjoint(target=one, source=other)


@pytest.mark.parametrize("inside", [False, True])
def test_a_root_may_hold_the_data_set_under_its_name(tmp_path, monkeypatch, inside):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    faces_of(tmp_path / "data" / ("utkface" if inside else ""))
    images = loaders.load("utkface", root=tmp_path / "data", size=16)
    assert (len(images), images.pixels.shape[1:3]) == (10, (16, 16))
    files = sorted((tmp_path / "data").rglob("*.jpg"))
    assert images.origins.tolist() == [hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files]


@pytest.mark.parametrize("name", ["ppb", "utkface", "celeba"])
def test_published_data_sets_need_their_folder(name, tmp_path):
    with pytest.raises(UsageError, match=f"the data set {name} needs its folder: give --data-root"):
        loaders.load(name)
    with pytest.raises(DataError, match=r"expected a folder at .*nowhere .*found nothing"):
        loaders.load(name, root=tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["imagenet", "", "list.txt", "PPB"])
def test_an_unknown_name_lists_what_there_is(name):
    with pytest.raises(UsageError, match=r"one of drawn, ppb, utkface, celeba or a .csv or .parquet manifest, got '"):
        loaders.load(name)
