"""Whether a folder of `repairkit run --all` holds the finished run of a recipe that was asked for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from repairkit.errors import DataError, UsageError
from repairkit.experiments import report_kinds as kinds

BESIDE_THE_POINT = {"everything", "out", "resume", "as_json", "dry_run", "threads", "workers", "batch", "memory"}
"""Options of `repairkit run` that say where and how to work, not what is found."""


def require_finished(place: Path, file: Path, context: typer.Context) -> None:
    """Refuse a folder that holds anything but a finished run of the recipe, asked for as now.

    Args:
        place: the folder.
        file: the recipe.
        context: of `repairkit run`, as it was called.

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
        if _decisive_of(command, context) != _decisive(context.params | {"recipe": file}):
            raise UsageError(f"expected a finished run of {file} as it is asked for now at {place}, found that of {command!r}; {remedy}")


def _decisive_of(command: str, context: typer.Context) -> dict[str, Any] | None:
    """What decides the result of a command line; None where it is none of `repairkit run` of this version."""
    words = shlex.split(command)
    if words[:2] != ["repairkit", "run"]:
        return None
    parsed = context.command.make_context(
        "run", words[2:], resilient_parsing=True, ignore_unknown_options=True, allow_extra_args=True
    )  # it was checked when it ran
    return None if parsed.args else _decisive(parsed.params)


def _decisive(params: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's name, the way, and all other options that decide the result."""
    kept = {name: value for name, value in params.items() if name not in BESIDE_THE_POINT | {"embedded"}}
    recipe = params["recipe"]
    return kept | {"recipe": recipe and Path(recipe).name, "way": "embedded" if params["embedded"] else params["way"]}
