"""From compared algorithms to a result: the words and numbers of a report on sample efficiency."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.statistics import RESAMPLES, wilson
from repairkit.experiments.records import SCORES, make_reproduction
from repairkit.experiments.sample_efficiency import small_network as small
from repairkit.experiments.sample_efficiency.result import AgreedAfter, EfficiencyExtra, EfficiencyResult, Needed, StoppedAlike
from repairkit.experiments.sample_efficiency.run import (
    DELTA,
    EfficiencyFindings,
    EfficiencyOptions,
    EfficiencyTask,
    EqualPasses,
    Stopping,
    depth_of,
    r_squared,
)
from repairkit.result import Column, Cost, Estimate, Verdict
from repairkit.run.options import Options
from repairkit.shapley import Attribution
from repairkit.shapley.game import Floats
from repairkit.shapley.guarantee import End

PAPER = {"share": 0.087, "rank": 0.988, "r_squared": 0.975}
"""The paper's figure 8: samples of TMAB over those of Monte Carlo, Spearman's correlation and R2 of their values."""
MOST_DROPPED = 0.02
"""Share of replays that may have failed to stop where an interval is given: less than a 95 % interval leaves out at either end."""
TMAB, PLAIN = "tmab-paper", "monte-carlo"
USED = ("score", "freeze_at", "precision", "device", "batch")
"""Options that decide anything here; with a budget also those of `BUDGETED`."""
BUDGETED = ("budget", "t0", "contested")


def summarise(
    task: EfficiencyTask,
    options: Options,
    efficiency: EfficiencyOptions,
    findings: EfficiencyFindings,
    *,
    title: str,
    command: str,
    minutes: float,
    notices: list[str],
) -> EfficiencyResult:
    """The result of a run; all arithmetic of the report happens here."""
    stops = [stop_of(stopping, options.level, options.seed) for stopping in findings.stoppings]
    agreements: list[AgreedAfter] = []
    lead: Estimate | None = None
    needed: list[Needed] = []
    if findings.equal is not None:
        agreements = agreements_of(findings.equal, efficiency, options)
        lead = lead_of(findings.equal, options)
        needed = [Needed(tolerance=tolerance, passes=passes) for tolerance, passes in findings.equal.needed.items()]
    shown, samples, values = shown_of(findings, stops)
    settings = {name: str(value) for name, value in vars(efficiency).items() if _relevant(name, efficiency)}
    made = make_reproduction(
        options,
        command=command,
        minutes=minutes,
        hashes={"model": task.model.sha256, "images": data_hash(task.images)},
        settings={},
    )
    used = (*USED, *(BUDGETED if efficiency.method == "budget" else ()), "threads")
    return EfficiencyResult(
        kind="efficiency",
        title=title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=notices,
        level=options.level,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective="accuracy",
        verdict=verdict_of_stops(stops, options.level) if lead is None else verdict_of_agreements(agreements, lead, needed, options),
        columns=[Column(key="original", label=task.model.architecture, explanation=task.model.provenance)],
        groups=[],
        shares=[],
        differences=[],
        frozen=[],
        histograms=[],
        method=method(task, options, efficiency, findings),
        costs=[Cost(part=part, passes=findings.passes.get(part, 0.0), seconds=seconds) for part, seconds in findings.seconds.items()],
        limits=limits(task, efficiency, findings),
        reproduction=made.model_copy(update={"settings": {name: made.settings[name] for name in used} | settings}),
        extra=EfficiencyExtra(
            images=f"{task.images.name}, {findings.images:,} images",
            compared_by=efficiency.method,
            filters=findings.filters,
            end=efficiency.end,
            top=efficiency.top,
            shown=shown,
            stops=stops,
            agreements=agreements,
            rank_lead=lead,
            needed=needed,
            samples=samples,
            values=values,
        ),
    )


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


def stop_of(stopping: Stopping, level: float, seed: int) -> StoppedAlike:
    """One tolerance: means over both ways round, intervals of the first way's values; none of the share where more than `MOST_DROPPED` did not stop."""
    replays, dropped = stopping.replays, stopping.dropped
    if not stopping.found:
        return StoppedAlike(
            tolerance=stopping.tolerance, extrapolated=stopping.extrapolated, stopped=False, replays=replays, dropped=dropped
        )
    ways = [one.ratio for one in stopping.found]
    first, share = stopping.found[0], float(np.mean(ways))
    drawn = np.array(ways) if stopping.extrapolated else stopping.resampled
    return StoppedAlike(
        tolerance=stopping.tolerance,
        extrapolated=stopping.extrapolated,
        stopped=True,
        permutations=round(float(np.mean([one.plain.samples[0] for one in stopping.found]))),
        taken=share,
        share=_estimate(share, drawn, level) if dropped <= MOST_DROPPED * replays else None,
        ways=ways,
        replays=replays,
        dropped=dropped,
        evaluations=float(np.mean([one.tmab.evaluations / one.plain.evaluations for one in stopping.found])),
        rank=over_filters(spearman, first.tmab.values, first.plain.values, level, seed),
        r_squared=over_filters(r_squared, first.tmab.values, first.plain.values, level, seed),
    )


def best_guess(found: Attribution) -> Floats:
    """Of each filter the value, or the screen where no flip was made."""
    return np.where(np.isnan(found.value), found.screen, found.value)


def agreements_of(equal: EqualPasses, efficiency: EfficiencyOptions, options: Options) -> list[AgreedAfter]:
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
        both = len(_named(values, efficiency.top, efficiency.end) & _named(reference, efficiency.top, efficiency.end))
        sought = wilson(both, efficiency.top, options.level)
        records.append(
            AgreedAfter(
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
    """By how much tmab's values rank more like the reference than Monte Carlo's, paired: both over the same resampled filters."""

    def lead(both: Floats, reference: Floats) -> float:
        return spearman(both[:, 0], reference) - spearman(both[:, 1], reference)

    both = np.column_stack([best_guess(equal.tmab), equal.values])
    return over_filters(lead, both, best_guess(equal.reference), options.level, options.seed)


def _named(values: Floats, top: int, end: End) -> set[int]:
    order = np.argsort(values if end == "low" else -values, kind="stable")
    return set(order[:top].tolist())


def shown_of(findings: EfficiencyFindings, stops: Sequence[StoppedAlike]) -> tuple[str, dict[str, list[int]], dict[str, list[float]]]:
    """What the figures show: which comparison, samples and values of each filter."""
    if (equal := findings.equal) is not None:
        return (
            "at equal image passes",
            {"tmab": _whole(equal.tmab.samples), PLAIN: _whole(equal.samples)},
            {"tmab": _rounded(best_guess(equal.tmab)), PLAIN: _rounded(equal.values), "reference": _rounded(best_guess(equal.reference))},
        )
    if (stop := headline_of(stops)) is None:
        return "", {}, {}
    first = next(each for each in findings.stoppings if each.tolerance == stop.tolerance).found[0]
    return (
        f"stopped at a tolerance of {stop.tolerance:g}{', extrapolated' if stop.extrapolated else ''}",
        {TMAB: _whole(first.tmab.samples), PLAIN: _whole(first.plain.samples)},
        {TMAB: _rounded(first.tmab.values), PLAIN: _rounded(first.plain.values)},
    )


def headline_of(stops: Sequence[StoppedAlike]) -> StoppedAlike | None:
    """The narrowest tolerance at which both really stopped; else the narrowest that was extrapolated; None where none did."""
    there = [stop for stop in stops if stop.stopped]
    return min((stop for stop in there if not stop.extrapolated), key=_tolerance, default=min(there, key=_tolerance, default=None))


def _tolerance(stop: StoppedAlike) -> float:
    return stop.tolerance


def _whole(samples: Floats) -> list[int]:
    return [int(number) for number in samples]


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def against(found: Estimate, published: float) -> str:
    """How a figure stands to the paper's.

    Example:
        >>> against(Estimate(value=0.3, low=0.25, high=0.35), 0.087), against(Estimate(value=0.98, low=0.95, high=0.99), 0.988)
        ('above', 'within the interval of')
    """
    if found.low > published:
        return "above"
    return "below" if found.high < published else "within the interval of"


def verdict_of_stops(stops: Sequence[StoppedAlike], level: float) -> Verdict:
    """The paper's three figures beside ours."""
    stop = headline_of(stops)
    if stop is None or stop.taken is None or stop.rank is None or stop.r_squared is None or stop.evaluations is None:
        tolerances = ", ".join(f"{each.tolerance:g}" for each in stops)
        return Verdict(
            outcome="no claim",
            headline=f"Neither algorithm stopped by its own rule at any tolerance ({tolerances}), so that their samples cannot be compared.",
            sentences=["More permutations or a wider tolerance are needed; for a real network compare at equal passes (method = budget)."],
            worse=[],
        )
    kind = " (extrapolated)" if stop.extrapolated else ""
    interval = "range of the replays" if stop.extrapolated else f"{level:.0%} interval over permutations"
    beside = (
        f"(no interval: {stop.dropped} of {stop.replays} replays did not stop); the paper's is 8.7 %"
        if stop.share is None
        else f"({interval}: {100 * stop.share.low:.1f} to {100 * stop.share.high:.1f} %); the paper's 8.7 % is {_published(stop.share, PAPER['share'])}"
    )
    headline = f"Stopped by the same rule at a tolerance of {stop.tolerance:g}{kind}, TMAB as published took {100 * stop.taken:.1f} % of Monte Carlo's samples {beside}."
    sentences = [
        f"Their values agree with a Spearman correlation of {stop.rank.value:.3f} ({stop.rank.low:.3f} to {stop.rank.high:.3f} over filters; the paper's .988 is "
        f"{_published(stop.rank, PAPER['rank'])}) and an R2 of {stop.r_squared.value:.3f} ({stop.r_squared.low:.3f} to {stop.r_squared.high:.3f}; the paper's .975 is "
        f"{_published(stop.r_squared, PAPER['r_squared'])}).",
        f"Samples are not evaluations: a filter that is sampled alone takes two, before and after it, so that TMAB made {100 * stop.evaluations:.1f} % of Monte Carlo's "
        "evaluations (expected from its samples).",
    ]
    others = [
        f"{100 * each.taken:.1f} % at {each.tolerance:g}{' (extrapolated)' if each.extrapolated else ''}"
        for each in stops
        if each is not stop and each.taken is not None
    ]
    if others:
        sentences.append(f"The share depends on the tolerance: {'; '.join(others)}.")
    if dropped := [f"{each.dropped} of {each.replays} at {each.tolerance:g}" for each in stops if each.stopped and each.dropped]:
        sentences.append(
            f"Replays that did not stop are missing from shares and intervals: {'; '.join(dropped)}. Where these are more than {MOST_DROPPED:.0%}, no interval is given."
        )
    if failed := [f"{each.tolerance:g}" for each in stops if not each.stopped]:
        sentences.append(f"At {', '.join(failed)} neither the permutations walked nor their extrapolation sufficed to stop both.")
    return Verdict(outcome="measured", headline=headline, sentences=sentences, worse=[])


def _published(found: Estimate, published: float) -> str:
    return {"above": "below that", "below": "above that", "within the interval of": "inside"}[against(found, published)]


def verdict_of_agreements(agreements: Sequence[AgreedAfter], lead: Estimate, needed: Sequence[Needed], options: Options) -> Verdict:
    """Both engines at equal passes, by their paired difference, and what the published one would need."""
    tmab, plain = agreements
    better = "better than" if lead.low > 0 else "worse than" if lead.high < 0 else "no differently, as far as these filters can tell, than"
    headline = (
        f"After {tmab.passes:,.0f} image passes the ranking of tmab (screen and flips) agrees with a long reference {better} that of Monte Carlo after "
        f"{plain.passes:,.0f}: Spearman {tmab.rank.value:.3f} against {plain.rank.value:.3f}, a difference of {lead.value:+.3f} ({options.level:.0%} interval over "
        f"filters: {lead.low:+.3f} to {lead.high:+.3f})."
    )
    sentences = [
        f"R2 with the reference: {tmab.r_squared.value:.3f} ({tmab.r_squared.low:.3f} to {tmab.r_squared.high:.3f}) against {plain.r_squared.value:.3f} "
        f"({plain.r_squared.low:.3f} to {plain.r_squared.high:.3f}). The paper's .988 and .975 compare TMAB with Monte Carlo after both had stopped, which neither does here.",
        "TMAB as published eliminates no filter within this budget. It would stop, extrapolated from the values of the reference and at least, after "
        + "; ".join(f"{each.passes:.2g} image passes at a tolerance of {each.tolerance:g}" for each in needed)
        + ": so much the range term of its bound alone takes.",
    ]
    return Verdict(outcome="measured", headline=headline, sentences=sentences, worse=[])


def method(task: EfficiencyTask, options: Options, efficiency: EfficiencyOptions, findings: EfficiencyFindings) -> list[str]:
    """How it was compared, a sentence each."""
    smooth = "sigmoid of the margin between the label's logit and the next"
    sentences = [
        f"Filters were valued by accuracy, {SCORES[options.score].format(smooth=smooth)}, on {findings.images:,} images, which set the constants too; "
        "how well values hold on other images is not asked.",
        f"Players: {findings.filters:,} filters of all convolutions but the classifier's. A sample is one marginal contribution of one filter, "
        f"on {efficiency.evaluated_on} images drawn afresh for each permutation.",
    ]
    if (equal := findings.equal) is None:
        sentences += [
            f"Both algorithms are Algorithm 1 of the paper with its bound (R = 1, delta = {DELTA:g}) and without truncation; they stop when no interval, narrowed by the "
            f"tolerance, holds the k-th {'highest' if efficiency.end == 'high' else 'lowest'} value (k = {efficiency.top}). TMAB samples the contested filters only, Monte Carlo all of them.",
            f"Without truncation a marginal is the same whoever else is sampled, so {efficiency.permutations:,} permutations were walked once for all filters and "
            "both were replayed on them: TMAB on one half, Monte Carlo on the other, and the other way round. Shares are means of both ways.",
            f"Intervals of a share of samples come from replays of permutations drawn with replacement from the halves, up to {efficiency.most:,}, as long as no more than "
            f"{MOST_DROPPED:.0%} of them do not stop; those of correlations come from resampled filters.",
        ]
        if any(stop.extrapolated for stop in findings.stoppings):
            sentences.append(
                "Extrapolated: what does not stop within its half is replayed on permutations drawn from it with replacement, "
                f"up to {efficiency.most:,}; its interval is the range of two replays and too narrow, since they share the permutations."
            )
    else:
        noise = float(np.nanmean(equal.reference.standard_error**2)) if len(equal.reference.standard_error) else math.nan
        spread = float(np.nanvar(best_guess(equal.reference)))
        sentences += [
            f"Both engines value the same: marginals at sizes from t0 = {equal.tmab.min_live:g} up. tmab draws such coalitions; Monte Carlo walks from the whole network down and ends a "
            f"permutation there, {equal.permutations:,} of them, in all no more passes than tmab had.",
            "The reference is tmab with flips of every filter, more passes and random numbers of its own. "
            f"The noise of its values is about {max(0.0, min(1.0, noise / spread)):.1%} of their variance, which bounds any agreement with it."
            if spread > 0
            else "The reference is tmab with flips of every filter.",
            "A filter that tmab did not flip counts with its screen, one that no permutation of Monte Carlo reached with 0.",
        ]
    if findings.halved is not None:
        sentences.append(f"Memory ran out, and passes then carried {findings.halved} images in place of {options.batch}.")
    return sentences


def limits(task: EfficiencyTask, efficiency: EfficiencyOptions, findings: EfficiencyFindings) -> list[str]:
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
