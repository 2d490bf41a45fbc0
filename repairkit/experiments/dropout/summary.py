"""From findings to a result: the words and numbers of a report on filter dropout."""

from __future__ import annotations

import datetime

import numpy as np

from repairkit.baselines.evaluation import comparison
from repairkit.baselines.rankings import DRAWS
from repairkit.data.images import LabelledImages, data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.metrics import ACCURACY, Metric
from repairkit.evaluation.wording import count_filters
from repairkit.experiments.dropout.evaluation import verdict
from repairkit.experiments.dropout.rankings import rankings
from repairkit.experiments.dropout.result import DropoutExtra, DropoutResult, SharedHistogram
from repairkit.experiments.dropout.run import DropoutFindings, DropoutTask, ValuedNetwork
from repairkit.experiments.records import COLUMNS, SCORES, dropout_explanation, guarantees_of, make_reproduction, top_filters
from repairkit.models.zoo import LoadedModel
from repairkit.repair.live_range import settled_in_words
from repairkit.result import Column, Comparison, Cost, Extreme, Guaranteed
from repairkit.run.options import Options
from repairkit.shapley.game import Floats

BINS = 30
SHOWN = 10
"""Filters listed of each end; attribution.parquet has all."""


def summarise(
    task: DropoutTask, options: Options, findings: DropoutFindings, *, title: str, command: str, minutes: float, notices: list[str]
) -> DropoutResult:
    """The result of a run; all arithmetic of the report happens here."""
    removals, networks = findings.removals, findings.networks
    shares, differences = removals.shares(options.level, options.seed), removals.differences(options.level, options.seed)
    explained = {"original": COLUMNS["original"][1], "dropout": dropout_explanation(task.dropout)}
    return DropoutResult(
        kind="dropout",
        title=title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=notices,
        level=options.level,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective="accuracy on all classes",
        verdict=verdict(removals, shares, differences, level=options.level),
        columns=[Column(key=key, label=COLUMNS[key][0], explanation=explained[key]) for key in networks],
        groups=list(dict.fromkeys(entry.group for entry in differences if entry.group)),
        shares=shares,
        differences=differences,
        frozen=[],
        histograms=[],
        method=method(task, options, findings),
        costs=[Cost(part=part, passes=findings.passes.get(part, 0.0), seconds=seconds) for part, seconds in findings.seconds.items()],
        guarantees=claims(networks),
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
        comparisons=compared(options, findings),
        extra=DropoutExtra(
            dropout_model=f"{task.dropout.architecture}: {task.dropout.provenance}",
            images=f"{task.images.name}, {len(task.images):,} images of {len(np.unique(task.images.labels)):,} classes",
            parts={part: len(rows) for part, rows in vars(findings.split).items()},
            players=len(networks["original"].filters),
            draws=DRAWS,
            most_frequent=removals.most_frequent,
            removal=removals.points(options.level, options.seed),
            spreads=spreads(networks),
            extremes={column: ends(each) for column, each in networks.items()},
            rankings=rankings(findings.compared, level=options.level, seed=options.seed),
        ),
    )


def compared(options: Options, findings: DropoutFindings) -> dict[str, Comparison]:
    """Each network held against baselines along the curve of its highest filters, by column; empty where nobody asked."""
    return {
        column: comparison(
            each,
            Metric.mean(ACCURACY, len(findings.removals.labels), lower_is_better=True),
            order="highest value first",
            level=options.level,
            seed=options.seed,
            networks=len(findings.compared),
        )
        for column, each in findings.compared.items()
    }


def claims(networks: dict[str, ValuedNetwork]) -> list[Guaranteed]:
    """What the attributions claim; nothing where they were not asked to."""
    return [entry for column, each in networks.items() for entry in guarantees_of(each.highest, column, 0)]


def ends(network: ValuedNetwork) -> list[Extreme]:
    """The filters of the highest and of the lowest values, each from the attribution that sought this end."""
    return [top_filters(network.highest, "high", SHOWN), top_filters(network.lowest, "low", SHOWN)]


def spreads(networks: dict[str, ValuedNetwork]) -> list[SharedHistogram]:
    """Histograms of the values of the filters that were flipped, and of the screens of all filters, both networks over the same edges."""
    found = [
        shared_histogram("Values of the filters that were flipped", {column: values_of(each) for column, each in networks.items()}),
        shared_histogram("Screens of all filters", {column: each.highest.screen for column, each in networks.items()}),
    ]
    return [entry for entry in found if entry is not None]


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
    known = {column: each[~np.isnan(each)] for column, each in numbers.items()}
    if not all(len(each) for each in known.values()):
        return None
    edges = np.histogram_bin_edges(np.concatenate(list(known.values())), bins=BINS)
    counts = {column: np.histogram(each, bins=edges)[0].tolist() for column, each in known.items()}
    return SharedHistogram(title=title, edges=edges.tolist(), counts=counts)


def method(task: DropoutTask, options: Options, findings: DropoutFindings) -> list[str]:
    """How the filters were valued and frozen, a sentence each."""
    first, removals = findings.networks["original"], findings.removals
    live_ranges = sorted({each.highest.min_live for each in findings.networks.values()})
    smooth = "probability of the label" if len(task.images.classes) == 2 else "sigmoid of the margin between the label's logit and the next"
    sentences = [
        f"Filters were valued by accuracy, {SCORES[options.score].format(smooth=smooth)}.",
        f"Players: the same {len(first.filters):,} filters in both networks, of all convolutions but the classifier's; a frozen filter sends on its own "
        f"network's mean {'after' if options.freeze_at == 'post' else 'before'} the ReLU over the {len(findings.split.attribute):,} images that find.",
        f"Engine {first.highest.engine}, {options.budget:,.0f} image passes for each network"
        f"{'' if first.highest is first.lowest else ' and end (the highest and the lowest values are sought on their own)'}; valued by exact flips: "
        + "; ".join(
            f"{COLUMNS[column][0]} {int((~np.isnan(values_of(each))).sum()):,} filters" for column, each in findings.networks.items()
        )
        + ".",
        f"Live range: least live share = {' and '.join(f'{live_range:g}' for live_range in live_ranges)}: coalitions keep at least about that share of the filters live (0 is the Shapley value itself)."
        if first.highest.engine == "tmab"
        else f"Truncation below a worth of {options.truncation:g}."
        if options.truncation
        else "No truncation.",
        f"Removal: of each network its own highest filters, its own lowest and random ones were frozen, measured at {count_filters(removals.counts)}, on "
        f"{len(findings.split.report):,} report images that had no part in finding them; random filters are the same in both networks, in {DRAWS} orders.",
        "A claim at one number of filters needs an interval that excludes zero when it is widened for all numbers, the three series and both metrics (Bonferroni).",
        f"The {findings.settled.images:,} images that choose settled the live range of both networks and did nothing else: {settled_in_words(findings.settled)}."
        if findings.settled
        else "The images that a repair would choose on were left alone, so that the split is that of repairkit accuracy.",
    ]
    if len(live_ranges) > 1:
        sentences.append(
            "The two networks die at other sizes: values from other live ranges are not on one scale; --min-live sets one for both."
        )
    if options.precision != "float32":
        sentences.append(
            f"The attribution's passes ran in {options.precision}; constants and every number on report images were measured in float32."
        )
    sentences += [
        f"Memory ran out in the attribution of the {COLUMNS[column][0].lower()} network, whose passes then carried {each.halved} images in place of {options.batch}."
        for column, each in findings.networks.items()
        if each.halved is not None
    ]
    return sentences


def limits(task: DropoutTask, options: Options) -> list[str]:
    """What a reader must not conclude."""
    return [
        *(_overlap(model, name, task.training) for model, name in ((task.model, "original"), (task.dropout, "dropout-trained"))),
        "These are two networks, and not a law about dropout: unless their trainings were alike but for it, they differ by their whole training.",
        "Intervals speak of new images of the same kind for these networks as they are; training or valuing filters anew is not in them.",
        "A network that begins lower has less to lose, and one that has fallen to guessing falls no further: read a fall with the accuracy that is left.",
        "Values are in the unit of each network's own worth: a network that is less sure of its answers has smaller values, whatever its filters do.",
        "Half-widths of values hold for one filter at a time and conditionally on the images that find; the most extreme of many estimates are biased outwards."
        if options.guarantee is None
        else "Half-widths of values hold for all filters of a network at once, and conditionally on the images that find.",
    ]


def _overlap(model: LoadedModel, name: str, training: LabelledImages | None) -> str:
    trained_on = len(training) if training else len(read_record(model.weights))
    if not trained_on:
        return f"The training images of the {name} network were not at hand, so an overlap with them was not checked."
    return (
        f"The images share no file and no decoded image with the {trained_on:,} that the {name} network was trained on, as far as recorded."
    )
