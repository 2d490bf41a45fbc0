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
"""Image passes of one part at one size, unless told otherwise."""
LIVE_RANGE_SIZES = 7
"""Sizes at which the live range is measured before it has ended, for planning: a network that dies at a tenth of its filters."""
_SURELY = 2.0  # standard errors by which a part's activity over the whole grid must exceed 0
_ROUNDING = 1e-6  # root mean square change, as a share of the range of scores, that is no change
_STREAM = 0x20E  # keeps the random numbers apart from those of an engine with the same seed


@dataclass(frozen=True, eq=False)
class LiveRange:
    """Where single filters change the score of a part.

    Attributes:
        min_live: least size of the live range; an engine draws sizes from [min_live, 1].
        grid: sizes measured, shape (m,), falling.
        activity: mean square over players of the change of a part's mean score when the player alone
            changes side, shape (m, parts), in squared units of the score. The estimate is unbiased
            and may fall below 0.
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
        """The live range, then the root mean square change of every part at every size."""
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
    """Find min_live: below it, hardly any player's change of side alters the score of any part of the worth.

    With f_p(t) the mean score of part p when every player is live with probability t, a value is
    the integral of the derivative of f_p by player i's own probability (Owen 1972), which is the
    mean change of the part's score when i alone changes side. The activity of a part at a size is
    the mean square of that change over all players. The live range begins at the least size of the grid
    at which some part's activity, less one standard error, is at least `share` of the part's greatest, likewise less one
    standard error. Sizes are tried from the top, until two in a row are dead.

    The change is that of the part's score and not of single examples: a network that is dead gives all images one answer, and a flip
    that moves this answer still moves every example's score, those of one class up and of the other down.
    (In a trial on a SqueezeNet trained on real faces, at t = 0.8, where accuracy is that of guessing, the mean absolute
    change of an example's score is still six tenths of what it is at t = 0.97; the activity of the recalls is a thousandth.)
    So examples are drawn in balanced handfuls that share one coalition, which `stratum_of` serves.

    By default the change is first-order: gradients of the surrogate, all players at three passes. With
    `players`, exact flips of these players' hard or smooth score are measured, at their share of a pass each.

    Cost: 3 * coalitions * examples passes for each part and size (384 by default), and some 7 sizes
    for a network that dies when a tenth of its filters is frozen: 5,000 passes for a worth of two parts.

    Deviation from the paper, which truncates a permutation where accuracy has fallen to a set value: here the network may be accurate and
    dead (an attack that always succeeds) or inaccurate and alive.

    Args:
        game: what is played.
        seed: same seed, same live range.
        part_of: number of the part of each example, shape (N,); all examples are one part by default.
        stratum_of: number of a subgroup or class of each example, shape (N,), over which the examples of
            a coalition are spread in proportion to their weight.
        players: flip these exactly; None for the gradients of all.
        grid: sizes to try, each in [0, 1).
        share: of the greatest activity, in (0, 1).
        coalitions: of each part and size, at least 3.
        examples: of each coalition.

    Raises:
        GameError: no part is live at any size (a network dead on arrival).
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
    cost = game.gradient_cost if players is None else game.flip_cost(players)
    rows: list[list[tuple[float, float]]] = []
    live: list[bool] = []
    for number, size in enumerate(sizes):
        rngs = [np.random.default_rng([seed, _STREAM, number, part]) for part in range(len(parts))]
        rows.append(
            [_activity(_changes(game, part, rng, size, players, coalitions, examples)) for part, rng in zip(parts, rngs, strict=True)]
        )
        live = _live(np.array(rows), share, game)
        if any(live) and not any(live[-2:]):
            break
    measured = np.array(rows)
    activity, error = measured[:, :, 0], measured[:, :, 1]
    passes = cost * coalitions * examples * len(parts) * len(rows)
    if not any(live):
        greatest = math.sqrt(max(0.0, float(activity.max())))
        raise GameError(
            f"no filter's change of side alters the score of any part at any size (at most {greatest:.2g} in root mean square, no more than "
            f"chance, after {passes:,.0f} image passes), so there is no live range; check that the weights are the trained ones and that labels and "
            "normalisation fit, or give min_live yourself"
        )
    min_live = min(size for size, alive in zip(sizes, live, strict=False) if alive)
    return LiveRange(float(min_live), np.array(sizes[: len(rows)]), activity, error, share, passes, seed)


def check_alive(min_live: float, *observed: Floats) -> None:
    """Refuse a live range in which nothing that was observed of any player differs from 0.

    Raises:
        GameError: all of it is 0: the live range is empty, or so nearly that the budget found no change.
    """
    if not any(each.any() for each in observed):
        raise GameError(
            f"the live range is empty as far as was seen: no filter changed the score of any drawn example with a share of {min_live:g} or more live; "
            "check that the weights are the trained ones and that labels and normalisation fit, or give a larger budget"
        )


def _live(measured: Floats, share: float, game: Game) -> list[bool]:
    """Whether some part is live at each size; measured is (m, parts, 2), activity and standard error."""
    activity, error = measured[:, :, 0], measured[:, :, 1]
    least = (_ROUNDING * (game.bounds[1] - game.bounds[0])) ** 2
    # Many sizes are looked at, and one may seem live by chance: Stouffer's sum of z scores over sizes where anything moved.
    scores = activity / np.maximum(error, np.finfo(np.float64).tiny)
    alive = (scores.sum(axis=0) > _SURELY * np.sqrt((scores != 0).sum(axis=0))) & (activity.max(axis=0) > least)
    sure = activity - error
    found = (sure > 0) & (sure >= share * sure.max(axis=0)) & alive
    return [bool(each) for each in found.any(axis=1)]


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
    own = np.einsum("kp,kp->k", changes, changes)
    along = changes @ total
    together = float(total @ total) - own.sum()
    without = (together - 2 * (along - own)) / (players * (k - 1) * (k - 2))
    error = math.sqrt((k - 1) / k * float(((without - without.mean()) ** 2).sum()))
    return together / (players * k * (k - 1)), error
