"""From findings to a result: the words and numbers of a fairness report."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np

from repairkit.alternatives import report as instead
from repairkit.alternatives.base import WHOLE_NETWORK
from repairkit.alternatives.threshold import threshold_curve
from repairkit.baselines.compare import join, with_after
from repairkit.baselines.evaluation import comparison
from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.metrics import MEAN, SOURCE, Metric
from repairkit.experiments.fairness import evaluation
from repairkit.experiments.fairness.result import Agreement, CurvePoint, FairnessExtra, FairnessResult, FrozenRound, Overlap
from repairkit.experiments.fairness.run import Findings, RepairedNetwork, Task
from repairkit.experiments.fairness.verdict import verdict
from repairkit.experiments.records import COLUMNS, SCORES, by_column, dropout_explanation, guarantees_of, make_reproduction, value_histogram
from repairkit.report.formatting import limit
from repairkit.result import Alternative, Column, Comparison, Cost, Difference, FrozenFilter
from repairkit.run.options import Options

PAIRS = (
    ("original", "repaired"),
    ("threshold", "repaired"),
    ("original", "threshold"),
    ("original", "dropout"),
    ("dropout", "repaired"),
    ("dropout", "dropout_repaired"),
    ("group_thresholds", "repaired"),
    ("last_layer", "repaired"),
    ("whole_network", "repaired"),
)
RANKINGS = {
    "recall + source": "mean subgroup recall on the target plus accuracy on the source (the default)",
    "recall": "mean subgroup recall on the target alone (the paper's)",
}


def summarise(
    task: Task, options: Options, findings: Findings, *, title: str, command: str, minutes: float, notices: list[str]
) -> FairnessResult:
    """The result of a fairness repair; all arithmetic of the report happens here."""
    outcomes = findings.outcomes
    present = [key for key in COLUMNS if key in outcomes.correct]
    pairs = [pair for pair in PAIRS if set(pair) <= set(outcomes.correct)]
    differences = evaluation.differences(outcomes, pairs, options.level, options.seed)
    repaired = [network for network in findings.repairs if network.column == "repaired"]
    rows = alternatives(task, findings)
    conclusion = verdict(differences, filters=[network.chosen for network in repaired], level=options.level)
    return FairnessResult(
        kind="fairness",
        title=title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=notices,
        level=options.level,
        folds=options.folds,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective=RANKINGS[options.ranking],
        verdict=instead.concluded(conclusion, rows, differences, level=options.level, name=instead.fairness_name, deciding=("mean recall",))
        if rows
        else conclusion,
        columns=[Column(key=key, label=instead.headed(key, COLUMNS[key][0], rows), explanation=explanation(key, task)) for key in present],
        groups=list(outcomes.names),
        shares=evaluation.shares(outcomes, options.level, seed=options.seed),
        differences=differences,
        frozen=[entry for network in findings.repairs for entry in frozen_filters(network, options.folds)],
        histograms=[
            value_histogram(
                [each.attribution for network in repaired for each in network.rounds],
                [culprit.value for network in repaired for culprit in network.patch.culprits],
            )
        ],
        method=method(task, options, findings) + (instead.method(rows) if rows else []),
        costs=[Cost(part=part, passes=findings.passes.get(part, 0.0), seconds=seconds) for part, seconds in findings.seconds.items()],
        alternatives=rows,
        guarantees=[
            entry
            for network in findings.repairs
            for number, each in enumerate(network.rounds, start=1)
            for entry in guarantees_of(each.attribution, network.column, network.fold + 1 if options.folds > 1 else 0, number)
        ],
        limits=limits(task, options, findings) + broken_guard(differences, options.max_clean_drop) + list(instead.LIMITS if rows else ()),
        reproduction=make_reproduction(
            options,
            command=command,
            minutes=minutes,
            hashes=({"dropout model": task.dropout.sha256} if task.dropout else {})
            | ({"training data": data_hash(task.training)} if task.training else {})
            | {"model": task.model.sha256, "target": data_hash(task.target), "source": data_hash(task.source)},
            settings={"top": str(findings.repairs[0].attribution.top_k)},
            training={
                f"training of the {name} network": f"{sum(stage.seconds for stage in model.stages) / 60:.1f} minutes"
                for name, model in (("original", task.model), ("dropout-trained", task.dropout))
                if model is not None and model.stages
            },
        ),
        comparisons=by_column("repaired", compared(options, findings, repaired)),
        extra=FairnessExtra(
            target=f"{task.target.name}, {len(task.target):,} images",
            source=f"{task.source.name}, {len(task.source):,} images",
            disparities=evaluation.disparities(outcomes),
            curves=curves(task, findings, repaired),
            stability=agreements(findings.repairs),
            rounds=rounds_of(findings.repairs, options) if options.rounds > 1 else [],
        ),
    )


def compared(options: Options, findings: Findings, repaired: list[RepairedNetwork]) -> Comparison | None:
    """The repair held against baselines, cross-fitted as it is; None where nobody asked."""
    folds = [network.compared for network in repaired if network.compared is not None]
    if not folds:
        return None
    outcomes = findings.outcomes
    strata = np.concatenate([np.char.add("target: ", outcomes.groups), np.full(len(findings.source_report), "source")])
    own = [fold.contenders[0].right.shape[1] - len(findings.source_report) for fold in folds]
    before, after = (
        np.concatenate([outcomes.correct[column].astype(np.float64), outcomes.source_correct[column]])
        for column in ("original", "repaired")
    )
    groups = {f"target: {name}": 1 / len(outcomes.names) for name in outcomes.names}
    recall = Metric(MEAN, strata, groups)
    source = Metric(SOURCE, strata, {"source": 1.0})
    both = Metric(
        f"{MEAN} plus {SOURCE}", strata, groups | {"source": 1.0}, sizes=f"{recall.n:,} of the target and {source.n:,} of the source"
    )
    ranked = both if options.ranking == "recall + source" else recall
    return comparison(
        with_after(join(folds, own), after),
        ranked,
        order="most harmful first",
        before=before,
        judged=(recall, source),
        strategy=options.strategy,
        level=options.level,
        seed=options.seed,
    )


def alternatives(task: Task, findings: Findings) -> list[Alternative]:
    """The repair among what one could do instead; empty where nobody asked."""
    if not findings.tried:
        return []
    rows = instead.tried_rows(findings.tried)
    images = round(float(np.mean([each.images for each in findings.tried if each.key == WHOLE_NETWORK])))
    return [
        instead.row("original", images=None, passes=None, seconds=None),
        instead.repaired(findings.repair_passes, findings.repair_seconds, images=images, shares=dict.fromkeys(instead.FINDING, 1.0)),
        *rows,
        *([instead.row("dropout", images=None, passes=None, seconds=None)] if task.dropout else []),
    ]


def explanation(column: str, task: Task) -> str:
    """What a column is; for the dropout-trained network with the dropout it was trained with, as its train.json says."""
    if column != "dropout" or task.dropout is None:
        return COLUMNS[column][1]
    return dropout_explanation(task.dropout)


def frozen_filters(network: RepairedNetwork, folds: int) -> list[FrozenFilter]:
    """The culprits of one repaired network; folds count from 1, and 0 stands for no folds."""
    return [
        FrozenFilter(
            fold=network.fold + 1 if folds > 1 else 0,
            column=network.column,
            layer=culprit.layer,
            channel=culprit.channel,
            constant=culprit.constant,
            value=culprit.value,
            half_width=culprit.half_width,
            screen=culprit.screen,
        )
        for culprit in network.patch.culprits
    ]


def curves(task: Task, findings: Findings, repaired: list[RepairedNetwork]) -> list[CurvePoint]:
    """Removal curves and the threshold's trade-off on the report images, means over folds.

    A fold whose path is shorter keeps its last network, so the last point is the network as chosen.
    """
    points = []
    for series, paths in (("repaired", [n.path for n in repaired]), ("most negative first", [n.removal for n in repaired])):
        counts = sorted({point[0] for path in paths for point in path})
        for count in counts:
            at = [max(point for point in path if point[0] <= count) for path in paths]
            points.append(
                CurvePoint(
                    series=series,
                    filters=count,
                    mean_recall=float(np.mean([point[1] for point in at])),
                    source_accuracy=float(np.mean([point[2] for point in at])),
                    chosen=series == "repaired" and count == counts[-1] and count > 0,
                )
            )
    if findings.thresholds:
        report, source = findings.target_report, findings.source_report
        tried = threshold_curve(
            findings.margins[report],
            task.target.labels[report],
            task.target.groups[report],
            findings.source_margins[source],
            task.source.labels[source],
            thresholds=np.quantile(findings.margins[report], np.linspace(0.02, 0.98, 41)),
        )
        moved = findings.outcomes.correct["threshold"]
        as_chosen = float(np.mean([moved[findings.outcomes.groups == group].mean() for group in findings.outcomes.names]))
        pairs = [(point.mean_recall, point.source_accuracy, False) for point in tried]
        pairs.append((as_chosen, float(findings.outcomes.source_correct["threshold"].mean()), True))
        points += [
            CurvePoint(series="threshold", filters=0, mean_recall=recall, source_accuracy=accuracy, chosen=chosen)
            for recall, accuracy, chosen in pairs
        ]
    return points


def rounds_of(networks: Sequence[RepairedNetwork], options: Options) -> list[FrozenRound]:
    """What each round of each network froze, what it cost, and where it led on the report images."""
    return [
        FrozenRound(
            column=network.column,
            fold=network.fold + 1 if options.folds > 1 else 0,
            round=number,
            filters=[str(culprit.filter) for culprit in each.patch.culprits],
            stopped=each.choice.reason,
            passes=sum(each.attribution.passes.values()) + each.choice.passes,
            mean_recall=reached[-1][1] if (reached := [point for earlier in network.rounds[:number] for point in earlier.path]) else None,
            source_accuracy=reached[-1][2] if reached else None,
        )
        for network in networks
        for number, each in enumerate(network.rounds, start=1)
    ]


def agreements(networks: list[RepairedNetwork]) -> list[Agreement]:
    """What the halves of the attribution images agree on, over the folds of each network; empty where nobody asked.

    A k that not every fold could compare is left out.
    """
    summary = []
    for column in dict.fromkeys(network.column for network in networks):
        halves = [network.stability for network in networks if network.column == column and network.stability is not None]
        for by, end in dict.fromkeys((overlap.by, overlap.end) for each in halves for overlap in each.overlaps):
            found: dict[int, list[tuple[float, float]]] = {}
            for overlap in (overlap for each in halves for overlap in each.overlaps if (overlap.by, overlap.end) == (by, end)):
                found.setdefault(overlap.k, []).append((overlap.share, overlap.chance))
            correlations = [each.rank_correlation[by] for each in halves if by in each.rank_correlation]
            summary.append(
                Agreement(
                    column=column,
                    by=by,
                    end=end,
                    rank_correlation=float(np.mean(correlations)) if correlations else None,
                    overlaps=[
                        Overlap(
                            k=k,
                            share=float(np.mean([share for share, _ in pairs])),
                            low=min(share for share, _ in pairs),
                            high=max(share for share, _ in pairs),
                            chance=pairs[0][1],
                        )
                        for k, pairs in sorted(found.items())
                        if len(pairs) == len(halves)
                    ],
                )
            )
    return summary


def method(task: Task, options: Options, findings: Findings) -> list[str]:
    """How the culprits were found, a sentence each."""
    first = findings.repairs[0]
    found = first.attribution
    every = [each for network in findings.repairs for each in network.rounds]
    valued = [int((each.attribution.samples > 0).sum()) for each in every]
    smooth = "probability of the label" if len(task.target.classes) == 2 else "sigmoid of the margin between the label's logit and the next"
    sentences = [
        f"Filters were ranked by {RANKINGS[options.ranking]}, {SCORES[options.score].format(smooth=smooth)}; the most negative values are the culprits.",
        f"Players: {len(found.ids):,} filters of all convolutions but the classifier's; constants are means "
        f"{'after' if options.freeze_at == 'post' else 'before'} the ReLU over the attribution images.",
        f"Engine {found.engine}, {options.budget:,.0f} image passes for each network and fold{' in each round' if options.rounds > 1 else ''}; {_range(valued)} filters were valued by exact flips.",
        f"Live range: least live share = {_range_of([each.attribution.min_live for each in every])}: coalitions keep at least about that share of the "
        f"filters live (0 is the Shapley value itself){'; below it single filters hardly change a score' if first.live_range else ''}."
        if found.engine == "tmab"
        else f"Truncation below a worth of {found.truncation:g}."
        if found.truncation is not None
        else "No truncation.",
        f"Choosing: {'forward selection' if options.strategy == 'forward' else 'the most negative first'} among up to {options.candidates} culprits, "
        f"on the mean probability of the label, target and source counted alike, at most {options.max_filters} filters; guard: the one-sided 90 % bound on the fall of source accuracy on the choose images, not adjusted for the number of filters tried, stays under {limit(options.max_clean_drop / options.rounds)}{' in each round' if options.rounds > 1 else ''}.",
    ]
    if options.rounds > 1:
        sentences.append(
            f"Rounds: up to {options.rounds}. Filters were found and frozen again in the network as the earlier rounds left it, with constants measured there, on the same images "
            "that find and choose, and for an equal share of what source accuracy may lose; a round that froze nothing was the last."
        )
    if options.precision != "float32":
        sentences.append(
            f"The attribution's passes, and those that tell what a candidate gains, ran in {options.precision}; "
            "constants, the guard and every number on report images were measured in float32."
        )
    if halved := [each.halved for each in every if each.halved is not None]:
        sentences.append(
            f"Memory ran out in {len(halved)} of {len(every)} attributions, whose passes then carried {_range(halved)} images in place of "
            f"{options.batch}; that changes last digits only."
        )
    for network in findings.repairs:
        where = f" in fold {network.fold + 1}" if options.folds > 1 else ""
        sentences += [
            f"{COLUMNS[network.column][0]}{where}{f' in round {number}' if options.rounds > 1 else ''}: {each.choice.chosen} frozen; choosing stopped because {each.choice.reason}."
            for number, each in enumerate(network.rounds, start=1)
        ]
    if first.stability is not None:
        by_half = [number for network in findings.repairs if network.stability for number in network.stability.valued[:2]]
        sentences.append(
            "Stability: the attribution was made again on each half of the attribution images, with half the budget each; "
            f"both halves name fewer of the same filters than two whole sets would. A half valued {_range(by_half)} filters: "
            "an overlap by value of nearly as many says little more than which were valued."
        )
        reasons = dict.fromkeys(reason for network in findings.repairs if network.stability for reason in network.stability.skipped)
        sentences += [f"Stability leaves out {reason}." for reason in reasons]
    if findings.thresholds:
        moved = ", ".join(f"{choice.threshold:+.2f}" for choice in findings.thresholds)
        sentences.append(
            f"The moved threshold on the difference of the logits ({task.target.classes[1]} minus {task.target.classes[0]}): {moved}."
        )
    return sentences


def broken_guard(differences: Sequence[Difference], allowed: float) -> list[str]:
    """That the guard did not hold on the report images, where their interval shows a fall and its estimate exceeds what was allowed."""
    found = (e for e in differences if (e.first, e.second, e.metric) == ("original", "repaired", SOURCE))
    return [
        f"The guard did not hold: on the report images source accuracy fell by {-100 * entry.value:.1f} points (n = {entry.n}), and "
        f"{100 * allowed:g} were allowed. Its bound is made on the images that also chose among many filters, which flatters it."
        for entry in found
        if entry.high < 0 and -entry.value > allowed
    ]


def limits(task: Task, options: Options, findings: Findings) -> list[str]:
    """What a reader must not conclude."""
    undecided = sum(
        1
        for network in findings.repairs
        for culprit in network.patch.culprits
        if network.column == "repaired" and (culprit.half_width is None or culprit.value + culprit.half_width >= 0)
    )
    total = sum(len(network.patch.culprits) for network in findings.repairs if network.column == "repaired")
    trained_on = len(task.training) if task.training else len(read_record(task.model.weights))
    sentences = [
        f"Target and source share no file and no decoded image with the {trained_on:,} images that the original network was trained on, "
        "as far as recorded (compared by hash; a photograph that was cropped or saved anew as another file is not recognised)."
        if trained_on
        else "The training images were not at hand, so an overlap with them was not checked.",
        "Intervals speak of new images of the same kind for these networks as they are; they do not cover training, attribution or choosing anew.",
        f"Of the {total} culprits frozen, {undecided} have an interval of the value that reaches zero: they were chosen because freezing them helped on the choose images."
        if total
        else "No culprit was frozen.",
        "Half-widths of values are approximate where gradients served as control variates (the default), hold for one filter at a time, and conditionally on the "
        "attribution images; the lowest of many estimates are biased downwards."
        if options.guarantee is None
        else "Half-widths of values hold for all filters of an attribution at once, and conditionally on the attribution images.",
    ]
    if options.folds > 1:
        sentences.append(
            f"The figures are those of the procedure, cross-fitted over {options.folds} folds: every target image is judged by a network that did not see it. "
            "The weights that are handed over are those of the first fold that froze a filter."
        )
    if task.dropout:
        sentences.append("The dropout-trained network differs from the original by its whole training, not by dropout alone.")
    return sentences


def _range_of(numbers: list[float]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
