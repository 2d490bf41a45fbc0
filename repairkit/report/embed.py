"""Figures of a finished run inside other files: README and recipe headers quote results, nobody types them.

    python -m repairkit.report.embed README.md recipes/*.toml

A block between `figures: PATH` and `/figures` (in an HTML comment in Markdown, after `#` in TOML) is
replaced by the before/after table of that result; with several paths, separated by spaces, by one
table with a row for each result. Paths are relative to the current directory.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from repairkit.errors import RepairkitError, UsageError
from repairkit.files import write_text
from repairkit.report import fairness_tables, markdown, tables
from repairkit.report.result import FairnessResult

_MARKDOWN = re.compile(r"(<!-- figures: (?P<paths>\S+(?: \S+)*) -->\n).*?(<!-- /figures -->)", re.DOTALL)
_TOML = re.compile(r"(# figures: (?P<paths>\S+(?: \S+)*)\n).*?(# /figures)", re.DOTALL)


def render(text: str, *, toml: bool, base: Path = Path()) -> str:
    """The text with every figures block filled in from its result.

    Example:
        >>> render("nothing to fill in", toml=False)
        'nothing to fill in'
    """
    pattern = _TOML if toml else _MARKDOWN

    def filled(match: re.Match[str]) -> str:
        results = [FairnessResult.read(base / path) for path in match["paths"].split()]
        lines = (table(results[0]) if len(results) == 1 else markdown.table(fairness_tables.runs(results))).splitlines()
        block = "".join(f"# {line}".rstrip() + "\n" for line in lines) if toml else "\n" + "\n".join(lines) + "\n\n"
        return match[1] + block + match[3]

    return pattern.sub(filled, text)


def table(result: FairnessResult) -> str:
    """The verdict, the shares before and after with n and interval, machine and minutes."""
    made = result.reproduction
    return (
        f"{markdown.escape(result.verdict.headline)}\n\n{markdown.table(tables.before_after(result))}\n\n"
        f"{made.machine}; {made.minutes:.0f} minutes; {markdown.escape(result.target)}; {result.folds} fold(s); seed {made.seed}; {result.created}."
    )


def main(files: Sequence[str]) -> None:
    """Fill in the blocks of these files in place.

    Raises:
        UsageError: no file was given.
    """
    if not files:
        raise UsageError("give the files whose figures are to be filled in, for instance README.md")
    for name in files:
        path = Path(name)
        text = path.read_text(encoding="utf-8")
        write_text(path, render(text, toml=path.suffix == ".toml"))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RepairkitError as error:
        sys.exit(f"error: {error}")
