"""Networks and images of a recipe: loaded, or trained first where it says how."""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np

from repairkit.data import loaders
from repairkit.data.images import LabelledImages
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.splits import draw
from repairkit.experiments.dropout.recipe import DropoutRecipe
from repairkit.experiments.dropout.run import DropoutTask
from repairkit.experiments.fairness.recipe import FairnessRecipe
from repairkit.experiments.fairness.run import Task
from repairkit.experiments.recipe_base import DataSection, StageSection, TrainingSection
from repairkit.experiments.truncation.recipe import NetworkSection
from repairkit.experiments.truncation.run import Subject
from repairkit.files import cache_directory
from repairkit.models import zoo
from repairkit.models.training import train
from repairkit.models.training_loop import TrainingProgress, TrainingSettings
from repairkit.network.weights import hash_state, read_weights


def prepare(
    recipe: FairnessRecipe,
    data_root: Path | None,
    *,
    device: str,
    threads: int | None,
    progress: TrainingProgress | None = None,
    fit: bool = True,
) -> Task:
    """Load the data, train the networks (or take them from the cache) and name what is left as source; with `fit` False fresh ones stand for them."""
    if recipe.training is None:
        model, rival = (zoo.load(name, device=device) if name else None for name in (recipe.model, recipe.dropout_model))
        if model is None:
            raise UsageError("the recipe names no model and has no [training]")
        classes = model.classifier.classes
        target = _load(recipe.target, data_root, recipe.size, classes=classes, source=False)
        return Task(model, rival, target, _load(recipe.source, data_root, recipe.size, classes=classes, source=True))
    source = _load(recipe.source, data_root, recipe.size, source=True)
    target = _load(recipe.target, data_root, recipe.size, classes=source.classes, source=False)
    training, remaining = _draw(recipe.training, source)
    networks = _networks(recipe.training, training, data_root, device=device, threads=threads, progress=progress, fit=fit)
    return Task(*networks, target, remaining, training)


def prepare_dropout(
    recipe: DropoutRecipe,
    data_root: Path | None,
    *,
    device: str,
    threads: int | None,
    progress: TrainingProgress | None = None,
    fit: bool = True,
) -> DropoutTask:
    """Load the source, train both networks on a part of it (or take them from the cache), and ask about the rest; `fit` as in `prepare`.

    Raises:
        UsageError: the recipe has no [training] and no source.
        DataError, ModelError: as the loaders, the training and `DropoutTask`.
    """
    if recipe.training is None or recipe.source is None:
        raise UsageError("the recipe has no [training] with a source")
    source = _load(recipe.source, data_root, recipe.size, source=True)
    training, remaining = _draw(recipe.training, source)
    model, rival = _networks(recipe.training, training, data_root, device=device, threads=threads, progress=progress, fit=fit)
    if rival is None:
        raise UsageError("the recipe trains no rival; give [training.dropout]")
    return DropoutTask(model, rival, remaining, training)


def prepare_faces(
    section: NetworkSection,
    data_root: Path | None,
    *,
    device: str,
    threads: int | None,
    progress: TrainingProgress | None = None,
    fit: bool = True,
) -> Subject:
    """A network for faces and its target, trained first (or taken from the cache) where the section says how; `fit` as in `prepare`."""
    if section.training is not None:
        task = prepare(section.fairness(), data_root, device=device, threads=threads, progress=progress, fit=fit)
        return Subject(section.name, task.model, task.target, subgroups=True)
    if section.model is None or section.target is None:
        raise UsageError(f"{section.name} names no model or no target")
    model = zoo.load(section.model, device=device)
    target = _load(section.target, data_root, section.size, classes=model.classifier.classes, source=False)
    return Subject(section.name, model, target, subgroups=True)


def _draw(plan: TrainingSection, source: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Images to train on, and what is left of the source."""
    chosen, rest = draw(source, plan.quotas, plan.seed)
    left = [i for i in rest if any(fnmatchcase(source.groups[i], pattern) for pattern in plan.source_groups)]
    if not left:
        raise DataError(f"{source.name}: no image of {', '.join(plan.source_groups)} is left for the source; lower the quotas")
    training = source.subset(chosen, name=f"{source.name} training part")
    return training, source.subset(np.array(left), name=f"{source.name} source part")


def _networks(
    plan: TrainingSection,
    training: LabelledImages,
    data_root: Path | None,
    *,
    device: str,
    threads: int | None,
    progress: TrainingProgress | None,
    fit: bool,
) -> tuple[zoo.LoadedModel, zoo.LoadedModel | None]:
    """The network and its rival, if there is to be one: trained now or found in the cache, or fresh ones where there is to be no fit."""
    init = None
    if plan.init:
        if data_root is None:
            raise UsageError(f"the recipe starts from {plan.init}: give --data-root, the folder that it is relative to")
        init = data_root / plan.init
    if not fit:
        fresh = partial(zoo.fresh, plan.architecture, training.classes, device=device)
        return fresh(), fresh() if plan.dropout else None
    trained = partial(_trained, plan, images=training, device=device, threads=threads, progress=progress)
    plain = trained(plan.plain, init=init)
    if plan.dropout is None:
        return zoo.load(plain, device=device), None
    model = trained(plan.dropout.model_copy(update={"filter_dropout": 0.0}), init=plain) if plan.control else plain
    return zoo.load(model, device=device), zoo.load(trained(plan.dropout, init=plain), device=device)


def _trained(
    plan: TrainingSection,
    stage: StageSection,
    images: LabelledImages,
    init: Path | None,
    *,
    device: str,
    threads: int | None,
    progress: TrainingProgress | None,
) -> Path:
    """Weights of one stage, trained now or found in the cache under all that decides them."""
    decisive = [plan.architecture, plan.seed, stage.model_dump(), sorted(images.hashes.tolist()), images.labels.tolist(), device]
    if init is not None:
        decisive.append(hash_state(read_weights(init)[0]))
    key = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]
    file = cache_directory() / "models" / f"{plan.architecture}-{key}.safetensors"
    if not file.exists():
        settings = TrainingSettings(architecture=plan.architecture, seed=plan.seed, **stage.model_dump())
        trained = train(images, settings, init=init, device=device, threads=threads, progress=progress)
        trained.write(file, half=False)
    return file


def _load(
    section: DataSection, data_root: Path | None, size: int | None, *, classes: tuple[str, ...] | None = None, source: bool
) -> LabelledImages:
    root = data_root / section.folder if data_root and section.folder else data_root
    return loaders.load(section.name, root=root, size=size, classes=classes, source=source)
