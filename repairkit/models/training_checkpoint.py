"""The state of a training on disk between two epochs, from which a killed training continues to the same bits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from repairkit.errors import DataError
from repairkit.files import replacing
from repairkit.shapley.checkpoint import check_same

_PARTS = {"configuration", "loop", "stopping", "history", "seconds"}


class TrainingCheckpoint:
    """A file with all that the next epoch depends on: network, optimizer, schedule, random numbers, history and the best weights so far.

    It is written after each epoch, whole or not at all, and read with `weights_only=True`: tensors, numbers and text, never code.

    Example:
        >>> import tempfile
        >>> checkpoint = TrainingCheckpoint(Path(tempfile.mkdtemp()) / "own.safetensors.unfinished")
        >>> checkpoint.write({"seed": 3}, {"loop": {}, "stopping": None, "history": [], "seconds": 1.5})
        >>> checkpoint.read({"seed": 3})["seconds"]
        1.5
        >>> checkpoint.read({"seed": 4})
        Traceback (most recent call last):
        repairkit.errors.UsageError: ... was made with seed 3, this run has seed 4; ...
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, configuration: Mapping[str, object]) -> dict[str, Any] | None:
        """What was written under this configuration; None where there is no file.

        Raises:
            UsageError: the file was written under another configuration; the message names the key.
            DataError: the file is cut short or is no checkpoint of a training.
        """
        if not self.path.exists():
            return None
        content = self._content()
        check_same(self.path, json.loads(content["configuration"]), json.loads(json.dumps(dict(configuration))))
        return content

    def setting(self, name: str) -> Any:
        """One entry of the stored configuration; None where there is no file or no such entry."""
        return json.loads(self._content()["configuration"]).get(name) if self.path.exists() else None

    def write(self, configuration: Mapping[str, object], state: Mapping[str, Any]) -> None:
        """Replace the stored state."""
        with replacing(self.path) as temporary:
            torch.save({"configuration": json.dumps(dict(configuration)), **state}, temporary)

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def damaged(self, why: str) -> DataError:
        """The error of a file that holds something else."""
        return DataError(
            f"expected the checkpoint of a training at {self.path}, it is cut short or something else ({why}); remove it to begin anew"
        )

    def _content(self) -> dict[str, Any]:
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            valid = isinstance(content, dict) and content.keys() == _PARTS and isinstance(json.loads(content["configuration"]), dict)
        except Exception as error:  # noqa: BLE001 - other files are read as pickle opcodes, which fail in many ways
            raise self.damaged(type(error).__name__) from None
        if not valid:
            raise self.damaged("other parts than a training has")
        return dict(content)
