from __future__ import annotations

import pytest

from repairkit.clock import Clock


@pytest.fixture
def ticking(monkeypatch):
    """A clock on the wall that gains a second whenever it is looked at."""
    now = iter(range(1000))
    monkeypatch.setattr("repairkit.clock.time.perf_counter", lambda: float(next(now)))


def test_parts_are_booked_and_noted_also_when_interrupted(ticking):
    noted = []
    clock = Clock(None, 100, earlier={"choosing": 5.0}, note=lambda seconds: noted.append(dict(seconds)))
    with clock.part("attribution"):
        clock.add("attribution", 30)
    with pytest.raises(KeyboardInterrupt), clock.part("choosing"):
        raise KeyboardInterrupt
    assert noted == [{"choosing": 5.0, "attribution": 1.0}, {"choosing": 6.0, "attribution": 1.0}]
    assert clock.passes == {"attribution": 30.0}


def test_what_one_network_cost_is_known_apart_also_when_a_run_goes_on(ticking):
    noted = []
    first = Clock(None, 100, note=lambda seconds: noted.append(dict(seconds)))
    for first.column in ("repaired", "rival"):
        with first.part("attribution"):
            first.add("attribution", 30)
    again = Clock(None, 100, earlier=noted[-1])
    again.column = "rival"
    with again.part("attribution"):
        again.restore("attribution", 30)
        again.add("attribution", 5)
    assert again.seconds == {"attribution": 3.0}
    assert again.of("rival") == ({"attribution": 35.0}, {"attribution": 2.0})
    assert again.of("repaired") == ({}, {"attribution": 1.0})


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
