"""From findings to the result: how alike attack success and accuracy rank filters, in numbers and words."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from repairkit.data.images import data_hash
from repairkit.evaluation.metrics import rank_correlation
from repairkit.experiments.attack_task import AttackOptions, AttackTask
from repairkit.experiments.base import Origin
from repairkit.experiments.correlation.report import CorrelationExtra, CorrelationResult, SharedTop
from repairkit.experiments.correlation.run import CorrelationFindings
from repairkit.experiments.records import COLUMNS, cost_records, describe_images, make_reproduction
from repairkit.result import Column, Correlation, Verdict
from repairkit.run.options import Options
from repairkit.shapley.game import Floats

BOTH, SUCCESS, ACCURACY = "attack success and accuracy", "attack success with itself, valued again", "accuracy with itself, valued again"
TOPS = (25, 50, 100, 200)
TENTHS = 10
PAPER = 0.3
LIMITS = [
    "The values are first-order estimates from gradients, not flips: a filter that matters only where the score is flat is missed.",
    "Filters are no random sample of anything: intervals say how far the correlation of so many filters would scatter if they were.",
    "Both values are conditional on these images, which also set the constants; nothing was chosen or repaired, so no images were held out.",
]


def summarise(
    task: AttackTask, options: Options, attacks: AttackOptions, findings: CorrelationFindings, origin: Origin
) -> CorrelationResult:
    """The result of a run; all arithmetic of the report happens here."""
    made, hits = findings.made, int(findings.made.hit.sum())
    extra = CorrelationExtra(
        images=describe_images(task.images),
        attack=f"{attacks.method.in_words}, on {len(made):,} of the images; {hits:,} reach the target",
        players=findings.screens.shape[1],
        correlations=(entries := correlations(findings.screens, options.level) if findings.fooled else []),
        corrected=without_noise(entries),
        tops=shared_tops(findings.screens) if findings.fooled else [],
        cells=cells(findings.screens) if findings.fooled else [],
    )
    return CorrelationResult(
        kind="correlation",
        title=origin.title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=origin.notices,
        level=options.level,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective="targeted attack success, and accuracy",
        verdict=verdict(extra, level=options.level, hits=hits, attacked=len(made)),
        columns=[Column(key="original", label=COLUMNS["original"][0], explanation=COLUMNS["original"][1])],
        method=method(options, findings),
        costs=cost_records(findings.passes, findings.seconds),
        limits=LIMITS,
        reproduction=make_reproduction(
            options,
            command=origin.command,
            minutes=origin.minutes,
            hashes={"model": task.model.sha256, "images": data_hash(task.images), "adversarial images": data_hash(made.images)},
            settings={f"attack {name}": str(value) for name, value in attacks.method.record().items()},
        ),
        extra=extra,
    )


def means(screens: Floats) -> Floats:
    """Attack success and accuracy, means over both times, shape (2, n); screens have shape (4, n), see `CorrelationFindings`."""
    averaged: Floats = screens.reshape(2, 2, -1).mean(axis=0)
    return averaged


def correlations(screens: Floats, level: float) -> list[Correlation]:
    """Of the two values (means over both times), then of each value with itself; those that are defined."""
    pairs = ((BOTH, means(screens)), (SUCCESS, screens[[0, 2]]), (ACCURACY, screens[[1, 3]]))
    return [entry for name, pair in pairs if (entry := rank_correlation(pair, level, name)) is not None]


def without_noise(entries: Sequence[Correlation]) -> float | None:
    """The first correlation without the noise of the values: Spearman's (1904) correction for attenuation.

    Each value's mean over both times repeats better than once, by the Spearman-Brown formula 2 r / (1 + r). The formulas are exact for
    linear correlation; for ranks they are an approximation. None where a value does not repeat above zero.

    Example:
        >>> entries = [Correlation(of=name, n=9, value=value, low=0.1, high=1) for name, value in ((BOTH, 0.3), (SUCCESS, 0.5), (ACCURACY, 0.8))]
        >>> round(without_noise(entries), 3)
        0.39
    """
    by_name = {entry.of: entry for entry in entries}
    if set(by_name) != {BOTH, SUCCESS, ACCURACY} or min(by_name[name].low for name in (SUCCESS, ACCURACY)) <= 0:
        return None
    repeats = [2 * by_name[name].value / (1 + by_name[name].value) for name in (SUCCESS, ACCURACY)]
    return min(max(by_name[BOTH].value / math.sqrt(math.prod(repeats)), -1.0), 1.0)


def shared_tops(screens: Floats) -> list[SharedTop]:
    """How many of the highest filters by either value are the same, and how many would be by chance."""
    first, second = np.argsort(-means(screens), axis=1, kind="stable")
    n = len(first)
    return [SharedTop(k=k, shared=len(np.intersect1d(first[:k], second[:k])), chance=k * k / n) for k in TOPS if k <= n // 2]


def cells(screens: Floats) -> list[list[int]]:
    """How many filters lie in each tenth of the ranking by accuracy (rows, lowest first) and by attack success (columns)."""
    ranks = stats.rankdata(means(screens), method="ordinal", axis=1) - 1
    success, accuracy = np.minimum(ranks * TENTHS // screens.shape[1], TENTHS - 1).astype(int)
    counts = np.zeros((TENTHS, TENTHS), dtype=int)
    np.add.at(counts, (accuracy, success), 1)
    return [list(map(int, row)) for row in counts]


def verdict(extra: CorrelationExtra, *, level: float, hits: int, attacked: int) -> Verdict:
    """The conclusion in words."""
    first = next((entry for entry in extra.correlations if entry.of == BOTH), None)
    if first is None:
        return Verdict(
            outcome="cannot be fooled" if not extra.correlations and hits < attacked / 2 else "no claim",
            headline=f"No correlation was measured: the attack reaches its target on {hits:,} of {attacked:,} images.",
            sentences=["Attack success has no value to find filters by where the attack fails to begin with."],
            worse=[],
        )
    finding = "no rank correlation can be shown" if first.low <= 0 <= first.high else f"the rank correlation is {first.value:.2f}"
    sentences = [
        "The values do not repeat well enough to say what it would be without noise."
        if extra.corrected is None
        else f"Corrected for noise it is about {extra.corrected:.2f}.",
        *(
            f"Of the {top.k} highest filters by either value {top.shared} are the same, {top.chance:.1f} expected by chance."
            for top in extra.tops[-1:]
        ),
        f"The paper reports {PAPER:g}, of Shapley values of Inception-v3 on ImageNet.",
    ]
    span = f"{level:.0%} interval {first.low:.2f} to {first.high:.2f} as if its {first.n:,} filters were drawn at random"
    return Verdict(outcome="measured", headline=f"Attack success and accuracy: {finding} ({span}).", sentences=sentences, worse=[])


def method(options: Options, findings: CorrelationFindings) -> list[str]:
    """How the filters were valued, a sentence each."""
    unmoved = int((findings.screens == 0).all(axis=0).sum())
    sentences = [
        f"Players: {findings.screens.shape[1]:,} filters of all convolutions but the classifier's; a frozen filter sends on its mean "
        f"{'after' if options.freeze_at == 'post' else 'before'} the ReLU over the clean images.",
        f"Every filter was valued four times by gradients at random coalitions, {options.budget / 4:,.0f} image passes each with random numbers of its own: "
        "twice for attack success, twice for accuracy. What is compared are the means of both times; each value with itself says how much is noise.",
        f"Live range: least live share = {findings.t0:g}: coalitions keep at least about that share of the filters live (0 is the Shapley value itself).",
    ]
    if unmoved:
        sentences.append(
            f"{unmoved:,} filters whose values are all exactly 0 are no part of the rank correlations; shares of the first filters are of all players."
        )
    return sentences
