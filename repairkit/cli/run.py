"""`repairkit run`: an experiment from a recipe, or those of all recipes."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from repairkit.cli import flags
from repairkit.cli.console import Reporter, say
from repairkit.cli.exit_codes import told
from repairkit.cli.finished import require_finished
from repairkit.cli.loading import load_adversaries, load_network_and_images
from repairkit.cli.options import (
    check_device,
)
from repairkit.cli.runner import Running
from repairkit.cli.train import Telling, given_options
from repairkit.data import synthetic_faces as drawn
from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.experiments.adversarial.command import carry_out as carry_out_adversarial
from repairkit.experiments.adversarial.recipe import AdversarialRecipe, CorrelationRecipe
from repairkit.experiments.adversarial.task import AdversarialTask
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.correlation.command import carry_out as carry_out_correlation
from repairkit.experiments.critical.command import carry_out as carry_out_critical
from repairkit.experiments.critical.recipe import CriticalRecipe
from repairkit.experiments.dropout.command import carry_out as carry_out_dropout
from repairkit.experiments.dropout.command import face_task, folder_task
from repairkit.experiments.dropout.recipe import DropoutRecipe
from repairkit.experiments.dropout.run import DropoutTask
from repairkit.experiments.fairness.command import carry_out as carry_out_fairness
from repairkit.experiments.fairness.recipe import FairnessRecipe
from repairkit.experiments.loading import prepare, prepare_dropout, prepare_faces
from repairkit.experiments.options import LARGEST_SEED, Options
from repairkit.experiments.pruning.command import carry_out as carry_out_prune
from repairkit.experiments.pruning.recipe import PruneRecipe
from repairkit.experiments.recipe import Way, check_recipe, read_recipe, recipes_in
from repairkit.experiments.recipe_base import ClassifierRecipe
from repairkit.experiments.registry import AnyRecipe
from repairkit.experiments.sample_efficiency import small_network as small
from repairkit.experiments.sample_efficiency.command import carry_out as carry_out_efficiency
from repairkit.experiments.sample_efficiency.recipe import EfficiencyRecipe
from repairkit.experiments.sample_efficiency.run import EfficiencyTask
from repairkit.experiments.truncation.command import carry_out as carry_out_truncation
from repairkit.experiments.truncation.recipe import NetworkSection, TruncationRecipe
from repairkit.experiments.truncation.run import Subject
from repairkit.models.zoo import LoadedModel
from repairkit.network.game import Precision
from repairkit.report import index
from repairkit.run.directory import require_free


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asks of every recipe that it runs; None leaves a choice to the recipe.

    Attributes:
        arguments: the command line that asks the same of a recipe alone, without its file and its run directory.
    """

    arguments: tuple[str, ...]
    way: Way | None
    data_root: Path | None
    alternatives: bool
    seed: int | None
    training_seed: int | None
    rival: bool
    compare: bool
    device: str | None
    precision: Precision | None
    threads: int | None
    workers: int
    batch: int | None
    memory: float | None
    resume: bool
    as_json: bool
    dry_run: bool


def run(
    context: typer.Context,
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe, for instance recipes/fig3a_fairness.toml; with --all a folder of them.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Run every recipe of the folder (recipes/), and write a page that lists them.")
    ] = False,
    embedded: Annotated[bool, typer.Option("--embedded", help="Run on what comes with repairkit: short for --way embedded.")] = False,
    way: Annotated[
        str | None,
        typer.Option(
            help="paper, small or embedded: which of a recipe's data and networks. [default: paper, else small, by what the data root holds]"
        ),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder that the recipe's folders are relative to.")] = None,
    alternatives: flags.Alternatives = False,
    seed: Annotated[int | None, typer.Option(min=0, max=LARGEST_SEED, help="In place of the recipe's.")] = None,
    training_seed: Annotated[
        int | None,
        typer.Option(min=0, max=LARGEST_SEED, help="Draw the training images and train from this seed in place of the recipe's."),
    ] = None,
    rival: Annotated[bool, typer.Option(help="Whether to train and repair the dropout-trained network too.")] = True,
    compare: flags.Compare = False,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. [default: the recipe's, else cpu]")] = None,
    precision: Annotated[str | None, typer.Option(help=f"{flags.PRECISION_HELP} [default: the recipe's, else float32]")] = None,
    threads: flags.Threads = None,
    workers: flags.Workers = 1,
    batch: Annotated[int | None, typer.Option(min=1, help=f"{flags.BATCH_HELP} [default: the recipe's, else {Options.batch}]")] = None,
    memory: flags.Memory = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory; with --all, of which each recipe has a folder. [default: reports/NAME-...]")
    ] = None,
    resume: flags.Resume = False,
    as_json: flags.Json = False,
    dry_run: flags.DryRun = False,
) -> int:
    """Run an experiment from a recipe: train what it needs, find, repair, report."""
    if way is not None and way not in get_args(Way):
        raise UsageError(f"--way must be {' or '.join(get_args(Way))}, got {way!r}")
    if embedded and way not in (None, "embedded"):
        raise UsageError(f"--embedded is short for --way embedded, got --way {way} as well: leave one of the two out")
    if (embedded or way == "embedded") and data_root is not None:
        raise UsageError("the way embedded runs on what comes with repairkit, got --data-root as well: leave one of the two out")
    if precision is not None and precision not in get_args(Precision):
        raise UsageError(f"--precision must be {' or '.join(get_args(Precision))}, got {precision!r}")
    asked = Asked(
        arguments=arguments_of(context),
        way="embedded" if embedded else cast("Way | None", way),
        data_root=data_root, alternatives=alternatives, seed=seed, training_seed=training_seed, rival=rival, compare=compare, device=device,
        precision=cast("Precision | None", precision), threads=threads, workers=workers, batch=batch, memory=memory, resume=resume, as_json=as_json, dry_run=dry_run,
    )  # fmt: skip
    if everything:
        if as_json or training_seed is not None or not rival:
            raise UsageError("--json, --training-seed and --no-rival go with one recipe; leave them out beside --all")
        return run_all(recipe or Path("recipes"), asked, out, context)
    if recipe is None:
        raise UsageError("give a recipe, for instance recipes/fig3a_fairness.toml, or --all; repairkit recipes lists those there are")
    return run_one(recipe, asked, out, sys.argv[1:])


def arguments_of(context: typer.Context) -> tuple[str, ...]:
    """The options as they were given, without the recipe, `--all`, the run directory and `--resume`, which differ from run to run."""
    given = [
        (option.opts if context.params[option.name] is not False else option.secondary_opts, context.params[option.name])
        for option in context.command.params
        if option.name in given_options(context) - {"recipe", "everything", "out", "resume"}
    ]
    return tuple(piece for names, value in given for piece in ([names[0]] if isinstance(value, bool) else [names[0], str(value)]))


def run_all(folder: Path, asked: Asked, out: Path | None, context: typer.Context) -> int:
    """Run every recipe of a folder into folders of one directory, with a page that lists them; one that fails does not stop the others.

    Returns:
        0 if each has run, whatever it found, else the exit code of the last that failed.

    Raises:
        UsageError: to go on, but a recipe's folder holds something else than its finished run, or a recipe that cannot be read; before any
            recipe runs.
    """
    files = recipes_in(folder)
    for file in files:
        check_recipe(file)
    place = out or Path("reports") / f"all-{datetime.now():%Y%m%d-%H%M%S}"
    finished = [file for file in files if asked.resume and (place / file.stem).is_dir()]
    for file in finished:
        require_finished(place / file.stem, file, context)
    if not asked.resume:
        require_free(place)
    entries: list[index.Entry] = []
    failure = 0
    for number, file in enumerate(files, start=1):
        say(f"recipe {number} of {len(files)}: {file}")
        own = place / file.stem
        error = ""
        if file not in finished:
            unfinished = asked.resume and own.with_name(f"{own.name}.unfinished").exists()
            try:
                run_one(file, replace(asked, resume=unfinished), own, ["run", str(file), *asked.arguments, "--out", str(own)])
            except Exception as problem:  # noqa: BLE001 - whatever it is, the other recipes run
                failure, reason = told(problem)
                error = f"{reason} (exit code {failure})"
            except KeyboardInterrupt as interrupt:
                command = ["repairkit", "run", str(folder), "--all", *asked.arguments, "--out", str(place), "--resume"]
                interrupt.add_note(f"to go on with all recipes: {shlex.join(command)}")
                raise
        entries.append(index.Entry(file.stem, error))
        if not asked.dry_run:
            index.write(entries, place)
    if not asked.dry_run:
        say(f"reports: {place / 'index.html'}")
    return failure


def run_one(file: Path, asked: Asked, out: Path | None, arguments: Sequence[str]) -> int:
    """Run one recipe; returns the exit code. The arguments are the command line that gives this run alone."""
    started = time.monotonic()
    recipe = read_recipe(file, way=asked.way, data_root=asked.data_root, rival=asked.rival)
    if isinstance(recipe, FairnessRecipe):
        recipe = recipe.varied(training_seed=asked.training_seed, rival=asked.rival)
    elif isinstance(recipe, DropoutRecipe) and asked.rival:
        recipe = recipe.varied(training_seed=asked.training_seed)
    elif asked.training_seed is not None or not asked.rival:
        raise UsageError(
            f"--training-seed is for recipes of fairness and dropout, --no-rival for those of fairness, got one of {recipe.command}; leave them out"
        )
    alternatives = asked.alternatives and "alternatives" not in recipe.unfit
    if asked.alternatives and not alternatives:
        say(f"note: --alternatives is for recipes of fairness and adversarial; {file} is one of {recipe.command}, and runs without")
    running = Running(
        file.stem, out, workers=asked.workers, threads=asked.threads, memory=asked.memory, resume=asked.resume, as_json=asked.as_json,
        dry_run=asked.dry_run, started=started, arguments=arguments,
    )  # fmt: skip
    given: dict[str, object] = {
        "device": asked.device, "precision": asked.precision, "seed": asked.seed, "batch": asked.batch, "alternatives": alternatives or None,
    }  # fmt: skip
    if asked.compare and "compare" in recipe.unfit:
        say(f"note: recipes of {recipe.command} are not compared with baselines, so --compare does nothing here")
    elif asked.compare:
        given["compare"] = recipe.baselines
    options = recipe.run_options(file, **{name: value for name, value in given.items() if value is not None})
    check_device(options.device)
    running.set_processes(options)
    return carry_out(recipe, asked, options, running)


def carry_out(recipe: AnyRecipe, asked: Asked, options: Options, running: Running) -> int:
    """Load what a recipe names and carry it out as its command does; returns the exit code."""
    if isinstance(recipe, FairnessRecipe):
        with Reporter("training steps").running() as reporter:
            task = prepare(
                recipe, asked.data_root, device=options.device, threads=asked.threads, progress=Telling(reporter), fit=not asked.dry_run
            )
        return carry_out_fairness(task, options, running, title=recipe.title)
    if isinstance(recipe, DropoutRecipe):
        pair = load_dropout(recipe, asked, options)
        return carry_out_dropout(pair, options, running, title=recipe.title)
    if isinstance(recipe, TruncationRecipe):
        subjects = [load_subject(each, asked, options.device) for each in recipe.networks]
        return carry_out_truncation(subjects, options, recipe.truncation_options(), running, title=recipe.title)
    if isinstance(recipe, EfficiencyRecipe):
        compared = load_compared(recipe, asked, options.device)
        return carry_out_efficiency(compared, options, recipe.efficiency_options(), running, title=recipe.title)
    return carry_out_on_folders(recipe, asked, options, running)


def carry_out_on_folders(
    recipe: CriticalRecipe | AdversarialRecipe | CorrelationRecipe | PruneRecipe, asked: Asked, options: Options, running: Running
) -> int:
    """Carry out a recipe of one network and class folders, or of their embedded default; returns the exit code."""
    model, images = load(recipe, asked, options.device)
    if isinstance(recipe, AdversarialRecipe):
        others = load_adversaries(
            model,
            images,
            carriers=[(each.model, below(asked.data_root, each.weights)) for each in recipe.carriers] if recipe.carriers else None,
            elsewhere_root=below(asked.data_root, recipe.elsewhere),
            dropout_model=below(asked.data_root, recipe.dropout_model),
            device=options.device,
            fit=not asked.dry_run,
        )
        return carry_out_adversarial(
            AdversarialTask(model, images, *others), options, recipe.attack_options(options.device), running, title=recipe.title
        )
    if isinstance(recipe, CorrelationRecipe):
        return carry_out_correlation(
            AdversarialTask(model, images), options, recipe.attack_options(options.device), running, title=recipe.title
        )
    if isinstance(recipe, PruneRecipe):
        return carry_out_prune(CriticalTask(model, images, None), options, running, remove=not recipe.freeze_only, title=recipe.title)
    return carry_out_critical(recipe.tasks(model, images), options, running, title=recipe.title)


def load_subject(section: NetworkSection, asked: Asked, device: str) -> Subject:
    """One network of a recipe of several, with its images.

    Raises:
        UsageError, DataError, ModelError: as `load` and `repairkit.experiments.loading.prepare_faces`.
    """
    if section.target is None:
        return Subject(section.name, *load(section.classifier(), asked, device))
    with Reporter("training steps").running() as reporter:
        return prepare_faces(
            section, asked.data_root, device=device, threads=asked.threads, progress=Telling(reporter), fit=not asked.dry_run
        )


def load_compared(recipe: EfficiencyRecipe, asked: Asked, device: str) -> EfficiencyTask:
    """The network and the images of a recipe of sample efficiency, which may be the small ones that come with repairkit.

    Raises:
        UsageError, DataError, ModelError: as `load`.
    """
    if recipe.model == small.NAME:
        return EfficiencyTask(small.load(recipe.channels or small.CHANNELS, epochs=0 if asked.dry_run else small.EPOCHS), small.held_out())
    return EfficiencyTask(*load(recipe, asked, device))


def load(plan: ClassifierRecipe, asked: Asked, device: str) -> tuple[LoadedModel, LabelledImages]:
    """The network and the images of a recipe, as the commands on class folders load theirs; embedded ones are not fitted for a plan.

    Raises:
        UsageError: paths in the recipe, but no data root that they are relative to, or a class that is asked about and does not exist.
        DataError, ModelError: as the loaders.
    """
    folder, parts = (plan.data.folder, plan.data.parts) if plan.data else (None, None)
    return load_network_and_images(
        plan.model,
        weights=below(asked.data_root, plan.weights),
        data_root=below(asked.data_root, folder) if folder else asked.data_root,
        parts=parts,
        per_class=plan.per_class,
        narrow=plan.narrow,
        size=plan.size,
        mean=plan.mean,
        std=plan.std,
        device=device,
        fit=not asked.dry_run,
        subjects=plan.classes if isinstance(plan, CriticalRecipe) else (),
    )


def load_dropout(plan: DropoutRecipe, asked: Asked, options: Options) -> DropoutTask:
    """Both networks and the images of a recipe, trained or loaded as `repairkit dropout` loads them.

    Raises:
        UsageError: paths in the recipe, but no data root that they are relative to.
        DataError, ModelError: as the loaders.
    """
    data_root, fit = asked.data_root, not asked.dry_run
    if plan.model is None:
        with Reporter("training steps").running() as reporter:
            return prepare_dropout(plan, data_root, device=options.device, threads=asked.threads, progress=Telling(reporter), fit=fit)

    def network(name: str) -> str:
        return str(below(data_root, name)) if Path(name).suffix else name

    files = below(data_root, plan.weights), below(data_root, plan.dropout_weights)
    rival = network(plan.dropout_model) if plan.dropout_model else None
    if plan.source is not None:
        root = data_root / plan.source.folder if data_root and plan.source.folder else data_root
        return face_task(
            network(plan.model), files[0], rival, files[1], plan.source.name, root,
            size=plan.size, classes=drawn.CLASSES, seed=options.seed, device=options.device, mean=plan.mean, std=plan.std,
        )  # fmt: skip
    folder, parts = (plan.data.folder, plan.data.parts) if plan.data else (None, None)
    return folder_task(
        network(plan.model), files[0], rival, files[1], below(data_root, folder) if folder else data_root,
        parts=parts, per_class=plan.per_class, size=plan.size, device=options.device, mean=plan.mean, std=plan.std, fit=fit,
    )  # fmt: skip


def below(data_root: Path | None, relative: str | None) -> Path | None:
    """Where a path of a recipe lies.

    Raises:
        UsageError: there is no data root that it is relative to.
    """
    if relative is None:
        return None
    if data_root is None:
        raise UsageError(f"the recipe takes {relative}: give --data-root, the folder that it is relative to")
    return data_root / relative
