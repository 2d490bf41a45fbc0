"""The result of a search for critical filters."""

from __future__ import annotations

from repairkit.result import Extreme, Record, RemovalPoint, Result


class LayerCount(Record):
    """How many of the critical filters lie in one layer."""

    layer: str
    critical: int
    filters: int


class CriticalExtra(Record):
    """Which filters one class or all classes depend on, what removing them does, and the repair of a class where it was asked for."""

    images: str
    subject: str | None  # the class; None for accuracy on all
    parts: dict[str, int]  # images that find, choose and report
    chance: float  # accuracy of a guess
    draws: int  # orders of random filters
    removal: list[RemovalPoint]
    layers: list[LayerCount]  # in the order in which the network runs them
    extremes: list[Extreme]


CriticalResult = Result[CriticalExtra]
