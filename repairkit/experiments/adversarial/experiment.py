"""Adversarial repair as an experiment: what it loads, what it leaves, how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from repairkit.data import digits, folders
from repairkit.data.classes import relabel
from repairkit.data.images import LabelledImages
from repairkit.data.training_hashes import write_record
from repairkit.errors import DataError
from repairkit.evaluation.splits import some
from repairkit.experiments.adversarial import figures as charts
from repairkit.experiments.adversarial import report
from repairkit.experiments.adversarial.recipe import AdversarialRecipe
from repairkit.experiments.adversarial.report import AdversarialResult
from repairkit.experiments.adversarial.run import AdversarialFindings, configuration, plan, repair
from repairkit.experiments.adversarial.settings import AdversarialSettings
from repairkit.experiments.adversarial.summary import summarise
from repairkit.experiments.attack_task import AttackOptions, AttackTask
from repairkit.experiments.base import NO_REPAIR, Experiment, Loading, Origin, RunRecord, below, model_notices, repaired_weights
from repairkit.experiments.networks import EMBEDDED_DROPOUT, digits_network, load_any, load_from_recipe, load_from_settings
from repairkit.experiments.results import write_repaired
from repairkit.models import embedded, zoo
from repairkit.models.class_subset import restrict_classes
from repairkit.network.classifier import Classifier
from repairkit.run.context import Run
from repairkit.run.options import Options

EMBEDDED_DIGITS = 900
TRANSFER_MODELS = ("squeezenet1_1", "mobilenet_v3_small")
"""Embedded networks that attacks are transferred from; the second where the first is the one to repair. Both are fitted quickly."""
DROPOUT_TRAINED = ("squeezenet1_0", "squeezenet1_1", "resnet18")
"""Embedded networks that are also fitted with filter dropout, to compare with; larger ones only on a GPU, since two cores take too long."""
TYPED = 40
"""Typed digits, the other data set of the embedded default."""
Task = tuple[AttackTask, AttackOptions]


class Adversarial(Experiment[Task, AdversarialFindings, AdversarialResult]):
    """Freeze the filters that let an attack through."""

    result_class = AdversarialResult
    recipe_class = AdversarialRecipe
    success = ("repaired", "repaired against stored images")
    glossary_metrics, glossary_terms = report.GLOSSARY_METRICS, report.GLOSSARY_TERMS
    sections = staticmethod(report.sections)
    figures = staticmethod(charts.draw)
    facts = staticmethod(report.facts)
    key_figures = staticmethod(report.key_figures)
    summary = staticmethod(report.summary)
    quoted = staticmethod(report.quoted)
    design = staticmethod(report.design)
    runs = staticmethod(report.runs)

    def load(self, settings: AdversarialSettings, loading: Loading) -> Task:
        """The network with its images, other networks and images to judge by, and the attack."""
        loaded, images = load_from_settings(settings, loading)
        if settings.embedded:
            images = images.subset(some(images, EMBEDDED_DIGITS, seed=settings.seed))
        named = [name.partition("=") for name in settings.transfer_model]
        others = load_others(
            loaded,
            images,
            loading,
            transfer_models=[(name, Path(file) if file else None) for name, _, file in named],
            other_data_root=settings.other_data_root,
            compare_model=settings.compare_model,
        )
        return AttackTask(loaded, images, *others), settings.attack_options()

    def load_recipe(self, recipe: AdversarialRecipe, loading: Loading) -> Task:
        """As `load`, by a recipe."""
        loaded, images = load_from_recipe(recipe, loading)
        others = load_others(
            loaded,
            images,
            loading,
            transfer_models=[(section.model, below(loading.data_root, section.weights)) for section in recipe.carriers],
            other_data_root=below(loading.data_root, recipe.elsewhere),
            compare_model=below(loading.data_root, recipe.dropout_model),
        )
        return AttackTask(loaded, images, *others), recipe.attack_options(loading.device)

    def title(self, settings: AdversarialSettings, task: Task) -> str:
        """The title of the report."""
        return f"Adversarial repair of {Path(settings.model).stem} on {task[0].images.name}"

    def notices(self, task: Task) -> list[str]:
        """What a reader must know before any number."""
        return list(dict.fromkeys(model_notices(task[0].model, *task[0].others)))

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

    def run(self, task: Task, run: Run) -> AdversarialFindings:
        """Measure everything."""
        return repair(task[0], run, task[1])

    def result(self, task: Task, settings: Options, findings: AdversarialFindings, origin: Origin) -> AdversarialResult:
        """The result of what was measured."""
        return summarise(task[0], settings, task[1], findings, **origin._asdict())

    def artifacts(self, task: Task, findings: AdversarialFindings, directory: Path) -> RunRecord:
        """The adversarial images with their targets in `adversarial/`, the values, and with a repair the weights.

        There is no `patch.json` where the weights were fine-tuned, which no patch can say. Later rounds have folders of their own.
        """
        for part, made in findings.made.items():
            made.write(directory / "adversarial" / f"{part}.npz")
        for number, found in enumerate(findings.rounds, start=1):
            place = directory if number == 1 else directory / "networks" / f"round-{number}"
            place.mkdir(parents=True, exist_ok=True)
            found.attribution.write(place / "attribution.parquet")
            if number > 1:
                for part, made in found.made.items():
                    made.write(directory / "adversarial" / f"round-{number}" / f"{part}.npz")
        if findings.patch is None:
            return RunRecord(findings.passes)
        if findings.patch.culprits:
            model, tuned = task[0].model, findings.trained > 0
            if not tuned:
                findings.patch.write(directory / "patch.json")
            write_repaired(directory, model, findings.networks["repaired"].network, findings.patch, tuned=tuned)
            if tuned:
                write_record(directory / "repaired.safetensors", task[0].images.subset(findings.split.attribute), init=model.weights)
        return RunRecord(findings.passes, findings.patch.constants)

    def next_steps(self, task: Task, result: AdversarialResult, place: Path) -> str:
        """The repaired weights, where there are any that help."""
        if result.verdict.outcome not in self.success:
            return NO_REPAIR
        if (place / "patch.json").exists():
            return repaired_weights(place, task[0].model.weights)
        return f"repaired and fine-tuned weights: {place / 'repaired.safetensors'}"


def load_others(
    model: zoo.LoadedModel,
    images: LabelledImages,
    loading: Loading,
    *,
    transfer_models: Sequence[tuple[str, Path | None]],
    other_data_root: Path | None,
    compare_model: str | Path | None,
) -> tuple[tuple[zoo.LoadedModel, ...], LabelledImages | None, zoo.LoadedModel | None]:
    """What else judges a repair: networks that attacks are transferred from, images of another data set, a dropout-trained network.

    For the embedded default all of them are embedded, too, unless they are given.

    Args:
        model: the network to repair.
        images: its images.
        loading: the device, and whether embedded networks are fitted.
        transfer_models: names of other networks, which may know more classes, and their weights.
        other_data_root: images of another data set, as `repairkit.data.folders.load` takes them; those of other classes are left out.
        compare_model: a weights file of the same architecture.

    Raises:
        DataError, ModelError: as the loaders, or a network that lacks one of the classes.
    """
    classes, side, device = model.classifier.classes, images.pixels.shape[1], loading.device
    digital = model.stand_in and images.classes == digits.CLASSES
    of_digits = partial(digits_network, side=side, loading=loading)

    other_images = shared_classes(other_data_root, classes, side) if other_data_root is not None else None
    if other_images is None and digital:
        other_images = digits.typed_digits(TYPED, size=side)
    others = tuple(
        of_digits(name) if digital and embedded.applies_to(name, file) else restrict_classes(load_any(name, file, classes, device), classes)
        for name, file in transfer_models
    )
    if digital and not others:
        others = (of_digits(TRANSFER_MODELS[model.architecture == TRANSFER_MODELS[0]]),)
    comparison: zoo.LoadedModel | None = None
    if compare_model is not None:
        comparison = zoo.load(compare_model, classes=classes, device=device)
    elif digital and (model.architecture in DROPOUT_TRAINED or device == "cuda"):
        comparison = of_digits(model.architecture, filter_dropout=EMBEDDED_DROPOUT)
    return others, other_images, comparison


def shared_classes(folder: Path, classes: tuple[str, ...], size: int) -> LabelledImages:
    """Those images of a folder that show one of these classes.

    Raises:
        DataError: there are none, or the folder cannot be loaded.
    """
    images = folders.load(folder, size=size, name=folder.absolute().name)
    known = np.flatnonzero([images.classes[label] in classes for label in images.labels])
    if not len(known):
        raise DataError(f"{images.name}: none of its {len(images.classes)} classes is one of the network's ({', '.join(classes[:3])} ...)")
    return relabel(images.subset(known), classes)
