"""The correlation of attack success and accuracy as an experiment."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from repairkit.data.images import LabelledImages
from repairkit.experiments.attack_task import AttackOptions, AttackTask
from repairkit.experiments.base import Experiment, Loading, Origin, RunRecord, model_notices
from repairkit.experiments.correlation import report
from repairkit.experiments.correlation.recipe import CorrelationRecipe
from repairkit.experiments.correlation.report import CorrelationResult
from repairkit.experiments.correlation.result import summarise
from repairkit.experiments.correlation.run import CorrelationFindings, configuration, measure, plan
from repairkit.experiments.networks import load_from_recipe
from repairkit.network.classifier import Classifier
from repairkit.run.context import Run
from repairkit.run.options import Options

Task = tuple[AttackTask, AttackOptions]


class AttackCorrelation(Experiment[Task, CorrelationFindings, CorrelationResult]):
    """Whether attacks need the filters that accuracy needs."""

    result_class = CorrelationResult
    recipe_class = CorrelationRecipe
    success = ("measured",)
    glossary_metrics, glossary_terms = report.GLOSSARY_METRICS, report.GLOSSARY_TERMS
    sections = staticmethod(report.sections)
    figures = staticmethod(report.draw)
    facts = staticmethod(report.facts)
    summary = staticmethod(report.summary)
    quoted = staticmethod(report.quoted)
    design = staticmethod(report.design)
    runs = staticmethod(report.runs)

    def load_recipe(self, recipe: CorrelationRecipe, loading: Loading) -> Task:
        """The network with its images, and the attack."""
        return AttackTask(*load_from_recipe(recipe, loading)), recipe.attack_options(loading.device)

    def notices(self, task: Task) -> list[str]:
        """What a reader must know before any number."""
        return model_notices(task[0].model)

    def networks(self, task: Task) -> dict[str, tuple[Classifier, LabelledImages]]:
        """The network with its images."""
        return {"": (task[0].model.classifier, task[0].images)}

    def heading(self, task: Task, settings: Options) -> str:
        """What the plan is of."""
        images, model = task[0].images, task[0].model
        return f"images: {images.name}, {len(images):,}; network: {model.architecture}; attack: {task[1].method.in_words}"

    def cost(self, task: Task, settings: Options) -> dict[str, float]:
        """Image passes of a run, by part."""
        return plan(task[0], settings, task[1])

    def configuration(self, task: Task, settings: Options) -> dict[str, object]:
        """All that decides the bits of a run."""
        return configuration(task[0], settings, task[1])

    def run(self, task: Task, run: Run) -> CorrelationFindings:
        """Measure everything."""
        return measure(task[0], run, task[1])

    def result(self, task: Task, settings: Options, findings: CorrelationFindings, origin: Origin) -> CorrelationResult:
        """The result of what was measured."""
        return summarise(task[0], settings, task[1], findings, origin)

    def artifacts(self, task: Task, findings: CorrelationFindings, directory: Path) -> RunRecord:
        """The adversarial images and `values.parquet`, a row for each filter."""
        findings.made.write(directory / "adversarial" / "attribute.npz")
        names = ("success", "accuracy", "success again", "accuracy again")
        ids = [str(name) for name in findings.filters.ids]
        values = pd.DataFrame({"filter": ids} | dict(zip(names, findings.screens, strict=True)))
        values.to_parquet(directory / "values.parquet", index=False)
        return RunRecord(findings.passes)

    def next_steps(self, task: Task, result: CorrelationResult, place: Path) -> str:
        """Where all values are."""
        return f"values of every filter: {place / 'values.parquet'}"
