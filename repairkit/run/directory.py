"""The run directory: everything that a run leaves behind, there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repairkit.errors import UsageError


def require_free(out: Path) -> None:
    """Refuse a run directory that already holds something or cannot be made, before any work is done.

    Raises:
        UsageError: it exists and is no empty directory, or its place is no folder that can be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} already exists; give another --out or remove it, an earlier run is never overwritten")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UsageError(f"{out} cannot be made, since {above} is no folder that can be written; give another --out")


@contextmanager
def whole_directory(out: Path) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place on success and vanishes on error."""
    out = out.absolute()  # also "." has a name and a parent then
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
    try:
        yield temporary
        require_free(out)
        temporary.chmod(0o755)
        if out.exists():
            out.rmdir()
        os.rename(temporary, out)  # noqa: PTH104 - Path.rename would follow an existing directory on some systems
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
