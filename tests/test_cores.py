import os

import pytest
import torch

from repairkit.run.cores import free_cores


@pytest.mark.parametrize(
    ("average", "running", "expected"),
    [
        (0.3, 1, 8),  # this process alone
        (2.6, 4, 5),
        (2.4, 9, 6),  # a moment's crowd is no load
        (5.0, 1, 8),  # what made the load has ended
        (30.0, 31, 1),
    ],
)
def test_free_is_what_neither_the_last_minute_nor_this_moment_keeps_busy(tmp_path, monkeypatch, average, running, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    (tmp_path / "loadavg").write_text(f"{average:.2f} 4.00 4.00 {running}/345 21429\n")
    assert free_cores(loadavg=tmp_path / "loadavg") == expected


@pytest.mark.parametrize(("load", "allowed", "expected"), [(10.0, 4, 4), (61.8, 4, 2), (70.0, 4, 1), (0.0, 1, 1)])
def test_a_process_that_may_use_few_cores_of_many_takes_no_more(tmp_path, monkeypatch, load, allowed, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: allowed)
    assert free_cores(loadavg=tmp_path / "not on this system") == expected
