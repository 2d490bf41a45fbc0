"""Options of `repairkit adversarial`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, model_validator

from repairkit.experiments.settings import EMBEDDED_BUDGET, USUAL_BUDGET, AlternativeSettings, FolderSettings, parse_channels
from repairkit.repair.settings import STRATEGIES, GuaranteeSettings, SelectionSettings
from repairkit.run.settings import RunSettings, option

if TYPE_CHECKING:
    from repairkit.experiments.attack_task import AttackOptions
    from repairkit.run.options import Options

EMBEDDED_CANDIDATES, EMBEDDED_BATCH = 20, 64
EMBEDDED_IMAGES = (60, 60, 100)
OBJECTIVES = {"balanced": "success - accuracy", "target-only": "success"}


def parse_fraction(value: object) -> object:
    """A number, or two with a stroke between; anything else as it is.

    Raises:
        ValueError: a text that is neither.

    Example:
        >>> parse_fraction("16/255") == 16 / 255, parse_fraction("0.8/255") == 0.8 / 255, parse_fraction("0.05")
        (True, True, 0.05)
    """
    if not isinstance(value, str):
        return value
    try:
        above, stroke, below = value.partition("/")
        return float(Fraction(above)) / float(Fraction(below)) if stroke else float(Fraction(above))
    except (ZeroDivisionError, OverflowError) as error:
        raise ValueError(str(error)) from None


FRACTION = "a number such as 0.05 or 16/255"


class AdversarialSettings(RunSettings, AlternativeSettings, SelectionSettings, GuaranteeSettings, FolderSettings):
    """Find the filters that let an attack through, freeze them, and say against which adversaries that helps."""

    examples = (
        "repairkit adversarial --model squeezenet1_1 --dry-run",
        "repairkit adversarial --model mine.safetensors --data-root photos --effort standard --out runs/attack",
    )

    transfer_model: list[str] = option(
        [], "NAME or NAME=WEIGHTS of a network for transfer attacks; may be repeated. [default: an embedded one for digits]", "Attack"
    )
    other_data_root: Path | None = option(None, "Folder of images of another data set with the same classes.", "Attack", shown=False)
    compare_model: str | None = option(
        None, "The same architecture trained with filter dropout, to compare with: a weights FILE.", "Attack", shown=False
    )
    eps: Annotated[float, BeforeValidator(parse_fraction)] = option(
        16 / 255, "Largest change of a channel of a pixel, for images in [0, 1]. [default: 16/255]", "Attack", expected=FRACTION
    )
    step_size: Annotated[float, BeforeValidator(parse_fraction)] = option(
        0.8 / 255, "Length of a step of PGD, in the same units. [default: 0.8/255]", "Attack", shown=False, expected=FRACTION
    )
    steps: int = option(30, "Steps of PGD.", "Attack", shown=False)
    random_start: bool = option(True, "Begin PGD at a random point within the bound.", "Attack", shown=False)
    attack_images: Annotated[tuple[int, int, int] | None, BeforeValidator(parse_channels)] = option(
        None,
        "Adversarial images for attribution, selection and test, by commas. [default: 200,200,400; 60,60,100 for digits]",
        "Attack",
        shown=False,
        expected="three whole numbers by commas, such as 200,200,400",
    )
    effort: Literal["quick", "standard", "full"] | None = option(
        None,
        "Strength of the evaluating attacks; full takes a night. [default: quick for digits, full with --device cuda, else standard]",
        "Attack",
    )
    max_curve_filters: int = option(
        64, "Most filters on the trade-off curve of attack success and clean accuracy.", "Attack", shown=False, ge=1
    )
    objective: Literal["balanced", "target-only"] = option(
        "balanced", "Rank filters by attack success less clean accuracy, or by attack success alone (the paper's).", "Search", shown=False
    )
    max_accuracy_drop: float = option(
        0.03, "Guard: limit on the loss of clean accuracy, and on the one-sided 90 % bound on the loss of the label's mean probability, a share.",
        "Repair", ge=0, le=1,
    )  # fmt: skip
    rounds: int = option(1, "Find, freeze and attack again this often.", "Repair", shown=False, ge=1)
    finetune_epochs: int = option(
        0, "Epochs of training on the clean attribution images after each round; epochs that break the guard are undone.", "Repair", shown=False, ge=0
    )  # fmt: skip
    batch: int | None = option(None, "Most images of a pass. [default: 32; 64 for digits]", "Run", ge=1)  # type: ignore[assignment]

    @model_validator(mode="after")
    def _baselines_have_one_round(self) -> Self:
        if self.baselines and self.rounds > 1:
            raise ValueError(f"--baselines compares one round, got {self.rounds} rounds: give one of the two")
        return self

    def options(self) -> Options:
        """The options of the run code."""
        from repairkit.baselines.compare import suited
        from repairkit.experiments.attack_task import SHARES
        from repairkit.run.options import Options

        return Options(
            **self.attribution(),
            budget=self.budget or (EMBEDDED_BUDGET if self.embedded and self.guarantee is None else USUAL_BUDGET),
            strategy=STRATEGIES[self.strategy],  # type: ignore[arg-type]
            candidates=self.candidates or (EMBEDDED_CANDIDATES if self.embedded else Options.candidates),
            max_filters=self.max_filters or Options.max_filters,
            max_clean_drop=self.max_accuracy_drop,
            target_shares=SHARES,
            compare=suited(fairness=False) if self.baselines else (),
            batch=self.batch or (EMBEDDED_BATCH if self.embedded else Options.batch),
            **self.model_dump(include={"alternatives", "seed", "device"}),
        )

    def attack_options(self) -> AttackOptions:
        """The attack that filters are found against, and the effort of the evaluation."""
        from repairkit.attacks.methods import PGD
        from repairkit.experiments.attack_task import PRESETS, AttackOptions, attack_budget

        usual = EMBEDDED_IMAGES if self.embedded else AttackOptions.images
        return AttackOptions(
            method=PGD(eps=self.eps, step=self.step_size, steps=self.steps, random_start=self.random_start),
            ranking=OBJECTIVES[self.objective],  # type: ignore[arg-type]
            images=self.attack_images or usual,
            rounds=self.rounds,
            finetune_epochs=self.finetune_epochs,
            frontier=self.max_curve_filters,
            effort=PRESETS[self.effort] if self.effort else attack_budget({}, thorough=False, device=self.device, embedded=self.embedded),
        )
