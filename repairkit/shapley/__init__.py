"""Shapley values of the players of a game: three engines behind one call, and exact enumeration."""

from __future__ import annotations

from collections.abc import Sequence

from repairkit.shapley.checkpoint import Checkpoint
from repairkit.shapley.exact import exact_values
from repairkit.shapley.game import FunctionGame, Game, Progress
from repairkit.shapley.guarantee import Guarantee
from repairkit.shapley.permutation import permutation_sampling
from repairkit.shapley.settings import Engine, EngineSettings
from repairkit.shapley.tmab import tmab
from repairkit.shapley.values import Attribution

__all__ = [
    "Attribution",
    "Checkpoint",
    "Engine",
    "EngineSettings",
    "FunctionGame",
    "Game",
    "Guarantee",
    "estimate",
    "exact_values",
    "permutation_sampling",
    "tmab",
]


def estimate(
    game: Game,
    settings: EngineSettings,
    *,
    ids: Sequence[object] | None = None,
    workers: int = 1,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Estimate the values of a game's players with the engine of the settings.

    Args:
        game: what is played.
        settings: engine, budget and what is sought.
        ids: names of the players.
        workers: processes that play rounds of `tmab`, with the same bits for any number; permutations take one.
        checkpoint: where the state is saved between rounds; a saved state is taken up again.
        progress: called with the phase at work, the passes made and the passes planned.

    Raises:
        UsageError: an unknown engine, or a setting that the engine does not have.
        BudgetError: a budget below the engine's least.

    Example:
        >>> import numpy as np
        >>> game = FunctionGame(3, lambda live: live @ np.array([0.5, 0.0, -0.25]), bounds=(-1, 1))
        >>> estimate(game, EngineSettings(engine="monte-carlo", budget=4000, top_k=1)).value
        array([ 0.5 ,  0.  , -0.25])
    """
    settings.check_engine(workers)
    if settings.engine == "tmab":
        return tmab(game, settings, ids=ids, workers=workers, checkpoint=checkpoint, progress=progress)
    return permutation_sampling(game, settings, ids=ids, checkpoint=checkpoint, progress=progress)
