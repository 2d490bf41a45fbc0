"""The alternatives to a fairness repair: one line for each."""

from __future__ import annotations

from repairkit.alternatives import fine_tuning, group_thresholds, last_layer, threshold
from repairkit.alternatives.base import PART, Alternative, AlternativeResult, Fold
from repairkit.evaluation.splits import Split

FAIRNESS: tuple[Alternative, ...] = (threshold, group_thresholds, last_layer, fine_tuning)


def evaluate(fold: Fold) -> list[AlternativeResult]:
    """Every alternative on this fold; those that cannot be had say why."""
    with fold.run.phase(PART):
        return [module.evaluate(fold) for module in FAIRNESS]


def cost(split: Split, source: Split, classes: int) -> float:
    """Image passes that all alternatives of one fold make."""
    return float(sum(module.cost(split, source, classes) for module in FAIRNESS))
