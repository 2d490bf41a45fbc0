"""The result of a removal of random filters."""

from __future__ import annotations

from typing import Literal

from repairkit.result import Estimate, Record, Result


class TruncationPoint(Record):
    """The worth of a network at one number of filters removed, over random orders of removal."""

    filters: int
    share: float  # of all filters
    mean: float  # over the orders
    low: float  # interval over orders and images
    high: float
    band_low: float  # 5 % and 95 % of the orders
    band_high: float
    dead: float  # share of the orders in which the network is dead by then; Wilson's interval over orders
    dead_low: float
    dead_high: float


class TruncationCurve(Record):
    """One network by one metric as its filters are removed in random orders, all measured on the same images."""

    network: str
    metric: Literal["accuracy", "mean recall"]
    n: int  # images
    chance: float  # the most that one answer to all images gets
    dead_below: float  # a network of this worth or less is dead: chance within its interval
    points: list[TruncationPoint]
    trajectories: list[list[float]]  # worth in each order at each of the points
    death: Estimate  # share removed at which the network is dead in half of the orders
    earliest: float  # of all orders
    latest: float
    revived: float  # share of the orders in which it rose above chance again
    threshold: float  # worth below which the paper ends a permutation
    saved: Estimate | None  # share of a permutation's evaluations that this saves; None where the whole network is not worth that much
    given_up: Estimate | None  # share of the worth that is then credited to no filter


class TruncatedNetwork(Record):
    """A network whose filters were removed."""

    name: str
    model: str
    images: str
    filters: int
    classes: int
    t0: float  # where the live range begins
    zone_measured: bool  # False where t0 was given
    dead_in_zone: float  # share of the orders that are dead once 1 - t0 of the filters are removed


class TruncationExtra(Record):
    """How few random filters networks bear to lose, and what ending permutations there saves."""

    trajectories: int  # orders of removal of each network
    networks: list[TruncatedNetwork]
    curves: list[TruncationCurve]


TruncationResult = Result[TruncationExtra]
