"""Folders of images in the layouts of ImageNet and its subsets: one folder per class, or one folder and an annotation file.

O. Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge, IJCV 2015.
"""

from __future__ import annotations

import csv
import re
import statistics
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from repairkit.data.classes import imagenet_classes, relabel
from repairkit.data.decoding import Crop, Progress, decode, existing_folder, hash_files
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, DataWarning, UsageError

PRESET_CROP = Crop(share=0.875)  # torchvision's presets keep 224 pixels of a short side of 256

LAYOUTS = (
    "class folders (one folder of images per class, named by its synset or name), or images with one annotation file "
    "(.txt, .tsv or .csv, one line per image: file, then synset, name or number of its class)"
)
CLASS_LISTS = ("classes.tsv", "LOC_synset_mapping.txt")
"""Files with one class per line, synset and names, in the order of the network's outputs."""
NAME_LIST = "words.txt"  # the same in arbitrary order

_NO_ANNOTATIONS = {*CLASS_LISTS, NAME_LIST, "wnids.txt"}
_ENDINGS = (".jpg", ".jpeg", ".png")
_SYNSET = re.compile(r"n\d{8}")
_HEADERS = {"imageid", "file", "filename", "image", "path", "name"}

_Listed = list[tuple[Path, str]]  # images with their class in the folder or the annotation file


def load(
    root: str | Path,
    *,
    size: int,
    classes: Sequence[str] | None = None,
    per_class: int | None = None,
    parts: Sequence[str] | None = None,
    annotations: str | Path | None = None,
    crop: Crop | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    name: str = "ImageNet",
) -> LabelledImages:
    r"""Load labelled images; the subgroup of each is the name of its class.

    Two layouts are read.

    - *Class folders*: `n01440764/*.JPEG`, also deeper as in tiny-imagenet's `n01440764/images/*.JPEG`.
    - *Flat*: images in the folder, in its folder `images` or in its only folder, and one annotation file. A line of it holds the file, with
      or without its ending, and the class, split at tabs, commas (.csv) or blanks. Examples are tiny-imagenet's `val_annotations.txt`, Caffe's
      `val.txt` (numbers from 0) and Kaggle's `LOC_val_solution.csv`. The development kit's ground truth names no files and is refused.

    Classes have the order of the network's outputs:

    1. the order of `classes.tsv` or `LOC_synset_mapping.txt` in `root` or its parent;
    2. else sorted, as in torchvision's `ImageFolder`. All 1,000 synsets of ImageNet get torchvision's names, other synsets those of `words.txt`.
       Of several names ("cougar, puma") the first is used where it is unique;
    3. with `classes`, these names are looked up in it, so that a part of the classes is enough.

    Classes that are all numbers are the network's outputs, from 0.

    Args:
        root: the folder, or one that holds it under the name in `parts`.
        size: side of the images in pixels.
        classes: names of the network's classes, in the order of its outputs.
        per_class: load at most this many images of a class, spread evenly over its sorted files.
        parts: folders in `root` that are pooled, such as ("train", "val"). By default "val" where it exists, else `root` itself.
        annotations: the annotation file, where a folder holds several texts.
        crop: the square to keep. By default torchvision's preset, the central .875 of the short side, where at least half of the images are
            large enough, else the whole central square.
        cache: folder of decoded images, see `repairkit.data.decoding.decode`.
        progress: called as `progress(done, total)` while images are decoded.
        name: name of the set in messages and reports.

    Raises:
        DataError: neither layout, fewer than two classes, a class that is not listed, or a missing or damaged file.
        UsageError: fewer than one image per class.

    Warns:
        DataWarning: images that the annotation file does not list were skipped.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for synset, mode in (("n02391049", "RGB"), ("n02389026", "L")):
        ...     (root / synset).mkdir()
        ...     Image.new(mode, (64, 48)).save(root / synset / "1.JPEG")
        >>> _ = (root / "classes.tsv").write_text("n02391049\tzebra\nn02389026\tsorrel, red horse\n")
        >>> images = load(root, size=32, cache=root)
        >>> images.classes, images.labels.tolist(), images.pixels.shape
        (('zebra', 'sorrel'), [1, 0], (2, 32, 32, 3))
    """
    if per_class is not None and per_class < 1:
        raise UsageError(f"expected at least 1 image per class, got {per_class}; leave it out for all")
    folder = existing_folder(root, name=name, holds=LAYOUTS)
    listed = [
        entry
        for part in _parts(folder, parts, name)
        for entry in _list_images(part, None if annotations is None else Path(annotations), name)
    ]
    position, names = _order(folder, {key for _, key in listed}, classes, name)
    entries = listed if per_class is None else _thin(listed, per_class)
    paths = [path for path, _ in entries]
    labels = np.array([position[key] for _, key in entries], dtype=np.int64)
    images = LabelledImages(
        pixels=decode(paths, size=size, crop=crop or _usual_crop(paths, size), cache=cache, name=name, progress=progress),
        labels=labels,
        groups=np.array(names, dtype=np.str_)[labels],
        classes=names,
        name=name,
        sources=tuple(path.relative_to(folder).as_posix() for path in paths),
        origins=hash_files(paths, name=name, cache=cache),
    )
    return images if classes is None else relabel(images, classes)


def _parts(folder: Path, parts: Sequence[str] | None, name: str) -> list[Path]:
    if parts is None:
        return [folder / "val" if (folder / "val").is_dir() else folder]
    return [existing_folder(folder / part, name=name, holds=LAYOUTS) for part in parts]


def _list_images(folder: Path, annotations: Path | None, name: str) -> _Listed:
    """All images of one folder with their classes, sorted by path."""
    by_folder = {
        inner: _images(inner.rglob("*")) for inner in sorted(folder.iterdir()) if inner.is_dir() and not inner.name.startswith(".")
    }
    by_folder = {inner: paths for inner, paths in by_folder.items() if paths}
    if annotations is None and len(by_folder) > 1:
        return [(path, inner.name) for inner, paths in by_folder.items() for path in paths]
    texts = [path for path in sorted(folder.iterdir()) if path.suffix in (".txt", ".tsv", ".csv") and path.name not in _NO_ANNOTATIONS]
    loose = [*_images(folder.iterdir()), *(path for paths in by_folder.values() for path in paths)]
    if not loose or not (annotations or texts):
        raise DataError(f"{name}: expected {LAYOUTS} in {folder}, found neither; give the folder that holds them")
    if annotations is None and len(texts) > 1:
        raise DataError(
            f"{name}: expected one annotation file in {folder}, found {', '.join(path.name for path in texts)}; "
            "remove the others, or choose one with --annotation-file"
        )
    return _annotated(loose, annotations or texts[0], name)


def _images(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in _ENDINGS and not path.name.startswith("."))


def _annotated(images: Sequence[Path], file: Path, name: str) -> _Listed:
    """The images that an annotation file lists, sorted by path."""
    by_name = {path.stem: path for path in images} | {path.name: path for path in images}
    listed: dict[Path, str] = {}
    rows = _rows(file, name)
    if rows and all(len(cells) == 1 and cells[0].isdecimal() for _, cells in rows):
        raise DataError(
            f"{name}: {file} holds only numbers, as the ground truth of ImageNet's development kit does, and names no files; "
            "replace it by LOC_val_solution.csv (Kaggle), or sort the images into one folder per synset"
        )
    for number, cells in rows:
        if number == 1 and cells and cells[0].casefold() in _HEADERS:
            continue
        if len(cells) < 2 or not cells[1]:
            raise DataError(f"{name}: expected a file and its class in line {number} of {file}, got {' '.join(cells)[:40]!r}; complete it")
        path = by_name.get(Path(cells[0]).name)
        if path is None:
            raise DataError(f"{name}: {file.name} lists {cells[0]} in line {number}, which is not in {file.parent}; restore the image")
        word = cells[1].split()[0]  # in Kaggle's lists boxes follow
        key = word if _SYNSET.fullmatch(word) else cells[1]
        if listed.setdefault(path, key) != key:
            raise DataError(f"{name}: {file} gives {cells[0]} the class {listed[path]} and, in line {number}, {key}; keep one line")
    if skipped := len(images) - len(listed):
        warnings.warn(f"{name}: skipped {skipped} images that {file} does not list; add them to it to load them", DataWarning, stacklevel=4)
    return sorted(listed.items())


def _rows(file: Path, name: str) -> list[tuple[int, list[str]]]:
    """Numbered lines of a text, cut into cells."""
    lines = _read_lines(file, name)
    if file.suffix == ".csv":
        cut = list(csv.reader(lines))
    else:
        cut = [line.split("\t") if "\t" in line else line.split() for line in lines]
    return [(number, [cell.strip() for cell in cells]) for number, cells in enumerate(cut, start=1) if cells]


def _read_lines(file: Path, name: str) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DataError(f"{name}: cannot read {file} ({reason}); restore it or save it as UTF-8") from None


def _order(folder: Path, keys: set[str], classes: Sequence[str] | None, name: str) -> tuple[dict[str, int], tuple[str, ...]]:
    """The output of the network for each class of the images, and the names of all outputs."""
    if len(keys) < 2:
        raise DataError(f"{name}: expected images of at least two classes in {folder}, found only {', '.join(keys)}; give the whole folder")
    table = _read_names(folder, CLASS_LISTS, name)
    if table.keys().isdisjoint(keys) and all(key.isdecimal() for key in keys):
        highest = max(map(int, keys))
        names = _names(list(table), table) or tuple(classes or ()) or _numbered(highest)
        if highest >= len(names):
            raise DataError(f"{name}: expected numbers of classes in 0 .. {len(names) - 1}, found {highest} in {folder}; they count from 0")
        return {key: int(key) for key in keys}, names
    columns = list(table) or sorted(keys)
    if unknown := sorted(keys - set(columns)):
        raise DataError(
            f"{name}: the images in {folder} have the class {unknown[0]}, which is not in its list of {len(columns)} classes "
            f"({len(unknown)} such classes); add it to the list or remove the images"
        )
    return {key: column for column, key in enumerate(columns)}, _names(columns, table or _read_names(folder, (NAME_LIST,), name))


def _numbered(highest: int) -> tuple[str, ...]:
    return imagenet_classes() if highest == 999 else tuple(map(str, range(highest + 1)))


def _read_names(folder: Path, files: Sequence[str], name: str) -> dict[str, str]:
    """Names by synset, as the first of these files in the folder or its parent lists them; empty without such a file."""
    for file in (place / file for place in (folder, folder.absolute().parent) for file in files):
        if file.is_file():
            lines = [line.strip() for line in _read_lines(file, name) if line.strip()]
            pairs = [line.split("\t" if "\t" in line else None, maxsplit=1) for line in lines]
            table = {pair[0].strip(): pair[-1].strip() for pair in pairs}
            if len(table) < len(pairs):
                raise DataError(f"{name}: {file} lists {len(pairs)} classes, {len(pairs) - len(table)} of them twice; list each class once")
            return table
    return {}


def _names(keys: Sequence[str], texts: dict[str, str]) -> tuple[str, ...]:
    """A different name for each class."""
    if len(keys) == 1000 and list(keys) == sorted(keys) and all(map(_SYNSET.fullmatch, keys)):
        return imagenet_classes()
    whole = [texts.get(key, key) for key in keys]
    first = [text.split(",")[0].strip() for text in whole]
    times_first, times_whole = Counter(first), Counter(whole)
    return tuple(
        short if times_first[short] == 1 else text if times_whole[text] == 1 else key
        for short, text, key in zip(first, whole, keys, strict=True)
    )


def _thin(listed: _Listed, per_class: int) -> _Listed:
    """At most `per_class` images of each class, spread evenly over its sorted files."""
    members: dict[str, list[int]] = {}
    for index, (_, key) in enumerate(listed):
        members.setdefault(key, []).append(index)
    positions = [
        indices[step]
        for indices in members.values()
        for step in np.linspace(0, len(indices) - 1, min(per_class, len(indices))).round().astype(int)
    ]
    return [listed[index] for index in sorted(positions)]


def _usual_crop(paths: Sequence[Path], size: int) -> Crop:
    """The preset's crop where it leaves `size` pixels of most images; about a hundred of them are read."""
    sides = []
    for path in paths[:: max(1, len(paths) // 100)]:
        with suppress(OSError), Image.open(path) as image:  # `decode` names a file that cannot be read
            sides.append(min(image.size))
    return PRESET_CROP if sides and PRESET_CROP.share * statistics.median(sides) >= size else Crop()
