"""The frontier of attack success and clean accuracy, as filters of the first round are frozen one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from repairkit.attacks.generate import Attacked, Booleans
from repairkit.data.images import LabelledImages
from repairkit.evaluation.ablation import counts_up_to, freeze_first
from repairkit.evaluation.splits import Split
from repairkit.experiments.adversarial.rounds import Round
from repairkit.experiments.adversarial.task import AdversarialTask, AttackOptions
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.repair.selection import eligible
from repairkit.run.context import Run
from repairkit.run.store import ARRAYS
from repairkit.shapley.checkpoint import Arrays

Series = Literal["order of choosing", "highest value first"]
FRONTIER = (3, 16, 30)
"""Numbers of filters at which the frontier is measured beside the usual ones; the paper's figure 3b is of 16."""


@dataclass(frozen=True, eq=False)
class FrontierLine:
    """Filters of the first round frozen in one order, on the report images: who gets the target, who is right on clean images.

    Attributes:
        series: the order.
        counts: how many were frozen, 0 first; shape (k,).
        hit: bool, shape (k, N), of the stored adversarial images.
        clean: bool, shape (k, M), of the clean ones.
        chosen: how many of them the repair froze, where this is the order of choosing.
    """

    series: Series
    counts: tuple[int, ...]
    hit: Booleans
    clean: Booleans
    chosen: int | None


def frontier_of(
    task: AdversarialTask, first: Round, stored: Attacked, split: Split, run: Run, attacks: AttackOptions
) -> Iterator[FrontierLine]:
    """Filters frozen in the order of choosing (after the chosen ones those of highest value), and by value alone."""
    classifier, filters = task.model.classifier, first.filters
    clean = task.images.subset(split.report)
    by_value = eligible(filters, first.attribution, attacks.frontier)
    chosen = first.choice.players
    orders: dict[Series, list[int]] = {
        "order of choosing": [*chosen, *(player for player in by_value if player not in chosen)],
        "highest value first": by_value,
    }
    run = run.of("frontier")
    for series, order in orders.items():
        players = order[: attacks.frontier]
        counts = counts_up_to(len(players), *FRONTIER)
        if series == "order of choosing":
            counts = tuple(sorted({*counts, len(chosen)}))
        with run.phase("frontier"):
            line = partial(_measured, (classifier, filters, players, counts), stored, clean, run)
            saved = run.cached(series.replace(" ", "-"), line, ARRAYS)
        yield FrontierLine(series, counts, saved["hit"], saved["clean"], len(chosen) if series == "order of choosing" else None)


def _measured(
    network: tuple[Classifier, ConvFilters, list[int], tuple[int, ...]], stored: Attacked, clean: LabelledImages, run: Run
) -> Arrays:
    """Who gets the target and who is right, with the first filters of an order frozen."""
    hit = freeze_first(*network, stored.images, run, labels=stored.targets)
    return {"hit": hit, "clean": freeze_first(*network, clean, run)}
