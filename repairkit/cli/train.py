"""`repairkit train`: train a classifier, with or without filter dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from repairkit.cli.console import Reporter, say
from repairkit.cli.fairness import CELEBA
from repairkit.cli.options import DeviceOption, SeedOption, check_device, set_threads
from repairkit.data import celeba, drawn, loaders
from repairkit.data.record import record_path, write_record
from repairkit.errors import UsageError
from repairkit.files import cache_directory
from repairkit.models import zoo
from repairkit.models.training import Epoch, train_stand_ins
from repairkit.models.training import train as fit


def train(
    context: typer.Context,
    *,
    arch: Annotated[str, typer.Option(help="A classifier of torchvision.")] = "squeezenet1_0",
    data: Annotated[str, typer.Option(help="Training images: drawn, celeba, ppb, utkface, or a .csv/.parquet manifest.")] = "drawn",
    data_root: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Side of the images in pixels; drawn faces have 96. [default: 96]")] = None,
    init: Annotated[Path | None, typer.Option(help="Weights to start from; another head is replaced.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    learning_rate: Annotated[float, typer.Option(min=0)] = 5e-4,
    filter_dropout: Annotated[
        float, typer.Option(min=0, max=0.99, help="Probability of dropping a filter; start such a training from --init.")
    ] = 0.0,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPU threads; by default the cores that other work leaves free by the load average, at least 1 (1 for --stand-ins)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Weights file (.safetensors), or a name such as squeezenet_celeba to keep it in the cache.")
    ] = None,
    stand_ins: Annotated[
        Path | None,
        typer.Option(
            help="Train the two networks that ship with repairkit into this folder, and nothing else; takes only --threads beside it."
        ),
    ] = None,
) -> None:
    """Train a classifier; writes weights and train.json."""
    if stand_ins is not None:
        if besides := given_options(context) - {"stand_ins", "threads"}:
            option = f"--{min(besides).replace('_', '-')}"
            raise UsageError(f"--stand-ins trains with settings of its own and takes only --threads beside it, got {option}; leave it out")
        with Reporter("training steps").running() as reporter:
            for name, file in train_stand_ins(stand_ins, threads=threads or 1, progress=Telling(reporter)).items():
                say(f"{name}: {file}")
        return
    if out is None:
        raise UsageError("give --out: a .safetensors file, or squeezenet_celeba to keep the weights where that name finds them")
    place = out
    if str(out) in CELEBA:
        place = cache_directory() / "models" / f"{out}.safetensors"
        if arch != zoo.ARCHITECTURE or data != "celeba":
            raise UsageError(
                f"{out} names a {zoo.ARCHITECTURE} trained on CelebA, got --arch {arch} --data {data}; "
                "give --data celeba, or an --out that ends in .safetensors and use that file as the model"
            )
        plain, rival = CELEBA
        if (str(out) == rival) != (filter_dropout > 0):
            raise UsageError(
                f"{rival} names weights trained with filter dropout and {plain} those trained without, "
                f"got --out {out} --filter-dropout {filter_dropout:g}; change one of them"
            )
    if place.suffix != ".safetensors":
        raise UsageError(f"expected an --out that ends in .safetensors, or one of {', '.join(CELEBA)}, got {out}")
    if place.exists():
        raise UsageError(f"{place} already exists; give another --out or remove it")
    check_device(device)
    set_threads(threads)
    if data == "drawn":
        loaders.check_drawn(size=size)
        images = drawn.training_faces(seed=seed)
    elif data == "celeba" and data_root is not None:
        images = celeba.load(data_root, split="train", size=size or drawn.SIZE)
    else:
        images = loaders.load(data, root=data_root, size=size or drawn.SIZE)
    with Reporter("training steps").running() as reporter:
        trained = fit(
            images,
            architecture=arch,
            init=init,
            epochs=epochs,
            learning_rate=learning_rate,
            filter_dropout=filter_dropout,
            seed=seed,
            threads=threads,
            device=device,
            progress=Telling(reporter),
        )
    trained.write(place)
    write_record(place, images, init=init)
    say(f"weights: {place}; settings and history: {place.with_suffix('.train.json')}; hashes of the images: {record_path(place)}")


def given_options(context: typer.Context) -> set[str]:
    """Names of the parameters that do not stand at their default."""
    return {name for name in context.params if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"}


class Telling:
    """Progress of a training: a step is `Reporter`'s pass, an epoch is a line."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def __call__(self, step: int, steps: int, epoch: Epoch | None) -> None:
        """Tell of a step or, where there is one, of a finished epoch."""
        if epoch is None:
            self._reporter("training", step, steps)
        else:
            recalls = ", ".join(f"{group} {recall:.3f}" for group, recall in epoch.recalls.items())
            say(
                f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, training accuracy {epoch.training_accuracy:.3f}{'; ' + recalls if recalls else ''}"
            )
