"""Options: every choice of a run, whatever the command, checked before any work."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from repairkit.errors import UsageError
from repairkit.run.settings import LARGEST_SEED
from repairkit.shapley import Engine
from repairkit.shapley.tmab import TOLERANCE

Ranking = Literal["recall + source", "recall", "specific"]
Score = Literal["smooth", "hard"]
Precision = Literal["float32", "bfloat16"]
FreezeAt = Literal["post", "pre"]
Strategy = Literal["forward", "prefix"]
MinLive = float | Literal["auto", "settled"] | None
SETTLES = "accuracy and dropout"
"""Commands that settle the live range on the images that choose; see `repairkit.repair.live_range`."""

COMPARING = 2
"""Raised where what a run keeps of baselines or alternatives changes its meaning, so that older work is not taken for it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Every choice of a run. Each command takes those that it has a use for; fairness repair takes all, and the words below are of it.

    Attributes:
        engine, budget, top, t0, truncation: of the attribution, see `repairkit.shapley.estimate`;
            the budget is in image passes for each network and fold. `top` is 40 for `tmab` unless given
            and the paper's 100 for the walks; `t0` is 0.97 for `tmab`, near the whole network, where few filters are frozen,
            and "auto" measures where the network dies (`repairkit.shapley.live_range`); "settled", of accuracy and dropout, takes that or a narrower live range,
            by what freezing its highest filters does on the images that choose (`repairkit.repair.live_range`).
            `truncation` is for the walks and each part of the worth the paper's 0.6 for two classes and 0.2 for more, and 0 for none.
        guarantee: probability that any claim about the lowest and highest filters is wrong, in (0, 1), for
            each network and fold (`tmab`; see docs/guarantee.md); None for no claims.
        tolerance: of the guarantee, relative to the k-th value of each end; 0.2 unless given.
        contested: how many filters of its screen `tmab` flips (with a guarantee, of each end; more than
            there are stands for all, without a screen); 3 times `top` unless given.
        ranking: worth whose values rank the filters: "recall + source" (subgroup recall plus source
            accuracy, the default) or "recall" (subgroup recall alone, the paper's). Of the filters of one class: "recall" (of that class alone,
            the paper's), or "specific", less what the other classes lose (`repairkit.experiments.critical.class_ranking`; `tmab` without a guarantee).
        spare: of a class-specific ranking: the most that the mean recall of the other classes may fall with the critical filters frozen (one-sided
            90 % bound on the images that choose).
        score: "smooth" values filters by the mean sigmoid of the margin (with two classes the probability
            of the label), "hard" (the paper's) by the share of correct images, which needs many times the budget for the same precision.
        freeze_at: "post" or "pre", where constants are measured.
        precision: "float32", or "bfloat16" for the passes that find filters: the attribution's (live range, screen and flips), and those that
            tell what a candidate of choosing gains. Constants, the guard and all that is measured on report images stay in float32.
        strategy, candidates, max_filters, max_clean_drop: of choosing, see `repairkit.repair.selection.choose`.
        folds: 1 for one split, 3 or more to cross-fit.
        rounds: how often filters are found and frozen in each fold, each time in the network as the earlier rounds left it and for an
            equal share of `max_clean_drop`; a round that freezes nothing is the last.
        target_shares: attribute, choose and report shares of the target images when folds is 1.
        source_counts: attribute, choose and report numbers of source images; None for the same shares.
        stability: also attribute on each half of the attribution images, with half the budget each,
            and state how far both name the same 25, 50, 100 and 200 culprits; doubles the cost of the attribution. Where `contested` is not given, `tmab`
            contests as many filters of the halves as the largest of these numbers that half the budget pays.
        seed: of splits, engine and bootstrap.
        level: of all intervals.
        batch: images per pass, at most; see `repairkit.run.resources`.
        curve: numbers of most negative filters at which the removal curve is measured.
        compare: names of `repairkit.baselines.rankings.BASELINES` to compare the Shapley values with, see `repairkit.baselines.compare`; empty for none.
        alternatives: also do what one would do instead of a repair, on the same images (`repairkit.alternatives.base`; against an attack
            adversarial fine-tuning), and compare.
    """

    engine: Engine = "tmab"
    budget: float = 20_000
    top: int | None = None
    t0: MinLive = None
    truncation: float | None = None
    guarantee: float | None = None
    tolerance: float | None = None
    contested: int | None = None
    ranking: Ranking = "recall + source"
    spare: float = 0.05
    score: Score = "smooth"
    freeze_at: FreezeAt = "post"
    precision: Precision = "float32"
    strategy: Strategy = "forward"
    candidates: int = 40
    max_filters: int = 16
    max_clean_drop: float = 0.01
    folds: int = 1
    rounds: int = 1
    target_shares: tuple[float, float, float] = (0.4, 0.2, 0.4)
    source_counts: tuple[int, int, int] | None = None
    stability: bool = False
    seed: int = 0
    level: float = 0.95
    device: str = "cpu"
    batch: int = 32
    curve: tuple[int, ...] = (2, 4, 8)
    compare: tuple[str, ...] = ()
    alternatives: bool = False

    def __post_init__(self) -> None:
        known = {"engine": Engine, "ranking": Ranking, "score": Score, "freeze_at": FreezeAt, "precision": Precision, "strategy": Strategy}
        for name, choices in known.items():
            if (given := getattr(self, name)) not in get_args(choices):
                raise UsageError(f"{name} must be {' or '.join(map(repr, get_args(choices)))}, got {given!r}")
        self._settle_truncation()
        self._check_claims()
        for name, low, high in (
            ("t0", 0, 0.999),
            ("truncation", 0, math.inf),
            ("spare", 0, 1),
            ("max_clean_drop", 0, 1),
            ("level", 0.5, 0.9999),
            ("top", 1, math.inf),
            ("max_filters", 1, math.inf),
            ("candidates", 1, math.inf),
            ("rounds", 1, math.inf),
            ("batch", 1, math.inf),
            ("seed", 0, LARGEST_SEED),
        ):
            if (number := getattr(self, name)) not in (None, "auto", "settled") and not low <= number <= high:
                raise UsageError(f"{name} must lie between {low:g} and {high:g}, got {number}")
        if min(self.curve, default=1) < 1:
            raise UsageError(f"curve must hold numbers of filters, at least 1 each, got {self.curve}")
        if self.compare and self.rounds > 1:
            raise UsageError(f"compare holds one round against baselines that choose once, got {self.rounds} rounds; give one of the two")
        if self.device not in ("cpu", "cuda"):
            raise UsageError(f"device must be cpu or cuda, got {self.device!r}")
        if not 0 < self.budget < math.inf:
            raise UsageError(f"budget must be a positive number of image passes, got {self.budget}")
        if self.folds != 1 and self.folds < 3:
            raise UsageError(f"folds must be 1 or at least 3 (attribute, choose and report each need a part), got {self.folds}")

    @property
    def configuration(self) -> dict[str, object]:
        """All choices as a run that goes on compares them; newer ones that ask for nothing are left out, so that older work is taken up."""
        chosen = {
            name: value
            for name, value in asdict(self).items()
            if (name, value) not in (("rounds", 1), ("compare", ())) and (name != "spare" or self.ranking == "specific")
        }
        return chosen | ({"comparing": COMPARING} if self.compare or self.alternatives else {})

    @property
    def usual_top(self) -> int:
        """How many filters of an end are wanted where `top` does not say: half of them in a network of fewer."""
        return 40 if self.engine == "tmab" else 100

    def _settle_truncation(self) -> None:
        if isinstance(self.t0, str) and self.t0 not in ("auto", "settled"):
            raise UsageError(f"t0 must be a number, 'auto' or 'settled', got {self.t0!r}")
        if self.engine == "tmab":
            if self.truncation is not None:
                raise UsageError("tmab truncates by size, not by worth: give t0 in place of truncation")
            object.__setattr__(self, "t0", 0.97 if self.t0 is None else self.t0)
        elif self.t0 is not None:
            raise UsageError(
                f"{self.engine} has no live range t0, got {self.t0}; give truncation, the worth below which a permutation ends"
            )

    def _check_claims(self) -> None:
        if self.engine != "tmab" and self.ranking == "specific":
            raise UsageError(
                f"ranking specific is for the engine tmab, got {self.engine}: a walk ends by a worth, which prices would shift"
            )
        if self.guarantee is not None and self.ranking == "specific":
            raise UsageError(
                "ranking specific keeps no guarantee, since prices are estimates themselves; give ranking recall, or no guarantee"
            )
        if self.engine != "tmab" and (self.guarantee is not None or self.contested is not None):
            given = "guarantee" if self.guarantee is not None else "contested"
            raise UsageError(f"{given} is for the engine tmab, got {self.engine}: it has no screen and keeps no guarantee")
        if self.guarantee is None and self.tolerance is not None:
            raise UsageError(f"tolerance belongs to a guarantee, got {self.tolerance} without one; give guarantee, for instance 0.05")
        if self.guarantee is not None and not 0 < self.guarantee < 1:
            raise UsageError(f"guarantee must lie between 0 and 1, got {self.guarantee}; it is the probability that any claim is wrong")
        if self.tolerance is not None and not 0 <= self.tolerance < 1:
            raise UsageError(f"tolerance must lie in [0, 1), got {self.tolerance}; it is relative to the k-th value")
        least = 1 if self.guarantee is None else self.top or self.usual_top
        if self.contested is not None and self.contested < least:
            raise UsageError(
                f"contested must be at least {least}, got {self.contested}{' (top, for a guarantee)' if self.guarantee else ''}"
            )
        if self.guarantee is not None and self.tolerance is None:
            object.__setattr__(self, "tolerance", TOLERANCE)
