"""Figures of finished runs inside other files: README, docs and recipe headers quote results, nobody types them.

    python -m tools.embed README.md docs/results.md recipes/*.toml

A block begins with `WHAT: PATH ...` and ends with `/WHAT`, in a comment: `<!-- -->` in Markdown, `#` in TOML. Paths of results are relative to
the current directory. WHAT is one of:

- `figures`: tables and origin of one result, in a recipe with its verdict; of several results of one kind, as `runs`.
- `runs`: one table with a row for each result.
- `headlines`: the verdict of each result alone (Markdown only).

The header of a recipe none of whose results is there says that it was not run yet.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from repairkit.errors import RepairkitError, UsageError
from repairkit.experiments import results as kinds
from repairkit.files import write_text
from repairkit.report import markdown
from repairkit.result import Result

NOT_RUN = "not run yet"
_MARKDOWN = re.compile(
    r"(?P<begin><!-- (?P<what>figures|runs|headlines): (?P<paths>\S+(?: \S+)*) -->\n).*?(?P<end><!-- /(?P=what) -->)", re.DOTALL
)
_TOML = re.compile(r"(?P<begin># (?P<what>figures|runs): (?P<paths>\S+(?: \S+)*)\n).*?(?P<end># /(?P=what))", re.DOTALL)


def render(text: str, *, toml: bool, base: Path = Path()) -> str:
    """The text with every block filled in from its results.

    Example:
        >>> render("nothing to fill in", toml=False)
        'nothing to fill in'
    """
    pattern = _TOML if toml else _MARKDOWN

    def filled(match: re.Match[str]) -> str:
        paths = [base / path for path in match["paths"].split()]
        if toml and not any(path.exists() for path in paths):
            return f"{match['begin']}# {NOT_RUN}\n{match['end']}"
        results = [kinds.read(path) for path in paths]
        if match["what"] == "headlines":
            return match["begin"] + "\n" + "".join(f"- {brief(result)}\n" for result in results) + "\n" + match["end"]
        lines = (single(results[0], verdict=toml) if (match["what"], len(results)) == ("figures", 1) else rows(results)).splitlines()
        block = "".join(f"# {line}".rstrip() + "\n" for line in lines) if toml else "\n" + "\n".join(lines) + "\n\n"
        return match["begin"] + block + match["end"]

    return pattern.sub(filled, text)


def rows(results: Sequence[Result]) -> str:
    """One table with a row for each result.

    Raises:
        UsageError: the results are of several kinds.
    """
    if len(names := {result.kind for result in results}) > 1:
        raise UsageError(f"expected results of one kind in a block, got {' and '.join(sorted(names))}; give each its own block")
    return markdown.table(kinds.kind_of(results[0]).runs(results))


def single(result: Result, *, verdict: bool) -> str:
    """The verdict if asked for, the tables that are quoted of such a result, machine and minutes."""
    origin, tables = result.reproduction, kinds.kind_of(result)
    return "\n\n".join(
        (
            *([markdown.escape(result.verdict.headline)] if verdict else []),
            *map(markdown.table, tables.quoted(result)),
            f"{origin.machine}; {origin.minutes:.0f} minutes; {markdown.escape(tables.design(result))}; seed {origin.seed}; {result.created}.",
        )
    )


def brief(result: Result) -> str:
    """The verdict, and on which images it was reached."""
    return markdown.escape(f"{result.verdict.headline} ({kinds.kind_of(result).design(result)}; seed {result.reproduction.seed})")


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
