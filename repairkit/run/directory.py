"""The run directory: everything that a run leaves behind, there as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from torch import nn

from repairkit.data.training_hashes import write_record
from repairkit.errors import UsageError
from repairkit.experiments.adversarial.run import AdversarialFindings
from repairkit.experiments.adversarial.task import AdversarialTask
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.correlation.run import CorrelationFindings
from repairkit.experiments.critical.run import CriticalFindings
from repairkit.experiments.dropout.run import DropoutFindings
from repairkit.experiments.fairness.run import Findings, Task
from repairkit.experiments.pruning.run import PruningFindings
from repairkit.experiments.report_kinds import document
from repairkit.files import write_text
from repairkit.models import zoo
from repairkit.models.pruned import CHANNELS, WEIGHTS, pruned_channels_of
from repairkit.network.filters import FilterId
from repairkit.network.patch import Patch
from repairkit.network.weights import write_weights
from repairkit.report import html, markdown
from repairkit.result import Result


def require_free(out: Path) -> None:
    """Refuse a run directory that already holds something or cannot be made, before any work is done.

    Raises:
        UsageError: it exists and is no empty directory, or its place is no folder that can be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} already exists; give another --out or remove it, an earlier run is never overwritten")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UsageError(f"{out} cannot be made, since {above} is no folder that can be written; give another --out")


@contextmanager
def whole_directory(out: Path) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place on success and vanishes on error."""
    out = out.absolute()  # also "." has a name and a parent then
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
    try:
        yield temporary
        require_free(out)
        temporary.chmod(0o755)
        if out.exists():
            out.rmdir()
        os.rename(temporary, out)  # noqa: PTH104 - Path.rename would follow an existing directory on some systems
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_views(result: Result, directory: Path) -> None:
    """`report.html` and `report.md` (with its figures) from a result."""
    report = document(result)
    html.write(report, directory / "report.html")
    markdown.write(report, directory / "report.md")


def write_fairness_run(out: Path, task: Task, findings: Findings, result: Result) -> None:
    """Write the run directory of a fairness repair.

    Of the first fold that froze a filter, whose weights are handed over: `patch.json`, `repaired.safetensors` (float32,
    the same architecture), `attribution.parquet`. Other folds and the dropout-trained network keep
    patch and attribution in `networks/`, and so do later rounds their attributions (a patch holds the filters of all rounds). `run.json` holds the configuration and hashes; `result.json`
    is the truth, `report.html` and `report.md` are views of it.
    """
    with whole_directory(out) as directory:
        handed_over = next((network for network in findings.repairs if network.chosen), findings.repairs[0])
        result.write(directory / "result.json")
        write_views(result, directory)
        for network in findings.repairs:
            place = directory if network is handed_over else directory / "networks" / f"{network.column}-fold-{network.fold + 1}"
            place.mkdir(parents=True, exist_ok=True)
            network.patch.write(place / "patch.json")
            network.attribution.write(place / "attribution.parquet")
            for number, later in enumerate(network.rounds[1:], start=2):
                place = directory / "networks" / f"{network.column}-fold-{network.fold + 1}-round-{number}"
                place.mkdir(parents=True)
                later.attribution.write(place / "attribution.parquet")
        _save_repaired(directory, task.model, handed_over.classifier.network, handed_over.patch)
        configuration = _configuration(result, handed_over.patch.constants, handed_over.attribution.passes)
        write_text(directory / "run.json", json.dumps(configuration, indent=1) + "\n")


def write_critical_run(out: Path, task: CriticalTask, findings: CriticalFindings, result: Result) -> None:
    """Write the run directory of critical filters: `run.json`, `attribution.parquet`, `result.json` and its views.

    With a repair also `patch.json`, `repaired.safetensors` and, where the low end was attributed on its own,
    `networks/culprits-fold-1/attribution.parquet`.
    """
    with whole_directory(out) as directory:
        result.write(directory / "result.json")
        write_views(result, directory)
        findings.attribution.write(directory / "attribution.parquet")
        passes = dict(findings.attribution.passes)
        constants: dict[FilterId, float] = {}
        if (repair := findings.repair) is not None:
            if repair.attribution is not findings.attribution:
                place = directory / "networks" / "culprits-fold-1"
                place.mkdir(parents=True)
                repair.attribution.write(place / "attribution.parquet")
            repair.patch.write(directory / "patch.json")
            _save_repaired(directory, task.model, repair.classifier.network, repair.patch)
            constants = repair.patch.constants
        write_text(directory / "run.json", json.dumps(_configuration(result, constants, passes), indent=1) + "\n")


def write_dropout_run(out: Path, findings: DropoutFindings, result: Result) -> None:
    """Write the run directory of filter dropout: `run.json`, `result.json` and its views, and the attributions.

    That of the highest filters of the original network is `attribution.parquet`; the others lie in `networks/`: `original-lowest-fold-1`,
    `dropout-fold-1` and `dropout-lowest-fold-1`, where no guarantee spoke of both ends at once.
    """
    with whole_directory(out) as directory:
        result.write(directory / "result.json")
        write_views(result, directory)
        for column, network in findings.networks.items():
            place = directory if column == "original" else directory / "networks" / f"{column}-fold-1"
            place.mkdir(parents=True, exist_ok=True)
            network.highest.write(place / "attribution.parquet")
            if network.lowest is not network.highest:
                lowest = directory / "networks" / f"{column}-lowest-fold-1"
                lowest.mkdir(parents=True)
                network.lowest.write(lowest / "attribution.parquet")
        write_text(directory / "run.json", json.dumps(_configuration(result, {}, findings.passes), indent=1) + "\n")


def write_adversarial_run(out: Path, task: AdversarialTask, findings: AdversarialFindings, result: Result) -> None:
    """Write the run directory of an adversarial repair.

    `run.json`, `result.json` and its views, the adversarial images with their targets in `adversarial/` (and
    `adversarial/round-2/` and so on), and `attribution.parquet` of the first round; later rounds keep theirs in `networks/`. With a
    repair also `repaired.safetensors`, and `patch.json` unless the weights were fine-tuned, which no patch can say.
    """
    with whole_directory(out) as directory:
        result.write(directory / "result.json")
        write_views(result, directory)
        for part, made in findings.made.items():
            made.write(directory / "adversarial" / f"{part}.npz")
        for number, each in enumerate(findings.rounds, start=1):
            place = directory if number == 1 else directory / "networks" / f"round-{number}"
            place.mkdir(parents=True, exist_ok=True)
            each.attribution.write(place / "attribution.parquet")
            if number > 1:
                for part, made in each.made.items():
                    made.write(directory / "adversarial" / f"round-{number}" / f"{part}.npz")
        if findings.patch is not None and findings.patch.culprits:
            tuned = findings.trained > 0
            if not tuned:
                findings.patch.write(directory / "patch.json")
            _save_repaired(directory, task.model, findings.networks["repaired"].network, findings.patch, tuned=tuned)
            if tuned:
                write_record(directory / "repaired.safetensors", task.images.subset(findings.split.attribute), init=task.model.weights)
        constants = findings.patch.constants if findings.patch else {}
        write_text(directory / "run.json", json.dumps(_configuration(result, constants, findings.passes), indent=1) + "\n")


def write_correlation_run(out: Path, findings: CorrelationFindings, result: Result) -> None:
    """Write the run directory of a correlation: `run.json`, `result.json` and its views, the adversarial images and `values.parquet`, a row for each filter."""
    with whole_directory(out) as directory:
        result.write(directory / "result.json")
        write_views(result, directory)
        findings.made.write(directory / "adversarial" / "attribute.npz")
        names = ("success", "accuracy", "success again", "accuracy again")
        ids = [str(name) for name in findings.filters.ids]
        pd.DataFrame({"filter": ids} | dict(zip(names, findings.screens, strict=True))).to_parquet(
            directory / "values.parquet", index=False
        )
        write_text(directory / "run.json", json.dumps(_configuration(result, {}, findings.passes), indent=1) + "\n")


def write_measured_run(out: Path, result: Result, passes: Mapping[str, float]) -> None:
    """Write the run directory of a run that measures and changes no weights: `run.json`, `result.json` and its views."""
    with whole_directory(out) as directory:
        result.write(directory / "result.json")
        write_views(result, directory)
        write_text(directory / "run.json", json.dumps(_configuration(result, {}, passes), indent=1) + "\n")


def write_pruning_run(out: Path, task: CriticalTask, findings: PruningFindings, result: Result) -> None:
    """Write the run directory of a pruning: `run.json`, `attribution.parquet`, `result.json` and its views, and `patch.json` of what is frozen.

    Where filters were taken out also `pruned.safetensors` and `pruned.json`, which `repairkit.load_pruned` makes a network of; its
    weights are those of no ordinary architecture, and say so. The frozen weights alone are what `repairkit apply patch.json` gives.
    """
    with whole_directory(out) as directory:
        result.write(directory / "result.json")
        write_views(result, directory)
        findings.attribution.write(directory / "attribution.parquet")
        findings.patch.write(directory / "patch.json")
        if findings.pruned is not None and findings.pruned.removed:
            model = task.model
            pruned_channels_of(findings.pruned, model.classifier, model.architecture).write(directory / CHANNELS)
            write_weights(
                findings.pruned.network,
                directory / WEIGHTS,
                architecture=f"{model.architecture} without {len(findings.pruned.removed)} filters (repairkit.load_pruned reads it)",
                classes=model.classifier.classes,
                **model.normalisation,
                trained_on=f"{model.trained_on}; pruned by {len(findings.pruned.removed)} filters",
                half=False,
            )
        configuration = _configuration(result, findings.patch.constants, findings.attribution.passes)
        write_text(directory / "run.json", json.dumps(configuration, indent=1) + "\n")


def class_folders(tasks: Sequence[CriticalTask]) -> list[str]:
    """Where in the folder of a run each class has its run directory: in one named after it, or in the folder itself where it is alone.

    Raises:
        UsageError: two classes would have the same.
    """
    if len(tasks) == 1:
        return ["."]
    folders = [re.sub(r"\W+", "-", str(task.subject)) for task in tasks]
    if twice := next((folder for folder in folders if folders.count(folder) > 1), None):
        raise UsageError(f"two classes would have the run directory {twice}; name each class once, or run them apart")
    return folders


def write_critical_runs(
    out: Path, folders: Sequence[str], tasks: Sequence[CriticalTask], findings: Sequence[CriticalFindings], results: Sequence[Result]
) -> None:
    """Write the run directory of each class into its folder of `out`, all of them or none."""
    with whole_directory(out) as directory:
        for folder, task, found, result in zip(folders, tasks, findings, results, strict=True):
            write_critical_run(directory / folder, task, found, result)


def _save_repaired(directory: Path, model: zoo.LoadedModel, network: nn.Module, patch: Patch, *, tuned: bool = False) -> None:
    write_weights(
        network,
        directory / "repaired.safetensors",
        architecture=model.architecture,
        classes=model.classifier.classes,
        **model.normalisation,
        trained_on=f"{model.trained_on}; repaired by freezing {len(patch.culprits)} filters{' and training on the attribution images' if tuned else ''}",
        half=False,
    )


def _configuration(result: Result, frozen: Mapping[FilterId, float], passes: Mapping[str, float]) -> dict[str, object]:
    constants = json.dumps([(str(name), constant) for name, constant in frozen.items()])
    return {
        "kind": result.kind,
        "created": result.created,
        "reproduction": result.reproduction.model_dump(mode="json"),
        "hashes": result.reproduction.hashes | {"frozen constants": hashlib.sha256(constants.encode()).hexdigest()},
        "passes": dict(passes),
    }
