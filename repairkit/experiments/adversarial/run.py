"""Adversarial repair from data to findings: attack, find filters against the attack, choose, freeze, and be judged by other adversaries."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version

import torch

from repairkit.alternatives import adversarial_training
from repairkit.alternatives.base import PART, AlternativeResult
from repairkit.attacks.generate import Attacked, Booleans, attack, draw_targets
from repairkit.baselines.compare import Compared, planned
from repairkit.data.images import labelled_hash
from repairkit.evaluation.ablation import counts_up_to
from repairkit.evaluation.splits import Split
from repairkit.experiments.adversarial.adversaries import Judged, judge
from repairkit.experiments.adversarial.baselines import compare_first
from repairkit.experiments.adversarial.feasibility import out_of_reach, won
from repairkit.experiments.adversarial.rounds import Round, fall_bound_of, find_and_freeze, tune
from repairkit.experiments.adversarial.screens import CORRELATED_SHARE, part_screens
from repairkit.experiments.adversarial.task import PARTS, AdversarialTask, AttackOptions, attacked_rows, split_of
from repairkit.experiments.adversarial.trade_off import FRONTIER, FrontierLine, frontier_of
from repairkit.models.zoo import normalisation_of
from repairkit.network.classifier import Classifier
from repairkit.network.patch import Patch
from repairkit.network.predict import predict
from repairkit.repair.attribute import live_range_planned
from repairkit.repair.choosing import DOWNSTREAM
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.shapley.game import GRADIENT_COST, Floats


@dataclass(frozen=True, eq=False)
class AdversarialFindings:
    """Everything measured; `repairkit.experiments.adversarial.summary` turns it into a result.

    Attributes:
        split: clean images that find, choose and report.
        made: the adversarial images against the network as it was given, by part; `report` are those that are replayed.
        rounds: empty where the attack does not fool the network.
        networks: the columns of the report; "repaired" is what is handed over.
        clean: for each column bool, shape (M,), who is right on the clean report images.
        judged: what every adversary did to every column.
        frontier: of the filters of the first round.
        screens: of attack success and of accuracy for every filter, shape (2, n).
        ended: why no further round was played, in words; empty where all were.
        compared: the first round with baselines; None where nobody asked, or no round was played.
        hardened: what adversarial fine-tuning cost; None where nobody asked, or the attack does not fool the network.
    """

    split: Split
    made: dict[str, Attacked]
    rounds: list[Round]
    networks: dict[str, Classifier]
    clean: dict[str, Booleans]
    judged: Judged
    frontier: list[FrontierLine]
    screens: Floats | None
    ended: str
    compared: Compared | None
    passes: dict[str, float]
    seconds: dict[str, float]
    hardened: AlternativeResult | None = None

    @property
    def trained(self) -> int:
        """After how many rounds the repaired network was trained further, and that was not undone."""
        return sum(each.tuned is not None and each.tuned.kept for each in self.rounds)

    @property
    def patch(self) -> Patch | None:
        """All filters of all rounds (perhaps none), for the weights as they were given; None where no round was played."""
        if not self.rounds:
            return None
        culprits = [culprit for each in self.rounds for culprit in each.patch.culprits]
        return self.rounds[0].patch.model_copy(update={"culprits": culprits})


def plan(task: AdversarialTask, options: Options, attacks: AttackOptions) -> dict[str, float]:
    """Image passes that a run will make, by part.

    Choosing assumes a path of as many filters as may be frozen, each of which asks half of the candidates again; the evaluation assumes that
    most images give in to a small eps.
    """
    split = split_of(task, options, attacks)
    sizes = {name: len(rows) for name, rows in attacked_rows(task, split, options, attacks).items()}
    attacked = attacks.method.passes + 1
    scored = 2 * sizes["choose"]
    steps = options.max_filters
    choosing = scored * (1 + steps + DOWNSTREAM * steps / 2 * options.candidates) + steps * len(split.choose)
    columns = 2 + (task.dropout is not None) + (attacks.finetune_epochs > 0) + options.alternatives
    points = 2 * len(counts_up_to(attacks.frontier, *FRONTIER)) + 1
    training = GRADIENT_COST * attacks.finetune_epochs * len(split.attribute) * 2 * attacks.rounds
    training += 2 * len(split.choose) * attacks.rounds if training else 0
    compared = planned(
        options,
        images=sizes["attribute"] + (len(split.attribute) if attacks.ranking == "success - accuracy" else 0),
        points=len(counts_up_to(attacks.frontier, *FRONTIER)),
        report=sizes["report"] + len(split.report),
        choosing=choosing,
        before=sum(live_range_planned(options, 2).values()),
    )
    return (
        {"attack": attacked * sizes["report"] + attacks.rounds * (attacked + 1) * (sizes["attribute"] + sizes["choose"])}
        | {"calibration": float(attacks.rounds * len(split.attribute))}
        | live_range_planned(options, 2 * attacks.rounds)
        | {"attribution": attacks.rounds * options.budget, "correlation": 2 * CORRELATED_SHARE * options.budget}
        | {"choosing": attacks.rounds * choosing}
        | ({"fine-tuning": training} if training else {})
        | {"frontier": float(points * (sizes["report"] + len(split.report)))}
        | ({"baselines": compared} if options.compare else {})
        | (
            {PART: adversarial_training.cost(attacks.method, len(split.attribute), sizes["choose"] + len(split.choose))}
            if options.alternatives
            else {}
        )
        | {
            "evaluation": columns * len(split.report)
            + attacks.effort.passes(
                attacks.method,
                sizes["report"],
                columns=columns,
                carriers=len(task.others),
                elsewhere=len(task.elsewhere) if task.elsewhere else 0,
            )
        }
    )


def configuration(task: AdversarialTask, options: Options, attacks: AttackOptions) -> dict[str, object]:
    """Everything that decides the bits of a run, as JSON can hold it."""
    return options.configuration | {
        "attack": asdict(attacks),
        "models": {name: [each.sha256[:16], *normalisation_of(each)] for name, each in {"": task.model, **task.named_others}.items()},
        "images": labelled_hash(task.images),
        "elsewhere": labelled_hash(task.elsewhere) if task.elsewhere else None,
        "threads": torch.get_num_threads(),
        "version": f"{version('repairkit')} with torch {torch.__version__}",
    }


def repair(task: AdversarialTask, run: Run, attacks: AttackOptions) -> AdversarialFindings:
    """Attack the network, freeze the filters that let the attack through, and judge the result by adversaries of every kind.

    Args:
        task: networks and images.
        run: of its settings, `target_shares` cut the clean images.
        attacks: of the adversary and the evaluation.
    """
    split = split_of(task, run.settings, attacks)
    run.ledger.planned = sum(plan(task, run.settings, attacks).values())
    rows = attacked_rows(task, split, run.settings, attacks)
    targets = draw_targets(task.images.labels, len(task.images.classes), run.settings.seed)

    def attacked(classifier: Classifier, part: str) -> Attacked:
        given = task.images.subset(rows[part]), targets[rows[part]], attacks.method
        with run.phase("attack"):
            return attack(classifier, *given, batch=run.settings.batch, seed=run.settings.seed, run=run.of("attack"))

    for each in (task.model, *task.others):
        each.classifier.to(memory_format=torch.channels_last)  # faster on a CPU, gradients too
    original = task.model.classifier
    made = {part: attacked(original, part) for part in PARTS}
    networks = {"original": original}
    rounds: list[Round] = []
    screens: Floats | None = None
    frontier: list[FrontierLine] = []
    ended = ""
    hardened: AlternativeResult | None = None
    if won(task, original, made, rows, run):
        repaired = alone = original
        for number in range(attacks.rounds):
            own = run.of(f"round-{number + 1}")
            run.ledger.label = f"round {number + 1}" if attacks.rounds > 1 else ""
            against = made if number == 0 else {part: attacked(repaired, part) for part in PARTS[:2]}
            if number and (ended := out_of_reach(task, repaired, against, rows, run)):
                ended = f"in round {number + 1} {ended}"
                break
            found, repaired = find_and_freeze(task, repaired, against, split, own, attacks, rounds)
            rounds.append(found)
            if not found.choice.chosen:
                ended = f"in round {number + 1} no filter was worth freezing"
                break
            if attacks.finetune_epochs:
                repaired, alone, rounds[-1] = tune(task, repaired, alone, rounds, split, own, attacks)
        run.ledger.label = ""
        screens = part_screens(task, rounds[0], made, split, run)
        frontier = list(frontier_of(task, rounds[0], made["report"], split, run, attacks))
        if any(each.choice.chosen for each in rounds):
            networks |= {"repaired": repaired} | ({"finetuned": alone} if attacks.finetune_epochs else {})
        if run.settings.alternatives:
            hardened = harden(task, networks, made, split, run, attacks)
    if task.dropout is not None:
        networks["dropout"] = task.dropout.classifier
    with run.phase("evaluation"):
        report = task.images.subset(split.report)
        right = {name: predict(each, report, run) == report.labels for name, each in networks.items()}
        judged = judge(
            networks,
            made["report"],
            task.images.subset(rows["report"]),
            carriers={name: each.classifier for name, each in task.named_others.items()},
            elsewhere=task.elsewhere,
            effort=attacks.effort if rounds else None,
            run=run.of("evaluation"),
        )
    compared = compare_first(task, rounds, frontier, made["report"], split, run, attacks)
    return AdversarialFindings(
        split, made, rounds, networks, right, judged, frontier, screens, ended, compared, run.ledger.passes, run.ledger.seconds, hardened
    )


def harden(
    task: AdversarialTask, networks: dict[str, Classifier], made: dict[str, Attacked], split: Split, run: Run, attacks: AttackOptions
) -> AlternativeResult:
    """Adversarial fine-tuning of the original network, which is added to the networks where it could be had."""
    result, network = adversarial_training.adversarial_fine_tune(
        task.model.classifier,
        attacks.method,
        task.images.subset(split.attribute),
        made["choose"].images,
        task.images.subset(split.choose),
        run,
        fall_bound=fall_bound_of,
    )
    if network is not None:
        networks[adversarial_training.DESCRIPTION.key] = network
    return result
