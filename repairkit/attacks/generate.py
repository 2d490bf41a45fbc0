"""Adversarial images: made once against one network, as 8-bit pixels with their targets.

The attacks are those of torchattacks (`repairkit.attacks.methods`). A network comes back as it was: modes, gradients and torch's random
numbers, also after an error.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from repairkit.attacks.methods import Method, method_of
from repairkit.data.images import ChosenPixels, Indices, LabelledImages, Pixels, hash_pixels
from repairkit.errors import DataError, ModelError, UsageError
from repairkit.files import damaged, read_arrays, replacing
from repairkit.network.classifier import Classifier, check_logits, check_not_probabilities
from repairkit.network.weights import hash_state
from repairkit.run.context import Run
from repairkit.run.ledger import Progress
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import GRADIENT_COST

Booleans = npt.NDArray[np.bool_]

_FILE = {"content": "adversarial images", "remedy": "make them anew"}
FORMAT = 1
"""Of a written file; raise it with its content."""


def draw_targets(labels: Indices, classes: int, seed: int) -> Indices:
    """A target class for each image: uniform over all classes but its own; int64 (N,). The original implementation drew from all.

    Raises:
        UsageError: fewer than two classes.
        DataError: a label outside the classes.

    Example:
        >>> draw_targets(np.array([0, 1, 2, 2]), classes=3, seed=0).tolist()
        [2, 0, 1, 0]
    """
    if classes < 2:
        raise UsageError(f"expected at least two classes to draw targets from, got {classes}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"expected labels in 0 .. {classes - 1}, got {labels.min()} to {labels.max()}; give the number of classes they belong to"
        )
    shift = np.random.default_rng(seed).integers(1, classes, size=len(labels))
    return (labels + shift) % classes


@dataclass(frozen=True, eq=False)
class AdversarialSet:
    """Adversarial images with their targets, and whether the network they were made against gives them.

    Raises:
        DataError: not a target for every image, one outside the classes, or one equal to the label.
    """

    images: LabelledImages  # with the true labels; `origins` are those of the clean images, so that `check_disjoint` finds an image again
    targets: Indices  # int64 (N,), never equal to the label
    hit: Booleans  # (N,), the network gives the target, on these 8-bit pixels
    method: Method
    seed: int  # of the attack
    key: str = ""  # hash of all that decides the pixels: network, clean images, labels, targets, method and seed

    def __post_init__(self) -> None:
        check_targets(self.images, self.targets)
        if self.hit.shape != self.targets.shape or self.hit.dtype != np.bool_:
            raise DataError(f"expected a bool for each of {len(self.targets)} images, got {self.hit.dtype} of shape {self.hit.shape}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def toward_targets(self) -> LabelledImages:
        """The adversarial images labelled by their targets, as `AttackSuccess` takes them."""
        return replace(self.images, labels=self.targets)

    def subset(self, indices: Sequence[int] | Indices) -> AdversarialSet:
        """The images at `indices`, in that order; the key stays that of the whole."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(self, images=self.images.subset(chosen), targets=self.targets[chosen], hit=self.hit[chosen])

    def write(self, path: Path) -> None:
        """Write as npz without any pickle, whole or not at all."""
        images = self.images
        facts = {"format": FORMAT, "method": self.method.record(), "seed": self.seed, "key": self.key}
        facts |= {name: getattr(images, name) for name in ("name", "classes", "drawn")}
        arrays = {name: getattr(images, name) for name in ("pixels", "labels", "groups", "hashes", "origins")}
        arrays |= {"sources": np.array(images.sources, dtype=np.str_), "targets": self.targets, "hit": self.hit}
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays, facts=np.array(json.dumps(facts)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote; the pixels are held against their hashes.

        Raises:
            DataError: no such file, one that is cut short or altered, or something else.
        """
        arrays = read_arrays(path, **_FILE)
        try:
            facts = dict(json.loads(str(arrays.pop("facts"))))
            if facts["format"] != FORMAT or not np.array_equal(hash_pixels(arrays["pixels"]), arrays["hashes"]):
                raise ValueError("another format, or pixels that do not match their hashes")  # noqa: TRY301 - one error below
            targets, hit, sources = arrays.pop("targets"), arrays.pop("hit"), tuple(arrays.pop("sources").tolist())
            images = LabelledImages(
                **arrays, sources=sources, classes=tuple(facts["classes"]), name=str(facts["name"]), drawn=bool(facts["drawn"])
            )
            return cls(images, targets, hit, method_of(facts["method"]), int(facts["seed"]), str(facts["key"]))
        except Exception as error:  # noqa: BLE001 - a foreign file fails in many ways
            raise damaged(path, type(error).__name__, **_FILE) from None


def attack(
    classifier: Classifier,
    images: LabelledImages,
    targets: Indices,
    method: Method,
    *,
    batch: int = 32,
    seed: int = 0,
    run: Run | None = None,
    progress: Progress | None = None,
) -> AdversarialSet:
    """Make adversarial images against a classifier, on the device where it is.

    Pixels are rounded to 8 bits within the bound: no channel lies further from the clean one than eps * 255 levels, rounded down. In a run
    each finished batch is stored, and its passes are spent in the phase at work. Cost: `method.passes` for each image, and one to see its hit.

    Args:
        classifier: the attacked network; its normalisation lies inside.
        images: clean, with their true labels.
        targets: int64 (N,), from `draw_targets`.
        method: the attack; eps of at least 1 / 255, the least that 8 bits can hold.
        batch: images attacked at once.
        seed: same seed, batch, threads and device: same bits.
        run: where finished batches are stored; None for nowhere.
        progress: shown the passes of this call; a run shows its own.

    Raises:
        UsageError: a batch below 1, or an eps that 8 bits cannot hold.
        DataError: targets that do not fit, or images outside [0, 1].
        ModelError: logits that are not finite, too few for the classes, or probabilities.

    Example:
        >>> from repairkit.attacks.methods import PGD
        >>> _ = torch.manual_seed(0)
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> images = LabelledImages(pixels=np.full((2, 8, 8, 3), 99, np.uint8), labels=np.array([0, 1]),
        ...     groups=np.array(["a", "a"]), classes=("no", "yes"), name="tiny")
        >>> made = attack(Classifier(network, classes=("no", "yes")), images, draw_targets(images.labels, 2, seed=0),
        ...     PGD(eps=2 / 255, steps=3))
        >>> made.targets.tolist(), int(np.abs(made.images.pixels.astype(int) - 99).max())
        ([1, 0], 2)
    """
    levels = math.floor(method.eps * 255 + 1e-6)
    if levels < 1:
        raise UsageError(f"{method.title}: stored images have 8 bits, which hold no change below 1/255, got eps {method.eps:g}")
    pieces = list(batches(np.arange(len(images)), batch))
    check_attackable(classifier, images, targets)
    key = _key(classifier, images, targets, method, seed)
    goals = targets if method.targeted else images.labels
    counter = PassCounter(f"{method.title} attack", len(images) * (method.passes + 1), run.ledger.progress if run else progress)

    def made(rows: Indices) -> Arrays:
        floats = perturb(classifier, images.batch(rows), goals[rows], method, seed=derived_seed(seed, int(rows[0])), counter=counter)
        pixels = _on_the_grid(floats, images.pixels[rows], levels)
        labels = predict_pixels(classifier, torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255, counter=counter)
        if run is not None:
            run.spend(counter.passes)
            counter.passes = 0.0
        return {"pixels": pixels, "hit": labels == targets[rows]}

    # a network with hooks (`Freeze`) computes something else than its weights, and so its key, say
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in classifier.modules())
    batch_results = [
        made(rows) if run is None or hooked else run.cached(f"adversarial-{key[:16]}-{rows[0]}", partial(made, rows), ARRAYS)
        for rows in pieces
    ]
    pixels, hit = (np.concatenate([each[part] for each in batch_results]) for part in ("pixels", "hit"))
    return AdversarialSet(_adversarial(images, pixels, method), targets, hit, method, seed, key)


def perturb(
    classifier: Classifier, images: Tensor, goals: Indices, method: Method, *, seed: int, counter: PassCounter | None = None
) -> Tensor:
    """One batch of adversarial images, not rounded to 8 bits; float (k, 3, height, width) in [0, 1].

    `goals` are int64 (k,): targets, or the labels for a method that is not `targeted`.

    Raises:
        DataError: images outside [0, 1].
    """
    least, greatest = (float(end) for end in torch.aminmax(images))
    if not (least >= 0 and greatest <= 1):
        raise DataError(
            f"expected images in [0, 1], got values from {least:.3g} to {greatest:.3g}; "
            "divide 8-bit pixels by 255, and leave normalisation to the Classifier"
        )
    with preserving_state(classifier, seed, counter):
        made: Tensor = method.build(classifier, seed)(images, torch.from_numpy(goals))
    return made.detach()


def predict_pixels(classifier: Classifier, images: Tensor, *, counter: PassCounter | None = None) -> Indices:
    """The class that the classifier, in eval mode, gives each image in [0, 1]; int64 (k,)."""
    with preserving_state(classifier, 0, counter), torch.no_grad():
        labels: Indices = check_logits(classifier(images)).argmax(dim=1).cpu().numpy()
    return labels


class PassCounter:
    """A forward hook of a classifier that counts image passes and shows them: forward 1, with gradients 3."""

    def __init__(self, what: str, planned: float, progress: Progress | None = None) -> None:
        self.what, self.planned, self.progress = what, planned, progress
        self.passes = 0.0

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...], _output: object) -> None:
        """Count a pass that was made."""
        self.passes += len(inputs[0]) * (GRADIENT_COST if inputs[0].requires_grad else 1.0)
        if self.progress is not None:
            self.progress(self.what, self.passes, max(self.planned, self.passes))


@contextmanager
def preserving_state(classifier: Classifier, seed: int, counter: PassCounter | None = None) -> Iterator[None]:
    """Eval mode, weights without gradients, and random numbers from `seed`; on the way out everything is as it was."""
    modes = [(module, module.training) for module in classifier.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in classifier.parameters()]
    handle = None if counter is None else classifier.register_forward_hook(counter)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.inference_mode(mode=False), torch.enable_grad():
            torch.manual_seed(seed)
            classifier.eval().requires_grad_(requires_grad=False)
            yield
    finally:
        if handle is not None:
            handle.remove()
        for module, training in modes:
            module.training = training
        for parameter, gradient in wanted:
            parameter.requires_grad_(gradient)


def batches(which: Indices, size: int) -> Iterator[Indices]:
    """`which` in pieces of `size`."""
    if size < 1:
        raise UsageError(f"expected a batch of at least 1 image, got {size}")
    for start in range(0, len(which), size):
        yield which[start : start + size]


def derived_seed(*numbers: int) -> int:
    """A seed for one piece of the work, made of the numbers that name it."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def check_targets(images: LabelledImages, targets: Indices) -> None:
    """Raise a DataError unless there is one target for every image, among its classes and not its label."""
    if targets.shape != (len(images),) or targets.dtype != np.int64:
        raise DataError(
            f"expected a target, int64, for each of the {len(images)} images of {images.name}, got {targets.dtype} {targets.shape}"
        )
    wrong = np.flatnonzero((targets < 0) | (targets >= len(images.classes)) | (targets == images.labels))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{images.name}: the target {targets[first]} of {images.describe(first)} is its label or outside the {len(images.classes)} classes; "
            "draw targets with draw_targets"
        )


def check_attackable(classifier: Classifier, images: LabelledImages, targets: Indices) -> None:
    """Raise a DataError for targets that do not fit, and a ModelError for logits that are not finite, too few for the classes, or probabilities."""
    check_targets(images, targets)
    with preserving_state(classifier, 0), torch.no_grad():
        logits = check_not_probabilities(check_logits(classifier(images.batch(np.arange(min(8, len(images))))), images.name))
    if logits.shape[1] != len(images.classes):
        raise ModelError(
            f"the network gives {logits.shape[1]} logits, {images.name} has {len(images.classes)} classes; give images and network of one task"
        )


def _on_the_grid(made: Tensor, clean: Pixels, levels: int) -> Pixels:
    """Pixels of 8 bits, at most `levels` from the clean ones; (k, height, width, 3)."""
    rounded = torch.round(made * 255).permute(0, 2, 3, 1).cpu().numpy().astype(np.int16)
    around = clean.astype(np.int16)
    return np.clip(np.clip(rounded, around - levels, around + levels), 0, 255).astype(np.uint8)


def _adversarial(clean: LabelledImages, pixels: Pixels | ChosenPixels, method: Method) -> LabelledImages:
    return replace(clean, pixels=pixels, hashes=np.empty(0, dtype=np.str_), name=f"{clean.name} under {method.title}")


def _key(classifier: Classifier, images: LabelledImages, targets: Indices, method: Method, seed: int) -> str:
    facts: dict[str, Any] = {
        "network": [type(classifier.network).__qualname__, hash_state(classifier.network.state_dict())],
        "preparation": [classifier.mean.flatten().tolist(), classifier.std.flatten().tolist(), classifier.size],
        "images": [images.hashes.tolist(), images.labels.tolist(), targets.tolist()],
        "method": method.record(),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
