"""Early stopping: a validation part held out of the training images, and the epoch whose weights are kept."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.splits import check_disjoint, some

SHARE = 0.1
"""Share of the training images that is held out unless told otherwise."""
LEAST = 10
"""Images held out at least: with fewer, one image moves their accuracy by more than ten points."""


def hold_out(images: LabelledImages, share: float = SHARE, *, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Cut images into those to train on and those that say when to stop, stratified by subgroup and label; copies stay together.

    Args:
        images: what to cut.
        share: of the images to hold out, in (0, 0.5].
        seed: of the draw; the same seed, share and images give the same parts.

    Returns:
        The images to train on, and the validation part.

    Raises:
        UsageError: a share outside its range.
        DataError: fewer than 10 images would be held out, or both parts hold one file.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.arange(100, dtype=np.uint8).repeat(12).reshape(100, 2, 2, 3), labels=np.repeat([0, 1], [80, 20]),
        ...     groups=np.repeat("all", 100), classes=("cat", "dog"), name="pets")
        >>> training, validation = hold_out(images, seed=0)
        >>> len(training), np.bincount(validation.labels).tolist(), validation.name
        (90, [8, 2], 'pets, held out')
    """
    if not 0 < share <= 0.5:
        raise UsageError(f"expected to hold out a share above 0 and up to 0.5 of the images, got {share:g}; 0.1 is usual")
    count = round(share * len(images))
    if count < LEAST:
        raise DataError(
            f"{images.name}: a share of {share:g} of {len(images)} images holds out {count}, but {LEAST} are needed to tell epochs apart; "
            "give more images or a larger --validation-share, or leave --patience out"
        )
    held = some(images, count, seed=seed)
    training = images.subset(np.setdiff1d(np.arange(len(images)), held))
    validation = images.subset(held, name=f"{images.name}, held out")
    check_disjoint(training=training, validation=validation)
    return training, validation


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images; accuracies in 0 .. 1, recalls by group of the validation images."""

    epoch: int
    loss: float
    training_accuracy: float
    learning_rate: float
    dropout: float
    seconds: float
    validation_accuracy: float | None = None
    recalls: dict[str, float] = field(default_factory=dict)


class EarlyStopping:
    """Keeps the weights of the epoch of highest validation accuracy (of equals the first), and ends a training that no longer gets there.

    The learning rate follows one cycle planned for all epochs. Stopping does not shorten the cycle, so a training that stops has
    not seen the low rates of its end, where accuracy usually rises last: a patience of a third of the epochs or more lets the cycle
    work, and even where nothing stops the best epoch is kept. While filter dropout still rises an epoch is not kept, nor does it count
    as waiting: the network with the least dropout would win.

    Args:
        patience: the training ends after so many epochs in a row without a higher accuracy than the best one's.
        dropout: where filter dropout ends; epochs that end below it do not count.
    """

    def __init__(self, patience: int, *, dropout: float = 0.0) -> None:
        self.patience, self._dropout = patience, dropout
        self.best: Epoch | None = None
        self._weights: dict[str, Any] = {}
        self._waited = 0

    @property
    def ended(self) -> bool:
        """Whether patience has run out."""
        return self._waited >= self.patience

    def see(self, epoch: Epoch, network: nn.Module) -> None:
        """Take note of an epoch that has just ended, and of the weights where it is the best so far.

        Raises:
            UsageError: no validation image was measured.
        """
        if epoch.validation_accuracy is None:
            raise UsageError("early stopping needs validation images, got none; give some that are not trained on")
        if epoch.dropout < self._dropout:
            return
        if self.best is None or self.best.validation_accuracy is None or epoch.validation_accuracy > self.best.validation_accuracy:
            self.best, self._weights, self._waited = epoch, copy.deepcopy(network.state_dict()), 0
        else:
            self._waited += 1

    def restore(self, network: nn.Module) -> None:
        """Put the weights of the best epoch back; where no epoch counted, those of the last one stay."""
        if self.best is not None:
            network.load_state_dict(self._weights)

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {"best": self.best.epoch if self.best else None, "weights": self._weights, "waited": self._waited}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Epoch]) -> None:
        """Go on from a checkpoint with these epochs."""
        self.best = next((epoch for epoch in history if epoch.epoch == state["best"]), None)
        self._weights, self._waited = dict(state["weights"]), int(state["waited"])
