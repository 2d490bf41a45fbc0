"""A pool of worker processes that each hold the game; results have the same bits for any number of workers."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from repairkit.errors import UsageError
from repairkit.shapley.game import Floats, Game


class Task(Protocol):
    """Work on a game that can be sent to another process."""

    def observe(self, game: Game) -> Floats:
        """The result, with the same bits in any process."""
        ...


class WorkerPool:
    """Runs tasks on a game in this process or in worker processes, and returns the results in order.

    The same machine and threads per process give the same bits for any number of workers. Use it as a context manager: no process stays behind.

    Args:
        game: what is played; it must be picklable when there are several workers.
        workers: number of processes; 1 means this process.

    Raises:
        UsageError: fewer than one worker, a game that cannot be sent to other processes, or a worker that was killed.

    Example:
        >>> import numpy as np
        >>> from repairkit.shapley.game import FunctionGame
        >>> from repairkit.shapley.sampling import Round
        >>> game = FunctionGame(2, lambda live: live @ np.array([1.0, 2.0]), bounds=(0, 3))
        >>> with WorkerPool(game) as pool:
        ...     next(pool.run([Round(seed=0, stage=0, index=0, size=2, min_live=0.0)]))
        array([[1., 2.]])
    """

    def __init__(self, game: Game, workers: int = 1) -> None:
        if workers < 1:
            raise UsageError(f"workers must be at least 1, got {workers}")
        self._game, self._workers = game, workers
        self._pool: ProcessPoolExecutor | None = None
        self._files = ExitStack()

    def __enter__(self) -> Self:
        if self._workers > 1:
            with ExitStack() as opened:
                # By a file: through its pipe, one process would have to be up before the next can start.
                copy = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="repairkit-"))) / "game.pickle"
                try:
                    with copy.open("wb") as stream:
                        pickle.dump(self._game, stream)
                except (pickle.PicklingError, AttributeError, TypeError) as error:
                    raise UsageError(
                        f"this game cannot be sent to other processes ({error}); use one worker, or a network of an importable class"
                    ) from None
                self._pool = ProcessPoolExecutor(
                    self._workers,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=_receive,
                    initargs=(copy, self._game.worker_setup()),
                )
                self._files = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            if kind is not None:  # rounds at work are abandoned: on a big network the wait would be long
                for process in list(self._pool._processes.values()):
                    process.terminate()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._files.close()

    def run(self, tasks: Iterable[Task]) -> Iterator[Floats]:
        """The result of every task, in the order of the tasks."""
        if self._pool is None:
            for task in tasks:
                yield task.observe(self._game)
            return
        ahead: deque[Future[Floats]] = deque()
        try:
            for task in tasks:
                with _no_interrupt():  # the processes start here, and are not to hear of Ctrl-C
                    ahead.append(self._pool.submit(_observe, task))
                if len(ahead) > 2 * self._workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BrokenProcessPool:
            raise UsageError(
                "a worker process ended before its work was done, as happens where memory runs out; use fewer --workers or free some memory"
            ) from None


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back; processes started meanwhile never hear it, this one does afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_game: Game | None = None
"""The game that this worker process holds."""


def _receive(copy: Path, setup: Callable[[], object] | None) -> None:
    global _game  # noqa: PLW0603 - a worker process has one game, set once when it starts
    if setup is not None:
        setup()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with copy.open("rb") as stream:
        _game = pickle.load(stream)  # noqa: S301 - made by the process that started this one


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever, with the game in its memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _observe(task: Task) -> Floats:
    if _game is None:
        raise UsageError("a worker was started without a game")
    return task.observe(_game)
