"""Convert stored `result.json` files from schema 1 to schema 2: `python -m tools.migrate_results PATH ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from repairkit.experiments.registry import experiment_of
from repairkit.result import Result

COMMON = {name for name in Result.model_fields if name not in ("extra", "comparisons")}


def migrate(old: dict[str, Any]) -> dict[str, Any]:
    """A result of schema 1 as one of schema 2: what one kind alone has moves to `extra`, comparisons stand under their column."""
    rest = dict(old)
    new = {name: rest.pop(name) for name in list(rest) if name in COMMON}
    comparisons = rest.pop("comparisons", {})
    if (comparison := rest.pop("comparison", None)) is not None:
        column = "repaired" if any(each["key"] == "repaired" for each in new["columns"]) else new["columns"][0]["key"]
        comparisons = {column: comparison}
    return {**new, "schema_version": 2, "comparisons": comparisons, "extra": rest}


def main(paths: list[str]) -> None:
    """Convert each file in place, or every result below a folder."""
    for path in (found for name in paths for found in ([Path(name)] if Path(name).is_file() else sorted(Path(name).rglob("result.json")))):
        old = json.loads(path.read_text(encoding="utf-8"))
        if old["schema_version"] == 1:
            experiment_of(old["kind"]).result_class.model_validate(migrate(old)).write(path)


if __name__ == "__main__":
    main(sys.argv[1:])
