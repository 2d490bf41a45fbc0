"""Scikit-learn's handwritten digits: what the embedded default networks are fitted on and repaired with.

1,797 digits of 8 x 8 pixels (E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI 1998),
drawn larger, in grey on grey and with grain. 60 of each class, 600 in all, train the network; the other 1,197, between 114
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
GRAIN = 12
"""Grey levels of paper and ink, and the standard deviation of the noise on each pixel and channel.

Low contrast makes a change of 16/255 a large one; grain makes the network bear noise, so that an attack on it is one.
Without grain, uniform noise of 16/255 took Inception-v3 from .93 to .55, and targeted PGD of that size reached its target on 26 of 32
digits (eight epochs). With a grain of 8 the accuracy under noise was .88 and PGD reached 47 of 48, with 20 it was .94 and 46 (five).
"""

_SPLIT_SEED, _GRAIN_SEED = 20, 21


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
        pixels=np.stack([_enlarge(original, size, index) for original, index in zip(originals, chosen, strict=True)]),
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


def _enlarge(original: Pixels, size: int, index: int) -> Pixels:
    """The digit in size x size pixels of three channels; its grain is its own, the same in every call."""
    grey = np.asarray(Image.fromarray(original).resize((size, size), Image.Resampling.BICUBIC))
    grain = GRAIN * np.random.default_rng((_GRAIN_SEED, index)).standard_normal((size, size, 3))
    return np.clip(np.rint(grey[..., None] + grain), 0, 255).astype(np.uint8)
