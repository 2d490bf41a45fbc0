"""Checkpoints: the state of a long attribution on disk, whole at any moment, continued bit for bit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from repairkit.errors import UsageError
from repairkit.files import damaged, read_arrays, replacing

Arrays = dict[str, npt.NDArray[Any]]
"""The state of a computation by name."""

_CONFIGURATION = "configuration"
_FILE = {"content": "a checkpoint", "remedy": "begin anew"}


@contextmanager
def kept(checkpoint: Checkpoint | None) -> Iterator[None]:
    """Save the state offered last on the way out, also when the computation is interrupted."""
    try:
        yield
    finally:
        if checkpoint is not None:
            checkpoint.save()


def check_same(kept: Path, earlier: Mapping[str, object], ours: Mapping[str, object]) -> None:
    """Refuse what was kept under another configuration.

    Raises:
        UsageError: the configurations differ; the message names the first key that does.
    """
    for key in sorted(earlier.keys() | ours.keys()):
        if earlier.get(key) != ours.get(key):
            raise UsageError(
                f"{kept} was made with {key} {earlier.get(key)}, this run has {key} {ours.get(key)}; "
                "go on with the same configuration, or remove it to begin anew"
            )


class _Saved(Arrays):
    """The state in a file, where a name that is missing says that the file is damaged."""

    def __init__(self, path: Path, arrays: Arrays) -> None:
        super().__init__(arrays)
        self._path = path

    def __missing__(self, name: str) -> NoReturn:
        raise damaged(self._path, f"no {name}", **_FILE)


class Checkpoint:
    """A file that holds the last saved state of one computation.

    It is written to a temporary file, synced and renamed. Killing the process at any moment loses at most `every_seconds` of work.

    Args:
        path: the file, for instance `checkpoint.npz`.
        every_seconds: how often `offer` writes; 0 for every time.
        prepare: called before the file is written, for instance to make what it lies in.

    Example:
        >>> import tempfile
        >>> checkpoint = Checkpoint(Path(tempfile.mkdtemp()) / "checkpoint.npz", every_seconds=0)
        >>> checkpoint.begin({"seed": 3}) is None
        True
        >>> checkpoint.offer({"done": np.array(5)})
        >>> int(Checkpoint(checkpoint.path).begin({"seed": 3})["done"])
        5
        >>> Checkpoint(checkpoint.path).begin({"seed": 4})
        Traceback (most recent call last):
        repairkit.errors.UsageError: ... was made with seed 3, this run has seed 4; ...
    """

    def __init__(self, path: Path, *, every_seconds: float = 30.0, prepare: Callable[[], None] | None = None) -> None:
        self.path = path
        self._prepare = prepare
        self._every = every_seconds
        self._saved_at = time.monotonic()
        self._configuration = "{}"
        self._latest: Arrays = {}

    def begin(self, configuration: Mapping[str, object]) -> Arrays | None:
        """The state saved earlier under this configuration; None where there is none yet.

        Args:
            configuration: everything that decides the result, as JSON can hold it.

        Raises:
            UsageError: the file was made under another configuration; the message names the key.
            DataError: the file is cut short or is no checkpoint; also where an array is asked for that it lacks.
        """
        self._configuration = json.dumps(dict(configuration), sort_keys=True)
        if not self.path.exists():
            return None
        arrays = self._read()
        check_same(self.path, dict(json.loads(str(arrays.pop(_CONFIGURATION)))), json.loads(self._configuration))
        return _Saved(self.path, arrays)

    def _read(self) -> Arrays:
        arrays = read_arrays(self.path, **_FILE)
        try:
            dict(json.loads(str(arrays[_CONFIGURATION])))
        except (KeyError, ValueError, TypeError) as error:
            raise damaged(self.path, type(error).__name__, **_FILE) from None
        return arrays

    def offer(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Hold a copy of the state between two rounds, and save it when it is time."""
        self._latest = {name: array.copy() for name, array in state.items()}
        if time.monotonic() - self._saved_at >= self._every:
            self.save()

    def save(self) -> None:
        """Write the state offered last; nothing where none was."""
        if not self._latest:
            return
        if self._prepare is not None:
            self._prepare()
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, **self._latest, **{_CONFIGURATION: np.array(self._configuration)})  # type: ignore[arg-type]
        self._saved_at = time.monotonic()
