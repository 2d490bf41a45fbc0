"""Repair a network: value its filters, select harmful ones under a guard, freeze them, and hand back plain weights.

`repair_round` is what every kind of experiment repairs by; `repair` and `attribute` are the same for a user's own network.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError
from repairkit.evaluation.splits import Split
from repairkit.network.classifier import Classifier
from repairkit.network.game import NetworkGame
from repairkit.network.patch import Patch
from repairkit.network.predict import predict
from repairkit.objectives import Accuracy, Objective
from repairkit.objectives.base import CorrectnessObjective
from repairkit.repair.attribute import Attributed, ObjectiveOn, attribute_network, rank_by
from repairkit.repair.choosing import NetworkOrigin, check_guard, choose_once, patch_of, without
from repairkit.repair.evaluation import Evaluation, evaluate
from repairkit.repair.inputs import RepairInputs, check_inputs, split_data
from repairkit.repair.selection import Choice
from repairkit.repair.selection_images import Measure, SelectionGoal
from repairkit.repair.settings import RepairSettings
from repairkit.run.context import Run
from repairkit.shapley import Attribution
from repairkit.shapley.game import Examples, Floats
from repairkit.shapley.live_range import LiveRange
from repairkit.shapley.stability import Stability

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class RepairRound:
    """One time that filters of a network were valued, selected and frozen.

    Attributes:
        game: of the network as this round received it, on the attribution images.
        attribution: values of its filters; 0 for filters of earlier rounds.
        selection: which filters are frozen, and why no more.
        patch: what this round froze; it fits the original weights only after the earlier rounds.
        classifier: with plain weights, the filters of all rounds frozen.
        live_range, stability: where they were measured.
        reduced_batch: images of a pass of the attribution, where memory ran out.
    """

    game: NetworkGame
    attribution: Attribution
    selection: Choice
    patch: Patch
    classifier: Classifier
    live_range: LiveRange | None = None
    stability: Stability | None = None
    reduced_batch: int | None = None


def repair_round(
    origin: NetworkOrigin,
    classifier: Classifier,
    objective: ObjectiveOn,
    images: Sequence[LabelledImages],
    goal: SelectionGoal,
    run: Run,
    *,
    seed: int,
    earlier: Sequence[Patch] = (),
) -> RepairRound:
    """Value the filters on the attribution images, select under the guard, and freeze.

    Args:
        origin: the original weights.
        classifier: the network as the earlier rounds left it.
        objective: makes the objective that ranks filters, of sets such as `images`.
        images: attribution images, the target first; see `attribute_network`.
        goal: of the selection, on the selection images.
        run: costs are booked there, and finished work is stored.
        seed: of this fold and round.
        earlier: patches of the earlier rounds.
    """
    valued = attribute_network(classifier, objective, images, run, seed=seed)
    return freeze_selected(origin, valued, goal, run, earlier=earlier)


def freeze_selected(
    origin: NetworkOrigin, valued: Attributed, goal: SelectionGoal, run: Run, *, earlier: Sequence[Patch] = ()
) -> RepairRound:
    """The rest of a round on a network whose filters are valued: select under the guard, and freeze."""
    game, classifier = valued.game, valued.game.classifier
    attribution = without(valued.attribution, [str(culprit.filter) for patch in earlier for culprit in patch.culprits])
    selection = choose_once(classifier, game.filters, attribution, goal, run)
    patch = patch_of(origin, game, attribution, selection, run.settings.freeze_at)
    repaired = classifier.with_network(patch.apply(classifier.network, check=not earlier))
    reduced_batch = game.batch if game.batch < run.settings.batch else None
    return RepairRound(game, attribution, selection, patch, repaired, valued.live_range, valued.stability, reduced_batch)


@dataclass(frozen=True, eq=False, repr=False)
class Repair:
    """What a repair found and made.

    Attributes:
        inputs: the network and the images as they were given.
        objective: what was to be improved.
        split, source_split: of the data and of the source; None where the data guard themselves.
        round: values, selection and the repaired network.
        run: settings and costs.
    """

    inputs: RepairInputs
    objective: Objective
    split: Split
    source_split: Split | None
    round: RepairRound
    run: Run

    @property
    def attribution(self) -> Attribution:
        """The value of every filter, on the attribution images."""
        return self.round.attribution

    @property
    def selection(self) -> Choice:
        """Which filters are frozen, and why no more."""
        return self.round.selection

    @property
    def patch(self) -> Patch:
        """The frozen filters; `patch.write(path)` makes a small JSON file of them."""
        return self.round.patch

    @property
    def culprits(self) -> pd.DataFrame:
        """The frozen filters in the order of their selection: layer, channel, constant, value, half_width."""
        import pandas as pd

        columns = ["layer", "channel", "constant", "value", "half_width"]
        return pd.DataFrame([culprit.model_dump(include=set(columns)) for culprit in self.patch.culprits], columns=columns)

    def model(self) -> nn.Module:
        """A new module of the same architecture with plain repaired weights, in eval mode; the user's module stays as it is."""
        return self.inputs.handed_back(self.round.classifier)

    @cached_property
    def _evaluation(self) -> Evaluation:
        test = self.inputs.data.subset(self.split.report)
        source = None
        if self.inputs.source is not None and self.source_split is not None:
            source = self.inputs.source.subset(self.source_split.report)
        with self.run.phase("evaluation"):
            outcomes = [
                tuple(
                    predict(classifier, images, self.run) == images.labels for classifier in (self.inputs.classifier, self.round.classifier)
                )
                for images in (test, *([source] if source is not None else []))
            ]
        settings = self.run.settings
        return evaluate(
            self.objective,
            test,
            outcomes,
            frozen=len(self.patch.culprits),
            max_drop=settings.max_clean_drop,
            level=settings.level,
            seed=settings.seed,
        )

    def evaluate(self) -> Evaluation:
        """Before and after on the test images: shares with n and interval, paired differences with claims, and what got worse."""
        return self._evaluation

    def report(self, path: str | Path) -> None:
        """Write the report, as a page for a name that ends in .html, as Markdown for one in .md (figures lie beside it).

        Raises:
            UsageError: another ending.
        """
        from repairkit.repair.report import write_report

        write_report(self, Path(path))

    def save(self, directory: str | Path) -> None:
        """Write weights, patch, attribution, result and report into a new directory, all of them or none.

        Raises:
            UsageError: the directory exists and is not empty.
        """
        from repairkit.repair.report import save

        save(self, Path(directory))

    def __repr__(self) -> str:
        frozen = [str(culprit.filter) for culprit in self.patch.culprits]
        return f"Repair({self.inputs.architecture}, objective={self.objective!r}, frozen={frozen})"

    def _repr_html_(self) -> str:
        """The frozen filters as a table, for notebooks."""
        return f"<p>{html.escape(repr(self.objective))}: {html.escape(self.selection.reason)}</p>{self.culprits.to_html(index=False)}"


def repair(
    model: nn.Module,
    data: LabelledImages,
    objective: Objective,
    *,
    source: LabelledImages | None = None,
    max_accuracy_drop: float | None = None,
    split: Split | None = None,
    settings: RepairSettings | None = None,
    run: Run | None = None,
) -> Repair:
    """Find the filters that harm an objective, and freeze those that are worth it.

    Args:
        model: takes images in [0, 1] of shape (n, 3, height, width) and returns logits; or a `Classifier`. It is copied, never changed.
        data: images that the objective is of.
        objective: what to improve, for instance `SubgroupRecall()`.
        source: images of what the network must go on doing; `data` unless given.
        max_accuracy_drop: guard, a share: the one-sided 90 % bound on the loss of accuracy on the source; that of the settings unless given.
        split: of the data into attribution, selection and test images; 40, 20 and 40 % unless given.
        settings: every other choice.
        run: of an experiment, in place of settings.

    Raises:
        UsageError: an argument of another type, or settings and a run.
        DataError: images that do not fit, or too few for the guard.
        ModelError: a network without convolutions, or one that does not fit the images.
    """
    run = _started(settings, run)
    if max_accuracy_drop is not None:
        run = run.with_settings(max_clean_drop=max_accuracy_drop)
    inputs = check_inputs(model, data, objective, source)
    split, source_split = split_data(inputs, split, shares=run.settings.target_shares, seed=run.settings.seed)
    images, guard = [data.subset(split.attribute)], data.subset(split.choose)
    if source is not None and source_split is not None:
        images, guard = [*images, source.subset(source_split.attribute)], source.subset(source_split.choose)
    check_guard(len(guard), run.settings.max_clean_drop, guard.name, option="max_accuracy_drop")
    goal = selection_goal(objective, data.subset(split.choose), guard)
    done = repair_round(inputs, inputs.classifier, rank_by(objective, run.settings), images, goal, run, seed=run.settings.seed)
    return Repair(inputs, objective, split, source_split, done, run)


def attribute(
    model: nn.Module,
    data: LabelledImages,
    objective: Objective,
    *,
    source: LabelledImages | None = None,
    settings: RepairSettings | None = None,
    run: Run | None = None,
) -> Attribution:
    """The value of every filter for an objective, on all images; arguments and errors as for `repair`."""
    run = _started(settings, run)
    inputs = check_inputs(model, data, objective, source)
    images = [data] if source is None else [data, source]
    return attribute_network(inputs.classifier, rank_by(objective, run.settings), images, run, seed=run.settings.seed).attribution


def selection_goal(objective: Objective, images: LabelledImages, guard: LabelledImages) -> SelectionGoal:
    """Selection lowers what is harmful and raises everything else; its guard is accuracy."""
    target = (-objective.harmful) * objective.on(images)
    measure = None if isinstance(objective, CorrectnessObjective) else _score_then_probability(objective, images, guard)
    return SelectionGoal(target=target, guard=Accuracy().on(guard), measure=measure)


def _score_then_probability(objective: Objective, images: LabelledImages, guard: LabelledImages) -> Measure:
    """The objective's score of its own images, and the probability of the label of the guard's."""
    labels = np.concatenate([images.labels, guard.labels])

    def measure(logits: Tensor, examples: Examples) -> Floats:
        logits = logits.double().cpu()
        wanted = torch.from_numpy(labels[examples])
        probability = logits.softmax(dim=1).gather(1, wanted[:, None])[:, 0]
        measured: Floats = torch.where(torch.from_numpy(examples < len(images)), objective.score(logits, wanted), probability).numpy()
        return measured

    return measure


def _started(settings: RepairSettings | None, run: Run | None) -> Run:
    """The run that was given, or one by the settings."""
    if settings is not None and run is not None:
        raise UsageError("expected settings or a run, got both; a run holds its settings, leave one out")
    return run or Run.start((settings or RepairSettings()).options())
