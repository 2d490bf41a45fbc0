"""repairkit: find the filters to blame, freeze them, show what it bought."""

from repairkit.cutting import load_pruned
from repairkit.errors import RepairkitError
from repairkit.filters import ConvFilters, FilterId
from repairkit.freezing import Freeze, bake
from repairkit.objectives import Accuracy, AttackSuccess, ClassRecall, LogLoss, Objective, RecallGap, Smooth, SubgroupRecall, Worth
from repairkit.patch import Patch
from repairkit.shapley import Attribution, FunctionGame, Game, estimate, exact_values
from repairkit.shapley.model_game import ModelGame

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "AttackSuccess",
    "Attribution",
    "ClassRecall",
    "ConvFilters",
    "FilterId",
    "Freeze",
    "FunctionGame",
    "Game",
    "LogLoss",
    "ModelGame",
    "Objective",
    "Patch",
    "RecallGap",
    "RepairkitError",
    "Smooth",
    "SubgroupRecall",
    "Worth",
    "bake",
    "estimate",
    "exact_values",
    "load_pruned",
]
