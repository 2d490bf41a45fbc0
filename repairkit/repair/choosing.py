"""Choosing as every repair does it: by the options, under a guard that the images can show, booked, kept, and made a patch of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from repairkit.errors import DataError
from repairkit.evaluation.statistics import zero_events_bound
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.network.patch import FrozenFilter, Patch, finite_or_none
from repairkit.repair.selection import GUARD_CONFIDENCE, SELECTION, Choice, SelectionSearch, choose
from repairkit.repair.selection_images import SelectionGoal
from repairkit.report.formatting import limit
from repairkit.run.context import Run
from repairkit.run.options import FreezeAt
from repairkit.shapley import Attribution

DOWNSTREAM = 0.32
"""Mean share of a pass that comes after a filter, for planning before it is measured (SqueezeNet-1.0)."""
SEARCH_OPTIONS = ("strategy", "candidates", "max_filters", "precision", "batch")


def check_guard(images: int, allowed: float, name: str, *, option: str = "--max-accuracy-drop") -> None:
    """That many images can show that accuracy on them falls by no more than what is allowed.

    Raises:
        DataError: they cannot, even where none of them falls.
    """
    if zero_events_bound(images, GUARD_CONFIDENCE) > allowed:
        enough = f"{math.ceil(math.log(1 - GUARD_CONFIDENCE) / math.log1p(-allowed)):,} or more can" if allowed else "no number can"
        raise DataError(
            f"{name}: the {images} images that choose cannot show that accuracy falls by {limit(allowed)} "
            f"at most, {enough}; give more source images or a larger {option}"
        )


def choose_once(
    classifier: Classifier, filters: ConvFilters, attribution: Attribution, goal: SelectionGoal, run: Run, *, part: str = "choosing"
) -> Choice:
    """The selection by the settings, booked under a part of the run. One that an earlier session finished is not made again."""
    options = run.settings

    def made() -> Choice:
        search = SelectionSearch(max_drop=options.max_clean_drop, **{name: getattr(options, name) for name in SEARCH_OPTIONS})
        choice = choose(classifier, filters, attribution, goal, search, progress=run.ledger.progress, store=run.store)
        run.spend(choice.passes)
        return choice

    with run.phase(part):
        return run.cached("choice", made, SELECTION)


def without(attribution: Attribution, frozen: Sequence[str]) -> Attribution:
    """The values with those of filters that are frozen already set to 0, which they are but for rounding: none is frozen twice."""
    already = np.isin(np.array(attribution.ids), frozen) & ~np.isnan(attribution.value)
    return replace(attribution, value=np.where(already, 0.0, attribution.value)) if already.any() else attribution


class NetworkOrigin(Protocol):
    """Which weights a patch is for."""

    @property
    def architecture(self) -> str:
        """Name of the architecture."""

    @property
    def sha256(self) -> str:
        """Hash of the state dict."""


def patch_of(origin: NetworkOrigin, game: NetworkGame, attribution: Attribution, choice: Choice, freeze_at: FreezeAt) -> Patch:
    """The selected filters of a game with their constants and values."""
    filters = game.filters
    culprits = [
        FrozenFilter(
            layer=filters.ids[player].layer,
            channel=filters.ids[player].channel,
            constant=float(filters.constants[player]),
            value=float(attribution.value[player]),
            half_width=finite_or_none(attribution.half_width[player]),
            screen=finite_or_none(attribution.screen[player]),
        )
        for player in choice.players
    ]
    return Patch(
        architecture=origin.architecture,
        weights_sha256=origin.sha256,
        freeze_at=freeze_at,
        objective=repr(game.objective),
        classes=game.classifier.classes,
        engine=attribution.engine,
        min_live=attribution.min_live,
        delta=attribution.delta,
        culprits=culprits,
    )
