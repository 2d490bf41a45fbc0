"""The clock of a run: what each part cost, and how far the work has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float, float], None]
"""Called with what is at work, all image passes made so far and those planned."""


class Clock:
    """Seconds and passes by part, and progress passed on with what is at work."""

    def __init__(self, progress: Progress | None, planned: float) -> None:
        self.seconds: dict[str, float] = {}
        self.passes: dict[str, float] = {}
        self.prefix = ""
        self._progress, self._planned = progress, planned

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Book the time of a block under a part."""
        started = time.perf_counter()
        self.tell(name, 0, 0)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def add(self, part: str, passes: float) -> None:
        """Book passes under a part."""
        self.passes[part] = self.passes.get(part, 0.0) + passes

    def tell(self, part: str, made: float, _planned: float) -> None:
        """Pass progress on: all passes made so far, of all that are planned."""
        if self._progress is not None:
            total = sum(self.passes.values()) + made
            self._progress(f"{self.prefix}: {part}" if self.prefix else part, total, max(total, self._planned))
