"""One object for what every step needs: settings, the ledger of passes, the store of finished work, and the number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from repairkit.run.ledger import Ledger, Progress
from repairkit.run.store import Format, RunStore
from repairkit.shapley.checkpoint import Checkpoint

if TYPE_CHECKING:
    from repairkit.run.options import Options

Value = TypeVar("Value")


@dataclass(frozen=True)
class Run:
    """A run, or one part of it such as one of several networks; parts share the ledger, and each has a folder of the store.

    Attributes:
        settings: every choice.
        ledger: image passes and seconds by phase, and progress.
        store: where finished work of this part is kept until the run directory stands; None for nowhere.
        workers: processes that attribute; any number gives the same bits.
        shared: results that several parts of a session ask for, by key.
    """

    settings: Options
    ledger: Ledger = field(default_factory=Ledger)
    store: RunStore | None = None
    workers: int = 1
    shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def start(cls, settings: Options, *, store: RunStore | None = None, workers: int = 1, progress: Progress | None = None) -> Self:
        """A run with a ledger that shows progress and notes its seconds in the store."""
        return cls(settings, Ledger(progress, book=store), store, workers)

    def of(self, part: str) -> Self:
        """The same run, at work on one part."""
        return replace(self, store=self.store.within(part) if self.store else None)

    def apart(self, part: str) -> Self:
        """The same run, at work on one part whose passes and seconds are booked apart."""
        run = self.of(part)
        return replace(run, ledger=self.ledger.of_part(run.store))

    def with_settings(self, **changes: Any) -> Self:
        """The same run with other settings."""
        return replace(self, settings=replace(self.settings, **changes))

    def phase(self, name: str, *, restored: bool = False) -> AbstractContextManager[None]:
        """Book the time and the passes of a block under a phase; see `Ledger.phase`."""
        return self.ledger.phase(name, restored=restored)

    def spend(self, passes: float) -> None:
        """Book image passes under the phase at work, and show progress."""
        self.ledger.spend(passes)

    def has(self, key: str, form: Format[Any]) -> bool:
        """Whether an earlier session finished the result."""
        return self.store is not None and self.store.has(key, form)

    def cached(self, key: str, compute: Callable[[], Value], form: Format[Value]) -> Value:
        """What `compute` gives: from the store where an earlier session finished it, else made now and stored.

        `compute` spends its image passes in the phase at work; those of a stored result are booked again, as they were.

        Raises:
            DataError: the stored file cannot be read.
        """
        stored = self.store.read(key, form) if self.store else None
        if stored is not None:
            self.ledger.restore(stored[1])
            return stored[0]
        start = len(self.ledger.entries())
        value = compute()
        if self.store is not None:
            self.store.write(key, value, form, spent=self.ledger.entries(start))
        return value

    def cached_each(
        self,
        keys: Sequence[str],
        compute: Callable[[Sequence[int]], Iterator[Value]],
        form: Format[Value],
        *,
        passes: Callable[[Value], float],
        results: dict[int, Value],
    ) -> None:
        """As `cached` for results that are made one after the other, for instance by a pool of workers; each is stored as it comes.

        Args:
            keys: of the results, by number.
            compute: yields the results of these numbers.
            form: how they are stored.
            passes: that a result took; they are spent in the phase at work.
            results: by number; filled, and what is there is not made again.
        """
        for number, key in enumerate(keys):
            stored = self.store.read(key, form) if self.store and number not in results else None
            if stored is not None:
                self.ledger.restore(stored[1])
                results[number] = stored[0]
        missing = [number for number in range(len(keys)) if number not in results]
        for number, value in zip(missing, compute(missing), strict=True):
            start = len(self.ledger.entries())
            self.spend(passes(value))
            if self.store is not None:
                self.store.write(keys[number], value, form, spent=self.ledger.entries(start))
            results[number] = value

    def once(self, key: str, compute: Callable[[], Value], form: Format[Value]) -> Value:
        """As `cached`, for a result that several parts of the run ask for: the first of them pays."""
        if key not in self.shared:
            self.shared[key] = self.cached(key, compute, form)
        value: Value = self.shared[key]
        return value

    def checkpoint(self, key: str) -> Checkpoint | None:
        """Where an attribution keeps its state as it goes; None for nowhere."""
        return self.store.checkpoint(key) if self.store else None
