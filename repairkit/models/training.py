"""Training a classifier from labelled images, with or without filter dropout (`repairkit.models.filter_dropout`)."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import ModelError, UsageError
from repairkit.evaluation.splits import check_disjoint
from repairkit.files import write_text
from repairkit.models import zoo
from repairkit.models.early_stopping import EarlyStopping, Epoch
from repairkit.models.filter_dropout import FilterDropout
from repairkit.models.training_checkpoint import TrainingCheckpoint
from repairkit.network.classifier import Classifier, try_one
from repairkit.network.head import head_of
from repairkit.network.weights import hash_state, load_state, read_weights, write_weights

TrainingProgress = Callable[[int, int, Epoch | None], None]
"""Called after each step with (step, steps, None) and each epoch with its `Epoch`."""
Disturb = Callable[[Classifier, torch.Tensor, Indices], torch.Tensor]
"""Called with the classifier as it is, images (k, 3, height, width) in [0, 1] and labels int64 (k,); the images to learn in their place."""


@dataclass(frozen=True)
class Trained:
    """A trained network and how it came about.

    Attributes:
        network: the plain architecture, in eval mode, float32.
        architecture: torchvision's name of it.
        classes: class names.
        trained_on: name of the training data and number of images.
        settings: every argument of the training, JSON-ready.
        notes: what was done beyond the settings, for instance a head that was replaced.
        history: one entry per epoch.
        seconds: wall time, of all sessions.
        kept_epoch: the epoch whose weights these are.
        ended: why the training ended when it did.
    """

    network: nn.Module
    architecture: str
    classes: tuple[str, ...]
    trained_on: str
    settings: dict[str, object]
    notes: tuple[str, ...]
    history: tuple[Epoch, ...]
    seconds: float
    kept_epoch: int | None = None
    ended: str = ""

    def write(self, weights: Path, *, half: bool = True, before: tuple[Trained, ...] = ()) -> None:
        """Write the weights, and beside them `<name>.train.json`; `before` are the stages this one continued."""
        write_weights(self.network, weights, architecture=self.architecture, classes=self.classes, trained_on=self.trained_on, half=half)
        record = {
            "weights": weights.name,
            "trained_on": self.trained_on,
            "classes": self.classes,
            "stages": [s.record() for s in (*before, self)],
        }
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
    *,
    architecture: str = "squeezenet1_0",
    init: Path | Mapping[str, torch.Tensor] | None = None,
    epochs: int = 10,
    batch_size: int = 64,
    learning_rate: float = 5e-4,
    weight_decay: float = 1e-2,
    filter_dropout: float = 0.0,
    ramp: float = 0.5,
    size: int | None = None,
    flip: bool = True,
    settle_norms: bool = False,
    seed: int = 0,
    validation: LabelledImages | None = None,
    patience: int | None = None,
    checkpoint: TrainingCheckpoint | None = None,
    progress: TrainingProgress | None = None,
    threads: int | None = None,
    device: str | torch.device = "cpu",
) -> Trained:
    """Train a classifier of torchvision: AdamW, one cycle of the learning rate, gradients clipped at norm 1.

    Args:
        images: the training images.
        architecture: torchvision's name.
        init: weights to start from (a file or a state dict); a classifier head for another number
            of classes is replaced by a fresh one, and `notes` says so. None starts afresh.
        epochs: passes over the images.
        batch_size: images per step.
        learning_rate: its highest value, reached after a tenth of the steps.
        weight_decay: AdamW's.
        filter_dropout: probability p in [0, 1) of dropping a filter's signal; see this module.
        ramp: share of the steps over which p rises from 0.
        size: train on images resized to this many pixels; None keeps theirs.
        flip: mirror half of the images, drawn anew each epoch.
        settle_norms: at the end, take the batch norms' statistics from one more pass over the images. In a
            training of a few hundred steps the running ones lag behind: a MobileNetV3, which moves them by a
            hundredth a step, then answers at chance in eval mode.
        seed: fixes fresh weights, order, flips and dropout: same seed and threads, same weights.
        validation: measured after every epoch, never trained on; `repairkit.models.early_stopping.hold_out` cuts some off.
        patience: keep the weights of the epoch of highest validation accuracy, and end after so many epochs in a row without a
            higher one (`repairkit.models.early_stopping` says what that means for the schedule and for dropout that rises). None
            trains all epochs and keeps the last.
        checkpoint: where the state is kept after each epoch, and taken up again if it is there. On a CPU, with the same threads, a
            training that goes on ends with the same bits as one that was never interrupted. The caller removes it.
        progress: see `TrainingProgress`.
        threads: CPU threads; None leaves torch's setting.
        device: where to train.

    Raises:
        UsageError: a setting outside its range, patience without validation images or with settings that it cannot go with, or a
            checkpoint of another configuration.
        DataError: validation and training share an image, or the checkpoint cannot be read.
        ModelError: the network cannot take images of this size, the loss is not finite, or the network ends at chance.
    """
    if epochs < 1 or batch_size < 2 or not learning_rate > 0 or not 0 <= filter_dropout < 1 or not 0 <= ramp <= 1:
        raise UsageError(
            "expected epochs >= 1, batch size >= 2, learning rate > 0, 0 <= filter dropout < 1 and 0 <= ramp <= 1; "
            f"got {epochs}, {batch_size}, {learning_rate}, {filter_dropout}, {ramp}"
        )
    if patience is not None:
        _check_patience(patience, images, validation, dropout_rises_to_the_end=filter_dropout > 0 and ramp == 1, settles=settle_norms)
    started = time.perf_counter()
    settings: dict[str, object] = {
        "architecture": architecture,
        "init": init.name if isinstance(init, Path) else (None if init is None else "the stage before"),
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "filter_dropout": filter_dropout,
        "ramp": ramp,
        "size": size,
        "flip": flip,
        "settle_norms": settle_norms,
        "seed": seed,
        "threads": threads or torch.get_num_threads(),
        "data": images.name,
        **_facts(images),
        "patience": patience,
        "validation": None if validation is None else {"data": validation.name, **_facts(validation)},
        "torch": torch.__version__,
    }
    stopping = None if patience is None else EarlyStopping(patience, dropout=filter_dropout)
    with _threads(threads), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        network, notes = _start(architecture, len(images.classes), init)
        classifier = Classifier(network, classes=images.classes, size=size).to(device).to(memory_format=torch.channels_last)
        try_one(classifier.eval(), images)
        loop = TrainingLoop(classifier, images, batch_size, learning_rate, weight_decay, epochs, filter_dropout, ramp, flip)
        configuration = _configuration(settings, images, validation, init, device)
        history, earlier = _take_up(checkpoint, configuration, loop, stopping)
        with _nothing_kept(checkpoint):
            with closing(loop.epochs(validation, progress)) as to_come:
                while not (stopping and stopping.ended) and (epoch := next(to_come, None)):
                    history.append(epoch)
                    if stopping:
                        stopping.see(epoch, network)
                    if checkpoint:
                        kept = {"loop": loop.state(), "stopping": stopping.state() if stopping else None}
                        seconds = earlier + time.perf_counter() - started
                        checkpoint.write(configuration, kept | {"history": [asdict(each) for each in history], "seconds": seconds})
            if stopping:
                stopping.restore(network)
            if settle_norms:
                _settle_norms(classifier, images, batch_size)
            _check_learned(classifier.eval(), images)
    return Trained(
        network=network.cpu().to(memory_format=torch.contiguous_format).eval().requires_grad_(False),
        architecture=architecture,
        classes=images.classes,
        trained_on=f"{images.name}, {len(images)} images",
        settings=settings,
        notes=notes,
        history=tuple(history),
        seconds=earlier + time.perf_counter() - started,
        kept_epoch=stopping.best.epoch if stopping and stopping.best else len(history),
        ended=f"{patience} epochs in a row brought no higher validation accuracy"
        if stopping and stopping.ended
        else f"all {epochs} epochs were trained",
    )


def _facts(images: LabelledImages) -> dict[str, object]:
    """How many images there are, of which groups, and a hash of them in any order."""
    return {
        "images": len(images),
        "images_sha256": hashlib.sha256("".join(sorted(images.hashes.tolist())).encode()).hexdigest(),
        "groups": {group: int((images.groups == group).sum()) for group in images.group_names},
    }


def _configuration(
    settings: Mapping[str, object],
    images: LabelledImages,
    validation: LabelledImages | None,
    init: Path | Mapping[str, torch.Tensor] | None,
    device: str | torch.device,
) -> dict[str, object]:
    """All that decides the bits of a training, for its checkpoint; images by a hash of them and their labels in their order."""
    start = None if init is None else hash_state(read_weights(init)[0] if isinstance(init, Path) else init)

    def hashed(each: LabelledImages | None) -> str | None:
        return None if each is None else hashlib.sha256("".join(each.hashes.tolist()).encode() + each.labels.tobytes()).hexdigest()[:16]

    shown = {name: value for name, value in settings.items() if name not in ("images", "images_sha256", "groups", "validation")}
    return shown | {
        "device": str(device),
        "training images": hashed(images),
        "validation images": hashed(validation),
        "weights to start from": start,
    }


def _check_patience(
    patience: int, images: LabelledImages, validation: LabelledImages | None, *, dropout_rises_to_the_end: bool, settles: bool
) -> None:
    if patience < 1:
        raise UsageError(f"expected a patience of at least 1 epoch, got {patience}; leave it out to train all epochs")
    if validation is None:
        raise UsageError("patience needs validation images, got none; give some that are not trained on")
    if dropout_rises_to_the_end:
        raise UsageError("with patience, filter dropout must be at its height before the last step, got ramp 1; give a smaller ramp")
    if settles:
        raise UsageError("settled norms are not those that validation measured; leave patience or settle_norms out")
    check_disjoint(training=images, validation=validation)


def _take_up(
    checkpoint: TrainingCheckpoint | None, configuration: Mapping[str, object], loop: TrainingLoop, stopping: EarlyStopping | None
) -> tuple[list[Epoch], float]:
    """Epochs and seconds of earlier sessions, whose state goes into loop and stopping; none where nothing is kept."""
    found = checkpoint.read(configuration) if checkpoint else None
    if checkpoint is None or found is None:
        return [], 0.0
    try:
        history = [Epoch(**epoch) for epoch in found["history"]]
        loop.load_state(found["loop"])
        if stopping:
            stopping.load_state(found["stopping"], history)
        return history, float(found["seconds"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise checkpoint.damaged(type(error).__name__) from None


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start(architecture: str, classes: int, init: Path | Mapping[str, torch.Tensor] | None) -> tuple[nn.Module, tuple[str, ...]]:
    """A network to start from, and what to note about it."""
    network = zoo.build(architecture, classes)
    head = head_of(network)
    if init is None:
        # SqueezeNet's logits pass a ReLU: with its bias at 0 both logits can die in the first steps.
        if isinstance(head, nn.Conv2d) and head.bias is not None:
            nn.init.constant_(head.bias, 1.0)
        return network, ()
    state = dict(read_weights(init)[0] if isinstance(init, Path) else init)
    name = next(name for name, module in network.named_modules() if module is head)
    own, notes = network.state_dict(), []
    for key in (f"{name}.weight", f"{name}.bias"):
        if key in own and key in state and state[key].shape != own[key].shape:
            notes.append(
                f"replaced {key}: the initial weights have shape {tuple(state[key].shape)}, this task needs {tuple(own[key].shape)}"
            )
            state[key] = own[key]
    load_state(network, state, where=str(init) if isinstance(init, Path) else "the initial weights")
    return network, tuple(notes)


@dataclass
class TrainingLoop:
    """The training loop: plain, and the same bits for the same seed.

    With `keep_norms`, for a network that is trained already, only dropout is in training mode: batch norms apply their running
    statistics and leave them as they are, and no auxiliary head runs (Inception's cannot take images of less than 139 pixels).
    With `weights` an epoch draws as many images as there are, each in proportion to its weight and put back. `disturb` changes the images of
    every step before they are learned.
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
        """Train, an epoch at a time, those that are still to come; the validation images are measured after each.

        Raises:
            ModelError: the loss is not finite.
        """
        per_epoch, steps, optimizer, schedule = self._per_epoch, self._steps, self._optimizer, self._schedule
        device = self.classifier.mean.device
        labels = torch.from_numpy(self.images.labels)
        example = self.classifier.prepare(self.images.batch(np.arange(1)).to(device))
        with FilterDropout(self.classifier.network, example) as dropout:
            for epoch in range(self._done, self.count):
                began, total, right = time.perf_counter(), 0.0, 0
                self._enter_training_mode()
                order = self._order()
                for index in range(per_epoch):
                    step = epoch * per_epoch + index
                    dropout.p = self.filter_dropout * (min(1.0, step / (self.ramp * steps)) if self.ramp else 1.0)
                    chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
                    target = labels[chosen].to(device)
                    logits = self._logits(chosen.numpy())
                    loss = F.cross_entropy(logits, target)
                    total += check_loss(loss, f"at step {step + 1} of {steps}")
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(self.classifier.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    right += int((logits.argmax(1) == target).sum())
                    if progress:
                        progress(step + 1, steps, None)
                accuracy, recalls = measure(self.classifier, validation) if validation else (None, {})
                entry = Epoch(
                    epoch=epoch + 1,
                    loss=total / per_epoch,
                    training_accuracy=right / (per_epoch * min(self.batch_size, len(self.images))),
                    learning_rate=float(schedule.get_last_lr()[0]),
                    dropout=dropout.p,
                    seconds=time.perf_counter() - began,
                    validation_accuracy=accuracy,
                    recalls=recalls,
                )
                if progress:
                    progress((epoch + 1) * per_epoch, steps, entry)
                self._done = epoch + 1
                yield entry

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


def _settle_norms(classifier: Classifier, images: LabelledImages, batch_size: int) -> None:
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


@contextmanager
def _nothing_kept(checkpoint: TrainingCheckpoint | None) -> Iterator[None]:
    """A training that fails for what it learned would fail again: going on with its epochs leads nowhere, so they are not kept."""
    try:
        yield
    except ModelError:
        if checkpoint:
            checkpoint.remove()
        raise


def _check_learned(classifier: Classifier, images: LabelledImages) -> None:
    """Mean recall over the classes on at most 1,000 training images must lie above chance."""
    sample = images.subset(np.unique(np.linspace(0, len(images) - 1, min(1000, len(images))).astype(np.int64)))
    classes = LabelledImages(
        pixels=sample.pixels,
        labels=sample.labels,
        groups=sample.labels.astype(np.str_),
        classes=sample.classes,
        name=sample.name,
        hashes=sample.hashes,
    )
    recalls = list(measure(classifier, classes)[1].values())
    chance = 1 / len(recalls)
    mean = sum(recalls) / len(recalls)
    if len(recalls) > 1 and mean < chance + 2 * math.sqrt(chance * (1 - chance) / len(sample)):
        raise ModelError(
            f"training ended at chance (mean class recall {mean:.2f}, chance {chance:.2f}); train longer, or with another learning rate"
        )


def train_stand_ins(directory: Path, *, threads: int | None = 1, progress: TrainingProgress | None = None) -> dict[str, Path]:
    """Train the two networks that ship with repairkit, on drawn faces; about 20 minutes on one core.

    Each is written to `directory` as safetensors in half precision with its `.train.json`. The plain
    network learns at 64 pixels first and ends at 96. The dropout network starts from it and p rises
    to 0.5 only at the end: kept there for three epochs it lost 18 points of source accuracy.

    Returns:
        The weights file of each model name (`zoo.STAND_INS`).
    """
    from repairkit.data.synthetic_faces import target_faces, training_faces

    paths = {name: Path(directory) / f"{stem}.safetensors" for name, stem in zoo.STAND_INS.items()}
    plain_path, dropout_path = paths["squeezenet_celeba"], paths["squeezenet_celeba_dropout"]
    faces = training_faces()
    common: dict[str, Any] = {"validation": target_faces(per_group=100, seed=7), "progress": progress, "threads": threads}
    small = train(faces, size=64, epochs=3, learning_rate=6e-4, seed=0, **common)
    plain = train(faces, init=small.network.state_dict(), epochs=1, learning_rate=2e-4, seed=1, **common)
    plain.write(plain_path, before=(small,))
    dropped = train(faces, init=plain_path, epochs=3, learning_rate=4e-4, filter_dropout=0.5, ramp=1.0, seed=2, **common)
    dropped.write(dropout_path)
    return paths
