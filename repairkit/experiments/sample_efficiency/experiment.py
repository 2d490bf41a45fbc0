"""Sample efficiency as an experiment: the bandit against plain Monte Carlo."""

from __future__ import annotations

from pathlib import Path

from repairkit.data.images import LabelledImages
from repairkit.experiments.base import Experiment, Loading, Origin, RunRecord, model_notices
from repairkit.experiments.networks import load_from_recipe
from repairkit.experiments.sample_efficiency import report, small_network
from repairkit.experiments.sample_efficiency.recipe import EfficiencyRecipe
from repairkit.experiments.sample_efficiency.report import EfficiencyResult
from repairkit.experiments.sample_efficiency.result import summarise
from repairkit.experiments.sample_efficiency.run import (
    EfficiencyFindings,
    EfficiencyOptions,
    EfficiencyTask,
    configuration,
    measure,
    plan,
)
from repairkit.network.classifier import Classifier
from repairkit.run.context import Run
from repairkit.run.options import Options

Task = tuple[EfficiencyTask, EfficiencyOptions]


class SampleEfficiency(Experiment[Task, EfficiencyFindings, EfficiencyResult]):
    """Compare algorithms that estimate Shapley values."""

    result_class = EfficiencyResult
    recipe_class = EfficiencyRecipe
    success = ("measured",)  # else the algorithms did not stop
    glossary_metrics, glossary_terms = report.GLOSSARY_METRICS, report.GLOSSARY_TERMS
    sections = staticmethod(report.sections)
    figures = staticmethod(report.draw)
    facts = staticmethod(report.facts)
    summary = staticmethod(report.summary)
    quoted = staticmethod(report.comparisons)
    design = staticmethod(report.design)
    runs = staticmethod(report.runs)

    def load_recipe(self, recipe: EfficiencyRecipe, loading: Loading) -> Task:
        """The network with its images, which may be the small ones that come with repairkit."""
        if recipe.model == small_network.NAME:
            epochs = small_network.EPOCHS if loading.fit else 0
            network = small_network.load(recipe.channels or small_network.CHANNELS, epochs=epochs)
            return EfficiencyTask(network, small_network.held_out()), recipe.efficiency_options()
        return EfficiencyTask(*load_from_recipe(recipe, loading)), recipe.efficiency_options()

    def notices(self, task: Task) -> list[str]:
        """What a reader must know before any number."""
        return model_notices(task[0].model)

    def networks(self, task: Task) -> dict[str, tuple[Classifier, LabelledImages]]:
        """The network with its images."""
        return {"": (task[0].model.classifier, task[0].images)}

    def heading(self, task: Task, settings: Options) -> str:
        """What the plan is of."""
        images, model = task[0].images, task[0].model
        return f"images: {images.name}, {len(images):,}; network: {model.architecture}; compared by {task[1].method}"

    def cost(self, task: Task, settings: Options) -> dict[str, float]:
        """Image passes of a run, by part."""
        return plan(task[0], settings, task[1])

    def configuration(self, task: Task, settings: Options) -> dict[str, object]:
        """All that decides the bits of a run."""
        return configuration(task[0], settings, task[1])

    def run(self, task: Task, run: Run) -> EfficiencyFindings:
        """Measure everything."""
        return measure(task[0], run, task[1])

    def result(self, task: Task, settings: Options, findings: EfficiencyFindings, origin: Origin) -> EfficiencyResult:
        """The result of what was measured."""
        return summarise(task[0], settings, task[1], findings, origin)

    def artifacts(self, task: Task, findings: EfficiencyFindings, directory: Path) -> RunRecord:
        """Nothing but the result is left."""
        return RunRecord(findings.passes)

    def next_steps(self, task: Task, result: EfficiencyResult, place: Path) -> str:
        """That nothing is to be done."""
        return "no weights were changed: this compares algorithms"
