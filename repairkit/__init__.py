"""repairkit: find the filters to blame, freeze them, show what it bought."""

from repairkit.errors import RepairkitError
from repairkit.network.filters import ConvFilters, FilterId
from repairkit.network.freezing import Freeze, bake
from repairkit.network.game import ModelGame
from repairkit.network.patch import Patch
from repairkit.network.structural_pruning import load_pruned
from repairkit.objectives import (
    Accuracy,
    AttackSuccess,
    ClassRecall,
    LogLoss,
    Objective,
    ObjectiveSum,
    Probability,
    RecallGap,
    SubgroupRecall,
)
from repairkit.shapley import Attribution, FunctionGame, Game, estimate, exact_values

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
    "ObjectiveSum",
    "Patch",
    "Probability",
    "RecallGap",
    "RepairkitError",
    "SubgroupRecall",
    "bake",
    "estimate",
    "exact_values",
    "load_pruned",
]
