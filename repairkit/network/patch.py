"""The patch: frozen filters with their constants, as a small JSON file, and its application to weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from repairkit.errors import DataError, ModelError
from repairkit.files import write_text
from repairkit.network.filters import FilterId
from repairkit.network.freezing import Freeze, baked_copy
from repairkit.network.weights import hash_state


class FrozenFilter(BaseModel):
    """One filter to freeze."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str
    channel: int = Field(ge=0)
    constant: float = Field(allow_inf_nan=False)  # sent on in place of the signal, in its units
    value: float = Field(allow_inf_nan=False)  # Shapley value in the units of the objective
    half_width: float | None = None  # of the value's interval
    screen: float | None = None  # gradient estimate of the value

    @property
    def filter(self) -> FilterId:
        """The filter's name."""
        return FilterId(self.layer, self.channel)


class Patch(BaseModel):
    """All that is needed to repair the same weights again.

    Example:
        >>> patch = Patch(architecture="toy", weights_sha256="", freeze_at="post", objective="accuracy",
        ...     culprits=[FrozenFilter(layer="0", channel=1, constant=0.25, value=-0.1)])
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        >>> float(patch.apply(network, check=False)[0].bias[1].detach())
        0.25
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    architecture: str  # torchvision's name of the network
    weights_sha256: str  # of the state dict in which the filters were found; `apply` refuses others
    freeze_at: Literal["post", "pre"]  # where the constants were measured
    objective: str  # in words
    classes: tuple[str, ...] = ()  # names of the logits; empty in patches of earlier versions
    engine: str = "unknown"
    min_live: float = 0.0  # least size of the live range
    delta: float = 0.05  # probability that an interval misses the value
    culprits: list[FrozenFilter]  # in the order of their selection

    @property
    def constants(self) -> dict[FilterId, float]:
        """Filter -> constant."""
        return {culprit.filter: culprit.constant for culprit in self.culprits}

    def freeze(self, network: nn.Module) -> Freeze:
        """Freeze the filters in a network until the handle's `undo`."""
        return Freeze(network, self.constants, freeze_at=self.freeze_at)

    def apply(self, network: nn.Module, *, check: bool = True) -> nn.Module:
        """A repaired copy with plain weights of the same architecture.

        Args:
            network: with the weights that the patch was made for; it is not changed.
            check: refuse other weights.

        Raises:
            ModelError: other weights, or a network without these filters.
            BakeError: the architecture's weights cannot hold the freeze.
        """
        sha256 = hash_state(network.state_dict())
        if check and sha256 != self.weights_sha256:
            raise ModelError(
                f"the patch was made for weights with SHA-256 {self.weights_sha256[:12]}..., these have {sha256[:12]}...; "
                "give the weights that were repaired, or --force to freeze the same filters in others"
            )
        return baked_copy(network, self.constants, freeze_at=self.freeze_at)

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_text(path, json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Patch:
        """Read a `patch.json`; `DataError` where it is missing or no patch."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            raise DataError(f"expected a patch at {path}, could not read it; give the patch.json of a run") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(f"{path} is not a patch: {where}: {first['msg']}; make the patch again with this version") from None


def finite_or_none(number: float) -> float | None:
    """The number, or None where it is NaN or infinite, which JSON cannot hold."""
    return float(number) if math.isfinite(number) else None
