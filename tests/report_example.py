"""A realistic and clearly fictitious result, with every column, for tests of the report."""

import math

import numpy as np
from results import changed

from repairkit.experiments.fairness.report import CurvePoint, Disparity, FairnessExtra, FairnessResult
from repairkit.result import Alternative, Column, Cost, Difference, FrozenFilter, Histogram, Reproduction, Share, Verdict

SIZES = {"lighter men": 186, "lighter women": 142, "darker men": 158, "darker women": 136}
COLUMNS = {
    "original": ("Original", "The network as it was handed in."),
    "repaired": ("Repaired", "The same architecture with the chosen filters frozen at their mean."),
    "threshold": (
        "Threshold moved",
        "The original network with its decision threshold moved and no filter frozen; needs the same labelled images.",
    ),
    "dropout": ("Dropout-trained", "A network trained from scratch with filter dropout 0.5; needs the training data."),
    "dropout_repaired": ("Dropout-trained, repaired", "The dropout-trained network, repaired in the same way."),
}
CORRECT = {
    "original": (183, 111, 152, 73),
    "repaired": (181, 122, 139, 110),
    "threshold": (164, 127, 142, 104),
    "dropout": (182, 114, 150, 82),
    "dropout_repaired": (180, 121, 149, 112),
}
SOURCE = {"original": 564, "repaired": 559, "threshold": 550, "dropout": 561, "dropout_repaired": 558}
SOURCE_SIZE = 600
PAIRS = [
    ("original", "repaired"),
    ("threshold", "repaired"),
    ("original", "threshold"),
    ("original", "dropout"),
    ("dropout", "dropout_repaired"),
]


def wilson(value: float, n: int, z: float = 1.96) -> tuple[float, float]:
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _recalls(column: str) -> list[float]:
    return [correct / n for correct, n in zip(CORRECT[column], SIZES.values(), strict=True)]


def _aggregates(column: str) -> dict[str, tuple[float, int, float]]:
    recalls = _recalls(column)
    total = sum(SIZES.values())
    return {
        "mean recall": (float(np.mean(recalls)), total, 0.016),
        "lowest recall": (min(recalls), list(SIZES.values())[int(np.argmin(recalls))], 0.041),
        "source accuracy": (SOURCE[column] / SOURCE_SIZE, SOURCE_SIZE, 0.010),
    }


def _shares() -> list[Share]:
    shares = []
    for column in COLUMNS:
        for (group, n), value in zip(SIZES.items(), _recalls(column), strict=True):
            low, high = wilson(value, n)
            shares.append(Share(metric="recall", group=group, column=column, n=n, value=value, low=low, high=high))
        for metric, (value, n, error) in _aggregates(column).items():
            shares.append(
                Share(metric=metric, group=None, column=column, n=n, value=value, low=value - 1.96 * error, high=value + 1.96 * error)
            )
    return shares


def _differences(first: str, second: str) -> list[Difference]:
    entries = []
    for (group, n), before, after in zip(SIZES.items(), _recalls(first), _recalls(second), strict=True):
        value, error = after - before, 0.021 + abs(after - before) / 9
        p = math.erfc(abs(value) / error / math.sqrt(2))
        adjusted = min(1.0, 4 * p)
        claim = "no claim" if adjusted >= 0.05 else "better" if value > 0 else "worse"
        entries.append(
            Difference(
                metric="recall", group=group, first=first, second=second, n=n, value=value, low=value - 1.96 * error,
                high=value + 1.96 * error, p_value=p, p_adjusted=adjusted, claim=claim,
            )
        )  # fmt: skip
    for metric, (before, n, error) in _aggregates(first).items():
        value, half = _aggregates(second)[metric][0] - before, 1.4 * error
        low, high = value - half, value + half
        claim = "better" if low > 0 else "worse" if high < 0 else "no claim"
        entries.append(Difference(metric=metric, group=None, first=first, second=second, n=n, value=value, low=low, high=high, claim=claim))
    return entries


def _frozen() -> list[FrozenFilter]:
    rows = []
    for fold in range(1, 6):
        for layer, channel, value in (
            ("features.9.expand3x3", 41, -0.0143),
            ("features.12.squeeze", 7, -0.0098),
            ("features.10.expand1x1", 160 + fold % 2, -0.0061),
        ):
            wobble = 0.0004 * (fold - 3)
            rows.append(
                FrozenFilter(
                    fold=fold, column="repaired", layer=layer, channel=channel, constant=0.183 + 0.004 * fold,
                    value=value + wobble, half_width=0.0021, screen=value * 0.8,
                )
            )  # fmt: skip
        rows.append(
            FrozenFilter(
                fold=fold, column="dropout_repaired", layer="features.12.expand3x3", channel=12, constant=0.051,
                value=-0.0089, half_width=0.0019, screen=-0.0066,
            )
        )  # fmt: skip
    return rows


def _point(column: str) -> tuple[float, float]:
    aggregates = _aggregates(column)
    return aggregates["mean recall"][0], aggregates["source accuracy"][0]


def _curves() -> list[CurvePoint]:
    """Curves through the columns' own points: the repair at three filters, the threshold at its fifth step."""
    (recall, source), (repaired, after), (moved, lost) = map(_point, ("original", "repaired", "threshold"))
    points = []
    for k in range(13):
        gain = (1 - math.exp(-k / 1.2)) / (1 - math.exp(-3 / 1.2)) - max(0, k - 3) ** 2 / 80
        drop = k * (k + 3) / 18
        points.append(
            CurvePoint(
                series="repaired", filters=k, mean_recall=recall + (repaired - recall) * gain,
                source_accuracy=source + (after - source) * drop, chosen=k == 3,
            )
        )  # fmt: skip
        slow = recall + 0.055 * (1 - math.exp(-k / 4))
        points.append(CurvePoint(series="most negative first", filters=k, mean_recall=slow, source_accuracy=source - 0.0065 * k))
    for k in range(7):
        value = recall + (moved - recall) * k * (11 - k) / 30
        points.append(
            CurvePoint(
                series="threshold", filters=0, mean_recall=value, source_accuracy=source + (lost - source) * k * k / 25, chosen=k == 5
            )
        )
    return points


def _histogram() -> Histogram:
    random = np.random.default_rng(7)
    values = np.concatenate([random.laplace(0.0002, 0.0007, 2900), random.normal(0.003, 0.004, 76), [-0.0143, -0.0098, -0.0061]])
    counts, edges = np.histogram(values, bins=44)
    return Histogram(
        title="Screened values of 2,979 filters", edges=edges.tolist(), counts=counts.tolist(), culprits=[-0.0143, -0.0098, -0.0061]
    )


def example_result() -> FairnessResult:
    """The whole example: five folds, five columns, four groups, one group that got worse."""
    recalls = {column: dict(zip(SIZES, _recalls(column), strict=True)) for column in COLUMNS}
    before, after = (float(np.mean(_recalls(column))) for column in ("original", "repaired"))
    return FairnessResult(
        kind="fairness",
        title="Fairness repair of an invented face classifier",
        created="2031-04-01",
        notices=[
            "These numbers are invented to show what a report looks like. The faces are drawn by a program; no person is in the data."
        ],
        folds=5,
        model="example_net (invented, 2,976 filters)",
        objective="mean subgroup recall + source accuracy",
        verdict=Verdict(
            outcome="repaired",
            headline=f"Freezing three filters raises mean recall from {before:.1%} to {after:.1%}, and costs darker men.",
            sentences=[
                "Darker women gain most: their recall rises "
                f"from {recalls['original']['darker women']:.1%} to {recalls['repaired']['darker women']:.1%}.",
                "On source data nothing is measurably lost.",
            ],
            worse=[f"Darker men: recall falls from {recalls['original']['darker men']:.1%} to {recalls['repaired']['darker men']:.1%}."],
        ),
        columns=[Column(key=key, label=label, explanation=explanation) for key, (label, explanation) in COLUMNS.items()],
        groups=list(SIZES),
        shares=_shares(),
        differences=[entry for pair in PAIRS for entry in _differences(*pair)],
        frozen=_frozen(),
        histograms=[_histogram()],
        method=[
            "Engine tmab: a gradient screen of all 2,976 filters, then exact flips of the 40 lowest and of an audit sample of 60.",
            "Coalition sizes were drawn from 85% to 100% of the filters; below that the network answers the same for every image.",
            "Filters were chosen by forward selection on mean probability of the correct class, on images of their own.",
        ],
        costs=[
            Cost(part="screen", passes=11520, seconds=41.3),
            Cost(part="flips", passes=25600, seconds=88.0),
            Cost(part="choosing", passes=48200, seconds=63.9),
            Cost(part="evaluation", passes=6110, seconds=9.4),
        ],
        limits=[
            "The intervals cover chance in the report images, not a change of camera, place or time.",
            "Four groups were given; a group that nobody named is not looked after.",
            "Gender is reduced to two labels here because the model knows no more.",
        ],
        reproduction=Reproduction(
            command="repairkit fairness --model example_net --folds 5 \\\n  --budget 40000 --seed 0",
            seed=0,
            versions={"repairkit": "0.1.0", "python": "3.11.9", "torch": "2.8.0", "fairlearn": "0.12.0"},
            hashes={"model": "9f2b6c01d4e87a35", "target data": "03ab77e1c96d2f48", "source data": "5c1d90be7734fa02"},
            machine="an invented machine with two cores, no accelerator",
            minutes=3.4,
            settings={"engine": "tmab", "budget": "40,000 image passes", "top": "40", "max-filters": "16", "max-clean-drop": "1 point"},
        ),
        extra=FairnessExtra(
            target="Drawn faces, balanced over four groups (622 images)",
            source="Drawn faces, mostly lighter (600 images)",
            disparities=[
                Disparity(
                    column=column,
                    difference=max(by.values()) - min(by.values()),
                    ratio=min(by.values()) / max(by.values()),
                    lowest_group=min(by, key=by.__getitem__),
                )
                for column, by in recalls.items()
            ],
            curves=_curves(),
        ),
    )


def with_alternatives() -> FairnessResult:
    """The example with a table of what one could do instead: one that beats the repair, and one that could not be had."""
    full = example_result()
    shares = [
        share.model_copy(update={"column": "last_layer", "value": 0.995, "high": 1.0})
        for share in full.shares
        if share.column == "repaired"
    ]
    lost = [
        entry.model_copy(update={"first": "last_layer", "value": -0.05, "low": -0.08, "high": -0.02, "claim": "worse"})
        for entry in full.differences
        if (entry.first, entry.second) == ("threshold", "repaired")
    ]

    def row(column: str, label: str, **more: object) -> Alternative:
        facts = {"minutes": 1.25, "passes": 100.0, "images": 1234, "changes_weights": True, "group_at_run_time": False} | more
        return Alternative(column=column, label=label, explanation=f"What {label} is.", **facts)  # type: ignore[arg-type]

    rows = [
        row("original", "Original", minutes=None, passes=None, images=None, changes_weights=False),
        row("repaired", "Repaired"),
        row("group_thresholds", "By group", minutes=None, images=None, changes_weights=False, group_at_run_time=True, left_out="no group"),
        row("last_layer", "Last layer", chosen="penalty 0.1"),
        row("dropout", "Dropout-trained", minutes=None, images=None, training_data=True),
    ]
    return changed(full, {"alternatives": rows, "shares": [*full.shares, *shares], "differences": [*full.differences, *lost]})
