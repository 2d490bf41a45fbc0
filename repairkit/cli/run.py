"""`repairkit run`: an experiment from a recipe, or those of all recipes."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from repairkit.cli.console import Reporter
from repairkit.cli.exit_codes import told
from repairkit.cli.finished import require_finished
from repairkit.cli.loading import load_adversaries, load_network_and_images
from repairkit.cli.messages import say
from repairkit.cli.options import (
    check_device,
)
from repairkit.cli.parsing import arguments_of
from repairkit.cli.runner import Running
from repairkit.cli.settings import RecipeRunSettings
from repairkit.cli.train import EpochPrinter
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
from repairkit.experiments.options import Options
from repairkit.experiments.pruning.command import carry_out as carry_out_prune
from repairkit.experiments.pruning.recipe import PruneRecipe
from repairkit.experiments.recipe import check_recipe, read_recipe, recipes_in
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
from repairkit.report import index
from repairkit.run.directory import require_free


def run(settings: RecipeRunSettings) -> int:
    """Run one recipe, or those of a folder; returns the exit code."""
    if settings.everything:
        return run_all(settings.recipe or Path("recipes"), settings)
    if settings.recipe is None:
        raise UsageError("give a recipe, or --all")
    return run_one(settings.recipe, settings, settings.out, sys.argv[1:])


def run_all(folder: Path, asked: RecipeRunSettings) -> int:
    """Run every recipe of a folder into folders of one directory, with a page that lists them; one that fails does not stop the others.

    Returns:
        0 if each has run, whatever it found, else the exit code of the last that failed.

    Raises:
        UsageError: to go on, but a recipe's folder holds something else than its finished run, or a recipe that cannot be read; before any
            recipe runs.
    """
    files = recipes_in(folder)
    arguments = arguments_of(asked, exclude=("everything", "out", "resume"))
    for file in files:
        check_recipe(file)
    place = asked.out or Path("reports") / f"all-{datetime.now():%Y%m%d-%H%M%S}"
    finished = [file for file in files if asked.resume and (place / file.stem).is_dir()]
    for file in finished:
        require_finished(place / file.stem, file, asked)
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
                run_one(file, asked.model_copy(update={"resume": unfinished}), own, ["run", str(file), *arguments, "--out", str(own)])
            except Exception as problem:  # noqa: BLE001 - whatever it is, the other recipes run
                failure, reason = told(problem)
                error = f"{reason} (exit code {failure})"
            except KeyboardInterrupt as interrupt:
                command = ["repairkit", "run", str(folder), "--all", *arguments, "--out", str(place), "--resume"]
                interrupt.add_note(f"to go on with all recipes: {shlex.join(command)}")
                raise
        entries.append(index.Entry(file.stem, error))
        if not asked.dry_run:
            index.write(entries, place)
    if not asked.dry_run:
        say(f"reports: {place / 'index.html'}")
    return failure


def run_one(file: Path, asked: RecipeRunSettings, out: Path | None, arguments: Sequence[str]) -> int:
    """Run one recipe; returns the exit code. The arguments are the command line that gives this run alone."""
    started = time.monotonic()
    recipe = read_recipe(file, way=asked.chosen_variant, data_root=asked.data_root, rival=asked.with_compare_model)
    if isinstance(recipe, FairnessRecipe):
        recipe = recipe.varied(training_seed=asked.training_seed, rival=asked.with_compare_model)
    elif isinstance(recipe, DropoutRecipe) and asked.with_compare_model:
        recipe = recipe.varied(training_seed=asked.training_seed)
    elif asked.training_seed is not None or not asked.with_compare_model:
        raise UsageError(
            f"--training-seed is for recipes of fairness and dropout, --no-with-compare-model for those of fairness, got one of {recipe.command}; leave them out"
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
    if asked.baselines and "compare" in recipe.unfit:
        say(f"note: recipes of {recipe.command} are not compared with baselines, so --baselines does nothing here")
    elif asked.baselines:
        given["compare"] = recipe.baselines
    options = recipe.run_options(file, **{name: value for name, value in given.items() if value is not None})
    check_device(options.device)
    running.set_processes(options)
    return carry_out(recipe, asked, options, running)


def carry_out(recipe: AnyRecipe, asked: RecipeRunSettings, options: Options, running: Running) -> int:
    """Load what a recipe names and carry it out as its command does; returns the exit code."""
    if isinstance(recipe, FairnessRecipe):
        with Reporter("training steps").running() as reporter:
            task = prepare(
                recipe,
                asked.data_root,
                device=options.device,
                threads=asked.threads,
                progress=EpochPrinter(reporter),
                fit=not asked.dry_run,
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
    recipe: CriticalRecipe | AdversarialRecipe | CorrelationRecipe | PruneRecipe,
    asked: RecipeRunSettings,
    options: Options,
    running: Running,
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


def load_subject(section: NetworkSection, asked: RecipeRunSettings, device: str) -> Subject:
    """One network of a recipe of several, with its images.

    Raises:
        UsageError, DataError, ModelError: as `load` and `repairkit.experiments.loading.prepare_faces`.
    """
    if section.target is None:
        return Subject(section.name, *load(section.classifier(), asked, device))
    with Reporter("training steps").running() as reporter:
        return prepare_faces(
            section, asked.data_root, device=device, threads=asked.threads, progress=EpochPrinter(reporter), fit=not asked.dry_run
        )


def load_compared(recipe: EfficiencyRecipe, asked: RecipeRunSettings, device: str) -> EfficiencyTask:
    """The network and the images of a recipe of sample efficiency, which may be the small ones that come with repairkit.

    Raises:
        UsageError, DataError, ModelError: as `load`.
    """
    if recipe.model == small.NAME:
        return EfficiencyTask(small.load(recipe.channels or small.CHANNELS, epochs=0 if asked.dry_run else small.EPOCHS), small.held_out())
    return EfficiencyTask(*load(recipe, asked, device))


def load(plan: ClassifierRecipe, asked: RecipeRunSettings, device: str) -> tuple[LoadedModel, LabelledImages]:
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


def load_dropout(plan: DropoutRecipe, asked: RecipeRunSettings, options: Options) -> DropoutTask:
    """Both networks and the images of a recipe, trained or loaded as `repairkit dropout` loads them.

    Raises:
        UsageError: paths in the recipe, but no data root that they are relative to.
        DataError, ModelError: as the loaders.
    """
    data_root, fit = asked.data_root, not asked.dry_run
    if plan.model is None:
        with Reporter("training steps").running() as reporter:
            return prepare_dropout(plan, data_root, device=options.device, threads=asked.threads, progress=EpochPrinter(reporter), fit=fit)

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
