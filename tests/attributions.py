"""Attributions made of given values."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from repairkit.shapley.values import Attribution


def attribution(value, screen=None, **changes) -> Attribution:
    value = np.asarray(value, dtype=float)
    n = len(value)
    base = Attribution(
        ids=tuple(f"a:{i}" for i in range(n)),
        screen=np.full(n, math.nan) if screen is None else np.asarray(screen, dtype=float),
        value=value,
        half_width=np.full(n, 0.1),
        samples=np.full(n, 5.0),
        decided=np.zeros(n, dtype=bool),
        harmful=-1,
        end="low",
        top_k=2,
        min_live=0.0,
        delta=0.05,
        seed=0,
        engine="tmab",
    )
    return replace(base, **changes)
