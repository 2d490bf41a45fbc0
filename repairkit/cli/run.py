"""`repairkit run`: an experiment from a recipe, or those of all recipes."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from repairkit.cli.exit_codes import told
from repairkit.cli.messages import log
from repairkit.cli.parsing import arguments_of, parse
from repairkit.cli.runner import Running, carry_out
from repairkit.cli.settings import RecipeRunSettings
from repairkit.cli.train import training_progress
from repairkit.errors import DataError, UsageError
from repairkit.experiments import registry, results
from repairkit.experiments.base import Loading
from repairkit.experiments.recipe import check_recipe, find_recipe, read_recipe, recipe_folder, recipes_in
from repairkit.report import index
from repairkit.run.directory import require_free

BESIDE_THE_POINT = {"everything", "out", "resume", "as_json", "dry_run", "threads", "workers", "batch", "memory"}
"""Options that say where and how to work, not what is found."""


def run(settings: RecipeRunSettings) -> int:
    """Run one recipe, or those of a folder; returns the exit code."""
    if settings.everything:
        return run_all(recipe_folder(settings.recipe), settings)
    if settings.recipe is None:
        raise UsageError("give a recipe, or --all")
    return run_one(find_recipe(settings.recipe), settings, settings.out, sys.argv[1:])


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
        log.info(f"recipe {number} of {len(files)}: {file}")
        out = place / file.stem
        error = ""
        if file not in finished:
            unfinished = asked.resume and out.with_name(f"{out.name}.unfinished").exists()
            try:
                run_one(file, asked.model_copy(update={"resume": unfinished}), out, ["run", str(file), *arguments, "--out", str(out)])
            except Exception as problem:  # noqa: BLE001 - whatever it is, the other recipes run
                failure, reason = told(problem)
                error = f"{reason} (exit code {failure})"
            except KeyboardInterrupt as interrupt:
                command = ["repairkit", "run", str(folder), "--all", *arguments, "--out", str(place), "--resume"]
                interrupt.add_note(f"to go on with all recipes: {shlex.join(command)}")
                raise
        entries.append(index.Entry(file.stem, error))
        if not asked.dry_run:
            index.write(entries, place, results.read)
    if not asked.dry_run:
        log.info(f"reports: {place / 'index.html'}")
    return failure


def run_one(file: Path, asked: RecipeRunSettings, out: Path | None, arguments: Sequence[str]) -> int:
    """Run one recipe; returns the exit code. The arguments are the command line that gives this run alone."""
    started = time.monotonic()
    recipe = read_recipe(file, way=asked.chosen_variant, data_root=asked.data_root, rival=asked.with_compare_model)
    recipe = recipe.varied(training_seed=asked.training_seed, rival=asked.with_compare_model)
    given = {name: getattr(asked, name) for name in ("device", "precision", "seed", "batch")}
    if asked.alternatives and "alternatives" in recipe.unfit:
        log.info(f"note: --alternatives is for recipes that repair; {file} is one of {recipe.command}, and runs without")
    elif asked.alternatives:
        given["alternatives"] = True
    if asked.baselines and "compare" in recipe.unfit:
        log.info(f"note: recipes of {recipe.command} are not compared with baselines, so --baselines does nothing here")
    elif asked.baselines:
        given["compare"] = recipe.baselines
    running = Running.of(file.stem, out, asked, started=started, arguments=arguments)
    options = recipe.run_options(file, **{name: value for name, value in given.items() if value is not None})
    running.set_processes(options)
    experiment = registry.experiment(recipe.command)
    with training_progress() as progress:
        loading = Loading(progress, not asked.dry_run, asked.data_root, options.device, asked.threads, options.seed)
        task = experiment.load_recipe(recipe, loading)
    return carry_out(experiment, task, options, running, title=recipe.title)


def require_finished(place: Path, file: Path, asked: RecipeRunSettings) -> None:
    """Refuse a folder that holds anything but a finished run of the recipe, asked for as now.

    Raises:
        UsageError: the folder holds no result, one of another version, or one of another command line; the message says what it holds.
    """
    files = sorted(place.rglob("result.json"))
    remedy = "give another --out, or move the folder away"
    if not files:
        raise UsageError(f"expected a finished run of {file} at {place}, found a folder without a result.json; {remedy}")
    for path in files:
        try:
            command = results.read(path).reproduction.command
        except DataError as error:
            raise UsageError(f"expected a finished run of {file} at {place}: {error}") from None
        if _decisive_of(command) != _decisive(asked, file):
            raise UsageError(f"expected a finished run of {file} as it is asked for now at {place}, found that of {command!r}; {remedy}")


def _decisive_of(command: str) -> dict[str, Any] | None:
    """What decides the result of a command line; None where it is none of `repairkit run` of this version."""
    words = shlex.split(command)
    if words[:2] != ["repairkit", "run"]:
        return None
    try:
        settings = parse(RecipeRunSettings, words[2:])
    except UsageError:
        return None
    assert isinstance(settings, RecipeRunSettings)  # noqa: S101 - for the type
    return _decisive(settings, settings.recipe)


def _decisive(settings: RecipeRunSettings, recipe: Path | None) -> dict[str, Any]:
    """The recipe's name, the variant, and all other options that decide the result."""
    chosen = settings.model_dump(exclude={*BESIDE_THE_POINT, "embedded", "recipe"})
    return chosen | {"recipe": recipe and recipe.stem, "variant": settings.chosen_variant}
