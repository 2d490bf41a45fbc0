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


def live_range_sentence(engine: str, min_live: Sequence[float], truncation: float | None) -> str:
    """Over which coalitions values are averages.

    Example:
        >>> live_range_sentence("tmab", [0.9], None)
        'Live range: coalitions keep at least about a share of 0.9 of the filters live. A share of 0 gives the Shapley value itself.'
    """
    if engine == "tmab":
        shares = " and ".join(f"{share:g}" for share in min_live)
        return f"Live range: coalitions keep at least about a share of {shares} of the filters live. A share of 0 gives the Shapley value itself."
    return f"Permutations are truncated below an objective value of {truncation:g}." if truncation else "Permutations are not truncated."


def precision_sentence(precision: str, also: str = "", exact: str = "") -> list[str]:
    """Which numbers are of lower precision; `also` and `exact` name more on either side."""
    if precision == "float32":
        return []
    return [
        f"Passes of the attribution{also} ran in {precision}. Constants{exact} and every number on test images were measured in float32."
    ]


def memory_sentence(reduced_batch: int | None, batch: int, attribution: str = "the attribution") -> list[str]:
    """That memory ran out, where it did."""
    if reduced_batch is None:
        return []
    return [f"Memory ran out in {attribution}. Its passes then carried {reduced_batch} images in place of {batch}."]


def overlap_sentence(training_images: int, network: str = "network") -> str:
    """What is known of an overlap of the images with those that a network was trained on."""
    if not training_images:
        return f"The training images of the {network} were not at hand, so an overlap with them was not checked."
    return (
        f"The images share no file and no decoded image with the {training_images:,} training images of the {network}, as far as recorded."
    )


def half_width_sentence(guarantee: float | None, filters: str = "all filters") -> str:
    """What half-widths of values hold for."""
    if guarantee is not None:
        return f"Half-widths of values hold for {filters} at once, given the attribution images."
    return "Half-widths of values hold for one filter at a time, given the attribution images. The most extreme of many estimates are biased outwards."
