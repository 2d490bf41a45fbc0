"""`repairkit prune`: a smaller network, by the filters that accuracy can do without."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from repairkit.baselines.compare import suited
from repairkit.cli import flags
from repairkit.cli.loading import load_network_and_images
from repairkit.cli.options import (
    model_notices,
    options_of,
    parse_channels,
    parse_parts,
    parse_share,
    parse_t0,
    show_passes,
)
from repairkit.cli.runner import Running
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.critical.command import EMBEDDED_BUDGET, BudgetOption
from repairkit.experiments.options import Options
from repairkit.experiments.pruning.result import PruningResult
from repairkit.experiments.pruning.run import MAX_DROP, SHARES, configuration, dependency_graph_of, plan
from repairkit.experiments.pruning.run import prune as find
from repairkit.experiments.pruning.summary import summarise
from repairkit.models.pruned import WEIGHTS
from repairkit.run.directory import write_pruning_run

SUCCESS = ("pruned", "frozen")
"""Outcomes with exit code 0."""


def prune(
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
    max_drop: Annotated[
        str, typer.Option(help="Guard: one-sided 90 % bound on the fall of accuracy, for instance 1% or 0.01.")
    ] = f"{MAX_DROP:.0%}",
    freeze_only: Annotated[
        bool, typer.Option("--freeze-only", help="Freeze filters and take none out, for networks that Torch-Pruning cannot follow.")
    ] = False,
    engine: flags.Engine = "tmab",
    score: flags.Score = None,
    freeze_at: flags.FreezeAt = "post",
    precision: flags.Precision = "float32",
    budget: BudgetOption = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="How many of the highest filters are looked for by exact flips. [default: 40; 100 for the walks]"),
    ] = None,
    t0: flags.T0 = None,
    truncation: flags.Truncation = None,
    contested: flags.Contested = None,
    compare: flags.Compare = False,
    seed: flags.Seed = 0,
    device: flags.Device = "cpu",
    threads: flags.Threads = None,
    workers: flags.Workers = 1,
    batch: flags.Batch = Options.batch,
    memory: flags.Memory = None,
    out: Annotated[Path | None, typer.Option(help="Run directory. [default: reports/prune-...]")] = None,
    resume: flags.Resume = False,
    as_json: flags.Json = False,
    dry_run: flags.DryRun = False,
) -> int:
    """Freeze the filters that accuracy can do without, take them out of the network, and report what that saves and costs."""
    running = Running(
        f"prune-{Path(model).stem}", out, workers=workers, threads=threads, memory=memory, resume=resume, as_json=as_json, dry_run=dry_run,
    )  # fmt: skip
    options = options_of(
        engine=engine,
        score=score,
        freeze_at=freeze_at,
        precision=precision,
        t0=parse_t0(t0),
        budget=budget or (EMBEDDED_BUDGET if data_root is None else Options.budget),
        ranking="recall",
        top=top,
        truncation=truncation,
        contested=contested,
        max_clean_drop=parse_share("--max-drop", max_drop),
        target_shares=SHARES,
        compare=suited(fairness=False) if compare else (),
        seed=seed,
        device=device,
        batch=batch,
    )
    running.set_processes(options)
    loaded, images = load_network_and_images(
        model, weights=weights, data_root=data_root, parts=parse_parts(parts), annotations=annotations, per_class=per_class, narrow=narrow, size=size,
        mean=parse_channels("--mean", mean), std=parse_channels("--std", std), device=device, fit=not dry_run,
    )  # fmt: skip
    title = f"Pruning of {Path(model).stem} on {images.name}"
    return carry_out(CriticalTask(loaded, images, None), options, running, remove=not freeze_only, title=title)


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
