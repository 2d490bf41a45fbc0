"""`repairkit attribution RUN`: what a run blames, as a table and as JSON."""

from __future__ import annotations

import json
import math
import re

import command_line
import numpy as np
import pytest
from attributions import attribution as tiny_attribution
from report_example import example_result
from results import changed

from repairkit.experiments.fairness.report import Agreement, Overlap
from repairkit.shapley.audit import Audit
from repairkit.shapley.guarantee import Guarantee, TopKClaims


def call(*arguments):
    return command_line.call("attribution", *arguments)


def found(shift=0.0, **changes):
    value = np.array([math.nan, 0.2, -0.3, 0.0, -0.1, 0.05]) + shift
    given = {
        "ids": ("a:0", "a:1", "b.c:0", "b.c:1", "b.c:2", "[bold]d:0"),
        "screen": [-9.0, 0.1, -0.2, math.nan, 0.3, 0.0],
        "half_width": np.array([math.nan, 0.05, 0.01, math.inf, 0.01, 0.05]),
        "samples": np.array([0.0, 4, 1234, 4, 4, 4]),
        "decided": np.array([False, False, True, False, True, False]),
        "min_live": 0.9,
        "passes": {"screen": 100.0, "flips": 50.0},
        "standard_error": np.array([math.nan, 1, 2, math.inf, 4, 5]),
    }
    return tiny_attribution(value, **(given | changes))


AGREEMENT = Agreement(
    column="repaired",
    by="value",
    end="low",
    rank_correlation=0.71,
    overlaps=[Overlap(k=25, share=0.64, low=0.6, high=0.7, chance=0.0084), Overlap(k=50, share=0.5, low=0.5, high=0.5, chance=0.017)],
)


AUDIT = Audit(draws=64, hits=0, mass=0.066, count=1, share=0.2)
GUARANTEE = Guarantee(
    delta=0.05,
    tolerance=0.2,
    top_k=2,
    players=6,
    candidates=4,
    audited=1,
    pairs=1234,
    stopped="budget",
    low=TopKClaims("low", ("b.c:0", "b.c:2"), ("b.c:0",), ("b.c:0", "b.c:2"), ("b.c:2", "b.c:1"), 0, 0.02, decided=True, audit=AUDIT),
    high=TopKClaims("high", ("a:1", "[bold]d:0"), (), (), (), 3, 0.0, decided=False, audit=AUDIT),
)


@pytest.fixture
def run(tmp_path):
    """A run with two folds and a rival, as `results.write_run` leaves it."""
    found().write(tmp_path / "attribution.parquet")
    for number, name in enumerate(("repaired-fold-2", "dropout_repaired-fold-1", "dropout_repaired-fold-2")):
        found(shift=0.01 * (number + 1)).write(tmp_path / "networks" / name / "attribution.parquet")
    changed(example_result(), {"stability": [AGREEMENT]}).write(tmp_path / "result.json")
    return tmp_path


def test_a_run_that_hands_over_a_later_fold_shows_each_fold_as_its_own(run):
    """Fold 1 froze nothing: its attribution stands among the networks, and the one in the run directory is fold 2's."""
    (run / "networks" / "repaired-fold-2").rename(run / "networks" / "repaired-fold-1")
    lowest = {fold: json.loads(call(run, "--fold", fold, "--json")[1])["rows"] for fold in ("1", "2")}
    assert min(row["value"] for row in lowest["1"] if row["value"] is not None) == pytest.approx(-0.29)
    assert min(row["value"] for row in lowest["2"] if row["value"] is not None) == pytest.approx(-0.3)


def rows_of(stdout):
    """Cells of every table row."""
    return [[cell.strip() for cell in re.split("[│┃]", line)] for line in stdout.splitlines() if re.search("[│┃]", line)]


def test_both_ends_as_a_table(run):
    code, stdout, stderr = call(run)
    assert (code, stderr) == (0, "")
    assert stdout.splitlines()[0] == "tmab: 5 of 6 filters valued, min_live = 0.9, 150 passes"
    assert "2 lowest:" in stdout
    assert "2 highest of the filters that happened to be valued; this end was not sought:" in stdout
    head = ["Filter", "Value", "Half-width", "Samples", "Screen", "Decided"]
    assert rows_of(stdout)[:6] == [
        head,
        ["b.c:0", "-0.30000", "0.01000", "1,234", "-0.20000", "decided"],
        ["b.c:2", "-0.10000", "0.01000", "4", "+0.30000", "decided"],
        head,
        ["a:1", "+0.20000", "0.05000", "4", "+0.10000", "not sought"],
        ["[bold]d:0", "+0.05000", "0.05000", "4", "+0.00000", "not sought"],
    ]


def test_as_many_as_asked_for(run):
    _, stdout, _ = call(run, "--top-k", 3)
    assert [row[0] for row in rows_of(stdout) if row[0] != "Filter"][:5] == ["b.c:0", "b.c:2", "b.c:1", "a:1", "[bold]d:0"]
    assert ["b.c:1", "+0.00000", "inf", "4", "—", "undecided"] in rows_of(stdout)
    _, stdout, _ = call(run, "--top-k", 1)
    assert "1 lowest, of 2 sought:" in stdout


def test_stability_is_part_of_it_where_it_was_asked_for(run):
    _, stdout, _ = call(run)
    assert "Filters that both halves of the attribution images name" in stdout
    last = rows_of(stdout)[-1]
    assert last[0].endswith("lowest by value")
    assert last[1].startswith("64.0%")
    assert last[-1] == "0.71"
    assert json.loads(call(run, "--json")[1])["stability"] == [AGREEMENT.model_dump()]
    assert json.loads(call(run, "--json", "--network", "dropout_repaired")[1])["stability"] == []
    (run / "result.json").unlink()
    assert "both halves" not in call(run)[1]


def test_json_has_every_filter_and_how_it_was_found(run):
    code, stdout, stderr = call(run, "--json")
    assert (code, stderr) == (0, "")
    data = json.loads(stdout)
    rows = data.pop("rows")
    data.pop("stability")
    assert data == {
        "engine": "tmab", "min_live": 0.9, "end": "low", "top_k": 2, "harmful": -1, "delta": 0.05, "seed": 0,
        "passes": {"screen": 100.0, "flips": 50.0}, "filters": 6, "valued": 5, "decided": 2, "guarantee": None, "still_needed": None,
    }  # fmt: skip
    assert [row["id"] for row in rows] == list(found().ids)
    assert rows[0] == {
        "id": "a:0", "layer": "a", "channel": 0, "screen": -9.0, "value": None, "half_width": None,
        "standard_error": None, "samples": 0, "decided": False,
    }  # fmt: skip
    assert (rows[3]["screen"], rows[3]["value"], rows[3]["half_width"]) == (None, 0.0, None)
    assert [row["id"] for row in json.loads(call(run, "--json", "--top-k", "1")[1])["rows"]] == ["b.c:0", "a:1"]


@pytest.mark.parametrize(
    ("arguments", "lowest"),
    [
        ([], -0.3),
        (["--network", "repaired", "--fold", "1"], -0.3),
        (["--fold", "2"], -0.29),
        (["--network", "dropout_repaired"], -0.28),
        (["--network", "dropout_repaired", "--fold", "2"], -0.27),
    ],
)
def test_network_and_fold(run, arguments, lowest):
    rows = json.loads(call(run, "--json", "--top-k", 1, *arguments)[1])["rows"]
    assert rows[0]["value"] == pytest.approx(lowest)


def test_a_file_will_do(run):
    file = run / "networks" / "repaired-fold-2" / "attribution.parquet"
    assert json.loads(call(file, "--json", "--top-k", 1)[1])["rows"][0]["value"] == pytest.approx(-0.29)


def one_error(done, *, expected, message):
    code, stdout, stderr = done
    assert (code, stdout) == (expected, "")
    (line,) = stderr.splitlines()
    assert re.match(f"error: .*{message}", line), line


def test_runs_that_cannot_be_shown(run, tmp_path):
    one_error(
        call(tmp_path / "none"), expected=3, message="expected a run directory at .*none, found none; give the --out of a finished run"
    )
    (tmp_path / "empty").mkdir()
    one_error(call(tmp_path / "empty"), expected=3, message="empty holds no attribution.parquet; give the directory of a finished run")
    held = "repaired-fold-1, dropout_repaired-fold-1, dropout_repaired-fold-2, repaired-fold-2"
    one_error(call(run, "--fold", "3"), expected=2, message=f"holds no attribution of --network repaired --fold 3; it holds {held}")
    one_error(call(run, "--network", "original"), expected=2, message="holds no attribution of --network original --fold 1")
    (run / "attribution.parquet").write_bytes((run / "attribution.parquet").read_bytes()[:400])
    one_error(call(run), expected=3, message="expected an attribution table at .*, could not read one")
    found().to_frame().to_parquet(run / "attribution.parquet")
    one_error(call(run), expected=3, message="attribution.parquet holds a table but not how it was found")
    one_error(call(run / "result.json"), expected=3, message="expected an attribution table at .*result.json")


def test_usage():
    assert call("--top-k", "0", ".")[0] == 2
    assert call()[0] == 2
    assert call("--help")[0] == 0


def test_a_guarantee_comes_first(tmp_path):
    found(guarantee=GUARANTEE).write(tmp_path / "attribution.parquet")
    _, stdout, _ = call(tmp_path)
    lines = stdout.splitlines()
    assert lines[0] == (
        "truly separated: 1 of the 2 lowest and 0 of the 2 highest (confidence 0.95, among the 4 candidates and 1 audited of 6 filters)"
    )
    assert lines[1:4] == [
        "right up to the tolerance, 0.2 of the k-th value: 2 of the 2 lowest and 0 of the 2 highest",
        "stopped after 1,234 pairs: the budget is spent",
        "  lowest: decided at a tolerance of 0.02; ties: b.c:2, b.c:1",
    ]
    assert "tmab: 5 of 6 filters valued, min_live = 0.9, 150 passes" in lines
    assert "2 highest:" in stdout  # both ends were sought
    assert [row[-1] for row in rows_of(stdout)] == ["Decided", "separated", "tie", "Decided", "undecided", "undecided"]
    data = json.loads(call(tmp_path, "--json")[1])
    assert data["guarantee"]["low"]["separated"] == ["b.c:0"]
    assert data["guarantee"]["high"]["audit"] == {"draws": 64, "hits": 0, "mass": 0.066, "count": 1, "share": 0.2}
    assert data["still_needed"] is None


def test_what_the_paper_s_rule_would_still_need_is_said(run):
    found(engine="tmab-paper", still_needed=3e9).write(run / "attribution.parquet")
    assert "3e+09 passes" in call(run)[1].splitlines()[1]
    data = json.loads(call(run, "--json")[1])
    assert (data["still_needed"], data["guarantee"]) == (3e9, None)
    found(engine="tmab-paper", still_needed=math.inf).write(run / "attribution.parquet")
    assert json.loads(call(run, "--json")[1])["still_needed"] is None
