"""`repairkit prune`: a smaller network, by the filters that accuracy can do without."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from repairkit.cli.loading import load_network_and_images
from repairkit.cli.options import (
    check_device,
    model_notices,
    show_passes,
)
from repairkit.cli.runner import Running
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.options import Options
from repairkit.experiments.pruning.result import PruningResult
from repairkit.experiments.pruning.run import configuration, dependency_graph_of, plan
from repairkit.experiments.pruning.run import prune as find
from repairkit.experiments.pruning.settings import PruningSettings
from repairkit.experiments.pruning.summary import summarise
from repairkit.models.pruned import WEIGHTS
from repairkit.run.directory import write_pruning_run

SUCCESS = ("pruned", "frozen")
"""Outcomes with exit code 0."""


def prune(settings: PruningSettings) -> int:
    """Make a network smaller; returns the exit code."""
    running = Running.of("prune", settings.model, settings)
    options = settings.options()
    check_device(settings.device)
    running.set_processes(options)
    loaded, images = load_network_and_images(
        settings.model, weights=settings.weights, data_root=settings.data_root, parts=settings.subsets, annotations=settings.annotation_file,
        per_class=settings.max_per_class, narrow=settings.restrict_classes, size=settings.size, mean=settings.mean, std=settings.std,
        device=settings.device, fit=not settings.dry_run,
    )  # fmt: skip
    title = f"Pruning of {Path(settings.model).stem} on {images.name}"
    return carry_out(CriticalTask(loaded, images, None), options, running, remove=settings.structural_pruning, title=title)


def carry_out(task: CriticalTask, options: Options, running: Running, *, remove: bool, title: str) -> int:
    """Plan or run a pruning and write its run directory; returns the exit code."""
    model, images = task.model, task.images
    passes = plan(task, options)
    if remove:
        dependency_graph_of(task)  # an architecture that cannot be cut is refused before any work
    options = running.with_batch(options, model.classifier, images)
    heading = f"images: {images.name}, {len(images):,} of {len(images.classes):,} classes; network: {model.architecture}"

    def tell(result: PruningResult, place: Path) -> int:
        frozen = f"frozen weights of the ordinary architecture: repairkit apply {place / 'patch.json'} --weights {model.weights}"
        pruned = f"pruned weights: {place / WEIGHTS}; to use them: repairkit.load_pruned({str(place)!r}) in Python"
        steps = {"pruned": f"{pruned}\n{frozen}", "frozen": frozen}
        if result.extra.chosen:
            steps["nothing pruned"] = frozen
        outcome = result.verdict.outcome
        otherwise = steps.get(outcome, "nothing could be pruned: keep the original weights")
        return running.tell(result, place, weights=model.weights, otherwise=otherwise, success=outcome in SUCCESS)

    return running.carry_out(
        notices=model_notices(model),
        show_plan=partial(show_passes, model.classifier, images, passes, options, heading=heading, as_json=running.as_json),
        configuration=partial(configuration, task, options, remove=remove),
        find=partial(find, task, remove=remove),
        settings=options,
        summarise=partial(summarise, task, options, remove=remove, title=title),
        write=lambda place, findings, result: write_pruning_run(place, task, findings, result),
        tell=tell,
    )
