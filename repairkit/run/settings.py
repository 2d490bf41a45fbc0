"""How options are declared, and those that say how a run is carried out.

An option is declared once, as a field of a settings model: its type, range, default, help, group and whether `--help` shows it.
The command line is made from these models, so this module imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

LARGEST_SEED = 2**63 - 1
"""torch takes 64 bits as a seed; one of them is left for the folds, which add to the seed."""
GROUPS = ("Inputs", "Network", "Images", "Search", "Repair", "Attack", "Comparison", "Training", "Run")
"""Titles of the groups of options, in the order of the help."""


def option(
    default: object, text: str, group: str, *, shown: bool = True, expected: str | None = None, name: str | None = None, **limits: Any
) -> Any:
    """A field of a settings model.

    Args:
        default: `...` for an option that must be given.
        text: the help; it states the default where that is None.
        group: one of `GROUPS`.
        shown: whether `--help` shows the option; `--help-all` shows the others, too.
        expected: what a value must be, for an error of a type that pydantic describes badly.
        name: the spelling on the command line without dashes, where it is not the field's name.
        limits: of pydantic's `Field`, such as `ge`.
    """
    extra: JsonDict = {"group": group, "shown": shown, "expected": expected, "name": name}
    return Field(default, description=text, json_schema_extra=extra, **limits)


class Settings(BaseModel):
    """Base of all settings: frozen, without unknown keys, without infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    examples: ClassVar[tuple[str, ...]] = ()
    """Command lines for the help."""


def same_option(model: type[Settings], name: str) -> Any:
    """The field of that name of another settings model, so that an option is declared once."""
    return model.model_fields[name]


class RunSettings(Settings):
    """How a run is carried out."""

    def options(self) -> Any:
        """What the code of the run takes."""
        return self

    out: Path | None = option(None, "Run directory. [default: reports/COMMAND-...]", "Run")
    resume: bool = option(False, "Continue the unfinished run of this --out; give the same options.", "Run")
    dry_run: bool = option(False, "Print the plan and its cost, and stop. No network is fitted or trained.", "Run")
    as_json: bool = option(False, "Print result.json on stdout; with --dry-run print the plan as JSON.", "Run", name="json")
    seed: int = option(0, "Seed of splits, engine and bootstrap.", "Run", ge=0, le=LARGEST_SEED)
    device: Literal["cpu", "cuda"] = option("cpu", "Where networks run.", "Run")
    threads: int | None = option(None, "CPU threads of each process. [default: the free cores, shared out among --workers]", "Run", ge=1)
    workers: int = option(1, "Processes that compute Shapley values (tmab). Any number gives the same bits.", "Run", ge=1)
    batch: int = option(32, "Most images of a pass. A GPU is faster with more, such as 256.", "Run", ge=1)
    memory: float | None = option(None, "GiB that a pass may take. [default: half of the free memory]", "Run", shown=False, ge=0)
