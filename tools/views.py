"""The views of committed results, written anew.

    python -m tools.views reports

Every `result.json` below a folder has its `report.md` and figures, `report.html` where there was one, and every `index.md` lists the run
directories of its folder. What a report shows follows from its result, so a change of words or drawings reaches all of them at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

from repairkit.errors import RepairkitError, UsageError
from repairkit.experiments import results as kinds
from repairkit.files import write_text
from repairkit.report import html, index, markdown


def rewrite(folder: Path) -> None:
    """Write the views of every result below a folder, and its pages of reports, each file whole or not at all.

    Raises:
        DataError: a result of another version.
    """
    for file in sorted(folder.rglob("result.json")):
        document = kinds.document(kinds.read(file))
        markdown.write(document, file.with_name("report.md"))
        if (page := file.with_name("report.html")).exists():
            html.write(document, page)
    for page in sorted(folder.rglob("index.md")):
        write_text(page, listed(page.parent))


def listed(folder: Path) -> str:
    """The page of the reports in the folders of a folder, as Markdown.

    Raises:
        DataError: as `rewrite`.
    """
    return index.render_markdown([index.Entry(each.name) for each in sorted(folder.iterdir()) if each.is_dir()], folder, kinds.read)


def main(arguments: list[str]) -> None:
    """Rewrite the folder that was given.

    Raises:
        UsageError: not one folder.
    """
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        raise UsageError(f"give the folder of reports, got {' '.join(arguments) or 'nothing'}; it is reports/ in repairkit")
    rewrite(Path(arguments[0]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RepairkitError as error:
        sys.exit(f"error: {error}")
