"""Early stopping: held-out validation images choose the epoch whose weights are kept."""

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

SHARE = 0.1  # default share of the training images to hold out
LEAST = 10  # with fewer images, one image moves their accuracy by more than ten points


def hold_out(images: LabelledImages, share: float = SHARE, *, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Split images into those to train on and a validation part, stratified by subgroup and label; copies of an image stay together.

    Args:
        images: what to split.
        share: of the images to hold out, in (0, 0.5].
        seed: the same seed, share and images give the same parts.

    Raises:
        UsageError: a share outside its range.
        DataError: fewer than 10 images would be held out, or one file is in both parts.

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
    held_out = some(images, count, seed=seed)
    training = images.subset(np.setdiff1d(np.arange(len(images)), held_out))
    validation = images.subset(held_out, name=f"{images.name}, held out")
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
    """Keeps the weights of the epoch with the highest validation accuracy (the first of equals), and ends a training without improvement.

    The learning rate follows one cycle planned for all epochs, and accuracy usually rises last at the low rates of its end. Stopping does not
    shorten the cycle, so give a patience of at least a third of the epochs. Epochs in which filter dropout still rises neither count nor wait:
    else the network with the least dropout would win.

    Args:
        patience: the training ends after so many epochs in a row without a higher accuracy than the best.
        dropout: highest filter dropout; epochs that end below it do not count.
    """

    def __init__(self, patience: int, *, dropout: float = 0.0) -> None:
        self.patience, self._dropout = patience, dropout
        self.best: Epoch | None = None
        self._weights: dict[str, Any] = {}
        self._waited = 0

    @property
    def ended(self) -> bool:
        """Whether so many epochs brought no improvement."""
        return self._waited >= self.patience

    def observe(self, epoch: Epoch, network: nn.Module) -> None:
        """Record an epoch that has ended, and the weights where it is the best so far; `UsageError` without validation images."""
        if epoch.validation_accuracy is None:
            raise UsageError("early stopping needs validation images, got none; give images that are not trained on")
        if epoch.dropout < self._dropout:
            return
        if self.best is None or self.best.validation_accuracy is None or epoch.validation_accuracy > self.best.validation_accuracy:
            self.best, self._weights, self._waited = epoch, copy.deepcopy(network.state_dict()), 0
        else:
            self._waited += 1

    def restore(self, network: nn.Module) -> None:
        """Load the weights of the best epoch; where no epoch counted, the weights of the last one stay."""
        if self.best is not None:
            network.load_state_dict(self._weights)

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"best": self.best.epoch if self.best else None, "weights": self._weights, "waited": self._waited}

    def load_state(self, state: Mapping[str, Any], history: Sequence[Epoch]) -> None:
        """Continue from a checkpoint with these epochs."""
        self.best = next((epoch for epoch in history if epoch.epoch == state["best"]), None)
        self._weights, self._waited = dict(state["weights"]), int(state["waited"])
