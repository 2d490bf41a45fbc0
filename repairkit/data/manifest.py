"""The user's own images: a CSV or Parquet file with the columns `path`, `label` and any group columns."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path

import numpy as np
import pandas as pd

from repairkit.data.decoding import Crop, Progress, decode, hash_files
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, UsageError

CROP = Crop(share=1.0, height=0.5)

_INTEGER = re.compile(r"[+-]?\d+")
_MANY_ROWS = 20  # in fewer rows, a group for every second image may be meant
_MANY_CLASSES = 100_000  # labels above it are identifiers by mistake


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns; rows are numbered from 1 without the header."""

    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    unfit: dict[str, str] = field(default_factory=dict)  # column -> why its cells are not text; an error only where the column is read

    def column(self, name: str) -> list[str]:
        """The cells of one column; a `DataError` where it is missing or holds other things than text."""
        if name not in self.columns:
            raise DataError(f"{self.file}: expected a column {name!r}, found {', '.join(self.columns)}; rename or add the column")
        if name in self.unfit:
            raise DataError(f"{self.file}: {self.unfit[name]}; write it as text or remove the column")
        position = self.columns.index(name)
        return [row[position] for row in self.rows]

    def filled(self, name: str) -> list[str]:
        """The cells of one column; a `DataError` where one is empty, too."""
        cells = self.column(name)
        if "" in cells:
            raise DataError(f"{self.file}: the cell of column {name!r} in row {cells.index('') + 1} is empty; fill it or remove the row")
        return cells


def load(
    file: str | Path,
    *,
    root: str | Path | None = None,
    group_columns: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    size: int = 96,
    crop: Crop | None = CROP,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> LabelledImages:
    r"""Load the images that a CSV or Parquet file lists.

    Args:
        file: `.csv` (UTF-8, commas, any line ends) or `.parquet`, with the columns `path` and `label` and, usually, group columns.
        root: folder that relative paths start from; by default the folder of `file`.
        group_columns: columns whose values, joined with a space, name an image's subgroup. By default all columns but `path` and `label`;
            without any, the one group is "all".
        classes: class names in the order of the model's outputs; labels are these names or integers from 0. By default the names that occur,
            sorted, or the integers from 0 to the highest.
        size: side of the images in pixels.
        crop: the square to keep; by default the largest at the centre.
        cache: folder of decoded images, see `repairkit.data.decoding.decode`.
        progress: called as `progress(done, total)` while images are decoded.
        name: name of the set in messages and reports; by default the name of the file.

    Raises:
        DataError: the file, a column, a cell, a label or an image is missing or unusable, or by default nearly every image has its own group.
        UsageError: the same class is given twice.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for file in ("a.png", "b.png"):
        ...     Image.new("RGB", (20, 20)).save(root / file)
        >>> _ = (root / "cats.csv").write_text("path,label,coat,age\na.png,cat,white,old\nb.png,dog,black,young\n")
        >>> images = load(root / "cats.csv", cache=root)
        >>> images.classes, images.labels.tolist(), images.groups.tolist()
        (('cat', 'dog'), [0, 1], ['white old', 'black young'])
    """
    table = read_table(file)
    paths = _image_paths(table, table.file.parent if root is None else Path(root).expanduser())
    class_names, labels = _classify(table, classes)
    groups = _groups(table, group_columns)
    name = name or table.file.stem
    return LabelledImages(
        pixels=decode(paths, size=size, crop=crop, cache=cache, name=name, progress=progress),
        labels=np.array(labels, dtype=np.int64),
        groups=np.array(groups, dtype=np.str_),
        classes=class_names,
        name=name,
        sources=tuple(table.column("path")),
        origins=hash_files(paths, name=name, cache=cache),
    )


def read_table(file: str | Path) -> Table:
    """Read a CSV file (any line ends, with or without a byte order mark) or a Parquet file as text.

    Raises:
        DataError: the file is missing, of another kind, damaged or empty, or a row does not fit the header.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(f"expected a CSV or Parquet file at {path}, found {'a folder' if path.exists() else 'nothing'}; give the file")
    unfit: dict[str, str] = {}
    match path.suffix.lower():
        case ".csv":
            header, rows = _read_csv(path)
        case ".parquet":
            header, rows, unfit = _read_parquet(path)
        case suffix:
            raise DataError(f"{path}: expected a file ending in .csv or .parquet, got {suffix or 'no ending'}; convert or rename it")
    if "" in header or len(set(header)) < len(header):
        raise DataError(f"{path}: expected a different name for each column, got {', '.join(map(repr, header))}; rename or remove columns")
    if not rows:
        raise DataError(f"{path}: expected a header and at least one row, found none; list the images in it")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise DataError(f"{path}: expected {len(header)} cells in row {number}, got {len(row)}; quote cells that hold a comma")
    return Table(file=path, columns=header, rows=tuple(rows), unfit=unfit)


def _read_csv(path: Path) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = [tuple(cell.strip() for cell in line) for line in csv.reader(stream, skipinitialspace=True) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); save it as comma-separated UTF-8 text") from None
    return (lines[0], lines[1:]) if lines else ((), [])


def _read_parquet(path: Path) -> tuple[tuple[str, ...], list[tuple[str, ...]], dict[str, str]]:
    """Header, rows, and for each column that holds other things than text, numbers and truth values the reason."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as Parquet ({reason}); write the file again") from None
    header = tuple(str(column).strip() for column in frame.columns)
    columns, unfit = [], {}
    for position, name in enumerate(header):
        cells = [_text(value) for value in frame.iloc[:, position].tolist()]
        if None in cells:
            row = cells.index(None)
            kind = type(frame.iloc[row, position]).__name__
            unfit[name] = f"expected text, numbers or truth values in column {name!r}, got {kind} in row {row + 1}"
        columns.append([cell or "" for cell in cells])
    return header, list(zip(*columns, strict=True)), unfit


def _text(value: object) -> str | None:
    """A Parquet cell as the text of a CSV cell, "" where missing; None where it is neither text, number nor truth value."""
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if not isinstance(value, str | Number):
        return None
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return ""
    if isinstance(value, float) and value.is_integer():  # a column of integers with a gap is read as floats
        return str(int(value))
    return str(value).strip()


def _image_paths(table: Table, root: Path) -> list[Path]:
    cells = table.filled("path")
    paths = [root / cell for cell in cells]
    if missing := [row for row, path in enumerate(paths, start=1) if not path.is_file()]:
        raise DataError(
            f"{table.file}: the image {cells[missing[0] - 1]} of row {missing[0]} is not in {root} "
            f"({len(missing)} of {len(paths)} images are missing); correct the path or give the root folder"
        )
    return paths


def _classify(table: Table, classes: Sequence[str] | None) -> tuple[tuple[str, ...], list[int]]:
    """Class names, and the position of each label among them."""
    cells = table.filled("label")
    if classes is None:
        names = _infer_classes(table, cells)
    else:
        names = tuple(classes)
        if not names or len(set(names)) < len(names):
            raise UsageError(f"expected different class names, got {names}; name every class once")
    positions = {class_name: position for position, class_name in enumerate(names)}
    labels = []
    for row, cell in enumerate(cells, start=1):
        label = positions.get(cell, int(cell) if _INTEGER.fullmatch(cell) else -1)
        if not 0 <= label < len(names):
            raise DataError(
                f"{table.file}: the label {cell!r} in row {row} is none of the {len(names)} classes {', '.join(names)} "
                f"nor an integer in 0 .. {len(names) - 1}; correct the label or the class list"
            )
        labels.append(label)
    return names, labels


def _infer_classes(table: Table, cells: list[str]) -> tuple[str, ...]:
    integers = [bool(_INTEGER.fullmatch(cell)) for cell in cells]
    if not any(integers):
        return tuple(sorted(set(cells)))
    if not all(integers):
        named, numbered = integers.index(False), integers.index(True)
        raise DataError(
            f"{table.file}: labels are names ({cells[named]!r} in row {named + 1}) and integers "
            f"({cells[numbered]!r} in row {numbered + 1}); use one kind or give the class list"
        )
    highest = max(map(int, cells))
    if highest >= _MANY_CLASSES:
        row = [int(cell) for cell in cells].index(highest) + 1
        raise DataError(f"{table.file}: the label {highest} in row {row} would make {highest + 1} classes; correct it or give the classes")
    return tuple(str(label) for label in range(max(highest, 0) + 1))


def _groups(table: Table, group_columns: Sequence[str] | None) -> list[str]:
    columns = (
        tuple(column for column in table.columns if column not in {"path", "label"}) if group_columns is None else tuple(group_columns)
    )
    if not columns:
        return ["all"] * len(table.rows)
    groups = [" ".join(cells) for cells in zip(*(table.filled(column) for column in columns), strict=True)]
    sizes = Counter(groups)
    if group_columns is None and len(groups) >= _MANY_ROWS and 2 * len(sizes) >= len(groups):
        raise DataError(
            f"{table.file}: the columns {', '.join(columns)} make {len(sizes)} groups of {len(groups)} images, too small to measure; "
            "keep only group columns in the manifest, or give group_columns from Python"
        )
    return groups
