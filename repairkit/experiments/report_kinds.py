"""Kinds of reports: for each its result, its tables and its figures.

A kind's two templates fill the blocks of `templates/base.html.j2` and `base.md.j2`; its sections and glossary stand in
`templates/words.toml`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from repairkit.baselines import figures as comparison_figures
from repairkit.errors import DataError
from repairkit.experiments.adversarial import figures as adversarial_figures
from repairkit.experiments.adversarial import tables as adversarial_tables
from repairkit.experiments.adversarial.result import AdversarialResult
from repairkit.experiments.correlation import figures as correlation_figures
from repairkit.experiments.correlation import tables as correlation_tables
from repairkit.experiments.correlation.result import CorrelationResult
from repairkit.experiments.critical import figures as critical_figures
from repairkit.experiments.critical import tables as critical_tables
from repairkit.experiments.critical.result import CriticalResult
from repairkit.experiments.dropout import figures as dropout_figures
from repairkit.experiments.dropout import tables as dropout_tables
from repairkit.experiments.dropout.result import DropoutResult
from repairkit.experiments.fairness import tables as fairness_tables
from repairkit.experiments.fairness.result import FairnessResult
from repairkit.experiments.pruning import figures as pruning_figures
from repairkit.experiments.pruning import tables as pruning_tables
from repairkit.experiments.pruning.result import PruningResult
from repairkit.experiments.sample_efficiency import figures as efficiency_figures
from repairkit.experiments.sample_efficiency import tables as efficiency_tables
from repairkit.experiments.sample_efficiency.result import EfficiencyResult
from repairkit.experiments.truncation import figures as truncation_figures
from repairkit.experiments.truncation import tables as truncation_tables
from repairkit.experiments.truncation.result import TruncationResult
from repairkit.report import figures
from repairkit.report.drawing import Figure
from repairkit.result import Result, read_record


@dataclass(frozen=True)
class Kind:
    """How results of one kind are shown.

    Attributes:
        result: their class.
        template: name of the templates, without ending.
        tables: the functions that the templates call as `own`, `facts` among them, and those that
            the command line (`summary`) and other files (`quoted`, `design`, `runs`) show.
        draw: the figures of such a result, in order.
    """

    result: type[Result]
    template: str
    tables: ModuleType
    draw: Callable[[Any], list[Figure]]


KINDS = {
    "fairness": Kind(FairnessResult, "fairness", fairness_tables, figures.draw),
    "critical filters": Kind(CriticalResult, "critical", critical_tables, critical_figures.draw),
    "dropout": Kind(DropoutResult, "dropout", dropout_tables, dropout_figures.draw),
    "adversarial": Kind(AdversarialResult, "adversarial", adversarial_tables, adversarial_figures.draw),
    "pruning": Kind(PruningResult, "pruning", pruning_tables, pruning_figures.draw),
    "correlation": Kind(CorrelationResult, "correlation", correlation_tables, correlation_figures.draw),
    "truncation": Kind(TruncationResult, "truncation", truncation_tables, truncation_figures.draw),
    "efficiency": Kind(EfficiencyResult, "efficiency", efficiency_tables, efficiency_figures.draw),
}


class _Named(BaseModel):
    kind: str


def kind_of(result: Result) -> Kind:
    """How this result is shown."""
    return KINDS[result.kind]


def drawings_of(result: Result) -> list[Figure]:
    """The figures of a result, and those of what was compared with baselines."""
    return [*kind_of(result).draw(result), *(comparison_figures.draw(comparison, of) for of, comparison in result.compared.items())]


def read(path: Path) -> Result:
    """Read and check a `result.json` of any kind.

    Raises:
        DataError: the file is missing, is no JSON, or is of no kind of this version.
    """
    kind = read_record(_Named, path).kind
    if kind not in KINDS:
        raise DataError(f"{path} is a result of the kind {kind!r}, expected {' or '.join(KINDS)}; render it with the version that wrote it")
    return KINDS[kind].result.read(path)
