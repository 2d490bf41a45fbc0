"""The Pilot Parliaments Benchmark: 1,270 portraits in four subgroups of gender and skin.

J. Buolamwini, T. Gebru: Gender Shades: Intersectional Accuracy Disparities in Commercial Gender
Classification, FAT* 2018.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repairkit.data.celeba import CLASSES
from repairkit.data.decoding import Crop, Progress, decode, existing_folder, hash_files, require_groups
from repairkit.data.images import LabelledImages
from repairkit.data.manifest import read_table
from repairkit.errors import DataError, DataWarning

CROP = Crop(share=0.75, height=0.42)
GROUPS = ("lighter men", "lighter women", "darker men", "darker women")
METADATA = "PPB-2017-metadata.csv"

_GENDERS = {"female": (0, "women"), "male": (1, "men")}
_SKINS = ("lighter", "darker")


@dataclass(frozen=True)
class _Portrait:
    file: str
    row: int
    label: int
    group: str


def load(
    root: str | Path,
    *,
    allow_missing: bool = False,
    size: int = 96,
    crop: Crop | None = CROP,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> LabelledImages:
    r"""Load the portraits, labelled 0 female and 1 male, in the order of the metadata.

    Subgroups are "lighter men", "lighter women", "darker men" and "darker women". Fitzpatrick types I to III are lighter, IV to VI darker
    (column `bi.fitz`).

    Args:
        root: the folder of `PPB-2017-metadata.csv`, or its parent. The images lie in it or in a folder of it. Other files are ignored.
        allow_missing: leave out rows whose image is missing, with a warning, in place of an error.
        size: side of the images in pixels.
        crop: the square to keep. The default frames a face nearly as UTKFace does, a little looser.
        cache: folder of decoded images, see `repairkit.data.decoding.decode`.
        progress: called as `progress(done, total)` while images are decoded.

    Raises:
        DataError: metadata or images are missing or damaged, or a subgroup is empty.

    Warns:
        DataWarning: rows were left out because their images are missing.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> rows = ["filename,gender,bi.fitz"]
        >>> for i, group in enumerate(["Male,lighter", "Female,lighter", "Male,darker", "Female,darker"]):
        ...     Image.new("RGB", (149, 224)).save(root / f"{i}.jpg")
        ...     rows.append(f"{i}.jpg,{group}")
        >>> _ = (root / "PPB-2017-metadata.csv").write_text("\r".join(rows))
        >>> portraits = load(root, cache=root)
        >>> portraits.labels.tolist(), portraits.group_names
        ([1, 0, 1, 0], ('darker men', 'darker women', 'lighter men', 'lighter women'))
    """
    metadata = _find_metadata(existing_folder(root, name="PPB", holds=f"{METADATA} and the images"))
    portraits = _read(metadata)
    images = _find_images(metadata.parent, portraits)
    present = {path.name for path in images.iterdir()}
    missing = [portrait for portrait in portraits if portrait.file not in present]
    if missing:
        first = missing[0]
        reason = f"PPB: {len(missing)} of {len(portraits)} images are not in {images}, the first is {first.file} of row {first.row}"
        if not allow_missing:
            raise DataError(f"{reason}; restore the images, or load with allow_missing=True from Python to leave them out")
        warnings.warn(f"{reason}; their rows are left out", DataWarning, stacklevel=2)
        portraits = [portrait for portrait in portraits if portrait.file in present]
    groups = [portrait.group for portrait in portraits]
    require_groups(groups, GROUPS, name="PPB", remedy=f"restore {metadata.name} and the images as published")
    paths = [images / portrait.file for portrait in portraits]
    return LabelledImages(
        pixels=decode(paths, size=size, crop=crop, cache=cache, name="PPB", progress=progress),
        labels=np.array([portrait.label for portrait in portraits], dtype=np.int64),
        groups=np.array(groups, dtype=np.str_),
        classes=CLASSES,
        name="PPB",
        sources=tuple(portrait.file for portrait in portraits),
        origins=hash_files(paths, name="PPB", cache=cache),
    )


def _find_metadata(root: Path) -> Path:
    for path in (root / METADATA, *sorted(root.glob(f"*/{METADATA}"))):
        if path.is_file():
            return path
    raise DataError(f"PPB: expected {METADATA} in {root} or in a folder of it, found none; give the folder that holds it")


def _read(metadata: Path) -> list[_Portrait]:
    table = read_table(metadata)
    columns = (table.filled("filename"), table.filled("gender"), table.filled("bi.fitz"))
    portraits = []
    for row, (file, gender, skin) in enumerate(zip(*columns, strict=True), start=1):
        if gender.lower() not in _GENDERS or skin.lower() not in _SKINS:
            raise DataError(f"{metadata}: expected Female or Male, lighter or darker in row {row}, got {gender!r} and {skin!r}; correct it")
        label, people = _GENDERS[gender.lower()]
        portraits.append(_Portrait(file=file, row=row, label=label, group=f"{skin.lower()} {people}"))
    return portraits


def _find_images(root: Path, portraits: list[_Portrait]) -> Path:
    """`root` or the folder in it that holds most of the images."""
    named = {portrait.file for portrait in portraits}
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    counts = [sum(path.name in named for path in folder.iterdir()) for folder in folders]
    if max(counts) == 0:
        raise DataError(f"PPB: expected the images that {METADATA} names in {root} or below, found none; put them in {root / 'imgs'}")
    return folders[counts.index(max(counts))]
