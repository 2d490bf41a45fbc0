"""Baselines beside the Shapley values of the first round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from repairkit.attacks.generate import Attacked, Booleans
from repairkit.baselines.compare import Compared, by_harm, compare, with_after
from repairkit.baselines.rankings import suspects
from repairkit.evaluation.ablation import said_with
from repairkit.evaluation.splits import Split
from repairkit.experiments.adversarial.objective import worth_on
from repairkit.experiments.adversarial.rounds import Round, choose_against
from repairkit.experiments.adversarial.task import AdversarialTask, AttackOptions
from repairkit.experiments.adversarial.trade_off import FrontierLine
from repairkit.experiments.options import Options
from repairkit.network.game import ModelGame
from repairkit.repair.selection import eligible
from repairkit.run.ledger import Clock
from repairkit.run.store import Unfinished


def compare_first(
    task: AdversarialTask,
    rounds: Sequence[Round],
    frontier: Sequence[FrontierLine],
    stored: Attacked,
    split: Split,
    options: Options,
    attacks: AttackOptions,
    clock: Clock,
    unfinished: Unfinished | None = None,
) -> Compared | None:
    """Baselines beside the Shapley values of the first round: along the frontier, and choosing from their candidates.

    What is counted of a stored image is whether it gets the target, of a clean one whether it is right; stored images come first. None where
    nobody asked or no round was played.
    """
    if not rounds or not options.compare:
        return None
    first = rounds[0]
    classifier, filters = task.model.classifier, first.filters
    clean = task.images.subset(split.report)
    worth = worth_on(first.made["attribute"], task.images.subset(split.attribute), options, attacks)
    game = ModelGame(classifier, filters, worth, batch=first.halved or options.batch, precision=options.precision)
    counted = {line.series: np.concatenate([line.hit, line.clean], axis=1) for line in frontier}
    lines = {line.series: line for line in frontier}

    def measure(frozen: Sequence[int]) -> Booleans:
        players = np.array(frozen, dtype=np.int64)
        hit = said_with(classifier, filters, stored.images, players, options.batch) == stored.targets
        return np.concatenate([hit, said_with(classifier, filters, clean, players, options.batch) == clean.labels])

    compared = compare(
        game,
        first.attribution,
        options,
        seed=options.seed,
        counts=lines["highest value first"].counts,
        score=by_harm,
        order=lambda found: eligible(filters, suspects(found), attacks.frontier),
        measure=measure,
        clock=clock,
        right=counted["highest value first"],
        choose=lambda found, by, own: choose_against(
            task, classifier, filters, suspects(found), first.made["choose"], split, by, attacks, clock, own, part="baselines"
        ),
        choice=first.choice,
        kept=unfinished.network("round-1") if unfinished else None,
    )
    chosen = lines["order of choosing"].counts.index(first.choice.chosen)
    return with_after(compared, counted["order of choosing"][chosen].astype(np.float64))
