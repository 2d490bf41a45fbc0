"""From who was right with filters frozen, and with them taken out, to the tables and the verdict of a report on pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from repairkit.evaluation.metrics import ACCURACY, RECALL, Metric, changed_groups, compare_groups, split_by_group
from repairkit.evaluation.wording import capitalise, describe_change, describe_interval_change
from repairkit.experiments.pruning.result import Footprint, Latency
from repairkit.result import Difference, Share, Verdict

Booleans = npt.NDArray[np.bool_]


def compare(
    labels: npt.NDArray[np.int64], classes: Sequence[str], right: Mapping[str, Booleans], level: float = 0.95
) -> tuple[list[Share], list[Difference]]:
    """Accuracy of every network and of every pair of them, and the classes that lose or gain by claim or fell most from the first to the last.

    p-values of classes are adjusted by Holm over all classes, also those that are not shown.

    Args:
        labels: shape (N,), of the report images.
        classes: names of the labels.
        right: for each column bool, shape (N,), the original first.
        level: of the intervals.

    Example:
        >>> shares, differences = compare(
        ...     np.array([0, 1]), ("cat", "dog"), {"original": np.array([True, True]), "pruned": np.array([True, False])})
        >>> [(entry.metric, entry.group, entry.value) for entry in differences]
        [('accuracy', None, -0.5), ('recall', 'dog', -1.0)]
    """
    accuracy = Metric.mean(ACCURACY, len(labels))
    names = np.asarray(classes)[labels]
    differences = [
        accuracy.difference(right[first], right[second], (first, second), level=level) for first, second in combinations(right, 2)
    ]
    columns = list(right)
    original, last = columns[0], columns[-1]
    if original != last:
        pairs = split_by_group(names, right[original], right[last])
        differences += changed_groups(compare_groups(RECALL, pairs, (original, last), level))
    groups = list(dict.fromkeys(entry.group for entry in differences if entry.group is not None))
    metrics = [(None, accuracy), *((group, Metric(RECALL, names, {group: 1.0})) for group in groups)]
    shares = [metric.share(correct, column, group, level=level) for column, correct in right.items() for group, metric in metrics]
    return shares, differences


def verdict(
    differences: Sequence[Difference],
    footprints: Sequence[Footprint],
    latencies: Sequence[Latency],
    *,
    filters: int,
    frozen: int,
    removed: int,
    attempted: bool,
    level: float,
) -> Verdict:
    """What was gained in size and time and what that cost in accuracy, the cost first.

    Args:
        differences: from `compare`.
        footprints: of the networks.
        latencies: of the original and the pruned one; empty where nothing was taken out.
        filters: how many there are.
        frozen: how many were frozen.
        removed: how many of these were taken out.
        attempted: whether filters were to be taken out.
        level: of the intervals.
    """
    if not frozen:
        return Verdict(
            outcome="nothing pruned",
            headline="No filter could be frozen within the guard: the network is unchanged.",
            sentences=["On the images that choose, freezing even the filter of least absolute value cost more than was allowed."],
            worse=[],
        )
    last = "pruned" if removed else "frozen"
    own = next(entry for entry in differences if (entry.first, entry.second, entry.metric) == ("original", last, ACCURACY))
    compared = [entry for entry in differences if (entry.first, entry.second) == ("original", last)]
    fallen = sorted((entry for entry in compared if entry.value < 0), key=lambda entry: entry.claim != "worse")
    worse = [f"{capitalise(_name(entry))} {describe_change(entry, level)}." for entry in fallen]
    accuracy = f"accuracy {describe_interval_change(own.value, own.low, own.high, level, own.n)}"
    frozen_words = f"{frozen:,} of {filters:,} filters frozen"
    if not removed:
        why = "none of them could be taken out" if attempted else "none was to be taken out"
        headline = f"With {frozen_words} {accuracy}; {why}, so that the network is as large and as slow as before."
        return Verdict(outcome="nothing pruned" if attempted else "frozen", headline=headline, sentences=worse, worse=worse)
    before, after = (next(each for each in footprints if each.column == column) for column in ("original", "pruned"))
    headline = (
        f"Without {removed:,} of {filters:,} filters {accuracy}; the network has {_less(after.parameters, before.parameters)} parameters "
        f"and needs {_less(after.flops, before.flops)} operations."
    )
    if names := [_name(entry) for entry in fallen if entry.claim == "worse" and entry is not own]:
        headline = f"{headline[:-1]}; measurably worse: {', '.join(names)}."
    times = [_time(each, level) for each in latencies]
    still = [f"{frozen - removed:,} further filters are frozen and still there."] if frozen > removed else []
    return Verdict(outcome="pruned", headline=headline, sentences=[*worse, *times, *still], worse=worse)


def _less(after: int, before: int) -> str:
    return f"{100 * (1 - after / before):.1f} % fewer"


def _time(timed: Latency, level: float) -> str:
    """What became of the time of a pass; no claim where the interval of the ratio holds 1."""
    between = f"{level:.0%} interval: {timed.low:.2f} to {timed.high:.2f}; {timed.pairs} pairs on this machine"
    one = f"a pass of {timed.batch} image{'s' if timed.batch > 1 else ''}"
    if timed.low <= 1 <= timed.high:
        return f"No difference in the time of {one} can be shown ({timed.ratio:.2f} of the original's; {between})."
    return f"{capitalise(one)} takes {timed.ratio:.2f} of the time that it took ({between})."


def _name(entry: Difference) -> str:
    return entry.metric if entry.group is None else f"recall of {entry.group}"
