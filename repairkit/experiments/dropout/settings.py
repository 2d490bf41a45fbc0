"""Options of `repairkit dropout`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from repairkit.experiments.settings import USUAL_BUDGET, BaselineSettings, Names, NetworkSettings
from repairkit.repair.settings import GuaranteeSettings
from repairkit.run.settings import RunSettings, option

if TYPE_CHECKING:
    from repairkit.run.options import Options

QUICK_BUDGET, QUICK_TOP_K = 2_000.0, 16
"""Keep `repairkit dropout` with nothing given within two minutes on two free cores; each network has two attributions."""
CELEBA = ("squeezenet_celeba", "squeezenet_celeba_dropout")


class DropoutSettings(RunSettings, BaselineSettings, GuaranteeSettings, NetworkSettings):
    """Compare what accuracy of a network and of one trained with filter dropout depends on."""

    examples = (
        "repairkit dropout",
        "repairkit dropout --model plain.safetensors --compare-model dropout.safetensors --data-root photos",
    )

    model: str = option(
        CELEBA[0], "The network trained without filter dropout: a torchvision classifier, or a weights FILE of repairkit train.", "Network"
    )
    compare_model: str | None = option(
        None,
        "The network of the same architecture trained with filter dropout. "
        "[default: squeezenet_celeba_dropout for squeezenet_celeba, an embedded one for digits]",
        "Network",
    )
    compare_weights: Path | None = option(None, "Weights for a --compare-model given by its architecture's name.", "Network")
    classes: Names = option(
        ("female", "male"), "Class names of --data by commas, if the weights do not say. [default: female,male]", "Network"
    )
    data: str | None = option(
        None, "Faces: drawn (synthetic), ppb, utkface, celeba, or a .csv or .parquet manifest. [default: drawn for squeezenet_celeba]", "Images"
    )  # fmt: skip
    data_root: Path | None = option(
        None, "Folder of the faces of --data; without --data a folder for each class, or an annotation file. [default: embedded digits]", "Images"
    )  # fmt: skip
    subsets: Names | None = option(None, "Folders in --data-root to pool, by commas. [default: val, if there is one]", "Images")
    max_per_class: int | None = option(None, "Load at most this many images of each class.", "Images", ge=1)
    selects_live_range = True

    min_live: float | Literal["auto", "selected"] | None = option(
        None,
        "Least share of filters that stays live (tmab). 0 gives the Shapley value; auto measures where the network is at chance; "
        "selected takes that or a narrower range, by the selection images. [default: selected]",
        "Search",
        shown=False,
        expected="a number from 0 to 0.999, auto or selected",
    )

    @property
    def faces(self) -> str | None:
        """The data set of faces; None for class folders and embedded digits."""
        return self.data or ("drawn" if self.model in CELEBA and self.data_root is None else None)

    def options(self) -> Options:
        """The options of the run code."""
        from repairkit.baselines.compare import suited
        from repairkit.experiments.classifier_task import usual_t0
        from repairkit.run.options import Options

        embedded = self.faces == "drawn" or (self.faces is None and self.data_root is None)
        quick = self.engine == "tmab" and self.guarantee is None and embedded
        attribution = self.attribution() | {"top": self.top_k or (QUICK_TOP_K if quick else None)}
        if self.min_live is None:
            attribution["t0"] = usual_t0(self.engine, "recall", of_class=False)
        return Options(
            **attribution,
            budget=self.budget or (QUICK_BUDGET if quick else USUAL_BUDGET),
            ranking="recall",  # the objective has one part
            compare=suited(fairness=False) if self.baselines else (),
            **self.model_dump(include={"seed", "device", "batch"}),
        )
