import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from repairkit.errors import DataError
from repairkit.files import cache_directory, read_arrays, replacing, write_text


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with replacing(target) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == target.parent
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def half():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_mode_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        assert os.umask(before) == mask
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "a.txt", "95 % – α\n")
    assert (tmp_path / "a.txt").read_bytes() == "95 % – α\n".encode()


def test_arrays_come_back_as_they_were_written(tmp_path):
    np.savez(tmp_path / "a.npz", numbers=np.array([0.1, np.nan]), words=np.array(["a", "bc"]))
    arrays = read_arrays(tmp_path / "a.npz", content="arrays", remedy="begin anew")
    assert arrays["numbers"].tobytes() == np.array([0.1, np.nan]).tobytes()
    assert arrays["words"].tolist() == ["a", "bc"]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "pickled", "no array file"])
def test_damaged_arrays_are_one_error(tmp_path, damage):
    file = tmp_path / "a.npz"
    np.savez(file, a=np.array([{}], dtype=object) if damage == "pickled" else np.arange(100))
    if damage == "missing":
        file.unlink()
    elif damage != "pickled":
        file.write_bytes({"empty": b"", "cut short": file.read_bytes()[:-30], "no array file": b"text" * 50}[damage])
    with pytest.raises(DataError, match=r"expected arrays at .*a\.npz.* remove it to begin anew"):
        read_arrays(file, content="arrays", remedy="begin anew")


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is the platform's")
@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/one", "/two", "/one"),
        (None, "/two", "/two/repairkit"),
        (None, None, "/home/someone/.cache/repairkit"),
        (None, "", "/home/someone/.cache/repairkit"),  # empty is as good as unset
        ("", "", "/home/someone/.cache/repairkit"),
    ],
)
def test_where_the_cache_is(monkeypatch, own, xdg, expected):
    monkeypatch.setenv("HOME", "/home/someone")
    for name, value in (("REPAIRKIT_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_directory() == Path(expected)
