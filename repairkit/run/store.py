"""Unfinished runs: what a run keeps beside its directory until that is written, and goes on from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from repairkit.errors import DataError, UsageError
from repairkit.files import replacing, write_text
from repairkit.repair.selection import Choice, Step
from repairkit.shapley.checkpoint import Arrays, Checkpoint, check_same
from repairkit.shapley.values import Attribution


class Unfinished:
    """The work of a run, kept in `<out>.unfinished/` until the run directory stands.

        run.json                the configuration, and the command that goes on
        seconds.json            seconds of work so far, by part; in the folder of a class where several are asked about
        made.json               image passes by part that went into the cache of adversarial images, which other runs fill, too
        repaired-fold-1/        a folder for each network and fold, or for each class that is asked about, or each round against an attack
            attribution.npz     checkpoint of the attribution; half-1.npz and half-2.npz of those of the halves,
                                half-1-200.npz where these contest 200 filters and not the usual number
            batch.json          images of a pass, by attribution, where memory ran out
            choosing-....arrays.npz  what was measured at each step of choosing
            choice.json         what it ended with
            square.arrays.npz   what one part of the evaluation measured; a file for each (in folders correlation, frontier and evaluation)
            tuned-....arrays.npz  weights that were trained on after a round
            round-2/            the same of a later round on that network and fold
            baselines/taylor/   a folder for each baseline that is compared: attribution.parquet, curve.arrays.npz and what it chose or pruned
        instead-fold-1/         what was fitted instead of a repair: last_layer.arrays.npz, a file for each learning rate of the whole network
        instead/                likewise against an attack: adversarially_trained.arrays.npz
        control/random.npz      who is right with random filters frozen, for all classes

    The directory is made when the first checkpoint is saved, so that bad input leaves nothing behind.

    Args:
        out: the run directory.
        configuration: everything that decides the result, as JSON can hold it.
        command: what the user types to go on.

    Raises:
        UsageError: the directory is there and was made under another configuration; the message names the key.
        DataError: it holds no configuration that can be read.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "run"
        >>> unfinished = Unfinished(out, {"seed": 3}, command="repairkit fairness --resume")
        >>> unfinished.network("repaired-fold-1").keep_choice(Choice((), 0, "there is no candidate", 12.0))
        >>> sorted(file.name for file in unfinished.path.iterdir())
        ['repaired-fold-1', 'run.json']
        >>> Unfinished(out, {"seed": 4}, command="repairkit fairness --resume")
        Traceback (most recent call last):
        repairkit.errors.UsageError: ...run.unfinished was made with seed 3, this run has seed 4; ...
    """

    def __init__(self, out: Path, configuration: Mapping[str, object], *, command: str) -> None:
        self.path = place_beside(out)
        self._record = {"configuration": json.loads(json.dumps(dict(configuration))), "resume": command}
        self._command = command
        self._note: Callable[[], None] | None = None
        if self.path.exists():
            earlier = _read(self._file)
            if not isinstance(earlier.get("configuration"), dict):
                raise DataError(f"expected the configuration of an unfinished run at {self._file}; remove {self.path} to begin anew")
            check_same(self.path, earlier["configuration"], self._record["configuration"])

    @property
    def _file(self) -> Path:
        return self.path / "run.json"

    def begin(self) -> None:
        """Make the directory with its configuration, unless it is there; called before anything is kept, so that the seconds go with it."""
        if not self._file.exists():
            write_text(self._file, json.dumps(self._record, indent=1) + "\n")
        if self._note is not None:
            self._note()

    def follow(self, note: Callable[[], None]) -> None:
        """Call `note` from now on whenever work is kept, and nothing that was to be called so far."""
        self._note = note

    def network(self, name: str) -> KeptNetwork:
        """What is kept of one network on one fold."""
        return KeptNetwork(self, name)

    def seconds(self) -> dict[str, float]:
        """Seconds of work by part in earlier sessions, of all classes together; empty where there was none."""
        total: dict[str, float] = {}
        for file in sorted(self.path.rglob("seconds.json")):
            for part, seconds in _read(file).items():
                total[part] = total.get(part, 0.0) + seconds
        return total

    def made(self, *, folder: Path | None = None) -> dict[str, float]:
        """Image passes by part that earlier sessions made for a cache of all runs."""
        file = (folder or self.path) / "made.json"
        return _read(file) if file.exists() else {}

    def keep_seconds(self, seconds: Mapping[str, float], made: Mapping[str, float] | None = None, *, folder: Path | None = None) -> None:
        """Take note of the seconds of all sessions, once there is work to go with them, and of the passes `made` for a cache of all runs."""
        if self._file.exists():
            write_text((folder or self.path) / "seconds.json", json.dumps(dict(seconds)) + "\n")
            if made:
                write_text((folder or self.path) / "made.json", json.dumps(dict(made)) + "\n")

    @contextmanager
    def told(self) -> Iterator[None]:
        """An error or an interrupt on the way out carries the command that goes on, where work was kept."""
        try:
            yield
        except BaseException as error:
            if self._file.exists():
                error.add_note(f"what was done so far is kept; to go on: {self._command}")
            raise

    def remove(self) -> None:
        """The run directory stands: nothing is unfinished."""
        if self.path.exists():
            shutil.rmtree(self.path)


class KeptNetwork:
    """What an unfinished run keeps of one network on one fold, or of one class."""

    def __init__(self, unfinished: Unfinished, name: str) -> None:
        self._unfinished = unfinished
        self._name = name
        self._folder = unfinished.path / name

    def within(self, name: str) -> KeptNetwork:
        """What is kept of one part of its work, in a folder below."""
        return KeptNetwork(self._unfinished, f"{self._name}/{name}")

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint of one of its attributions."""
        return Checkpoint(self._folder / f"{name}.npz", prepare=self._unfinished.begin)

    def seconds(self) -> dict[str, float]:
        """Seconds of its own work by part in earlier sessions, where they are kept apart."""
        file = self._folder / "seconds.json"
        return _read(file) if file.exists() else {}

    def made(self) -> dict[str, float]:
        """Image passes of its own work by part that went into a cache of all runs."""
        return self._unfinished.made(folder=self._folder)

    def keep_seconds(self, seconds: Mapping[str, float], made: Mapping[str, float] | None = None) -> None:
        """Take note of the seconds of its own work in all sessions, once there is work to go with them."""
        self._unfinished.keep_seconds(seconds, made, folder=self._folder)

    def follow(self, note: Callable[[], None]) -> None:
        """Call `note` from now on whenever work is kept, by whichever network."""
        self._unfinished.follow(note)

    def batch(self, name: str) -> int | None:
        """Images of a pass of one of its attributions since memory ran out; None where it did not."""
        return self._batches().get(name)

    def keep_batch(self, name: str, batch: int) -> None:
        """Take note that memory ran out."""
        self._unfinished.begin()
        write_text(self._folder / "batch.json", json.dumps(self._batches() | {name: batch}) + "\n")

    def _batches(self) -> dict[str, int]:
        file = self._folder / "batch.json"
        return _read(file) if file.exists() else {}

    def choice(self) -> Choice | None:
        """The finished choice, every bit as it was; None where choosing did not end.

        Raises:
            DataError: the file cannot be read.
        """
        file = self._folder / "choice.json"
        if not file.exists():
            return None
        content = _read(file)
        try:
            return Choice(**(content | {"path": tuple(Step(**step) for step in content["path"])}))
        except (KeyError, TypeError) as error:
            raise DataError(f"{file} is no choice of this version ({error}); remove it to choose again") from None

    def keep_choice(self, choice: Choice) -> None:
        """Keep a finished choice."""
        self._unfinished.begin()
        write_text(self._folder / "choice.json", json.dumps(asdict(choice), indent=1) + "\n")

    def attribution(self) -> Attribution | None:
        """The finished attribution, every bit as it was; None where there is none. One that is made in rounds is kept as a `checkpoint`.

        Raises:
            DataError: the file cannot be read.
        """
        file = self._folder / "attribution.parquet"
        return Attribution.read(file) if file.exists() else None

    def keep_attribution(self, found: Attribution) -> None:
        """Keep a finished attribution."""
        self._unfinished.begin()
        found.write(self._folder / "attribution.parquet")

    def arrays(self, name: str) -> Arrays | None:
        """The arrays kept under this name, every bit as they were; None where none were.

        Raises:
            DataError: the file cannot be read.
        """
        file = self._arrays_file(name)
        if not file.exists():
            return None
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                return {key: content[key] for key in content.files}
        except Exception as error:  # noqa: BLE001 - a damaged zip file fails in many ways
            raise DataError(
                f"expected arrays of an unfinished run at {file}, it is cut short or is something else ({type(error).__name__}); "
                "remove it to compute them again"
            ) from None

    def keep_arrays(self, name: str, /, **arrays: npt.NDArray[Any]) -> None:
        """Keep arrays of numbers, truth values or text that took long to compute, in place of what was kept under this name.

        Example:
            >>> import tempfile
            >>> kept = Unfinished(Path(tempfile.mkdtemp()) / "run", {}, command="repairkit adversarial --resume").network("repaired")
            >>> kept.keep_arrays("square", hit=np.array([True, False]))
            >>> kept.arrays("square"), kept.arrays("pgd")
            ({'hit': array([ True, False])}, None)
        """
        self._unfinished.begin()
        with replacing(self._arrays_file(name)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]

    def _arrays_file(self, name: str) -> Path:
        return self._folder / f"{name}.arrays.npz"


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
