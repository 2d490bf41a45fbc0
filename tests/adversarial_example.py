"""Realistic and clearly fictitious results of adversarial repairs, for tests of the report."""

import math

import numpy as np
from report_example import wilson
from results import changed

from repairkit.experiments.adversarial.report import (
    AdversarialExtra,
    AdversarialResult,
    Adversary,
    FrontierPoint,
    RankCorrelation,
    Strength,
    SweepPoint,
)
from repairkit.result import Column, Cost, Difference, FrozenFilter, Histogram, Reproduction, Share, Verdict

COLUMNS = {
    "original": ("Original", "The network as it was handed in."),
    "repaired": ("Repaired", "The same architecture with the culprit filters frozen at their mean."),
    "finetuned": ("Fine-tuned alone", "The original network, trained for one more epoch with no filter frozen."),
    "dropout": ("Dropout-trained", "A network trained from scratch with filter dropout; needs the training data."),
}
PAIRS = [("original", "repaired"), ("finetuned", "repaired"), ("original", "finetuned"), ("original", "dropout")]
# key: kind, title, description, n, then for each column how many images gave the target (None for who wants no class) and the label
ADVERSARIES = {
    "noise": ("noise", "Random noise", "uniform noise within eps 16/255: no adversary, for comparison", 200,
              ((0, 154), (1, 150), (0, 155), (0, 149))),
    "replay": ("replay", "Stored PGD images", "PGD, L-infinity, eps 16/255, 30 steps, targeted, made once against the unmodified network", 320,
               ((320, 0), (90, 179), (204, 71), (64, 190))),
    "mi": ("replay", "Stored MI-FGSM images", "MI-FGSM, eps 16/255, 10 steps, targeted, made once against the unmodified network", 200,
           ((121, 30), (38, 107), (70, 72), (20, 111))),
    "elsewhere": ("replay", "Stored PGD images of drawn digits", "PGD, made against the unmodified network on images of another data set", 120,
                  ((118, 2), (61, 33), (90, 14), (30, 50))),
    "fgsm": ("transfer", "FGSM from ResNet-18", "FGSM, eps 16/255, 1 step, targeted, made against ResNet-18", 200,
             ((9, 94), (8, 96), (9, 95), (7, 99))),
    "square": ("black box", "Square", "eps 16/255, 500 queries, sees logits and no gradient, wants the label lost", 64,
               ((None, 7), (None, 9), (None, 7), (None, 11))),
    "pgd": ("adaptive", "PGD afresh", "PGD, eps 16/255, 30 steps, 2 starts, knows the network", 64,
            ((64, 0), (64, 0), (64, 0), (61, 1))),
    "apgd": ("adaptive", "APGD-T afresh", "eps 16/255, 30 steps, aims at the likeliest wrong class, wants the label lost", 64,
             ((None, 0), (None, 0), (None, 0), (None, 2))),
    "worst": ("worst", "Worst of Square, PGD afresh, APGD-T afresh", "for each image the adversary who does best", 64,
              ((None, 0), (None, 0), (None, 0), (None, 1))),
}  # fmt: skip
CLEAN = (412, 406, 415, 398)
CLEAN_SIZE = 528
EPS = [2.0**power / 255 for power in range(-4, 5)]
SWEEP = {
    "original": (9, 24, 45, 60, 64, 64, 64, 64, 64),
    "repaired": (4, 15, 33, 55, 63, 64, 64, 64, 64),
    "finetuned": (8, 23, 44, 60, 64, 64, 64, 64, 64),
    "dropout": (1, 5, 14, 35, 52, 60, 61, 61, 61),
}
FROZEN = [("Conv2d_1a_3x3.conv", 7), ("Conv2d_1a_3x3.conv", 21), ("Conv2d_2a_3x3.conv", 4), ("Conv2d_2a_3x3.conv", 30),
          ("Conv2d_2b_3x3.conv", 12), ("Conv2d_2b_3x3.conv", 40), ("Conv2d_2b_3x3.conv", 61)]  # fmt: skip


def _share(metric: str, group: str | None, column: str, count: int, n: int) -> Share:
    low, high = wilson(count / n, n)
    return Share(metric=metric, group=group, column=column, n=n, value=count / n, low=low, high=high)


def _shares() -> list[Share]:
    shares = []
    for index, column in enumerate(COLUMNS):
        shares.append(_share("clean accuracy", None, column, CLEAN[index], CLEAN_SIZE))
        for key, (_, _, _, n, counts) in ADVERSARIES.items():
            hit, right = counts[index]
            if hit is not None:
                shares.append(_share("target success", key, column, hit, n))
            shares.append(_share("recovered label", key, column, right, n))
    return shares


def _differences(shares: list[Share]) -> list[Difference]:
    found = {(share.metric, share.group, share.column): share for share in shares}
    entries = []
    for first, second in PAIRS:
        for metric, group in dict.fromkeys((share.metric, share.group) for share in shares):
            before, after = found[metric, group, first], found[metric, group, second]
            value, error = after.value - before.value, 0.6 * (before.high - before.low) / 2 + abs(after.value - before.value) / 12
            p = math.erfc(abs(value) / error) if value else 1.0
            adjusted = min(1.0, 9 * p)
            good = value < 0 if metric == "target success" else value > 0
            claim = "no claim" if abs(value) <= error or (group and adjusted >= 0.05) else "better" if good else "worse"
            entries.append(
                Difference(
                    metric=metric, group=group, first=first, second=second, n=after.n, value=value, low=value - error, high=value + error,
                    p_value=p if group else None, p_adjusted=adjusted if group else None, claim=claim,
                )
            )  # fmt: skip
    return entries


def _frontier() -> list[FrontierPoint]:
    success = {
        "order of choosing": (1.0, 0.93, 0.84, 0.52, 0.28125, 0.25, 0.22),
        "highest value first": (1.0, 0.98, 0.94, 0.80, 0.55, 0.31, 0.18, 0.12, 0.12),
    }
    clean = {
        "order of choosing": (0.78, 0.78, 0.775, 0.772, 0.769, 0.755, 0.73),
        "highest value first": (0.78, 0.77, 0.765, 0.74, 0.70, 0.61, 0.48, 0.37, 0.34),
    }
    counts = {"order of choosing": (0, 1, 2, 5, 7, 10, 16), "highest value first": (0, 1, 2, 5, 7, 10, 20, 50, 64)}
    points = []
    for series, numbers in counts.items():
        for filters, hit, right in zip(numbers, success[series], clean[series], strict=True):
            (low, high), (low_clean, high_clean) = wilson(hit, 320), wilson(right, CLEAN_SIZE)
            points.append(
                FrontierPoint(
                    series=series, filters=filters, n=320, success=hit, success_low=low, success_high=high, n_clean=CLEAN_SIZE, clean=right,
                    clean_low=low_clean, clean_high=high_clean, chosen=(series, filters) == ("order of choosing", 7),
                )
            )  # fmt: skip
    return points


def _sweep() -> list[SweepPoint]:
    points = []
    for column, counts in SWEEP.items():
        for eps, hit in zip(EPS, counts, strict=True):
            low, high = wilson(hit / 64, 64)
            points.append(SweepPoint(column=column, eps=eps, n=64, success=hit / 64, low=low, high=high))
    return points


def _strengths() -> list[Strength]:
    compared = {"original": (None, None, None), "repaired": (24, 3, 4.9e-5), "finetuned": (3, 1, 0.625), "dropout": (51, 0, 8.9e-16)}
    flags = {"dropout": ["an attack without bound gets 14 of 16 images, and should get all", "the gradient vanishes at 2 of 16 images"]}
    return [
        Strength(
            column=column, n=64, median_eps=next((eps for eps, hit in zip(EPS, SWEEP[column], strict=True) if hit >= 32), None),
            gained=gained, lost=lost, p_value=p, checked=16, flags=flags.get(column, []),
        )
        for column, (gained, lost, p) in compared.items()
    ]  # fmt: skip


def _histogram(culprits: list[float]) -> Histogram:
    random = np.random.default_rng(3)
    values = np.concatenate([random.laplace(-0.0001, 0.0004, 17000), random.normal(0.001, 0.002, 209), culprits])
    counts, edges = np.histogram(values, bins=44)
    return Histogram(title="Values of 17,216 filters", edges=edges.tolist(), counts=counts.tolist(), culprits=culprits)


def adversarial_result() -> AdversarialResult:
    """The whole example: four networks, nine adversaries, help against stored images and none against those who know the repair."""
    values = [0.031, 0.024, 0.022, 0.019, 0.015, 0.012, 0.011]
    shares = _shares()
    return AdversarialResult(kind="adversarial", title="Adversarial repair of an invented Inception", created="2031-04-01", notices=["These numbers are invented to show what a report looks like."], model="example_inception (invented, 17,216 filters)", objective="target success on the stored adversarial images minus clean accuracy", verdict=Verdict(
            outcome="repaired against stored images",
            headline="Freezing 7 filters takes target success of stored images from 100.0 % to 28.1 %; an adversary who attacks the repaired network "
            "afresh is not held off.",
            sentences=["Worst of the attacks run afresh: the label survives on none of 64 images, before and after."],
            worse=["Clean accuracy fell by 1.1 percentage points, an amount that may be chance (n = 528)."],
        ), columns=[Column(key=key, label=label, explanation=explanation) for key, (label, explanation) in COLUMNS.items()], groups=list(ADVERSARIES), shares=shares, differences=_differences(shares), frozen=[
            FrozenFilter(fold=0, column="repaired", layer=layer, channel=channel, constant=0.2, value=value, half_width=0.004, screen=value * 0.8)
            for (layer, channel), value in zip(FROZEN, values, strict=True)
        ], histograms=[_histogram(values)], method=["Engine tmab: a gradient screen of all 17,216 filters, then exact flips of the 120 highest."], costs=[Cost(part="attack", passes=115200, seconds=611.0), Cost(part="evaluation", passes=402000, seconds=2411.5)], limits=["Only changes bounded in L-infinity were tried: nothing is said about patches or rotations."], reproduction=Reproduction(
            command="repairkit adversarial --model example_inception",
            seed=0,
            versions={"repairkit": "0.1.0", "torchattacks": "3.5.1"},
            hashes={"model": "9f2b6c01d4e87a35", "images": "03ab77e1c96d2f48"},
            machine="an invented machine with two cores",
            minutes=51.2,
            settings={"attack eps": "0.0627", "max-filters": "16", "max_clean_drop": "0.03"},
        ), extra=AdversarialExtra(images="invented images, 1,600 of 20 classes", parts={
            "attribute": "640 clean images, 480 of them attacked",
            "choose": "432 clean images, 320 of them attacked",
            "report": "528 clean images, 320 of them attacked",
        }, attack="PGD, L-infinity, eps 16/255, 30 steps of 0.8/255, a random start, targets drawn once and never the label", adversaries=[
            Adversary(
                key=key, kind=kind, title=title, description=description, targeted=counts[0][0] is not None, n=n, passes=n * len(COLUMNS) * 91
            )
            for key, (kind, title, description, n, counts) in ADVERSARIES.items()
        ], frontier=_frontier(), sweep=_sweep(), strengths=_strengths(), correlation=RankCorrelation(of="attack-success and accuracy values", n=3086, value=0.251, low=0.22, high=0.281)))  # fmt: skip


def _of(full: AdversarialResult, columns: set[str]) -> dict[str, object]:
    """What the result says of these columns alone."""
    return {
        "columns": [column for column in full.columns if column.key in columns],
        "shares": [share for share in full.shares if share.column in columns],
        "differences": [entry for entry in full.differences if {entry.first, entry.second} <= columns],
        "sweep": [point for point in full.extra.sweep if point.column in columns],
        "strengths": [entry for entry in full.extra.strengths if entry.column in columns],
    }


def adversarial_cases() -> dict[str, AdversarialResult]:
    """The example, and what else a run may leave behind."""
    full = adversarial_result()
    two = changed(full, _of(full, {"original", "repaired"}))
    none = changed(full, _of(full, {"original"})
        | {
            "frozen": [], "frontier": [point.model_copy(update={"chosen": False}) for point in full.extra.frontier],
            "verdict": Verdict(outcome="no repair", headline="No filter was worth freezing: the network is unchanged.", sentences=[], worse=[]),
        }
    )  # fmt: skip
    weak = {"noise", "replay"}
    success = {"noise": 0, "replay": 9}
    unfooled = changed(none, {
            "verdict": Verdict(
                outcome="cannot be fooled", headline="The attack does not fool this network to begin with.", sentences=["Nothing was frozen."],
                worse=[],
            ),
            "groups": ["noise", "replay"], "adversaries": [entry for entry in full.extra.adversaries if entry.key in weak],
            "shares": [
                _share(share.metric, share.group, "original", success[str(share.group)], share.n) if share.metric == "target success" else share
                for share in none.shares if share.group in {None, *weak} and (share.metric, share.group) != ("recovered label", "replay")
            ] + [_share("recovered label", "replay", "original", 241, 320)],
            "histograms": [], "method": [], "frontier": [], "sweep": [], "strengths": [], "correlation": None,
        }
    )  # fmt: skip
    bare = changed(unfooled, {"adversaries": [], "shares": [], "groups": [], "columns": [], "costs": [], "limits": [], "notices": []})
    hard = changed(full, {
            "strengths": [entry.model_copy(update={"median_eps": None}) for entry in full.extra.strengths],
            "sweep": [point.model_copy(update={"success": 0.0, "low": 0.0, "high": 0.06}) for point in full.extra.sweep],
            "frontier": full.extra.frontier[:1],
        }
    )  # fmt: skip
    return {
        "adversarial": full,
        "two networks": two,
        "nothing frozen": none,
        "cannot be fooled": unfooled,
        "no adversary": bare,
        "hard to fool": hard,
    }
