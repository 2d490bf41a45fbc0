"""`repairkit adversarial`: find and freeze the filters that let an attack through, and be judged by other adversaries."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from repairkit.cli.loading import load_adversaries, load_network_and_images
from repairkit.cli.options import (
    check_device,
    model_notices,
    show_passes,
)
from repairkit.cli.runner import NO_REPAIR, Running
from repairkit.evaluation.splits import some
from repairkit.experiments.adversarial.result import AdversarialResult
from repairkit.experiments.adversarial.run import configuration, plan, repair
from repairkit.experiments.adversarial.settings import AdversarialSettings
from repairkit.experiments.adversarial.summary import summarise
from repairkit.experiments.adversarial.task import AdversarialTask, AttackOptions
from repairkit.experiments.options import Options
from repairkit.run.directory import write_adversarial_run

REPAIRED = ("repaired", "repaired against stored images")
"""Outcomes with exit code 0."""
EMBEDDED_DIGITS = 900


def adversarial(settings: AdversarialSettings) -> int:
    """Repair a network against an attack; returns the exit code."""
    running = Running.of("adversarial", settings.model, settings)
    options, attacks = settings.options(), settings.attack_options()
    check_device(settings.device)
    running.set_processes(options)
    loaded, images = load_network_and_images(
        settings.model, weights=settings.weights, data_root=settings.data_root, parts=settings.subsets, annotations=settings.annotation_file,
        per_class=settings.max_per_class, narrow=settings.restrict_classes, size=settings.size, mean=settings.mean, std=settings.std,
        device=settings.device, fit=not settings.dry_run,
    )  # fmt: skip
    if settings.embedded:
        images = images.subset(some(images, EMBEDDED_DIGITS, seed=settings.seed))
    named = [name.partition("=") for name in settings.transfer_model]
    others = load_adversaries(
        loaded, images, carriers=[(name, Path(file) if file else None) for name, _, file in named] or None,
        elsewhere_root=settings.other_data_root, dropout_model=settings.compare_model, device=settings.device, fit=not settings.dry_run,
    )  # fmt: skip
    title = f"Adversarial repair of {Path(settings.model).stem} on {images.name}"
    return carry_out(AdversarialTask(loaded, images, *others), options, attacks, running, title=title)


def carry_out(task: AdversarialTask, options: Options, attacks: AttackOptions, running: Running, *, title: str) -> int:
    """Plan or run an adversarial repair and write its run directory; returns the exit code."""
    options = running.with_batch(options, task.model.classifier, task.images)
    passes = plan(task, options, attacks)
    heading = f"images: {task.images.name}, {len(task.images):,}; network: {task.model.architecture}; attack: {attacks.method.in_words}"

    def tell(result: AdversarialResult, place: Path) -> int:
        success = result.verdict.outcome in REPAIRED
        tuned = f"repaired and fine-tuned weights: {place / 'repaired.safetensors'}"
        return running.tell(
            result,
            place,
            weights=task.model.weights,
            repaired=success and (place / "patch.json").exists(),
            otherwise=tuned if success else NO_REPAIR,
            success=success,
        )

    return running.carry_out(
        notices=list(dict.fromkeys(model_notices(task.model, *task.others))),
        show_plan=partial(show_passes, task.model.classifier, task.images, passes, options, heading=heading, as_json=running.as_json),
        configuration=partial(configuration, task, options, attacks),
        find=lambda run: repair(task, run, attacks),
        settings=options,
        summarise=partial(summarise, task, options, attacks, title=title),
        write=lambda place, findings, result: write_adversarial_run(place, task, findings, result),
        tell=tell,
    )
