"""Scikit-learn's handwritten digits: what the embedded default networks are fitted on and repaired with.

1,797 digits of 8 x 8 pixels (E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI 1998),
drawn larger and in grey on grey. 60 of each class, 600 in all, train the network; the other 1,197, between 114
and 123 of each class, are held out for finding, choosing and reporting. Which is which is fixed and no seed
changes it, so that no report shows an image that the cached network was trained on.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from repairkit.data.images import Indices, LabelledImages, Pixels, hash_pixels
from repairkit.errors import UsageError

SIZE = 75
"""Side in pixels: the least that Inception-v3 takes."""
CLASSES = tuple("0123456789")
TRAINING_PER_CLASS = 60
PAPER, INK = 96, 160
"""Grey levels, a quarter of the range apart. The nearer they are, the more a change of 16/255 is: targeted PGD reached its target
on 25 of 32 digits where ink and paper were .4 of the range apart, on 23 of 24 where the change stood to them as here (Inception-v3)."""

_SPLIT_SEED = 20


def training_digits(*, size: int = SIZE) -> LabelledImages:
    """The 600 digits that the embedded default is fitted on, 60 of each class, in an order of no meaning.

    Args:
        size: side of the images in pixels.

    Example:
        >>> digits = training_digits(size=16)
        >>> digits.pixels.shape, digits.groups[:3].tolist() == [str(label) for label in digits.labels[:3]]
        ((600, 16, 16, 3), True)
    """
    return _draw("handwritten digits (training part)", size, held_out=False)


def held_out_digits(*, size: int = SIZE) -> LabelledImages:
    """The other 1,197 digits, of which an embedded default has seen none.

    Args:
        size: side of the images in pixels.

    Example:
        >>> len(held_out_digits(size=16))
        1197
    """
    return _draw("handwritten digits (held out)", size, held_out=True)


def _draw(name: str, size: int, *, held_out: bool) -> LabelledImages:
    from sklearn.datasets import load_digits

    if size < 8:
        raise UsageError(f"expected digits of at least 8 pixels, got {size}; they have 8 x 8")
    loaded = load_digits()
    labels: Indices = loaded.target.astype(np.int64)
    chosen = _part(labels, held_out=held_out)
    originals = np.rint(PAPER + (INK - PAPER) / 16 * loaded.images[chosen]).astype(np.uint8)
    return LabelledImages(
        pixels=np.stack([_enlarge(original, size) for original in originals]),
        labels=labels[chosen],
        groups=np.array(CLASSES)[labels[chosen]],
        classes=CLASSES,
        name=name,
        sources=tuple(f"load_digits().images[{index}]" for index in chosen),
        origins=hash_pixels(originals),
    )


def _part(labels: Indices, *, held_out: bool) -> Indices:
    """Positions of the training digits, or of all others."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    training = np.zeros(len(labels), dtype=bool)
    for label in range(len(CLASSES)):
        training[order[labels[order] == label][:TRAINING_PER_CLASS]] = True
    part: Indices = order[training[order] != held_out]
    return part


def _enlarge(original: Pixels, size: int) -> Pixels:
    grey = Image.fromarray(original).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(grey.convert("RGB"))
