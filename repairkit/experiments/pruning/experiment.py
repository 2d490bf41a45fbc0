"""Pruning as an experiment: what it loads, what it leaves, how it is shown."""

from __future__ import annotations

from pathlib import Path

from repairkit.data.images import LabelledImages
from repairkit.experiments.base import Experiment, Loading, Origin, RunRecord, model_notices
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.networks import load_from_recipe, load_from_settings
from repairkit.experiments.pruning import figures as charts
from repairkit.experiments.pruning import sections as report
from repairkit.experiments.pruning.recipe import PruneRecipe
from repairkit.experiments.pruning.result import PruningResult
from repairkit.experiments.pruning.run import PruningFindings, configuration, dependency_graph_of, plan, prune
from repairkit.experiments.pruning.settings import PruningSettings
from repairkit.experiments.pruning.summary import summarise
from repairkit.models.pruned import CHANNELS, WEIGHTS, pruned_channels_of
from repairkit.network.classifier import Classifier
from repairkit.network.weights import write_weights
from repairkit.run.context import Run
from repairkit.run.options import Options

Task = tuple[CriticalTask, bool]
"""The network with its images, and whether frozen filters are also taken out."""


class Pruning(Experiment[Task, PruningFindings, PruningResult]):
    """Make a network smaller by the filters that accuracy can do without."""

    result_class = PruningResult
    recipe_class = PruneRecipe
    success = ("pruned", "frozen")
    glossary_metrics, glossary_terms = report.GLOSSARY_METRICS, report.GLOSSARY_TERMS
    sections = staticmethod(report.sections)
    figures = staticmethod(charts.draw)
    facts = staticmethod(report.facts)
    key_figures = staticmethod(report.key_figures)
    summary = staticmethod(report.summary)
    quoted = staticmethod(report.quoted)
    design = staticmethod(report.design)
    runs = staticmethod(report.runs)

    def load(self, settings: PruningSettings, loading: Loading) -> Task:
        """The network and images of its classes."""
        return _checked(CriticalTask(*load_from_settings(settings, loading), None), structural=settings.structural_pruning)

    def load_recipe(self, recipe: PruneRecipe, loading: Loading) -> Task:
        """The network and images of its classes."""
        return _checked(CriticalTask(*load_from_recipe(recipe, loading), None), structural=not recipe.freeze_only)

    def title(self, settings: PruningSettings, task: Task) -> str:
        """The title of the report."""
        return f"Pruning of {Path(settings.model).stem} on {task[0].images.name}"

    def notices(self, task: Task) -> list[str]:
        """What a reader must know before any number."""
        return model_notices(task[0].model)

    def networks(self, task: Task) -> dict[str, tuple[Classifier, LabelledImages]]:
        """The network with its images."""
        return {"": (task[0].model.classifier, task[0].images)}

    def heading(self, task: Task, settings: Options) -> str:
        """What the plan is of."""
        images = task[0].images
        return f"images: {images.name}, {len(images):,} of {len(images.classes):,} classes; network: {task[0].model.architecture}"

    def cost(self, task: Task, settings: Options) -> dict[str, float]:
        """Image passes of a run, by part."""
        return plan(task[0], settings)

    def configuration(self, task: Task, settings: Options) -> dict[str, object]:
        """All that decides the bits of a run."""
        return configuration(task[0], settings, remove=task[1])

    def run(self, task: Task, run: Run) -> PruningFindings:
        """Measure everything."""
        return prune(task[0], run, remove=task[1])

    def result(self, task: Task, settings: Options, findings: PruningFindings, origin: Origin) -> PruningResult:
        """The result of what was measured."""
        return summarise(task[0], settings, findings, remove=task[1], **origin._asdict())

    def artifacts(self, task: Task, findings: PruningFindings, directory: Path) -> RunRecord:
        """Values, the patch of what is frozen and, where filters were taken out, `pruned.safetensors` and `pruned.json`.

        `repairkit.load_pruned` makes a network of both. The frozen weights alone are what `repairkit apply patch.json` gives.
        """
        findings.attribution.write(directory / "attribution.parquet")
        findings.patch.write(directory / "patch.json")
        if findings.pruned is not None and findings.pruned.removed:
            model, removed = task[0].model, len(findings.pruned.removed)
            pruned_channels_of(findings.pruned, model.classifier, model.architecture).write(directory / CHANNELS)
            write_weights(
                findings.pruned.network,
                directory / WEIGHTS,
                architecture=f"{model.architecture} without {removed} filters (repairkit.load_pruned reads it)",
                classes=model.classifier.classes,
                **model.normalisation,
                trained_on=f"{model.trained_on}; pruned by {removed} filters",
                half=False,
            )
        return RunRecord(findings.attribution.passes, findings.patch.constants)

    def next_steps(self, task: Task, result: PruningResult, place: Path) -> str:
        """Where smaller or frozen weights are."""
        frozen = f"frozen weights of the ordinary architecture: repairkit apply {place / 'patch.json'} --weights {task[0].model.weights}"
        pruned = f"pruned weights: {place / WEIGHTS}; to use them: repairkit.load_pruned({str(place)!r}) in Python"
        if result.verdict.outcome == "pruned":
            return f"{pruned}\n{frozen}"
        if result.verdict.outcome == "frozen" or (result.verdict.outcome == "nothing pruned" and result.extra.chosen):
            return frozen
        return "nothing could be pruned: keep the original weights"


def _checked(task: CriticalTask, *, structural: bool) -> Task:
    """Refuse before any work an architecture that cannot be cut."""
    if structural:
        dependency_graph_of(task)
    return task, structural
