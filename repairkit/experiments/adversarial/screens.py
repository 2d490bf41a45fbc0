"""Attack success and accuracy apart: gradient estimates of both values of every filter, whose rank correlation is reported."""

from __future__ import annotations

from repairkit.attacks.generate import Attacked
from repairkit.evaluation.splits import Split
from repairkit.experiments.adversarial.rounds import Round
from repairkit.experiments.adversarial.task import AdversarialTask
from repairkit.experiments.options import Options
from repairkit.objectives import Accuracy, AttackSuccess
from repairkit.repair.screens import screens_of
from repairkit.run.ledger import Clock
from repairkit.run.store import Unfinished
from repairkit.shapley.game import Floats

CORRELATED_SHARE = 0.15
"""Of the budget, for each of the two screens whose rank correlation is reported."""


def part_screens(
    task: AdversarialTask,
    first: Round,
    made: dict[str, Attacked],
    split: Split,
    options: Options,
    clock: Clock,
    unfinished: Unfinished | None = None,
) -> Floats:
    """Gradient estimates of the values of attack success alone and of accuracy alone, for every filter; shape (2, n)."""
    parts = [AttackSuccess().on(made["attribute"].toward_targets), Accuracy().on(task.images.subset(split.attribute))]
    return screens_of(
        task.model.classifier,
        first.filters,
        dict(enumerate(parts)),
        options,
        passes=CORRELATED_SHARE * options.budget,
        t0=first.attribution.t0,
        batch=first.halved or options.batch,
        clock=clock,
        part="correlation",
        kept=unfinished.network("correlation") if unfinished else None,
    )
