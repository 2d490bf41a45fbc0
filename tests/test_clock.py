from __future__ import annotations

import numpy as np
import pytest

from repairkit.run.ledger import Clock
from repairkit.run.store import Unfinished


@pytest.fixture
def ticking(monkeypatch):
    """A clock on the wall that gains a second whenever it is looked at."""
    now = iter(range(1000))
    monkeypatch.setattr("repairkit.run.ledger.time.perf_counter", lambda: float(next(now)))


def unfinished(folder):
    return Unfinished(folder / "run", {"seed": 0}, command="again")


def test_parts_are_booked_and_noted_also_when_interrupted(ticking, tmp_path):
    work = unfinished(tmp_path)
    work.begin()
    work.keep_seconds({"choosing": 5.0})
    clock = Clock(None, 100, kept=work)
    with clock.part("attribution"):
        clock.add("attribution", 30)
    assert work.seconds() == {"choosing": 5.0, "attribution": 1.0}
    with pytest.raises(KeyboardInterrupt), clock.part("choosing"):
        raise KeyboardInterrupt
    assert work.seconds() == {"choosing": 6.0, "attribution": 1.0}
    assert clock.passes == {"attribution": 30.0}


def test_what_one_network_cost_is_known_apart_also_when_a_run_goes_on(ticking, tmp_path):
    work = unfinished(tmp_path)
    work.begin()
    first = Clock(None, 100, kept=work)
    for first.column in ("repaired", "rival"):
        with first.part("attribution"):
            first.add("attribution", 30)
    again = Clock(None, 100, kept=unfinished(tmp_path))
    again.column = "rival"
    with again.part("attribution"):
        again.restore("attribution", 30)
        again.add("attribution", 5)
    assert again.seconds == {"attribution": 3.0}
    assert again.of("rival") == ({"attribution": 35.0}, {"attribution": 2.0})
    assert again.of("repaired") == ({}, {"attribution": 1.0})


def test_seconds_of_a_part_at_work_are_on_disk_with_the_work_that_is_kept(ticking, tmp_path):
    """As a kill leaves it: no part ends, and what was kept has its time beside it."""
    work = unfinished(tmp_path)
    kept = work.network("round-1")
    clock = Clock(None, 100, kept=work)
    part = clock.part("choosing")
    part.__enter__()
    assert work.seconds() == {}
    for seconds in (1.0, 2.0):
        kept.keep_arrays("step", hit=np.array([True]))
        assert unfinished(tmp_path).seconds() == {"choosing": seconds}
    checkpoint = kept.checkpoint("attribution")
    checkpoint.begin({})
    checkpoint.offer({"done": np.array(1)})
    checkpoint.save()
    assert unfinished(tmp_path).seconds() == {"choosing": 3.0}
    again = Clock(None, 100, kept=unfinished(tmp_path))
    assert again.seconds == {"choosing": 3.0}


def test_passes_that_another_run_made_are_told_from_those_of_an_earlier_session(tmp_path):
    work = unfinished(tmp_path)
    first = Clock(None, 100, kept=work)
    first.take("attack", made=60.0, whole=60.0)
    first.take("evaluation", made=0.0, whole=40.0)
    assert first.taken == {"evaluation": 40.0}
    work.begin()
    second = Clock(None, 100, kept=unfinished(tmp_path))
    for part, whole in (("attack", 60.0), ("evaluation", 40.0)):
        second.take(part, made=0.0, whole=whole)
    assert second.taken == {"evaluation": 40.0}
    assert second.passes == {"attack": 60.0, "evaluation": 40.0}
    alone = Clock(None, 100)
    alone.take("attack", made=0.0, whole=60.0)
    assert alone.taken == {"attack": 60.0}


def test_progress_counts_the_passes_of_this_session_only():
    told = []
    clock = Clock(lambda *what: told.append(what), 100)
    clock.prefix = "repaired"
    with clock.part("attribution", restored=True):
        clock.add("attribution", 60)
    with clock.part("choosing"):
        clock.tell("choosing", 10, 10)
        clock.add("choosing", 50)
    clock.tell("evaluation", 0, 0)
    assert told == [
        ("repaired: attribution", 0, 100),
        ("repaired: choosing", 0, 40),
        ("repaired: choosing", 10, 40),
        ("repaired: evaluation", 50, 50),
    ]
    assert clock.passes == {"attribution": 60, "choosing": 50}
