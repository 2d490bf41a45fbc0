from collections import Counter

import numpy as np
import pytest
from PIL import Image
from shared_data import DATA, needs

from repairkit.data import utkface
from repairkit.errors import DataError, DataWarning, UsageError

# name, label (0 female, 1 male), group
FACES = [
    ("16_0_0_20170102234641453.jpg.chip.jpg", 1, "white men"),
    ("25_1_0_20170103201044224.jpg.chip.jpg", 0, "white women"),
    ("30_0_1_20170104003740977.jpg.chip.jpg", 1, "black men"),
    ("31_1_1_20170104003750790.jpg.chip.jpg", 0, "black women"),
    ("44_0_2_20170104012305505.jpg.chip.jpg", 1, "asian men"),
    ("55_0_3_20170116232725357jpg.chip.jpg", 1, "indian men"),  # published like this
    ("61_1_4_20170104230001113.jpg", 0, "other women"),
    ("110_1_0_20170104230001114.PNG", 0, "white women"),
]
MALFORMED = [
    "61_1_20170109142408075.jpg.chip.jpg",  # no race, published like this
    "61_3_20170109150557335.jpg.chip.jpg",
    "39__0_20170116174525125.jpg.chip.jpg",
    "30_2_0_20170116174525125.jpg.chip.jpg",
    "30_1_5_20170116174525125.jpg.chip.jpg",
    "face.jpg",
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "UTKFace"
    folder.mkdir()
    for number, (name, _, _) in enumerate(FACES):
        add(folder, name, 30 * number)
    for name in ("readme.txt", ".hidden.jpg"):
        (folder / name).write_text("no face")
    return folder


def add(folder, name, red=0):
    Image.new("RGB", (20, 20), (red, 0, 0)).save(folder / name)


def test_labels_and_groups_come_from_the_names(root):
    faces = utkface.load(root, size=8)
    assert faces.name == "UTKFace"
    assert faces.classes == ("female", "male")
    assert list(faces.sources) == sorted(name for name, _, _ in FACES)
    order = [[name for name, _, _ in FACES].index(source) for source in faces.sources]
    assert faces.labels.tolist() == [FACES[i][1] for i in order]
    assert faces.groups.tolist() == [FACES[i][2] for i in order]
    assert np.abs(faces.pixels[:, 4, 4, 0].astype(int) - [30 * i for i in order]).max() <= 2


def test_the_parent_folder_will_do(root):
    assert utkface.load(root.parent, size=8).sources == utkface.load(root, size=8).sources


def test_whole_image_by_default(root):
    edge = np.zeros((20, 20, 3), np.uint8)
    edge[0] = 255
    for name, _, _ in FACES:
        Image.fromarray(edge).save(root / name, format="PNG")
    assert utkface.load(root, size=20).pixels[:, 0].min() == 255


@pytest.mark.parametrize(("min_age", "kept"), [(16, {16, 17, 40}), (17, {17, 40}), (0, {9, 16, 17, 40})])
def test_min_age_includes_that_age(tmp_path, min_age, kept):
    for age in (9, 16, 17, 40):
        add(tmp_path, f"{age}_0_0_2017.jpg")
        add(tmp_path, f"{age}_1_0_2017.jpg")
    faces = utkface.load(tmp_path, min_age=min_age, size=8, cache=tmp_path / "cache")
    assert Counter(int(source.split("_")[0]) for source in faces.sources) == dict.fromkeys(kept, 2)


def test_races(root):
    assert set(utkface.load(root, races=("white", "black"), size=8).groups) == {"white men", "white women", "black men", "black women"}
    with pytest.raises(UsageError, match="unknown race 'green'; choose among white, black, asian, indian, other"):
        utkface.load(root, races=("white", "green"))
    with pytest.raises(DataError, match="found none of asian women"):
        utkface.load(root, races=("white", "asian"))


def test_malformed_names_are_skipped_with_one_warning(root):
    for name in MALFORMED:
        add(root, name)
    with pytest.warns(DataWarning) as caught:
        faces = utkface.load(root, size=8)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert f"skipped {len(MALFORMED)} files" in str(caught[0].message)
    assert f"the first is {min(MALFORMED)}" in str(caught[0].message)
    assert len(faces) == len(FACES)


def test_a_filter_may_not_empty_a_group(root):
    with pytest.raises(DataError, match=r"found none of white men; lower min_age \(now 17\)") as error:
        utkface.load(root, min_age=17)
    assert "\n" not in str(error.value)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"UTKFace: expected a folder at .*nowhere"):
        utkface.load(tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(DataError, match=r"expected images named age_gender_race_datetime.* found none; give the folder"):
        utkface.load(tmp_path)


def check_counts(faces):
    assert len(faces) == 12_000
    races = Counter(group.split()[0] for group in faces.groups)
    assert (races["white"], races["black"]) == (6_802, 1_960)


@needs("utkface")
def test_counts(monkeypatch):
    monkeypatch.setattr(utkface, "decode", lambda paths, **_: np.zeros((len(paths), 1, 1, 3), np.uint8))
    check_counts(utkface.load(DATA / "utkface"))


@needs("utkface")
@pytest.mark.extended
def test_every_face_decodes(tmp_path):
    check_counts(utkface.load(DATA / "utkface", size=8, cache=tmp_path))
