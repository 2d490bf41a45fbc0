import codecs

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from repairkit.data import manifest
from repairkit.errors import DataError, UsageError

HEADER = "path,label,skin,gender"
ROWS = ["a.png,cat,light,men", "b.png,dog,dark,women", "sub/c.png,cat,dark,men"]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "sub").mkdir()
    for number, file in enumerate(("a.png", "b.png", "sub/c.png")):
        Image.new("RGB", (30, 20), (50 * number, 0, 0)).save(tmp_path / file)
    return tmp_path


def write(root, rows=ROWS, header=HEADER, end="\n", encoding="utf-8"):
    path = root / "list.csv"
    path.write_bytes(end.join([header, *rows]).encode(encoding))
    return path


def load(path, **options):
    return manifest.load(path, size=8, **options)


def check(images):
    assert images.classes == ("cat", "dog")
    assert images.labels.tolist() == [0, 1, 0]
    assert images.groups.tolist() == ["light men", "dark women", "dark men"]
    assert images.sources == ("a.png", "b.png", "sub/c.png")
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 50, 100]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("mark", [False, True])
@pytest.mark.parametrize("last", ["", "end"])
def test_csv_of_every_make(root, end, mark, last):
    path = write(root, end=end)
    path.write_bytes((codecs.BOM_UTF8 if mark else b"") + path.read_bytes() + (end.encode() if last else b""))
    check(load(path))


def test_csv_with_spaces_and_quotes(root):
    Image.new("RGB", (30, 20)).save(root / "x, y.png")
    path = write(root, ['"x, y.png" , cat , light , "men"'], "path, label, skin , gender")
    images = load(path)
    assert images.sources == ("x, y.png",)
    assert images.groups.tolist() == ["light men"]


@pytest.mark.parametrize("index", [None, ["x", "y", "z"]])
def test_parquet(root, index):
    frame = pd.DataFrame([row.split(",") for row in ROWS], columns=HEADER.split(","), index=index)
    frame.to_parquet(root / "list.parquet")
    images = load(root / "list.parquet")
    check(images)
    assert images.name == "list"


@pytest.mark.parametrize(
    ("column", "labels", "groups"),
    [
        (pd.Series([1, 0, 1]), [1, 0, 1], ["1 x", "0 x", "1 x"]),
        (pd.Series([1.0, 0.0, 1.0]), [1, 0, 1], ["1 x", "0 x", "1 x"]),
        (pd.Series([1, 0, 1], dtype="Int64"), [1, 0, 1], ["1 x", "0 x", "1 x"]),
        (pd.Series(["1", "0", "1"], dtype="category"), [1, 0, 1], ["1 x", "0 x", "1 x"]),
        (pd.Series([True, False, True]), [1, 0, 1], ["True x", "False x", "True x"]),
    ],
    ids=["integer", "float", "nullable", "category", "boolean"],
)
def test_parquet_column_types(root, column, labels, groups):
    frame = pd.DataFrame({"path": ["a.png", "b.png", "sub/c.png"], "label": column, "g": column, "h": "x"})
    frame.to_parquet(root / "list.parquet")
    images = load(root / "list.parquet")
    assert images.labels.tolist() == labels
    assert images.groups.tolist() == groups


@pytest.mark.parametrize(
    ("group_columns", "groups"),
    [
        (None, ["light men", "dark women", "dark men"]),
        (["gender"], ["men", "women", "men"]),
        (("gender", "skin"), ["men light", "women dark", "men dark"]),
        (["label"], ["cat", "dog", "cat"]),
        ([], ["all", "all", "all"]),
    ],
)
def test_group_columns(root, group_columns, groups):
    assert load(write(root), group_columns=group_columns).groups.tolist() == groups


@pytest.mark.parametrize(
    ("cells", "classes", "names", "labels"),
    [
        (["cat", "dog", "ant"], None, ("ant", "cat", "dog"), [1, 2, 0]),
        (["cat", "dog", "ant"], ("dog", "cat", "ant"), ("dog", "cat", "ant"), [1, 0, 2]),
        (["0", "2", "1"], None, ("0", "1", "2"), [0, 2, 1]),
        (["0", "2", "0"], None, ("0", "1", "2"), [0, 2, 0]),
        (["1", "0", "1"], ("female", "male"), ("female", "male"), [1, 0, 1]),
        (["male", "0", "1"], ("female", "male"), ("female", "male"), [1, 0, 1]),
        (["7", "3", "7"], ("3", "7"), ("3", "7"), [1, 0, 1]),  # names come before positions
    ],
)
def test_labels(root, cells, classes, names, labels):
    path = write(root, [f"{file},{cell}" for file, cell in zip(("a.png", "b.png", "sub/c.png"), cells, strict=True)], "path,label")
    images = load(path, classes=classes)
    assert images.classes == names
    assert images.labels.tolist() == labels


def test_root_and_absolute_paths(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    check(load(write(elsewhere), root=root))
    rows = [f"{root}/a.png,cat,light,men"]
    assert load(write(elsewhere, rows)).sources == (f"{root}/a.png",)


def test_default_crop_is_the_square_at_the_centre(root):
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 5:25] = 255
    Image.fromarray(image).save(root / "a.png")
    path = write(root, ROWS[:1])
    assert load(path).pixels.min() == 255
    assert load(path, crop=None).pixels.min() == 0


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ROWS, "file,label,skin,gender", "expected a column 'path', found file, label, skin, gender"),
        (ROWS, "path;label;skin;gender", "expected 1 cells in row 1, got 4"),
        (ROWS, "path,label,skin,skin", "a different name for each column, got 'path', 'label', 'skin', 'skin'"),
        ([], HEADER, "at least one row"),
        ([], "", "at least one row"),
        ([*ROWS[:2], "sub/c.png,cat,dark"], HEADER, "expected 4 cells in row 3, got 3"),
        ([ROWS[0], "b.png,,dark,women"], HEADER, "column 'label' in row 2 is empty"),
        ([ROWS[0], "b.png,dog,dark, "], HEADER, "column 'gender' in row 2 is empty"),
        ([ROWS[0], "none.png,dog,dark,men", "sub,dog,dark,men"], HEADER, r"none.png of row 2 .* \(2 of 3 images"),
        ([ROWS[0], "b.png,7,dark,men"], HEADER, r"names \('cat' in row 1\) and integers \('7' in row 2\)"),
        (["a.png,0,dark,men", "b.png,-1,dark,men"], HEADER, "the label '-1' in row 2 is none of the 1 classes 0"),
        (["a.png,0,dark,men", "b.png,20170101,dark,men"], HEADER, "the label 20170101 in row 2 would make 20170102 classes"),
    ],
)
def test_contents_that_do_not_fit(root, rows, header, message):
    path = write(root, rows, header)
    with pytest.raises(DataError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("column", ["path", "label", "skin"])
@pytest.mark.parametrize(("cell", "kind"), [(["x", "y"], "ndarray"), ({"a": 1}, "dict"), (pd.Timestamp("2020-01-01"), "Timestamp")])
def test_parquet_cells_that_are_no_text_are_named(root, column, cell, kind):
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["cat", "dog"], "skin": ["light", "dark"]}).astype(object)
    frame[column] = pd.Series([None, cell])
    frame.to_parquet(root / "list.parquet")
    with pytest.raises(DataError, match=rf"column '{column}', got {kind} in row 2"):
        load(root / "list.parquet")


def test_parquet_columns_that_nobody_uses_may_hold_anything(root):
    frame = pd.DataFrame({"path": ["a.png"], "label": ["cat"], "skin": ["light"], "box": [[1, 2]]})
    frame.to_parquet(root / "list.parquet")
    assert load(root / "list.parquet", group_columns=["skin"]).groups.tolist() == ["light"]


def test_empty_parquet_cells(root):
    for missing in (None, float("nan")):
        frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["cat", "dog"], "age": [30, missing]})
        frame.to_parquet(root / "list.parquet")
        with pytest.raises(DataError, match="column 'age' in row 2 is empty"):
            load(root / "list.parquet")


def test_files_that_cannot_be_read(root):
    cases = {
        "none.csv": (None, "expected a CSV or Parquet file at .* found nothing"),
        "sub": (None, "found a folder"),
        "list.xlsx": (b"PK", r"expected a file ending in \.csv or \.parquet, got \.xlsx; convert"),
        "wide.csv": ("path,label\r\n".encode("utf-16"), "cannot be read as CSV .*; save it as comma-separated UTF-8 text"),
        "bad.parquet": (b"no parquet", "cannot be read as Parquet .*; write the file again"),
    }
    for name, (content, message) in cases.items():
        if content is not None:
            (root / name).write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            load(root / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_nearly_as_many_groups_as_images_are_an_oversight(root):
    rows = [f"a.png,cat,{number},{'men' if number % 2 else 'women'}" for number in range(30)]
    path = write(root, rows, "path,label,id,gender")
    with pytest.raises(DataError, match="id, gender make 30 groups of 30 images"):
        load(path)
    assert load(path, group_columns=["gender"]).group_names == ("men", "women")
    assert len(load(path, group_columns=["id"]).group_names) == 30


def test_wrong_arguments(root):
    with pytest.raises(UsageError, match="name every class once"):
        load(write(root), classes=("cat", "cat"))
    with pytest.raises(DataError, match="expected a column 'age'"):
        load(write(root), group_columns=["age"])
    for cell in ("fox", "2", "-1", "0.5"):
        with pytest.raises(DataError, match=rf"the label '{cell}' in row 2 is none of the 2 classes cat, dog"):
            load(write(root, [ROWS[0], f"b.png,{cell},dark,men"]), classes=("cat", "dog"))
