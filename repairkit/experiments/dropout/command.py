"""`repairkit dropout`: what a network and one of the same architecture that was trained with filter dropout depend on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from repairkit.cli.loading import EMBEDDED_DROPOUT, digits_network, load_network_and_images
from repairkit.cli.options import (
    check_device,
    model_notices,
    show_passes,
)
from repairkit.cli.runner import Running
from repairkit.data import loaders
from repairkit.data import synthetic_faces as drawn
from repairkit.errors import UsageError
from repairkit.experiments.dropout.run import DropoutTask, configuration, find, plan
from repairkit.experiments.dropout.settings import DropoutSettings
from repairkit.experiments.dropout.summary import summarise
from repairkit.experiments.fairness.command import DRAWN_NOTICE
from repairkit.experiments.options import Options
from repairkit.models import embedded, zoo
from repairkit.run.directory import write_dropout_run

DRAWN_IMAGES = 600
NO_DROPOUT = (
    "{file} was trained without filter dropout, as its train.json says: this compares two networks, and says nothing about dropout."
)


def dropout(settings: DropoutSettings) -> int:
    """Compare two networks; returns the exit code."""
    running = Running.of("dropout", settings.model, settings)
    options = settings.options()
    check_device(settings.device)
    running.set_processes(options)
    model, data = settings.model, settings.faces
    networks = (model, settings.weights, settings.compare_model, settings.compare_weights)
    if data is not None:
        given = {"--subsets": settings.subsets, "--max-per-class": settings.max_per_class}
        if unfit := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{unfit[0]} goes with class folders, got it with --data {data}; leave one of them out")
        task = face_task(
            *networks, data, settings.data_root,
            size=settings.size, classes=settings.classes, seed=settings.seed, device=settings.device, mean=settings.mean, std=settings.std,
        )  # fmt: skip
    else:
        task = folder_task(
            *networks, settings.data_root, parts=settings.subsets, per_class=settings.max_per_class, size=settings.size,
            device=settings.device, fit=not settings.dry_run, mean=settings.mean, std=settings.std,
        )  # fmt: skip
    title = f"What {Path(model).stem} and its dropout-trained rival depend on, on {task.images.name}"
    return carry_out(task, options, running, title=title)


def face_task(
    model: str,
    weights: Path | None,
    dropout_model: str | None,
    dropout_weights: Path | None,
    data: str,
    data_root: Path | None,
    *,
    size: int | None,
    classes: tuple[str, ...],
    seed: int,
    device: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> DropoutTask:
    """Two networks, and faces or images of a manifest; of drawn ones those of the population that the networks were made for.

    Raises:
        UsageError: no rival is named, or what the loaders refuse.
        DataError, ModelError: as the loaders and `DropoutTask`.
    """
    if dropout_model is None and model == zoo.CELEBA[0]:
        dropout_model = zoo.CELEBA[1]
    first = zoo.load(model, weights=weights, classes=classes, mean=mean, std=std, device=device)
    second = zoo.load(_named(dropout_model), weights=dropout_weights, classes=classes, mean=mean, std=std, device=device)
    if data == "drawn":
        loaders.check_drawn(size=size)
        images = drawn.source_faces(n=DRAWN_IMAGES, seed=seed)
    else:
        images = loaders.load(data, root=data_root, size=size, classes=first.classifier.classes)
    return DropoutTask(first, second, images)


def folder_task(
    model: str,
    weights: Path | None,
    dropout_model: str | None,
    dropout_weights: Path | None,
    data_root: Path | None,
    *,
    parts: Sequence[str] | None,
    per_class: int | None,
    size: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    device: str,
    fit: bool,
) -> DropoutTask:
    """Two networks, and class folders or a folder with an annotation file; without, both embedded, and digits, fitted unless this is for a plan.

    Raises:
        UsageError: no rival is named, or what `load_network_and_images` refuses.
        DataError, ModelError: as the loaders and `DropoutTask`.
    """
    digital = data_root is None and embedded.needed(model, weights)
    if not digital:
        _named(dropout_model)  # before anything is loaded
    first, images = load_network_and_images(
        model, weights=weights, data_root=data_root, parts=parts, per_class=per_class, size=size, mean=mean, std=std, device=device, fit=fit
    )
    if dropout_model is None and digital:
        second = digits_network(model, images.pixels.shape[1], device=device, fit=fit, filter_dropout=EMBEDDED_DROPOUT)
    else:
        classes = first.classifier.classes
        second = zoo.load(_named(dropout_model), weights=dropout_weights, classes=classes, mean=mean, std=std, device=device)
    return DropoutTask(first, second, images)


def _named(dropout_model: str | None) -> str:
    if dropout_model is None:
        raise UsageError(
            "give --compare-model: weights of the same architecture trained with filter dropout, for instance by repairkit train --filter-dropout"
        )
    return dropout_model


def carry_out(task: DropoutTask, options: Options, running: Running, *, title: str) -> int:
    """Plan or run a comparison and write its run directory; returns the exit code, 0 whatever was found."""
    options = running.with_batch(options, task.model.classifier, task.images)
    heading = f"images: {task.images.name}, {len(task.images):,}; networks: {task.model.architecture} and its dropout-trained rival"
    networks = "; of the rival: add --network dropout, of the lowest filters original-lowest or dropout-lowest"
    return running.carry_out(
        notices=notices_of(task),
        show_plan=lambda: show_passes(
            task.model.classifier, task.images, plan(task, options), options, heading=heading, as_json=running.as_json
        ),
        configuration=partial(configuration, task, options),
        find=partial(find, task),
        settings=options,
        summarise=partial(summarise, task, options, title=title),
        write=write_dropout_run,
        tell=lambda result, place: running.tell(
            result, place, weights=task.model.weights, otherwise=f"all values: repairkit attribution {place}{networks}"
        ),
    )


def notices_of(task: DropoutTask) -> list[str]:
    """What a reader must know before any number."""
    stages = task.dropout.stages
    without = bool(stages) and all(stage.settings.filter_dropout == 0 for stage in stages)
    return [
        *([DRAWN_NOTICE] if task.images.drawn else []),
        *model_notices(task.model, task.dropout),
        *([NO_DROPOUT.format(file=task.dropout.weights.name)] if without else []),
    ]
