"""Truncation: how few random filters a network bears to lose, and what ending permutations there saves (Ghorbani & Zou 2020, figure 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np
import torch

from repairkit.data.images import Indices, LabelledImages, labelled_hash
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.splits import some, ungrouped
from repairkit.experiments.fitting import check_fit
from repairkit.experiments.truncation.evaluation import RandomOrders
from repairkit.models.zoo import LoadedModel, normalisation_of
from repairkit.network.game import NetworkGame
from repairkit.objectives import Accuracy, Probability, SubgroupRecall
from repairkit.repair.attribute import game_of, live_range_of, live_range_planned, within_memory
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import Floats, Game
from repairkit.shapley.live_range import LiveRange
from repairkit.shapley.workers import WorkerPool

SHARES = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.5)
"""Shares of frozen filters at which the objective value is measured; close together where networks reach chance."""
CALIBRATED_ON = 256
"""Images that set the constants, at most."""
LEAST = 10
"""Images that set the constants, and images that are measured on, at least."""


@dataclass(frozen=True, kw_only=True)
class TruncationOptions:
    """How much is measured of each network; UsageError for a number or a share out of range."""

    trajectories: int = 100  # random orders, as in the paper's figure
    images: int = 200  # that every order is measured on, at most
    shares: tuple[float, ...] = SHARES  # of frozen filters, in (0, 1), rising; none and all are the same for every order

    def __post_init__(self) -> None:
        if self.trajectories < 2 or self.images < LEAST:
            raise UsageError(
                f"expected at least 2 trajectories, whose spread is asked about, and {LEAST} images, got {self.trajectories} and {self.images}"
            )
        if not self.shares or list(self.shares) != sorted(set(self.shares)) or not 0 < self.shares[0] <= self.shares[-1] < 1:
            raise UsageError(f"shares must rise and lie between 0 and 1, got {self.shares}; both ends are measured in any case")


@dataclass(frozen=True)
class Subject:
    """A network whose filters are frozen; DataError or ModelError where its images do not fit."""

    name: str  # what the report calls it, unique in the run
    model: LoadedModel
    images: LabelledImages  # labelled by the columns of its logits
    subgroups: bool = False  # whether groups are to be served alike: then the objective is mean recall over them, otherwise accuracy

    def __post_init__(self) -> None:
        check_fit(self.model, self.images)

    @property
    def objective(self) -> SubgroupRecall | Accuracy:
        """What is measured."""
        return SubgroupRecall() if self.subgroups else Accuracy()


@dataclass(frozen=True, eq=False)
class TruncationFindings:
    """What was measured of one network."""

    orders: RandomOrders
    measured: Indices  # positions of the images that the orders were measured on
    calibrated: Indices  # positions of the images that set the constants
    live_range: LiveRange | None  # None where t0 was given
    t0: float  # where the live range begins
    reduced_batch: int | None  # images of a pass, where memory ran out
    passes: dict[str, float]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Trajectory:
    """One random order, measured at some numbers of frozen filters; a piece of work for a `WorkerPool`."""

    seed: int
    index: int  # the order is `default_rng([seed, index]).permutation(filters)`
    counts: tuple[int, ...]  # numbers of frozen filters

    def observe(self, game: Game) -> Floats:
        """Score of every example at every number, float64 (counts, N)."""
        order = np.random.default_rng([self.seed, self.index]).permutation(game.n)
        return np.stack([_scores_without(game, order[:count]) for count in self.counts])


def _scores_without(game: Game, frozen: Indices) -> Floats:
    """Score of every example with these players frozen, float64 (N,)."""
    live = np.ones((1, game.n), dtype=bool)
    live[0, frozen] = False
    return game.scores(live, np.arange(len(game.weights)))


def counts_of(shares: Sequence[float], players: int) -> tuple[int, ...]:
    """Numbers of filters nearest to shares of them, without none and all.

    Example:
        >>> counts_of((0.01, 0.02, 0.1, 0.5), 60)
        (1, 6, 30)
    """
    return tuple(sorted({round(share * players) for share in shares} - {0, players}))


def parts_of(subject: Subject, options: Options, truncation: TruncationOptions) -> tuple[Indices, Indices]:
    """The images that orders are measured on, and the others that set the constants; copies of one image are never in both."""
    images = subject.images
    if len(images) < 2 * LEAST:
        raise DataError(
            f"{images.name} has {len(images)} images, but {2 * LEAST} are needed: {LEAST} that trajectories are measured on, {LEAST} that set the constants"
        )
    grouped = images if subject.subgroups else ungrouped(images)
    measured = some(grouped, min(truncation.images, len(images) - LEAST), seed=options.seed)
    rest = np.flatnonzero(~np.isin(images.hashes, images.hashes[measured]))
    if len(rest) < LEAST:
        raise DataError(
            f"{images.name}: {len(rest)} images are left to set the constants once {len(measured)} are measured on, but {LEAST} are needed; "
            "lower images or give more of them"
        )
    return measured, rest[some(grouped.subset(rest), CALIBRATED_ON, seed=options.seed)]


def plan(subject: Subject, options: Options, truncation: TruncationOptions) -> dict[str, float]:
    """Image passes that a network takes, by part; where two shares are the same number of filters, it takes less."""
    measured, calibrated = parts_of(subject, options, truncation)
    return (
        {"calibration": float(len(calibrated))}
        | live_range_planned(options)
        | {"trajectories": float(len(measured) * (2 + truncation.trajectories * len(truncation.shares)))}
    )


def configuration(subjects: Sequence[Subject], options: Options, truncation: TruncationOptions) -> dict[str, object]:
    """Everything that decides the bits of a run, as JSON can hold it."""
    networks = {
        subject.name: [
            subject.model.sha256[:16],
            normalisation_of(subject.model),
            labelled_hash(subject.images),
            subject.subgroups,
        ]
        for subject in subjects
    }
    return (
        asdict(options)
        | asdict(truncation)
        | {
            "networks": networks,
            "threads": torch.get_num_threads(),
            "version": f"{version('repairkit')} with torch {torch.__version__}",
        }
    )


def measure_each(subjects: Sequence[Subject], run: Run, truncation: TruncationOptions) -> list[TruncationFindings]:
    """`measure` for one network after the other."""
    return [measure(subject, run.apart(f"network-{number}"), truncation) for number, subject in enumerate(subjects, start=1)]


def measure(subject: Subject, run: Run, truncation: TruncationOptions) -> TruncationFindings:
    """Freeze the filters of a network in random orders, and record which images it still classifies correctly.

    All orders are measured on the same images, so they differ by the order alone. The intervals resample the images too.

    Deviations from the paper: the objective value is measured at some shares of the filters. After every single one it would be 1.7 million
    coalitions for 100 orders of 17,216 filters. A removed filter is frozen after its ReLU (see `Options.freeze_at`).
    """
    settings, classifier = run.settings, subject.model.classifier
    measured, calibrated = parts_of(subject, settings, truncation)
    run.ledger.planned, run.ledger.label = sum(plan(subject, settings, truncation).values()), subject.name
    with run.phase("calibration"):
        calibration_images = subject.images.subset(calibrated)
        calibrating = game_of(classifier, Probability(subject.objective).on(calibration_images), (calibration_images,), settings)
        run.spend(len(calibrated))
    live_range, t0 = live_range_of(calibrating, run, seed=settings.seed)
    images = subject.images.subset(measured)
    game = NetworkGame(classifier, calibrating.filters, Accuracy().on(images), batch=settings.batch, precision=settings.precision)
    counts = counts_of(truncation.shares, game.n)
    with run.phase("trajectories"):
        whole, none = (_scores_without(game, np.arange(count)) > 0 for count in (0, game.n))
        run.spend(2 * len(images))
        right: dict[int, Arrays] = {}
        pieces = [Trajectory(settings.seed, index, counts) for index in range(truncation.trajectories)]
        within_memory(game, lambda: walk_all(game, pieces, right, run), store=run.store, name="trajectories")
    outcomes = np.stack([np.stack([whole, *right[piece.index]["right"], none]) for piece in pieces])
    orders = RandomOrders((0, *counts, game.n), outcomes, images.labels, images.groups if subject.subgroups else None)
    reduced_batch = game.batch if game.batch < settings.batch else None
    return TruncationFindings(orders, measured, calibrated, live_range, t0, reduced_batch, run.ledger.passes, run.ledger.seconds)


def walk_all(game: NetworkGame, pieces: Sequence[Trajectory], right: dict[int, Arrays], run: Run) -> None:
    """The outcomes along each order, into `right` by index; those that are there or stored are not measured again."""

    def walk(missing: Sequence[int]) -> Iterator[Arrays]:
        with WorkerPool(game, run.workers) as pool:
            for scores in pool.run([pieces[index] for index in missing]):
                yield {"right": scores > 0}

    keys = [f"trajectory-{piece.index}" for piece in pieces]
    run.cached_each(keys, walk, ARRAYS, passes=lambda outcomes: float(outcomes["right"].size), results=right)
