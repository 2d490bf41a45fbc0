"""Adversarial repair from data to findings: attack, value filters against the attack, select, freeze, and attack the result in every way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Literal

import numpy as np
import torch

from repairkit.alternatives import adversarial_training
from repairkit.alternatives.base import PART, AlternativeResult
from repairkit.attacks.generate import AdversarialSet, Booleans
from repairkit.baselines.compare import Compared, Curve, Ranking, Selecting, by_harm, compare, planned, with_after
from repairkit.baselines.rankings import suspects
from repairkit.data.images import labelled_hash
from repairkit.evaluation.ablation import counts_up_to, freeze_first
from repairkit.evaluation.splits import Split
from repairkit.experiments.adversarial import adversaries
from repairkit.experiments.adversarial.adversaries import AttackedNetworks, attack_networks
from repairkit.experiments.adversarial.rounds import (
    Round,
    Rounds,
    Setup,
    fine_tuning_cost,
    objective_on,
    play_rounds,
    probability_drop_bound,
    selection_cost,
)
from repairkit.experiments.attack_task import PARTS, AttackBudget, AttackOptions, AttackTask
from repairkit.models.zoo import normalisation_of
from repairkit.network.classifier import Classifier
from repairkit.network.game import NetworkGame
from repairkit.network.patch import Patch
from repairkit.network.predict import predict
from repairkit.objectives import Accuracy, AttackSuccess
from repairkit.repair.attribute import live_range_planned
from repairkit.repair.choosing import choose_once
from repairkit.repair.screens import screens_of
from repairkit.repair.selection import Choice, eligible
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import ARRAYS
from repairkit.shapley import Attribution
from repairkit.shapley.checkpoint import Arrays
from repairkit.shapley.game import Floats

CORRELATED_SHARE = 0.15
"""Of the budget, for each of the two gradient estimates whose rank correlation is reported."""
CURVE_COUNTS = (3, 16, 30)
"""Numbers of filters at which the trade-off curve is measured beside the usual ones; the paper's figure 3b is of 16."""
Series = Literal["order of choosing", "highest value first"]


@dataclass(frozen=True, eq=False)
class TradeOffCurve:
    """Filters of the first round frozen in one order, on the test images."""

    series: Series
    counts: tuple[int, ...]  # how many were frozen, 0 first; shape (k,)
    hit: Booleans  # (k, N), which replayed images get their target
    clean: Booleans  # (k, M), which clean images are right
    chosen: int | None  # how many the repair froze, where this is the order of selection


@dataclass(frozen=True, eq=False)
class AdversarialFindings:
    """Everything measured; `repairkit.experiments.adversarial.summary` turns it into a result."""

    split: Split  # of the clean images
    made: dict[str, AdversarialSet]  # against the original network, by part; those of the test part are replayed
    rounds: list[Round]  # empty where the attack does not succeed
    ended: str  # why no further round was played, in words; empty where all were
    networks: dict[str, Classifier]  # columns of the report; "repaired" is what is handed over
    clean: dict[str, Booleans]  # for each column, shape (M,), which clean test images are right
    attacked: AttackedNetworks
    curves: list[TradeOffCurve]
    screens: Floats | None  # gradient estimates of attack success and of accuracy for every filter, shape (2, n)
    compared: Compared | None  # the first round with baselines
    hardened: AlternativeResult | None  # cost of adversarial fine-tuning
    passes: dict[str, float]
    seconds: dict[str, float]

    @property
    def trained(self) -> int:
        """After how many rounds the repaired network was trained further, and that was not undone."""
        return sum(played.tuned is not None and played.tuned.kept for played in self.rounds)

    @property
    def patch(self) -> Patch | None:
        """All filters of all rounds (perhaps none), for the original weights; None where no round was played."""
        if not self.rounds:
            return None
        culprits = [culprit for played in self.rounds for culprit in played.patch.culprits]
        return self.rounds[0].patch.model_copy(update={"culprits": culprits})


def plan(task: AttackTask, options: Options, attacks: AttackOptions) -> dict[str, float]:
    """Image passes that a run will make, by part; the evaluation assumes that most images give in to a small eps."""
    setup = Setup.of(task, options, attacks)
    valued, selected, test = (len(setup.rows[part]) for part in PARTS)
    calibrated, guarded = len(setup.split.attribute), len(setup.split.choose)
    measured = test + len(setup.split.report)
    points = len(counts_up_to(attacks.frontier, *CURVE_COUNTS))
    live_range, training = live_range_planned(options, 2), fine_tuning_cost(setup)
    columns = 2 + (task.dropout is not None) + (attacks.finetune_epochs > 0) + options.alternatives
    once = attacks.method.passes + 1
    others = {"carriers": len(task.others), "elsewhere": len(task.elsewhere) if task.elsewhere else 0}
    parts = {
        "attack": once * test + attacks.rounds * (once + 1) * (valued + selected),
        "calibration": float(attacks.rounds * calibrated),
        **{part: attacks.rounds * passes for part, passes in live_range.items()},
        "attribution": attacks.rounds * options.budget,
        "choosing": attacks.rounds * selection_cost(setup, options),
        "fine-tuning": training,
        "correlation": 2 * CORRELATED_SHARE * options.budget,
        "frontier": float((2 * points + 1) * measured),
        "evaluation": columns * len(setup.split.report) + adversaries.cost(attacks.effort, attacks.method, test, columns=columns, **others),
    }
    if options.compare:
        images = valued + (calibrated if attacks.ranking == "success - accuracy" else 0)
        parts["baselines"] = planned(
            options, images=images, points=points, report=measured, choosing=selection_cost(setup, options), before=sum(live_range.values())
        )
    if options.alternatives:
        parts[PART] = adversarial_training.cost(attacks.method, calibrated, selected + guarded)
    return {part: passes for part, passes in parts.items() if passes}


def configuration(task: AttackTask, options: Options, attacks: AttackOptions) -> dict[str, object]:
    """Everything that decides the bits of a run, as JSON can hold it."""
    return options.configuration | {
        "attack": asdict(attacks),
        "models": {name: [model.sha256[:16], *normalisation_of(model)] for name, model in {"": task.model, **task.named_others}.items()},
        "images": labelled_hash(task.images),
        "elsewhere": labelled_hash(task.elsewhere) if task.elsewhere else None,
        "threads": torch.get_num_threads(),
        "version": f"{version('repairkit')} with torch {torch.__version__}",
    }


def repair(task: AttackTask, run: Run, attacks: AttackOptions) -> AdversarialFindings:
    """Attack the network, freeze the filters that let the attack through, and attack the result in every way."""
    setup = Setup.of(task, run.settings, attacks)
    run.ledger.planned = sum(plan(task, run.settings, attacks).values())
    for model in (task.model, *task.others):
        model.classifier.to(memory_format=torch.channels_last)  # faster on a CPU, gradients too
    made = {part: setup.attack(setup.original, part, run) for part in PARTS}
    networks = {"original": setup.original}
    played = Rounds(setup.original, setup.original)
    screens: Floats | None = None
    curves: list[TradeOffCurve] = []
    hardened: AlternativeResult | None = None
    if setup.succeeds(setup.original, made, run):
        played = play_rounds(setup, made, run)
        screens = estimate_parts(setup, played.rounds[0], made["attribute"], run)
        curves = trade_off_curves(setup, played.rounds[0], made["report"], run)
        if any(earlier.choice.chosen for earlier in played.rounds):
            networks |= {"repaired": played.repaired} | ({"finetuned": played.alone} if attacks.finetune_epochs else {})
        if run.settings.alternatives:
            hardened, trained = adversarial_training.adversarial_fine_tune(
                setup.original, attacks.method, setup.clean("attribute"), made["choose"].images, setup.clean("choose"), run,
                fall_bound=probability_drop_bound,
            )  # fmt: skip
            networks |= {} if trained is None else {adversarial_training.DESCRIPTION.key: trained}
    if task.dropout is not None:
        networks["dropout"] = task.dropout.classifier
    clean, attacked = evaluate(setup, networks, made["report"], attacks.effort if played.rounds else None, run)
    compared = compare_first(setup, played.rounds[0], curves, made["report"], run) if played.rounds and run.settings.compare else None
    return AdversarialFindings(
        setup.split, made, played.rounds, played.ended, networks, clean, attacked, curves, screens, compared, hardened, run.ledger.passes, run.ledger.seconds
    )  # fmt: skip


def evaluate(
    setup: Setup, networks: dict[str, Classifier], stored: AdversarialSet, budget: AttackBudget | None, run: Run
) -> tuple[dict[str, Booleans], AttackedNetworks]:
    """Which clean test images every network gets right, and what every threat model does to it."""
    with run.phase("evaluation"):
        report = setup.clean("report")
        right = {name: predict(network, report, run) == report.labels for name, network in networks.items()}
        carriers = {name: model.classifier for name, model in setup.task.named_others.items()}
        attacked = attack_networks(
            networks,
            stored,
            setup.attacked("report"),
            carriers=carriers,
            elsewhere=setup.task.elsewhere,
            budget=budget,
            run=run.of("evaluation"),
        )
    return right, attacked


def estimate_parts(setup: Setup, first: Round, adversarial: AdversarialSet, run: Run) -> Floats:
    """Gradient estimates of the values of attack success alone and of accuracy alone, for every filter; shape (2, n)."""
    parts = [AttackSuccess().on(adversarial.toward_targets), Accuracy().on(setup.clean("attribute"))]
    return screens_of(
        setup.original,
        first.filters,
        dict(enumerate(parts)),
        run.of("correlation"),
        passes=CORRELATED_SHARE * run.settings.budget,
        t0=first.attribution.min_live,
        batch=first.halved or run.settings.batch,
        part="correlation",
    )


def trade_off_curves(setup: Setup, first: Round, stored: AdversarialSet, run: Run) -> list[TradeOffCurve]:
    """Filters frozen in the order of selection (after the selected ones those of highest value), and by value alone."""
    most, run, clean = setup.attacks.frontier, run.of("frontier"), setup.clean("report")
    by_value, chosen = eligible(first.filters, first.attribution, most), first.choice.players
    selected = [*chosen, *(player for player in by_value if player not in chosen)]
    curves = []

    def measure(players: Sequence[int], counts: tuple[int, ...]) -> Arrays:
        network = setup.original, first.filters, players, counts
        return {"hit": freeze_first(*network, stored.images, run, labels=stored.targets), "clean": freeze_first(*network, clean, run)}

    orders: dict[Series, list[int]] = {"order of choosing": selected, "highest value first": by_value}
    for series, order in orders.items():
        players = order[:most]
        counts, frozen = counts_up_to(len(players), *CURVE_COUNTS), None
        if series == "order of choosing":
            counts, frozen = tuple(sorted({*counts, len(chosen)})), len(chosen)
        with run.phase("frontier"):
            curve = run.cached(series.replace(" ", "-"), partial(measure, players, counts), ARRAYS)
        curves.append(TradeOffCurve(series, counts, curve["hit"], curve["clean"], frozen))
    return curves


def compare_first(setup: Setup, first: Round, curves: Sequence[TradeOffCurve], stored: AdversarialSet, run: Run) -> Compared:
    """Baselines beside the Shapley values of the first round: along the trade-off curve, and selecting from their candidates.

    What counts of a replayed image is whether it gets the target, of a clean one whether it is right; replayed images come first.
    """
    classifier, filters, clean = setup.original, first.filters, setup.clean("report")
    objective = objective_on(first.made["attribute"], setup.clean("attribute"), run.settings, setup.attacks)
    game = NetworkGame(classifier, filters, objective, batch=first.halved or run.settings.batch, precision=run.settings.precision)
    outcomes = {curve.series: np.concatenate([curve.hit, curve.clean], axis=1) for curve in curves}
    counts = {curve.series: curve.counts for curve in curves}

    def measure(frozen: Sequence[int]) -> Booleans:
        hit = predict(classifier, stored.images, run, filters=filters, frozen=frozen) == stored.targets
        return np.concatenate([hit, predict(classifier, clean, run, filters=filters, frozen=frozen) == clean.labels])

    def select(attribution: Attribution, run: Run) -> Choice:
        return choose_once(classifier, filters, suspects(attribution), setup.goal(first.made["choose"], run), run, part="baselines")

    compared = compare(
        game,
        first.attribution,
        run.of("round-1"),
        seed=run.settings.seed,
        ranking=Ranking(by_harm, lambda attribution: eligible(filters, suspects(attribution), setup.attacks.frontier)),
        curve=Curve(counts["highest value first"], measure, outcomes["highest value first"]),
        selecting=Selecting(select, first.choice),
    )
    chosen = counts["order of choosing"].index(first.choice.chosen)
    return with_after(compared, outcomes["order of choosing"][chosen].astype(np.float64))
