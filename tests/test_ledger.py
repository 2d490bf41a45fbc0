from __future__ import annotations

import numpy as np
import pytest

from repairkit.run.context import Run
from repairkit.run.ledger import Ledger
from repairkit.run.options import Options
from repairkit.run.store import ARRAYS, RunStore


@pytest.fixture
def ticking(monkeypatch):
    """A clock on the wall that gains a second whenever it is looked at."""
    now = iter(range(1000))
    monkeypatch.setattr("repairkit.run.ledger.time.perf_counter", lambda: float(next(now)))


def store_in(folder):
    return RunStore(folder / "run", {"seed": 0}, command="again")


def test_phases_are_booked_and_noted_also_when_interrupted(ticking, tmp_path):
    store = store_in(tmp_path)
    store.begin()
    store.keep_seconds({"choosing": 5.0})
    ledger = Ledger(book=store)
    with ledger.phase("attribution"):
        ledger.spend(30)
    assert store.seconds() == {"choosing": 5.0, "attribution": 1.0}
    with pytest.raises(KeyboardInterrupt), ledger.phase("choosing"):
        raise KeyboardInterrupt
    assert store.seconds() == {"choosing": 6.0, "attribution": 1.0}
    assert ledger.passes == {"attribution": 30.0}


def test_what_one_network_cost_is_known_apart_also_when_a_run_goes_on(ticking, tmp_path):
    store = store_in(tmp_path)
    store.begin()
    first = Ledger(book=store)
    for first.column in ("repaired", "comparison"):
        with first.phase("attribution"):
            first.spend(30)
    again = Ledger(book=store_in(tmp_path))
    again.column = "comparison"
    with again.phase("attribution"):
        again.restore([("comparison/attribution", 30.0)])
        again.spend(5)
    assert again.seconds == {"attribution": 3.0}
    assert again.of("comparison") == ({"attribution": 35.0}, {"attribution": 2.0})
    assert again.of("repaired") == ({}, {"attribution": 1.0})


def test_seconds_of_a_phase_at_work_are_on_disk_with_the_work_that_is_stored(ticking, tmp_path):
    """As a kill leaves it: no phase ends, and what was stored has its time beside it."""
    store = store_in(tmp_path)
    part = store.within("round-1")
    phase = Ledger(book=store).phase("choosing")
    phase.__enter__()
    assert store.seconds() == {}
    for seconds in (1.0, 2.0):
        part.write("step", {"hit": np.array([True])}, ARRAYS, spent=[])
        assert store_in(tmp_path).seconds() == {"choosing": seconds}
    checkpoint = part.checkpoint("attribution")
    checkpoint.begin({})
    checkpoint.offer({"done": np.array(1)})
    checkpoint.save()
    assert store_in(tmp_path).seconds() == {"choosing": 3.0}
    assert Ledger(book=store_in(tmp_path)).seconds == {"choosing": 3.0}


def test_progress_counts_the_passes_of_this_session_only():
    told = []
    ledger = Ledger(lambda *what: told.append(what), 100)
    ledger.label = "repaired"
    with ledger.phase("attribution", restored=True):
        ledger.spend(60)
    told.clear()
    with ledger.phase("choosing"):
        ledger.progress("choosing", 10, 10)
        ledger.spend(50)
    assert told == [("repaired: choosing", 0, 40), ("repaired: choosing", 10, 40), ("repaired: choosing", 50, 50)]
    assert ledger.passes == {"attribution": 60, "choosing": 50}


def test_a_stored_result_is_not_made_again_and_books_the_passes_that_it_took_to_the_last_bit(tmp_path):
    def compute(run):
        for passes in (0.1, 0.2, 0.3):
            run.spend(passes)
        return {"right": np.array([1 / 3, np.nan])}

    def asked(compute):
        run = Run.start(Options(), store=store_in(tmp_path)).of("repaired").of("round-2")
        with run.phase("evaluation"):
            return run.cached("curve", lambda: compute(run), ARRAYS)["right"], run.ledger.passes

    first, again = asked(compute), asked(lambda _: pytest.fail("made again"))
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1] == again[1] == {"evaluation": 0.1 + 0.2 + 0.3}


def test_what_several_parts_ask_for_is_made_and_paid_once():
    run = Run.start(Options())
    first, second = run.apart("class-0"), run.apart("class-1")
    for part in (first, second):
        with part.phase("control"):
            part.once("random", lambda part=part: part.spend(7) or {"right": np.ones(1)}, ARRAYS)
    assert (first.ledger.passes, second.ledger.passes) == ({"control": 7.0}, {})


def test_results_of_a_pool_are_stored_one_by_one(tmp_path):
    """An interruption after the second of three leaves one to make."""
    run = Run.start(Options(), store=store_in(tmp_path))

    def results(missing, last=3):
        for number in missing:
            if number == last:
                raise KeyboardInterrupt
            yield {"value": np.array(number)}

    keys = ["a", "b", "c"]
    with run.phase("walk"), pytest.raises(KeyboardInterrupt):
        run.cached_each(keys, lambda missing: results(missing, 2), ARRAYS, passes=lambda _: 5.0, results={})
    again, found = Run.start(Options(), store=store_in(tmp_path)), {}
    with again.phase("walk"):
        again.cached_each(
            keys,
            lambda missing: results([*missing] if missing == [2] else pytest.fail("again")),
            ARRAYS,
            passes=lambda _: 5.0,
            results=found,
        )
    assert [int(found[number]["value"]) for number in range(3)] == [0, 1, 2]
    assert again.ledger.passes == {"walk": 15.0}
