"""Options of `repairkit recall` and `repairkit accuracy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from repairkit.experiments.settings import EMBEDDED_BUDGET, USUAL_BUDGET, BaselineSettings, FolderSettings
from repairkit.repair.settings import STRATEGIES, GuaranteeSettings, SelectionSettings
from repairkit.run.settings import RunSettings, option

if TYPE_CHECKING:
    from repairkit.run.options import Options

OBJECTIVES = {"balanced": "specific", "target-only": "recall"}


class CriticalSettings(RunSettings, BaselineSettings, GuaranteeSettings, FolderSettings):
    """What both commands share."""

    def _options(self, ranking: str, *, of_class: bool, **others: Any) -> Options:
        from repairkit.baselines.compare import suited
        from repairkit.experiments.classifier_task import usual_t0
        from repairkit.run.options import Options

        attribution = self.attribution()
        if self.min_live is None:
            attribution["t0"] = usual_t0(self.engine, ranking, of_class=of_class)
        return Options(
            **attribution,
            ranking=ranking,  # type: ignore[arg-type]
            budget=self.budget or (EMBEDDED_BUDGET if self.embedded and self.guarantee is None else USUAL_BUDGET),
            compare=suited(fairness=False) if self.baselines else (),
            **self.model_dump(include={"seed", "device", "batch"}),
            **others,
        )


class AccuracySettings(CriticalSettings):
    """Find the filters that a network's accuracy depends on, and show what freezing them does."""

    examples = (
        "repairkit accuracy --model squeezenet1_1",
        "repairkit accuracy --model mine.safetensors --data-root photos --baselines --out runs/accuracy",
    )

    selects_live_range = True

    min_live: float | Literal["auto", "selected"] | None = option(
        None,
        "Least share of filters that stays live (tmab). 0 gives the Shapley value; auto measures where the network is at chance; "
        "selected takes that or a narrower range, by the selection images. [default: selected]",
        "Search",
        expected="a number from 0 to 0.999, auto or selected",
    )

    def options(self) -> Options:
        """The options of the run code."""
        return self._options("recall", of_class=False)


class RecallSettings(SelectionSettings, CriticalSettings):
    """Find the filters that one class depends on, show what freezing them does to it and to the others, and repair it if asked to."""

    examples = (
        "repairkit recall --model squeezenet1_1 --class 3",
        "repairkit recall --model mine.safetensors --data-root photos --class zebra --repair --out runs/zebra",
    )

    class_name: str = option(..., "Name of the class.", "Images", name="class")
    objective: Literal["balanced", "target-only"] | None = option(
        None,
        "Rank filters by the value for the class less the loss of the other classes, or for the class alone (the paper's). "
        "[default: balanced; target-only for tmab-paper and monte-carlo and with a guarantee]",
        "Search",
    )
    max_other_class_drop: float = option(
        0.05, "Most that the mean recall of the other classes may fall (one-sided 90 % bound), a share.", "Search", shown=False, ge=0, le=1
    )
    repair: bool = option(False, "Also freeze the harmful filters of the class.", "Repair")

    @model_validator(mode="after")
    def _objective_can_be(self) -> Self:
        if self.objective == "balanced" and self.engine != "tmab":
            raise ValueError(f"--objective balanced is for the engine tmab, got {self.engine}: give --objective target-only")
        if self.objective == "balanced" and self.guarantee is not None:
            raise ValueError("--objective balanced has no guarantee: give --objective target-only, or no --guarantee")
        return self

    def options(self) -> Options:
        """The options of the run code."""
        from repairkit.run.options import Options

        usual = "balanced" if self.engine == "tmab" and self.guarantee is None else "target-only"
        return self._options(
            OBJECTIVES[self.objective or usual],
            of_class=True,
            spare=self.max_other_class_drop,
            strategy=STRATEGIES[self.strategy],
            candidates=self.candidates or Options.candidates,
            max_filters=self.max_filters or Options.max_filters,
            max_clean_drop=self.max_accuracy_drop,
        )
