"""`repairkit fairness`: repair what a network does to subgroups."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from repairkit.cli.messages import say
from repairkit.cli.options import (
    check_device,
    model_notices,
    show_passes,
)
from repairkit.cli.runner import Running
from repairkit.data import loaders
from repairkit.data.decoding import Crop
from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.experiments.fairness.result import FairnessResult
from repairkit.experiments.fairness.run import Task, configuration, plan, repair
from repairkit.experiments.fairness.settings import FairnessSettings
from repairkit.experiments.fairness.summary import summarise
from repairkit.experiments.options import Options
from repairkit.models import zoo
from repairkit.run.directory import write_fairness_run

DRAWN_NOTICE = "The faces are drawn, not photographed: nothing here is evidence about real people or about a network trained on them."
REPAIRED = ("repaired", "no better than the threshold")
"""Outcomes with exit code 0: mean recall rose with an interval above zero."""


def fairness(settings: FairnessSettings) -> int:
    """Repair a network for a subgroup; returns the exit code."""
    running = Running.of("fairness", settings.model, settings)
    options = settings.options()
    check_device(settings.device)
    running.set_processes(options)
    model, device = settings.model, settings.device
    loaded = zoo.load(model, weights=settings.weights, classes=settings.classes, mean=settings.mean, std=settings.std, device=device)
    named = settings.compare_model
    dropout = None if named == "none" else rival_of(loaded, model, named, classes=settings.classes, device=device)
    target, source = load_data(
        settings.data, settings.data_root, settings.source_data, settings.source_root,
        size=settings.size, crop=settings.crop, classes=loaded.classifier.classes, seed=settings.seed,
    )  # fmt: skip
    return carry_out(
        Task(loaded, dropout, target, source), options, running, title=f"Fairness repair of {Path(model).name} on {target.name}"
    )


def rival_of(
    loaded: zoo.LoadedModel, model: str, dropout_model: str | None, *, classes: tuple[str, ...], device: str
) -> zoo.LoadedModel | None:
    """The named dropout-trained network; else, for `squeezenet_celeba`, the one trained on the same images, if it is there."""
    if dropout_model is not None:
        return zoo.load(dropout_model, classes=classes, device=device)
    if model != "squeezenet_celeba":
        return None
    rival = zoo.load("squeezenet_celeba_dropout", classes=classes, device=device)
    if rival.stand_in == loaded.stand_in:
        return rival
    say("note: no dropout-trained network of the same training is at hand, so none is compared with; name one with --compare-model")
    return None


def carry_out(task: Task, options: Options, running: Running, *, title: str) -> int:
    """Plan or run a fairness repair and write its run directory; returns the exit code."""
    options = running.with_batch(options, task.model.classifier, task.target)

    def tell(result: FairnessResult, place: Path) -> int:
        success = result.verdict.outcome in REPAIRED
        repaired = success and any(each.column == "repaired" for each in result.frozen)
        return running.tell(result, place, weights=task.model.weights, repaired=repaired, success=success)

    return running.carry_out(
        notices=notices_of(task),
        show_plan=partial(show_plan, task, options, as_json=running.as_json),
        configuration=partial(configuration, task, options),
        find=partial(repair, task),
        settings=options,
        summarise=partial(summarise, task, options, title=title),
        write=lambda place, findings, result: write_fairness_run(place, task, findings, result),
        tell=tell,
    )


def load_data(
    data: str,
    data_root: Path | None,
    source_data: str | None,
    source_root: Path | None,
    *,
    size: int | None,
    crop: str | None,
    classes: tuple[str, ...],
    seed: int,
) -> tuple[LabelledImages, LabelledImages]:
    """Target and source images.

    Raises:
        UsageError: real target images without source images, or what `loaders.load` refuses.
    """
    if source_data is None:
        if data != "drawn":
            raise UsageError(
                "give --source-data: images of what the network was made for, to guard what it can do (drawn, ppb, utkface, celeba, or a manifest)"
            )
        source_data = "drawn"
    target = loaders.load(data, root=data_root, size=size, crop=Crop.parse(crop) if crop else None, classes=classes, seed=seed)
    return target, loaders.load(source_data, root=source_root or data_root, size=size, classes=classes, seed=seed, source=True)


def notices_of(task: Task) -> list[str]:
    """What a reader must know before any number."""
    notices = [DRAWN_NOTICE] if task.target.drawn or task.source.drawn else []
    return notices + model_notices(*(model for model in (task.model, task.dropout) if model is not None)) + mixed_groups(task.target)


def mixed_groups(images: LabelledImages) -> list[str]:
    """The groups of several classes in a sentence, since their recall is no recall of a class; no sentence where there are none.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0, 1]), groups=np.array(["darker", "darker"]),
        ...     classes=("cat", "dog"), name="pets")
        >>> mixed_groups(images)[0]
        'Of the groups of pets, darker holds several classes, so its recall is its accuracy; a group column that names the class separates them.'
    """
    mixed = [group for group in images.group_names if len(np.unique(images.labels[images.groups == group])) > 1]
    if not mixed:
        return []
    shown = ", ".join(mixed[:4]) + (f" and {len(mixed) - 4} more" if len(mixed) > 4 else "")
    fact = (
        "holds several classes, so its recall is its accuracy"
        if len(mixed) == 1
        else "hold several classes, so their recall is their accuracy"
    )
    return [f"Of the groups of {images.name}, {shown} {fact}; a group column that names the class separates them."]


def show_plan(task: Task, options: Options, *, as_json: bool) -> None:
    """The plan, its cost in image passes and what that means on this machine, on stdout."""
    heading = (
        f"target: {task.target.name}, {len(task.target):,} images; source: {task.source.name}, {len(task.source):,} images\n"
        f"networks: {task.model.architecture}{' and its dropout-trained rival' if task.dropout else ''}, {options.folds} fold(s){f', {options.rounds} rounds' if options.rounds > 1 else ''}"
    )
    show_passes(task.model.classifier, task.target, plan(task, options), options, heading=heading, as_json=as_json)
