"""Options of the commands that are no experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from repairkit.experiments.settings import Names
from repairkit.run.settings import LARGEST_SEED, RunSettings, Settings, option


class ApplySettings(Settings):
    """Write repaired weights of the same architecture; the original weights stay as they are."""

    examples = (
        "repairkit apply runs/fair/patch.json --weights mine.safetensors",
        "repairkit apply runs/fair/patch.json --weights other.safetensors --force --out other-repaired.safetensors",
    )

    patch: Path = option(..., "patch.json of a run.", "Inputs", name="")
    weights: Path = option(..., "The weights that were repaired: safetensors or a state dict.", "Repair")
    out: Path = option(Path("repaired.safetensors"), "Where to write the repaired weights (.safetensors).", "Repair")
    classes: Names | None = option(None, "Class names by commas, if the weights do not say. [default: as the patch says]", "Repair")
    force: bool = option(False, "Also repair other weights than those the patch was made for.", "Repair")


class TrainSettings(Settings):
    """Train a classifier; writes weights and train.json."""

    examples = (
        "repairkit train --data photos --arch resnet18 --out mine.safetensors",
        "repairkit train --data photos --arch resnet18 --init mine.safetensors --filter-dropout 0.2 --out dropout.safetensors",
    )

    arch: str = option("squeezenet1_0", "A torchvision classifier.", "Network")
    init: Path | None = option(None, "Weights to start from; another head is replaced.", "Network")
    data: str = option(
        "drawn",
        "Training images: drawn (synthetic faces), celeba, ppb, utkface, a .csv or .parquet manifest, digits, "
        "or a FOLDER with a folder for each class or an annotation file.",
        "Images",
    )
    data_root: Path | None = option(None, "Folder of the images, for faces and manifests.", "Images")
    subsets: Names | None = option(None, "Folders in the FOLDER of --data to pool, by commas. [default: train, if there is one]", "Images")
    max_per_class: int | None = option(None, "Load at most this many images of each class of the FOLDER.", "Images", ge=1)
    size: int | None = option(
        None, "Side of the images in pixels. [default: 96; 75 for digits, the network's usual one for a FOLDER]", "Images", ge=16
    )
    epochs: int = option(10, "Passes over the images; with --patience the most.", "Training", ge=1)
    patience: int | None = option(
        None, "Hold images out, keep the best epoch on them, and end after this many epochs in a row without a better one.", "Training", ge=1
    )  # fmt: skip
    validation_share: float | None = option(None, "Share of the images that --patience holds out. [default: 0.1]", "Training")
    batch_size: int = option(64, "Images of a step.", "Training", ge=2)
    learning_rate: float = option(5e-4, "Learning rate.", "Training", ge=0)
    filter_dropout: float = option(0.0, "Probability of dropping a filter; start such a training from --init.", "Training", ge=0, le=0.99)
    flip: bool | None = option(None, "Mirror half of the images. [default: mirror all but digits]", "Training")
    out: Path | None = option(None, "Weights file (.safetensors), or a name such as squeezenet_celeba to keep it in the cache.", "Run")
    resume: bool = option(False, "Continue the unfinished training of this --out; give the same options.", "Run")
    seed: int = option(0, "Seed of the training.", "Run", ge=0, le=LARGEST_SEED)
    device: Literal["cpu", "cuda"] = option("cpu", "Where the network is trained.", "Run")
    threads: int | None = option(None, "CPU threads. [default: the free cores, at least 1]", "Run", ge=1)


class RecipeRunSettings(RunSettings):
    """Run an experiment from a recipe: train what it needs, find, repair, report."""

    examples = (
        "repairkit run fig3a_fairness --embedded",
        "repairkit run --all --data-root data --out runs/all",
    )

    recipe: Path | None = option(
        None, "A recipe file, or the name of a recipe that comes with repairkit; with --all a folder of recipes.", "Inputs", name=""
    )
    everything: bool = option(
        False,
        "Run every recipe of the folder, and write a page that lists them. [default: recipes/, else those of repairkit]",
        "Run",
        name="all",
    )
    variant: Literal["paper", "small", "embedded"] | None = option(
        None, "Which of a recipe's data and networks. [default: paper, else small, by what the data root holds]", "Run"
    )
    embedded: bool = option(False, "Run on what comes with repairkit: short for --variant embedded.", "Run")
    data_root: Path | None = option(None, "Folder that the recipe's folders are relative to.", "Images")
    baselines: bool = option(False, "Compare with other filter rankings at equal cost.", "Comparison")
    alternatives: bool = option(False, "Compare with alternatives, for recipes that repair.", "Comparison")
    with_compare_model: bool = option(True, "Also train and repair the network with filter dropout.", "Comparison")
    training_seed: int | None = option(
        None, "Draw the training images and train from this seed in place of the recipe's.", "Training", ge=0, le=LARGEST_SEED
    )
    precision: Literal["float32", "bfloat16"] | None = option(
        None, "Of the passes that find filters. [default: the recipe's, else float32]", "Search"
    )
    seed: int | None = option(None, "Seed in place of the recipe's.", "Run", ge=0, le=LARGEST_SEED)  # type: ignore[assignment]
    device: Literal["cpu", "cuda"] | None = option(  # type: ignore[assignment]
        None, "Where networks run. [default: the recipe's, else cpu]", "Run"
    )
    batch: int | None = option(None, "Most images of a pass. [default: the recipe's, else 32]", "Run", ge=1)  # type: ignore[assignment]

    @property
    def chosen_variant(self) -> Literal["paper", "small", "embedded"] | None:
        """The variant that was asked for."""
        return "embedded" if self.embedded else self.variant

    @model_validator(mode="after")
    def _options_go_together(self) -> Self:
        if self.embedded and self.variant not in (None, "embedded"):
            raise ValueError(f"--embedded is short for --variant embedded, got --variant {self.variant} as well: leave one of the two out")
        if (self.embedded or self.variant == "embedded") and self.data_root is not None:
            raise ValueError("the variant embedded runs on what comes with repairkit, got --data-root as well: leave one of the two out")
        if self.everything and (self.as_json or self.training_seed is not None or not self.with_compare_model):
            raise ValueError("--json, --training-seed and --no-with-compare-model go with one recipe; leave them out beside --all")
        if not self.everything and self.recipe is None:
            raise ValueError("give a recipe, for instance fig3a_fairness, or --all; repairkit recipes lists those there are")
        return self


class RecipesSettings(Settings):
    """List the recipes: source in the paper, data, hardware, minutes, expected and measured figures, and variants."""

    examples = (
        "repairkit recipes",
        "repairkit recipes --json",
    )

    folder: Path | None = option(None, "Folder of recipes. [default: recipes/, else those of repairkit]", "Inputs", name="")
    as_json: bool = option(False, "Print a list of objects on stdout.", "Run", name="json")


class ReportSettings(Settings):
    """Write report.html and report.md again from result.json, and show the result."""

    examples = (
        "repairkit report runs/fair",
        "repairkit report runs/fair --json",
    )

    run: Path = option(..., "Run directory, or its result.json.", "Inputs", name="")
    as_json: bool = option(False, "Print result.json on stdout.", "Run", name="json")


class ShowAttributionSettings(Settings):
    """Show the values of the filters that a run found: the lowest and the highest, with half-widths."""

    examples = (
        "repairkit attribution runs/fair",
        "repairkit attribution runs/fair --top-k 10 --json",
    )

    run: Path = option(..., "Run directory, or an attribution.parquet.", "Inputs", name="")
    top_k: int | None = option(
        None, "How many filters of each end. [default: as many as were sought; every filter with --json]", "Search", ge=1
    )
    network: str = option(
        "repaired",
        "A network of the run, such as repaired or dropout_repaired. The message about an unknown name lists those there are.",
        "Search",
    )
    fold: int = option(1, "Fold of a cross-fitted run.", "Search", ge=1)
    round_number: int = option(1, "Round, of a run with several.", "Search", ge=1, name="round")
    as_json: bool = option(False, "Print JSON on stdout: the facts, and a row for each filter.", "Run", name="json")
