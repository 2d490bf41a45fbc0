"""Shapley values of the players of a game: three engines behind one call, and exact enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from repairkit.errors import UsageError
from repairkit.shapley.checkpoint import Checkpoint
from repairkit.shapley.exact import exact_values
from repairkit.shapley.game import FunctionGame, Game, Progress
from repairkit.shapley.guarantee import End, Guarantee
from repairkit.shapley.permutation import walk
from repairkit.shapley.tmab import tmab
from repairkit.shapley.values import Attribution

Engine = Literal["tmab", "tmab-paper", "monte-carlo"]

__all__ = ["Attribution", "Checkpoint", "Engine", "FunctionGame", "Game", "Guarantee", "estimate", "exact_values", "tmab", "walk"]


def estimate(
    game: Game,
    *,
    engine: Engine = "tmab",
    budget: float,
    seed: int = 0,
    top: int,
    end: End | None = None,
    t0: float = 0.0,
    control: bool = False,
    guarantee: float | None = None,
    tolerance: float | None = None,
    contested: int | None = None,
    truncation: float | None = None,
    ids: Sequence[object] | None = None,
    workers: int = 1,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Estimate the values of a game's players with one of the engines; the walks with the published tolerance and batch.

    Args:
        game: what is played.
        engine: "tmab", "tmab-paper" (Algorithm 1) or "monte-carlo".
        budget: image passes, never exceeded.
        seed: same seed, same bits.
        top: how many players of the sought end are wanted.
        end: "low" or "high"; the harmful end by default.
        t0: live zone of `tmab`; the walks truncate by worth instead.
        control: gradients as control variates (`tmab` only; for smooth scores).
        guarantee: probability that any claim about either end is wrong (`tmab` only); None for no claims.
        tolerance: of the guarantee, relative to the k-th value of each end; 0.2 by default.
        contested: how many players of its screen `tmab` flips; see there.
        truncation: worth below which a walk ends a permutation; not for `tmab`.
        ids: names of the players.
        workers: processes that play rounds of `tmab`; the walks decide after every permutation and take one.
        checkpoint: where the state is saved between rounds, and taken up again if it is there.
        progress: called with the part at work, the passes made and those planned.

    Raises:
        UsageError: an unknown engine, or a setting that the engine does not have.
        BudgetError: a budget below the engine's least.

    Example:
        >>> import numpy as np
        >>> game = FunctionGame(3, lambda live: live @ np.array([0.5, 0.0, -0.25]), bounds=(-1, 1))
        >>> estimate(game, engine="monte-carlo", budget=4000, top=1).value
        array([ 0.5 ,  0.  , -0.25])
    """
    if engine == "tmab":
        if truncation is not None:
            raise UsageError("tmab truncates by size, not by worth: give t0 in place of truncation")
        return tmab(
            game,
            budget=budget,
            seed=seed,
            top=top,
            end=end,
            t0=t0,
            control=control,
            guarantee=guarantee,
            tolerance=tolerance,
            contested=contested,
            ids=ids,
            workers=workers,
            checkpoint=checkpoint,
            progress=progress,
        )
    if engine not in get_args(Engine):
        raise UsageError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
    if control:
        raise UsageError(f"{engine} makes no gradients: control is for tmab")
    if guarantee is not None:
        raise UsageError(f"{engine} cannot keep a guarantee: its intervals speak of one filter at one time; use the engine tmab")
    if tolerance is not None:
        raise UsageError(f"tolerance belongs to a guarantee of tmab, got {tolerance} for {engine}")
    if contested is not None:
        raise UsageError(f"{engine} makes no screen that could pick {contested} contested players; use the engine tmab")
    if workers != 1:
        raise UsageError(f"{engine} goes on from permutation to permutation and cannot be spread over {workers} workers; use one")
    if t0:
        raise UsageError(f"{engine} truncates by worth, not by size: give truncation in place of t0")
    return walk(
        game,
        bandit=engine == "tmab-paper",
        budget=budget,
        seed=seed,
        top=top,
        end=end,
        truncation=truncation,
        ids=ids,
        checkpoint=checkpoint,
        progress=progress,
    )
