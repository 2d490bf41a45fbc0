from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from engines import tmab
from games import TableGame, model_game
from networks import labelled, twelve_filters

from repairkit.errors import FullMemoryError, ModelError, UsageError
from repairkit.objectives import Accuracy, Probability
from repairkit.shapley.game import FunctionGame
from repairkit.shapley.sampling import Round, draw_round, pair_means
from repairkit.shapley.workers import WorkerPool


def real_game():
    return model_game(twelve_filters(), Probability(Accuracy()).on(labelled(40)), batch=16)


def test_a_round_is_the_mean_of_its_pairs_taken_literally():
    game = TableGame(5, 9, seed=4, signed=True)
    players = np.array([1, 3])
    samples = draw_round(game, seed=2, stage=3, index=1, size=6, min_live=0.1)
    expected = np.empty((3, 2))
    for pair in range(3):
        for column, player in enumerate(players):
            halves = []
            for row in (2 * pair, 2 * pair + 1):
                live = samples.live[row].copy()
                live[player] = True
                with_player = game.table[samples.examples[row], int(game.number(live))]
                live[player] = False
                halves.append(samples.factors[row] * (with_player - game.table[samples.examples[row], int(game.number(live))]))
            expected[pair, column] = np.mean(halves)
    np.testing.assert_allclose(Round(2, 3, 1, 6, 0.1, players).observe(game), expected, atol=1e-12)
    slopes = pair_means(samples.factors[:, None] * game.gradients(samples.live, samples.examples))
    np.testing.assert_allclose(Round(2, 3, 1, 6, 0.1).observe(game), slopes, atol=1e-12)
    np.testing.assert_allclose(Round(2, 3, 1, 6, 0.1, players, control=True).observe(game), expected - slopes[:, players], atol=1e-12)


def test_any_number_of_workers_gives_the_same_bits():
    found = [tmab(real_game(), budget=1500, top_k=3, candidates=6, audit=2, control=True, workers=workers) for workers in (1, 2, 3)]
    for other in found[1:]:
        for name in ("screen", "value", "half_width", "samples", "decided", "standard_error"):
            assert getattr(other, name).tobytes() == getattr(found[0], name).tobytes(), name
        assert other.passes == found[0].passes


def test_errors_of_a_worker_come_back():
    broken = real_game()
    broken.filters.constants[:] = np.nan
    with WorkerPool(broken, 2) as pool, pytest.raises(ModelError, match="NaN or infinite"):
        list(pool.run([Round(0, 2, 0, 4, 0.0, np.array([0, 5]))]))


class Deadly(TableGame):
    """Ends the worker that asks it."""

    def _scores(self, coalitions, examples):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._scores(coalitions, examples)


def test_a_worker_that_is_killed_is_named():
    with (
        WorkerPool(Deadly(3, 4), 2) as pool,
        pytest.raises(UsageError, match=r"a worker process ended before its work was done, .*fewer --workers"),
    ):
        list(pool.run([Round(0, 2, index, 4, 0.0, np.array([0, 2])) for index in range(3)]))


class Endless(TableGame):
    """Never answers in a worker."""

    def _scores(self, coalitions, examples):
        if multiprocessing.parent_process() is not None:
            time.sleep(1000)
        return super()._scores(coalitions, examples)


def test_rounds_at_work_are_abandoned_and_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pool = WorkerPool(Endless(3, 4), 2)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the test may run where it is ignored
    threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT]).start()
    try:
        with pytest.raises(KeyboardInterrupt), pool:
            list(pool.run([Round(0, 2, index, 4, 0.0, np.array([0, 2])) for index in range(3)]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert multiprocessing.active_children() == []
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_sent_is_refused_at_once():
    game = FunctionGame(3, lambda live: live[:, 0] * 1.0, bounds=(0, 1))
    with pytest.raises(UsageError, match=r"this game cannot be sent to other processes .*; use one worker"), WorkerPool(game, 2):
        pass
    with pytest.raises(UsageError, match="workers must be at least 1, got 0"):
        WorkerPool(game, 0)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_pass_without_memory_is_told_from_other_errors(monkeypatch, error):
    game = real_game()

    def full(*_):
        raise error

    monkeypatch.setattr(game.filters, "gradients", full)
    with pytest.raises(FullMemoryError, match=r"memory ran out in passes of 16 image\(s\); give a smaller --batch or --size"):
        Round(0, 2, 0, 30, 0.0).observe(game)


def test_other_errors_of_a_pass_are_not_taken_for_full_memory(monkeypatch):
    game = real_game()

    def broken(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(game.filters, "snapshot", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        Round(0, 2, 0, 4, 0.0, np.array([0])).observe(game)
    assert game.batch == 16


KILLED = """
import os, signal
import numpy as np
from games import TableGame
from repairkit.shapley.sampling import Round
from repairkit.shapley.workers import WorkerPool

if __name__ == "__main__":
    with WorkerPool(TableGame(3, 4), 2) as pool:
        list(pool.run([Round(0, 2, number, 4, 0.0, np.array([0, 2])) for number in range(3)]))
        print(*pool._pool._processes, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    place = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=os.environ | place, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    workers = [int(number) for number in done.stdout.split()]
    assert len(workers) == 2
    until = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
