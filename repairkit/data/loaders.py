"""Data sets by the name that the command line and recipes use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repairkit.data import celeba, manifest, ppb, utkface
from repairkit.data import synthetic_faces as drawn
from repairkit.data.decoding import Crop
from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError

PUBLISHED = ("ppb", "utkface", "celeba")
NAMES = ("drawn", *PUBLISHED)
MANIFESTS = (".csv", ".parquet")


def load(
    name: str,
    *,
    root: Path | None = None,
    size: int | None = None,
    crop: Crop | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    source: bool = False,
) -> LabelledImages:
    """Load a data set.

    Args:
        name: one of `NAMES`, or a CSV or Parquet manifest.
        root: the data set's folder, or a folder that holds it under its name; for a manifest, the folder that its paths start from.
        size: side of the images in pixels; by default 96, the size of the synthetic faces.
        crop: in place of the loader's default.
        classes: the model's class names, for the labels of a manifest.
        seed: of synthetic faces.
        source: synthetic faces of the training population in place of the balanced target.

    Raises:
        UsageError: an unknown name, a missing root, or a size or crop for synthetic faces.
        DataError: the data does not fit, see the loaders.
    """
    if name == "drawn":
        check_drawn(size=size, crop=crop)
        return drawn.source_faces(seed=seed) if source else drawn.target_faces(seed=seed)
    size = drawn.SIZE if size is None else size
    if Path(name).suffix.lower() in MANIFESTS:
        return manifest.load(Path(name), root=root, classes=classes, size=size, crop=crop or manifest.CROP)
    if name not in NAMES:
        raise UsageError(f"expected a data set, one of {', '.join(NAMES)} or a .csv or .parquet manifest, got {name!r}")
    if root is None:
        raise UsageError(f"the data set {name} needs its folder: give --data-root (or --source-root for the source data)")
    folder = root / name if (root / name).is_dir() else root
    if name == "ppb":
        return ppb.load(folder, size=size, crop=crop or ppb.CROP)
    if name == "utkface":
        return utkface.load(folder, size=size, crop=crop or utkface.CROP)
    # The published test part: `repairkit train --data celeba` learns from the training part.
    return celeba.load(folder, split="test", size=size, crop=crop or celeba.CROP)


def check_drawn(*, size: int | None, crop: Crop | None = None) -> None:
    """Raise a `UsageError` for a size or crop that the synthetic faces do not have."""
    if crop is not None or size not in (None, drawn.SIZE):
        request = f"size {size}" if crop is None else f"crop {crop}"
        raise UsageError(f"drawn faces come in {drawn.SIZE} pixels and whole, got {request}; leave out size and crop, or give other data")
