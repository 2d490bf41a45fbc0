"""Comparing: what a run did with Shapley values, done with what baselines say of the same filters, at a known cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from repairkit.baselines import rankings as baselines
from repairkit.baselines.rankings import BASELINES, DRAWS, RIEMANN_STEPS
from repairkit.errors import RepairkitError, UsageError
from repairkit.network.game import NetworkGame
from repairkit.repair.attribute import within_memory
from repairkit.repair.selection import Choice
from repairkit.run.context import Run
from repairkit.run.ledger import Progress
from repairkit.run.options import Options
from repairkit.run.store import ARRAYS, ATTRIBUTION
from repairkit.shapley import Attribution
from repairkit.shapley.game import GRADIENT_COST, Floats

SHAPLEY = "Shapley values"
PUBLISHED_IMAGES = 100
"""Images of a conductance as Ghorbani & Zou 2020 made it."""
AS_PUBLISHED, AS_DEAR = f"conductance ({PUBLISHED_IMAGES} images)", "conductance (equal passes)"
PART = "baselines"
"""Under which the clock books everything here."""

Outcomes = npt.NDArray[np.bool_]
Measure = Callable[[Sequence[int]], Outcomes]
"""Players to freeze -> for each report image, shape (N,), what is counted of it; spends the passes."""
Choose = Callable[[Attribution, Run], Choice]
"""Values, and the run whose settings it chooses by -> the choice."""


@dataclass(frozen=True, eq=False)
class Contender:
    """One answer to which filters matter, and what came of it on the report images.

    Attributes:
        name: of the row in the report.
        attributions: one for each fold; empty where none could be made.
        scores: shape (n,) for each fold: what its order follows, the largest first; NaN where there is no value.
        right: shape (k, N), in 0 .. 1: what is counted of each image with the first so many filters of the order frozen; mean over `DRAWS` orders of
            random filters.
        choices: what choosing from its candidates froze, for each fold; empty where the run repairs nothing.
        after: shape (N,), in 0 .. 1: what is counted of each image after that; None likewise.
        why_not: why there is no attribution, in words; empty where there is one.
        chosen_from: image passes of the values whose candidates were chosen from, where they are others than `attributions` or without a price.
        named: how many filters its order names, in the fold where they are fewest, where that is less than are frozen along the curve; from there on
            the curve is that of all of them.
    """

    name: str
    attributions: tuple[Attribution, ...] = ()
    scores: tuple[Floats, ...] = ()
    right: Floats = field(default_factory=lambda: np.empty((0, 0)))
    choices: tuple[Choice, ...] = ()
    after: Floats | None = None
    why_not: str = ""
    chosen_from: float | None = None
    named: int | None = None


@dataclass(frozen=True, eq=False)
class Compared:
    """A run held against baselines.

    Attributes:
        counts: how many filters of each order were frozen, 0 first; shape (k,).
        contenders: the Shapley values first.
    """

    counts: tuple[int, ...]
    contenders: tuple[Contender, ...]


def suited(*, fairness: bool) -> tuple[str, ...]:
    """The baselines that a run can be compared with: all, but FairPrune for fairness alone."""
    return tuple(name for name in BASELINES if fairness or name != "fairprune")


def rows_of(names: Sequence[str]) -> list[str]:
    """The rows that baselines have in a report, in its order: conductance has one as published and one at equal passes.

    Example:
        >>> rows_of(["conductance", "random"])
        ['random', 'conductance (100 images)', 'conductance (equal passes)']
    """
    known = [name for name in BASELINES if name in names]
    return [row for name in known for row in ((AS_PUBLISHED, AS_DEAR) if name == "conductance" else (name,))]


def folder_of(row: str) -> str:
    """Where an unfinished run keeps the work of a row, below the folder of baselines.

    Example:
        >>> folder_of("conductance (100 images)")
        'conductance-100-images'
    """
    return re.sub(r"\W+", "-", row).strip("-")


def planned(
    options: Options,
    *,
    images: int,
    points: int,
    report: int,
    choosing: float = 0.0,
    shapley: bool = False,
    before: float = 0.0,
    control: bool = False,
) -> float:
    """Image passes that comparing one game will cost, at most but for choosing.

    Args:
        options: names of the baselines, and the budget of the Shapley values.
        images: that find.
        points: numbers of filters frozen at which the curves are measured, 0 among them, which is measured once.
        report: passes of measuring one network on report images.
        choosing: passes of choosing once; 0 where the run repairs nothing.
        shapley: whether the curve of the Shapley values is measured here, too.
        control: whether the run measures the curve of random filters itself.
        before: what the Shapley values take beside their budget, such as finding their live range.
    """
    options = replace(options, budget=options.budget + before)
    one = GRADIENT_COST * (RIEMANN_STEPS + 1)
    dear = {
        "response norm": images,
        "mean activation": images,
        "leave-one-out": options.budget,
        "taylor": min(options.budget, GRADIENT_COST * images),
        AS_PUBLISHED: one * min(PUBLISHED_IMAGES, images),
        AS_DEAR: min(options.budget, one * images),
        "fairprune": (1 + GRADIENT_COST) * images,
    }
    rows = [row for row in rows_of(options.compare) if row != AS_DEAR or options.budget < one * images or images > PUBLISHED_IMAGES]
    values = [dear.get(row, 0.0) for row in rows]
    more = sum(max(options.budget - spent, 0.0) for spent in values) if choosing and options.strategy == "forward" else 0.0
    each = (points - 1 + (choosing > 0)) * report + choosing
    orders = ("random" in rows) * (-1 if control else DRAWS - 1) * (points - 1) * report
    return sum(values) + more + len(rows) * each + orders + shapley * points * report


def by_value(found: Attribution) -> Floats:
    """Scores whose largest are the critical filters."""
    return found.ranked


def by_harm(found: Attribution) -> Floats:
    """Scores whose largest are the culprits; of a baseline that knows no harm, those that matter most."""
    suspected = baselines.suspects(found)
    harm: Floats = suspected.value * suspected.harmful
    return harm


@dataclass(frozen=True)
class Ranking:
    """How an attribution becomes an order of filters.

    Attributes:
        score: what the order follows; see `by_value` and `by_harm`.
        order: the players of an attribution in the order in which they are frozen.
        reserved: of the passes of a row, those that are spent elsewhere on it, such as on a price; its values get the rest.
    """

    score: Callable[[Attribution], Floats]
    order: Callable[[Attribution], Sequence[int]]
    reserved: Mapping[str, float] = field(default_factory=dict)


def highest_first(most: int) -> Ranking:
    """Filters by value, the highest first, at most so many."""

    def order(attribution: Attribution) -> Sequence[int]:
        players: list[int] = np.argsort(-by_value(attribution), kind="stable")[:most].tolist()
        return players

    return Ranking(by_value, order)


@dataclass(frozen=True, eq=False)
class Curve:
    """What is measured along an order.

    Attributes:
        counts: numbers of filters frozen, 0 first; an order that names fewer freezes all that it names.
        measure: what is counted on the report images.
        right: what the run has measured along the curve of the Shapley values, shape (k, N); measured by `compare` by default.
        random: likewise, of random filters: the mean over `DRAWS` orders.
    """

    counts: Sequence[int]
    measure: Measure
    right: Outcomes | Floats | None = None
    random: Floats | None = None


@dataclass(frozen=True, eq=False)
class Selecting:
    """What a repair chose, and how the same is chosen from other candidates.

    Attributes:
        choose: chooses from an attribution's candidates.
        choice: what was chosen from those of the Shapley values.
        culprits: the values that `choice` was made from, where they are others than those that are compared.
    """

    choose: Choose
    choice: Choice
    culprits: Attribution | None = None


def compare(
    game: NetworkGame,
    shapley: Attribution,
    run: Run,
    *,
    seed: int,
    ranking: Ranking,
    curve: Curve,
    selecting: Selecting | None = None,
) -> Compared:
    """Every baseline on the game that the Shapley values were found in: values, ablation curve, and choosing from its candidates.

    Baselines that can spend get the passes that the Shapley values took; what the values of one cost less, choosing spends on more candidates
    (see `spending`). One that cannot be made says why, and nothing fails.

    Args:
        game: filters, constants, images and objective.
        shapley: the values that are compared with.
        run: its settings name the baselines; everything is booked under "baselines".
        seed: of the random order and of draws of images.
        ranking: how filters are ordered.
        curve: what is measured along the orders.
        selecting: what the repair chose; None where the run repairs nothing.
    """
    order, chosen_from = ranking.order(shapley), sum(((selecting and selecting.culprits) or shapley).passes.values())
    if curve.right is None:
        ours = _curve(curve.measure, [order], curve.counts, run.of(f"{PART}/shapley"))
    else:
        ours = curve.right.astype(np.float64)
    first = Contender(
        SHAPLEY,
        (shapley,),
        (ranking.score(shapley),),
        ours,
        (selecting.choice,) if selecting else (),
        chosen_from=chosen_from if selecting and selecting.culprits else None,
        named=_short(order, curve.counts) if curve.right is None else None,
    )
    budget = sum(shapley.passes.values())
    contenders = [first]
    for row in rows_of(run.settings.compare):
        own = run.of(f"{PART}/{folder_of(row)}")
        # a game of its own, whose passes may shrink for want of memory without a word about the attribution's or the next row's
        copy = NetworkGame(game.classifier, game.filters, game.objective, batch=game.batch, precision=game.precision)
        try:
            found = _attribution(row, copy, budget - ranking.reserved.get(row, 0.0), seed, own)
        except RepairkitError as error:
            contenders.append(Contender(row, why_not=str(error)))
            continue
        contenders.append(
            _contender(
                row, found, own, ours[:1], seed=seed, ranking=ranking, curve=curve, selected=_selected(found, own, selecting, chosen_from)
            )
        )
    return Compared(tuple(curve.counts), tuple(contenders))


def _selected(found: Attribution, run: Run, selecting: Selecting | None, passes: float) -> Choice | None:
    """What is chosen from a baseline's candidates, with the passes that its values cost less than those that were chosen from."""
    if selecting is None:
        return None
    settings = spending(run.settings, selecting.choice, passes - sum(found.passes.values()))
    return selecting.choose(found, replace(run, settings=settings))


def _contender(
    row: str, found: Attribution, run: Run, before: Floats, *, seed: int, ranking: Ranking, curve: Curve, selected: Choice | None
) -> Contender:
    """A baseline's curve, which begins with `before`, and what its selection did."""
    after = _measured(curve.measure, [selected.players], run, "after")[0].astype(np.float64) if selected else None
    order, spent = ranking.order(found), ranking.reserved.get(row, 0.0)
    if row == "random" and curve.random is not None:
        right = curve.random
    else:
        orders = [order]
        if row == "random":  # a curve rests on several orders, as the control of an ablation does; choosing on the first
            values = [baselines.random_values(len(found.ids), seed=seed, draw=draw) for draw in range(1, DRAWS)]
            orders += [ranking.order(replace(found, value=value)) for value in values]
        right = np.vstack([before, *_curve(curve.measure, orders, curve.counts[1:], run)])  # with none frozen it is the same network
    return Contender(
        row,
        (replace(found, passes=found.passes | {"price": spent}) if spent else found,),
        (ranking.score(found),),
        right,
        (selected,) if selected else (),
        after,
        chosen_from=sum(found.passes.values()) if spent else None,
        named=_short(order, curve.counts),
    )


def spending(options: Options, choice: Choice, spare: float) -> Options:
    """The options that choose from a baseline's candidates: as many more as the spare passes pay for, at what a candidate of the choice cost.

    Taking the most harmful first ("prefix") tries no more filters than it may freeze, and cannot spend.

    Args:
        options: those that the choice was made by.
        choice: from candidates of the Shapley values.
        spare: image passes that the baseline's values cost less than the Shapley values; below 0 where they cost more, which changes nothing.

    Example:
        >>> by = spending(Options(), Choice((), 0, "there is no further candidate", passes=30_000.0, candidates=40), spare=15_000.0)
        >>> by.candidates
        60
    """
    if options.strategy != "forward" or spare <= 0:
        return options
    return replace(options, candidates=max(options.candidates, round(choice.candidates * (1 + spare / choice.passes))))


def join(folds: Sequence[Compared], targets: Sequence[int]) -> Compared:
    """Folds as one: their own report images one after the other, and of the images that all of them report on the mean over the folds.

    A baseline that could not be made in a fold is left out of all, with the reason; so is a number of filters that a fold did not measure.

    Args:
        folds: of the same baselines, asked for the same counts.
        targets: how many report images are a fold's own; they come first.
    """

    def joined(parts: Sequence[Floats]) -> Floats:
        own = [part[..., :size] for part, size in zip(parts, targets, strict=True)]
        shared = np.mean([part[..., size:] for part, size in zip(parts, targets, strict=True)], axis=0)
        return np.concatenate([*own, shared], axis=-1)

    counts = min((fold.counts for fold in folds), key=len)
    contenders = []
    for same in zip(*(fold.contenders for fold in folds), strict=True):
        why_not = next((each.why_not for each in same if each.why_not), "")
        if why_not:
            contenders.append(Contender(same[0].name, why_not=why_not))
            continue
        after = [each.after for each in same if each.after is not None]
        contenders.append(
            Contender(
                same[0].name,
                tuple(found for each in same for found in each.attributions),
                tuple(scores for each in same for scores in each.scores),
                joined([each.right[: len(counts)] for each in same]),
                tuple(choice for each in same for choice in each.choices),
                joined(after) if after else None,
                named=min((each.named for each in same if each.named is not None), default=None),
            )
        )
    return Compared(counts, tuple(contenders))


def with_after(compared: Compared, after: Floats) -> Compared:
    """The same, with what is counted of each report image after the repair that the run itself made."""
    first, *others = compared.contenders
    return replace(compared, contenders=(replace(first, after=after), *others))


def _attribution(row: str, game: NetworkGame, budget: float, seed: int, run: Run) -> Attribution:
    """A baseline's attribution, booked; stored as soon as it is made."""

    def made() -> Attribution:
        found = within_memory(game, partial(_made, row, game, budget, seed, run.ledger.progress), store=run.store, name=row)
        run.spend(sum(found.passes.values()))
        return found

    with run.phase(PART):
        return run.cached("attribution", made, ATTRIBUTION)


def _made(row: str, game: NetworkGame, budget: float, seed: int, progress: Progress) -> Attribution:
    """A baseline's attribution at the passes of the Shapley values.

    Raises:
        UsageError: a value that is not a number, or one value for all; conductance at equal passes, where as published it takes all images already.
    """
    images = len(game.weights)
    if row == AS_DEAR and images <= min(PUBLISHED_IMAGES, budget / (GRADIENT_COST * (RIEMANN_STEPS + 1))):
        raise UsageError(f"{AS_PUBLISHED} takes all {images} images that find already, and the passes pay for more")
    makers: Mapping[str, Callable[[], Attribution]] = {
        "random": lambda: baselines.random(game, seed=seed),
        "weight norm": lambda: baselines.weight_norm(game),
        "response norm": lambda: baselines.response_norm(game, progress=progress),
        "mean activation": lambda: baselines.mean_activation(game, progress=progress),
        "leave-one-out": lambda: baselines.leave_one_out(game, budget=budget, seed=seed, progress=progress),
        "taylor": lambda: baselines.taylor(game, budget=budget, seed=seed, progress=progress),
        AS_PUBLISHED: lambda: baselines.conductance(game, images=PUBLISHED_IMAGES, seed=seed, progress=progress),
        AS_DEAR: lambda: baselines.conductance(game, budget=budget, seed=seed, progress=progress),
        "fairprune": lambda: baselines.fairprune(game, progress=progress),
    }
    found = makers[row]()
    if not np.isfinite(found.value).all():
        raise UsageError(f"{row} is not a number for {int((~np.isfinite(found.value)).sum()):,} filters of this network")
    if row != "random" and np.ptp(found.value) == 0:
        raise UsageError(f"{row} is the same number for all filters of this network, so that it ranks none")
    return found


def _short(order: Sequence[int], counts: Sequence[int]) -> int | None:
    """How many filters an order names, where that is less than are frozen along the curve."""
    return len(order) if len(order) < counts[-1] else None


def _curve(measure: Measure, orders: Sequence[Sequence[int]], counts: Sequence[int], run: Run) -> Floats:
    """What is counted of each image with the first so many frozen, or with all that an order names; mean over orders, shape (k, N)."""
    if not counts:  # of a run that froze nothing
        return np.empty((0, 0))
    longest = max(map(len, orders))
    reached = sorted({min(count, longest) for count in counts})
    found = _measured(measure, [order[:count] for order in orders for count in reached], run, "curve")
    mean: Floats = found.reshape(len(orders), len(reached), -1).mean(axis=0)
    return mean[[reached.index(min(count, longest)) for count in counts]]


def _measured(measure: Measure, frozen: Sequence[Sequence[int]], run: Run, name: str) -> Outcomes:
    """What is counted of each image under each freeze; what an earlier session stored is not measured again."""
    with run.phase(PART):
        found: Outcomes = run.cached(name, lambda: {"right": np.stack([measure(players) for players in frozen])}, ARRAYS)["right"]
    return found
