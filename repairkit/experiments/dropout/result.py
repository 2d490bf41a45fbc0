"""The result on filter dropout: from who was classified correctly in two networks, with which filters frozen, to numbers, verdict and method."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from repairkit.baselines.evaluation import comparison
from repairkit.baselines.rankings import DRAWS
from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.curves import AblationCurves, Series
from repairkit.evaluation.metrics import ACCURACY, Metric, claim_of
from repairkit.evaluation.statistics import Floats, simultaneous
from repairkit.evaluation.wording import count_filters, describe_interval, format_count, format_percent, format_points
from repairkit.experiments import common
from repairkit.experiments.dropout.rankings import COLUMN_PAIR, FIRST, SECOND, Rankings, rankings
from repairkit.experiments.dropout.run import DropoutFindings, DropoutTask, ValuedNetwork
from repairkit.experiments.records import (
    COLUMNS,
    SCORES,
    cost_records,
    describe_images,
    dropout_explanation,
    guarantees_of,
    image_counts,
    make_reproduction,
    top_filters,
)  # fmt: skip
from repairkit.repair.live_range import describe_choice
from repairkit.report.formatting import listed
from repairkit.result import Column, CurvePoint, Difference, Extreme, Record, Result, Share, Verdict
from repairkit.run.options import Options

SERIES: tuple[Series, ...] = ("highest", "lowest", "random")
BINS = 30
SHOWN = 10
"""Filters listed of each end; attribution.parquet has all."""


class SharedHistogram(Record):
    """Histograms of two networks' filters over the same edges."""

    title: str
    edges: list[float]
    counts: dict[str, list[int]]  # by column


class DropoutExtra(Record):
    """What a network and its dropout-trained comparison model depend on.

    Shares and differences have the metrics "accuracy" and, with the highest, the lowest and random filters frozen, "accuracy, highest frozen"
    and so on; differences "change, highest frozen" and so on too. Their groups are the numbers of filters, and none for the means over these.
    """

    images: str
    dropout_model: str
    parts: dict[str, int]  # attribution, selection (the live range at most) and test images
    players: int  # filters of each network
    draws: int  # orders of random filters
    most_frequent: float  # accuracy of whoever always names the most frequent class
    curves: list[CurvePoint]
    spreads: list[SharedHistogram]
    extremes: dict[str, list[Extreme]]  # by column
    rankings: Rankings | None = None  # likewise


DropoutResult = Result[DropoutExtra]


def summarise(
    task: DropoutTask, options: Options, findings: DropoutFindings, *, title: str, command: str, minutes: float, notices: list[str]
) -> DropoutResult:
    """The result of a run; all arithmetic of the report happens here."""
    curves, networks = findings.curves, findings.networks
    shares, differences = shares_of(curves, options.level, options.seed), differences_of(curves, options.level, options.seed)
    explanations = {"original": COLUMNS["original"][1], "dropout": dropout_explanation(task.dropout)}
    frequent = most_frequent(curves)
    return DropoutResult(
        kind="dropout",
        title=title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=notices,
        level=options.level,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective="accuracy on all classes",
        verdict=verdict(curves[FIRST].counts, frequent, shares, differences, level=options.level),
        columns=[Column(key=key, label=COLUMNS[key][0], explanation=explanations[key]) for key in networks],
        groups=list(dict.fromkeys(entry.group for entry in differences if entry.group)),
        shares=shares,
        differences=differences,
        method=method(task, options, findings),
        costs=cost_records(findings.passes, findings.seconds),
        guarantees=[entry for column, network in networks.items() for entry in guarantees_of(network.highest, column, 0)],
        limits=limits(task, options),
        reproduction=make_reproduction(
            options,
            command=command,
            minutes=minutes,
            hashes={"model": task.model.sha256, "dropout model": task.dropout.sha256, "images": data_hash(task.images)}
            | ({"training data": data_hash(task.training)} if task.training else {}),
            settings={"top": str(networks["original"].highest.top_k)},
            training={
                f"training of the {name} network": f"{sum(stage.seconds for stage in model.stages) / 60:.1f} minutes"
                for name, model in (("original", task.model), ("dropout-trained", task.dropout))
                if model.stages
            },
        ),
        comparisons={
            column: comparison(
                compared,
                Metric.mean(ACCURACY, len(curves[column].labels), lower_is_better=True),
                order="highest value first",
                level=options.level,
                seed=options.seed,
                networks=len(findings.comparisons),
            )
            for column, compared in findings.comparisons.items()
        },
        extra=DropoutExtra(
            dropout_model=f"{task.dropout.architecture}: {task.dropout.provenance}",
            images=describe_images(task.images),
            parts=image_counts(findings.split),
            players=len(networks["original"].filters),
            draws=DRAWS,
            most_frequent=frequent,
            curves=[
                point for column, network in curves.items() for point in network.points(column, level=options.level, seed=options.seed)
            ],
            spreads=spreads(networks),
            extremes={
                column: [top_filters(network.highest, "high", SHOWN), top_filters(network.lowest, "low", SHOWN)]
                for column, network in networks.items()
            },
            rankings=rankings(findings.comparisons, level=options.level, seed=options.seed),
        ),
    )


def accuracy_of(series: Series) -> str:
    """Name of the metric: accuracy with filters frozen; of no group, its mean over the numbers of filters.

    Example:
        >>> accuracy_of("highest"), change_of("random")
        ('accuracy, highest frozen', 'change, random frozen')
    """
    return f"accuracy, {series} frozen"


def change_of(series: Series) -> str:
    """Name of the metric: what freezing filters changes of accuracy, negative for a fall."""
    return f"change, {series} frozen"


def most_frequent(curves: Mapping[str, AblationCurves]) -> float:
    """Accuracy of whoever always names the class that most test images have."""
    labels = curves[FIRST].labels
    return float(np.bincount(labels).max() / len(labels))


def shares_of(curves: Mapping[str, AblationCurves], level: float = 0.95, seed: int = 0) -> list[Share]:
    """Accuracy of both networks: with nothing frozen, and the mean over the numbers of filters of each series."""
    shares = []
    for column, network in curves.items():
        outcomes: dict[str, Floats] = {ACCURACY: network.outcomes["highest"][0]}
        if len(network.counts) > 1:
            outcomes |= {accuracy_of(series): network.outcomes[series][1:].mean(axis=0) for series in SERIES}
        shares += [Metric.mean(name, len(network.labels)).share(right, column, level=level, seed=seed) for name, right in outcomes.items()]
    return shares


def differences_of(curves: Mapping[str, AblationCurves], level: float = 0.95, seed: int = 0) -> list[Difference]:
    """The dropout-trained network minus the original, paired: accuracy, what freezing changes of it, and accuracy with filters frozen.

    Of no group the means over the numbers of filters, of which there is one each; the verdict rests on those of the highest filters. At one
    number the claim holds for all the numbers of the three series and both metrics together (Bonferroni); its interval is that of the number alone.

    Example:
        >>> firm, weak = np.ones((2, 40)), np.array([np.ones(40), np.zeros(40)])
        >>> first, second = {"highest": weak, "lowest": firm, "random": firm}, dict.fromkeys(SERIES, firm)
        >>> curves = {column: AblationCurves(np.arange(40) % 2, ("cat", "dog"), None, (0, 1), outcomes)
        ...           for column, outcomes in (("original", first), ("dropout", second))}
        >>> [(d.metric, d.group, d.value, d.claim) for d in differences_of(curves) if d.metric == "change, highest frozen"]
        [('change, highest frozen', '1 filter', 1.0, 'better'), ('change, highest frozen', None, 1.0, 'better')]
    """
    counts, n = curves[FIRST].counts, len(curves[FIRST].labels)
    claims = 2 * len(SERIES) * (len(counts) - 1)
    start = np.stack([curves[column].outcomes["highest"][0] for column in COLUMN_PAIR])
    differences = [Metric.mean(ACCURACY, n).difference(start[0], start[1], COLUMN_PAIR, level=level, seed=seed)]
    for series in SERIES if len(counts) > 1 else ():
        frozen = np.stack([curves[column].outcomes[series][1:] for column in COLUMN_PAIR])
        groups = [format_count(filters, "filter") for filters in counts[1:]]
        for name, outcomes in ((change_of(series), frozen - start[:, None]), (accuracy_of(series), frozen)):
            metric = Metric.mean(name, n)
            rows = [(group, outcomes[:, row], claims) for row, group in enumerate(groups)]
            differences += [
                _difference(metric, group, first, second, level, seed, number)
                for group, (first, second), number in (*rows, (None, outcomes.mean(axis=1), 1))
            ]
    return differences


def _difference(metric: Metric, group: str | None, first: Floats, second: Floats, level: float, seed: int, claims: int) -> Difference:
    """How two networks differ in a metric of outcomes or of changes, with one of so many claims that hold together."""
    measure = metric.difference_of_changes if metric.name.startswith("change") else metric.change
    interval, strict = (measure(first, second, level=width, seed=seed) for width in (level, simultaneous(level, claims)))
    return Difference(metric=metric.name, group=group, first=FIRST, second=SECOND, n=metric.n, **interval._asdict(), claim=claim_of(strict))


def spreads(networks: Mapping[str, ValuedNetwork]) -> list[SharedHistogram]:
    """Histograms of the values of the filters that were flipped, and of the gradient estimates of all filters."""
    histograms = [
        shared_histogram("Values of the filters that were flipped", {column: values_of(network) for column, network in networks.items()}),
        shared_histogram("Gradient estimates of all filters", {column: network.highest.screen for column, network in networks.items()}),
    ]
    return [entry for entry in histograms if entry is not None]


def values_of(network: ValuedNetwork) -> Floats:
    """The value of each filter by the attribution that observed it more often; NaN where neither did."""
    high, low = network.highest, network.lowest
    return np.where(low.samples > high.samples, low.value, high.value)


def shared_histogram(title: str, numbers: dict[str, Floats]) -> SharedHistogram | None:
    """Histograms over the same edges, from the least to the greatest number of all; None where a network has none.

    Example:
        >>> shared_histogram("toy", {"a": np.array([0.0, 1.0, np.nan]), "b": np.array([3.0])}).counts["a"][:12].index(1)
        0
        >>> shared_histogram("toy", {"a": np.array([np.nan])}) is None
        True
    """
    known = {column: values[~np.isnan(values)] for column, values in numbers.items()}
    if not all(len(values) for values in known.values()):
        return None
    edges = np.histogram_bin_edges(np.concatenate(list(known.values())), bins=BINS)
    counts = {column: np.histogram(values, bins=edges)[0].tolist() for column, values in known.items()}
    return SharedHistogram(title=title, edges=edges.tolist(), counts=counts)


def verdict(counts: Sequence[int], frequent: float, shares: Sequence[Share], differences: Sequence[Difference], *, level: float) -> Verdict:
    """Whether the dropout-trained network depends less on its highest filters, and what it costs, what is worse first.

    The verdict rests on one pair of numbers fixed beforehand, means over the numbers of filters. "less dependent" needs a smaller fall and a higher
    accuracy with the highest filters frozen, both with intervals above zero: a network that begins lower has less to lose, so a smaller
    fall alone says little. "more dependent" needs a larger fall and a lower accuracy, likewise.
    """
    changes = {entry.metric: entry for entry in differences if entry.group is None}
    accuracy = {(share.metric, share.column): format_percent(share.value) for share in shares}
    mean = " on average" if len(counts) > 2 else ""

    def pair(metric: str, mean: str = mean) -> str:
        return f"the dropout-trained network is right on {accuracy[metric, SECOND]}{mean}, the original on {accuracy[metric, FIRST]}"

    cost = changes[ACCURACY]
    cost_sentence = f"With nothing frozen {pair(ACCURACY, '')} ({_interval(cost, level)})"
    if len(counts) == 1:
        headline = "No filter was valued in both networks, so none was frozen."
        return Verdict(outcome="no claim", headline=headline, sentences=[f"{cost_sentence}."], worse=[])
    fall, left, lowest = changes[change_of("highest")], changes[accuracy_of("highest")], changes[change_of("lowest")]
    outcome, conclusion = _conclusion(fall, left, level)
    high, filters = accuracy_of("highest"), f"{listed(counts[1:])} of its highest filters" if mean else "its highest filter"
    headline = (
        f"With {filters} frozen the dropout-trained network goes from {accuracy[ACCURACY, SECOND]} to {accuracy[high, SECOND]}{mean}, "
        f"the original from {accuracy[ACCURACY, FIRST]} to {accuracy[high, FIRST]}. {conclusion}"
    )
    lowest_sentence = (
        f"With as many of its lowest filters frozen {pair(accuracy_of('lowest'))}. "
        f"What freezing changes differs by {format_points(lowest.value)} points ({_interval(lowest, level)})."
    )
    cost_loss = [f"{cost_sentence}{'' if cost.claim == 'worse' else ', an amount that may be chance'}."] if cost.value < 0 else []
    lowest_loss = [lowest_sentence] if lowest.high < 0 else []
    sentences = [
        *cost_loss,
        *lowest_loss,
        *([] if cost_loss else [f"{cost_sentence}."]),
        *([] if lowest_loss else [lowest_sentence]),
        f"With as many random filters frozen {pair(accuracy_of('random'))}.",
        f"Always naming the most frequent class is right on {format_percent(frequent)}.",
    ]
    worse = [*cost_loss, *([headline] if fall.high < 0 else []), *lowest_loss]
    if cost.claim == "worse":
        headline = f"{headline} Measurably worse: accuracy with nothing frozen."
    return Verdict(outcome=outcome, headline=headline, sentences=sentences, worse=worse)


def _conclusion(fall: Difference, left: Difference, level: float) -> tuple[Literal["less dependent", "more dependent", "no claim"], str]:
    """The outcome and its sentence: how much further one network falls, and on how many images it is right then."""
    less = fall.value > 0
    apart = f"It loses {format_points(fall.value)} points {'less' if less else 'more'} ({_interval(fall, level)})"
    if fall.low <= 0 <= fall.high:
        return "no claim", f"{apart}, which cannot be told from chance."
    images = "more images" if left.low > 0 else "fewer images" if left.high < 0 else "as many images, as far as these can tell"
    right = f"is right on {images} then ({_interval(left, level)})"
    if min(fall.low, left.low) > 0:
        return "less dependent", f"{apart} and {right}."
    if max(fall.high, left.high) < 0:
        return "more dependent", f"{apart} and {right}."
    return "no claim", f"{apart}, but it had {'less' if less else 'more'} to lose and {right}."


def _interval(entry: Difference, level: float) -> str:
    return describe_interval(entry.low, entry.high, level, entry.n)


def method(task: DropoutTask, options: Options, findings: DropoutFindings) -> list[str]:
    """How filters were valued and frozen, a sentence each."""
    networks, choice, split = findings.networks, findings.live_range_choice, findings.split
    first, curves = networks[FIRST], findings.curves[FIRST]
    smooth = "probability of the label" if len(task.images.classes) == 2 else "sigmoid of the margin between the label's logit and the next"
    live_ranges = sorted({network.highest.min_live for network in networks.values()})
    valued = "; ".join(
        f"{COLUMNS[column][0]} {int((~np.isnan(values_of(network))).sum()):,} filters" for column, network in networks.items()
    )
    ends = "" if first.highest is first.lowest else " and end (the highest and the lowest values are sought on their own)"
    return [
        f"Filters were valued by accuracy, {SCORES[options.score].format(smooth=smooth)}.",
        f"Players: the same {len(first.filters):,} filters in both networks, of all convolutions but the classifier's.",
        f"A frozen filter sends on the mean of its network {'after' if options.freeze_at == 'post' else 'before'} the ReLU over the {len(split.attribute):,} attribution images.",
        f"Engine {first.highest.engine}, {options.budget:,.0f} image passes for each network{ends}.",
        f"Valued by exact flips: {valued}.",
        common.live_range_sentence(first.highest.engine, live_ranges, options.truncation),
        f"Ablation: each network had its highest filters, its lowest and random ones frozen, measured at {count_filters(curves.counts)}.",
        f"That was measured on {len(split.report):,} test images, which had no part in attribution.",
        f"Random filters are the same in both networks, in {DRAWS} orders.",
        "A claim at one number of filters needs an interval that excludes zero when it is widened for all numbers, series and metrics (Bonferroni).",
        *(
            [
                f"The {choice.images:,} selection images chose the live range of both networks and did nothing else.",
                *describe_choice(choice),
            ]
            if choice
            else ["The selection images were left alone, so that the split is that of repairkit accuracy."]
        ),
        *(
            ["The two networks have other live ranges, so their values are not on one scale; --min-live sets one for both."]
            if len(live_ranges) > 1
            else []
        ),
        *common.precision_sentence(options.precision),
        *(
            sentence
            for column, network in networks.items()
            for sentence in common.memory_sentence(
                network.reduced_batch, options.batch, f"the attribution of the {COLUMNS[column][0].lower()} network"
            )
        ),
    ]


def limits(task: DropoutTask, options: Options) -> list[str]:
    """What a reader must not conclude."""
    trained = {
        name: len(task.training) if task.training else len(read_record(model.weights))
        for name, model in (("original network", task.model), ("dropout-trained network", task.dropout))
    }
    return [
        *(common.overlap_sentence(number, name) for name, number in trained.items()),
        "These are two networks, and not a law about dropout: unless their trainings were alike but for it, they differ by their whole training.",
        "Intervals speak of new images of the same kind for these networks as they are; training or valuing filters anew is not in them.",
        "A network that begins lower has less to lose, and one that has fallen to guessing falls no further: read a fall with the accuracy that is left.",
        "Values are in the unit of each network's objective: a network that is less sure of its answers has smaller values, whatever its filters do.",
        common.half_width_sentence(options.guarantee, "all filters of a network"),
    ]
