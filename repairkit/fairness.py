"""Fairness repair from data to result: attribute, choose, freeze, report; once or cross-fitted."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from repairkit.data.images import LabelledImages
from repairkit.errors import BudgetError, DataError, ModelError, UsageError
from repairkit.evaluation.alternatives import ThresholdChoice, best_threshold
from repairkit.evaluation.fairness import Outcomes
from repairkit.evaluation.splits import Split, check_disjoint, halves, rotations, three_way
from repairkit.filters import ConvFilters
from repairkit.models.classifier import Classifier, check_logits
from repairkit.models.zoo import LoadedModel
from repairkit.objectives import Accuracy, Smooth, SubgroupRecall, Worth
from repairkit.patch import Culprit, Patch
from repairkit.repair import GUARD_CONFIDENCE, Choice, Strategy, choose, eligible, removal_curve
from repairkit.shapley import Attribution, Engine, estimate
from repairkit.shapley.model_game import ModelGame, prepared_batches
from repairkit.shapley.stability import Stability, stability
from repairkit.shapley.zone import POINT_PASSES, Zone, live_zone
from repairkit.tracing import FreezeAt

Ranking = Literal["recall + source", "recall"]
Score = Literal["smooth", "hard"]
Logits = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Every choice of a fairness repair.

    Attributes:
        engine, budget, top, t0, truncation: of the attribution, see `repairkit.shapley.estimate`;
            the budget is in image passes for each network and fold. `top` is 40 for `tmab` unless given
            and the paper's 100 for the walks; `t0` is 0.97 for `tmab`, near the whole network, where few filters are frozen,
            and "auto" measures where the network dies (`repairkit.shapley.zone`).
        guarantee: probability that any claim about the lowest and highest filters is wrong, in (0, 1), for
            each network and fold (`tmab`; see docs/guarantee.md); None for no claims.
        tolerance: of the guarantee, relative to the k-th value of each end; 0.2 unless given.
        contested: how many filters of its screen `tmab` flips (with a guarantee, of each end; more than
            there are stands for all, without a screen); 3 times `top` unless given.
        ranking: worth whose values rank the filters: "recall + source" (subgroup recall plus source
            accuracy, the default) or "recall" (subgroup recall alone, the paper's).
        score: "smooth" values filters by the mean probability of the label, "hard" (the paper's) by
            the share of correct images, which needs many times the budget for the same precision.
        freeze_at: "post" or "pre", where constants are measured.
        strategy, candidates, max_filters, max_clean_drop: of choosing, see `repairkit.repair.choose`.
        folds: 1 for one split, 3 or more to cross-fit.
        target_shares: attribute, choose and report shares of the target images when folds is 1.
        source_counts: attribute, choose and report numbers of source images; None for the same shares.
        stability: also attribute on each half of the attribution images, with half the budget each,
            and state how far both name the same culprits; doubles the cost of the attribution.
        seed: of splits, engine and bootstrap.
        level: of all intervals.
        batch: images per pass.
        curve: numbers of most negative filters at which the removal curve is measured.
    """

    engine: Engine = "tmab"
    budget: float = 20_000
    top: int | None = None
    t0: float | Literal["auto"] | None = None
    truncation: float | None = None
    guarantee: float | None = None
    tolerance: float | None = None
    contested: int | None = None
    ranking: Ranking = "recall + source"
    score: Score = "smooth"
    freeze_at: FreezeAt = "post"
    strategy: Strategy = "forward"
    candidates: int = 40
    max_filters: int = 16
    max_clean_drop: float = 0.01
    folds: int = 1
    target_shares: tuple[float, float, float] = (0.4, 0.2, 0.4)
    source_counts: tuple[int, int, int] | None = None
    stability: bool = False
    seed: int = 0
    level: float = 0.95
    device: str = "cpu"
    batch: int = 32
    curve: tuple[int, ...] = (2, 4, 8)

    def __post_init__(self) -> None:
        for name, choices in (("engine", Engine), ("ranking", Ranking), ("score", Score), ("freeze_at", FreezeAt), ("strategy", Strategy)):
            if (given := getattr(self, name)) not in get_args(choices):
                raise UsageError(f"{name} must be {' or '.join(map(repr, get_args(choices)))}, got {given!r}")
        if isinstance(self.t0, str) and self.t0 != "auto":
            raise UsageError(f"t0 must be a number or 'auto', got {self.t0!r}")
        if self.engine == "tmab":
            object.__setattr__(self, "t0", 0.97 if self.t0 is None else self.t0)
        elif self.t0 is not None:
            raise UsageError(f"{self.engine} has no live zone t0, got {self.t0}; give truncation, the worth below which a permutation ends")
        object.__setattr__(self, "top", self.top or (40 if self.engine == "tmab" else 100))
        self._check_claims()
        for name, low, high in (
            ("t0", 0, 0.999),
            ("max_clean_drop", 0, 1),
            ("level", 0.5, 0.9999),
            ("top", 1, math.inf),
            ("max_filters", 1, math.inf),
            ("candidates", 1, math.inf),
            ("batch", 1, math.inf),
            ("seed", 0, math.inf),
        ):
            if (number := getattr(self, name)) not in (None, "auto") and not low <= number <= high:
                raise UsageError(f"{name} must lie between {low:g} and {high:g}, got {number}")
        if min(self.curve, default=1) < 1:
            raise UsageError(f"curve must hold numbers of filters, at least 1 each, got {self.curve}")
        if self.device not in ("cpu", "cuda"):
            raise UsageError(f"device must be cpu or cuda, got {self.device!r}")
        if not 0 < self.budget < math.inf:
            raise UsageError(f"budget must be a positive number of image passes, got {self.budget}")
        if self.engine == "tmab" and self.truncation is not None:
            raise UsageError("tmab truncates by size, not by worth: give t0 in place of truncation")
        if self.folds != 1 and self.folds < 3:
            raise UsageError(f"folds must be 1 or at least 3 (attribute, choose and report each need a part), got {self.folds}")

    def _check_claims(self) -> None:
        if self.engine != "tmab" and (self.guarantee is not None or self.contested is not None):
            given = "guarantee" if self.guarantee is not None else "contested"
            raise UsageError(f"{given} is for the engine tmab, got {self.engine}: it has no screen and keeps no guarantee")
        if self.guarantee is None and self.tolerance is not None:
            raise UsageError(f"tolerance belongs to a guarantee, got {self.tolerance} without one; give guarantee, for instance 0.05")
        if self.guarantee is not None and not 0 < self.guarantee < 1:
            raise UsageError(f"guarantee must lie between 0 and 1, got {self.guarantee}; it is the probability that any claim is wrong")
        if self.tolerance is not None and not 0 <= self.tolerance < 1:
            raise UsageError(f"tolerance must lie in [0, 1), got {self.tolerance}; it is relative to the k-th value")
        least = 1 if self.guarantee is None else self.top or 1
        if self.contested is not None and self.contested < least:
            raise UsageError(
                f"contested must be at least {least}, got {self.contested}{' (top, for a guarantee)' if self.guarantee else ''}"
            )
        if self.guarantee is not None and self.tolerance is None:
            object.__setattr__(self, "tolerance", 0.2)


@dataclass(frozen=True)
class Task:
    """What is repaired, and on which images.

    Attributes:
        model: the network to repair.
        dropout: one of the same architecture trained with filter dropout, to compare with; or None.
        target: images on which subgroups are served unequally.
        source: images of what the network was made for.
        training: the images it was trained on, when at hand, to prove that none is reported on.
    """

    model: LoadedModel
    dropout: LoadedModel | None
    target: LabelledImages
    source: LabelledImages
    training: LabelledImages | None = None

    def __post_init__(self) -> None:
        classes = self.model.classifier.classes
        if len(classes) < 2:
            raise DataError(f"the model has the classes {classes}, expected two or more; one class leaves nothing to repair")
        named = [(images.name, images.classes) for images in (self.target, self.source)]
        for name, found in named + ([("the dropout-trained network", self.dropout.classifier.classes)] if self.dropout else []):
            if found != classes:
                raise DataError(f"{name} has the classes {found}, the model {classes}; give data and models of one task")
        if self.target.pixels.shape[1:] != self.source.pixels.shape[1:]:
            (height, width), (other_height, other_width) = self.target.pixels.shape[1:3], self.source.pixels.shape[1:3]
            raise DataError(
                f"{self.target.name} holds images of {height} x {width} pixels, {self.source.name} of {other_height} x {other_width}; "
                "load both at one size (drawn faces have 96 x 96)"
            )
        sets = {"target": self.target, "source": self.source} | ({"training": self.training} if self.training else {})
        check_disjoint(**sets)
        for model in (self.model, self.dropout):
            if model is not None:
                try_one(model.classifier, self.target)


@dataclass(frozen=True)
class RepairedNetwork:
    """One network repaired on one fold."""

    fold: int
    column: str
    attribution: Attribution
    choice: Choice
    patch: Patch
    classifier: Classifier
    removal: tuple[tuple[int, float, float], ...]  # number of most negative filters frozen, mean recall, source accuracy
    path: tuple[tuple[int, float, float], ...]  # the same along the chosen path
    zone: Zone | None = None  # where t0 was measured
    stability: Stability | None = None  # where it was asked for


@dataclass
class Findings:
    """Everything measured; `repairkit.evaluation.fairness` and `repairkit.summary` turn it into a result."""

    outcomes: Outcomes
    repairs: list[RepairedNetwork]
    thresholds: list[ThresholdChoice]
    margins: npt.NDArray[np.float64]
    source_margins: npt.NDArray[np.float64]
    source_report: npt.NDArray[np.int64]
    target_report: npt.NDArray[np.int64]
    passes: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


Progress = Callable[[str, float, float], None]
"""Called with what is at work, all image passes made so far and those planned."""

DOWNSTREAM = 0.32
"""Mean share of a pass that comes after a filter, for planning before it is measured (SqueezeNet-1.0)."""
ZONE_SIZES = 7
"""Sizes at which the live zone is measured before it has ended, for planning: a network that dies at a tenth of its filters."""


def splits(task: Task, options: Options) -> tuple[list[Split], Split]:
    """The target's split of each fold, and the source's one split.

    Raises:
        DataError: a part would have no image of a subgroup.
    """
    # The source counts as one group: a subgroup that training saw little of may be missing from a part.
    ungrouped = replace(task.source, groups=np.full(len(task.source), "all"))
    shares = None if options.source_counts else options.target_shares
    source = three_way(ungrouped, counts=options.source_counts, shares=shares, seed=options.seed)
    if options.folds == 1:
        return [three_way(task.target, shares=options.target_shares, seed=options.seed)], source
    return rotations(task.target, options.folds, seed=options.seed), source


def plan(task: Task, options: Options) -> dict[str, float]:
    """Image passes that a repair will make, by part.

    Exact for calibration and a limit for attribution and stability; choosing and evaluation assume a path of six filters
    and a guard that refuses one, the live zone a network that dies at a tenth of its filters.

    Raises:
        DataError: a part, or a half of the attribution images where stability is asked for, would have no image of a subgroup.
    """
    folds, source = splits(task, options)
    networks = len(folds) * (2 if task.dropout else 1)
    chosen_on = len(folds[0].choose) + min(250, len(source.choose))
    reported_on = sum(len(fold.report) for fold in folds) + len(folds) * len(source.report)
    tried = 3 * options.candidates if options.strategy == "forward" else 0
    steps = 8 if options.strategy == "forward" else options.max_filters + 1
    if options.stability:  # what cannot be cut is found out now, and not in the last fold
        for number, fold in enumerate(folds):
            halves(task.target.subset(fold.attribute), seed=options.seed + number)
    calibration = networks / len(folds) * sum(len(fold.attribute) + len(source.attribute) for fold in folds)
    parts = 2 if options.ranking == "recall + source" else 1
    return (
        {"calibration": calibration}
        | ({"live zone": networks * parts * ZONE_SIZES * POINT_PASSES} if options.t0 == "auto" else {})
        | ({"stability": calibration + networks * options.budget} if options.stability else {})
        | {
            "attribution": networks * options.budget,
            "choosing": networks * (chosen_on * (steps + DOWNSTREAM * tried) + steps * len(source.choose)),
            "evaluation": reported_on * (networks / len(folds) + len(options.curve) + 6)
            + networks / len(folds) * (len(task.target) + len(task.source)),
        }
    )


def repair(task: Task, options: Options, *, progress: Progress | None = None) -> Findings:
    """Repair the network (and its dropout-trained rival) and judge everything on the report images.

    With folds every target image is reported on once, by a network that did not see it; the source's
    report images are judged by the networks of all folds, and count with the share that was right.
    """
    folds, source = splits(task, options)
    models = {"repaired": task.model} | ({"dropout_repaired": task.dropout} if task.dropout else {})
    clock = _Clock(progress, sum(plan(task, options).values()))
    report = np.concatenate([fold.report for fold in folds])
    position = {int(index): row for row, index in enumerate(report)}
    correct: dict[str, npt.NDArray[np.bool_]] = {}
    source_correct: dict[str, npt.NDArray[np.float64]] = {}
    source_report = task.source.subset(source.report)
    repairs: list[RepairedNetwork] = []
    thresholds: list[ThresholdChoice] = []
    plain: dict[str, tuple[Logits, Logits]] = {}
    for column, model in models.items():
        before = "original" if column == "repaired" else "dropout"
        with clock.part("evaluation"):
            judged = np.unique(np.concatenate([part for fold in folds for part in (fold.choose, fold.report)]))
            judged_source = np.concatenate([source.choose, source.report])
            plain[before] = (
                outputs(model.classifier, task.target, options, clock, judged),
                outputs(model.classifier, task.source, options, clock, judged_source),
            )
        correct[before] = (plain[before][0].argmax(1) == task.target.labels)[report]
        source_correct[before] = (plain[before][1].argmax(1) == task.source.labels)[source.report].astype(np.float64)
        after = np.zeros(len(report), dtype=bool)
        after_source = np.zeros(len(source.report))
        for number, split in enumerate(folds):
            fixed = repair_one(task, model, column, number, split, source, options, clock)
            repairs.append(fixed)
            with clock.part("evaluation"):
                rows = [position[int(index)] for index in split.report]
                after[rows] = (
                    outputs(fixed.classifier, task.target.subset(split.report), options, clock).argmax(1)
                    == task.target.labels[split.report]
                )
                after_source += outputs(fixed.classifier, source_report, options, clock).argmax(1) == source_report.labels
        correct[column], source_correct[column] = after, after_source / len(folds)
    margins = plain["original"][0][:, 1] - plain["original"][0][:, 0]
    source_margins = plain["original"][1][:, 1] - plain["original"][1][:, 0]
    if len(task.target.classes) == 2:
        moved = np.zeros(len(report), dtype=bool)
        moved_source = np.zeros(len(source.report))
        for split in folds:
            choice = best_threshold(
                margins[split.choose],
                task.target.labels[split.choose],
                task.target.groups[split.choose],
                source_margins[source.choose],
                task.source.labels[source.choose],
                max_source_drop=options.max_clean_drop,
                confidence=GUARD_CONFIDENCE,
            )
            thresholds.append(choice)
            rows = [position[int(index)] for index in split.report]
            moved[rows] = (margins[split.report] > choice.threshold) == task.target.labels[split.report]
            moved_source += (source_margins[source.report] > choice.threshold) == source_report.labels
        correct["threshold"], source_correct["threshold"] = moved, moved_source / len(folds)
    outcomes = Outcomes(task.target.groups[report], correct, source_correct)
    return Findings(outcomes, repairs, thresholds, margins, source_margins, source.report, report, clock.passes, clock.seconds)


def worth_of(target: LabelledImages, source: LabelledImages, options: Options) -> Worth:
    """The worth whose values rank the filters."""
    recall, accuracy = (Smooth(each) if options.score == "smooth" else each for each in (SubgroupRecall(), Accuracy()))
    return recall.on(target) + accuracy.on(source) if options.ranking == "recall + source" else recall.on(target)


def repair_one(
    task: Task, model: LoadedModel, column: str, number: int, split: Split, source: Split, options: Options, clock: _Clock
) -> RepairedNetwork:
    """Attribute, choose and freeze on one fold; the report images are used for the curves only."""
    clock.prefix = f"{column.replace('_', ' ')}, fold {number + 1}" if options.folds > 1 else column.replace("_", " ")
    classifier = model.classifier
    target_part, source_part = task.target.subset(split.attribute), task.source.subset(source.attribute)
    with clock.part("calibration"):
        game = attribution_game(classifier, target_part, source_part, options)
        filters = game.filters
        clock.add("calibration", len(target_part) + len(source_part))
    zone: Zone | None = None
    if options.t0 == "auto":
        with clock.part("live zone"):
            zone = live_zone(game, seed=options.seed + number, part_of=game.part_of, stratum_of=game.stratum_of)
            clock.add("live zone", zone.passes)
    t0 = options.t0 if isinstance(options.t0, int | float) else zone.t0 if zone else 0.0
    agreement: Stability | None = None
    if options.stability:  # first, since half the budget may be too small
        with clock.part("stability"):
            agreement = agreement_of_halves(classifier, target_part, source_part, options, seed=options.seed + number, t0=t0, clock=clock)
    with clock.part("attribution"):
        attribution = attribute(game, options, budget=options.budget, seed=options.seed + number, t0=t0, clock=clock)
        clock.add("attribution", sum(attribution.passes.values()))
    choose_worths = SubgroupRecall().on(task.target.subset(split.choose)), Accuracy().on(task.source.subset(source.choose))
    with clock.part("choosing"):
        choice = choose(
            classifier,
            filters,
            attribution,
            *choose_worths,
            strategy=options.strategy,
            candidates=options.candidates,
            max_filters=options.max_filters,
            max_clean_drop=options.max_clean_drop,
            batch=options.batch,
            progress=clock.tell,
        )
        clock.add("choosing", choice.passes)
    patch = patch_of(model, filters, attribution, choice, game.stake, options.freeze_at)
    repaired = Classifier(
        patch.apply(classifier.network),
        classes=classifier.classes,
        mean=classifier.mean.flatten().tolist(),
        std=classifier.std.flatten().tolist(),
        size=classifier.size,
    ).eval()
    removal: tuple[tuple[int, float, float], ...] = ()
    path: tuple[tuple[int, float, float], ...] = ()
    if column == "repaired":
        report_worths = SubgroupRecall().on(task.target.subset(split.report)), Accuracy().on(task.source.subset(source.report))
        with clock.part("evaluation"):
            worst = eligible(filters, attribution, max(options.curve, default=0))
            removal = removal_curve(classifier, filters, worst, (0, *options.curve), *report_worths, batch=options.batch)
            path = removal_curve(classifier, filters, choice.players, range(choice.chosen + 1), *report_worths, batch=options.batch)
            clock.add("evaluation", (len(removal) + len(path)) * sum(len(part) for part in report_worths))
    return RepairedNetwork(number, column, attribution, choice, patch, repaired, removal, path, zone, agreement)


def attribution_game(classifier: Classifier, target: LabelledImages, source: LabelledImages, options: Options) -> ModelGame:
    """The game whose values rank the filters, with constants from its own images."""
    filters = ConvFilters(classifier.network, freeze_at=options.freeze_at, device=options.device)
    filters.calibrate(batch for images in (target, source) for batch in prepared_batches(classifier, images, options.batch))
    return ModelGame(classifier, filters, worth_of(target, source, options), batch=options.batch)


def attribute(game: ModelGame, options: Options, *, budget: float, seed: int, t0: float, clock: _Clock) -> Attribution:
    """Values of the filters by the chosen engine."""
    return estimate(
        game,
        engine=options.engine,
        budget=budget,
        seed=seed,
        top=min(options.top or game.n, game.n),
        t0=t0,
        control=options.engine == "tmab" and options.score == "smooth" and options.guarantee is None,  # their range is not known
        guarantee=options.guarantee,
        tolerance=0.2 if options.tolerance is None else options.tolerance,
        contested=options.contested,
        truncation=options.truncation,
        ids=game.filters.ids,
        progress=clock.tell,
    )


def agreement_of_halves(
    classifier: Classifier, target: LabelledImages, source: LabelledImages, options: Options, *, seed: int, t0: float, clock: _Clock
) -> Stability:
    """How far two attributions agree, each on half of the attribution images, with constants and random numbers of its own.

    Raises:
        DataError: a half would have no image of a subgroup.
        BudgetError: half the budget is less than the engine needs.
    """
    ungrouped = replace(source, groups=np.full(len(source), "all"))
    found = []
    for number, rows in enumerate(zip(halves(target, seed=seed), halves(ungrouped, seed=seed), strict=True)):
        parts = target.subset(rows[0]), source.subset(rows[1])
        game = attribution_game(classifier, *parts, options)
        clock.add("stability", sum(map(len, parts)))
        own_seed = int(np.random.default_rng([seed, number]).integers(2**31))  # common random numbers would feign agreement
        try:
            found.append(attribute(game, options, budget=options.budget / 2, seed=own_seed, t0=t0, clock=clock))
        except BudgetError as error:
            raise BudgetError(f"--stability attributes on each half of the images with half the budget: {error}") from None
        clock.add("stability", sum(found[-1].passes.values()))
    return stability(*found)


def patch_of(
    model: LoadedModel, filters: ConvFilters, attribution: Attribution, choice: Choice, worth: Worth, freeze_at: FreezeAt
) -> Patch:
    """The chosen culprits with their constants and values."""
    culprits = [
        Culprit(
            layer=filters.ids[player].layer,
            channel=filters.ids[player].channel,
            constant=float(filters.constants[player]),
            value=float(attribution.value[player]),
            half_width=finite_or_none(attribution.half_width[player]),
            screen=finite_or_none(attribution.screen[player]),
        )
        for player in choice.players
    ]
    return Patch(
        architecture=model.architecture,
        weights_sha256=model.sha256,
        freeze_at=freeze_at,
        objective=repr(worth),
        engine=attribution.engine,
        t0=attribution.t0,
        delta=attribution.delta,
        culprits=culprits,
    )


def finite_or_none(number: float) -> float | None:
    """JSON has no NaN or infinity."""
    return float(number) if np.isfinite(number) else None


def outputs(
    classifier: Classifier,
    images: LabelledImages,
    options: Options,
    clock: _Clock | None = None,
    which: npt.NDArray[np.int64] | None = None,
) -> Logits:
    """Logits, float64 (N, classes); with `which`, only of those images, and NaN for the others."""
    device = torch.device(options.device)
    classifier = classifier.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    wanted = np.arange(len(images)) if which is None else which
    logits: Logits = np.full((len(images), len(images.classes)), np.nan)
    with torch.inference_mode():
        for start in range(0, len(wanted), options.batch):
            rows = wanted[start : start + options.batch]
            logits[rows] = check_logits(classifier(images.batch(rows).to(device)), images.name).double().cpu().numpy()
    if clock is not None:
        clock.add("evaluation", len(wanted))
    return logits


def try_one(classifier: Classifier, images: LabelledImages) -> None:
    """One pass, to find out before any work whether images and network fit.

    Raises:
        ModelError: the network cannot take images of this size.
    """
    with torch.inference_mode():
        try:
            logits = classifier(images.batch(np.array([0])))
        except (RuntimeError, AssertionError) as error:  # torchvision asserts the size that a transformer takes
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"the network cannot take images of {images.pixels.shape[1]} pixels ({reason}); give a larger --size"
            ) from None
    check_logits(logits, images.describe(0))


def data_hash(images: LabelledImages) -> str:
    """SHA-256 over the hashes of all images, in any order."""
    return hashlib.sha256("".join(sorted(images.hashes.tolist())).encode()).hexdigest()


class _Clock:
    """Seconds and passes by part, and progress passed on with what is at work."""

    def __init__(self, progress: Progress | None, planned: float) -> None:
        self.seconds: dict[str, float] = {}
        self.passes: dict[str, float] = {}
        self.prefix = ""
        self._progress, self._planned = progress, planned

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Book the time of a block under a part."""
        started = time.perf_counter()
        self.tell(name, 0, 0)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def add(self, part: str, passes: float) -> None:
        """Book passes under a part."""
        self.passes[part] = self.passes.get(part, 0.0) + passes

    def tell(self, part: str, made: float, _planned: float) -> None:
        """Pass progress on: all passes made so far, of all that are planned."""
        if self._progress is not None:
            total = sum(self.passes.values()) + made
            self._progress(f"{self.prefix}: {part}" if self.prefix else part, total, max(total, self._planned))
