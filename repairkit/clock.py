"""The clock of a run: what each part cost, and how far the work has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from repairkit.shapley.walk import Progress


class Clock:
    """Seconds and passes by part, and progress passed on with what is at work.

    Where `column` is set, what is booked is also known to be of that network: see `of`.

    Args:
        progress: told of the passes made in this session, and of those planned for it.
        planned: passes of the whole run.
        earlier: seconds of earlier sessions of the same run, as noted.
        note: called with the seconds by part (and column, as "column/part") whenever a part ends, also when it is interrupted.

    Example:
        >>> clock = Clock(None, 0)
        >>> for clock.column in ("repaired", "rival"):
        ...     clock.add("attribution", 30)
        >>> clock.passes, clock.of("rival")
        ({'attribution': 60.0}, ({'attribution': 30.0}, {}))
    """

    def __init__(
        self,
        progress: Progress | None,
        planned: float,
        *,
        earlier: Mapping[str, float] | None = None,
        note: Callable[[Mapping[str, float]], None] | None = None,
    ) -> None:
        self._seconds: dict[str, float] = dict(earlier or {})
        self._passes: dict[str, float] = {}
        self.column = self.prefix = ""
        self._progress, self._planned, self._note = progress, planned, note
        self._restored = 0.0

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
        self.tell(name, 0, 0)
        try:
            yield
        finally:
            self._seconds[key] = self._seconds.get(key, 0.0) + time.perf_counter() - started
            if restored:
                self._restored += sum(self._passes.values()) - before
            if self._note is not None:
                self._note(self._seconds)

    def add(self, part: str, passes: float) -> None:
        """Book passes under a part."""
        key = self._key(part)
        self._passes[key] = self._passes.get(key, 0.0) + passes

    def restore(self, part: str, passes: float) -> None:
        """Book passes under a part that were made in an earlier session, or by an earlier run that kept what came of them."""
        self.add(part, passes)
        self._restored += passes

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
