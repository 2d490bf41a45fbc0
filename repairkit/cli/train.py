"""`repairkit train`: train a classifier, with or without filter dropout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from repairkit.cli import flags
from repairkit.cli.console import Reporter, say
from repairkit.cli.options import check_device, parse_parts, resume_command, set_threads
from repairkit.data import celeba, digits, loaders
from repairkit.data import folders as imagenet
from repairkit.data import synthetic_faces as drawn
from repairkit.data.images import LabelledImages
from repairkit.data.training_hashes import record_path, write_record
from repairkit.errors import UsageError
from repairkit.models import early_stopping, zoo
from repairkit.models.early_stopping import Epoch
from repairkit.models.training import train as fit
from repairkit.models.training import train_stand_ins
from repairkit.models.training_checkpoint import TrainingCheckpoint
from repairkit.run.store import check_resumable, place_beside

MANY_GROUPS = 6
"""With more of them an epoch's line leaves their recalls to train.json."""


def train(
    context: typer.Context,
    *,
    arch: Annotated[str, typer.Option(help="A classifier of torchvision.")] = "squeezenet1_0",
    data: Annotated[
        str,
        typer.Option(
            help="Training images: drawn, celeba, ppb, utkface, a .csv/.parquet manifest, digits, "
            "or a FOLDER with one folder for each class or an annotation file."
        ),
    ] = "drawn",
    data_root: Annotated[Path | None, typer.Option(help="Folder of the images, for faces and manifests.")] = None,
    parts: Annotated[
        str | None, typer.Option(help="Folders in the FOLDER of --data to pool, by commas. [default: train, where there is one]")
    ] = None,
    per_class: Annotated[int | None, typer.Option(min=1, help="Load at most so many images of each class of the FOLDER.")] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=16,
            help="Side of the images in pixels; drawn faces have 96. [default: 96; 75 for digits, the network's usual one for a FOLDER]",
        ),
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Weights to start from; another head is replaced.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images; with --patience the most.")] = 10,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Hold images out, keep the weights of the epoch of highest accuracy on them, and end after so many epochs in a row without a higher one.",
        ),
    ] = None,
    validation_share: Annotated[
        float | None, typer.Option(help=f"Share of the images that --patience holds out. [default: {early_stopping.SHARE:g}]")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Images of a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=0)] = 5e-4,
    filter_dropout: Annotated[
        float, typer.Option(min=0, max=0.99, help="Probability of dropping a filter; start such a training from --init.")
    ] = 0.0,
    flip: Annotated[bool | None, typer.Option(help="Mirror half of the images. [default: mirror all but digits]")] = None,
    seed: flags.Seed = 0,
    device: flags.Device = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPU threads; by default the cores that other work leaves free by the load average, at least 1 (1 for --stand-ins)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Weights file (.safetensors), or a name such as squeezenet_celeba to keep it in the cache.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training of this --out that did not finish; give the same options.")
    ] = False,
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
    if str(out) in zoo.CELEBA:
        place = zoo.kept_at(str(out))
        if arch != zoo.ARCHITECTURE or data != "celeba":
            raise UsageError(
                f"{out} names a {zoo.ARCHITECTURE} trained on CelebA, got --arch {arch} --data {data}; "
                "give --data celeba, or an --out that ends in .safetensors and use that file as the model"
            )
        plain, rival = zoo.CELEBA
        if (str(out) == rival) != (filter_dropout > 0):
            raise UsageError(
                f"{rival} names weights trained with filter dropout and {plain} those trained without, "
                f"got --out {out} --filter-dropout {filter_dropout:g}; change one of them"
            )
    if place.suffix != ".safetensors":
        raise UsageError(f"expected an --out that ends in .safetensors, or one of {', '.join(zoo.CELEBA)}, got {out}")
    if validation_share is not None and patience is None:
        raise UsageError(f"--validation-share is what --patience holds out, got {validation_share:g} without it; give both or neither")
    checkpoint = TrainingCheckpoint(place_beside(place))
    if place.exists() and not (resume and checkpoint.path.exists()):  # both are there where it was killed between writing and removing
        raise UsageError(f"{place} already exists; give another --out or remove it")
    check_resumable(place, resume=resume)
    check_device(device)
    threads = threads or checkpoint.setting("threads")
    set_threads(threads)
    images = training_images(data, data_root, arch=arch, parts=parse_parts(parts), per_class=per_class, size=size, seed=seed)
    learned, validation = images, None
    if patience is not None:
        share = early_stopping.SHARE if validation_share is None else validation_share
        learned, validation = early_stopping.hold_out(images, share, seed=seed)
    with Reporter("training steps").running() as reporter, told(checkpoint, place):
        trained = fit(
            learned,
            architecture=arch,
            init=init,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            filter_dropout=filter_dropout,
            flip=data != "digits" if flip is None else flip,
            seed=seed,
            validation=validation,
            patience=patience,
            checkpoint=checkpoint,
            threads=threads,
            device=device,
            progress=Telling(reporter),
        )
        write_record(place, images, init=init)  # the held out ones, too: they chose the epoch
        trained.write(place)
        checkpoint.remove()
    if patience is not None:
        say(f"kept epoch {trained.kept_epoch}: {trained.ended}")
    say(f"weights: {place}; settings and history: {place.with_suffix('.train.json')}; hashes of the images: {record_path(place)}")


def training_images(
    data: str, root: Path | None, *, arch: str, parts: list[str] | None, per_class: int | None, size: int | None, seed: int
) -> LabelledImages:
    """The images by the name of their data set, or those of a folder.

    Raises:
        UsageError: options that this data does not take.
        DataError, ModelError: as the loaders.
    """
    known = (*loaders.NAMES, "digits")
    if data not in known and not Path(data).is_dir() and Path(data).suffix.lower() not in loaders.MANIFESTS:
        raise UsageError(
            f"expected {', '.join(known)}, a .csv or .parquet manifest or a FOLDER of images as --data, and found no folder {data!r}"
        )
    folder = Path(data) if data not in known and Path(data).is_dir() else None
    given: dict[str, object] = {"--data-root": root if folder or data == "digits" else None}
    given |= {} if folder else {"--parts": parts, "--per-class": per_class}
    if unfit := [name for name, value in given.items() if value is not None]:
        raise UsageError(f"{unfit[0]} does not go with --data {data}; leave it out")
    if folder:
        usual = ["train"] if (folder / "train").is_dir() else None
        side, name = size or zoo.preset_size(arch), folder.absolute().name
        return imagenet.load(folder, size=side, parts=parts or usual, per_class=per_class, name=name)
    if data == "digits":
        return digits.training_digits(size=size or digits.SIZE)
    if data == "drawn":
        loaders.check_drawn(size=size)
        return drawn.training_faces(seed=seed)
    if data == "celeba" and root is not None:
        return celeba.load(root, split="train", size=size or drawn.SIZE)
    return loaders.load(data, root=root, size=size or drawn.SIZE)


@contextmanager
def told(checkpoint: TrainingCheckpoint, place: Path) -> Iterator[None]:
    """An interrupt or a full disk carries the command that goes on, where an epoch was kept."""
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        if checkpoint.path.exists():
            error.add_note(f"the epochs so far are kept; to go on: {resume_command(sys.argv[1:], place, out_given=True)}")
        raise


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
            parts = [f"loss {epoch.loss:.4f}", f"training accuracy {epoch.training_accuracy:.3f}"]
            if epoch.validation_accuracy is not None:
                parts.append(f"validation accuracy {epoch.validation_accuracy:.3f}")
            if len(epoch.recalls) <= MANY_GROUPS:
                parts += [f"{group} {recall:.3f}" for group, recall in epoch.recalls.items()]
            say(f"epoch {epoch.epoch}: {', '.join(parts)}")
