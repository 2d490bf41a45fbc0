"""`repairkit recall` and `repairkit accuracy`: which filters a class, or all classes, depend on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from repairkit.baselines.compare import suited
from repairkit.cli import flags
from repairkit.cli.loading import load_network_and_images
from repairkit.cli.options import (
    model_notices,
    options_of,
    parse_channels,
    parse_parts,
    parse_t0,
    show_passes,
)
from repairkit.cli.runner import NO_REPAIR, Running
from repairkit.data.classes import find_class
from repairkit.experiments.classifier_task import CriticalTask, class_ranking, usual_t0
from repairkit.experiments.critical.result import CriticalResult
from repairkit.experiments.critical.run import configuration, find_each, plan_each
from repairkit.experiments.critical.summary import summarise
from repairkit.experiments.options import Options
from repairkit.run.directory import class_folders, write_critical_runs

EMBEDDED_BUDGET = 6_000
"""Image passes for the embedded default, which is there to be tried."""
SUCCESS = ("repaired", "critical filters found")
"""Outcomes with exit code 0."""

BudgetOption = Annotated[
    float | None, typer.Option(min=1, help=f"Image passes for each attribution. [default: 20,000; {EMBEDDED_BUDGET:,} for digits]")
]
TopOption = Annotated[
    int | None,
    typer.Option(min=1, help="How many critical filters to look for, and to remove. [default: 40; 100 for the walks]"),
]
RankingOption = Annotated[
    str | None,
    typer.Option(
        help="specific (value for the class less what the other classes lose) or recall (of the class alone, the paper's). "
        "[default: specific, recall for tmab-paper and monte-carlo and with a guarantee]"
    ),
]
SpareOption = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="With --ranking specific: the most that the mean recall of the other classes may fall, a share (one-sided 90 % bound).",
    ),
]
OutOption = Annotated[Path | None, typer.Option(help="Run directory. [default: reports/recall-... or accuracy-...]")]


def recall(
    subject: Annotated[str, typer.Option("--class", help="Name of the class.")],
    model: flags.Model = "inception_v3",
    weights: flags.Weights = None,
    data_root: flags.DataRoot = None,
    parts: flags.Parts = None,
    annotations: flags.Annotations = None,
    per_class: flags.PerClass = None,
    narrow: flags.Narrow = False,
    size: flags.Size = None,
    mean: flags.Mean = None,
    std: flags.Std = None,
    engine: flags.Engine = "tmab",
    ranking: RankingOption = None,
    spare: SpareOption = Options.spare,
    score: flags.Score = None,
    freeze_at: flags.FreezeAt = "post",
    precision: flags.Precision = "float32",
    budget: BudgetOption = None,
    top: TopOption = None,
    t0: flags.T0 = None,
    truncation: flags.Truncation = None,
    contested: flags.Contested = None,
    guarantee: flags.Guarantee = None,
    tolerance: flags.Tolerance = None,
    repair: Annotated[bool, typer.Option("--repair", help="Also freeze the class's culprits: filters of negative value.")] = False,
    strategy: flags.Strategy = "forward",
    candidates: Annotated[int, typer.Option(min=1, help="How many of the most harmful filters a repair tries.")] = Options.candidates,
    max_filters: Annotated[int, typer.Option(min=1, help="Most filters that a repair freezes.")] = Options.max_filters,
    max_clean_drop: flags.MaxCleanDrop = Options.max_clean_drop,
    compare: flags.Compare = False,
    seed: flags.Seed = 0,
    device: flags.Device = "cpu",
    threads: flags.Threads = None,
    workers: flags.Workers = 1,
    batch: flags.Batch = Options.batch,
    memory: flags.Memory = None,
    out: OutOption = None,
    resume: flags.Resume = False,
    as_json: flags.Json = False,
    dry_run: flags.DryRun = False,
) -> int:
    """Find the filters that one class depends on, show what removing them does to it and to the others, and repair it if asked to."""
    running = Running(
        f"recall-{Path(model).stem}", out, workers=workers, threads=threads, memory=memory, resume=resume, as_json=as_json, dry_run=dry_run,
    )  # fmt: skip
    options = _options(
        engine=engine, ranking=class_ranking(ranking, engine, guarantee), of_class=True, spare=spare, score=score, freeze_at=freeze_at, precision=precision, t0=t0, budget=budget,
        digits=data_root is None, top=top, truncation=truncation, contested=contested, guarantee=guarantee, tolerance=tolerance, strategy=strategy, candidates=candidates,
        max_filters=max_filters, max_clean_drop=max_clean_drop, compare=suited(fairness=False) if compare else (), seed=seed, device=device, batch=batch,
    )  # fmt: skip
    running.set_processes(options)
    loaded, images = load_network_and_images(
        model, weights=weights, data_root=data_root, parts=parse_parts(parts), annotations=annotations, per_class=per_class, narrow=narrow, size=size,
        mean=parse_channels("--mean", mean), std=parse_channels("--std", std), device=device, subjects=[subject], fit=not dry_run,
    )  # fmt: skip
    task = CriticalTask(loaded, images, find_class(subject, images.classes), repair)
    return carry_out(
        [task],
        options,
        running,
        title=f"Filters that recall of {task.subject} depends on, in {Path(model).stem} on {images.name}",
    )


def accuracy(
    model: flags.Model = "inception_v3",
    weights: flags.Weights = None,
    data_root: flags.DataRoot = None,
    parts: flags.Parts = None,
    annotations: flags.Annotations = None,
    per_class: flags.PerClass = None,
    narrow: flags.Narrow = False,
    size: flags.Size = None,
    mean: flags.Mean = None,
    std: flags.Std = None,
    engine: flags.Engine = "tmab",
    score: flags.Score = None,
    freeze_at: flags.FreezeAt = "post",
    precision: flags.Precision = "float32",
    budget: BudgetOption = None,
    top: TopOption = None,
    t0: flags.SettledT0 = None,
    truncation: flags.Truncation = None,
    contested: flags.Contested = None,
    guarantee: flags.Guarantee = None,
    tolerance: flags.Tolerance = None,
    compare: flags.Compare = False,
    seed: flags.Seed = 0,
    device: flags.Device = "cpu",
    threads: flags.Threads = None,
    workers: flags.Workers = 1,
    batch: flags.Batch = Options.batch,
    memory: flags.Memory = None,
    out: OutOption = None,
    resume: flags.Resume = False,
    as_json: flags.Json = False,
    dry_run: flags.DryRun = False,
) -> int:
    """Find the filters that a network's accuracy depends on, and show what removing them does."""
    running = Running(
        f"accuracy-{Path(model).stem}", out, workers=workers, threads=threads, memory=memory, resume=resume, as_json=as_json, dry_run=dry_run,
    )  # fmt: skip
    options = _options(
        engine=engine, ranking="recall", of_class=False, score=score, freeze_at=freeze_at, precision=precision, t0=t0, budget=budget, digits=data_root is None, top=top,
        truncation=truncation, contested=contested, guarantee=guarantee, tolerance=tolerance,
        compare=suited(fairness=False) if compare else (), seed=seed, device=device, batch=batch,
    )  # fmt: skip
    running.set_processes(options)
    loaded, images = load_network_and_images(
        model, weights=weights, data_root=data_root, parts=parse_parts(parts), annotations=annotations, per_class=per_class, narrow=narrow, size=size,
        mean=parse_channels("--mean", mean), std=parse_channels("--std", std), device=device, fit=not dry_run,
    )  # fmt: skip
    return carry_out(
        [CriticalTask(loaded, images, None)],
        options,
        running,
        title=f"Filters that accuracy depends on, in {Path(model).stem} on {images.name}",
    )


def _options(*, engine: str, ranking: str, of_class: bool, t0: str | None, budget: float | None, digits: bool, **others: Any) -> Options:
    """The options of a run."""
    return options_of(
        engine=engine,
        ranking=ranking,
        t0=parse_t0(t0, settles=not of_class) if t0 else usual_t0(engine, ranking, of_class=of_class),
        budget=budget or (EMBEDDED_BUDGET if digits and others.get("guarantee") is None else Options.budget),
        **others,
    )


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
