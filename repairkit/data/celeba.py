"""CelebA in torchvision's folder layout; the label is the attribute Male.

Z. Liu, P. Luo, X. Wang, X. Tang: Deep Learning Face Attributes in the Wild, ICCV 2015.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np

from repairkit.data.decoding import Crop, Progress, decode, existing_folder, hash_files, require_groups
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, UsageError

Split = Literal["all", "train", "valid", "test"]

CLASSES = ("female", "male")  # the position is CelebA's attribute Male
CROP = Crop(share=0.6, height=0.6)
GROUPS = ("women", "men")

ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
IMAGES = "img_align_celeba"
PARTS = {"train": "0", "valid": "1", "test": "2"}


def load(
    root: str | Path,
    *,
    split: Split = "all",
    limit: int | None = None,
    size: int = 96,
    crop: Crop | None = CROP,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> LabelledImages:
    r"""Load the aligned faces, labelled 0 female and 1 male, in the subgroups women and men.

    Args:
        root: the folder `celeba` or its parent. It holds `img_align_celeba/`, `list_attr_celeba.txt` and, unless `split` is "all",
            `list_eval_partition.txt`.
        split: the published part to load.
        limit: load at most this many images, in the order of the list.
        size: side of the images in pixels.
        crop: the square to keep. By default rows 77 to 184 and columns 36 to 143 of 178 x 218 pixels: forehead to chin, as for PPB and UTKFace.
        cache: folder of decoded images, see `repairkit.data.decoding.decode`.
        progress: called as `progress(done, total)` while images are decoded.

    Raises:
        DataError: files are missing or damaged, or one gender has no image.
        UsageError: an unknown split or a limit below 1.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "img_align_celeba").mkdir()
        >>> for i in (1, 2):
        ...     Image.new("RGB", (178, 218)).save(root / "img_align_celeba" / f"{i}.jpg")
        >>> _ = (root / "list_attr_celeba.txt").write_text("2\nMale Young\n1.jpg -1 1\n2.jpg 1 1\n")
        >>> faces = load(root, cache=root)
        >>> faces.pixels.shape, faces.labels.tolist(), faces.groups.tolist()
        ((2, 96, 96, 3), [0, 1], ['women', 'men'])
    """
    if split not in get_args(Split):
        raise UsageError(f"unknown CelebA split {split!r}; choose one of {', '.join(get_args(Split))}")
    if limit is not None and limit < 1:
        raise UsageError(f"expected a limit of at least 1 image, got {limit}")
    folder = _find(root)
    males = _read_males(folder / ATTRIBUTES)
    if split != "all":
        males = _select(males, folder / PARTITION, PARTS[split])
    files = list(males)[:limit]
    labels = np.array([males[file] for file in files], dtype=np.int64)
    groups = np.array([GROUPS[label] for label in labels], dtype=np.str_)
    require_groups(groups.tolist(), GROUPS, name="CelebA", remedy="raise the limit or choose another split")
    present = {path.name for path in (folder / IMAGES).iterdir()}
    if missing := next((file for file in files if file not in present), None):
        raise DataError(f"CelebA: {ATTRIBUTES} lists {missing}, which is not in {folder / IMAGES}; unpack img_align_celeba.zip there again")
    paths = [folder / IMAGES / file for file in files]
    return LabelledImages(
        pixels=decode(paths, size=size, crop=crop, cache=cache, name="CelebA", progress=progress),
        labels=labels,
        groups=groups,
        classes=CLASSES,
        name="CelebA",
        sources=tuple(files),
        origins=hash_files(paths, name="CelebA", cache=cache),
    )


def _find(root: str | Path) -> Path:
    holds = f"{IMAGES}/, {ATTRIBUTES} and {PARTITION}"
    base = existing_folder(root, name="CelebA", holds=holds)
    for folder in (base, base / "celeba"):
        if (folder / ATTRIBUTES).is_file():
            existing_folder(folder / IMAGES, name="CelebA", holds="the aligned faces")
            return folder
    raise DataError(f"CelebA: expected {holds} in {base} or in its folder celeba, found no {ATTRIBUTES}; give the folder that holds it")


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DataError(f"CelebA: cannot read {path} ({reason}); download {path.name} again") from None


def _read_males(path: Path) -> dict[str, int]:
    """The attribute Male of every file, 0 or 1, in the order of the list."""
    count, names, *lines = [*_read_lines(path), "", ""]
    rows = [line.split() for line in lines if line.strip()]
    if not count.strip().isdecimal() or int(count) != len(rows):
        raise DataError(f"CelebA: line 1 of {path} must count the rows below, got {count[:40]!r} above {len(rows)} rows; download it again")
    attributes = names.split()
    if "Male" not in attributes:
        raise DataError(f"CelebA: expected the attribute Male in line 2 of {path}, found {len(attributes)} other names; download it again")
    column = 1 + attributes.index("Male")
    males = {}
    for number, row in enumerate(rows, start=3):
        if len(row) != 1 + len(attributes) or row[column] not in {"-1", "1"}:
            raise DataError(
                f"CelebA: expected a file and {len(attributes)} values of -1 or 1 in line {number} of {path}; download it again"
            )
        males[row[0]] = int(row[column] == "1")
    return males


def _select(males: dict[str, int], path: Path, part: str) -> dict[str, int]:
    """The files that belong to one part of the published partition."""
    parts = {}
    for number, line in enumerate(_read_lines(path), start=1):
        match line.split():
            case [file, ("0" | "1" | "2") as number_of_part]:
                parts[file] = number_of_part
            case []:
                continue
            case _:
                raise DataError(f"CelebA: expected a file and 0, 1 or 2 in line {number} of {path}, got {line[:40]!r}; download it again")
    if unknown := [file for file in males if file not in parts]:
        raise DataError(f"CelebA: {path} does not list {unknown[0]} ({len(unknown)} files are missing); download it again")
    return {file: male for file, male in males.items() if parts[file] == part}
