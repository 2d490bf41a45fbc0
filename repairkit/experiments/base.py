"""What every kind of experiment is: its options, how it is loaded and run, its result, and the parts of its report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.experiments.recipe_base import Recipe
from repairkit.models.training_loop import TrainingProgress
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import Classifier
from repairkit.network.filters import FilterId
from repairkit.report.document import KeyFigure, Pairs, Section, Table
from repairkit.report.figure import Figure
from repairkit.report.tables import before_after
from repairkit.result import Record, Result
from repairkit.run.context import Run

Task = TypeVar("Task")
Findings = TypeVar("Findings")
Kind = TypeVar("Kind", bound=Result[Any])

NO_REPAIR = "no repair was worth making: keep the original weights"
SYNTHETIC_NOTICE = "The faces are drawn, not photographed: nothing here is evidence about real people or about a network trained on them."
ASSUMED_NOTICE = (
    "{file} does not say how images are normalised for its network, so ImageNet's mean and standard deviation were taken; "
    "every number is wrong if it was trained with others: --mean and --std give them."
)


class Loading(NamedTuple):
    """How networks and images are loaded."""

    progress: TrainingProgress | None = None
    fit: bool = True  # False for a plan: fresh weights stand for those that would be fitted or trained
    data_root: Path | None = None  # folder that the paths of a recipe are relative to
    device: str = "cpu"
    threads: int | None = None
    seed: int = 0


def below(data_root: Path | None, relative: str | None) -> Path | None:
    """Where a path of a recipe lies; None where there is none.

    Raises:
        UsageError: there is no data root that it is relative to.
    """
    if relative is None:
        return None
    if data_root is None:
        raise UsageError(f"the recipe takes {relative}: give --data-root, the folder that it is relative to")
    return data_root / relative


class Origin(NamedTuple):
    """What a result says of how it came about."""

    title: str
    command: str
    minutes: float
    notices: list[str]


class Part(NamedTuple, Generic[Task, Findings]):
    """One of the run directories that a run leaves."""

    folder: str  # within the run directory; "." for the run directory itself
    task: Task
    findings: Findings
    title: str


class RunRecord(NamedTuple):
    """What `run.json` says beside the configuration."""

    passes: Mapping[str, float] | None = None  # None for those of the result's costs
    constants: Mapping[FilterId, float] = {}  # of the frozen filters


class Experiment(ABC, Generic[Task, Findings, Kind]):
    """A kind of experiment. The command line, recipes and reports know it through these methods alone.

    `settings` stands for what `Settings.options()` or `Recipe.run_options()` gives.
    """

    result_class: ClassVar[type[Result[Any]]]
    recipe_class: ClassVar[type[Recipe] | None] = None  # None: there are no recipes of it
    success: ClassVar[tuple[str, ...] | None] = None  # outcomes with exit code 0; None for any
    glossary_metrics: ClassVar[tuple[str, ...]] = ()
    glossary_terms: ClassVar[tuple[str, ...]] = ()

    # ---- before the run ----

    def load(self, settings: Any, loading: Loading) -> Task:
        """Networks and images that the options of the command line name, checked."""
        raise NotImplementedError

    def load_recipe(self, recipe: Any, loading: Loading) -> Task:
        """Networks and images that a recipe names, checked."""
        raise NotImplementedError

    def title(self, settings: Any, task: Task) -> str:
        """The title of the report of a run from the command line."""
        return type(self).__name__

    def notices(self, task: Task) -> list[str]:
        """What a reader must know before any number."""
        return []

    def networks(self, task: Task) -> dict[str, tuple[Classifier, LabelledImages]]:
        """Networks with their images, by the name before their parts in the plan, "" where there is one: they decide speed and memory."""
        return {}

    def heading(self, task: Task, settings: Any) -> str:
        """What the plan is of."""
        return type(self).__name__

    @abstractmethod
    def cost(self, task: Task, settings: Any) -> dict[str, float]:
        """Image passes that a run will take, by part."""

    @abstractmethod
    def configuration(self, task: Task, settings: Any) -> dict[str, object]:
        """All that decides the bits of a run: one that goes on must have the same."""

    # ---- the run ----

    @abstractmethod
    def run(self, task: Task, run: Run) -> Findings:
        """Measure everything."""

    def parts(self, task: Task, findings: Findings, title: str) -> list[Part[Task, Findings]]:
        """The run directories that a run leaves; more than one lie in folders of it."""
        return [Part(".", task, findings, title)]

    @abstractmethod
    def result(self, task: Task, settings: Any, findings: Findings, origin: Origin) -> Kind:
        """The result of what was measured."""

    def artifacts(self, task: Task, findings: Findings, directory: Path) -> RunRecord:
        """Write weights, values and the like beside the result."""
        return RunRecord()

    def next_steps(self, task: Task, result: Kind, place: Path) -> str:
        """What can be done with the run directory."""
        return f"the result is {place / 'result.json'}"

    # ---- the report ----

    @abstractmethod
    def sections(self, result: Kind, figures: Sequence[Figure]) -> list[Section]:
        """The sections between the verdict and the glossary."""

    def figures(self, result: Kind) -> list[Figure]:
        """The charts, without those of a comparison with baselines."""
        return []

    def facts(self, result: Kind) -> Pairs:
        """What was examined, for the head of the report."""
        return []

    def key_figures(self, result: Kind) -> list[KeyFigure]:
        """The measures before and after that stand beside the verdict."""
        return []

    def summary(self, result: Kind) -> Table:
        """The table that the command line shows."""
        return before_after(result)

    # ---- other documents ----

    def quoted(self, result: Kind) -> list[Table]:
        """The tables that other documents quote."""
        return [self.summary(result)]

    def design(self, result: Kind) -> str:
        """How the numbers were found, in half a sentence."""
        return result.title

    def runs(self, results: Sequence[Kind]) -> Table:
        """Several runs in one table."""
        return self.summary(results[0])

    def stability(self, result: Kind, column: str) -> tuple[list[Record], Table | None]:
        """How far values of two halves of the images agree, as records and as a table; where a run measured it."""
        return [], None


def model_notices(*models: LoadedModel) -> list[str]:
    """What a reader must know about these networks before any number."""
    stand_ins = [model.provenance for model in models if model.stand_in]
    return stand_ins + [ASSUMED_NOTICE.format(file=model.weights.name) for model in models if model.assumed_normalisation]


def repaired_weights(place: Path, original: Path) -> str:
    """Where repaired weights are, and how to repair a copy."""
    patch = f"repairkit apply {place / 'patch.json'} --weights {original}"
    return f"repaired weights: {place / 'repaired.safetensors'}; to repair a copy elsewhere: {patch}"
