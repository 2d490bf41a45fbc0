"""The result of a fairness repair."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from repairkit.result import Record, Result


class Disparity(Record):
    """fairlearn's `MetricFrame` over the subgroups, for one column."""

    column: str
    difference: float  # highest minus lowest recall
    ratio: float  # lowest over highest recall
    lowest_group: str


class CurvePoint(Record):
    """Filters frozen one by one in the order of choosing; means over folds, report split."""

    series: str  # "repaired", "most negative first", "threshold", ...
    filters: int
    mean_recall: float
    source_accuracy: float
    chosen: bool = False  # True at the number of filters (or the threshold) that was chosen


class FrozenRound(Record):
    """What one of several rounds of finding and freezing froze, and where that led on the report images."""

    column: str  # "repaired" or "dropout_repaired"
    fold: int  # 0 when there are no folds
    round: int
    filters: list[str]  # "layer:channel", in the order of choosing
    stopped: str  # why choosing stopped there
    passes: float  # image passes of attribution and choosing
    mean_recall: float | None  # after the round; None where its path was not measured
    source_accuracy: float | None


class Overlap(Record):
    """Of k filters that each half of the attribution images names, the share that both name; over folds."""

    k: int
    share: float  # mean over the folds
    low: float  # least and greatest over the folds
    high: float
    chance: float  # expected of two halves that name k filters at random


class Agreement(Record):
    """How far two disjoint halves of the attribution images, at half the budget each, rank the filters alike."""

    column: str  # "repaired" or "dropout_repaired"
    by: Literal["value", "screen"]  # values of the filters that each half found by exact flips, or screens of all filters
    end: Literal["low", "high"]  # which end of the ranking
    rank_correlation: float | None  # Spearman's, mean over the folds; of the filters that both halves ranked
    overlaps: list[Overlap]


class FairnessExtra(Record):
    """Everything that a fairness repair found out."""

    target: str
    source: str
    disparities: list[Disparity]
    curves: list[CurvePoint]
    stability: list[Agreement] = Field(default_factory=list)  # empty unless it was asked for
    rounds: list[FrozenRound] = Field(default_factory=list)  # empty unless there could be several


FairnessResult = Result[FairnessExtra]
