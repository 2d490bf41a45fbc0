"""`repairkit report`: write the views of a run again from its result.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from repairkit.cli.console import say, show_result
from repairkit.experiments import report_kinds as kinds
from repairkit.run.directory import write_views


def report(
    run: Annotated[Path, typer.Argument(help="Run directory, or its result.json.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json on stdout.")] = False,
) -> None:
    """Write report.html and report.md again from result.json, and show the result."""
    file = run if run.suffix == ".json" else run / "result.json"
    result = kinds.read(file)
    write_views(result, file.parent)
    if as_json:
        print(result.model_dump_json(indent=1))  # noqa: T201
    else:
        show_result(result)
    say(f"report: {file.parent / 'report.html'}")
