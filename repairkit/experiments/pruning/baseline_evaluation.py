"""How much each order prunes under one guard: the rows and sentences of a pruning that was compared with baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from repairkit.baselines.evaluation import against
from repairkit.evaluation.metrics import Metric, claim_of
from repairkit.evaluation.statistics import simultaneous
from repairkit.experiments.pruning.baseline_search import Rival
from repairkit.experiments.pruning.result import Contest, Footprint, PrunedBy
from repairkit.result import Verdict


def contest(
    own: Rival, rivals: Sequence[Rival], before: npt.NDArray[np.bool_], original: Footprint, metric: Metric, level: float = 0.95
) -> Contest:
    """Rows of all orders, and what they say.

    Args:
        own: the pruning by Shapley values.
        rivals: those by baselines, at least one.
        before: shape (N,), who is right on the report images with nothing frozen.
        original: what the network costs as it is.
        metric: accuracy.
        level: of all intervals; claims hold for all rivals together, as in `repairkit.baselines.evaluation`.
    """
    ours, unchanged = own.right.astype(np.float64), before.astype(np.float64)

    def row(each: Rival) -> PrunedBy:
        right = each.right.astype(np.float64)
        change = metric.change(unchanged, right, level=level)
        entry = PrunedBy(
            name=each.name,
            frozen=each.frozen,
            removed=each.removed,
            parameters=each.parameters,
            flops=each.flops,
            n=metric.n,
            before=float(unchanged.mean()),
            **metric.interval(right, level=level)._asdict(),
            change=change.value,
            change_low=change.low,
            change_high=change.high,
        )
        if each is own:
            return entry
        lead, strict = (metric.lead(ours, right, level=at) for at in (level, simultaneous(level, len(rivals))))
        return entry.model_copy(update={"lead": lead.value, "lead_low": lead.low, "lead_high": lead.high, "claim": claim_of(strict)})

    orders = [row(each) for each in (own, *rivals)]
    return Contest(sentences=sentences(orders, original, level), orders=orders)


def gains(each: PrunedBy, own: PrunedBy) -> list[str]:
    """In what an order prunes more than that of the Shapley values; parameters and operations only go where filters are taken out."""
    pairs = {
        "filters": (own.frozen, each.frozen),
        "parameters": (each.parameters, own.parameters),
        "operations": (each.flops, own.flops),
    }
    return [name for name, (fewer, more) in pairs.items() if fewer < more]


def sentences(orders: Sequence[PrunedBy], original: Footprint, level: float) -> list[str]:
    """Which orders prune more than that of the Shapley values, in whatever measure, first of all; then the others, and who keeps more accuracy.

    Example:
        >>> def pruned(name, frozen):
        ...     return PrunedBy(name=name, frozen=frozen, removed=0, parameters=9, flops=9, n=100, before=1, value=1, low=1, high=1,
        ...         change=0, change_low=0, change_high=0)
        >>> sentences([pruned("Shapley values", 20), pruned("weight norm", 40)], Footprint(column="original", parameters=9, flops=9), 0.95)[0]
        'At the same guard 1 of 1 other orders prunes more than that of the Shapley values (20 filters frozen): weight norm (40 filters frozen).'
    """
    own, *rivals = orders
    cut = any(each.removed for each in orders)

    def amount(each: PrunedBy) -> str:
        frozen = f"{each.frozen:,} filter{'' if each.frozen == 1 else 's'} frozen"
        less = [
            f"{100 * (1 - after / before):.1f} % fewer {what}"
            for what, after, before in (("parameters", each.parameters, original.parameters), ("operations", each.flops, original.flops))
        ]
        return ", ".join([frozen, *less]) if cut else frozen

    def told(each: PrunedBy) -> str:
        more, less = gains(each, own), gains(own, each)
        return f"{each.name} ({amount(each)}{f'; ahead in {_and(more)}, behind in {_and(less)}' if more and less else ''})"

    more = [each for each in rivals if gains(each, own)]
    less = [each for each in rivals if gains(own, each) and each not in more]
    equal = [each for each in rivals if each not in more and each not in less]
    ours = f"that of the Shapley values ({amount(own)})"
    who = f"{len(more)} of {len(rivals)} other orders prune{'s' if len(more) == 1 else ''}" if more else "no other order prunes"
    leads = [(each.name, each.lead, each.lead_low, each.lead_high, each.claim) for each in rivals]
    kept = against(leads, own.n, level)
    return [
        f"At the same guard {who} more than {ours}{': ' if more else ''}{', '.join(map(told, more))}.",
        *(
            f"{much} is pruned by {', '.join(each.name for each in some)}."
            for much, some in (("Just as much", equal), ("Less", less))
            if some
        ),
        *(
            [f"In accuracy on the report images, each order pruned as far as the guard let it, that of the Shapley values {kept}."]
            if kept
            else []
        ),
        "How much an order prunes was found once, on the images that choose, and has no interval.",
    ]


def _and(names: Sequence[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def confessed(verdict: Verdict, contest: Contest) -> Verdict:
    """The verdict, saying first where another order prunes more at the same guard."""
    own, *rivals = contest.orders
    names = [each.name for each in rivals if gains(each, own)]
    if not names:
        return verdict
    said = f"; at the same guard {len(names)} of {len(rivals)} other orders prune{'s' if len(names) == 1 else ''} more filters, parameters or operations: {', '.join(names)}."
    return verdict.model_copy(
        update={"headline": verdict.headline.removesuffix(".") + said, "sentences": [contest.sentences[0], *verdict.sentences]}
    )
