"""Recipes: an experiment as a TOML file, checked before anything runs; what those of several commands say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from repairkit.baselines.compare import suited
from repairkit.data import loaders
from repairkit.errors import UsageError
from repairkit.run.options import SETTLES, Options
from repairkit.run.settings import LARGEST_SEED

Pixels = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Means = tuple[float, float, float]
Deviations = tuple[Positive, Positive, Positive]


class Section(BaseModel):
    """A table of a recipe; unknown keys are errors, and so are numbers that are none or infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSection(Section):
    """A data set by its loader's name; `folder` is relative to the data root."""

    name: str
    folder: str | None = None

    def paths(self) -> list[str]:
        """What it takes below the data root: nothing where the images are drawn or a manifest says where they are."""
        return [self.folder] if self.folder else [self.name] if self.name in loaders.PUBLISHED else []


class FolderSection(Section):
    """Labelled images in a folder relative to the data root, of which `parts` are pooled; see `repairkit.data.folders.load`."""

    folder: str
    parts: list[str] | None = None


class StageSection(Section):
    """One stage of training: arguments of `repairkit.models.training.train`."""

    epochs: int = Field(ge=1)
    learning_rate: Positive
    filter_dropout: float = Field(default=0.0, ge=0, lt=1)
    ramp: float = Field(default=0.5, ge=0, le=1)


class TrainingSection(Section):
    """Train both networks on images drawn from the source data; what is left is the source.

    Attributes:
        architecture: torchvision's name.
        init: weights to start from, relative to the data root.
        seed: of the draw and the training.
        quotas: how many images of each pattern of subgroups to train on.
        source_groups: patterns of the subgroups whose remaining images are the source.
        plain: the network to repair.
        dropout: its dropout-trained rival, which continues from the plain network's weights.
        control: whether the plain network is trained on likewise, as its rival but without dropout, before the two are compared.
    """

    architecture: str
    init: str | None = None
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    quotas: dict[str, Annotated[int, Field(ge=1)]]
    source_groups: list[str] = Field(default_factory=lambda: ["*"])
    plain: StageSection
    dropout: StageSection | None = None
    control: bool = False

    @model_validator(mode="after")
    def _control_has_a_rival(self) -> Self:
        if self.control and self.dropout is None:
            raise ValueError("control: it is trained as long as the rival, give [training.dropout] or remove it")
        return self


def seeded(training: TrainingSection | None, seed: int | None) -> TrainingSection | None:
    """The same training from another seed; None leaves the recipe's.

    Raises:
        UsageError: a seed for a recipe that trains nothing.
    """
    if seed is None:
        return training
    if training is None:
        raise UsageError("this recipe trains no network, so it has no training seed; leave --training-seed out")
    return training.model_copy(update={"seed": seed})


class Recipe(Section):
    """What every recipe says: a class for each command adds its own keys.

    Attributes:
        title: heading of the report.
        size: side of the images in pixels; by default the data's or the network's usual one.
        options: fields of `repairkit.run.options.Options`.
    """

    defaults: ClassVar[dict[str, object]] = {}
    """Options that the command takes in place of the usual ones."""
    unfit: ClassVar[tuple[str, ...]] = ()
    """Options that the command has no use for."""
    baselines: ClassVar[tuple[str, ...]] = suited(fairness=False)
    """What the command can be compared with, where it is compared at all."""
    settles: ClassVar[bool] = False
    """Whether the command can settle the live range on the images that choose."""

    title: str
    command: str
    size: Pixels | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        raise NotImplementedError

    def named(self) -> list[str]:
        """Networks that the recipe takes by name without saying where their weights are; see `repairkit.models.zoo.missing_weights_message`."""
        raise NotImplementedError

    def varied(self, *, training_seed: int | None = None, rival: bool = True) -> Self:
        """The same experiment with networks trained from another seed, or without the dropout-trained comparison model.

        Raises:
            UsageError: a recipe that trains nothing, or that needs the comparison model or has none.
        """
        if training_seed is not None:
            raise UsageError("this recipe trains no network, so it has no training seed; leave --training-seed out")
        if not rival:
            raise UsageError(f"recipes of {self.command} keep their comparison model or have none; leave --no-with-compare-model out")
        return self

    def run_options(self, path: Path | str = "the recipe", **overrides: object) -> Options:
        """The options of the run; `overrides` come from elsewhere and stand in place of the recipe's.

        Raises:
            UsageError: an option that the command does not have, a value of another type or range, or a baseline that does not suit the command.
        """
        known = [name for name in Options.__dataclass_fields__ if name not in self.unfit]
        if unknown := sorted(set(self.options) - set(known)):
            raise UsageError(f"{path}: options.{unknown[0]} is no option; the options are {', '.join(known)}")
        if unfit := sorted(set(overrides) - set(known)):
            raise UsageError(
                f"{path} has no use for --{unfit[0].replace('_', '-')}; leave it out. The options of its command are {', '.join(known)}"
            )
        types = get_type_hints(Options)
        values: dict[str, Any] = {}
        for key, value in self.options.items():
            try:
                values[key] = TypeAdapter(types[key]).validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
            except ValidationError as error:
                raise UsageError(f"{path}: options.{key}: {error.errors()[0]['msg']}, got {value!r}; correct this key") from None
        try:
            options = Options(**(self.defaults | values | overrides))  # type: ignore[arg-type]
        except UsageError as error:
            raise UsageError(f"{path}: options.{error}") from None
        if options.t0 == "settled" and not self.settles:
            raise UsageError(f"{path}: options.t0: 'settled' is for {SETTLES}; give a number or 'auto'")
        if unsuited := next((name for name in options.compare if name not in self.baselines), None):
            raise UsageError(f"{path}: options.compare: {unsuited} does not suit this command; there are {', '.join(self.baselines)}")
        return options


class ClassifierRecipe(Recipe):
    """A classifier of torchvision and labelled images of its classes, as the commands on class folders take them.

    Without weights and data the embedded default, handwritten digits.

    Attributes:
        model: torchvision's name, or a weights file of ours.
        weights: for a named model, relative to the data root; by default torchvision's, where torch's cache holds them.
        data: the images.
        per_class: load at most so many images of each class.
        narrow: of a network that knows more classes than the data, keep the logits of these alone.
        mean, std: that the network's images are normalised with, where its file does not say.
    """

    model: str
    weights: str | None = None
    data: FolderSection | None = None
    per_class: int | None = Field(default=None, ge=1)
    narrow: bool = False
    mean: Means | None = None
    std: Deviations | None = None

    def paths(self) -> list[str]:
        """Files and folders that the recipe takes below the data root."""
        return [path for path in (self.data and self.data.folder, self.weights) if path]

    def named(self) -> list[str]:
        """Networks that the recipe takes by name without saying where their weights are."""
        return [] if self.weights else [self.model]
