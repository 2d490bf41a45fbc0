"""Options of `repairkit fairness`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from repairkit.experiments.settings import USUAL_BUDGET, AlternativeSettings, Names, NetworkSettings
from repairkit.repair.settings import STRATEGIES, GuaranteeSettings, SelectionSettings
from repairkit.run.settings import RunSettings, option

if TYPE_CHECKING:
    from repairkit.run.options import Options

QUICK_BUDGET, QUICK_TOP_K, QUICK_MAX_FILTERS = 4_000.0, 16, 3
"""Keeps `repairkit fairness` on synthetic faces, with two networks, within three minutes on two slow cores."""
SYNTHETIC_SOURCE_COUNTS = (150, 700, 250)
"""Most source images are for selection: a bound of one point on a fall needs that many to be met at all."""
OBJECTIVES = {"balanced": "recall + source", "target-only": "recall"}


class FairnessSettings(RunSettings, AlternativeSettings, SelectionSettings, GuaranteeSettings, NetworkSettings):
    """Find the filters that make a network unfair to a subgroup, freeze them, and report before and after."""

    examples = (
        "repairkit fairness",
        "repairkit fairness --model mine.safetensors --data people.csv --source-data train.csv --out runs/fair",
    )

    model: str = option(
        "squeezenet_celeba", "squeezenet_celeba, a torchvision classifier, or a weights FILE that repairkit train wrote.", "Network"
    )
    compare_model: str | None = option(
        None,
        "A network trained with filter dropout, to compare with; none for none. [default: squeezenet_celeba_dropout for squeezenet_celeba]",
        "Network",
    )
    classes: Names = option(("female", "male"), "Class names by commas, if the weights do not say. [default: female,male]", "Network")
    size: int | None = option(None, "Side of the images in pixels; synthetic faces have 96. [default: 96]", "Network", ge=16)
    data: str = option("drawn", "Target images: drawn (synthetic faces), ppb, utkface, celeba, or a .csv or .parquet manifest.", "Images")
    data_root: Path | None = option(None, "Folder of the target images.", "Images")
    source_data: str | None = option(None, "Images of what the network was made for. [default: drawn for drawn]", "Images")
    source_root: Path | None = option(None, "Folder of the source images. [default: --data-root]", "Images")
    crop: str | None = option(None, "SHARE,HEIGHT of the square to keep of each target image. [default: the data set's]", "Images")
    objective: Literal["balanced", "target-only"] | None = option(
        None,
        "Rank filters by subgroup recall plus source accuracy, or by subgroup recall alone (the paper's). "
        "[default: balanced; target-only for tmab-paper and monte-carlo]",
        "Search",
        shown=False,
    )
    folds: int = option(1, "1, or at least 3 to cross-fit.", "Repair", ge=1)
    rounds: int = option(1, "Find and freeze this often; the rounds share --max-accuracy-drop.", "Repair", shown=False, ge=1)
    stability: bool = option(
        False, "Also attribute on each half of the images, and count the filters that the halves share; doubles that cost.", "Search", shown=False
    )  # fmt: skip

    @model_validator(mode="after")
    def _folds_and_rounds_can_be(self) -> Self:
        if self.folds == 2:
            raise ValueError("expected 1 or at least 3 --folds, since attribution, selection and test each need a part, got 2")
        if self.baselines and self.rounds > 1:
            raise ValueError(f"--baselines compares one round, got {self.rounds} rounds: give one of the two")
        return self

    def options(self) -> Options:
        """The options of the run code."""
        from repairkit.baselines.compare import suited
        from repairkit.run.options import Options

        quick = self.data == "drawn" and self.engine == "tmab"
        objective = self.objective or ("balanced" if self.engine == "tmab" else "target-only")
        return Options(
            **(self.attribution() | {"top": self.top_k or (QUICK_TOP_K if quick else None)}),
            budget=self.budget or (QUICK_BUDGET if quick and self.guarantee is None else USUAL_BUDGET),
            candidates=self.candidates or (QUICK_TOP_K if quick else Options.candidates),
            max_filters=self.max_filters or (QUICK_MAX_FILTERS if quick else Options.max_filters),
            max_clean_drop=self.max_accuracy_drop,
            strategy=STRATEGIES[self.strategy],  # type: ignore[arg-type]
            ranking=OBJECTIVES[objective],  # type: ignore[arg-type]
            source_counts=SYNTHETIC_SOURCE_COUNTS if (self.source_data or self.data) == "drawn" else None,
            compare=suited(fairness=True) if self.baselines else (),
            **self.model_dump(include={"folds", "rounds", "stability", "alternatives", "seed", "device", "batch"}),
        )
