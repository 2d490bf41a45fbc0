"""Labelled images: the one shape in which data reaches the rest of repairkit."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from repairkit.errors import DataError

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


class ChosenPixels:
    """Some images of an array, in a given order, read when they are needed, so that parts of a memory map stay on disk.

    Pickling sends the place of a memory map and the numbers of the images, and the pixels of any other array.

    Args:
        whole: uint8, shape (N, height, width, 3).
        rows: int64, shape (k,), which images.

    Example:
        >>> some = ChosenPixels(np.arange(24, dtype=np.uint8).reshape(4, 2, 1, 3), np.array([3, 0]))
        >>> some.shape, some[1].ravel().tolist(), some[[0]].shape
        ((2, 2, 1, 3), [0, 1, 2, 3, 4, 5], (1, 2, 1, 3))
    """

    def __init__(self, whole: Pixels, rows: Indices) -> None:
        self._whole, self._rows = whole, rows
        self.shape, self.dtype, self.ndim = (len(rows), *whole.shape[1:]), whole.dtype, whole.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Pixels:
        first, *axes = index if isinstance(index, tuple) else (index,)
        images: Pixels = self._whole[self._rows[first]]
        if not axes:
            return images
        return images[(slice(None), *axes)] if images.ndim == self.ndim else images[tuple(axes)]

    def __iter__(self) -> Iterator[Pixels]:
        return (self._whole[row] for row in self._rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self._whole[self._rows], dtype=dtype)

    def __reduce__(self) -> tuple[object, ...]:
        whole = self._whole
        base: Any = whole.base  # of a map the file, of a part of a map the map
        if isinstance(whole, np.memmap) and isinstance(base, mmap.mmap) and whole.filename:
            return _open_map, (str(whole.filename), whole.offset, whole.shape, self._rows)
        return np.asarray, (np.asarray(self),)

    def subset(self, indices: Indices) -> ChosenPixels:
        """The images at these positions."""
        return ChosenPixels(self._whole, self._rows[indices])


def _open_map(file: str, offset: int, shape: tuple[int, ...], rows: Indices) -> ChosenPixels:
    return ChosenPixels(np.memmap(file, dtype=np.uint8, mode="r", offset=offset, shape=shape), rows)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with a class label and a subgroup each.

    Raises:
        DataError: shapes disagree, a label lies outside the classes, or there is no image.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0, 1]),
        ...     groups=np.array(["a", "b"]), classes=("no", "yes"), name="tiny")
        >>> len(images), images.batch(np.array([1])).shape
        (2, torch.Size([1, 3, 8, 8]))
    """

    pixels: Pixels | ChosenPixels  # uint8, shape (N, height, width, 3), RGB; usually a memory map
    labels: Indices  # int64, shape (N,), in 0 .. len(classes) - 1
    groups: npt.NDArray[np.str_]  # shape (N,), the name of each image's subgroup
    classes: tuple[str, ...]  # class names; the position is the label
    name: str  # name of the set in messages and reports
    sources: tuple[str, ...] = ()  # the file of each image
    hashes: npt.NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=np.str_))
    """First 16 hex digits of the SHA-256 of each image's pixels, shape (N,); computed when not given."""
    origins: npt.NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=np.str_))
    """The same of each image's file, which no crop or size changes; `hashes` when not given."""
    drawn: bool = False  # the images are synthetic; reports say so

    def __post_init__(self) -> None:
        if not isinstance(self.pixels, np.ndarray | ChosenPixels):
            raise DataError(f"{self.name}: expected pixels as a numpy array of uint8, got {type(self.pixels).__name__}; convert them")
        for field_name in ("labels", "groups"):
            object.__setattr__(self, field_name, np.asarray(getattr(self, field_name)))
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise DataError(f"{self.name}: expected labels as whole numbers, the positions of the classes, got {self.labels.dtype}")
        n = len(self.pixels)
        if n == 0:
            raise DataError(f"{self.name}: expected at least one image, found none; check the data folder and the filters on it")
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[3] != 3:
            raise DataError(f"{self.name}: expected uint8 pixels (N, height, width, 3), got {self.pixels.dtype} {self.pixels.shape}")
        if len(self.labels) != n or len(self.groups) != n:
            raise DataError(f"{self.name}: {n} images but {len(self.labels)} labels and {len(self.groups)} groups; give one per image")
        if {len(self.sources), len(self.hashes), len(self.origins)} - {0, n}:
            raise DataError(
                f"{self.name}: {n} images but {len(self.sources)} sources, {len(self.hashes)} hashes and {len(self.origins)} origins; "
                "give one for each image or none"
            )
        outside = (self.labels < 0) | (self.labels >= len(self.classes))
        if outside.any():
            first = int(np.flatnonzero(outside)[0])
            raise DataError(
                f"{self.name}: label {int(self.labels[first])} of {self.describe(first)} is outside the {len(self.classes)} classes "
                f"{self.classes}; correct the label or give the class list it belongs to"
            )
        if len(self.hashes) == 0:
            object.__setattr__(self, "hashes", hash_pixels(self.pixels))
        if len(self.origins) == 0:
            object.__setattr__(self, "origins", self.hashes)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def group_names(self) -> tuple[str, ...]:
        """The subgroups that occur, sorted."""
        return tuple(sorted(set(self.groups.tolist())))

    def describe(self, index: int) -> str:
        """The name of one image in a message: its file, else its position."""
        return self.sources[index] if self.sources else f"image {index}"

    def subset(self, indices: Sequence[int] | Indices, name: str | None = None) -> LabelledImages:
        """The images at `indices`, in that order."""
        positions = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            pixels=self.pixels.subset(positions) if isinstance(self.pixels, ChosenPixels) else ChosenPixels(self.pixels, positions),
            labels=self.labels[positions],
            groups=self.groups[positions],
            sources=tuple(self.sources[i] for i in positions) if self.sources else (),
            hashes=self.hashes[positions],
            origins=self.origins[positions],
            name=name or self.name,
        )

    def batch(self, indices: Indices) -> torch.Tensor:
        """Float images in [0, 1], shape (k, 3, height, width), in channels-last memory order."""
        pixels = torch.from_numpy(np.ascontiguousarray(self.pixels[indices]))
        return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255.0)


def concatenate(first: LabelledImages, second: LabelledImages) -> LabelledImages:
    """The images of two sets of the same classes and size, in that order, in memory."""
    return LabelledImages(
        pixels=np.concatenate([np.asarray(first.pixels), np.asarray(second.pixels)]),
        labels=np.concatenate([first.labels, second.labels]),
        groups=np.concatenate([first.groups, second.groups]),
        classes=first.classes,
        name=f"{first.name} and {second.name}",
        hashes=np.concatenate([first.hashes, second.hashes]),
        origins=np.concatenate([first.origins, second.origins]),
        drawn=first.drawn or second.drawn,
    )


def hash_pixels(pixels: Pixels | ChosenPixels) -> npt.NDArray[np.str_]:
    """First 16 hex digits of the SHA-256 of each image's pixels, shape (N,)."""
    return np.array([hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16] for image in pixels], dtype=np.str_)


def labelled_hash(images: LabelledImages) -> str:
    """A hash of images, labels and groups in their order."""
    lines = [f"{digest} {label} {group}\n" for digest, label, group in zip(images.hashes, images.labels, images.groups, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def data_hash(images: LabelledImages) -> str:
    """SHA-256 over the hashes of all images, in any order."""
    return hashlib.sha256("".join(sorted(images.hashes.tolist())).encode()).hexdigest()
