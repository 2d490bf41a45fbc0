"""Sentences made from records: a change, a lead, an interval. A sentence repeats a decision and makes none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from repairkit.evaluation.metrics import GAP, OTHER_CLASSES, OTHERS, RECALL
from repairkit.report.formatting import listed, signed
from repairkit.report.tables import LOWER_IS_BETTER
from repairkit.result import Difference, Share, Verdict

NAMES = {GAP: "the gap between the highest and the lowest recall", OTHERS: f"the {OTHER_CLASSES}"}
"""What a metric is called in a sentence, where its own name is too short."""


def capitalise(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def format_count(number: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> format_count(1, "filter"), format_count(1270, "image")
        ('1 filter', '1,270 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_range(numbers: Sequence[float]) -> str:
    """The least and the highest of some numbers.

    Example:
        >>> format_range([3, 9, 5]), format_range([0.25, 0.25])
        ('3 to 9', '0.25')
    """
    low, high = (f"{number:,}" if isinstance(number, int) else f"{number:g}" for number in (min(numbers), max(numbers)))
    return low if low == high else f"{low} to {high}"


def count_filters(counts: Sequence[int]) -> str:
    """The numbers of filters at which an ablation curve is measured; its first number is zero.

    Example:
        >>> count_filters((0, 1, 2, 5)), count_filters((0, 1))
        ('1, 2 and 5 filters', '1 filter')
    """
    frozen = tuple(counts[1:] or counts)
    return f"{listed(frozen)} filter{'' if frozen == (1,) else 's'}"


def format_percent(share: float) -> str:
    """A share in percent.

    Example:
        >>> format_percent(0.8141)
        '81.4 %'
    """
    return f"{signed(f'{100 * share:.1f}')} %"


def format_points(share: float) -> str:
    """Percentage points without sign. There are two decimals where one would show a zero.

    Example:
        >>> format_points(-0.047), format_points(0.0001), format_points(0.00001)
        ('4.7', '0.01', 'under 0.01')
    """
    points = abs(100 * share)
    if points == 0 or points >= 0.05:
        return f"{points:.1f}"
    return f"{points:.2f}" if points >= 0.005 else "under 0.01"


def describe_interval(low: float, high: float, level: float, n: int | str) -> str:
    """The interval of a change and its n. The ends have signs only where the interval holds zero.

    Example:
        >>> describe_interval(0.03, 0.063, 0.95, 1270), describe_interval(-0.063, -0.03, 0.95, 1270)
        ('95 % interval 3.0 to 6.3; n = 1,270', '95 % interval 3.0 to 6.3; n = 1,270')
        >>> describe_interval(-0.01, 0.04, 0.95, "90 and 210")
        '95 % interval −1.0 to +4.0; n = 90 and 210'
    """
    start, stop = sorted((low, high), key=abs) if low > 0 or high < 0 else (low, high)
    ends = [format_points(start), format_points(stop)]
    if low <= 0 <= high:
        ends = [f"{'−' if end < 0 else '+' if end > 0 else ''}{text}" for end, text in zip((low, high), ends, strict=True)]
    return f"{100 * level:g} % interval {' to '.join(ends)}; n = {n if isinstance(n, str) else f'{n:,}'}"


def describe_share(share: Share, level: float) -> str:
    """A share with its interval.

    Example:
        >>> describe_share(Share(metric="recall", group="a", column="original", n=90, value=0.5, low=0.4, high=0.6), 0.95)
        '50.0 % (95 % interval 40.0 to 60.0; n = 90)'
    """
    return f"{format_percent(share.value)} ({100 * level:g} % interval {100 * share.low:.1f} to {100 * share.high:.1f}; n = {share.n:,})"


def describe_interval_change(value: float, low: float, high: float, level: float, n: int) -> str:
    """What became of something whose interval alone decides, as the end of a sentence."""
    by = f"{'rose' if value > 0 else 'fell'} by {format_points(value)} points" if value else "did not change"
    chance = "" if low > 0 or high < 0 or not value else ", which may be chance"
    return f"{by}{chance} ({describe_interval(low, high, level, n)})"


def describe_change(entry: Difference, level: float, verbs: tuple[str, str] | None = None) -> str:
    """What became of a metric, as the end of a sentence that claims what the record claims.

    Args:
        entry: the change.
        level: of its interval.
        verbs: for a rise and a fall; "rose" and "fell", or for a gap "widened" and "narrowed".

    Example:
        >>> entry = Difference(metric="mean recall", group=None, first="original", second="repaired", n=1270,
        ...                    value=0.047, low=0.03, high=0.063, claim="better")
        >>> describe_change(entry, 0.95)
        'rose by 4.7 points (95 % interval 3.0 to 6.3; n = 1,270)'
    """
    interval = describe_interval(entry.low, entry.high, level, entry.n)
    if entry.value == 0:
        return f"did not change ({interval})"
    rise, fall = verbs or (("widened", "narrowed") if entry.metric == GAP else ("rose", "fell"))
    doubt = ""
    if entry.claim == "no claim":
        excluded = entry.low > 0 or entry.high < 0
        doubt = f", which is no proof ({_why_unproven(entry)})" if excluded else ", which may be chance"
    return f"{rise if entry.value > 0 else fall} by {format_points(entry.value)} points{doubt} ({interval})"


def _why_unproven(entry: Difference) -> str:
    return "several tests count together" if entry.p_adjusted is None else f"exact test, p = {entry.p_adjusted:.2g}"


def describe_lead(entry: Difference, level: float) -> str:
    """How the second column stands against the first, as the end of a sentence that claims what the record claims.

    Example:
        >>> entry = Difference(metric="accuracy", group=None, first="a", second="b", n=9, value=-0.2, low=-0.3, high=-0.1, claim="worse")
        >>> describe_lead(entry, 0.95)
        'is 20.0 points lower (95 % interval 10.0 to 30.0; n = 9)'
    """
    interval = describe_interval(entry.low, entry.high, level, entry.n)
    if entry.claim == "no claim":
        return f"cannot be told apart ({interval})"
    return f"is {format_points(entry.value)} points {'higher' if entry.value > 0 else 'lower'} ({interval})"


def name_metric(entry: Difference) -> str:
    """What a difference is about.

    Example:
        >>> entry = Difference(metric="recall", group="women", first="a", second="b", n=9, value=0, low=-1, high=1, claim="no claim")
        >>> name_metric(entry)
        'recall of women'
    """
    if entry.group is None:
        return NAMES.get(entry.metric, entry.metric)
    return f"recall of {entry.group}" if entry.metric == RECALL else f"{entry.metric}, {entry.group}"


def state_change(entry: Difference, level: float) -> str:
    """A whole sentence about a change, for instance "Recall of women rose by 9.0 points (95 % interval 4.0 to 13.8; n = 90)."."""
    return f"{capitalise(name_metric(entry))} {describe_change(entry, level)}."


def regressions(differences: Iterable[Difference]) -> list[Difference]:
    """Of some differences those for the worse: the proven first, otherwise in the order given."""
    worse = [entry for entry in differences if (entry.value > 0 if entry.metric in LOWER_IS_BETTER else entry.value < 0)]
    return sorted(worse, key=lambda entry: entry.claim != "worse")


def measurably_worse(differences: Iterable[Difference]) -> list[str]:
    """A sentence with the names of what is worse by claim; none where nothing is. It is the end of a headline."""
    names = [name_metric(entry) for entry in differences if entry.claim == "worse"]
    return [f"Measurably worse: {', '.join(names)}."] if names else []


def unchanged_network(subject: str = "", sentences: Sequence[str] = ()) -> Verdict:
    """The verdict on a repair that froze nothing; `subject` says for what."""
    return Verdict(
        outcome="no repair",
        headline=f"No filter was worth freezing{f' for {subject}' if subject else ''}: the network is unchanged.",
        sentences=["On the selection images no filter was worth its cost. The weights are the original ones.", *sentences],
        worse=[],
    )
