from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from repairkit.errors import BudgetError, DataError
from repairkit.shapley.attribution import Attribution, Ledger, decide, read_table


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
        top=2,
        t0=0.5,
        delta=0.05,
        seed=3,
        engine="tmab",
        passes={"screen": 100.0, "flips": 50.0},
    )
    return replace(base, **changes)


def test_culprits_have_a_value_of_the_harmful_sign():
    assert example().culprits().tolist() == [2, 4]  # never 0, whose screen is the most negative of all
    assert example(harmful=1).culprits().tolist() == [1]
    assert example().culprits(1).tolist() == [2]
    assert example(value=np.full(5, math.nan)).culprits().tolist() == []


def test_ties_keep_the_order_of_the_players():
    assert example(value=np.array([-0.1, -0.2, -0.1, -0.2, 0.0])).culprits().tolist() == [1, 3, 0, 2]


def test_the_table_survives_its_file(tmp_path):
    found = example()
    found.write(tmp_path / "attribution.parquet")
    table = read_table(tmp_path / "attribution.parquet")
    pd.testing.assert_frame_equal(table, found.table())
    assert table["layer"].tolist() == ["a", "a", "b.c", "b.c", "b.c"]
    assert table["channel"].tolist() == [0, 1, 0, 1, 2]
    assert math.isnan(table["value"][0])
    assert table["samples"][0] == 0


def test_what_is_printed_says_how_much_was_valued():
    text = str(example())
    assert "4 of 5 filters valued, t0 = 0.5, 150 passes" in text
    assert text.splitlines()[1].split()[0] == "b.c:0"
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_an_unreadable_table_is_named(tmp_path, content):
    path = tmp_path / "attribution.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected an attribution table at .*; run the attribution again"):
        read_table(path)


def test_a_table_of_something_else_is_refused(tmp_path):
    example().table().drop(columns=["value", "screen"]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="lacks the columns screen, value"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("end", ["low", "high"])
def test_decided_means_on_one_side_of_the_border_of_the_k_th(end):
    sign = 1 if end == "low" else -1
    value = sign * np.array([-1.0, -0.5, 0.0, 0.1, math.nan])  # border of the two lowest: -0.25
    half_width = np.array([0.1, 0.3, 0.2, 0.4, math.nan])
    assert decide(value, half_width, top=2, end=end).tolist() == [True, False, True, False, False]


def test_nobody_is_decided_without_a_next_value():
    assert not decide(np.array([0.1, -5.0]), np.zeros(2), top=2, end="low").any()
    assert not decide(np.array([0.1, 9.0]), np.array([math.inf, math.inf]), top=1, end="low").any()


def test_a_ledger_cannot_be_overdrawn():
    ledger = Ledger(100)
    ledger.spend("a", 60)
    ledger.spend("b", 30)
    ledger.spend("a", 5)
    assert ledger.spent == {"a": 65.0, "b": 30.0}
    assert ledger.left == 5
    with pytest.raises(BudgetError, match="b would need 6 image passes, 5 of 100 are left"):
        ledger.spend("b", 6)
    assert ledger.left == 5
