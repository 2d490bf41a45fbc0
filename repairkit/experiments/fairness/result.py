"""From the findings of a fairness repair to its result."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np

from repairkit.alternatives import fine_tuning, registry
from repairkit.alternatives import report as alternatives_report
from repairkit.alternatives.threshold import threshold_curve
from repairkit.baselines.compare import join, with_after
from repairkit.baselines.evaluation import comparison
from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.metrics import MEAN, SOURCE, Metric
from repairkit.evaluation.wording import format_range
from repairkit.experiments.fairness.evaluation import Findings, RepairedNetwork, Round, differences, disparities, shares, verdict
from repairkit.experiments.fairness.report import Agreement, CurvePoint, FairnessExtra, FairnessResult, FrozenRound, Overlap
from repairkit.experiments.fairness.run import Task
from repairkit.experiments.records import COLUMNS, SCORES, by_column, dropout_explanation, guarantees_of, make_reproduction, value_histogram
from repairkit.report.formatting import limit
from repairkit.result import Alternative, Column, Comparison, Cost, Difference, FrozenFilter, Guaranteed, Histogram, Reproduction
from repairkit.run.options import Options

PAIRS = dict.fromkeys([
    ("original", "repaired"), ("threshold", "repaired"), ("original", "threshold"), ("original", "dropout"), ("dropout", "repaired"),
    ("dropout", "dropout_repaired"), *((module.DESCRIPTION.key, "repaired") for module in registry.FAIRNESS),
])  # fmt: skip
"""Columns that are compared, in the order of the report."""
RANKINGS = {
    "recall + source": "mean subgroup recall on the target plus accuracy on the source (the default)",
    "recall": "mean subgroup recall on the target alone (the paper's)",
}


def summarise(
    task: Task, options: Options, findings: Findings, *, title: str, command: str, minutes: float, notices: list[str]
) -> FairnessResult:
    """The result of a fairness repair."""
    outcomes = findings.outcomes
    pairs = [pair for pair in PAIRS if set(pair) <= set(outcomes.correct)]
    changes = differences(outcomes, pairs, options.level, options.seed)
    repaired = [network for network in findings.repairs if network.column == "repaired"]
    rows = alternatives(task, findings)
    conclusion = verdict(changes, filters=[network.chosen for network in repaired], level=options.level)
    return FairnessResult(
        kind="fairness",
        title=title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=notices,
        level=options.level,
        folds=options.folds,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective=RANKINGS[options.ranking],
        verdict=alternatives_report.with_alternatives(conclusion, rows, changes, level=options.level, decisive=(MEAN,)),
        columns=[
            Column(key=key, label=alternatives_report.column_heading(key, label, rows), explanation=explanation(key, task))
            for key, (label, _) in COLUMNS.items()
            if key in outcomes.correct
        ],
        groups=list(outcomes.names),
        shares=shares(outcomes, options.level, seed=options.seed),
        differences=changes,
        frozen=[entry for network in findings.repairs for entry in frozen_filters(network, options.folds)],
        histograms=[histogram(repaired)],
        method=method(task, options, findings) + alternatives_report.method(rows),
        costs=[Cost(part=part, passes=findings.passes.get(part, 0.0), seconds=seconds) for part, seconds in findings.seconds.items()],
        alternatives=rows,
        guarantees=[entry for network in findings.repairs for entry in guarantees(network, options.folds)],
        limits=limits(task, options, findings) + broken_guard(changes, options.max_clean_drop) + alternatives_report.limits(rows),
        reproduction=reproduction(task, options, findings, command=command, minutes=minutes),
        comparisons=by_column("repaired", baselines(options, findings, repaired)),
        extra=extra(task, options, findings, repaired),
    )


def reproduction(task: Task, options: Options, findings: Findings, *, command: str, minutes: float) -> Reproduction:
    """What someone needs to get the same numbers."""
    models = [("original", task.model), ("dropout-trained", task.dropout)]
    return make_reproduction(
        options,
        command=command,
        minutes=minutes,
        hashes=({"dropout model": task.dropout.sha256} if task.dropout else {})
        | ({"training data": data_hash(task.training)} if task.training else {})
        | {"model": task.model.sha256, "target": data_hash(task.target), "source": data_hash(task.source)},
        settings={"top": str(findings.repairs[0].attribution.top_k)},
        training={
            f"training of the {name} network": f"{sum(stage.seconds for stage in model.stages) / 60:.1f} minutes"
            for name, model in models
            if model is not None and model.stages
        },
    )


def extra(task: Task, options: Options, findings: Findings, repaired: Sequence[RepairedNetwork]) -> FairnessExtra:
    """What a fairness repair alone measures."""
    return FairnessExtra(
        target=f"{task.target.name}, {len(task.target):,} images",
        source=f"{task.source.name}, {len(task.source):,} images",
        disparities=disparities(findings.outcomes),
        curves=[*ablation_points(repaired), *threshold_points(task, findings)],
        stability=agreements(findings.repairs),
        rounds=frozen_rounds(findings.repairs, options) if options.rounds > 1 else [],
    )


def baselines(options: Options, findings: Findings, repaired: Sequence[RepairedNetwork]) -> Comparison | None:
    """The repair held against other rankings, cross-fitted as it is; None where nobody asked."""
    folds = [network.compared for network in repaired if network.compared is not None]
    if not folds:
        return None
    outcomes = findings.outcomes
    strata = np.concatenate([np.char.add("target: ", outcomes.groups), np.full(len(findings.source_report), "source")])
    sizes = [fold.contenders[0].right.shape[1] - len(findings.source_report) for fold in folds]
    before, after = (
        np.concatenate([outcomes.correct[column].astype(np.float64), outcomes.source_correct[column]])
        for column in ("original", "repaired")
    )
    weights = {f"target: {name}": 1 / len(outcomes.names) for name in outcomes.names}
    recall, source = Metric(MEAN, strata, weights), Metric(SOURCE, strata, {"source": 1.0})
    words = f"{recall.n:,} of the target and {source.n:,} of the source"
    total = Metric(f"{MEAN} plus {SOURCE}", strata, weights | {"source": 1.0}, sizes=words)
    return comparison(
        with_after(join(folds, sizes), after),
        total if options.ranking == "recall + source" else recall,
        order="most harmful first",
        before=before,
        judged=(recall, source),
        strategy=options.strategy,
        level=options.level,
        seed=options.seed,
    )


def alternatives(task: Task, findings: Findings) -> list[Alternative]:
    """The repair among its alternatives; empty where nobody asked."""
    if not findings.alternatives:
        return []
    images = round(float(np.mean([entry.images for entry in findings.alternatives if entry.key == fine_tuning.DESCRIPTION.key])))
    steps = dict.fromkeys(alternatives_report.STEPS, 1.0)
    return [
        alternatives_report.row("original"),
        alternatives_report.repair_row(findings.repair_passes, findings.repair_seconds, images=images, shares=steps),
        *alternatives_report.rows(findings.alternatives),
        *([alternatives_report.row("dropout")] if task.dropout else []),
    ]


def explanation(column: str, task: Task) -> str:
    """What a column is; for the dropout-trained network with the dropout it was trained with, as its train.json says."""
    return dropout_explanation(task.dropout) if column == "dropout" and task.dropout else COLUMNS[column][1]


def _fold(network: RepairedNetwork, folds: int) -> int:
    """Folds count from 1 in a result, and 0 stands for no folds."""
    return network.fold + 1 if folds > 1 else 0


def frozen_filters(network: RepairedNetwork, folds: int) -> list[FrozenFilter]:
    """The frozen filters of one repaired network."""
    return [FrozenFilter(fold=_fold(network, folds), column=network.column, **culprit.model_dump()) for culprit in network.patch.culprits]


def histogram(repaired: Sequence[RepairedNetwork]) -> Histogram:
    """Values of all filters, over folds and rounds."""
    frozen = [culprit.value for network in repaired for culprit in network.patch.culprits]
    return value_histogram([one.attribution for network in repaired for one in network.rounds], frozen)


def guarantees(network: RepairedNetwork, folds: int) -> list[Guaranteed]:
    """What the attributions of one network claim."""
    numbered = enumerate(network.rounds, start=1)
    return [entry for number, one in numbered for entry in guarantees_of(one.attribution, network.column, _fold(network, folds), number)]


def ablation_points(repaired: Sequence[RepairedNetwork]) -> list[CurvePoint]:
    """Ablation curves on the test images, means over folds.

    A fold whose path is shorter keeps its last network, so the last point is the network as selected.
    """
    points = []
    for series, paths in (("repaired", [n.path for n in repaired]), ("most negative first", [n.removal for n in repaired])):
        counts = sorted({point[0] for path in paths for point in path})
        for count in counts:
            reached = [max(point for point in path if point[0] <= count) for path in paths]
            recall, accuracy = (float(np.mean([point[measure] for point in reached])) for measure in (1, 2))
            chosen = series == "repaired" and count == counts[-1] and count > 0
            points.append(CurvePoint(series=series, filters=count, mean_recall=recall, source_accuracy=accuracy, chosen=chosen))
    return points


def threshold_points(task: Task, findings: Findings) -> list[CurvePoint]:
    """The moved threshold's trade-off on the test images, the threshold as selected last; empty where there is none."""
    if not findings.thresholds:
        return []
    outcomes, test, source = findings.outcomes, findings.target_report, findings.source_report
    tried = threshold_curve(
        findings.margins[test],
        task.target.labels[test],
        task.target.groups[test],
        findings.source_margins[source],
        task.source.labels[source],
        thresholds=np.quantile(findings.margins[test], np.linspace(0.02, 0.98, 41)),
    )
    moved = outcomes.correct["threshold"]
    selected = float(np.mean([moved[outcomes.groups == group].mean() for group in outcomes.names]))
    pairs = [(point.mean_recall, point.source_accuracy, False) for point in tried]
    pairs.append((selected, float(outcomes.source_correct["threshold"].mean()), True))
    return [
        CurvePoint(series="threshold", filters=0, mean_recall=recall, source_accuracy=accuracy, chosen=chosen)
        for recall, accuracy, chosen in pairs
    ]


def frozen_rounds(networks: Sequence[RepairedNetwork], options: Options) -> list[FrozenRound]:
    """What each round of each network froze, what it cost, and where it led on the test images."""
    records = []
    for network in networks:
        path: list[tuple[int, float, float]] = []
        for number, one in enumerate(network.rounds, start=1):
            path += one.path
            _, recall, accuracy = path[-1] if path else (0, None, None)
            records.append(
                FrozenRound(
                    column=network.column,
                    fold=_fold(network, options.folds),
                    round=number,
                    filters=[str(culprit.filter) for culprit in one.patch.culprits],
                    stopped=one.choice.reason,
                    passes=sum(one.attribution.passes.values()) + one.choice.passes,
                    mean_recall=recall,
                    source_accuracy=accuracy,
                )
            )
    return records


def agreements(networks: Sequence[RepairedNetwork]) -> list[Agreement]:
    """What the halves of the attribution images agree on, over the folds of each network; a k that not every fold compared is left out."""
    records = []
    for column in dict.fromkeys(network.column for network in networks):
        halves = [network.stability for network in networks if network.column == column and network.stability is not None]
        for by, end in dict.fromkeys((overlap.by, overlap.end) for half in halves for overlap in half.overlaps):
            by_k: dict[int, list[tuple[float, float]]] = {}
            for overlap in (overlap for half in halves for overlap in half.overlaps if (overlap.by, overlap.end) == (by, end)):
                by_k.setdefault(overlap.k, []).append((overlap.share, overlap.chance))
            correlations = [half.rank_correlation[by] for half in halves if by in half.rank_correlation]
            overlaps = []
            for k, pairs in sorted(by_k.items()):
                if len(pairs) == len(halves):
                    named = [share for share, _ in pairs]
                    overlaps.append(Overlap(k=k, share=float(np.mean(named)), low=min(named), high=max(named), chance=pairs[0][1]))
            correlation = float(np.mean(correlations)) if correlations else None
            records.append(Agreement(column=column, by=by, end=end, rank_correlation=correlation, overlaps=overlaps))
    return records


def method(task: Task, options: Options, findings: Findings) -> list[str]:
    """How the harmful filters were found, a sentence each."""
    first = findings.repairs[0].attribution
    every = [one for network in findings.repairs for one in network.rounds]
    smooth = "probability of the label" if len(task.target.classes) == 2 else "sigmoid of the margin between the label's logit and the next"
    per_round = " in each round" if options.rounds > 1 else ""
    sentences = [
        f"Filters were ranked by {RANKINGS[options.ranking]}, {SCORES[options.score].format(smooth=smooth)}.",
        "The filters of the most negative values are the harmful ones.",
        f"Players are {len(first.ids):,} filters: those of all convolutions but the classifier's.",
        f"A frozen filter outputs its mean {'after' if options.freeze_at == 'post' else 'before'} the ReLU over the attribution images.",
        f"The engine {first.engine} had {options.budget:,.0f} passes for each network and fold{per_round}.",
        f"Exact marginal contributions valued {format_range([int((one.attribution.samples > 0).sum()) for one in every])} filters.",
        *_coalitions(findings, every),
        f"Selection: {'forward selection' if options.strategy == 'forward' else 'the most negative first'} among up to {options.candidates} "
        f"candidates, at most {options.max_filters} filters.",
        "Its criterion is the mean probability of the label on the selection images, target and source counted alike.",
        "Guard: the one-sided 90 % bound on the fall of source accuracy on the selection images stays under "
        f"{limit(options.max_clean_drop / options.rounds)}{per_round}. It is not adjusted for the number of filters tried.",
    ]
    sentences += _rounds_and_precision(options, every)
    for network in findings.repairs:
        where = f" in fold {network.fold + 1}" if options.folds > 1 else ""
        sentences += [
            f"{COLUMNS[network.column][0]}{where}{f' in round {number}' if options.rounds > 1 else ''}: {one.choice.chosen} frozen. "
            f"Selection stopped because {one.choice.reason}."
            for number, one in enumerate(network.rounds, start=1)
        ]
    if findings.thresholds:
        moved = ", ".join(f"{point.threshold:+.2f}" for point in findings.thresholds)
        sentences.append(
            f"The moved threshold on the difference of the logits ({task.target.classes[1]} minus {task.target.classes[0]}): {moved}."
        )
    return sentences + _stability(findings)


def _rounds_and_precision(options: Options, every: Sequence[Round]) -> list[str]:
    """What several rounds, other precision and a full memory changed."""
    sentences: list[str] = []
    if options.rounds > 1:
        sentences += [
            f"Rounds: up to {options.rounds}. A round that froze nothing was the last.",
            "A later round measured constants and values anew in the network as the earlier rounds left it, on the same images.",
            "Every round may spend an equal share of what source accuracy may lose.",
        ]
    if options.precision != "float32":
        sentences.append(
            f"The attribution's passes, and those that tell what a candidate gains, ran in {options.precision}. "
            "Constants, the guard and every number on test images were measured in float32."
        )
    if halved := [one.halved for one in every if one.halved is not None]:
        sentences.append(
            f"Memory ran out in {len(halved)} of {len(every)} attributions. Their passes then carried {format_range(halved)} images in place "
            f"of {options.batch}, which changes last digits only."
        )
    return sentences


def _coalitions(findings: Findings, every: Sequence[Round]) -> list[str]:
    """Which coalitions were played."""
    first = findings.repairs[0]
    if first.attribution.engine != "tmab":
        truncation = first.attribution.truncation
        return ["No truncation." if truncation is None else f"A permutation ends below an objective value of {truncation:g}."]
    share = format_range([one.attribution.min_live for one in every])
    measured = [] if first.live_range is None else ["Below the live range single filters hardly change a score."]
    return [
        f"Least live share: {share}. Coalitions keep at least about that share of the filters live; 0 is the Shapley value itself.",
        *measured,
    ]


def _stability(findings: Findings) -> list[str]:
    """How stability was measured, and what it leaves out."""
    halves = [network.stability for network in findings.repairs if network.stability is not None]
    if not halves:
        return []
    valued = format_range([number for half in halves for number in half.valued[:2]])
    return [
        "Stability: the attribution was made again on each half of the attribution images, with half the budget each.",
        "Both halves name fewer of the same filters than two whole sets would.",
        f"A half valued {valued} filters. An overlap by value of nearly as many says little more than which were valued.",
        *(f"Stability leaves out {reason}." for reason in dict.fromkeys(reason for half in halves for reason in half.skipped)),
    ]


def broken_guard(changes: Sequence[Difference], allowed: float) -> list[str]:
    """That the guard did not hold on the test images, where the interval shows a fall and the estimate exceeds what was allowed."""
    return [
        f"The guard did not hold: on the test images source accuracy fell by {-100 * entry.value:.1f} points (n = {entry.n}), and "
        f"{100 * allowed:g} were allowed. Its bound is made on the images that also selected among many filters, which flatters it."
        for entry in changes
        if (entry.first, entry.second, entry.metric) == ("original", "repaired", SOURCE) and entry.high < 0 and -entry.value > allowed
    ]


def limits(task: Task, options: Options, findings: Findings) -> list[str]:
    """What a reader must not conclude."""
    frozen = [culprit for network in findings.repairs if network.column == "repaired" for culprit in network.patch.culprits]
    undecided = sum(culprit.half_width is None or culprit.value + culprit.half_width >= 0 for culprit in frozen)
    trained_on = len(task.training) if task.training else len(read_record(task.model.weights))
    sentences = [
        f"Target and source share no file and no decoded image with the {trained_on:,} images that the original network was trained on, "
        "as far as recorded. Hashes were compared, so a photograph that was cropped or saved anew is not recognised."
        if trained_on
        else "The training images were not at hand, so an overlap with them was not checked.",
        "Intervals speak of new images of the same kind for these networks as they are. They do not cover training, attribution or selection anew.",
        f"Of the {len(frozen)} filters frozen, {undecided} have an interval of the value that reaches zero: freezing them helped on the selection images."
        if frozen
        else "No filter was frozen.",
        "Half-widths of values hold for one filter at a time, and for these attribution images. With gradients as control variates (the default) "
        "they are approximate. The lowest of many estimates are biased downwards."
        if options.guarantee is None
        else "Half-widths of values hold for all filters of an attribution at once, and for these attribution images.",
    ]
    if options.folds > 1:
        sentences.append(
            f"The numbers are those of the procedure, cross-fitted over {options.folds} folds: a network that did not see it classifies every "
            "target image. The weights that are handed over are those of the first fold that froze a filter."
        )
    if task.dropout:
        sentences.append("The dropout-trained network differs from the original by its whole training, not by dropout alone.")
    return sentences
