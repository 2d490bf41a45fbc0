import numpy as np
import pytest
import torchvision
from PIL import Image

from repairkit.data import celeba
from repairkit.errors import DataError, UsageError

NAMES = ["5_o_Clock_Shadow", *(f"Attribute_{i}" for i in range(1, 40))]
NAMES[20] = "Male"
FACES = [("000001.jpg", 1, 0), ("000002.jpg", 0, 0), ("000003.jpg", 0, 1), ("000004.jpg", 1, 1), ("000005.jpg", 1, 2), ("000006.jpg", 0, 2)]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    draw = np.random.default_rng(0)
    lines = [str(len(FACES)), " ".join(NAMES)]
    for number, (file, male, _) in enumerate(FACES):
        Image.new("RGB", (178, 218), (40 * number, 0, 0)).save(folder / "img_align_celeba" / file, quality=95)
        values = draw.choice(["-1", "1"], 40)
        values[20] = "1" if male else "-1"
        lines.append(f"{file} " + "".join(f"{value:>3}" for value in values))
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (folder / "list_eval_partition.txt").write_text("".join(f"{file} {part}\n" for file, _, part in FACES))
    return folder


def edit(path, change):
    path.write_text(change(path.read_text()))


def zero_in_line_4(text):
    lines = text.splitlines()
    row = lines[3].split()
    lines[3] = " ".join([*row[:21], "0", *row[22:]])
    return "\n".join(lines)


@pytest.mark.parametrize("split", ["all", "train", "valid", "test"])
def test_the_same_faces_and_labels_as_torchvision(root, split, monkeypatch):
    # torchvision also wants two lists that we do not need
    for name in ("identity_CelebA.txt", "list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
        header = "" if name.startswith("identity") else f"{len(FACES)}\na b c d\n"
        values = " 1" if name.startswith("identity") else " 1 2 3 4"
        (root / name).write_text(header + "".join(f"{file}{values}\n" for file, _, _ in FACES))
    monkeypatch.setattr(torchvision.datasets.CelebA, "_check_integrity", lambda self: True)
    theirs = torchvision.datasets.CelebA(str(root.parent), split=split, target_type="attr")
    ours = celeba.load(root, split=split, size=100, crop=None)
    assert list(ours.sources) == list(theirs.filename)
    assert ours.labels.tolist() == theirs.attr[:, theirs.attr_names.index("Male")].tolist()
    for pixels, (image, _) in zip(ours.pixels, theirs, strict=True):
        assert np.abs(pixels.mean((0, 1)) - np.asarray(image).mean((0, 1))).max() < 1


def test_groups_classes_and_parent_folder(root):
    faces = celeba.load(root.parent, size=8)
    assert faces.name == "CelebA"
    assert faces.classes == ("female", "male")
    assert faces.groups.tolist() == ["men" if male else "women" for _, male, _ in FACES]
    assert faces.labels.tolist() == [male for _, male, _ in FACES]


def test_limit_takes_the_first(root):
    assert celeba.load(root, split="valid", limit=2, size=8).sources == ("000003.jpg", "000004.jpg")
    assert celeba.load(root, limit=3, size=8).sources == ("000001.jpg", "000002.jpg", "000003.jpg")


def test_default_crop_keeps_the_rows_and_columns_it_says(root):
    image = np.zeros((218, 178, 3), np.uint8)
    image[77:184, 36:143] = 255
    for file, _, _ in FACES:
        Image.fromarray(image).save(root / "img_align_celeba" / file, format="PNG")
    assert celeba.load(root, size=107).pixels.min() == 255
    assert celeba.load(root, size=107, crop=None).pixels.min() == 0


def test_partition_is_needed_only_for_a_part(root):
    (root / "list_eval_partition.txt").unlink()
    assert len(celeba.load(root, size=8)) == len(FACES)
    with pytest.raises(DataError, match=r"cannot read .*list_eval_partition\.txt \(No such file"):
        celeba.load(root, split="train")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("list_attr_celeba.txt", lambda text: text[: text.index("000006")], "'6' above 5 rows"),
        ("list_attr_celeba.txt", lambda text: "", "must count the rows below"),
        ("list_attr_celeba.txt", lambda text: text.replace("Male", "Mole"), "attribute Male in line 2"),
        ("list_attr_celeba.txt", lambda text: text.replace("000002.jpg", "000002.jpg 1"), "40 values of -1 or 1 in line 4"),
        ("list_attr_celeba.txt", zero_in_line_4, "40 values of -1 or 1 in line 4"),
        ("list_eval_partition.txt", lambda text: text.replace("2.jpg 0", "2.jpg 7"), "in line 2 .*'000002.jpg 7'"),
        ("list_eval_partition.txt", lambda text: text.replace("000004.jpg 1\n", ""), "does not list 000004.jpg"),
    ],
)
def test_damaged_lists(root, file, change, message):
    edit(root / file, change)
    with pytest.raises(DataError, match=message) as error:
        celeba.load(root, split="train", size=8)
    assert "\n" not in str(error.value)


def test_missing_folders_files_and_images(root, tmp_path):
    with pytest.raises(DataError, match=r"CelebA: expected a folder at .*nowhere holding img_align_celeba.*found nothing"):
        celeba.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"found no list_attr_celeba\.txt; give the folder"):
        celeba.load(root / "img_align_celeba")
    (root / "img_align_celeba" / "000005.jpg").unlink()
    with pytest.raises(DataError, match=r"lists 000005\.jpg, which is not in .*unpack"):
        celeba.load(root)
    assert len(celeba.load(root, split="train", size=8)) == 2


def test_empty_group_and_wrong_arguments(root):
    with pytest.raises(DataError, match="found none of women; raise the limit or choose another split"):
        celeba.load(root, limit=1)
    with pytest.raises(UsageError, match="unknown CelebA split 'dev'; choose one of all, train, valid, test"):
        celeba.load(root, split="dev")
    with pytest.raises(UsageError, match="at least 1 image, got 0"):
        celeba.load(root, limit=0)
