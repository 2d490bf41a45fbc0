"""The keys of each command's recipes."""

from __future__ import annotations

from repairkit.experiments.adversarial.recipe import AdversarialRecipe, CorrelationRecipe
from repairkit.experiments.critical.recipe import CriticalRecipe
from repairkit.experiments.dropout.recipe import DropoutRecipe
from repairkit.experiments.fairness.recipe import FairnessRecipe
from repairkit.experiments.pruning.recipe import PruneRecipe
from repairkit.experiments.sample_efficiency.recipe import EfficiencyRecipe
from repairkit.experiments.truncation.recipe import TruncationRecipe

AnyRecipe = (
    FairnessRecipe
    | CriticalRecipe
    | AdversarialRecipe
    | CorrelationRecipe
    | DropoutRecipe
    | TruncationRecipe
    | EfficiencyRecipe
    | PruneRecipe
)
RECIPES: dict[str, type[AnyRecipe]] = {
    "fairness": FairnessRecipe,
    "recall": CriticalRecipe,
    "accuracy": CriticalRecipe,
    "adversarial": AdversarialRecipe,
    "correlation": CorrelationRecipe,
    "dropout": DropoutRecipe,
    "truncation": TruncationRecipe,
    "efficiency": EfficiencyRecipe,
    "prune": PruneRecipe,
}
"""The keys of each command's recipes."""
