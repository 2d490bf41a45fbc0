"""The game of a network's filters: coalitions of filters, labelled images, an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from repairkit.data.images import LabelledImages
from repairkit.errors import FullMemoryError, ModelError, UsageError
from repairkit.network.classifier import Classifier, check_logits
from repairkit.network.filters import ConvFilters
from repairkit.objectives.base import ObjectiveSum
from repairkit.run.options import FreezeAt, Precision
from repairkit.shapley.game import Coalitions, Examples, Floats, Game


def passes_in(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which passes run; float32 stays float32 also where the caller casts."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


class NetworkGame(Game):
    """Players are the filters of a classifier, examples the images of an objective.

    Args:
        classifier: prepares images (normalisation) for its network.
        filters: the network's filters with their constants set.
        objective: what gives a coalition its score, and on which images.
        batch: images that one pass carries; memory grows with it, values do not depend on it
            beyond rounding.
        precision: "float32", or "bfloat16" for passes under `torch.autocast` on the filters' device;
            scores are made in float32 of the logits of either, and constants are as the filters have them.

    Raises:
        ModelError: logits that are not finite.
        FullMemoryError: no memory for a pass; `repairkit.repair.attribute` then goes on with half the batch.
        UsageError: another precision.

    Example:
        See `repairkit.shapley.estimate`, which plays any game.
    """

    def __init__(
        self, classifier: Classifier, filters: ConvFilters, objective: ObjectiveSum, *, batch: int = 64, precision: Precision = "float32"
    ) -> None:
        if precision not in get_args(Precision):
            raise UsageError(f"precision must be 'float32' or 'bfloat16', got {precision!r}")
        super().__init__(len(filters), objective.weights, bounds=objective.bounds, harmful=objective.harmful)
        self.classifier = classifier
        self.filters = filters
        self.objective = objective
        self.batch = batch
        self.precision: Precision = precision
        self.flip_shares = filters.shares.copy()
        self._labels = torch.from_numpy(np.concatenate([part.images.labels for part in objective.terms]))
        self._part_of = np.repeat(np.arange(len(objective.terms)), np.diff(objective.offsets))

    def __reduce__(self) -> tuple[object, ...]:
        """Other processes trace the network anew: a traced graph cannot be sent."""
        filters = self.filters
        placed = (self.classifier, filters.freeze_at, str(filters.device), filters.constants, filters.shares)
        return _rebuilt, (*placed, self.objective, self.batch, self.precision)

    def worker_setup(self) -> Callable[[], object]:
        """Workers use as many threads as this process: the bits of a pass depend on their number."""
        return partial(torch.set_num_threads, torch.get_num_threads())

    def _content(self) -> Iterator[bytes]:
        """Weights, constants, precision, images and objectives; the network is not run."""
        for name, tensor in self.classifier.state_dict().items():
            yield name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes()
        yield self.filters.constants.tobytes() + self.filters.freeze_at.encode() + self.precision.encode()
        for part in self.objective.terms:
            yield repr(part.objective).encode() + "".join(part.images.hashes.tolist()).encode() + part.images.labels.tobytes()

    @property
    def part_of(self) -> Examples:
        """Number of the term of the objective that each example belongs to, int64 (N,)."""
        return self._part_of

    @property
    def stratum_of(self) -> Examples:
        """A number for each part, subgroup and label that occur together, int64 (N,)."""
        kinds = [
            f"{number}\0{group}\0{label}"
            for number, part in enumerate(self.objective.terms)
            for group, label in zip(part.images.groups.tolist(), part.images.labels.tolist(), strict=True)
        ]
        return np.unique(np.array(kinds), return_inverse=True)[1].reshape(-1).astype(np.int64)

    def surrogate(self, logits: Tensor, examples: Examples) -> Tensor:
        """Surrogate score of each row by the objective of its example, float32 (k,)."""
        return self._score(logits, examples, smooth=True)

    def prepared(self, examples: Examples) -> Tensor:
        """Images of the examples as the network takes them, (k, 3, height, width)."""
        return self.classifier.prepare(take(self.objective, examples)).detach()

    def _score(self, logits: Tensor, examples: Examples, *, smooth: bool) -> Tensor:
        """Score of each row by the objective of its part, float32 also of bfloat16 logits."""
        logits = logits.float()
        labels = self._labels[torch.from_numpy(examples)].to(logits.device)
        total = torch.zeros(len(examples), device=logits.device)
        for index, part in enumerate(self.objective.terms):
            rows = torch.from_numpy(np.flatnonzero(self._part_of[examples] == index)).to(logits.device)
            if len(rows):
                score = part.objective.surrogate if smooth else part.objective.score
                total = total.index_put((rows,), score(logits[rows], labels[rows]).to(total.dtype))
        return total

    def _in_batches(self, count: int, work: Callable[[slice], None]) -> None:
        """Do `work` on slices of `batch`."""
        with full_memory(self.batch):
            for start in range(0, count, self.batch):
                with passes_in(self.precision, self.filters.device):
                    work(slice(start, min(start + self.batch, count)))

    def _scores(self, coalitions: Coalitions, examples: Examples) -> Floats:
        values = np.empty(len(examples))

        def score(rows: slice) -> None:
            live = coalitions if len(coalitions) == 1 else coalitions[rows]
            logits = check_logits(self.filters.forward(self.prepared(examples[rows]), live))
            values[rows] = self._score(logits, examples[rows], smooth=False).cpu().numpy()

        self._in_batches(len(examples), score)
        return values

    def _gradients(self, coalitions: Coalitions, examples: Examples) -> Floats:
        slopes = np.empty((len(examples), self.n))
        rows_of = np.broadcast_to(coalitions, (len(examples), self.n))

        def differentiate(rows: slice) -> None:
            chunk = examples[rows]
            slope, logits = self.filters.gradients(self.prepared(chunk), rows_of[rows], partial(self.surrogate, examples=chunk))
            check_logits(logits)
            slopes[rows] = slope.cpu().numpy()

        self._in_batches(len(examples), differentiate)
        return slopes

    def _flips(self, coalitions: Coalitions, examples: Examples, players: Examples) -> Floats:
        """Reuses what was computed before each flipped filter's layer (a measured share of a pass)."""
        if not self.filters.can_rerun:
            return super()._flips(coalitions, examples, players)
        marginals = np.empty((len(examples), len(players)))
        rows_of = np.broadcast_to(coalitions, (len(examples), self.n))
        site_of = self.filters.site_of[players]

        def flip(rows: slice) -> None:
            chunk, live = examples[rows], rows_of[rows]
            logits, snapshot = self.filters.snapshot(self.prepared(chunk), live)
            if snapshot is None:
                raise ModelError("a network that can run again keeps a snapshot")
            base = self._score(check_logits(logits), chunk, smooth=False).cpu().numpy()
            # Image by image within a layer: a layer's flips of some images fill one batch.
            for site in np.unique(site_of):
                columns = np.flatnonzero(site_of == site)
                which = np.repeat(np.arange(len(chunk)), len(columns))
                flipped_column = np.tile(columns, len(chunk))
                for start in range(0, len(which), self.batch):
                    part = slice(start, start + self.batch)
                    flipped = live[which[part]].copy()
                    index = (np.arange(len(flipped)), players[flipped_column[part]])
                    was_live = flipped[index]
                    flipped[index] = ~was_live
                    after = check_logits(self.filters.forward_from(snapshot, int(site), flipped, which[part]))
                    change = self._score(after, chunk[which[part]], smooth=False).cpu().numpy() - base[which[part]]
                    marginals[np.arange(rows.start, rows.stop)[which[part]], flipped_column[part]] = np.where(was_live, -change, change)

        self._in_batches(len(examples), flip)
        return marginals


@contextmanager
def full_memory(batch: int) -> Iterator[None]:
    """Torch's error of a full memory, in passes of so many images, as one of ours.

    Raises:
        FullMemoryError: memory ran out.
    """
    try:
        yield
    except RuntimeError as error:  # torch's own error of a full device is one too
        if not _out_of_memory(error):
            raise
        raise FullMemoryError(
            f"memory ran out in passes of {batch} image(s); give a smaller --batch or --size, or free some memory"
        ) from None


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether torch could not get memory, on a GPU or on the CPU (which has no error class of its own)."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _rebuilt(
    classifier: Classifier,
    freeze_at: FreezeAt,
    device: str,
    constants: Floats,
    shares: Floats,
    objective: ObjectiveSum,
    batch: int,
    precision: Precision,
) -> NetworkGame:
    filters = ConvFilters(classifier.network, freeze_at=freeze_at, device=device)
    filters.set_constants(constants)
    filters.shares = shares
    return NetworkGame(classifier, filters, objective, batch=batch, precision=precision)


def take(objective: ObjectiveSum, examples: Examples) -> Tensor:
    """Images of an objective's examples by number, float in [0, 1], (k, 3, height, width).

    Raises:
        ModelError: parts with images of different sizes were drawn together.
    """
    offsets = objective.offsets
    part_of = np.searchsorted(offsets, examples, side="right") - 1
    batch: Tensor | None = None
    for index, part in enumerate(objective.terms):
        rows = np.flatnonzero(part_of == index)
        if len(rows) == 0:
            continue
        images = part.images.batch(examples[rows] - offsets[index])
        if batch is None:
            batch = images.new_empty((len(examples), *images.shape[1:])).contiguous(memory_format=torch.channels_last)
        if images.shape[1:] != batch.shape[1:]:
            raise ModelError(
                f"{part.images.name} holds images of {tuple(images.shape[1:])}, another part of {tuple(batch.shape[1:])}; load both at one size"
            )
        batch[torch.from_numpy(rows)] = images
    if batch is None:
        raise ModelError("expected at least one example, got none")
    return batch


def prepared_batches(classifier: Classifier, images: LabelledImages, batch: int = 64) -> Iterator[Tensor]:
    """All images of a set in order, prepared for the classifier's network."""
    for start in range(0, len(images), batch):
        yield classifier.prepare(images.batch(np.arange(start, min(start + batch, len(images)))))
