"""Repair: which culprits to freeze and how many, chosen on images of their own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from repairkit.errors import DataError, UsageError
from repairkit.evaluation.statistics import drop_bound, standard_error
from repairkit.files import write_text
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.freezing import why_not_bakeable
from repairkit.network.predict import predict
from repairkit.objectives.base import ObjectiveSum
from repairkit.repair.selection_images import Predictions, SelectionGoal, SelectionImages
from repairkit.run.context import Run
from repairkit.run.ledger import Progress
from repairkit.run.options import Precision, Strategy
from repairkit.run.store import Format, RunStore
from repairkit.shapley.game import Floats
from repairkit.shapley.values import Attribution

GUARD_CONFIDENCE = 0.9
"""Of the one-sided bound on the fall of source accuracy."""
GUARD_TRIES = 8
"""Filters that a step holds against the guard before it gives up; each costs a pass over the whole source, and is not tried again."""


@dataclass(frozen=True)
class Step:
    """The network with the first `filters` of the path frozen, on the choose images.

    Criterion and target are measured on the scored images, source and its bound on all source images.

    Attributes:
        filters: how many are frozen.
        player: the one frozen last; None at the start.
        criterion: weighted mean of what choosing measures, by default the probability of the label.
        gain: change of the criterion by this step; standard_error: of that change over images.
        target, source: hard metrics on the choose images: mean subgroup recall, source accuracy.
        drop_bound: upper end of the one-sided 90 % interval of the fall of what the guard holds, paired (normal
            approximation, and never below the fall of accuracy itself nor what as many images bound where none of them falls).
    """

    filters: int
    player: int | None
    criterion: float
    gain: float
    standard_error: float
    target: float
    source: float
    drop_bound: float


@dataclass(frozen=True)
class Choice:
    """The path that was tried and where on it the choosing stopped.

    Attributes:
        path: from no filter to the last one tried.
        chosen: how many filters of the path to freeze; 0 when nothing was worth freezing.
        reason: why it stopped there, in words.
        passes: image passes that choosing cost.
        candidates: how many filters could be frozen.
    """

    path: tuple[Step, ...]
    chosen: int
    reason: str
    passes: float
    candidates: int = 0

    @property
    def players(self) -> list[int]:
        """The chosen players, in order."""
        return [step.player for step in self.path[1 : self.chosen + 1] if step.player is not None]


def _write_choice(choice: Choice, file: Path) -> None:
    write_text(file, json.dumps(asdict(choice), indent=1) + "\n")


def _read_choice(file: Path) -> Choice:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Choice(**(content | {"path": tuple(Step(**step) for step in content["path"])}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is no choice of this version ({error}); remove it to choose again") from None


SELECTION: Format[Choice] = Format(".json", _write_choice, _read_choice)
"""A finished choice, every bit as it was."""


@dataclass(frozen=True, kw_only=True)
class SelectionSearch:
    """How filters are selected.

    Attributes:
        strategy: "forward": every step freezes the candidate that raises the criterion most. "prefix" (the paper's): the most harmful
            first, as many as give the best criterion under the guard.
        candidates: how many of the most harmful filters may be frozen.
        max_filters: most filters to freeze.
        max_drop: guard, the one-sided 90 % bound of the fall of what it holds, a share.
        retries: candidates that a step after the first tries again; three in ten unless given.
        errors: standard errors that the gain of a step must exceed.
        precision: of the passes that gains are measured in.
        batch: images of a pass.

    Raises:
        UsageError: an unknown strategy, a negative guard, or no filter allowed.
    """

    strategy: Strategy = "forward"
    candidates: int = 40
    max_filters: int = 16
    max_drop: float = 0.01
    retries: int | None = None
    errors: float = 1.0
    precision: Precision = "float32"
    batch: int = 32

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise UsageError(f"strategy must be 'forward' or 'prefix', got {self.strategy!r}")
        if self.max_drop < 0:
            raise UsageError(f"max_drop must not be negative, got {self.max_drop}; it is a share, for instance 0.01")
        if min(self.candidates, self.max_filters, self.tried_again) < 1:
            raise UsageError(
                f"candidates, max_filters and retries must be at least 1, got {self.candidates}, {self.max_filters} and {self.tried_again}"
            )

    @property
    def tried_again(self) -> int:
        """How many candidates a step after the first tries again."""
        return math.ceil(3 * self.candidates / 10) if self.retries is None else self.retries


def guard_bound(fall: Floats, lost: Floats, weights: Floats, strata: npt.NDArray[np.str_]) -> float:
    """What the guard holds: the one-sided bound of a drop, and never below the drop of accuracy.

    Args:
        fall: of what the guard looks at, on each image, shape (n,).
        lost: 1 where an image was right before alone, -1 where it is right after alone; shape (n,).
        weights: of the images.
        strata: what the drawing of the images was stratified by.
    """
    bound = drop_bound(float(weights @ fall), standard_error(fall, weights, strata), len(fall), GUARD_CONFIDENCE)
    return max(float(bound), float(weights @ lost))


def choose(
    classifier: Classifier,
    filters: ConvFilters,
    attribution: Attribution,
    goal: SelectionGoal,
    search: SelectionSearch,
    *,
    progress: Progress | None = None,
    store: RunStore | None = None,
) -> Choice:
    """Select filters to freeze on images that neither valued them nor test them.

    The criterion is the weighted mean of the goal's measure: the target's weights plus one of `guard_weights` times the guard's. Candidates
    are the filters of most harmful value (for "forward" less one standard error, so that few samples do not put a filter first). Filters
    without a value, and filters that plain weights cannot hold frozen, are never candidates.

    Forward selection tries all candidates in the first step, and later those whose last measured gain was highest. A filter that the guard
    refused is not tried again. It stops when no gain exceeds the standard error, or when the eight best would each break the guard.

    Args:
        classifier: prepares images for its network.
        filters: the network's players, with constants.
        attribution: values of the same players.
        goal: what is raised and what is guarded.
        search: strategy and limits.
        progress: called after every step.
        store: where the measurements of each step are stored and read again; of this network, these filters and this goal alone.
    """
    if goal.max_drop is not None:
        search = replace(search, max_drop=goal.max_drop)
    pool = eligible(filters, attribution, search.candidates, cautious=search.strategy == "forward")
    images = SelectionImages(classifier, filters, goal, precision=search.precision, batch=search.batch, store=store)

    def report() -> None:
        if progress is not None:
            progress("choosing", images.passes, images.passes)

    return (_forward if search.strategy == "forward" else _prefix)(images, pool, goal, search, report)


def eligible(filters: ConvFilters, attribution: Attribution, most: int, *, cautious: bool = False) -> list[int]:
    """The most harmful players that plain weights can hold frozen; see `Attribution.culprits` for `cautious`."""
    network = filters.network
    bakeable = (
        int(player)
        for player in attribution.harmful_players(cautious=cautious)
        if why_not_bakeable(network, filters.sites[filters.site_of[player]], float(filters.constants[player])) is None
    )
    return list(islice(bakeable, most))


class _Path:
    """The steps so far, and what a further step is compared with."""

    def __init__(self, images: SelectionImages, goal: SelectionGoal, source_weight: float, answers: Predictions) -> None:
        self.images, self.guarded = images, goal.guarded
        self.original = images.held([])
        self.measured = answers.measured
        self.weigh(source_weight)
        accuracy = float(images.source_weights @ self.original.correct)
        self.steps = [Step(0, None, self.criterion(answers.measured), 0.0, 0.0, self.recall(answers.correct), accuracy, 0.0)]

    def weigh(self, source: float) -> None:
        """From now on the guard's images have this weight in the criterion."""
        self.weights = np.concatenate([self.images.target_weights, source * self.images.scored_source_weights])

    def criterion(self, measured: Floats) -> float:
        """What steps are to raise, in the weights of now."""
        return float(self.weights @ measured)

    def recall(self, correct: npt.NDArray[np.bool_]) -> float:
        """The target objective of correctness on the scored examples."""
        return float(self.images.target_weights @ correct[: len(self.images.target)])

    def gain(self, measured: Floats) -> tuple[float, float]:
        """Change of the criterion against the last step, and its standard error over images."""
        change = measured - self.measured
        return self.criterion(change), standard_error(change, self.weights, self.images.scored_strata)

    def step(self, frozen: Sequence[int], answers: Predictions) -> Step:
        """The step to `frozen`; looks at the whole source for the guard."""
        source = self.images.held(frozen)
        weights = self.images.source_weights
        lost = self.original.correct.astype(float) - source.correct
        fall = lost if self.guarded == "accuracy" else self.original.probability - source.probability
        bound = guard_bound(fall, lost, weights, self.images.source_strata)
        gain, error = self.gain(answers.measured)
        accuracy = float(weights @ source.correct)
        return Step(len(frozen), frozen[-1], self.criterion(answers.measured), gain, error, self.recall(answers.correct), accuracy, bound)

    def accept(self, step: Step, answers: Predictions) -> None:
        """Make it the last step."""
        self.steps.append(step)
        self.measured = answers.measured


class _Forward:
    """The state of forward selection. All candidates are measured at the start."""

    def __init__(self, images: SelectionImages, pool: list[int], goal: SelectionGoal, search: SelectionSearch) -> None:
        self.images, self.pool, self.search = images, pool, search
        self.frozen: list[int] = []
        self.refused: list[int] = []
        self.weights = iter(goal.guard_weights)
        answers = images.gained([], pool)
        self.path = _Path(images, goal, next(self.weights), answers.at(0))
        self.measured: dict[int, Predictions] = {}  # of candidates, beside what is frozen now
        self.changes: dict[int, Floats] = {}  # of the measure, by each candidate when it was last measured
        self._note(pool, answers)

    def candidates(self) -> list[int]:
        """The candidates of the next step, measured beside what is frozen."""
        ahead = [player for player in self.pool if player not in [*self.frozen, *self.refused]]
        if self.frozen:
            last = {player: self.path.criterion(self.changes[player]) for player in ahead}
            ahead = sorted(ahead, key=lambda player: -last[player])[: self.search.tried_again]
        if new := [player for player in ahead if player not in self.measured]:
            self._note(new, self.images.gained(self.frozen, new))
        return ahead

    def freeze_best(self, candidates: list[int]) -> str:
        """Freeze the candidate that gains most under the guard; else why none was frozen, in words."""
        gains = {player: self.path.gain(self.measured[player].measured) for player in candidates}
        for rank, player in enumerate(sorted(candidates, key=lambda player: -gains[player][0])[:GUARD_TRIES]):
            gain, error = gains[player]
            if gain <= self.search.errors * error:
                broke = f"{rank} would break the guard, and " if rank else ""
                return (
                    f"{broke}the best further filter gains {gain:+.4f}, not more than {self.search.errors:g} standard error ({error:.4f})"
                )
            step = self.path.step([*self.frozen, player], self.measured[player])
            if step.drop_bound <= self.search.max_drop + 1e-12:
                self.frozen.append(player)
                self.path.accept(step, self.measured[player])
                self.measured = {}
                return ""
            self.refused.append(player)
        if not candidates:
            return "there is no further candidate"
        return f"the further filters that gain most (up to {GUARD_TRIES} were held against it) would break the guard on the source"

    def weigh_less(self) -> bool:
        """Give the guard's images their next weight; False where there is none."""
        weight = next(self.weights, None)
        if weight is not None:
            self.path.weigh(weight)
        return weight is not None

    def choice(self, reason: str) -> Choice:
        """The path so far, and why it ends."""
        return Choice(tuple(self.path.steps), len(self.frozen), reason, self.images.passes, len(self.pool))

    def _note(self, players: Sequence[int], answers: Predictions) -> None:
        for row, player in enumerate(players, start=1):
            self.measured[player] = answers.at(row)
            self.changes[player] = self.measured[player].measured - self.path.measured


def _forward(images: SelectionImages, pool: list[int], goal: SelectionGoal, search: SelectionSearch, report: Callable[[], None]) -> Choice:
    state = _Forward(images, pool, goal, search)
    while True:
        refusal = state.freeze_best(state.candidates())
        report()
        if len(state.frozen) == search.max_filters:
            return state.choice(f"the limit of {search.max_filters} filters was reached")
        if refusal and not state.weigh_less():
            return state.choice(refusal)


def _prefix(images: SelectionImages, pool: list[int], goal: SelectionGoal, search: SelectionSearch, report: Callable[[], None]) -> Choice:
    path = _Path(images, goal, goal.guard_weights[-1], images.gained([]).at(0))
    for count in range(1, min(search.max_filters, len(pool)) + 1):
        answers = images.gained(pool[:count]).at(0)
        path.accept(path.step(pool[:count], answers), answers)
        report()
    allowed = [step for step in path.steps if step.drop_bound <= search.max_drop + 1e-12]
    best = max(allowed, key=lambda step: step.criterion)
    reason = f"{best.filters} gives the best criterion among the first {len(path.steps) - 1} filters under the guard"
    return Choice(tuple(path.steps), best.filters, reason, images.passes, len(pool))


def removal_curve(
    classifier: Classifier,
    filters: ConvFilters,
    players: Sequence[int],
    counts: Iterable[int],
    worths: tuple[ObjectiveSum, ObjectiveSum],
    run: Run,
) -> tuple[tuple[int, float, float], ...]:
    """What freezing the first so many of these players does, on any images.

    Returns:
        (number frozen, worth of the target, worth of the source) for each count that there are players for.
    """
    target, source = worths
    points = []
    for count in counts:
        if count <= len(players):
            correct = correct_with(classifier, filters, players[:count], worths, run)
            points.append((count, float(target.weights @ correct[: len(target)]), float(source.weights @ correct[len(target) :])))
    return tuple(points)


def correct_with(
    classifier: Classifier, filters: ConvFilters, frozen: Sequence[int], worths: tuple[ObjectiveSum, ObjectiveSum], run: Run
) -> npt.NDArray[np.bool_]:
    """Which images are classified correctly with these players frozen, those of the target first; bool (N,)."""
    images = [part.images for worth in worths for part in worth.terms]
    return np.concatenate([predict(classifier, each, run, filters=filters, frozen=frozen) == each.labels for each in images])
