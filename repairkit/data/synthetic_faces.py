"""Synthetic faces: the data of the embedded default, drawn without photographs.

Cartoon faces have continuous cues of gender (hair outline, jaw, brows, lips, beard shadow, make-up) and a continuous skin tone. As in
photographs, many cues are a contrast with the skin, so they are weaker on darker skin. Short hair is more common among the darker women.
A network trained on `training_faces`, nearly all lighter, relies on hair and contrast, and takes darker women for men.

The faces show nothing about people. They exist so that a repair can be shown without a download.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repairkit.data.images import LabelledImages, Pixels

SIZE = 96
CLASSES = ("female", "male")
GROUPS = ("lighter men", "lighter women", "darker men", "darker women")
SKEWED_SHARES = (0.42, 0.49, 0.08, 0.01)  # of `GROUPS` in the training and source populations, after CelebA's skew

_TRAINING, _SOURCE, _TARGET = 1, 2, 3  # first word of a face's seed, so that the sets share no face

Floats = npt.NDArray[np.float32]
Window = tuple[slice, slice]


def _rgb(*rows: tuple[int, int, int]) -> Floats:
    return np.array(rows, dtype=np.float32) / np.float32(255)


_SKIN = _rgb((250, 226, 208), (240, 203, 176), (220, 172, 138), (172, 120, 84), (118, 78, 54), (62, 40, 31))
_HAIR = _rgb((24, 19, 18), (52, 34, 25), (94, 60, 38), (150, 102, 58), (206, 168, 104), (150, 70, 38), (168, 164, 160))
_HAIR_ODDS = {"lighter": (0.14, 0.40, 0.64, 0.78, 0.90, 0.95, 1.0), "darker": (0.72, 0.93, 0.96, 0.96, 0.96, 0.97, 1.0)}  # cumulative
_WHITE = np.array([0.93, 0.92, 0.9], dtype=np.float32)
_IRIS = _rgb((60, 38, 24), (96, 66, 38), (70, 106, 84), (84, 122, 160))


@dataclass(frozen=True)
class _Traits:
    """What one face looks like. Lengths are in half head heights, tone and strengths in 0 .. 1."""

    tone: float
    skin: Floats
    hair: Floats
    hair_length: float
    hair_volume: float
    hairline: float
    parting: float
    width: float
    jaw: float
    taper: float
    brow: float
    brow_height: float
    lips: float
    lip_tint: float
    beard: float
    make_up: float
    lashes: float
    earring: float
    iris: Floats
    eye: float
    smile: float
    nose: float
    age: float


def _sample_traits(rng: np.random.Generator, *, female: bool, darker: bool) -> _Traits:
    """Sample a face's traits; every cue overlaps between women and men."""
    sex = 1.0 if female else -1.0

    def cue(centre: float, swing: float, spread: float, low: float = 0.0, high: float = 1.0) -> float:
        return min(max(centre + sex * swing + spread * rng.standard_normal(), low), high)

    tone = float(rng.uniform(0.55, 1.0) if darker else rng.uniform(0.0, 0.45))
    skin = np.array([np.interp(tone * 5, np.arange(6), _SKIN[:, k]) for k in range(3)], dtype=np.float32)
    skin = np.clip(skin * (1 + 0.04 * rng.standard_normal(3)), 0, 1).astype(np.float32)
    hair = _HAIR[int(np.searchsorted(_HAIR_ODDS["darker" if darker else "lighter"], rng.random()))]
    short = rng.random() < ((0.40 if darker else 0.10) if female else 0.93)
    length = rng.normal(0.16 if female else 0.10, 0.09) if short else rng.normal(0.72 if female else 0.52, 0.18)
    painted = rng.random() < (0.6 if female else 0.03)
    return _Traits(
        tone=tone,
        skin=skin,
        hair=np.clip(hair * (1 + 0.12 * rng.standard_normal()), 0, 1).astype(np.float32),
        hair_length=min(max(length, 0.0), 1.1),
        hair_volume=cue(0.11, 0.03, 0.05, 0.02, 0.3),
        hairline=cue(-0.55, 0.03, 0.07, -0.8, -0.38),
        parting=float(rng.uniform(-0.5, 0.5)),
        width=cue(0.76, -0.025, 0.035, 0.64, 0.88),
        jaw=cue(0.45, -0.22, 0.18, 0.0, 0.92),
        taper=cue(0.15, 0.05, 0.05, 0.0, 0.3),
        brow=cue(0.050, -0.013, 0.011, 0.022, 0.09),
        brow_height=cue(0.19, 0.025, 0.025, 0.12, 0.28),
        lips=cue(0.085, 0.018, 0.018, 0.04, 0.14),
        lip_tint=min(max(rng.normal(0.85, 0.2) if painted else rng.normal(0.55 if female else 0.42, 0.12), 0.05), 1.2),
        beard=float(rng.beta(1.3, 2.0) if not female else 0.05 * rng.random()),
        make_up=float(rng.random() if painted else 0.1 * rng.random()),
        lashes=cue(0.35, 0.2, 0.15),
        earring=float(rng.random() < (0.38 if female else 0.03)) * float(rng.uniform(0.04, 0.1)),
        iris=_IRIS[0 if darker else rng.integers(len(_IRIS))],
        eye=cue(0.082, 0.006, 0.010, 0.055, 0.12),
        smile=float(rng.uniform(-0.25, 1.0)),
        nose=cue(0.12, -0.015, 0.02, 0.07, 0.2),
        age=float(rng.random() ** 2),
    )


class _Canvas:
    """A square picture in face coordinates: origin between eyes and nose, 1 = half a head, v down."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.unit = float(rng.uniform(25.0, 31.0))
        self.angle = float(np.clip(rng.normal(0, 0.09), -0.28, 0.28))
        self.centre = (SIZE / 2 + rng.normal(0, 2.2), SIZE * 0.5 + rng.normal(0, 2.2))
        x = (np.arange(SIZE, dtype=np.float32)[None, :] - np.float32(self.centre[0])) / np.float32(self.unit)
        y = (np.arange(SIZE, dtype=np.float32)[:, None] - np.float32(self.centre[1])) / np.float32(self.unit)
        self.cos, self.sin = math.cos(self.angle), math.sin(self.angle)
        self.u = np.float32(self.cos) * x + np.float32(self.sin) * y
        self.v = np.float32(self.cos) * y - np.float32(self.sin) * x
        self.image = np.empty((3, SIZE, SIZE), dtype=np.float32)

    def window(self, x: float, y: float, radius: float) -> Window:
        """The pixels within `radius` of a point in face coordinates."""
        column = self.centre[0] + self.unit * (self.cos * x - self.sin * y)
        row = self.centre[1] + self.unit * (self.sin * x + self.cos * y)
        reach = radius * self.unit + 2
        return (
            slice(max(0, int(row - reach)), max(0, int(row + reach) + 1)),
            slice(max(0, int(column - reach)), max(0, int(column + reach) + 1)),
        )

    def soften(self, distance: Floats, blur: float = 0.0) -> Floats:
        """Coverage 0 .. 1 of each pixel from its signed distance in face units."""
        coverage: Floats = distance * np.float32(-1 / (1 / self.unit + blur))
        coverage += np.float32(0.5)
        np.maximum(coverage, 0, out=coverage)
        np.minimum(coverage, 1, out=coverage)
        return coverage

    def paint(self, mask: Floats, colour: Floats, window: Window = (slice(None), slice(None))) -> None:
        """Lay `colour` over the picture where `mask` covers."""
        part = self.image[(slice(None), *window)]
        part += mask * (colour[:, None, None] - part)

    def tint(self, mask: Floats, factor: Floats, window: Window = (slice(None), slice(None))) -> None:
        """Multiply the picture by `factor` where `mask` covers; a tint is fainter on a darker ground."""
        part = self.image[(slice(None), *window)]
        part *= 1 + mask * (factor - 1)[:, None, None]

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, *, pair: float = 0.0, angle: float = 0.0, bend: float = 0.0, blur: float = 0.0
    ) -> tuple[Floats, Window]:
        """Coverage of an ellipse, and its window.

        `pair` > 0 draws two, mirrored, at this distance from x. `bend` > 0 lifts the ends (a smile), < 0 lowers them (a brow).
        """
        window = self.window(x, y, pair + max(rx, ry) + abs(bend) + blur)
        u, v = self.u[window] - np.float32(x), self.v[window] - np.float32(y)
        if pair:
            u = np.abs(u) - np.float32(pair)
        if angle:
            cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
            u, v = cos * u + sin * v, cos * v - sin * u
        if bend:
            v = v + np.float32(bend / rx**2) * u * u
        least = min(rx, ry)
        u, v = u * np.float32(least / rx), v * np.float32(least / ry)
        u *= u
        v *= v
        u += v
        return self.soften(np.sqrt(u, out=u) - np.float32(least), blur), window


def _head_distance(canvas: _Canvas, face: _Traits, grow: float = 0.0) -> Floats:
    """Signed distance to the outline of the head: a squircle below (square jaw), an ellipse above, tapered to the chin."""
    v = canvas.v
    a = canvas.u / (np.float32(face.width + grow) * (1 - np.float32(face.taper) * np.clip(v, 0, 1.2)))
    b = v / np.float32(1.0 + grow)
    a2, b2 = a * a, b * b
    squareness = np.where(v > 0, np.float32(face.jaw**2), np.float32(0.1))
    radius: Floats = np.sqrt(a2 + b2 - squareness * np.minimum(a2, 1) * np.minimum(b2, 1))
    radius -= 1
    radius *= np.float32(face.width + grow)
    return radius


def _draw_background(canvas: _Canvas, rng: np.random.Generator) -> None:
    first, second = rng.random((2, 3)).astype(np.float32) * np.float32(0.45) + np.float32(rng.uniform(0.1, 0.5))
    direction = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + 0.3 * (np.float32(np.cos(direction)) * canvas.u + np.float32(np.sin(direction)) * canvas.v), 0, 1)
    canvas.image[:] = first[:, None, None] + ramp * (second - first)[:, None, None]


def _draw_body(canvas: _Canvas, face: _Traits, rng: np.random.Generator) -> None:
    """Clothes, the hair behind the head, neck and ears."""
    clothes = rng.random(3).astype(np.float32) * np.float32(rng.uniform(0.3, 1.0))
    shoulders = 1.15 + 0.35 * face.jaw
    canvas.paint(*_cover(canvas.ellipse(0, 1.95, shoulders, 0.75), clothes))
    bottom = 0.1 + 1.35 * face.hair_length
    if bottom > 0.25:
        half = face.width + face.hair_volume + 0.06
        side = np.abs(canvas.u) - np.float32(half) * (1 + np.float32(0.10) * np.clip(canvas.v, -1, 1.4))
        drop = np.maximum(canvas.v - np.float32(bottom), -np.float32(0.35) - canvas.v)
        canvas.paint(canvas.soften(np.maximum(side, drop), 0.05), face.hair * np.float32(0.85))
    neck = np.maximum(np.abs(canvas.u) - np.float32(0.3 + 0.16 * face.jaw), np.abs(canvas.v - np.float32(0.95)) - np.float32(0.42))
    canvas.paint(canvas.soften(neck, 0.02), face.skin * np.float32(0.8))
    canvas.paint(*_cover(canvas.ellipse(0, 0.04, 0.09, 0.17, pair=face.width + 0.02), face.skin * np.float32(0.88)))


def _cover(shape: tuple[Floats, Window], colour: Floats, strength: float = 1.0) -> tuple[Floats, Floats, Window]:
    mask, window = shape
    return (mask if strength == 1.0 else mask * np.float32(strength)), colour, window


def _draw_skin(canvas: _Canvas, face: _Traits, head: Floats, rng: np.random.Generator) -> None:
    """The face itself: shaded skin, cheeks, lines of age, and the shadow of a beard."""
    canvas.paint(head, face.skin)
    light = np.float32(rng.uniform(-0.16, 0.16)) * canvas.u - np.float32(0.05) * canvas.v - np.float32(0.12) * canvas.u**2
    canvas.image *= 1 + head * light
    blush = np.array([1.0, 0.86, 0.86], np.float32)
    canvas.tint(*_cover(canvas.ellipse(0, 0.3, 0.2, 0.14, pair=0.42, blur=0.25), blush, 0.4 + 0.6 * face.make_up))
    if face.age > 0.2:
        fold = np.full(3, 0.88, np.float32)
        canvas.tint(*_cover(canvas.ellipse(0, 0.42, 0.025, 0.16, pair=0.3, angle=-0.5, blur=0.02), fold, face.age))
    if face.beard > 0.08:
        start = np.float32(0.38) - np.float32(0.9) * (np.abs(canvas.u) - np.float32(0.38)).clip(0, 0.4)
        lower = ((canvas.v - start) * 6).clip(0, np.float32(min(1.0, 1.1 * face.beard)))
        canvas.tint(head * lower, np.float32(0.35) * face.hair + np.array([0.32, 0.34, 0.38], np.float32))


def _draw_eyes(canvas: _Canvas, face: _Traits, turn: float) -> None:
    dark = np.array([0.08, 0.06, 0.06], np.float32)
    shade = np.array([0.72, 0.66, 0.80], np.float32)
    y, eye, apart = -0.08, face.eye, 0.31
    canvas.tint(*_cover(canvas.ellipse(turn, y - 0.05, 0.19, 0.12, pair=apart, blur=0.06), shade, 0.2 + 0.8 * face.make_up))
    canvas.paint(*_cover(canvas.ellipse(turn, y, 0.15, eye, pair=apart), _WHITE))
    canvas.paint(*_cover(canvas.ellipse(turn, y, eye * 0.92, eye * 0.92, pair=apart), face.iris))
    canvas.paint(*_cover(canvas.ellipse(turn, y, eye * 0.45, eye * 0.45, pair=apart), dark))
    lid = canvas.ellipse(turn, y - eye * 0.85, 0.17, 0.02 + 0.025 * face.lashes, pair=apart, bend=-0.05)
    canvas.paint(*_cover(lid, dark, 0.4 + 0.6 * face.lashes))
    brow = canvas.ellipse(turn, y - face.brow_height, 0.2, face.brow, pair=apart + 0.01, angle=0.08, bend=-0.05, blur=0.01)
    canvas.paint(*_cover(brow, face.hair * np.float32(0.7), 0.85))


def _draw_nose_and_mouth(canvas: _Canvas, face: _Traits, turn: float) -> None:
    shadow = np.full(3, 0.80, np.float32)
    canvas.tint(*_cover(canvas.ellipse(turn * 1.3 + 0.06, 0.12, 0.05, 0.2, angle=0.15, blur=0.06), shadow, 0.7))
    canvas.tint(*_cover(canvas.ellipse(turn * 1.3, 0.31, face.nose, 0.05, bend=0.02, blur=0.04), shadow))
    canvas.tint(*_cover(canvas.ellipse(turn * 1.3, 0.32, 0.032, 0.02, pair=face.nose * 0.55), np.full(3, 0.5, np.float32)))
    tint = 1 - np.float32(face.lip_tint) * np.array([0.16, 0.62, 0.52], np.float32)
    half, bend, y = 0.25 + 0.04 * face.smile, 0.06 * face.smile, 0.58
    canvas.tint(*_cover(canvas.ellipse(turn, y - face.lips * 0.45, half, face.lips * 0.62, bend=bend), tint))
    canvas.tint(*_cover(canvas.ellipse(turn, y + face.lips * 0.5, half * 0.9, face.lips * 0.8, bend=bend), tint))
    if face.smile > 0.55:
        canvas.paint(*_cover(canvas.ellipse(turn, y, half * 0.8, 0.035 * face.smile, bend=bend), _WHITE))
    else:
        canvas.tint(*_cover(canvas.ellipse(turn, y, half * 0.95, 0.014, bend=bend), np.full(3, 0.45, np.float32)))


def _draw_hair(canvas: _Canvas, face: _Traits, rng: np.random.Generator) -> None:
    """Hair over the forehead and, if long, beside the cheeks; earrings last."""
    outline = canvas.soften(_head_distance(canvas, face, face.hair_volume), 0.04)
    edge = np.float32(face.hairline) + np.float32(0.55) * (canvas.u - np.float32(0.25 * face.parting)) ** 2
    edge += np.float32(0.12 * face.parting) * canvas.u
    side_limit = np.float32(-0.28 + 1.4 * face.hair_length)
    beside = np.abs(canvas.u) - np.float32(face.width - 0.10 - 0.06 * min(face.hair_length, 1.0))
    top = canvas.soften(canvas.v - np.minimum(edge, side_limit), 0.05)
    strands = canvas.soften(np.maximum(-beside, canvas.v - side_limit), 0.05) * (canvas.v > face.hairline)
    if face.hair_length > 0.35:
        outline = np.maximum(outline, canvas.soften(np.abs(canvas.u) - np.float32(face.width + face.hair_volume), 0.05) * (canvas.v > 0))
    mask = outline * np.maximum(top, strands)
    streak = 1 + np.float32(0.10) * np.sin(np.float32(rng.uniform(14, 26)) * canvas.u + np.float32(rng.uniform(0, 6)))
    part = canvas.image
    part += mask * (face.hair[:, None, None] * streak - part)
    if face.earring:
        gold = np.array([0.92, 0.80, 0.42], np.float32)
        hoops = canvas.ellipse(0, 0.22 + face.earring, face.earring * 0.8, face.earring, pair=face.width + 0.03)
        canvas.paint(*_cover(hoops, gold))


def _finish(canvas: _Canvas, rng: np.random.Generator) -> Pixels:
    """Light from one side, the camera's exposure and noise; to uint8 (height, width, 3)."""
    direction, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.16)
    light = 1 + np.float32(slope * np.cos(direction)) * canvas.u + np.float32(slope * np.sin(direction)) * canvas.v
    image = canvas.image
    image *= light * np.float32(rng.uniform(0.82, 1.12) * 255)
    # Sums of bytes are nearly Gaussian, and much faster.
    grain = np.frombuffer(rng.bytes(image.size * 2), dtype=np.uint8).reshape(2, *image.shape)
    noise = grain[0].astype(np.float32)
    noise += grain[1]
    noise -= np.float32(255)
    noise *= np.float32(rng.uniform(0.02, 0.07))
    image += noise
    np.maximum(image, 0, out=image)
    np.minimum(image, 255, out=image)
    return np.ascontiguousarray(image.astype(np.uint8).transpose(1, 2, 0))


def _draw(rng: np.random.Generator, group: str) -> Pixels:
    """One face of a group, uint8 (96, 96, 3)."""
    face = _sample_traits(rng, female=group.endswith("women"), darker=group.startswith("darker"))
    canvas = _Canvas(rng)
    turn = float(np.clip(rng.normal(0, 0.05), -0.12, 0.12))
    _draw_background(canvas, rng)
    _draw_body(canvas, face, rng)
    head = canvas.soften(_head_distance(canvas, face))
    _draw_skin(canvas, face, head, rng)
    _draw_eyes(canvas, face, turn)
    _draw_nose_and_mouth(canvas, face, turn)
    _draw_hair(canvas, face, rng)
    return _finish(canvas, rng)


def _collect(name: str, faces: Iterable[tuple[np.random.Generator, str]], n: int) -> LabelledImages:
    pixels = np.empty((n, SIZE, SIZE, 3), dtype=np.uint8)
    groups = []
    for index, (rng, group) in enumerate(faces):
        pixels[index] = _draw(rng, group)
        groups.append(group)
    labels = np.array([CLASSES.index("female" if group.endswith("women") else "male") for group in groups], dtype=np.int64)
    return LabelledImages(pixels=pixels, labels=labels, groups=np.array(groups, dtype=np.str_), classes=CLASSES, name=name, drawn=True)


def _skewed(name: str, n: int, words: tuple[int, int]) -> LabelledImages:
    def faces() -> Iterable[tuple[np.random.Generator, str]]:
        for index in range(n):
            rng = np.random.default_rng([*words, index])
            yield rng, GROUPS[int(np.searchsorted(np.cumsum(SKEWED_SHARES[:-1]), rng.random()))]

    return _collect(name, faces(), n)


def training_faces(*, n: int = 6000, seed: int = 0) -> LabelledImages:
    """Faces of the skewed population (`SKEWED_SHARES`), for training. Face i depends on `seed` and i, not on `n`.

    Example:
        >>> faces = training_faces(n=5)
        >>> faces.pixels.shape, faces.classes, faces.drawn
        ((5, 96, 96, 3), ('female', 'male'), True)
    """
    return _skewed("drawn training faces", n, (_TRAINING, seed))


def source_faces(*, n: int = 1100, seed: int = 0) -> LabelledImages:
    """Other faces of the same skewed population, disjoint from the training faces."""
    return _skewed("drawn source faces", n, (_SOURCE, seed))


def target_faces(*, per_group: int = 200, seed: int = 0) -> LabelledImages:
    """Equally many faces of each of the four groups, in turn, as in PPB.

    Example:
        >>> faces = target_faces(per_group=2)
        >>> {group: int((faces.groups == group).sum()) for group in faces.group_names}
        {'darker men': 2, 'darker women': 2, 'lighter men': 2, 'lighter women': 2}
    """
    n = len(GROUPS) * per_group
    faces = ((np.random.default_rng([_TARGET, seed, index]), GROUPS[index % len(GROUPS)]) for index in range(n))
    return _collect("drawn target faces", faces, n)
