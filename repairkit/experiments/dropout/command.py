"""`repairkit dropout`: what a network and one of the same architecture that was trained with filter dropout depend on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from repairkit.baselines.compare import suited
from repairkit.cli import flags
from repairkit.cli.loading import EMBEDDED_DROPOUT, digits_network, load_network_and_images
from repairkit.cli.options import (
    model_notices,
    options_of,
    parse_channels,
    parse_parts,
    parse_t0,
    show_passes,
)
from repairkit.cli.runner import Running
from repairkit.data import loaders
from repairkit.data import synthetic_faces as drawn
from repairkit.errors import UsageError
from repairkit.experiments.classifier_task import usual_t0
from repairkit.experiments.dropout.run import DropoutTask, configuration, find, plan
from repairkit.experiments.dropout.summary import summarise
from repairkit.experiments.fairness.command import DRAWN_NOTICE
from repairkit.experiments.options import Options
from repairkit.models import embedded, zoo
from repairkit.run.directory import write_dropout_run

EMBEDDED_BUDGET, EMBEDDED_TOP, DRAWN_IMAGES = 2_000, 16, 600
"""Keep `repairkit dropout` with nothing given within two minutes on two free cores; each network has two attributions."""
NO_DROPOUT = (
    "{file} was trained without filter dropout, as its train.json says: this compares two networks, and says nothing about dropout."
)


def dropout(
    model: Annotated[
        str, typer.Option(help="The network trained without: squeezenet_celeba, a torchvision name, or a weights FILE of repairkit train.")
    ] = zoo.CELEBA[0],
    weights: flags.Weights = None,
    dropout_model: Annotated[
        str | None,
        typer.Option(
            help="Its rival of the same architecture, likewise. [default: squeezenet_celeba_dropout for squeezenet_celeba, an embedded one for digits]"
        ),
    ] = None,
    dropout_weights: Annotated[Path | None, typer.Option(help="Weights for a rival given by its architecture's name.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Faces: drawn, ppb, utkface, celeba, or a .csv/.parquet manifest. [default: drawn for squeezenet_celeba]"),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images: for --data that of the faces; else one folder for each class, or an annotation file. [default: embedded digits]"
        ),
    ] = None,
    parts: flags.Parts = None,
    per_class: flags.PerClass = None,
    size: flags.Size = None,
    classes: Annotated[str, typer.Option(help="Class names of --data, by commas, where the weights file does not say.")] = "female,male",
    mean: flags.Mean = None,
    std: flags.Std = None,
    engine: flags.Engine = "tmab",
    score: flags.Score = None,
    freeze_at: flags.FreezeAt = "post",
    precision: flags.Precision = "float32",
    budget: Annotated[
        float | None,
        typer.Option(
            min=1, help=f"Image passes for each network and end. [default: 20,000; {EMBEDDED_BUDGET:,} for drawn faces and embedded digits]"
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"How many filters of each end to look for, and to remove. [default: 40; {EMBEDDED_TOP} for drawn faces and embedded digits; 100 for the walks]",
        ),
    ] = None,
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
    out: Annotated[Path | None, typer.Option(help="Run directory. [default: reports/dropout-...]")] = None,
    resume: flags.Resume = False,
    as_json: flags.Json = False,
    dry_run: flags.DryRun = False,
) -> int:
    """Compare what a network and its dropout-trained rival depend on: values, and accuracy as the highest and lowest filters are removed."""
    running = Running(
        f"dropout-{Path(model).stem}", out, workers=workers, threads=threads, memory=memory, resume=resume, as_json=as_json, dry_run=dry_run,
    )  # fmt: skip
    data = data or ("drawn" if model in zoo.CELEBA and data_root is None else None)
    quick = engine == "tmab" and guarantee is None and (data == "drawn" or (data is None and data_root is None))
    options = options_of(
        engine=engine,
        score=score,
        freeze_at=freeze_at,
        precision=precision,
        budget=budget or (EMBEDDED_BUDGET if quick else Options.budget),
        top=top or (EMBEDDED_TOP if quick else None),
        t0=parse_t0(t0, settles=True) if t0 else usual_t0(engine, "recall", of_class=False),
        truncation=truncation,
        contested=contested,
        guarantee=guarantee,
        tolerance=tolerance,
        ranking="recall",  # the worth has one part
        compare=suited(fairness=False) if compare else (),
        seed=seed,
        device=device,
        batch=batch,
    )
    running.set_processes(options)
    channels = {"mean": parse_channels("--mean", mean), "std": parse_channels("--std", std)}
    if data is not None:
        if given := [name for name, value in (("--parts", parts), ("--per-class", per_class)) if value is not None]:
            raise UsageError(f"{given[0]} goes with class folders, got it with --data {data}; leave one of them out")
        task = face_task(
            model, weights, dropout_model, dropout_weights, data, data_root,
            size=size, classes=tuple(classes.split(",")), seed=seed, device=device, **channels,
        )  # fmt: skip
    else:
        task = folder_task(
            model, weights, dropout_model, dropout_weights, data_root,
            parts=parse_parts(parts), per_class=per_class, size=size, device=device, fit=not dry_run, **channels,
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
            "give --dropout-model: weights of the same architecture trained with filter dropout, for instance by repairkit train --filter-dropout"
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
