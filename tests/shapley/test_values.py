from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from engines import estimate
from scipy.stats import norm

from repairkit.errors import BudgetError, DataError
from repairkit.shapley import FunctionGame
from repairkit.shapley.values import Attribution, Budget, decide, read_table


def example(**changes) -> Attribution:
    base = Attribution(
        ids=("a:0", "a:1", "b.c:0", "b.c:1", "b.c:2"),
        screen=np.array([-9.0, 0.1, -0.2, 0.0, 0.3]),
        value=np.array([math.nan, 0.2, -0.3, 0.0, -0.1]),
        half_width=np.array([math.nan, 0.05, 0.01, 0.05, 0.01]),
        samples=np.array([0.0, 4, 4, 4, 4]),
        decided=np.array([False, False, True, False, True]),
        harmful=-1,
        end="low",
        top_k=2,
        min_live=0.5,
        delta=0.05,
        seed=3,
        engine="tmab",
        passes={"screen": 100.0, "flips": 50.0},
    )
    return replace(base, **changes)


def test_culprits_have_a_value_of_the_harmful_sign():
    assert example().harmful_players().tolist() == [2, 4]  # never 0, whose screen is the most negative of all
    assert example(harmful=1).harmful_players().tolist() == [1]
    assert example().harmful_players(1).tolist() == [2]
    assert example(value=np.full(5, math.nan)).harmful_players().tolist() == []


def test_ties_keep_the_order_of_the_players():
    assert example(value=np.array([-0.1, -0.2, -0.1, -0.2, 0.0])).harmful_players().tolist() == [1, 3, 0, 2]


def test_the_table_survives_its_file(tmp_path):
    found = example()
    found.write(tmp_path / "attribution.parquet")
    table = read_table(tmp_path / "attribution.parquet")
    pd.testing.assert_frame_equal(table, found.to_frame())
    assert table["layer"].tolist() == ["a", "a", "b.c", "b.c", "b.c"]
    assert table["channel"].tolist() == [0, 1, 0, 1, 2]
    assert math.isnan(table["value"][0])
    assert table["samples"][0] == 0


def test_the_sought_end_is_served_first_and_nobody_is_listed_twice():
    assert {end: players.tolist() for end, players in example(top_k=3).extremes().items()} == {"low": [2, 4, 3], "high": [1]}
    assert {end: players.tolist() for end, players in example(value=np.zeros(5)).extremes().items()} == {"low": [0, 1], "high": [4, 3]}
    assert list(example(end="high").extremes()) == ["high", "low"]
    assert [example().status(player, "low") for player in (2, 3)] == ["decided", "undecided"]
    assert example().status(1, "high") == "not sought"
    assert "a:1    +0.20000 +- 0.05000  not sought" in str(example())
    assert "0 of 5 filters valued" in str(example(value=np.full(5, math.nan)))


def bits(found: Attribution) -> dict[str, object]:
    """Every field; arrays as their bytes and type."""
    return {name: (value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else value for name, value in vars(found).items()}


def test_an_attribution_survives_its_file_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    n = 300
    value = np.where(rng.random(n) < 0.3, math.nan, rng.normal(size=n) * 10.0 ** rng.integers(-300, 300, n))
    found = Attribution(
        ids=tuple(f"layer.{i % 7}:{i}" for i in range(n)),
        screen=np.full(n, math.nan),
        value=value,
        half_width=np.where(np.isnan(value), math.nan, math.inf),
        samples=rng.integers(0, 2**40, n).astype(float),
        decided=rng.random(n) < 0.5,
        harmful=1,
        end="high",
        top_k=np.int64(17),
        min_live=0.1 + 0.2,
        delta=1 / 3,
        seed=2**60 + 1,
        engine="monte-carlo",
        passes={"screen": 1e300 / 7, "flips": np.float64(2) / 3},
        standard_error=rng.random(n),
    )
    for number, each in enumerate((found, example(), example(passes={}, standard_error=np.full(5, math.nan)))):
        path = tmp_path / f"{number}.parquet"
        each.write(path)
        again = Attribution.read(path)
        assert bits(again) == bits(each)
        again.write(tmp_path / "again.parquet")
        assert (tmp_path / "again.parquet").read_bytes() == path.read_bytes()


def test_an_attribution_of_a_run_survives_its_file(tmp_path):
    game = FunctionGame(4, lambda live: live @ np.array([0.5, 0.0, -0.25, 0.1]), bounds=(-1, 1))
    found = estimate(game, budget=2000, top_k=1, seed=3)
    found.write(tmp_path / "a.parquet")
    assert bits(Attribution.read(tmp_path / "a.parquet")) == bits(found)


@pytest.mark.parametrize("read", [read_table, Attribution.read])
@pytest.mark.parametrize("content", [None, b"", b"not parquet", "truncated", "folder"])
def test_an_unreadable_table_is_named(tmp_path, content, read):
    path = tmp_path / "attribution.parquet"
    if content == "folder":
        path.mkdir()
    elif content == "truncated":
        example().write(path)
        path.write_bytes(path.read_bytes()[:-9])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected an attribution table at .*; run the attribution again"):
        read(path)


def test_a_table_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "attribution.parquet"
    example().write(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="run the attribution again"):
            Attribution.read(path)


@pytest.mark.parametrize("read", [read_table, Attribution.read])
def test_a_table_of_something_else_is_refused(tmp_path, read):
    example().to_frame().drop(columns=["value", "screen"]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="lacks the columns screen, value"):
        read(tmp_path / "t.parquet")


def test_a_table_alone_does_not_say_how_it_was_found(tmp_path):
    example().to_frame().to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), example().to_frame())
    with pytest.raises(DataError, match=r"holds a table but not how it was found \(engine, min_live, passes\); run the attribution again"):
        Attribution.read(tmp_path / "t.parquet")


@pytest.mark.parametrize("change", [{"end": "middle"}, {"top_k": None}, {"luck": 1}, "no JSON"])
def test_facts_of_something_else_are_refused(tmp_path, change):
    path = tmp_path / "t.parquet"
    example().write(path)
    table = pq.read_table(path)
    ((key, facts),) = [(key, facts) for key, facts in table.schema.metadata.items() if key != b"pandas"]
    facts = json.dumps(json.loads(facts) | change) if isinstance(change, dict) else change
    pq.write_table(table.replace_schema_metadata({key: facts}), path)
    with pytest.raises(DataError, match=r"t.parquet is not an attribution of this version \(.*\); run the attribution again") as error:
        Attribution.read(path)
    assert "\n" not in str(error.value)


def test_columns_of_another_type_are_refused(tmp_path):
    path = tmp_path / "t.parquet"
    example().write(path)
    table = pq.read_table(path)
    words = table.set_column(table.column_names.index("value"), "value", [["a", "b", "c", "d", "e"]])
    pq.write_table(words.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(DataError, match="is not an attribution of this version"):
        Attribution.read(path)


@pytest.mark.parametrize("end", ["low", "high"])
def test_decided_means_on_one_side_of_the_border_of_the_k_th(end):
    sign = 1 if end == "low" else -1
    value = sign * np.array([-1.0, -0.5, 0.5, 0.1, math.nan])  # only the interval of the third lies wholly above two others
    half_width = np.array([0.1, 0.3, 0.2, 0.4, math.nan])
    assert decide(value, half_width, top_k=2, end=end).tolist() == [True, False, True, False, False]


def test_of_equal_values_hardly_ever_is_one_decided():
    """The k-th value is an estimate too: held against it as if it were known, a few of 136 equal players are always "decided"."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        half_width = np.full(136, norm.isf(0.05 / 136 / 2))
        wrong += decide(rng.normal(size=136), half_width, top_k=40, end="low").any()
    assert wrong <= 20


def test_nobody_is_decided_without_a_next_value():
    assert not decide(np.array([0.1, -5.0]), np.zeros(2), top_k=2, end="low").any()
    assert not decide(np.array([0.1, 9.0]), np.array([math.inf, math.inf]), top_k=1, end="low").any()


def test_a_ledger_cannot_be_overdrawn():
    ledger = Budget(100)
    ledger.spend("a", 60)
    ledger.spend("b", 30)
    ledger.spend("a", 5)
    assert ledger.spent == {"a": 65.0, "b": 30.0}
    assert ledger.left == 5
    with pytest.raises(BudgetError, match="b would need 6 image passes, 5 of 100 are left"):
        ledger.spend("b", 6)
    assert ledger.left == 5
