"""Scikit-learn's handwritten digits, on which the embedded networks are fitted and repaired.

The 1,797 digits of 8 x 8 pixels (Alpaydin & Kaynak, UCI 1998) are enlarged, grey on grey, with noise. 60 of each class train the network.
The other 1,197, between 114 and 123 of each class, are held out for attribution, selection and test. No seed changes this split, so that no
report shows an image that a cached network was trained on.

`typed_digits` is another data set of the same classes: digits of twelve typefaces in the same form.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from repairkit.data.images import Indices, LabelledImages, Pixels, hash_pixels
from repairkit.errors import UsageError

SIZE = 75  # side in pixels: the least that Inception-v3 takes
CLASSES = tuple("0123456789")
TRAINING_PER_CLASS = 60
PAPER, INK = 96, 160
GRAIN = 12
"""Grey levels of paper and ink, and the standard deviation of the noise on each pixel and channel.

Low contrast makes a change of 16/255 large. Noise makes the network robust to noise, so that an attack needs more than noise. Without it,
uniform noise of 16/255 took Inception-v3 from .93 to .55. With a standard deviation of 8, accuracy under noise was .88 and PGD reached 47
of 48 targets; with 20 it was .94 and 46.
"""

TYPEFACES = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("STIXGeneral", "STIXGeneralBol", "cmr10", "cmb10", "cmss10", "cmtt10"),
)
"""Typefaces of the typed digits. Matplotlib ships them, so that the fonts of the machine do not matter."""

_SPLIT_SEED, _GRAIN_SEED = 20, 21
_FINE = 256  # side in pixels that typed digits are drawn at before they are reduced to 8 x 8


def training_digits(*, size: int = SIZE) -> LabelledImages:
    """The 600 digits that an embedded network is fitted on, 60 of each class, shuffled; `size` is their side in pixels.

    Example:
        >>> digits = training_digits(size=16)
        >>> digits.pixels.shape, digits.groups[:3].tolist() == [str(label) for label in digits.labels[:3]]
        ((600, 16, 16, 3), True)
    """
    return _load("handwritten digits (training part)", size, held_out=False)


def held_out_digits(*, size: int = SIZE) -> LabelledImages:
    """The 1,197 digits that no embedded network is fitted on.

    Example:
        >>> len(held_out_digits(size=16))
        1197
    """
    return _load("handwritten digits (held out)", size, held_out=True)


def typed_digits(n: int, *, size: int = SIZE, seed: int = 0) -> LabelledImages:
    """Digits of twelve typefaces, each with a random size, place and slant; no embedded network is fitted on them.

    They are reduced to 17 levels of ink in 8 x 8 squares, then enlarged with the greys and noise of the handwritten digits. They fill .9 to 1
    of the height, lie at most a quarter of an original pixel off the centre and are turned by at most 10 degrees. A support vector machine
    fitted on the training digits reads .98 of the held-out digits and .72 of the typed ones.

    Args:
        n: how many. The classes take turns, and the first k digits are the same for every n.
        size: side of the images in pixels.
        seed: of typefaces, sizes, places, slants and noise. The same seed and version of Pillow give the same digits.

    Raises:
        UsageError: fewer than one digit, or fewer than 8 pixels.

    Example:
        >>> digits = typed_digits(12, size=16, seed=0)
        >>> digits.pixels.shape, digits.labels.tolist(), digits.classes == CLASSES
        ((12, 16, 16, 3), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1], True)
    """
    if n < 1:
        raise UsageError(f"expected at least 1 typed digit, got {n}; give a number of digits")
    _check_size(size)
    labels = np.arange(n) % len(CLASSES)
    streams = [np.random.default_rng((seed, index)) for index in range(n)]
    faces = [TYPEFACES[int(rng.integers(len(TYPEFACES)))] for rng in streams]
    levels = [_typed(CLASSES[label], face, rng) for label, face, rng in zip(labels, faces, streams, strict=True)]
    originals = _greys(np.stack(levels))
    return LabelledImages(
        pixels=np.stack([_enlarge(original, size, rng) for original, rng in zip(originals, streams, strict=True)]),
        labels=labels,
        groups=np.array(CLASSES)[labels],
        classes=CLASSES,
        name="typed digits",
        sources=tuple(f"typed digit {index} ({face})" for index, face in enumerate(faces)),
        origins=hash_pixels(originals),
        drawn=True,
    )


def _load(name: str, size: int, *, held_out: bool) -> LabelledImages:
    from sklearn.datasets import load_digits

    _check_size(size)
    loaded = load_digits()
    labels: Indices = loaded.target.astype(np.int64)
    indices = _part(labels, held_out=held_out)
    originals = _greys(loaded.images[indices])
    streams = [np.random.default_rng((_GRAIN_SEED, index)) for index in indices]  # the same in every call
    return LabelledImages(
        pixels=np.stack([_enlarge(original, size, rng) for original, rng in zip(originals, streams, strict=True)]),
        labels=labels[indices],
        groups=np.array(CLASSES)[labels[indices]],
        classes=CLASSES,
        name=name,
        sources=tuple(f"load_digits().images[{index}]" for index in indices),
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


def _check_size(size: int) -> None:
    if size < 8:
        raise UsageError(f"expected digits of at least 8 pixels, got {size}; the originals have 8 x 8")


def _greys(levels: npt.NDArray[np.float64]) -> Pixels:
    """Ink from 0 to 16 as grey levels."""
    return np.rint(PAPER + (INK - PAPER) / 16 * levels).astype(np.uint8)


def _enlarge(original: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """The digit in size x size pixels of three channels, with noise."""
    grey = np.asarray(Image.fromarray(original).resize((size, size), Image.Resampling.BICUBIC))
    grain = GRAIN * rng.standard_normal((size, size, 3))
    return np.clip(np.rint(grey[..., None] + grain), 0, 255).astype(np.uint8)


def _typed(digit: str, face: str, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Ink from 0 to 16 in each of 8 x 8 squares."""
    font = _font(face)
    left, top, right, bottom = font.getbbox(digit)
    canvas = Image.new("L", (_FINE, _FINE))
    middle = _FINE / 2
    ImageDraw.Draw(canvas).text((middle - (left + right) / 2, middle - (top + bottom) / 2), digit, fill=255, font=font)
    scale = _FINE * rng.uniform(0.9, 1.0) / (bottom - top)
    angle = math.radians(rng.uniform(-10, 10))
    right_by, down_by = rng.uniform(-0.25, 0.25, size=2) * _FINE / 8
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    # Pillow wants the map from points of the result to points of the canvas.
    x, y = middle + right_by, middle + down_by
    back = (cosine, sine, middle - cosine * x - sine * y, -sine, cosine, middle + sine * x - cosine * y)
    turned = canvas.transform((_FINE, _FINE), Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)
    return np.rint(np.asarray(turned.reduce(_FINE // 8)) / 255 * 16)


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    import matplotlib as mpl

    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf", size=_FINE // 2)
