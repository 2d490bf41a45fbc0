"""`repairkit recall` and `repairkit accuracy`: which filters a class, or all classes, depend on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from repairkit.cli.carrying import Running
from repairkit.cli.console import say
from repairkit.cli.loading import load_network_and_images
from repairkit.cli.options import (
    BatchOption,
    CompareOption,
    ContestedOption,
    DataRootOption,
    DeviceOption,
    DryRunOption,
    EngineOption,
    FreezeAtOption,
    GuaranteeOption,
    JsonOption,
    MaxCleanDropOption,
    MeanOption,
    MemoryOption,
    ModelOption,
    PartsOption,
    PerClassOption,
    PrecisionOption,
    ResumeOption,
    ScoreOption,
    SeedOption,
    SizeOption,
    StdOption,
    StrategyOption,
    T0Option,
    ThreadsOption,
    ToleranceOption,
    TruncationOption,
    WeightsOption,
    WorkersOption,
    check_device,
    check_place,
    check_workers,
    model_notices,
    parse_channels,
    parse_parts,
    parse_t0,
    set_threads,
    show_passes,
)
from repairkit.comparing import suited
from repairkit.critical import CRITICAL_T0, CriticalTask, configuration, find_each, plan_each
from repairkit.critical_summary import summarise
from repairkit.data.classes import find_class
from repairkit.options import Options, Score
from repairkit.repair import Strategy
from repairkit.rundir import class_folders, write_critical_runs
from repairkit.shapley import Engine
from repairkit.shapley.model_game import Precision
from repairkit.tracing import FreezeAt
from repairkit.unfinished import kept_setting

EMBEDDED_BUDGET = 6_000
"""Image passes for the embedded default, which is there to be tried."""
SUCCESS = ("repaired", "critical filters found")
"""Outcomes with exit code 0."""

BudgetOption = Annotated[
    float | None, typer.Option(min=1, help=f"Image passes for each attribution. [default: 20,000; {EMBEDDED_BUDGET:,} for digits]")
]
TopOption = Annotated[
    int | None,
    typer.Option(min=1, help="How many critical filters to look for, and to remove one by one. [default: 40; 100 for the walks]"),
]
OutOption = Annotated[Path | None, typer.Option(help="Run directory. [default: reports/recall-... or accuracy-...]")]


def recall(
    subject: Annotated[str, typer.Option("--class", help="Name of the class.")],
    model: ModelOption = "inception_v3",
    weights: WeightsOption = None,
    data_root: DataRootOption = None,
    parts: PartsOption = None,
    per_class: PerClassOption = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    engine: EngineOption = "tmab",
    score: ScoreOption = None,
    freeze_at: FreezeAtOption = "post",
    precision: PrecisionOption = "float32",
    budget: BudgetOption = None,
    top: TopOption = None,
    t0: T0Option = None,
    truncation: TruncationOption = None,
    contested: ContestedOption = None,
    guarantee: GuaranteeOption = None,
    tolerance: ToleranceOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="Also freeze the class's culprits: filters of negative value.")] = False,
    strategy: StrategyOption = "forward",
    candidates: Annotated[int, typer.Option(min=1, help="How many of the most harmful filters a repair tries.")] = Options.candidates,
    max_filters: Annotated[int, typer.Option(min=1, help="Most filters that a repair freezes.")] = Options.max_filters,
    max_clean_drop: MaxCleanDropOption = Options.max_clean_drop,
    compare: CompareOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    workers: WorkersOption = 1,
    batch: BatchOption = Options.batch,
    memory: MemoryOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> int:
    """Find the filters that one class depends on, show what removing them does to it and to the others, and repair it if asked to."""
    started = time.monotonic()
    check_place(out, resume=resume)
    options = _options(
        engine, score, freeze_at, precision, t0, budget=budget, digits=data_root is None, top=top, truncation=truncation, contested=contested,
        guarantee=guarantee, tolerance=tolerance, strategy=cast(Strategy, strategy), candidates=candidates, max_filters=max_filters,
        max_clean_drop=max_clean_drop, compare=suited(fairness=False) if compare else (), seed=seed, device=check_device(device), batch=batch,
    )  # fmt: skip
    check_workers(workers, options)
    set_threads(threads or kept_setting(out, "threads"), workers=workers)
    loaded, images = load_network_and_images(
        model, weights=weights, data_root=data_root, parts=parse_parts(parts), per_class=per_class, size=size,
        mean=parse_channels("--mean", mean), std=parse_channels("--std", std), device=device,
    )  # fmt: skip
    task = CriticalTask(loaded, images, find_class(subject, images.classes), repair)
    return carry_out(
        [task],
        options,
        Running(started, f"recall-{Path(model).stem}", workers, memory, out, resume=resume, as_json=as_json, dry_run=dry_run),
        title=f"Filters that recall of {task.subject} depends on, in {Path(model).stem} on {images.name}",
    )


def accuracy(
    model: ModelOption = "inception_v3",
    weights: WeightsOption = None,
    data_root: DataRootOption = None,
    parts: PartsOption = None,
    per_class: PerClassOption = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    engine: EngineOption = "tmab",
    score: ScoreOption = None,
    freeze_at: FreezeAtOption = "post",
    precision: PrecisionOption = "float32",
    budget: BudgetOption = None,
    top: TopOption = None,
    t0: T0Option = None,
    truncation: TruncationOption = None,
    contested: ContestedOption = None,
    guarantee: GuaranteeOption = None,
    tolerance: ToleranceOption = None,
    compare: CompareOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    workers: WorkersOption = 1,
    batch: BatchOption = Options.batch,
    memory: MemoryOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> int:
    """Find the filters that a network's accuracy depends on, and show what removing them does."""
    started = time.monotonic()
    check_place(out, resume=resume)
    options = _options(
        engine, score, freeze_at, precision, t0, budget=budget, digits=data_root is None, top=top, truncation=truncation, contested=contested,
        guarantee=guarantee, tolerance=tolerance, compare=suited(fairness=False) if compare else (), seed=seed, device=check_device(device), batch=batch,
    )  # fmt: skip
    check_workers(workers, options)
    set_threads(threads or kept_setting(out, "threads"), workers=workers)
    loaded, images = load_network_and_images(
        model, weights=weights, data_root=data_root, parts=parse_parts(parts), per_class=per_class, size=size,
        mean=parse_channels("--mean", mean), std=parse_channels("--std", std), device=device,
    )  # fmt: skip
    return carry_out(
        [CriticalTask(loaded, images, None)],
        options,
        Running(started, f"accuracy-{Path(model).stem}", workers, memory, out, resume=resume, as_json=as_json, dry_run=dry_run),
        title=f"Filters that accuracy depends on, in {Path(model).stem} on {images.name}",
    )


def _options(
    engine: str, score: str | None, freeze_at: str, precision: str, t0: str | None, *, budget: float | None, digits: bool, **others: object
) -> Options:
    """The options of a run; the worth has one part."""
    return Options(
        engine=cast(Engine, engine),
        score=cast(Score, score or ("smooth" if engine == "tmab" else "hard")),
        freeze_at=cast(FreezeAt, freeze_at),
        precision=cast(Precision, precision),
        t0=parse_t0(t0) if t0 or engine != "tmab" else CRITICAL_T0,
        budget=budget or (EMBEDDED_BUDGET if digits and others.get("guarantee") is None else Options.budget),
        ranking="recall",
        **others,  # type: ignore[arg-type]
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
    notices = model_notices(model)
    for notice in notices:
        say(f"note: {notice}")
    if running.dry_run:
        heading = f"images: {images.name}, {len(images):,} of {len(images.classes):,} classes; network: {model.architecture}"
        if several:
            heading += f"; asked about: {', '.join(str(task.subject) for task in tasks)}"
        show_passes(model.classifier, images, passes, options, heading=heading, as_json=running.as_json)
        return 0
    results, place = running.carry_out(
        configuration(tasks[0], options) | {"class": [task.subject for task in tasks]},
        find=lambda reporter, unfinished: find_each(tasks, options, progress=reporter, workers=running.workers, unfinished=unfinished),
        summarise=lambda findings, **made: [
            summarise(task, options, found, title=f"{title}: {task.subject}" if several else title, notices=notices, **made)
            for task, found in zip(tasks, findings, strict=True)
        ],
        write=lambda place, findings, results: write_critical_runs(place, folders, tasks, findings, results),
    )
    for task, result, folder in zip(tasks, results, folders, strict=True):
        own = place / folder
        otherwise = "no repair was worth making: keep the original weights" if task.repair else f"all values: repairkit attribution {own}"
        running.tell(result, own, weights=model.weights, repaired=result.verdict.outcome == "repaired", otherwise=otherwise)
    return 0 if all(result.verdict.outcome in SUCCESS for result in results) else 1
