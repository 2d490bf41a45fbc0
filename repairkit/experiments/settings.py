"""Groups of options that several kinds of experiments share: the network, its images, and what results are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from repairkit.run.settings import Settings, option


def parse_channels(value: object) -> object:
    """Numbers by commas as a tuple; anything else as it is.

    Example:
        >>> parse_channels("0.5,0.5,0.5")
        ('0.5', '0.5', '0.5')
    """
    return tuple(value.split(",")) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(parse_channels)]
Channels = Annotated[tuple[float, ...], BeforeValidator(parse_channels)]
THREE_NUMBERS = "three numbers by commas such as 0.5,0.5,0.5"
USUAL_BUDGET = 20_000.0
EMBEDDED_BUDGET = 6_000.0
"""Image passes for the embedded digits, which are there to be tried."""


class NetworkSettings(Settings):
    """The network."""

    model: str = option("inception_v3", "A torchvision classifier, or a weights FILE that repairkit train wrote.", "Network")
    weights: Path | None = option(None, "Weights for a named model. [default: torchvision's, where torch's cache holds them]", "Network")
    size: int | None = option(None, "Side of the images in pixels. [default: the network's usual one]", "Network", ge=16)
    mean: Channels | None = option(
        None,
        "R,G,B that images in [0, 1] are normalised with, if the weights do not say. [default: ImageNet's]",
        "Network",
        shown=False,
        expected=THREE_NUMBERS,
    )
    std: Channels | None = option(None, "R,G,B, likewise.", "Network", shown=False, expected=THREE_NUMBERS)


class FolderSettings(NetworkSettings):
    """A network and labelled images of its classes in folders."""

    data_root: Path | None = option(
        None, "Folder of images: a folder for each class, or an annotation file. [default: embedded digits]", "Images"
    )
    subsets: Names | None = option(None, "Folders in --data-root to pool, by commas. [default: val, if there is one]", "Images")
    max_per_class: int | None = option(None, "Load at most this many images of each class.", "Images", ge=1)
    restrict_classes: bool = option(
        False, "Restrict the network to the classes of --data-root, also in the weights that are written.", "Images"
    )
    annotation_file: Path | None = option(
        None, "The text in --data-root that lists images and classes, if there are several.", "Images", shown=False
    )

    @property
    def embedded(self) -> bool:
        """Whether the images are the digits that come with repairkit."""
        return self.data_root is None


class BaselineSettings(Settings):
    """What results are compared with."""

    baselines: bool = option(
        False,
        "Compare with other filter rankings: random, norms, leave-one-out, Taylor, conductance, and for fairness FairPrune.",
        "Comparison",
    )


class AlternativeSettings(BaselineSettings):
    """What repairs are compared with."""

    alternatives: bool = option(
        False,
        "Compare with alternatives: group thresholds, another last layer, fine-tuning; against an attack, adversarial fine-tuning. "
        "Takes several times as long.",
        "Comparison",
    )
