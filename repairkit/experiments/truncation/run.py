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
from repairkit.experiments.truncation.evaluation import Fan
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
"""Shares of the filters, removed, at which the worth is measured; close together where networks die."""
CALIBRATED_ON = 256
"""Images that set the constants, at most."""
LEAST = 10
"""Images that set the constants, and images that are measured on, at least."""


@dataclass(frozen=True, kw_only=True)
class TruncationOptions:
    """How much is measured of each network.

    Attributes:
        trajectories: random orders of removal; the paper's figure has 100.
        images: that every one of them is measured on, at most.
        shares: of the filters, removed, at which it is measured, in (0, 1), rising; none and all removed are the same for every order
            and are measured once.

    Raises:
        UsageError: a number or a share out of range.
    """

    trajectories: int = 100
    images: int = 200
    shares: tuple[float, ...] = SHARES

    def __post_init__(self) -> None:
        if self.trajectories < 2 or self.images < LEAST:
            raise UsageError(
                f"expected at least 2 trajectories, whose spread is asked about, and {LEAST} images, got {self.trajectories} and {self.images}"
            )
        if not self.shares or list(self.shares) != sorted(set(self.shares)) or not 0 < self.shares[0] <= self.shares[-1] < 1:
            raise UsageError(f"shares must rise and lie between 0 and 1, got {self.shares}; both ends are measured in any case")


@dataclass(frozen=True)
class Subject:
    """A network whose filters are removed.

    Attributes:
        name: what the report calls it, and what tells it from others of the run.
        model: the network.
        images: labelled by the columns of its logits.
        subgroups: whether the groups of the images are subgroups that are to be served alike: then mean recall over them is the worth,
            with accuracy beside it; otherwise accuracy alone.

    Raises:
        DataError, ModelError: as `repairkit.experiments.fitting.check_fit`.
    """

    name: str
    model: LoadedModel
    images: LabelledImages
    subgroups: bool = False

    def __post_init__(self) -> None:
        check_fit(self.model, self.images)

    @property
    def objective(self) -> SubgroupRecall | Accuracy:
        """The worth."""
        return SubgroupRecall() if self.subgroups else Accuracy()


@dataclass(frozen=True, eq=False)
class TruncationFindings:
    """What was measured of one network.

    Attributes:
        fan: who was right along every trajectory.
        measured: positions of the images that they were measured on.
        calibrated: positions of those that set the constants.
        live_range: where the live range begins; None where t0 was given.
        t0: that begin, measured or given.
        halved: images of a pass, where memory ran out.
    """

    fan: Fan
    measured: Indices
    calibrated: Indices
    live_range: LiveRange | None
    t0: float
    halved: int | None
    passes: dict[str, float]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Trajectory:
    """One random order of removal, measured at some numbers of removed filters; a piece of work for a `WorkerPool`.

    Attributes:
        seed, index: the order is `default_rng([seed, index]).permutation(filters)`.
        counts: numbers of removed filters.
    """

    seed: int
    index: int
    counts: tuple[int, ...]

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
    """The images that trajectories are measured on, and the others that set the constants; copies of one image are never in both.

    Raises:
        DataError: too few images for both.
    """
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
    """Image passes that a network takes, by part; the live range assumes that the network dies at a tenth of its filters.

    In a network of few filters some shares are the same number of them, which is measured once.

    Raises:
        DataError: as `parts_of`.
    """
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
    """Remove the filters of a network in random orders, and see who is still right.

    All trajectories are measured on the same images. So they differ by the order of removal alone, and how far they lie apart is not
    mixed with the luck of a draw of images; what other images would give stands in the intervals, which resample them too.

    Deviations from the paper: the worth is measured at some shares of the filters and not after every single one, which for 100 orders of
    17,216 filters would be 1.7 million coalitions; a removed filter is frozen after its ReLU (see `Options.freeze_at`).

    Args:
        subject: the network and its images.
        run: of its settings, `t0` ("auto" measures where the live range begins), `freeze_at`, `precision`, `seed`, `device` and `batch`.
        truncation: how much is measured.
    """
    measured, calibrated = parts_of(subject, run.settings, truncation)
    classifier = subject.model.classifier
    run.ledger.planned, run.ledger.label = sum(plan(subject, run.settings, truncation).values()), subject.name
    with run.phase("calibration"):
        found_on = subject.images.subset(calibrated)
        calibrating = game_of(classifier, Probability(subject.objective).on(found_on), (found_on,), run.settings)
        run.spend(len(found_on))
    live_range, t0 = live_range_of(calibrating, run, seed=run.settings.seed)
    images = subject.images.subset(measured)
    game = NetworkGame(classifier, calibrating.filters, Accuracy().on(images), batch=run.settings.batch, precision=run.settings.precision)
    counts = counts_of(truncation.shares, game.n)
    with run.phase("trajectories"):
        whole, none = (_scores_without(game, np.arange(count)) > 0 for count in (0, game.n))
        run.spend(2 * len(images))
        right: dict[int, Arrays] = {}
        pieces = [Trajectory(run.settings.seed, index, counts) for index in range(truncation.trajectories)]
        within_memory(game, lambda: walk_all(game, pieces, right, run), store=run.store, name="trajectories")
    walked = np.stack([np.stack([whole, *right[piece.index]["right"], none]) for piece in pieces])
    fan = Fan((0, *counts, game.n), walked, images.labels, images.groups if subject.subgroups else None)
    halved = game.batch if game.batch < run.settings.batch else None
    return TruncationFindings(fan, measured, calibrated, live_range, t0, halved, run.ledger.passes, run.ledger.seconds)


def walk_all(game: NetworkGame, pieces: Sequence[Trajectory], right: dict[int, Arrays], run: Run) -> None:
    """Who is right along each trajectory, into `right` by index; those that are there or stored are not walked again."""

    def walk(missing: Sequence[int]) -> Iterator[Arrays]:
        with WorkerPool(game, run.workers) as pool:
            for scores in pool.run([pieces[index] for index in missing]):
                yield {"right": scores > 0}

    keys = [f"trajectory-{piece.index}" for piece in pieces]
    run.cached_each(keys, walk, ARRAYS, passes=lambda found: float(found["right"].size), results=right)
