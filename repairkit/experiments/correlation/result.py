"""The result of a correlation of attack success and accuracy."""

from __future__ import annotations

from repairkit.result import Correlation, Record, Result


class SharedTop(Record):
    """Of the k filters of highest value by either of two values, how many are the same."""

    k: int
    shared: int
    chance: float  # expected where the values have nothing to do with each other


class CorrelationExtra(Record):
    """Whether attacks need the filters that accuracy needs: how alike both values rank the filters of one network."""

    images: str
    attack: str
    players: int
    correlations: list[Correlation]  # of both values, then of each with itself; fewer where one is not defined
    corrected: float | None  # the first, for the noise that the others show; None where noise is all there is
    tops: list[SharedTop]
    cells: list[list[int]]  # filters by tenth of the ranking by accuracy (rows, lowest first) and by attack success (columns)


CorrelationResult = Result[CorrelationExtra]
