"""`repairkit fairness`: repair what a network does to subgroups."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from repairkit.baselines.compare import suited
from repairkit.cli import flags
from repairkit.cli.console import say
from repairkit.cli.options import (
    model_notices,
    options_of,
    parse_channels,
    parse_t0,
    show_passes,
)
from repairkit.cli.runner import Running
from repairkit.data import loaders
from repairkit.data.decoding import Crop
from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.experiments.fairness.result import FairnessResult
from repairkit.experiments.fairness.run import Task, configuration, plan, repair
from repairkit.experiments.fairness.summary import summarise
from repairkit.experiments.options import Options
from repairkit.models import zoo
from repairkit.run.directory import write_fairness_run

DRAWN_NOTICE = "The faces are drawn, not photographed: nothing here is evidence about real people or about a network trained on them."
REPAIRED = ("repaired", "no better than the threshold")
"""Outcomes with exit code 0: mean recall rose with an interval above zero."""
DRAWN_BUDGET, DRAWN_TOP, DRAWN_MAX_FILTERS = 4_000, 16, 3
"""Keeps `repairkit fairness` on drawn faces, with two networks, within three minutes on two slow cores."""
DRAWN_SOURCE_COUNTS = (150, 700, 250)
"""Most source images choose: a bound of one point on a fall needs that many to be met at all."""


def fairness(
    model: Annotated[
        str, typer.Option(help="squeezenet_celeba, a torchvision name, or a weights FILE that repairkit train wrote.")
    ] = "squeezenet_celeba",
    weights: Annotated[Path | None, typer.Option(help="Weights for a named model (safetensors or a state dict).")] = None,
    dropout_model: Annotated[
        str | None,
        typer.Option(
            help="A filter-dropout-trained network to compare with; 'none' for none. [default: squeezenet_celeba_dropout for squeezenet_celeba]"
        ),
    ] = None,
    data: Annotated[str, typer.Option(help="Target images: drawn, ppb, utkface, celeba, or a .csv/.parquet manifest.")] = "drawn",
    data_root: Annotated[Path | None, typer.Option(help="Folder of the target images.")] = None,
    source_data: Annotated[
        str | None, typer.Option(help="Source images, of what the network was made for. [default: drawn for drawn]")
    ] = None,
    source_root: Annotated[Path | None, typer.Option(help="Folder of the source images. [default: --data-root]")] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Side of the images in pixels; drawn faces have 96. [default: 96]")] = None,
    crop: Annotated[
        str | None, typer.Option(help="SHARE,HEIGHT: the square to keep of each target image, in place of the loader's default.")
    ] = None,
    engine: flags.Engine = "tmab",
    ranking: Annotated[
        str | None,
        typer.Option(
            help="'recall + source' or 'recall' (the paper's). [default: 'recall + source', 'recall' for tmab-paper and monte-carlo]"
        ),
    ] = None,
    score: flags.Score = None,
    freeze_at: flags.FreezeAt = "post",
    precision: flags.Precision = "float32",
    strategy: flags.Strategy = "forward",
    classes: Annotated[str, typer.Option(help="Class names, by commas, where the weights file does not say.")] = "female,male",
    mean: flags.Mean = None,
    std: flags.Std = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Image passes for the attribution of each network and fold. [default: 20,000; 4,000 for drawn faces without --guarantee]",
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="How many culprits to look for. [default: 40, 16 for drawn faces; 100 for the walks]")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="How many of the most harmful filters choosing tries. [default: 40, 16 for drawn faces]")
    ] = None,
    t0: flags.T0 = None,
    truncation: flags.Truncation = None,
    contested: flags.Contested = None,
    guarantee: flags.Guarantee = None,
    tolerance: flags.Tolerance = None,
    max_filters: Annotated[int | None, typer.Option(min=1, help="Most filters to freeze. [default: 16; 3 for drawn faces]")] = None,
    max_clean_drop: flags.MaxCleanDrop = Options.max_clean_drop,
    folds: Annotated[int, typer.Option(min=1, help="1, or at least 3 to cross-fit.")] = 1,
    rounds: Annotated[
        int,
        typer.Option(
            min=1, help="Find and freeze so often, each time in the network as the last round left it; they share --max-clean-drop."
        ),
    ] = 1,
    stability: Annotated[
        bool,
        typer.Option(
            "--stability",
            help="Also attribute on each half of the images and say how many of 25 to 200 culprits both name; doubles that cost.",
        ),
    ] = False,
    compare: flags.Compare = False,
    alternatives: flags.Alternatives = False,
    seed: flags.Seed = 0,
    device: flags.Device = "cpu",
    threads: flags.Threads = None,
    workers: flags.Workers = 1,
    batch: flags.Batch = Options.batch,
    memory: flags.Memory = None,
    out: Annotated[Path | None, typer.Option(help="Run directory. [default: reports/fairness-...]")] = None,
    resume: flags.Resume = False,
    as_json: flags.Json = False,
    dry_run: flags.DryRun = False,
) -> int:
    """Find the filters that make a network unfair to a subgroup, freeze them, and report before and after."""
    running = Running(
        f"fairness-{Path(model).stem}", out, workers=workers, threads=threads, memory=memory, resume=resume, as_json=as_json, dry_run=dry_run,
    )  # fmt: skip
    quick = data == "drawn" and engine == "tmab"
    options = options_of(
        engine=engine,
        score=score,
        freeze_at=freeze_at,
        precision=precision,
        budget=budget or (DRAWN_BUDGET if quick and guarantee is None else Options.budget),
        top=top or (DRAWN_TOP if quick else None),
        candidates=candidates or (DRAWN_TOP if quick else Options.candidates),
        t0=parse_t0(t0),
        truncation=truncation,
        contested=contested,
        guarantee=guarantee,
        tolerance=tolerance,
        ranking=ranking or ("recall + source" if engine == "tmab" else "recall"),
        strategy=strategy,
        max_filters=max_filters or (DRAWN_MAX_FILTERS if quick else Options.max_filters),
        max_clean_drop=max_clean_drop,
        folds=folds,
        rounds=rounds,
        stability=stability,
        alternatives=alternatives,
        source_counts=DRAWN_SOURCE_COUNTS if (source_data or data) == "drawn" else None,
        compare=suited(fairness=True) if compare else (),
        seed=seed,
        device=device,
        batch=batch,
    )
    running.set_processes(options)
    names = tuple(classes.split(","))
    loaded = zoo.load(
        model, weights=weights, classes=names, mean=parse_channels("--mean", mean), std=parse_channels("--std", std), device=device
    )
    dropout = None if dropout_model == "none" else rival_of(loaded, model, dropout_model, classes=names, device=device)
    target, source = load_data(
        data, data_root, source_data, source_root, size=size, crop=crop, classes=loaded.classifier.classes, seed=seed
    )
    task = Task(loaded, dropout, target, source)
    return carry_out(task, options, running, title=f"Fairness repair of {Path(model).name} on {target.name}")


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
    say("note: no dropout-trained network of the same training is at hand, so none is compared with; name one with --dropout-model")
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
