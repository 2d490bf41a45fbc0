"""Repair: which culprits to freeze and how many, chosen on images of their own."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from repairkit.errors import DataError, UsageError
from repairkit.evaluation.statistics import drop_bound, standard_error
from repairkit.files import write_text
from repairkit.network.classifier import Classifier, check_logits
from repairkit.network.filters import ConvFilters
from repairkit.network.freezing import why_not_bakeable
from repairkit.network.game import Precision, passes_in, take
from repairkit.network.predict import predict
from repairkit.objectives.base import ObjectiveSum
from repairkit.run.context import Run
from repairkit.run.ledger import Progress
from repairkit.run.store import ARRAYS, Format, RunStore
from repairkit.shapley.game import Examples, Floats
from repairkit.shapley.values import Attribution

Strategy = Literal["forward", "prefix"]
Guarded = Literal["accuracy", "probability"]

GUARD_CONFIDENCE = 0.9
"""Of the one-sided bound on the fall of source accuracy."""
GUARD_TRIES = 8
"""Filters that a step holds against the guard before it gives up; each costs a pass over the whole source, and is not tried again."""
SOURCE_FOR_GAINS = 250
"""Source images that gains are measured on, unless told otherwise."""


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

Measure = Callable[[Tensor, Examples], Floats]
"""What choosing gains in: logits (k, classes) and the examples' numbers (k,), target before source -> float64 (k,); higher is better."""


class Said(NamedTuple):
    """What networks say to examples, rows being networks: what choosing gains in, the probability of the label, and whether that is the answer."""

    measured: Floats
    probability: Floats
    correct: npt.NDArray[np.bool_]

    def at(self, *index: Any) -> Said:
        """A part of it, to read or to write into."""
        return Said(*(each[index] for each in self))


class _ChooseImages:
    """The choose images of a target and a source worth, and what is measured on them.

    `scored` are the examples that gains are measured on: all of the target and at most
    `source_for_gains` of the source, drawn once, in passes of `precision`. The guard always looks at the whole source, in float32.
    """

    def __init__(
        self,
        classifier: Classifier,
        filters: ConvFilters,
        target: ObjectiveSum,
        source: ObjectiveSum,
        *,
        measure: Measure | None = None,
        source_for_gains: int | None = None,
        precision: Precision = "float32",
        batch: int,
        store: RunStore | None = None,
    ) -> None:
        self.classifier, self.filters, self.batch, self.store = classifier, filters, batch, store
        self.precision: Precision = precision
        self.worth = target + source
        self.labels = np.concatenate([part.images.labels for part in self.worth.terms])
        self.measure = measure
        self.target, self.source = np.split(np.arange(len(self.labels)), [len(target)])
        self.target_weights, self.source_weights = target.weights, source.weights
        groups = [f"{number}: {group}" for number, part in enumerate(target.terms) for group in part.images.groups]
        self.source_strata = np.repeat([f"source {number}" for number in range(len(source.terms))], np.diff(source.offsets))
        some = np.random.default_rng(0).permutation(len(source))[:source_for_gains]
        some.sort()
        self.scored = np.concatenate([self.target, self.source[some]])
        self.scored_strata = np.concatenate([np.array(groups), self.source_strata[some]])
        self.scored_source_weights = source.weights[some] * (source.scale / np.abs(source.weights[some]).sum())
        self.passes = 0.0

    def gained(self, frozen: Sequence[int], candidates: Sequence[int] = ()) -> Said:
        """What is said to the scored examples with `frozen`, then with each candidate frozen as well; rows are networks."""
        return self._kept(frozen, candidates, self.scored, self.precision)

    def held(self, frozen: Sequence[int]) -> Said:
        """What is said to the whole source with `frozen`, in float32: what the guard looks at."""
        return self._kept(frozen, [], self.source, "float32").at(0)

    def _kept(self, frozen: Sequence[int], candidates: Sequence[int], which: Examples, precision: Precision) -> Said:
        """What networks say, in rows, to the examples `which`, in columns; what is stored is not asked again."""
        self.passes += len(which) * (1 + float(self.filters.shares[list(candidates)].sum()))
        asked = json.dumps([list(map(int, frozen)), list(map(int, candidates)), which.tolist(), precision])
        name = f"choosing-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
        stored = self.store.read(name, ARRAYS) if self.store else None
        if stored is not None:
            return Said(**stored[0])
        with passes_in(precision, self.filters.device):
            said = self.outputs(frozen, candidates, which)
        if self.store is not None:
            self.store.write(name, said._asdict(), ARRAYS, spent=[])
        return said

    def outputs(self, frozen: Sequence[int], candidates: Sequence[int], which: Examples) -> Said:
        """What is said with `frozen`, then with each candidate frozen as well; rows are networks, columns are `which`."""
        shape = (1 + len(candidates), len(which))
        said = Said(np.empty(shape), np.empty(shape), np.empty(shape, dtype=bool))
        live = np.ones((1, len(self.filters)), dtype=bool)
        live[0, list(frozen)] = False
        for start in range(0, len(which), self.batch):
            columns = slice(start, min(start + self.batch, len(which)))
            images = self.classifier.prepare(take(self.worth, which[columns]))
            logits, snapshot = self.filters.snapshot(images, live) if candidates else (self.filters.forward(images, live), None)
            self._read(logits, which[columns], said.at(0, columns))
            for row, candidate in enumerate(candidates, start=1):
                with_candidate = live.copy()
                with_candidate[0, candidate] = False
                if snapshot is None:
                    logits = self.filters.forward(images, with_candidate)
                else:
                    logits = self.filters.forward_from(snapshot, int(self.filters.site_of[candidate]), with_candidate)
                self._read(logits, which[columns], said.at(row, columns))
        return said

    def _read(self, logits: Tensor, examples: Examples, into: Said) -> None:
        logits = logits.float()
        probabilities = torch.softmax(check_logits(logits).double().cpu(), dim=1).numpy()
        into.probability[:] = probabilities[np.arange(len(examples)), self.labels[examples]]
        into.measured[:] = into.probability if self.measure is None else self.measure(logits, examples)
        into.correct[:] = logits.argmax(dim=1).cpu().numpy() == self.labels[examples]


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
    target: ObjectiveSum,
    source: ObjectiveSum,
    *,
    strategy: Strategy = "forward",
    candidates: int = 40,
    max_filters: int = 16,
    again: int | None = None,
    max_clean_drop: float = 0.01,
    source_weights: Sequence[float] = (1.0,),
    measure: Measure | None = None,
    source_for_gains: int | None = SOURCE_FOR_GAINS,
    guarded: Guarded = "accuracy",
    errors: float = 1.0,
    precision: Precision = "float32",
    batch: int = 32,
    progress: Progress | None = None,
    store: RunStore | None = None,
) -> Choice:
    """Choose culprits on images that neither found them nor will report on them.

    The smooth criterion is the weighted mean probability of the label (or another `measure`): the target's weights (mean
    over subgroups) plus one of `source_weights` times the source's. Candidates are the filters whose
    estimated value is most harmful (for "forward" less one standard error, so that few samples do not
    put a filter first); filters without an estimated value, and filters that plain
    weights cannot hold frozen, are never candidates.

    * "forward": in each step freeze the candidate that raises the criterion most. The first step
      tries all candidates, later ones the `again` whose last measured gain was highest; a filter that
      the guard refused is not tried again. Stops when the gain does not exceed `errors` standard errors,
      or the eight filters that gain most would each break the source guard.
    * "prefix": the paper's way: the most harmful first, as many as give the best criterion under
      the guard.

    Args:
        classifier: prepares images for its network.
        filters: the network's players, with constants set.
        attribution: values of the same players.
        target: worth of the target's choose images.
        source: worth of the source's choose images.
        strategy: "forward" or "prefix".
        candidates: how many of the most harmful filters may be frozen.
        max_filters: longest path.
        again: candidates tried again after the first step; three in ten by default.
        max_clean_drop: guard: the one-sided 90 % upper bound of the fall of what it holds, a share.
        source_weights: weights of the source in the criterion: the first holds until no candidate gains by it, then the next, and so on
            (falling ones take first what costs the source least). "prefix" takes the last.
        measure: what gains are measured in; the probability of the label by default.
        source_for_gains: source images, drawn once, that gains are measured on; None for all. The
            guard always looks at all of them.
        guarded: what the guard holds on the source: its accuracy, or the mean probability of its labels, which moves as
            accuracy does with a smaller standard error and so needs fewer images; accuracy itself must then not fall by more either.
        errors: standard errors that a step's gain must exceed.
        precision: of the passes that gains are measured in; what the guard holds is measured in float32.
        batch: images per pass.
        progress: told after every step.
        store: where each step's measurements are kept and taken up again; of this network, these filters, images and measure alone.

    Raises:
        UsageError: an unknown strategy, a negative guard, or no filter allowed.
    """
    if strategy not in ("forward", "prefix"):
        raise UsageError(f"strategy must be 'forward' or 'prefix', got {strategy!r}")
    if max_clean_drop < 0:
        raise UsageError(f"max_clean_drop must not be negative, got {max_clean_drop}; it is a share, for instance 0.01")
    again = math.ceil(3 * candidates / 10) if again is None else again
    if min(candidates, max_filters, again) < 1:
        raise UsageError(f"candidates, max_filters and again must be at least 1, got {candidates}, {max_filters} and {again}")
    if not source_weights:
        raise UsageError("source_weights must hold one weight or more, got none; 1.0 counts the source as much as the target")
    pool = eligible(filters, attribution, candidates, cautious=strategy == "forward")
    images = _ChooseImages(
        classifier,
        filters,
        target,
        source,
        measure=measure,
        source_for_gains=source_for_gains,
        precision=precision,
        batch=batch,
        store=store,
    )
    follow = _forward if strategy == "forward" else _prefix
    return follow(
        images,
        pool,
        most=max_filters,
        again=again,
        guard=max_clean_drop,
        errors=errors,
        source_weights=source_weights,
        guarded=guarded,
        progress=lambda passes: progress("choosing", passes, passes) if progress else None,
    )


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

    def __init__(self, images: _ChooseImages, *, source_weight: float, guarded: Guarded, said: Said) -> None:
        self.images, self.guarded = images, guarded
        self.original = images.held([])
        self.measured = said.measured
        self.weigh(source_weight)
        accuracy = float(images.source_weights @ self.original.correct)
        self.steps = [Step(0, None, self.criterion(said.measured), 0.0, 0.0, self.recall(said.correct), accuracy, 0.0)]

    def weigh(self, source: float) -> None:
        """From now on the source has this weight in the criterion."""
        self.weights = np.concatenate([self.images.target_weights, source * self.images.scored_source_weights])

    def criterion(self, measured: Floats) -> float:
        """What steps are to raise, in the weights of now."""
        return float(self.weights @ measured)

    def recall(self, correct: npt.NDArray[np.bool_]) -> float:
        """Worth of the target from correctness on the scored examples."""
        return float(self.images.target_weights @ correct[: len(self.images.target)])

    def gain(self, measured: Floats) -> tuple[float, float]:
        """Change of the criterion against the last step, and its standard error over images."""
        change = measured - self.measured
        return self.criterion(change), standard_error(change, self.weights, self.images.scored_strata)

    def step(self, frozen: Sequence[int], said: Said) -> Step:
        """The step to `frozen`; looks at the whole source for the guard."""
        source = self.images.held(frozen)
        weights = self.images.source_weights
        lost = self.original.correct.astype(float) - source.correct
        fall = lost if self.guarded == "accuracy" else self.original.probability - source.probability
        bound = guard_bound(fall, lost, weights, self.images.source_strata)
        gain, error = self.gain(said.measured)
        accuracy = float(weights @ source.correct)
        return Step(len(frozen), frozen[-1], self.criterion(said.measured), gain, error, self.recall(said.correct), accuracy, bound)

    def accept(self, step: Step, said: Said) -> None:
        """Make it the last step."""
        self.steps.append(step)
        self.measured = said.measured


def _forward(
    images: _ChooseImages,
    pool: list[int],
    *,
    most: int,
    again: int,
    guard: float,
    errors: float,
    source_weights: Sequence[float],
    guarded: Guarded,
    progress: Callable[[float], None],
) -> Choice:
    frozen: list[int] = []
    refused: list[int] = []
    changes: dict[int, Floats] = {}  # of the measure, by each candidate when it was last tried
    tried: dict[int, Said] = {}  # with what is frozen now
    weights = iter(source_weights)
    path: _Path | None = None

    def stop(reason: str) -> Choice:
        return Choice(tuple(path.steps) if path else (), len(frozen), reason, images.passes, len(pool))

    while True:
        ahead = [player for player in pool if player not in [*frozen, *refused]]
        if path is not None and frozen:
            last = {player: path.criterion(changes[player]) for player in ahead}
            ahead = sorted(ahead, key=lambda player: -last[player])[:again]
        new = [player for player in ahead if player not in tried]
        if new or path is None:
            said = images.gained(frozen, new)
            path = path or _Path(images, source_weight=next(weights), guarded=guarded, said=said.at(0))
            for row, player in enumerate(new, start=1):
                tried[player] = said.at(row)
                changes[player] = tried[player].measured - path.measured
        gains = {player: path.gain(tried[player].measured) for player in ahead}
        tries = f"the further filters that gain most (up to {GUARD_TRIES} were held against it) would break the guard on the source"
        why = tries if ahead else "there is no further candidate"
        accepted = False
        for rank, player in enumerate(sorted(ahead, key=lambda player: -gains[player][0])):
            gain, error = gains[player]
            if rank == GUARD_TRIES:
                break
            if gain <= errors * error:
                broke = f"{rank} would break the guard, and " if rank else ""
                why = f"{broke}the best further filter gains {gain:+.4f}, not more than {errors:g} standard error ({error:.4f})"
                break
            step = path.step([*frozen, player], tried[player])
            if accepted := step.drop_bound <= guard + 1e-12:
                frozen.append(player)
                path.accept(step, tried[player])
                tried = {}
                break
            refused.append(player)
        progress(images.passes)
        if len(frozen) == most:
            return stop(f"the limit of {most} filters was reached")
        if not accepted:
            lower = next(weights, None)
            if lower is None:
                return stop(why)
            path.weigh(lower)


def _prefix(
    images: _ChooseImages,
    pool: list[int],
    *,
    most: int,
    again: int,
    guard: float,
    errors: float,
    source_weights: Sequence[float],
    guarded: Guarded,
    progress: Callable[[float], None],
) -> Choice:
    del again, errors
    path = _Path(images, source_weight=source_weights[-1], guarded=guarded, said=images.gained([]).at(0))
    for count in range(1, min(most, len(pool)) + 1):
        said = images.gained(pool[:count]).at(0)
        path.accept(path.step(pool[:count], said), said)
        progress(images.passes)
    allowed = [step for step in path.steps if step.drop_bound <= guard + 1e-12]
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
