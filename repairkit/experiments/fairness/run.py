"""Fairness repair from data to result: attribute, choose, freeze, report; once or cross-fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import torch

from repairkit.alternatives.base import PART, Fold, Tried, alternatives_of, passes_of
from repairkit.alternatives.threshold import ThresholdPoint, best_threshold
from repairkit.baselines.compare import Compared, Curve, Ranking, Selecting, by_harm, compare, planned
from repairkit.baselines.rankings import suspects
from repairkit.data.images import LabelledImages, labelled_hash
from repairkit.data.training_hashes import check_unseen
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.splits import Split, check_disjoint, halves, rotations, three_way, ungrouped
from repairkit.experiments.fairness.evaluation import Outcomes
from repairkit.models.zoo import LoadedModel, normalisation_of
from repairkit.network.classifier import Classifier, try_one
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.network.patch import Patch
from repairkit.network.predict import Logits, predict, predict_logits
from repairkit.objectives import Accuracy, ObjectiveSum, SubgroupRecall
from repairkit.repair.attribute import live_range_planned, rank_by
from repairkit.repair.choosing import DOWNSTREAM, check_guard, choose_once
from repairkit.repair.repair import repair_round
from repairkit.repair.selection import (
    GUARD_CONFIDENCE,
    GUARD_TRIES,
    Choice,
    correct_with,
    eligible,
    removal_curve,
)
from repairkit.repair.selection_images import SOURCE_FOR_GAINS, SelectionGoal
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley import Attribution
from repairkit.shapley.live_range import LiveRange
from repairkit.shapley.stability import Stability


@dataclass(frozen=True)
class Task:
    """What is repaired, and on which images.

    Attributes:
        model: the network to repair.
        dropout: one of the same architecture trained with filter dropout, to compare with; or None.
        target: images on which subgroups are served unequally.
        source: images of what the network was made for.
        training: the images it was trained on, when at hand, to prove that none is reported on; hashes of them beside the
            weights (`repairkit.data.training_hashes`) are compared too.
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
                check_unseen(model.weights, target=self.target, source=self.source)
                try_one(model.classifier, self.target)


@dataclass(frozen=True)
class Round:
    """One time that filters of one network were found and frozen on one fold.

    Attributes:
        attribution, choice: what was found and chosen in the network as the earlier rounds left it.
        patch: what this round froze; fits the weights as they were given only after the earlier rounds.
        path: along the chosen path: number frozen in all rounds so far, mean recall, source accuracy; empty where it was not measured.
        live_range: where t0 was measured.
        stability: where it was asked for.
        halved: images of a pass of the attribution, where memory ran out.
    """

    attribution: Attribution
    choice: Choice
    patch: Patch
    path: tuple[tuple[int, float, float], ...]
    live_range: LiveRange | None = None
    stability: Stability | None = None
    halved: int | None = None


@dataclass(frozen=True)
class RepairedNetwork:
    """One network repaired on one fold.

    Attributes:
        fold, column: which.
        rounds: how it was found, in their order; one at least.
        classifier: with all filters of all rounds frozen.
        removal: number of most negative filters of the first round frozen, mean recall, source accuracy.
        compared: with baselines, where it was asked for; then there is one round.
    """

    fold: int
    column: str
    rounds: tuple[Round, ...]
    classifier: Classifier
    removal: tuple[tuple[int, float, float], ...]
    compared: Compared | None = None

    @property
    def attribution(self) -> Attribution:
        """That of the network as it was given."""
        return self.rounds[0].attribution

    @property
    def choice(self) -> Choice:
        """That of the first round."""
        return self.rounds[0].choice

    @property
    def live_range(self) -> LiveRange | None:
        """That of the first round."""
        return self.rounds[0].live_range

    @property
    def stability(self) -> Stability | None:
        """Of the first round, where it was asked for."""
        return self.rounds[0].stability

    @property
    def chosen(self) -> int:
        """How many filters all rounds froze."""
        return sum(each.choice.chosen for each in self.rounds)

    @property
    def patch(self) -> Patch:
        """All filters of all rounds, for the weights as they were given."""
        first = self.rounds[0].patch
        return first.model_copy(update={"culprits": [culprit for each in self.rounds for culprit in each.patch.culprits]})

    @property
    def path(self) -> tuple[tuple[int, float, float], ...]:
        """The chosen paths of all rounds, one after the other."""
        return tuple(point for each in self.rounds for point in each.path)


@dataclass
class Findings:
    """Everything measured; `repairkit.experiments.fairness.evaluation` and `repairkit.experiments.fairness.summary` turn it into a result."""

    outcomes: Outcomes
    repairs: list[RepairedNetwork]
    thresholds: list[ThresholdPoint]
    margins: npt.NDArray[np.float64]
    source_margins: npt.NDArray[np.float64]
    source_report: npt.NDArray[np.int64]
    target_report: npt.NDArray[np.int64]
    passes: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tried: list[Tried] = field(default_factory=list)  # empty unless alternatives were asked for
    repair_passes: dict[str, float] = field(default_factory=dict)  # of the network that was given, without its dropout-trained rival
    repair_seconds: dict[str, float] = field(default_factory=dict)


def splits(task: Task, options: Options) -> tuple[list[Split], Split]:
    """The target's split of each fold, and the source's one split.

    Raises:
        DataError: a part would have no image of a subgroup, or the source has too few images to show that the guard holds.
        UsageError: a ranking that is for the filters of one class.
    """
    if options.ranking == "specific":
        raise UsageError(f"ranking must be 'recall + source' or 'recall' for subgroups, got {options.ranking!r}, which is for one class")
    # The source counts as one group: a subgroup that training saw little of may be missing from a part.
    shares = None if options.source_counts else options.target_shares
    source = three_way(ungrouped(task.source), counts=options.source_counts, shares=shares, seed=options.seed)
    check_guard(len(source.choose), options.max_clean_drop / options.rounds, task.source.name)
    if options.folds == 1:
        return [three_way(task.target, shares=options.target_shares, seed=options.seed)], source
    return rotations(task.target, options.folds, seed=options.seed), source


def plan(task: Task, options: Options) -> dict[str, float]:
    """Image passes that a repair will make, by part, if every round is played.

    Exact for calibration and a limit for attribution and stability; choosing and evaluation assume a path of six filters (or
    as many as are allowed, if fewer) and a guard that then refuses as many as are held against it, the live range a network that dies at a tenth of its filters.

    Raises:
        DataError: a part, or a half of the attribution images where stability is asked for, would have no image of a subgroup.
    """
    folds, source = splits(task, options)
    networks = len(folds) * (2 if task.dropout else 1)
    chosen_on = len(folds[0].choose) + min(SOURCE_FOR_GAINS, len(source.choose))
    reported_on = sum(len(fold.report) for fold in folds) + len(folds) * len(source.report)
    tried = 3 * options.candidates if options.strategy == "forward" else 0
    steps = 1 + (min(6, options.max_filters) if options.strategy == "forward" else options.max_filters)
    refused = GUARD_TRIES if options.strategy == "forward" and options.max_filters > 6 else 0
    if options.stability:  # what cannot be cut is found out now, and not in the last fold
        for number, fold in enumerate(folds):
            halves(task.target.subset(fold.attribute), seed=options.seed + number)
    calibration = networks / len(folds) * sum(len(fold.attribute) + len(source.attribute) for fold in folds)
    parts = 2 if options.ranking == "recall + source" else 1
    choosing = chosen_on * (steps + DOWNSTREAM * tried) + (steps + refused) * len(source.choose)
    compared = sum(
        planned(
            options,
            images=len(fold.attribute) + (parts - 1) * len(source.attribute),
            points=len(options.curve) + 1,
            report=len(fold.report) + len(source.report),
            choosing=choosing,
            shapley=True,
            before=sum(live_range_planned(options, parts).values()),
        )
        for fold in folds
    )
    rounds = options.rounds
    return (
        {"calibration": rounds * calibration}
        | live_range_planned(options, rounds * networks * parts)
        | ({"stability": calibration + networks * options.budget} if options.stability else {})
        | {
            "attribution": rounds * networks * options.budget,
            "choosing": rounds * networks * choosing,
            "evaluation": reported_on * (networks / len(folds) + len(options.curve) + 6 * rounds)
            + networks / len(folds) * (len(task.target) + len(task.source)),
        }
        | ({"baselines": compared} if options.compare else {})
        | ({PART: sum(passes_of(len(task.target.classes), fold, source) for fold in folds)} if options.alternatives else {})
    )


def configuration(task: Task, options: Options) -> dict[str, object]:
    """Everything that decides the bits of a repair, as JSON can hold it."""
    models = {"model": task.model, "dropout model": task.dropout}
    return (
        options.configuration
        | {name: model.sha256[:16] if model else None for name, model in models.items()}
        | {f"normalisation of the {name}": normalisation_of(model) if model else None for name, model in models.items()}
        | {f"{name} images": labelled_hash(images) for name, images in (("target", task.target), ("source", task.source))}
        | {"threads": torch.get_num_threads(), "version": f"{version('repairkit')} with torch {torch.__version__}"}
    )


def repair(task: Task, run: Run) -> Findings:
    """Repair the network (and its dropout-trained rival) and judge everything on the report images.

    With folds every target image is reported on once, by a network that did not see it; the source's
    report images are judged by the networks of all folds, and count with the share that was right.

    Args:
        task: networks and images.
        run: stores attributions and choices; the rest is quick and is done again.
    """
    folds, source = splits(task, run.settings)
    models = {"repaired": task.model} | ({"dropout_repaired": task.dropout} if task.dropout else {})
    run.ledger.planned = sum(plan(task, run.settings).values())
    report = np.concatenate([fold.report for fold in folds])
    position = {int(index): row for row, index in enumerate(report)}
    correct: dict[str, npt.NDArray[np.bool_]] = {}
    source_correct: dict[str, npt.NDArray[np.float64]] = {}
    source_report = task.source.subset(source.report)
    repairs: list[RepairedNetwork] = []
    thresholds: list[ThresholdPoint] = []
    plain: dict[str, tuple[Logits, Logits]] = {}
    for column, model in models.items():
        before = "original" if column == "repaired" else "dropout"
        run.ledger.column = column
        with run.phase("evaluation"):
            judged = np.unique(np.concatenate([part for fold in folds for part in (fold.choose, fold.report)]))
            judged_source = np.concatenate([source.choose, source.report])
            plain[before] = (
                predict_logits(model.classifier, task.target, run, rows=judged),
                predict_logits(model.classifier, task.source, run, rows=judged_source),
            )
        correct[before] = (plain[before][0].argmax(1) == task.target.labels)[report]
        source_correct[before] = (plain[before][1].argmax(1) == task.source.labels)[source.report].astype(np.float64)
        after = np.zeros(len(report), dtype=bool)
        after_source = np.zeros(len(source.report))
        for number, split in enumerate(folds):
            fixed = repair_one(task, model, column, number, split, source, run.of(f"{column}-fold-{number + 1}"))
            repairs.append(fixed)
            with run.phase("evaluation"):
                rows = [position[int(index)] for index in split.report]
                target_report = task.target.subset(split.report)
                after[rows] = predict(fixed.classifier, target_report, run) == target_report.labels
                after_source += predict(fixed.classifier, source_report, run) == source_report.labels
        correct[column], source_correct[column] = after, after_source / len(folds)
    run.ledger.column = ""
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
                max_source_drop=run.settings.max_clean_drop,
                confidence=GUARD_CONFIDENCE,
            )
            thresholds.append(choice)
            rows = [position[int(index)] for index in split.report]
            moved[rows] = (margins[split.report] > choice.threshold) == task.target.labels[split.report]
            moved_source += (source_margins[source.report] > choice.threshold) == source_report.labels
        correct["threshold"], source_correct["threshold"] = moved, moved_source / len(folds)
    tried: list[Tried] = []
    if run.settings.alternatives:
        tried = instead(task, folds, source, plain["original"], thresholds, run)
        for key in dict.fromkeys(each.key for each in tried):
            own = [each for each in tried if each.key == key]
            if all(each.right is not None for each in own):
                correct[key] = np.concatenate([each.right for each in own if each.right is not None])
                source_correct[key] = np.mean([each.source_right for each in own if each.source_right is not None], axis=0)
    outcomes = Outcomes(task.target.groups[report], correct, source_correct)
    return Findings(
        outcomes,
        repairs,
        thresholds,
        margins,
        source_margins,
        source.report,
        report,
        run.ledger.passes,
        run.ledger.seconds,
        tried,
        *run.ledger.of("repaired"),
    )


def instead(
    task: Task, folds: list[Split], source: Split, plain: tuple[Logits, Logits], moved: Sequence[ThresholdPoint], run: Run
) -> list[Tried]:
    """What one would do instead of repairing the original network, on every fold in turn.

    `plain` is what that network says, `moved` the threshold that was chosen for everybody in each fold; none where there are not two classes.
    """
    tried = []
    for number, split in enumerate(folds):
        run.ledger.label = f"instead, fold {number + 1}" if run.settings.folds > 1 else "instead"
        parts = (task.target, task.source, split, source, *plain)
        threshold = moved[number].threshold if moved else 0.0
        tried += alternatives_of(
            Fold(task.model.classifier, *parts, run.of(f"instead-fold-{number + 1}"), run.settings.seed + number, threshold)
        )
    run.ledger.label = ""
    return tried


def repair_one(task: Task, model: LoadedModel, column: str, number: int, split: Split, source: Split, run: Run) -> RepairedNetwork:
    """Attribute, choose and freeze on one fold, in rounds; the report images are used for the curves only."""
    name = f"{column.replace('_', ' ')}, fold {number + 1}" if run.settings.folds > 1 else column.replace("_", " ")
    report_worths = SubgroupRecall().on(task.target.subset(split.report)), Accuracy().on(task.source.subset(source.report))
    repaired = model.classifier
    rounds: list[Round] = []
    removal: tuple[tuple[int, float, float], ...] = ()
    compared: Compared | None = None
    while len(rounds) < run.settings.rounds and (not rounds or rounds[-1].choice.chosen):
        run.ledger.label = f"{name}, round {len(rounds) + 1}" if run.settings.rounds > 1 else name
        own = run.of(f"round-{len(rounds) + 1}") if rounds else run
        classifier = repaired
        found, game, repaired = find_and_freeze(task, model, classifier, number, split, source, own, rounds)
        if column == "repaired":
            with run.phase("evaluation"):
                players, before = found.choice.players, sum(each.choice.chosen for each in rounds)
                if not rounds:
                    worst = eligible(game.filters, found.attribution, max(run.settings.curve, default=0))
                    removal = removal_curve(classifier, game.filters, worst, (0, *run.settings.curve), report_worths, run)
                counts = range(1 if rounds else 0, len(players) + 1)  # none of a later round is the last point of the one before
                path = removal_curve(classifier, game.filters, players, counts, report_worths, run)
            found = replace(found, path=tuple((before + count, recall, accuracy) for count, recall, accuracy in path))
            if run.settings.compare:
                compared = compare(
                    game,
                    found.attribution,
                    run,
                    seed=run.settings.seed + number,
                    ranking=Ranking(by_harm, partial(_most_suspect, game.filters, max(run.settings.curve, default=0))),
                    curve=Curve(sorted({0, *run.settings.curve}), partial(_correct_with, classifier, game.filters, report_worths, run)),
                    selecting=Selecting(
                        partial(_choose_among, classifier, game.filters, selection_goal(task, split, source, run.settings)), found.choice
                    ),
                )
        rounds.append(found)
    return RepairedNetwork(number, column, tuple(rounds), repaired, removal, compared)


def _most_suspect(filters: ConvFilters, most: int, found: Attribution) -> list[int]:
    """The filters that a baseline would freeze first."""
    return eligible(filters, suspects(found), most)


def _correct_with(
    classifier: Classifier, filters: ConvFilters, worths: tuple[ObjectiveSum, ObjectiveSum], run: Run, frozen: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Which report images are classified correctly with these filters frozen."""
    return correct_with(classifier, filters, frozen, worths, run)


def _choose_among(classifier: Classifier, filters: ConvFilters, goal: SelectionGoal, found: Attribution, run: Run) -> Choice:
    """The same choosing, from as many of a baseline's candidates as these settings say."""
    return choose_once(classifier, filters, suspects(found), goal, run, part="baselines")


def selection_goal(task: Task, split: Split, source: Split, settings: Options) -> SelectionGoal:
    """Selection raises subgroup recall; its guard is source accuracy, of which every round may spend an equal share."""
    return SelectionGoal(
        target=SubgroupRecall().on(task.target.subset(split.choose)),
        guard=Accuracy().on(task.source.subset(source.choose)),
        max_drop=settings.max_clean_drop / settings.rounds,
    )


def find_and_freeze(
    task: Task, model: LoadedModel, classifier: Classifier, number: int, split: Split, source: Split, run: Run, earlier: Sequence[Round]
) -> tuple[Round, NetworkGame, Classifier]:
    """One round on the network as the earlier rounds left it, and the game that was played."""
    found = repair_round(
        model,
        classifier,
        rank_by(SubgroupRecall(), run.settings),
        (task.target.subset(split.attribute), task.source.subset(source.attribute)),
        selection_goal(task, split, source, run.settings),
        run.with_settings(stability=run.settings.stability and not earlier),
        seed=run.settings.seed + number + run.settings.folds * len(earlier),
        earlier=[each.patch for each in earlier],
    )
    made = Round(found.attribution, found.selection, found.patch, (), found.live_range, found.stability, found.reduced_batch)
    return made, found.game, found.classifier
