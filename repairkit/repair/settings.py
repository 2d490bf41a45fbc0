"""Options of the search for filters, and of the selection of those to freeze."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator

from repairkit.errors import UsageError
from repairkit.run.settings import RunSettings, Settings, option, same_option

if TYPE_CHECKING:
    from repairkit.run.options import Options

SCORES = {"probability": "smooth", "accuracy": "hard"}
FREEZE_POINTS = {"after-relu": "post", "before-relu": "pre"}
STRATEGIES = {"forward": "forward", "top-k": "prefix"}
USUAL_TOP_K = {"tmab": 40}
WALKS_TOP_K = 100


class AttributionSettings(Settings):
    """How Shapley values are estimated."""

    engine: Literal["tmab", "tmab-paper", "monte-carlo"] = option("tmab", "How Shapley values are estimated.", "Search", shown=False)
    budget: float | None = option(None, "Image passes for each attribution. [default: 20,000; fewer for embedded data]", "Search", ge=1)
    top_k: int | None = option(
        None, "How many filters to look for. [default: 40; 100 for tmab-paper and monte-carlo]", "Search", shown=False, ge=1
    )
    selects_live_range: ClassVar[bool] = False
    """Whether the command can choose the live range on the selection images."""

    min_live: float | Literal["auto", "selected"] | None = option(
        None,
        "Least share of filters that stays live (tmab). 0 gives the Shapley value; auto measures where the network is at chance. "
        "[default: 0.97; auto for recall with --objective target-only]",
        "Search",
        shown=False,
        expected="a number from 0 to 0.999, or auto",
    )
    score: Literal["probability", "accuracy"] | None = option(
        None,
        "Score of an image: probability of its label, or accuracy (the paper's). [default: probability; accuracy for the other engines]",
        "Search",
        shown=False,
    )
    freeze_at: Literal["after-relu", "before-relu"] = option("after-relu", "Where constants are measured.", "Search", shown=False)
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "Of the passes that find filters. The guard and the test images always use float32.", "Search", shown=False
    )
    truncation: float | None = option(
        None,
        "Objective value below which a permutation ends (tmab-paper, monte-carlo); 0 for none. "
        "[default: 0.6 for each part of the objective, 0.2 with more than two classes]",
        "Search",
        shown=False,
        ge=0,
    )
    flip_candidates: int | None = option(
        None,
        "Candidates whose exact marginal contributions are measured (tmab), with --guarantee for each end. [default: 3 x top-k]",
        "Search",
        shown=False,
        ge=1,
    )

    @model_validator(mode="after")
    def _engine_has_a_use_for_it(self) -> Self:
        if self.engine == "tmab" and self.truncation is not None:
            raise ValueError("tmab truncates by the number of live filters: give --min-live in place of --truncation")
        if self.engine != "tmab" and self.min_live is not None:
            raise ValueError(f"{self.engine} has no live range: give --truncation in place of --min-live")
        if self.engine != "tmab" and self.flip_candidates is not None:
            raise ValueError(f"--flip-candidates is for the engine tmab, got {self.engine}: leave it out")
        if self.min_live == "selected" and not self.selects_live_range:
            raise ValueError("--min-live selected is for accuracy and dropout: give a number or auto")
        if not isinstance(self.min_live, str) and self.min_live is not None and not 0 <= self.min_live <= 0.999:
            raise ValueError(f"expected --min-live from 0 to 0.999, got {self.min_live:g}")
        return self

    def attribution(self) -> dict[str, Any]:
        """The fields of `Options` that these settings decide."""
        score = self.score or ("probability" if self.engine == "tmab" else "accuracy")
        return {
            "engine": self.engine, "top": self.top_k, "score": SCORES[score], "freeze_at": FREEZE_POINTS[self.freeze_at],
            "precision": self.precision, "truncation": self.truncation, "contested": self.flip_candidates,
            "t0": "settled" if self.min_live == "selected" else self.min_live,
        }  # fmt: skip


class GuaranteeSettings(AttributionSettings):
    """An attribution that can certify which filters are at the ends."""

    guarantee: float | None = option(
        None, "DELTA: certify both ends, wrong with at most this probability (tmab). Needs many passes.", "Search", shown=False, gt=0, lt=1
    )
    tolerance: float | None = option(
        None, "Of the guarantee, relative to the k-th value. [default: 0.2]", "Search", shown=False, ge=0, lt=1
    )

    @model_validator(mode="after")
    def _guarantee_is_complete(self) -> Self:
        if self.engine != "tmab" and self.guarantee is not None:
            raise ValueError(f"--guarantee is for the engine tmab, got {self.engine}: leave one of the two out")
        if self.guarantee is None and self.tolerance is not None:
            raise ValueError(f"--tolerance belongs to a guarantee, got {self.tolerance:g} without one: give --guarantee, for instance 0.05")
        least = self.top_k or USUAL_TOP_K.get(self.engine, WALKS_TOP_K)
        if self.guarantee is not None and self.flip_candidates is not None and self.flip_candidates < least:
            raise ValueError(f"expected at least {least} --flip-candidates for a guarantee, as many as --top-k, got {self.flip_candidates}")
        return self

    def attribution(self) -> dict[str, Any]:
        """The fields of `Options` that these settings decide."""
        return super().attribution() | {"guarantee": self.guarantee, "tolerance": self.tolerance}


class SelectionSettings(Settings):
    """Which filters are frozen."""

    max_filters: int | None = option(None, "Most filters to freeze. [default: 16; fewer for embedded data]", "Repair", ge=1)
    max_accuracy_drop: float = option(0.01, "Guard: one-sided 90 % bound on the loss of clean accuracy, a share.", "Repair", ge=0, le=1)
    candidates: int | None = option(
        None, "How many of the most harmful filters selection tries. [default: 40; fewer for embedded data]", "Repair", shown=False, ge=1
    )
    strategy: Literal["forward", "top-k"] = option(
        "forward", "Forward selection, or the most harmful filters first (the paper's).", "Repair", shown=False
    )


class RepairSettings(GuaranteeSettings, SelectionSettings):
    """Every choice of `repairkit.repair` and `repairkit.attribute` that has a default."""

    seed: int = same_option(RunSettings, "seed")
    device: Literal["cpu", "cuda"] = same_option(RunSettings, "device")
    batch: int = same_option(RunSettings, "batch")

    @model_validator(mode="wrap")
    @classmethod
    def _refused_in_one_line(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            got = f", got {first['input']!r}" if where else ""
            reason = f"{first['msg'].removeprefix('Value error, ')}{got}"
            raise UsageError(f"settings {where or 'do not fit'}: {reason}; see repairkit.RepairSettings") from None

    def options(self) -> Options:
        """The options of the run code."""
        from repairkit.run.options import Options

        return Options(
            **self.attribution(),
            budget=self.budget or Options.budget,
            candidates=self.candidates or Options.candidates,
            max_filters=self.max_filters or Options.max_filters,
            max_clean_drop=self.max_accuracy_drop,
            strategy=STRATEGIES[self.strategy],  # type: ignore[arg-type]
            ranking="recall + source" if self.engine == "tmab" else "recall",
            **self.model_dump(include={"seed", "device", "batch"}),
        )
