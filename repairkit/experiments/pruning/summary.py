"""From findings to a result: the words and numbers of a report on pruning."""

from __future__ import annotations

import datetime
import math

import numpy as np

from repairkit.baselines.compare import SHAPLEY
from repairkit.baselines.evaluation import VARIANTS, comparison
from repairkit.baselines.rankings import DRAWS
from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.metrics import ACCURACY
from repairkit.evaluation.statistics import median_interval
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.pruning.baseline_evaluation import confessed, contest
from repairkit.experiments.pruning.baseline_search import Rival
from repairkit.experiments.pruning.evaluation import compare, verdict
from repairkit.experiments.pruning.footprint import TAKEN
from repairkit.experiments.pruning.result import (
    Contest,
    Footprint,
    KeptFilters,
    Latency,
    LayerWidth,
    PruningExtra,
    PruningResult,
    PruningTry,
)
from repairkit.experiments.pruning.run import BATCHES, PruningFindings
from repairkit.experiments.records import COLUMNS, SCORES, by_column, guarantees_of, make_reproduction, value_histogram
from repairkit.report.formatting import limit
from repairkit.result import Column, Comparison, Cost, CurvePoint, Difference
from repairkit.run.options import Options

EXPLAINED = {
    "original": COLUMNS["original"],
    "frozen": ("Frozen", "The same architecture, with the filters of least absolute value frozen at their mean; as large and as slow."),
    "pruned": ("Pruned", "The frozen filters are taken out, as far as that was possible: narrower layers, to be loaded by load_pruned."),
}
LEAST = {
    "random": f"An order drawn at random: what any other must beat. Its curve is the mean of {DRAWS} orders, the number is sought along the first.",
    "weight norm": "The smallest l2 norm of the filter's weights first: magnitude pruning.",
    "response norm": "The smallest l2 norm of what the filter sends on first.",
    "mean activation": "The smallest mean of what the filter sends on first, by its size.",
    SHAPLEY: "The values of this run, and the screen of filters that were not flipped.",
}
"""What an order is where the least comes first."""


def summarise(
    task: CriticalTask,
    options: Options,
    findings: PruningFindings,
    *,
    remove: bool,
    title: str,
    command: str,
    minutes: float,
    notices: list[str],
) -> PruningResult:
    """The result of a run; all arithmetic of the report happens here."""
    labels = task.images.labels[findings.split.report]
    shares, differences = compare(labels, task.images.classes, findings.right, options.level)
    footprints = [
        Footprint(column=column, parameters=findings.parameters[column], flops=findings.flops[column]) for column in findings.networks
    ]
    latencies = [latency(batch, timed, options.level) for batch, timed in findings.timings.items()]
    pruned = findings.pruned
    removed = len(pruned.removed) if pruned else 0
    frozen = findings.order[: findings.chosen]
    held = contested(findings, footprints, options)
    said = verdict(
        differences,
        footprints,
        latencies,
        filters=len(findings.filters),
        frozen=findings.chosen,
        removed=removed,
        attempted=remove,
        level=options.level,
    )
    return PruningResult(
        kind="pruning",
        title=title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=notices,
        level=options.level,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective="accuracy on all classes",
        verdict=confessed(said, held) if held else said,
        columns=[Column(key=key, label=EXPLAINED[key][0], explanation=EXPLAINED[key][1]) for key in findings.networks],
        groups=list(dict.fromkeys(entry.group for entry in shares if entry.group)),
        shares=shares,
        differences=differences,
        frozen=[],
        histograms=[
            value_histogram(
                [findings.attribution], [value for value in findings.attribution.value[frozen].tolist() if not math.isnan(value)]
            )
        ],
        method=method(options, findings, remove=remove),
        costs=[Cost(part=part, passes=findings.passes.get(part, 0.0), seconds=seconds) for part, seconds in findings.seconds.items()],
        guarantees=guarantees_of(findings.attribution, "original", 0),
        limits=limits(task, options, differences),
        reproduction=make_reproduction(
            options,
            command=command,
            minutes=minutes,
            hashes={"model": task.model.sha256, "images": data_hash(task.images)},
            settings={"top": str(findings.attribution.top_k), "max_drop": f"{options.max_clean_drop:g}", "remove": str(remove)},
        ),
        comparisons=by_column("original", compared(findings, options)),
        extra=PruningExtra(
            images=f"{task.images.name}, {len(task.images):,} images of {len(np.unique(task.images.labels)):,} classes",
            parts={part: len(rows) for part, rows in vars(findings.split).items()},
            chance=1 / len(task.images.classes),
            draws=DRAWS,
            max_drop=options.max_clean_drop,
            filters=len(findings.filters),
            eligible=len(findings.order),
            chosen=findings.chosen,
            flipped=int((~np.isnan(findings.attribution.value[frozen])).sum()),
            removed=removed,
            kept=[KeptFilters(reason=reason, filters=len(names)) for reason, names in pruned.kept.items()] if pruned else [],
            tries=[
                PruningTry(filters=each.filters, accuracy=each.accuracy, drop_bound=each.drop_bound, held=each.held)
                for each in sorted(findings.tries, key=lambda each: each.filters)
            ],
            curve=curve(findings, options),
            footprints=footprints,
            latencies=latencies,
            layers=layers(findings),
            contest=held,
        ),
    )


def compared(findings: PruningFindings, options: Options) -> Comparison | None:
    """Removal curves beside those of baselines, of which the one that falls less is ahead; None where nobody asked."""
    if findings.compared is None:
        return None
    return comparison(
        findings.compared,
        findings.removal.metrics["accuracy"],
        order="least absolute value first",
        most=findings.chosen or findings.removal.counts[-1],
        words=VARIANTS | LEAST,
        level=options.level,
        seed=options.seed,
    )


def contested(findings: PruningFindings, footprints: list[Footprint], options: Options) -> Contest | None:
    """How much each order prunes; None without baselines."""
    if not findings.rivals:
        return None
    last = footprints[-1]
    removed = len(findings.pruned.removed) if findings.pruned else 0
    own = Rival(SHAPLEY, findings.chosen, removed, findings.right[last.column], last.parameters, last.flops)
    metric = findings.removal.metrics["accuracy"]
    return contest(own, findings.rivals, findings.right["original"], footprints[0], metric, options.level)


def latency(batch: int, timed: np.ndarray[tuple[int, ...], np.dtype[np.float64]], level: float) -> Latency:
    """Medians, and the median ratio within pairs with its interval."""
    ratio = median_interval(timed[:, 1] / timed[:, 0], level)
    original, pruned = np.median(timed, axis=0).tolist()
    return Latency(batch=batch, pairs=len(timed), original=original, pruned=pruned, ratio=ratio.value, low=ratio.low, high=ratio.high)


def curve(findings: PruningFindings, options: Options) -> list[CurvePoint]:
    """Accuracy on the report images against the number frozen, with intervals."""
    return findings.removal.points(level=options.level, seed=options.seed)


def layers(findings: PruningFindings) -> list[LayerWidth]:
    """Where the frozen filters lie, and how many of them are gone."""
    frozen = [culprit.layer for culprit in findings.patch.culprits]
    gone = [name.layer for name in findings.pruned.removed] if findings.pruned else []
    return [
        LayerWidth(layer=site.layer, filters=site.filters, frozen=frozen.count(site.layer), removed=gone.count(site.layer))
        for site in findings.filters.sites
        if site.layer in frozen
    ]


def method(options: Options, findings: PruningFindings, *, remove: bool) -> list[str]:
    """How filters were ranked, how many were frozen, and how they were taken out, a sentence each."""
    found, pruned = findings.attribution, findings.pruned
    valued = int((~np.isnan(found.value)).sum())
    smooth = "sigmoid of the margin between the label's logit and the next"
    sentences = [
        f"Filters were valued by accuracy, {SCORES[options.score].format(smooth=smooth)}, as repairkit accuracy values them, and ranked by "
        "absolute value: a filter whose value is near 0 is one that accuracy does without.",
        f"Engine {found.engine}, {options.budget:,.0f} image passes: exact flips of {valued:,} of {len(found.ids):,} filters, sought among the highest; "
        "all others are ranked by their screen, a gradient estimate in the same unit. So which filters are frozen is a guess, and how many is measured.",
        f"Players: {len(found.ids):,} filters of all convolutions but the classifier's, of which plain weights can hold {len(findings.order):,} frozen; "
        f"a frozen filter sends on its mean {'after' if options.freeze_at == 'post' else 'before'} the ReLU over the {len(findings.split.attribute):,} images that find.",
        f"Live range: least live share = {found.min_live:g}: coalitions keep at least about that share of the filters live (0 is the Shapley value itself)."
        if found.engine == "tmab"
        else f"Truncation below a worth of {options.truncation:g}."
        if options.truncation
        else "No truncation.",
        f"How many: {len(findings.tries) - 1} numbers were tried on the {len(findings.split.choose):,} images that choose, in steps of about 1, 2, 5, 10 and so on until two "
        "in a row broke the guard, then by halving; the largest that held was taken. Guard: the one-sided 90 % bound on the fall of accuracy, not adjusted "
        f"for the number of tries, stays within {limit(options.max_clean_drop)}.",
        f"Control: as many filters drawn at random from the same ones, in {DRAWS} orders, whose mean is shown.",
    ]
    if pruned is not None:
        sentences.append(
            "Taking out: Torch-Pruning's graph of dependencies says which rows and columns go with a filter, and where all that they carry is the same for every image they went. "
            "What later layers made of the constants was folded into their batch norms and biases. Behind zero padding, where a constant is cut short at the borders, one frozen filter "
            "stays and carries those of the others, whose weights are added to its own. So the pruned network answers as the frozen one, up to rounding."
        )
        if pruned.biased:
            sentences.append(f"{len(pruned.biased)} convolutions without a batch norm of their own were given a bias for it.")
    elif not remove:
        sentences.append("Nothing was taken out, as was asked for: the frozen weights are of the ordinary architecture.")
    if findings.timings:
        sentences.append(
            f"Timing: passes of {' and '.join(map(str, BATCHES))} images by the original and the pruned network in turn, in one process, their order changing, each time the fastest of {TAKEN} passes; medians, and the median "
            "ratio within pairs with an interval between order statistics. It speaks of this machine and what else it did."
        )
    if findings.compared is not None:
        sentences.append(
            "Baselines: of the same filters those of least absolute value by each answer first (random ones in random order). The number that holds the same guard was "
            "sought along each order in the same way, and what was frozen was taken out in the same way; passes of these networks were not timed. How many filters are frozen "
            "on the curves was chosen for the Shapley values." + ("" if remove else " Nothing was taken out of them either.")
        )
    if options.precision != "float32":
        sentences.append(
            f"The attribution's passes ran in {options.precision}; constants and every number on choose and report images were measured in float32."
        )
    if findings.halved is not None:
        sentences.append(
            f"Memory ran out in the attribution, whose passes then carried {findings.halved} images in place of {options.batch}."
        )
    return sentences


def limits(task: CriticalTask, options: Options, differences: list[Difference]) -> list[str]:
    """What a reader must not conclude."""
    trained_on = len(read_record(task.model.weights))
    broken = [
        f"The guard did not hold: on the report images accuracy of the {entry.second} network fell by {-100 * entry.value:.1f} points (n = {entry.n}), and "
        f"{100 * options.max_clean_drop:g} were allowed. Its bound is made on the images that also chose how many filters to freeze, which flatters it."
        for entry in differences
        if (entry.first, entry.metric) == ("original", ACCURACY) and entry.high < 0 and -entry.value > options.max_clean_drop
    ]
    return [
        *broken,
        f"The images share no file and no decoded image with the {trained_on:,} that the network was trained on, as far as recorded."
        if trained_on
        else "The training images were not at hand, so an overlap with them was not checked.",
        "Intervals speak of new images of the same kind for these networks as they are; finding filters anew is not in them.",
        "Accuracy alone was guarded: a network that is pruned may be less fair, or easier to fool, than it was.",
        "The pruned network was not trained further, which usually wins back some accuracy and lets more filters go.",
    ]
