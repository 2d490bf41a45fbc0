"""The keys of each command's recipes."""

from __future__ import annotations

from repairkit.recipe.adversarial import AdversarialRecipe, CorrelationRecipe
from repairkit.recipe.critical import CriticalRecipe
from repairkit.recipe.dropout import DropoutRecipe
from repairkit.recipe.efficiency import EfficiencyRecipe
from repairkit.recipe.fairness import FairnessRecipe
from repairkit.recipe.prune import PruneRecipe
from repairkit.recipe.truncation import TruncationRecipe

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
