"""The images that a recipe leaves out: links to those that `per_class` does not take, for a run on images that no run of it has seen.

    python benchmarks/left_out.py DATA REST

REST is then a data root like DATA for recipes on tiny-imagenet-20 with `per_class = 90` and both parts, such as `fig1_critical_filters`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from repairkit.data import folders as imagenet

FOLDER, PARTS, PER_CLASS = "tiny-imagenet-20", ["train", "val"], 90


def link_rest(data: Path, rest: Path) -> int:
    """Links below `rest` to what the recipe leaves out below `data`, to its classes and to the weights; returns how many images these are."""
    every, taken = (
        imagenet.load(data / FOLDER, size=8, parts=PARTS, per_class=per_class, name=FOLDER).sources for per_class in (None, PER_CLASS)
    )
    left = sorted(set(every) - set(taken))
    for source in left:
        link = rest / FOLDER / source
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((data / FOLDER / source).resolve())
    shutil.copy(data / FOLDER / "classes.tsv", rest / FOLDER)
    if (data / "weights").is_dir():
        (rest / "weights").symlink_to((data / "weights").resolve())
    return len(left)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("rest", type=Path, help="a folder that does not exist yet")
    asked = parser.parse_args()
    if asked.rest.exists():
        parser.error(f"{asked.rest} already exists; give another folder")
    print(f"{link_rest(asked.data, asked.rest):,} images left out")
