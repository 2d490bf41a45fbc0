"""What a class, or accuracy on all classes, depends on: as experiments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from repairkit.data.classes import find_class
from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.experiments.base import NO_REPAIR, Experiment, Loading, Origin, Part, RunRecord, model_notices, repaired_weights
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.critical import report
from repairkit.experiments.critical.recipe import CriticalRecipe
from repairkit.experiments.critical.result import CriticalResult, summarise
from repairkit.experiments.critical.run import CriticalFindings, configuration, find_each, plan_each
from repairkit.experiments.critical.settings import AccuracySettings, RecallSettings
from repairkit.experiments.networks import load_from_recipe, load_from_settings
from repairkit.experiments.results import write_repaired
from repairkit.network.classifier import Classifier
from repairkit.run.context import Run
from repairkit.run.options import Options

Task = Sequence[CriticalTask]
"""One network with its images, asked about one class after the other."""
Findings = list[CriticalFindings]


class AccuracyOnAll(Experiment[Task, Findings, CriticalResult]):
    """Find the filters that accuracy depends on."""

    result_class = CriticalResult
    recipe_class = CriticalRecipe
    success = ("repaired", "critical filters found")
    glossary_metrics, glossary_terms = report.GLOSSARY_METRICS, report.GLOSSARY_TERMS
    sections = staticmethod(report.sections)
    figures = staticmethod(report.draw)
    facts = staticmethod(report.facts)
    key_figures = staticmethod(report.key_figures)
    summary = staticmethod(report.summary)
    quoted = staticmethod(report.quoted)
    design = staticmethod(report.design)
    runs = staticmethod(report.runs)

    def load(self, settings: AccuracySettings, loading: Loading) -> Task:
        """The network with its images."""
        return [CriticalTask(*load_from_settings(settings, loading), None)]

    def load_recipe(self, recipe: CriticalRecipe, loading: Loading) -> Task:
        """The network with its images, and the classes that are asked about."""
        tasks = recipe.tasks(*load_from_recipe(recipe, loading, recipe.classes))
        class_folders(tasks)
        return tasks

    def title(self, settings: AccuracySettings, task: Task) -> str:
        """The title of the report."""
        return f"Filters that accuracy depends on, in {Path(settings.model).stem} on {task[0].images.name}"

    def notices(self, task: Task) -> list[str]:
        """What a reader must know before any number."""
        return model_notices(task[0].model)

    def networks(self, task: Task) -> dict[str, tuple[Classifier, LabelledImages]]:
        """The network with its images."""
        return {"": (task[0].model.classifier, task[0].images)}

    def heading(self, task: Task, settings: Options) -> str:
        """What the plan is of."""
        images = task[0].images
        classes = f"; asked about: {', '.join(str(each.subject) for each in task)}" if len(task) > 1 else ""
        return f"images: {images.name}, {len(images):,} of {len(images.classes):,} classes; network: {task[0].model.architecture}{classes}"

    def cost(self, task: Task, settings: Options) -> dict[str, float]:
        """Image passes of a run, by part."""
        return plan_each(task, settings)

    def configuration(self, task: Task, settings: Options) -> dict[str, object]:
        """All that decides the bits of a run."""
        return configuration(task[0], settings) | {"class": [each.subject for each in task]}

    def run(self, task: Task, run: Run) -> Findings:
        """Measure everything."""
        return find_each(task, run)

    def parts(self, task: Task, findings: Findings, title: str) -> list[Part[Task, Findings]]:
        """A run directory for each class, in a folder named after it where there are several."""
        return [
            Part(folder, [asked], [found], f"{title}: {asked.subject}" if len(task) > 1 else title)
            for folder, asked, found in zip(class_folders(task), task, findings, strict=True)
        ]

    def result(self, task: Task, settings: Options, findings: Findings, origin: Origin) -> CriticalResult:
        """The result for the one class of a part."""
        return summarise(task[0], settings, findings[0], **origin._asdict())

    def artifacts(self, task: Task, findings: Findings, directory: Path) -> RunRecord:
        """Values and, with a repair, patch and weights; harmful filters that were attributed on their own in `networks/culprits-fold-1/`."""
        values = findings[0].attribution
        values.write(directory / "attribution.parquet")
        if (repair := findings[0].repair) is None:
            return RunRecord(dict(values.passes))
        if repair.attribution is not values:
            place = directory / "networks" / "culprits-fold-1"
            place.mkdir(parents=True)
            repair.attribution.write(place / "attribution.parquet")
        repair.patch.write(directory / "patch.json")
        write_repaired(directory, task[0].model, repair.classifier.network, repair.patch)
        return RunRecord(dict(values.passes), repair.patch.constants)

    def next_steps(self, task: Task, result: CriticalResult, place: Path) -> str:
        """The repaired weights, or where all values are."""
        if result.verdict.outcome == "repaired":
            return repaired_weights(place, task[0].model.weights)
        return NO_REPAIR if task[0].repair else f"all values: repairkit attribution {place}"


class Recall(AccuracyOnAll):
    """Find the filters that one class depends on."""

    def load(self, settings: RecallSettings, loading: Loading) -> Task:  # type: ignore[override]
        """The network with its images, and the class."""
        loaded, images = load_from_settings(settings, loading, [settings.class_name])
        return [CriticalTask(loaded, images, find_class(settings.class_name, images.classes), settings.repair)]

    def title(self, settings: RecallSettings, task: Task) -> str:  # type: ignore[override]
        """The title of the report."""
        return f"Filters that recall of {task[0].subject} depends on, in {Path(settings.model).stem} on {task[0].images.name}"


def class_folders(tasks: Task) -> list[str]:
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
