"""Attack success and accuracy apart: gradient estimates of both values of every filter, whose rank correlation is reported."""

from __future__ import annotations

from repairkit.attacks.generate import Attacked
from repairkit.evaluation.splits import Split
from repairkit.experiments.adversarial.rounds import Round
from repairkit.experiments.adversarial.task import AdversarialTask
from repairkit.objectives import Accuracy, AttackSuccess
from repairkit.repair.screens import screens_of
from repairkit.run.context import Run
from repairkit.shapley.game import Floats

CORRELATED_SHARE = 0.15
"""Of the budget, for each of the two screens whose rank correlation is reported."""


def part_screens(task: AdversarialTask, first: Round, made: dict[str, Attacked], split: Split, run: Run) -> Floats:
    """Gradient estimates of the values of attack success alone and of accuracy alone, for every filter; shape (2, n)."""
    parts = [AttackSuccess().on(made["attribute"].toward_targets), Accuracy().on(task.images.subset(split.attribute))]
    return screens_of(
        task.model.classifier,
        first.filters,
        dict(enumerate(parts)),
        run.of("correlation"),
        passes=CORRELATED_SHARE * run.settings.budget,
        t0=first.attribution.min_live,
        batch=first.halved or run.settings.batch,
        part="correlation",
    )
