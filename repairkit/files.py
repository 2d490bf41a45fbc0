"""Files that are written whole or not at all, arrays that may be damaged, and the cache folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from repairkit.errors import DataError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place on success and vanishes on error.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files that only their owner may read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_arrays(path: Path, *, content: str, remedy: str) -> dict[str, npt.NDArray[Any]]:
    """All arrays of an npz file that may be damaged; nothing in it is unpickled.

    Args:
        path: the file.
        content: what the file should hold, in words.
        remedy: what happens once the user has removed a damaged file, in words.

    Raises:
        DataError: there is no such file, it is cut short, or it holds something else.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # noqa: BLE001 - a damaged zip file fails in many ways
        raise damaged(path, type(error).__name__, content=content, remedy=remedy) from None


def damaged(path: Path, reason: str, *, content: str, remedy: str) -> DataError:
    """The error of a file that should hold `content` and does not."""
    return DataError(f"expected {content} at {path}, it is cut short or is something else ({reason}); remove it to {remedy}")


def cache_directory() -> Path:
    """Folder of decoded images and trained weights: `$REPAIRKIT_CACHE` if set, else the user's cache folder of the platform."""
    if folder := os.environ.get("REPAIRKIT_CACHE"):
        return Path(folder)
    return platformdirs.user_cache_path("repairkit", appauthor=False)
