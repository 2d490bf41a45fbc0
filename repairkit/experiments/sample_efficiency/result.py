"""From compared algorithms to the result: numbers and words."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from operator import attrgetter

import numpy as np
from scipy.stats import rankdata

from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.statistics import RESAMPLES, wilson
from repairkit.experiments.base import Origin
from repairkit.experiments.common import memory_sentence
from repairkit.experiments.records import SCORES, cost_records, make_reproduction
from repairkit.experiments.sample_efficiency import small_network as small
from repairkit.experiments.sample_efficiency.report import (
    AgreementAtBudget,
    EfficiencyExtra,
    EfficiencyResult,
    PassesNeeded,
    StoppingComparison,
)
from repairkit.experiments.sample_efficiency.run import EfficiencyFindings, EfficiencyOptions, EfficiencyTask, EqualPasses, depth_of
from repairkit.experiments.sample_efficiency.stopping import DELTA, Stopping, r_squared
from repairkit.result import Column, Estimate, Reproduction, Verdict
from repairkit.run.options import Options
from repairkit.shapley import Attribution
from repairkit.shapley.game import Floats
from repairkit.shapley.guarantee import End

PAPER = {"share": 0.087, "rank": 0.988, "r_squared": 0.975}
"""The paper's figure 8: samples of TMAB over those of Monte Carlo, Spearman's correlation and R2 of their values."""
MOST_DROPPED = 0.02
"""Share of replays that may have failed to stop where an interval is given: less than a 95 % interval leaves out at either end."""
TMAB, PLAIN = "tmab-paper", "monte-carlo"
_TOLERANCE = attrgetter("tolerance")
USED = ("score", "freeze_at", "precision", "device", "batch")
"""Options that decide anything here; with a budget also those of `BUDGETED`."""
BUDGETED = ("budget", "t0", "contested")


def summarise(
    task: EfficiencyTask, options: Options, efficiency: EfficiencyOptions, findings: EfficiencyFindings, origin: Origin
) -> EfficiencyResult:
    """The result of a run; all arithmetic of the report happens here."""
    extra = measurements(task, options, efficiency, findings)
    return EfficiencyResult(
        kind="efficiency",
        title=origin.title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=origin.notices,
        level=options.level,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective="accuracy",
        verdict=verdict_of_stops(extra.stops, options.level) if extra.rank_lead is None else verdict_of_agreements(extra, options.level),
        columns=[Column(key="original", label=task.model.architecture, explanation=task.model.provenance)],
        method=method(options, efficiency, findings),
        costs=cost_records(findings.passes, findings.seconds),
        limits=limits(task, findings),
        reproduction=reproduction(task, options, efficiency, origin),
        extra=extra,
    )


def measurements(task: EfficiencyTask, options: Options, efficiency: EfficiencyOptions, findings: EfficiencyFindings) -> EfficiencyExtra:
    """All numbers of the comparison."""
    stops = [stop_of(stopping, options.level, options.seed) for stopping in findings.stoppings]
    equal = findings.equal
    shown, samples, values = shown_of(findings, stops)
    return EfficiencyExtra(
        images=f"{task.images.name}, {findings.images:,} images",
        compared_by=efficiency.method,
        filters=findings.filters,
        end=efficiency.end,
        top=efficiency.top,
        shown=shown,
        stops=stops,
        agreements=agreements_of(equal, efficiency, options) if equal else [],
        rank_lead=lead_of(equal, options) if equal else None,
        needed=[PassesNeeded(tolerance=tolerance, passes=passes) for tolerance, passes in equal.needed.items()] if equal else [],
        samples=samples,
        values=values,
    )


def reproduction(task: EfficiencyTask, options: Options, efficiency: EfficiencyOptions, origin: Origin) -> Reproduction:
    """How to get the same numbers, with the settings that decide anything here."""
    hashes = {"model": task.model.sha256, "images": data_hash(task.images)}
    full = make_reproduction(options, command=origin.command, minutes=origin.minutes, hashes=hashes, settings={})
    used = (*USED, *(BUDGETED if efficiency.method == "budget" else ()), "threads")
    amounts = {name: str(value) for name, value in vars(efficiency).items() if _relevant(name, efficiency)}
    return full.model_copy(update={"settings": {name: full.settings[name] for name in used} | amounts})


def _relevant(name: str, efficiency: EfficiencyOptions) -> bool:
    return name not in ({"reference"} if efficiency.method == "replay" else {"permutations", "most"})


def over_filters(statistic: Callable[[Floats, Floats], float], one: Floats, other: Floats, level: float, seed: int) -> Estimate:
    """A statistic of two sets of values with a percentile interval over resampled filters."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(one), size=len(one))
        drawn.append(statistic(one[rows], other[rows]))
    return _estimate(statistic(one, other), np.array(drawn), level)


def spearman(one: Floats, other: Floats) -> float:
    """Spearman's rank correlation; 0 where either is constant.

    Example:
        >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 9.0, 8.0])), 2)
        0.5
    """
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _estimate(value: float, drawn: Floats, level: float) -> Estimate:
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return Estimate(value=value, low=value, high=value)
    tail = (1 - level) / 2
    low, high = (float(end) for end in np.quantile(finite, [tail, 1 - tail]))
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def stop_of(stopping: Stopping, level: float, seed: int) -> StoppingComparison:
    """One tolerance: means over both ways round, intervals of the first way's values; none of the share where more than `MOST_DROPPED` did not stop."""
    record = StoppingComparison(
        tolerance=stopping.tolerance,
        extrapolated=stopping.extrapolated,
        stopped=bool(stopping.comparisons),
        replays=stopping.replays,
        dropped=stopping.dropped,
    )
    if not stopping.comparisons:
        return record
    ways = [one.ratio for one in stopping.comparisons]
    first, share = stopping.comparisons[0], float(np.mean(ways))
    drawn = np.array(ways) if stopping.extrapolated else stopping.resampled
    statistics = {
        "permutations": round(float(np.mean([one.plain.samples[0] for one in stopping.comparisons]))),
        "taken": share,
        "share": _estimate(share, drawn, level) if stopping.dropped <= MOST_DROPPED * stopping.replays else None,
        "ways": ways,
        "evaluations": float(np.mean([one.tmab.evaluations / one.plain.evaluations for one in stopping.comparisons])),
        "rank": over_filters(spearman, first.tmab.values, first.plain.values, level, seed),
        "r_squared": over_filters(r_squared, first.tmab.values, first.plain.values, level, seed),
    }
    return record.model_copy(update=statistics)


def best_guess(attribution: Attribution) -> Floats:
    """Of each filter the value, or the gradient estimate where it was not valued exactly."""
    return np.where(np.isnan(attribution.value), attribution.screen, attribution.value)


def agreements_of(equal: EqualPasses, efficiency: EfficiencyOptions, options: Options) -> list[AgreementAtBudget]:
    """Both engines against the reference."""
    reference = best_guess(equal.reference)
    records = []
    for engine, values, valued, passes in (
        ("tmab", best_guess(equal.tmab), int((equal.tmab.samples > 0).sum()), sum(equal.tmab.passes.values())),
        (
            PLAIN,
            equal.values,
            int((equal.samples > 0).sum()),
            float(equal.permutations * (depth_of(equal.tmab.min_live, len(reference)) + 1) * efficiency.evaluated_on),
        ),
    ):
        shared = len(_named(values, efficiency.top, efficiency.end) & _named(reference, efficiency.top, efficiency.end))
        sought = wilson(shared, efficiency.top, options.level)
        records.append(
            AgreementAtBudget(
                engine=engine,
                passes=passes,
                valued=valued,
                rank=over_filters(spearman, values, reference, options.level, options.seed),
                r_squared=over_filters(r_squared, values, reference, options.level, options.seed),
                sought=Estimate(value=sought.value, low=sought.low, high=sought.high),
            )
        )
    return records


def lead_of(equal: EqualPasses, options: Options) -> Estimate:
    """By how much tmab's values rank more like the reference than Monte Carlo's, paired: over the same resampled filters."""

    def lead(pair: Floats, reference: Floats) -> float:
        return spearman(pair[:, 0], reference) - spearman(pair[:, 1], reference)

    pairs = np.column_stack([best_guess(equal.tmab), equal.values])
    return over_filters(lead, pairs, best_guess(equal.reference), options.level, options.seed)


def _named(values: Floats, top: int, end: End) -> set[int]:
    order = np.argsort(values if end == "low" else -values, kind="stable")
    return set(order[:top].tolist())


def shown_of(findings: EfficiencyFindings, stops: Sequence[StoppingComparison]) -> tuple[str, dict[str, list[int]], dict[str, list[float]]]:
    """What the figures show: which comparison, samples and values of each filter."""
    if (equal := findings.equal) is not None:
        return (
            "at equal image passes",
            {"tmab": _whole(equal.tmab.samples), PLAIN: _whole(equal.samples)},
            {"tmab": _rounded(best_guess(equal.tmab)), PLAIN: _rounded(equal.values), "reference": _rounded(best_guess(equal.reference))},
        )
    if (stop := headline_of(stops)) is None:
        return "", {}, {}
    first = next(stopping for stopping in findings.stoppings if stopping.tolerance == stop.tolerance).comparisons[0]
    return (
        f"stopped at a tolerance of {stop.tolerance:g}{', extrapolated' if stop.extrapolated else ''}",
        {TMAB: _whole(first.tmab.samples), PLAIN: _whole(first.plain.samples)},
        {TMAB: _rounded(first.tmab.values), PLAIN: _rounded(first.plain.values)},
    )


def headline_of(stops: Sequence[StoppingComparison]) -> StoppingComparison | None:
    """The narrowest tolerance at which both really stopped; else the narrowest that was extrapolated; None where none did."""
    there = [stop for stop in stops if stop.stopped]
    return min((stop for stop in there if not stop.extrapolated), key=_TOLERANCE, default=min(there, key=_TOLERANCE, default=None))


def _whole(samples: Floats) -> list[int]:
    return [int(number) for number in samples]


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def against(entry: Estimate, published: float) -> str:
    """How a figure stands to the paper's.

    Example:
        >>> against(Estimate(value=0.3, low=0.25, high=0.35), 0.087), against(Estimate(value=0.98, low=0.95, high=0.99), 0.988)
        ('above', 'within the interval of')
    """
    if entry.low > published:
        return "above"
    return "below" if entry.high < published else "within the interval of"


def verdict_of_stops(stops: Sequence[StoppingComparison], level: float) -> Verdict:
    """The paper's three figures beside ours."""
    stop = headline_of(stops)
    if stop is None or stop.taken is None or stop.rank is None or stop.r_squared is None or stop.evaluations is None:
        tolerances = ", ".join(f"{other.tolerance:g}" for other in stops)
        return Verdict(
            outcome="no claim",
            headline=f"Neither algorithm stopped by its own rule at any tolerance ({tolerances}), so that their samples cannot be compared.",
            sentences=["More permutations or a wider tolerance are needed; for a real network compare at equal passes (method = budget)."],
            worse=[],
        )
    spearman_of, r2, paper = stop.rank, stop.r_squared, PAPER
    sentences = [
        f"Their values agree with a Spearman correlation of {spearman_of.value:.3f} ({spearman_of.low:.3f} to {spearman_of.high:.3f} over filters); "
        f"the paper's .988 is {_published(spearman_of, paper['rank'])}.",
        f"R² is {r2.value:.3f} ({r2.low:.3f} to {r2.high:.3f}); the paper's .975 is {_published(r2, paper['r_squared'])}.",
        "Samples are not evaluations: a filter that is sampled alone takes two evaluations, before and after it. "
        f"So TMAB made {100 * stop.evaluations:.1f} % of Monte Carlo's evaluations (expected from its samples).",
        *_other_tolerances(stops, stop),
    ]
    return Verdict(outcome="measured", headline=_headline(stop, stop.taken, level), sentences=sentences, worse=[])


def _headline(stop: StoppingComparison, taken: float, level: float) -> str:
    kind = " (extrapolated)" if stop.extrapolated else ""
    interval = "range of the replays" if stop.extrapolated else f"{level:.0%} interval over permutations"
    if stop.share is None:
        beside = f"(no interval: {stop.dropped} of {stop.replays} replays did not stop); the paper's is 8.7 %"
    else:
        beside = f"({interval}: {100 * stop.share.low:.1f} to {100 * stop.share.high:.1f} %); the paper's 8.7 % is {_published(stop.share, PAPER['share'])}"
    return (
        f"Stopped by the same rule at a tolerance of {stop.tolerance:g}{kind}, TMAB as published took {100 * taken:.1f} % of "
        f"Monte Carlo's samples {beside}."
    )


def _other_tolerances(stops: Sequence[StoppingComparison], shown: StoppingComparison) -> list[str]:
    others = [
        f"{100 * stop.taken:.1f} % at {stop.tolerance:g}{' (extrapolated)' if stop.extrapolated else ''}"
        for stop in stops
        if stop is not shown and stop.taken is not None
    ]
    dropped = [f"{stop.dropped} of {stop.replays} at {stop.tolerance:g}" for stop in stops if stop.stopped and stop.dropped]
    failed = [f"{stop.tolerance:g}" for stop in stops if not stop.stopped]
    sentences = {
        f"The share depends on the tolerance: {'; '.join(others)}.": others,
        f"Replays that did not stop are missing from shares and intervals: {'; '.join(dropped)}. "
        f"Where these are more than {MOST_DROPPED:.0%}, no interval is given.": dropped,
        f"At {', '.join(failed)} neither the permutations walked nor their extrapolation sufficed to stop both.": failed,
    }
    return [sentence for sentence, cases in sentences.items() if cases]


def _published(entry: Estimate, published: float) -> str:
    return {"above": "below that", "below": "above that", "within the interval of": "inside"}[against(entry, published)]


def verdict_of_agreements(extra: EfficiencyExtra, level: float) -> Verdict:
    """The engines at equal passes, by their paired difference, and what the published one would need."""
    (tmab, plain), lead = extra.agreements, extra.rank_lead
    if lead is None:
        raise ValueError("expected a paired difference of rank correlations")
    better = "better than" if lead.low > 0 else "worse than" if lead.high < 0 else "no differently, as far as these filters can tell, than"
    headline = (
        f"After {tmab.passes:,.0f} image passes the ranking of tmab agrees with a long reference {better} that of Monte Carlo after "
        f"{plain.passes:,.0f}: Spearman {tmab.rank.value:.3f} against {plain.rank.value:.3f}, a difference of {lead.value:+.3f} "
        f"({level:.0%} interval over filters: {lead.low:+.3f} to {lead.high:+.3f})."
    )
    needed = "; ".join(f"{entry.passes:.2g} image passes at a tolerance of {entry.tolerance:g}" for entry in extra.needed)
    sentences = [
        f"R² with the reference: {tmab.r_squared.value:.3f} ({tmab.r_squared.low:.3f} to {tmab.r_squared.high:.3f}) against "
        f"{plain.r_squared.value:.3f} ({plain.r_squared.low:.3f} to {plain.r_squared.high:.3f}).",
        "The paper's .988 and .975 compare TMAB with Monte Carlo after both had stopped, which neither does here.",
        "TMAB as published eliminates no filter within this budget. Extrapolated from the values of the reference, it would stop after at least "
        f"{needed}: so much the range term of its bound alone takes.",
    ]
    return Verdict(outcome="measured", headline=headline, sentences=sentences, worse=[])


def method(options: Options, efficiency: EfficiencyOptions, findings: EfficiencyFindings) -> list[str]:
    """How it was compared, a sentence each."""
    smooth = "sigmoid of the margin between the label's logit and the next"
    return [
        f"Filters were valued by accuracy, {SCORES[options.score].format(smooth=smooth)}, on {findings.images:,} images, which set the constants too. "
        "How well values hold on other images was not measured.",
        f"Players: {findings.filters:,} filters of all convolutions but the classifier's. A sample is one marginal contribution of one filter, "
        f"on {efficiency.evaluated_on} images drawn afresh for each permutation.",
        *(_replay_method(efficiency, findings) if findings.equal is None else _budget_method(findings.equal)),
        *memory_sentence(findings.reduced_batch, options.batch, "the comparison"),
    ]


def _replay_method(efficiency: EfficiencyOptions, findings: EfficiencyFindings) -> list[str]:
    end = "highest" if efficiency.end == "high" else "lowest"
    sentences = [
        f"Both algorithms are Algorithm 1 of the paper with its bound (R = 1, delta = {DELTA:g}) and without truncation. They stop when no interval, "
        f"narrowed by the tolerance, holds the k-th {end} value (k = {efficiency.top}). TMAB samples the contested filters only, Monte Carlo all of them.",
        "Without truncation a marginal contribution is the same whichever other filters are sampled. "
        f"So {efficiency.permutations:,} permutations were walked once for all filters, and both algorithms were replayed on them. "
        "TMAB had one half and Monte Carlo the other, and the other way round. Shares are means of both ways.",
        "Intervals of a share of samples come from replays of permutations drawn with replacement from the halves, "
        f"up to {efficiency.most:,}, as long as no more than {MOST_DROPPED:.0%} of them do not stop. Intervals of correlations come from resampled filters.",
    ]
    if any(stopping.extrapolated for stopping in findings.stoppings):
        sentences.append(
            "Extrapolated: what does not stop within its half is replayed on permutations drawn from it with replacement, "
            f"up to {efficiency.most:,}. Its interval is the range of two replays. It is too narrow, since they share the permutations."
        )
    return sentences


def _budget_method(equal: EqualPasses) -> list[str]:
    noise = float(np.nanmean(equal.reference.standard_error**2)) if len(equal.reference.standard_error) else math.nan
    spread = float(np.nanvar(best_guess(equal.reference)))
    bound = (
        f" The noise of its values is about {max(0.0, min(1.0, noise / spread)):.1%} of their variance, which bounds any agreement with it."
        if spread > 0
        else ""
    )
    return [
        f"Both engines value the same: marginal contributions at sizes from t0 = {equal.tmab.min_live:g} up. tmab draws such coalitions. Monte Carlo "
        f"walks from the whole network down and ends a permutation there, {equal.permutations:,} of them, in all no more passes than tmab had.",
        f"The reference is tmab with exact contributions of every filter, more passes and random numbers of its own.{bound}",
        "A filter that tmab did not value exactly counts with its gradient estimate, a filter that no permutation of Monte Carlo reached with 0.",
    ]


def limits(task: EfficiencyTask, findings: EfficiencyFindings) -> list[str]:
    """What a reader must not conclude."""
    sentences = [
        "One network and one set of images: how contested the k-th value is decides how much a bandit can save.",
        "The filters of a network are no random sample, so that intervals over filters say how much single filters weigh, not what another network would show.",
    ]
    if findings.equal is None:
        sentences.append(
            f"A small network of {findings.filters:,} filters: on real networks the published bound stops neither algorithm within a budget that people have."
            if findings.filters < 1000
            else "Truncation, which the paper adds, is left out, since it makes marginals depend on the threshold."
        )
        sentences.append(
            "The published bound is made for marginals of range 1, one filter and one time, so that stopping by it is no guarantee (docs/guarantee.md)."
        )
    else:
        sentences.append(
            "What TMAB as published needs is extrapolated, not run, and a lower bound: with the variance of its marginals it is more."
        )
    if not read_record(task.model.weights) and task.model.architecture != small.NAME:
        sentences.append("The training images were not at hand, so an overlap with them was not checked.")
    return sentences
