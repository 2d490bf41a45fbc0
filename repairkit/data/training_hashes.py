"""Hashes of the images that a network was trained on, in a text file beside its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from repairkit.data.images import LabelledImages
from repairkit.errors import DataError
from repairkit.files import write_text

_HEADER = "# an image of the training a line: first 16 hex digits of the SHA-256 of its decoded pixels, and of its file\n"


def record_path(weights: Path) -> Path:
    """The file of hashes that belongs to these weights; it may not exist."""
    return weights.with_suffix(".train-images.txt")


def write_record(weights: Path, images: LabelledImages, *, init: Path | None = None) -> None:
    """Write the hashes of the images that `weights` were trained on, and those recorded for the weights `init` that training began with."""
    entries = {f"{pixels} {file}" for pixels, file in zip(images.hashes, images.origins, strict=True)}
    if init is not None:
        entries |= read_record(init)
    write_text(record_path(weights), _HEADER + "".join(f"{entry}\n" for entry in sorted(entries)))


def read_record(weights: Path) -> frozenset[str]:
    """Lines of two hashes, of the pixels and of the file of each training image; empty where there is no record.

    Example:
        >>> import tempfile
        >>> weights = Path(tempfile.mkdtemp()) / "own.safetensors"
        >>> images = LabelledImages(
        ...     pixels=np.zeros((1, 8, 8, 3), np.uint8), labels=np.array([0]), groups=np.array(["a"]), classes=("no", "yes"),
        ...     name="tiny", origins=np.array(["ba7816bf8f01cfea"]))
        >>> write_record(weights, images)
        >>> sorted(read_record(weights)), len(read_record(weights.with_name("other.safetensors")))
        (['5d89f056865052bc ba7816bf8f01cfea'], 0)
    """
    path = record_path(weights)
    if not path.is_file():
        return frozenset()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def check_unseen(weights: Path, **named_sets: LabelledImages) -> None:
    """Raise a `DataError` where a set holds images that the weights were trained on, as far as there is a record.

    Args:
        weights: the weights file.
        named_sets: the sets, under their names in the message.
    """
    record = read_record(weights)
    hashes = np.array([digest for entry in record for digest in entry.split()], dtype=np.str_)
    for name, images in named_sets.items():
        shared = np.flatnonzero(np.isin(images.hashes, hashes) | np.isin(images.origins, hashes))
        if len(shared):
            raise DataError(
                f"{len(shared)} of the {len(images):,} {name} images are among the {len(record):,} that {weights.name} was trained on "
                f"({record_path(weights)}), for instance {images.describe(int(shared[0]))}; give {name} images that it was not trained on"
            )
