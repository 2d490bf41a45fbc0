"""The paper's figures beside ours: `reports/paper.md`, rendered from committed results.

    python -m tools.paper reports

A row is a claim of `tools.claims`. Results on real data lie in `reports/RECIPE/`, results of the embedded default in `reports/embedded/RECIPE/`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from repairkit.errors import RepairkitError, UsageError
from repairkit.files import write_text
from repairkit.report import markdown
from repairkit.report.document import Cell, Table
from repairkit.report.formatting import NONE
from tools import standings
from tools.claims import CLAIMS, Claim, Measured, read_all
from tools.embed import NOT_RUN

LEAD = """# The paper's figures and ours

Each row is a claim with a number or a direction from Ghorbani & Zou, *Neuron Shapley: Discovering the Responsible Neurons* (NeurIPS 2020).
The page is rendered from the committed results by `make figures`. Intervals are of 95 % unless a cell says otherwise.

* The paper's data are ImageNet and CelebA. Ours are smaller published sets, which the header of each recipe names.
* The column of the embedded default comes from `repairkit run --all --embedded`. It is no evidence about photographs.
* A number is reached by its estimate, and a direction where our report claims it.
* "Near chance" means at most twice chance. A correlation is the paper's within 0.1, or where its interval holds the paper's.
* A cost is compared only where its gain was reached.
* A command is that of the run on real data. Some recipes have changed since, as their headers say.
"""


def render(reports: Path) -> str:
    """The page for the results that lie below `reports`.

    Raises:
        DataError: a result of another version.
    """
    rows, reasons = [], []
    for claim in CLAIMS:
        cells, measured = row(claim, reports)
        rows.append(cells)
        if measured and measured.reached is False:
            reason = claim.reason if isinstance(claim.reason, str) else claim.reason(reports)
            reasons.append(f"- **{markdown.escape(claim.title)}.** {markdown.escape(reason)}\n")
    table = Table(
        key="paper",
        caption="Claims with a number or a direction",
        heads=("Claim", "Paper", "Ours, real data", "Ours, embedded default", "Real data", "Command"),
        kinds=("text", "text", "text", "text", "text", "code"),
        bodies=(tuple(rows),),
    )
    why = [f"## Where ours is worse, and why\n\n{''.join(reasons)}"] if reasons else []
    comparisons = [page] if (page := standings.render(reports)) else []
    return "\n".join([LEAD, f"{markdown.table(table)}\n", *why, *comparisons])


def row(claim: Claim, reports: Path) -> tuple[tuple[Cell, ...], Measured | None]:
    """The cells of a claim, and what the result on real data says."""
    real = next((results for folder in claim.folders or (claim.recipe,) if (results := read_all(reports / folder))), [])
    measured, embedded = claim.measured(real), claim.measured(read_all(reports / "embedded" / claim.recipe))
    command = real[0].reproduction.command if real else f"repairkit run recipes/{claim.recipe}.toml --data-root DATA"
    texts = [NOT_RUN if result is None else result.text for result in (measured, embedded)]
    cells = (Cell(claim.title, kind="text"), Cell(claim.published), *map(Cell, texts), Cell(status(measured)), Cell(command, kind="code"))
    return cells, measured


def status(measured: Measured | None) -> str:
    """Whether a figure of ours reaches the paper's, in a word."""
    if measured is None:
        return NONE
    return {None: "not comparable", True: "reached", False: "worse"}[measured.reached]


def main(arguments: list[str]) -> None:
    """Write `paper.md` into the folder of reports.

    Raises:
        UsageError: not one folder.
    """
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        raise UsageError(f"expected the folder of reports, got {' '.join(arguments) or 'nothing'}; give reports")
    write_text(Path(arguments[0]) / "paper.md", render(Path(arguments[0])))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RepairkitError as error:
        sys.exit(f"error: {error}")
