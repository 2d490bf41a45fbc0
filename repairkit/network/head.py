"""The last layer of a classifier: its input, and the computation from its output to the logits."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

from repairkit.data.images import LabelledImages
from repairkit.errors import ModelError
from repairkit.network.classifier import Classifier, check_logits
from repairkit.network.tracing import private_copy, trace_graph


def head_of(network: nn.Module) -> nn.Module:
    """The last linear layer, or the last convolution where there is none."""
    modules = list(network.modules())
    linear: list[nn.Module] = [module for module in modules if isinstance(module, nn.Linear)]
    return (linear or [module for module in modules if isinstance(module, nn.Conv2d)])[-1]


class Head:
    """The last linear layer, or the last convolution where there is none, apart from the rest of its network.

    In a ResNet nothing comes after it; in a SqueezeNet a ReLU and the mean over positions do.

    Args:
        classifier: it is left as it is.

    Attributes:
        name: of the layer in the network's `named_modules()`.
        layer: a copy of it, in double precision.
        after: a module that maps the layer's output to logits (k, classes).

    Raises:
        ModelError: torch.fx cannot trace the network, or the logits need more than the layer's output.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> head = Head(Classifier(network, classes=("no", "yes")))
        >>> head.name, head.after(-torch.ones(1, 2, 3, 3))
        ('2', tensor([[0., 0.]]))
    """

    def __init__(self, classifier: Classifier) -> None:
        network = private_copy(classifier.network)
        last = head_of(network)
        self.name = next(name for name, module in network.named_modules() if module is last)
        self.layer = copy.deepcopy(last).double()
        self.after = torch.fx.GraphModule(network, _after(trace_graph(network), self.name)).double().eval()

    def features(self, classifier: Classifier, images: LabelledImages, batch: int) -> Iterator[Tensor]:
        """What enters the layer, float32 (k, features) or (k, channels, height, width), in batches of `batch` images."""
        layer_inputs: list[Tensor] = []
        layer = classifier.network.get_submodule(self.name)
        handle = layer.register_forward_pre_hook(lambda _module, inputs: layer_inputs.append(inputs[0].clone()))
        try:
            for start in range(0, len(images), batch):
                rows = np.arange(start, min(start + batch, len(images)))
                with torch.no_grad():
                    check_logits(classifier(images.batch(rows).to(classifier.mean.device)), images.name)
                yield layer_inputs.pop()
        finally:
            handle.remove()

    def replace_in(self, classifier: Classifier, layer: nn.Module) -> Classifier:
        """A copy of the classifier with this layer in place of its last."""
        weights = {f"{self.name}.{key}": value for key, value in layer.state_dict().items()}
        return classifier.with_weights(classifier.network.state_dict() | weights)


def _after(graph: torch.fx.Graph, name: str) -> torch.fx.Graph:
    """The part of the graph that begins with the layer's output."""
    nodes = list(graph.nodes)
    calls = [node for node in nodes if node.op == "call_module" and node.target == name]
    if len(calls) != 1:
        raise ModelError(f"expected the last layer, {name}, to run once, it runs {len(calls)} times; it cannot be fitted alone")
    after = torch.fx.Graph()
    copies = {calls[0]: after.placeholder("output_of_the_last_layer")}
    for node in nodes[nodes.index(calls[0]) + 1 :]:
        if any(source not in copies for source in node.all_input_nodes):
            raise ModelError(f"the logits need more than the last layer, {name} ({node.name} reads elsewhere); it cannot be fitted alone")
        copies[node] = after.node_copy(node, copies.__getitem__)
    return after
