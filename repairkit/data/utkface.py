"""UTKFace: cropped faces whose file names say age, gender and race.

Z. Zhang, Y. Song, H. Qi: Age Progression/Regression by Conditional Adversarial Autoencoder, CVPR 2017.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repairkit.data.celeba import CLASSES
from repairkit.data.decoding import Crop, Progress, decode, existing_folder, hash_files, require_groups
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, DataWarning, UsageError

CROP: Crop | None = None
RACES = ("white", "black", "asian", "indian", "other")

_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d.*")
_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class _Face:
    path: Path
    age: int
    label: int
    race: str

    @property
    def group(self) -> str:
        return f"{self.race} {'men' if self.label else 'women'}"


def load(
    root: str | Path,
    *,
    min_age: int = 16,
    races: Sequence[str] | None = None,
    size: int = 96,
    crop: Crop | None = CROP,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> LabelledImages:
    """Load the faces, labelled 0 female and 1 male, sorted by file name.

    Names have the form `age_gender_race_datetime.jpg.chip.jpg`. There, gender 0 is male and 1 female, the reverse of our labels. Race is 0 white,
    1 black, 2 asian, 3 indian and 4 other. Subgroups are "white men", "white women", "black men" and so on.

    Args:
        root: the folder of the cropped faces, or the parent of a folder `UTKFace`.
        min_age: the youngest age to load, in years.
        races: load only these; by default all five.
        size: side of the images in pixels.
        crop: the square to keep; by default the whole image, which is already cropped to the face.
        cache: folder of decoded images, see `repairkit.data.decoding.decode`.
        progress: called as `progress(done, total)` while images are decoded.

    Raises:
        DataError: no face, an image that cannot be decoded, or a subgroup that the filters left empty.
        UsageError: an unknown race.

    Warns:
        DataWarning: files with other names were skipped.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("30_0_1_20170101.jpg.chip.jpg", "41_1_0_20170102.jpg.chip.jpg"):
        ...     Image.new("RGB", (112, 112)).save(root / name)
        >>> faces = load(root, cache=root)
        >>> faces.labels.tolist(), faces.groups.tolist()
        ([1, 0], ['black men', 'white women'])
    """
    selected_races = RACES if races is None else tuple(races)
    if unknown := [race for race in selected_races if race not in RACES]:
        raise UsageError(f"UTKFace: unknown race {unknown[0]!r}; choose among {', '.join(RACES)}")
    faces, malformed = _read(_find(root))
    if malformed:
        warnings.warn(
            f"UTKFace: skipped {len(malformed)} files whose names are not age_gender_race_datetime, the first is {malformed[0]}; "
            "rename them to load them",
            DataWarning,
            stacklevel=2,
        )
    selected = [face for face in faces if face.race in selected_races and face.age >= min_age]
    _check_groups(faces, selected, selected_races, explicit=races is not None, min_age=min_age)
    paths = [face.path for face in selected]
    return LabelledImages(
        pixels=decode(paths, size=size, crop=crop, cache=cache, name="UTKFace", progress=progress),
        labels=np.array([face.label for face in selected], dtype=np.int64),
        groups=np.array([face.group for face in selected], dtype=np.str_),
        classes=CLASSES,
        name="UTKFace",
        sources=tuple(path.name for path in paths),
        origins=hash_files(paths, name="UTKFace", cache=cache),
    )


def _find(root: str | Path) -> Path:
    folder = existing_folder(root, name="UTKFace", holds="the cropped faces")
    inner = folder / "UTKFace"
    return inner if inner.is_dir() else folder


def _read(folder: Path) -> tuple[list[_Face], list[str]]:
    """The faces of a folder, and the names of images in another form."""
    faces, malformed = [], []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _ENDINGS or path.name.startswith("."):
            continue
        if match := _NAME.fullmatch(path.name):
            age, gender, race = map(int, match.groups())
            faces.append(_Face(path=path, age=age, label=1 - gender, race=RACES[race]))
        else:
            malformed.append(path.name)
    if not faces:
        raise DataError(f"UTKFace: expected images named age_gender_race_datetime.jpg in {folder}, found none; give the folder of faces")
    return faces, malformed


def _check_groups(faces: list[_Face], selected: list[_Face], races: Sequence[str], *, explicit: bool, min_age: int) -> None:
    """Every subgroup of the races named must have a face; so must every subgroup that had one before the filter on age."""
    expected = {face.group for face in faces if face.race in races}
    if explicit:
        expected |= {f"{race} {people}" for race in races for people in ("men", "women")}
    remedy = f"lower min_age (now {min_age}) or load other races from Python"
    require_groups((face.group for face in selected), sorted(expected), name="UTKFace", remedy=remedy)
