"""Training a classifier from labelled images, with or without filter dropout (`repairkit.models.filter_dropout`)."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from repairkit.data.images import LabelledImages
from repairkit.errors import ModelError, UsageError
from repairkit.evaluation.splits import check_disjoint
from repairkit.files import write_text
from repairkit.models import zoo
from repairkit.models.early_stopping import EarlyStopping, Epoch
from repairkit.models.training_checkpoint import TrainingCheckpoint
from repairkit.models.training_loop import TrainingLoop, TrainingProgress, measure, settle_norms_of
from repairkit.network.classifier import Classifier, try_one
from repairkit.network.head import head_of
from repairkit.network.weights import hash_state, load_state, read_weights, write_weights


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
        init: weights to start from (a file or a state dict). A classifier head for another number of classes is replaced by a fresh one,
            and `notes` says so. None starts from fresh weights.
        epochs: passes over the images.
        batch_size: images per step.
        learning_rate: its highest value, reached after a tenth of the steps.
        weight_decay: AdamW's.
        filter_dropout: probability p in [0, 1) of dropping a filter's signal (`repairkit.models.filter_dropout`).
        ramp: share of the steps over which p rises from 0.
        size: train on images resized to this many pixels; None keeps theirs.
        flip: mirror half of the images, sampled anew in each epoch.
        settle_norms: at the end, take the batch norms' statistics from one more pass over the images. In a training of a few hundred steps
            the running statistics lag behind: a MobileNetV3, whose momentum is a hundredth, then answers at chance.
        seed: fixes fresh weights, order, flips and dropout: same seed and threads, same weights.
        validation: measured after every epoch, never trained on; `repairkit.models.early_stopping.hold_out` makes such a part.
        patience: keep the weights of the epoch of highest validation accuracy, and end after so many epochs in a row without a higher one
            (see `repairkit.models.early_stopping`). None trains all epochs and keeps the last.
        checkpoint: keeps the state after each epoch; a training that finds one goes on from it. On a CPU with the same threads it ends with
            the same bits as an uninterrupted one. The caller removes the checkpoint.
        progress: see `repairkit.models.training_loop.TrainingProgress`.
        threads: CPU threads; None leaves torch's setting.
        device: where to train.

    Raises:
        UsageError: a setting outside its range, patience without validation images or with settings that it cannot go with, or a
            checkpoint of another configuration.
        DataError: validation and training share an image, or the checkpoint cannot be read.
        ModelError: the network cannot take images of this size, the loss is not finite, or the network ends at chance.
    """
    _check_ranges(epochs, batch_size, learning_rate, filter_dropout, ramp)
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
        session = _Session(loop, stopping, checkpoint, _configuration(settings, images, validation, init, device), started)
        with _nothing_kept(checkpoint):
            session.run(validation, progress)
            if settle_norms:
                settle_norms_of(classifier, images, batch_size)
            _check_learned(classifier.eval(), images)
    return Trained(
        network=network.cpu().to(memory_format=torch.contiguous_format).eval().requires_grad_(False),
        architecture=architecture,
        classes=images.classes,
        trained_on=f"{images.name}, {len(images)} images",
        settings=settings,
        notes=notes,
        history=tuple(session.history),
        seconds=session.seconds,
        kept_epoch=stopping.best.epoch if stopping and stopping.best else len(session.history),
        ended=f"{patience} epochs in a row brought no higher validation accuracy"
        if stopping and stopping.ended
        else f"all {epochs} epochs were trained",
    )


class _Session:
    """The epochs of one training from its checkpoint to its end; the network holds the weights to keep afterwards."""

    def __init__(
        self,
        loop: TrainingLoop,
        stopping: EarlyStopping | None,
        checkpoint: TrainingCheckpoint | None,
        configuration: Mapping[str, object],
        started: float,
    ) -> None:
        self._loop, self._stopping, self._checkpoint, self._configuration = loop, stopping, checkpoint, configuration
        self.history, earlier = _take_up(checkpoint, configuration, loop, stopping)
        self._began = started - earlier

    @property
    def seconds(self) -> float:
        """Wall time of all sessions so far."""
        return time.perf_counter() - self._began

    def run(self, validation: LabelledImages | None, progress: TrainingProgress | None) -> None:
        """Train until the last epoch, or until patience runs out."""
        network, stopping = self._loop.classifier.network, self._stopping
        with closing(self._loop.epochs(validation, progress)) as epochs:
            while not (stopping and stopping.ended) and (epoch := next(epochs, None)):
                self.history.append(epoch)
                if stopping:
                    stopping.see(epoch, network)
                self._save()
        if stopping:
            stopping.restore(network)

    def _save(self) -> None:
        if self._checkpoint:
            state = {"loop": self._loop.state(), "stopping": self._stopping.state() if self._stopping else None}
            history = [asdict(epoch) for epoch in self.history]
            self._checkpoint.write(self._configuration, state | {"history": history, "seconds": self.seconds})


def _check_ranges(epochs: int, batch_size: int, learning_rate: float, filter_dropout: float, ramp: float) -> None:
    if epochs < 1 or batch_size < 2 or not learning_rate > 0 or not 0 <= filter_dropout < 1 or not 0 <= ramp <= 1:
        raise UsageError(
            "expected epochs >= 1, batch size >= 2, learning rate > 0, 0 <= filter dropout < 1 and 0 <= ramp <= 1; "
            f"got {epochs}, {batch_size}, {learning_rate}, {filter_dropout}, {ramp}"
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
