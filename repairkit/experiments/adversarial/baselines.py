"""Baselines beside the Shapley values of the first round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from repairkit.attacks.generate import Attacked, Booleans
from repairkit.baselines.compare import Compared, Curve, Ranking, Selecting, by_harm, compare, with_after
from repairkit.baselines.rankings import suspects
from repairkit.evaluation.splits import Split
from repairkit.experiments.adversarial.objective import worth_on
from repairkit.experiments.adversarial.rounds import Round, selection_goal
from repairkit.experiments.adversarial.task import AdversarialTask, AttackOptions
from repairkit.experiments.adversarial.trade_off import FrontierLine
from repairkit.network.game import NetworkGame
from repairkit.network.predict import predict
from repairkit.repair.choosing import choose_once
from repairkit.repair.selection import Choice, eligible
from repairkit.run.context import Run
from repairkit.shapley import Attribution


def compare_first(
    task: AdversarialTask,
    rounds: Sequence[Round],
    frontier: Sequence[FrontierLine],
    stored: Attacked,
    split: Split,
    run: Run,
    attacks: AttackOptions,
) -> Compared | None:
    """Baselines beside the Shapley values of the first round: along the frontier, and choosing from their candidates.

    What is counted of a stored image is whether it gets the target, of a clean one whether it is right; stored images come first. None where
    nobody asked or no round was played.
    """
    if not rounds or not run.settings.compare:
        return None
    first = rounds[0]
    classifier, filters = task.model.classifier, first.filters
    clean = task.images.subset(split.report)
    worth = worth_on(first.made["attribute"], task.images.subset(split.attribute), run.settings, attacks)
    game = NetworkGame(classifier, filters, worth, batch=first.halved or run.settings.batch, precision=run.settings.precision)
    counted = {line.series: np.concatenate([line.hit, line.clean], axis=1) for line in frontier}
    lines = {line.series: line for line in frontier}

    def measure(frozen: Sequence[int]) -> Booleans:
        hit = predict(classifier, stored.images, run, filters=filters, frozen=frozen) == stored.targets
        return np.concatenate([hit, predict(classifier, clean, run, filters=filters, frozen=frozen) == clean.labels])

    def choose(found: Attribution, run: Run) -> Choice:
        goal = selection_goal(task, first.made["choose"], split, run, attacks)
        return choose_once(classifier, filters, suspects(found), goal, run, part="baselines")

    compared = compare(
        game,
        first.attribution,
        run.of("round-1"),
        seed=run.settings.seed,
        ranking=Ranking(by_harm, lambda found: eligible(filters, suspects(found), attacks.frontier)),
        curve=Curve(lines["highest value first"].counts, measure, counted["highest value first"]),
        selecting=Selecting(choose, first.choice),
    )
    chosen = lines["order of choosing"].counts.index(first.choice.chosen)
    return with_after(compared, counted["order of choosing"][chosen].astype(np.float64))
