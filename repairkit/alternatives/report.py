"""From what was tried instead of a repair to its rows and sentences in a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from repairkit.alternatives.base import GROUP_THRESHOLDS, HARDENED, LAST_LAYER, THRESHOLD, WHOLE_NETWORK, Tried
from repairkit.alternatives.tables import AS_IT_WAS
from repairkit.evaluation.metrics import GAP, RECALL
from repairkit.evaluation.statistics import Interval, rescale_interval, simultaneous
from repairkit.evaluation.wording import describe_interval, format_points
from repairkit.result import Alternative, Claim, Difference, Verdict

FINDING = ("calibration", "live range", "attribution", "choosing")
"""Parts of a run that a repair is made of; its evaluation is none, nor what was asked for in addition."""
EXPLANATIONS = {
    "original": ("Original", "The network as it was given."),
    "repaired": ("Repaired", "Filters frozen in the plain weights; needs nothing at run time."),
    THRESHOLD: ("Threshold moved", "One threshold for everybody, chosen under the guard of the repair."),
    GROUP_THRESHOLDS: (
        "Thresholds by group",
        "fairlearn's ThresholdOptimizer on the network's margins, with a threshold or two for each group. It must be told the group of everyone whom it "
        "judges, the label apart, draws lots for some answers (drawn once here, from the seed), and keeps no guard on the source.",
    ),
    LAST_LAYER: (
        "Last layer refitted",
        "Logistic regression on what enters the last layer, groups counting alike and the source as much as the target, held near the given weights by a "
        "penalty that is chosen under the guard of the repair.",
    ),
    WHOLE_NETWORK: (
        "Fine-tuned",
        "All weights trained further on the same images, drawn so that groups count alike and the source as much as the target; learning rate and epochs "
        "are chosen under the guard of the repair.",
    ),
    "dropout": ("Dropout-trained", "Another network, trained with filter dropout; needs the data that the original was trained on."),
    "finetuned": ("Fine-tuned alone", "Trained further on the clean attribution images, with no filter frozen and no attack in training."),
    HARDENED: (
        "Adversarially fine-tuned",
        "All weights trained for a few epochs on attribution images that a short attack of the run's adversary changes anew in every step, with no "
        "filter frozen; learning rate and epochs are chosen by the labels recovered on stored images, under the guard of the repair.",
    ),
}
CHANGES_NOTHING = frozenset({"original", THRESHOLD, GROUP_THRESHOLDS})
NOT_TRIED = frozenset({"original", "repaired", "dropout", "finetuned"})
"""Columns that are compared with the repair elsewhere, or are it."""


def row(
    key: str,
    *,
    images: int | None,
    passes: float | None,
    seconds: float | None,
    chosen: str = "",
    left_out: str = "",
    folds: int = 1,
    as_given: int = 0,
) -> Alternative:
    """One row; `key` is a column."""
    label, explanation = EXPLANATIONS[key]
    return Alternative(
        column=key,
        label=label,
        explanation=explanation,
        minutes=None if seconds is None else seconds / 60,
        passes=passes,
        images=images,
        training_data=key == "dropout",
        changes_weights=key not in CHANGES_NOTHING and as_given < folds,
        group_at_run_time=key == GROUP_THRESHOLDS,
        chosen=chosen,
        left_out=left_out,
        folds=folds,
        as_given=as_given,
    )


def repaired(passes: Mapping[str, float], seconds: Mapping[str, float], *, images: int, shares: Mapping[str, float]) -> Alternative:
    """The row of the repair: what finding and choosing its filters cost.

    Args:
        passes: of the run, by part.
        seconds: likewise.
        images: that find and choose, of one fold.
        shares: of each part of the run, how much of it was for the repair.
    """
    spent, took = (sum(share * by.get(part, 0.0) for part, share in shares.items()) for by in (passes, seconds))
    return row("repaired", images=images, passes=spent, seconds=took)


def tried_rows(tried: Sequence[Tried]) -> list[Alternative]:
    """A row for each alternative, its folds together."""
    rows = []
    for key in dict.fromkeys(each.key for each in tried):
        own = [each for each in tried if each.key == key]
        left_out = next((each.left_out for each in own if each.left_out), "")
        chosen = own[0].chosen
        if len(own) > 1 and chosen:
            chosen = "; ".join(f"fold {number}: {each.chosen}" for number, each in enumerate(own, start=1))
        rows.append(
            row(key, images=None, passes=None, seconds=None, left_out=left_out)
            if left_out
            else row(
                key,
                images=round(float(np.mean([each.images for each in own]))),
                passes=sum(each.passes for each in own),
                seconds=sum(each.seconds for each in own),
                chosen=chosen,
                folds=len(own),
                as_given=sum(each.as_given for each in own),
            )
        )
    return rows


def concluded(
    verdict: Verdict,
    rows: Sequence[Alternative],
    differences: Sequence[Difference],
    *,
    level: float,
    name: Callable[[Difference], str],
    deciding: Sequence[str],
) -> Verdict:
    """The verdict with who beats whom, on what: whoever beats the repair right after what got worse, and in the headline where it is on what decides.

    An alternative that found no setting within the guard is the network as it was given. Nobody beats it and it beats nobody; that is said.

    One rule for all measures: what is said of all alternatives, groups and metrics holds together. A difference that is claimed for itself is said if
    its interval, stretched to the level that as many differences take, excludes zero.

    Args:
        verdict: of the repair.
        rows: all alternatives.
        differences: between all columns; those from an alternative to the repair are read.
        level: of the intervals.
        name: what a difference is about, in words.
        deciding: what the repair is for, in these words.
    """
    subject = "the network as it was given, since no filter was frozen," if verdict.outcome == "no repair" else "the repair"
    unchanged = [as_it_was(each) for each in rows if each.as_given]
    changed = [each for each in rows if each.column not in NOT_TRIED and each.as_given < each.folds]
    compared = [(each, own) for each in changed if (own := _against(each.column, differences))]
    together = simultaneous(level, sum(len(own) for _, own in compared))
    beaten, beats, alike, ahead = [], [], [], []
    for each, own in compared:
        sure = [entry for entry in own if rescale_interval(Interval(entry.value, entry.low, entry.high), level, together).excludes_zero]
        lost = [f"{name(entry)} {_seen_from(entry, -1, level)}" for entry in sure if entry.claim == "worse"]
        won = [f"{name(entry)} {_seen_from(entry, 1, level)}" for entry in sure if entry.claim == "better"]
        ahead += [f"{each.label} in {name(entry)}" for entry in sure if entry.claim == "worse" and name(entry) in deciding]
        if lost:
            beaten.append(f"{each.label} does better than {subject} in {'; '.join(lost)}.")
        if won:
            beats.append(f"{subject[0].upper()}{subject[1:]} does better than {each.label} in {'; '.join(won)}.")
        if not lost and not won:
            alike.append(each.label)
    if alike:
        last = f"{subject} cannot be told from {' or from '.join(alike)} by these images."
        beats.append(f"{last[0].upper()}{last[1:]}")
    start = len(verdict.worse) if verdict.worse or verdict.outcome != "no repair" else len(verdict.sentences)
    headline = (
        verdict.headline.removesuffix(".") + f"; better than {subject.removesuffix(',')}: {', '.join(ahead)}."
        if ahead
        else verdict.headline
    )
    return verdict.model_copy(
        update={"headline": headline, "sentences": [*verdict.sentences[:start], *beaten, *verdict.sentences[start:], *beats, *unchanged]}
    )


def headed(column: str, label: str, rows: Sequence[Alternative]) -> str:
    """The heading of a column: that of an alternative which is the network as it was given says so.

    Example:
        >>> rows = [row("last_layer", images=90, passes=90.0, seconds=1.0, folds=5, as_given=5)]
        >>> headed("last_layer", "Last layer refitted", rows), headed("repaired", "Repaired", rows)
        ('Last layer refitted (as given)', 'Repaired')
    """
    return next((each.heading for each in rows if each.column == column), label)


def as_it_was(entry: Alternative) -> str:
    """That an alternative is the network as it was given, in all folds or in some.

    Example:
        >>> entry = row("last_layer", images=90, passes=90.0, seconds=1.0, folds=5, as_given=5)
        >>> as_it_was(entry)
        'Last layer refitted has no setting that gains within the guard: it is the network as it was given, and the repair is not held against it.'
        >>> as_it_was(entry.model_copy(update={"as_given": 1}))
        'Last layer refitted has no setting that gains within the guard in 1 of 5 folds, where it is the network as it was given.'
    """
    start = f"{entry.label} {AS_IT_WAS}"
    if entry.as_given < entry.folds:
        return f"{start} in {entry.as_given} of {entry.folds} folds, where it is the network as it was given."
    return f"{start}: it is the network as it was given, and the repair is not held against it."


def _against(column: str, differences: Sequence[Difference]) -> list[Difference]:
    """What the repair, or where there is none the network as it was given, has over an alternative."""
    own = [entry for entry in differences if entry.metric != GAP]
    if repair := [entry for entry in own if (entry.first, entry.second) == (column, "repaired")]:
        return repair
    turned: dict[Claim, Claim] = {"better": "worse", "worse": "better", "no claim": "no claim"}
    return [
        entry.model_copy(update={"value": -entry.value, "low": -entry.high, "high": -entry.low, "claim": turned[entry.claim]})
        for entry in own
        if (entry.first, entry.second) == ("original", column)
    ]


def _seen_from(entry: Difference, sign: int, level: float) -> str:
    """By how much the one side (-1: the first column) differs from the other."""
    value, (low, high) = sign * entry.value, sorted((sign * entry.low, sign * entry.high))
    return f"({format_points(value)} points {'higher' if value > 0 else 'lower'}; {describe_interval(low, high, level, entry.n)})"


def fairness_name(entry: Difference) -> str:
    """What a difference of a fairness report is about."""
    return f"recall of {entry.group}" if entry.metric == RECALL else entry.metric


def method(rows: Sequence[Alternative]) -> list[str]:
    """How the alternatives were made, a sentence each."""
    made = [f"{each.label}: {each.chosen}." for each in rows if each.chosen]
    missing = [f"{each.label} was left out: {each.left_out}." for each in rows if each.left_out]
    anew = ", in every fold anew" if any(each.folds > 1 for each in rows) else ""
    start = f"What one could do instead learned from the attribution images, and its settings were chosen on the choose images{anew}; "
    return [start + "report images had no part in it.", *made, *missing]


LIMITS = (
    "What is said of the repair and what one could do instead holds for all alternatives and measures together: an interval must still exclude zero when it is "
    "stretched for as many (Bonferroni, normal approximation). Claims in the tables are adjusted over the groups (or adversaries) of one pair of columns alone.",
    "The alternatives were tried with few settings; someone with more patience may do better.",
)
