"""Attribution: what an engine found out about every filter, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from repairkit.errors import BudgetError, DataError
from repairkit.files import replacing
from repairkit.shapley.game import Floats

End = Literal["low", "high"]
_COLUMNS = ["id", "layer", "channel", "screen", "value", "half_width", "standard_error", "samples", "decided"]


class Ledger:
    """A budget in image passes and what it was spent on; it cannot be overdrawn.

    Example:
        >>> ledger = Ledger(10)
        >>> ledger.spend("screen", 6)
        >>> ledger.left, ledger.spent
        (4.0, {'screen': 6.0})
        >>> ledger.spend("flips", 5)
        Traceback (most recent call last):
        repairkit.errors.BudgetError: flips would need 5 image passes, 4 of 10 are left; give a larger --budget
    """

    def __init__(self, budget: float) -> None:
        self.budget = float(budget)
        self.spent: dict[str, float] = {}

    @property
    def left(self) -> float:
        """Passes that may still be spent."""
        return self.budget - sum(self.spent.values())

    def affords(self, passes: float) -> bool:
        """Whether that many passes are left."""
        return passes <= self.left + 1e-6

    def spend(self, part: str, passes: float) -> None:
        """Book passes before they are made.

        Raises:
            BudgetError: more than what is left.
        """
        if not self.affords(passes):
            raise BudgetError(
                f"{part} would need {passes:.6g} image passes, {self.left:.6g} of {self.budget:.6g} are left; give a larger --budget"
            )
        self.spent[part] = self.spent.get(part, 0.0) + passes


@dataclass(frozen=True, eq=False)
class Attribution:
    """Values of all players.

    Attributes:
        ids: names of the players, "layer:channel".
        screen: first-order estimate of every value; NaN where an engine makes none. Never a reason to freeze.
        value: mean of exact marginal contributions times (1 - t0), NaN where none was made.
        half_width: of the interval at 1 - delta around `value`, conditional on the images; NaN or
            infinite where there are too few samples.
        samples: number of observations behind `value`.
        decided: whether the interval lies on one side of the k-th value of the end that was sought.
        harmful: sign of the values of culprits.
        end: the end that was sought: "low" or "high".
        top: k, the number of players sought.
        t0: live zone; 0 is the Shapley value itself.
        standard_error: of `value`; empty where an engine states none.
        delta, seed, engine, passes: how it was found; `passes` in image passes by kind.
    """

    ids: tuple[str, ...]
    screen: Floats
    value: Floats
    half_width: Floats
    samples: Floats
    decided: npt.NDArray[np.bool_]
    harmful: int
    end: End
    top: int
    t0: float
    delta: float
    seed: int
    engine: str
    passes: dict[str, float] = field(default_factory=dict)
    standard_error: Floats = field(default_factory=lambda: np.empty(0))

    def culprits(self, most: int | None = None, *, cautious: bool = False) -> npt.NDArray[np.int64]:
        """Players with a value of the harmful sign, most harmful first; only these may be frozen.

        Args:
            most: how many.
            cautious: order by harm less one standard error, so that players with few samples do not
                come first by chance alone.
        """
        harm = np.where(np.isnan(self.value), -np.inf, self.value * self.harmful)
        doubt = self.standard_error if cautious and len(self.standard_error) else np.zeros(len(harm))
        order = np.argsort(np.where(np.isnan(doubt), 0, doubt) - harm, kind="stable")
        return order[harm[order] > 0][:most].astype(np.int64)

    def table(self) -> pd.DataFrame:
        """One row per filter: id, layer, channel, screen, value, half_width, standard_error, samples, decided."""
        split = [name.rpartition(":") for name in self.ids]
        return pd.DataFrame(
            {
                "id": self.ids,
                "layer": [layer for layer, _, _ in split],
                "channel": [int(channel) if channel.isdigit() else -1 for _, _, channel in split],
                "screen": self.screen,
                "value": self.value,
                "half_width": self.half_width,
                "standard_error": self.standard_error if len(self.standard_error) else np.full(len(self.ids), np.nan),
                "samples": self.samples.astype(np.int64),
                "decided": self.decided,
            }
        )

    def write(self, path: Path) -> None:
        """Write the table as Parquet, whole or not at all."""
        with replacing(path) as temporary:
            self.table().to_parquet(temporary, index=False)

    def __str__(self) -> str:
        table = self.table().dropna(subset=["value"]).sort_values("value", ascending=self.end == "low").head(self.top)
        lines = [
            f"{self.engine}: {int((self.samples > 0).sum())} of {len(self.ids)} filters valued, t0 = {self.t0:g}, {sum(self.passes.values()):,.0f} passes"
        ]
        lines += [
            f"  {row.id:40s} {row.value:+.5f} +- {row.half_width:.5f}  {'decided' if row.decided else 'undecided'}"
            for row in table.itertuples()
        ]
        return "\n".join(lines)


def decide(value: Floats, half_width: Floats, *, top: int, end: End) -> npt.NDArray[np.bool_]:
    """Which intervals lie on one side of the border between the `top` values of an end and the rest.

    The border is half-way between the k-th and the next value; players without a value are undecided,
    and so is everyone when there is no next value.
    """
    valued = ~np.isnan(value)
    decided = np.zeros(len(value), dtype=bool)
    if valued.sum() > top:
        ordered = np.sort(value[valued] if end == "low" else -value[valued])
        border = (ordered[top - 1] + ordered[top]) / 2 * (1 if end == "low" else -1)
        decided[valued] = np.abs(value[valued] - border) > half_width[valued]
    return decided


def read_table(path: Path) -> pd.DataFrame:
    """Read an `attribution.parquet`.

    Raises:
        DataError: the file is missing or is not such a table.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected an attribution table at {path}, could not read one ({type(error).__name__}); run the attribution again"
        ) from None
    if missing := sorted(set(_COLUMNS) - set(table.columns)):
        raise DataError(f"{path} lacks the columns {', '.join(missing)}; run the attribution again")
    return table


def names(ids: Sequence[object] | None, n: int) -> tuple[str, ...]:
    """Names of players: given ones, else "player:i"."""
    return tuple(str(name) for name in ids) if ids is not None else tuple(f"player:{index}" for index in range(n))
