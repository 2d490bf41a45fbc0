"""Ablation: freeze the first filters of an order, or random ones, and see which images the network still classifies correctly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from repairkit.data.images import LabelledImages
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.predict import predict
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import ARRAYS
from repairkit.shapley.game import Examples, Floats

Booleans = npt.NDArray[np.bool_]


def counts_up_to(most: int, *more: int) -> tuple[int, ...]:
    """Numbers of filters at which a curve is measured: 0, 1, 2, 5, 10, 20, 50, ... and the last, and `more` of them.

    Example:
        >>> counts_up_to(40), counts_up_to(40, 3, 30), counts_up_to(1, 3, 30), counts_up_to(0)
        ((0, 1, 2, 5, 10, 20, 40), (0, 1, 2, 3, 5, 10, 20, 30, 40), (0, 1), (0,))
    """
    steps = (factor * 10**power for power in range(7) for factor in (1, 2, 5))
    return tuple(sorted({0, most, *(step for step in (*steps, *more) if step <= most)}))


def most_frozen(settings: Options, players: int) -> int:
    """Most filters that an ablation curve freezes."""
    return min(settings.top or settings.usual_top, max(players // 2, 1))


def freeze_first(
    classifier: Classifier,
    filters: ConvFilters,
    order: Examples | Sequence[int],
    counts: Sequence[int],
    images: LabelledImages,
    run: Run,
    *,
    labels: Examples | None = None,
) -> Booleans:
    """Who is classified correctly with the first so many filters of an order frozen, bool (len(counts), N).

    Passes are spent in the phase at work. With `labels`, who is given these in place of the true ones.
    """
    wanted = images.labels if labels is None else labels
    right = np.empty((len(counts), len(images)), dtype=bool)
    for row, count in enumerate(counts):
        right[row] = predict(classifier, images, run, filters=filters, frozen=order[:count]) == wanted
    return right


def freeze_random(
    classifier: Classifier,
    filters: ConvFilters,
    orders: Sequence[Examples],
    counts: Sequence[int],
    images: LabelledImages,
    run: Run,
    *,
    key: str = "random",
) -> Floats:
    """The control: the same with the first filters of random orders frozen, mean over the orders; float64 (len(counts), N).

    It is booked under "control", and each number of filters is measured once, whichever part of the run asks first.
    """

    def mean(count: int) -> dict[str, Floats]:
        right = [freeze_first(classifier, filters, order, (count,), images, run)[0] for order in orders]
        return {"right": np.mean(right, axis=0, dtype=np.float64)}

    keys = {count: f"{key}-{count}" for count in counts}
    if any(name not in run.shared for name in keys.values()):
        with run.phase("control"):
            for count, name in keys.items():
                run.once(name, partial(mean, count), ARRAYS)
    rows = [run.shared[name]["right"] for name in keys.values()]
    return np.stack(rows) if rows else np.empty((0, len(images)))


def cost(points: int, images: int) -> float:
    """Image passes of a curve of so many points."""
    return float(points * images)
