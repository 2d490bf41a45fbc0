"""`repairkit train`: train a classifier, with or without filter dropout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from repairkit.cli.console import Reporter
from repairkit.cli.messages import say
from repairkit.cli.options import check_device, resume_command, set_threads
from repairkit.cli.settings import TrainSettings
from repairkit.data import celeba, digits, loaders
from repairkit.data import folders as imagenet
from repairkit.data import synthetic_faces as drawn
from repairkit.data.images import LabelledImages
from repairkit.data.training_hashes import record_path, write_record
from repairkit.errors import UsageError
from repairkit.models import early_stopping, zoo
from repairkit.models.early_stopping import Epoch
from repairkit.models.training import train as fit
from repairkit.models.training_checkpoint import TrainingCheckpoint
from repairkit.models.training_loop import TrainingSettings
from repairkit.run.store import check_resumable, place_beside

MANY_GROUPS = 6
"""With more of them an epoch's line leaves their recalls to train.json."""


def train(settings: TrainSettings) -> None:
    """Train a classifier."""
    arch, data, out, resume, seed = settings.arch, settings.data, settings.out, settings.resume, settings.seed
    filter_dropout, patience, validation_share = settings.filter_dropout, settings.patience, settings.validation_share
    if out is None:
        raise UsageError("give --out: a .safetensors file, or squeezenet_celeba to keep the weights where that name finds them")
    place = out
    if str(out) in zoo.CELEBA:
        place = zoo.cached_weights(str(out))
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
    check_device(settings.device)
    threads = settings.threads or checkpoint.setting("threads")
    set_threads(threads)
    images = training_images(
        data, settings.data_root, arch=arch, parts=settings.subsets, per_class=settings.max_per_class, size=settings.size, seed=seed
    )
    learned, validation = images, None
    if patience is not None:
        share = early_stopping.SHARE if validation_share is None else validation_share
        learned, validation = early_stopping.hold_out(images, share, seed=seed)
    with Reporter("training steps").running() as reporter, told(checkpoint, place):
        plan = TrainingSettings(
            architecture=arch,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            filter_dropout=filter_dropout,
            flip=data != "digits" if settings.flip is None else settings.flip,
            seed=seed,
            patience=patience,
        )
        trained = fit(
            learned,
            plan,
            init=settings.init,
            validation=validation,
            checkpoint=checkpoint,
            threads=threads,
            device=settings.device,
            progress=Telling(reporter),
        )
        write_record(place, images, init=settings.init)  # the held out ones, too: they chose the epoch
        trained.write(place)
        checkpoint.remove()
    if patience is not None:
        say(f"kept epoch {trained.kept_epoch}: {trained.ended}")
    say(f"weights: {place}; settings and history: {place.with_suffix('.train.json')}; hashes of the images: {record_path(place)}")


def training_images(
    data: str, root: Path | None, *, arch: str, parts: Sequence[str] | None, per_class: int | None, size: int | None, seed: int
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
    given |= {} if folder else {"--subsets": parts, "--max-per-class": per_class}
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
