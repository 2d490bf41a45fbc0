"""Whether a folder of `repairkit run --all` holds the finished run of a recipe that was asked for."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from repairkit.cli.parsing import parse
from repairkit.cli.settings import RecipeRunSettings
from repairkit.errors import DataError, UsageError
from repairkit.experiments import report_kinds as kinds

BESIDE_THE_POINT = {"everything", "out", "resume", "as_json", "dry_run", "threads", "workers", "batch", "memory"}
"""Options of `repairkit run` that say where and how to work, not what is found."""


def require_finished(place: Path, file: Path, asked: RecipeRunSettings) -> None:
    """Refuse a folder that holds anything but a finished run of the recipe, asked for as now.

    Args:
        place: the folder.
        file: the recipe.
        asked: the options of `repairkit run`.

    Raises:
        UsageError: the folder holds no result, one of another version, or one of another command line; the message says what it holds.
    """
    found = sorted(place.rglob("result.json"))
    remedy = "give another --out, or move the folder away"
    if not found:
        raise UsageError(f"expected a finished run of {file} at {place}, found a folder without a result.json; {remedy}")
    for each in found:
        try:
            command = kinds.read(each).reproduction.command
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
    return chosen | {"recipe": recipe and recipe.name, "variant": settings.chosen_variant}
