"""Named models and their weights.

`squeezenet_celeba` and `squeezenet_celeba_dropout` are our own names. Every classifier of torchvision has its name there, with a weights file
or with the published weights in torch's cache. Nothing is downloaded.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import nn

from repairkit.errors import ModelError, ModelWarning, UsageError
from repairkit.files import cache_directory
from repairkit.network.classifier import IMAGENET_MEAN, IMAGENET_STD, Classifier
from repairkit.network.weights import hash_state, load_state, read_weights

STAND_IN_DIRECTORY = Path(__file__).parent / "weights"
STAND_INS = {
    "squeezenet_celeba": "squeezenet1_0_drawn_faces",
    "squeezenet_celeba_dropout": "squeezenet1_0_drawn_faces_dropout",
}
"""Our own names, and the example weights in `STAND_IN_DIRECTORY` that serve until real weights are cached."""
CELEBA = tuple(STAND_INS)  # the network trained without filter dropout, and the one trained with it
ARCHITECTURE = "squeezenet1_0"  # of our own names

_WITH_AUXILIARY_HEADS = {"inception_v3": "AuxLogits.", "googlenet": "aux1."}
_TRANSFORMING_INPUT = ("inception_v3", "googlenet")

_Item = TypeVar("_Item", str, float)


class StageSettings(BaseModel):
    """The settings of a stage of training that reports show."""

    filter_dropout: float | None = Field(default=None, ge=0, lt=1)


class TrainingStage(BaseModel):
    """One stage in a `train.json`: its settings and its wall time in seconds."""

    settings: StageSettings
    seconds: float = Field(ge=0, allow_inf_nan=False)


class _TrainingRecord(BaseModel):
    stages: list[TrainingStage]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for use, and where its weights came from."""

    classifier: Classifier  # in eval mode, without gradients for its weights
    architecture: str  # torchvision's name
    provenance: str  # one sentence on where the weights came from
    weights: Path
    sha256: str  # `repairkit.network.weights.hash_state`
    trained_on: str  # as the file says, else "unknown"
    stand_in: bool = False  # example weights, of synthetic faces or handwritten digits, in place of those that the name promises
    assumed_normalisation: bool = False  # neither file nor caller gave a normalisation, so that ImageNet's was taken
    stages: tuple[TrainingStage, ...] = ()  # of the `train.json` beside the weights

    @property
    def normalisation(self) -> dict[str, list[float] | None]:
        """`mean` and `std` for `repairkit.network.weights.write_weights`; None where they were assumed."""
        known = not self.assumed_normalisation
        return {name: getattr(self.classifier, name).flatten().tolist() if known else None for name in ("mean", "std")}


def load(
    name_or_file: str | Path,
    *,
    weights: str | Path | None = None,
    classes: Sequence[str] = ("female", "male"),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | torch.device = "cpu",
) -> LoadedModel:
    """Load a model by name, or from a file that `repairkit train` wrote.

    Args:
        name_or_file: `squeezenet_celeba`, `squeezenet_celeba_dropout`, a classifier of torchvision, or a safetensors file with our metadata.
        weights: a file with the weights. By default our own names take the weights that `repairkit train` cached, else the example weights.
            Classifiers of torchvision take the published weights in torch's cache (`published_weights`).
        classes: class names, unless the file holds them. Files that torchvision publishes are recognised by name, with classes and normalisation.
        mean: of the normalisation of images in [0, 1], per channel; with `std`. By default the file's, else ImageNet's.
        std: likewise, above 0.
        device: where the model goes.

    Raises:
        UsageError: `mean` and `std` are not three numbers each, or the file says others.
        ModelError: an unknown name, no weights, or a file that cannot be read, is a pickle or does not fit.

    Example:
        >>> model = load("squeezenet_celeba")
        >>> model.architecture, model.classifier.classes
        ('squeezenet1_0', ('female', 'male'))
    """
    _check_normalisation(mean, std)
    name = str(name_or_file)
    path, architecture, stand_in = _resolve(name, None if weights is None else Path(weights))
    state, metadata = read_weights(path)
    architecture = architecture or metadata["architecture"]
    metadata = _publication(architecture, path.name) | metadata
    class_names = _list_in(metadata, "classes", str, list(classes), path)
    network = build(architecture, len(class_names), auxiliary=has_auxiliary_head(architecture, state))
    load_state(network, state, where=str(path))
    classifier = Classifier(
        network,
        classes=class_names,
        mean=_normalisation(metadata, "mean", mean, IMAGENET_MEAN, path),
        std=_normalisation(metadata, "std", std, IMAGENET_STD, path),
    )
    classifier.eval().requires_grad_(False).to(device)
    trained_on = metadata.get("trained_on", "unknown")
    return LoadedModel(
        classifier=classifier,
        architecture=architecture,
        provenance=_provenance(name, path, trained_on, stand_in=stand_in),
        weights=path,
        sha256=hash_state(network.state_dict()),
        trained_on=trained_on,
        stand_in=stand_in,
        assumed_normalisation=mean is None and not {"mean", "std"} <= set(metadata),
        stages=training_stages(path),
    )


def training_stages(weights: Path) -> tuple[TrainingStage, ...]:
    """The stages in the `train.json` beside weights; none where there is no such file, or another file of that name (with a `ModelWarning`)."""
    record = weights.with_suffix(".train.json")
    if not record.is_file():
        return ()
    try:
        return tuple(_TrainingRecord.model_validate_json(record.read_bytes()).stages)
    except (OSError, ValidationError):
        warnings.warn(
            f"{record} is no train.json that repairkit wrote, so that the training of the network is unknown; remove the file",
            ModelWarning,
            stacklevel=3,
        )
        return ()


def _check_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    if (mean is None) != (std is None):
        raise UsageError("expected mean and std together, got one of them; give both or neither")
    if mean is None or std is None:
        return
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise UsageError(f"expected a mean of 3 numbers and a std of 3 above 0, for images in [0, 1], got {list(mean)} and {list(std)}")


def _normalisation(
    metadata: Mapping[str, str], key: str, requested: Sequence[float] | None, default: Sequence[float], path: Path
) -> list[float]:
    """The numbers in the file, else the requested ones, else the default."""
    stored = _list_in(metadata, key, float, list(requested or default), path)
    if requested and not all(math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7) for a, b in zip(stored, requested, strict=True)):
        raise UsageError(f"{path} says that its {key} is {stored}, got {list(requested)}; leave --mean and --std out")
    return stored


def _list_in(metadata: Mapping[str, str], key: str, kind: type[_Item], default: list[_Item], path: Path) -> list[_Item]:
    """A list in a file's metadata, or the default; the file is not trusted."""
    if key not in metadata:
        return default
    try:
        items = json.loads(metadata[key])
    except json.JSONDecodeError:
        items = None
    right_length = isinstance(items, list) and (len(items) == len(default) if kind is float else len(items) > 0)
    if not right_length or not all(isinstance(item, str if kind is str else int | float) for item in items):
        raise ModelError(f"{path}: expected metadata {key!r} as a list of {kind.__name__}s, got {metadata[key][:60]!r}; save it again")
    return [kind(item) for item in items]


def _resolve(name: str, weights: Path | None) -> tuple[Path, str | None, bool]:
    """Weights file, architecture (None: the file says) and whether it is a stand-in."""
    if name in STAND_INS:
        path = weights or cached_weights(name)
        if weights or path.exists():
            return path, ARCHITECTURE, False
        return STAND_IN_DIRECTORY / f"{STAND_INS[name]}.safetensors", ARCHITECTURE, True
    if is_torchvision(name):
        published = weights or published_weights(name)
        if published is None:
            raise ModelError(
                f"{name} comes without weights; give a file with --weights FILE, or put one that torchvision publishes "
                f"({' or '.join(_published(name))}) into {_torch_cache()}"
            )
        return published, name, False
    path = Path(name)
    if not (path.suffix or path.exists()):
        raise ModelError(f"no model is called {name!r}; give {', '.join(STAND_INS)}, a classifier of torchvision, or a safetensors file")
    if weights is not None:
        raise ModelError(f"{name} is a file, so that it takes no --weights {weights}; give the architecture's name as the model")
    if "architecture" not in read_weights(path)[1]:
        raise ModelError(f"{name} does not say its architecture; give the architecture as the model and this file with --weights")
    return path, None, False


def _provenance(name: str, path: Path, trained_on: str, *, stand_in: bool) -> str:
    if stand_in:
        return f"Stand-in for {name}: weights shipped with repairkit, trained on drawn faces and not on CelebA ({path.name})."
    return f"Weights read from {path.name}; trained on: {trained_on}."


def missing_weights_message(name: str) -> str | None:
    """Where the weights of this name were looked for and what to do; None where they are there, or for a file.

    Example:
        >>> missing_weights_message("own.safetensors") is None
        True
    """
    if name in STAND_INS:
        place = cached_weights(name)
        message = f"expected the weights of {name} at {place}, found no file; make them with repairkit train --data celeba --out {name}"
        return None if place.exists() else message
    if is_torchvision(name) and published_weights(name) is None:
        return (
            f"expected the weights of {name} in {_torch_cache()}, found none; put a file there that torchvision publishes "
            f"({' or '.join(_published(name))})"
        )
    return None


def cached_weights(name: str) -> Path:
    """Where `repairkit train` writes the weights of one of our own names."""
    return cache_directory() / "models" / f"{name}.safetensors"


def is_torchvision(name: str) -> bool:
    """Whether torchvision has a classifier of that name."""
    from torchvision import models

    return name in models.list_models(module=models)


def published_weights(architecture: str) -> Path | None:
    """Weights that torchvision publishes for a classifier, if torch's cache (`torch.hub.get_dir()`) holds them; its default first.

    Raises:
        ModelError: torchvision has no classifier of that name.
    """
    _require_torchvision(architecture)
    paths = [_torch_cache() / file for file in _published(architecture)]
    return next((path for path in paths if path.is_file()), None)


def preset_size(architecture: str) -> int:
    """Side in pixels of the images for torchvision's default weights.

    Raises:
        ModelError: torchvision has no classifier of that name.

    Example:
        >>> preset_size("inception_v3"), preset_size("squeezenet1_1")
        (299, 224)
    """
    _require_torchvision(architecture)
    size: int = next(iter(_published(architecture).values())).transforms().crop_size[0]
    return size


def _torch_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _published(architecture: str) -> dict[str, Any]:
    """Torchvision's entry for each file of weights, the default first."""
    from torchvision import models

    entries = models.get_model_weights(architecture)
    return {Path(entry.url).name: entry for entry in (entries.DEFAULT, *entries)}


def _publication(architecture: str, file: str) -> dict[str, str]:
    """Metadata of weights that torchvision publishes under this file name, as `write_weights` writes it; else nothing.

    Torchvision normalises twice for Inception and GoogLeNet: by ImageNet's mean and standard deviation, and back to 2x - 1 in the network. No
    weights file holds the latter (`transform_input`). Together that is a mean and a standard deviation of .5, without a transform.
    """
    entry = _published(architecture).get(file) if is_torchvision(architecture) else None
    if entry is None:
        return {}
    preset = entry.transforms()
    halves = architecture in _TRANSFORMING_INPUT
    facts = {"mean": [0.5] * 3 if halves else list(preset.mean), "std": [0.5] * 3 if halves else list(preset.std)}
    if entry.meta.get("categories"):
        facts["classes"] = list(entry.meta["categories"])
    return {key: json.dumps(fact) for key, fact in facts.items()} | {"trained_on": f"ImageNet (torchvision's {entry})"}


def _require_torchvision(architecture: str) -> None:
    if not is_torchvision(architecture):
        raise ModelError(f"torchvision has no classifier called {architecture!r}; see torchvision.models.list_models()")


def has_auxiliary_head(architecture: str, state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights hold the auxiliary head, which serves training alone."""
    prefix = _WITH_AUXILIARY_HEADS.get(architecture)
    return prefix is not None and any(key.startswith(prefix) for key in state)


def build(architecture: str, classes: int, *, auxiliary: bool = False) -> nn.Module:
    """A classifier of torchvision with fresh weights; `auxiliary` adds the auxiliary head, where the architecture has one.

    Raises:
        ModelError: torchvision has no classifier of that name.

    Example:
        >>> sum(p.numel() for p in build("squeezenet1_0", 2).parameters())
        736450
    """
    from torchvision import models

    _require_torchvision(architecture)
    options: dict[str, Any] = {"weights": None, "num_classes": classes}
    if architecture in _WITH_AUXILIARY_HEADS:
        options |= {"aux_logits": auxiliary, "init_weights": False}
    network: nn.Module = models.get_model(architecture, **options)
    return network


def fresh(architecture: str, classes: Sequence[str], *, device: str | torch.device = "cpu") -> LoadedModel:
    """A network with fresh weights, for a plan: it stands for one that a run trains first.

    Example:
        >>> fresh("squeezenet1_1", ("cat", "dog")).trained_on
        'nothing'
    """
    network = build(architecture, len(classes))
    return LoadedModel(
        classifier=Classifier(network, classes=tuple(classes)).eval().requires_grad_(False).to(device),
        architecture=architecture,
        provenance=f"A {architecture} with fresh weights in place of the one that a run trains first.",
        weights=Path(f"{architecture}-fresh"),
        sha256=hash_state(network.state_dict()),
        trained_on="nothing",
    )


def normalisation_of(model: LoadedModel) -> list[float]:
    """Mean and standard deviation of each channel, which the hash of weights does not cover."""
    return [*model.classifier.mean.flatten().tolist(), *model.classifier.std.flatten().tolist()]
