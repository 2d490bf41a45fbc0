"""From findings to a result: the words and numbers of a report on whether attacks need the filters that accuracy needs."""

from __future__ import annotations

import datetime
import math

import numpy as np
from scipy import stats

from repairkit.data.images import data_hash
from repairkit.evaluation.metrics import rank_correlation
from repairkit.experiments.attack_task import AttackOptions, AttackTask
from repairkit.experiments.correlation.result import CorrelationExtra, CorrelationResult, SharedTop
from repairkit.experiments.correlation.run import CorrelationFindings
from repairkit.experiments.records import COLUMNS, make_reproduction
from repairkit.result import Column, Correlation, Cost, Verdict
from repairkit.run.options import Options
from repairkit.shapley.game import Floats

BOTH, SUCCESS, ACCURACY = "attack success and accuracy", "attack success with itself, valued again", "accuracy with itself, valued again"
TOPS = (25, 50, 100, 200)
TENTHS = 10
PAPER = 0.3


def summarise(
    task: AttackTask,
    options: Options,
    attacks: AttackOptions,
    findings: CorrelationFindings,
    *,
    title: str,
    command: str,
    minutes: float,
    notices: list[str],
) -> CorrelationResult:
    """The result of a run; all arithmetic of the report happens here."""
    found = correlations(findings.screens, options.level) if findings.fooled else []
    corrected = without_noise(found)
    tops = shared_tops(findings.screens) if findings.fooled else []
    n = findings.screens.shape[1]
    return CorrelationResult(
        kind="correlation",
        title=title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=notices,
        level=options.level,
        model=f"{task.model.architecture}: {task.model.provenance}",
        objective="targeted attack success, and accuracy",
        verdict=verdict(found, corrected, tops, level=options.level, hits=int(findings.made.hit.sum()), attacked=len(findings.made)),
        columns=[Column(key="original", label=COLUMNS["original"][0], explanation=COLUMNS["original"][1])],
        groups=[],
        shares=[],
        differences=[],
        frozen=[],
        histograms=[],
        method=method(options, findings),
        costs=[Cost(part=part, passes=findings.passes.get(part, 0.0), seconds=seconds) for part, seconds in findings.seconds.items()],
        limits=[
            "The values are first-order estimates from gradients, not flips: a filter that matters only where the score is flat is missed.",
            "Filters are no random sample of anything: intervals say how far the correlation of so many filters would scatter if they were.",
            "Both values are conditional on these images, which also set the constants; nothing was chosen or repaired, so no images were held out.",
        ],
        reproduction=make_reproduction(
            options,
            command=command,
            minutes=minutes,
            hashes={"model": task.model.sha256, "images": data_hash(task.images), "adversarial images": data_hash(findings.made.images)},
            settings={f"attack {name}": str(value) for name, value in attacks.method.record().items()},
        ),
        extra=CorrelationExtra(
            images=f"{task.images.name}, {len(task.images):,} images of {len(np.unique(task.images.labels)):,} classes",
            attack=f"{attacks.method.in_words}, on {len(findings.made):,} of the images; {int(findings.made.hit.sum()):,} reach the target",
            players=n,
            correlations=found,
            corrected=corrected,
            tops=tops,
            cells=cells(findings.screens) if findings.fooled else [],
        ),
    )


def correlations(screens: Floats, level: float) -> list[Correlation]:
    """Of both values (means over both times), then of each value with itself; those that are defined. Screens of shape (4, n), see `CorrelationFindings`."""
    both = screens.reshape(2, 2, -1).mean(axis=0)
    pairs = ((BOTH, both), (SUCCESS, screens[[0, 2]]), (ACCURACY, screens[[1, 3]]))
    return [found for name, pair in pairs if (found := rank_correlation(pair, level, name)) is not None]


def without_noise(found: list[Correlation]) -> float | None:
    """The first correlation, as it would be without the noise of the values: Spearman's (1904) correction for attenuation.

    Each value's mean over both times repeats better than once, by the Spearman-Brown formula 2 r / (1 + r). The formulas are exact for
    linear correlation; for ranks they are an approximation. None where a value does not repeat above zero.

    Example:
        >>> made = [Correlation(of=name, n=9, value=value, low=0.1, high=1) for name, value in ((BOTH, 0.3), (SUCCESS, 0.5), (ACCURACY, 0.8))]
        >>> round(without_noise(made), 3)
        0.39
    """
    by_name = {each.of: each for each in found}
    if set(by_name) != {BOTH, SUCCESS, ACCURACY} or min(by_name[name].low for name in (SUCCESS, ACCURACY)) <= 0:
        return None
    repeats = [2 * by_name[name].value / (1 + by_name[name].value) for name in (SUCCESS, ACCURACY)]
    return min(max(by_name[BOTH].value / math.sqrt(math.prod(repeats)), -1.0), 1.0)


def shared_tops(screens: Floats) -> list[SharedTop]:
    """How many of the highest filters by either value are the same, and how many would be by chance."""
    success, accuracy = screens.reshape(2, 2, -1).mean(axis=0)
    n = len(success)

    def highest(values: Floats, k: int) -> set[int]:
        return set(np.argsort(-values, kind="stable")[:k].tolist())

    return [SharedTop(k=k, shared=len(highest(success, k) & highest(accuracy, k)), chance=k * k / n) for k in TOPS if k <= n // 2]


def cells(screens: Floats) -> list[list[int]]:
    """How many filters lie in each tenth of the ranking by accuracy (rows, lowest first) and by attack success (columns)."""
    both = screens.reshape(2, 2, -1).mean(axis=0)
    tenth = [np.minimum((stats.rankdata(row, method="ordinal") - 1) * TENTHS // len(row), TENTHS - 1).astype(int) for row in both]
    counts = np.zeros((TENTHS, TENTHS), dtype=int)
    np.add.at(counts, (tenth[1], tenth[0]), 1)
    return [list(map(int, row)) for row in counts]


def verdict(found: list[Correlation], corrected: float | None, tops: list[SharedTop], *, level: float, hits: int, attacked: int) -> Verdict:
    """The conclusion in words."""
    both = next((each for each in found if each.of == BOTH), None)
    if both is None:
        return Verdict(
            outcome="cannot be fooled" if not found and hits < attacked / 2 else "no claim",
            headline=f"No correlation was measured: the attack reaches its target on {hits:,} of {attacked:,} images.",
            sentences=["Attack success has no value to find filters by where the attack fails to begin with."],
            worse=[],
        )
    sign = "no rank correlation can be shown" if both.low <= 0 <= both.high else f"the rank correlation is {both.value:.2f}"
    sentences = [
        f"Corrected for noise it is about {corrected:.2f}."
        if corrected is not None
        else "The values do not repeat well enough to say what it would be without noise."
    ]
    sentences += [
        f"Of the {top.k} highest filters by either value {top.shared} are the same, {top.chance:.1f} expected by chance."
        for top in tops[-1:]
    ]
    sentences.append(f"The paper reports {PAPER:g}, of Shapley values of Inception-v3 on ImageNet.")
    return Verdict(
        outcome="measured",
        headline=f"Attack success and accuracy: {sign} ({level:.0%} interval {both.low:.2f} to {both.high:.2f} as if its {both.n:,} filters were drawn at random).",
        sentences=sentences,
        worse=[],
    )


def method(options: Options, findings: CorrelationFindings) -> list[str]:
    """How the filters were valued, a sentence each."""
    unmoved = int((findings.screens == 0).all(axis=0).sum())
    return [
        f"Players: {findings.screens.shape[1]:,} filters of all convolutions but the classifier's; a frozen filter sends on its mean "
        f"{'after' if options.freeze_at == 'post' else 'before'} the ReLU over the clean images.",
        f"Every filter was valued four times by gradients at random coalitions, {options.budget / 4:,.0f} image passes each with random numbers of its own: "
        "twice for attack success, twice for accuracy. What is compared are the means of both times; each value with itself says how much is noise.",
        f"Live range: least live share = {findings.t0:g}: coalitions keep at least about that share of the filters live (0 is the Shapley value itself).",
        *(
            [
                f"{unmoved:,} filters whose values are all exactly 0 are no part of the rank correlations; shares of the first filters are of all players."
            ]
            if unmoved
            else []
        ),
    ]
