"""The report of a repair of a user's own network, and the directory that it is saved in."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repairkit.data.images import data_hash
from repairkit.errors import UsageError
from repairkit.network.weights import write_weights
from repairkit.report import charts, html, markdown, tables
from repairkit.report.document import Bullets, Definitions, Document, Section, blocks
from repairkit.report.figure import Figure
from repairkit.report.formatting import limit
from repairkit.report.glossary import glossary
from repairkit.result import Column, Cost, FrozenFilter, Histogram, NoExtra, Reproduction, Result

if TYPE_CHECKING:
    from repairkit.repair.repair import Repair

KIND = "repair"
PACKAGES = ("repairkit", "torch", "numpy", "scipy")
COLUMNS = [
    Column(key="original", label="Original", explanation="The network as it was given."),
    Column(key="repaired", label="Repaired", explanation="The same architecture with the selected filters frozen at their mean output."),
]
METRICS = ("Recall", "Mean recall", "Lowest recall", "Difference of recalls", "Accuracy", "Source accuracy")
TERMS = ("Interval", "Paired difference", "p value, adjusted", "Claim", "Filter", "Value", "Gradient estimate", "Pass")
TEST_IMAGES = "Every share is measured on test images, which had no part in attribution or selection."
LIMITS = [
    "The intervals are for new images of the same kind and for these two networks. They do not cover another split or another attribution.",
    "The report compares the repair with the original alone. For a task of two classes, compare it with a moved decision threshold too.",
    "Whether the test images were part of the training of the network is not known here.",
]


def result_of(repair: Repair) -> Result[NoExtra]:
    """Every number of the report."""
    evaluation, run, attribution = repair.evaluate(), repair.run, repair.attribution
    valued = attribution.value[~np.isnan(attribution.value)]
    counts, edges = np.histogram(valued, bins=30)
    frozen = [
        FrozenFilter(
            fold=0, column="repaired", **culprit.model_dump(include={"layer", "channel", "constant", "value", "half_width", "screen"})
        )
        for culprit in repair.patch.culprits
    ]
    return Result(
        kind=KIND,
        title=f"Repair of {repair.inputs.architecture}",
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        level=evaluation.level,
        model=repair.inputs.architecture,
        objective=repair.patch.objective,
        verdict=evaluation.verdict,
        columns=COLUMNS,
        groups=list(evaluation.groups),
        shares=list(evaluation.shares),
        differences=list(evaluation.differences),
        frozen=frozen,
        histograms=[
            Histogram(
                title="Estimated values of the filters that were measured",
                edges=edges.tolist(),
                counts=counts.tolist(),
                culprits=sorted(culprit.value for culprit in repair.patch.culprits),
            )
        ],
        method=_method(repair),
        costs=[Cost(part=part, passes=run.ledger.passes.get(part, 0.0), seconds=seconds) for part, seconds in run.ledger.seconds.items()],
        limits=LIMITS,
        reproduction=_reproduction(repair),
        extra=NoExtra(),
    )


def _method(repair: Repair) -> list[str]:
    attribution, data = repair.attribution, repair.inputs.data
    guard = repair.inputs.source or data
    valued = int((~np.isnan(attribution.value)).sum())
    return [
        f"Images of {data.name}: {len(repair.split.attribute):,} for attribution, {len(repair.split.choose):,} for selection and "
        f"{len(repair.split.report):,} for the test. No image is in two parts.",
        f"Values by {attribution.engine}: {valued:,} of {len(attribution.ids):,} filters were measured, in "
        f"{sum(attribution.passes.values()):,.0f} passes.",
        f"Selection froze {len(repair.patch.culprits)} of {repair.selection.candidates} candidates. It stopped because {repair.selection.reason}.",
        f"Guard: the one-sided 90 % bound on the loss of accuracy on {guard.name} stays under {limit(repair.run.settings.max_clean_drop)}.",
    ]


def _reproduction(repair: Repair) -> Reproduction:
    data, source, settings, ledger = repair.inputs.data, repair.inputs.source, repair.run.settings, repair.run.ledger
    return Reproduction(
        command=f"repairkit.repair(model, data, {repair.objective!r}{', source=source' if source else ''})",
        seed=settings.seed,
        versions={name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        hashes={"model": repair.inputs.sha256, "data": data_hash(data)} | ({"source": data_hash(source)} if source else {}),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, device {settings.device}",
        minutes=round(sum(ledger.seconds.values()) / 60, 2),
        settings={name: str(getattr(settings, name)) for name in ("engine", "budget", "max_filters", "max_clean_drop", "batch")},
    )


def draw(result: Result[NoExtra]) -> list[Figure]:
    """Recall before and after, and the histogram of values."""
    return [charts.recall(result), charts.histogram(result.histograms[0], "values")]


def facts(result: Result[NoExtra]) -> list[tuple[str, str]]:
    """What was repaired, for the head of the report."""
    return [
        ("Model", result.model),
        ("Filters ranked by", result.objective),
        ("Intervals", f"{result.level:.0%}"),
        ("Date", result.created),
    ]


def sections(result: Result[NoExtra], figures: Sequence[Figure]) -> list[Section]:
    """The report between the verdict and the glossary."""
    worse = result.verdict.worse
    columns = Definitions([(column.label, column.explanation) for column in result.columns])
    return [
        Section("before-after", "Before and after", blocks(TEST_IMAGES, tables.before_after(result), columns)),
        Section(
            "worse",
            "Regressions",
            blocks(Bullets(worse, worse=True) if worse else "No regression was measured.", tables.lower_after_repair(result)),
        ),
        Section("differences", "Paired differences", blocks(*tables.differences(result))),
        Section("filters", "Filters changed", blocks(*tables.filter_tables(result), "" if result.frozen else "No filter was frozen.")),
        Section("method", "Method and cost", blocks(Bullets(result.method), tables.costs(result))),
        Section("figures", "Figures", figures),
        Section("limits", "Limits", blocks(Bullets(result.limits))),
    ]


def document(result: Result[NoExtra]) -> Document:
    """The report of a result."""
    return Document(
        title=result.title,
        kind=result.kind,
        created=result.created,
        notices=result.notices,
        verdict=result.verdict,
        key_figures=tables.aggregates(result),
        facts=facts(result),
        sections=sections(result, draw(result)),
        glossary=glossary(METRICS, TERMS),
        command=result.reproduction.command,
        reproduction=tables.reproduction(result),
    )


def write_report(repair: Repair, path: Path) -> None:
    """The report as a page or as Markdown, by the ending of the name."""
    renderers = {".html": html.write, ".md": markdown.write}
    if path.suffix not in renderers:
        raise UsageError(f"expected a file name that ends in .html or .md, got {path.name!r}; give report.html for instance")
    renderers[path.suffix](document(result_of(repair)), path)


def save(repair: Repair, directory: Path) -> None:
    """Weights, patch, attribution, result and report, all of them or none."""
    from repairkit.run.directory import require_free, whole_directory

    require_free(directory)
    result = result_of(repair)
    classifier = repair.round.classifier
    with whole_directory(directory) as place:
        write_weights(
            classifier.network,
            place / "repaired.safetensors",
            architecture=repair.inputs.architecture,
            classes=classifier.classes,
            trained_on=f"unknown; repaired by freezing {len(repair.patch.culprits)} filters",
            mean=classifier.mean.flatten().tolist(),
            std=classifier.std.flatten().tolist(),
            half=False,
        )
        repair.patch.write(place / "patch.json")
        repair.attribution.write(place / "attribution.parquet")
        result.write(place / "result.json")
        html.write(document(result), place / "report.html")
        markdown.write(document(result), place / "report.md")
