"""Results changed for a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repairkit.result import Result


def changed(result: Result, update: Mapping[str, Any]) -> Result:
    """A result with other fields; those of its kind alone are found in its `extra`."""
    common = {name: value for name, value in update.items() if name in type(result).model_fields}
    own = {name: value for name, value in update.items() if name not in common}
    if unknown := set(own) - set(type(result.extra).model_fields):
        raise KeyError(f"no result has {unknown}")
    return result.model_copy(update={**common, "extra": result.extra.model_copy(update=own)})
