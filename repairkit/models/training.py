"""Training a classifier from labelled images, with or without filter dropout.

Filter dropout (the remedy that Neuron Shapley repairs are compared with): while training, the
signal of every filter is zeroed with probability p, anew for each image, and scaled by 1 / (1 - p)
otherwise, so that no single filter becomes indispensable. At p = 0.5 on all convolutions a
SqueezeNet did not learn from scratch: on drawn faces its logits died in the first epoch and the loss
stayed at log 2. What trains: start from the weights trained without (`init`) and let p rise linearly
over the first half of the steps (`ramp`).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import ModelError, UsageError
from repairkit.files import write_text
from repairkit.models import zoo
from repairkit.models.classifier import Classifier, try_one


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


TrainingProgress = Callable[[int, int, Epoch | None], None]
"""Called after each step with (step, steps, None) and each epoch with its `Epoch`."""


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
        seconds: wall time.
    """

    network: nn.Module
    architecture: str
    classes: tuple[str, ...]
    trained_on: str
    settings: dict[str, object]
    notes: tuple[str, ...]
    history: tuple[Epoch, ...]
    seconds: float

    def write(self, weights: Path, *, half: bool = True, before: tuple[Trained, ...] = ()) -> None:
        """Write the weights, and beside them `<name>.train.json`; `before` are the stages this one continued."""
        zoo.save(self.network, weights, architecture=self.architecture, classes=self.classes, trained_on=self.trained_on, half=half)
        record = {
            "weights": weights.name,
            "trained_on": self.trained_on,
            "classes": self.classes,
            "stages": [s.record() for s in (*before, self)],
        }
        write_text(weights.with_suffix(".train.json"), json.dumps(record, indent=1) + "\n")

    def record(self) -> dict[str, object]:
        """Settings, notes, history and time of this training, JSON-ready."""
        history = [
            {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(epoch).items()} for epoch in self.history
        ]
        return {"settings": self.settings, "notes": list(self.notes), "seconds": round(self.seconds, 1), "history": history}


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
        validation: measured after every epoch, never trained on.
        progress: see `TrainingProgress`.
        threads: CPU threads; None leaves torch's setting.
        device: where to train.

    Raises:
        UsageError: a setting outside its range.
        ModelError: the network cannot take images of this size, the loss is not finite, or the network ends at chance.
    """
    if epochs < 1 or batch_size < 2 or not learning_rate > 0 or not 0 <= filter_dropout < 1 or not 0 <= ramp <= 1:
        raise UsageError(
            "expected epochs >= 1, batch size >= 2, learning rate > 0 0 <= filter dropout < 1 and 0 <= ramp <= 1; "
            f"got {epochs}, {batch_size}, {learning_rate}, {filter_dropout}, {ramp}"
        )
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
        "images": len(images),
        "images_sha256": hashlib.sha256("".join(sorted(images.hashes.tolist())).encode()).hexdigest(),
        "groups": {group: int((images.groups == group).sum()) for group in images.group_names},
        "torch": torch.__version__,
    }
    with _threads(threads), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        network, notes = _start(architecture, len(images.classes), init)
        classifier = Classifier(network, classes=images.classes, size=size).to(device).to(memory_format=torch.channels_last)
        try_one(classifier.eval(), images)
        run = TrainingLoop(classifier, images, batch_size, learning_rate, weight_decay, epochs, filter_dropout, ramp, flip)
        history = tuple(run.epochs(validation, progress))
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
        history=history,
        seconds=time.perf_counter() - started,
    )


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
    head = _head(network)
    if init is None:
        # SqueezeNet's logits pass a ReLU: with its bias at 0 both logits can die in the first steps.
        if isinstance(head, nn.Conv2d) and head.bias is not None:
            nn.init.constant_(head.bias, 1.0)
        return network, ()
    state = dict(zoo.read_weights(init)[0] if isinstance(init, Path) else init)
    name = next(name for name, module in network.named_modules() if module is head)
    own, notes = network.state_dict(), []
    for key in (f"{name}.weight", f"{name}.bias"):
        if key in own and key in state and state[key].shape != own[key].shape:
            notes.append(
                f"replaced {key}: the initial weights have shape {tuple(state[key].shape)}, this task needs {tuple(own[key].shape)}"
            )
            state[key] = own[key]
    zoo.fit(network, state, where=str(init) if isinstance(init, Path) else "the initial weights")
    return network, tuple(notes)


def _head(network: nn.Module) -> nn.Module:
    """The last linear layer, or the last convolution where there is none."""
    modules = list(network.modules())
    linear: list[nn.Module] = [module for module in modules if isinstance(module, nn.Linear)]
    return (linear or [module for module in modules if isinstance(module, nn.Conv2d)])[-1]


class FilterDropout:
    """Hooks that drop each filter's signal with probability `p`, anew per image; a context manager.

    The signal is taken after the batch norm that follows a convolution, else at the convolution
    itself: before a ReLU, which for zeroing and scaling is the same as after it. The classifier's
    own convolution is left alone.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> with FilterDropout(network, torch.rand(1, 3, 4, 4)) as dropout:
        ...     dropout.p = 0.5
        ...     len(dropout.modules)
        1
    """

    def __init__(self, network: nn.Module, example: torch.Tensor) -> None:
        self.p = 0.0
        self.modules = _signal_modules(network, example)
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> FilterDropout:
        self._handles = [module.register_forward_hook(self._drop) for module in self.modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _drop(self, module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        if self.p == 0 or not module.training:
            return output
        keep = torch.rand(output.shape[:2], device=output.device) >= self.p
        return output * (keep / (1 - self.p))[:, :, None, None]


def _signal_modules(network: nn.Module, example: torch.Tensor) -> list[nn.Module]:
    """For each convolution but the classifier's: the batch norm that takes its output, else itself."""
    head = _head(network)
    made: dict[int, nn.Conv2d] = {}
    kept: list[torch.Tensor] = []  # alive until the end, so that an id names one tensor
    carrier: dict[nn.Conv2d, nn.Module] = {}

    def after_convolution(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d) and module is not head:
            kept.append(output)
            made[id(output)] = module
            carrier.setdefault(module, module)

    def before_norm(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        convolution = made.get(id(inputs[0]))
        if convolution is not None:
            carrier[convolution] = module

    handles = [m.register_forward_hook(after_convolution) for m in network.modules() if isinstance(m, nn.Conv2d)]
    handles += [m.register_forward_pre_hook(before_norm) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(example)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return list(carrier.values())


@dataclass
class TrainingLoop:
    """The training loop: plain, and the same bits for the same seed.

    With `keep_norms`, for a network that is trained already, only dropout is in training mode: batch norms apply their running
    statistics and leave them as they are, and no auxiliary head runs (Inception's cannot take images of less than 139 pixels).
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

    def epochs(self, validation: LabelledImages | None, progress: TrainingProgress | None) -> Iterator[Epoch]:
        """Train, an epoch at a time; the validation images are measured after each.

        Raises:
            ModelError: the loss is not finite.
        """
        per_epoch = max(1, len(self.images) // self.batch_size)
        steps = self.count * per_epoch
        optimizer = torch.optim.AdamW(self.classifier.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        warm = max(0.1, 2 / (steps + 1))  # one step at least: in ten total steps, OneCycleLR divides a tenth of them by zero
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps + 1, pct_start=warm)
        device = self.classifier.mean.device
        labels = torch.from_numpy(self.images.labels)
        example = self.classifier.prepare(self.images.batch(np.arange(1)).to(device))
        with FilterDropout(self.classifier.network, example) as dropout:
            for epoch in range(self.count):
                began, total, right = time.perf_counter(), 0.0, 0
                self._enter_training_mode()
                order = torch.randperm(len(self.images))
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
                yield entry

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
    from repairkit.data.drawn import target_faces, training_faces

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
