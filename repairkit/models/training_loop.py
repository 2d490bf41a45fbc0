"""The training loop: steps, epochs and what is measured after each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import ModelError
from repairkit.models.early_stopping import Epoch
from repairkit.models.filter_dropout import FilterDropout
from repairkit.network.classifier import Classifier

TrainingProgress = Callable[[int, int, Epoch | None], None]
"""Called after each step with (step, steps, None) and each epoch with its `Epoch`."""
Disturb = Callable[[Classifier, torch.Tensor, Indices], torch.Tensor]
"""Called with the classifier as it is, images (k, 3, height, width) in [0, 1] and labels int64 (k,); the images to learn in their place."""


@dataclass
class TrainingLoop:
    """The training loop: AdamW, one cycle of the learning rate, the same bits for the same seed.

    Attributes:
        count: epochs.
        filter_dropout: probability at its height; ramp: share of the steps over which it rises.
        flip: mirror half of the images.
        keep_norms: for a network that is trained already: batch norms apply their running statistics and leave them as they are, and no
            auxiliary head runs (Inception's takes no images below 139 pixels). Dropout stays in training mode.
        weights: images are sampled in proportion, with replacement, as many as there are; None: each once an epoch.
        disturb: changes the images of every step before they are learned.
    """

    classifier: Classifier
    images: LabelledImages
    batch_size: int
    learning_rate: float
    weight_decay: float
    count: int
    filter_dropout: float
    ramp: float
    flip: bool
    keep_norms: bool = False
    weights: npt.NDArray[np.float64] | None = None
    disturb: Disturb | None = None

    def __post_init__(self) -> None:
        self._per_epoch = max(1, len(self.images) // self.batch_size)
        self._steps = self.count * self._per_epoch
        self._done = 0
        self._optimizer = torch.optim.AdamW(self.classifier.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        warm = max(0.1, 2 / (self._steps + 1))  # one step at least: in ten total steps, OneCycleLR divides a tenth of them by zero
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, self.learning_rate, total_steps=self._steps + 1, pct_start=warm
        )

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on, between two epochs: tensors, numbers and text."""
        return {
            "done": self._done,
            "network": self.classifier.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": torch.get_rng_state(),
            "random on devices": torch.cuda.get_rng_state_all() if self.classifier.mean.is_cuda else [],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of this training.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: it is one of another network or none.
        """
        self.classifier.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        torch.cuda.set_rng_state_all(state["random on devices"])
        self._done = int(state["done"])

    def epochs(self, validation: LabelledImages | None, progress: TrainingProgress | None) -> Generator[Epoch]:
        """Train the epochs that are still to come, one at a time; the validation images are measured after each.

        Raises:
            ModelError: the loss is not finite.
        """
        example = self.classifier.prepare(self.images.batch(np.arange(1)).to(self.classifier.mean.device))
        with FilterDropout(self.classifier.network, example) as dropout:
            for epoch in range(self._done, self.count):
                began = time.perf_counter()
                loss, correct = self._epoch(epoch, dropout, progress)
                accuracy, recalls = measure(self.classifier, validation) if validation else (None, {})
                entry = Epoch(
                    epoch=epoch + 1,
                    loss=loss / self._per_epoch,
                    training_accuracy=correct / (self._per_epoch * min(self.batch_size, len(self.images))),
                    learning_rate=float(self._schedule.get_last_lr()[0]),
                    dropout=dropout.p,
                    seconds=time.perf_counter() - began,
                    validation_accuracy=accuracy,
                    recalls=recalls,
                )
                if progress:
                    progress((epoch + 1) * self._per_epoch, self._steps, entry)
                self._done = epoch + 1
                yield entry

    def _epoch(self, epoch: int, dropout: FilterDropout, progress: TrainingProgress | None) -> tuple[float, int]:
        """The steps of one epoch; the sum of their losses and the number of correct images."""
        labels, total, correct = torch.from_numpy(self.images.labels), 0.0, 0
        self._enter_training_mode()
        order = self._order()
        for index in range(self._per_epoch):
            step = epoch * self._per_epoch + index
            dropout.p = self.filter_dropout * (min(1.0, step / (self.ramp * self._steps)) if self.ramp else 1.0)
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            target = labels[chosen].to(self.classifier.mean.device)
            logits = self._logits(chosen.numpy())
            loss = F.cross_entropy(logits, target)
            total += check_loss(loss, f"at step {step + 1} of {self._steps}")
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.classifier.parameters(), 1.0)
            self._optimizer.step()
            self._schedule.step()
            correct += int((logits.argmax(1) == target).sum())
            if progress:
                progress(step + 1, self._steps, None)
        return total, correct

    def _order(self) -> torch.Tensor:
        if self.weights is None:
            return torch.randperm(len(self.images))
        return torch.multinomial(torch.from_numpy(self.weights), len(self.images), replacement=True)

    def _enter_training_mode(self) -> None:
        self.classifier.train(not self.keep_norms)
        for module in self.classifier.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.train()

    def _logits(self, chosen: Indices) -> torch.Tensor:
        batch = self.images.batch(chosen)
        if self.flip:
            mirrored = torch.rand(len(batch)) < 0.5
            batch[mirrored] = batch[mirrored].flip(3)
        if self.disturb is not None:
            batch = self.disturb(self.classifier, batch, self.images.labels[chosen])
        output = self.classifier(batch.to(self.classifier.mean.device).contiguous(memory_format=torch.channels_last))
        logits: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]  # Inception's auxiliary head
        return logits


def check_loss(loss: torch.Tensor, when: str) -> float:
    """The loss as a number.

    Raises:
        ModelError: it is NaN or infinite.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ModelError(f"the training loss became {value} {when}; lower the learning rate")
    return value


def settle_norms_of(classifier: Classifier, images: LabelledImages, batch_size: int) -> None:
    """Set the running statistics of every batch norm to their mean over the batches of one pass in training mode."""
    norms = [module for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's sign for a plain mean over all batches
    classifier.train()
    with torch.no_grad():
        for chosen in np.array_split(np.arange(len(images)), max(1, len(images) // batch_size)):
            classifier(images.batch(chosen).to(classifier.mean.device).contiguous(memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def measure(classifier: Classifier, images: LabelledImages, *, batch_size: int = 128) -> tuple[float, dict[str, float]]:
    """Accuracy, and recall by group, both in 0 .. 1; the mode of the classifier is restored."""
    training = classifier.training
    right = []
    with torch.inference_mode():
        classifier.eval()
        for start in range(0, len(images), batch_size):
            indices = np.arange(start, min(start + batch_size, len(images)))
            right.append(classifier(images.batch(indices).to(classifier.mean.device)).argmax(1).cpu().numpy() == images.labels[indices])
        classifier.train(training)
    correct = np.concatenate(right)
    return float(correct.mean()), {group: float(correct[images.groups == group].mean()) for group in images.group_names}
