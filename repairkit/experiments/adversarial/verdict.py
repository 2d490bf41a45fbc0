"""What threat models did to the networks, in numbers, and the conclusion: its outcome, and sentences with the regressions first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from repairkit.alternatives.adversarial_training import DESCRIPTION
from repairkit.attacks.generate import Booleans
from repairkit.attacks.robustness import Sanity, Sweep
from repairkit.evaluation.metrics import Metric, compare_groups
from repairkit.evaluation.statistics import wilson
from repairkit.evaluation.wording import (
    capitalise,
    describe_change,
    describe_lead,
    describe_share,
    format_count,
    regressions,
    unchanged_network,
)
from repairkit.experiments.adversarial.adversaries import AttackResult
from repairkit.experiments.adversarial.report import CLEAN, RECOVERED, SUCCESS, TRANSFERRED, Adversary, Strength, SweepPoint
from repairkit.report.formatting import eps_text, limit
from repairkit.result import Difference, Share, Verdict
from repairkit.shapley.game import Floats

DECISIVE = ("replay", "worst")
"""Threat models that the verdict rests on."""
PAIRS = (
    ("original", "repaired"),
    ("finetuned", "repaired"),
    ("dropout", "repaired"),
    ("original", "finetuned"),
    (DESCRIPTION.key, "repaired"),
    ("original", DESCRIPTION.key),
)
KINDS = {
    "replay": "Replayed images",
    "transfer": "Transfer attacks",
    "black box": "Query-based black box",
    "adaptive": "Adaptive attacks",
}
NAMED = 3
"""From so many threat models of a kind on, those of which the same can be said are counted and not named."""
CLAIMS = {
    RECOVERED: {
        "better": "more labels are recovered under",
        "worse": "fewer labels are recovered under",
        "no claim": "recovered label is inconclusive under",
    },
    SUCCESS: {
        "better": "fewer targets are reached under",
        "worse": "more targets are reached under",
        "no claim": "target success is inconclusive under",
    },
}
"""What a claim means, for each measure."""
BESIDE = {"finetuned": "fine-tuning alone, with no filter frozen", "dropout": "the dropout-trained network"}
"""Other networks that the repaired one is compared with."""
Outcome = Literal["repaired", "repaired against stored images", "guard broken", "no claim"]


def measure_shares(results: Sequence[AttackResult], clean: Mapping[str, Booleans], level: float) -> list[Share]:
    """Target success and recovered label of every threat model, and clean accuracy, for every column."""
    records = []

    def add(column: str, metric: str, group: str | None, outcomes: Booleans | Floats) -> None:
        records.append(Metric.mean(metric, len(outcomes)).share(outcomes, column, group, level=level))

    for column, right in clean.items():
        add(column, CLEAN, None, right)
        for result in results:
            if column in result.outcomes:
                if result.targeted:
                    add(column, SUCCESS, result.key, result.outcomes[column].hit)
                add(column, RECOVERED, result.key, result.outcomes[column].recovered)
        for metric in (SUCCESS, RECOVERED):
            if (mean := mean_over_transfers(results, metric, column)) is not None:
                add(column, metric, TRANSFERRED, mean)
    return records


def transfers(results: Sequence[AttackResult]) -> list[AttackResult]:
    """The attacks whose mean is a row: transfer attacks on the same images; none where there is only one."""
    averaged = [result for result in results if result.kind == "transfer" and not result.elsewhere]
    return averaged if len(averaged) > 1 else []


def mean_over_transfers(results: Sequence[AttackResult], metric: str, column: str) -> Floats | None:
    """For each image the share of these attacks that gets its target, or that leaves its label, (N,); None where a column was not shown all."""
    averaged = transfers(results)
    if not averaged or any(column not in result.outcomes for result in averaged):
        return None
    outcomes = [result.outcomes[column] for result in averaged]
    mean: Floats = np.mean([entry.hit if metric == SUCCESS else entry.recovered for entry in outcomes], axis=0, dtype=np.float64)
    return mean


def measure_differences(results: Sequence[AttackResult], clean: Mapping[str, Booleans], level: float) -> list[Difference]:
    """What changed between columns against every threat model.

    What the verdict rests on, the replayed images and the worst of the adaptive attacks, is fixed beforehand and stands alone. The p-values of
    all other threat models are adjusted over them by Holm, for each metric. The mean over transfer attacks has a paired bootstrap over images.
    """
    records: list[Difference] = []
    for pair in PAIRS:
        if not set(pair) <= set(clean):
            continue
        for metric in (SUCCESS, RECOVERED):
            records += _of_metric(results, metric, pair, level)
            first, second = (mean_over_transfers(results, metric, column) for column in pair)
            if first is not None and second is not None:
                averaged = Metric.mean(metric, len(first), lower_is_better=metric == SUCCESS)
                records.append(averaged.difference(first, second, pair, level=level).model_copy(update={"group": TRANSFERRED}))
        before, after = (clean[column] for column in pair)
        records.append(Metric.mean(CLEAN, len(before)).difference(before, after, pair, level=level))
    return records


def _of_metric(results: Sequence[AttackResult], metric: str, pair: tuple[str, str], level: float) -> list[Difference]:
    rows = {}
    for result in results:
        if set(pair) <= set(result.outcomes) and (result.targeted or metric == RECOVERED):
            first, second = (result.outcomes[column] for column in pair)
            rows[result.key] = (first.hit, second.hit) if metric == SUCCESS else (first.recovered, second.recovered)
    families = [{key: rows[key]} for key in DECISIVE if key in rows]
    families.append({key: outcomes for key, outcomes in rows.items() if key not in DECISIVE})
    found = [entry for family in families for entry in compare_groups(metric, family, pair, level, lower_is_better=metric == SUCCESS)]
    return sorted(found, key=lambda entry: list(rows).index(str(entry.group)))


def sweep_points(sweeps: Mapping[str, Sweep], level: float) -> list[SweepPoint]:
    """Success within each bound."""
    points = []
    for column, swept in sweeps.items():
        for eps, hit in zip(swept.eps, swept.hit, strict=True):
            share, low, high = wilson(int(hit.sum()), len(hit), level)
            points.append(SweepPoint(column=column, eps=eps, restarts=swept.restarts, n=len(hit), success=share, low=low, high=high))
    return points


def measure_strengths(sweeps: Mapping[str, Sweep], checks: Mapping[str, Sanity]) -> list[Strength]:
    """The median eps of every column, and on how many images it takes a larger or smaller change than on the original network."""
    original, records = sweeps.get("original"), []
    for column, swept in sweeps.items():
        more = less = p_value = None
        if original is not None and swept is not original:
            more, less = int((swept.least > original.least).sum()), int((swept.least < original.least).sum())
            p_value = float(stats.binomtest(more, more + less).pvalue) if more + less else 1.0
        median = swept.median if math.isfinite(swept.median) else None
        checked, flags = len(checks[column].unbounded), list(checks[column].flags)
        n = swept.hit.shape[1]
        records.append(
            Strength(column=column, n=n, median_eps=median, gained=more, lost=less, p_value=p_value, checked=checked, flags=flags)
        )
    return records


def adversaries_of(results: Sequence[AttackResult]) -> Iterator[Adversary]:
    """A row for each threat model, and after the transfer attacks one for their mean."""
    averaged = transfers(results)
    for result in results:
        facts = {name: getattr(result, name) for name in Adversary.model_fields}
        yield Adversary(**facts)
        if averaged and result is averaged[-1]:
            facts |= {
                "key": TRANSFERRED,
                "title": "Mean of the transfer attacks",
                "description": f"for each image the mean over the {len(averaged)} transfer attacks; they share their images, so intervals are over images",
                "passes": sum(entry.passes for entry in averaged),
            }
            yield Adversary(**facts)


@dataclass(frozen=True)
class Change:
    """What was done to the network."""

    filters: int  # frozen
    epochs: int = 0  # of training after that, in all
    undone: int = 0  # epochs that broke the guard


def verdict(
    differences: Sequence[Difference],
    adversaries: Sequence[Adversary],
    strengths: Sequence[Strength],
    change: Change,
    *,
    eps: float,
    max_drop: float,
    level: float,
) -> Verdict:
    """The conclusion.

    "repaired" needs the worst of the adaptive and query-based attacks to leave measurably more labels, and checks that find nothing wrong
    with these attacks. "repaired against stored images" needs measurably fewer targets reached and more labels recovered on those alone.
    Neither is said where clean accuracy is measurably worse by more than the guard allows.

    Args:
        differences: between all columns.
        adversaries: the threat models.
        strengths: of every column.
        change: what was done.
        eps: of the adaptive attacks, in units of images in [0, 1].
        max_drop: the guard: largest drop of clean accuracy, a share.
        level: of the intervals.
    """
    if not change.filters:
        return unchanged_network()
    words = _Words(differences, adversaries, level)
    suspicious = [
        f"{entry.column} network: {flag}" for entry in strengths if entry.column in ("original", "repaired") for flag in entry.flags
    ]
    outcome = _outcome(words, max_drop, works=not suspicious)
    gained, worse = words.claims("better", RECOVERED, "worst"), words.worse()
    sentences = [*worse, words.against_the_worst(eps, gained=gained), *words.by_kind(gained=gained), *words.beside()]
    sentences += _of_strength(strengths, level)
    if change.undone:
        undone = "was" if change.undone == 1 else "were"
        sentences.append(
            f"{format_count(change.undone, 'epoch')} of training broke the guard on the clean selection images and {undone} undone."
        )
    if suspicious:
        sentences.append(f"The checks of the attack are suspicious, so its failures say little: {'; '.join(suspicious)}.")
    headline = [words.headline(change)]
    headline += [f"The guard allows {limit(max_drop)}, so this is no repair."] if outcome == "guard broken" else []
    headline += [] if gained else [f"No gain can be shown against adaptive attacks at eps {eps_text(eps)}/255."]
    return Verdict(outcome=outcome, headline=" ".join([*headline, *words.measurably_worse()]), sentences=sentences, worse=worse)


def no_attack(success: Share, parts: Sequence[tuple[int, int]], level: float) -> Verdict:
    """The verdict on a network that the attack does not succeed on to begin with.

    Args:
        success: of the replayed images.
        parts: (images that reached their target, images) of the attribution and the selection images.
        level: of the interval.
    """
    counts = " and ".join(f"{hit} of {n}" for hit, n in parts)
    return Verdict(
        outcome="cannot be fooled",
        headline=f"The attack does not fool this network to begin with: it reaches its target on {describe_share(success, level)} of the test images.",
        sentences=[
            f"Of the attribution and selection images, {counts} reached their target. "
            "Without those that the network takes for their target anyway, it is one in twenty at most.",
            "Nothing was frozen. A larger eps or more steps make a stronger attack: that this one fails does not say that others do.",
        ],
        worse=[],
    )


def _outcome(words: _Words, max_drop: float, *, works: bool) -> Outcome:
    clean = words.entry(CLEAN, None)
    if clean is not None and clean.claim == "worse" and -clean.value > max_drop:
        return "guard broken"
    if works and words.claims("better", RECOVERED, "worst"):
        return "repaired"
    replayed = words.claims("better", SUCCESS, "replay") and words.claims("better", RECOVERED, "replay")
    return "repaired against stored images" if replayed else "no claim"


class _Words:
    """Sentences about what changed."""

    def __init__(self, differences: Sequence[Difference], adversaries: Sequence[Adversary], level: float) -> None:
        self._all, self._adversaries, self._level = differences, adversaries, level
        self.effects = [entry for entry in differences if (entry.first, entry.second) == ("original", "repaired")]
        self._titles: Mapping[str | None, str] = {entry.key: entry.title for entry in adversaries}

    def entry(self, metric: str, group: str | None, pair: tuple[str, str] = ("original", "repaired")) -> Difference | None:
        """The difference of a metric between two columns."""
        found = (entry for entry in self._all if (entry.first, entry.second, entry.metric, entry.group) == (*pair, metric, group))
        return next(found, None)

    def claims(self, claim: str, metric: str, group: str) -> bool:
        """Whether the repair is claimed to have done this."""
        entry = self.entry(metric, group)
        return entry is not None and entry.claim == claim

    def name(self, entry: Difference) -> str:
        """What a difference is about."""
        return entry.metric if entry.group is None else f"{entry.metric} under {self._titles[entry.group]}"

    def headline(self, change: Change) -> str:
        """What was done, and what became of replayed and of clean images."""
        done = f"Freezing {format_count(change.filters, 'filter')}"
        if change.epochs:
            done += f" and {format_count(change.epochs, 'epoch')} of training"
        first, *others = (self.about(*key) for key in ((SUCCESS, "replay"), (RECOVERED, "replay"), (CLEAN, None)))
        return " ".join([f"{done}: {first}.", *(f"{capitalise(other)}." for other in others)])

    def measurably_worse(self) -> list[str]:
        """A sentence with the names of what is worse by claim; none where nothing is."""
        names = [self.name(entry) for entry in self.effects if entry.claim == "worse"]
        return [f"Measurably worse: {', '.join(names)}."] if names else []

    def about(self, metric: str, group: str | None) -> str:
        """What became of a metric, for the headline."""
        entry = self.entry(metric, group)
        subject = f"{metric}{' of the replayed images' if group else ''}"
        return f"{subject} was not measured" if entry is None else f"{subject} {describe_change(entry, self._level)}"

    def worse(self) -> list[str]:
        """The proven regressions, then a drop of clean accuracy that may be chance."""
        entries = [entry for entry in regressions(self.effects) if entry.claim == "worse" or entry.group is None]
        return [f"{capitalise(self.name(entry))} {describe_change(entry, self._level)}." for entry in entries]

    def against_the_worst(self, eps: float, *, gained: bool) -> str:
        """What is left against an attacker who knows the repaired network, or may ask it."""
        entry = self.entry(RECOVERED, "worst")
        if entry is None:
            return "No adaptive attack ran."
        doubt = "" if gained else " no gain can be shown"
        return f"Against adaptive attacks at eps {eps_text(eps)}/255{doubt}: {self.name(entry)} {describe_change(entry, self._level)}."

    def by_kind(self, *, gained: bool) -> list[str]:
        """For each kind and measure the threat models with the same claim; then the mean over the transfer attacks."""
        sentences = []
        for kind, name in KINDS.items():
            keys = [entry.key for entry in self._adversaries if entry.kind == kind and entry.key != TRANSFERRED]
            for metric, starts in CLAIMS.items():
                entries = [entry for entry in self.effects if entry.metric == metric and entry.group in keys]
                clauses = []
                for claim, start in starts.items():
                    titles = [self._titles[entry.group] for entry in entries if entry.claim == claim]
                    if titles:
                        clauses.append(f"{start} {f'all {len(titles)}' if len(titles) == len(entries) >= NAMED else ', '.join(titles)}")
                sentences += [f"{name}: {'; '.join(clauses)}."] if clauses else []
                if kind in ("black box", "adaptive") and not gained and any(entry.claim == "better" for entry in entries):
                    sentences.append("Another attack makes up for this gain.")
        means = (entry for metric in (SUCCESS, RECOVERED) if (entry := self.entry(metric, TRANSFERRED)) is not None)
        return sentences + [f"Mean over the transfer attacks: {entry.metric} {describe_change(entry, self._level)}." for entry in means]

    def beside(self) -> list[str]:
        """The repair against fine-tuning alone and against a dropout-trained network, a sentence for each measure."""
        measures = ((SUCCESS, "replay"), (RECOVERED, "replay"), (RECOVERED, "worst"), (CLEAN, None))
        return [
            f"Against {name}: {self.name(entry)} {describe_lead(entry, self._level)}."
            for column, name in BESIDE.items()
            for metric, group in measures
            if (entry := self.entry(metric, group, (column, "repaired"))) is not None
        ]


def _of_strength(strengths: Sequence[Strength], level: float) -> list[str]:
    """The median eps before and after, and what a paired sign test says of it: a fact about PGD, and no gain."""
    by_column = {entry.column: entry for entry in strengths}
    if not {"original", "repaired"} <= set(by_column):
        return []
    before, after = by_column["original"], by_column["repaired"]
    more, less = after.gained or 0, after.lost or 0
    sentences = [
        f"PGD needs a median eps of {_in_levels(before.median_eps)} on the original network and of {_in_levels(after.median_eps)} on the repaired one.",
        f"Of {after.n} images, {more} need a larger eps, {less} a smaller one, {after.n - more - less} the same (p = {after.p_value:.2g}).",
    ]
    if after.p_value is not None and after.p_value < 1 - level and more != less:
        sentences.append(
            f"So PGD alone needs a {'larger' if more > less else 'smaller'} eps on the repaired network. "
            "That is a fact about PGD: APGD-T and Square did not run within other bounds to confirm it."
        )
    return sentences


def _in_levels(eps: float | None) -> str:
    return "more than the largest tried" if eps is None else f"{eps_text(eps)}/255"
