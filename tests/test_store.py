from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from repairkit.errors import DataError, UsageError
from repairkit.repair.selection import SELECTION, Choice, Step
from repairkit.run.store import ARRAYS, RunStore, check_resumable, place_beside


def unfinished(out, **configuration):
    return RunStore(out, {"seed": 0, "curve": (1, 2)} | configuration, command="repairkit fairness --resume")


def test_nothing_is_made_before_there_is_work_to_keep(tmp_path):
    work = unfinished(tmp_path / "deeper" / "run")
    network = work.within("repaired-fold-1")
    checkpoint = network.checkpoint("attribution")
    assert checkpoint.begin({"budget": 1}) is None
    assert network.read("choice", SELECTION) is None
    work.keep_seconds({"attribution": 1.0})
    with pytest.raises(KeyError) as error, work.with_command():
        raise KeyError
    assert not hasattr(error.value, "__notes__")
    assert work.seconds() == {}
    work.remove()
    assert list(tmp_path.iterdir()) == []
    checkpoint.offer({"done": np.array(1)})
    checkpoint.save()
    assert {str(file.relative_to(work.path)) for file in work.path.rglob("*.*")} == {"run.json", "repaired-fold-1/attribution.npz"}


def test_what_was_kept_is_there_again_every_bit(tmp_path):
    path = (
        Step(0, None, 1 / 3, 0.0, 0.0, np.float64(0.1) + np.float64(0.2), 1e-320, math.inf),
        Step(1, 17, -math.inf, 5e-324, math.nextafter(1, 2), 0.0, -0.0, 1.0),
    )
    choice = Choice(path, 1, "the limit of 1 filters was reached", 12.300000000000001)
    work = unfinished(tmp_path / "run")
    work.within("repaired-fold-1").write("choice", choice, SELECTION, spent=[])
    work.keep_seconds({"choosing": 1.25})
    again = unfinished(tmp_path / "run")
    restored, _ = again.within("repaired-fold-1").read("choice", SELECTION)
    assert restored == choice
    assert math.copysign(1, restored.path[1].source) == -1
    assert again.within("repaired-fold-2").read("choice", SELECTION) is None
    assert again.seconds() == {"choosing": 1.25}
    again.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"seed": 1}, "seed 0, this run has seed 1"),
        ({"curve": (1,)}, r"curve \[1, 2\], this run has curve \[1\]"),
        ({"new": True}, "new None, this run has new True"),
    ],
)
def test_another_configuration_is_refused(tmp_path, configuration, message):
    unfinished(tmp_path / "run").begin()
    with pytest.raises(UsageError, match=rf"run.unfinished was made with {message}; go on with the same configuration, or remove it"):
        unfinished(tmp_path / "run", **configuration)


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError, ZeroDivisionError])
def test_whatever_ends_a_run_tells_how_to_go_on(tmp_path, error):
    work = unfinished(tmp_path / "run")
    work.begin()
    with pytest.raises(error) as raised, work.with_command():
        raise error
    assert raised.value.__notes__ == ["what was done so far is kept; to go on: repairkit fairness --resume"]


def test_resuming_is_asked_for_if_and_only_if_there_is_something(tmp_path, monkeypatch):
    out = tmp_path / "run"
    check_resumable(out, resume=False)
    check_resumable(None, resume=False)
    with pytest.raises(UsageError, match="--resume needs to know the run: give the --out"):
        check_resumable(None, resume=True)
    with pytest.raises(
        UsageError, match=r"there is no unfinished run at .*run.unfinished to go on with; check --out, or leave --resume out"
    ):
        check_resumable(out, resume=True)
    unfinished(out).begin()
    check_resumable(out, resume=True)
    with pytest.raises(
        UsageError, match=r"run.unfinished holds the work of a run that did not finish; go on with it by --resume, or remove"
    ):
        check_resumable(out, resume=False)
    out.mkdir()
    monkeypatch.chdir(out)
    assert place_beside(Path()) == tmp_path / "run.unfinished"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"chosen": 1}', '{"path": [{"filters": 1}]}'])
def test_a_choice_that_cannot_be_read(tmp_path, content):
    work = unfinished(tmp_path / "run")
    work.within("a").write("choice", Choice((), 0, "", 0.0), SELECTION, spent=[])
    (work.path / "a" / "choice.json").write_text(content)
    with pytest.raises(DataError, match=r"choice.json.*; remove .*"):
        work.within("a").read("choice", SELECTION)


def test_arrays_that_took_long_are_there_again_every_bit(tmp_path):
    network = unfinished(tmp_path / "run").within("repaired-fold-1")
    assert network.read("square", ARRAYS) is None
    kept = {
        "hit": np.array([True, False]),
        "least": np.array([[1 / 3, np.inf], [np.nan, -0.0]]),
        "passes": np.array(7),
        "name": np.array("PGD"),
    }
    network.write("square", kept, ARRAYS, spent=[])
    network.write("attribution", {"hit": np.zeros(2)}, ARRAYS, spent=[])
    assert network.checkpoint("attribution").begin({}) is None  # a checkpoint of the same name is another file
    again = unfinished(tmp_path / "run").within("repaired-fold-1")
    restored, _ = again.read("square", ARRAYS)
    assert restored.keys() == kept.keys()
    for name, array in kept.items():
        assert (restored[name].dtype, restored[name].tobytes()) == (array.dtype, array.tobytes())
    assert unfinished(tmp_path / "run").within("repaired-fold-2").read("square", ARRAYS) is None
    again.write("square", {"hit": np.array([3])}, ARRAYS, spent=[])
    assert {name: array.tolist() for name, array in again.read("square", ARRAYS)[0].items()} == {"hit": [3]}


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "pickle"])
def test_arrays_that_cannot_be_read(tmp_path, damage):
    work = unfinished(tmp_path / "run")
    work.within("a").write("square", {"hit": np.arange(100.0)}, ARRAYS, spent=[])
    file = work.path / "a" / "square.arrays.npz"
    content = bytearray(file.read_bytes())
    content[content.find(b"\x93NUMPY") + 400] ^= 1
    file.write_bytes({"cut": content[:300], "flipped": content, "empty": b"", "pickle": b""}[damage])
    if damage == "pickle":
        np.savez(file, hit=np.array([print], dtype=object))
    with pytest.raises(
        DataError, match=r"expected arrays of an unfinished run at .*square.arrays.npz, .*; remove it to compute them again"
    ):
        work.within("a").read("square", ARRAYS)
