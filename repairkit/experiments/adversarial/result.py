"""The result of an adversarial repair."""

from __future__ import annotations

from typing import Literal

from repairkit.result import Record, Result


class Adversary(Record):
    """Someone who changes the report images, what he knows, and what that costs him."""

    key: str  # the group of his shares and differences
    kind: Literal["noise", "replay", "transfer", "black box", "adaptive", "worst"]
    title: str  # for instance "PGD, stored images"
    description: str  # parameters, what the images were made against and which images, in words
    targeted: bool  # False: he wants the true label lost, and there is no target success
    n: int
    passes: float  # image passes, over all columns


class FrontierPoint(Record):
    """The network with the first `filters` of an order frozen: stored adversarial report images against clean ones."""

    series: Literal["order of choosing", "highest value first"]
    filters: int
    n: int  # stored adversarial images
    success: float  # share that gets the target
    success_low: float
    success_high: float
    n_clean: int
    clean: float  # accuracy
    clean_low: float
    clean_high: float
    chosen: bool = False


class SweepPoint(Record):
    """Target success of PGD, run afresh on one network within one bound or a smaller one."""

    column: str
    eps: float  # in units of images in [0, 1]
    restarts: int = 1  # starts within each bound
    n: int
    success: float
    low: float
    high: float


class Strength(Record):
    """How much change an adversary needs to fool one network, and whether the attack that measured it works."""

    column: str
    n: int
    median_eps: float | None  # least bound that gets the targets of half of the images; None where none does
    gained: int | None  # images that need a larger bound than of the original network; None for that
    lost: int | None  # images that need a smaller one
    p_value: float | None  # exact sign test of gained against lost
    checked: int  # images of the sanity checks
    flags: list[str]  # what is suspicious about the attack on this network; empty where nothing is


class RankCorrelation(Record):
    """Spearman's rank correlation of two values over the filters of one network, each measured once: nothing says how far noise moves it."""

    of: str  # what is correlated, in words
    n: int  # filters
    value: float
    low: float | None = None  # only in older results, and not shown: as if filters were a random sample
    high: float | None = None


class AdversarialExtra(Record):
    """What freezing filters does against adversaries, each kind in a row of its own.

    `groups` are the keys of the adversaries. Shares and differences have the metrics "target success" and "recovered label" of each group,
    and "clean accuracy" of none.
    """

    images: str
    parts: dict[str, str]  # what each part of the clean images and of the adversarial ones is, and how many
    attack: str  # that filters were found and chosen against, in words
    adversaries: list[Adversary]
    frontier: list[FrontierPoint]
    sweep: list[SweepPoint]
    strengths: list[Strength]
    correlation: RankCorrelation | None


AdversarialResult = Result[AdversarialExtra]
