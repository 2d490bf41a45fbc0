"""Images of two skins, and a network that tells the classes of one of them apart and not of the other, though all it needs enters its last layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from repairkit.alternatives.base import Fold
from repairkit.data.images import LabelledImages
from repairkit.evaluation.splits import Split, three_way
from repairkit.models.zoo import LoadedModel
from repairkit.network.classifier import Classifier
from repairkit.network.predict import predict_logits
from repairkit.network.weights import hash_state
from repairkit.run.context import Run
from repairkit.run.ledger import Ledger
from repairkit.run.options import Options
from repairkit.run.store import RunStore

CLASSES = ("female", "male")
PEOPLE = ("women", "men")


def images(per_group: int, *, skins: tuple[str, ...] = ("lighter", "darker"), seed: int = 0, name: str = "target") -> LabelledImages:
    """Lighter men are red, lighter women are not; darker men are green, darker women are not, and all of them are a little red."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"{skin} {people}" for skin in skins for people in PEOPLE], per_group)
    labels = np.array([PEOPLE.index(group.split()[1]) for group in groups])
    darker = np.char.startswith(groups, "darker")
    pixels = rng.integers(20, 60, (len(groups), 4, 4, 3))
    pixels[..., 0] += np.where(darker, 110, 150 * labels)[:, None, None]
    pixels[..., 1] += np.where(darker, 150 * labels, 0)[:, None, None]
    pixels[..., 2] += 100 * darker[:, None, None]
    return LabelledImages(pixels=pixels.astype(np.uint8), labels=labels, groups=groups, classes=CLASSES, name=name)


def network() -> nn.Module:
    """Four filters: red, green, blue and what is both green and blue; the last layer reads red alone, so that all who are darker are men to it."""
    built = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        built[0].weight.copy_(torch.cat([torch.eye(3), torch.tensor([[0.0, 1.0, 1.0]])])[:, :, None, None])
        built[0].bias.copy_(torch.tensor([0.0, 0.0, 0.0, -0.7]))
        built[4].weight.zero_()
        built[4].weight[1, 0] = 20.0
        built[4].bias.copy_(torch.tensor([8.0, 0.0]))
    return built.eval().requires_grad_(requires_grad=False)


def model() -> LoadedModel:
    built = network()
    return LoadedModel(
        classifier=Classifier(built, classes=CLASSES, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval(),
        architecture="toy",
        provenance="made by hand",
        weights=Path("toy.safetensors"),
        sha256=hash_state(built.state_dict()),
        trained_on="nothing",
        stand_in=False,
        assumed_normalisation=False,
        stages=(),
    )


def fold(
    target: LabelledImages,
    source: LabelledImages,
    *,
    classifier: Classifier | None = None,
    kept: RunStore | None = None,
    splits: tuple[Split, Split] | None = None,
    **changes: object,
) -> Fold:
    """The first fold of a run on these images."""
    classifier, options = classifier or model().classifier, Options(**{"max_clean_drop": 0.1, "batch": 64} | changes)
    own = splits or tuple(three_way(each, shares=(0.4, 0.3, 0.3), seed=0) for each in (target, source))
    run = Run.start(options, store=kept)
    asked = replace(run, ledger=Ledger())  # what the network says is paid elsewhere
    with asked.phase("evaluation"):
        logits = [predict_logits(classifier, each, asked) for each in (target, source)]
    return Fold(classifier, target, source, *own, *logits, run, 0)
