"""Removal of filters: at which numbers, what a network then says to images, and random filters as the control."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from repairkit.data.images import LabelledImages
from repairkit.experiments.options import Options
from repairkit.network.classifier import Classifier, check_logits
from repairkit.network.filters import ConvFilters
from repairkit.run.ledger import Clock
from repairkit.shapley.checkpoint import Arrays, Checkpoint
from repairkit.shapley.game import Examples, Floats


def grid(most: int, *more: int) -> tuple[int, ...]:
    """Numbers of filters at which a curve is measured: 0, 1, 2, 5, 10, 20, 50, ... and the last, and `more` of them.

    Example:
        >>> grid(40), grid(40, 3, 30), grid(1, 3, 30), grid(0)
        ((0, 1, 2, 5, 10, 20, 40), (0, 1, 2, 3, 5, 10, 20, 30, 40), (0, 1), (0,))
    """
    steps = (factor * 10**power for power in range(7) for factor in (1, 2, 5))
    return tuple(sorted({0, most, *(step for step in (*steps, *more) if step <= most)}))


def removed(options: Options, players: int) -> int:
    """Most filters that the removal curve freezes."""
    return min(options.top or options.usual_top, max(players // 2, 1))


def right_with(classifier: Classifier, filters: ConvFilters, images: LabelledImages, frozen: Examples, batch: int) -> npt.NDArray[np.bool_]:
    """Who is classified correctly with these filters frozen, bool (N,)."""
    right: npt.NDArray[np.bool_] = said_with(classifier, filters, images, frozen, batch) == images.labels
    return right


def said_with(classifier: Classifier, filters: ConvFilters, images: LabelledImages, frozen: Examples, batch: int) -> npt.NDArray[np.int64]:
    """The class that each image is given with these filters frozen, int64 (N,)."""
    live = np.ones((1, len(filters)), dtype=bool)
    live[0, frozen] = False
    said = np.empty(len(images), dtype=np.int64)
    for start in range(0, len(images), batch):
        rows = np.arange(start, min(start + batch, len(images)))
        logits = check_logits(filters.forward(classifier.prepare(images.batch(rows)), live), images.name)
        said[rows] = logits.argmax(dim=1).cpu().numpy()
    return said


class Control:
    """Who is right with filters drawn at random frozen: the same for every class of one network and split, so that it is measured once.

    Args:
        checkpoint: where it is kept as the work goes; None for nowhere.

    Attributes:
        right: shape (N,), in 0 .. 1, mean over the draws, by the number of filters frozen.
    """

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self._checkpoint = checkpoint
        self._kept: Arrays = (checkpoint.begin({}) if checkpoint else None) or {}
        self.right: dict[int, Floats] = {}

    def at(self, counts: Sequence[int], measure: Callable[[int], Floats], clock: Clock, *, passes: float) -> list[Floats]:
        """Its rows at these numbers; what is new is measured, and booked on the clock of whoever asks first."""
        if new := [count for count in counts if count not in self.right]:
            with clock.part("control", restored=all(str(count) in self._kept for count in new)):
                for count in new:
                    self.right[count] = self._kept[str(count)] if str(count) in self._kept else measure(count)
                    clock.add("control", passes)
                    clock.tell("control", 0, 0)
                    if self._checkpoint is not None:
                        self._kept[str(count)] = self.right[count]
                        self._checkpoint.offer(self._kept)
                        self._checkpoint.save()
        return [self.right[count] for count in counts]
