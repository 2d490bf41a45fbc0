"""The clock of a run: what each part cost, and how far the work has come; noted whenever work is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

Progress = Callable[[str, float, float], None]
"""Called with the part at work, the passes made so far and those planned."""


class Book(Protocol):
    """Where an unfinished run notes its seconds; see `repairkit.run.store`."""

    def seconds(self) -> dict[str, float]:
        """By part, of earlier sessions."""

    def made(self) -> dict[str, float]:
        """Passes by part that earlier sessions made for a cache of all runs."""

    def keep_seconds(self, seconds: Mapping[str, float], made: Mapping[str, float]) -> None:
        """Take note of both, of all sessions."""

    def follow(self, note: Callable[[], None]) -> None:
        """Call `note` from now on whenever work is kept."""


class Clock:
    """Seconds and passes by part, and progress passed on with what is at work.

    Where `column` is set, what is booked is also known to be of that network: see `of`.

    Args:
        progress: told of the passes made in this session, and of those planned for it.
        planned: passes of the whole run.
        kept: where the seconds by part (and column, as "column/part") are noted whenever work is kept and whenever a part ends, also when it
            is interrupted; those of earlier sessions of the same run are counted in.

    Example:
        >>> clock = Clock(None, 0)
        >>> for clock.column in ("repaired", "rival"):
        ...     clock.add("attribution", 30)
        >>> clock.passes, clock.of("rival")
        ({'attribution': 60.0}, ({'attribution': 30.0}, {}))
    """

    def __init__(self, progress: Progress | None, planned: float, *, kept: Book | None = None) -> None:
        self._seconds: dict[str, float] = kept.seconds() if kept else {}
        self._passes: dict[str, float] = {}
        self.column = self.prefix = ""
        self._progress, self._planned, self._kept = progress, planned, kept
        self._restored = 0.0
        self._at_work: list[tuple[str, float]] = []
        self._made_before = kept.made() if kept else {}
        self._made: dict[str, float] = {}
        self._cached: dict[str, float] = {}
        if kept is not None:
            kept.follow(self.note)

    @property
    def seconds(self) -> dict[str, float]:
        """Of all sessions, by part."""
        return _by_part(self._seconds)

    @property
    def passes(self) -> dict[str, float]:
        """Image passes by part."""
        return _by_part(self._passes)

    def of(self, column: str) -> tuple[dict[str, float], dict[str, float]]:
        """Passes and seconds by part that were booked for one network."""
        start = f"{column}/"
        passes, seconds = (
            {key.removeprefix(start): value for key, value in booked.items() if key.startswith(start)}
            for booked in (self._passes, self._seconds)
        )
        return passes, seconds

    def _key(self, part: str) -> str:
        return f"{self.column}/{part}" if self.column else part

    @contextmanager
    def part(self, name: str, *, restored: bool = False) -> Iterator[None]:
        """Book the time of a block under a part; `restored` where its passes were made in an earlier session."""
        started, before = time.perf_counter(), sum(self._passes.values())
        key = self._key(name)
        self._at_work.append((key, started))
        self.tell(name, 0, 0)
        try:
            yield
        finally:
            self._at_work.pop()
            self._seconds[key] = self._seconds.get(key, 0.0) + time.perf_counter() - started
            if restored:
                self._restored += sum(self._passes.values()) - before
            self.note()

    def note(self) -> None:
        """Write the seconds down, also those of parts at work: a session that is killed leaves them beside the work that it kept."""
        if self._kept is None:
            return
        seconds = dict(self._seconds)
        for key, started in self._at_work:
            seconds[key] = seconds.get(key, 0.0) + time.perf_counter() - started
        made = {part: self._made.get(part, 0.0) + self._made_before.get(part, 0.0) for part in self._made | self._made_before}
        self._kept.keep_seconds(seconds, made)

    def add(self, part: str, passes: float) -> None:
        """Book passes under a part."""
        key = self._key(part)
        self._passes[key] = self._passes.get(key, 0.0) + passes

    def restore(self, part: str, passes: float) -> None:
        """Book passes under a part that were made in an earlier session."""
        self.add(part, passes)
        self._restored += passes

    def take(self, part: str, made: float, whole: float) -> None:
        """Book passes for what a cache of all runs may hold: `made` in this session, the rest of the `whole` in an earlier one or by another run."""
        self.add(part, made)
        self.restore(part, whole - made)
        self._made[part] = self._made.get(part, 0.0) + made
        self._cached[part] = self._cached.get(part, 0.0) + whole - made

    @property
    def taken(self) -> dict[str, float]:
        """Passes by part that another run made: they stand among the passes, and their time in no session of this run."""
        by_others = {part: cached - self._made_before.get(part, 0.0) for part, cached in self._cached.items()}
        return {part: passes for part, passes in by_others.items() if passes > 0}

    def tell(self, part: str, made: float, _planned: float) -> None:
        """Pass progress on: all passes made so far, of all that are planned, without those of earlier sessions."""
        if self._progress is not None:
            total = sum(self._passes.values()) + made - self._restored
            self._progress(f"{self.prefix}: {part}" if self.prefix else part, total, max(total, self._planned - self._restored))


def _by_part(booked: Mapping[str, float]) -> dict[str, float]:
    """All columns together."""
    total: dict[str, float] = {}
    for key, value in booked.items():
        part = key.rpartition("/")[2]
        total[part] = total.get(part, 0.0) + value
    return total
