"""A fairness repair small enough for a test: a few drawn faces at 48 px and the shipped stand-in network, spoilt.

The stand-in was trained at 96 px; at 48 px it still gets five in six faces right, unequally over the groups.
One filter with loud random weights (`CULPRIT`) costs it twenty points; frozen, it gives most of them back.
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from repairkit.data import synthetic_faces as drawn
from repairkit.data.images import LabelledImages
from repairkit.experiments.fairness.evaluation import Findings
from repairkit.experiments.fairness.report import FairnessResult
from repairkit.experiments.fairness.result import summarise
from repairkit.experiments.fairness.run import Task, repair
from repairkit.models import zoo
from repairkit.network.weights import write_weights
from repairkit.run.context import Run
from repairkit.run.options import Options

SIZE = 48
STAND_IN = zoo.STAND_IN_DIRECTORY / "squeezenet1_0_drawn_faces.safetensors"
DROPOUT_STAND_IN = zoo.STAND_IN_DIRECTORY / "squeezenet1_0_drawn_faces_dropout.safetensors"
CULPRIT = ("features.10.expand3x3", 33)
LOUD = 40.0
SMALL = {"budget": 1600, "top": 4, "candidates": 8, "max_filters": 3, "curve": (1, 2), "max_clean_drop": 1.0}
"""Options of a run of a second or two."""


def shrunk(images: LabelledImages, **changes: object) -> LabelledImages:
    pixels = np.stack([np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for image in images.pixels])
    return replace(images, pixels=pixels, hashes=np.empty(0, dtype=np.str_), **changes)


@cache
def target(per_group: int = 16, seed: int = 3) -> LabelledImages:
    return shrunk(drawn.target_faces(per_group=per_group, seed=seed), name="tiny target")


@cache
def source(n: int = 60, seed: int = 3) -> LabelledImages:
    faces = drawn.source_faces(n=n, seed=seed)
    return shrunk(faces, name="tiny source", groups=np.array(["women", "men"])[faces.labels])


@cache
def spoilt_weights() -> Path:
    """The stand-in's weights with the culprit in them, as a file that loads by itself."""
    network = zoo.load(STAND_IN).classifier.network
    layer, channel = CULPRIT
    weight = network.get_submodule(layer).weight
    noise = torch.randn(weight[channel].shape, generator=torch.Generator().manual_seed(0))
    weight[channel] = LOUD * weight.std() * (noise - noise.mean())
    network.get_submodule(layer).bias[channel] = 0
    file = Path(tempfile.mkdtemp()) / "spoilt.safetensors"
    write_weights(
        network, file, architecture="squeezenet1_0", classes=("female", "male"), trained_on="drawn faces, then spoilt", half=False
    )
    return file


def state_of(file: Path) -> dict[str, torch.Tensor]:
    return {key: tensor.float() for key, tensor in load_file(file).items()}


def task(*, dropout: bool = False) -> Task:
    return Task(zoo.load(spoilt_weights()), zoo.load(DROPOUT_STAND_IN) if dropout else None, target(), source())


def options(**changes: object) -> Options:
    return Options(**(SMALL | changes))


@cache
def small_run(*, dropout: bool = False, **changes: object) -> tuple[Task, Options, Findings, FairnessResult]:
    """One run, made once for all tests of a session; changes are fields of `Options`."""
    work, chosen = task(dropout=dropout), options(**changes)
    findings = repair(work, Run.start(chosen))
    result = summarise(work, chosen, findings, title="Tiny", command="repairkit fairness", minutes=0.1, notices=["drawn"])
    return work, chosen, findings, result


def write_manifest(folder: Path, images: LabelledImages, name: str) -> Path:
    """The images as PNG files and a CSV manifest that lists them, with class names as labels."""
    (folder / name).mkdir(parents=True)
    file = folder / f"{name}.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "group"])
        for number, (pixels, label, group) in enumerate(zip(images.pixels, images.labels, images.groups, strict=True)):
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")
            writer.writerow([f"{name}/{number:03d}.png", images.classes[label], group])
    return file
