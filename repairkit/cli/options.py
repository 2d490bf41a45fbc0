"""Options that several commands share, and what is checked and settled before their work begins."""

from __future__ import annotations

import json
import math
import shlex
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer

from repairkit.cli.console import say
from repairkit.cores import free_cores
from repairkit.data.images import LabelledImages
from repairkit.errors import ModelWarning, UsageError
from repairkit.memory import available, images_that_fit
from repairkit.models.classifier import Classifier
from repairkit.models.zoo import LoadedModel
from repairkit.options import LARGEST_SEED, Options
from repairkit.outputs import outputs
from repairkit.rundir import require_free
from repairkit.shapley.star import TOLERANCE
from repairkit.unfinished import check_resumable, place_beside

ASSUMED_NOTICE = (
    "{file} does not say how images are normalised for its network, so ImageNet's mean and standard deviation were taken; "
    "every number is wrong if it was trained with others: --mean and --std give them."
)
WORKERS_HELP = "Processes that attribute (tmab), each with --threads threads; any number gives the same bits."
THREADS_HELP = "CPU threads of each process; by default the cores that other work leaves free by the load average, at least 1, shared out among --workers."
BATCH_HELP = "Most images of a pass; a GPU is faster with more, such as 256."
MEMORY_HELP = "GiB that a pass may take; it carries fewer images where they do not fit. [default: half of what is free]"
RESUME_HELP = "Go on with the run of this --out that did not finish; give the same options."

ModelOption = Annotated[str, typer.Option(help="A classifier of torchvision, or a weights FILE that repairkit train wrote.")]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Weights for a named model. [default: torchvision's, where torch's cache holds them]")
]
DataRootOption = Annotated[
    Path | None,
    typer.Option(help="Folder of images: one folder for each class, or one with an annotation file. [default: embedded digits]"),
]
PartsOption = Annotated[str | None, typer.Option(help="Folders in --data-root to pool, by commas. [default: val, where there is one]")]
PerClassOption = Annotated[int | None, typer.Option(min=1, help="Load at most so many images of each class.")]
SizeOption = Annotated[int | None, typer.Option(min=16, help="Side of the images in pixels. [default: the network's usual one]")]
EngineOption = Annotated[str, typer.Option(help="tmab, tmab-paper or monte-carlo.")]
ScoreOption = Annotated[
    str | None,
    typer.Option(
        help="smooth (mean probability of the label) or hard (share of correct images, the paper's). [default: smooth, hard for tmab-paper and monte-carlo]"
    ),
]
FreezeAtOption = Annotated[str, typer.Option(help="post or pre: constants after or before the ReLU.")]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="float32, or bfloat16 for the passes of the attribution, faster on hardware made for it; what is reported is always measured in float32."
    ),
]
StrategyOption = Annotated[str, typer.Option(help="forward selection, or prefix (the paper's).")]
MeanOption = Annotated[
    str | None,
    typer.Option(help="R,G,B that the network's images in [0, 1] are normalised with, where its file does not say. [default: ImageNet's]"),
]
StdOption = Annotated[str | None, typer.Option(help="R,G,B, likewise.")]
T0Option = Annotated[
    str | None,
    typer.Option(
        help="Least share of filters that stays live (tmab); 0 is the Shapley value, auto measures where the network dies. [default: 0.97; auto for recall and accuracy]"
    ),
]
TruncationOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Worth below which a permutation ends (tmab-paper, monte-carlo); 0 for none. [default: 0.6 for each part of the worth, 0.2 with more than two classes]",
    ),
]
ContestedOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many filters of the screen are flipped (tmab); with --guarantee of each end, where half of all or more means all, unscreened. [default: 3 x top]",
    ),
]
GuaranteeOption = Annotated[
    float | None,
    typer.Option(
        help="DELTA: say which filters are truly among the lowest and highest, wrong with this probability at most (tmab). Needs many passes."
    ),
]
ToleranceOption = Annotated[
    float | None, typer.Option(help=f"Of the guarantee, relative to the k-th value; smaller separates more. [default: {TOLERANCE}]")
]
MaxCleanDropOption = Annotated[
    float, typer.Option(min=0, max=1, help="Guard: one-sided 90 % bound on the fall of source accuracy, a share.")
]
AlternativesOption = Annotated[
    bool,
    typer.Option(
        "--alternatives",
        help="Also do what one would do instead, on the same images, and compare: thresholds by group, another last layer, fine-tuning; "
        "against an attack, adversarial fine-tuning. Takes several times as long.",
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, max=LARGEST_SEED)]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help=THREADS_HELP)]
WorkersOption = Annotated[int, typer.Option(min=1, help=WORKERS_HELP)]
BatchOption = Annotated[int, typer.Option(min=1, help=BATCH_HELP)]
MemoryOption = Annotated[float | None, typer.Option(min=0, help=MEMORY_HELP)]
CompareOption = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Compare with other answers to which filters matter (random, norms, leave-one-out, Taylor, conductance, for fairness FairPrune): "
        "what freezing theirs does, and the same choosing from their candidates.",
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help=RESUME_HELP)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print result.json on stdout.")]
DryRunOption = Annotated[bool, typer.Option(help="Print the plan and what it costs (with --json as JSON), and stop.")]


def model_notices(*models: LoadedModel) -> list[str]:
    """What a reader must know about these networks before any number."""
    stand_ins = [model.provenance for model in models if model.stand_in]
    return stand_ins + [ASSUMED_NOTICE.format(file=model.weights.name) for model in models if model.assumed_normalisation]


def show_passes(
    classifier: Classifier, images: LabelledImages, passes: Mapping[str, float], options: Options, *, heading: str, as_json: bool
) -> None:
    """A plan's cost in image passes and what that means on this machine, on stdout."""
    speed = speed_of(classifier, images, options)
    total = sum(passes.values())
    if as_json:
        print(json.dumps({"passes": dict(passes), "passes_a_second": speed, "minutes": total / speed / 60}))  # noqa: T201
        return
    print(heading)  # noqa: T201
    for part, number in passes.items():
        print(f"{part:12s} {number:12,.0f} image passes")  # noqa: T201
    print(f"{'in all':12s} {total:12,.0f} image passes, about {total / speed / 60:.0f} minutes at {speed:,.0f} passes a second")  # noqa: T201


def speed_of(classifier: Classifier, images: LabelledImages, options: Options) -> float:
    """Image passes a second, by some of the images."""
    some = images.subset(np.arange(min(64, len(images))))
    outputs(classifier, some, options)
    started = time.perf_counter()
    outputs(classifier, some, options)
    return len(some) / (time.perf_counter() - started)


def batch_within(memory: float | None, classifier: Classifier, images: LabelledImages, options: Options, *, workers: int) -> int:
    """Images of a pass: those asked for, or as many as each worker's share of the memory holds, with a warning.

    The memory is in GiB, half of what is free by default.
    """
    budget = (available(options.device) / 2 if memory is None else memory * 2**30) / workers
    image = images.batch(np.array([0])).to(options.device)
    fit = images_that_fit(classifier.to(options.device), image, budget=budget)
    if fit < options.batch:
        shown = f"{budget / 2**30:.2g} GiB of memory {'hold' if fit > 1 else 'holds'}"
        warnings.warn(
            f"passes carry {fit} images and not {options.batch}, as many as {shown}; --memory sets it", ModelWarning, stacklevel=2
        )
    return min(fit, options.batch)


def resume_command(arguments: list[str], place: Path, *, out_given: bool) -> str:
    """What the user types to go on with a run of these arguments.

    Example:
        >>> resume_command(["fairness", "--data", "my people.csv"], Path("reports/a"), out_given=False)
        "repairkit fairness --data 'my people.csv' --out reports/a --resume"
    """
    more = [] if out_given else ["--out", str(place)]
    return f"repairkit {shlex.join([each for each in arguments if each != '--resume'] + more + ['--resume'])}"


def parse_t0(text: str | None) -> float | Literal["auto"] | None:
    """The live zone as given on the command line.

    Raises:
        UsageError: neither a number nor "auto".

    Example:
        >>> parse_t0("0.9"), parse_t0("auto"), parse_t0(None)
        (0.9, 'auto', None)
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"t0 must be a number from 0 to 0.999, or auto, got {text!r}") from None


def parse_share(option: str, text: str) -> float:
    """A share as given on the command line, as percent or as a number.

    Raises:
        UsageError: neither, or not between 0 and 1.

    Example:
        >>> parse_share("--max-drop", "1%"), parse_share("--max-drop", "0.01")
        (0.01, 0.01)
    """
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if rest or not 0 <= share <= 1:
        raise UsageError(f"{option} must be a share from 0 to 1 such as 1% or 0.01, got {text!r}")
    return share


def parse_channels(option: str, text: str | None) -> tuple[float, ...] | None:
    """Numbers by commas as given on the command line; how many and which they may be, `zoo.load` checks.

    Raises:
        UsageError: one is no number.

    Example:
        >>> parse_channels("--mean", "0.5,0.5,0.5")
        (0.5, 0.5, 0.5)
    """
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise UsageError(f"{option} must be three numbers by commas such as 0.5,0.5,0.5, got {text!r}") from None


def parse_parts(text: str | None) -> list[str] | None:
    """Folders by commas, as given on the command line.

    Example:
        >>> parse_parts("train,val"), parse_parts(None)
        (['train', 'val'], None)
    """
    return text.split(",") if text else None


def check_device(device: str) -> str:
    """A device that is there.

    Raises:
        UsageError: another name, or a CUDA device that is not there.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device was found on this machine; use --device cpu")
    return device


def check_place(out: Path | None, *, resume: bool) -> None:
    """Refuse before any work a run directory that is taken, and unfinished work that is there unasked or asked for and not there.

    Raises:
        UsageError: it is so; the message says what to do.
    """
    if out is not None:
        if resume and (out / "result.json").exists():  # perhaps killed just before its unfinished work was removed
            raise UsageError(f"the run at {out} is finished; read its report.html, and remove {place_beside(out)} if that is still there")
        require_free(out)
    check_resumable(out, resume=resume)


def check_workers(workers: int, options: Options) -> None:
    """Refuse several workers for an engine that takes one.

    Raises:
        UsageError: the engine is a walk.
    """
    if workers > 1 and options.engine != "tmab":
        raise UsageError(f"{options.engine} goes on from permutation to permutation and takes one process, got --workers {workers}")


def set_threads(threads: int | None, *, workers: int = 1) -> None:
    """Threads of one process; by default one for each core that other work leaves free, shared out among the workers.

    More threads than free cores make a run crawl, several times slower than one thread would be.
    """
    if threads is None:
        cores, free = torch.get_num_threads(), free_cores()
        if free < cores:
            say(f"note: other work leaves {free} of {cores} cores free, and this run takes no more; --threads sets another number")
        threads = max(1, free // workers)
    torch.set_num_threads(threads)
