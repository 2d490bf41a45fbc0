"""Train the two networks that ship with repairkit: `python -m tools.train_examples FOLDER`; `make stand-ins` calls it."""

from __future__ import annotations

import argparse
from pathlib import Path

from repairkit.cli.console import Reporter
from repairkit.cli.messages import say
from repairkit.cli.train import Telling
from repairkit.models.training import train_stand_ins


def main() -> None:
    """Train into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with Reporter("training steps").running() as reporter:
        for name, file in train_stand_ins(given.folder, threads=given.threads, progress=Telling(reporter)).items():
            say(f"{name}: {file}")


if __name__ == "__main__":
    main()
