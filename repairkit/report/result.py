"""The result of a run: what `result.json` holds, and all that a report may show.

Reports are views of this and do no arithmetic. Every share is in 0 .. 1, every difference is
`second - first`, and every interval is at the `level` of the result (0.95 unless said).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from repairkit.errors import DataError
from repairkit.files import write_text

SCHEMA_VERSION = 1

Claim = Literal["better", "worse", "no claim"]
Model = TypeVar("Model", bound=BaseModel)


class Record(BaseModel):
    """A frozen record; unknown keys are errors, so a typo never passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Column(Record):
    """One network (or decision rule) that is compared: "original", "repaired", "threshold", ..."""

    key: str
    label: str
    explanation: str  # one sentence: what it is, what it needs


class Share(Record):
    """A recall, an accuracy or another share of images, with its interval."""

    metric: str  # "recall" for one group; else "mean recall", "lowest recall", "source accuracy"
    group: str | None  # None for an aggregate
    column: str
    n: int
    value: float
    low: float
    high: float


class Difference(Record):
    """A paired difference between two columns on the same images.

    `p_value` is exact McNemar's, `p_adjusted` Holm's over the groups; both are None for an
    aggregate, whose interval is a bootstrap stratified by group. `claim` needs the interval to
    exclude zero and, for a group, p_adjusted < 1 - level as well.
    """

    metric: str
    group: str | None
    first: str  # column that is subtracted
    second: str
    n: int
    value: float
    low: float
    high: float
    p_value: float | None = None
    p_adjusted: float | None = None
    claim: Claim


class Disparity(Record):
    """fairlearn's `MetricFrame` over the subgroups, for one column."""

    column: str
    difference: float  # highest minus lowest recall
    ratio: float  # lowest over highest recall
    lowest_group: str


class FrozenFilter(Record):
    """One culprit, frozen at a constant."""

    fold: int  # 0 when there are no folds
    column: str  # "repaired" or "dropout_repaired"
    layer: str
    channel: int
    constant: float
    value: float
    half_width: float | None
    screen: float | None


class CurvePoint(Record):
    """Filters frozen one by one in the order of choosing; means over folds, report split."""

    series: str  # "repaired", "most negative first", "threshold", ...
    filters: int
    mean_recall: float
    source_accuracy: float
    chosen: bool = False  # True at the number of filters (or the threshold) that was chosen


class FrozenRound(Record):
    """What one of several rounds of finding and freezing froze, and where that led on the report images."""

    column: str  # "repaired" or "dropout_repaired"
    fold: int  # 0 when there are no folds
    round: int
    filters: list[str]  # "layer:channel", in the order of choosing
    stopped: str  # why choosing stopped there
    passes: float  # image passes of attribution and choosing
    mean_recall: float | None  # after the round; None where its path was not measured
    source_accuracy: float | None


class Histogram(Record):
    """Histogram of estimated values over filters, and where the culprits lie."""

    title: str
    edges: list[float]
    counts: list[int]
    culprits: list[float]


class SharedTop(Record):
    """Of the k filters of highest value by either of two values, how many are the same."""

    k: int
    shared: int
    chance: float  # expected where the values have nothing to do with each other


class Overlap(Record):
    """Of k filters that each half of the attribution images names, the share that both name; over folds."""

    k: int
    share: float  # mean over the folds
    low: float  # least and greatest over the folds
    high: float
    chance: float  # expected of two halves that name k filters at random


class Agreement(Record):
    """How far two disjoint halves of the attribution images, at half the budget each, rank the filters alike."""

    column: str  # "repaired" or "dropout_repaired"
    by: Literal["value", "screen"]  # values of the filters that each half found by exact flips, or screens of all filters
    end: Literal["low", "high"]  # which end of the ranking
    rank_correlation: float | None  # Spearman's, mean over the folds; of the filters that both halves ranked
    overlaps: list[Overlap]


class Guaranteed(Record):
    """What an attribution claims of both ends, all of it wrong with probability `delta` at most."""

    column: str  # "repaired" or "dropout_repaired"
    fold: int  # 0 when there are no folds
    round: int = 1
    delta: float
    tolerance: float  # relative to the k-th value
    top: int  # k
    filters: int
    valued: int  # filters that the claims are about: all, or contested and audited
    separated: dict[Literal["low", "high"], int]  # truly among the k lowest or highest
    certified: dict[Literal["low", "high"], int]  # of k, those and the ones within the tolerance
    missed: dict[Literal["low", "high"], int]  # filters that the screen missed, at most; empty where all are valued
    decided: bool  # both ends; otherwise the budget ended it


class RemovalPoint(Record):
    """The network with the first `filters` of an order frozen, on the report images, and its paired change against none frozen."""

    series: Literal["critical", "least", "random"]  # highest value first, least absolute value first, or at random (mean over the draws)
    metric: Literal["recall", "other classes", "accuracy"]  # of the class; mean recall of all other classes; share of all images
    filters: int
    n: int
    value: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


class DropoutPoint(Record):
    """One of two networks with the first `filters` of an order of its own frozen, on the report images; paired change against none frozen."""

    column: str  # "original" or "dropout"
    series: Literal["highest", "lowest", "random"]  # values, or drawn at random (mean over the draws)
    filters: int
    n: int
    value: float  # accuracy
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


class SharedHistogram(Record):
    """Histograms of two networks' filters over the same edges."""

    title: str
    edges: list[float]
    counts: dict[str, list[int]]  # by column


class ValuedFilter(Record):
    """A filter at one end of the values."""

    layer: str
    channel: int
    value: float
    half_width: float | None
    screen: float | None
    samples: int
    status: str  # whether it is known to be among the k of its end


class Extreme(Record):
    """The filters at one end of the values, most extreme first."""

    end: Literal["low", "high"]
    heading: str  # how many, and whether this end was sought
    filters: list[ValuedFilter]


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


class Correlation(Record):
    """Spearman's rank correlation of two values over the filters of one network; the interval is over filters, as if they were a random sample."""

    of: str  # what is correlated, in words
    n: int  # filters
    value: float
    low: float
    high: float


class Estimate(Record):
    """A number with its interval."""

    value: float
    low: float
    high: float


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
    t0: float  # where the live zone begins
    zone_measured: bool  # False where t0 was given
    dead_in_zone: float  # share of the orders that are dead once 1 - t0 of the filters are removed


class StoppedAlike(Record):
    """TMAB and Monte Carlo, both as published, stopped by their own rule at one tolerance; both ways round on two sets of permutations."""

    tolerance: float
    extrapolated: bool  # permutations were drawn with replacement from those walked
    stopped: bool  # False: neither the permutations nor the extrapolation sufficed, and nothing else is known
    permutations: int = 0  # of Monte Carlo, means over both ways
    share: Estimate | None = (
        None  # samples of TMAB over those of Monte Carlo; interval over permutations, of what is extrapolated the range
    )
    ways: list[float] = Field(default_factory=list)  # the share either way round
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


class LayerCount(Record):
    """How many of the critical filters lie in one layer."""

    layer: str
    critical: int
    filters: int


class ComparedPoint(Record):
    """The network with the first `filters` of an order frozen, on the report images."""

    filters: int
    value: float
    low: float
    high: float
    beside: float | None  # of the comparison's second metric, where it has one


class Selection(Record):
    """One metric of the network that choosing made from the candidates of one baseline, on the report images."""

    metric: str
    lower_is_better: bool
    n: int
    before: float  # with nothing frozen
    value: float
    low: float
    high: float
    change: float  # paired, against before
    change_low: float
    change_high: float
    lead: float | None  # by how much the run's own repair is better, paired; None for that
    lead_low: float | None
    lead_high: float | None
    claim: Claim | None  # whether the run's own repair is better


class Baseline(Record):
    """One answer to which filters matter: what it cost, what it agrees with, and what came of it. Means over folds.

    None and empty lists stand for what was not measured: of one that could not be made nothing was, and the Shapley values are not
    compared with themselves.
    """

    name: str
    what: str  # in a sentence
    why_not: str = ""  # why it could not be made; empty where it could
    passes: float | None = None  # of its values
    images: int | None = None  # that its values were made on; of Shapley values each has its own number
    both: int | None = None  # filters with a value here and a Shapley value
    rank_correlation: float | None = None  # Spearman's over these
    overlap: float | None = None  # of the first k of the Shapley values, the share that is among its own first k
    points: list[ComparedPoint] = Field(default_factory=list)
    area: float | None = None  # mean height of the curve over the numbers of filters, trapezoid rule
    area_low: float | None = None
    area_high: float | None = None
    lead: float | None = None  # by how much the Shapley values are ahead in area, paired
    lead_low: float | None = None
    lead_high: float | None = None
    claim: Claim | None = None  # whether the Shapley values are better by area
    frozen: list[int] = Field(default_factory=list)  # filters that choosing froze of its candidates, by fold
    choosing: float | None = None  # image passes of choosing
    selections: list[Selection] = Field(default_factory=list)


class RankedFilter(Record):
    """A filter that is among the first of the Shapley values or of another answer, and its place under both."""

    layer: str
    channel: int
    value: float | None  # Shapley value
    rank: int | None
    other_value: float | None
    other_rank: int | None


class Comparison(Record):
    """A run held against baselines, the Shapley values first among them."""

    metric: str  # what the curves show
    lower_is_better: bool  # a curve that falls further is ahead
    beside: str | None  # a second metric of the curves
    order: str  # which filters are frozen first, in words
    n: int  # report images that the curves are measured on
    filters: int  # of the network
    k: int  # of the overlaps
    sentences: list[str]  # the finding in words, losses first
    baselines: list[Baseline]
    other: str | None  # name of the baseline that `ranked` compares with
    ranked: list[RankedFilter]


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


class LayerWidth(Record):
    """How many filters of one layer were frozen, and how many of these are gone."""

    layer: str
    filters: int
    frozen: int
    removed: int


class Cost(Record):
    """What one part of the run cost."""

    part: str  # "screen", "flips", "choosing", "evaluation", ...
    passes: float  # image passes: forward 1, forward and backward 3, a flip its measured share
    seconds: float
    taken: float = 0.0  # of the passes, those that an earlier run made: their time is not in the seconds


class Alternative(Record):
    """What one could do, the original, the repair and whatever one would do instead; its shares and differences are those of its column."""

    column: str
    label: str
    explanation: str  # what it is, and what it needs
    minutes: float | None  # to fit and to choose, over all folds, without evaluation; None where nothing was done
    passes: float | None  # image passes, likewise
    images: int | None  # labelled images that it learned from or was chosen on, in each fold; None for none
    training_data: bool = False  # it needs the data that the network was trained on
    changes_weights: bool
    group_at_run_time: bool  # it must be told the group of everyone whom it judges
    chosen: str = ""  # settings, in words
    left_out: str = ""  # why it could not be had; it has no shares then


class Verdict(Record):
    """The conclusion in words, worst news first."""

    outcome: Literal[
        "repaired",
        "no better than the threshold",
        "repaired against stored images",
        "no claim",
        "no repair",
        "guard broken",
        "cannot be fooled",
        "critical filters found",
        "measured",
        "less dependent",
        "more dependent",
        "pruned",
        "frozen",
        "nothing pruned",
    ]
    headline: str
    sentences: list[str]
    worse: list[str]  # what got worse, one sentence each; empty only if nothing is measurably worse


class Reproduction(Record):
    """What someone needs to get the same numbers."""

    command: str
    seed: int
    versions: dict[str, str]
    hashes: dict[str, str]  # model, target data, source data
    machine: str
    minutes: float
    settings: dict[str, str]


class Result(Record):
    """What every kind of report has; a kind adds what it alone measures.

    A new kind is a class here and its entry in `repairkit.report.kinds`.

    Raises:
        DataError (from `read`): the file is missing, is no JSON, or is not of this schema.
    """

    schema_version: int = SCHEMA_VERSION
    kind: str
    title: str
    created: str  # ISO date
    notices: list[str] = Field(default_factory=list)  # for instance that the faces are drawn
    level: float = 0.95
    folds: int = 1
    model: str
    objective: str  # the worth whose values ranked the filters, in words
    verdict: Verdict
    columns: list[Column]  # networks that are compared; of one network alone, that one
    groups: list[str]
    shares: list[Share]
    differences: list[Difference]
    frozen: list[FrozenFilter]
    histograms: list[Histogram]
    method: list[str]  # how it was found, one sentence each
    costs: list[Cost]
    alternatives: list[Alternative] = Field(default_factory=list)  # empty unless they were asked for
    guarantees: list[Guaranteed] = Field(default_factory=list)  # empty unless they were asked for
    limits: list[str]
    reproduction: Reproduction
    comparison: Comparison | None = None  # None unless it was asked for

    def share(self, column: str, metric: str, group: str | None = None) -> Share:
        """The one entry of that column, metric and group; KeyError if there is none."""
        for entry in self.shares:
            if (entry.column, entry.metric, entry.group) == (column, metric, group):
                return entry
        raise KeyError((column, metric, group))

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_text(path, json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a `result.json`."""
        return read_record(cls, path)


class FairnessResult(Result):
    """Everything that a fairness repair found out."""

    kind: Literal["fairness"]
    target: str
    source: str
    disparities: list[Disparity]
    curves: list[CurvePoint]
    stability: list[Agreement] = Field(default_factory=list)  # empty unless it was asked for
    rounds: list[FrozenRound] = Field(default_factory=list)  # empty unless there could be several


class CriticalResult(Result):
    """Which filters one class or all classes depend on, what removing them does, and the repair of a class where it was asked for."""

    kind: Literal["critical filters"]
    images: str
    subject: str | None  # the class; None for accuracy on all
    parts: dict[str, int]  # images that find, choose and report
    chance: float  # accuracy of a guess
    draws: int  # orders of random filters
    removal: list[RemovalPoint]
    layers: list[LayerCount]  # in the order in which the network runs them
    extremes: list[Extreme]


class DropoutResult(Result):
    """What a network and its dropout-trained rival depend on.

    Shares and differences have the metrics "accuracy" and, with the highest, the lowest and random filters frozen, "accuracy, highest frozen"
    and so on; differences "change, highest frozen" and so on too. Their groups are the numbers of filters, and none for the means over these.
    """

    kind: Literal["dropout"]
    images: str
    dropout_model: str
    parts: dict[str, int]  # images that find, choose (unused) and report
    players: int  # filters of each network
    draws: int  # orders of random filters
    most_frequent: float  # accuracy of whoever always names the most frequent class
    removal: list[DropoutPoint]
    spreads: list[SharedHistogram]
    extremes: dict[str, list[Extreme]]  # by column


class AdversarialResult(Result):
    """What freezing filters does against adversaries, each kind in a row of its own.

    `groups` are the keys of the adversaries. Shares and differences have the metrics "target success" and "recovered label" of each group,
    and "clean accuracy" of none.
    """

    kind: Literal["adversarial"]
    images: str
    parts: dict[str, str]  # what each part of the clean images and of the adversarial ones is, and how many
    attack: str  # that filters were found and chosen against, in words
    adversaries: list[Adversary]
    frontier: list[FrontierPoint]
    sweep: list[SweepPoint]
    strengths: list[Strength]
    correlation: RankCorrelation | None


class CorrelationResult(Result):
    """Whether attacks need the filters that accuracy needs: how alike both values rank the filters of one network."""

    kind: Literal["correlation"]
    images: str
    attack: str
    players: int
    correlations: list[Correlation]  # of both values, then of each with itself; fewer where one is not defined
    corrected: float | None  # the first, for the noise that the others show; None where noise is all there is
    tops: list[SharedTop]
    cells: list[list[int]]  # filters by tenth of the ranking by accuracy (rows, lowest first) and by attack success (columns)


class TruncationResult(Result):
    """How few random filters networks bear to lose, and what ending permutations there saves."""

    kind: Literal["truncation"]
    trajectories: int  # orders of removal of each network
    networks: list[TruncatedNetwork]
    curves: list[TruncationCurve]


class EfficiencyResult(Result):
    """How many samples the bandit takes against plain Monte Carlo, and whether their values agree."""

    kind: Literal["efficiency"]
    images: str
    compared_by: Literal["replay", "budget"]
    filters: int
    end: Literal["low", "high"]
    top: int  # k
    shown: str  # which comparison the figures show, in words
    stops: list[StoppedAlike]  # widest tolerance first; of the method "replay"
    agreements: list[AgreedAfter]  # of the method "budget"
    needed: list[Needed]
    samples: dict[str, list[int]]  # of each filter, by engine
    values: dict[str, list[float]]  # of each filter, by engine; the reference last


class PruningResult(Result):
    """How many filters of least absolute value accuracy can do without, and what the network costs when they are taken out.

    `columns` are "original", "frozen" and "pruned", as far as there are such networks. The frozen filters themselves stand in the run's
    `patch.json`, not in `frozen`: there may be thousands.
    """

    kind: Literal["pruning"]
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
    curve: list[RemovalPoint]
    footprints: list[Footprint]
    latencies: list[Latency]
    layers: list[LayerWidth]  # those with a frozen filter, in the order in which the network runs them


def read_record(model: type[Model], path: Path) -> Model:
    """The JSON of a `result.json` as a model; for any kind, see `repairkit.report.kinds.read`.

    Raises:
        DataError: the file is missing, is no JSON, or does not fit the model.
    """
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"expected a result at {path}, found none; give the directory of a finished run") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"expected a result at {path}, could not read it ({error}); give the directory of a finished run") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{path} is not a result of this version: {where}: {first['msg']}; run the repair again") from None
