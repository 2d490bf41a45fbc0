"""The chart of README, drawn from a committed result.

    python -m tools.chart reports/fig3a_fairness/result.json docs/repair.svg

Recall of every group before the repair, after it, and with the decision threshold moved instead.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from repairkit import plots
from repairkit.errors import RepairkitError, UsageError
from repairkit.experiments import results as kinds
from repairkit.files import write_text
from repairkit.report.figure import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from repairkit.result import Result, Share

COLUMNS = {"original": "Before the repair", "repaired": "Repaired", "threshold": "Moved threshold"}


def repair_chart(result: Result) -> Figure:
    """Recall of every group and source accuracy, for three columns, the group that gains most first."""
    found = {(share.metric, share.group, share.column): share for share in result.shares}

    def row(metric: str, group: str | None) -> list[Share]:
        return [found[metric, group, column] for column in COLUMNS]

    def gain(shares: list[Share]) -> float:
        return shares[1].value - shares[0].value

    rows = sorted(((group, row("recall", group)) for group in result.groups), key=lambda entry: -gain(entry[1]))
    rows.append(("accuracy on the original task", row("source accuracy", None)))
    best, (before, after, moved) = rows[0]
    finding = (
        f"Recall of {best} rises from {before.value:.1%} to {after.value:.1%}; a moved threshold reaches {moved.value:.1%}. "
        f"Accuracy on the original task changes by {100 * gain(rows[-1][1]):+.1f} points."
    )

    def chart(canvas: Canvas) -> None:
        plots.add_legend(canvas, [(label, plots.style_of(column)) for column, label in COLUMNS.items()])
        groups = [
            plots.Group(label, shares[0].n, [(plots.style_of(s.column), plots.Interval(s.value, s.low, s.high)) for s in shares])
            for label, shares in rows
        ]
        axes = canvas.subplots()
        plots.plot_shares(axes, groups)
        axes.set_xlabel("recall or accuracy, with 95% intervals")

    detail = " ".join(f"{label}: {', '.join(f'{COLUMNS[s.column].lower()} {s.value:.1%}' for s in shares)}." for label, shares in rows)
    return Figure("repair", "Recall before and after a repair", finding, detail, chart, 0.95 + 0.19 * 4.4 * len(rows))


def main(arguments: list[str]) -> None:
    """Draw a result into a file.

    Raises:
        UsageError: not one result and one file.
    """
    if len(arguments) != 2:
        raise UsageError(f"expected a result.json and the file to write, got {' '.join(arguments) or 'nothing'}")
    write_text(Path(arguments[1]), repair_chart(kinds.read(Path(arguments[0]))).svg(standalone=True) + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RepairkitError as error:
        sys.exit(f"error: {error}")
