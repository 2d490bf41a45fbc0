"""Fairness repair from images to findings: value filters, select, freeze, and evaluate on test images; once or cross-fitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

from repairkit.alternatives import registry
from repairkit.alternatives.base import PART, AlternativeResult, Fold
from repairkit.alternatives.threshold import ThresholdPoint, best_threshold
from repairkit.baselines.compare import Compared, Curve, Ranking, Selecting, by_harm, compare, planned
from repairkit.baselines.rankings import suspects
from repairkit.data.images import LabelledImages, labelled_hash
from repairkit.data.training_hashes import check_unseen
from repairkit.errors import DataError, UsageError
from repairkit.evaluation.splits import Split, check_disjoint, halves, rotations, three_way, ungrouped
from repairkit.evaluation.statistics import Floats
from repairkit.experiments.fairness.evaluation import Booleans, Findings, Outcomes, Points, RepairedNetwork, Round
from repairkit.models.zoo import LoadedModel, normalisation_of
from repairkit.network.classifier import Classifier, try_one
from repairkit.network.predict import Logits, predict, predict_logits
from repairkit.objectives import Accuracy, ObjectiveSum, SubgroupRecall
from repairkit.repair.attribute import live_range_planned, rank_by
from repairkit.repair.choosing import DOWNSTREAM, check_guard, choose_once
from repairkit.repair.repair import RepairRound, repair_round
from repairkit.repair.selection import GUARD_CONFIDENCE, GUARD_TRIES, Choice, correct_with, eligible, removal_curve
from repairkit.repair.selection_images import SOURCE_FOR_GAINS, SelectionGoal
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley import Attribution


@dataclass(frozen=True)
class Task:
    """What is repaired, and on which images.

    Attributes:
        model: the network to repair.
        dropout: one of the same architecture trained with filter dropout, to compare with; or None.
        target: images on which subgroups are served unequally.
        source: images of what the network was made for.
        training: the images it was trained on, when at hand, to prove that none is a test image. Hashes of them beside the weights are
            compared as well.

    Raises:
        DataError: data and models of several tasks or sizes, or an image that is in two of the sets.
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
        for name, others in named + ([("the dropout-trained network", self.dropout.classifier.classes)] if self.dropout else []):
            if others != classes:
                raise DataError(f"{name} has the classes {others}, the model {classes}; give data and models of one task")
        if self.target.pixels.shape[1:] != self.source.pixels.shape[1:]:
            (height, width), (other_height, other_width) = self.target.pixels.shape[1:3], self.source.pixels.shape[1:3]
            raise DataError(
                f"{self.target.name} holds images of {height} x {width} pixels, {self.source.name} of {other_height} x {other_width}; "
                "load both at one size (drawn faces have 96 x 96)"
            )
        check_disjoint(**{"target": self.target, "source": self.source} | ({"training": self.training} if self.training else {}))
        for model in (self.model, self.dropout):
            if model is not None:
                check_unseen(model.weights, target=self.target, source=self.source)
                try_one(model.classifier, self.target)


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


def selection_cost(options: Options, target: int, source: int) -> float:
    """Image passes of one selection on so many images, for a path of six filters (or fewer, if fewer are allowed).

    The guard is taken to refuse as many filters after that as are held against it.
    """
    if options.strategy == "forward":
        candidates, steps = 3 * options.candidates, 1 + min(6, options.max_filters)
        refused = GUARD_TRIES if options.max_filters > 6 else 0
    else:
        candidates, steps, refused = 0, 1 + options.max_filters, 0
    return (target + min(SOURCE_FOR_GAINS, source)) * (steps + DOWNSTREAM * candidates) + (steps + refused) * source


def baselines_cost(options: Options, fold: Split, source: Split, parts: int, selection: float) -> float:
    """Image passes of a fold's comparison with baselines, for an objective of so many parts and a selection of so many passes."""
    return planned(
        options,
        images=len(fold.attribute) + (parts - 1) * len(source.attribute),
        points=len(options.curve) + 1,
        report=len(fold.report) + len(source.report),
        choosing=selection,
        shapley=True,
        before=sum(live_range_planned(options, parts).values()),
    )


def plan(task: Task, options: Options) -> dict[str, float]:
    """Image passes that a repair will make, by phase, if every round is played.

    Exact for calibration, a limit for attribution and stability, and an estimate for selection and evaluation.

    Raises:
        DataError: a part, or a half of the attribution images where stability is asked for, would have no image of a subgroup.
    """
    folds, source = splits(task, options)
    networks, rounds, parts = 2 if task.dropout else 1, options.rounds, 2 if options.ranking == "recall + source" else 1
    if options.stability:  # what cannot be halved is found now, and not in the last fold
        for number, fold in enumerate(folds):
            halves(task.target.subset(fold.attribute), seed=options.seed + number)
    repairs = networks * len(folds)
    calibration = float(networks * sum(len(fold.attribute) + len(source.attribute) for fold in folds))
    selection = selection_cost(options, len(folds[0].choose), len(source.choose))
    tested = sum(len(fold.report) + len(source.report) for fold in folds)
    costs = {"calibration": rounds * calibration} | live_range_planned(options, rounds * repairs * parts)
    if options.stability:
        costs["stability"] = calibration + repairs * options.budget
    costs |= {
        "attribution": rounds * repairs * options.budget,
        "choosing": rounds * repairs * selection,
        "evaluation": float(tested * (networks + len(options.curve) + 6 * rounds) + networks * (len(task.target) + len(task.source))),
    }
    if options.compare:
        costs["baselines"] = sum(baselines_cost(options, fold, source, parts, selection) for fold in folds)
    if options.alternatives:
        costs[PART] = sum(registry.cost(fold, source, len(task.target.classes)) for fold in folds)
    return costs


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
    """Repair the network (and its dropout-trained rival), and evaluate all columns on the test images; see `Outcomes`."""
    folds, source = splits(task, run.settings)
    run.ledger.planned = sum(plan(task, run.settings).values())
    test = np.concatenate([fold.report for fold in folds])
    correct: dict[str, Booleans] = {}
    source_correct: dict[str, Floats] = {}
    repairs: list[RepairedNetwork] = []
    logits: dict[str, tuple[Logits, Logits]] = {}
    for before, after, model in (("original", "repaired", task.model), ("dropout", "dropout_repaired", task.dropout)):
        if model is None:
            continue
        run.ledger.column = after
        target_logits, source_logits = logits[before] = predict_selection_and_test(task, model.classifier, folds, source, run)
        correct[before] = (target_logits.argmax(1) == task.target.labels)[test]
        source_correct[before] = (source_logits.argmax(1) == task.source.labels)[source.report].astype(np.float64)
        networks, correct[after], source_correct[after] = repair_folds(task, model, after, folds, source, run)
        repairs += networks
    run.ledger.column = ""
    margins, source_margins = (answers[:, 1] - answers[:, 0] for answers in logits["original"])
    thresholds = select_thresholds(task, folds, source, margins, source_margins, run.settings)
    if thresholds:
        moved = [margins > point.threshold for point in thresholds]
        source_moved = [(source_margins > point.threshold) == task.source.labels for point in thresholds]
        right = [(answers == task.target.labels)[fold.report] for answers, fold in zip(moved, folds, strict=True)]
        correct["threshold"], source_correct["threshold"] = np.concatenate(right), np.sum(source_moved, axis=0)[source.report] / len(folds)
    alternatives = evaluate_alternatives(task, folds, source, logits["original"], thresholds, run) if run.settings.alternatives else []
    for key in dict.fromkeys(entry.key for entry in alternatives):
        pairs = [(entry.right, entry.source_right) for entry in alternatives if entry.key == key]
        if all(right is not None for right, _ in pairs):
            correct[key] = np.concatenate([right for right, _ in pairs if right is not None])
            source_correct[key] = np.mean([right for _, right in pairs if right is not None], axis=0)
    outcomes, ledger = Outcomes(task.target.groups[test], correct, source_correct), run.ledger
    return Findings(
        outcomes, repairs, thresholds, margins, source_margins, source.report, test, ledger.passes, ledger.seconds, alternatives,
        *ledger.of("repaired"),
    )  # fmt: skip


def predict_selection_and_test(
    task: Task, classifier: Classifier, folds: Sequence[Split], source: Split, run: Run
) -> tuple[Logits, Logits]:
    """Logits on selection and test images of target and source; NaN for the other images."""
    with run.phase("evaluation"):
        rows = np.unique(np.concatenate([part for fold in folds for part in (fold.choose, fold.report)]))
        return (
            predict_logits(classifier, task.target, run, rows=rows),
            predict_logits(classifier, task.source, run, rows=np.concatenate([source.choose, source.report])),
        )


def repair_folds(
    task: Task, model: LoadedModel, column: str, folds: Sequence[Split], source: Split, run: Run
) -> tuple[list[RepairedNetwork], Booleans, Floats]:
    """The network repaired on every fold, and which test images of target and source are classified correctly."""
    networks, correct, source_correct = [], [], np.zeros(len(source.report))
    source_test = task.source.subset(source.report)
    for number, split in enumerate(folds):
        network = repair_one(task, model, column, number, split, source, run.of(f"{column}-fold-{number + 1}"))
        networks.append(network)
        with run.phase("evaluation"):
            test = task.target.subset(split.report)
            correct.append(predict(network.classifier, test, run) == test.labels)
            source_correct += predict(network.classifier, source_test, run) == source_test.labels
    return networks, np.concatenate(correct), source_correct / len(folds)


def select_thresholds(
    task: Task, folds: Sequence[Split], source: Split, margins: Floats, source_margins: Floats, options: Options
) -> list[ThresholdPoint]:
    """The moved threshold of every fold, selected under the guard of the repair; none where there are not two classes."""
    if len(task.target.classes) != 2:
        return []
    return [
        best_threshold(
            margins[fold.choose],
            task.target.labels[fold.choose],
            task.target.groups[fold.choose],
            source_margins[source.choose],
            task.source.labels[source.choose],
            max_source_drop=options.max_clean_drop,
            confidence=GUARD_CONFIDENCE,
        )
        for fold in folds
    ]


def evaluate_alternatives(
    task: Task, folds: Sequence[Split], source: Split, logits: tuple[Logits, Logits], thresholds: Sequence[ThresholdPoint], run: Run
) -> list[AlternativeResult]:
    """All alternatives on every fold in turn; `logits` are those of the original network."""
    results = []
    for number, split in enumerate(folds):
        run.ledger.label = f"instead, fold {number + 1}" if run.settings.folds > 1 else "instead"
        threshold = thresholds[number].threshold if thresholds else 0.0
        part, seed = run.of(f"instead-fold-{number + 1}"), run.settings.seed + number
        results += registry.evaluate(Fold(task.model.classifier, task.target, task.source, split, source, *logits, part, seed, threshold))
    run.ledger.label = ""
    return results


def repair_one(task: Task, model: LoadedModel, column: str, number: int, split: Split, source: Split, run: Run) -> RepairedNetwork:
    """All rounds on one fold. Test images serve the curves and the comparison with baselines only."""
    name = f"{column.replace('_', ' ')}, fold {number + 1}" if run.settings.folds > 1 else column.replace("_", " ")
    goal = selection_goal(task, split, source, run.settings)
    objectives = SubgroupRecall().on(task.target.subset(split.report)), Accuracy().on(task.source.subset(source.report))
    classifier, compared = model.classifier, None
    rounds: list[Round] = []
    removal: Points = ()
    while len(rounds) < run.settings.rounds and (not rounds or rounds[-1].choice.chosen):
        run.ledger.label = f"{name}, round {len(rounds) + 1}" if run.settings.rounds > 1 else name
        part, frozen = run.of(f"round-{len(rounds) + 1}") if rounds else run, sum(one.choice.chosen for one in rounds)
        made = repair_round(
            model,
            classifier,
            rank_by(SubgroupRecall(), run.settings),
            (task.target.subset(split.attribute), task.source.subset(source.attribute)),
            goal,
            part.with_settings(stability=run.settings.stability and not rounds),
            seed=run.settings.seed + number + run.settings.folds * len(rounds),
            earlier=[one.patch for one in rounds],
        )
        path: Points = ()
        if column == "repaired":
            curves, players = AblationCurves(classifier, made, objectives), made.selection.players
            with run.phase("evaluation"):
                if not rounds:
                    removal = curves.freeze(curves.harmful(made.attribution, run), (0, *run.settings.curve), run)
                # none frozen of a later round is the last point of the round before
                path = curves.freeze(players, range(1 if rounds else 0, len(players) + 1), run)
            path = tuple((frozen + count, recall, accuracy) for count, recall, accuracy in path)
            if run.settings.compare:
                compared = curves.compare(goal, run, seed=run.settings.seed + number)
        rounds.append(Round(made.attribution, made.selection, made.patch, path, made.live_range, made.stability, made.reduced_batch))
        classifier = made.classifier
    return RepairedNetwork(number, column, tuple(rounds), classifier, removal, compared)


def selection_goal(task: Task, split: Split, source: Split, settings: Options) -> SelectionGoal:
    """Selection raises subgroup recall; its guard is source accuracy, of which every round may spend an equal share."""
    return SelectionGoal(
        target=SubgroupRecall().on(task.target.subset(split.choose)),
        guard=Accuracy().on(task.source.subset(source.choose)),
        max_drop=settings.max_clean_drop / settings.rounds,
    )


@dataclass(frozen=True, eq=False)
class AblationCurves:
    """Freezes filters of a network as one round received it, and counts the test images that it classifies correctly."""

    classifier: Classifier
    made: RepairRound
    objectives: tuple[ObjectiveSum, ObjectiveSum]  # on the test images of target and source

    def freeze(self, players: Sequence[int], counts: Iterable[int], run: Run) -> Points:
        """The first so many players frozen, for each count."""
        return removal_curve(self.classifier, self.made.game.filters, players, counts, self.objectives, run)

    def harmful(self, values: Attribution, run: Run) -> list[int]:
        """The filters that these values would freeze first, as many as the curve shows."""
        return eligible(self.made.game.filters, values, max(run.settings.curve, default=0))

    def compare(self, goal: SelectionGoal, run: Run, *, seed: int) -> Compared:
        """The round held against baselines, by their curves and by what selection makes of their candidates."""
        filters = self.made.game.filters

        def select(values: Attribution, run: Run) -> Choice:
            return choose_once(self.classifier, filters, suspects(values), goal, run, part="baselines")

        return compare(
            self.made.game,
            self.made.attribution,
            run,
            seed=seed,
            ranking=Ranking(by_harm, lambda values: self.harmful(suspects(values), run)),
            curve=Curve(
                sorted({0, *run.settings.curve}), lambda frozen: correct_with(self.classifier, filters, frozen, self.objectives, run)
            ),
            selecting=Selecting(select, self.made.selection),
        )
