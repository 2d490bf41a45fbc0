"""The result on important filters: from who was classified correctly, with which filters frozen, to numbers, verdict and method."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from repairkit.baselines.evaluation import comparison
from repairkit.baselines.rankings import DRAWS
from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.curves import AblationCurves, MetricName
from repairkit.evaluation.metrics import ACCURACY, OTHERS, RECALL, Metric, changed_groups, compare_groups, split_by_group
from repairkit.evaluation.wording import (
    count_filters,
    describe_change,
    describe_interval,
    describe_interval_change,
    format_percent,
    measurably_worse,
    state_change,
    unchanged_network,
)  # fmt: skip
from repairkit.experiments import common
from repairkit.experiments.classifier_task import ROUNDING, CriticalTask
from repairkit.experiments.critical.class_ranking import FACTORS, PRICED_AT
from repairkit.experiments.critical.run import CriticalFindings
from repairkit.experiments.records import (
    COLUMNS,
    SCORES,
    by_column,
    cost_records,
    describe_images,
    guarantees_of,
    image_counts,
    make_reproduction,
    top_filters,
    value_histogram,
)  # fmt: skip
from repairkit.repair.live_range import describe_choice
from repairkit.report.formatting import hundredths, limit
from repairkit.result import Column, Comparison, CurvePoint, Difference, Extreme, FrozenFilter, Record, Result, Share, Verdict
from repairkit.run.options import Options

UNCHANGED = "No weights were changed: this says what the network depends on, not how to repair it."
TRIED = f"0 and {len(FACTORS) - 1} factors from {FACTORS[1]:g} to {FACTORS[-1]:g}"
"""Factors of the penalty, in words."""


class LayerCount(Record):
    """How many of the important filters lie in one layer."""

    layer: str
    critical: int
    filters: int


class CriticalExtra(Record):
    """What freezing the filters does that a class, or accuracy on all classes, depends on."""

    images: str
    subject: str | None  # the class; None for accuracy on all
    parts: dict[str, int]  # attribution, selection and test images
    chance: float  # accuracy of a guess
    draws: int  # orders of random filters
    curves: list[CurvePoint]
    layers: list[LayerCount]  # in the order in which the network runs them
    extremes: list[Extreme]


CriticalResult = Result[CriticalExtra]


def summarise(
    task: CriticalTask, options: Options, findings: CriticalFindings, *, title: str, command: str, minutes: float, notices: list[str]
) -> CriticalResult:
    """The result of a run; all arithmetic of the report happens here."""
    repair, chance = findings.repair, 1 / len(task.images.classes)
    curve_points = findings.curves.points(level=options.level, seed=options.seed)
    verdict = ablation_verdict(findings, curve_points, chance=chance, options=options)
    shares: list[Share] = []
    differences: list[Difference] = []
    if repair is not None and task.subject is not None:
        shares, differences = compare_classes(task, findings, options)
        verdict = repair_verdict(differences, verdict, task.subject, filters=repair.selection.chosen, level=options.level)
    columns = ("original", "repaired") if repair else ("original",)
    frozen = [FrozenFilter(fold=0, column="repaired", **entry.model_dump()) for entry in (repair.patch.culprits if repair else [])]
    ranking = {"ranking": "specific" if findings.ranking else "recall"} if task.subject else {}
    return CriticalResult(
        kind="critical filters",
        title=title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=notices,
        level=options.level,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective=objective(task, findings),
        verdict=verdict,
        columns=[Column(key=key, label=COLUMNS[key][0], explanation=COLUMNS[key][1]) for key in columns],
        groups=list(dict.fromkeys(entry.group for entry in shares if entry.group)),
        shares=shares,
        differences=differences,
        frozen=frozen,
        histograms=[value_histogram([findings.attribution, *([repair.attribution] if repair else [])], [entry.value for entry in frozen])],
        method=method(task, options, findings),
        costs=cost_records(findings.passes, findings.seconds),
        guarantees=guarantees_of(findings.attribution, "original", 0),
        limits=limits(task, options),
        reproduction=make_reproduction(
            options,
            command=command,
            minutes=minutes,
            hashes={"model": task.model.sha256, "images": data_hash(task.images)},
            settings={"top": str(findings.attribution.top_k)} | ranking,
        ),
        comparisons=by_column(columns[-1], compare_baselines(task, options, findings)),
        extra=CriticalExtra(
            images=describe_images(task.images),
            subject=task.subject,
            parts=image_counts(findings.split),
            chance=chance,
            draws=DRAWS,
            curves=curve_points,
            layers=layers(findings),
            extremes=extremes(findings),
        ),
    )


def compare_classes(task: CriticalTask, findings: CriticalFindings, options: Options) -> tuple[list[Share], list[Difference]]:
    """The class before and after its repair, the other classes that changed by claim or fell most, and the means.

    The repaired class is fixed beforehand and stands alone. Holm adjusts p values over all other classes, also those that are not shown.
    """
    repair, labels = findings.repair, findings.curves.labels
    if repair is None or task.subject is None:
        return [], []
    names = np.asarray(task.images.classes)[labels]
    columns = ("original", "repaired")
    pairs = split_by_group(names, repair.original, repair.repaired)
    subject = compare_groups(RECALL, {task.subject: pairs.pop(task.subject)}, columns, options.level)
    order = [task.images.classes[label] for label in np.unique(labels).tolist() if label != task.label]
    shown = [*subject, *changed_groups(compare_groups(RECALL, {name: pairs[name] for name in order}, columns, options.level))]
    others = replace(findings.curves.metrics["other classes"], name=OTHERS)
    means = others, Metric.mean(ACCURACY, len(labels))
    rows = [*((str(entry.group), Metric(RECALL, names, {str(entry.group): 1.0})) for entry in shown), *((None, mean) for mean in means)]
    shares = [
        metric.share(outcomes, column, group, level=options.level, seed=options.seed)
        for column, outcomes in zip(columns, (repair.original, repair.repaired), strict=True)
        for group, metric in rows
    ]
    return shares, [
        *shown,
        *(mean.difference(repair.original, repair.repaired, columns, level=options.level, seed=options.seed) for mean in means),
    ]


def ablation_verdict(findings: CriticalFindings, curve_points: Sequence[CurvePoint], *, chance: float, options: Options) -> Verdict:
    """Whether the filters of highest value matter more than random ones, and to what else.

    "critical filters found" needs recall of the class (or accuracy) to fall measurably, and further than with as many random filters frozen.
    """
    curves, level = findings.curves, options.level
    metric = next(iter(curves.metrics))
    if (frozen := curves.counts[-1]) == 0:
        sentences = ["On the attribution images no valued filter raised the objective."]
        return Verdict(outcome="no claim", headline="No filter has a positive value: none is important.", sentences=sentences, worse=[])
    last = {(point.series, point.metric): point for point in curve_points if point.filters == frozen}
    start = next(point for point in curve_points if (point.series, point.metric, point.filters) == ("highest", metric, 0))
    top, random, contrast = last["highest", metric], last["random", metric], curves.contrast(metric, level=level, seed=options.seed)
    shown = contrast.high < 0 and top.change_high < 0
    number, plural = ("" if frozen == 1 else f"{frozen} "), "" if frozen == 1 else "s"
    rank = "value less penalty" if is_penalised(findings) else "value"
    headline = (
        f"Freezing the {number}filter{plural} of highest {rank} takes {_subject(curves, metric)} from {format_percent(start.value)} to "
        f"{format_percent(top.value)} ({describe_interval(top.change_low, top.change_high, level, top.n)})"
    )
    control = f"With {frozen} random filter{plural} frozen it {_describe_point(random, level)}."
    doubt = "chance" if contrast.high < 0 else f"freezing {frozen} random filter{plural}"
    sentences = [control]
    if curves.label is None:
        sentences.append(f"A guess is right in {format_percent(chance)} of cases.")
    others: tuple[MetricName, ...] = ("other classes", "accuracy") if curves.label is not None else ()
    sentences += [
        f"With the same filters frozen {_subject(curves, other)} {_describe_point(last['highest', other], level)}." for other in others
    ]
    return Verdict(
        outcome="critical filters found" if shown else "no claim",
        headline=f"{headline}." if shown else f"{headline}, which cannot be told from {doubt}.",
        sentences=[*sentences, UNCHANGED],
        worse=[],
    )


def repair_verdict(differences: Sequence[Difference], ablation: Verdict, subject: str, *, filters: int, level: float) -> Verdict:
    """The repair of a class, what got worse first; then what freezing its important filters does.

    "repaired" needs the claim that recall of the class rose.
    """
    context = [ablation.headline, *(sentence for sentence in ablation.sentences if sentence != UNCHANGED)]
    if not filters:
        return unchanged_network(subject, context)
    change = next(entry for entry in differences if entry.group == subject)
    fallen = sorted((entry for entry in differences if entry.value < 0), key=lambda entry: entry.claim != "worse")
    worse = [state_change(entry, level) for entry in fallen]
    headline = f"Freezing {filters} filter{'s' if filters > 1 else ''}: recall of {subject} {describe_change(change, level)}."
    return Verdict(
        outcome="repaired" if change.claim == "better" else "no claim",
        headline=" ".join([headline, *measurably_worse(entry for entry in fallen if entry is not change)]),
        sentences=[*worse, *context],
        worse=worse,
    )


def _subject(curves: AblationCurves, metric: MetricName) -> str:
    name = curves.metrics[metric].name
    return f"the {name}" if metric == OTHERS else name


def _describe_point(point: CurvePoint, level: float) -> str:
    return describe_interval_change(point.change, point.change_low, point.change_high, level, point.n)


def is_penalised(findings: CriticalFindings) -> bool:
    """Whether anything counts against a filter in the ranking."""
    return findings.ranking is not None and findings.ranking.factor > 0


def objective(task: CriticalTask, findings: CriticalFindings) -> str:
    """What filters were ranked by."""
    if task.subject is None:
        return "accuracy on all classes"
    if findings.ranking is None or not is_penalised(findings):
        return f"recall of {task.subject}"
    return f"recall of {task.subject}, less {findings.ranking.factor:g} times the mean size of what it is to other classes"


def compare_baselines(task: CriticalTask, options: Options, findings: CriticalFindings) -> Comparison | None:
    """The run beside baselines; None unless they were asked for."""
    if findings.comparison is None:
        return None
    metrics, repair = list(findings.curves.metrics.values()), findings.repair
    return comparison(
        findings.comparison,
        replace(recall_less_others(findings.curves) if findings.ranking else metrics[0], lower_is_better=True),
        order="highest value first",
        beside=metrics[1] if task.label is not None else None,
        before=repair.original.astype(np.float64) if repair else None,
        judged=metrics[:2] if repair else (),
        strategy=options.strategy,
        most=min(findings.attribution.top_k, len(findings.important)) if findings.ranking else None,
        level=options.level,
        seed=options.seed,
    )


def recall_less_others(curves: AblationCurves) -> Metric:
    """Recall of the class less the mean recall of the others: what a class-specific ranking is to make fall."""
    recall, others, _ = curves.metrics.values()
    weights = {**recall.weights, **{label: -weight for label, weight in others.weights.items()}}
    return Metric(f"{recall.name} less {others.name}", curves.labels, weights, sizes=f"{recall.n} and {others.n} of other classes")


def extremes(findings: CriticalFindings) -> list[Extreme]:
    """Both ends of the values; the low end from the attribution that sought it, where a repair made one."""
    high = top_filters(findings.attribution, "high")
    if findings.ranking and not findings.repair:  # its low end is of what other classes need, not of what harms this class
        return [high]
    return [high, top_filters(findings.repair.attribution if findings.repair else findings.attribution, "low")]


def layers(findings: CriticalFindings) -> list[LayerCount]:
    """How many of the filters that the ablation freezes lie in each layer that has any."""
    filters = findings.filters
    site_of = filters.site_of[findings.important[: findings.curves.counts[-1]]]
    return [
        LayerCount(layer=filters.sites[site].layer, critical=int((site_of == site).sum()), filters=filters.sites[site].filters)
        for site in np.unique(site_of).tolist()
    ]


def method(task: CriticalTask, options: Options, findings: CriticalFindings) -> list[str]:
    """How filters were valued, frozen and selected, a sentence each."""
    attribution, repair, choice = findings.attribution, findings.repair, findings.live_range_choice
    score = SCORES[options.score].format(smooth="sigmoid of the margin between the label's logit and the next")
    idle = int(((attribution.screen == 0) & ~(np.abs(attribution.value) > ROUNDING)).sum())
    ends = " for each end" if repair and repair.attribution is not attribution else ""
    sentences = [
        f"Filters were valued by {f'recall of {task.subject}' if task.subject else 'accuracy'}, {score}.",
        "The most positive values are the important filters, the most negative ones the harmful filters.",
        *ranking_sentences(task, options, findings),
        f"Players: {len(attribution.ids):,} filters of all convolutions but the classifier's.",
        f"A frozen filter sends on its mean {'after' if options.freeze_at == 'post' else 'before'} the ReLU over the {len(findings.split.attribute):,} attribution images.",
        f"Engine {attribution.engine}, {options.budget:,.0f} image passes{ends}; {int((attribution.samples > 0).sum()):,} filters were valued by exact flips for the high end.",
        common.live_range_sentence(attribution.engine, [attribution.min_live], options.truncation),
    ]
    if choice:
        sentences += [f"The {choice.images:,} selection images chose the live range and did nothing else.", *describe_choice(choice)]
    if findings.curves.counts[-1]:
        sentences += [
            f"Ablation: the highest filters were frozen, measured at {count_filters(findings.curves.counts)}, on test images that had no part in attribution.",
            f"The control froze as many filters drawn at random, in {DRAWS} orders, whose mean is shown.",
        ]
        if "control" not in findings.passes:
            sentences.append("The control is that of all classes of this run; its cost stands in the report of the first.")
    if idle:
        sentences.append(f"{idle:,} filters have no effect on this: their gradient estimate is exactly 0, and a value is 0 up to rounding.")
    also, exact = (" and of the selection's gains", ", the guard") if repair else ("", "")
    sentences += common.precision_sentence(options.precision, also, exact)
    sentences += common.memory_sentence(findings.reduced_batch, options.batch)
    if repair is not None:
        how = "forward selection" if options.strategy == "forward" else "the most negative first"
        sentences += [
            f"Repair: {how} among up to {options.candidates} harmful filters on the selection images, at most {options.max_filters}.",
            f"Guard: the one-sided 90 % bound on the fall of accuracy on the other classes stays under {limit(options.max_clean_drop)}.",
            f"{repair.selection.chosen} filters were frozen; selection stopped because {repair.selection.reason}.",
        ]
    return sentences


def ranking_sentences(task: CriticalTask, options: Options, findings: CriticalFindings) -> list[str]:
    """What a class-specific ranking counts against a filter; nothing where the class alone is looked at."""
    if (ranking := findings.ranking) is None:
        return []
    others = len(np.unique(task.images.labels)) - 1
    classes = (
        f"the {others} other classes" if ranking.classes == others else f"{ranking.classes} of the {others} other classes, drawn at random"
    )
    guard = f"the one-sided 90 % bound on the fall of the mean recall of the other classes is at most {limit(options.spare)}"
    chosen = (
        f"With the least factor tried {guard}."
        if ranking.spared and not ranking.factor
        else f"With it {guard}; with the next lower one it is not."
        if ranking.spared
        else f"It is the last: with none that was tried {guard}."
    )
    sentences = [
        "Important filters are ranked by value less penalty, so that filters which all classes need do not come first.",
        f"The penalty is {ranking.factor:g} times the mean size, over {classes}, of the filter's first-order marginal for recall of that class.",
        f"The marginals are measured near the whole network, with a live share of at least {PRICED_AT:g}.",
        f"The factor was sought by bisection among {TRIED}. {chosen}",
        f"On the selection images that recall fell by {hundredths(ranking.fall)} points with the important filters frozen (bound: {hundredths(ranking.bound)}).",
        "The bound is a rule of choice and no interval, because the factor was chosen on these images.",
        f"Filters were picked for flips at a factor of {ranking.first:g}.",
    ]
    if findings.comparison:
        sentences += [
            "Leave-one-out, Taylor and conductance have a penalty as well. The same rule chooses its factor on the same images, and its passes count.",
            "The other baselines know no other class.",
        ]
    return sentences


def limits(task: CriticalTask, options: Options) -> list[str]:
    """What a reader must not conclude."""
    penalty = "The penalty of a filter is an estimate from few gradients of each class, which intervals take as known."
    return [
        common.overlap_sentence(len(read_record(task.model.weights))),
        "Intervals speak of new images of the same kind for this network as it is; attributing or drawing filters anew is not in them.",
        common.half_width_sentence(options.guarantee),
        *([penalty] if options.ranking == "specific" else []),
        "A fall of accuracy with filters frozen says that the network depends on them, not what they compute.",
    ]
