"""Repair: which culprits to freeze and how many, chosen on images of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.filters import ConvFilters
from repairkit.freezing import why_not_bakeable
from repairkit.models.classifier import Classifier, check_logits
from repairkit.objectives.base import Worth
from repairkit.shapley.attribution import Attribution
from repairkit.shapley.model_game import take
from repairkit.shapley.walk import Progress

Strategy = Literal["forward", "prefix"]

GUARD_CONFIDENCE = 0.9
"""Of the one-sided bound on the fall of source accuracy."""
GUARD_Z = NormalDist().inv_cdf(GUARD_CONFIDENCE)


@dataclass(frozen=True)
class Step:
    """The network with the first `filters` of the path frozen, on the choose images.

    Attributes:
        filters: how many are frozen.
        player: the one frozen last; None at the start.
        criterion: weighted mean probability of the label (the smooth criterion of choosing).
        gain: change of the criterion by this step; standard_error: of that change over images.
        target, source: hard metrics on the choose images: mean subgroup recall, source accuracy.
        drop_bound: upper end of the one-sided 90 % interval of the fall of source accuracy, paired.
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
    """

    path: tuple[Step, ...]
    chosen: int
    reason: str
    passes: float

    @property
    def players(self) -> list[int]:
        """The chosen players, in order."""
        return [step.player for step in self.path[1 : self.chosen + 1] if step.player is not None]


class _ChooseImages:
    """The choose images of a target and a source worth, and the networks' outputs on them."""

    def __init__(
        self, classifier: Classifier, filters: ConvFilters, target: Worth, source: Worth, *, source_weight: float, batch: int
    ) -> None:
        self.classifier, self.filters, self.batch = classifier, filters, batch
        self.worth = target + source
        self.labels = np.concatenate([part.images.labels for part in self.worth.parts])
        self.target_weights = np.concatenate([target.weights, np.zeros(len(source))])
        self.source_weights = np.concatenate([np.zeros(len(target)), source.weights])
        self.weights = self.target_weights + source_weight * self.source_weights
        self.passes = 0.0
        self.original: npt.NDArray[np.bool_] | None = None

    def outputs(self, frozen: Sequence[int], candidates: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Probability of the label and correctness, (1 + candidates, N): with `frozen`, then with each candidate frozen as well."""
        probability = np.empty((1 + len(candidates), len(self.labels)))
        correct = np.empty(probability.shape, dtype=bool)
        live = np.ones((1, len(self.filters)), dtype=bool)
        live[0, list(frozen)] = False
        self.passes += len(self.labels) * (1 + float(self.filters.shares[list(candidates)].sum()))
        for start in range(0, len(self.labels), self.batch):
            examples = np.arange(start, min(start + self.batch, len(self.labels)))
            images = self.classifier.prepare(take(self.worth, examples))
            logits, snapshot = self.filters.snapshot(images, live)
            probability[0, examples], correct[0, examples] = self._read(logits, examples)
            for row, candidate in enumerate(candidates, start=1):
                with_candidate = live.copy()
                with_candidate[0, candidate] = False
                if snapshot is None:
                    logits = self.filters.forward(images, with_candidate)
                else:
                    logits = self.filters.forward_from(
                        snapshot, int(self.filters.site_of[candidate]), with_candidate, np.arange(len(examples))
                    )
                probability[row, examples], correct[row, examples] = self._read(logits, examples)
        return probability, correct

    def _read(self, logits: Tensor, examples: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        labels = self.labels[examples]
        probabilities = torch.softmax(check_logits(logits).double().cpu(), dim=1).numpy()
        return probabilities[np.arange(len(labels)), labels], logits.argmax(dim=1).cpu().numpy() == labels

    def step(
        self,
        filters: int,
        player: int | None,
        probability: npt.NDArray[np.float64],
        correct: npt.NDArray[np.bool_],
        before: Step | None,
        previous: npt.NDArray[np.float64] | None,
    ) -> Step:
        criterion = float(self.weights @ probability)
        gain, error = 0.0, 0.0
        if before is not None and previous is not None:
            gain = criterion - before.criterion
            error = weighted_standard_error(probability - previous, self.weights)
        target, source = float(self.target_weights @ correct), float(self.source_weights @ correct)
        return Step(filters, player, criterion, gain, error, target, source, self.drop_bound(correct))

    def drop_bound(self, correct: npt.NDArray[np.bool_]) -> float:
        """Upper bound of the fall of source accuracy since the first network seen, by the normal approximation for pairs."""
        if self.original is None:
            self.original = correct
        fall = self.original.astype(np.float64) - correct
        return float(self.source_weights @ fall) + GUARD_Z * weighted_standard_error(fall, self.source_weights)


def weighted_standard_error(change: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    """Standard error of a weighted sum of independent per-image changes, strata being images of equal weight."""
    total = 0.0
    for weight in np.unique(weights):
        members = change[weights == weight]
        if len(members) > 1:
            total += weight**2 * len(members) * float(members.var(ddof=1))
    return math.sqrt(total)


def choose(
    classifier: Classifier,
    filters: ConvFilters,
    attribution: Attribution,
    target: Worth,
    source: Worth,
    *,
    strategy: Strategy = "forward",
    candidates: int = 40,
    max_filters: int = 16,
    again: int = 12,
    max_clean_drop: float = 0.01,
    source_weight: float = 2.0,
    errors: float = 1.0,
    batch: int = 64,
    progress: Progress | None = None,
) -> Choice:
    """Choose culprits on images that neither found them nor will report on them.

    The smooth criterion is the weighted mean probability of the label: the target's weights (mean
    over subgroups) plus `source_weight` times the source's. Candidates are the filters whose
    estimated value is most harmful; filters without an estimated value, and filters that plain
    weights cannot hold frozen, are never candidates.

    * "forward": in each step freeze the candidate that raises the criterion most. The first step
      tries all candidates, later ones the `again` whose last measured gain was highest. Stops when
      the gain does not exceed `errors` standard errors or the source guard would be broken.
    * "prefix": the paper's way: the most harmful first, as many as give the best criterion under
      the guard.

    Args:
        classifier, filters: the network and its players, with constants set.
        attribution: values of the same players.
        target, source: worths of the choose images.
        strategy: "forward" or "prefix".
        candidates: how many of the most harmful filters may be frozen.
        max_filters: longest path.
        again: candidates tried again after the first step.
        max_clean_drop: guard: the one-sided 90 % upper bound of the fall of source accuracy, a share.
        source_weight: weight of the source in the criterion.
        errors: standard errors that a step's gain must exceed.
        batch: images per pass.
        progress: told after every step.

    Raises:
        UsageError: an unknown strategy, a negative guard, or no filter allowed.
    """
    if strategy not in ("forward", "prefix"):
        raise UsageError(f"strategy must be 'forward' or 'prefix', got {strategy!r}")
    if max_clean_drop < 0:
        raise UsageError(f"max_clean_drop must not be negative, got {max_clean_drop}; it is a share, for instance 0.01")
    if min(candidates, max_filters, again) < 1:
        raise UsageError(f"candidates, max_filters and again must be at least 1, got {candidates}, {max_filters} and {again}")
    pool = eligible(filters, attribution, candidates)
    images = _ChooseImages(classifier, filters, target, source, source_weight=source_weight, batch=batch)
    follow = _forward if strategy == "forward" else _prefix
    return follow(images, pool, most=max_filters, again=again, guard=max_clean_drop, errors=errors, progress=progress)


def eligible(filters: ConvFilters, attribution: Attribution, most: int) -> list[int]:
    """The most harmful players that plain weights can hold frozen."""
    network = filters.network
    bakeable = (
        int(player)
        for player in attribution.culprits()
        if why_not_bakeable(network, filters.sites[filters.site_of[player]], float(filters.constants[player])) is None
    )
    return list(islice(bakeable, most))


def _forward(
    images: _ChooseImages, pool: list[int], *, most: int, again: int, guard: float, errors: float, progress: Progress | None
) -> Choice:
    frozen: list[int] = []
    gains = dict.fromkeys(pool, math.inf)
    path: list[Step] = []
    while True:
        ahead = sorted((player for player in pool if player not in frozen), key=lambda player: -gains[player])
        tried = ahead if not frozen else ahead[:again]
        probability, correct = images.outputs(frozen, tried)
        if not path:
            path.append(images.step(0, None, probability[0], correct[0], None, None))
        steps = [
            images.step(len(frozen) + 1, player, probability[row], correct[row], path[-1], probability[0])
            for row, player in enumerate(tried, start=1)
        ]
        gains.update({step.player: step.gain for step in steps if step.player is not None})
        allowed = [step for step in steps if step.drop_bound <= guard + 1e-12]
        best = max(allowed, key=lambda step: step.gain, default=None)
        if progress is not None:
            progress("choosing", images.passes, images.passes)
        if best is None or best.player is None:
            reason = "every further filter would break the guard on the source" if steps else "no further candidate"
            return Choice(tuple(path), len(frozen), reason, images.passes)
        if best.gain <= errors * best.standard_error:
            reason = f"the best further filter gains {best.gain:+.4f}, not more than {errors:g} standard error ({best.standard_error:.4f})"
            return Choice(tuple(path), len(frozen), reason, images.passes)
        frozen.append(best.player)
        path.append(best)
        if len(frozen) == most:
            return Choice(tuple(path), len(frozen), f"the limit of {most} filters was reached", images.passes)


def _prefix(
    images: _ChooseImages, pool: list[int], *, most: int, again: int, guard: float, errors: float, progress: Progress | None
) -> Choice:
    del again, errors
    path: list[Step] = []
    previous: npt.NDArray[np.float64] | None = None
    for count in range(min(most, len(pool)) + 1):
        probability, correct = images.outputs(pool[:count], [])
        path.append(
            images.step(count, pool[count - 1] if count else None, probability[0], correct[0], path[-1] if path else None, previous)
        )
        previous = probability[0]
        if progress is not None:
            progress("choosing", images.passes, images.passes)
    allowed = [step for step in path if step.filters == 0 or step.drop_bound <= guard + 1e-12]
    best = max(allowed, key=lambda step: step.criterion)
    return Choice(tuple(path), best.filters, f"the best criterion among the first {len(path) - 1} filters under the guard", images.passes)


def removal_curve(
    classifier: Classifier, filters: ConvFilters, players: Sequence[int], target: Worth, source: Worth, *, batch: int = 64
) -> tuple[tuple[int, float, float], ...]:
    """What freezing the first 0, 1, ... of these players does, all at once on images of choice.

    Returns:
        (number frozen, worth of the target, worth of the source) for 0 .. len(players).
    """
    images = _ChooseImages(classifier, filters, target, source, source_weight=1.0, batch=batch)
    points = []
    for count in range(len(players) + 1):
        _, correct = images.outputs(players[:count], [])
        points.append((count, float(images.target_weights @ correct[0]), float(images.source_weights @ correct[0])))
    return tuple(points)
