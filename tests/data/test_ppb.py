from collections import Counter

import numpy as np
import pytest
from PIL import Image
from shared_data import DATA, needs

from repairkit.data import ppb
from repairkit.errors import DataError, DataWarning

HEADER = "image_id,filename,gender,fitzpatrick skin type category,bi.fitz,country"
ROWS = [
    "1,0001_1_f_FL.jpg,Female,1,lighter,Finland",
    "2,0002_2_m_FL.jpg,Male,2,lighter,Finland",
    "3,0003_6_f_RW.jpg,Female,6,darker,Rwanda",
    "4,0004_5_m_RW.jpg,Male,5,darker,Rwanda",
    '5,0005_5_m_SA.jpg,Male,5,darker,"Africa, South"',
]
GROUPS = ["lighter women", "lighter men", "darker women", "darker men", "darker men"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "PPB-2017"
    (folder / "imgs").mkdir(parents=True)
    for number, row in enumerate(ROWS):
        Image.new("RGB", (149, 224), (40 * number, 0, 0)).save(folder / "imgs" / row.split(",")[1])
    (folder / "imgs" / "Thumbs.db").write_bytes(b"no image")
    write(folder)
    return folder


def write(folder, rows=ROWS, header=HEADER, end="\r"):
    (folder / ppb.METADATA).write_bytes(end.join([header, *rows]).encode())


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_labels_groups_and_order(root, end):
    write(root, end=end)
    portraits = ppb.load(root, size=8)
    assert portraits.name == "PPB"
    assert portraits.classes == ("female", "male")
    assert portraits.labels.tolist() == [0, 1, 0, 1, 1]
    assert portraits.groups.tolist() == GROUPS
    assert portraits.sources == tuple(row.split(",")[1] for row in ROWS)
    red = portraits.pixels[:, 4, 4, 0].astype(int)
    assert np.abs(red - [0, 40, 80, 120, 160]).max() <= 2


@pytest.mark.parametrize("folder", ["", "imgs", "faces"])
def test_wherever_the_images_are(root, folder):
    (root / "aside").mkdir()
    (root / "aside" / "0001_1_f_FL.jpg").write_bytes(b"a stray copy")
    if folder != "imgs":
        (root / "imgs").rename(root / "faces")
    if folder == "":
        for path in (root / "faces").iterdir():
            path.rename(root / path.name)
    assert len(ppb.load(root, size=8)) == len(ROWS)
    assert len(ppb.load(root.parent, size=8)) == len(ROWS)


def test_default_crop(root):
    # .75 of 149 is a side of 112; its centre is .42 of 224, row 94
    image = np.zeros((224, 149, 3), np.uint8)
    image[38:150, 18:130] = 255
    for row in ROWS:
        Image.fromarray(image).save(root / "imgs" / row.split(",")[1], format="PNG")
    assert ppb.load(root, size=112).pixels.min() == 255
    assert ppb.load(root, size=112, crop=None).pixels.min() == 0


def test_row_without_image(root):
    (root / "imgs" / "0005_5_m_SA.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 5 images .* 0005_5_m_SA\.jpg of row 5"):
        ppb.load(root)
    with pytest.warns(DataWarning, match=r"0005_5_m_SA\.jpg of row 5") as caught:
        portraits = ppb.load(root, allow_missing=True, size=8)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert portraits.groups.tolist() == GROUPS[:4]


def test_missing_images_may_not_empty_a_group(root):
    (root / "imgs" / "0003_6_f_RW.jpg").unlink()
    with (
        pytest.warns(DataWarning, match="1 of 5"),
        pytest.raises(DataError, match="found none of darker women"),
    ):
        ppb.load(root, allow_missing=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": HEADER.replace("bi.fitz", "skin")}, "expected a column 'bi.fitz', found image_id, filename, gender"),
        ({"rows": [*ROWS[:2], "3,0003_6_f_RW.jpg,Female,6,,Rwanda"]}, "the cell of column 'bi.fitz' in row 3 is empty"),
        ({"rows": ["1,0001_1_f_FL.jpg,F,1,lighter,Finland"]}, "in row 1, got 'F' and 'lighter'"),
        ({"rows": ["1,0001_1_f_FL.jpg,Male,1,light,Finland"]}, "in row 1, got 'Male' and 'light'"),
        ({"rows": ROWS[:3]}, "found none of darker men"),
    ],
)
def test_metadata_that_does_not_fit(root, changes, message):
    write(root, **changes)
    with pytest.raises(DataError, match=message) as error:
        ppb.load(root)
    assert "\n" not in str(error.value)


def test_missing_folder_metadata_and_all_images(root, tmp_path):
    with pytest.raises(DataError, match=r"PPB: expected a folder at .*nowhere"):
        ppb.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"PPB: expected PPB-2017-metadata\.csv in .*imgs"):
        ppb.load(root / "imgs")
    for path in (root / "imgs").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"expected the images .* found none; put them in .*imgs"):
        ppb.load(root)


@needs("ppb")
def test_published_counts(tmp_path):
    portraits = ppb.load(DATA / "ppb", size=8, cache=tmp_path)
    assert Counter(portraits.groups.tolist()) == {"lighter men": 386, "lighter women": 295, "darker men": 318, "darker women": 271}
    for source, label, group in zip(portraits.sources, portraits.labels, portraits.groups, strict=True):
        skin_type, gender = source.split("_")[1:3]  # the file name says both again
        assert gender == "fm"[label]
        assert group.startswith("lighter" if int(skin_type) <= 3 else "darker")
