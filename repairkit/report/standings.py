"""Where Shapley values win and lose: every committed result that was compared, in its own words, for `reports/paper.md`."""

from __future__ import annotations

from pathlib import Path

from repairkit.report import kinds, markdown
from repairkit.report.alternatives_tables import AS_IT_WAS
from repairkit.report.result import Result

LEAD = """## Where Shapley values win and lose

Every result on real data that was held against other answers to which filters matter, or against what one would do instead of a repair. Claims hold for all
baselines of a network together, and for all alternatives of a run; intervals for one at a time. Losses come first.
"""
ALIKE = "cannot be told from"


def render(reports: Path) -> str:
    """The part of the page on these reports: a list for each, with a link; empty where none was compared.

    Args:
        reports: the folder of committed reports; examples and the embedded default are no real data.
    """
    told = []
    for folder in sorted(each for each in reports.iterdir() if each.is_dir() and not each.name.startswith("example_")):
        for file in sorted(folder.rglob("result.json")) if folder.name != "embedded" else ():
            result = kinds.read(file)
            if sentences := [*of_baselines(result), *of_alternatives(result)]:
                place = file.parent.relative_to(reports)
                lines = "".join(f"- {markdown.escape(sentence)}\n" for sentence in sentences)
                told.append(f"**[{markdown.escape(str(place))}]({place}/report.md)**: {markdown.escape(result.title)}\n\n{lines}")
    return "\n".join([LEAD, *told]) if told else ""


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
