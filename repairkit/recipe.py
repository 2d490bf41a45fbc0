"""Recipes: an experiment as a TOML file, checked before anything runs."""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from repairkit import pruning
from repairkit.adversarial import MAX_CLEAN_DROP, SHARES, AttackOptions, Ranking
from repairkit.critical import CRITICAL_T0, CriticalTask
from repairkit.data import loaders
from repairkit.data.classes import find_class
from repairkit.data.images import LabelledImages
from repairkit.dropout import DropoutTask
from repairkit.efficiency import EfficiencyOptions, Method
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.adversaries import Effort, effort_for
from repairkit.evaluation.attack_methods import PGD
from repairkit.evaluation.splits import draw
from repairkit.fairness import Task
from repairkit.files import cache_directory
from repairkit.models import small, zoo
from repairkit.models.training import TrainingProgress, train
from repairkit.options import LARGEST_SEED, Options
from repairkit.shapley.guarantee import End
from repairkit.truncation import Subject, TruncationOptions


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSection(_Section):
    """A data set by its loader's name; `folder` is relative to the data root."""

    name: str
    folder: str | None = None

    def paths(self) -> list[str]:
        """What it takes below the data root: nothing where the images are drawn or a manifest says where they are."""
        return [self.folder] if self.folder else [self.name] if self.name in loaders.PUBLISHED else []


class StageSection(_Section):
    """One stage of training: arguments of `repairkit.models.training.train`."""

    epochs: int
    learning_rate: float
    filter_dropout: float = 0.0
    ramp: float = 0.5


class TrainingSection(_Section):
    """Train both networks on images drawn from the source data; what is left is the source.

    Attributes:
        architecture: torchvision's name.
        init: weights to start from, relative to the data root.
        seed: of the draw and the training.
        quotas: how many images of each pattern of subgroups to train on.
        source_groups: patterns of the subgroups whose remaining images are the source.
        plain: the network to repair.
        dropout: its dropout-trained rival, which continues from the plain network's weights.
    """

    architecture: str
    init: str | None = None
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    quotas: dict[str, int]
    source_groups: list[str] = Field(default_factory=lambda: ["*"])
    plain: StageSection
    dropout: StageSection | None = None


class Recipe(_Section):
    """What every recipe says: a class for each command adds its own keys.

    Attributes:
        title: heading of the report.
        size: side of the images in pixels; by default the data's or the network's usual one.
        options: fields of `repairkit.options.Options`.
    """

    defaults: ClassVar[dict[str, object]] = {}
    """Options that the command takes in place of the usual ones."""
    unfit: ClassVar[tuple[str, ...]] = ()
    """Options that the command has no use for."""

    title: str
    size: int | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        raise NotImplementedError

    def run_options(self, path: Path | str = "the recipe", **overrides: object) -> Options:
        """The options of the run.

        Raises:
            UsageError: an option that the command does not have, or a value of another type or range.
        """
        known = [name for name in Options.__dataclass_fields__ if name not in self.unfit]
        if unknown := sorted(set(self.options) - set(known)):
            raise UsageError(f"{path}: options.{unknown[0]} is no option; the options are {', '.join(known)}")
        types = get_type_hints(Options)
        values: dict[str, Any] = {}
        for key, value in self.options.items():
            try:
                values[key] = TypeAdapter(types[key]).validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
            except ValidationError as error:
                raise UsageError(f"{path}: options.{key}: {error.errors()[0]['msg']}, got {value!r}; correct this key") from None
        try:
            return Options(**(self.defaults | values | overrides))  # type: ignore[arg-type]
        except UsageError as error:
            raise UsageError(f"{path}: options.{error}") from None


class FairnessRecipe(Recipe):
    """Repair of a network that serves subgroups unequally.

    Attributes:
        target, source: the data.
        training: how to get the networks; without it, `model` and `dropout_model` name them.
    """

    command: Literal["fairness"]
    target: DataSection
    source: DataSection
    training: TrainingSection | None = None
    model: str | None = None
    dropout_model: str | None = None

    @model_validator(mode="after")
    def _one_way_to_the_networks(self) -> Self:
        if (self.training is None) == (self.model is None):
            raise ValueError("give either a [training] section or a model, not both or neither")
        if self.training is not None and self.dropout_model is not None:
            raise ValueError("dropout_model goes with model; beside [training] give [training.dropout] or remove it")
        return self

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        init = [self.training.init] if self.training and self.training.init else []
        return [*self.target.paths(), *self.source.paths(), *init]

    def varied(self, *, training_seed: int | None = None, rival: bool = True) -> FairnessRecipe:
        """The same experiment with networks trained from another seed, or without the dropout-trained rival.

        Raises:
            UsageError: another training seed for a recipe that trains nothing.
        """
        if training_seed is not None and self.training is None:
            raise UsageError("this recipe trains no network, so it has no training seed; leave --training-seed out")
        training = self.training
        if training is not None:
            seed = training.seed if training_seed is None else training_seed
            training = training.model_copy(update={"seed": seed} | ({} if rival else {"dropout": None}))
        return self.model_copy(update={"training": training} | ({} if rival else {"dropout_model": None}))


class FolderSection(_Section):
    """Labelled images in a folder relative to the data root, of which `parts` are pooled; see `repairkit.data.imagenet.load`."""

    folder: str
    parts: list[str] | None = None


class ClassifierRecipe(Recipe):
    """A classifier of torchvision and labelled images of its classes, as the commands on class folders take them.

    Without weights and data the embedded default, handwritten digits.

    Attributes:
        model: torchvision's name, or a weights file of ours.
        weights: for a named model, relative to the data root; by default torchvision's, where torch's cache holds them.
        data: the images.
        per_class: load at most so many images of each class.
        mean, std: that the network's images are normalised with, where its file does not say.
    """

    model: str
    weights: str | None = None
    data: FolderSection | None = None
    per_class: int | None = Field(default=None, ge=1)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        return [path for path in (self.data and self.data.folder, self.weights) if path]


class CriticalRecipe(ClassifierRecipe):
    """Critical filters: what accuracy, or recall of each of several classes, depends on.

    Several classes are asked about one after the other, each with values, a removal curve and a run directory of its own, named after
    it in the run's folder: `OUT/police-van/report.html`. They share the network, the images, the split and the control (random filters
    frozen, the most expensive part), which is measured with the first class.

    Attributes:
        classes: names of the classes whose recall is asked about; for `recall` alone.
        repair: also repair each class, as `repairkit recall --repair`.
    """

    defaults = {"ranking": "recall"}  # the worth has one part
    unfit = ("ranking", "folds", "rounds", "source_counts", "stability", "curve", "alternatives")

    command: Literal["recall", "accuracy"]
    classes: list[str] = Field(default_factory=list)
    repair: bool = False

    @model_validator(mode="after")
    def _classes_where_recall_is_asked_about(self) -> Self:
        if self.command == "recall" and not self.classes:
            raise ValueError("classes: give the names of those whose recall is asked about, at least one")
        if self.command == "accuracy" and (self.classes or self.repair):
            raise ValueError('classes and repair go with command = "recall"; accuracy asks about all classes, so leave them out')
        return self

    def run_options(self, path: Path | str = "the recipe", **overrides: object) -> Options:
        """The options of the run; as with the commands, tmab measures the live zone unless t0 says otherwise."""
        measured = self.options.get("engine", "tmab") == "tmab" and "t0" not in self.options
        return super().run_options(path, **(({"t0": CRITICAL_T0} if measured else {}) | overrides))

    def tasks(self, model: zoo.LoadedModel, images: LabelledImages) -> list[CriticalTask]:
        """What is asked, one class after the other.

        Raises:
            UsageError: there is no such class.
            DataError, ModelError: as `CriticalTask`.
        """
        if self.command == "accuracy":
            return [CriticalTask(model, images, None)]
        return [CriticalTask(model, images, find_class(name, images.classes), self.repair) for name in self.classes]


class CarrierSection(_Section):
    """Another network of these classes, or of ImageNet's; `weights` are relative to the data root."""

    model: str
    weights: str | None = None


class AttackSection(_Section):
    """The adversary: fields of `repairkit.adversarial.AttackOptions`, with those of its PGD beside them.

    Attributes:
        eps, step: in 255ths.
        effort: fields of `repairkit.evaluation.adversaries.Effort`.
        thorough: the full suite of attacks, but for what `effort` says; on a GPU by default, see `repairkit.evaluation.adversaries.effort_for`.
    """

    eps: float = 16
    step: float = 0.8
    steps: int = PGD.steps
    random_start: bool = True
    ranking: Ranking = "success - accuracy"
    images: tuple[int, int, int] = AttackOptions.images
    rounds: int = 1
    finetune_epochs: int = 0
    frontier: int = 64
    effort: dict[str, int] = Field(default_factory=dict)
    thorough: bool = False


def attack_options(section: AttackSection, *, device: str, embedded: bool) -> AttackOptions:
    """The adversary that a recipe describes.

    Raises:
        ValueError: a value out of its range, or no such field of the effort.
    """
    if unknown := sorted(set(section.effort) - set(Effort.__dataclass_fields__)):
        raise ValueError(f"attack.effort.{unknown[0]} is no setting; there are {', '.join(Effort.__dataclass_fields__)}")
    try:
        return AttackOptions(
            method=PGD(eps=section.eps / 255, step=section.step / 255, steps=section.steps, random_start=section.random_start),
            effort=effort_for(section.effort, thorough=section.thorough, device=device, embedded=embedded),
            **section.model_dump(include={"ranking", "images", "rounds", "finetune_epochs", "frontier"}),
        )
    except UsageError as error:
        raise ValueError(f"attack: {error}") from None


class AdversarialRecipe(ClassifierRecipe):
    """Repair of a network that is easy to fool.

    Attributes:
        carriers: networks that images are made against to be carried over.
        elsewhere: folder of another data set, relative to the data root.
        dropout_model: weights of the same architecture trained with filter dropout, relative to the data root.
        attack: the adversary.
    """

    defaults = {"target_shares": SHARES, "max_clean_drop": MAX_CLEAN_DROP}
    unfit = ("ranking", "folds", "rounds", "source_counts", "stability", "curve")

    command: Literal["adversarial"]
    carriers: list[CarrierSection] = Field(default_factory=list)
    elsewhere: str | None = None
    dropout_model: str | None = None
    attack: AttackSection = Field(default_factory=AttackSection)

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        others = (*(each.weights for each in self.carriers), self.elsewhere, self.dropout_model)
        return super().paths() + [path for path in others if path]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.attack_options()
        return self

    def attack_options(self, device: str = "cpu") -> AttackOptions:
        """The adversary of a run on such a device."""
        return attack_options(self.attack, device=device, embedded=self.data is None)


class CorrelationRecipe(ClassifierRecipe):
    """Whether attacks need the filters that accuracy needs.

    Attributes:
        attack: the adversary: `eps`, `step`, `steps`, `random_start`, and of `images` the first number.
    """

    defaults = {"budget": 80_000}  # shared out among four values of every filter
    unfit = (
        "ranking", "folds", "rounds", "source_counts", "target_shares", "stability", "curve", "engine", "top", "truncation", "guarantee", "tolerance",
        "contested", "score", "strategy", "candidates", "max_filters", "max_clean_drop", "compare", "alternatives",
    )  # fmt: skip

    command: Literal["correlation"]
    attack: AttackSection = Field(default_factory=AttackSection)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.attack_options()
        return self

    def attack_options(self, device: str = "cpu") -> AttackOptions:
        """The adversary of a run on such a device."""
        return attack_options(self.attack, device=device, embedded=self.data is None)


class DropoutRecipe(Recipe):
    """A network beside its dropout-trained rival: what accuracy of each depends on.

    Three ways to networks and images: `model` and `dropout_model` with class folders (`data`) or with faces (`source`); `source` and
    [training], which trains both networks on images drawn from the source and asks about those that are left; `model` alone, a
    classifier of torchvision without weights, the embedded default on handwritten digits.

    Attributes:
        model, dropout_model: torchvision's name, one of our own, or a weights file of ours relative to the data root; none beside [training].
        weights, dropout_weights: for networks given by their architecture's name, relative to the data root.
        data: class folders, relative to the data root.
        source: a data set of `repairkit.data.loaders`, in place of class folders.
        training: how to get both networks; its [training.dropout] is the rival.
        per_class: of class folders, load at most so many images of each class.
        mean, std: that both networks' images are normalised with, where their files do not say.
    """

    defaults = {"ranking": "recall"}  # the worth has one part
    unfit = (
        "ranking", "folds", "rounds", "source_counts", "stability", "curve", "strategy", "candidates", "max_filters", "max_clean_drop", "compare", "alternatives",
    )  # fmt: skip

    command: Literal["dropout"]
    model: str | None = None
    weights: str | None = None
    dropout_model: str | None = None
    dropout_weights: str | None = None
    data: FolderSection | None = None
    source: DataSection | None = None
    training: TrainingSection | None = None
    per_class: int | None = Field(default=None, ge=1)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        named = [name for name in (self.model, self.dropout_model) if name and Path(name).suffix]
        folders = [*([self.data.folder] if self.data else []), *(self.source.paths() if self.source else [])]
        init = self.training.init if self.training else None
        return [*folders, *named, *(path for path in (self.weights, self.dropout_weights, init) if path)]

    @model_validator(mode="after")
    def _one_way_to_networks_and_images(self) -> Self:
        if (self.training is None) == (self.model is None):
            raise ValueError("give either a [training] section or a model, not both or neither")
        if self.data is not None and self.source is not None:
            raise ValueError("give class folders as [data] or a data set as [source], not both")
        if self.training is not None:
            named = {"dropout_model": self.dropout_model, "dropout_weights": self.dropout_weights, "weights": self.weights}
            if given := [name for name, value in named.items() if value is not None]:
                raise ValueError(f"{given[0]} goes with model; beside [training] give [training.dropout]")
            if self.training.dropout is None:
                raise ValueError("training.dropout: give the stage that trains the rival")
            if self.source is None:
                raise ValueError("source: give the data that [training] draws from")
        return self


class NetworkSection(_Section):
    """One of several networks, with images of its own.

    Either `target` (faces in subgroups, as in a recipe of fairness; then `training` with its `source` can say how to get the network) or the keys of
    `ClassifierRecipe`.

    Attributes:
        name: what the report calls it.
    """

    name: str
    model: str | None = None
    weights: str | None = None
    size: int | None = None
    data: FolderSection | None = None
    per_class: int | None = Field(default=None, ge=1)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    target: DataSection | None = None
    source: DataSection | None = None
    training: TrainingSection | None = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.target is not None and (self.data or self.weights or self.per_class or self.mean or self.std):
            raise ValueError(f"{self.name}: target names faces in subgroups, so leave out data, weights, per_class, mean and std")
        if self.target is None and (self.source or self.training):
            raise ValueError(f"{self.name}: source and training go with a target; leave them out or give one")
        if (self.training is None) == (self.model is None):
            raise ValueError(f"{self.name}: give either a model or a training section, not both or neither")
        if (self.training is None) != (self.source is None):
            raise ValueError(f"{self.name}: training and source go together: it is trained on images of the source")
        return self

    def classifier(self) -> ClassifierRecipe:
        """The keys of a classifier of torchvision."""
        return ClassifierRecipe(title=self.name, **self.model_dump(exclude={"name", "target", "source", "training"}))

    def fairness(self) -> FairnessRecipe:
        """The keys of a network for faces, where it is to be trained."""
        return FairnessRecipe(
            command="fairness", title=self.name, **self.model_dump(include={"size", "target", "source", "training"})
        ).varied(rival=False)

    def paths(self) -> list[str]:
        """Files and folders that it takes below the data root."""
        if self.target is None:
            return self.classifier().paths()
        return self.fairness().paths() if self.training else self.target.paths()


class TruncationRecipe(Recipe):
    """Random filters removed from one or more networks, as in the paper's figure 5.

    Attributes:
        networks: whose filters.
        trajectories, images, shares: fields of `repairkit.truncation.TruncationOptions`.
    """

    defaults = {"t0": "auto"}
    unfit = tuple(set(Options.__dataclass_fields__) - {"t0", "freeze_at", "precision", "seed", "level", "device", "batch"})

    command: Literal["truncation"]
    networks: list[NetworkSection] = Field(min_length=1)
    trajectories: int = TruncationOptions.trajectories
    images: int = TruncationOptions.images
    shares: tuple[float, ...] = TruncationOptions.shares

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if len({network.name for network in self.networks}) < len(self.networks):
            raise ValueError("networks: two of them have the same name; the report tells them apart by it")
        self.truncation_options()
        return self

    def truncation_options(self) -> TruncationOptions:
        """How much is measured.

        Raises:
            ValueError: a value out of its range.
        """
        try:
            return TruncationOptions(trajectories=self.trajectories, images=self.images, shares=self.shares)
        except UsageError as error:
            raise ValueError(str(error)) from None

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        return list(dict.fromkeys(path for network in self.networks for path in network.paths()))


class EfficiencyRecipe(ClassifierRecipe):
    """Samples that the bandit takes against plain Monte Carlo, as in the paper's figure 8.

    Attributes:
        model: also "small", the network of `repairkit.models.small`, which brings its images.
        channels: of the small network.
        method, images, top, end, tolerances, permutations, evaluated_on, most, reference: fields of
            `repairkit.efficiency.EfficiencyOptions`.
    """

    defaults = {"t0": 0.0}
    unfit = tuple(
        set(Options.__dataclass_fields__)
        - {"budget", "t0", "contested", "score", "freeze_at", "precision", "seed", "level", "device", "batch"}
    )

    command: Literal["efficiency"]
    channels: tuple[int, int, int, int] | None = None
    method: Method = EfficiencyOptions.method
    images: int = EfficiencyOptions.images
    top: int = EfficiencyOptions.top
    end: End = EfficiencyOptions.end
    tolerances: tuple[float, ...] = EfficiencyOptions.tolerances
    permutations: int = EfficiencyOptions.permutations
    evaluated_on: int = EfficiencyOptions.evaluated_on
    most: int = EfficiencyOptions.most
    reference: float = EfficiencyOptions.reference

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.model != small.NAME and self.channels is not None:
            raise ValueError(f'channels are those of model = "{small.NAME}"; leave them out')
        if self.model == small.NAME and (self.weights or self.data or self.size or self.per_class or self.mean or self.std):
            raise ValueError(
                f'model = "{small.NAME}" brings its weights and images; leave out weights, data, size, per_class, mean and std'
            )
        self.efficiency_options()
        return self

    def efficiency_options(self) -> EfficiencyOptions:
        """What is compared.

        Raises:
            ValueError: a value out of its range.
        """
        try:
            return EfficiencyOptions(**self.model_dump(include=set(EfficiencyOptions.__dataclass_fields__)))
        except UsageError as error:
            raise ValueError(str(error)) from None


class PruneRecipe(ClassifierRecipe):
    """Pruning under a guard on accuracy: `options.max_clean_drop` is what `repairkit prune --max-drop` gives.

    Attributes:
        freeze_only: freeze filters and take none out.
    """

    defaults = {"ranking": "recall", "target_shares": pruning.SHARES, "max_clean_drop": pruning.MAX_DROP}
    unfit = (
        "ranking", "folds", "rounds", "source_counts", "stability", "curve", "guarantee", "tolerance", "strategy", "candidates", "max_filters",
        "compare", "alternatives",
    )  # fmt: skip

    command: Literal["prune"]
    freeze_only: bool = False


AnyRecipe = (
    FairnessRecipe
    | CriticalRecipe
    | AdversarialRecipe
    | CorrelationRecipe
    | DropoutRecipe
    | TruncationRecipe
    | EfficiencyRecipe
    | PruneRecipe
)
RECIPES: dict[str, type[AnyRecipe]] = {
    "fairness": FairnessRecipe,
    "recall": CriticalRecipe,
    "accuracy": CriticalRecipe,
    "adversarial": AdversarialRecipe,
    "correlation": CorrelationRecipe,
    "dropout": DropoutRecipe,
    "truncation": TruncationRecipe,
    "efficiency": EfficiencyRecipe,
    "prune": PruneRecipe,
}
"""The keys of each command's recipes."""


def prepare(
    recipe: FairnessRecipe, data_root: Path | None, *, device: str, threads: int | None, progress: TrainingProgress | None = None
) -> Task:
    """Load the data, train the networks (or take them from the cache) and name what is left as source."""
    if recipe.training is None:
        model, rival = (zoo.load(name, device=device) if name else None for name in (recipe.model, recipe.dropout_model))
        if model is None:
            raise UsageError("the recipe names no model and has no [training]")
        classes = model.classifier.classes
        target = _load(recipe.target, data_root, recipe.size, classes=classes, source=False)
        return Task(model, rival, target, _load(recipe.source, data_root, recipe.size, classes=classes, source=True))
    source = _load(recipe.source, data_root, recipe.size, source=True)
    target = _load(recipe.target, data_root, recipe.size, classes=source.classes, source=False)
    training, remaining = _draw(recipe.training, source)
    networks = _networks(recipe.training, training, data_root, device=device, threads=threads, progress=progress)
    return Task(*networks, target, remaining, training)


def prepare_dropout(
    recipe: DropoutRecipe, data_root: Path | None, *, device: str, threads: int | None, progress: TrainingProgress | None = None
) -> DropoutTask:
    """Load the source, train both networks on a part of it (or take them from the cache), and ask about the rest.

    Raises:
        UsageError: the recipe has no [training] and no source.
        DataError, ModelError: as the loaders, the training and `DropoutTask`.
    """
    if recipe.training is None or recipe.source is None:
        raise UsageError("the recipe has no [training] with a source")
    source = _load(recipe.source, data_root, recipe.size, source=True)
    training, remaining = _draw(recipe.training, source)
    model, rival = _networks(recipe.training, training, data_root, device=device, threads=threads, progress=progress)
    if rival is None:
        raise UsageError("the recipe trains no rival; give [training.dropout]")
    return DropoutTask(model, rival, remaining, training)


def _draw(plan: TrainingSection, source: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Images to train on, and what is left of the source."""
    chosen, rest = draw(source, plan.quotas, plan.seed)
    left = [i for i in rest if any(fnmatchcase(source.groups[i], pattern) for pattern in plan.source_groups)]
    if not left:
        raise DataError(f"{source.name}: no image of {', '.join(plan.source_groups)} is left for the source; lower the quotas")
    training = source.subset(chosen, name=f"{source.name} training part")
    return training, source.subset(np.array(left), name=f"{source.name} source part")


def _networks(
    plan: TrainingSection,
    training: LabelledImages,
    data_root: Path | None,
    *,
    device: str,
    threads: int | None,
    progress: TrainingProgress | None,
) -> tuple[zoo.LoadedModel, zoo.LoadedModel | None]:
    """The network and its rival, if there is to be one, trained now or found in the cache."""
    init = None
    if plan.init:
        if data_root is None:
            raise UsageError(f"the recipe starts from {plan.init}: give --data-root, the folder that it is relative to")
        init = data_root / plan.init
    plain = _trained(plan, plan.plain, training, init, device=device, threads=threads, progress=progress)
    dropout = _trained(plan, plan.dropout, training, plain, device=device, threads=threads, progress=progress) if plan.dropout else None
    return zoo.load(plain, device=device), zoo.load(dropout, device=device) if dropout else None


def prepare_faces(
    section: NetworkSection, data_root: Path | None, *, device: str, threads: int | None, progress: TrainingProgress | None = None
) -> Subject:
    """A network for faces and its target, trained first (or taken from the cache) where the section says how."""
    if section.training is not None:
        task = prepare(section.fairness(), data_root, device=device, threads=threads, progress=progress)
        return Subject(section.name, task.model, task.target, subgroups=True)
    if section.model is None or section.target is None:
        raise UsageError(f"{section.name} names no model or no target")
    model = zoo.load(section.model, device=device)
    target = _load(section.target, data_root, section.size, classes=model.classifier.classes, source=False)
    return Subject(section.name, model, target, subgroups=True)


def _load(
    section: DataSection, data_root: Path | None, size: int | None, *, classes: tuple[str, ...] | None = None, source: bool
) -> LabelledImages:
    root = data_root / section.folder if data_root and section.folder else data_root
    return loaders.load(section.name, root=root, size=size, classes=classes, source=source)


def _trained(
    plan: TrainingSection,
    stage: StageSection,
    images: LabelledImages,
    init: Path | None,
    *,
    device: str,
    threads: int | None,
    progress: TrainingProgress | None,
) -> Path:
    """Weights of one stage, trained now or found in the cache under all that decides them."""
    decisive = [plan.architecture, plan.seed, stage.model_dump(), sorted(images.hashes.tolist()), images.labels.tolist(), device]
    if init is not None:
        decisive.append(zoo.hash_state(zoo.read_weights(init)[0]))
    key = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]
    file = cache_directory() / "models" / f"{plan.architecture}-{key}.safetensors"
    if not file.exists():
        trained = train(
            images,
            architecture=plan.architecture,
            init=init,
            seed=plan.seed,
            device=device,
            threads=threads,
            progress=progress,
            **stage.model_dump(),
        )
        trained.write(file, half=False)
    return file
