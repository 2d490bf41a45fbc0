"""The result of an experiment: what `result.json` holds, and all that a report may show.

Reports are views of this and do no arithmetic. Every share is in 0 .. 1, every difference is `second - first`, and every interval is at
the `level` of the result (0.95 unless said). Here stands what several kinds have; what one kind alone measures is its `extra`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Generic, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypeVar

from repairkit.errors import DataError
from repairkit.files import write_text

SCHEMA_VERSION: Final = 2
Claim = Literal["better", "worse", "no claim"]
Model = TypeVar("Model", bound=BaseModel)


class Record(BaseModel):
    """A frozen record; unknown keys are errors, so a typo never passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Extra = TypeVar("Extra", bound=Record, default=Any)


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


class Histogram(Record):
    """Histogram of estimated values over filters, and where the culprits lie."""

    title: str
    edges: list[float]
    counts: list[int]
    culprits: list[float]


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


class CurvePoint(Record):
    """A network with the first `filters` of an order frozen, on the test images, and its paired change against none frozen."""

    column: str
    series: Literal["highest", "lowest", "least", "random"]  # by value, by absolute value ("least"), or at random: the mean over the draws
    metric: Literal["recall", "other classes", "accuracy"]  # of the class; mean recall of all other classes; share of all images
    filters: int
    n: int
    value: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


class ValuedFilter(Record):
    """A filter at one end of the values."""

    layer: str
    channel: int
    value: float
    half_width: float | None
    screen: float | None
    price: float | None = None  # what counts against it in the ranking; None where nothing does
    samples: int
    status: str  # whether it is known to be among the k of its end


class Extreme(Record):
    """The filters at one end of the values, most extreme first."""

    end: Literal["low", "high"]
    heading: str  # how many, and whether this end was sought
    filters: list[ValuedFilter]


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
    folds: int = 1
    as_given: int = 0  # of the folds, how many have the network as it was given, since no setting gained within the guard

    @property
    def heading(self) -> str:
        """Its label, and that it is the network as it was given, where it is in every fold."""
        return f"{self.label} (as given)" if self.as_given == self.folds else self.label


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
    total: float | None = None  # image passes of values and choosing
    candidates: list[int] = Field(default_factory=list)  # filters that choosing could freeze, by fold
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
    sizes: str = ""  # how many of what these are, where images of different kinds are weighed against each other
    filters: int  # of the network
    k: int  # of the overlaps
    sentences: list[str]  # the finding in words, losses first
    baselines: list[Baseline]
    other: str | None  # name of the baseline that `ranked` compares with
    ranked: list[RankedFilter]


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


class NoExtra(Record):
    """Nothing beside what all kinds have."""


class Result(Record, Generic[Extra]):
    """What an experiment found out: all that a report may show.

    Every kind of experiment has this one class. What a kind alone measures stands in `extra`, a record of the kind.

    Raises:
        DataError (from `read`): the file is missing, is no JSON, or is of another schema.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    kind: str
    title: str
    created: str  # ISO date
    notices: list[str] = Field(default_factory=list)  # for instance that the faces are synthetic
    level: float = 0.95
    folds: int = 1
    model: str
    objective: str  # whose values ranked the filters, in words
    verdict: Verdict
    columns: list[Column]  # networks that are compared; of one network alone, that one
    groups: list[str] = Field(default_factory=list)
    shares: list[Share] = Field(default_factory=list)
    differences: list[Difference] = Field(default_factory=list)
    frozen: list[FrozenFilter] = Field(default_factory=list)
    histograms: list[Histogram] = Field(default_factory=list)
    method: list[str]  # how it was found, one sentence each
    costs: list[Cost]
    alternatives: list[Alternative] = Field(default_factory=list)  # empty unless they were asked for
    guarantees: list[Guaranteed] = Field(default_factory=list)  # empty unless they were asked for
    limits: list[str]
    reproduction: Reproduction
    comparisons: dict[str, Comparison] = Field(default_factory=dict)  # with baselines, by column; empty unless they were asked for
    extra: Extra

    @property
    def compared(self) -> dict[str, Comparison]:
        """The comparisons by the label of their column; of the only network of a report, by ""."""
        if len(self.comparisons) < 2:
            return dict(zip([""], self.comparisons.values(), strict=False))
        return {column.label: self.comparisons[column.key] for column in self.columns if column.key in self.comparisons}

    @property
    def comparison(self) -> Comparison | None:
        """That of the only network which was compared; None where none or several were."""
        return self.compared.get("")

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
        check_schema(path)
        return read_record(cls, path)


class _Versioned(BaseModel):
    schema_version: int


def check_schema(path: Path) -> None:
    """Whether a result is of the schema of this version.

    Raises:
        DataError: it is newer or older, or it is no result.
    """
    found = read_record(_Versioned, path).schema_version
    if found > SCHEMA_VERSION:
        raise DataError(f"{path} has result schema {found}, this version of repairkit reads {SCHEMA_VERSION}; install a newer repairkit")
    if found < SCHEMA_VERSION:
        raise DataError(
            f"{path} has result schema {found}, this version of repairkit reads {SCHEMA_VERSION}; "
            "run the experiment again, or convert the file with tools/migrate_results.py of the repository"
        )


def read_record(model: type[Model], path: Path) -> Model:
    """The JSON of a `result.json` as a model; for any kind, see `repairkit.experiments.results.read`.

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
