"""The store of a run: finished work is kept beside the run directory until that stands, and a run that goes on takes it from there."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from repairkit.errors import DataError, UsageError
from repairkit.files import read_arrays, replacing, write_text
from repairkit.run.ledger import Entry
from repairkit.shapley.checkpoint import Arrays, Checkpoint, check_same
from repairkit.shapley.values import Attribution

Value = TypeVar("Value")


@dataclass(frozen=True)
class Format(Generic[Value]):
    """How a result is written to a file of this suffix and read again, every bit as it was."""

    suffix: str
    write: Callable[[Value, Path], object]
    read: Callable[[Path], Value]


class RunStore:
    """Finished work of a run, in `<out>.unfinished/`, which goes when the run directory stands.

        run.json            the settings that decide the result, and the command that goes on
        PART/               a folder for each part of the run, such as a network and fold; parts have parts
            KEY.SUFFIX      a finished result, with KEY.spent.json: the image passes that it took
            KEY.npz         checkpoint of an attribution at work
            batch.json      images of a pass, by key, where memory ran out
        seconds.json        seconds of work by phase

    The directory is made when the first result is stored, so that bad input leaves nothing behind.

    Args:
        out: the run directory.
        configuration: everything that decides the result, as JSON can hold it.
        command: what the user types to go on.

    Raises:
        UsageError: the directory was made under another configuration; the message names the key.
        DataError: it holds no configuration that can be read.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "run"
        >>> store = RunStore(out, {"seed": 3}, command="repairkit fairness --resume")
        >>> store.write("curve", {"right": np.array([True])}, ARRAYS, spent=[("evaluation", 1.0)])
        >>> store.read("curve", ARRAYS), sorted(file.name for file in store.path.iterdir())
        (({'right': array([ True])}, [('evaluation', 1.0)]), ['curve.arrays.npz', 'curve.spent.json', 'run.json'])
        >>> RunStore(out, {"seed": 4}, command="repairkit fairness --resume")
        Traceback (most recent call last):
        repairkit.errors.UsageError: ...run.unfinished was made with seed 3, this run has seed 4; ...
    """

    def __init__(self, out: Path, configuration: Mapping[str, object], *, command: str) -> None:
        self.path = self._root = place_beside(out)
        self._record = {"configuration": json.loads(json.dumps(dict(configuration))), "resume": command}
        self._listeners: list[Callable[[], None]] = []  # one list for all parts
        if self.path.exists():
            earlier = _read(self._file)
            if not isinstance(earlier.get("configuration"), dict):
                raise DataError(f"expected the configuration of an unfinished run at {self._file}; remove {self.path} to begin anew")
            check_same(self.path, earlier["configuration"], self._record["configuration"])

    @property
    def _file(self) -> Path:
        return self._root / "run.json"

    def within(self, part: str) -> RunStore:
        """The store of one part of the work, in a folder below."""
        other = copy.copy(self)
        other.path = self.path / part
        return other

    def begin(self) -> None:
        """Make the directory with its configuration, unless it is there; called before anything is stored, so that the seconds go with it."""
        if not self._file.exists():
            write_text(self._file, json.dumps(self._record, indent=1) + "\n")
        for listener in self._listeners:
            listener()

    def follow(self, note: Callable[[], None]) -> None:
        """Call `note` from now on whenever work is stored in any part, and nothing that was to be called so far."""
        self._listeners[:] = [note]

    def has(self, key: str, form: Format[Any]) -> bool:
        """Whether a finished result is stored under the key."""
        return (self.path / f"{key}{form.suffix}").exists()

    def read(self, key: str, form: Format[Value]) -> tuple[Value, list[Entry]] | None:
        """A finished result and the image passes that it took, in order; None where there is none.

        Raises:
            DataError: the file cannot be read.
        """
        if not self.has(key, form):
            return None
        spent = self.path / f"{key}.spent.json"
        entries = [(str(phase), float(passes)) for phase, passes in _read(spent)["entries"]] if spent.exists() else []
        return form.read(self.path / f"{key}{form.suffix}"), entries

    def write(self, key: str, value: Value, form: Format[Value], *, spent: list[Entry]) -> None:
        """Store a finished result, in place of what was there, with the image passes that it took."""
        self.begin()
        if spent:
            write_text(self.path / f"{key}.spent.json", json.dumps({"entries": spent}) + "\n")
        form.write(value, self.path / f"{key}{form.suffix}")

    def checkpoint(self, key: str) -> Checkpoint:
        """The checkpoint of an attribution at work."""
        return Checkpoint(self.path / f"{key}.npz", prepare=self.begin)

    def batch(self, key: str) -> int | None:
        """Images of a pass of one attribution since memory ran out; None where it did not."""
        return self._batches().get(key)

    def keep_batch(self, key: str, batch: int) -> None:
        """Take note that memory ran out."""
        self.begin()
        write_text(self.path / "batch.json", json.dumps(self._batches() | {key: batch}) + "\n")

    def _batches(self) -> dict[str, int]:
        file = self.path / "batch.json"
        return _read(file) if file.exists() else {}

    def seconds(self) -> dict[str, float]:
        """Seconds of this part's work by phase in earlier sessions."""
        file = self.path / "seconds.json"
        return _read(file) if file.exists() else {}

    def all_seconds(self) -> float:
        """Seconds of earlier sessions, of all parts together."""
        return sum(sum(_read(file).values()) for file in sorted(self._root.rglob("seconds.json")))

    def keep_seconds(self, seconds: Mapping[str, float]) -> None:
        """Take note of the seconds of this part's work in all sessions, once there is work to go with them."""
        if self._file.exists():
            write_text(self.path / "seconds.json", json.dumps(dict(seconds)) + "\n")

    @contextmanager
    def with_command(self) -> Iterator[None]:
        """An error or an interrupt on the way out carries the command that goes on, where work was stored."""
        try:
            yield
        except BaseException as error:
            if self._file.exists():
                error.add_note(f"what was done so far is kept; to go on: {self._record['resume']}")
            raise

    def remove(self) -> None:
        """The run directory stands: nothing is unfinished."""
        if self._root.exists():
            shutil.rmtree(self._root)


def _read_arrays(file: Path) -> Arrays:
    return read_arrays(file, content="arrays of an unfinished run", remedy="compute them again")


def _write_arrays(arrays: Arrays, file: Path) -> None:
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


ARRAYS: Format[Arrays] = Format(".arrays.npz", _write_arrays, _read_arrays)
"""Arrays of numbers, truth values or text by name."""
ATTRIBUTION: Format[Attribution] = Format(".parquet", Attribution.write, Attribution.read)
"""A finished attribution; one that is made in rounds has a checkpoint."""


def place_beside(out: Path) -> Path:
    """Where the unfinished work of a run directory is kept."""
    out = out.absolute()  # also "." has a name then
    return out.with_name(f"{out.name}.unfinished")


def kept_setting(out: Path | None, name: Literal["batch", "threads"]) -> int | None:
    """Images of a pass or CPU threads that the unfinished work of a run directory began with; None where there is none.

    Either gives other last bits, so that a run that goes on keeps what it began with, whatever is free now.

    Raises:
        DataError: its configuration cannot be read.
    """
    file = place_beside(out) / "run.json" if out is not None else None
    if file is None or not file.exists():
        return None
    configuration = _read(file).get("configuration")
    return configuration.get(name) if isinstance(configuration, dict) else None


def check_resumable(out: Path | None, *, resume: bool) -> None:
    """Before any work: there is something to go on with if and only if that was asked for.

    Raises:
        UsageError: it is not so; the message says what to do.
    """
    if out is None:
        if resume:
            raise UsageError("--resume needs to know the run: give the --out that the unfinished run was to have")
        return
    place = place_beside(out)
    if resume and not place.exists():
        raise UsageError(f"there is no unfinished run at {place} to go on with; check --out, or leave --resume out to begin one")
    if not resume and place.exists():
        raise UsageError(f"{place} holds the work of a run that did not finish; go on with it by --resume, or remove it to begin anew")


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"expected {file.name} of an unfinished run at {file}, could not read it ({type(error).__name__}); remove {file.parent} to begin anew"
        ) from None
    return content
