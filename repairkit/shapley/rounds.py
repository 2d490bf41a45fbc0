"""Rounds of samples: pure pieces of work, and the crew that does them with the same bits however many it has."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from repairkit.errors import UsageError
from repairkit.shapley.game import Coalitions, Examples, Floats, Game

SCREEN_ROUND = 64
"""Samples of one screen round: antithetic pairs, so an even number."""
GRADIENT_COST = 3.0
"""Image passes of a forward and backward pass."""


@dataclass(frozen=True)
class Samples:
    """Coalitions and examples of one round, in antithetic pairs (2 j, 2 j + 1)."""

    live: Coalitions
    examples: Examples
    factors: Floats


def draw_round(game: Game, *, seed: int, stage: int, index: int, size: int, t0: float) -> Samples:
    """Coalitions with each player live with probability t ~ U[t0, 1], as antithetic pairs.

    The second of a pair has size t0 + 1 - t and mirrored draws, so that at t0 = 0 it is the first's
    complement and a game with interactions of two players is valued exactly by one pair. Examples
    of a pair are drawn independently. Pure: the same arguments give the same samples.
    """
    if size < 2 or size % 2:
        raise UsageError(f"a round holds whole antithetic pairs, got size {size}")
    rng = np.random.default_rng([seed, stage, index])
    t = rng.uniform(t0, 1, size=size // 2)
    u = rng.random((size // 2, game.n))
    live = np.empty((size, game.n), dtype=bool)
    live[0::2] = u < t[:, None]
    live[1::2] = 1 - u <= (t0 + 1 - t)[:, None]
    examples, factors = game.draw(rng, size)
    return Samples(live, examples, factors)


def pair_means(observations: Floats) -> Floats:
    """Mean of each antithetic pair; the pairs, not their halves, are independent."""
    return (observations[0::2] + observations[1::2]) / 2


@dataclass(frozen=True)
class Round:
    """One round of antithetic pairs; with the seed it decides every bit of what `observe` returns.

    Attributes:
        seed, stage, index: where its random numbers come from.
        size: samples, an even number.
        t0: live zone.
        players: who is flipped, or None for the gradients of all players.
        control: flips less the gradient at the same coalition and example.
    """

    seed: int
    stage: int
    index: int
    size: int
    t0: float
    players: npt.NDArray[np.int64] | None = None
    control: bool = False

    def observe(self, game: Game) -> Floats:
        """Signed marginal contributions, a row for each pair: (size / 2, players), in natural units."""
        samples = draw_round(game, seed=self.seed, stage=self.stage, index=self.index, size=self.size, t0=self.t0)
        if self.players is None:
            marginals = game.gradients(samples.live, samples.examples)
        else:
            marginals = game.flips(samples.live, samples.examples, self.players)
            if self.control:
                marginals = marginals - game.gradients(samples.live, samples.examples)[:, self.players]
        return pair_means(samples.factors[:, None] * marginals)


class Piece(Protocol):
    """A pure piece of work on a game, which other processes can be sent."""

    def observe(self, game: Game) -> Floats:
        """What comes of it; the same bits in any process."""
        ...


class Crew:
    """Plays rounds, or other pieces of work on a game, in this process, or in several that each hold the game; results come in order.

    The same machine and the same number of threads per process give the same bits for any number of
    workers. Use it as a context manager: on the way out, also after Ctrl-C, no process stays behind.

    Args:
        game: what is played; with several workers it must be possible to pickle it.
        workers: processes; 1 plays in this one.

    Raises:
        UsageError: fewer than one worker, a game that cannot be sent to other processes, or a worker that was killed.

    Example:
        >>> from repairkit.shapley.game import FunctionGame
        >>> game = FunctionGame(2, lambda live: live @ np.array([1.0, 2.0]), bounds=(0, 3))
        >>> with Crew(game) as crew:
        ...     next(crew.play([Round(seed=0, stage=0, index=0, size=2, t0=0.0)]))
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
                # By a file: through the pipe of a starting process, each would have to be up before the next can start.
                copy = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="repairkit-"))) / "game.pickle"
                try:
                    with copy.open("wb") as stream:
                        pickle.dump(self._game, stream)
                except (pickle.PicklingError, AttributeError, TypeError) as error:
                    raise UsageError(
                        f"this game cannot be sent to other processes ({error}); use one worker, or a network whose class can be imported"
                    ) from None
                self._pool = ProcessPoolExecutor(
                    self._workers,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=_receive,
                    initargs=(copy, torch.get_num_threads()),
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

    def play(self, rounds: Iterable[Piece]) -> Iterator[Floats]:
        """What each round observes, in the order of the rounds."""
        if self._pool is None:
            for each in rounds:
                yield each.observe(self._game)
            return
        ahead: deque[Future[Floats]] = deque()
        try:
            for each in rounds:
                with _no_interrupt():  # the processes start here, and are not to hear of Ctrl-C
                    ahead.append(self._pool.submit(_observe, each))
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


def _receive(copy: Path, threads: int) -> None:
    global _game  # noqa: PLW0603 - a worker process has one game, set once when it starts
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with copy.open("rb") as stream:
        _game = pickle.load(stream)  # noqa: S301 - made by the process that started this one


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever, with the game in its memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _observe(each: Piece) -> Floats:
    if _game is None:
        raise UsageError("a worker was started without a game")
    return each.observe(_game)
