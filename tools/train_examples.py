"""Train the two networks that ship with repairkit: `python -m tools.train_examples FOLDER`; `make stand-ins` calls it."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from repairkit.cli.console import Reporter
from repairkit.cli.messages import log, shown_messages
from repairkit.cli.train import EpochPrinter
from repairkit.data.synthetic_faces import target_faces, training_faces
from repairkit.models import zoo
from repairkit.models.training import train
from repairkit.models.training_loop import TrainingProgress, TrainingSettings


def train_stand_ins(directory: Path, *, threads: int | None = 1, progress: TrainingProgress | None = None) -> dict[str, Path]:
    """Train both networks on synthetic faces, about 20 minutes on one core; the weights file of each name in `zoo.STAND_INS`.

    The plain network learns at 64 pixels first and ends at 96. The dropout network starts from it, and p rises to 0.5 only at the end: held
    there for three epochs it lost 18 points of source accuracy.
    """
    paths = {name: directory / f"{stem}.safetensors" for name, stem in zoo.STAND_INS.items()}
    plain_path, dropout_path = paths["squeezenet_celeba"], paths["squeezenet_celeba_dropout"]
    faces, validation = training_faces(), target_faces(per_group=100, seed=7)
    run = partial(train, faces, validation=validation, progress=progress, threads=threads)
    small = run(TrainingSettings(size=64, epochs=3, learning_rate=6e-4, seed=0))
    plain = run(TrainingSettings(epochs=1, learning_rate=2e-4, seed=1), init=small.network.state_dict())
    plain.write(plain_path, before=(small,))
    settings = TrainingSettings(epochs=3, learning_rate=4e-4, filter_dropout=0.5, ramp=1.0, seed=2)
    run(settings, init=plain_path).write(dropout_path)
    return paths


def main() -> None:
    """Train into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with shown_messages(), Reporter("training steps").running() as reporter:
        for name, file in train_stand_ins(given.folder, threads=given.threads, progress=EpochPrinter(reporter)).items():
            log.info(f"{name}: {file}")


if __name__ == "__main__":
    main()
