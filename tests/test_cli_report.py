"""`repairkit report`: the views of a run, again."""

import json

from command_line import call, one_error

from repairkit.experiments.fairness.report import FairnessResult


def test_report_writes_the_views_again(finished, tmp_path):
    run = finished[-1]
    (tmp_path / "result.json").write_bytes((run / "result.json").read_bytes())
    code, stdout, stderr = call("report", tmp_path)
    assert code == 0
    assert stdout.startswith(FairnessResult.read(run / "result.json").verdict.headline)
    assert f"report: {tmp_path / 'report.html'}" in stderr
    for name in ("report.html", "report.md"):
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes()
    code, stdout, _ = call("report", tmp_path / "result.json", "--json")
    assert (code, json.loads(stdout)) == (0, json.loads((run / "result.json").read_text()))


def test_report_that_cannot_work(tmp_path):
    one_error(*call("report", tmp_path), expected=3, message="expected a result at .*result.json, found none; give the directory of a fin")
    (tmp_path / "result.json").write_text("{}")
    one_error(*call("report", tmp_path), expected=3, message="is not a result of this version: schema_version: Field required")
    (tmp_path / "text").write_text("")
    one_error(*call("report", tmp_path / "text"), expected=3, message="expected a result at .*, could not read it")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["result.json", "text"]
