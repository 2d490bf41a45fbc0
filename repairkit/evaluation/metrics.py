"""What is measured on images: its value, its change and its claim. The same question has the same interval everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from repairkit.errors import DataError
from repairkit.evaluation.statistics import (
    Floats,
    Interval,
    holm,
    mcnemar_exact,
    newcombe_paired,
    simultaneous,
    stratified_bootstrap,
    stratum_prior,
    wilson,
)
from repairkit.result import Claim, Correlation, Difference, Share

RECALL, MEAN, LOWEST, GAP, SOURCE, ACCURACY = "recall", "mean recall", "lowest recall", "gap", "source accuracy", "accuracy"
OTHERS, OTHER_CLASSES = "other classes", "mean recall of the other classes"
"""Name of a metric in a result, and in words."""
Outcomes = npt.NDArray[np.bool_] | Floats
"""Shape (N,): of each image whether it is right, or a share in [0, 1]."""
Pair = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""Outcomes before and after, on the same images."""


@dataclass(frozen=True, eq=False)
class Metric:
    """A statistic of the means of outcomes over strata of images.

    One stratum of 0/1 outcomes has Wilson's interval, and its change Newcombe's paired one. Everything else has a stratified bootstrap.

    Attributes:
        name: in words.
        strata: shape (N,), the stratum of every image.
        weights: of the strata that count.
        lower_is_better: whether it should fall.
        statistic: the weighted sum of the means, the lowest mean, or the gap between the highest and the lowest.
        sizes: how many images of what count, in words, where images of different kinds are weighed against each other.

    Raises:
        DataError: no image of a stratum that counts.

    Example:
        >>> recall = Metric("mean recall", np.array(["a", "a", "b", "source"]), {"a": 0.5, "b": 0.5})
        >>> recall.n, recall.interval(np.array([1.0, 0.0, 1.0, 0.0])).value
        (3, 0.75)
    """

    name: str
    strata: npt.NDArray[Any]
    weights: Mapping[Any, float]
    lower_is_better: bool = False
    statistic: Literal["sum", "lowest", "gap"] = "sum"
    sizes: str = ""

    def __post_init__(self) -> None:
        if missing := set(self.weights) - set(self.strata.tolist()):
            raise DataError(f"{self.name} needs report images of {sorted(map(str, missing))[0]}, got none; enlarge the report part")

    @classmethod
    def mean(cls, name: str, n: int, *, lower_is_better: bool = False) -> Metric:
        """The mean over n images."""
        return cls(name, np.zeros(n, dtype=np.int64), {0: 1.0}, lower_is_better)

    @classmethod
    def mean_over(cls, name: str, strata: npt.NDArray[Any]) -> Metric:
        """The mean over strata, all of which count alike."""
        names = np.unique(strata).tolist()
        return cls(name, strata, {stratum: 1 / len(names) for stratum in names})

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """Which images count, shape (N,)."""
        counted: npt.NDArray[np.bool_] = np.isin(self.strata, list(self.weights))
        return counted

    @property
    def n(self) -> int:
        """How many images count."""
        return int(self.counted.sum())

    def interval(self, outcomes: Outcomes, *, level: float = 0.95, seed: int = 0) -> Interval:
        """Its value with an interval."""
        rows = np.asarray(outcomes, dtype=np.float64)[self.counted]
        if self._is_share(rows):
            return wilson(int(rows.sum()), len(rows), level)
        return self._bootstrap(rows[:, None], level, seed)

    def change(self, before: Outcomes, after: Outcomes, *, level: float = 0.95, seed: int = 0) -> Interval:
        """After minus before on the same images, with a paired interval."""
        rows = np.column_stack([before, after]).astype(np.float64)[self.counted]
        if self._is_share(rows):
            return newcombe_paired(rows[:, 0], rows[:, 1], level)
        return self._bootstrap(rows, level, seed)

    def difference_of_changes(self, first: Floats, second: Floats, *, level: float = 0.95, seed: int = 0) -> Interval:
        """Second minus first, each a change in [-1, 1] on the same images.

        Example:
            >>> change = Metric.mean("change", 4)
            >>> change.difference_of_changes(np.array([-1.0, -1.0, 0.0, 0.0]), np.array([0.0, -1.0, 0.0, 1.0])).value
            0.5
        """
        halved = self.change((1 + first) / 2, (1 + second) / 2, level=level, seed=seed)
        return Interval(*(2 * end for end in halved))

    def lead(self, first: Outcomes, second: Outcomes, *, level: float = 0.95, seed: int = 0) -> Interval:
        """By how much first is better than second, paired."""
        before, after = (first, second) if self.lower_is_better else (second, first)
        return self.change(before, after, level=level, seed=seed)

    def share(self, outcomes: Outcomes, column: str, group: str | None = None, *, level: float = 0.95, seed: int = 0) -> Share:
        """Its value in one column, as a record. The n of a lowest mean is the size of that stratum."""
        interval = self.interval(outcomes, level=level, seed=seed)
        n = self.n
        if self.statistic == "lowest":
            members = [outcomes[self.strata == stratum] for stratum in sorted(self.weights)]
            n = len(min(members, key=lambda rows: float(rows.mean())))
        return Share(metric=self.name, group=group, column=column, n=n, **interval._asdict())

    def difference(
        self, before: Outcomes, after: Outcomes, columns: tuple[str, str], *, level: float = 0.95, seed: int = 0, claims: int = 1
    ) -> Difference:
        """Its change from the first to the second column, as a record.

        The interval holds for itself. The claim is one of so many `claims` that hold together (Bonferroni).
        """
        interval = self.change(before, after, level=level, seed=seed)
        strict = interval if claims < 2 else self.change(before, after, level=simultaneous(level, claims), seed=seed)
        claim = claim_of(strict, lower_is_better=self.lower_is_better)
        first, second = columns
        return Difference(metric=self.name, group=None, first=first, second=second, n=self.n, **interval._asdict(), claim=claim)

    def _is_share(self, rows: Floats) -> bool:
        return self.statistic == "sum" and list(self.weights.values()) == [1] and bool(np.isin(rows, (0, 1)).all())

    def _bootstrap(self, rows: Floats, level: float, seed: int) -> Interval:
        strata = self.strata[self.counted]
        paired = rows.shape[1] == 2
        weights = np.array([self.weights[stratum] for stratum in np.unique(strata).tolist()])

        def of_column(means: Floats) -> Floats:
            if self.statistic == "sum":
                summed: Floats = means @ weights
                return summed
            low: Floats = means.min(-1)
            return low if self.statistic == "lowest" else means.max(-1) - low

        def total(means: Floats) -> Floats:
            return of_column(means[..., 1]) - of_column(means[..., 0]) if paired else of_column(means[..., 0])

        extreme = self.statistic != "sum"
        prior = 0.5 if extreme else stratum_prior(weights)
        interval = stratified_bootstrap(rows, strata, total, seed=seed, level=level, prior=prior, reflect=extreme)
        if not extreme:
            return interval
        return Interval(
            interval.value, max(-1.0 if paired else 0.0, interval.low), min(1.0, interval.high)
        )  # reflection may leave the range


def claim_of(interval: Interval, *, lower_is_better: bool = False) -> Claim:
    """Better or worse where the interval excludes zero, else no claim."""
    if not interval.excludes_zero:
        return "no claim"
    return "better" if (interval.low > 0) != lower_is_better else "worse"


def compare_groups(
    metric: str, pairs: Mapping[str, Pair], columns: tuple[str, str], level: float, *, lower_is_better: bool = False
) -> list[Difference]:
    """What changed in each group from its outcomes in the first column to those in the second.

    The intervals are Newcombe's, the p-values exact McNemar's, by Holm adjusted over the groups. A claim needs an interval without zero
    and an adjusted p-value below 1 - level.
    """
    p_values = [mcnemar_exact(before, after) for before, after in pairs.values()]
    records = []
    for (group, (before, after)), p_value, adjusted in zip(pairs.items(), p_values, holm(p_values).tolist(), strict=True):
        interval = newcombe_paired(before, after, level)
        records.append(
            Difference(
                metric=metric,
                group=group,
                first=columns[0],
                second=columns[1],
                n=len(before),
                **interval._asdict(),
                p_value=p_value,
                p_adjusted=adjusted,
                claim=claim_of(interval, lower_is_better=lower_is_better) if adjusted < 1 - level else "no claim",
            )
        )
    return records


def split_by_group(groups: npt.NDArray[Any], before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> dict[str, Pair]:
    """The outcomes of each group, sorted by name."""
    return {name: (before[groups == name], after[groups == name]) for name in np.unique(groups).tolist()}


def changed_groups(differences: Sequence[Difference], *, most: int = 10) -> list[Difference]:
    """Of differences of groups those with a claim and the largest drops, at `most` so many without a claim; the largest drop first."""
    ordered = sorted(differences, key=lambda entry: entry.value)
    return [entry for rank, entry in enumerate(ordered) if entry.claim != "no claim" or (rank < most and entry.value < 0)]


def rank_correlation(values: Floats, level: float, of: str) -> Correlation | None:
    """Spearman's rank correlation of two rows over the filters that move either, with Bonett and Wright's interval (2000).

    The interval is as if filters were a random sample. It covers neither other images nor the noise of the values, which pulls the
    correlation toward zero.

    Args:
        values: shape (2, n).
        level: of the interval.
        of: what is correlated, in words.

    Returns:
        None for fewer than four filters, or where a row is constant.

    Example:
        >>> found = rank_correlation(np.array([[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 4.0, 3.0]]), 0.95, "two values")
        >>> found.n, round(found.value, 2)
        (4, 0.8)
    """
    moved = values[:, (values != 0).any(axis=0)]
    n = moved.shape[1]
    if n < 4 or (np.ptp(moved, axis=1) == 0).any():
        return None
    value = float(stats.spearmanr(moved[0], moved[1]).statistic)
    spread = float(stats.norm.isf((1 - level) / 2)) * math.sqrt((1 + value**2 / 2) / (n - 3))
    centre = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    return Correlation(of=of, n=n, value=value, low=math.tanh(centre - spread), high=math.tanh(centre + spread))
