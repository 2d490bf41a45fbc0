"""The comparison of a network with one trained with filter dropout, as an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repairkit.data import loaders
from repairkit.data import synthetic_faces as drawn
from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.experiments.base import SYNTHETIC_NOTICE, Experiment, Loading, Origin, RunRecord, below, model_notices
from repairkit.experiments.dropout import report
from repairkit.experiments.dropout.recipe import DropoutRecipe
from repairkit.experiments.dropout.result import DropoutResult, summarise
from repairkit.experiments.dropout.run import DropoutFindings, DropoutTask, configuration, find, plan
from repairkit.experiments.dropout.settings import DropoutSettings
from repairkit.experiments.loading import load_section, train_networks
from repairkit.experiments.networks import EMBEDDED_DROPOUT, digits_network, load_network_and_images
from repairkit.models import embedded, zoo
from repairkit.network.classifier import Classifier
from repairkit.run.context import Run
from repairkit.run.options import Options

DRAWN_IMAGES = 600
NO_DROPOUT = (
    "{file} was trained without filter dropout, as its train.json says: this compares two networks, and says nothing about dropout."
)


class Dropout(Experiment[DropoutTask, DropoutFindings, DropoutResult]):
    """Compare a network with one trained with filter dropout."""

    result_class = DropoutResult
    recipe_class = DropoutRecipe
    glossary_metrics, glossary_terms = report.GLOSSARY_METRICS, report.GLOSSARY_TERMS
    sections = staticmethod(report.sections)
    figures = staticmethod(report.draw)
    facts = staticmethod(report.facts)
    key_figures = staticmethod(report.key_figures)
    summary = staticmethod(report.summary)
    quoted = staticmethod(report.quoted)
    design = staticmethod(report.design)
    runs = staticmethod(report.runs)

    def load(self, settings: DropoutSettings, loading: Loading) -> DropoutTask:
        """Two networks, and faces, class folders or embedded digits."""
        networks = (settings.model, settings.weights, settings.compare_model, settings.compare_weights)
        faces = settings.faces
        usual: dict[str, Any] = {"size": settings.size, "mean": settings.mean, "std": settings.std}
        if faces is None:
            return folder_task(*networks, settings.data_root, loading, parts=settings.subsets, per_class=settings.max_per_class, **usual)
        given = {"--subsets": settings.subsets, "--max-per-class": settings.max_per_class}
        if unfit := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{unfit[0]} goes with class folders, got it with --data {faces}; leave one of them out")
        return face_task(*networks, faces, settings.data_root, loading, classes=settings.classes, **usual)

    def load_recipe(self, recipe: DropoutRecipe, loading: Loading) -> DropoutTask:
        """Two networks, trained first where the recipe says how, and images."""
        if recipe.training is not None and recipe.source is not None:
            trained = train_networks(recipe.training, load_section(recipe.source, recipe.size, loading, source=True), loading)
            if trained.comparison is None:
                raise UsageError("the recipe trains no comparison model; give [training.dropout]")
            return DropoutTask(trained.model, trained.comparison, trained.source, trained.training)
        root = loading.data_root

        def network(name: str | None) -> str | None:
            return str(below(root, name)) if name and Path(name).suffix else name

        model = network(recipe.model)
        if model is None:
            raise UsageError("the recipe names no model and has no [training] with a source")
        networks = (model, below(root, recipe.weights), network(recipe.dropout_model), below(root, recipe.dropout_weights))
        usual: dict[str, Any] = {"size": recipe.size, "mean": recipe.mean, "std": recipe.std}
        if recipe.source is not None:
            faces = root / recipe.source.folder if root and recipe.source.folder else root
            return face_task(*networks, recipe.source.name, faces, loading, classes=drawn.CLASSES, **usual)
        folder, parts = (recipe.data.folder, recipe.data.parts) if recipe.data else (None, None)
        data_root = below(root, folder) if folder else root
        return folder_task(*networks, data_root, loading, parts=parts, per_class=recipe.per_class, **usual)

    def title(self, settings: DropoutSettings, task: DropoutTask) -> str:
        """The title of the report."""
        return f"What {Path(settings.model).stem} and its dropout-trained rival depend on, on {task.images.name}"

    def notices(self, task: DropoutTask) -> list[str]:
        """What a reader must know before any number."""
        stages = task.dropout.stages
        without = bool(stages) and all(stage.settings.filter_dropout == 0 for stage in stages)
        return [
            *([SYNTHETIC_NOTICE] if task.images.drawn else []),
            *model_notices(task.model, task.dropout),
            *([NO_DROPOUT.format(file=task.dropout.weights.name)] if without else []),
        ]

    def networks(self, task: DropoutTask) -> dict[str, tuple[Classifier, LabelledImages]]:
        """The network with the images."""
        return {"": (task.model.classifier, task.images)}

    def heading(self, task: DropoutTask, settings: Options) -> str:
        """What the plan is of."""
        images = f"images: {task.images.name}, {len(task.images):,}"
        return f"{images}; networks: {task.model.architecture} and its dropout-trained comparison model"

    def cost(self, task: DropoutTask, settings: Options) -> dict[str, float]:
        """Image passes of a run, by part."""
        return plan(task, settings)

    def configuration(self, task: DropoutTask, settings: Options) -> dict[str, object]:
        """All that decides the bits of a run."""
        return configuration(task, settings)

    def run(self, task: DropoutTask, run: Run) -> DropoutFindings:
        """Measure everything."""
        return find(task, run)

    def result(self, task: DropoutTask, settings: Options, findings: DropoutFindings, origin: Origin) -> DropoutResult:
        """The result of what was measured."""
        return summarise(task, settings, findings, **origin._asdict())

    def artifacts(self, task: DropoutTask, findings: DropoutFindings, directory: Path) -> RunRecord:
        """The values: `attribution.parquet` of the original network's highest filters, all others in `networks/`.

        There is none of the lowest filters where a guarantee spoke of both ends at once.
        """
        for column, network in findings.networks.items():
            place = directory if column == "original" else directory / "networks" / f"{column}-fold-1"
            place.mkdir(parents=True, exist_ok=True)
            network.highest.write(place / "attribution.parquet")
            if network.lowest is not network.highest:
                lowest = directory / "networks" / f"{column}-lowest-fold-1"
                lowest.mkdir(parents=True)
                network.lowest.write(lowest / "attribution.parquet")
        return RunRecord(findings.passes)

    def next_steps(self, task: DropoutTask, result: DropoutResult, place: Path) -> str:
        """Where all values are."""
        networks = "of the comparison model: add --network dropout, of the lowest filters original-lowest or dropout-lowest"
        return f"all values: repairkit attribution {place}; {networks}"


def face_task(
    model: str,
    weights: Path | None,
    compare_model: str | None,
    compare_weights: Path | None,
    data: str,
    data_root: Path | None,
    loading: Loading,
    *,
    size: int | None,
    classes: tuple[str, ...],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> DropoutTask:
    """Two networks, and faces or images of a manifest; of synthetic ones those of the population that the networks were made for.

    Raises:
        UsageError: no comparison model is named, or what the loaders refuse.
        DataError, ModelError: as the loaders and `DropoutTask`.
    """
    if compare_model is None and model == zoo.CELEBA[0]:
        compare_model = zoo.CELEBA[1]
    usual: dict[str, Any] = {"classes": classes, "mean": mean, "std": std, "device": loading.device}
    first = zoo.load(model, weights=weights, **usual)
    second = zoo.load(_named(compare_model), weights=compare_weights, **usual)
    if data == "drawn":
        loaders.check_drawn(size=size)
        images = drawn.source_faces(n=DRAWN_IMAGES, seed=loading.seed)
    else:
        images = loaders.load(data, root=data_root, size=size, classes=first.classifier.classes)
    return DropoutTask(first, second, images)


def folder_task(
    model: str,
    weights: Path | None,
    compare_model: str | None,
    compare_weights: Path | None,
    data_root: Path | None,
    loading: Loading,
    *,
    parts: Sequence[str] | None,
    per_class: int | None,
    size: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> DropoutTask:
    """Two networks, and class folders or a folder with an annotation file; without, both embedded, and digits.

    Raises:
        UsageError: no comparison model is named, or what `load_network_and_images` refuses.
        DataError, ModelError: as the loaders and `DropoutTask`.
    """
    digital = data_root is None and embedded.applies_to(model, weights)
    if not digital:
        _named(compare_model)  # before anything is loaded
    usual: dict[str, Any] = {"mean": mean, "std": std}
    first, images = load_network_and_images(
        model, loading, weights=weights, data_root=data_root, parts=parts, per_class=per_class, size=size, **usual
    )
    if compare_model is None and digital:
        second = digits_network(model, images.pixels.shape[1], loading, filter_dropout=EMBEDDED_DROPOUT)
    else:
        classes = first.classifier.classes
        second = zoo.load(_named(compare_model), weights=compare_weights, classes=classes, device=loading.device, **usual)
    return DropoutTask(first, second, images)


def _named(compare_model: str | None) -> str:
    if compare_model is None:
        raise UsageError(
            "give --compare-model: weights of the same architecture trained with filter dropout, for instance by repairkit train --filter-dropout"
        )
    return compare_model
