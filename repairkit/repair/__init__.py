"""Find harmful filters, freeze them, hand back plain weights. The package itself can be called: `repairkit.repair(model, data, objective)`."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repairkit.repair.repair import Repair


class _CallableModule(ModuleType):
    """`repairkit.repair` names this package and the function in it; a module that can be called is both, in any order of imports."""

    def __call__(self, *arguments: Any, **options: Any) -> "Repair":
        from repairkit.repair.repair import repair

        return repair(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
