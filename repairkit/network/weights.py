"""Weights on disk: read without trust, checked against a network, written and hashed.

Files are safetensors, or PyTorch checkpoints that are read with `weights_only=True`. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from repairkit.errors import ModelError
from repairkit.files import replacing
from repairkit.network.classifier import IMAGENET_MEAN, IMAGENET_STD

State = dict[str, torch.Tensor]


def read_weights(path: Path) -> tuple[State, dict[str, str]]:
    """Tensors (half precision raised to float32) and metadata of a safetensors or PyTorch file.

    Raises:
        ModelError: a missing or unreadable file, or a pickle of anything but tensors.
    """
    if not path.is_file():
        raise ModelError(f"expected weights at {path}, found no file; check the path")
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} cannot be read as safetensors ({_one_line(error)}); fetch or write it again") from None
    else:
        state = _read_checkpoint(path)
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}, metadata


def _read_checkpoint(path: Path) -> State:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of the pickle protocol before it refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if text := _text_of(path):
            raise ModelError(f"{path} holds text and no weights ({text!r}), such as a saved web page; fetch the file itself") from None
        raise ModelError(f"{path} is a pickle, which may run code, and is refused; convert its state dict to safetensors") from None
    except Exception as error:  # noqa: BLE001 - other files are read as pickle opcodes, which fail in many ways
        raise ModelError(f"{path} cannot be read as a PyTorch checkpoint ({_one_line(error)}); fetch or write it again") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError(f"{path} holds no state dict of tensors; save network.state_dict() as safetensors")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _text_of(path: Path) -> str:
    """The beginning of a text file in one line; empty for a file with control characters, such as weights."""
    with path.open("rb") as file:
        start = file.read(500)
    if any(byte < 9 or 13 < byte < 32 for byte in start):
        return ""
    return " ".join(start.decode(errors="replace").split())[:40]


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:120]
    # errors of the unpickler, such as an IndexError, describe its stack and not the file
    useful = isinstance(error, RuntimeError | OSError | SafetensorError) and len(text) > 8
    return text if useful else "it is empty, cut short or of another format"


def load_state(network: nn.Module, state: Mapping[str, torch.Tensor], *, where: str) -> None:
    """Load `state` into `network`, all of it and nothing else.

    Raises:
        ModelError: a key is missing or unknown, a shape differs, or a weight is not finite; names the key and `where` the weights came from.
    """
    expected = network.state_dict()
    for key, tensor in expected.items():
        if key not in state:
            raise ModelError(f"{where}: {key} is missing; expected the weights of {type(network).__name__}, check the architecture")
        if state[key].shape != tensor.shape:
            raise ModelError(
                f"{where}: {key} has shape {tuple(state[key].shape)}, expected {tuple(tensor.shape)}; "
                "check the architecture and the number of classes (--classes)"
            )
    for key, tensor in state.items():
        if key not in expected:
            raise ModelError(f"{where}: {key} is not part of {type(network).__name__}; check the architecture")
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{where}: {key} holds NaN or infinite weights; this checkpoint cannot be used")
    network.load_state_dict(dict(state), strict=True)


def write_weights(
    network: nn.Module,
    path: Path,
    *,
    architecture: str,
    classes: Sequence[str],
    trained_on: str,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    half: bool = True,
) -> None:
    """Write the weights of a plain network as safetensors that `repairkit.models.zoo.load` can read alone; whole or not at all.

    Args:
        network: the architecture, not the `Classifier` around it.
        path: where to write; the suffix should be `.safetensors`.
        architecture: torchvision's name.
        classes: class names, in the order of the logits.
        trained_on: the training data, in words.
        mean: normalisation of images in [0, 1], per channel; None where it is not known.
        std: likewise.
        half: in float16; `read_weights` raises them to float32 again.
    """
    state = {
        key: (tensor.half() if half and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for key, tensor in network.state_dict().items()
    }
    metadata = {
        "format": "pt",
        "architecture": architecture,
        "classes": json.dumps(list(classes)),
        "trained_on": trained_on,
    } | {key: json.dumps(list(numbers)) for key, numbers in (("mean", mean), ("std", std)) if numbers is not None}
    with replacing(Path(path)) as temporary:
        save_file(state, temporary, metadata=metadata)


def hash_state(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, in the order of their names.

    Example:
        >>> hash_state({"a": torch.zeros(2)}) == hash_state({"a": torch.zeros(1, 2)})
        False
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
