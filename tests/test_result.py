import json
from pathlib import Path

import pytest

from repairkit.errors import DataError
from repairkit.experiments.results import read
from repairkit.result import SCHEMA_VERSION
from tools.result_schema import PLACE, text

STORED = sorted((Path(__file__).parents[1] / "reports").rglob("result.json"))


def test_the_published_schema_is_that_of_the_code():
    assert PLACE.read_text(encoding="utf-8") == text()


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_every_stored_result_is_read_and_written_as_it_is(path, tmp_path):
    read(path).write(tmp_path / "result.json")
    assert (tmp_path / "result.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("version", "message"), [(SCHEMA_VERSION + 1, "install a newer repairkit"), (1, "run the experiment again, or convert the file")]
)
def test_a_result_of_another_schema_is_refused_by_its_number(version, message, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(json.loads(STORED[0].read_text(encoding="utf-8")) | {"schema_version": version}), encoding="utf-8")
    with pytest.raises(DataError, match=f"has result schema {version}, this version of repairkit reads {SCHEMA_VERSION}; {message}"):
        read(path)
