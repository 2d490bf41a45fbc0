"""What the results of several kinds of experiments are made of."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np
import torch

from repairkit.data.images import LabelledImages
from repairkit.evaluation.splits import Split
from repairkit.models.zoo import LoadedModel
from repairkit.network.filters import FilterId
from repairkit.network.patch import finite_or_none
from repairkit.result import Comparison, Cost, Extreme, Guaranteed, Histogram, Reproduction, ValuedFilter
from repairkit.run.options import Options
from repairkit.shapley import Attribution
from repairkit.shapley.guarantee import End, TopKClaims

PACKAGES = ("repairkit", "torch", "torchvision", "numpy", "scipy", "fairlearn")
BESIDE_THE_POINT = ("seed", "folds", "level", "out", "resume", "dry_run", "as_json", "workers", "memory")
"""Settings that stand elsewhere in a result, or that say where and how a run works."""
COLUMNS = {
    "original": ("Original", "The network as it was given."),
    "repaired": ("Repaired", "The same architecture and weights with the culprit filters frozen at their mean; needs nothing at run time."),
    "threshold": (
        "Threshold moved",
        "No filter is touched; one threshold for everybody is chosen on the same choose images under the same guard.",
    ),
    "dropout": ("Dropout-trained", "Another network of the same architecture, trained with filter dropout; needs the training data."),
    "dropout_repaired": ("Dropout-trained and repaired", "The dropout-trained network after the same repair."),
}
SCORES = {
    "smooth": "with the mean {smooth} in place of the share of correct images (values are in that unit)",
    "hard": "by the share of correct images (the paper's score)",
}


def make_reproduction(
    options: Options,
    *,
    command: str,
    minutes: float,
    hashes: Mapping[str, str],
    settings: Mapping[str, str],
    training: Mapping[str, str] | None = None,
) -> Reproduction:
    """Command, versions, machine and settings of this run; `settings` add to and correct those of the options."""
    return Reproduction(
        command=command,
        seed=options.seed,
        versions={name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        hashes=dict(hashes),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, device {options.device}",
        minutes=round(minutes, 2),
        settings={name: str(value) for name, value in vars(options).items() if name not in BESIDE_THE_POINT}
        | dict(settings)
        | {"threads": str(torch.get_num_threads())}
        | dict(training or {}),
    )


def cost_records(passes: Mapping[str, float], seconds: Mapping[str, float]) -> list[Cost]:
    """Image passes and seconds by part of the run."""
    return [Cost(part=part, passes=passes.get(part, 0.0), seconds=duration) for part, duration in seconds.items()]


def image_counts(split: Split) -> dict[str, int]:
    """How many images each part of a split has."""
    return {part: len(rows) for part, rows in vars(split).items()}


def describe_images(images: LabelledImages) -> str:
    """Name and size of a set of images."""
    return f"{images.name}, {len(images):,} images of {len(np.unique(images.labels)):,} classes"


def dropout_explanation(model: LoadedModel) -> str:
    """What a dropout-trained network is, with its dropout as its train.json says."""
    p = model.stages[-1].settings.filter_dropout if model.stages else None
    known = " (p unknown)" if p is None else f" (p = {p:g} at the end of training)"
    return COLUMNS["dropout"][1].replace("filter dropout", f"filter dropout{known}")


def value_histogram(attributions: Sequence[Attribution], culprits: Sequence[float]) -> Histogram:
    """Estimated values of all filters that have one, over all attributions, and those of the culprits."""
    values = np.concatenate([each.value for each in attributions])
    counts, edges = np.histogram(values[~np.isnan(values)], bins=30)
    return Histogram(
        title="Estimated values of the filters that were flipped", edges=edges.tolist(), counts=counts.tolist(), culprits=sorted(culprits)
    )


def guarantees_of(attribution: Attribution, column: str, fold: int, number: int = 1) -> list[Guaranteed]:
    """What an attribution claims; nothing where it was not asked to. Folds and rounds count from 1, and fold 0 stands for no folds."""
    found = attribution.guarantee
    if found is None:
        return []
    ends: dict[End, TopKClaims] = {"low": found.low, "high": found.high}
    return [
        Guaranteed(
            fold=fold,
            round=number,
            column=column,
            delta=found.delta,
            tolerance=found.tolerance,
            top=found.top_k,
            filters=found.players,
            valued=found.candidates + found.audited,
            separated={end: len(shown.separated) for end, shown in ends.items()},
            certified={end: len(shown.certified) for end, shown in ends.items()},
            missed={end: shown.audit.count for end, shown in ends.items() if shown.audit},
            decided=found.stopped == "decided",
        )
    ]


def top_filters(found: Attribution, end: End, most: int | None = None) -> Extreme:
    """The filters at one end of the values, as many as were sought or `most` of them."""
    players = [int(player) for player in found.extremes()[end][:most]]
    return Extreme(
        end=end,
        heading=found.heading(end, len(players)),
        filters=[
            ValuedFilter(
                layer=(name := FilterId.parse(found.ids[player])).layer,
                channel=name.channel,
                value=float(found.value[player]),
                half_width=finite_or_none(found.half_width[player]),
                screen=finite_or_none(found.screen[player]),
                price=float(found.price[player]) if len(found.price) else None,
                samples=int(found.samples[player]),
                status=found.status(player, end),
            )
            for player in players
        ],
    )


def by_column(column: str, comparison: Comparison | None) -> dict[str, Comparison]:
    """The comparison of one column; empty where there is none."""
    return {} if comparison is None else {column: comparison}
