"""From findings to a result: the words and numbers of a report on critical filters."""

from __future__ import annotations

import datetime
from dataclasses import replace

import numpy as np

from repairkit.baselines.evaluation import comparison
from repairkit.baselines.rankings import DRAWS
from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.curves import AblationCurves
from repairkit.evaluation.metrics import Metric
from repairkit.evaluation.wording import count_filters
from repairkit.experiments.classifier_task import ROUNDING, CriticalTask
from repairkit.experiments.critical.class_ranking import FACTORS, PRICED_AT
from repairkit.experiments.critical.evaluation import compare, verdict_of_removal, verdict_of_repair
from repairkit.experiments.critical.result import CriticalExtra, CriticalResult, LayerCount
from repairkit.experiments.critical.run import CriticalFindings
from repairkit.experiments.records import COLUMNS, SCORES, by_column, guarantees_of, make_reproduction, top_filters, value_histogram
from repairkit.repair.live_range import settled_in_words
from repairkit.report.formatting import limit
from repairkit.result import Column, Comparison, Cost, Difference, Extreme, FrozenFilter, Share
from repairkit.run.options import Options

TRIED = f"0 and {len(FACTORS) - 1} factors from {FACTORS[1]:g} to {FACTORS[-1]:g}, each about {round(100 * (FACTORS[-1] / FACTORS[-2] - 1))} % above the last"
"""Factors of the price, in words."""


def summarise(
    task: CriticalTask, options: Options, findings: CriticalFindings, *, title: str, command: str, minutes: float, notices: list[str]
) -> CriticalResult:
    """The result of a run; all arithmetic of the report happens here."""
    removal, repair = findings.removal, findings.repair
    points = removal.points(options.level, options.seed)
    chance = 1 / len(task.images.classes)
    verdict = verdict_of_removal(
        removal,
        points,
        chance=chance,
        level=options.level,
        seed=options.seed,
        ranked="value less price" if is_priced(findings) else "value",
    )
    shares: list[Share] = []
    differences: list[Difference] = []
    if repair is not None and task.label is not None and task.subject is not None:
        shares, differences = compare(
            removal.labels, task.images.classes, task.label, repair.original, repair.repaired, options.level, options.seed
        )
        verdict = verdict_of_repair(differences, verdict, subject=task.subject, filters=repair.choice.chosen, level=options.level)
    columns = ("original", "repaired") if repair else ("original",)
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
        frozen=_frozen(findings),
        histograms=[
            value_histogram([findings.attribution, *([repair.attribution] if repair else [])], [entry.value for entry in _frozen(findings)])
        ],
        method=method(task, options, findings),
        costs=[Cost(part=part, passes=findings.passes.get(part, 0.0), seconds=seconds) for part, seconds in findings.seconds.items()],
        guarantees=guarantees_of(findings.attribution, "original", 0),
        limits=limits(task, options),
        reproduction=make_reproduction(
            options,
            command=command,
            minutes=minutes,
            hashes={"model": task.model.sha256, "images": data_hash(task.images)},
            settings={"top": str(findings.attribution.top_k)}
            | ({"ranking": "specific" if findings.specific else "recall"} if task.subject else {}),
        ),
        comparisons=by_column(columns[-1], compared(task, options, findings)),
        extra=CriticalExtra(
            images=f"{task.images.name}, {len(task.images):,} images of {len(np.unique(task.images.labels)):,} classes",
            subject=task.subject,
            parts={part: len(rows) for part, rows in vars(findings.split).items()},
            chance=chance,
            draws=DRAWS,
            removal=points,
            layers=layers(findings),
            extremes=extremes(findings),
        ),
    )


def is_priced(findings: CriticalFindings) -> bool:
    """Whether anything counts against a filter in the ranking."""
    return findings.specific is not None and findings.specific.factor > 0


def objective(task: CriticalTask, findings: CriticalFindings) -> str:
    """What filters were ranked by, in words."""
    if task.subject is None:
        return "accuracy on all classes"
    price = (
        f", less {findings.specific.factor:g} times the mean size of what it is to other classes"
        if findings.specific and is_priced(findings)
        else ""
    )
    return f"recall of {task.subject}{price}"


def compared(task: CriticalTask, options: Options, findings: CriticalFindings) -> Comparison | None:
    """The run held against baselines; None where nobody asked."""
    if findings.compared is None:
        return None
    metrics = list(findings.removal.metrics.values())
    repair = findings.repair
    return comparison(
        findings.compared,
        replace(recall_less_others(findings.removal) if findings.specific else metrics[0], lower_is_better=True),
        order="highest value first",
        beside=metrics[1] if task.label is not None else None,
        before=repair.original.astype(np.float64) if repair else None,
        judged=metrics[:2] if repair else (),
        strategy=options.strategy,
        most=min(findings.attribution.top_k, len(findings.critical)) if findings.specific else None,
        level=options.level,
        seed=options.seed,
    )


def recall_less_others(curves: AblationCurves) -> Metric:
    """Recall of the class less the mean recall of the others: what a class-specific ranking is to make fall."""
    own, others = (curves.metrics[name] for name in ("recall", "other classes"))
    weights = {**own.weights, **{label: -weight for label, weight in others.weights.items()}}
    return Metric(f"{own.name} less {others.name}", curves.labels, weights, sizes=f"{own.n} and {others.n} of other classes")


def _frozen(findings: CriticalFindings) -> list[FrozenFilter]:
    culprits = findings.repair.patch.culprits if findings.repair else []
    return [FrozenFilter(fold=0, column="repaired", **culprit.model_dump()) for culprit in culprits]


def extremes(findings: CriticalFindings) -> list[Extreme]:
    """Both ends of the values; the low end from the attribution that sought it, where a repair made one."""
    low = findings.repair.attribution if findings.repair else findings.attribution
    if findings.specific and not findings.repair:  # its low end is of what others need, not of what harms this class
        return [top_filters(findings.attribution, "high")]
    return [top_filters(findings.attribution, "high"), top_filters(low, "low")]


def layers(findings: CriticalFindings) -> list[LayerCount]:
    """How many of the filters that the removal curve freezes lie in each layer that has any, in the order in which the network runs them."""
    filters = findings.filters
    site_of = filters.site_of[findings.critical[: findings.removal.counts[-1]]]
    return [
        LayerCount(layer=filters.sites[site].layer, critical=int((site_of == site).sum()), filters=filters.sites[site].filters)
        for site in np.unique(site_of).tolist()
    ]


def method(task: CriticalTask, options: Options, findings: CriticalFindings) -> list[str]:
    """How the filters were found and removed, a sentence each."""
    found, repair, removal = findings.attribution, findings.repair, findings.removal
    smooth = "sigmoid of the margin between the label's logit and the next"
    unmoved = int(((found.screen == 0) & ~(np.abs(found.value) > ROUNDING)).sum())
    sentences = [
        f"Filters were valued by {'recall of ' + task.subject if task.subject else 'accuracy'}, {SCORES[options.score].format(smooth=smooth)}; "
        "the most positive values are the critical filters, the most negative ones the culprits.",
        *specificity(task, options, findings),
        f"Players: {len(found.ids):,} filters of all convolutions but the classifier's; a frozen filter sends on its mean "
        f"{'after' if options.freeze_at == 'post' else 'before'} the ReLU over the {len(findings.split.attribute):,} images that find.",
        f"Engine {found.engine}, {options.budget:,.0f} image passes{' for each end' if repair and repair.attribution is not found else ''}; "
        f"{int((found.samples > 0).sum()):,} filters were valued by exact flips for the high end.",
        f"Live range: least live share = {found.min_live:g}: coalitions keep at least about that share of the filters live (0 is the Shapley value itself)."
        if found.engine == "tmab"
        else f"Truncation below a worth of {options.truncation:g}."
        if options.truncation
        else "No truncation.",
    ]
    if findings.settled:
        sentences.append(
            f"The {findings.settled.images:,} images that choose settled the live range and did nothing else: {settled_in_words(findings.settled)}."
        )
    if removal.counts[-1]:
        sentences.append(
            f"Removal: the highest filters were frozen, measured at {count_filters(removal.counts)}, on report images that had no part in finding them; "
            f"the control froze as many filters drawn at random, in {DRAWS} orders, whose mean is shown."
        )
    if removal.counts[-1] and "control" not in findings.passes:
        sentences.append("The control is that of all classes of this run; its cost stands in the report of the first.")
    if unmoved:
        sentences.append(
            f"{unmoved:,} filters have no effect on this: their screen is exactly 0, and their value, where there is one, is 0 up to rounding."
        )
    if options.precision != "float32":
        also = ", and those that tell what a candidate gains," if repair is not None else ""
        guard = ", the guard" if repair is not None else ""
        sentences.append(
            f"The attribution's passes{also} ran in {options.precision}; constants{guard} and every number on report images were measured in float32."
        )
    if findings.halved is not None:
        sentences.append(
            f"Memory ran out in the attribution, whose passes then carried {findings.halved} images in place of {options.batch}."
        )
    if repair is not None:
        sentences.append(
            f"Repair: {'forward selection' if options.strategy == 'forward' else 'the most negative first'} among up to {options.candidates} "
            f"culprits on the choose images, at most {options.max_filters}; guard: the one-sided 90 % bound on the fall of accuracy on the other "
            f"classes stays under {limit(options.max_clean_drop)}. {repair.choice.chosen} frozen; choosing stopped because {repair.choice.reason}."
        )
    return sentences


def specificity(task: CriticalTask, options: Options, findings: CriticalFindings) -> list[str]:
    """What a class-specific ranking counts against a filter; nothing where the class alone is looked at."""
    price = findings.specific
    if price is None:
        return []
    others = len(np.unique(task.images.labels)) - 1
    over = f"the {others} other classes" if price.classes == others else f"{price.classes} of the {others} other classes, drawn at random"
    changed, worst = (f"{round(-100 * each, 1) + 0.0:+.1f}".replace("-", "−") for each in (price.fall, price.bound))
    fell = f"on the images that choose it changed by {changed} points with the critical filters frozen (bound: {worst})"
    how = f"the one-sided 90 % bound on the fall of the mean recall of the other classes is at most {limit(options.spare)}"
    settled = (
        f"found by bisection among {TRIED}: {how}, with the next lower one it is not"
        if price.spared and price.factor
        else f"the least of {TRIED}: already there {how}"
        if price.spared
        else f"the last of {TRIED}: with none that was tried {how}"
    )
    sentences = [
        f"Critical filters are ranked by value less price, so that filters which all classes need do not come first: {price.factor:g} times the mean "
        f"size, over {over}, of the filter's first-order marginal for recall of that class, near the whole network (t0 = {PRICED_AT:g}). The factor is "
        f"{settled}; {fell}. That is a rule of choice, and no interval: the factor was chosen on these images. Filters were picked for flips at a factor of {price.first:g}."
    ]
    if findings.compared:
        sentences.append(
            "Of the baselines, leave-one-out, Taylor and conductance are less by a price as well, with a factor of their own that the same rule settles on "
            "the same images, and are charged its passes; the others know no other class."
        )
    return sentences


def limits(task: CriticalTask, options: Options) -> list[str]:
    """What a reader must not conclude."""
    trained_on = len(read_record(task.model.weights))
    return [
        f"The images share no file and no decoded image with the {trained_on:,} that the network was trained on, as far as recorded."
        if trained_on
        else "The training images were not at hand, so an overlap with them was not checked.",
        "Intervals speak of new images of the same kind for this network as it is; finding or drawing filters anew is not in them.",
        "Half-widths of values hold for one filter at a time and conditionally on the images that find; the highest of many estimates are biased upwards."
        if options.guarantee is None
        else "Half-widths of values hold for all filters at once, and conditionally on the images that find.",
        *(
            ["The price of a filter is an estimate from few gradients of each class, which intervals take as known."]
            if options.ranking == "specific"
            else []
        ),
        "That accuracy falls when filters are frozen together says that the network depends on them, not what they compute.",
    ]
