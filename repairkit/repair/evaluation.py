"""What a repair did to the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from repairkit.data.images import LabelledImages
from repairkit.evaluation.metrics import ACCURACY, GAP, LOWEST, MEAN, RECALL, SOURCE, Metric, Pair, compare_groups, split_by_group
from repairkit.evaluation.wording import (
    describe_change,
    format_count,
    measurably_worse,
    name_metric,
    regressions,
    state_change,
    unchanged_network,
)
from repairkit.objectives import AttackSuccess, ClassRecall, Objective, RecallGap, SubgroupRecall
from repairkit.result import Difference, Share, Verdict

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("original", "repaired")
TARGET_SUCCESS = "target success"


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Before and after on the test images.

    Attributes:
        groups: names of the rows that recall is shown for.
        shares: every metric of both networks, with n and interval.
        differences: repaired minus original on the same images, with interval and claim.
        verdict: the conclusion; `verdict.outcome` is "repaired" where the objective's metric is better by claim.
        level: of the intervals.
    """

    groups: tuple[str, ...]
    shares: tuple[Share, ...]
    differences: tuple[Difference, ...]
    verdict: Verdict
    level: float

    @property
    def worse(self) -> list[Difference]:
        """What got worse: with a claim first, then without."""
        return regressions(self.differences)

    def difference(self, metric: str, group: str | None = None) -> Difference:
        """The one difference of that metric and group; KeyError if there is none."""
        for entry in self.differences:
            if (entry.metric, entry.group) == (metric, group):
                return entry
        raise KeyError((metric, group))

    def to_frame(self) -> pd.DataFrame:
        """One row per metric: metric, n, before, after, change, its interval (low, high) and claim; shares in 0 .. 1."""
        import pandas as pd

        value = {(share.metric, share.group, share.column): share.value for share in self.shares}
        rows = [
            {"metric": name_metric(entry), "n": entry.n}
            | {name: value[entry.metric, entry.group, column] for name, column in zip(("before", "after"), COLUMNS, strict=True)}
            | {"change": entry.value, "low": entry.low, "high": entry.high, "claim": entry.claim}
            for entry in self.differences
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"{self.verdict.headline}\n{self.to_frame().round(3).to_string(index=False)}"

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        return str(self.to_frame().round(3).to_html(index=False))


def evaluate(
    objective: Objective, test: LabelledImages, outcomes: Sequence[Pair], *, frozen: int, max_drop: float, level: float, seed: int
) -> Evaluation:
    """Metrics of the original and the repaired network, and the conclusion.

    Args:
        objective: what was to be improved; its metric decides.
        test: the test images.
        outcomes: who is right before and after, on the test images and, where there is a source, on its test images.
        frozen: how many filters were frozen.
        max_drop: what the guard allows.
        level: of the intervals.
        seed: of the bootstrap.
    """
    strata = strata_of(objective, test)
    rows: list[tuple[Metric, Pair]] = [(metric, outcomes[0]) for metric in aggregates_of(objective, test, strata)]
    rows += [(Metric.mean(SOURCE, len(pair[0])), pair) for pair in outcomes[1:]]
    groups = np.unique(strata).tolist() if strata is not None else []
    shares = [
        Metric(RECALL, strata, {group: 1.0}).share(right, column, group, level=level, seed=seed)
        for column, right in zip(COLUMNS, outcomes[0], strict=True)
        for group in groups
        if strata is not None
    ]
    shares += [
        metric.share(right, column, level=level, seed=seed) for metric, pair in rows for column, right in zip(COLUMNS, pair, strict=True)
    ]
    differences = compare_groups(RECALL, split_by_group(strata, *outcomes[0]), COLUMNS, level) if strata is not None else []
    differences += [metric.difference(*pair, COLUMNS, level=level, seed=seed) for metric, pair in rows]
    conclusion = verdict(differences, deciding_metric(objective, test), level, max_drop, frozen=frozen)
    return Evaluation(tuple(groups), tuple(shares), tuple(differences), conclusion, level)


def strata_of(objective: Objective, test: LabelledImages) -> npt.NDArray[np.str_] | None:
    """What recall is shown for: classes for the recall of a class, else groups; None for images whose labels are an attacker's."""
    if isinstance(objective, AttackSuccess):
        return None
    return np.array(test.classes)[test.labels] if isinstance(objective, ClassRecall) else test.groups


def aggregates_of(objective: Objective, test: LabelledImages, strata: npt.NDArray[np.str_] | None) -> list[Metric]:
    """The metrics of all test images."""
    if strata is None:
        return [Metric.mean(TARGET_SUCCESS, len(test), lower_is_better=True)]
    accuracy = Metric.mean(ACCURACY, len(test))
    if len(np.unique(strata)) < 2:
        return [accuracy]
    mean = Metric.mean_over(MEAN, strata)
    counted = {objective.favoured: 1.0, objective.disadvantaged: 1.0} if isinstance(objective, RecallGap) else mean.weights
    gap = replace(mean, name=GAP, statistic="gap", lower_is_better=True, weights=counted)
    return [mean, replace(mean, name=LOWEST, statistic="lowest"), gap, accuracy]


def deciding_metric(objective: Objective, test: LabelledImages) -> tuple[str, str | None]:
    """Metric and group of the difference that decides whether the network is repaired."""
    match objective:
        case ClassRecall():
            return RECALL, test.classes[objective.label]
        case RecallGap():
            return GAP, None
        case AttackSuccess():
            return TARGET_SUCCESS, None
        case SubgroupRecall() if len(test.group_names) > 1:
            return MEAN, None
        case _:
            return ACCURACY, None


def verdict(differences: Sequence[Difference], deciding: tuple[str, str | None], level: float, max_drop: float, *, frozen: int) -> Verdict:
    """The conclusion: "repaired" needs a claim on the metric of the objective, and no proof that the guard broke."""
    if not frozen:
        return unchanged_network()
    decided = next(entry for entry in differences if (entry.metric, entry.group) == deciding)
    guarded = next((entry for entry in differences if entry.metric == SOURCE), None)
    guarded = guarded or next((entry for entry in differences if entry.metric == ACCURACY), None)
    broken = guarded is not None and guarded.high < -max_drop
    headline = f"Freezing {format_count(frozen, 'filter')}: {name_metric(decided)} {describe_change(decided, level)}."
    others = [entry for entry in differences if entry is not decided]
    return Verdict(
        outcome="guard broken" if broken else "repaired" if decided.claim == "better" else "no claim",
        headline=" ".join([headline, *measurably_worse(others)]),
        sentences=[state_change(entry, level) for entry in others if entry.claim == "better"],
        worse=[state_change(entry, level) for entry in regressions(differences)],
    )
