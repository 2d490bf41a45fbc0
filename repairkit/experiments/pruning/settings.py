"""Options of `repairkit prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from repairkit.experiments.settings import EMBEDDED_BUDGET, USUAL_BUDGET, BaselineSettings, FolderSettings
from repairkit.repair.settings import AttributionSettings
from repairkit.run.settings import RunSettings, option

if TYPE_CHECKING:
    from repairkit.run.options import Options


def parse_share(value: object) -> object:
    """A share of a text such as "1%" or "0.01"; anything else as it is.

    Raises:
        ValueError: 1 without a percent sign: nobody can tell whether it means all or a hundredth.

    Example:
        >>> parse_share("1%"), parse_share("0.01"), parse_share("100%")
        (0.01, 0.01, 1.0)
    """
    if not isinstance(value, str):
        return value
    number, percent, rest = value.strip().partition("%")
    share = float(number) / (100 if percent else 1)
    if share == 1 and not percent:
        raise ValueError("1 without % means all; write 1% or 0.01 for a hundredth, 100% for all")
    if rest:
        raise ValueError("text after the percent sign")
    return share


class PruningSettings(RunSettings, BaselineSettings, AttributionSettings, FolderSettings):
    """Freeze the filters that accuracy can do without, take them out of the network, and report what that saves and costs."""

    examples = (
        "repairkit prune --model squeezenet1_1",
        "repairkit prune --model mine.safetensors --data-root photos --max-accuracy-drop 1% --out runs/small",
    )

    max_accuracy_drop: Annotated[float, BeforeValidator(parse_share)] = option(
        0.01,
        "Guard: one-sided 90 % bound on the loss of accuracy, for instance 1% or 0.01. [default: 1%]",
        "Repair",
        expected="a share from 0 to 1, such as 1% or 0.01; 1% is a hundredth and 100% is all",
        ge=0,
        le=1,
    )
    structural_pruning: bool = option(
        True, "Take the frozen filters out of the network. Torch-Pruning cannot follow every architecture.", "Repair"
    )

    def options(self) -> Options:
        """The options of the run code."""
        from repairkit.baselines.compare import suited
        from repairkit.experiments.pruning.run import SHARES
        from repairkit.run.options import Options

        return Options(
            **self.attribution(),
            budget=self.budget or (EMBEDDED_BUDGET if self.embedded else USUAL_BUDGET),
            ranking="recall",
            max_clean_drop=self.max_accuracy_drop,
            target_shares=SHARES,
            compare=suited(fairness=False) if self.baselines else (),
            **self.model_dump(include={"seed", "device", "batch"}),
        )
