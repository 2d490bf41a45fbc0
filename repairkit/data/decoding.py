"""Image files are decoded once into a uint8 memory map, which later runs open."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from repairkit.data.images import Pixels
from repairkit.errors import DataError, UsageError
from repairkit.files import cache_directory, replacing, write_text

Progress = Callable[[int, int], None]

_UNDECODABLE = (
    *(OSError, SyntaxError, ValueError, IndexError, TypeError, RuntimeError, MemoryError, struct.error),
    Image.DecompressionBombError,
)
RECIPE = 1  # raise it when `decode` makes other pixels of the same file, so that older cached files are not used


@dataclass(frozen=True)
class Crop:
    """A square cut out of an image before it is resized, centred at half the width and moved inside the image where it would leave it.

    Raises:
        UsageError: a number outside its range.

    Example:
        >>> Crop(share=0.75, height=0.42).box(width=160, height=200)
        (20, 24, 140, 144)
        >>> Crop.parse("0.75,0.42") == Crop(share=0.75, height=0.42)
        True
    """

    share: float = 1.0  # side of the square over the short side of the image, in (0, 1]
    height: float = 0.5  # centre of the square over the height of the image, in [0, 1], 0 at the top

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 <= self.height <= 1):
            raise UsageError(f"a crop needs a share in (0, 1] and a height in [0, 1], got share {self.share:g} and height {self.height:g}")

    @classmethod
    def parse(cls, text: str) -> Crop:
        """The crop written as `SHARE,HEIGHT`, the inverse of `str`."""
        try:
            share, height = (float(part) for part in text.split(","))
        except ValueError:
            raise UsageError(f"expected a crop as SHARE,HEIGHT such as 0.75,0.42, got {text!r}") from None
        return cls(share=share, height=height)

    def __str__(self) -> str:
        return f"{self.share!r},{self.height!r}"

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the square in an image of that size, in whole pixels."""
        side = max(1, round(self.share * min(width, height)))
        left = round((width - side) / 2)
        top = min(max(round(self.height * height - side / 2), 0), height - side)
        return left, top, left + side, top + side


def decode(
    paths: Sequence[Path],
    *,
    size: int,
    name: str,
    crop: Crop | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Pixels:
    """Decode image files, or open what an earlier call decoded from the same files.

    Images are turned upright (EXIF), laid on white where transparent, made RGB, cropped and resized (antialiased bicubic). The key of the
    cached file covers each path, file size and modification time, `size` and `crop`. The cached file is written whole or not at all.

    Args:
        paths: the files, in the order of the result.
        size: side of the result in pixels.
        name: name of the data set in messages and of the cached file.
        crop: the square to keep; None squeezes the whole image into a square.
        cache: folder of decoded images; by default `images` in `repairkit.files.cache_directory()`.
        progress: called as `progress(done, total)` after each image that is decoded.

    Returns:
        Read-only memory map, uint8, shape (N, size, size, 3), RGB.

    Raises:
        DataError: no path, a missing or undecodable file, or a cache that cannot be written.
        UsageError: a size below 1.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (40, 30), "red").save(folder / "a.png")
        >>> decode([folder / "a.png"], size=8, name="tiny", cache=folder)[0, 0, 0].tolist()
        [255, 0, 0]
    """
    if size < 1:
        raise UsageError(f"expected an image size of at least 1 pixel, got {size}")
    if not paths:
        raise DataError(f"{name}: expected at least one image file, got none; check the data folder and the filters on it")
    folder, plain_name = _place(cache, name)
    target = folder / f"{plain_name}-{size}px-{_key(paths, f'{RECIPE} {size} {crop}', name)}.u8"
    shape = (len(paths), size, size, 3)
    if not target.is_file() or target.stat().st_size != np.prod(shape):
        try:
            _write(target, paths, size=size, crop=crop, name=name, progress=progress)
        except OSError as error:
            raise _unwritable(name, folder, error) from error
    return np.memmap(target, dtype=np.uint8, mode="r", shape=shape)


def hash_files(paths: Sequence[Path], *, name: str, cache: str | Path | None = None) -> npt.NDArray[np.str_]:
    """First 16 hex digits of the SHA-256 of each file's bytes, shape (N,); cached as in `decode`.

    Raises:
        DataError: a file that cannot be read, or a cache that cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.png").write_bytes(b"abc")
        >>> hash_files([folder / "a.png"], name="tiny", cache=folder).tolist()
        ['ba7816bf8f01cfea']
    """
    folder, plain_name = _place(cache, name)
    target = folder / f"{plain_name}-{_key(paths, 'files', name)}.sha256"
    hashes = target.read_text(encoding="ascii", errors="replace").split() if target.is_file() else []
    if len(hashes) != len(paths):
        try:
            hashes = [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths]
        except OSError as error:
            raise DataError(f"{name}: cannot read the image {error.filename} ({error.strerror}); restore it or leave it out") from error
        try:
            write_text(target, "\n".join(hashes) + "\n")
        except OSError as error:
            raise _unwritable(name, folder, error) from error
    return np.array(hashes, dtype=np.str_)


def _place(cache: str | Path | None, name: str) -> tuple[Path, str]:
    """The folder of cached files, and how their names begin."""
    folder = Path(cache) if cache is not None else cache_directory() / "images"
    return folder, re.sub(r"\W+", "-", name).strip("-").lower() or "images"


def _unwritable(name: str, folder: Path, error: OSError) -> DataError:
    return DataError(
        f"{name}: cannot write decoded images to {folder} ({error.strerror or error}); "
        "make room there, or set REPAIRKIT_CACHE to a folder that can be written"
    )


def _key(paths: Sequence[Path], about: str, name: str) -> str:
    """Hash of what decides the content. Paths are absolute: files of two folders may agree in name, size and time."""
    digest = hashlib.sha256(f"{about}\n".encode())
    for path in paths:
        try:
            facts = path.stat()
        except OSError as error:
            raise DataError(f"{name}: cannot find the image {path} ({error.strerror}); restore it or leave it out") from None
        digest.update(os.fsencode(path.absolute()) + f"\0{facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _write(target: Path, paths: Sequence[Path], *, size: int, crop: Crop | None, name: str, progress: Progress | None) -> None:
    # Plain writes, not a writable memory map: a full disk is then an error and no bus error.
    with replacing(target) as temporary, temporary.open("wb") as stream:
        for done, path in enumerate(paths, start=1):
            stream.write(_square(path, size=size, crop=crop, name=name).tobytes())
            if progress is not None:
                progress(done, len(paths))


def _square(path: Path, *, size: int, crop: Crop | None, name: str) -> Image.Image:
    """One file as an upright RGB image of size x size pixels."""
    try:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{name}: expected 8 bits a channel, {path} has mode {image.mode}; convert the file to 8 bits")
            part = image if crop is None else image.crop(crop.box(image.width, image.height))
            return _opaque(part).resize((size, size), Image.Resampling.BICUBIC)
    except _UNDECODABLE as error:
        reason = " ".join(str(error).replace(repr(str(path)), "").split()) or type(error).__name__
        raise DataError(f"{name}: cannot decode the image {path} ({reason}); replace it or leave it out") from error


def _opaque(image: Image.Image) -> Image.Image:
    """As RGB, on white: the colours of transparent pixels are arbitrary."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def existing_folder(root: str | Path, *, name: str, holds: str) -> Path:
    """`root` as a Path; a `DataError` says what it should hold where it is not a folder."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        there = "a file" if folder.exists() else "nothing"
        raise DataError(f"{name}: expected a folder at {folder} holding {holds}, found {there}; give the folder that holds the data set")
    return folder


def require_groups(present: Iterable[str], expected: Collection[str], *, name: str, remedy: str) -> None:
    """Raise a `DataError` with the remedy unless every expected subgroup has an image."""
    groups = set(present)
    if empty := [group for group in expected if group not in groups]:
        raise DataError(f"{name}: expected images of every subgroup, found none of {', '.join(empty)}; {remedy}")
