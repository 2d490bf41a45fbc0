"""The clock of a run: what each part cost, and how far the work has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from repairkit.shapley.walk import Progress


class Clock:
    """Seconds and passes by part, and progress passed on with what is at work.

    Args:
        progress: told of the passes made in this session, and of those planned for it.
        planned: passes of the whole run.
        earlier: seconds by part of earlier sessions of the same run.
        note: called with the seconds by part whenever a part ends, also when it is interrupted.
    """

    def __init__(
        self,
        progress: Progress | None,
        planned: float,
        *,
        earlier: Mapping[str, float] | None = None,
        note: Callable[[Mapping[str, float]], None] | None = None,
    ) -> None:
        self.seconds: dict[str, float] = dict(earlier or {})
        self.passes: dict[str, float] = {}
        self.prefix = ""
        self._progress, self._planned, self._note = progress, planned, note
        self._restored = 0.0

    @contextmanager
    def part(self, name: str, *, restored: bool = False) -> Iterator[None]:
        """Book the time of a block under a part; `restored` where its passes were made in an earlier session."""
        started, before = time.perf_counter(), sum(self.passes.values())
        self.tell(name, 0, 0)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            if restored:
                self._restored += sum(self.passes.values()) - before
            if self._note is not None:
                self._note(self.seconds)

    def add(self, part: str, passes: float) -> None:
        """Book passes under a part."""
        self.passes[part] = self.passes.get(part, 0.0) + passes

    def restore(self, part: str, passes: float) -> None:
        """Book passes under a part that were made in an earlier session, or by an earlier run that kept what came of them."""
        self.add(part, passes)
        self._restored += passes

    def tell(self, part: str, made: float, _planned: float) -> None:
        """Pass progress on: all passes made so far, of all that are planned, without those of earlier sessions."""
        if self._progress is not None:
            total = sum(self.passes.values()) + made - self._restored
            self._progress(f"{self.prefix}: {part}" if self.prefix else part, total, max(total, self._planned - self._restored))
