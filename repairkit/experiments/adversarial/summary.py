"""From findings to a result: the words and numbers of a report on an adversarial repair."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from repairkit.alternatives import report as instead
from repairkit.alternatives.adversarial_training import DESCRIPTION as HARDENED
from repairkit.attacks.words import CLEAN, SUCCESS, TRANSFERRED, TRANSFERRED_TITLE
from repairkit.baselines.evaluation import comparison
from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.metrics import Metric, rank_correlation
from repairkit.evaluation.statistics import wilson
from repairkit.experiments.adversarial import evaluation
from repairkit.experiments.adversarial.adversaries import Attempt
from repairkit.experiments.adversarial.objective import CEILING
from repairkit.experiments.adversarial.result import AdversarialExtra, AdversarialResult, Adversary, FrontierPoint, RankCorrelation
from repairkit.experiments.adversarial.rounds import PRICES
from repairkit.experiments.adversarial.run import AdversarialFindings
from repairkit.experiments.adversarial.screens import CORRELATED_SHARE
from repairkit.experiments.adversarial.task import PARTS, AdversarialTask, AttackOptions
from repairkit.experiments.adversarial.verdict import epochs_of, not_fooled
from repairkit.experiments.adversarial.verdict import verdict as conclude
from repairkit.experiments.records import COLUMNS, SCORES, by_column, guarantees_of, make_reproduction, value_histogram
from repairkit.report.formatting import limit
from repairkit.result import Alternative, Column, Comparison, Cost, Difference, FrozenFilter, Verdict
from repairkit.run.options import Options

BOTH_VALUES = "attack-success and accuracy values (gradient screens of every filter that moves either)"
RANKINGS = {
    "success - accuracy": "target success on the stored adversarial images minus clean accuracy (the default)",
    "success": "target success on the stored adversarial images alone (the paper's)",
}
EXPLANATIONS = COLUMNS | {
    HARDENED.key: (HARDENED.label, HARDENED.explanation),
    "finetuned": (
        "Fine-tuned alone",
        "The original network trained on the clean attribution images, with no filter frozen.",
    ),
}


def summarise(
    task: AdversarialTask,
    options: Options,
    attacks: AttackOptions,
    findings: AdversarialFindings,
    *,
    title: str,
    command: str,
    minutes: float,
    notices: list[str],
) -> AdversarialResult:
    """The result of a run; all arithmetic of the report happens here."""
    attempts, level = findings.judged.attempts, options.level
    adversaries = list(adversaries_of(attempts))
    shares = evaluation.shares(attempts, findings.clean, level)
    differences = evaluation.differences(attempts, findings.clean, level)
    strengths = evaluation.strengths(findings.judged.sweeps, findings.judged.checks)
    frozen = findings.patch.culprits if findings.patch else []
    verdict: Verdict
    rows, decisive = alternatives(findings), [entry for entry in differences if entry.group in (None, *evaluation.FIXED)]
    name = naming(findings)
    if findings.rounds:
        undone = sum(each.tuned is not None and not each.tuned.kept for each in findings.rounds)
        verdict = conclude(
            differences,
            attempts,
            strengths,
            filters=len(frozen),
            epochs=attacks.finetune_epochs * findings.trained,
            undone=attacks.finetune_epochs * undone,
            eps=attacks.method.eps,
            allowed=options.max_clean_drop,
            level=level,
        )
    else:
        replayed = next(share for share in shares if (share.metric, share.group) == (SUCCESS, "replay"))
        verdict = not_fooled(replayed, [(int(findings.made[part].hit.sum()), len(findings.made[part])) for part in PARTS[:2]], level)
    return AdversarialResult(
        kind="adversarial",
        title=title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=notices,
        level=level,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective=RANKINGS[attacks.ranking],
        verdict=instead.with_alternatives(
            verdict, rows, decisive, level=level, name=name, decisive=[name(entry) for entry in decisive if entry.group == "replay"]
        ),
        columns=[
            Column(key=key, label=instead.column_heading(key, EXPLANATIONS[key][0], rows), explanation=explanation(key, attacks, findings))
            for key in findings.networks
        ],
        groups=[adversary.key for adversary in adversaries],
        shares=shares,
        differences=differences,
        frozen=[FrozenFilter(fold=0, column="repaired", **culprit.model_dump()) for culprit in frozen],
        histograms=[value_histogram([each.attribution for each in findings.rounds], [each.value for each in frozen])]
        if findings.rounds
        else [],
        method=(method(task, options, attacks, findings) if findings.rounds else []) + instead.method(rows),
        costs=[Cost(part=part, passes=findings.passes.get(part, 0.0), seconds=seconds) for part, seconds in findings.seconds.items()],
        alternatives=rows,
        guarantees=[entry for each in findings.rounds for entry in guarantees_of(each.attribution, "repaired", 0)],
        limits=limits(task, options, attacks, findings) + instead.limits(rows),
        reproduction=make_reproduction(
            options,
            command=command,
            minutes=minutes,
            hashes={"model": task.model.sha256, "images": data_hash(task.images)}
            | {name: each.sha256 for name, each in task.named_others.items()}
            | {f"adversarial images ({part})": data_hash(made.images) for part, made in findings.made.items()}
            | ({"another data set": data_hash(task.elsewhere)} if task.elsewhere else {}),
            settings={"ranking": attacks.ranking}
            | {name: str(value) for name, value in vars(attacks).items() if name not in ("method", "effort", "ranking")}
            | {f"attack {name}": str(value) for name, value in attacks.method.record().items()}
            | {f"effort {name}": str(value) for name, value in vars(attacks.effort).items()},
        ),
        comparisons=by_column("repaired", compared(options, attacks, findings)),
        extra=AdversarialExtra(
            images=f"{task.images.name}, {len(task.images):,} images of {len(np.unique(task.images.labels)):,} classes",
            parts={
                part: f"{len(getattr(findings.split, part)):,} clean images, {len(findings.made[part]):,} of them attacked"
                for part in PARTS
            },
            attack=attack_in_words(attacks),
            adversaries=adversaries,
            frontier=list(frontier(findings, level)),
            sweep=evaluation.sweep_points(findings.judged.sweeps, level),
            strengths=strengths,
            correlation=None
            if findings.screens is None or (found := rank_correlation(findings.screens, level, BOTH_VALUES)) is None
            else RankCorrelation(of=found.of, n=found.n, value=found.value),
        ),
    )


def adversaries_of(attempts: Sequence[Attempt]) -> Iterator[Adversary]:
    """A row for each, and after the attacks that are carried over one for their mean."""
    averaged = evaluation.transferred(attempts)
    for attempt in attempts:
        yield Adversary(
            key=attempt.key,
            kind=attempt.kind,
            title=attempt.title,
            description=attempt.description,
            targeted=attempt.targeted,
            n=attempt.n,
            passes=attempt.passes,
        )
        if averaged and attempt is averaged[-1]:
            yield Adversary(
                key=TRANSFERRED,
                kind="transfer",
                title=TRANSFERRED_TITLE,
                description=f"for each image the mean over the {len(averaged)} attacks that are carried over to it; they share their images, so that intervals "
                "are over images",
                targeted=True,
                n=attempt.n,
                passes=sum(each.passes for each in averaged),
            )


def compared(options: Options, attacks: AttackOptions, findings: AdversarialFindings) -> Comparison | None:
    """The first round held against baselines; None where nobody asked."""
    if findings.compared is None:
        return None
    first = findings.frontier[0]
    strata = np.repeat(["stored", "clean"], [first.hit.shape[1], first.clean.shape[1]])
    success = Metric(SUCCESS, strata, {"stored": 1.0}, lower_is_better=True)
    accuracy = Metric(CLEAN, strata, {"clean": 1.0})
    weights = {"stored": 1.0, "clean": -1.0}
    both = Metric(f"{SUCCESS} minus {CLEAN}", strata, weights, lower_is_better=True, sizes=f"{success.n} stored and {accuracy.n} clean")
    return comparison(
        findings.compared,
        both if attacks.ranking == "success - accuracy" else success,
        order="most harmful first",
        before=np.concatenate([first.hit[0], first.clean[0]]).astype(np.float64),
        judged=(success, accuracy),
        strategy=options.strategy,
        level=options.level,
        seed=options.seed,
    )


def alternatives(findings: AdversarialFindings) -> list[Alternative]:
    """The repair beside adversarial fine-tuning and the other networks; empty where nobody asked, or the attack fools nobody."""
    if findings.hardened is None:
        return []
    learned, found, chose, report = len(findings.split.attribute), *(len(findings.made[part]) for part in PARTS)
    rounds = max(1, len(findings.rounds))
    shares = dict.fromkeys(instead.STEPS, 1.0) | {
        "attack": rounds * (found + chose) / (rounds * (found + chose) + report),  # the rest was made for the report
        "fine-tuning": 0.5,  # the other half was done with no filter frozen
    }
    spent, took = (0.5 * by.get("fine-tuning", 0.0) for by in (findings.passes, findings.seconds))
    rows = {
        "original": instead.row("original"),
        "repaired": instead.repair_row(findings.passes, findings.seconds, images=learned + len(findings.split.choose), shares=shares),
        "finetuned": instead.row("finetuned", images=learned, passes=spent, seconds=took),
        HARDENED.key: instead.rows([findings.hardened])[0],
        "dropout": instead.row("dropout"),
    }
    return [row for column, row in rows.items() if column in findings.networks or row.left_out]


def naming(findings: AdversarialFindings) -> Callable[[Difference], str]:
    """What a difference is about, the adversary by his title."""
    titles = {attempt.key: attempt.title for attempt in findings.judged.attempts}
    return lambda entry: entry.metric if entry.group is None else f"{entry.metric} under {titles[entry.group]}"


def explanation(column: str, attacks: AttackOptions, findings: AdversarialFindings) -> str:
    """What a column is, with what this run did to it."""
    if column == "repaired" and findings.trained:
        trained = (
            f"all other weights trained on the clean attribution images for {epochs_of(attacks.finetune_epochs * findings.trained)} in all"
        )
        return f"The culprit filters frozen at their mean, {trained}."
    if column == "finetuned":
        epochs = attacks.finetune_epochs * sum(each.tuned is not None for each in findings.rounds)
        return f"The original network trained on the clean attribution images for {epochs_of(epochs)}, with no filter frozen; keeps no guard on clean accuracy."
    return EXPLANATIONS[column][1]


def attack_in_words(attacks: AttackOptions) -> str:
    """The attack that filters are found against."""
    return f"{attacks.method.in_words}, targets drawn once and never the label, 8-bit images"


def frontier(findings: AdversarialFindings, level: float) -> Iterator[FrontierPoint]:
    """Replayed success against clean accuracy for some numbers of filters up to the most, with Wilson's intervals.

    The point that was chosen is marked where the network there is the one that is handed over: after one round, not trained further.
    """
    as_handed_over = len(findings.rounds) == 1 and not findings.trained
    for line in findings.frontier:
        for count, hit, clean in zip(line.counts, line.hit, line.clean, strict=True):
            success, right = wilson(int(hit.sum()), len(hit), level), wilson(int(clean.sum()), len(clean), level)
            yield FrontierPoint(
                series=line.series,
                filters=count,
                n=len(hit),
                success=success.value,
                success_low=success.low,
                success_high=success.high,
                n_clean=len(clean),
                clean=right.value,
                clean_low=right.low,
                clean_high=right.high,
                chosen=as_handed_over and count == line.chosen and count > 0,
            )


def method(task: AdversarialTask, options: Options, attacks: AttackOptions, findings: AdversarialFindings) -> list[str]:
    """How the filters were found and frozen, a sentence each."""
    first = findings.rounds[0]
    found = first.attribution
    smooth = "sigmoid of the margin between the wanted logit and the next"
    reached = " and ".join(f"{int(findings.made[part].hit.sum())} of {len(findings.made[part])} ({part})" for part in PARTS)
    price = f"{PRICES[-1] / 100:g} logits"  # the paper's order asks no other
    if options.strategy == "forward":
        price = f"{PRICES[0] / 100:g} logits ({PRICES[1] / 100:g} when no filter wins that much, and {PRICES[-1] / 100:g} in the end)"
    sentences = [
        f"The attack: {attack_in_words(attacks)}; it reached its target on {reached}.",
        f"Filters were ranked by {RANKINGS[attacks.ranking]}, {SCORES[options.score].format(smooth=smooth)}; the most positive values are the culprits.",
        f"Players: {len(found.ids):,} filters of all convolutions but the classifier's; constants are means "
        f"{'after' if options.freeze_at == 'post' else 'before'} the ReLU over the {len(findings.split.attribute):,} clean images that find.",
        f"Engine {found.engine}, {options.budget:,.0f} image passes{' in each round' if attacks.rounds > 1 else ''}; "
        f"{int((found.samples > 0).sum()):,} filters were valued by exact flips.",
        f"Live range: least live share = {found.min_live:g}: coalitions keep at least about that share of the filters live (0 is the Shapley value itself)."
        if found.engine == "tmab"
        else f"Truncation below a worth of {found.truncation:g}."
        if found.truncation is not None
        else "No truncation.",
        f"Choosing: {'forward selection' if options.strategy == 'forward' else 'the highest values first (the paper)'} among up to {options.candidates} culprits, "
        f"on the margin of the label over the target on adversarial images (no more than {CEILING:g} counts), {price} of which outweigh a point "
        f"of the mean probability of the label on clean ones, at most {options.max_filters} filters; guard: the fall of accuracy on the clean images that choose and the "
        f"one-sided 90 % bound on the fall of that probability, not adjusted for the number of filters tried, stay under {limit(options.max_clean_drop / attacks.rounds)}"
        f"{' in each round' if attacks.rounds > 1 else ''}.",
    ]
    for number, each in enumerate(findings.rounds, start=1):
        start = f"Round {number}: " if attacks.rounds > 1 else ""
        hits = (
            ""
            if number == 1
            else f"the attack afresh reached its target on {int(each.made['attribute'].hit.sum())} of {len(each.made['attribute'])}; "
        )
        sentences.append(f"{start}{hits}{each.choice.chosen} frozen; choosing stopped because {each.choice.reason}.")
        if each.tuned is not None:
            sentences.append(
                f"{start}{epochs_of(attacks.finetune_epochs)} of training {'held' if each.tuned.kept else 'broke'} the guard: against the network as it was given, clean accuracy "
                f"falls by {100 * each.tuned.bound:.1f} points at most (the same bound, on the same images), {100 * each.tuned.allowed:g} are allowed"
                f"{'' if each.tuned.kept else '; the training was undone'}."
            )
        if each.halved is not None:
            sentences.append(
                f"{start}memory ran out in the attribution, whose passes then carried {each.halved} images in place of {options.batch}."
            )
    if options.precision != "float32":
        sentences.append(
            f"The attribution's passes, and those that tell what a candidate gains, ran in {options.precision}; "
            "constants, the guard and every number on report images were measured in float32."
        )
    if findings.ended:
        sentences.append(f"No further round was played: {findings.ended}.")
    if attacks.rounds > 1 or attacks.finetune_epochs:
        sentences.append("The frontier shows the filters of the first round, with no weight trained.")
    sentences.append(
        f"The rank correlation is of first-order estimates (gradients) of both values at t0 = {found.min_live:g}, each from {CORRELATED_SHARE * options.budget:,.0f} "
        "image passes with random numbers of its own; their noise pulls it toward zero. The paper's 0.3 is of Shapley values."
    )
    return sentences


def limits(task: AdversarialTask, options: Options, attacks: AttackOptions, findings: AdversarialFindings) -> list[str]:
    """What a reader must not conclude."""
    trained_on = len(read_record(task.model.weights))
    held = [
        f"The images share no file and no decoded image with the {trained_on:,} that the network was trained on, as far as recorded."
        if trained_on
        else "The training images were not at hand, so an overlap with them was not checked.",
        "Stored images know nothing of the repair: success on them falling says that these images fail, not that the network is hard to fool.",
        "Only changes bounded in L-infinity were tried: nothing is said about patches, rotations or other threat models.",
        "Intervals speak of new images of the same kind for this network as it is; finding filters anew is not in them.",
    ]
    if findings.judged.sweeps:
        held += [
            f"Attacks afresh were run on {min(attacks.effort.adaptive, len(findings.made['report'])):,} images with the budgets stated in their rows; stronger "
            "ones exist, and an attack that fails proves nothing.",
            "The stored images and the worst of the attacks afresh are tested on their own, all other adversaries together for each metric; p-values are not adjusted "
            "over metrics and pairs of columns.",
        ]
    if task.dropout is None and findings.rounds:
        held.append(f"No dropout-trained {task.model.architecture} was compared: none was given.")
    if options.alternatives and not findings.rounds:
        held.append("Nothing was tried instead of a repair, since there was nothing to repair.")
    if not task.carriers and findings.rounds:
        held.append("No images of another architecture were carried over: none of the same classes was given.")
    return held
