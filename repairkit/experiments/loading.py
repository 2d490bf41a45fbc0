"""Data sets and networks of a recipe: loaded, or trained first where it says how."""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from repairkit.data import loaders
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError
from repairkit.evaluation.splits import draw
from repairkit.experiments.base import Loading, below
from repairkit.experiments.recipe_base import DataSection, StageSection, TrainingSection
from repairkit.files import cache_directory
from repairkit.models import zoo
from repairkit.models.training import train
from repairkit.models.training_loop import TrainingSettings
from repairkit.network.weights import hash_state, read_weights


class Trained(NamedTuple):
    """Networks that were trained on a part of the source."""

    model: zoo.LoadedModel
    comparison: zoo.LoadedModel | None  # trained with filter dropout
    source: LabelledImages  # what is left of it
    training: LabelledImages


def load_section(
    section: DataSection, size: int | None, loading: Loading, *, classes: tuple[str, ...] | None = None, source: bool
) -> LabelledImages:
    """A data set of a recipe; of synthetic faces those of the source or of the target."""
    root = loading.data_root / section.folder if loading.data_root and section.folder else loading.data_root
    return loaders.load(section.name, root=root, size=size, classes=classes, source=source)


def train_networks(training: TrainingSection, source: LabelledImages, loading: Loading) -> Trained:
    """The network of a recipe and, where it says so, one with filter dropout: trained now, from the cache, or fresh for a plan.

    Raises:
        UsageError: weights to start from without a data root.
        DataError, ModelError: as the training; or the quotas leave no image of the source.
    """
    learned, remaining = _draw(training, source)
    init = below(loading.data_root, training.init)
    if not loading.fit:
        fresh = partial(zoo.fresh, training.architecture, learned.classes, device=loading.device)
        return Trained(fresh(), fresh() if training.dropout else None, remaining, learned)
    trained = partial(_trained, training, images=learned, loading=loading)
    plain = trained(training.plain, init=init)
    if training.dropout is None:
        return Trained(zoo.load(plain, device=loading.device), None, remaining, learned)
    model = trained(training.dropout.model_copy(update={"filter_dropout": 0.0}), init=plain) if training.control else plain
    comparison = zoo.load(trained(training.dropout, init=plain), device=loading.device)
    return Trained(zoo.load(model, device=loading.device), comparison, remaining, learned)


def _draw(plan: TrainingSection, source: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Images to train on, and what is left of the source."""
    chosen, rest = draw(source, plan.quotas, plan.seed)
    left = [i for i in rest if any(fnmatchcase(source.groups[i], pattern) for pattern in plan.source_groups)]
    if not left:
        raise DataError(f"{source.name}: no image of {', '.join(plan.source_groups)} is left for the source; lower the quotas")
    training = source.subset(chosen, name=f"{source.name} training part")
    return training, source.subset(np.array(left), name=f"{source.name} source part")


def _trained(training: TrainingSection, stage: StageSection, images: LabelledImages, init: Path | None, *, loading: Loading) -> Path:
    """Weights of one stage, trained now or found in the cache under all that decides them."""
    device = loading.device
    decisive = [training.architecture, training.seed, stage.model_dump(), sorted(images.hashes.tolist()), images.labels.tolist(), device]
    if init is not None:
        decisive.append(hash_state(read_weights(init)[0]))
    key = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]
    file = cache_directory() / "models" / f"{training.architecture}-{key}.safetensors"
    if not file.exists():
        settings = TrainingSettings(architecture=training.architecture, seed=training.seed, **stage.model_dump())
        made = train(images, settings, init=init, device=device, threads=loading.threads, progress=loading.progress)
        made.write(file, half=False)
    return file
