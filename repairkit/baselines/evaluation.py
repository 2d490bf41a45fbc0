"""From what came of each baseline on the report images to the tables and sentences of a comparison."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from repairkit.baselines.compare import AS_DEAR, AS_PUBLISHED, SHAPLEY, Compared, Contender
from repairkit.baselines.rankings import BASELINES, DRAWS
from repairkit.errors import DataError
from repairkit.evaluation.curves import area
from repairkit.evaluation.metrics import Metric, claim_of
from repairkit.evaluation.statistics import Floats, Interval, simultaneous
from repairkit.evaluation.wording import describe_interval, format_points
from repairkit.network.filters import FilterId
from repairkit.result import Baseline, Claim, ComparedPoint, Comparison, RankedFilter, Selection
from repairkit.run.options import Strategy

RANKED = 10
"""First filters of two orders that are listed side by side."""
SELECTING: dict[Strategy, str] = {"forward": "forward selection", "prefix": "taking the most harmful first"}
"""Strategies of choosing, in words."""
VARIANTS = {
    "random": f"An order drawn at random: what any other must beat. Its curve is the mean of {DRAWS} orders, choosing has the candidates of the first.",
    AS_PUBLISHED: "Neuron conductance (50 Riemann steps from a black image) of 100 images (of all that find, where these are fewer), as the paper made it.",
    AS_DEAR: "Neuron conductance of as many images as the passes of the Shapley values pay for.",
    SHAPLEY: "The values of this run.",
}


def comparison(
    compared: Compared,
    metric: Metric,
    *,
    order: str,
    beside: Metric | None = None,
    before: Floats | None = None,
    judged: Sequence[Metric] = (),
    strategy: Strategy = "forward",
    most: int | None = None,
    words: Mapping[str, str] = VARIANTS,
    level: float = 0.95,
    seed: int = 0,
    networks: int = 1,
) -> Comparison:
    """Tables and sentences of a comparison.

    Args:
        compared: what came of every baseline.
        metric: of the curves.
        order: which filters are frozen first, in words.
        beside: a second metric of the curves, shown without claim.
        before: shape (N,), what is counted of each image with nothing frozen; needed where filters were chosen.
        judged: of the networks that choosing made, the one that the repair is for first.
        strategy: how filters were chosen.
        most: of the first of an order, whose overlap is stated; those sought that score above 0 by default.
        words: what a baseline is, where that is not as `BASELINES` has it.
        level: of all intervals, each of which holds for one comparison at a time, and of all claims against the baselines together: each
            is made at `simultaneous` of it.
        seed: of the bootstrap.
        networks: how many are compared in this way in one report, whose claims hold together.
    """
    shapley = compared.contenders[0]
    k = (
        most
        if most is not None
        else min(min(found.top_k, int((scores > 0).sum())) for found, scores in zip(shapley.attributions, shapley.scores, strict=True))
    )
    rivals = sum(bool(each.attributions) for each in compared.contenders[1:])
    claimed = simultaneous(level, rivals * networks)
    judge = _Judge(compared, metric, beside, before, judged, k, words, level, claimed, seed)
    rows = [judge.row(each) for each in compared.contenders]
    found = {each.name: each for each in compared.contenders if each.attributions}
    other = next((found[name] for name in (AS_PUBLISHED, AS_DEAR) if name in found), None)
    return Comparison(
        metric=metric.name,
        lower_is_better=metric.lower_is_better,
        beside=beside.name if beside else None,
        order=order,
        n=metric.n,
        sizes=metric.sizes,
        filters=len(shapley.scores[0]),
        k=k,
        sentences=[
            *by_area(metric, rows, level),
            *cut_short(compared),
            *by_selection(judged, rows, SELECTING[strategy], level),
            *together(rivals, level, networks=networks),
        ],
        baselines=rows,
        other=other.name if other else None,
        ranked=ranked(shapley, other) if other else [],
    )


def together(rivals: int, level: float, of: str = "baseline", *, networks: int = 1) -> list[str]:
    """What claims about several baselines, or what else they are `of`, mean; nothing to say of one."""
    if rivals * networks < 2:
        return []
    where = f" of all {networks} networks" if networks > 1 else ""
    strict = simultaneous(level, rivals * networks)
    return [
        f"Claims hold for the {rivals} {of}s{where} together, in each metric by itself: for better or worse the {100 * strict:.4g}% interval must exclude "
        f"zero. The {100 * level:g}% intervals shown hold for one {of} at a time, so that one may exclude zero without a claim."
    ]


def ranked(shapley: Contender, other: Contender) -> list[RankedFilter]:
    """The first filters of either order in the first fold, those of the Shapley values first."""
    ids = shapley.attributions[0].ids
    orders = [_order(each.scores[0]) for each in (shapley, other)]
    ranks = [{int(player): rank for rank, player in enumerate(order, start=1)} for order in orders]

    def value(contender: Contender, player: int) -> float | None:
        number = contender.attributions[0].value[player]
        return None if np.isnan(number) else float(number)

    players = dict.fromkeys(int(player) for order in orders for player in order[:RANKED])
    return [
        RankedFilter(
            layer=(name := FilterId.parse(ids[player])).layer,
            channel=name.channel,
            value=value(shapley, player),
            rank=ranks[0].get(player),
            other_value=value(other, player),
            other_rank=ranks[1].get(player),
        )
        for player in players
    ]


def by_area(metric: Metric, rows: Sequence[Baseline], level: float) -> list[str]:
    """What the order of Shapley values loses to by area, what it beats, and what it cannot be told from."""
    leads = [(row.name, row.lead, row.lead_low, row.lead_high, row.claim) for row in rows if row.lead is not None]
    said = against(leads, metric.sizes or metric.n, level)
    if not said:
        return []
    return [
        f"By area under the curve of {metric.name} ({'lower' if metric.lower_is_better else 'higher'} is better) the order of Shapley values {said}.",
        *(
            [f"Of random filters {DRAWS} orders were drawn; the interval is that of these."]
            if any(name == "random" for name, *_ in leads)
            else []
        ),
    ]


def cut_short(compared: Compared) -> list[str]:
    """Whose curves go on as they are, since their orders name fewer filters than are frozen along them."""
    return [
        f"{each.name} names {each.named:,} filter{'' if each.named == 1 else 's'} alone{' in one of the folds' if len(each.attributions) > 1 else ''}; "
        "where more are frozen, its curve is that of these."
        for each in compared.contenders
        if each.named is not None
    ]


def by_selection(judged: Sequence[Metric], rows: Sequence[Baseline], selecting: str, level: float) -> list[str]:
    """Whether the gain comes from the Shapley values or from the selection, and what choosing from other candidates does."""
    if not judged or not rows[0].selections:
        return []
    sentences = []
    own = rows[0].selections[0]
    random = next((row.selections[0] for row in rows if row.name == "random" and row.selections), None)
    if random is not None and random.lead is not None and random.lead_low is not None and random.lead_high is not None:
        start = "Does the gain come from the Shapley values or from the selection?"
        draws = len(next(row.frozen for row in rows if row.name == "random"))
        given = f"one draw{f' in each of {draws} folds' if draws > 1 else ''}, for which alone these intervals hold"
        gains = [
            f"{_moved(own.metric, each)} ({describe_interval(each.change_low, each.change_high, level, each.n)})" for each in (random, own)
        ]
        difference = describe_interval(random.lead_low, random.lead_high, level, random.n)
        sentences.append(
            f"{start} {selecting[0].upper()}{selecting[1:]} from random candidates ({given}) {gains[0]}; from those of the Shapley values it {gains[1]}. "
            f"The difference is {format_points(random.lead)} points{'' if random.lead > 0 else ' in favour of the random ones' if random.lead < 0 else ''} "
            f"({difference}): {_concluded(own, random)}."
        )
    for number, metric in enumerate(judged):
        entries = [
            (row.name, each.lead, each.lead_low, each.lead_high, each.claim)
            for row in rows[1:]
            if row.selections
            for each in [row.selections[number]]
        ]
        if said := against(entries, metric.n, level):
            sentences.append(f"In {metric.name} the repair from candidates of the Shapley values {said}.")
    return [*sentences, *spent(rows)]


def spent(rows: Sequence[Baseline]) -> list[str]:
    """How many image passes values and choosing took, of the Shapley values and of the others; empty where nothing was chosen."""
    chosen = [(row.total, row.candidates) for row in rows if row.total is not None and row.candidates]
    if len(chosen) < 2:
        return []
    (own, own_candidates), *others = chosen
    candidates = [count for _, counts in others for count in counts]
    more = ", more where its values cost less than the Shapley values" if max(candidates) > max(own_candidates) else ""
    return [
        f"Choosing had {between(own_candidates)} candidates of the Shapley values and {between(candidates)} of a baseline{more}. "
        f"Values and choosing took {between([own])} image passes with the Shapley values and {between([total for total, _ in others])} with a baseline."
    ]


def between(numbers: Sequence[float]) -> str:
    """The least to the greatest.

    Example:
        >>> between([1234.4, 900]), between([40, 40])
        ('900 to 1,234', '40')
    """
    return " to ".join(dict.fromkeys(f"{number:,.0f}" for number in (min(numbers), max(numbers))))


def _concluded(own: Selection, random: Selection) -> str:
    """What the difference says about where the gain comes from."""
    gained = own.change_high < 0 if own.lower_is_better else own.change_low > 0
    if not gained:
        return "the repair itself shows no gain that could come from either"
    if random.claim == "worse":
        return "the gain does not come from the candidates, since random ones do better"
    if random.claim == "no claim":
        return "these images do not show that more of the gain comes from the candidates than the selection alone would win"
    if random.change_high < 0 if own.lower_is_better else random.change_low > 0:
        return "the selection alone gains as well, and more comes with the candidates"
    return "of the selection alone no gain can be shown, and these candidates win more than random ones"


def _moved(metric: str, entry: Selection) -> str:
    """What became of a metric, as a verb."""
    if entry.change == 0:
        return f"leaves {metric} as it is"
    return f"{'raises' if entry.change > 0 else 'lowers'} {metric} by {format_points(entry.change)} points"


Lead = tuple[str, float | None, float | None, float | None, Claim | None]
"""Name of a baseline, lead over it with both ends, claim."""


def against(leads: Sequence[Lead], n: int | str, level: float) -> str:
    """Losses, wins and draws, as the end of a sentence; "" where there is nothing to compare."""
    named: dict[str, list[str]] = {"worse": [], "better": [], "no claim": []}
    for name, lead, low, high, claim in leads:
        if lead is not None and low is not None and high is not None and claim is not None:
            by = name if claim == "no claim" else f"{name} (by {format_points(lead)} points; {describe_interval(low, high, level, n)})"
            named[claim].append(by)
    verbs = {"worse": "loses to", "better": "beats", "no claim": "cannot be told from"}
    said = [f"{verbs[claim]} {', '.join(names)}" for claim, names in named.items() if names]
    if said and not named["worse"]:
        said.insert(0, "measurably loses to none")
    return "; it ".join(said)


@dataclass(frozen=True, eq=False)
class _Judge:
    """What every baseline is judged by; fields as `comparison` takes them."""

    compared: Compared
    metric: Metric
    beside: Metric | None
    before: Floats | None
    judged: Sequence[Metric]
    k: int
    words: Mapping[str, str]
    level: float
    claimed: float
    seed: int

    def row(self, each: Contender) -> Baseline:
        """Of one baseline; none of the leads for the Shapley values, which are what it is compared with."""
        shapley, counts = self.compared.contenders[0], self.compared.counts
        what = self.words.get(each.name) or BASELINES[each.name]
        if not each.attributions:
            return Baseline(name=each.name, what=what, why_not=each.why_not)
        row = Baseline(
            name=each.name,
            what=what,
            passes=float(np.mean([sum(found.passes.values()) for found in each.attributions])),
            points=[self._point(count, right) for count, right in zip(counts, each.right, strict=True)],
            frozen=[choice.chosen for choice in each.choices],
            choosing=float(np.mean([choice.passes for choice in each.choices])) if each.choices else None,
            total=float(
                np.mean(
                    [
                        (sum(found.passes.values()) if each.chosen_from is None else each.chosen_from) + choice.passes
                        for found, choice in zip(each.attributions, each.choices, strict=True)
                    ]
                )
            )
            if each.choices
            else None,
            candidates=[choice.candidates for choice in each.choices],
            selections=[self._selection(each, metric) for metric in self.judged],
            **_ends("area", self._interval(area(each.right, counts)) if counts[-1] else None),
        )
        if each is shapley:
            return row
        lead, claim = self._lead(self.metric, area(shapley.right, counts), area(each.right, counts)) if counts[-1] else (None, None)
        pairs = list(zip(shapley.scores, each.scores, strict=True))
        agreements = [_agreement(*pair) for pair in pairs]
        correlations = [correlation for _, correlation in agreements if correlation is not None]
        return row.model_copy(
            update={
                "images": int(max(found.samples.max() for found in each.attributions)),
                "both": round(float(np.mean([both for both, _ in agreements]))),
                "rank_correlation": float(np.mean(correlations)) if correlations else None,
                "overlap": float(np.mean([_overlap(*pair, self.k) for pair in pairs])) if self.k else None,
                "claim": claim,
                **_ends("lead", lead),
            }
        )

    def _interval(self, outcomes: Floats, metric: Metric | None = None) -> Interval:
        return (metric or self.metric).interval(outcomes, level=self.level, seed=self.seed)

    def _lead(self, metric: Metric, ours: Floats, theirs: Floats) -> tuple[Interval, Claim]:
        """With the interval shown, and the claim that is made with all others."""
        shown, strict = (metric.lead(ours, theirs, level=level, seed=self.seed) for level in (self.level, self.claimed))
        return shown, claim_of(strict)

    def _point(self, count: int, right: Floats) -> ComparedPoint:
        beside = self._interval(right, self.beside).value if self.beside else None
        return ComparedPoint(filters=count, **self._interval(right)._asdict(), beside=beside)

    def _selection(self, each: Contender, metric: Metric) -> Selection:
        shapley = self.compared.contenders[0]
        if self.before is None or each.after is None or shapley.after is None:
            raise DataError(f"{each.name} was chosen from, but not measured before and after; measure both")
        change = metric.change(self.before, each.after, level=self.level, seed=self.seed)
        lead, claim = (None, None) if each is shapley else self._lead(metric, shapley.after, each.after)
        return Selection(
            metric=metric.name,
            lower_is_better=metric.lower_is_better,
            n=metric.n,
            before=self._interval(self.before, metric).value,
            **self._interval(each.after, metric)._asdict(),
            change=change.value,
            change_low=change.low,
            change_high=change.high,
            **_ends("lead", lead),
            claim=claim,
        )


def _ends(name: str, interval: Interval | None) -> dict[str, Any]:
    value, low, high = interval or (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _order(scores: Floats) -> npt.NDArray[np.int64]:
    """Players with a score, the largest first."""
    order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), kind="stable")
    return order[: int((~np.isnan(scores)).sum())].astype(np.int64)


def _agreement(first: Floats, second: Floats) -> tuple[int, float | None]:
    """Players with both scores, and Spearman's correlation over them; None where a row is constant."""
    both = ~np.isnan(first) & ~np.isnan(second)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        value = float(stats.spearmanr(first[both], second[both]).statistic) if both.sum() > 1 else np.nan
    return int(both.sum()), None if np.isnan(value) else value


def _overlap(first: Floats, second: Floats, k: int) -> float:
    """Of the first k of one order, the share among the first k of the other."""
    return len(np.intersect1d(_order(first)[:k], _order(second)[:k])) / k
