"""Where Shapley values win and lose: the sentences of every committed comparison, for `reports/paper.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repairkit.alternatives.tables import AS_IT_WAS
from repairkit.experiments import report_kinds as kinds
from repairkit.experiments.critical.result import CriticalResult
from repairkit.report import markdown
from repairkit.result import Result

LEAD = """## Where Shapley values win and lose

This part quotes every result on real data that was held against other rankings of filters, or against what one would do instead of a repair.

* Losses come first.
* A claim holds for all baselines of a network together, or for all alternatives of a run. An interval holds for one comparison.
* Where the live range was chosen on the selection images, these images served the Shapley values alone.
"""
ALIKE = "cannot be told from"


def render(reports: Path) -> str:
    """The part of the page on these reports: a list for each, with a link; "" where none was compared.

    Args:
        reports: the folder of committed reports; examples and the embedded default are no real data.
    """
    results = [
        (file.parent.relative_to(reports), kinds.read(file))
        for folder in sorted(path for path in reports.iterdir() if path.is_dir() and not path.name.startswith("example_"))
        for file in (sorted(folder.rglob("result.json")) if folder.name != "embedded" else ())
    ]
    lists = []
    for place, result in results:
        if sentences := [*of_baselines(result), *of_alternatives(result), *repeated(result, results)]:
            lines = "".join(f"- {markdown.escape(sentence)}\n" for sentence in sentences)
            lists.append(f"**[{markdown.escape(str(place))}]({place}/report.md)**: {markdown.escape(result.title)}\n\n{lines}")
    return "\n".join([LEAD, *lists]) if lists else ""


def repeated(result: Result, others: Sequence[tuple[Path, Result]]) -> list[str]:
    """Where the same ablation curves stand against more baselines: a claim among fewer is easier and no second piece of evidence."""
    if not isinstance(result, CriticalResult) or not result.comparison:
        return []

    def compared(ablation: CriticalResult) -> int:
        return sum(baseline.lead is not None for baseline in ablation.comparison.baselines) if ablation.comparison else 0

    return [
        f"The measurements are those of {place}, which has {compared(other)} baselines; here there are {compared(result)}. "
        "A claim that stands here alone is one among fewer."
        for place, other in others
        if isinstance(other, CriticalResult) and compared(other) > compared(result) and other.removal == result.removal
    ]


def of_baselines(result: Result) -> list[str]:
    """Which ranking is ahead by area, and whose candidates gain more, for each network."""
    return [
        f"{label}: {sentence}" if label else sentence
        for label, comparison in result.compared.items()
        for sentence in comparison.sentences
        if not sentence.startswith("Claims hold")
    ]


def of_alternatives(result: Result) -> list[str]:
    """What the verdict says of each alternative that was tried."""
    labels = [alternative.label for alternative in result.alternatives]
    return [
        sentence
        for sentence in result.verdict.sentences
        if any(sentence.startswith(f"{label} does better than") or f"does better than {label} in" in sentence for label in labels)
        or (ALIKE in sentence and any(f"{ALIKE} {label}" in sentence for label in labels))
        or any(sentence.startswith(f"{label} {AS_IT_WAS}") for label in labels)
    ]
