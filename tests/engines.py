"""Engines called with the fields of their settings as keyword arguments."""

from __future__ import annotations

from repairkit import shapley
from repairkit.shapley import Attribution, EngineSettings, Game

CALL = ("ids", "workers", "checkpoint", "progress")


def _split(options: dict) -> tuple[EngineSettings, dict]:
    call = {name: options.pop(name) for name in CALL if name in options}
    return EngineSettings(**options), call


def estimate(game: Game, **options) -> Attribution:
    settings, call = _split(options)
    return shapley.estimate(game, settings, **call)


def tmab(game: Game, **options) -> Attribution:
    settings, call = _split({"top_k": 40} | options)
    return shapley.tmab(game, settings, **call)


def permutation_sampling(game: Game, **options) -> Attribution:
    settings, call = _split(options)
    return shapley.permutation_sampling(game, settings, **call)
