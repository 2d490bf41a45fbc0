"""An adversarial repair of the toy network of `brittle`, small enough for tests."""

from dataclasses import replace
from functools import cache

import brittle

from repairkit.attacks.methods import PGD
from repairkit.experiments.adversarial.run import repair
from repairkit.experiments.adversarial.summary import summarise
from repairkit.experiments.attack_task import AttackBudget, AttackOptions, AttackTask
from repairkit.run.context import Run
from repairkit.run.options import Options

OPTIONS = Options(budget=2500, top=4, contested=8, t0=0.5, target_shares=(0.3, 0.3, 0.4), max_clean_drop=0.05, candidates=8)
ATTACKS = AttackOptions(
    method=PGD(steps=6, step=6 / 255),
    images=(30, 30, 40),
    frontier=6,
    effort=AttackBudget(carried=20, adaptive=16, restarts=1, queries=20, apgd_steps=5, checked=4),
)
LITTLE = replace(ATTACKS, effort=AttackBudget(carried=4, adaptive=4, restarts=1, queries=1, apgd_steps=1, checked=1))
"""For tests of what comes before the evaluation."""


def task(*, fragile: bool = True) -> AttackTask:
    return AttackTask(brittle.model(brittle=fragile), brittle.images(50), elsewhere=brittle.images(5, seed=9, name="other colours"))


def result_of(task, options, attacks, findings):
    return summarise(task, options, attacks, findings, title="Toy", command="repairkit adversarial", minutes=0.1, notices=[])


@cache
def repaired():
    """Task, findings and result of one repair, which tests share."""
    return _repair(OPTIONS)


@cache
def beside():
    """The same with adversarial fine-tuning beside it."""
    return _repair(replace(OPTIONS, alternatives=True))


def _repair(options):
    toy = task()
    findings = repair(toy, Run.start(options), ATTACKS)
    return toy, findings, result_of(toy, options, ATTACKS, findings)
