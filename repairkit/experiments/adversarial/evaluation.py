"""From what adversaries did to each image to the tables and the verdict of a report on an adversarial repair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from repairkit.alternatives.adversarial_training import DESCRIPTION
from repairkit.attacks.generate import Booleans
from repairkit.attacks.robustness import Sanity, Sweep
from repairkit.attacks.words import CLEAN, RECOVERED, SUCCESS, TRANSFERRED
from repairkit.evaluation.metrics import Metric, compare_groups
from repairkit.evaluation.statistics import wilson
from repairkit.experiments.adversarial.adversaries import Attempt
from repairkit.experiments.adversarial.result import Strength, SweepPoint
from repairkit.result import Difference, Share
from repairkit.shapley.game import Floats

FIXED = ("replay", "worst")
"""Adversaries that the verdict rests on."""
PAIRS = (
    ("original", "repaired"),
    ("finetuned", "repaired"),
    ("dropout", "repaired"),
    ("original", "finetuned"),
    (DESCRIPTION.key, "repaired"),
    ("original", DESCRIPTION.key),
)


def shares(attempts: Sequence[Attempt], clean: Mapping[str, Booleans], level: float) -> list[Share]:
    """Target success and recovered label of every adversary, and clean accuracy, for every column; Wilson's intervals."""
    records = []

    def add(column: str, metric: str, group: str | None, outcomes: Booleans | Floats) -> None:
        records.append(Metric.mean(metric, len(outcomes)).share(outcomes, column, group, level=level))

    for column, right in clean.items():
        add(column, CLEAN, None, right)
        for attempt in attempts:
            if column not in attempt.outcomes:
                continue
            if attempt.targeted:
                add(column, SUCCESS, attempt.key, attempt.outcomes[column].hit)
            add(column, RECOVERED, attempt.key, attempt.outcomes[column].recovered)
        for metric in (SUCCESS, RECOVERED):
            if (mean := over_transferred(attempts, metric, column)) is not None:
                add(column, metric, TRANSFERRED, mean)
    return records


def transferred(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attacks whose mean is a row: those carried over from other networks on the same images; none where there is only one."""
    found = [attempt for attempt in attempts if attempt.kind == "transfer" and not attempt.elsewhere]
    return found if len(found) > 1 else []


def over_transferred(attempts: Sequence[Attempt], metric: str, column: str) -> Floats | None:
    """For each image the share of these attacks that gets its target, or that leaves its label; float64 (N,).

    None where there is no such row, or where a column was not shown the images of all of them, some being made against itself.
    """
    averaged = transferred(attempts)
    if not averaged or any(column not in attempt.outcomes for attempt in averaged):
        return None
    outcomes = [attempt.outcomes[column] for attempt in averaged]
    mean: Floats = np.mean([each.hit if metric == SUCCESS else each.recovered for each in outcomes], axis=0, dtype=np.float64)
    return mean


def differences(attempts: Sequence[Attempt], clean: Mapping[str, Booleans], level: float) -> list[Difference]:
    """What changed between columns against every adversary: Newcombe's interval and exact McNemar's p-value.

    What a verdict rests on, the stored images and the worst of the attacks afresh, is fixed beforehand and stands alone; p-values of all other
    adversaries are by Holm adjusted over them, for each metric. Less target success is better; more recovered labels and clean accuracy are.
    The transfer attacks share their images: their mean has a paired bootstrap over images, and stands alone too.
    """
    records: list[Difference] = []
    for first, second in PAIRS:
        if not {first, second} <= set(clean):
            continue
        both = [each for each in attempts if {first, second} <= set(each.outcomes)]
        hit = {each.key: (each.outcomes[first].hit, each.outcomes[second].hit) for each in both if each.targeted}
        recovered = {each.key: (each.outcomes[first].recovered, each.outcomes[second].recovered) for each in both}
        for metric, rows in ((SUCCESS, hit), (RECOVERED, recovered)):
            families = [{key: rows[key]} for key in FIXED if key in rows]
            families.append({key: pair for key, pair in rows.items() if key not in FIXED})
            found = [
                entry
                for family in families
                for entry in compare_groups(metric, family, (first, second), level, lower_is_better=metric == SUCCESS)
            ]
            records += sorted(found, key=lambda entry: list(rows).index(str(entry.group)))
            means = [over_transferred(attempts, metric, column) for column in (first, second)]
            if means[0] is not None and means[1] is not None:
                averaged = Metric.mean(metric, len(means[0]), lower_is_better=metric == SUCCESS)
                mean = averaged.difference(means[0], means[1], (first, second), level=level)
                records.append(mean.model_copy(update={"group": TRANSFERRED}))
        records.append(Metric.mean(CLEAN, len(clean[first])).difference(clean[first], clean[second], (first, second), level=level))
    return records


def sweep_points(sweeps: Mapping[str, Sweep], level: float) -> list[SweepPoint]:
    """Success within each bound, with Wilson's intervals."""
    points = []
    for column, swept in sweeps.items():
        for eps, hit in zip(swept.eps, swept.hit, strict=True):
            interval = wilson(int(hit.sum()), len(hit), level)
            points.append(
                SweepPoint(
                    column=column,
                    eps=eps,
                    restarts=swept.restarts,
                    n=len(hit),
                    success=interval.value,
                    low=interval.low,
                    high=interval.high,
                )
            )
    return points


def strengths(sweeps: Mapping[str, Sweep], checks: Mapping[str, Sanity]) -> list[Strength]:
    """The median eps of every column, and on how many images it takes more or less change than on the original network."""
    original = sweeps.get("original")
    records = []
    for column, swept in sweeps.items():
        gained = lost = p_value = None
        if original is not None and swept is not original:
            gained, lost = int((swept.least > original.least).sum()), int((swept.least < original.least).sum())
            p_value = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
        records.append(
            Strength(
                column=column,
                n=swept.hit.shape[1],
                median_eps=swept.median if math.isfinite(swept.median) else None,
                gained=gained,
                lost=lost,
                p_value=p_value,
                checked=len(checks[column].unbounded),
                flags=list(checks[column].flags),
            )
        )
    return records
