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
from repairkit.errors import ModelError, UsageError
from repairkit.models.early_stopping import Epoch
from repairkit.models.filter_dropout import FilterDropout
from repairkit.network.classifier import Classifier

TrainingProgress = Callable[[int, int, Epoch | None], None]
"""Called after each step with (step, steps, None) and after each epoch with its `Epoch`."""
Perturbation = Callable[[Classifier, torch.Tensor, Indices], torch.Tensor]
"""Maps the classifier as it is, images (k, 3, height, width) in [0, 1] and labels int64 (k,) to the images to learn."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training; `repairkit.models.training.train` checks them."""

    architecture: str = "squeezenet1_0"  # torchvision's name
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 5e-4  # the highest value, reached after a tenth of the steps
    weight_decay: float = 1e-2
    filter_dropout: float = 0.0  # highest probability, in [0, 1), that a filter's signal is dropped
    ramp: float = 0.5  # share of the steps over which that probability rises from 0
    size: int | None = None  # images are resized to this many pixels; None keeps theirs
    flip: bool = True  # mirror half of the images, sampled anew in each epoch
    settle_norms: bool = False  # see `settle_norms`
    seed: int = 0  # of fresh weights, order, flips and dropout
    patience: int | None = None  # see `repairkit.models.early_stopping.EarlyStopping`; None trains all epochs and keeps the last

    def check(self) -> None:
        """Raise a `UsageError` for a setting outside its range, or settings that contradict each other."""
        in_range = self.epochs >= 1 and self.batch_size >= 2 and self.learning_rate > 0
        if not in_range or not 0 <= self.filter_dropout < 1 or not 0 <= self.ramp <= 1:
            raise UsageError(
                "expected epochs >= 1, batch size >= 2, learning rate > 0, 0 <= filter dropout < 1 and 0 <= ramp <= 1; "
                f"got {self.epochs}, {self.batch_size}, {self.learning_rate}, {self.filter_dropout}, {self.ramp}"
            )
        if self.patience is None:
            return
        if self.patience < 1:
            raise UsageError(f"expected a patience of at least 1 epoch, got {self.patience}; leave it out to train all epochs")
        if self.filter_dropout > 0 and self.ramp == 1:
            raise UsageError("with patience, filter dropout must reach its highest value before the last step, got ramp 1; give less")
        if self.settle_norms:
            raise UsageError("settle_norms changes the network after validation has measured it; leave patience or settle_norms out")


@dataclass
class TrainingLoop:
    """The training loop: AdamW, one cycle of the learning rate, the same bits for the same seed."""

    classifier: Classifier
    images: LabelledImages
    settings: TrainingSettings
    keep_norms: bool = False
    """Batch norms apply and keep their running statistics, and no auxiliary head runs (Inception's needs 139 pixels); dropout runs."""
    weights: npt.NDArray[np.float64] | None = None  # (N,): sample images in proportion, with replacement; None: each once an epoch
    perturb: Perturbation | None = None

    def __post_init__(self) -> None:
        rate = self.settings.learning_rate
        self._per_epoch = max(1, len(self.images) // self.settings.batch_size)
        self._steps = self.settings.epochs * self._per_epoch
        self._done = 0
        self._optimizer = torch.optim.AdamW(self.classifier.parameters(), lr=rate, weight_decay=self.settings.weight_decay)
        warm = max(0.1, 2 / (self._steps + 1))  # at least one step: OneCycleLR divides by zero without one
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, rate, total_steps=self._steps + 1, pct_start=warm)

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on: tensors, numbers and text."""
        return {
            "done": self._done,
            "network": self.classifier.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": torch.get_rng_state(),
            "random on devices": torch.cuda.get_rng_state_all() if self.classifier.mean.is_cuda else [],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of this training; KeyError, TypeError, ValueError or RuntimeError where it is not one."""
        self.classifier.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        torch.cuda.set_rng_state_all(state["random on devices"])
        self._done = int(state["done"])

    def epochs(self, validation: LabelledImages | None, progress: TrainingProgress | None) -> Generator[Epoch]:
        """Train the remaining epochs, one at a time, and measure the validation images after each; `ModelError` where the loss is not finite."""
        example = self.classifier.prepare(self.images.batch(np.arange(1)).to(self.classifier.mean.device))
        with FilterDropout(self.classifier.network, example) as dropout:
            for epoch in range(self._done, self.settings.epochs):
                began = time.perf_counter()
                loss, correct = self._epoch(epoch, dropout, progress)
                accuracy, recalls = measure(self.classifier, validation) if validation else (None, {})
                entry = Epoch(
                    epoch=epoch + 1,
                    loss=loss / self._per_epoch,
                    training_accuracy=correct / (self._per_epoch * min(self.settings.batch_size, len(self.images))),
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
        """One epoch: the sum of the losses and the number of correct images."""
        settings, labels, total, correct = self.settings, torch.from_numpy(self.images.labels), 0.0, 0
        self._enter_training_mode()
        order = self._order()
        for index in range(self._per_epoch):
            step = epoch * self._per_epoch + index
            dropout.p = settings.filter_dropout * (min(1.0, step / (settings.ramp * self._steps)) if settings.ramp else 1.0)
            indices = order[index * settings.batch_size : (index + 1) * settings.batch_size]
            target = labels[indices].to(self.classifier.mean.device)
            logits = self._logits(indices.numpy())
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

    def _logits(self, indices: Indices) -> torch.Tensor:
        batch = self.images.batch(indices)
        if self.settings.flip:
            mirrored = torch.rand(len(batch)) < 0.5
            batch[mirrored] = batch[mirrored].flip(3)
        if self.perturb is not None:
            batch = self.perturb(self.classifier, batch, self.images.labels[indices])
        output = self.classifier(batch.to(self.classifier.mean.device).contiguous(memory_format=torch.channels_last))
        logits: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]  # Inception's auxiliary head
        return logits


def check_loss(loss: torch.Tensor, when: str) -> float:
    """The loss as a number; `ModelError` where it is NaN or infinite."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ModelError(f"the training loss became {value} {when}; lower the learning rate")
    return value


def settle_norms(classifier: Classifier, images: LabelledImages, batch_size: int) -> None:
    """Set the running statistics of every batch norm to their mean over one pass in training mode.

    In a few hundred steps running statistics lag behind: a MobileNetV3, whose momentum is a hundredth, then answers at chance.
    """
    norms = [module for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's sign for a plain mean over all batches
    classifier.train()
    with torch.no_grad():
        for indices in np.array_split(np.arange(len(images)), max(1, len(images) // batch_size)):
            classifier(images.batch(indices).to(classifier.mean.device).contiguous(memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def measure(classifier: Classifier, images: LabelledImages, *, batch_size: int = 128) -> tuple[float, dict[str, float]]:
    """Accuracy and recall by group, in 0 .. 1; the mode of the classifier is restored."""
    training = classifier.training
    batches = []
    with torch.inference_mode():
        classifier.eval()
        for start in range(0, len(images), batch_size):
            indices = np.arange(start, min(start + batch_size, len(images)))
            batches.append(classifier(images.batch(indices).to(classifier.mean.device)).argmax(1).cpu().numpy() == images.labels[indices])
        classifier.train(training)
    correct = np.concatenate(batches)
    return float(correct.mean()), {group: float(correct[images.groups == group].mean()) for group in images.group_names}
