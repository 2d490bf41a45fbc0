"""Truncation as an experiment: how few random filters networks bear to lose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.experiments.base import SYNTHETIC_NOTICE, Experiment, Loading, Origin, model_notices
from repairkit.experiments.loading import load_section, train_networks
from repairkit.experiments.networks import load_from_recipe
from repairkit.experiments.truncation import report
from repairkit.experiments.truncation.recipe import NetworkSection, TruncationRecipe
from repairkit.experiments.truncation.report import TruncationResult
from repairkit.experiments.truncation.result import summarise
from repairkit.experiments.truncation.run import Subject, TruncationFindings, TruncationOptions, configuration, measure_each, plan
from repairkit.models import zoo
from repairkit.network.classifier import Classifier
from repairkit.run.context import Run
from repairkit.run.options import Options

Task = tuple[Sequence[Subject], TruncationOptions]


class Truncation(Experiment[Task, list[TruncationFindings], TruncationResult]):
    """Freeze random filters of networks."""

    result_class = TruncationResult
    recipe_class = TruncationRecipe
    glossary_metrics, glossary_terms = report.GLOSSARY_METRICS, report.GLOSSARY_TERMS
    sections = staticmethod(report.sections)
    figures = staticmethod(report.draw)
    facts = staticmethod(report.facts)
    summary = staticmethod(report.deaths)
    design = staticmethod(report.design)
    runs = staticmethod(report.runs)

    def load_recipe(self, recipe: TruncationRecipe, loading: Loading) -> Task:
        """The networks with their images."""
        return [load_subject(section, loading) for section in recipe.networks], recipe.truncation_options()

    def notices(self, task: Task) -> list[str]:
        """What a reader must know before any number."""
        synthetic = any(subject.subgroups and subject.images.drawn for subject in task[0])
        return [*([SYNTHETIC_NOTICE] if synthetic else []), *model_notices(*(subject.model for subject in task[0]))]

    def networks(self, task: Task) -> dict[str, tuple[Classifier, LabelledImages]]:
        """The networks with their images."""
        return {subject.name: (subject.model.classifier, subject.images) for subject in task[0]}

    def heading(self, task: Task, settings: Options) -> str:
        """What the plan is of."""
        subjects, truncation = task
        networks = [
            f"{subject.name}: {subject.model.architecture} on {subject.images.name}, {len(subject.images):,} images" for subject in subjects
        ]
        orders = f"{truncation.trajectories} orders of removal, each measured at {len(truncation.shares)} shares of the filters"
        return "\n".join([orders, *networks])

    def cost(self, task: Task, settings: Options) -> dict[str, float]:
        """Image passes of a run, by network and part."""
        plans = {subject.name: plan(subject, settings, task[1]) for subject in task[0]}
        return {f"{name}: {part}": passes for name, parts in plans.items() for part, passes in parts.items()}

    def configuration(self, task: Task, settings: Options) -> dict[str, object]:
        """All that decides the bits of a run."""
        return configuration(task[0], settings, task[1])

    def run(self, task: Task, run: Run) -> list[TruncationFindings]:
        """Measure everything."""
        return measure_each(task[0], run, task[1])

    def result(self, task: Task, settings: Options, findings: list[TruncationFindings], origin: Origin) -> TruncationResult:
        """The result of what was measured."""
        return summarise(task[0], settings, task[1], findings, origin)

    def next_steps(self, task: Task, result: TruncationResult, place: Path) -> str:
        """That nothing is to be done."""
        return "no weights were changed: this measures the networks as they are"


def load_subject(section: NetworkSection, loading: Loading) -> Subject:
    """A network with its images, of class folders or of faces in subgroups; trained first where the section says how."""
    if section.target is None:
        return Subject(section.name, *load_from_recipe(section.classifier(), loading))
    if section.training is not None and section.source is not None:
        source = load_section(section.source, section.size, loading, source=True)
        target = load_section(section.target, section.size, loading, classes=source.classes, source=False)
        training = section.training.model_copy(update={"dropout": None})
        return Subject(section.name, train_networks(training, source, loading).model, target, subgroups=True)
    if section.model is None:
        raise UsageError(f"{section.name} names no model")
    model = zoo.load(section.model, device=loading.device)
    target = load_section(section.target, section.size, loading, classes=model.classifier.classes, source=False)
    return Subject(section.name, model, target, subgroups=True)
