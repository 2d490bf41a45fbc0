from __future__ import annotations

import multiprocessing
import os
import signal
import time
from functools import partial

import numpy as np
import pytest
from engines import estimate, tmab
from games import TableGame, second_order

from repairkit.errors import DataError, UsageError
from repairkit.shapley import FunctionGame
from repairkit.shapley.checkpoint import Checkpoint

SETTINGS = {"budget": 2500, "top_k": 2, "candidates": 4, "audit": 1, "min_live": 0.2}
CERTIFIED = SETTINGS | {"candidates": 2, "audit": 3, "guarantee": 0.1}


class SlowGame(TableGame):
    """Slow enough to be killed in the middle."""

    def _scores(self, coalitions, examples):
        time.sleep(0.001)
        return super()._scores(coalitions, examples)


def attribute(folder, *, every: float = 0.0, game=None, **changes) -> None:
    """Run to the end, taking up what is there, and leave the table of values."""
    checkpoint = Checkpoint(folder / "checkpoint.npz", every_seconds=every)
    tmab(game or SlowGame(8, 6, seed=1), checkpoint=checkpoint, **{**SETTINGS, **changes}).write(folder / "attribution.parquet")


def start(folder, **settings) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=attribute, args=(folder,), kwargs=settings)
    process.start()
    return process


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside threads; the child only counts
@pytest.mark.parametrize(
    ("settings", "kills"), [(SETTINGS, 20), (SETTINGS | {"control": True}, 4), (CERTIFIED, 4)], ids=["values", "control", "guarantee"]
)
def test_killed_at_any_moment_and_resumed_it_gives_the_same_bytes(tmp_path, settings, kills):
    whole = tmp_path / "whole"
    whole.mkdir()
    began = time.monotonic()
    start(whole, **settings).join()
    took = time.monotonic() - began
    rng = np.random.default_rng(0)
    killed = taken_up = number = 0
    while killed < kills:
        moment, number = rng.uniform(0.02, 0.95) * took, number + 1
        folder = tmp_path / str(number)
        folder.mkdir()
        process = start(folder, **settings)
        time.sleep(moment)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
        assert number <= 4 * kills, "the moments come too late to kill anything"
        left = folder / "checkpoint.npz"
        taken_up += left.exists() and not (folder / "attribution.parquet").exists()
        attribute(folder, **settings)
        assert (folder / "attribution.parquet").read_bytes() == (whole / "attribution.parquet").read_bytes(), moment
    assert taken_up >= 0.2 * kills


@pytest.mark.parametrize("stop", [1, 4, 40, 55])
def test_a_guarantee_is_taken_up_in_the_middle_of_a_look(tmp_path, stop):
    """Looks grow to several rounds: who is observed in the rest of one was decided at its beginning."""

    class Interrupted(TableGame):
        rounds = 0

        def _flips(self, coalitions, examples, players):
            self.rounds += 1
            if self.rounds == stop:
                raise KeyboardInterrupt
            return super()._flips(coalitions, examples, players)

    settings = {**CERTIFIED, "budget": 20_000, "every": 1e9}
    with pytest.raises(KeyboardInterrupt):
        attribute(tmp_path, game=Interrupted(8, 6, seed=1), **settings)
    after, whole = TableGame(8, 6, seed=1), TableGame(8, 6, seed=1)
    attribute(tmp_path, game=after, **settings)
    (tmp_path / "whole").mkdir()
    attribute(tmp_path / "whole", game=whole, **settings)
    assert after.cost < whole.cost
    assert (tmp_path / "whole" / "attribution.parquet").read_bytes() == (tmp_path / "attribution.parquet").read_bytes()


def test_an_interrupted_run_saves_where_it_stands_and_makes_no_round_twice(tmp_path):
    asked = []

    class Interrupted(TableGame):
        def _scores(self, coalitions, examples):
            asked.append(len(examples))
            if len(asked) == 40:
                raise KeyboardInterrupt
            return super()._scores(coalitions, examples)

    with pytest.raises(KeyboardInterrupt):
        attribute(tmp_path, every=1e9, game=Interrupted(8, 6, seed=1))
    assert (tmp_path / "checkpoint.npz").exists()
    before = TableGame(8, 6, seed=1)
    attribute(tmp_path, every=1e9, game=before)
    whole = TableGame(8, 6, seed=1)
    (tmp_path / "whole").mkdir()
    attribute(tmp_path / "whole", every=1e9, game=whole)
    assert before.cost < whole.cost
    assert (tmp_path / "whole" / "attribution.parquet").read_bytes() == (tmp_path / "attribution.parquet").read_bytes()
    finished = TableGame(8, 6, seed=1)
    attribute(tmp_path, game=finished)
    assert finished.cost == 0


@pytest.mark.parametrize("engine", ["tmab-paper", "monte-carlo"])
@pytest.mark.parametrize("stop", [1, 30, 100])
def test_walks_are_taken_up_too(tmp_path, engine, stop):
    class Interrupted(TableGame):
        def _scores(self, coalitions, examples):
            if len(self.asked) == stop:
                raise KeyboardInterrupt
            return super()._scores(coalitions, examples)

    def run(game, checkpoint=None):
        return estimate(game, engine=engine, budget=20_000, top_k=2, checkpoint=checkpoint)

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(6, 5), Checkpoint(tmp_path / "c.npz"))
    after, whole = TableGame(6, 5), TableGame(6, 5)
    resumed, expected = run(after, Checkpoint(tmp_path / "c.npz")), run(whole)
    for name in ("value", "half_width", "samples", "standard_error"):
        assert getattr(resumed, name).tobytes() == getattr(expected, name).tobytes()
    assert resumed.passes == expected.passes
    assert len(after.asked) < len(whole.asked) or stop == 1


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("budget", {"budget": 9001}),
        ("seed", {"seed": 1}),
        ("min_live", {"min_live": 0.3}),
        ("top_k", {"top_k": 3}),
        ("guarantee", {"guarantee": 0.05}),
        ("game", {"game": TableGame(8, 6, seed=2)}),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused_by_the_key_that_differs(tmp_path, key, changes):
    attribute(tmp_path, game=TableGame(8, 6, seed=1))
    with pytest.raises(UsageError, match=rf"checkpoint.npz was made with {key} .*, this run has {key} .*; go on with the same"):
        attribute(tmp_path, **{"game": TableGame(8, 6, seed=1), **changes})


@pytest.mark.parametrize("engine", ["tmab", "monte-carlo"])
def test_a_checkpoint_of_another_function_is_refused(tmp_path, engine):
    """The two games differ by what their functions return, and by nothing else."""

    def run(game):
        return estimate(game, engine=engine, budget=2000, top_k=2, checkpoint=Checkpoint(tmp_path / "c.npz", every_seconds=0))

    run(second_order(5)[0])
    rng = np.random.default_rng(0)
    single, bounds = rng.normal(size=5), second_order(5)[0].bounds
    with pytest.raises(UsageError, match=r"c.npz was made with game \w+, this run has game \w+; go on with the same"):
        run(FunctionGame(5, lambda live: live @ single, bounds=bounds))
    run(second_order(5)[0])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_checkpoint_cut_short_is_named(tmp_path, share):
    attribute(tmp_path, game=TableGame(8, 6, seed=1))
    file = tmp_path / "checkpoint.npz"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(DataError, match=r"expected a checkpoint at .*checkpoint.npz, it is cut short or is something else .*; remove it"):
        attribute(tmp_path, game=TableGame(8, 6, seed=1))


@pytest.mark.parametrize(
    ("changes", "missing"),
    [({}, "flips.squares"), ({}, "at"), ({"guarantee": 0.1}, "players"), ({"engine": "monte-carlo", "min_live": 0}, "active")],
)
def test_a_checkpoint_without_one_of_its_arrays_is_named(tmp_path, changes, missing):
    file = tmp_path / "c.npz"

    def run():
        estimate(
            TableGame(8, 6, seed=1),
            checkpoint=Checkpoint(file, every_seconds=0),
            **{"budget": 2500, "top_k": 2, "min_live": 0.2, **changes},
        )

    run()
    with np.load(file) as saved:
        arrays = {name: saved[name] for name in saved.files if name != missing}
        assert len(arrays) == len(saved.files) - 1
    np.savez(file, **arrays)
    with pytest.raises(
        DataError, match=rf"expected a checkpoint at .*c.npz, it is cut short or .* \(no {missing}\); remove it to begin anew"
    ):
        run()


def test_a_checkpoint_is_saved_when_it_is_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("repairkit.shapley.checkpoint.time.monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "c.npz", every_seconds=10)
    assert checkpoint.begin({"seed": 1}) is None
    read = partial(Checkpoint(tmp_path / "c.npz").begin, {"seed": 1})
    number = np.array(1)
    checkpoint.offer({"number": number})
    assert read() is None
    number += 1  # what was offered is a copy
    checkpoint.save()
    assert int(read()["number"]) == 1
    now[0] = 9.0
    checkpoint.offer({"number": number})
    assert int(read()["number"]) == 1
    now[0] = 10.0
    checkpoint.offer({"number": number})
    assert int(read()["number"]) == 2
