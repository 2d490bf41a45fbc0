"""Claims of Ghorbani & Zou 2020 that have a number or a direction, and what a committed result says about each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repairkit.experiments import results as kinds
from repairkit.experiments.adversarial.report import TRANSFERRED, AdversarialResult
from repairkit.experiments.correlation.report import CorrelationResult
from repairkit.experiments.critical.result import CriticalResult
from repairkit.experiments.dropout.result import DropoutResult
from repairkit.experiments.sample_efficiency.report import EfficiencyResult, StoppingComparison
from repairkit.experiments.truncation.report import TruncationResult
from repairkit.report.formatting import count, interval, listed, percent, points, signed
from repairkit.result import Difference, Estimate, Result


@dataclass(frozen=True)
class Measured:
    """What a result says about a claim, in words.

    Attributes:
        text: the figure with its interval.
        reached: whether its estimate reaches the paper's figure; None where both are on no common scale.
    """

    text: str
    reached: bool | None


@dataclass(frozen=True)
class Claim:
    """A figure of the paper.

    Attributes:
        recipe: measures the claim; name of the folder of its result.
        title: the claim in words.
        published: the paper's figure.
        measure: the same figure of a result, or of a list of results.
        reason: why ours falls short on real data; a reason with figures is a function that reads them below the folder of reports.
        of_several: whether the recipe has a result for each of several classes.
        folders: folders of results on real data, the first that exists counts; by default that of the recipe.
    """

    recipe: str
    title: str
    published: str
    measure: Callable[[Any], Measured]
    reason: str | Callable[[Path], str] = "No reason was found yet."
    of_several: bool = False
    folders: tuple[str, ...] = ()

    def measured(self, results: Sequence[Result]) -> Measured | None:
        """What the results of the recipe say; None where there are none."""
        if not results:
            return None
        return self.measure(results if self.of_several else results[0])


def read_all(folder: Path) -> list[Result]:
    """All results below a folder; none where it does not exist."""
    return [kinds.read(file) for file in sorted(folder.rglob("result.json"))]


def change_of(metric: str, group: str | None, *, by: float) -> Callable[[Result], Measured]:
    """A share before and after a repair; its change is held against the paper's (`by`, with its sign)."""

    def measure(result: Result) -> Measured:
        if not any(column.key == "repaired" for column in result.columns):
            return Measured(f"no repair ({result.verdict.outcome})", reached=False)
        before, after = (result.share(column, metric, group) for column in ("original", "repaired"))
        change = _difference(result, metric, group)
        reached = change.value >= by if by > 0 else change.value <= by
        return Measured(f"{percent(before.value)} → {percent(after.value)} ({_points(change)}; n = {count(after.n)})", reached=reached)

    return measure


def replayed_success(result: AdversarialResult) -> Measured:
    """Attack success of the stored images, and with how many filters."""
    change = change_of("target success", "replay", by=-0.999)(result)
    return Measured(f"{change.text}, {len(result.frozen)} filters", reached=change.reached and len(result.frozen) <= 16)


def clean_accuracy_cost(result: AdversarialResult) -> Measured:
    """What clean accuracy lost; compared with the paper's loss only where the attack success fell as the paper's."""
    change = change_of("clean accuracy", None, by=-1)(result)
    if not result.frozen:
        return change
    success = result.share("repaired", "target success", "replay").value
    small = _difference(result, "clean accuracy", None).value >= -0.07
    return Measured(
        f"{change.text}, at a replayed success of {percent(success)}", reached=small if replayed_success(result).reached else None
    )


def transfer_success(result: AdversarialResult) -> Measured:
    """Attack success of images made on other networks: the mean over the attacks, or every change where a result has no mean."""
    if any(difference.group == TRANSFERRED for difference in result.differences):
        mean = change_of("target success", TRANSFERRED, by=-0.37)(result)
        return Measured(f"{mean.text}, mean of the transfer attacks", reached=mean.reached)
    titles = {
        adversary.key: adversary.title for adversary in result.extra.adversaries if adversary.kind == "transfer" and adversary.targeted
    }
    changes = {change.group: change for change in result.differences if change.group in titles and _of_repair(change, "target success")}
    if not changes:
        return Measured("no transfer attack was made", reached=False)
    text = "; ".join(f"{titles[key]} {_points(change)}" for key, change in changes.items() if key)
    mean_change = sum(change.value for change in changes.values()) / len(changes)
    return Measured(f"{text}; n = {count(next(iter(changes.values())).n)} each", reached=mean_change <= -0.37)


def accuracy_after_ablation(result: CriticalResult) -> Measured:
    """Accuracy with up to 40 filters frozen; with 30 (or the most below 30 that was measured) it must be at most twice chance."""
    curve = {point.filters: point for point in result.extra.curves if (point.series, point.metric) == ("highest", "accuracy")}
    judged = max(n for n in curve if n <= 30)
    shown = sorted({20, 30, 40} & curve.keys()) or [judged]
    text = "; ".join(f"{n} frozen: {percent(curve[n].value)} ({interval(curve[n].low, curve[n].high, percent)})" for n in shown)
    return Measured(
        f"{percent(curve[0].value)} → {text}; n = {count(curve[0].n)}, chance {percent(result.extra.chance)}{live_range(result)}",
        reached=curve[judged].value <= 2 * result.extra.chance,
    )


def live_range(result: Result) -> str:
    """The live range of the values, in words; "" where the result does not say."""
    start = next((match[1] for line in result.method if (match := re.match(r"Live (?:live range|range)[^=]*= ([\d.]*\d)", line))), None)
    return f"; at least {100 * float(start):g} % of the filters live" if start else ""


def rank_correlation(result: CorrelationResult) -> Measured:
    """The rank correlation with an interval over filters; the paper's where the interval holds it or the estimate is near."""
    if not result.extra.correlations:
        return Measured(result.verdict.outcome, reached=False)
    first = result.extra.correlations[0]
    corrected = "" if result.extra.corrected is None else f", {_number(result.extra.corrected)} corrected for noise"
    return Measured(
        f"{_number(first.value)} ({interval(first.low, first.high, _number)} as if its {count(first.n)} filters were drawn at random){corrected}",
        reached=first.low <= 0.3 <= first.high or abs(first.value - 0.3) <= 0.1,
    )


def run_cost(result: Result) -> Measured:
    """Minutes and image passes of a whole run; other machines, networks and numbers of images allow no comparison."""
    passes = sum(cost.passes for cost in result.costs)
    return Measured(
        f"{result.reproduction.minutes:.0f} min, {result.reproduction.machine}; {count(round(passes))} image passes", reached=None
    )


def class_recalls(results: Sequence[CriticalResult]) -> Measured:
    """For each class, what freezing its highest filters does to its recall and to that of the other classes."""
    texts, reached = [], []
    for result in results:
        curves = {
            metric: [point for point in result.extra.curves if (point.series, point.metric) == ("highest", metric)]
            for metric in ("recall", "other classes")
        }
        before, after, others = curves["recall"][0], curves["recall"][-1], curves["other classes"][-1]
        change = f"{points(others.change)} points, {interval(others.change_low, others.change_high, points)}"
        texts.append(
            f"{result.extra.subject} {percent(before.value)} → {percent(after.value)} ({interval(after.low, after.high, percent)}; n = {count(after.n)}) "
            f"with {after.filters} frozen, the others {change}"
        )
        reached.append(after.value < before.value / 2 and abs(others.change) < 0.03)
    penalised = any(str(result.reproduction.settings.get("ranking")) == "specific" for result in results)
    note = ". A filter counts less by what the other classes lose with it, which is not the paper's ranking." if penalised else ""
    return Measured(f"{'; '.join(texts)}{note}", reached=all(reached))


def dropout_losses(result: DropoutResult) -> Measured:
    """What both networks lose on average with their highest filters frozen."""
    changes = {change.group: change for change in result.differences if change.metric == "change, highest frozen"}
    if not changes:
        return Measured("no filter was frozen", reached=False)
    most, mean = result.groups[-1], changes[None]
    losses = (
        f"{percent(result.share(column, 'accuracy').value)} → {percent(result.share(column, 'accuracy, highest frozen').value)} {name} dropout"
        for column, name in (("original", "without"), ("dropout", "with"))
    )
    numbers = listed([group.split()[0] for group in result.groups])
    return Measured(
        f"{', '.join(losses)}, on average over {numbers} frozen: a difference of {_points(mean)} (n = {count(mean.n)}); "
        f"with {most} {_points(changes[most])}",
        reached=result.verdict.outcome == "less dependent",
    )


def share_at_chance(network: str, *, by: float) -> Callable[[TruncationResult], Measured]:
    """The share of filters whose removal leaves the networks of this name at chance, held against `by` as it is printed."""

    def measure(result: TruncationResult) -> Measured:
        curves = {
            curve.network: curve for curve in reversed(result.extra.curves) if network in curve.network
        }  # the objective's curve stands first
        if not curves:
            return Measured(f"no {network} among its networks", reached=None)
        text = "; ".join(
            f"{name} {percent(curve.death.value)} ({interval(curve.death.low, curve.death.high, percent)}; n = {count(curve.n)})"
            for name, curve in reversed(curves.items())
        )
        reached = all(curve.death.value < by + 0.0005 for curve in curves.values())
        return Measured(f"at chance in half of {result.extra.trajectories} orders: {text}", reached=reached)

    return measure


def sample_share(result: EfficiencyResult) -> Measured:
    """Samples of TMAB over those of Monte Carlo, both stopped by the paper's rule; judged at the narrowest tolerance."""
    if result.extra.compared_by == "budget":
        needed = "; ".join(f"{need.passes:.2g} image passes at a tolerance of {need.tolerance:g}" for need in result.extra.needed)
        return Measured(f"not stopped by the paper's rule, which takes at least {needed}", reached=None)
    shares = {stop.tolerance: stop.share for stop in _stopped(result) if stop.share}
    if not shares:
        return Measured("neither stopped", reached=None)
    text = "; ".join(
        f"{percent(share.value)} ({interval(share.low, share.high, percent)}){_at(result, at)}" for at, share in shares.items()
    )
    return Measured(f"{text}; {count(result.extra.filters)} filters", reached=next(iter(shares.values())).value <= 0.087)


def agreement(statistic: str, *, at_least: float) -> Callable[[EfficiencyResult], Measured]:
    """How far values agree (`rank` or `r_squared`): TMAB's with Monte Carlo's, or with a long reference where neither stops."""

    def measure(result: EfficiencyResult) -> Measured:
        if result.extra.compared_by == "budget":
            tmab = next(entry for entry in result.extra.agreements if entry.engine == "tmab")
            estimate = text(getattr(tmab, statistic), result)
            return Measured(f"{estimate} of tmab after {count(tmab.passes)} image passes with a long reference", reached=None)
        if not (stopped := _stopped(result)):
            return Measured("neither stopped", reached=None)
        value = getattr(stopped[0], statistic)
        return Measured(f"{text(value, result)}{_at(result, stopped[0].tolerance)}", reached=value.value >= at_least)

    def text(value: Estimate, result: EfficiencyResult) -> str:
        return f"{_three(value.value)} ({interval(value.low, value.high, _three)}; n = {count(result.extra.filters)} filters)"

    return measure


def _stopped(result: EfficiencyResult) -> list[StoppingComparison]:
    """The tolerances at which both algorithms stopped: measured ones before extrapolated ones, the narrowest of each first."""
    return sorted((stop for stop in result.extra.stops if stop.stopped), key=lambda stop: (stop.extrapolated, stop.tolerance))


def _at(result: EfficiencyResult, tolerance: float) -> str:
    extrapolated = any(stop.extrapolated for stop in result.extra.stops if stop.tolerance == tolerance)
    return f" at a tolerance of {tolerance:g}{', extrapolated' if extrapolated else ''}"


def conductance_overlap(result: CriticalResult) -> Measured:
    """How many of the first filters conductance names too, and how much less their ablation hurts, at each cost of conductance."""
    rankings = [entry for entry in result.comparison.baselines if entry.name.startswith("conductance")] if result.comparison else []
    if not result.comparison or not rankings:
        return Measured("not compared", reached=None)
    texts, reached = [], []
    for ranking in rankings:
        if ranking.why_not or ranking.overlap is None or ranking.lead is None or ranking.lead_low is None or ranking.lead_high is None:
            texts.append(f"{ranking.name}: not compared, {ranking.why_not or 'no filter was frozen'}")
            continue
        texts.append(
            f"{ranking.name} names {percent(ranking.overlap)} of the first {count(result.comparison.k)}; {result.comparison.metric} with its filters "
            f"frozen minus that with the Shapley filters frozen: {points(ranking.lead)} points "
            f"({interval(ranking.lead_low, ranking.lead_high, points)})"
        )
        reached.append(ranking.claim == "better")
    return Measured(f"{'; '.join(texts)}; n = {count(result.comparison.n)}{live_range(result)}", reached=all(reached) if reached else None)


def other_trainings(metric: str, group: str | None, start: str) -> Callable[[Path], str]:
    """A reason, and what the repair of networks of other trainings gains."""

    def reason(reports: Path) -> str:
        folders = [folder for folder in sorted(reports.glob("fig3a_fairness*")) if read_all(folder)]
        shown = next((name for name in FAIR if reports / name in folders), None)
        others = "".join(
            f" Another network starts at {percent(result.share('original', metric, group).value)} and gains "
            f"{points(_difference(result, metric, group).value)} points ({folder.name})."
            for folder in folders
            if folder.name != shown
            for result in read_all(folder)
        )
        general = "How unfair a network is depends on the seed and the machine of its training. So does the gain of a repair."
        return f"{start} {general}{others}".lstrip()

    return reason


def selection_limit(reports: Path) -> str:
    """How many filters an adversarial repair froze and why no more, and what its guard allows."""
    (result,) = next(results for name in ATTACKED if (results := read_all(reports / name)))
    why = next((line for line in result.method if re.search(r"(?:choosing|selection) stopped", line)), f"{len(result.frozen)} frozen.")
    settings = result.reproduction.settings
    guard = points(float(settings.get("max_accuracy_drop", settings.get("max_clean_drop", 0)))).lstrip("+")
    return f"{why} The paper gives up 7 points of clean accuracy, and the guard here allows {guard}."


FAIR = ("fig3a_fairness_compared", "fig3a_fairness")
"""Results of the fairness repair; the run with every baseline and alternative comes before an older run of the same seed."""

ATTACKED = ("fig3b_adversarial_compared", "fig3b_adversarial")
"""Results of the attack; the recipe as it is, with every baseline, comes before an older run of it."""

CRITICAL = ("fig1_critical_filters_settled", "fig1_critical_filters_compared", "fig1_critical_filters")
"""Results on important filters; the recipe as it is, on images that no other run of it used, comes before older runs."""

CLAIMS = (
    Claim(
        "fig1_critical_filters",
        "Removing 30 filters destroys the accuracy of Inception-v3",
        "near chance",
        accuracy_after_ablation,
        folders=CRITICAL,
    ),
    Claim(
        "fig1_critical_filters",
        "Cost of the values of Inception-v3 (ours: of the whole run)",
        "21 hours on 1,200 cores",
        run_cost,
        folders=CRITICAL,
    ),
    Claim(
        "table_conductance",
        "Conductance names other filters, and removing those hurts less",
        "shown in section 4.1",
        conductance_overlap,
        "At equal cost, these images do not show that the filters of conductance hurt less.",
        folders=(*CRITICAL[:2], "table_conductance"),  # runs with eight baselines first: among two the same lead is a claim
    ),
    Claim(
        "fig2_class_filters",
        "Removing filters of a class takes its recall below half and moves the others by less than 3 points",
        "shown in figure 2",
        class_recalls,
        "The filters of highest value for one class are in good part those that every class needs. A penalty keeps these from coming first. "
        "It is chosen on the selection images and is an estimate itself.",
        of_several=True,
        folders=("fig2_class_filters_compared", "fig2_class_filters"),
    ),
    Claim(
        "fig3a_fairness",
        "Recall of darker women, repaired",
        "54.7 → 81.9 %",
        change_of("recall", "darker women", by=0.272),
        other_trainings(
            "recall",
            "darker women",
            "Forward selection weighs all four groups alike, and a guard keeps accuracy on the source. The gain is paid for in recall of men.",
        ),
        folders=FAIR,
    ),
    Claim(
        "fig3a_fairness",
        "Mean recall over the four groups, repaired",
        "84.9 → 91.7 %",
        change_of("mean recall", None, by=0.068),
        other_trainings("mean recall", None, ""),
        folders=FAIR,
    ),
    Claim(
        "fig3b_adversarial",
        "Targeted PGD at eps 16/255, replayed after freezing 16 filters",
        "~100 → 0.1 %",
        replayed_success,
        selection_limit,
        folders=ATTACKED,
    ),
    Claim("fig3b_adversarial", "Clean accuracy that this costs", "74 → 67 %", clean_accuracy_cost, folders=ATTACKED),
    Claim(
        "fig3b_adversarial",
        "Black-box success, mean change",
        "−37 points",
        transfer_success,
        "Images made on another architecture hardly reach their target on the original network, so there is little to lose. "
        "The share of these images whose label is right rises.",
        folders=ATTACKED,
    ),
    Claim(
        "correlation_attack_accuracy",
        "Rank correlation of attack-success and accuracy values",
        "0.3",
        rank_correlation,
        "Ours are first-order values of a network with few classes. The paper's are Shapley values of a network with a thousand. "
        "Noise is not the reason: it lowers the correlation.",
    ),
    Claim("fig4_dropout", "Removing the highest filters hurts a dropout-trained network less", "shown in figure 4", dropout_losses),
    Claim(
        "fig5_truncation",
        "SqueezeNet is at chance once 20 % of its filters are removed at random",
        "shown in figure 5; 15 to 20 % in trials",
        share_at_chance("SqueezeNet", by=0.2),
    ),
    Claim(
        "fig5_truncation",
        "Inception-v3 is at chance once 10 % of its filters are removed at random",
        "shown in figure 5; 5 to 10 % in trials",
        share_at_chance("Inception-v3", by=0.1),
    ),
    Claim("fig8_sample_efficiency", "Samples that TMAB takes of Monte Carlo's", "8.7 %", sample_share),
    Claim("fig8_sample_efficiency", "Spearman correlation of both algorithms' values", ".988", agreement("rank", at_least=0.988)),
    Claim("fig8_sample_efficiency", "R2 of both algorithms' values", ".975", agreement("r_squared", at_least=0.975)),
)


def _difference(result: Result, metric: str, group: str | None) -> Difference:
    return next(change for change in result.differences if _of_repair(change, metric) and change.group == group)


def _of_repair(change: Difference, metric: str) -> bool:
    return (change.first, change.second, change.metric) == ("original", "repaired", metric)


def _points(change: Difference) -> str:
    return f"{points(change.value)} points, {interval(change.low, change.high, points)}"


def _number(value: float) -> str:
    return signed(f"{value:.2f}")


def _three(value: float) -> str:
    return signed(f"{value:.3f}")
