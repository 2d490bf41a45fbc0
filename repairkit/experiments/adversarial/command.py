"""`repairkit adversarial`: find and freeze the filters that let an attack through, and be judged by other adversaries."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import typer

from repairkit.attacks.methods import PGD
from repairkit.baselines.compare import suited
from repairkit.cli import flags
from repairkit.cli.loading import load_adversaries, load_network_and_images
from repairkit.cli.options import (
    model_notices,
    options_of,
    parse_channels,
    parse_parts,
    parse_t0,
    show_passes,
)
from repairkit.cli.runner import NO_REPAIR, Running
from repairkit.errors import UsageError
from repairkit.evaluation.splits import some
from repairkit.experiments.adversarial.adversaries import EMBEDDED, Effort, effort_for
from repairkit.experiments.adversarial.result import AdversarialResult
from repairkit.experiments.adversarial.run import configuration, plan, repair
from repairkit.experiments.adversarial.summary import summarise
from repairkit.experiments.adversarial.task import MAX_CLEAN_DROP, SHARES, AdversarialTask, AttackOptions, Ranking
from repairkit.experiments.options import Options
from repairkit.run.directory import write_adversarial_run

REPAIRED = ("repaired", "repaired against stored images")
"""Outcomes with exit code 0."""
EMBEDDED_BUDGET, EMBEDDED_CANDIDATES, EMBEDDED_DIGITS, EMBEDDED_BATCH = 6_000, 20, 900, 64
EMBEDDED_IMAGES = (60, 60, 100)


def adversarial(
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
    engine: flags.Engine = "tmab",
    score: flags.Score = None,
    freeze_at: flags.FreezeAt = "post",
    precision: flags.Precision = "float32",
    budget: Annotated[
        float | None,
        typer.Option(min=1, help=f"Image passes for the attribution of a round. [default: 20,000; {EMBEDDED_BUDGET:,} for digits]"),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many culprits to look for. [default: 40; 100 for the walks]")] = None,
    t0: flags.T0 = None,
    truncation: flags.Truncation = None,
    contested: flags.Contested = None,
    guarantee: flags.Guarantee = None,
    tolerance: flags.Tolerance = None,
    strategy: flags.Strategy = "forward",
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
    compare: flags.Compare = False,
    alternatives: flags.Alternatives = False,
    seed: flags.Seed = 0,
    device: flags.Device = "cpu",
    threads: flags.Threads = None,
    workers: flags.Workers = 1,
    batch: Annotated[
        int | None, typer.Option(min=1, help=f"{flags.BATCH_HELP} [default: {Options.batch}; {EMBEDDED_BATCH} for digits]")
    ] = None,
    memory: flags.Memory = None,
    out: Annotated[Path | None, typer.Option(help="Run directory. [default: reports/adversarial-...]")] = None,
    resume: flags.Resume = False,
    as_json: flags.Json = False,
    dry_run: flags.DryRun = False,
) -> int:
    """Find the filters that let an attack through, freeze them, and say against which adversaries that helps."""
    running = Running(
        f"adversarial-{Path(model).stem}", out, workers=workers, threads=threads, memory=memory, resume=resume, as_json=as_json, dry_run=dry_run,
    )  # fmt: skip
    digits = data_root is None
    options = options_of(
        engine=engine,
        score=score,
        freeze_at=freeze_at,
        precision=precision,
        t0=parse_t0(t0),
        budget=budget or (EMBEDDED_BUDGET if digits and guarantee is None else Options.budget),
        top=top,
        truncation=truncation,
        contested=contested,
        guarantee=guarantee,
        tolerance=tolerance,
        strategy=strategy,
        candidates=candidates or (EMBEDDED_CANDIDATES if digits else Options.candidates),
        max_filters=max_filters,
        max_clean_drop=max_clean_drop,
        target_shares=SHARES,
        compare=suited(fairness=False) if compare else (),
        alternatives=alternatives,
        seed=seed,
        device=device,
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
    running.set_processes(options)
    loaded, images = load_network_and_images(
        model, weights=weights, data_root=data_root, parts=parse_parts(parts), annotations=annotations, per_class=per_class, narrow=narrow, size=size,
        mean=parse_channels("--mean", mean), std=parse_channels("--std", std), device=device, fit=not dry_run,
    )  # fmt: skip
    carriers = [(name, Path(file) if file else None) for name, _, file in (each.partition("=") for each in carrier)] if carrier else None
    if digits:
        images = images.subset(some(images, EMBEDDED_DIGITS, seed=seed))
    others = load_adversaries(
        loaded, images, carriers=carriers, elsewhere_root=elsewhere_root, dropout_model=dropout_model, device=device, fit=not dry_run
    )
    title = f"Adversarial repair of {Path(model).stem} on {images.name}"
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
