"""`repairkit adversarial`: find and freeze the filters that let an attack through, and be judged by other adversaries."""

from __future__ import annotations

import time
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import typer

from repairkit.adversarial import MAX_CLEAN_DROP, SHARES, AdversarialTask, AttackOptions, Ranking, configuration, plan, repair
from repairkit.adversarial_summary import summarise
from repairkit.cli.carrying import Running
from repairkit.cli.console import say
from repairkit.cli.loading import load_adversaries, load_network_and_images
from repairkit.cli.options import (
    BATCH_HELP,
    AlternativesOption,
    CompareOption,
    ContestedOption,
    DataRootOption,
    DeviceOption,
    DryRunOption,
    EngineOption,
    FreezeAtOption,
    GuaranteeOption,
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
from repairkit.errors import UsageError
from repairkit.evaluation.adversaries import EMBEDDED, Effort, effort_for
from repairkit.evaluation.attack_methods import PGD
from repairkit.evaluation.splits import some
from repairkit.options import Options, Score
from repairkit.repair import Strategy
from repairkit.rundir import write_adversarial_run
from repairkit.shapley import Engine
from repairkit.shapley.model_game import Precision
from repairkit.tracing import FreezeAt
from repairkit.unfinished import kept_setting

REPAIRED = ("repaired", "repaired against stored images")
"""Outcomes with exit code 0."""
EMBEDDED_BUDGET, EMBEDDED_CANDIDATES, EMBEDDED_DIGITS, EMBEDDED_BATCH = 6_000, 20, 900, 64
EMBEDDED_IMAGES = (60, 60, 100)


def adversarial(
    model: ModelOption = "inception_v3",
    weights: WeightsOption = None,
    data_root: DataRootOption = None,
    parts: PartsOption = None,
    per_class: PerClassOption = None,
    size: SizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    carrier: Annotated[
        list[str] | None,
        typer.Option(
            help="Another network, NAME or NAME=WEIGHTS, to make images against that are carried over; may be given again. [default: of digits]"
        ),
    ] = None,
    elsewhere_root: Annotated[
        Path | None, typer.Option(help="Folder of images of another data set with the same classes, for one row of the report.")
    ] = None,
    dropout_model: Annotated[
        str | None, typer.Option(help="The same architecture trained with filter dropout, to compare with: a weights FILE.")
    ] = None,
    eps: Annotated[str, typer.Option(help="Largest change of a channel of a pixel, for images in [0, 1].")] = "16/255",
    step: Annotated[str, typer.Option(help="Length of a step of PGD, in the same units.")] = "0.8/255",
    steps: Annotated[int, typer.Option(help="Steps of PGD.")] = PGD.steps,
    random_start: Annotated[bool, typer.Option(help="Begin PGD at a random point within the bound.")] = True,
    ranking: Annotated[str, typer.Option(help="success - accuracy, or success (the paper's).")] = "success - accuracy",
    attacked: Annotated[
        str | None,
        typer.Option(help="Adversarial images that find, choose and report, by commas. [default: 200,200,400; 60,60,100 for digits]"),
    ] = None,
    engine: EngineOption = "tmab",
    score: ScoreOption = None,
    freeze_at: FreezeAtOption = "post",
    precision: PrecisionOption = "float32",
    budget: Annotated[
        float | None,
        typer.Option(min=1, help=f"Image passes for the attribution of a round. [default: 20,000; {EMBEDDED_BUDGET:,} for digits]"),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many culprits to look for. [default: 40; 100 for the walks]")] = None,
    t0: T0Option = None,
    truncation: TruncationOption = None,
    contested: ContestedOption = None,
    guarantee: GuaranteeOption = None,
    tolerance: ToleranceOption = None,
    strategy: StrategyOption = "forward",
    candidates: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"How many of the most harmful filters may be frozen. [default: {Options.candidates}; {EMBEDDED_CANDIDATES} for digits]",
        ),
    ] = None,
    max_filters: Annotated[int, typer.Option(min=1, help="Most filters to freeze in a round.")] = Options.max_filters,
    max_clean_drop: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Guard: limit on the fall of clean accuracy, and on the one-sided 90 % bound on the fall of the label's mean probability, a share.",
        ),
    ] = MAX_CLEAN_DROP,
    rounds: Annotated[int, typer.Option(min=1, help="Find, freeze and attack again so many times.")] = 1,
    finetune_epochs: Annotated[
        int,
        typer.Option(
            min=0,
            help="Epochs of training on the clean attribution images after each round; the filters stay frozen, and epochs that break the guard are undone.",
        ),
    ] = 0,
    frontier: Annotated[int, typer.Option(min=1, help="Most filters on the frontier of success and clean accuracy.")] = 64,
    carried: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Report images for every other attack than PGD. [default: {Effort.carried}; {EMBEDDED.carried} for digits]"
        ),
    ] = None,
    adaptive: Annotated[
        int | None,
        typer.Option(min=1, help=f"Report images attacked afresh. [default: {Effort.adaptive}; {EMBEDDED.adaptive} for digits]"),
    ] = None,
    queries: Annotated[
        int | None, typer.Option(min=1, help=f"Queries of Square. [default: {Effort.queries}; {EMBEDDED.queries} for digits]")
    ] = None,
    restarts: Annotated[
        int | None, typer.Option(min=1, help="Starts of PGD and APGD-T afresh, and of PGD within each bound of the sweep. [default: 2]")
    ] = None,
    apgd_steps: Annotated[int | None, typer.Option(min=1, help="Steps of APGD-T. [default: 30]")] = None,
    apgd_classes: Annotated[int | None, typer.Option(min=1, help="Classes that APGD-T aims at. [default: 1]")] = None,
    checked: Annotated[
        int | None,
        typer.Option(min=1, help=f"Report images for checks of the attack. [default: {Effort.checked}; {EMBEDDED.checked} for digits]"),
    ] = None,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough", help="The full suite on all adversarial report images, for a night. [default: with --device cuda, but for digits]"
        ),
    ] = False,
    compare: CompareOption = False,
    alternatives: AlternativesOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    workers: WorkersOption = 1,
    batch: Annotated[int | None, typer.Option(min=1, help=f"{BATCH_HELP} [default: {Options.batch}; {EMBEDDED_BATCH} for digits]")] = None,
    memory: MemoryOption = None,
    out: Annotated[Path | None, typer.Option(help="Run directory. [default: reports/adversarial-...]")] = None,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> int:
    """Find the filters that let an attack through, freeze them, and say against which adversaries that helps."""
    started = time.monotonic()
    check_place(out, resume=resume)
    digits = data_root is None
    options = Options(
        engine=cast(Engine, engine),
        score=cast(Score, score or ("smooth" if engine == "tmab" else "hard")),
        freeze_at=cast(FreezeAt, freeze_at),
        precision=cast(Precision, precision),
        t0=parse_t0(t0),
        budget=budget or (EMBEDDED_BUDGET if digits and guarantee is None else Options.budget),
        top=top,
        truncation=truncation,
        contested=contested,
        guarantee=guarantee,
        tolerance=tolerance,
        strategy=cast(Strategy, strategy),
        candidates=candidates or (EMBEDDED_CANDIDATES if digits else Options.candidates),
        max_filters=max_filters,
        max_clean_drop=max_clean_drop,
        target_shares=SHARES,
        compare=suited(fairness=False) if compare else (),
        alternatives=alternatives,
        seed=seed,
        device=check_device(device),
        batch=batch or (EMBEDDED_BATCH if digits else Options.batch),
    )
    given = {
        "carried": carried, "adaptive": adaptive, "queries": queries, "restarts": restarts, "apgd_steps": apgd_steps,
        "apgd_classes": apgd_classes, "checked": checked,
    }  # fmt: skip
    attacks = AttackOptions(
        method=PGD(eps=parse_fraction("--eps", eps), step=parse_fraction("--step", step), steps=steps, random_start=random_start),
        ranking=cast(Ranking, ranking),
        images=parse_counts(attacked) if attacked else EMBEDDED_IMAGES if digits else AttackOptions.images,
        rounds=rounds,
        finetune_epochs=finetune_epochs,
        frontier=frontier,
        effort=effort_for(
            {name: number for name, number in given.items() if number is not None}, thorough=thorough, device=device, embedded=digits
        ),
    )
    check_workers(workers, options)
    set_threads(threads or kept_setting(out, "threads"), workers=workers)
    loaded, images = load_network_and_images(
        model, weights=weights, data_root=data_root, parts=parse_parts(parts), per_class=per_class, size=size,
        mean=parse_channels("--mean", mean), std=parse_channels("--std", std), device=device,
    )  # fmt: skip
    carriers = [(name, Path(file) if file else None) for name, _, file in (each.partition("=") for each in carrier)] if carrier else None
    if digits:
        images = images.subset(some(images, EMBEDDED_DIGITS, seed=seed))
    others = load_adversaries(loaded, images, carriers=carriers, elsewhere_root=elsewhere_root, dropout_model=dropout_model, device=device)
    return carry_out(
        AdversarialTask(loaded, images, *others),
        options,
        attacks,
        Running(started, f"adversarial-{Path(model).stem}", workers, memory, out, resume=resume, as_json=as_json, dry_run=dry_run),
        title=f"Adversarial repair of {Path(model).stem} on {images.name}",
    )


def carry_out(task: AdversarialTask, options: Options, attacks: AttackOptions, running: Running, *, title: str) -> int:
    """Plan or run an adversarial repair and write its run directory; returns the exit code."""
    options = running.with_batch(options, task.model.classifier, task.images)
    passes = plan(task, options, attacks)
    notices = list(dict.fromkeys(model_notices(task.model, *task.others)))
    for notice in notices:
        say(f"note: {notice}")
    if running.dry_run:
        heading = f"images: {task.images.name}, {len(task.images):,}; network: {task.model.architecture}; attack: {attacks.method}"
        show_passes(task.model.classifier, task.images, passes, options, heading=heading, as_json=running.as_json)
        return 0
    result, place = running.carry_out(
        configuration(task, options, attacks),
        find=lambda reporter, unfinished: repair(task, options, attacks, progress=reporter, workers=running.workers, unfinished=unfinished),
        summarise=partial(summarise, task, options, attacks, title=title, notices=notices),
        write=lambda place, findings, result: write_adversarial_run(place, task, findings, result),
    )
    running.tell(
        result,
        place,
        weights=task.model.weights,
        repaired=result.verdict.outcome in REPAIRED and (place / "patch.json").exists(),
        otherwise=f"repaired and fine-tuned weights: {place / 'repaired.safetensors'}"
        if result.verdict.outcome in REPAIRED
        else "no repair was worth making: keep the original weights",
    )
    return 0 if result.verdict.outcome in REPAIRED else 1


def parse_fraction(option: str, text: str) -> float:
    """A number, or two with a stroke between.

    Raises:
        UsageError: neither.

    Example:
        >>> parse_fraction("--eps", "16/255") == 16 / 255, parse_fraction("--step", "0.8/255") == 0.8 / 255, parse_fraction("--eps", "0.05")
        (True, True, 0.05)
    """
    try:
        above, _, below = text.partition("/")
        return float(Fraction(above)) / float(Fraction(below)) if below else float(Fraction(above))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(f"{option} must be a number such as 0.05 or 16/255, got {text!r}") from None


def parse_counts(text: str) -> tuple[int, int, int]:
    """Numbers of images that find, choose and report.

    Raises:
        UsageError: not three whole numbers.

    Example:
        >>> parse_counts("200,200,400")
        (200, 200, 400)
    """
    try:
        find, choose, report = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--attacked must be three whole numbers by commas, such as 200,200,400, got {text!r}") from None
    return find, choose, report
