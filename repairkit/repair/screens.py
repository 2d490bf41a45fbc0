"""Gradient estimates of the values of every filter, for several worths."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from repairkit.attacks.generate import derived_seed
from repairkit.experiments.options import Options
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import ModelGame
from repairkit.objectives import ObjectiveSum
from repairkit.repair.attribute import within_memory
from repairkit.run.ledger import Clock
from repairkit.run.store import KeptNetwork
from repairkit.shapley.game import Floats
from repairkit.shapley.tmab import screen


def screens_of(
    classifier: Classifier,
    filters: ConvFilters,
    worths: Mapping[int, ObjectiveSum],
    options: Options,
    *,
    passes: float,
    t0: float,
    batch: int,
    clock: Clock,
    part: str,
    kept: KeptNetwork | None,
) -> Floats:
    """Gradient estimates of the values of every filter for each worth, shape (len(worths), n); booked under this part of the work.

    Each has random numbers of its own, by its number, also of the same worth: the same coalitions would feign agreement. Each is kept
    as soon as it is made.
    """
    screens = []
    with clock.part(part):
        for number, worth in worths.items():
            name = f"screen-{number}"
            if kept is not None and (saved := kept.arrays(name)) is not None:
                clock.restore(part, passes)
                screens.append(saved["screen"])
                continue
            game = ModelGame(classifier, filters, worth, batch=batch, precision=options.precision)
            how = partial(screen, game, passes=passes, seed=derived_seed(options.seed, number), t0=t0, progress=clock.tell)
            screens.append(within_memory(game, how, kept=None, name=part))
            clock.add(part, passes)
            if kept is not None:
                kept.keep_arrays(name, screen=screens[-1])
    return np.stack(screens)
