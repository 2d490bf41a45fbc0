"""Gradient estimates of the values of every filter, for several worths."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from repairkit.attacks.generate import derived_seed
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.objectives import ObjectiveSum
from repairkit.repair.attribute import within_memory
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import Floats
from repairkit.shapley.tmab import screen


def screens_of(
    classifier: Classifier,
    filters: ConvFilters,
    worths: Mapping[int, ObjectiveSum],
    run: Run,
    *,
    passes: float,
    t0: float,
    batch: int,
    part: str,
) -> Floats:
    """Gradient estimates of the values of every filter for each worth, shape (len(worths), n); booked under this part of the work.

    Each has random numbers of its own, by its number, also of the same worth: the same coalitions would feign agreement. Each is stored
    as soon as it is made.
    """

    def made(number: int, worth: ObjectiveSum) -> Arrays:
        game = NetworkGame(classifier, filters, worth, batch=batch, precision=run.settings.precision)
        seed = derived_seed(run.settings.seed, number)
        values = within_memory(
            game, partial(screen, game, passes=passes, seed=seed, min_live=t0, progress=run.ledger.progress), store=None, name=part
        )
        run.spend(passes)
        return {"screen": values}

    with run.phase(part):
        found = [run.cached(f"screen-{number}", partial(made, number, worth), ARRAYS) for number, worth in worths.items()]
    return np.stack([each["screen"] for each in found])
