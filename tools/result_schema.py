"""Write the JSON schema of `result.json` into the package: `python -m tools.result_schema`."""

from __future__ import annotations

import json
from pathlib import Path

import repairkit
from repairkit.experiments.results import json_schema

PLACE = Path(repairkit.__file__).with_name("result.schema.json")


def text() -> str:
    """The file as it should be."""
    return json.dumps(json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    PLACE.write_text(text(), encoding="utf-8")
