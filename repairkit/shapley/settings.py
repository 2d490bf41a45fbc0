"""Settings of an engine: what is sought, at which budget, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from repairkit.errors import UsageError
from repairkit.shapley.game import Game
from repairkit.shapley.guarantee import End

Engine = Literal["tmab", "tmab-paper", "monte-carlo"]


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Settings of one attribution.

    Attributes:
        budget: image passes, never exceeded.
        top_k: how many players of the sought end are wanted.
        engine: "tmab", "tmab-paper" (Algorithm 1) or "monte-carlo".
        seed: same seed, same bits.
        end: "low" or "high"; the harmful end by default.
        min_live: least share of players that stays live, in [0, 1); `tmab` only.
        delta: probability that a player's interval misses; 0.05 by default, 0.1 for permutations as in the paper.
        candidates: players of the screen's end that `tmab` flips first; 3 times `top_k` by default. With a guarantee: of both ends; half of
            all players or more means all, without a screen.
        audit: how many other players are flipped as a check of the screen; 16 by default, 64 draws with a guarantee.
        control: gradients as control variates; `tmab` only, for smooth scores, and not with a guarantee.
        guarantee: probability that any claim about either end is wrong, in place of delta; `tmab` only; None for no claims.
        tolerance: of a guarantee, in [0, 1), relative to the k-th value of an end, 0.2 by default; of permutations, in units of value, 1e-4
            by default as in the paper.
        truncation: objective value below which a permutation ends; None for never. The paper has 0.2 (Inception-v3) and 0.6 (a SqueezeNet).
        batch: examples of one evaluation of a permutation; 128 in the paper.
    """

    budget: float
    top_k: int
    engine: Engine = "tmab"
    seed: int = 0
    end: End | None = None
    min_live: float = 0.0
    delta: float | None = None
    candidates: int | None = None
    audit: int | None = None
    control: bool = False
    guarantee: float | None = None
    tolerance: float | None = None
    truncation: float | None = None
    batch: int = 128

    def sought(self, game: Game, delta: float) -> End:
        """The end that is sought; checks budget, seed, `top_k`, end and delta.

        Raises:
            UsageError: a setting out of range.
        """
        if not 0 < self.budget < math.inf:
            raise UsageError(f"budget must be a positive number of image passes, got {self.budget}")
        if not isinstance(self.top_k, int | np.integer) or not 1 <= self.top_k < game.n:
            raise UsageError(f"top_k must be at least 1 and less than the {game.n} players of the game, got {self.top_k}")
        if not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise UsageError(f"seed must be a whole number from 0, got {self.seed}")
        if self.end is not None and self.end not in get_args(End):
            raise UsageError(f"end must be {' or '.join(map(repr, get_args(End)))}, got {self.end!r}")
        if not 0 < delta < 1:
            raise UsageError(f"delta must lie between 0 and 1, got {delta}; it is the probability of an interval that misses")
        return self.end or ("low" if game.harmful < 0 else "high")

    def check_engine(self, workers: int) -> None:
        """Refuse an unknown engine, and a setting that the engine does not have.

        Raises:
            UsageError: such a setting.
        """
        name = self.engine
        if name not in get_args(Engine):
            raise UsageError(f"engine must be one of {', '.join(get_args(Engine))}, got {name!r}")
        if name == "tmab":
            if self.truncation is not None:
                raise UsageError("tmab truncates by size, not by objective value: give min_live in place of truncation")
            return
        if self.control:
            raise UsageError(f"{name} makes no gradients: control is for tmab")
        if self.guarantee is not None:
            raise UsageError(f"{name} cannot keep a guarantee: its intervals speak of one filter at one time; use the engine tmab")
        if self.tolerance is not None:
            raise UsageError(f"tolerance belongs to a guarantee of tmab, got {self.tolerance} for {name}")
        if self.candidates is not None:
            raise UsageError(f"{name} makes no screen that could pick {self.candidates} candidates; use the engine tmab")
        if workers != 1:
            raise UsageError(f"{name} cannot be spread over {workers} workers; use one")
        if self.min_live:
            raise UsageError(f"{name} truncates by objective value, not by size: give truncation in place of min_live")
