"""The live range: down to which coalition size single filters still change what the network can do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repairkit.errors import GameError, UsageError
from repairkit.shapley.game import GRADIENT_COST, Examples, Floats, Game

GRID = (0.99, 0.97, 0.95, 0.925, 0.9, 0.875, 0.85, 0.8, 0.7, 0.5, 0.25, 0.0)
"""Sizes at which activity is measured, from the whole network down."""
COALITIONS, EXAMPLES = 16, 8
"""Coalitions of each size and part, and examples of each coalition."""
POINT_PASSES = GRADIENT_COST * COALITIONS * EXAMPLES
"""Image passes of one part at one size, by default."""
LIVE_RANGE_SIZES = 7
"""Sizes measured before the live range has ended, for planning: of a network that dies at a tenth of its filters."""
_SURELY = 2.0  # standard errors by which a part's activity over the whole grid must exceed 0
_ROUNDING = 1e-6  # root mean square change, as a share of the range of scores, that is no change
_STREAM = 0x20E  # keeps the random numbers apart from those of an engine with the same seed


@dataclass(frozen=True, eq=False)
class LiveRange:
    """Where single filters change the score of a part.

    Attributes:
        min_live: least size of the live range; an engine draws sizes from [min_live, 1].
        grid: sizes measured, shape (m,), falling.
        activity: mean square over players of the change of a part's mean score when one player changes side, shape (m, parts), in squared
            units of the score. The estimate is unbiased and may fall below 0.
        standard_error: of the activity, shape (m, parts).
        share: of a part's greatest activity that counts as live.
        passes: image passes that it cost.
        seed: of everything random.
    """

    min_live: float
    grid: Floats
    activity: Floats
    standard_error: Floats
    share: float
    passes: float
    seed: int

    def __str__(self) -> str:
        """The live range, then the activity of every part at every size."""
        lines = [
            f"live range from min_live = {self.min_live:g} ({self.passes:,.0f} passes); activity of each part in percent of its greatest:"
        ]
        most = np.maximum(self.activity.max(axis=0), np.finfo(np.float64).tiny)
        for size, activity, error in zip(self.grid, self.activity / most, self.standard_error / most, strict=True):
            cells = ", ".join(f"{100 * part:.0f} +- {100 * doubt:.0f}" for part, doubt in zip(activity, error, strict=True))
            lines.append(f"  t = {size:g}: {cells}")
        return "\n".join(lines)


def measure_live_range(
    game: Game,
    *,
    seed: int = 0,
    part_of: Examples | None = None,
    stratum_of: Examples | None = None,
    players: Examples | None = None,
    grid: Sequence[float] = GRID,
    share: float = 0.1,
    coalitions: int = COALITIONS,
    examples: int = EXAMPLES,
) -> LiveRange:
    """Find the size below which hardly any player's change of side alters the score of any part of the objective.

    Let f_p(t) be the mean score of part p when every player is live with probability t. A value is the integral of the derivative of f_p by
    the player's own probability (Owen 1972). The activity of a part at a size is the mean square of that derivative over all players. The
    live range begins at the least size at which some part's activity, less one standard error, is at least `share` of the part's greatest.
    Sizes are tried from the top, until two in a row are dead.

    The change is of the part's score and not of single examples: flips still move the examples of a dead network, some up and others down.
    Examples are therefore drawn in balanced handfuls that share one coalition.

    Cost: `gradient_cost * coalitions * examples` passes for each part and size. Deviation from the paper, which truncates where accuracy
    has fallen to a set value: a network may be accurate and dead, or inaccurate and alive.

    Args:
        game: what is played.
        seed: same seed, same live range.
        part_of: number of the part of each example, shape (N,); one part by default.
        stratum_of: number of a subgroup or class of each example, shape (N,), over which the examples of a coalition are spread.
        players: flip these exactly; None for the gradients of all.
        grid: sizes to try, each in [0, 1).
        share: of the greatest activity, in (0, 1).
        coalitions: of each part and size, at least 3.
        examples: of each coalition.

    Raises:
        GameError: no part is live at any size (a dead network).
        UsageError: an argument out of range, or of another length than the examples.

    Example:
        >>> from repairkit.shapley import FunctionGame
        >>> game = FunctionGame(40, lambda live: (live.mean(axis=1) > 0.8) * 0.5 * live[:, 0], bounds=(0, 1))
        >>> live_range = measure_live_range(game, coalitions=64, examples=1)
        >>> live_range.min_live, live_range.passes
        (0.8, 1920.0)
    """
    parts = _parts(game, part_of, stratum_of)
    sizes = sorted(set(grid), reverse=True)
    if not sizes or not 0 <= sizes[-1] <= sizes[0] < 1:
        raise UsageError(f"the grid of sizes must lie in [0, 1), got {tuple(grid)}")
    if not 0 < share < 1 or coalitions < 3 or examples < 1:
        raise UsageError(
            f"expected a share in (0, 1), at least 3 coalitions and at least 1 example of each, got {share}, {coalitions} and {examples}"
        )
    rows: list[list[tuple[float, float]]] = []
    live: list[bool] = []
    for number, size in enumerate(sizes):
        rngs = [np.random.default_rng([seed, _STREAM, number, part]) for part in range(len(parts))]
        changes = [_changes(game, part, rng, size, players, coalitions, examples) for part, rng in zip(parts, rngs, strict=True)]
        rows.append([_activity(change) for change in changes])
        live = _live(np.array(rows), share, game)
        if any(live) and not any(live[-2:]):
            break
    measured = np.array(rows)
    cost = game.gradient_cost if players is None else game.flip_cost(players)
    passes = cost * coalitions * examples * len(parts) * len(rows)
    _check_any_live(live, measured[:, :, 0], passes)
    least = min(size for size, alive in zip(sizes, live, strict=False) if alive)
    return LiveRange(float(least), np.array(sizes[: len(rows)]), measured[:, :, 0], measured[:, :, 1], share, passes, seed)


def _check_any_live(live: Sequence[bool], activity: Floats, passes: float) -> None:
    if not any(live):
        greatest = math.sqrt(max(0.0, float(activity.max())))
        raise GameError(
            f"there is no live range: no filter's change of side alters the score of any part by more than chance, {greatest:.2g} in root mean "
            f"square, after {passes:,.0f} image passes; check that weights, labels and normalisation fit, or give min_live"
        )


def check_alive(min_live: float, *observed: Floats) -> None:
    """Refuse a live range in which nothing that was observed of any player differs from 0.

    Raises:
        GameError: all observations are 0.
    """
    if not any(values.any() for values in observed):
        raise GameError(
            f"the live range is empty: no filter changed the score of any drawn example with a share of {min_live:g} or more live; "
            "check that weights, labels and normalisation fit, or give a larger budget"
        )


def _live(measured: Floats, share: float, game: Game) -> list[bool]:
    """Whether some part is live at each size; measured is (m, parts, 2), activity and standard error."""
    activity, error = measured[:, :, 0], measured[:, :, 1]
    least = (_ROUNDING * (game.bounds[1] - game.bounds[0])) ** 2
    # Many sizes are looked at, and one may seem live by chance: Stouffer's sum of z scores over sizes where anything moved.
    scores = activity / np.maximum(error, np.finfo(np.float64).tiny)
    alive = (scores.sum(axis=0) > _SURELY * np.sqrt((scores != 0).sum(axis=0))) & (activity.max(axis=0) > least)
    sure = activity - error
    parts_live = (sure > 0) & (sure >= share * sure.max(axis=0)) & alive
    return [bool(live) for live in parts_live.any(axis=1)]


def _parts(game: Game, part_of: Examples | None, stratum_of: Examples | None) -> list[Examples]:
    """Examples of each part with weight, in the order of their strata."""
    count = len(game.weights)
    codes = [np.zeros(count, dtype=np.int64) if code is None else np.asarray(code) for code in (part_of, stratum_of)]
    for name, code in zip(("part_of", "stratum_of"), codes, strict=True):
        if code.shape != (count,):
            raise UsageError(f"{name} must give a number for each of the {count} examples, got shape {code.shape}")
    order = np.argsort(codes[1], kind="stable")
    parts = [order[codes[0][order] == part] for part in np.unique(codes[0])]
    return [part.astype(np.int64) for part in parts if np.abs(game.weights[part]).sum() > 0]


def _changes(
    game: Game, part: Examples, rng: np.random.Generator, size: float, players: Examples | None, coalitions: int, examples: int
) -> Floats:
    """Mean change of the part's score in each coalition, shape (coalitions, players), over a balanced handful of examples."""
    live = np.repeat(rng.random((coalitions, game.n)) < size, examples, axis=0)
    reached = np.cumsum(np.abs(game.weights[part]))
    places = (np.arange(examples) + rng.random((coalitions, examples))) / examples * reached[-1]
    drawn = part[np.minimum(np.searchsorted(reached, places.ravel(), side="right"), len(part) - 1)]
    changes = game.gradients(live, drawn) if players is None else game.flips(live, drawn, players)
    signed = changes * np.sign(game.weights[drawn])[:, None]
    means: Floats = signed.reshape(coalitions, examples, -1).mean(axis=1)
    return means


def _activity(changes: Floats) -> tuple[float, float]:
    """Unbiased mean over players of the squared mean change, and its standard error.

    Products of two different coalitions are averaged, so that their noise drops out; the error is a jackknife over coalitions.
    """
    k, players = changes.shape
    total = changes.sum(axis=0)
    squares = np.einsum("kp,kp->k", changes, changes)
    along = changes @ total
    together = float(total @ total) - squares.sum()
    without = (together - 2 * (along - squares)) / (players * (k - 1) * (k - 2))
    error = math.sqrt((k - 1) / k * float(((without - without.mean()) ** 2).sum()))
    return together / (players * k * (k - 1)), error
