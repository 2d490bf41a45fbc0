"""The result of a pruning."""

from __future__ import annotations

from repairkit.result import Claim, CurvePoint, Record, Result


class PruningTry(Record):
    """A number of filters of least absolute value frozen, on the choose images."""

    filters: int
    accuracy: float
    drop_bound: float  # upper end of the one-sided 90 % interval of the fall of accuracy
    held: bool  # within what was allowed


class KeptFilters(Record):
    """Frozen filters that were not taken out of the network."""

    reason: str
    filters: int


class Footprint(Record):
    """What one network costs to hold and to run."""

    column: str
    parameters: int
    flops: int  # of one image, as torch counts them: two for each multiplication of convolutions and linear layers


class Latency(Record):
    """A pass of the original and of the pruned network, timed in turn."""

    batch: int  # images of a pass
    pairs: int
    original: float  # seconds, median
    pruned: float
    ratio: float  # pruned over original, median over the pairs
    low: float
    high: float


class PrunedBy(Record):
    """What the same search under the same guard, and taking out, made of one order; accuracy is that on the report images."""

    name: str  # of the values that the order follows, the Shapley values first
    frozen: int
    removed: int  # of those frozen, taken out
    parameters: int
    flops: int
    n: int
    before: float  # accuracy with nothing frozen
    value: float
    low: float
    high: float
    change: float  # paired, against before
    change_low: float
    change_high: float
    lead: float | None = None  # by how much accuracy is higher after the pruning by Shapley values, paired; None for that
    lead_low: float | None = None
    lead_high: float | None = None
    claim: Claim | None = None  # whether it is


class Contest(Record):
    """How much each order prunes under the same guard."""

    sentences: list[str]  # what prunes more than the Shapley values first
    orders: list[PrunedBy]


class LayerWidth(Record):
    """How many filters of one layer were frozen, and how many of these are gone."""

    layer: str
    filters: int
    frozen: int
    removed: int


class PruningExtra(Record):
    """How many filters of least absolute value accuracy can do without, and what the network costs when they are taken out.

    `columns` are "original", "frozen" and "pruned", as far as there are such networks. The frozen filters themselves stand in the run's
    `patch.json`, not in `frozen`: there may be thousands.
    """

    images: str
    parts: dict[str, int]  # images that find, choose and report
    chance: float  # accuracy of a guess
    draws: int  # orders of random filters
    max_drop: float  # what was allowed, a share
    filters: int
    eligible: int  # that plain weights can hold frozen
    chosen: int  # frozen
    flipped: int  # of those frozen, ranked by exact flips; all others by their screen
    removed: int  # of those frozen, taken out
    kept: list[KeptFilters]
    tries: list[PruningTry]
    curve: list[CurvePoint]
    footprints: list[Footprint]
    latencies: list[Latency]
    contest: Contest | None = None  # None unless baselines were asked for
    layers: list[LayerWidth]  # those with a frozen filter, in the order in which the network runs them


PruningResult = Result[PruningExtra]
