"""`repairkit train`: train a classifier, with or without filter dropout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repairkit.cli.console import Reporter
from repairkit.cli.messages import log
from repairkit.cli.processes import check_device, resume_command, set_threads
from repairkit.cli.settings import TrainSettings
from repairkit.data import celeba, digits, folders, loaders, synthetic_faces
from repairkit.data.images import LabelledImages
from repairkit.data.training_hashes import record_path, write_record
from repairkit.errors import UsageError
from repairkit.models import early_stopping, zoo
from repairkit.models.early_stopping import Epoch
from repairkit.models.training import train as fit
from repairkit.models.training_checkpoint import TrainingCheckpoint
from repairkit.models.training_loop import TrainingSettings
from repairkit.run.store import check_resumable, place_beside

MANY_GROUPS = 6  # with more groups, their recalls are in train.json alone


def train(settings: TrainSettings) -> None:
    """Train a classifier."""
    place = _place(settings)
    if settings.validation_share is not None and settings.patience is None:
        raise UsageError(
            f"--validation-share is what --patience holds out, got {settings.validation_share:g} without it; give both or neither"
        )
    checkpoint = TrainingCheckpoint(place_beside(place))
    # a training that was killed between writing the weights and removing the checkpoint leaves both
    if place.exists() and not (settings.resume and checkpoint.path.exists()):
        raise UsageError(f"{place} already exists; give another --out or remove it")
    check_resumable(place, resume=settings.resume)
    check_device(settings.device)
    threads = settings.threads or checkpoint.setting("threads")
    set_threads(threads)
    images = training_images(settings)
    learned, validation = images, None
    if settings.patience is not None:
        share = early_stopping.SHARE if settings.validation_share is None else settings.validation_share
        learned, validation = early_stopping.hold_out(images, share, seed=settings.seed)
    with Reporter("training steps").running() as reporter, _resume_note(checkpoint, place):
        trained = fit(
            learned,
            _training_settings(settings),
            init=settings.init,
            validation=validation,
            checkpoint=checkpoint,
            threads=threads,
            device=settings.device,
            progress=EpochPrinter(reporter),
        )
        write_record(place, images, init=settings.init)  # also the held-out images, which chose the epoch
        trained.write(place)
        checkpoint.remove()
    if settings.patience is not None:
        log.info(f"kept epoch {trained.kept_epoch}: {trained.ended}")
    log.info(f"weights: {place}; settings and history: {place.with_suffix('.train.json')}; hashes of the images: {record_path(place)}")


def _place(settings: TrainSettings) -> Path:
    """The weights file to write; a `UsageError` where the settings contradict a name of ours."""
    out, arch, data, dropout = settings.out, settings.arch, settings.data, settings.filter_dropout
    if out is None:
        raise UsageError("give --out: a .safetensors file, or squeezenet_celeba to keep the weights where that name finds them")
    if str(out) not in zoo.CELEBA:
        if out.suffix != ".safetensors":
            raise UsageError(f"expected an --out that ends in .safetensors, or one of {', '.join(zoo.CELEBA)}, got {out}")
        return out
    if arch != zoo.ARCHITECTURE or data != "celeba":
        raise UsageError(
            f"{out} names a {zoo.ARCHITECTURE} trained on CelebA, got --arch {arch} --data {data}; "
            "give --data celeba, or an --out that ends in .safetensors and use that file as the model"
        )
    plain, with_dropout = zoo.CELEBA
    if (str(out) == with_dropout) != (dropout > 0):
        raise UsageError(
            f"{with_dropout} names weights trained with filter dropout and {plain} those trained without, "
            f"got --out {out} --filter-dropout {dropout:g}; change one of them"
        )
    return zoo.cached_weights(str(out))


def _training_settings(settings: TrainSettings) -> TrainingSettings:
    return TrainingSettings(
        architecture=settings.arch,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        filter_dropout=settings.filter_dropout,
        flip=settings.data != "digits" if settings.flip is None else settings.flip,
        seed=settings.seed,
        patience=settings.patience,
    )


def training_images(settings: TrainSettings) -> LabelledImages:
    """The images of a data set by its name, or of a folder; `UsageError` for options that this data does not take."""
    data, root, size = settings.data, settings.data_root, settings.size
    names = (*loaders.NAMES, "digits")
    is_folder = data not in names and Path(data).is_dir()
    if data not in names and not is_folder and Path(data).suffix.lower() not in loaders.MANIFESTS:
        raise UsageError(
            f"expected {', '.join(names)}, a .csv or .parquet manifest or a FOLDER of images as --data, and found no folder {data!r}"
        )
    unused: dict[str, object] = {"--data-root": root if is_folder or data == "digits" else None}
    unused |= {} if is_folder else {"--subsets": settings.subsets, "--max-per-class": settings.max_per_class}
    if wrong := next((name for name, value in unused.items() if value is not None), None):
        raise UsageError(f"{wrong} does not go with --data {data}; leave it out")
    if is_folder:
        folder = Path(data)
        parts = settings.subsets or (["train"] if (folder / "train").is_dir() else None)
        side, name = size or zoo.preset_size(settings.arch), folder.absolute().name
        return folders.load(folder, size=side, parts=parts, per_class=settings.max_per_class, name=name)
    if data == "digits":
        return digits.training_digits(size=size or digits.SIZE)
    if data == "drawn":
        loaders.check_drawn(size=size)
        return synthetic_faces.training_faces(seed=settings.seed)
    if data == "celeba" and root is not None:
        return celeba.load(root, split="train", size=size or synthetic_faces.SIZE)
    return loaders.load(data, root=root, size=size or synthetic_faces.SIZE)


@contextmanager
def _resume_note(checkpoint: TrainingCheckpoint, place: Path) -> Iterator[None]:
    """Add the command that resumes to an interrupt or a full disk, where an epoch was stored."""
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        if checkpoint.path.exists():
            error.add_note(f"the epochs so far are kept; to go on: {resume_command(sys.argv[1:], place, out_given=True)}")
        raise


@contextmanager
def training_progress() -> Iterator[EpochPrinter]:
    """Progress of trainings that a command may need first."""
    with Reporter("training steps").running() as reporter:
        yield EpochPrinter(reporter)


class EpochPrinter:
    """Progress of a training: a step moves the progress bar, an epoch prints a line."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def __call__(self, step: int, steps: int, epoch: Epoch | None) -> None:
        """Show a step or, where there is one, an epoch."""
        if epoch is None:
            self._reporter("training", step, steps)
        else:
            parts = [f"loss {epoch.loss:.4f}", f"training accuracy {epoch.training_accuracy:.3f}"]
            if epoch.validation_accuracy is not None:
                parts.append(f"validation accuracy {epoch.validation_accuracy:.3f}")
            if len(epoch.recalls) <= MANY_GROUPS:
                parts += [f"{group} {recall:.3f}" for group, recall in epoch.recalls.items()]
            log.info(f"epoch {epoch.epoch}: {', '.join(parts)}")
