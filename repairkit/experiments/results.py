"""Results of any kind: read, shown as a report, and written into a run directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import nn

from repairkit.baselines import figures as comparison_figures
from repairkit.errors import DataError
from repairkit.experiments import registry
from repairkit.experiments.base import Experiment, Part, RunRecord
from repairkit.files import write_text
from repairkit.models.zoo import LoadedModel
from repairkit.network.patch import Patch
from repairkit.network.weights import write_weights
from repairkit.report import html, markdown
from repairkit.report.document import Document
from repairkit.report.figure import Figure
from repairkit.report.glossary import glossary
from repairkit.report.tables import reproduction
from repairkit.result import Result, check_schema, read_record
from repairkit.run.directory import whole_directory


class _Named(BaseModel):
    kind: str


def kind_of(result: Result) -> Experiment[Any, Any, Any]:
    """The experiment that such a result comes from."""
    return registry.experiment_of(result.kind)


def drawings_of(result: Result) -> list[Figure]:
    """The figures of a result, and those of what was compared with baselines."""
    return [*kind_of(result).figures(result), *(comparison_figures.draw(comparison, of) for of, comparison in result.compared.items())]


def document(result: Result) -> Document:
    """The report of a result, of any kind."""
    experiment = kind_of(result)
    return Document(
        title=result.title,
        kind=result.kind,
        created=result.created,
        notices=result.notices,
        verdict=result.verdict,
        key_figures=experiment.key_figures(result),
        facts=experiment.facts(result),
        sections=experiment.sections(result, drawings_of(result)),
        glossary=glossary(experiment.glossary_metrics, experiment.glossary_terms),
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
    if kind not in [*registry.kinds(), *registry.MADE_IN_PYTHON]:
        expected = " or ".join(registry.kinds())
        raise DataError(f"{path} is a result of the kind {kind!r}, expected {expected}; render it with the version that wrote it")
    return registry.experiment_of(kind).result_class.read(path)


def json_schema() -> dict[str, Any]:
    """The JSON schema of `result.json`, whatever the kind."""
    extras: list[Any] = [
        registry.experiment_of(kind).result_class.model_fields["extra"].annotation for kind in [*registry.kinds(), *registry.MADE_IN_PYTHON]
    ]
    model: Any = Result.__class_getitem__(reduce(or_, extras))
    return {**model.model_json_schema(mode="serialization"), "title": "result.json of repairkit"}


def write_views(result: Result, directory: Path) -> None:
    """`report.html` and `report.md` (with its figures) from a result."""
    report = document(result)
    html.write(report, directory / "report.html")
    markdown.write(report, directory / "report.md")


def write_run(out: Path, task: Any, findings: Any, result: Result) -> None:
    """Write a run directory, whole or not at all: `result.json`, its views, `run.json` and what the kind adds."""
    write_runs(out, [(Part(".", task, findings, result.title), result)])


def write_runs(out: Path, parts: Sequence[tuple[Part[Any, Any], Result]]) -> None:
    """Write the run directories of all parts in one folder, all of them or none."""
    with whole_directory(out) as directory:
        for part, result in parts:
            place = directory / part.folder
            place.mkdir(parents=True, exist_ok=True)
            result.write(place / "result.json")
            write_views(result, place)
            record = kind_of(result).artifacts(part.task, part.findings, place)
            write_text(place / "run.json", json.dumps(_run_record(result, record), indent=1) + "\n")


def write_repaired(directory: Path, model: LoadedModel, network: nn.Module, patch: Patch, *, tuned: bool = False) -> None:
    """Write `repaired.safetensors`, the weights of the network with the frozen filters baked in."""
    training = " and training on the attribution images" if tuned else ""
    write_weights(
        network,
        directory / "repaired.safetensors",
        architecture=model.architecture,
        classes=model.classifier.classes,
        **model.normalisation,
        trained_on=f"{model.trained_on}; repaired by freezing {len(patch.culprits)} filters{training}",
        half=False,
    )


def _run_record(result: Result, record: RunRecord) -> dict[str, object]:
    constants = json.dumps([(str(name), constant) for name, constant in record.constants.items()])
    return {
        "kind": result.kind,
        "created": result.created,
        "reproduction": result.reproduction.model_dump(mode="json"),
        "hashes": result.reproduction.hashes | {"frozen constants": hashlib.sha256(constants.encode()).hexdigest()},
        "passes": {cost.part: cost.passes for cost in result.costs} if record.passes is None else dict(record.passes),
    }
