"""The result of a comparison of the bandit with plain Monte Carlo."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from repairkit.result import Estimate, Record, Result


class StoppedAlike(Record):
    """TMAB and Monte Carlo, both as published, stopped by their own rule at one tolerance; both ways round on two sets of permutations."""

    tolerance: float
    extrapolated: bool  # permutations were drawn with replacement from those walked
    stopped: bool  # False: neither the permutations nor the extrapolation sufficed, and nothing else is known
    permutations: int = 0  # of Monte Carlo, means over both ways
    taken: float | None = None  # samples of TMAB over those of Monte Carlo, mean over both ways
    share: Estimate | None = (
        None  # the same with an interval over permutations, of what is extrapolated the range; None where too much is dropped
    )
    ways: list[float] = Field(default_factory=list)  # the share either way round
    replays: int = 0  # of resampled permutations, which the interval is made of
    dropped: int = 0  # of them, those that did not stop: nothing is known of their share
    evaluations: float | None = None  # of TMAB over those of Monte Carlo, expected
    rank: Estimate | None = None  # Spearman's correlation of their values; interval over filters
    r_squared: Estimate | None = None


class AgreedAfter(Record):
    """An engine after its budget, against a long reference."""

    engine: str
    passes: float
    valued: int  # filters with exact flips or marginals; the others count with their screen, or 0
    rank: Estimate  # Spearman's correlation with the reference over all filters; interval over filters
    r_squared: Estimate
    sought: Estimate  # of the k filters of the sought end, share that both name; Wilson's interval


class Needed(Record):
    """What TMAB as published needs at least: its bound at the values of the reference, had its marginals no variance."""

    tolerance: float
    passes: float


class EfficiencyExtra(Record):
    """How many samples the bandit takes against plain Monte Carlo, and whether their values agree."""

    images: str
    compared_by: Literal["replay", "budget"]
    filters: int
    end: Literal["low", "high"]
    top: int  # k
    shown: str  # which comparison the figures show, in words
    stops: list[StoppedAlike]  # widest tolerance first; of the method "replay"
    agreements: list[AgreedAfter]  # of the method "budget"
    rank_lead: Estimate | None = None  # Spearman's correlation of tmab less that of Monte Carlo, over the same resampled filters
    needed: list[Needed]
    samples: dict[str, list[int]]  # of each filter, by engine
    values: dict[str, list[float]]  # of each filter, by engine; the reference last


EfficiencyResult = Result[EfficiencyExtra]
