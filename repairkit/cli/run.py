"""`repairkit run`: an experiment from a recipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from repairkit.adversarial import AdversarialTask
from repairkit.cli.adversarial import carry_out as carry_out_adversarial
from repairkit.cli.carrying import Running
from repairkit.cli.console import Reporter
from repairkit.cli.critical import carry_out as carry_out_critical
from repairkit.cli.fairness import carry_out as carry_out_fairness
from repairkit.cli.loading import load_adversaries, load_network_and_images
from repairkit.cli.options import (
    BATCH_HELP,
    JsonOption,
    MemoryOption,
    ResumeOption,
    ThreadsOption,
    WorkersOption,
    check_device,
    check_place,
    check_workers,
    set_threads,
)
from repairkit.cli.train import Telling
from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.models.zoo import LoadedModel
from repairkit.options import LARGEST_SEED, Options
from repairkit.recipe import AdversarialRecipe, ClassifierRecipe, FairnessRecipe, prepare, read_recipe
from repairkit.unfinished import kept_setting


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, for instance recipes/fairness_ppb_utkface.toml.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder that the recipe's folders are relative to.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=LARGEST_SEED, help="In place of the recipe's.")] = None,
    training_seed: Annotated[
        int | None,
        typer.Option(min=0, max=LARGEST_SEED, help="Draw the training images and train from this seed in place of the recipe's."),
    ] = None,
    rival: Annotated[bool, typer.Option(help="Whether to train and repair the dropout-trained network too.")] = True,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. [default: the recipe's, else cpu]")] = None,
    threads: ThreadsOption = None,
    workers: WorkersOption = 1,
    batch: Annotated[int | None, typer.Option(min=1, help=f"{BATCH_HELP} [default: the recipe's, else {Options.batch}]")] = None,
    memory: MemoryOption = None,
    out: Annotated[Path | None, typer.Option(help="Run directory. [default: reports/NAME-...]")] = None,
    resume: ResumeOption = False,
    as_json: JsonOption = False,
    dry_run: Annotated[
        bool, typer.Option(help="Print the plan and what it costs, and stop (networks are trained if they are not in the cache).")
    ] = False,
) -> int:
    """Run an experiment from a recipe: train what it needs, find, repair, report."""
    started = time.monotonic()
    plan = read_recipe(recipe)
    if isinstance(plan, FairnessRecipe):
        plan = plan.varied(training_seed=training_seed, rival=rival)
    elif training_seed is not None or not rival:
        raise UsageError(f"--training-seed and --no-rival are for recipes of fairness, got one of {plan.command}; leave them out")
    check_place(out, resume=resume)
    given: dict[str, object] = {"device": device, "seed": seed, "batch": batch}
    options = plan.run_options(recipe, **{name: value for name, value in given.items() if value is not None})
    check_device(options.device)
    check_workers(workers, options)
    set_threads(threads or kept_setting(out, "threads"), workers=workers)
    running = Running(started, recipe.stem, workers, memory, out, resume=resume, as_json=as_json, dry_run=dry_run)
    if isinstance(plan, FairnessRecipe):
        with Reporter("training steps").running() as reporter:
            task = prepare(plan, data_root, device=options.device, threads=threads, progress=Telling(reporter))
        return carry_out_fairness(task, options, running, title=plan.title)
    if isinstance(plan, AdversarialRecipe):
        model, images = load(plan, data_root, options.device)
        others = load_adversaries(
            model,
            images,
            carriers=[(each.model, below(data_root, each.weights)) for each in plan.carriers] if plan.carriers else None,
            elsewhere_root=below(data_root, plan.elsewhere),
            dropout_model=below(data_root, plan.dropout_model),
            device=options.device,
        )
        return carry_out_adversarial(AdversarialTask(model, images, *others), options, plan.attack_options(), running, title=plan.title)
    return carry_out_critical(plan.tasks(*load(plan, data_root, options.device)), options, running, title=plan.title)


def load(plan: ClassifierRecipe, data_root: Path | None, device: str) -> tuple[LoadedModel, LabelledImages]:
    """The network and the images of a recipe, as the commands on class folders load theirs.

    Raises:
        UsageError: paths in the recipe, but no data root that they are relative to.
        DataError, ModelError: as the loaders.
    """
    folder, parts = (plan.data.folder, plan.data.parts) if plan.data else (None, None)
    return load_network_and_images(
        plan.model,
        weights=below(data_root, plan.weights),
        data_root=below(data_root, folder) if folder else data_root,
        parts=parts,
        per_class=plan.per_class,
        size=plan.size,
        mean=plan.mean,
        std=plan.std,
        device=device,
    )


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
