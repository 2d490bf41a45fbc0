"""Pruned networks on disk: which channels of which layers are removed, and loading the network."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from repairkit.errors import DataError, ModelError
from repairkit.files import write_text
from repairkit.models import zoo
from repairkit.network.classifier import Classifier
from repairkit.network.structural_pruning import Channels, PrunedNetwork, cut, give_bias, input_channels, output_channels, reader_of
from repairkit.network.weights import load_state, read_weights

WEIGHTS, CHANNELS = "pruned.safetensors", "pruned.json"  # in a run directory


class PrunedChannels(BaseModel):
    """The rows and columns removed from a network's layers; with the architecture, all that a pruned network is rebuilt from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    architecture: str  # torchvision's name of the network that was pruned
    auxiliary: bool = False  # built with its auxiliary head
    classes: list[str] = Field(min_length=1)
    mean: list[float] = Field(min_length=3, max_length=3)
    std: list[float] = Field(min_length=3, max_length=3)
    size: int | None = None
    outputs: Channels  # layer -> removed output channels; for batch norms and depthwise convolutions the channels
    inputs: Channels  # layer -> removed input channels, or features of a linear layer
    biased: list[str]  # convolutions that were given a bias

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_text(path, json.dumps(self.model_dump(mode="json"), allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> PrunedChannels:
        """Read a `pruned.json`; `DataError` where it is missing or another file."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            raise DataError(f"expected {CHANNELS} of a pruned network at {path}, could not read it; give a run's directory") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(f"{path} is no {CHANNELS} of this version: {where}: {first['msg']}; prune again") from None


def pruned_channels_of(pruned: PrunedNetwork, classifier: Classifier, architecture: str) -> PrunedChannels:
    """What `load_pruned` needs besides the weights."""
    return PrunedChannels(
        architecture=architecture,
        auxiliary=zoo.has_auxiliary_head(architecture, classifier.network.state_dict()),
        classes=list(classifier.classes),
        mean=classifier.mean.flatten().tolist(),
        std=classifier.std.flatten().tolist(),
        size=classifier.size,
        outputs=pruned.outputs,
        inputs=pruned.inputs,
        biased=pruned.biased,
    )


def load_pruned(folder: str | Path, *, network: nn.Module | None = None) -> Classifier:
    """The pruned network of a run of `repairkit prune`; nothing is unpickled.

    Args:
        folder: the run directory, which holds `pruned.json` and `pruned.safetensors`.
        network: any network of the architecture that was pruned, where that is none of torchvision's; it is copied.

    Returns:
        A classifier of images in [0, 1], in eval mode.

    Raises:
        DataError: no pruned network is there.
        ModelError: channels or weights do not fit the network.
    """
    folder = Path(folder)
    cuts = PrunedChannels.read(folder / CHANNELS)
    fresh = zoo.build(cuts.architecture, len(cuts.classes), auxiliary=cuts.auxiliary) if network is None else copy.deepcopy(network)
    _check_fit(fresh, cuts, folder / CHANNELS)
    for layer in cuts.biased:
        give_bias(reader_of(fresh, layer))
    cut(fresh, cuts.outputs, cuts.inputs)
    load_state(fresh, read_weights(folder / WEIGHTS)[0], where=str(folder / WEIGHTS))
    classifier = Classifier(fresh, classes=cuts.classes, mean=cuts.mean, std=cuts.std, size=cuts.size)
    return classifier.eval().requires_grad_(requires_grad=False)


def _check_fit(network: nn.Module, cuts: PrunedChannels, path: Path) -> None:
    """Raise a `ModelError` unless the network has every channel to remove, and a layer keeps at least one."""
    modules = dict(network.named_modules())
    removals = [
        *((layer, removed, output_channels) for layer, removed in cuts.outputs.items()),
        *((layer, removed, input_channels) for layer, removed in cuts.inputs.items()),
        *((layer, [], input_channels) for layer in cuts.biased),
    ]
    for layer, removed, channels_of in removals:
        count = channels_of(modules.get(layer, network))
        if len(set(removed)) != len(removed) or len(removed) >= count or any(not 0 <= channel < count for channel in removed):
            raise ModelError(f"{path}: {len(removed)} channels of {layer} cannot go, the network has {count}; give the pruned architecture")
