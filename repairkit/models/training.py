"""Training a classifier from labelled images, with or without filter dropout (`repairkit.models.filter_dropout`)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from repairkit.data.images import LabelledImages, data_hash, labelled_hash
from repairkit.errors import ModelError, UsageError
from repairkit.evaluation.splits import check_disjoint
from repairkit.files import write_text
from repairkit.models import zoo
from repairkit.models.early_stopping import EarlyStopping, Epoch
from repairkit.models.training_checkpoint import TrainingCheckpoint
from repairkit.models.training_loop import TrainingLoop, TrainingProgress, TrainingSettings, measure, settle_norms
from repairkit.network.classifier import Classifier, try_one
from repairkit.network.head import head_of
from repairkit.network.weights import hash_state, load_state, read_weights, write_weights

Start = Path | Mapping[str, torch.Tensor] | None
"""Weights to start from: a file, a state dict, or None for fresh weights."""


@dataclass(frozen=True)
class Trained:
    """A trained network and how it was trained."""

    network: nn.Module  # the plain architecture, in eval mode, float32
    architecture: str
    classes: tuple[str, ...]
    trained_on: str  # name of the training data and number of images
    settings: dict[str, object]  # JSON-ready
    notes: tuple[str, ...]  # what was done beyond the settings, for instance a head that was replaced
    history: tuple[Epoch, ...]
    seconds: float  # of all sessions
    kept_epoch: int | None = None  # the epoch whose weights these are
    ended: str = ""  # why the training ended

    def write(self, weights: Path, *, half: bool = True, before: tuple[Trained, ...] = ()) -> None:
        """Write the weights, and beside them `<name>.train.json`; `before` are the earlier stages of this training."""
        write_weights(self.network, weights, architecture=self.architecture, classes=self.classes, trained_on=self.trained_on, half=half)
        stages = [stage.record() for stage in (*before, self)]
        record = {"weights": weights.name, "trained_on": self.trained_on, "classes": self.classes, "stages": stages}
        write_text(weights.with_suffix(".train.json"), json.dumps(record, indent=1) + "\n")

    def record(self) -> dict[str, object]:
        """Settings, notes, history, end and time of this training, JSON-ready."""
        history = [
            {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(epoch).items()} for epoch in self.history
        ]
        ending = {} if self.kept_epoch is None else {"kept_epoch": self.kept_epoch, "ended": self.ended}
        return {"settings": self.settings, "notes": list(self.notes), "seconds": round(self.seconds, 1), **ending, "history": history}


def train(
    images: LabelledImages,
    settings: TrainingSettings,
    *,
    init: Start = None,
    validation: LabelledImages | None = None,
    checkpoint: TrainingCheckpoint | None = None,
    progress: TrainingProgress | None = None,
    threads: int | None = None,
    device: str | torch.device = "cpu",
) -> Trained:
    """Train a classifier of torchvision: AdamW, one cycle of the learning rate, gradients clipped at norm 1.

    Args:
        images: the training images.
        settings: the same settings, images and threads give the same weights.
        init: weights to start from. A classifier head for another number of classes is replaced by a fresh one, and `notes` says so.
        validation: measured after every epoch, never trained on; see `repairkit.models.early_stopping.hold_out`.
        checkpoint: holds the state after each epoch. A training continues from it to the same bits; the caller removes it.
        progress: see `repairkit.models.training_loop.TrainingProgress`.
        threads: CPU threads; None leaves torch's setting.
        device: where to train.

    Raises:
        UsageError: a setting outside its range, settings that contradict each other, or a checkpoint of another configuration.
        DataError: validation and training share an image, or the checkpoint cannot be read.
        ModelError: the network cannot take these images, the loss is not finite, or the network ends at chance.
    """
    _check(settings, images, validation)
    stopping = None if settings.patience is None else EarlyStopping(settings.patience, dropout=settings.filter_dropout)
    record = _record(settings, images, validation, init, threads)
    configuration = _configuration(record, images, validation, init) | {"device": str(device)}
    with _threads(threads), torch.random.fork_rng(devices=range(torch.cuda.device_count())), _removed_after_failure(checkpoint):
        torch.manual_seed(settings.seed)
        network, notes = _start(settings.architecture, len(images.classes), init)
        classifier = Classifier(network, classes=images.classes, size=settings.size).to(device).to(memory_format=torch.channels_last)
        try_one(classifier.eval(), images)
        session = _Session(TrainingLoop(classifier, images, settings), stopping, checkpoint, configuration)
        session.run(validation, progress)
        if settings.settle_norms:
            settle_norms(classifier, images, settings.batch_size)
        _check_learned(classifier.eval(), images)
    return Trained(
        network=network.cpu().to(memory_format=torch.contiguous_format).eval().requires_grad_(False),
        architecture=settings.architecture,
        classes=images.classes,
        trained_on=f"{images.name}, {len(images)} images",
        settings=record,
        notes=notes,
        history=tuple(session.history),
        seconds=session.seconds,
        kept_epoch=stopping.best.epoch if stopping and stopping.best else len(session.history),
        ended=session.ended,
    )


class _Session:
    """The epochs of one training, resumed from its checkpoint; at the end the network holds the weights to keep."""

    def __init__(
        self, loop: TrainingLoop, stopping: EarlyStopping | None, checkpoint: TrainingCheckpoint | None, configuration: dict[str, object]
    ) -> None:
        self._loop, self._stopping, self._checkpoint, self._configuration = loop, stopping, checkpoint, configuration
        self.history: list[Epoch] = []
        self._began = time.perf_counter()
        state = checkpoint.read(configuration) if checkpoint else None
        if checkpoint is None or state is None:
            return
        try:
            self.history = [Epoch(**epoch) for epoch in state["history"]]
            loop.load_state(state["loop"])
            if stopping:
                stopping.load_state(state["stopping"], self.history)
            self._began -= float(state["seconds"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoint.damaged(type(error).__name__) from None

    @property
    def seconds(self) -> float:
        """Wall time of all sessions."""
        return time.perf_counter() - self._began

    @property
    def ended(self) -> str:
        """Why the training ended."""
        if self._stopping and self._stopping.ended:
            return f"{self._stopping.patience} epochs in a row brought no higher validation accuracy"
        return f"all {self._loop.settings.epochs} epochs were trained"

    def run(self, validation: LabelledImages | None, progress: TrainingProgress | None) -> None:
        """Train until the last epoch, or until patience ends it."""
        network, stopping = self._loop.classifier.network, self._stopping
        with closing(self._loop.epochs(validation, progress)) as epochs:
            while not (stopping and stopping.ended) and (epoch := next(epochs, None)):
                self.history.append(epoch)
                if stopping:
                    stopping.observe(epoch, network)
                self._save()
        if stopping:
            stopping.restore(network)

    def _save(self) -> None:
        if self._checkpoint:
            state = {"loop": self._loop.state(), "stopping": self._stopping.state() if self._stopping else None}
            history = [asdict(epoch) for epoch in self.history]
            self._checkpoint.write(self._configuration, state | {"history": history, "seconds": self.seconds})


def _record(
    settings: TrainingSettings, images: LabelledImages, validation: LabelledImages | None, init: Start, threads: int | None
) -> dict[str, object]:
    """Settings and data as `train.json` holds them."""
    return asdict(settings) | {
        "init": init.name if isinstance(init, Path) else (None if init is None else "the stage before"),
        "threads": threads or torch.get_num_threads(),
        "data": images.name,
        **_facts(images),
        "validation": None if validation is None else {"data": validation.name, **_facts(validation)},
        "torch": torch.__version__,
    }


def _facts(images: LabelledImages) -> dict[str, object]:
    groups = {group: int((images.groups == group).sum()) for group in images.group_names}
    return {"images": len(images), "images_sha256": data_hash(images), "groups": groups}


def _configuration(
    record: Mapping[str, object], images: LabelledImages, validation: LabelledImages | None, init: Start
) -> dict[str, object]:
    """All that decides the bits of a training, for its checkpoint: the record, with images and weights as hashes."""
    settings = {key: value for key, value in record.items() if key not in ("images", "images_sha256", "groups", "validation")}
    return settings | {
        "training images": labelled_hash(images),
        "validation images": None if validation is None else labelled_hash(validation),
        "weights to start from": None if init is None else hash_state(read_weights(init)[0] if isinstance(init, Path) else init),
    }


def _check(settings: TrainingSettings, images: LabelledImages, validation: LabelledImages | None) -> None:
    settings.check()
    if settings.patience is None:
        return
    if validation is None:
        raise UsageError("patience needs validation images, got none; give images that are not trained on")
    check_disjoint(training=images, validation=validation)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _removed_after_failure(checkpoint: TrainingCheckpoint | None) -> Iterator[None]:
    """Remove the checkpoint of a training that failed: resuming it would fail again."""
    try:
        yield
    except ModelError:
        if checkpoint:
            checkpoint.remove()
        raise


def _start(architecture: str, classes: int, init: Start) -> tuple[nn.Module, tuple[str, ...]]:
    """The network to train, and what to note about its weights."""
    network = zoo.build(architecture, classes)
    head = head_of(network)
    if init is None:
        # SqueezeNet's logits pass a ReLU: with a bias of 0 both logits can die in the first steps.
        if isinstance(head, nn.Conv2d) and head.bias is not None:
            nn.init.constant_(head.bias, 1.0)
        return network, ()
    state = dict(read_weights(init)[0] if isinstance(init, Path) else init)
    name = next(name for name, module in network.named_modules() if module is head)
    fresh, notes = network.state_dict(), []
    for key in (f"{name}.weight", f"{name}.bias"):
        if key in fresh and key in state and state[key].shape != fresh[key].shape:
            shapes = tuple(state[key].shape), tuple(fresh[key].shape)
            notes.append(f"replaced {key}: the initial weights have shape {shapes[0]}, this task needs {shapes[1]}")
            state[key] = fresh[key]
    load_state(network, state, where=str(init) if isinstance(init, Path) else "the initial weights")
    return network, tuple(notes)


def _check_learned(classifier: Classifier, images: LabelledImages) -> None:
    """Mean class recall on at most 1,000 training images must lie above chance."""
    sample = images.subset(np.unique(np.linspace(0, len(images) - 1, min(1000, len(images))).astype(np.int64)))
    recalls = measure(classifier, replace(sample, groups=sample.labels.astype(np.str_)))[1].values()
    chance, mean = 1 / len(recalls), sum(recalls) / len(recalls)
    if len(recalls) > 1 and mean < chance + 2 * math.sqrt(chance * (1 - chance) / len(sample)):
        raise ModelError(f"training ended at chance (mean class recall {mean:.2f}, chance {chance:.2f}); train longer or at another rate")
