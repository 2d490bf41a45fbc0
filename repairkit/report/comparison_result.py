"""Records of a comparison with baselines, which several kinds of results may carry."""

from __future__ import annotations

from pydantic import Field

from repairkit.report.record import Claim, Record


class ComparedPoint(Record):
    """The network with the first `filters` of an order frozen, on the report images."""

    filters: int
    value: float
    low: float
    high: float
    beside: float | None  # of the comparison's second metric, where it has one


class Selection(Record):
    """One metric of the network that choosing made from the candidates of one baseline, on the report images."""

    metric: str
    lower_is_better: bool
    n: int
    before: float  # with nothing frozen
    value: float
    low: float
    high: float
    change: float  # paired, against before
    change_low: float
    change_high: float
    lead: float | None  # by how much the run's own repair is better, paired; None for that
    lead_low: float | None
    lead_high: float | None
    claim: Claim | None  # whether the run's own repair is better


class Baseline(Record):
    """One answer to which filters matter: what it cost, what it agrees with, and what came of it. Means over folds.

    None and empty lists stand for what was not measured: of one that could not be made nothing was, and the Shapley values are not
    compared with themselves.
    """

    name: str
    what: str  # in a sentence
    why_not: str = ""  # why it could not be made; empty where it could
    passes: float | None = None  # of its values
    images: int | None = None  # that its values were made on; of Shapley values each has its own number
    both: int | None = None  # filters with a value here and a Shapley value
    rank_correlation: float | None = None  # Spearman's over these
    overlap: float | None = None  # of the first k of the Shapley values, the share that is among its own first k
    points: list[ComparedPoint] = Field(default_factory=list)
    area: float | None = None  # mean height of the curve over the numbers of filters, trapezoid rule
    area_low: float | None = None
    area_high: float | None = None
    lead: float | None = None  # by how much the Shapley values are ahead in area, paired
    lead_low: float | None = None
    lead_high: float | None = None
    claim: Claim | None = None  # whether the Shapley values are better by area
    frozen: list[int] = Field(default_factory=list)  # filters that choosing froze of its candidates, by fold
    choosing: float | None = None  # image passes of choosing
    total: float | None = None  # image passes of values and choosing
    candidates: list[int] = Field(default_factory=list)  # filters that choosing could freeze, by fold
    selections: list[Selection] = Field(default_factory=list)


class RankedFilter(Record):
    """A filter that is among the first of the Shapley values or of another answer, and its place under both."""

    layer: str
    channel: int
    value: float | None  # Shapley value
    rank: int | None
    other_value: float | None
    other_rank: int | None


class Comparison(Record):
    """A run held against baselines, the Shapley values first among them."""

    metric: str  # what the curves show
    lower_is_better: bool  # a curve that falls further is ahead
    beside: str | None  # a second metric of the curves
    order: str  # which filters are frozen first, in words
    n: int  # report images that the curves are measured on
    sizes: str = ""  # how many of what these are, where images of different kinds are weighed against each other
    filters: int  # of the network
    k: int  # of the overlaps
    sentences: list[str]  # the finding in words, losses first
    baselines: list[Baseline]
    other: str | None  # name of the baseline that `ranked` compares with
    ranked: list[RankedFilter]
