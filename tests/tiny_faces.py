"""A fairness repair small enough for a test: a few drawn faces at 48 px and the shipped stand-in network.

The stand-in was trained at 96 px; at 48 px it still gets four in five faces right, unequally over the groups.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from repairkit.data import drawn
from repairkit.data.images import LabelledImages
from repairkit.fairness import Findings, Options, Task, repair
from repairkit.models import zoo
from repairkit.report.result import Result
from repairkit.summary import summarise

SIZE = 48
SMALL = {"budget": 700, "top": 4, "candidates": 6, "max_filters": 2, "curve": (1, 2), "max_clean_drop": 1.0}
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


def task(*, dropout: bool = False) -> Task:
    rival = zoo.load("squeezenet_celeba_dropout") if dropout else None
    return Task(zoo.load("squeezenet_celeba"), rival, target(), source())


def options(**changes: object) -> Options:
    return Options(**(SMALL | changes))


@cache
def small_run(*, dropout: bool = False, **changes: object) -> tuple[Task, Options, Findings, Result]:
    """One run, made once for all tests of a session; changes are fields of `Options`."""
    work, chosen = task(dropout=dropout), options(**changes)
    findings = repair(work, chosen)
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
