"""Parts of a report that several kinds of experiments have: regressions, frozen filters, method, figures and limits."""

from __future__ import annotations

from collections.abc import Sequence

from repairkit.report.document import Bullets, Definitions, Part, Section, Table, blocks
from repairkit.report.figure import Figure
from repairkit.report.tables import costs, filter_tables, method
from repairkit.result import Result

REPORT_IMAGES = (
    "Every share is measured on test images, which had no part in attribution or selection. Every share stands with its interval."
)
NEVER_LEFT_OUT = "A repair moves errors as well as removing them. This section is never left out."
NOTHING_WORSE = "No regression was measured: no paired difference of a repair carries the status ▼ worse. This does not prove that nothing got worse. The intervals say how much could hide."
PAIRED = "Both columns are judged on the same images. A claim needs an interval that excludes zero. For a single group it needs an adjusted p value as well."
NOT_COMPARED = "There are no paired differences, because there was nothing to compare."
FROZEN = "A frozen filter outputs one constant, whatever the image. A filter may be frozen only if its value was measured by switching it off and on."
NO_METHOD = "The run recorded nothing about its method."
NONE_FROZEN = "No filter was frozen: the network is unchanged."


def columns(result: Result) -> Definitions:
    """The compared columns and what they are."""
    return Definitions([(column.label, column.explanation) for column in result.columns])


def worse_section(
    result: Result, *more: Part, title: str = "Regressions", lead: str = NEVER_LEFT_OUT, otherwise: str = NOTHING_WORSE
) -> Section:
    """Regressions, never left out; `otherwise` stands where the verdict lists nothing, and `more` comes after it."""
    listed = Bullets(result.verdict.worse, worse=True) if result.verdict.worse else otherwise
    return Section("worse", title, blocks(lead, listed, *more))


def differences_section(found: Sequence[Table], lead: str = PAIRED, otherwise: str = NOT_COMPARED) -> Section:
    """The tables of paired differences."""
    return Section("differences", "Paired differences", blocks(lead if found else otherwise, *found))


def filters_section(result: Result, *more: Part, lead: str = FROZEN) -> Section:
    """The frozen filters."""
    return Section("filters", "Filters changed", blocks(lead if result.frozen else NONE_FROZEN, *filter_tables(result), *more))


def closing_sections(
    result: Result,
    figures: Sequence[Figure],
    *more: Part,
    title: str = "Method and cost",
    otherwise: str = NO_METHOD,
) -> list[Section]:
    """Method and cost, with `more` between them; figures; limits."""
    said = method(result)
    how = Bullets(said) if said else otherwise
    cost = costs(result) if result.costs else "No cost was recorded."
    limits = Bullets(result.limits) if result.limits else "No limits were recorded, which is not the same as having none."
    return [
        Section("method", title, blocks(how, *more, cost)),
        Section("figures", "Figures", figures),
        Section("limits", "Limits", blocks(limits)),
    ]
