"""The selection images, and what networks with some filters frozen answer on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from repairkit.errors import UsageError
from repairkit.network.classifier import Classifier, check_logits
from repairkit.network.filters import ConvFilters
from repairkit.network.game import passes_in, take
from repairkit.objectives.base import ObjectiveSum
from repairkit.run.options import Precision
from repairkit.run.store import ARRAYS, RunStore
from repairkit.shapley.game import Examples, Floats

Guarded = Literal["accuracy", "probability"]
Measure = Callable[[Tensor, Examples], Floats]
"""What gains are measured in: logits (k, classes) and the numbers of the examples (k,), target before guard -> float64 (k,); higher is better."""
SOURCE_FOR_GAINS = 250
"""Images of the guard that gains are measured on, unless a goal says otherwise."""


@dataclass(frozen=True, kw_only=True)
class SelectionGoal:
    """What selection raises on the selection images, and what its guard holds.

    Attributes:
        target: is raised.
        guard: must not fall by more than `max_drop`.
        max_drop: a share; None for that of the search.
        measure: what gains are measured in; the probability of the label unless given.
        guard_weights: of the guard's images in the criterion. The first holds until no candidate gains by it, then the next; "prefix" takes the last.
        guard_images: most images of the guard that gains are measured on, drawn once; None for all. The guard always looks at all.
        guarded: what the guard bounds: accuracy, or the mean probability of the label. The latter has a smaller standard error; accuracy
            itself must then not fall by more either.
    """

    target: ObjectiveSum
    guard: ObjectiveSum
    max_drop: float | None = None
    measure: Measure | None = None
    guard_weights: tuple[float, ...] = (1.0,)
    guard_images: int | None = SOURCE_FOR_GAINS
    guarded: Guarded = "accuracy"

    def __post_init__(self) -> None:
        if not self.guard_weights:
            raise UsageError("expected one guard weight or more, got none; 1.0 counts the guard as much as the target")


class Predictions(NamedTuple):
    """Answers to examples, rows being networks: what gains are measured in, the probability of the label, and whether the label is the answer."""

    measured: Floats
    probability: Floats
    correct: npt.NDArray[np.bool_]

    def at(self, *index: Any) -> Predictions:
        """A part of it, to read or to write into."""
        return Predictions(*(each[index] for each in self))


class SelectionImages:
    """The images of a goal, and what is measured on them.

    `scored` are the examples that gains are measured on, in passes of `precision`: all of the target and some of the guard.
    The guard looks at all its images, in float32.
    """

    def __init__(
        self, classifier: Classifier, filters: ConvFilters, goal: SelectionGoal, *, precision: Precision, batch: int, store: RunStore | None
    ) -> None:
        target, source = goal.target, goal.guard
        self.classifier, self.filters, self.batch, self.store = classifier, filters, batch, store
        self.precision: Precision = precision
        self.objective = target + source
        self.labels = np.concatenate([term.images.labels for term in self.objective.terms])
        self.measure = goal.measure
        self.target, self.source = np.split(np.arange(len(self.labels)), [len(target)])
        self.target_weights, self.source_weights = target.weights, source.weights
        groups = [f"{number}: {group}" for number, term in enumerate(target.terms) for group in term.images.groups]
        self.source_strata = np.repeat([f"source {number}" for number in range(len(source.terms))], np.diff(source.offsets))
        drawn = np.sort(np.random.default_rng(0).permutation(len(source))[: goal.guard_images])
        self.scored = np.concatenate([self.target, self.source[drawn]])
        self.scored_strata = np.concatenate([np.array(groups), self.source_strata[drawn]])
        self.scored_source_weights = source.weights[drawn] * (source.scale / np.abs(source.weights[drawn]).sum())
        self.passes = 0.0

    def gained(self, frozen: Sequence[int], candidates: Sequence[int] = ()) -> Predictions:
        """Answers to the scored examples with `frozen`, then with each candidate frozen as well; rows are networks."""
        return self._stored(frozen, candidates, self.scored, self.precision)

    def held(self, frozen: Sequence[int]) -> Predictions:
        """Answers to all images of the guard with `frozen`, in float32."""
        return self._stored(frozen, [], self.source, "float32").at(0)

    def _stored(self, frozen: Sequence[int], candidates: Sequence[int], which: Examples, precision: Precision) -> Predictions:
        """Answers to the examples `which`; what is stored is not measured again."""
        self.passes += len(which) * (1 + float(self.filters.shares[list(candidates)].sum()))
        asked = json.dumps([list(map(int, frozen)), list(map(int, candidates)), which.tolist(), precision])
        name = f"choosing-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
        stored = self.store.read(name, ARRAYS) if self.store else None
        if stored is not None:
            return Predictions(**stored[0])
        with passes_in(precision, self.filters.device):
            said = self._outputs(frozen, candidates, which)
        if self.store is not None:
            self.store.write(name, said._asdict(), ARRAYS, spent=[])
        return said

    def _outputs(self, frozen: Sequence[int], candidates: Sequence[int], which: Examples) -> Predictions:
        """Answers with `frozen`, then with each candidate frozen as well; rows are networks, columns are `which`."""
        shape = (1 + len(candidates), len(which))
        said = Predictions(np.empty(shape), np.empty(shape), np.empty(shape, dtype=bool))
        live = np.ones((1, len(self.filters)), dtype=bool)
        live[0, list(frozen)] = False
        for start in range(0, len(which), self.batch):
            columns = slice(start, min(start + self.batch, len(which)))
            images = self.classifier.prepare(take(self.objective, which[columns]))
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

    def _read(self, logits: Tensor, examples: Examples, into: Predictions) -> None:
        logits = logits.float()
        probabilities = torch.softmax(check_logits(logits).double().cpu(), dim=1).numpy()
        into.probability[:] = probabilities[np.arange(len(examples)), self.labels[examples]]
        into.measured[:] = into.probability if self.measure is None else self.measure(logits, examples)
        into.correct[:] = logits.argmax(dim=1).cpu().numpy() == self.labels[examples]
