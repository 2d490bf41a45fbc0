"""The frontier of attack success and clean accuracy, as filters of the first round are frozen one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from repairkit.attacks.generate import Attacked, Booleans
from repairkit.evaluation.ablation import grid, said_with
from repairkit.evaluation.splits import Split
from repairkit.experiments.adversarial.rounds import Round
from repairkit.experiments.adversarial.task import AdversarialTask, AttackOptions
from repairkit.experiments.options import Options
from repairkit.repair.selection import eligible
from repairkit.run.ledger import Clock
from repairkit.run.store import Unfinished

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
    task: AdversarialTask,
    first: Round,
    stored: Attacked,
    split: Split,
    options: Options,
    attacks: AttackOptions,
    clock: Clock,
    unfinished: Unfinished | None = None,
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
    kept = unfinished.network("frontier") if unfinished else None
    for series, order in orders.items():
        players = order[: attacks.frontier]
        counts = grid(len(players), *FRONTIER)
        if series == "order of choosing":
            counts = tuple(sorted({*counts, len(chosen)}))
        saved = kept.arrays(series.replace(" ", "-")) if kept else None
        if saved is not None:
            clock.restore("frontier", float(len(counts) * (len(stored) + len(clean))))
        else:
            hits, rights = [], []
            with clock.part("frontier"):
                for count in counts:
                    frozen = np.array(players[:count], dtype=np.int64)
                    hits.append(said_with(classifier, filters, stored.images, frozen, options.batch) == stored.targets)
                    rights.append(said_with(classifier, filters, clean, frozen, options.batch) == clean.labels)
                    clock.add("frontier", len(stored) + len(clean))
                    clock.tell("frontier", 0, 0)
            saved = {"hit": np.stack(hits), "clean": np.stack(rights)}
            if kept is not None:
                kept.keep_arrays(series.replace(" ", "-"), **saved)
        yield FrontierLine(series, counts, saved["hit"], saved["clean"], len(chosen) if series == "order of choosing" else None)
