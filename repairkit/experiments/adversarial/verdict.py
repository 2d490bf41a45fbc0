"""The conclusion of a report on an adversarial repair in words: what got worse first, then against which adversaries it helps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from repairkit.attacks.words import CLEAN, RECOVERED, SUCCESS, TRANSFERRED, TRANSFERRED_TITLE, eps_text
from repairkit.evaluation.wording import capitalise, describe_interval, format_points
from repairkit.experiments.adversarial.adversaries import Attempt
from repairkit.experiments.adversarial.result import Strength
from repairkit.report.formatting import limit
from repairkit.result import Difference, Share, Verdict

SUMMED_UP = {
    "replay": "Stored images, made against the unmodified network",
    "transfer": "Images carried over from other networks",
    "black box": "Query-based black box",
    "adaptive": "Attacks run afresh on the repaired network",
}
FRESH = ("black box", "adaptive")
NAMED = 3
"""So many adversaries of a kind, of whom all the same can be said, are no longer named one by one."""
CHANGES = {
    RECOVERED: {
        "better": "more labels are recovered under",
        "worse": "fewer labels are recovered under",
        "no claim": "no difference in recovered labels can be shown under",
    },
    SUCCESS: {
        "better": "fewer targets are reached under",
        "worse": "more targets are reached under",
        "no claim": "no difference in target success can be shown under",
    },
}
"""What a claim means, for each measure."""
RIVALS = {
    "finetuned": "Against fine-tuning alone, with no filter frozen",
    "dropout": "Against the dropout-trained network",
}
"""Other networks that the repaired one is held against, with what such a sentence begins."""


def verdict(
    differences: Sequence[Difference],
    attempts: Sequence[Attempt],
    strengths: Sequence[Strength],
    *,
    filters: int,
    epochs: int = 0,
    undone: int = 0,
    eps: float,
    allowed: float,
    level: float,
) -> Verdict:
    """The conclusion in words.

    "repaired" needs the worst of the adaptive and query-based attacks to leave measurably more labels, and checks that find nothing wrong
    with these attacks; "repaired against stored images" measurably fewer targets reached and more labels recovered on those alone. Neither is
    said where clean accuracy is measurably worse, by more than was allowed: the guard was broken.

    Args:
        differences: between all columns.
        attempts: the adversaries.
        strengths: of every column.
        filters: how many were frozen.
        epochs: of training after that, in all.
        undone: epochs that broke the guard and were undone.
        eps: of the attacks run afresh, in units of images in [0, 1].
        allowed: fall of clean accuracy, a share.
        level: of the intervals.
    """
    if not filters:
        return Verdict(
            outcome="no repair",
            headline="No filter was worth freezing: the network is unchanged.",
            sentences=["On the images that choose, freezing no culprit was worth its cost; the weights are the original ones."],
            worse=[],
        )
    words = _Words(differences, attempts, level, eps)
    gained = words.claims("better", RECOVERED, "worst")
    suspicious = [f"{each.column} network: {flag}" for each in strengths if each.column in ("original", "repaired") for flag in each.flags]
    outcome: Literal["repaired", "repaired against stored images", "guard broken", "no claim"] = "no claim"
    broken = words.fell_beyond(allowed)
    if broken:
        outcome = "guard broken"
    elif gained and not suspicious:
        outcome = "repaired"
    elif words.claims("better", SUCCESS, "replay") and words.claims("better", RECOVERED, "replay"):
        outcome = "repaired against stored images"
    frozen = f"Freezing {filters} filter{'s' if filters > 1 else ''}"
    if epochs:
        frozen += f" and {epochs_of(epochs)} of training"
    said = [words.about(SUCCESS, "replay"), words.about(RECOVERED, "replay"), words.about(CLEAN, None)]
    if broken:
        said.append(f"the guard allows {limit(allowed)}, so that this is no repair")
    if not gained:
        said.append(f"no gain can be shown against an adversary who attacks the repaired network itself at eps {eps_text(eps)}/255")
    if names := words.proven_falls():
        said.append(f"measurably worse: {', '.join(names)}")
    worse = words.falls()
    sentences = [*worse, words.against_the_worst(gained=gained), *words.by_kind(gained=gained), *words.beside_rivals()]
    sentences += _of_strength(strengths, level)
    if undone:
        sentences.append(
            f"{capitalise(epochs_of(undone))} of training broke the guard on the clean images that choose, and {'was' if undone == 1 else 'were'} undone."
        )
    if suspicious:
        sentences.append(f"The checks of the attack are suspicious, so that its failures say little: {'; '.join(suspicious)}.")
    return Verdict(outcome=outcome, headline=f"{frozen}: {'; '.join(said)}.", sentences=[each for each in sentences if each], worse=worse)


def epochs_of(number: int) -> str:
    """So many epochs, in words."""
    return f"{number} epoch{'' if number == 1 else 's'}"


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
            f"Of the images that were to find and choose filters, {counts} reached their target; leaving out those that the network takes for it "
            "without any attack, one in twenty at most.",
            "Nothing was frozen. A larger eps or more steps make a stronger attack; that this one fails does not say that others do.",
        ],
        worse=[],
    )


class _Words:
    """Sentences about what changed: percentage points, n and interval in every one."""

    def __init__(self, differences: Sequence[Difference], attempts: Sequence[Attempt], level: float, eps: float) -> None:
        self._all, self._attempts, self._level, self._eps = differences, attempts, level, eps
        self._own = [entry for entry in differences if (entry.first, entry.second) == ("original", "repaired")]
        self._titles = {attempt.key: attempt.title for attempt in attempts} | {TRANSFERRED: TRANSFERRED_TITLE}

    def claims(self, claim: str, metric: str, group: str) -> bool:
        """Whether the repair is claimed to have done this."""
        found = self._entry(metric, group)
        return found is not None and found.claim == claim

    def fell_beyond(self, allowed: float) -> bool:
        """Whether clean accuracy is measurably worse, by more than was allowed."""
        entry = self._entry(CLEAN, None)
        return entry is not None and entry.claim == "worse" and -entry.value > allowed

    def about(self, metric: str, group: str | None) -> str:
        """What became of something, named briefly; for the headline."""
        entry = self._entry(metric, group)
        if entry is None:
            return f"{metric} was not measured"
        return f"{metric}{' of the stored images' if group else ''} {self._moved(entry)}"

    def falls(self) -> list[str]:
        """What the repair made worse: the proven, then a fall of clean accuracy that may be chance."""
        bad = [entry for entry in self._own if _worsened(entry) and (entry.claim == "worse" or entry.group is None)]
        bad.sort(key=lambda entry: (entry.claim != "worse", entry.group is not None))
        return [
            f"{capitalise(self._what(entry))} {_verb(entry)} by {format_points(entry.value)} percentage points"
            f"{'' if entry.claim == 'worse' else ', an amount that may be chance'} ({self._inside(entry)})."
            for entry in bad
        ]

    def proven_falls(self) -> list[str]:
        """Names of what is worse by claim."""
        return [self._what(entry) for entry in self._own if entry.claim == "worse"]

    def against_the_worst(self, *, gained: bool) -> str:
        """What the adversary is left with who knows the repaired network, or may ask it."""
        entry = self._entry(RECOVERED, "worst")
        if entry is None:
            return "No attack was run on the repaired network itself."
        start = f"Against an adversary who attacks the repaired network itself at eps {eps_text(self._eps)}/255"
        return f"{start}{'' if gained else ' no gain can be shown'}: {self._what(entry)} {self._moved(entry)}."

    def by_kind(self, *, gained: bool) -> list[str]:
        """Under which adversaries of each kind more labels are recovered and fewer targets reached, and under which not."""
        sentences = []
        for kind, name in SUMMED_UP.items():
            keys = [attempt.key for attempt in self._attempts if attempt.kind == kind]
            but = "though another attack makes up for it, " if kind in FRESH and not gained else ""
            said = []
            for metric, starts in CHANGES.items():
                of = [entry for entry in self._own if entry.metric == metric and entry.group in keys]
                for claim, start in starts.items():
                    if titles := [self._titles[str(entry.group)] for entry in of if entry.claim == claim]:
                        whole = "any" if claim == "no claim" else "all"
                        which = f"{whole} of these {len(of)}" if len(titles) == len(of) >= NAMED else ", ".join(titles)
                        said.append(f"{but if claim == 'better' else ''}{start} {which}")
            if kind == "transfer":
                said += [self.on_average()] * (self._entry(SUCCESS, TRANSFERRED) is not None)
            if said:
                sentences.append(f"{name}: {'; '.join(said)}.")
        return sentences

    def on_average(self) -> str:
        """What became of both measures on average over the transfer attacks, on their shared images."""
        both = (entry for metric in (SUCCESS, RECOVERED) if (entry := self._entry(metric, TRANSFERRED)) is not None)
        return f"on average over these attacks on the same images {' and '.join(f'{entry.metric} {self._moved(entry)}' for entry in both)}"

    def beside_rivals(self) -> list[str]:
        """The repair against fine-tuning alone and against a dropout-trained network, where there is one."""
        sentences = []
        for rival, start in RIVALS.items():
            found = [
                f"{self._what(entry)} {self._differs(entry)}"
                for metric, group in ((SUCCESS, "replay"), (RECOVERED, "replay"), (RECOVERED, "worst"), (CLEAN, None))
                if (entry := self._entry(metric, group, pair=(rival, "repaired"))) is not None
            ]
            if found:
                sentences.append(f"{start}: {'; '.join(found)}.")
        return sentences

    def _entry(self, metric: str, group: str | None, pair: tuple[str, str] = ("original", "repaired")) -> Difference | None:
        found = (entry for entry in self._all if (entry.first, entry.second, entry.metric, entry.group) == (*pair, metric, group))
        return next(found, None)

    def _what(self, entry: Difference) -> str:
        return entry.metric if entry.group is None else f"{entry.metric} under {self._titles[entry.group]}"

    def _inside(self, entry: Difference) -> str:
        return describe_interval(entry.low, entry.high, self._level, entry.n)

    def _moved(self, entry: Difference) -> str:
        by = f"{_verb(entry)} by {format_points(entry.value)} percentage points"
        if entry.claim != "no claim":
            return f"{by} ({self._inside(entry)})"
        if entry.low > 0 or entry.high < 0:
            return f"{by}, which is no proof ({self._inside(entry)})"
        return f"did not change by more than these images can tell from chance ({self._inside(entry)})"

    def _differs(self, entry: Difference) -> str:
        if entry.claim == "no claim":
            return f"cannot be told apart ({self._inside(entry)})"
        return f"is {'higher' if entry.value > 0 else 'lower'} by {format_points(entry.value)} percentage points ({self._inside(entry)})"


def _worsened(entry: Difference) -> bool:
    return entry.value > 0 if entry.metric == SUCCESS else entry.value < 0


def _verb(entry: Difference) -> str:
    return "rose" if entry.value > 0 else "fell"


def _of_strength(strengths: Sequence[Strength], level: float) -> list[str]:
    """The median eps before and after, and what a paired sign test says of it: a fact about PGD, and no gain."""
    by_column = {each.column: each for each in strengths}
    if not {"original", "repaired"} <= set(by_column):
        return []
    before, after = by_column["original"], by_column["repaired"]
    gained, lost = after.gained or 0, after.lost or 0
    said = [
        f"PGD needs a median eps of {_in_levels(before.median_eps)} on the original network and of {_in_levels(after.median_eps)} on the repaired one "
        f"(n = {after.n}; more on {gained} images, less on {lost}, the same on {after.n - gained - lost}; p = {after.p_value:.2g})."
    ]
    if after.p_value is not None and after.p_value < 1 - level and gained != lost:
        larger = gained > lost
        said.append(
            f"So PGD alone needs a {'larger' if larger else 'smaller'} eps on the repaired network for {max(gained, lost)} of {after.n} images, and a "
            f"{'smaller' if larger else 'larger'} one for {min(gained, lost)}. That is a fact about PGD: APGD-T and Square were not run within other bounds "
            "to confirm it."
        )
    return said


def _in_levels(eps: float | None) -> str:
    return "more than the largest tried" if eps is None else f"{eps_text(eps)}/255"
