import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared_data import DATA, needs

from repairkit.data import folders as imagenet
from repairkit.data.classes import find_class, imagenet_classes
from repairkit.data.decoding import Crop
from repairkit.errors import DataError, DataWarning, UsageError

SYNSETS = ("n01443537", "n02056570", "n02125311")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "images"


def draw(path, value=0, mode="L", size=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def shades(images):
    return images.pixels[:, 4, 4, 0].astype(int).tolist()


def flat(folder, lines, *, file="val_annotations.txt", inner="images", images=3):
    for index in range(images):
        draw(folder / inner / f"val_{index}.png", 40 * index)
    (folder / file).write_text(lines)


def load(root, **options):
    return imagenet.load(root, **{"size": 8, "cache": root.parent / "cache"} | options)


def test_class_folders_are_sorted_as_image_folder_sorts_them(root):
    for synset, inner in zip(SYNSETS, ("b", "a", "images/deep"), strict=True):
        draw(root / synset / f"{inner}.png")
    draw(root / SYNSETS[0] / "a.JPEG")
    (root / SYNSETS[0] / "boxes.txt").write_text("no image")
    draw(root / SYNSETS[0] / "._a.JPEG")
    (root / "readme.txt").write_text("not about images")
    images = load(root)
    assert images.classes == SYNSETS
    assert images.sources == (f"{SYNSETS[0]}/a.JPEG", f"{SYNSETS[0]}/b.png", f"{SYNSETS[1]}/a.png", f"{SYNSETS[2]}/images/deep.png")
    assert images.labels.tolist() == [0, 0, 1, 2]
    assert images.groups.tolist() == [SYNSETS[0], SYNSETS[0], *SYNSETS[1:]]
    assert len(set(images.origins[1:].tolist())) == 1  # the same bytes in three files, so a split keeps them together


@pytest.mark.parametrize("file", ["classes.tsv", "LOC_synset_mapping.txt"])
@pytest.mark.parametrize("beside", [True, False], ids=["in the root", "beside the part"])
def test_a_list_of_classes_gives_order_and_names(root, file, beside):
    for index, synset in enumerate(SYNSETS):
        draw(root / "val" / synset / "1.png", 40 * index)
    names = ("goldfish, Carassius auratus", "king, penguin", "king, cougar")
    rows = [(SYNSETS[2], names[2]), ("n09999999", "not here"), (SYNSETS[0], names[0]), (SYNSETS[1], names[1])]
    (root / file).write_text("".join(f"{synset}{chr(9) if file.endswith('tsv') else ' '}{text}\n" for synset, text in rows))
    images = load(root / "val" if beside else root)
    assert images.classes == ("king, cougar", "not here", "goldfish", "king, penguin")
    assert images.labels.tolist() == [2, 3, 0]
    assert shades(images) == [0, 40, 80]
    assert images.groups.tolist() == ["goldfish", "king, penguin", "king, cougar"]


def test_a_class_that_the_list_does_not_have(root):
    for synset in SYNSETS:
        draw(root / synset / "1.png")
    (root / "classes.tsv").write_text(f"{SYNSETS[0]}\tgoldfish\n{SYNSETS[1]}\tpenguin\n")
    with pytest.raises(DataError, match=r"have the class n02125311, which is not in its list of 2 classes"):
        load(root)
    (root / "classes.tsv").write_text(f"{SYNSETS[0]}\tgoldfish\n{SYNSETS[0]}\tpenguin\n")
    with pytest.raises(DataError, match=r"lists 2 classes, 1 of them twice"):
        load(root)


def test_words_name_classes_but_do_not_order_them(root):
    for synset in SYNSETS:
        draw(root / synset / "1.png")
    (root / "words.txt").write_text(
        "".join(f"{synset}\tname of {synset}\n" for synset in (SYNSETS[1], "n00000001", SYNSETS[0], SYNSETS[2]))
    )
    assert load(root).classes == tuple(f"name of {synset}" for synset in SYNSETS)


def test_parts_are_pooled_where_asked_for(root):
    for part, value in (("train", 0), ("val", 100)):
        for synset in SYNSETS:
            draw(root / part / synset / "1.png", value)
    assert shades(load(root)) == [100] * 3
    pooled = load(root, parts=("train", "val"))
    assert pooled.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert pooled.sources[3] == f"val/{SYNSETS[0]}/1.png"
    with pytest.raises(DataError, match=r"expected a folder at .*test holding class folders"):
        load(root, parts=("val", "test"))


@pytest.mark.parametrize(
    ("file", "lines", "classes"),
    [
        ("val_annotations.txt", "val_2.png\tb\t0\t0\t62\t62\nval_0.png\ta\t1\t2\t3\t4\nval_1.png\tb\t0\t0\t1\t1\n", ("a", "b")),
        ("val.txt", "val_0.png 0\nval_1.png 1\nval_2.png 1\n", ("0", "1")),
        ("truth.txt", f"val_0 {SYNSETS[0]}\nval_1 {SYNSETS[1]}\n\nval_2 {SYNSETS[1]}\n", SYNSETS[:2]),
        (
            "LOC_val_solution.csv",
            f"ImageId,PredictionString\nval_0,{SYNSETS[0]} 85 1 499 272 \nval_1,{SYNSETS[1]} 1 2 3 4 {SYNSETS[1]} 5 6 7 8\nval_2,{SYNSETS[1]} 0 0 1 1\n",
            SYNSETS[:2],
        ),
        (
            "labels.tsv",
            "file\tclass\nimages/val_0.png\tice bear\nimages/val_1.png\tking penguin\nimages/val_2.png\tking penguin\n",
            ("ice bear", "king penguin"),
        ),
    ],
)
@pytest.mark.parametrize("inner", ["images", ".", "ILSVRC2012_img_val"])
def test_the_flat_layout(root, file, lines, classes, inner):
    flat(root, lines, file=file, inner=inner)
    images = load(root)
    assert images.classes == classes
    assert images.labels.tolist() == [0, 1, 1]
    assert shades(images) == [0, 40, 80]


def test_numbers_are_columns(root):
    flat(root, "val_0.png 3\nval_1.png 0\nval_2.png 3\n")
    assert load(root).classes == ("0", "1", "2", "3")
    images = load(root, classes=("w", "x", "y", "z"))
    assert images.classes == ("w", "x", "y", "z")
    assert images.groups.tolist() == ["z", "w", "z"]
    with pytest.raises(DataError, match=r"expected numbers of classes in 0 .. 2, found 3 .* they count from 0"):
        load(root, classes=("x", "y", "z"))
    (root / "classes.tsv").write_text("n1\tone, 1\nn2\ttwo\nn3\tthree\nn4\tfour\n")
    assert load(root).groups.tolist() == ["four", "one", "four"]
    flat(root, "val_0.png 999\nval_1.png 0\nval_2.png 340\n")
    (root / "classes.tsv").unlink()
    assert load(root).groups.tolist() == ["toilet tissue", "tench", "zebra"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("val_0.png a\nval_1.png\n", r"expected a file and its class in line 2 of .*val_annotations.txt, got 'val_1.png'"),
        ("490\n361\n", r"holds only numbers, .*LOC_val_solution.csv"),  # the development kit's
        ("val_0.png a\nval_7.png b\n", r"val_annotations.txt lists val_7.png in line 2, which is not in"),
        ("val_0.png a\nval_1.png b\nval_0.png b\n", r"gives val_0.png the class a and, in line 3, b"),
        ("val_0.png a\nval_1.png a\nval_2.png a\n", r"expected images of at least two classes in .*, found only a"),
    ],
)
def test_an_annotation_file_that_does_not_fit(root, lines, message):
    flat(root, lines)
    with pytest.raises(DataError, match=message):
        load(root)


def test_an_annotation_file_that_is_no_text_or_one_of_two(root):
    flat(root, "")
    (root / "val_annotations.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"cannot read .*val_annotations.txt"):
        load(root)
    (root / "other.csv").write_text("val_0.png,a\nval_1.png,b\nval_2.png,b\n")
    with pytest.raises(DataError, match=r"expected one annotation file in .*, found other.csv, val_annotations.txt"):
        load(root)
    assert load(root, annotations=root / "other.csv").classes == ("a", "b")


def test_images_that_are_not_listed_are_told_of(root):
    flat(root, "val_0.png a\nval_2.png b\n")
    with pytest.warns(DataWarning, match=r"skipped 1 images that .*val_annotations.txt does not list"):
        assert load(root).labels.tolist() == [0, 1]


@pytest.mark.parametrize("made", ["nothing", "images alone", "one class", "a text alone"])
def test_neither_layout(root, made):
    root.mkdir()
    if made == "images alone":
        draw(root / "1.png")
    if made == "one class":
        draw(root / SYNSETS[0] / "1.png")
    if made == "a text alone":
        (root / "val_annotations.txt").write_text("1.png a\n")
    with pytest.raises(DataError, match=r"expected class folders .* or images with one annotation file .* found neither") as caught:
        load(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("per_class", "kept"), [(1, ["00"]), (2, ["00", "09"]), (4, ["00", "03", "06", "09"]), (50, [f"{i:02}" for i in range(10)])]
)
def test_per_class_spreads_evenly(root, per_class, kept):
    for index in range(10):
        draw(root / "a" / f"{index:02}.png")
    draw(root / "b" / "00.png")
    assert [Path(source).stem for source in load(root, per_class=per_class).sources] == [*kept, "00"]
    with pytest.raises(UsageError, match="at least 1 image per class, got 0"):
        load(root, per_class=0)


@pytest.mark.parametrize(("size", "preset"), [(14, True), (15, False)])
def test_photographs_are_cropped_as_torchvision_does(root, size, preset):
    """A black frame of one pixel around 16 x 16: with the preset it is cut off, if `size` pixels are left."""
    frame = np.full((16, 16), 200, np.uint8)
    frame[[0, -1]] = frame[:, [0, -1]] = 0
    for synset in SYNSETS:
        (root / synset).mkdir(parents=True)
        Image.fromarray(frame).save(root / synset / "1.png")
    assert (load(root, size=size).pixels.min() == 200) == preset
    assert load(root, size=size, crop=Crop()).pixels.min() < 100


def test_a_part_of_the_classes_in_the_network_s_order(root):
    for name in ("zebra", "tench"):
        draw(root / name / "1.png")
    images = load(root, classes=imagenet_classes())
    assert images.labels.tolist() == [0, 340]
    assert len(images.classes) == 1000
    draw(root / "unicorn" / "1.png")
    with pytest.raises(DataError, match=r"the network has 1000 classes .* none is called 'unicorn' \(1 such classes"):
        load(root, classes=imagenet_classes())


@pytest.mark.parametrize(
    ("name", "near"),
    [("zebre", "zebra"), ("police wagon", "police van"), ("king penguins", "king penguin"), ("shark", "great white shark")],
)
def test_a_class_that_does_not_exist_lists_those_near(name, near):
    with pytest.raises(
        UsageError, match=rf"no class is called '{name}'; did you mean .*{near}.*The 1000 classes are tench, goldfish, .* \.\.\."
    ):
        find_class(name, imagenet_classes())


def test_find_class():
    assert find_class("crane", imagenet_classes()) == imagenet_classes().index("crane")
    assert find_class(" Zebra ", ("zebra", "horse")) == 0
    assert find_class("A", ("a", "A")) == 1
    with pytest.raises(UsageError, match=r"no class is called 'x'; none is similar. The 2 classes are a, b"):
        find_class("x", ("a", "b"))


@needs("tiny-imagenet-20")
def test_the_twenty_classes_of_the_shared_data(tmp_path):
    root = DATA / "tiny-imagenet-20"
    images = imagenet.load(root, size=16, parts=("train", "val"), cache=tmp_path)
    assert len(images) == 3600
    assert images.classes[:4] == ("goldfish", "tarantula", "king penguin", "koala")
    assert images.classes[-1] == "police van"
    assert set(Counter(images.groups.tolist()).values()) == {180}
    first = (root / "classes.tsv").read_text().splitlines()[0].split("\t")[0]
    assert {Path(source).parts[1] for source, label in zip(images.sources, images.labels, strict=True) if label == 0} == {first}
    assert len(imagenet.load(root, size=16, cache=tmp_path)) == 1200
    assert len(imagenet.load(root, size=16, per_class=2, cache=tmp_path)) == 40


@needs("imagenet-1000")
def test_the_thousand_classes_of_the_shared_data(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = imagenet.load(DATA / "imagenet-1000", size=8, cache=tmp_path)
    assert images.labels.tolist() == list(range(1000))
    assert images.classes == imagenet_classes()
    zebra = find_class("zebra", images.classes)
    assert "zebra" in images.sources[zebra].lower()
