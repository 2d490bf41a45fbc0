"""Where Shapley values win and lose: tables of every committed comparison on real data, for `reports/paper.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from repairkit.experiments import results as kinds
from repairkit.experiments.critical.result import CriticalExtra
from repairkit.report import markdown
from repairkit.report.formatting import NONE, interval, points
from repairkit.report.tables import LOWER_IS_BETTER
from repairkit.result import Alternative, Difference, Result

LEAD = """## Where Shapley values win and lose

The tables hold every result on real data that was compared with other rankings of filters, or with what one would do instead of a repair.

* ▲ means that the Shapley values are measurably better, and ▼ that they are measurably worse. ● means that the images do not decide.
* Numbers are percentage points with 95 % intervals. A positive number is in favour of the Shapley values.
* A claim about rankings holds for all rankings of a row together. An interval holds for one comparison.
* Alternatives are listed by single intervals. The verdict of a report has claims that hold for all alternatives together.
* Where the live range was chosen on the selection images, these images served the Shapley values alone.
"""
SYMBOLS = {"better": "▲", "worse": "▼", "no claim": "●"}
Row = tuple[str, str, dict[str, str]]
"""A link to the report, what is measured, and a cell for each ranking."""


def render(reports: Path) -> str:
    """The part of the page on these reports; "" where none was compared.

    Args:
        reports: the folder of committed reports; examples and the embedded default are no real data.
    """
    results = [
        (str(file.parent.relative_to(reports)), kinds.read(file))
        for folder in sorted(path for path in reports.iterdir() if path.is_dir() and not path.name.startswith("example_"))
        for file in (sorted(folder.rglob("result.json")) if folder.name != "embedded" else ())
    ]
    parts = (
        ("By area under the ablation curve", ranking_table([row for place, result in results for row in areas(place, result)])),
        (
            "By what a repair from their candidates gains",
            ranking_table([row for place, result in results for row in selections(place, result)]),
        ),
        ("What one would do instead of a repair", alternative_table(results)),
    )
    sections = [f"### {title}\n\n{table}\n" for title, table in parts if table]
    notes = "".join(f"- {markdown.escape(note)}\n" for place, result in results for note in repeated(place, result, results))
    return "\n".join([LEAD, *sections, *([notes] if notes else [])]) if sections else ""


def areas(place: str, result: Result) -> Iterator[Row]:
    """By how much the order of Shapley values is ahead of each other order, for each network of a result."""
    for network, comparison in result.compared.items():
        cells = {
            ranking.name: _lead(ranking.lead, ranking.lead_low, ranking.lead_high, ranking.claim) for ranking in comparison.baselines[1:]
        }
        yield _link(place), f"{f'{network}: ' if network else ''}{comparison.metric}; n = {comparison.sizes or f'{comparison.n:,}'}", cells


def selections(place: str, result: Result) -> Iterator[Row]:
    """By how much the repair from candidates of the Shapley values is better than the same selection from other candidates."""
    for comparison in result.compared.values():
        shapley, *others = comparison.baselines
        for index, selection in enumerate(shapley.selections):
            chosen = {ranking.name: ranking.selections[index] for ranking in others if ranking.selections}
            cells = {name: _lead(entry.lead, entry.lead_low, entry.lead_high, entry.claim) for name, entry in chosen.items()}
            yield _link(place), f"{selection.metric}; n = {selection.n:,}", cells


def ranking_table(rows: Sequence[Row]) -> str:
    """Rows as Markdown, with a column for each ranking; "" for none."""
    names = list(dict.fromkeys(name for _, _, cells in rows for name in cells))
    heads = ["Result", "Measured", *names]
    return _table(heads, [[link, measured, *(cells.get(name, NONE) for name in names)] for link, measured, cells in rows])


def alternative_table(results: Sequence[tuple[str, Result]]) -> str:
    """What each alternative does measurably better and worse than the repair; "" where none was tried."""
    rows = [
        [
            _link(place),
            alternative.label,
            _changes(result, alternative, "worse"),
            _changes(result, alternative, "better"),
            _note(alternative),
        ]
        for place, result in results
        for alternative in result.alternatives
        if alternative.column not in {"original", "repaired"}
    ]
    return _table(["Result", "Alternative", "Better than the repair in", "Worse than the repair in", "Note"], rows)


def repeated(place: str, result: Result, others: Sequence[tuple[str, Result]]) -> list[str]:
    """Where the same ablation curves stand against more baselines: a claim among fewer is easier and no second piece of evidence."""
    extra = result.extra
    if not isinstance(extra, CriticalExtra) or not result.comparison:
        return []

    def compared(ablation: Result) -> int:
        return sum(ranking.lead is not None for ranking in ablation.comparison.baselines) if ablation.comparison else 0

    return [
        f"The measurements of {place} are those of {other_place}, which has {compared(other)} baselines; here there are {compared(result)}. "
        "A claim that stands here alone is one among fewer."
        for other_place, other in others
        if isinstance(other.extra, CriticalExtra) and compared(other) > compared(result) and other.extra.curves == extra.curves
    ]


def _changes(result: Result, alternative: Alternative, claim: str) -> str:
    """The metrics in which the repair is better or worse than an alternative, by how much the alternative is ahead."""

    def text(change: Difference) -> str:
        sign = 1 if change.metric in LOWER_IS_BETTER else -1
        low, high = sorted((sign * change.low, sign * change.high))
        name = change.metric if change.group is None else f"{change.metric} of {change.group}"
        return f"{name} {points(sign * change.value)} ({interval(low, high, points)})"

    if alternative.left_out or alternative.as_given == alternative.folds:
        return NONE
    changes = [c for c in result.differences if (c.first, c.second, c.claim) == (alternative.column, "repaired", claim)]
    return "; ".join(text(change) for change in changes) or NONE


def _note(alternative: Alternative) -> str:
    if alternative.left_out:
        return f"not tried: {alternative.left_out}"
    if alternative.as_given == alternative.folds:
        return "no setting gains within the guard"
    return f"no setting gains within the guard in {alternative.as_given} of {alternative.folds} folds" if alternative.as_given else ""


def _lead(lead: float | None, low: float | None, high: float | None, claim: str | None) -> str:
    if lead is None or low is None or high is None or claim is None:
        return NONE
    return f"{SYMBOLS[claim]} {points(lead)} ({interval(low, high, points)})"


def _link(place: str) -> str:
    return f"[{markdown.escape(place)}]({place}/report.md)"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, [":---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""
