"""`repairkit attribution`: which filters a run blames, and how surely."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from repairkit.cli.console import FILE_WIDTH, plain_table
from repairkit.cli.settings import ShowAttributionSettings
from repairkit.errors import DataError, UsageError
from repairkit.experiments import results as kinds
from repairkit.network.patch import finite_or_none
from repairkit.report import document, formatting
from repairkit.result import Record, Result
from repairkit.shapley.guarantee import End
from repairkit.shapley.values import Attribution

HANDED_OVER = ("repaired", 1)
"""The network and fold shown unless another is asked for; as a rule its attribution lies in the run directory itself."""


def attribution(settings: ShowAttributionSettings) -> None:
    """Show the values of a run's filters."""
    run, top, network = settings.run, settings.top_k, settings.network
    found = Attribution.read(run if run.is_file() else choose_file(run, network, settings.fold, settings.round_number))
    result_file = run / "result.json"
    result = kinds.read(result_file) if result_file.is_file() else None
    if settings.as_json:
        print(json.dumps(as_data(found, top, result, network), indent=1, allow_nan=False))  # noqa: T201
    else:
        show(found, top, result, network)


def choose_file(run: Path, network: str, fold: int, number: int = 1) -> Path:
    """The attribution of a network, fold and round in a run directory.

    Raises:
        DataError: no such directory, or no attribution in it.
        UsageError: it holds others, but not that one.
    """
    if not run.is_dir():
        raise DataError(f"expected a run directory at {run}, found none; give the --out of a finished run")
    files = {place.parent.name: place for place in sorted(run.glob("networks/*/attribution.parquet"))}
    if (own := run / "attribution.parquet").is_file():  # that of the network handed over: the first fold that froze a filter
        handed_over = next(name for fold in count(1) if (name := _name(HANDED_OVER[0], fold)) not in files)
        files = {handed_over: own} | files
    if not files:
        raise DataError(f"{run} holds no attribution.parquet; give the directory of a finished run")
    later = f"round-{number}"
    named = (
        [_name(network, fold)] if number == 1 else [f"{_name(network, fold)}-{later}", later]
    )  # a run may have rounds, and neither networks nor folds
    found = next((name for name in named if name in files), None)
    if found is None:
        asked = f"--network {network} --fold {fold}{f' --round {number}' if number > 1 else ''}"
        raise UsageError(f"{run} holds no attribution of {asked}; it holds {', '.join(files)}")
    return files[found]


def _name(network: str, fold: int) -> str:
    return f"{network}-fold-{fold}"


def as_data(found: Attribution, top: int | None, result: Result | None, network: str) -> dict[str, Any]:
    """Facts and rows as JSON; numbers that JSON lacks (a half-width that is infinite, a value that was never made) are null."""
    ends = found.extremes(top).values()
    rows = found.to_frame().to_dict("records")
    players = range(len(rows)) if top is None else [int(player) for players in ends for player in players]
    return {
        "engine": found.engine,
        "min_live": found.min_live,
        "end": found.end,
        "top_k": found.top_k,
        "harmful": found.harmful,
        "delta": found.delta,
        "seed": found.seed,
        "passes": found.passes,
        "filters": len(rows),
        "valued": int((~np.isnan(found.value)).sum()),
        "decided": int(found.decided.sum()),
        "guarantee": asdict(found.guarantee) if found.guarantee else None,
        "still_needed": None if found.still_needed is None else finite_or_none(found.still_needed),
        "stability": [entry.model_dump(mode="json") for entry in _stability(result, network)[0]],
        "rows": [
            {str(key): finite_or_none(value) if isinstance(value, float) else value for key, value in rows[player].items()}
            for player in players
        ],
    }


def show(found: Attribution, top: int | None, result: Result | None, network: str) -> None:
    """What is claimed and how it was found, a table for each end, and the stability where the run measured it."""
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH, markup=False, highlight=False)
    console.print(found.opening, soft_wrap=True)
    ends = found.extremes(top)
    for end, players in ends.items():
        console.print(f"{found.heading(end, len(players))}:", soft_wrap=True)
        if len(players):
            console.print(_rows(found, end, players.tolist()))
    if (content := _stability(result, network)[1]) is not None:
        console.print(f"{content.caption}:", soft_wrap=True)
        console.print(plain_table(content))


def _rows(found: Attribution, end: End, players: list[int]) -> Table:
    table = Table(show_edge=False)
    for head in ("Filter", "Value", "Half-width", "Samples", "Screen", "Decided"):
        table.add_column(head, justify="left" if head in ("Filter", "Decided") else "right", overflow="fold")
    for player in players:
        screen = found.screen[player]
        table.add_row(
            Text(found.ids[player]),
            f"{found.value[player]:+.5f}",
            f"{found.half_width[player]:.5f}",
            f"{found.samples[player]:,.0f}",
            formatting.NONE if np.isnan(screen) else f"{screen:+.5f}",
            found.status(player, end),
        )
    return table


def _stability(result: Result | None, network: str) -> tuple[list[Record], document.Table | None]:
    return ([], None) if result is None else kinds.kind_of(result).stability(result, network)
