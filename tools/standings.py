"""Where Shapley values win and lose: every committed result that was compared, in its own words, for `reports/paper.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repairkit.alternatives.tables import AS_IT_WAS
from repairkit.experiments import report_kinds as kinds
from repairkit.experiments.critical.result import CriticalResult
from repairkit.report import markdown
from repairkit.result import Result

LEAD = """## Where Shapley values win and lose

Every result on real data that was held against other answers to which filters matter, or against what one would do instead of a repair. Claims hold for all
baselines of a network together, and for all alternatives of a run; intervals for one at a time. Losses come first. Where the live zone was settled, the images that
choose served the Shapley values alone: baselines have nothing to settle.
"""
ALIKE = "cannot be told from"


def render(reports: Path) -> str:
    """The part of the page on these reports: a list for each, with a link; empty where none was compared.

    Args:
        reports: the folder of committed reports; examples and the embedded default are no real data.
    """
    found = [
        (file.parent.relative_to(reports), kinds.read(file))
        for folder in sorted(each for each in reports.iterdir() if each.is_dir() and not each.name.startswith("example_"))
        for file in (sorted(folder.rglob("result.json")) if folder.name != "embedded" else ())
    ]
    told = []
    for place, result in found:
        if sentences := [*of_baselines(result), *of_alternatives(result), *again(result, found)]:
            lines = "".join(f"- {markdown.escape(sentence)}\n" for sentence in sentences)
            told.append(f"**[{markdown.escape(str(place))}]({place}/report.md)**: {markdown.escape(result.title)}\n\n{lines}")
    return "\n".join([LEAD, *told]) if told else ""


def again(result: Result, others: Sequence[tuple[Path, Result]]) -> list[str]:
    """Where the same removal curves stand against more baselines: a claim among fewer is easier, and no second piece of evidence."""
    if not isinstance(result, CriticalResult) or not result.comparison:
        return []

    def held(each: CriticalResult) -> int:
        return sum(baseline.lead is not None for baseline in each.comparison.baselines) if each.comparison else 0

    return [
        f"Its measurements are those of {place}, where {held(other)} baselines are held against them, here {held(result)}: "
        "a claim that stands here alone is one among fewer."
        for place, other in others
        if isinstance(other, CriticalResult) and held(other) > held(result) and other.removal == result.removal
    ]


def of_baselines(result: Result) -> list[str]:
    """Who is ahead by area, and of whose candidates choosing makes more, network by network; without what holds for all of these lists."""
    return [
        f"{label}: {sentence}" if label else sentence
        for label, comparison in result.compared.items()
        for sentence in comparison.sentences
        if not sentence.startswith("Claims hold")
    ]


def of_alternatives(result: Result) -> list[str]:
    """What the verdict says of each alternative that was tried."""
    labels = [each.label for each in result.alternatives]
    return [
        sentence
        for sentence in result.verdict.sentences
        if any(sentence.startswith(f"{label} does better than") or f"does better than {label} in" in sentence for label in labels)
        or (ALIKE in sentence and any(f"{ALIKE} {label}" in sentence for label in labels))
        or any(sentence.startswith(f"{label} {AS_IT_WAS}") for label in labels)
    ]
