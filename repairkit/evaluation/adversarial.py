"""From what adversaries did to each image to the tables and the verdict of a report on an adversarial repair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from repairkit.evaluation.adversaries import Attempt
from repairkit.evaluation.attacks import Booleans
from repairkit.evaluation.fairness import claim_of, paired_differences
from repairkit.evaluation.robustness import Sanity, Sweep
from repairkit.evaluation.statistics import newcombe_paired, wilson
from repairkit.evaluation.verdict import capital, in_words, points_of
from repairkit.report.result import Correlation, Difference, Share, Strength, SweepPoint, Verdict
from repairkit.shapley.game import Floats

SUCCESS, RECOVERED, CLEAN = "target success", "recovered label", "clean accuracy"
PAIRS = (("original", "repaired"), ("finetuned", "repaired"), ("dropout", "repaired"), ("original", "finetuned"))


def shares(attempts: Sequence[Attempt], clean: Mapping[str, Booleans], level: float) -> list[Share]:
    """Target success and recovered label of every adversary, and clean accuracy, for every column; Wilson's intervals."""
    records = []

    def add(column: str, metric: str, group: str | None, outcomes: Booleans) -> None:
        interval = wilson(int(outcomes.sum()), len(outcomes), level)
        records.append(Share(metric=metric, group=group, column=column, n=len(outcomes), **interval._asdict()))

    for column, right in clean.items():
        add(column, CLEAN, None, right)
        for attempt in attempts:
            if attempt.targeted:
                add(column, SUCCESS, attempt.key, attempt.outcomes[column].hit)
            add(column, RECOVERED, attempt.key, attempt.outcomes[column].recovered)
    return records


def differences(attempts: Sequence[Attempt], clean: Mapping[str, Booleans], level: float) -> list[Difference]:
    """What changed between columns against every adversary: Newcombe's interval, exact McNemar, by Holm adjusted over the adversaries of a metric.

    Less target success is better; more recovered labels and clean accuracy are.
    """
    records: list[Difference] = []
    for first, second in PAIRS:
        if not {first, second} <= set(clean):
            continue
        hit = {each.key: (each.outcomes[first].hit, each.outcomes[second].hit) for each in attempts if each.targeted}
        recovered = {each.key: (each.outcomes[first].recovered, each.outcomes[second].recovered) for each in attempts}
        records += paired_differences(SUCCESS, hit, first, second, level, smaller_is_better=True)
        records += paired_differences(RECOVERED, recovered, first, second, level)
        interval = newcombe_paired(clean[first], clean[second], level)
        n = len(clean[first])
        records.append(
            Difference(metric=CLEAN, group=None, first=first, second=second, n=n, **interval._asdict(), claim=claim_of(interval))
        )
    return records


def sweep_points(sweeps: Mapping[str, Sweep], level: float) -> list[SweepPoint]:
    """Success within each bound, with Wilson's intervals."""
    points = []
    for column, swept in sweeps.items():
        for eps, hit in zip(swept.eps, swept.hit, strict=True):
            interval = wilson(int(hit.sum()), len(hit), level)
            points.append(SweepPoint(column=column, eps=eps, n=len(hit), success=interval.value, low=interval.low, high=interval.high))
    return points


def strengths(sweeps: Mapping[str, Sweep], checks: Mapping[str, Sanity]) -> list[Strength]:
    """The median eps of every column, and on how many images it takes more or less change than on the original network."""
    original = sweeps.get("original")
    records = []
    for column, swept in sweeps.items():
        gained = lost = p_value = None
        if original is not None and swept is not original:
            gained, lost = int((swept.least > original.least).sum()), int((swept.least < original.least).sum())
            p_value = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
        records.append(
            Strength(
                column=column,
                n=swept.hit.shape[1],
                median_eps=swept.median if math.isfinite(swept.median) else None,
                gained=gained,
                lost=lost,
                p_value=p_value,
                checked=len(checks[column].unbounded),
                flags=list(checks[column].flags),
            )
        )
    return records


def correlation(screens: Floats, level: float) -> Correlation | None:
    """Spearman's rank correlation of the two rows over the filters that move either; None for fewer than four of them, or where a row is constant.

    The interval is Bonett and Wright's (2000). Filters are no random sample, and the noise of the screens pulls the value toward zero.

    Example:
        >>> found = correlation(np.array([[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 4.0, 3.0]]), 0.95)
        >>> found.n, round(found.value, 2)
        (4, 0.8)
    """
    moved = screens[:, (screens != 0).any(axis=0)]
    n = moved.shape[1]
    if n < 4 or (np.ptp(moved, axis=1) == 0).any():
        return None
    value = float(stats.spearmanr(moved[0], moved[1]).statistic)
    spread = float(stats.norm.isf((1 - level) / 2)) * math.sqrt((1 + value**2 / 2) / (n - 3))
    centre = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    return Correlation(
        of="attack-success and accuracy values (gradient screens of every filter that moves either)",
        n=n,
        value=value,
        low=math.tanh(centre - spread),
        high=math.tanh(centre + spread),
    )


def verdict(
    differences: Sequence[Difference], attempts: Sequence[Attempt], strengths: Sequence[Strength], *, filters: int, level: float
) -> Verdict:
    """The conclusion in words: what got worse first, then against which adversaries the repair helps and against which it does not.

    "repaired" needs the worst of the adaptive and query-based attacks to leave measurably more labels; "repaired against stored images"
    a measurably smaller success of the stored images alone.
    """
    if not filters:
        return Verdict(
            outcome="no repair",
            headline="No filter was worth freezing: the network is unchanged.",
            sentences=["On the images that choose, freezing no culprit was worth its cost; the weights are the original ones."],
            worse=[],
        )
    own = [entry for entry in differences if (entry.first, entry.second) == ("original", "repaired")]
    titles = {attempt.key: attempt.title for attempt in attempts}
    kinds = {attempt.key: attempt.kind for attempt in attempts}

    def entry(metric: str, group: str | None) -> Difference | None:
        return next((each for each in own if (each.metric, each.group) == (metric, group)), None)

    def moved(each: Difference) -> str:
        inside = in_words(each.low, each.high, level, each.n)
        if each.claim == "no claim":
            return f"did not change by more than these images can tell from chance ({inside})"
        return f"{'rose' if each.value > 0 else 'fell'} by {points_of(each.value)} percentage points ({inside})"

    def what(each: Difference) -> str:
        return each.metric if each.group is None else f"{each.metric} under {titles[each.group]}"

    clean, replay, adaptive = entry(CLEAN, None), entry(SUCCESS, "replay"), entry(RECOVERED, "worst")
    bad = [each for each in own if _worsened(each)]
    bad.sort(key=lambda each: (each.claim != "worse", each.group is not None))
    worse = [
        f"{capital(what(each))} {'rose' if each.value > 0 else 'fell'} by {points_of(each.value)} percentage points"
        f"{'' if each.claim == 'worse' else ', an amount that may be chance'} ({in_words(each.low, each.high, level, each.n)})."
        for each in bad
        if each.claim == "worse" or each.group is None
    ]
    sentences = [*worse]
    if adaptive is not None:
        if adaptive.claim == "better":
            sentences.append(f"Against an adversary who knows the repaired network: the {what(adaptive)} {moved(adaptive)}.")
        else:
            sentences.append(
                f"Against an adversary who knows the repaired network it gains nothing that can be shown: the {what(adaptive)} {moved(adaptive)}."
            )
    sentences += _by_kind(own, attempts, kinds)
    sentences += _of_strength(strengths)
    outcome: Literal["repaired", "repaired against stored images", "no claim"] = "no claim"
    if adaptive is not None and adaptive.claim == "better":
        outcome = "repaired"
    elif replay is not None and replay.claim == "better":
        outcome = "repaired against stored images"
    headline = f"Freezing {filters} filter{'s' if filters > 1 else ''}: target success of the stored adversarial images {moved(replay) if replay else 'was not measured'}"
    if clean is not None:
        headline += f"; clean accuracy {moved(clean)}"
    if outcome != "repaired":
        headline += "; an adversary who attacks the repaired network afresh is not held off" if adaptive is not None else ""
    return Verdict(outcome=outcome, headline=f"{headline}.", sentences=sentences, worse=worse)


def not_fooled(success: Share, parts: Sequence[tuple[int, int]], level: float) -> Verdict:
    """The verdict on a network that the attack does not fool to begin with.

    Args:
        success: of the stored images on the report part.
        parts: (images that reached their target, images) of the parts that find and choose.
        level: of the interval.
    """
    counts = " and ".join(f"{hit} of {n}" for hit, n in parts)
    return Verdict(
        outcome="cannot be fooled",
        headline=f"The attack does not fool this network to begin with: its target is reached on {100 * success.value:.1f} % of the report images "
        f"({level:.0%} interval {100 * success.low:.1f} to {100 * success.high:.1f} %; n = {success.n}).",
        sentences=[
            f"Of the images that were to find and choose filters, {counts} reached their target: too few to say which filters let the attack through.",
            "Nothing was frozen. A larger eps or more steps make a stronger attack; that this one fails does not say that others do.",
        ],
        worse=[],
    )


def _worsened(entry: Difference) -> bool:
    return entry.value > 0 if entry.metric == SUCCESS else entry.value < 0


def _by_kind(own: Sequence[Difference], attempts: Sequence[Attempt], kinds: Mapping[str, str]) -> list[str]:
    """Which adversaries of each kind are measurably held off, and which are not, by recovered labels (by target success for the stored images)."""
    sentences = []
    names = {
        "transfer": "Images carried over",
        "black box": "Query-based black box",
        "adaptive": "Attacks run afresh on the repaired network",
    }
    titles = {attempt.key: attempt.title for attempt in attempts}
    for kind, name in names.items():
        found = [each for each in own if each.metric == RECOVERED and each.group is not None and kinds[each.group] == kind]
        lists = {
            "more labels are recovered under": [titles[str(each.group)] for each in found if each.claim == "better"],
            "fewer under": [titles[str(each.group)] for each in found if each.claim == "worse"],
            "no measurable difference under": [titles[str(each.group)] for each in found if each.claim == "no claim"],
        }
        said = [f"{start} {', '.join(listed)}" for start, listed in lists.items() if listed]
        if said:
            sentences.append(f"{name}: {'; '.join(said)}.")
    return sentences


def _of_strength(strengths: Sequence[Strength]) -> list[str]:
    """The median eps before and after, and what the sanity checks found."""
    by_column = {each.column: each for each in strengths}
    if not {"original", "repaired"} <= set(by_column):
        return []
    before, after = by_column["original"], by_column["repaired"]
    sentences = [
        f"PGD needs a median eps of {_in_levels(before.median_eps)} on the original network and of {_in_levels(after.median_eps)} on the repaired one "
        f"(n = {after.n}; more on {after.gained} images, less on {after.lost}, the same on {after.n - (after.gained or 0) - (after.lost or 0)}; "
        f"p = {after.p_value:.2g})."
    ]
    if after.flags:
        sentences.append(
            f"The checks of the attack on the repaired network are suspicious, so its failures say little: {'; '.join(after.flags)}."
        )
    return sentences


def _in_levels(eps: float | None) -> str:
    return "more than the largest tried" if eps is None else f"{eps * 255:.3g}/255"
