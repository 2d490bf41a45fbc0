"""Attribution: what an engine found out about every filter, and what that cost."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from repairkit.errors import BudgetError, DataError, UsageError
from repairkit.files import replacing
from repairkit.shapley.game import Floats
from repairkit.shapley.guarantee import EXTREME, End, Guarantee
from repairkit.shapley.top_k import border

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_COLUMNS = ["id", "layer", "channel", "screen", "value", "half_width", "standard_error", "samples", "decided"]
_FACTS = b"repairkit.attribution"
"""Key of the Parquet schema's metadata under which the facts of the whole attribution stand, as JSON."""


class Budget:
    """A budget in image passes and what it was spent on; it cannot be overdrawn.

    Example:
        >>> budget = Budget(10)
        >>> budget.spend("screen", 6)
        >>> budget.left, budget.spent
        (4.0, {'screen': 6.0})
        >>> budget.spend("flips", 5)
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

    def spend(self, part: str, passes: float) -> None:
        """Book passes before they are made.

        Raises:
            BudgetError: more than what is left.
        """
        if passes > self.left + 1e-6:
            raise BudgetError(
                f"{part} would need {passes:.6g} image passes, {self.left:.6g} of {self.budget:.6g} are left; give a larger --budget"
            )
        self.spent[part] = self.spent.get(part, 0.0) + passes

    def array(self, parts: Sequence[str]) -> Floats:
        """What was spent on these parts, for a checkpoint."""
        return np.array([self.spent.get(part, 0.0) for part in parts])

    def restore(self, parts: Sequence[str], spent: Floats) -> None:
        """Continue from what `array` gave."""
        self.spent = {part: float(passes) for part, passes in zip(parts, spent, strict=True) if passes}


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What `attribution.parquet` says of the attribution as a whole; the table has one row per filter."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "ser_json_inf_nan": "strings"}

    engine: str
    min_live: float
    end: End
    top_k: int
    harmful: int
    delta: float
    seed: int
    passes: dict[str, float]
    standard_errors: bool  # whether the engine stated any
    guarantee: Guarantee | None = None
    still_needed: float | None = None
    truncation: float | None = None


@dataclass(frozen=True, eq=False)
class Attribution:
    """Values of all players; arrays have shape (n,).

    Attributes:
        ids: names of the players, "layer:channel".
        screen: first-order estimate of every value; NaN where an engine makes none. Never a reason to freeze.
        value: mean of exact marginal contributions times (1 - min_live), NaN where none was made.
        half_width: of the interval at 1 - delta around `value`, conditional on the images; NaN or infinite where samples are too few.
        samples: number of observations behind `value`.
        decided: whether the interval lies on one side of the k-th value of the sought end. With a guarantee: whether the player is shown to be
            on its side of that value, or on the wrong side by the tolerance at most.
        harmful: sign of harmful values.
        end: the end that was sought.
        top_k: number of players sought.
        min_live: least size of the live range; 0 is the Shapley value itself.
        passes: image passes by kind.
        standard_error: of `value`; empty where an engine states none.
        guarantee: what is claimed of both ends, wrong with probability `delta` at most; None where nothing is.
        still_needed: image passes that the stopping rule of `tmab-paper` would still need, extrapolated; None where there is no such rule.
        truncation: objective value below which permutations ended; None for never.
        price: what counts against each player in the ranking, in units of value; empty where nothing does. Half-widths ignore its error.
    """

    ids: tuple[str, ...]
    screen: Floats
    value: Floats
    half_width: Floats
    samples: Floats
    decided: npt.NDArray[np.bool_]
    harmful: int
    end: End
    top_k: int
    min_live: float
    delta: float
    seed: int
    engine: str
    passes: dict[str, float] = field(default_factory=dict)
    standard_error: Floats = field(default_factory=lambda: np.empty(0))
    guarantee: Guarantee | None = None
    still_needed: float | None = None
    truncation: float | None = None
    price: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def ranked(self) -> Floats:
        """What players are ranked by, shape (n,): the value, less the price where there is one."""
        return self.value - self.price if len(self.price) else self.value

    def harmful_players(self, most: int | None = None, *, cautious: bool = False) -> npt.NDArray[np.int64]:
        """Players with a value of the harmful sign, most harmful first; only these may be frozen.

        Args:
            most: how many.
            cautious: order by harm less one standard error, so that players with few samples do not come first by chance.
        """
        harm = np.where(np.isnan(self.value), -np.inf, self.value * self.harmful)
        doubt = self.standard_error if cautious and len(self.standard_error) else np.zeros(len(harm))
        order = np.argsort(np.where(np.isnan(doubt), 0, doubt) - harm, kind="stable")
        return order[harm[order] > 0][:most].astype(np.int64)

    def culprits(self, k: int = 10) -> pd.DataFrame:
        """The k most harmful filters, most harmful first; rows of `to_frame`. Only filters with a value of the harmful sign are listed."""
        return self.to_frame().iloc[self.harmful_players(k)].reset_index(drop=True)

    def highest(self, k: int = 10) -> pd.DataFrame:
        """The k filters of highest value, highest first; rows of `to_frame`."""
        valued = np.flatnonzero(~np.isnan(self.value))
        return self.to_frame().iloc[valued[np.argsort(-self.value[valued], kind="stable")][:k]].reset_index(drop=True)

    def plot(self, ax: Axes | None = None, *, k: int = 10) -> Axes:
        """Draw the k lowest and the k highest values with their intervals on a matplotlib `Axes`, and return it."""
        if ax is None:
            from matplotlib import pyplot as plt

            ax = plt.subplots()[1]
        ends = self.extremes(k)
        players = [*ends["low"], *ends["high"][::-1]]
        rows = np.arange(len(players))
        widths = np.where(np.isfinite(self.half_width[players]), self.half_width[players], 0.0)
        ax.errorbar(self.value[players], rows, xerr=widths, fmt="o", capsize=2)
        ax.axvline(0, color="0.6", linewidth=0.8)
        ax.set_yticks(rows, [self.ids[player] for player in players])
        ax.invert_yaxis()
        ax.set_xlabel("value")
        return ax

    def __repr__(self) -> str:
        valued = int((~np.isnan(self.value)).sum())
        return f"Attribution(engine={self.engine!r}, filters={len(self.ids)}, valued={valued}, passes={sum(self.passes.values()):.0f})"

    def _repr_html_(self) -> str:
        """Culprits as a table, for notebooks."""
        columns = ["layer", "channel", "value", "half_width", "samples"]
        return f"<p>{html.escape(self.opening)}</p>{self.culprits()[columns].to_html(index=False)}"

    def to_frame(self) -> pd.DataFrame:
        """One row per filter: the columns of `attribution.parquet`, and price where there is one."""
        import pandas as pd

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
            | ({"price": self.price} if len(self.price) else {})
        )

    def extremes(self, most: int | None = None) -> dict[End, npt.NDArray[np.int64]]:
        """The players at each end of the ranking, most extreme first; the sought end comes first and no player is listed twice.

        Args:
            most: how many of each end; `top_k` by default.
        """
        k = self.top_k if most is None else most
        valued = np.flatnonzero(~np.isnan(self.value))
        order = valued[np.argsort(self.ranked[valued] * (1 if self.end == "low" else -1), kind="stable")]
        other: End = "high" if self.end == "low" else "low"
        return {self.end: order[:k], other: order[k:][::-1][:k]}

    @property
    def opening(self) -> str:
        """What is claimed; then engine, players valued and passes; then what its own stopping rule would still need."""
        valued = int((~np.isnan(self.value)).sum())
        spent = sum(self.passes.values())
        lines = [str(self.guarantee)] if self.guarantee else []
        live_range = (
            f"min_live = {self.min_live:g}" if self.truncation is None else f"truncated below an objective value of {self.truncation:g}"
        )
        lines.append(f"{self.engine}: {valued:,} of {len(self.ids):,} filters valued, {live_range}, {spent:,.0f} passes")
        if len(self.price):
            lines.append("ranked by value less a price (column price)")
        if self.still_needed:
            lines.append(
                f"its own stopping rule would still need about {self.still_needed:.2g} passes (extrapolated), "
                f"{self.still_needed / spent:,.1f} times what was spent"
            )
        return "\n".join(lines)

    def heading(self, end: End, listed: int) -> str:
        """Heading of a list of this many players of an end."""
        name = f"{listed:,} {EXTREME[end]}"
        if end == self.end or self.guarantee:
            return f"{name}, of {self.top_k:,} sought" if listed < self.top_k else name
        if np.isnan(self.value).any():
            return f"{name} of the filters that happened to be valued; this end was not sought"
        return f"{name}; this end was not sought"

    def status(self, player: int, end: End) -> str:
        """What is shown of a player at an end: "decided", "undecided" or "not sought"; with a guarantee as in `TopKClaims.status`."""
        if self.guarantee:
            return self.guarantee.of(end).status(self.ids[player])
        if end != self.end:
            return "not sought"
        return "decided" if self.decided[player] else "undecided"

    def write(self, path: Path) -> None:
        """Write table and facts as Parquet, whole or not at all; `read` gives the attribution back."""
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pydantic import TypeAdapter

        plain: dict[str, Any] = {name: getattr(self, name) for name in ("engine", "end", "guarantee", "still_needed")}
        plain |= {name: float(getattr(self, name)) for name in ("min_live", "delta")}
        plain |= {name: int(getattr(self, name)) for name in ("top_k", "harmful", "seed")}
        plain |= {"truncation": None if self.truncation is None else float(self.truncation)}
        passes = {part: float(passes) for part, passes in self.passes.items()}
        facts = _Facts(passes=passes, standard_errors=len(self.standard_error) > 0, **plain)
        table = pa.Table.from_pandas(self.to_frame(), preserve_index=False)
        with replacing(path) as temporary:
            pq.write_table(
                table.replace_schema_metadata((table.schema.metadata or {}) | {_FACTS: TypeAdapter(_Facts).dump_json(facts)}), temporary
            )

    @classmethod
    def read(cls, path: Path) -> Attribution:
        """Read an `attribution.parquet`, bit for bit.

        Raises:
            DataError: the file is missing, damaged, or of another version.
        """
        from pydantic import TypeAdapter

        table = _load(path)
        if _FACTS not in (metadata := table.schema.metadata or {}):
            raise DataError(f"{path} holds a table but not how it was found (engine, min_live, passes); run the attribution again")
        try:
            facts = TypeAdapter(_Facts).validate_json(metadata[_FACTS])
            columns = {name: table.column(name).to_numpy().astype(np.float64) for name in ("screen", "value", "half_width", "samples")}
            errors = table.column("standard_error").to_numpy().astype(np.float64) if facts.standard_errors else np.empty(0)
            decided = table.column("decided").to_numpy().astype(np.bool_)
            price = table.column("price").to_numpy().astype(np.float64) if "price" in table.column_names else np.empty(0)
        except (ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path} is not an attribution of this version ({reason}); run the attribution again") from None
        return cls(
            ids=tuple(table.column("id").to_pylist()),
            decided=decided,
            standard_error=errors,
            price=price,
            **columns,
            **{item.name: getattr(facts, item.name) for item in fields(facts) if item.name != "standard_errors"},
        )

    def __str__(self) -> str:
        """The k lowest and the k highest valued filters, with half-widths."""
        lines = [self.opening]
        ends = self.extremes()
        width = max((len(self.ids[player]) for players in ends.values() for player in players), default=0)
        for end, players in ends.items():
            lines.append(f"{self.heading(end, len(players))}:")
            lines += [
                f"  {self.ids[player]:{width}s}  {self.value[player]:+.5f} +- {self.half_width[player]:.5f}  {self.status(player, end)}"
                for player in players
            ]
        return "\n".join(lines)


def decide(value: Floats, half_width: Floats, *, top_k: int, end: End) -> npt.NDArray[np.bool_]:
    """Who is shown to be among the `top_k` values of an end, or not to be, if all intervals hold at once; shape (n,).

    Args:
        value: estimates, shape (n,); players with NaN are undecided.
        half_width: of intervals that hold for all valued players at once: many are compared with the k-th value, which is not known.
        top_k: k, at least 1.
        end: "low" or "high".
    """
    valued = ~np.isnan(value)
    centre = value[valued] if end == "low" else -value[valued]
    decided = np.zeros(len(value), dtype=bool)
    if len(centre) > top_k:
        shown = border(centre, centre - half_width[valued], centre + half_width[valued], top_k=top_k, tolerance=0.0)
        decided[valued] = shown.separated | shown.apart
    return decided


def read_table(path: Path) -> pd.DataFrame:
    """Read the table of an `attribution.parquet`, one row per filter.

    Raises:
        DataError: the file is missing or is not such a table.
    """
    table: pd.DataFrame = _load(path).to_pandas()
    return table


def _load(path: Path) -> Any:
    """A `pyarrow.Table` that has all columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"expected an attribution table at {path}, could not read one ({type(error).__name__}); run the attribution again"
        ) from None
    if missing := sorted(set(_COLUMNS) - set(table.column_names)):
        raise DataError(f"{path} lacks the columns {', '.join(missing)}; run the attribution again")
    return table


def names(ids: Sequence[object] | None, n: int) -> tuple[str, ...]:
    """Names of players: given ones, else "player:i".

    Raises:
        UsageError: not as many names as players.
    """
    if ids is None:
        return tuple(f"player:{index}" for index in range(n))
    if len(ids) != n:
        raise UsageError(f"ids must name each of the {n} players, got {len(ids)} names")
    return tuple(str(name) for name in ids)
