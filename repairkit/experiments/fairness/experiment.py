"""Fairness repair as an experiment: what it loads, what it leaves, how it is shown."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from repairkit.data import loaders
from repairkit.data.decoding import Crop
from repairkit.data.images import LabelledImages
from repairkit.errors import ModelWarning, UsageError
from repairkit.experiments.base import (
    NO_REPAIR,
    SYNTHETIC_NOTICE,
    Experiment,
    Loading,
    Origin,
    RunRecord,
    model_notices,
    repaired_weights,
)
from repairkit.experiments.fairness import report
from repairkit.experiments.fairness.evaluation import Findings
from repairkit.experiments.fairness.recipe import FairnessRecipe
from repairkit.experiments.fairness.report import FairnessResult
from repairkit.experiments.fairness.result import summarise
from repairkit.experiments.fairness.run import Task, configuration, plan, repair
from repairkit.experiments.fairness.settings import FairnessSettings
from repairkit.experiments.loading import load_section, train_networks
from repairkit.experiments.results import write_repaired
from repairkit.models import zoo
from repairkit.network.classifier import Classifier
from repairkit.report.document import Table
from repairkit.report.tables import aggregates
from repairkit.result import Record
from repairkit.run.context import Run
from repairkit.run.options import Options


class Fairness(Experiment[Task, Findings, FairnessResult]):
    """Repair what a network does to subgroups."""

    result_class = FairnessResult
    recipe_class = FairnessRecipe
    success = ("repaired", "no better than the threshold")  # mean recall rose with an interval above zero
    glossary_metrics, glossary_terms = report.GLOSSARY_METRICS, report.GLOSSARY_TERMS
    sections = staticmethod(report.sections)
    figures = staticmethod(report.draw)
    facts = staticmethod(report.facts)
    key_figures = staticmethod(aggregates)
    quoted = staticmethod(report.quoted)
    design = staticmethod(report.design)
    runs = staticmethod(report.runs)

    def load(self, settings: FairnessSettings, loading: Loading) -> Task:
        """The network, one trained with filter dropout, target and source images."""
        model, device, classes = settings.model, settings.device, settings.classes
        loaded = zoo.load(model, weights=settings.weights, classes=classes, mean=settings.mean, std=settings.std, device=device)
        named = settings.compare_model
        comparison = None if named == "none" else comparison_model(loaded, model, named, classes=classes, device=device)
        return Task(loaded, comparison, *_images(settings, loaded.classifier.classes))

    def load_recipe(self, recipe: FairnessRecipe, loading: Loading) -> Task:
        """Networks, trained first where the recipe says how, target, source and training images."""
        if recipe.training is None:
            model, comparison = (zoo.load(name, device=loading.device) if name else None for name in (recipe.model, recipe.dropout_model))
            if model is None:
                raise UsageError("the recipe names no model and has no [training]")
            target = load_section(recipe.target, recipe.size, loading, classes=model.classifier.classes, source=False)
            source = load_section(recipe.source, recipe.size, loading, classes=model.classifier.classes, source=True)
            return Task(model, comparison, target, source)
        source = load_section(recipe.source, recipe.size, loading, source=True)
        target = load_section(recipe.target, recipe.size, loading, classes=source.classes, source=False)
        trained = train_networks(recipe.training, source, loading)
        return Task(trained.model, trained.comparison, target, trained.source, trained.training)

    def title(self, settings: FairnessSettings, task: Task) -> str:
        """The title of the report."""
        return f"Fairness repair of {Path(settings.model).name} on {task.target.name}"

    def notices(self, task: Task) -> list[str]:
        """What a reader must know before any number."""
        synthetic = [SYNTHETIC_NOTICE] if task.target.drawn or task.source.drawn else []
        models = model_notices(*(model for model in (task.model, task.dropout) if model is not None))
        return synthetic + models + mixed_groups(task.target)

    def networks(self, task: Task) -> dict[str, tuple[Classifier, LabelledImages]]:
        """The network with the target images."""
        return {"": (task.model.classifier, task.target)}

    def heading(self, task: Task, settings: Options) -> str:
        """What the plan is of."""
        comparison = " and its dropout-trained comparison model" if task.dropout else ""
        rounds = f", {settings.rounds} rounds" if settings.rounds > 1 else ""
        return (
            f"target: {task.target.name}, {len(task.target):,} images; source: {task.source.name}, {len(task.source):,} images\n"
            f"networks: {task.model.architecture}{comparison}, {settings.folds} fold(s){rounds}"
        )

    def cost(self, task: Task, settings: Options) -> dict[str, float]:
        """Image passes of a run, by part."""
        return plan(task, settings)

    def configuration(self, task: Task, settings: Options) -> dict[str, object]:
        """All that decides the bits of a run."""
        return configuration(task, settings)

    def run(self, task: Task, run: Run) -> Findings:
        """Measure everything."""
        return repair(task, run)

    def result(self, task: Task, settings: Options, findings: Findings, origin: Origin) -> FairnessResult:
        """The result of what was measured."""
        return summarise(task, settings, findings, **origin._asdict())

    def artifacts(self, task: Task, findings: Findings, directory: Path) -> RunRecord:
        """Patch, weights and values of the first fold that froze a filter; those of the others, and of later rounds, in `networks/`.

        A patch holds the filters of all rounds.
        """
        handed_over = next((network for network in findings.repairs if network.chosen), findings.repairs[0])
        for network in findings.repairs:
            name = f"{network.column}-fold-{network.fold + 1}"
            place = directory if network is handed_over else directory / "networks" / name
            place.mkdir(parents=True, exist_ok=True)
            network.patch.write(place / "patch.json")
            network.attribution.write(place / "attribution.parquet")
            for number, later in enumerate(network.rounds[1:], start=2):
                place = directory / "networks" / f"{name}-round-{number}"
                place.mkdir(parents=True)
                later.attribution.write(place / "attribution.parquet")
        write_repaired(directory, task.model, handed_over.classifier.network, handed_over.patch)
        return RunRecord(handed_over.attribution.passes, handed_over.patch.constants)

    def next_steps(self, task: Task, result: FairnessResult, place: Path) -> str:
        """The repaired weights, where there are any that help."""
        repaired = result.verdict.outcome in self.success and any(entry.column == "repaired" for entry in result.frozen)
        return repaired_weights(place, task.model.weights) if repaired else NO_REPAIR

    def stability(self, result: FairnessResult, column: str) -> tuple[list[Record], Table | None]:
        """How far values of two halves of the images agree."""
        entries = [entry for entry in result.extra.stability if entry.column == column]
        extra = result.extra.model_copy(update={"stability": entries})
        return [*entries], report.stability(result.model_copy(update={"extra": extra})) if entries else None


def comparison_model(
    loaded: zoo.LoadedModel, model: str, named: str | None, *, classes: tuple[str, ...], device: str
) -> zoo.LoadedModel | None:
    """The named dropout-trained network; else, for `squeezenet_celeba`, the one trained on the same images, if it is there."""
    if named is not None:
        return zoo.load(named, classes=classes, device=device)
    if model != "squeezenet_celeba":
        return None
    comparison = zoo.load("squeezenet_celeba_dropout", classes=classes, device=device)
    if comparison.stand_in == loaded.stand_in:
        return comparison
    warnings.warn(
        "no dropout-trained network of the same training is at hand, so none is compared with; name one with --compare-model",
        ModelWarning,
        stacklevel=2,
    )
    return None


def _images(settings: FairnessSettings, classes: tuple[str, ...]) -> tuple[LabelledImages, LabelledImages]:
    """Target and source images.

    Raises:
        UsageError: real target images without source images, or what `loaders.load` refuses.
    """
    source_data = settings.source_data
    if source_data is None:
        if settings.data != "drawn":
            raise UsageError(
                "give --source-data: images of what the network was made for, to guard what it can do (drawn, ppb, utkface, celeba, or a manifest)"
            )
        source_data = "drawn"
    more: dict[str, Any] = {"size": settings.size, "classes": classes, "seed": settings.seed}
    crop = Crop.parse(settings.crop) if settings.crop else None
    target = loaders.load(settings.data, root=settings.data_root, crop=crop, **more)
    return target, loaders.load(source_data, root=settings.source_root or settings.data_root, source=True, **more)


def mixed_groups(images: LabelledImages) -> list[str]:
    """The groups of several classes in a sentence, since their recall is no recall of a class; no sentence where there are none.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0, 1]), groups=np.array(["darker", "darker"]),
        ...     classes=("cat", "dog"), name="pets")
        >>> mixed_groups(images)[0]
        'Of the groups of pets, darker holds several classes, so its recall is its accuracy; a group column that names the class separates them.'
    """
    mixed = [group for group in images.group_names if len(np.unique(images.labels[images.groups == group])) > 1]
    if not mixed:
        return []
    shown = ", ".join(mixed[:4]) + (f" and {len(mixed) - 4} more" if len(mixed) > 4 else "")
    fact = (
        "holds several classes, so its recall is its accuracy"
        if len(mixed) == 1
        else "hold several classes, so their recall is their accuracy"
    )
    return [f"Of the groups of {images.name}, {shown} {fact}; a group column that names the class separates them."]
