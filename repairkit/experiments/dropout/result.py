"""The result of a comparison of a network with its dropout-trained rival."""

from __future__ import annotations

from typing import Literal

from repairkit.result import Claim, Estimate, Extreme, Record, Result


class DropoutPoint(Record):
    """One of two networks with the first `filters` of an order of its own frozen, on the report images; paired change against none frozen."""

    column: str  # "original" or "dropout"
    series: Literal["highest", "lowest", "random"]  # values, or drawn at random (mean over the draws)
    filters: int
    n: int
    value: float  # accuracy
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


class SharedHistogram(Record):
    """Histograms of two networks' filters over the same edges."""

    title: str
    edges: list[float]
    counts: dict[str, list[int]]  # by column


class RankedChange(Record):
    """What freezing the first filters of one ranking changes of accuracy, mean over the numbers of filters, paired against none frozen."""

    name: str  # of the ranking: Shapley values or a baseline
    changes: dict[str, Estimate]  # by column
    difference: Estimate  # of the changes, dropout-trained minus original
    claim: Claim  # whether the dropout-trained network falls less; of all rankings together


class Rankings(Record):
    """Whether what is found of two networks hangs on the ranking of their filters."""

    n: int
    sentences: list[str]  # losses first
    rows: list[RankedChange]  # the Shapley values first


class DropoutExtra(Record):
    """What a network and its dropout-trained rival depend on.

    Shares and differences have the metrics "accuracy" and, with the highest, the lowest and random filters frozen, "accuracy, highest frozen"
    and so on; differences "change, highest frozen" and so on too. Their groups are the numbers of filters, and none for the means over these.
    """

    images: str
    dropout_model: str
    parts: dict[str, int]  # images that find, choose (the live range at most) and report
    players: int  # filters of each network
    draws: int  # orders of random filters
    most_frequent: float  # accuracy of whoever always names the most frequent class
    removal: list[DropoutPoint]
    spreads: list[SharedHistogram]
    extremes: dict[str, list[Extreme]]  # by column
    rankings: Rankings | None = None  # likewise


DropoutResult = Result[DropoutExtra]
