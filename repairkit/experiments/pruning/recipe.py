"""Recipes of `repairkit prune`."""

from __future__ import annotations

from typing import ClassVar, Literal

from repairkit.experiments.pruning import run as pruning
from repairkit.experiments.recipe_base import ClassifierRecipe


class PruneRecipe(ClassifierRecipe):
    """Pruning under a guard on accuracy: `options.max_clean_drop` is what `repairkit prune --max-accuracy-drop` gives.

    Attributes:
        freeze_only: freeze filters and take none out.
    """

    defaults: ClassVar[dict[str, object]] = {"ranking": "recall", "target_shares": pruning.SHARES, "max_clean_drop": pruning.MAX_DROP}
    unfit = (
        "ranking", "spare", "folds", "rounds", "source_counts", "stability", "curve", "guarantee", "tolerance", "strategy", "candidates", "max_filters",
        "alternatives",
    )  # fmt: skip

    command: Literal["prune"]
    freeze_only: bool = False
