"""`repairkit fairness`: repair what a network does to subgroups."""

from __future__ import annotations

import json
import shlex
import sys
import time
import warnings
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import torch
import typer

from repairkit.cli.console import Reporter, say, show_result
from repairkit.cores import free_cores
from repairkit.data import loaders
from repairkit.data.images import LabelledImages
from repairkit.data.store import Crop
from repairkit.errors import ModelWarning, UsageError
from repairkit.fairness import Task, configuration, outputs, plan, repair
from repairkit.memory import available, images_that_fit
from repairkit.models import zoo
from repairkit.options import LARGEST_SEED, Options, Ranking, Score
from repairkit.repair import Strategy
from repairkit.report.result import Result
from repairkit.rundir import require_free, write_fairness_run
from repairkit.shapley import Engine
from repairkit.shapley.model_game import Precision
from repairkit.shapley.star import TOLERANCE
from repairkit.summary import summarise
from repairkit.tracing import FreezeAt
from repairkit.unfinished import Unfinished, check_resumable, kept_setting, place_beside

DRAWN_NOTICE = "The faces are drawn, not photographed: nothing here is evidence about real people or about a network trained on them."
ASSUMED_NOTICE = (
    "{file} does not say how images are normalised for its network, so ImageNet's mean and standard deviation were taken; "
    "every number is wrong if it was trained with others: --mean and --std give them."
)
REPAIRED = ("repaired", "no better than the threshold")
"""Outcomes with exit code 0: mean recall rose with an interval above zero."""
DRAWN_BUDGET, DRAWN_TOP, DRAWN_MAX_FILTERS = 4_000, 16, 3
"""Keeps `repairkit fairness` on drawn faces, with two networks, within three minutes on two slow cores."""
DRAWN_SOURCE_COUNTS = (150, 700, 250)
"""Most source images choose: a bound of one point on a fall needs that many to be met at all."""
WORKERS_HELP = "Processes that attribute (tmab), each with --threads threads; any number gives the same bits."
THREADS_HELP = "CPU threads of each process; by default the cores that other work leaves free by the load average, at least 1, shared out among --workers."
BATCH_HELP = "Most images of a pass; a GPU is faster with more, such as 256."
MEMORY_HELP = "GiB that a pass may take; it carries fewer images where they do not fit. [default: half of what is free]"
RESUME_HELP = "Go on with the run of this --out that did not finish; give the same options."
CELEBA = ("squeezenet_celeba", "squeezenet_celeba_dropout")


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
    engine: Annotated[str, typer.Option(help="tmab, tmab-paper or monte-carlo.")] = "tmab",
    ranking: Annotated[
        str | None,
        typer.Option(
            help="'recall + source' or 'recall' (the paper's). [default: 'recall + source', 'recall' for tmab-paper and monte-carlo]"
        ),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="smooth (mean probability of the label) or hard (share of correct images, the paper's). [default: smooth, hard for tmab-paper and monte-carlo]"
        ),
    ] = None,
    freeze_at: Annotated[str, typer.Option(help="post or pre: constants after or before the ReLU.")] = "post",
    precision: Annotated[
        str,
        typer.Option(
            help="float32, or bfloat16 for the passes of the attribution, faster on hardware made for it; what is reported is always measured in float32."
        ),
    ] = "float32",
    strategy: Annotated[str, typer.Option(help="forward selection, or prefix (the paper's).")] = "forward",
    classes: Annotated[str, typer.Option(help="Class names, by commas, where the weights file does not say.")] = "female,male",
    mean: Annotated[
        str | None,
        typer.Option(
            help="R,G,B that the network's images in [0, 1] are normalised with, where its file does not say. [default: ImageNet's]"
        ),
    ] = None,
    std: Annotated[str | None, typer.Option(help="R,G,B, likewise.")] = None,
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
    t0: Annotated[
        str | None,
        typer.Option(
            help="Least share of filters that stays live (tmab); 0 is the Shapley value, auto measures where the network dies. [default: 0.97]"
        ),
    ] = None,
    truncation: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Worth below which a permutation ends (tmab-paper, monte-carlo); 0 for none. [default: 0.6 for each part of the worth, 0.2 with more than two classes]",
        ),
    ] = None,
    contested: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many filters of the screen are flipped (tmab); with --guarantee of each end, where half of all or more means all, unscreened. [default: 3 x top]",
        ),
    ] = None,
    guarantee: Annotated[
        float | None,
        typer.Option(
            help="DELTA: say which filters are truly among the lowest and highest, wrong with this probability at most (tmab). Needs many passes."
        ),
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help=f"Of the guarantee, relative to the k-th value; smaller separates more. [default: {TOLERANCE}]")
    ] = None,
    max_filters: Annotated[int | None, typer.Option(min=1, help="Most filters to freeze. [default: 16; 3 for drawn faces]")] = None,
    max_clean_drop: Annotated[
        float, typer.Option(min=0, max=1, help="Guard: one-sided 90 % bound on the fall of source accuracy, a share.")
    ] = Options.max_clean_drop,
    folds: Annotated[int, typer.Option(min=1, help="1, or at least 3 to cross-fit.")] = 1,
    stability: Annotated[
        bool,
        typer.Option(
            "--stability",
            help="Also attribute on each half of the images and say how many of 25 to 200 culprits both name; doubles that cost.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED)] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help=THREADS_HELP)] = None,
    workers: Annotated[int, typer.Option(min=1, help=WORKERS_HELP)] = 1,
    batch: Annotated[int, typer.Option(min=1, help=BATCH_HELP)] = Options.batch,
    memory: Annotated[float | None, typer.Option(min=0, help=MEMORY_HELP)] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory. [default: reports/fairness-...]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help=RESUME_HELP)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json on stdout.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the plan and what it costs (with --json as JSON), and stop.")] = False,
) -> int:
    """Find the filters that make a network unfair to a subgroup, freeze them, and report before and after."""
    check_place(out, resume=resume)
    started = time.monotonic()
    quick = data == "drawn" and engine == "tmab"
    options = Options(
        engine=cast(Engine, engine),
        budget=budget or (DRAWN_BUDGET if quick and guarantee is None else Options.budget),
        top=top or (DRAWN_TOP if quick else None),
        candidates=candidates or (DRAWN_TOP if quick else Options.candidates),
        t0=parse_t0(t0),
        truncation=truncation,
        contested=contested,
        guarantee=guarantee,
        tolerance=tolerance,
        ranking=cast(Ranking, ranking or ("recall + source" if engine == "tmab" else "recall")),
        score=cast(Score, score or ("smooth" if engine == "tmab" else "hard")),
        freeze_at=cast(FreezeAt, freeze_at),
        precision=cast(Precision, precision),
        strategy=cast(Strategy, strategy),
        max_filters=max_filters or (DRAWN_MAX_FILTERS if quick else Options.max_filters),
        max_clean_drop=max_clean_drop,
        folds=folds,
        stability=stability,
        source_counts=DRAWN_SOURCE_COUNTS if (source_data or data) == "drawn" else None,
        seed=seed,
        device=check_device(device),
        batch=batch,
    )
    check_workers(workers, options)
    set_threads(threads or kept_setting(out, "threads"), workers=workers)
    names = tuple(classes.split(","))
    loaded = zoo.load(
        model, weights=weights, classes=names, mean=parse_channels("--mean", mean), std=parse_channels("--std", std), device=device
    )
    dropout = None if dropout_model == "none" else rival_of(loaded, model, dropout_model, classes=names, device=device)
    target, source = load_data(
        data, data_root, source_data, source_root, size=size, crop=crop, classes=loaded.classifier.classes, seed=seed
    )
    task = Task(loaded, dropout, target, source)
    return carry_out(
        task,
        options,
        started=started,
        name=f"fairness-{Path(model).stem}",
        title=f"Fairness repair of {Path(model).name} on {target.name}",
        workers=workers,
        memory=memory,
        out=out,
        resume=resume,
        as_json=as_json,
        dry_run=dry_run,
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
    say("note: no dropout-trained network of the same training is at hand, so none is compared with; name one with --dropout-model")
    return None


def carry_out(
    task: Task,
    options: Options,
    *,
    started: float,
    name: str,
    title: str,
    workers: int,
    memory: float | None,
    out: Path | None,
    resume: bool,
    as_json: bool,
    dry_run: bool,
) -> int:
    """Plan or run a fairness repair and write its run directory; returns the exit code.

    Until the run directory stands, its work is kept beside it, and an error or an interrupt carries the command that goes on.
    """
    options = replace(options, batch=kept_setting(out, "batch") or batch_within(memory, task, options, workers=workers))
    notices = notices_of(task)
    for notice in notices:
        say(f"note: {notice}")
    if dry_run:
        show_plan(task, options, as_json=as_json)
        return 0
    place = out or Path("reports") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    check_place(place, resume=resume)
    unfinished = Unfinished(place, configuration(task, options), command=resume_command(sys.argv[1:], place, out_given=out is not None))
    earlier = sum(unfinished.seconds().values())
    with unfinished.told():
        with Reporter().running() as reporter:
            findings = repair(task, options, progress=reporter, workers=workers, unfinished=unfinished)
        result = summarise(
            task,
            options,
            findings,
            title=title,
            command=f"repairkit {shlex.join(each for each in sys.argv[1:] if each != '--resume')}",
            minutes=(earlier + time.monotonic() - started) / 60,
            notices=notices,
        )
        write_fairness_run(place, task, findings, result)
    unfinished.remove()
    tell_result(result, place, weights=task.model.weights, as_json=as_json)
    return 0 if result.verdict.outcome in REPAIRED else 1


def batch_within(memory: float | None, task: Task, options: Options, *, workers: int) -> int:
    """Images of a pass: those asked for, or as many as each worker's share of the memory holds, with a warning.

    The memory is in GiB, half of what is free by default.
    """
    budget = (available(options.device) / 2 if memory is None else memory * 2**30) / workers
    image = task.target.batch(np.array([0])).to(options.device)
    fit = images_that_fit(task.model.classifier.to(options.device), image, budget=budget)
    if fit < options.batch:
        shown = f"{budget / 2**30:.2g} GiB of memory {'hold' if fit > 1 else 'holds'}"
        warnings.warn(
            f"passes carry {fit} images and not {options.batch}, as many as {shown}; --memory sets it", ModelWarning, stacklevel=2
        )
    return min(fit, options.batch)


def resume_command(arguments: list[str], place: Path, *, out_given: bool) -> str:
    """What the user types to go on with a run of these arguments.

    Example:
        >>> resume_command(["fairness", "--data", "my people.csv"], Path("reports/a"), out_given=False)
        "repairkit fairness --data 'my people.csv' --out reports/a --resume"
    """
    more = [] if out_given else ["--out", str(place)]
    return f"repairkit {shlex.join([each for each in arguments if each != '--resume'] + more + ['--resume'])}"


def tell_result(result: Result, place: Path, *, weights: Path, as_json: bool) -> None:
    """The result on stdout, what to do next on stderr."""
    if as_json:
        print(result.model_dump_json(indent=1))  # noqa: T201
    else:
        show_result(result)
    say(f"report: {place / 'report.html'}")
    if any(each.column == "repaired" for each in result.frozen) and result.verdict.outcome in REPAIRED:
        say(
            f"repaired weights: {place / 'repaired.safetensors'}; to repair a copy elsewhere: repairkit apply {place / 'patch.json'} --weights {weights}"
        )
    else:
        say("no repair was worth making: keep the original weights")


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
    models = [model for model in (task.model, task.dropout) if model is not None]
    stand_ins = [model.provenance for model in models if model.stand_in]
    assumed = [ASSUMED_NOTICE.format(file=model.weights.name) for model in models if model.assumed_normalisation]
    return notices + stand_ins + assumed + mixed_groups(task.target)


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
    some = task.target.subset(np.arange(min(64, len(task.target))))
    outputs(task.model.classifier, some, options)
    started = time.perf_counter()
    outputs(task.model.classifier, some, options)
    speed = len(some) / (time.perf_counter() - started)
    passes = plan(task, options)
    if as_json:
        print(json.dumps({"passes": passes, "passes_a_second": speed, "minutes": sum(passes.values()) / speed / 60}))  # noqa: T201
        return
    print(f"target: {task.target.name}, {len(task.target):,} images; source: {task.source.name}, {len(task.source):,} images")  # noqa: T201
    print(f"networks: {task.model.architecture}{' and its dropout-trained rival' if task.dropout else ''}, {options.folds} fold(s)")  # noqa: T201
    for part, number in passes.items():
        print(f"{part:12s} {number:12,.0f} image passes")  # noqa: T201
    total = sum(passes.values())
    print(f"{'in all':12s} {total:12,.0f} image passes, about {total / speed / 60:.0f} minutes at {speed:,.0f} passes a second")  # noqa: T201


def parse_t0(text: str | None) -> float | Literal["auto"] | None:
    """The live zone as given on the command line.

    Raises:
        UsageError: neither a number nor "auto".

    Example:
        >>> parse_t0("0.9"), parse_t0("auto"), parse_t0(None)
        (0.9, 'auto', None)
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"t0 must be a number from 0 to 0.999, or auto, got {text!r}") from None


def parse_channels(option: str, text: str | None) -> tuple[float, ...] | None:
    """Numbers by commas as given on the command line; how many and which they may be, `zoo.load` checks.

    Raises:
        UsageError: one is no number.

    Example:
        >>> parse_channels("--mean", "0.5,0.5,0.5")
        (0.5, 0.5, 0.5)
    """
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise UsageError(f"{option} must be three numbers by commas such as 0.5,0.5,0.5, got {text!r}") from None


def check_device(device: str) -> str:
    """A device that is there.

    Raises:
        UsageError: another name, or a CUDA device that is not there.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device was found on this machine; use --device cpu")
    return device


def check_place(out: Path | None, *, resume: bool) -> None:
    """Refuse before any work a run directory that is taken, and unfinished work that is there unasked or asked for and not there.

    Raises:
        UsageError: it is so; the message says what to do.
    """
    if out is not None:
        if resume and (out / "result.json").exists():  # perhaps killed just before its unfinished work was removed
            raise UsageError(f"the run at {out} is finished; read its report.html, and remove {place_beside(out)} if that is still there")
        require_free(out)
    check_resumable(out, resume=resume)


def check_workers(workers: int, options: Options) -> None:
    """Refuse several workers for an engine that takes one.

    Raises:
        UsageError: the engine is a walk.
    """
    if workers > 1 and options.engine != "tmab":
        raise UsageError(f"{options.engine} goes on from permutation to permutation and takes one process, got --workers {workers}")


def set_threads(threads: int | None, *, workers: int = 1) -> None:
    """Threads of one process; by default one for each core that other work leaves free, shared out among the workers.

    More threads than free cores make a run crawl, several times slower than one thread would be.
    """
    if threads is None:
        cores, free = torch.get_num_threads(), free_cores()
        if free < cores:
            say(f"note: other work leaves {free} of {cores} cores free, and this run takes no more; --threads sets another number")
        threads = max(1, free // workers)
    torch.set_num_threads(threads)
