"""`repairkit prune`: a smaller network, by the filters that accuracy can do without."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, cast

import typer

from repairkit.cli.carrying import Running
from repairkit.cli.console import say
from repairkit.cli.critical import EMBEDDED_BUDGET, BudgetOption
from repairkit.cli.loading import load_network_and_images
from repairkit.cli.options import (
    BatchOption,
    ContestedOption,
    DataRootOption,
    DeviceOption,
    DryRunOption,
    EngineOption,
    FreezeAtOption,
    JsonOption,
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
    T0Option,
    ThreadsOption,
    TruncationOption,
    WeightsOption,
    WorkersOption,
    check_device,
    check_place,
    check_workers,
    model_notices,
    parse_channels,
    parse_parts,
    parse_share,
    parse_t0,
    set_threads,
    show_passes,
)
from repairkit.critical import CriticalTask
from repairkit.cutting import WEIGHTS
from repairkit.options import Options, Score
from repairkit.pruning import MAX_DROP, SHARES, configuration, couplings_of, plan
from repairkit.pruning import prune as find
from repairkit.pruning_summary import summarise
from repairkit.rundir import write_pruning_run
from repairkit.shapley import Engine
from repairkit.shapley.model_game import Precision
from repairkit.tracing import FreezeAt
from repairkit.unfinished import kept_setting

SUCCESS = ("pruned", "frozen")
"""Outcomes with exit code 0."""


def prune(
    model: ModelOption = "inception_v3",
    weights: WeightsOption = None,
    data_root: DataRootOption = None,
    parts: PartsOption = None,
    per_class: PerClassOption = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    max_drop: Annotated[
        str, typer.Option(help="Guard: one-sided 90 % bound on the fall of accuracy, for instance 1% or 0.01.")
    ] = f"{MAX_DROP:.0%}",
    freeze_only: Annotated[
        bool, typer.Option("--freeze-only", help="Freeze filters and take none out, for networks that Torch-Pruning cannot follow.")
    ] = False,
    engine: EngineOption = "tmab",
    score: ScoreOption = None,
    freeze_at: FreezeAtOption = "post",
    precision: PrecisionOption = "float32",
    budget: BudgetOption = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="How many of the highest filters are looked for by exact flips. [default: 40; 100 for the walks]"),
    ] = None,
    t0: T0Option = None,
    truncation: TruncationOption = None,
    contested: ContestedOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    workers: WorkersOption = 1,
    batch: BatchOption = Options.batch,
    memory: MemoryOption = None,
    out: Annotated[Path | None, typer.Option(help="Run directory. [default: reports/prune-...]")] = None,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> int:
    """Freeze the filters that accuracy can do without, take them out of the network, and report what that saves and costs."""
    started = time.monotonic()
    check_place(out, resume=resume)
    options = Options(
        engine=cast(Engine, engine),
        score=cast(Score, score or ("smooth" if engine == "tmab" else "hard")),
        freeze_at=cast(FreezeAt, freeze_at),
        precision=cast(Precision, precision),
        t0=parse_t0(t0),
        budget=budget or (EMBEDDED_BUDGET if data_root is None else Options.budget),
        ranking="recall",
        top=top,
        truncation=truncation,
        contested=contested,
        max_clean_drop=parse_share("--max-drop", max_drop),
        target_shares=SHARES,
        seed=seed,
        device=check_device(device),
        batch=batch,
    )
    check_workers(workers, options)
    set_threads(threads or kept_setting(out, "threads"), workers=workers)
    loaded, images = load_network_and_images(
        model, weights=weights, data_root=data_root, parts=parse_parts(parts), per_class=per_class, size=size,
        mean=parse_channels("--mean", mean), std=parse_channels("--std", std), device=device,
    )  # fmt: skip
    return carry_out(
        CriticalTask(loaded, images, None),
        options,
        Running(started, f"prune-{Path(model).stem}", workers, memory, out, resume=resume, as_json=as_json, dry_run=dry_run),
        remove=not freeze_only,
        title=f"Pruning of {Path(model).stem} on {images.name}",
    )


def carry_out(task: CriticalTask, options: Options, running: Running, *, remove: bool, title: str) -> int:
    """Plan or run a pruning and write its run directory; returns the exit code."""
    model, images = task.model, task.images
    passes = plan(task, options)
    if remove:
        couplings_of(task)  # an architecture that cannot be cut is refused before any work
    options = running.with_batch(options, model.classifier, images)
    notices = model_notices(model)
    for notice in notices:
        say(f"note: {notice}")
    if running.dry_run:
        heading = f"images: {images.name}, {len(images):,} of {len(images.classes):,} classes; network: {model.architecture}"
        show_passes(model.classifier, images, passes, options, heading=heading, as_json=running.as_json)
        return 0
    result, place = running.carry_out(
        configuration(task, options, remove=remove),
        find=lambda reporter, unfinished: find(
            task, options, remove=remove, progress=reporter, workers=running.workers, unfinished=unfinished
        ),
        summarise=lambda findings, **made: summarise(task, options, findings, remove=remove, title=title, notices=notices, **made),
        write=lambda place, findings, result: write_pruning_run(place, task, findings, result),
    )
    frozen = f"frozen weights of the ordinary architecture: repairkit apply {place / 'patch.json'} --weights {model.weights}"
    pruned = f"pruned weights: {place / WEIGHTS}; to use them: repairkit.load_pruned({str(place)!r}) in Python"
    steps = {"pruned": f"{pruned}\n{frozen}", "frozen": frozen}
    if result.chosen:
        steps["nothing pruned"] = frozen
    running.tell(
        result,
        place,
        weights=model.weights,
        repaired=False,
        otherwise=steps.get(result.verdict.outcome, "nothing could be pruned: keep the original weights"),
    )
    return 0 if result.verdict.outcome in SUCCESS else 1
