"""Kinds of reports: for each its result, its sections and its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from repairkit.baselines import figures as comparison_figures
from repairkit.errors import DataError
from repairkit.experiments.adversarial import figures as adversarial_figures
from repairkit.experiments.adversarial import sections as adversarial_sections
from repairkit.experiments.adversarial.result import AdversarialResult
from repairkit.experiments.correlation import figures as correlation_figures
from repairkit.experiments.correlation import sections as correlation_sections
from repairkit.experiments.correlation.result import CorrelationResult
from repairkit.experiments.critical import figures as critical_figures
from repairkit.experiments.critical import sections as critical_sections
from repairkit.experiments.critical.result import CriticalResult
from repairkit.experiments.dropout import figures as dropout_figures
from repairkit.experiments.dropout import sections as dropout_sections
from repairkit.experiments.dropout.result import DropoutResult
from repairkit.experiments.fairness import figures as fairness_figures
from repairkit.experiments.fairness import sections as fairness_sections
from repairkit.experiments.fairness.result import FairnessResult
from repairkit.experiments.pruning import figures as pruning_figures
from repairkit.experiments.pruning import sections as pruning_sections
from repairkit.experiments.pruning.result import PruningResult
from repairkit.experiments.sample_efficiency import figures as efficiency_figures
from repairkit.experiments.sample_efficiency import sections as efficiency_sections
from repairkit.experiments.sample_efficiency.result import EfficiencyResult
from repairkit.experiments.truncation import figures as truncation_figures
from repairkit.experiments.truncation import sections as truncation_sections
from repairkit.experiments.truncation.result import TruncationResult
from repairkit.report.document import Document
from repairkit.report.figure import Figure
from repairkit.report.glossary import glossary
from repairkit.report.tables import reproduction
from repairkit.result import Result, check_schema, read_record


@dataclass(frozen=True)
class Kind:
    """How results of one kind are shown.

    Attributes:
        result: their class.
        report: the module with `facts`, `key_figures` and `sections` of the report, with `summary` for the command line,
            and with `quoted`, `design` and `runs` for other documents.
        draw: the figures of such a result, in order.
    """

    result: type[Result]
    report: ModuleType
    draw: Callable[[Any], list[Figure]]


KINDS = {
    "fairness": Kind(FairnessResult, fairness_sections, fairness_figures.draw),
    "critical filters": Kind(CriticalResult, critical_sections, critical_figures.draw),
    "dropout": Kind(DropoutResult, dropout_sections, dropout_figures.draw),
    "adversarial": Kind(AdversarialResult, adversarial_sections, adversarial_figures.draw),
    "pruning": Kind(PruningResult, pruning_sections, pruning_figures.draw),
    "correlation": Kind(CorrelationResult, correlation_sections, correlation_figures.draw),
    "truncation": Kind(TruncationResult, truncation_sections, truncation_figures.draw),
    "efficiency": Kind(EfficiencyResult, efficiency_sections, efficiency_figures.draw),
}


class _Named(BaseModel):
    kind: str


def kind_of(result: Result) -> Kind:
    """How this result is shown."""
    return KINDS[result.kind]


def drawings_of(result: Result) -> list[Figure]:
    """The figures of a result, and those of what was compared with baselines."""
    return [*kind_of(result).draw(result), *(comparison_figures.draw(comparison, of) for of, comparison in result.compared.items())]


def document(result: Result) -> Document:
    """The report of a result, of any kind."""
    report = kind_of(result).report
    return Document(
        title=result.title,
        kind=result.kind,
        created=result.created,
        notices=result.notices,
        verdict=result.verdict,
        key_figures=report.key_figures(result),
        facts=report.facts(result),
        sections=report.sections(result, drawings_of(result)),
        glossary=glossary(report.GLOSSARY_METRICS, report.GLOSSARY_TERMS),
        command=result.reproduction.command,
        reproduction=reproduction(result),
    )


def read(path: Path) -> Result:
    """Read and check a `result.json` of any kind.

    Raises:
        DataError: the file is missing, is no JSON, or is of no kind of this version.
    """
    check_schema(path)
    kind = read_record(_Named, path).kind
    if kind not in KINDS:
        raise DataError(f"{path} is a result of the kind {kind!r}, expected {' or '.join(KINDS)}; render it with the version that wrote it")
    return KINDS[kind].result.read(path)


def json_schema() -> dict[str, Any]:
    """The JSON schema of `result.json`, whatever the kind."""
    extras: list[Any] = [kind.result.model_fields["extra"].annotation for kind in KINDS.values()]
    model: Any = Result.__class_getitem__(reduce(or_, extras))
    return {**model.model_json_schema(mode="serialization"), "title": "result.json of repairkit"}
