"""`repairkit apply`: freeze a patch's filters in weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from repairkit.cli.console import say
from repairkit.cli.loading import load_any
from repairkit.errors import UsageError
from repairkit.models.class_subset import narrowed
from repairkit.network.patch import Patch
from repairkit.network.weights import write_weights

UNSAID = ("female", "male")
"""Classes of patches of earlier versions, which do not name them."""


def apply(
    patch: Annotated[Path, typer.Argument(help="patch.json of a run.")],
    weights: Annotated[Path, typer.Option(help="The weights that were repaired: safetensors or a state dict.")],
    out: Annotated[Path, typer.Option(help="Where to write the repaired weights (.safetensors).")] = Path("repaired.safetensors"),
    classes: Annotated[
        str | None, typer.Option(help="Class names of the weights, by commas, where the file does not say. [default: as the patch says]")
    ] = None,
    force: Annotated[bool, typer.Option(help="Also in other weights than those the patch was made for.")] = False,
) -> None:
    """Write repaired weights of the same architecture; the original weights stay as they are."""
    fix = Patch.read(patch)
    if out.suffix != ".safetensors":
        raise UsageError(f"expected an --out that ends in .safetensors, as that is what is written, got {out}")
    if out.exists():
        raise UsageError(f"{out} already exists; give another --out or remove it")
    model = load_any(fix.architecture, weights, tuple(classes.split(",")) if classes else fix.classes or UNSAID, "cpu")
    if not force and 0 < len(fix.classes) < len(model.classifier.classes):  # the patch was made with --narrow
        model = narrowed(model, fix.classes)
    repaired = fix.apply(model.classifier.network, check=not force)
    write_weights(
        repaired,
        out,
        architecture=model.architecture,
        classes=model.classifier.classes,
        **model.normalisation,
        trained_on=f"{model.trained_on}; repaired by freezing {len(fix.culprits)} filters",
        half=False,
    )
    say(f"froze {len(fix.culprits)} filters; repaired weights: {out}")
