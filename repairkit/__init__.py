"""repairkit: find the filters to blame, freeze them, show what it bought."""

from importlib import import_module
from typing import TYPE_CHECKING

from repairkit.errors import RepairkitError

if TYPE_CHECKING:
    from repairkit.data.images import LabelledImages
    from repairkit.evaluation.splits import Split
    from repairkit.models.pruned import load_pruned
    from repairkit.network.classifier import Classifier
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
    from repairkit.repair.repair import Repair, attribute, repair
    from repairkit.repair.settings import RepairSettings
    from repairkit.shapley import Attribution, EngineSettings, FunctionGame, Game, estimate, exact_values

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "AttackSuccess",
    "Attribution",
    "ClassRecall",
    "Classifier",
    "ConvFilters",
    "EngineSettings",
    "FilterId",
    "Freeze",
    "FunctionGame",
    "Game",
    "LabelledImages",
    "LogLoss",
    "NetworkGame",
    "Objective",
    "ObjectiveSum",
    "Patch",
    "Probability",
    "RecallGap",
    "Repair",
    "RepairSettings",
    "RepairkitError",
    "Split",
    "SubgroupRecall",
    "attribute",
    "bake",
    "estimate",
    "exact_values",
    "load_pruned",
    "repair",
]

_MODULES = {
    "data.images": ("LabelledImages",),
    "evaluation.splits": ("Split",),
    "models.pruned": ("load_pruned",),
    "network.classifier": ("Classifier",),
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
    "repair.repair": ("Repair", "attribute"),
    "repair.settings": ("RepairSettings",),
    "shapley": ("Attribution", "EngineSettings", "FunctionGame", "Game", "estimate", "exact_values"),
}
_MODULE_OF = {name: f"repairkit.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that the engine loads without torch."""
    if name == "repair":
        return import_module("repairkit.repair")  # a package that can be called
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'repairkit' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
