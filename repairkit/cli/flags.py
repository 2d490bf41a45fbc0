"""Options that several commands share, as typer takes them: type, range and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from repairkit.experiments.options import LARGEST_SEED
from repairkit.shapley.tmab import TOLERANCE

BATCH_HELP = "Most images of a pass; a GPU is faster with more, such as 256."
PRECISION_HELP = "float32, or bfloat16 for the passes that find filters, faster on hardware made for it; the guard and report images are always asked in float32."

Model = Annotated[str, typer.Option(help="A classifier of torchvision, or a weights FILE that repairkit train wrote.")]
Weights = Annotated[Path | None, typer.Option(help="Weights for a named model. [default: torchvision's, where torch's cache holds them]")]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of images: one folder for each class, or one with an annotation file. [default: embedded digits]"),
]
Parts = Annotated[str | None, typer.Option(help="Folders in --data-root to pool, by commas. [default: val, where there is one]")]
Annotations = Annotated[
    Path | None, typer.Option(help="Which text in --data-root lists the images and their classes, where it holds several.")
]
PerClass = Annotated[int | None, typer.Option(min=1, help="Load at most so many images of each class.")]
Narrow = Annotated[
    bool,
    typer.Option(
        "--narrow",
        help="Of a network that knows more classes than --data-root holds, keep the logits of these alone, also in the weights that are handed back.",
    ),
]
Size = Annotated[int | None, typer.Option(min=16, help="Side of the images in pixels. [default: the network's usual one]")]
Engine = Annotated[str, typer.Option(help="tmab, tmab-paper or monte-carlo.")]
Score = Annotated[
    str | None,
    typer.Option(
        help="smooth (mean probability of the label) or hard (share of correct images, the paper's). [default: smooth, hard for tmab-paper and monte-carlo]"
    ),
]
FreezeAt = Annotated[str, typer.Option(help="post or pre: constants after or before the ReLU.")]
Precision = Annotated[str, typer.Option(help=PRECISION_HELP)]
Strategy = Annotated[str, typer.Option(help="forward selection, or prefix (the paper's).")]
Mean = Annotated[
    str | None,
    typer.Option(help="R,G,B that the network's images in [0, 1] are normalised with, where its file does not say. [default: ImageNet's]"),
]
Std = Annotated[str | None, typer.Option(help="R,G,B, likewise.")]
T0 = Annotated[
    str | None,
    typer.Option(
        help="Least share of filters that stays live (tmab); 0 is the Shapley value, auto measures where the network dies. [default: 0.97; auto for recall with --ranking recall]"
    ),
]
SettledT0 = Annotated[
    str | None,
    typer.Option(
        help="Least share of filters that stays live (tmab); 0 is the Shapley value, auto measures where the network dies, settled takes that or a narrower "
        "zone, by what freezing its highest filters does to the images that choose. [default: settled]"
    ),
]
Truncation = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Worth below which a permutation ends (tmab-paper, monte-carlo); 0 for none. [default: 0.6 for each part of the worth, 0.2 with more than two classes]",
    ),
]
Contested = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many filters of the screen are flipped (tmab); with --guarantee of each end, where half of all or more means all, unscreened. [default: 3 x top]",
    ),
]
Guarantee = Annotated[
    float | None,
    typer.Option(
        help="DELTA: say which filters are truly among the lowest and highest, wrong with this probability at most (tmab). Needs many passes."
    ),
]
Tolerance = Annotated[
    float | None, typer.Option(help=f"Of the guarantee, relative to the k-th value; smaller separates more. [default: {TOLERANCE}]")
]
MaxCleanDrop = Annotated[float, typer.Option(min=0, max=1, help="Guard: one-sided 90 % bound on the fall of source accuracy, a share.")]
Alternatives = Annotated[
    bool,
    typer.Option(
        "--alternatives",
        help="Also do what one would do instead, on the same images, and compare: thresholds by group, another last layer, fine-tuning; "
        "against an attack, adversarial fine-tuning. Takes several times as long.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED)]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads of each process; by default the cores that other work leaves free by the load average, at least 1, shared out among --workers.",
    ),
]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes that attribute (tmab), each with --threads threads; any number gives the same bits.")
]
Batch = Annotated[int, typer.Option(min=1, help=BATCH_HELP)]
Memory = Annotated[
    float | None,
    typer.Option(min=0, help="GiB that a pass may take; it carries fewer images where they do not fit. [default: half of what is free]"),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Compare with other answers to which filters matter (random, norms, leave-one-out, Taylor, conductance, for fairness FairPrune): "
        "what freezing theirs does, and the same choosing from theirs.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run of this --out that did not finish; give the same options.")]
Json = Annotated[bool, typer.Option("--json", help="Print result.json on stdout.")]
DryRun = Annotated[
    bool, typer.Option(help="Print the plan and what it costs (with --json as JSON), and stop; no network is fitted or trained.")
]
