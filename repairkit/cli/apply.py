"""`repairkit apply`: freeze a patch's filters in weights."""

from __future__ import annotations

from repairkit.cli.messages import log
from repairkit.cli.settings import ApplySettings
from repairkit.errors import UsageError
from repairkit.experiments.networks import load_any
from repairkit.models.class_subset import restrict_classes
from repairkit.network.patch import Patch
from repairkit.network.weights import write_weights

UNSAID = ("female", "male")
"""Classes of patches of earlier versions, which do not name them."""


def apply(settings: ApplySettings) -> None:
    """Write repaired weights."""
    out, weights, force = settings.out, settings.weights, settings.force
    fix = Patch.read(settings.patch)
    if out.suffix != ".safetensors":
        raise UsageError(f"expected an --out that ends in .safetensors, as that is what is written, got {out}")
    if out.exists():
        raise UsageError(f"{out} already exists; give another --out or remove it")
    model = load_any(fix.architecture, weights, settings.classes or fix.classes or UNSAID, "cpu")
    if not force and 0 < len(fix.classes) < len(model.classifier.classes):  # the patch was made with --restrict-classes
        model = restrict_classes(model, fix.classes)
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
    log.info(f"froze {len(fix.culprits)} filters; repaired weights: {out}")
