"""A repair beside its alternatives: rows, sentences of the verdict, table and section."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from repairkit.alternatives import adversarial_training
from repairkit.alternatives.base import AlternativeResult, Description
from repairkit.alternatives.registry import FAIRNESS
from repairkit.evaluation.metrics import GAP
from repairkit.evaluation.statistics import Interval, rescale_interval, simultaneous
from repairkit.evaluation.wording import capitalise, describe_interval, format_points, name_metric
from repairkit.report.document import Cell, CellKind, Definitions, Section, Table, blocks
from repairkit.report.formatting import NONE, count
from repairkit.report.tables import share_cell
from repairkit.result import Alternative, Claim, Difference, Result, Verdict

STEPS = ("calibration", "live range", "attribution", "choosing")
"""Phases of a run that a repair is made of; its evaluation is none, nor what was asked for in addition."""
OTHERS = (
    Description("original", "Original", "The network as it was given.", changes_weights=False),
    Description("repaired", "Repaired", "Filters frozen in the plain weights; needs nothing at run time."),
    Description(
        "dropout", "Dropout-trained", "Another network, trained with filter dropout; needs the data that the original was trained on.",
        training_data=True,
    ),
    Description("finetuned", "Fine-tuned alone", "Trained further on the clean attribution images, with no filter frozen and no attack in training."),
)  # fmt: skip
"""Columns that are the repair, or are compared with it elsewhere."""
DESCRIPTIONS = {each.key: each for each in (*OTHERS, *(module.DESCRIPTION for module in FAIRNESS), adversarial_training.DESCRIPTION)}
LEAD = "Alternatives use the same images as the repair and are judged on the same test images. Minutes cover attribution, fitting and selection over all folds, without this evaluation. Paired differences against the repair stand below; where the repair loses, the verdict says so."
LIMITS = (
    "What is said of the repair and its alternatives holds for all alternatives and measures together. An interval must still exclude zero when "
    "it is widened for as many (Bonferroni, normal approximation).",
    "Claims in the tables are adjusted over the groups (or attacks) of one pair of columns alone.",
    "The alternatives were tried with few settings; someone with more patience may do better.",
)


def row(
    key: str, *, images: int | None = None, passes: float | None = None, seconds: float | None = None,
    chosen: str = "", left_out: str = "", folds: int = 1, as_given: int = 0,
) -> Alternative:  # fmt: skip
    """One row; `key` is a column, and `as_given` says in how many folds it is the unchanged network."""
    what = DESCRIPTIONS[key]
    return Alternative(
        column=key,
        label=what.label,
        explanation=what.explanation,
        minutes=None if seconds is None else seconds / 60,
        passes=passes,
        images=images,
        training_data=what.training_data,
        changes_weights=what.changes_weights and as_given < folds,
        group_at_run_time=what.group_at_run_time,
        chosen=chosen,
        left_out=left_out,
        folds=folds,
        as_given=as_given,
    )


def repair_row(passes: Mapping[str, float], seconds: Mapping[str, float], *, images: int, shares: Mapping[str, float]) -> Alternative:
    """The row of the repair: what finding and selecting its filters cost.

    Args:
        passes: of the run, by phase.
        seconds: likewise.
        images: that find and select, of one fold.
        shares: of each phase, how much of it was for the repair.
    """
    spent, took = (sum(share * by.get(phase, 0.0) for phase, share in shares.items()) for by in (passes, seconds))
    return row("repaired", images=images, passes=spent, seconds=took)


def rows(results: Sequence[AlternativeResult]) -> list[Alternative]:
    """A row for each alternative, its folds together."""
    records = []
    for key in dict.fromkeys(result.key for result in results):
        folds = [result for result in results if result.key == key]
        if left_out := next((result.left_out for result in folds if result.left_out), ""):
            records.append(row(key, left_out=left_out))
            continue
        chosen = folds[0].chosen
        if len(folds) > 1 and chosen:
            chosen = "; ".join(f"fold {number}: {result.chosen}" for number, result in enumerate(folds, start=1))
        records.append(
            row(
                key,
                images=round(float(np.mean([result.images for result in folds]))),
                passes=sum(result.passes for result in folds),
                seconds=sum(result.seconds for result in folds),
                chosen=chosen,
                folds=len(folds),
                as_given=sum(result.as_given for result in folds),
            )
        )
    return records


def with_alternatives(
    verdict: Verdict, records: Sequence[Alternative], differences: Sequence[Difference], *, level: float, decisive: Sequence[str],
    name: Callable[[Difference], str] = name_metric,
) -> Verdict:  # fmt: skip
    """The verdict with who beats whom, on what. What beats the repair comes right after the regressions, and in the headline where it is decisive.

    What is said of all alternatives, groups and metrics holds together. A difference with a claim is said if its interval still excludes
    zero when it is widened to the level that as many differences take. An unchanged network beats nothing, and nothing beats it.

    Args:
        verdict: of the repair.
        records: all alternatives; without any the verdict stays.
        differences: between all columns.
        level: of the intervals.
        decisive: what the repair is for, in words of `name`.
        name: what a difference is about, in words.
    """
    if not records:
        return verdict
    subject = "the unchanged network" if verdict.outcome == "no repair" else "the repair"
    known = {other.key for other in OTHERS}
    changed = [entry for entry in records if entry.column not in known and entry.as_given < entry.folds]
    compared = [(entry, leads) for entry in changed if (leads := _leads(entry.column, differences))]
    together = simultaneous(level, sum(len(leads) for _, leads in compared))
    beaten, beats, alike, ahead = [], [], [], []
    for entry, leads in compared:
        sure = [lead for lead in leads if rescale_interval(Interval(lead.value, lead.low, lead.high), level, together).excludes_zero]
        lost, won = ([f"{name(lead)} {_by(lead, level)}" for lead in sure if lead.claim == claim] for claim in ("worse", "better"))
        ahead += [f"{entry.label} in {name(lead)}" for lead in sure if lead.claim == "worse" and name(lead) in decisive]
        beaten += [f"{entry.label} does better than {subject} in {'; '.join(lost)}."] * bool(lost)
        beats += [f"{capitalise(subject)} does better than {entry.label} in {'; '.join(won)}."] * bool(won)
        alike += [entry.label] * (not lost and not won)
    if alike:
        beats.append(f"{capitalise(subject)} cannot be told apart from {' or from '.join(alike)} by these images.")
    unchanged = [unchanged_note(entry) for entry in records if entry.as_given]
    start = len(verdict.worse) if verdict.worse or verdict.outcome != "no repair" else len(verdict.sentences)
    headline = f"{verdict.headline} Better than {subject}: {', '.join(ahead)}." if ahead else verdict.headline
    sentences = [*verdict.sentences[:start], *beaten, *verdict.sentences[start:], *beats, *unchanged]
    return verdict.model_copy(update={"headline": headline, "sentences": sentences})


def _leads(column: str, differences: Sequence[Difference]) -> list[Difference]:
    """What the repair, or where there is none the original network, has over an alternative."""
    pairs = [entry for entry in differences if entry.metric != GAP]
    if repair := [entry for entry in pairs if (entry.first, entry.second) == (column, "repaired")]:
        return repair
    turned: dict[Claim, Claim] = {"better": "worse", "worse": "better", "no claim": "no claim"}
    return [
        entry.model_copy(update={"value": -entry.value, "low": -entry.high, "high": -entry.low, "claim": turned[entry.claim]})
        for entry in pairs
        if (entry.first, entry.second) == ("original", column)
    ]


def _by(lead: Difference, level: float) -> str:
    """By how much the better side differs from the other."""
    higher = (lead.value > 0) == (lead.claim == "better")
    interval_text = describe_interval(lead.low, lead.high, level, lead.n)
    return f"({format_points(lead.value)} points {'higher' if higher else 'lower'}; {interval_text})"


def column_heading(column: str, label: str, records: Sequence[Alternative]) -> str:
    """The heading of a column: that of an alternative which is the unchanged network says so.

    Example:
        >>> records = [row("last_layer", images=90, passes=90.0, seconds=1.0, folds=5, as_given=5)]
        >>> column_heading("last_layer", "Last layer refitted", records), column_heading("repaired", "Repaired", records)
        ('Last layer refitted (as given)', 'Repaired')
    """
    return next((entry.heading for entry in records if entry.column == column), label)


def unchanged_note(entry: Alternative) -> str:
    """That an alternative is the unchanged network, in all folds or in some."""
    where = f" in {entry.as_given} of {entry.folds} folds" if entry.as_given < entry.folds else ""
    return f"{entry.label} has no setting that gains within the guard{where}, so it is the unchanged network there."


def method(records: Sequence[Alternative]) -> list[str]:
    """How the alternatives were made, a sentence each; none without alternatives."""
    if not records:
        return []
    folds = ", in every fold anew" if any(entry.folds > 1 for entry in records) else ""
    return [
        f"Alternatives learned from the attribution images. Their settings were selected on the selection images{folds}. Test images had no part in it.",
        *(f"{entry.label}: {entry.chosen}." for entry in records if entry.chosen),
        *(f"{entry.label} was left out: {entry.left_out}." for entry in records if entry.left_out),
    ]


def limits(records: Sequence[Alternative]) -> list[str]:
    """What a reader must not conclude of them; none without alternatives."""
    return list(LIMITS) if records else []


def table(result: Result, wanted: Sequence[tuple[str, str | None, str]]) -> Table | None:
    """A row for each alternative, the repair among them; None where nobody asked.

    Args:
        result: of the run.
        wanted: metric, group and heading of each share that is shown.
    """
    if not result.alternatives:
        return None
    shares = {(entry.metric, entry.group, entry.column): entry for entry in result.shares}

    body = []
    for entry in result.alternatives:
        images = "the training data" if entry.training_data else NONE if entry.images is None else count(entry.images)
        needs = (entry.changes_weights, entry.group_at_run_time, entry.training_data)
        answers = (NONE if entry.left_out else "yes" if need else "no" for need in needs)
        body.append(
            (
                Cell(entry.label, kind="text"),
                *(share_cell(shares.get((metric, group, entry.column))) for metric, group, _ in wanted),
                Cell(NONE if entry.minutes is None else f"{entry.minutes:,.1f}"),
                Cell(images, kind="text"),
                *(Cell(answer, kind="text") for answer in answers),
            )
        )
    numbers: list[CellKind] = ["number"] * (len(wanted) + 1)
    heads = (*(head for _, _, head in wanted), "Minutes", "Labelled images", "Other weights?", "Group at run time?", "Training data?")
    caption = f"The repair beside its alternatives, with {result.level:.0%} intervals"
    return Table("alternatives", caption, ("What", *heads), ("text", *numbers, "text", "text", "text", "text"), (tuple(body),))


def sections(result: Result, beside: Table | None) -> list[Section]:
    """The section on alternatives around their table; none where nobody asked."""
    if beside is None:
        return []
    return [Section("alternatives", "Alternatives", blocks(LEAD, beside, Definitions(described(result))))]


def described(result: Result) -> list[tuple[str, str]]:
    """What each alternative is, its setting, and why it was left out where it was."""
    return [
        (
            entry.label,
            entry.explanation
            + (f" Left out: {entry.left_out}." if entry.left_out else f" Selected: {entry.chosen}." if entry.chosen else ""),
        )
        for entry in result.alternatives
        if entry.column not in ("original", "repaired")
    ]
