"""What all engines have in common."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engines import estimate
from games import TableGame

from repairkit.errors import GameError, UsageError
from repairkit.shapley import FunctionGame

ENGINES = {
    "tmab": {"engine": "tmab"},
    "control": {"engine": "tmab", "control": True},
    "guarantee": {"engine": "tmab", "guarantee": 0.1},
    "guarantee with a screen": {"engine": "tmab", "guarantee": 0.1, "candidates": 2, "audit": 2},
    "tmab-paper": {"engine": "tmab-paper", "batch": 10},
    "monte-carlo": {"engine": "monte-carlo", "batch": 10},
}
each_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


@each_engine
def test_same_seed_same_bits(engine):
    first, again, other = (estimate(TableGame(9, 7), budget=4_000, top_k=2, seed=seed, **engine) for seed in (7, 7, 8))
    for field in ("screen", "value", "half_width", "samples", "decided"):
        assert getattr(first, field).tobytes() == getattr(again, field).tobytes()
    assert (first.passes, first.guarantee) == (again.passes, again.guarantee)
    assert first.value.tobytes() != other.value.tobytes()


@each_engine
def test_one_player_gets_everything(engine):
    settings = {"budget": 2_000, "top_k": 1, **engine}
    if "candidates" in settings:
        settings["candidates"] = 1
    found = estimate(FunctionGame(2, lambda live: live[:, 0] * 0.5, bounds=(0, 1)), **settings)
    assert found.value == pytest.approx([0.5, 0])


@each_engine
def test_a_dead_network_is_refused(engine):
    dead = FunctionGame(9, lambda live: np.full(len(live), 0.5), bounds=(0, 1))
    with pytest.raises(GameError, match="the live range is empty"):
        estimate(dead, budget=3_000, top_k=2, **engine)


@each_engine
@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"top_k": 9},
        {"top_k": 2.5},
        {"budget": math.nan},
        {"budget": math.inf},
        {"end": "lowest"},
        {"ids": ["a", "b"]},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_named(engine, options):
    with pytest.raises(UsageError, match=f"{next(iter(options))} must"):
        estimate(TableGame(9, 7), **{"budget": 5_000, "top_k": 2, **engine, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_live": 1.0}, r"min_live must lie in \[0, 1\)"),
        ({"min_live": -0.1}, r"min_live must lie in \[0, 1\)"),
        ({"delta": 1.0}, "delta must lie between 0 and 1"),
        ({"audit": -1}, "audit not negative"),
        ({"candidates": 0}, "candidates must be at least 1"),
        ({"tolerance": 0.1}, "tolerance belongs to a guarantee"),
        ({"truncation": 0.5}, "give min_live in place of truncation"),
        ({"guarantee": 0.0}, "delta must lie between 0 and 1"),
        ({"guarantee": math.nan}, "delta must lie between 0 and 1"),
        ({"guarantee": 0.1, "top_k": 5}, "top_k must be at most half of the 9 filters"),
        ({"guarantee": 0.1, "candidates": 1}, "candidates must be at least top_k for a guarantee"),
        ({"guarantee": 0.1, "tolerance": 1.0}, r"tolerance must lie in \[0, 1\)"),
        ({"guarantee": 0.1, "audit": 0}, "an audit takes at least one draw"),
        ({"guarantee": 0.1, "control": True}, "a guarantee needs observations of known range"),
        ({"guarantee": 0.1, "workers": 0}, "workers must be at least 1"),
        ({"engine": "magic"}, "engine must be one of tmab, tmab-paper, monte-carlo, got 'magic'"),
        ({"engine": "monte-carlo", "min_live": 0.5}, "give truncation in place of min_live"),
        ({"engine": "monte-carlo", "guarantee": 0.05}, "monte-carlo cannot keep a guarantee"),
        ({"engine": "tmab-paper", "candidates": 3}, "tmab-paper makes no screen that could pick 3 candidates"),
        ({"engine": "tmab-paper", "delta": 0.0}, "delta must lie between 0 and 1"),
        ({"engine": "tmab-paper", "batch": 0}, "batch must be at least 1 example, got 0"),
        ({"engine": "tmab-paper", "truncation": math.nan}, "truncation must be an objective value"),
        ({"engine": "tmab-paper", "truncation": 1.5}, "the truncation of 1.5 is above the objective value of the whole network"),
    ],
)
def test_settings_that_cannot_work_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        estimate(TableGame(9, 7), **{"budget": 5_000, "top_k": 2, **options})
