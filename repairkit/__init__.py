"""repairkit: find the filters to blame, freeze them, show what it bought."""

from importlib import import_module
from typing import TYPE_CHECKING

from repairkit.errors import RepairkitError

if TYPE_CHECKING:
    from repairkit.models.pruned import load_pruned
    from repairkit.network.filters import ConvFilters, FilterId
    from repairkit.network.freezing import Freeze, bake
    from repairkit.network.game import NetworkGame
    from repairkit.network.patch import Patch
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
    from repairkit.shapley import Attribution, EngineSettings, FunctionGame, Game, estimate, exact_values

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "AttackSuccess",
    "Attribution",
    "ClassRecall",
    "ConvFilters",
    "EngineSettings",
    "FilterId",
    "Freeze",
    "FunctionGame",
    "Game",
    "LogLoss",
    "NetworkGame",
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

_MODULES = {
    "models.pruned": ("load_pruned",),
    "network.filters": ("ConvFilters", "FilterId"),
    "network.freezing": ("Freeze", "bake"),
    "network.game": ("NetworkGame",),
    "network.patch": ("Patch",),
    "objectives": (
        "Accuracy",
        "AttackSuccess",
        "ClassRecall",
        "LogLoss",
        "Objective",
        "RecallGap",
        "ObjectiveSum",
        "Probability",
        "SubgroupRecall",
    ),
    "shapley": ("Attribution", "EngineSettings", "FunctionGame", "Game", "estimate", "exact_values"),
}
_MODULE_OF = {name: f"repairkit.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that the engine loads without torch."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'repairkit' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
