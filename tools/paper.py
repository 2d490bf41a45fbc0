"""The paper's figures beside ours: `reports/paper.md`, rendered from committed results.

    python -m tools.paper reports

Every claim of Ghorbani & Zou 2020 that has a number or a direction is a row. Ours on real data is read from `reports/RECIPE/result.json`, ours on
the embedded default from `reports/embedded/RECIPE/result.json`; both are what `repairkit run recipes/RECIPE.toml` wrote. A recipe of several
classes has a result for each, in folders named after them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repairkit.attacks.words import TRANSFERRED
from repairkit.errors import RepairkitError, UsageError
from repairkit.experiments import report_kinds as kinds
from repairkit.experiments.adversarial.result import AdversarialResult
from repairkit.experiments.correlation.result import CorrelationResult
from repairkit.experiments.critical.result import CriticalResult
from repairkit.experiments.dropout.result import DropoutResult
from repairkit.experiments.sample_efficiency.result import EfficiencyResult, StoppedAlike
from repairkit.experiments.truncation.result import TruncationResult
from repairkit.files import write_text
from repairkit.report import markdown
from repairkit.report.tables import NONE, Cell, Table, count, interval, listed, percent, points, signed
from repairkit.result import Difference, Estimate, Result
from tools import standings
from tools.embed import NOT_RUN

LEAD = """# The paper's figures and ours

Each row is a claim of Ghorbani & Zou, *Neuron Shapley: Discovering the Responsible Neurons* (NeurIPS 2020), that has a number or a direction. The
data are not the paper's (ImageNet and CelebA): ours are smaller published sets, which each recipe's header names, and the embedded default, which is
no evidence about photographs (all of its column: `repairkit run --all --embedded`). Rendered from the committed results by `make figures`; intervals
are of 95 % unless they say otherwise. A number is reached by its estimate, a direction where our report claims it; near chance is at most twice chance,
and a correlation is the paper's within 0.1 or where its interval holds that. What something costs is compared where that itself was reached. A command is
that of the run in the middle column: some of these recipes have changed since, as their headers say, and give other numbers now.
"""


@dataclass(frozen=True)
class Ours:
    """What one result says about a claim: in words, and whether it reaches the paper's figure by its estimate; None where the two are on no common scale."""

    text: str
    reached: bool | None


@dataclass(frozen=True)
class Claim:
    """A figure of the paper.

    Attributes:
        recipe: that measures it; name of the folder of its result.
        what: is claimed.
        paper: the paper's figure.
        ours: the same of a result, or of the results of all classes that there are.
        reason: why ours on real data falls short, where it does; with figures, a function of the folder of reports, which reads them there.
        by_class: whether its recipe asks about several classes.
        places: folders of results on real data, of which the first that is there is read; of its recipe unless said otherwise.
    """

    recipe: str
    what: str
    paper: str
    ours: Callable[[Any], Ours]
    reason: str | Callable[[Path], str] = "No reason was found yet."
    by_class: bool = False
    places: tuple[str, ...] = ()

    def of(self, results: Sequence[Result]) -> Ours | None:
        """What the results of its recipe say; None where there are none."""
        if not results:
            return None
        return self.ours(results if self.by_class else results[0])


def changed(metric: str, group: str | None, *, by: float) -> Callable[[Result], Ours]:
    """A share before and after a repair, held against the paper's change (`by`, with its sign)."""

    def read(result: Result) -> Ours:
        if not any(column.key == "repaired" for column in result.columns):
            return Ours(f"no repair ({result.verdict.outcome})", reached=False)
        before, after = (result.share(column, metric, group) for column in ("original", "repaired"))
        change = _difference(result, metric, group)
        reached = change.value >= by if by > 0 else change.value <= by
        return Ours(f"{percent(before.value)} → {percent(after.value)} ({_points(change)}; n = {count(after.n)})", reached=reached)

    return read


def replayed(result: AdversarialResult) -> Ours:
    """Target success of the stored images, and with how many filters."""
    found = changed("target success", "replay", by=-0.999)(result)
    return Ours(f"{found.text}, {len(result.frozen)} filters", reached=found.reached and len(result.frozen) <= 16)


def clean(result: AdversarialResult) -> Ours:
    """What clean accuracy lost, which is held against the paper's price where what it pays for was had."""
    found = changed("clean accuracy", None, by=-1)(result)
    if not result.frozen:
        return found
    success = result.share("repaired", "target success", "replay").value
    cheap = _difference(result, "clean accuracy", None).value >= -0.07
    return Ours(f"{found.text}, at a replayed success of {percent(success)}", reached=cheap if replayed(result).reached else None)


def carried_over(result: AdversarialResult) -> Ours:
    """Target success of images made against other networks: the mean over the attacks, as the paper's; every change where a result has no mean."""
    if any(each.group == TRANSFERRED for each in result.differences):
        mean = changed("target success", TRANSFERRED, by=-0.37)(result)
        return Ours(f"{mean.text}, mean of the transfer attacks", reached=mean.reached)
    keys = {each.key: each.title for each in result.adversaries if each.kind == "transfer" and each.targeted}
    found = {key: each for each in result.differences if each.group in keys and _of_repair(each, "target success") and (key := each.group)}
    if not found:
        return Ours("nobody was asked", reached=False)
    text = "; ".join(f"{keys[key]} {_points(each)}" for key, each in found.items())
    return Ours(
        f"{text}; n = {count(next(iter(found.values())).n)} each", reached=sum(each.value for each in found.values()) / len(found) <= -0.37
    )


def destroyed(result: CriticalResult) -> Ours:
    """Accuracy with up to 40 filters frozen; with 30, or the most below where 30 were not measured, it must be at most twice chance."""
    curve = {point.filters: point for point in result.removal if (point.series, point.metric) == ("critical", "accuracy")}
    judged = max(n for n in curve if n <= 30)
    shown = sorted({20, 30, 40} & curve.keys()) or [judged]
    text = "; ".join(f"{n} frozen: {percent(curve[n].value)} ({interval(curve[n].low, curve[n].high, percent)})" for n in shown)
    return Ours(
        f"{percent(curve[0].value)} → {text}; n = {count(curve[0].n)}, chance {percent(result.chance)}{zone(result)}",
        reached=curve[judged].value <= 2 * result.chance,
    )


def zone(result: Result) -> str:
    """Where the values were asked for, in words; "" where the result does not say."""
    found = next((match for line in result.method if (match := re.match(r"Live zone t0 = ([\d.]*\d)", line))), None)
    return f"; values in the live zone t0 = {found[1]}" if found else ""


def correlated(result: CorrelationResult) -> Ours:
    """The rank correlation, with an interval over filters alone, and without noise; as the paper's where the interval contains that or the estimate is near."""
    if not result.correlations:
        return Ours(result.verdict.outcome, reached=False)
    found = result.correlations[0]
    without = "" if result.corrected is None else f", {_number(result.corrected)} corrected for noise"
    return Ours(
        f"{_number(found.value)} ({interval(found.low, found.high, _number)} as if its {count(found.n)} filters were drawn at random){without}",
        reached=found.low <= 0.3 <= found.high or abs(found.value - 0.3) <= 0.1,
    )


def cost(result: Result) -> Ours:
    """Time and image passes of a whole run, which another machine, network and number of images make no match for the paper's."""
    passes = sum(each.passes for each in result.costs)
    return Ours(f"{result.reproduction.minutes:.0f} min, {result.reproduction.machine}; {count(round(passes))} image passes", reached=None)


def each_class(results: Sequence[CriticalResult]) -> Ours:
    """Of each class what freezing its highest filters does to its recall and to that of the others."""
    texts, reached = [], []
    for result in results:
        curves = {
            metric: [point for point in result.removal if (point.series, point.metric) == ("critical", metric)]
            for metric in ("recall", "other classes")
        }
        before, after, others = curves["recall"][0], curves["recall"][-1], curves["other classes"][-1]
        moved = f"{points(others.change)} points, {interval(others.change_low, others.change_high, points)}"
        texts.append(
            f"{result.subject} {percent(before.value)} → {percent(after.value)} ({interval(after.low, after.high, percent)}; n = {count(after.n)}) "
            f"with {after.filters} frozen, the others {moved}"
        )
        reached.append(after.value < before.value / 2 and abs(others.change) < 0.03)
    ways = {str(result.reproduction.settings.get("ranking")) for result in results}
    told = (
        " Ranked by value for the class less a price on what the others lose, which is not the paper's ranking."
        if "specific" in ways
        else ""
    )
    return Ours(f"{'; '.join(texts)}.{told}" if told else "; ".join(texts), reached=all(reached))


def less_dependent(result: DropoutResult) -> Ours:
    """What both networks lose on average with their highest filters frozen, and where they began."""
    changes = {each.group: each for each in result.differences if each.metric == "change, highest frozen"}
    if not changes:
        return Ours("no filter was frozen", reached=False)
    most, change = result.groups[-1], changes[None]
    falls = (
        f"{percent(result.share(column, 'accuracy').value)} → {percent(result.share(column, 'accuracy, highest frozen').value)} {how} dropout"
        for column, how in (("original", "without"), ("dropout", "with"))
    )
    return Ours(
        f"{', '.join(falls)}, on average over {listed([group.split()[0] for group in result.groups])} frozen: a difference of {_points(change)} (n = {count(change.n)}); "
        f"with {most} {_points(changes[most])}",
        reached=result.verdict.outcome == "less dependent",
    )


def dying(network: str, *, by: float) -> Callable[[TruncationResult], Ours]:
    """At which share of filters removed the networks of this name are dead, held against the share by which they should be, as it is printed."""

    def read(result: TruncationResult) -> Ours:
        curves = {curve.network: curve for curve in reversed(result.curves) if network in curve.network}  # the worth stands first
        if not curves:
            return Ours(f"no {network} among its networks", reached=None)
        text = "; ".join(
            f"{name} {percent(curve.death.value)} ({interval(curve.death.low, curve.death.high, percent)}; n = {count(curve.n)})"
            for name, curve in reversed(curves.items())
        )
        return Ours(
            f"dead in half of {result.trajectories} orders: {text}", reached=all(each.death.value < by + 0.0005 for each in curves.values())
        )

    return read


def sampled(result: EfficiencyResult) -> Ours:
    """Samples of TMAB over those of Monte Carlo, both stopped by the paper's rule; held against the paper at the narrowest tolerance."""
    if result.compared_by == "budget":
        needed = "; ".join(f"{each.passes:.2g} image passes at a tolerance of {each.tolerance:g}" for each in result.needed)
        return Ours(f"not stopped by the paper's rule, which takes at least {needed}", reached=None)
    shares = {stop.tolerance: stop.share for stop in _stopped(result) if stop.share}
    if not shares:
        return Ours("neither stopped", reached=None)
    told = (f"{percent(share.value)} ({interval(share.low, share.high, percent)}){_at(result, at)}" for at, share in shares.items())
    return Ours(f"{'; '.join(told)}; {count(result.filters)} filters", reached=next(iter(shares.values())).value <= 0.087)


def agreeing(statistic: str, *, at_least: float) -> Callable[[EfficiencyResult], Ours]:
    """How far values agree (`rank` or `r_squared`): TMAB's with Monte Carlo's, or, where neither stops, tmab's with a long reference, which is no match."""

    def read(result: EfficiencyResult) -> Ours:
        if result.compared_by == "budget":
            after = next(each for each in result.agreements if each.engine == "tmab")
            return Ours(
                f"{told(getattr(after, statistic), result)} of tmab after {count(after.passes)} image passes with a long reference",
                reached=None,
            )
        if not (stopped := _stopped(result)):
            return Ours("neither stopped", reached=None)
        found = getattr(stopped[0], statistic)
        return Ours(f"{told(found, result)}{_at(result, stopped[0].tolerance)}", reached=found.value >= at_least)

    def told(found: Estimate, result: EfficiencyResult) -> str:
        return f"{_three(found.value)} ({interval(found.low, found.high, _three)}; n = {count(result.filters)} filters)"

    return read


def _stopped(result: EfficiencyResult) -> list[StoppedAlike]:
    """The tolerances at which both algorithms stopped: those that were run before those extrapolated, the narrowest of each first."""
    return sorted((each for each in result.stops if each.stopped), key=lambda each: (each.extrapolated, each.tolerance))


def _at(result: EfficiencyResult, tolerance: float) -> str:
    extrapolated = any(each.extrapolated for each in result.stops if each.tolerance == tolerance)
    return f" at a tolerance of {tolerance:g}{', extrapolated' if extrapolated else ''}"


def named_otherwise(result: CriticalResult) -> Ours:
    """How many of the first filters conductance names too, and how much less its removal hurts; at each cost at which it was made."""
    found = [each for each in result.comparison.baselines if each.name.startswith("conductance")] if result.comparison else []
    if not result.comparison or not found:
        return Ours("not compared", reached=None)
    told, reached = [], []
    for each in found:
        if each.why_not or each.overlap is None or each.lead is None or each.lead_low is None or each.lead_high is None:
            told.append(f"{each.name}: not compared, {each.why_not or 'no filter was frozen'}")
            continue
        told.append(
            f"{each.name} names {percent(each.overlap)} of the first {count(result.comparison.k)}, and {result.comparison.metric} with its filters frozen "
            f"less that with those of Shapley value is {points(each.lead)} points ({interval(each.lead_low, each.lead_high, points)})"
        )
        reached.append(each.claim == "better")
    return Ours(f"{'; '.join(told)}; n = {count(result.comparison.n)}{zone(result)}", reached=all(reached) if reached else None)


def of_other_trainings(metric: str, group: str | None, start: str) -> Callable[[Path], str]:
    """A reason, and then what the repair of networks from other training seeds, or trained on another machine, gains."""

    def reason(reports: Path) -> str:
        folders = [folder for folder in sorted(reports.glob("fig3a_fairness*")) if _read(folder)]
        read = next((place for place in FAIR if reports / place in folders), None)
        others = "".join(
            f" Another one starts at {percent(result.share('original', metric, group).value)} and gains "
            f"{points(_difference(result, metric, group).value)} points ({folder.name})."
            for folder in folders
            if folder.name != read
            for result in _read(folder)
        )
        return f"{start} How unfair a network is after the same training depends on the seed and the machine, and so does what a repair can win.{others}".lstrip()

    return reason


FAIR = ("fig3a_fairness_compared", "fig3a_fairness")
"""Results of the fairness repair: with every baseline and alternative, before an older run of the same seed on another machine."""


ATTACKED = ("fig3b_adversarial_compared", "fig3b_adversarial")
"""Results of the attack: the recipe as it is, with every baseline, before an older run of it."""


def where_choosing_stopped(reports: Path) -> str:
    """How many filters an adversarial repair froze and why no more, and what its guard allows."""
    (result,) = next(found for place in ATTACKED if (found := _read(reports / place)))
    why = next((line for line in result.method if "choosing stopped" in line), f"{len(result.frozen)} frozen.")
    guard = points(float(result.reproduction.settings["max_clean_drop"])).lstrip("+")
    return f"{why} The paper also gives up 7 points of clean accuracy, the guard here allows {guard}."


CRITICAL = ("fig1_critical_filters_settled", "fig1_critical_filters_compared", "fig1_critical_filters")
"""Results on critical filters: the recipe as it is, on images that no other run of it had seen, before older runs."""

CLAIMS = (
    Claim("fig1_critical_filters", "Removing 30 filters destroys the accuracy of Inception-v3", "near chance", destroyed, places=CRITICAL),
    Claim(
        "fig1_critical_filters",
        "Cost of the values of Inception-v3 (ours: of the whole run)",
        "21 hours on 1,200 cores",
        cost,
        places=CRITICAL,
    ),
    Claim(
        "table_conductance",
        "Conductance names other filters, and removing those hurts less",
        "shown in section 4.1",
        named_otherwise,
        "Made from as many image passes as the Shapley values, conductance names filters whose removal cannot be told to hurt less by these images.",
        places=(*CRITICAL[:2], "table_conductance"),  # runs with eight baselines first: among two the same lead is a claim
    ),
    Claim(
        "fig2_class_filters",
        "Removing filters of a class takes its recall below half and moves the others by less than 3 points",
        "shown in figure 2",
        each_class,
        "The filters of highest value for one class are in good part those that every class needs. The price that keeps these from coming first is "
        "settled on other images than those that report, and is an estimate itself.",
        by_class=True,
        places=("fig2_class_filters_compared", "fig2_class_filters"),
    ),
    Claim(
        "fig3a_fairness",
        "Recall of darker women, repaired",
        "54.7 → 81.9 %",
        changed("recall", "darker women", by=0.272),
        of_other_trainings(
            "recall",
            "darker women",
            "Forward selection weighs all four subgroups alike, and a guard keeps accuracy on the source; the gain is paid for in recall of men, see the report.",
        ),
        places=FAIR,
    ),
    Claim(
        "fig3a_fairness",
        "Mean recall over the four subgroups, repaired",
        "84.9 → 91.7 %",
        changed("mean recall", None, by=0.068),
        of_other_trainings("mean recall", None, ""),
        places=FAIR,
    ),
    Claim(
        "fig3b_adversarial",
        "Targeted PGD at eps 16/255, replayed after freezing 16 filters",
        "~100 → 0.1 %",
        replayed,
        where_choosing_stopped,
        places=ATTACKED,
    ),
    Claim("fig3b_adversarial", "Clean accuracy that this costs", "74 → 67 %", clean, places=ATTACKED),
    Claim(
        "fig3b_adversarial",
        "Black-box success, mean change",
        "−37 points",
        carried_over,
        "Images carried over from another architecture hardly reach their target on the network as it was given, so there is little to lose; what rises is the share "
        "whose label is recovered, see the report.",
        places=ATTACKED,
    ),
    Claim(
        "correlation_attack_accuracy",
        "Rank correlation of attack-success and accuracy values",
        "0.3",
        correlated,
        "Ours are first-order values of a network with few classes, the paper's Shapley values of one with a thousand. Both values held against themselves "
        "show that noise is not the reason: it pulls the correlation down.",
    ),
    Claim("fig4_dropout", "Removing the highest filters hurts a dropout-trained network less", "shown in figure 4", less_dependent),
    Claim(
        "fig5_truncation",
        "SqueezeNet is dead once 20 % of its filters are removed at random",
        "shown in figure 5; 15 to 20 % in trials",
        dying("SqueezeNet", by=0.2),
    ),
    Claim(
        "fig5_truncation",
        "Inception-v3 is dead once 10 % of its filters are removed at random",
        "shown in figure 5; 5 to 10 % in trials",
        dying("Inception-v3", by=0.1),
    ),
    Claim("fig8_sample_efficiency", "Samples that TMAB takes of Monte Carlo's", "8.7 %", sampled),
    Claim("fig8_sample_efficiency", "Spearman correlation of both algorithms' values", ".988", agreeing("rank", at_least=0.988)),
    Claim("fig8_sample_efficiency", "R2 of both algorithms' values", ".975", agreeing("r_squared", at_least=0.975)),
)


def render(reports: Path) -> str:
    """The page for the results that lie below `reports`.

    Raises:
        DataError: a result of another version.
    """
    rows, reasons = [], []
    for claim in CLAIMS:
        real = next((found for place in claim.places or (claim.recipe,) if (found := _read(reports / place))), [])
        embedded = _read(reports / "embedded" / claim.recipe)
        ours = [claim.of(results) for results in (real, embedded)]
        command = real[0].reproduction.command if real else f"repairkit run recipes/{claim.recipe}.toml --data-root DATA"
        rows.append(
            (
                Cell(claim.what, kind="text"),
                Cell(claim.paper),
                *(Cell(NOT_RUN if each is None else each.text) for each in ours),
                Cell(_status(ours[0])),
                Cell(command, kind="code"),
            )
        )
        if ours[0] and ours[0].reached is False:
            reasons.append(
                f"- **{markdown.escape(claim.what)}.** {markdown.escape(claim.reason if isinstance(claim.reason, str) else claim.reason(reports))}\n"
            )
    table = Table(
        key="paper",
        caption="Claims with a number or a direction",
        heads=("Claim", "Paper", "Ours, real data", "Ours, embedded default", "Real data", "Command"),
        kinds=("text", "text", "text", "text", "text", "code"),
        bodies=(tuple(rows),),
    )
    why = f"\n## Where ours is worse, and why\n\n{''.join(reasons)}" if reasons else ""
    return f"{LEAD}\n{markdown.table(table)}\n{why}{f'{chr(10)}{standing}' if (standing := standings.render(reports)) else ''}"


def _read(folder: Path) -> list[Result]:
    return [kinds.read(file) for file in sorted(folder.rglob("result.json"))]


def _status(ours: Ours | None) -> str:
    return NONE if ours is None else "not comparable" if ours.reached is None else "reached" if ours.reached else "worse"


def _difference(result: Result, metric: str, group: str | None) -> Difference:
    return next(each for each in result.differences if _of_repair(each, metric) and each.group == group)


def _of_repair(each: Difference, metric: str) -> bool:
    return (each.first, each.second, each.metric) == ("original", "repaired", metric)


def _points(change: Difference) -> str:
    return f"{points(change.value)} points, {interval(change.low, change.high, points)}"


def _number(value: float) -> str:
    return signed(f"{value:.2f}")


def _three(value: float) -> str:
    return signed(f"{value:.3f}")


def main(arguments: list[str]) -> None:
    """Write `paper.md` into the folder of reports.

    Raises:
        UsageError: not one folder.
    """
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        raise UsageError(f"give the folder of reports, got {' '.join(arguments) or 'nothing'}; it is reports/ in repairkit")
    write_text(Path(arguments[0]) / "paper.md", render(Path(arguments[0])))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RepairkitError as error:
        sys.exit(f"error: {error}")
