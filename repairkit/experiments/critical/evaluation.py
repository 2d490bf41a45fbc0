"""From who was right on which image, with which filters frozen, to the tables and the verdict of a report on critical filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from repairkit.evaluation.curves import AblationCurves, MetricName
from repairkit.evaluation.metrics import ACCURACY, OTHER_CLASSES, OTHERS, RECALL, Metric, changed_groups, compare_groups
from repairkit.evaluation.wording import capitalise, describe_change, describe_interval, describe_interval_change
from repairkit.result import Difference, RemovalPoint, Share, Verdict

UNCHANGED = "No weights were changed: this says what the network depends on, not how to repair it."


def compare(
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    label: int,
    original: npt.NDArray[np.bool_],
    repaired: npt.NDArray[np.bool_],
    level: float = 0.95,
    seed: int = 0,
) -> tuple[list[Share], list[Difference]]:
    """A class before and after its repair, the others that changed by claim or fell most, and the means.

    The repaired class is fixed beforehand and stands alone; p-values of the others are adjusted by Holm over them, also those that are not shown.

    Args:
        labels: shape (N,), of the report images.
        classes: names of the labels.
        label: the class that was repaired; it comes first.
        original: bool, shape (N,): who was right before.
        repaired: likewise, after.
        level: of the intervals.
        seed: of the bootstrap.
    """
    names = np.asarray(classes)[labels]
    pairs = {classes[each]: (original[labels == each], repaired[labels == each]) for each in np.unique(labels).tolist()}
    columns = ("original", "repaired")
    own = compare_groups(RECALL, {classes[label]: pairs.pop(classes[label])}, columns, level)
    shown = [*own, *changed_groups(compare_groups(RECALL, pairs, columns, level))]
    recalls = [(str(entry.group), Metric(RECALL, names, {str(entry.group): 1.0})) for entry in shown]
    others = Metric(OTHERS, labels, {each: 1 / len(pairs) for each in np.unique(labels).tolist() if each != label})
    accuracy = Metric.mean(ACCURACY, len(labels))
    shares = [
        metric.share(right, column, group, level=level, seed=seed)
        for column, right in zip(columns, (original, repaired), strict=True)
        for group, metric in (*recalls, (None, others), (None, accuracy))
    ]
    return shares, [
        *shown,
        *(metric.difference(original, repaired, columns, level=level, seed=seed) for metric in (others, accuracy)),
    ]


def verdict_of_removal(
    removal: AblationCurves, points: Sequence[RemovalPoint], *, chance: float, level: float, seed: int, ranked: str = "value"
) -> Verdict:
    """Whether the filters of highest value (`ranked` says by what) matter more than random ones, and to what else.

    "critical filters found" needs the class (or accuracy) to fall measurably, and further than with as many random filters frozen.
    """
    metric = next(iter(removal.metrics))
    most = removal.counts[-1]
    if most == 0:
        return Verdict(
            outcome="no claim",
            headline="No filter has a positive value: none is critical.",
            sentences=["On the images that find, no valued filter raised the worth."],
            worse=[],
        )
    last = {(point.series, point.metric): point for point in points if point.filters == most}
    top, random, beyond = last["critical", metric], last["random", metric], removal.contrast(metric, level, seed)
    start = next(point for point in points if (point.series, point.metric, point.filters) == ("critical", metric, 0))
    subject = _subject(removal, metric)
    found = beyond.high < 0 and top.change_high < 0
    random_words = f"with {most} random filter{'s' if most > 1 else ''} frozen it {describe_interval_change(random.change, random.change_low, random.change_high, level, random.n)}"
    headline = (
        f"Freezing the {f'{most} filters' if most > 1 else 'filter'} of highest {ranked} takes {subject} from {100 * start.value:.1f} % to {100 * top.value:.1f} % "
        f"({describe_interval(top.change_low, top.change_high, level, top.n)})"
    )
    doubt = f"freezing {most} random one{'s' if most > 1 else ''}" if beyond.high >= 0 else "chance"
    headline += f"; {random_words}." if found else f", which cannot be told from {doubt}."
    sentences = []
    if removal.label is not None:
        others: tuple[MetricName, ...] = ("other classes", "accuracy")
        for other in others:
            entry = last["critical", other]
            moved = describe_interval_change(entry.change, entry.change_low, entry.change_high, level, entry.n)
            sentences.append(f"With the same filters frozen {_subject(removal, other)} {moved}.")
    else:
        sentences.append(f"A guess is right in {100 * chance:.1f} % of cases.")
    if not found:
        sentences.insert(0, f"{capitalise(random_words)}.")
    sentences.append(UNCHANGED)
    return Verdict(outcome="critical filters found" if found else "no claim", headline=headline, sentences=sentences, worse=[])


def verdict_of_repair(differences: Sequence[Difference], removal: Verdict, *, subject: str, filters: int, level: float) -> Verdict:
    """The repair of a class in words, what got worse first; then what removing its critical filters does.

    "repaired" needs the claim that the recall of the class rose.
    """
    aside = [removal.headline, *(sentence for sentence in removal.sentences if sentence != UNCHANGED)]
    if not filters:
        return Verdict(
            outcome="no repair",
            headline=f"No filter was worth freezing for {subject}: the network is unchanged.",
            sentences=["On the images that choose, freezing no culprit was worth its cost; the weights are the original ones.", *aside],
            worse=[],
        )
    own = next(entry for entry in differences if entry.group == subject)
    fallen = sorted((entry for entry in differences if entry.value < 0), key=lambda entry: entry.claim != "worse")
    worse = [f"{capitalise(_name(entry))} {describe_change(entry, level)}." for entry in fallen]
    headline = f"Freezing {filters} filter{'s' if filters > 1 else ''}: recall of {subject} {describe_change(own, level)}"
    if names := [_name(entry) for entry in fallen if entry.claim == "worse" and entry is not own]:
        headline += f"; measurably worse: {', '.join(names)}"
    outcome: Literal["repaired", "no claim"] = "repaired" if own.claim == "better" else "no claim"
    return Verdict(outcome=outcome, headline=f"{headline}.", sentences=[*worse, *aside], worse=worse)


def _name(entry: Difference) -> str:
    if entry.group is not None:
        return f"recall of {entry.group}"
    return f"the {OTHER_CLASSES}" if entry.metric == OTHERS else entry.metric


def _subject(removal: AblationCurves, metric: MetricName) -> str:
    name = removal.metrics[metric].name
    return f"the {name}" if metric == "other classes" else name
