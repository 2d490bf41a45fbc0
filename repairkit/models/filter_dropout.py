"""Filter dropout, the training with which Neuron Shapley repairs are compared.

While training, the signal of every filter is zeroed with probability p, independently for each image, and scaled by 1 / (1 - p) otherwise.
A SqueezeNet did not learn from scratch at p = 0.5: on synthetic faces its logits died in the first epoch. It learns from the weights trained
without dropout (`init` of `repairkit.models.training.train`), with p rising over the first half of the steps (`ramp`).
"""

from __future__ import annotations

import torch
from torch import nn

from repairkit.network.head import head_of


class FilterDropout:
    """Hooks that drop each filter's signal with probability `p`, independently for each image; a context manager.

    The signal is the output of the batch norm after a convolution, else of the convolution. It is taken before a ReLU, which for zeroing and
    scaling is the same as after it. The classifier's own convolution is left alone.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> with FilterDropout(network, torch.rand(1, 3, 4, 4)) as dropout:
        ...     dropout.p = 0.5
        ...     len(dropout.modules)
        1
    """

    def __init__(self, network: nn.Module, example: torch.Tensor) -> None:
        self.p = 0.0
        self.modules = _signal_modules(network, example)
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> FilterDropout:
        self._handles = [module.register_forward_hook(self._drop) for module in self.modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _drop(self, module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        if self.p == 0 or not module.training:
            return output
        keep = torch.rand(output.shape[:2], device=output.device) >= self.p
        return output * (keep / (1 - self.p))[:, :, None, None]


def _signal_modules(network: nn.Module, example: torch.Tensor) -> list[nn.Module]:
    """For each convolution but the classifier's: the batch norm that takes its output, else the convolution."""
    head = head_of(network)
    convolution_of: dict[int, nn.Conv2d] = {}
    outputs: list[torch.Tensor] = []  # alive until the end, so that an id names one tensor
    signal_of: dict[nn.Conv2d, nn.Module] = {}

    def after_convolution(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d) and module is not head:
            outputs.append(output)
            convolution_of[id(output)] = module
            signal_of.setdefault(module, module)

    def before_norm(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if convolution := convolution_of.get(id(inputs[0])):
            signal_of[convolution] = module

    handles = [m.register_forward_hook(after_convolution) for m in network.modules() if isinstance(m, nn.Conv2d)]
    handles += [m.register_forward_pre_hook(before_norm) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(example)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return list(signal_of.values())
