"""`repairkit recall` and `repairkit accuracy`: which filters a class, or all classes, depend on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from repairkit.cli.loading import load_network_and_images
from repairkit.cli.options import (
    check_device,
    model_notices,
    show_passes,
)
from repairkit.cli.runner import NO_REPAIR, Running
from repairkit.data.classes import find_class
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.critical.result import CriticalResult
from repairkit.experiments.critical.run import configuration, find_each, plan_each
from repairkit.experiments.critical.settings import AccuracySettings, RecallSettings
from repairkit.experiments.critical.summary import summarise
from repairkit.experiments.options import Options
from repairkit.run.directory import class_folders, write_critical_runs

SUCCESS = ("repaired", "critical filters found")
"""Outcomes with exit code 0."""


def recall(settings: RecallSettings) -> int:
    """Find the filters that one class depends on; returns the exit code."""
    running = Running.of("recall", settings.model, settings)
    options = settings.options()
    check_device(settings.device)
    running.set_processes(options)
    loaded, images = load_network_and_images(
        settings.model, weights=settings.weights, data_root=settings.data_root, parts=settings.subsets, annotations=settings.annotation_file,
        per_class=settings.max_per_class, narrow=settings.restrict_classes, size=settings.size, mean=settings.mean, std=settings.std,
        device=settings.device, fit=not settings.dry_run, subjects=[settings.class_name],
    )  # fmt: skip
    task = CriticalTask(loaded, images, find_class(settings.class_name, images.classes), settings.repair)
    title = f"Filters that recall of {task.subject} depends on, in {Path(settings.model).stem} on {images.name}"
    return carry_out([task], options, running, title=title)


def accuracy(settings: AccuracySettings) -> int:
    """Find the filters that accuracy depends on; returns the exit code."""
    running = Running.of("accuracy", settings.model, settings)
    options = settings.options()
    check_device(settings.device)
    running.set_processes(options)
    loaded, images = load_network_and_images(
        settings.model, weights=settings.weights, data_root=settings.data_root, parts=settings.subsets, annotations=settings.annotation_file,
        per_class=settings.max_per_class, narrow=settings.restrict_classes, size=settings.size, mean=settings.mean, std=settings.std,
        device=settings.device, fit=not settings.dry_run,
    )  # fmt: skip
    title = f"Filters that accuracy depends on, in {Path(settings.model).stem} on {images.name}"
    return carry_out([CriticalTask(loaded, images, None)], options, running, title=title)


def carry_out(tasks: Sequence[CriticalTask], options: Options, running: Running, *, title: str) -> int:
    """Plan or run a search for critical filters and write its run directory; returns the exit code, 0 if each class has one for success.

    Several classes, of one network and images, have a run directory each, in a folder that is there as a whole or not at all.
    """
    model, images = tasks[0].model, tasks[0].images
    options = running.with_batch(options, model.classifier, images)
    folders = class_folders(tasks)
    several = len(tasks) > 1
    passes = plan_each(tasks, options)
    heading = f"images: {images.name}, {len(images):,} of {len(images.classes):,} classes; network: {model.architecture}"
    if several:
        heading += f"; asked about: {', '.join(str(task.subject) for task in tasks)}"

    def tell(results: list[CriticalResult], place: Path) -> int:
        codes = []
        for task, result, folder in zip(tasks, results, folders, strict=True):
            own, outcome = place / folder, result.verdict.outcome
            otherwise = NO_REPAIR if task.repair else f"all values: repairkit attribution {own}"
            codes.append(
                running.tell(
                    result, own, weights=model.weights, repaired=outcome == "repaired", otherwise=otherwise, success=outcome in SUCCESS
                )
            )
        return max(codes)

    return running.carry_out(
        notices=model_notices(model),
        show_plan=partial(show_passes, model.classifier, images, passes, options, heading=heading, as_json=running.as_json),
        configuration=lambda: configuration(tasks[0], options) | {"class": [task.subject for task in tasks]},
        find=partial(find_each, tasks),
        settings=options,
        summarise=lambda findings, **made: [
            summarise(task, options, found, title=f"{title}: {task.subject}" if several else title, **made)
            for task, found in zip(tasks, findings, strict=True)
        ],
        write=lambda place, findings, results: write_critical_runs(place, folders, tasks, findings, results),
        tell=tell,
    )
