"""The ledger of a run: image passes and seconds by phase, and how far the work has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

Progress = Callable[[str, float, float], None]
"""Called with the phase at work, the image passes made so far, and those planned."""
Entry = tuple[str, float]
"""A phase (with its column, as "column/phase") and the image passes that were spent in it."""


class Book(Protocol):
    """Where seconds are noted; see `repairkit.run.store.RunStore`."""

    def seconds(self) -> dict[str, float]:
        """By phase, of earlier sessions."""

    def keep_seconds(self, seconds: Mapping[str, float]) -> None:
        """Take note of the seconds of all sessions."""

    def follow(self, note: Callable[[], None]) -> None:
        """Call `note` from now on whenever work is stored."""


class Ledger:
    """Seconds and image passes by phase, and progress.

    Passes are spent in the innermost phase at work. Where `column` is set, they are also known to be of that network: see `of`.

    Args:
        progress: told of the passes made in this session, and of those planned for it.
        planned: passes of the whole run; may be set later.
        book: where the seconds are noted whenever work is stored and whenever a phase ends, also when it is interrupted; the seconds of
            earlier sessions are counted in.

    Attributes:
        column: the network at work, where passes are told apart by network; "" for none.
        label: what progress puts before the phase; "" for nothing.

    Example:
        >>> ledger = Ledger()
        >>> for ledger.column in ("repaired", "comparison"):
        ...     with ledger.phase("attribution"):
        ...         ledger.spend(30)
        >>> ledger.passes, ledger.of("comparison")[0]
        ({'attribution': 60.0}, {'attribution': 30.0})
    """

    def __init__(self, progress: Progress | None = None, planned: float = 0.0, *, book: Book | None = None) -> None:
        self.planned = planned
        self.column = self.label = ""
        self._progress, self._book = progress, book
        self._seconds: dict[str, float] = book.seconds() if book else {}
        self._entries: list[Entry] = []
        self._restored = 0.0
        self._at_work: list[tuple[str, str, float]] = []
        if book is not None:
            book.follow(self.note)

    @property
    def seconds(self) -> dict[str, float]:
        """Of all sessions, by phase."""
        return _by_phase(self._seconds.items())

    @property
    def passes(self) -> dict[str, float]:
        """Image passes by phase."""
        return _by_phase(self._entries)

    def of(self, column: str) -> tuple[dict[str, float], dict[str, float]]:
        """Passes and seconds by phase of one network."""
        start = f"{column}/"
        passes, seconds = (
            _by_phase((key, value) for key, value in booked if key.startswith(start)) for booked in (self._entries, self._seconds.items())
        )
        return passes, seconds

    def entries(self, start: int = 0) -> list[Entry]:
        """All that was spent, in order, from the entry of this number on."""
        return self._entries[start:]

    @contextmanager
    def phase(self, name: str, *, restored: bool = False) -> Iterator[None]:
        """Book the time of a block under a phase; `restored` where its passes were made in an earlier session."""
        started, before = time.perf_counter(), len(self._entries)
        key = f"{self.column}/{name}" if self.column else name
        self._at_work.append((name, key, started))
        self.progress(name, 0, 0)
        try:
            yield
        finally:
            self._at_work.pop()
            self._seconds[key] = self._seconds.get(key, 0.0) + time.perf_counter() - started
            if restored:
                self._restored += sum(passes for _, passes in self._entries[before:])
            self.note()

    def spend(self, passes: float) -> None:
        """Book image passes under the phase at work, or "other" where there is none, and show progress."""
        name, key, _ = self._at_work[-1] if self._at_work else ("other", "other", 0.0)
        self._entries.append((key, float(passes)))
        self.progress(name, 0, 0)

    def restore(self, entries: Sequence[Entry]) -> None:
        """Book image passes that were spent in an earlier session."""
        self._entries += entries
        self._restored += sum(passes for _, passes in entries)

    def note(self) -> None:
        """Write the seconds down, also those of phases at work: a session that is killed leaves them beside the work that it stored."""
        if self._book is None:
            return
        seconds = dict(self._seconds)
        for _, key, started in self._at_work:
            seconds[key] = seconds.get(key, 0.0) + time.perf_counter() - started
        self._book.keep_seconds(seconds)

    def progress(self, phase: str, made: float, _planned: float) -> None:
        """Pass progress on: all passes made so far, of all that are planned, without those of earlier sessions."""
        if self._progress is not None:
            total = sum(passes for _, passes in self._entries) + made - self._restored
            self._progress(f"{self.label}: {phase}" if self.label else phase, total, max(total, self.planned - self._restored))

    def of_part(self, book: Book | None) -> Ledger:
        """A ledger of its own for one part of the run, which shows progress in the same place and notes its seconds in this book."""
        return Ledger(self._progress, book=book)


def _by_phase(booked: Iterable[Entry]) -> dict[str, float]:
    """All columns together."""
    total: dict[str, float] = {}
    for key, value in booked:
        phase = key.rpartition("/")[2]
        total[phase] = total.get(phase, 0.0) + value
    return total
