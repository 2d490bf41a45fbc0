"""The live range settled by what its values are for: how far accuracy falls with the highest filters frozen, on the images that choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repairkit.data.images import LabelledImages
from repairkit.evaluation.ablation import counts_up_to, freeze_first, most_frozen
from repairkit.evaluation.curves import area
from repairkit.network.game import NetworkGame
from repairkit.repair.attribute import check_affordable, live_range_of, live_range_planned
from repairkit.repair.screens import screens_of
from repairkit.report.formatting import listed
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley.game import GRADIENT_COST, Examples, Floats
from repairkit.shapley.live_range import LiveRange
from repairkit.shapley.sampling import SCREEN_ROUND

WIDTHS = (1.0, 0.5, 0.25)
"""Live ranges that are tried, as shares of the width of the one that was measured, from the whole network down."""
SHARE = 0.25
"""Of the budget, for the screens of all live ranges together, on top of it."""
LEAST_ROUNDS = 3
"""Rounds of gradients of each screen, at least: in a trial on handwritten digits the area that a live range led to varied between seeds by half as much again with one."""
PART = "settling the live range"
"""Under which the clock books it."""


@dataclass(frozen=True)
class Settled:
    """Live ranges that were tried, and what freezing the filters that each ranks highest did.

    Attributes:
        sizes: t0 of each, the measured one first.
        areas: mean height of the curve of accuracy on the images that choose, 0 .. 1; mean over networks where there are several.
        images: how many choose.
        passes: image passes of a network.
    """

    sizes: tuple[float, ...]
    areas: tuple[float, ...]
    images: int
    passes: float

    @property
    def min_live(self) -> float:
        """Of the live range with the lowest curve; of the widest of several.

        Example:
            >>> Settled((0.8, 0.9, 0.95), (0.3, 0.2, 0.2), 100, 2_000).min_live
            0.9
        """
        return self.sizes[int(np.argmin(self.areas))]


def settle(
    games: Sequence[NetworkGame],
    images: LabelledImages,
    runs: Sequence[Run],
) -> tuple[list[LiveRange], Settled]:
    """Rank filters by gradients in several live ranges, freeze the highest of each on the images that choose, and see where accuracy falls furthest.

    A wide live range values filters beside many others frozen, as they must be where critical filters stand in for each other; a narrow one values them near
    the whole network, where the first of them are frozen. Which of the two names the filters that hurt most differs between networks.

    Deviation from Ghorbani & Zou 2020, who truncate every permutation at one accuracy, whatever the values are for.

    Args:
        games: of one network, or of several that are to have one live range in common.
        images: that choose; they find no filter and are in no report.
        runs: of each game; what is done in the live ranges is booked under `PART`.

    Returns:
        The live range that was measured of each network, and what was settled, from the widest of them down.

    Raises:
        UsageError, BudgetError: what the attribution would be refused for, before anything is paid.
        GameError: no size of coalition at which a network is alive.
    """
    options = runs[0].settings
    for game in games:
        check_affordable(game, options)
    live_ranges = [
        live_range
        for game, run in zip(games, runs, strict=True)
        if (live_range := live_range_of(game, run.with_settings(t0="auto"), seed=options.seed)[0])
    ]
    sizes, most = sizes_of(min(live_range.min_live for live_range in live_ranges)), most_frozen(options, games[0].n)
    counts = counts_up_to(most)
    areas = []
    for game, run in zip(games, runs, strict=True):
        orders = [_highest(_screen(game, index, size, run), most) for index, size in enumerate(sizes)]
        with run.phase(PART):
            areas.append([area(rows, counts).mean() for rows in _heights(game, images, orders, counts, run)])
    mean: list[float] = np.mean(areas, axis=0).tolist()
    return live_ranges, Settled(sizes, tuple(mean), len(images), planned(len(images), most, options))


def sizes_of(t0: float) -> tuple[float, ...]:
    """The t0 that are tried where the network is alive down to this one.

    Example:
        >>> sizes_of(0.8), sizes_of(0.0)
        ((0.8, 0.9, 0.95), (0.0, 0.5, 0.75))
    """
    return tuple(round(1 - width * (1 - t0), 6) for width in WIDTHS)


def screen_passes(options: Options) -> float:
    """Image passes of the screen in one live range, in whole rounds."""
    whole = SCREEN_ROUND * GRADIENT_COST
    return whole * max(LEAST_ROUNDS, int(SHARE * options.budget / len(WIDTHS) / whole))


def planned(images: int, most: int, options: Options) -> float:
    """Image passes of settling on so many images for one network, where at most so many filters are frozen.

    Example:
        >>> planned(100, 40, Options(budget=12_000)), planned(100, 40, Options(budget=1))
        (4780.0, 3628.0)
    """
    return len(WIDTHS) * screen_passes(options) + images * (1 + len(WIDTHS) * (len(counts_up_to(most)) - 1))


def found_planned(images: int, options: Options) -> dict[str, float]:
    """Image passes of finding the live range of one network, by part, where so many images choose; a limit for the numbers removed."""
    most = options.top or options.usual_top
    return live_range_planned(options) | ({PART: planned(images, most, options)} if options.t0 == "settled" else {})


def describe_choice(choice: Settled) -> list[str]:
    """What was tried, and what was taken, a sentence each.

    Example:
        >>> describe_choice(Settled((0.8, 0.9, 0.95), (0.3, 0.2, 0.25), 100, 2_000))[1]
        'With the highest filters of these rankings frozen, the curve of accuracy had a mean height of 30.0, 20.0 and 25.0 %.'
    """
    sizes, areas = listed([f"{size:g}" for size in choice.sizes]), listed([f"{100 * height:.1f}" for height in choice.areas])
    return [
        f"For the choice filters were ranked by gradients alone in the live ranges from {sizes} up.",
        f"With the highest filters of these rankings frozen, the curve of accuracy had a mean height of {areas} %.",
        "The live range with the least was taken. Baselines have no live range and were left without these images.",
    ]


def _screen(game: NetworkGame, index: int, size: float, run: Run) -> Floats:
    """First-order estimates of all values in one live range, with random numbers of its own."""
    own = run.of(PART.replace(" ", "-"))
    passes, worths = screen_passes(run.settings), {index: game.objective}
    screens = screens_of(game.classifier, game.filters, worths, own, passes=passes, t0=size, batch=game.batch, part=PART)
    found: Floats = screens[0]
    return found


def _highest(screen: Floats, most: int) -> Examples:
    """The players of highest value, at most so many, and of positive value alone."""
    order = np.argsort(-screen, kind="stable")[:most]
    return order[screen[order] > 0].astype(np.int64)


def _heights(game: NetworkGame, images: LabelledImages, orders: Sequence[Examples], counts: Sequence[int], run: Run) -> list[Floats]:
    """Who is right with the first so many filters of each order frozen, shape (k, N) for each."""
    network = game.classifier, game.filters
    start = freeze_first(*network, (), (0,), images, run)
    return [np.vstack([start, freeze_first(*network, order, counts[1:], images, run)]).astype(np.float64) for order in orders]
