"""Where the filters of a network are, and how to run it with a hook on each filter's signal.

A *site* is one convolution and the point at which its signal is read and replaced. With `freeze_at="post"` that is after the batch norm and the
ReLU of which it is the sole source, with `"pre"` before that ReLU. A `TracedNetwork` runs the graph of `torch.fx` node by node, so that it can also
rerun from one site onwards. A `HookedNetwork` serves models that cannot be traced.
"""

from __future__ import annotations

import copy
import operator
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from repairkit.errors import ModelError, ModelWarning
from repairkit.run.options import FreezeAt

SignalHook = Callable[[int, Tensor], Tensor]
"""Maps a site's index and its signal (batch, channels, height, width) to what is sent on."""

_RELU_MODULES = (nn.ReLU, nn.ReLU6)
_RELU_FUNCTIONS: tuple[object, ...] = (F.relu, F.relu6, torch.relu, F.relu_, torch.relu_)
_OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.imul: operator.mul,
    operator.isub: operator.sub,
    operator.itruediv: operator.truediv,
    F.relu_: F.relu,
    torch.relu_: torch.relu,
}


@dataclass(frozen=True)
class Site:
    """One convolution whose filters are players start .. stop - 1."""

    layer: str  # the convolution's name in `named_modules()`
    start: int
    stop: int
    norm: str | None = None  # the batch norm of which it is the sole source
    floor: float = float("-inf")  # least value of the signal: 0 after a ReLU
    ceiling: float = float("inf")  # greatest value of the signal: 6 after a ReLU6
    calls: int = 1  # how often the convolution runs in one forward pass

    @property
    def filters(self) -> int:
        """Number of filters of the convolution."""
        return self.stop - self.start

    @property
    def source(self) -> str:
        """The module whose output is the signal, up to the ReLU: the batch norm, else the convolution."""
        return self.norm or self.layer


class _Tracer(torch.fx.Tracer):
    """Keeps convolutions, batch norms, linear layers and their subclasses as single nodes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether calls of this module are one node."""
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear) or super().is_leaf_module(m, module_qualified_name)


def trace_graph(network: nn.Module) -> torch.fx.Graph:
    """The graph of a network; `ModelError` where torch.fx cannot trace it."""
    try:
        return _Tracer().trace(network)
    except Exception as error:  # torch.fx raises whatever the traced code raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"torch.fx cannot trace {type(network).__name__}: {reason}") from error


@dataclass
class Snapshot:
    """Every node's value and every site's signal, before its replacement, in one pass of a `TracedNetwork`."""

    values: dict[torch.fx.Node, Any]
    signals: dict[int, Tensor]


class TracedNetwork:
    """A private copy of a network, run node by node.

    Args:
        network: any module that `torch.fx` can trace in eval mode; it is copied, never changed.
        freeze_at: where the signals are read.

    Raises:
        ModelError: the graph cannot be traced, or holds no convolution before its classifier.
    """

    def __init__(self, network: nn.Module, *, freeze_at: FreezeAt) -> None:
        self.network = private_copy(network)
        self._graph_module = torch.fx.GraphModule(self.network, trace_graph(self.network))
        self._make_out_of_place()
        self._interpreter = torch.fx.Interpreter(self._graph_module, garbage_collect_values=False)
        self._nodes = list(self._graph_module.graph.nodes)
        self._position = {node: index for index, node in enumerate(self._nodes)}
        self._site_of: dict[torch.fx.Node, int] = {}
        self._node_of: dict[int, torch.fx.Node] = {}
        self._overwritten: set[torch.fx.Node] = set()
        self.sites = self._find_sites(freeze_at)
        self._last_use = {node: max([self._position[user] for user in node.users], default=-1) for node in self._nodes}
        self._from_images: set[torch.fx.Node] = set()
        for node in self._nodes:
            if node.op == "placeholder" or not self._from_images.isdisjoint(node.all_input_nodes):
                self._from_images.add(node)

    def run(self, images: Tensor, hook: SignalHook, *, keep: bool = False) -> tuple[Tensor, Snapshot | None]:
        """One forward pass; with `keep`, also what `rerun` needs."""
        env: dict[torch.fx.Node, Any] = {}
        signals: dict[int, Tensor] = {}
        self._interpreter.args_iter = iter((images,))
        output = self._advance(0, env, hook, keep=keep, signals=signals)
        return output, Snapshot(env, signals) if keep else None

    def rerun(self, snapshot: Snapshot, site: int, hook: SignalHook, expand: Callable[[Tensor], Tensor]) -> Tensor:
        """The pass of `snapshot` again from one site onwards.

        Args:
            snapshot: from `run` with `keep`.
            site: where to begin.
            hook: is called with the site's signal of the snapshot and with every later signal. It must not overwrite what `expand` returned
                unchanged.
            expand: maps a tensor's batch to the new batch, for instance one copy per flip.
        """
        node = self._node_of[site]
        start = self._position[node]
        env = {
            earlier: self._again(earlier, snapshot, expand) if earlier in self._from_images else value
            for earlier, value in snapshot.values.items()
            if self._position[earlier] < start < self._last_use[earlier]
        }
        env |= {earlier: value.clone() for earlier, value in env.items() if earlier in self._overwritten}
        env[node] = hook(site, expand(snapshot.signals[site]))
        return self._advance(start + 1, env, hook, keep=False, signals={})

    def shares(self, images: Tensor) -> list[float]:
        """For every site, the share of a pass's multiplications that a rerun from it takes."""
        _, snapshot = self.run(images[:1], lambda _site, signal: signal, keep=True)
        if snapshot is None:
            raise AssertionError("a run with `keep` returns a snapshot")
        after = [0.0] * (len(self._nodes) + 1)
        for position in reversed(range(len(self._nodes))):
            node = self._nodes[position]
            layer, per_output = self._module(node), 0.0
            if isinstance(layer, nn.Conv2d | nn.Linear):
                per_output = layer.weight[0].numel() * snapshot.values[node].numel()
            after[position] = after[position + 1] + per_output
        return [after[self._position[self._node_of[site]] + 1] / after[0] for site in range(len(self.sites))]

    def _again(self, node: torch.fx.Node, snapshot: Snapshot, expand: Callable[[Tensor], Tensor]) -> Any:
        """The value of a node for the new batch; sizes that were read off the old batch are read again."""
        value = snapshot.values[node]
        leaves: list[object] = []
        torch.fx.node.map_aggregate(value, leaves.append)
        if any(isinstance(leaf, Tensor) for leaf in leaves):
            return torch.fx.node.map_aggregate(value, lambda item: expand(item) if isinstance(item, Tensor) and item.dim() else item)
        self._interpreter.env = {
            source: self._again(source, snapshot, expand) if source in self._from_images else snapshot.values[source]
            for source in node.all_input_nodes
        }
        return self._interpreter.run_node(node)

    def _advance(self, start: int, env: dict[torch.fx.Node, Any], hook: SignalHook, *, keep: bool, signals: dict[int, Tensor]) -> Tensor:
        interpreter = self._interpreter
        interpreter.env = env
        try:
            for position in range(start, len(self._nodes)):
                node = self._nodes[position]
                value = interpreter.run_node(node)
                if node.op == "output":
                    return cast(Tensor, value)
                if (site := self._site_of.get(node)) is not None:
                    if keep:
                        signals.setdefault(site, value)
                    value = hook(site, value)
                env[node] = value
                if not keep:
                    for source in node.all_input_nodes:
                        if self._last_use[source] == position:
                            env.pop(source, None)
        finally:
            interpreter.env = {}
        raise ModelError("the traced graph has no output; repairkit needs a module that returns logits")

    def _make_out_of_place(self) -> None:
        """Rewrite in-place operations, which would change the values of a snapshot."""
        for node in self._graph_module.graph.nodes:
            if self._overwrites(node):
                self._redirect_later_readers(node)
            if node.op == "call_function":
                node.target = _OUT_OF_PLACE.get(node.target, node.target)
                if "inplace" in node.kwargs:
                    node.kwargs = {**node.kwargs, "inplace": False}
                elif node.target in _RELU_FUNCTIONS:
                    node.args = node.args[:1]
            elif node.op == "call_method" and _is_in_place_method(node.target):
                node.target = node.target[:-1]
        for module in self._graph_module.modules():
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]
        self._graph_module.recompile()

    def _overwrites(self, node: torch.fx.Node) -> bool:
        if node.op == "call_module":
            return getattr(self._module(node), "inplace", False) is True
        if node.op == "call_method":
            return _is_in_place_method(node.target)
        if node.op != "call_function":
            return False
        positional = node.target in _RELU_FUNCTIONS and node.args[1:] == (True,)
        return node.target in _OUT_OF_PLACE or node.kwargs.get("inplace") is True or positional

    def _redirect_later_readers(self, node: torch.fx.Node) -> None:
        """Nodes that read an overwritten tensor later read the node that overwrote it."""
        if not node.all_input_nodes:
            return
        overwritten = node.all_input_nodes[0]
        later = set[torch.fx.Node]()
        following = node.next
        while following.op != "root":
            later.add(following)
            following = following.next
        overwritten.replace_all_uses_with(node, delete_user_cb=later.__contains__)

    def _module(self, node: torch.fx.Node) -> nn.Module | None:
        return self._graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _find_sites(self, freeze_at: FreezeAt) -> tuple[Site, ...]:
        calls = Counter(str(node.target) for node in self._nodes if node.op == "call_module")
        sites: list[Site] = []
        site_index: dict[str, int] = {}
        start = 0
        classifiers = {node.target for node in self._nodes if isinstance(self._module(node), nn.Conv2d) and not self._feeds_a_layer(node)}
        for node in self._nodes:
            conv = self._module(node)
            if not isinstance(conv, nn.Conv2d) or node.target in classifiers:
                continue
            layer = str(node.target)
            if layer in site_index:  # a convolution that runs more than once: every call is masked at its output
                self._site_of[node] = site_index[layer]
                continue
            signal, site = self._follow(node, Site(layer, start, start + conv.out_channels, calls=calls[layer]), calls, freeze_at)
            site_index[layer] = len(sites)
            self._site_of[signal] = len(sites)
            self._node_of[len(sites)] = signal
            sites.append(site)
            start = site.stop
        if not sites:
            raise ModelError(f"{type(self.network).__name__} has no nn.Conv2d before its classifier; give a convolutional network")
        return tuple(sites)

    def _follow(self, conv: torch.fx.Node, site: Site, calls: dict[str, int], freeze_at: FreezeAt) -> tuple[torch.fx.Node, Site]:
        """From a convolution to its signal: past the batch norm and the ReLU of which it is the sole source."""
        signal = conv
        if site.calls > 1:
            return signal, site
        following = _sole_user(signal)
        if following is not None and isinstance(self._module(following), nn.BatchNorm2d) and calls[str(following.target)] == 1:
            signal, site = following, replace(site, norm=str(following.target))
            following = _sole_user(signal)
        if freeze_at == "post" and following is not None and self._is_relu(following):
            six = isinstance(self._module(following), nn.ReLU6) or following.target is F.relu6
            signal, site = following, replace(site, floor=0.0, ceiling=6.0 if six else float("inf"))
            # no other node reads the tensor before the ReLU, so that the ReLU may overwrite it
            self._overwritten.add(following.all_input_nodes[0])
            following.op, following.target = "call_function", F.hardtanh if six else F.relu
            following.args, following.kwargs = (
                (following.all_input_nodes[0],),
                {"inplace": True} | ({"min_val": 0.0, "max_val": 6.0} if six else {}),
            )
        return signal, site

    def _is_relu(self, node: torch.fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self._module(node), _RELU_MODULES)
        if node.op == "call_method":
            return node.target == "relu"
        return node.op == "call_function" and node.target in _RELU_FUNCTIONS

    def _feeds_a_layer(self, node: torch.fx.Node) -> bool:
        """Whether a convolution or linear layer follows; otherwise the node is the classifier."""
        reached, queue = set[torch.fx.Node](), list(node.users)
        while queue:
            following = queue.pop()
            if following in reached:
                continue
            reached.add(following)
            if isinstance(self._module(following), nn.Conv2d | nn.Linear):
                return True
            queue.extend(following.users)
        return False


class HookedNetwork:
    """A private copy of a network that cannot be traced; signals are the outputs of its convolutions.

    It cannot rerun from a site, so that a flip costs a whole pass. The last convolution is the classifier when no linear layer follows it in
    `named_modules()`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = private_copy(network)
        layers = [(name, module) for name, module in self.network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        if layers and isinstance(layers[-1][1], nn.Conv2d):
            layers = layers[:-1]
        sites: list[Site] = []
        start = 0
        for name, module in layers:
            if isinstance(module, nn.Conv2d):
                sites.append(Site(name, start, start + module.out_channels))
                start += module.out_channels
        if not sites:
            raise ModelError(f"{type(network).__name__} has no nn.Conv2d before its classifier; give a convolutional network")
        self.sites = tuple(sites)

    def shares(self, images: Tensor) -> list[float]:
        """A rerun costs a whole pass."""
        del images
        return [1.0] * len(self.sites)

    def run(self, images: Tensor, hook: SignalHook, *, keep: bool = False) -> tuple[Tensor, Snapshot | None]:
        """One forward pass, without a snapshot."""
        del keep
        handles = [
            self.network.get_submodule(site.layer).register_forward_hook(lambda _module, _inputs, output, index=index: hook(index, output))
            for index, site in enumerate(self.sites)
        ]
        try:
            return cast(Tensor, self.network(images)), None
        finally:
            for handle in handles:
                handle.remove()


def trace(network: nn.Module, *, freeze_at: FreezeAt = "post") -> TracedNetwork | HookedNetwork:
    """The network with hooks on its filters, traced if possible.

    Warns:
        ModelWarning: the network cannot be traced, so that signals are the convolutions' outputs and every flip costs a whole pass.
    """
    try:
        return TracedNetwork(network, freeze_at=freeze_at)
    except ModelError as error:
        if error.__cause__ is None:
            raise
        warnings.warn(
            f"{error}; filters are masked at the convolutions' own outputs and every flip costs a whole pass", ModelWarning, stacklevel=2
        )
        return HookedNetwork(network)


def private_copy(network: nn.Module) -> nn.Module:
    """A copy in eval mode without gradients; the user's model stays as it is."""
    return copy.deepcopy(network).eval().requires_grad_(requires_grad=False)


def _is_in_place_method(name: object) -> bool:
    return isinstance(name, str) and name.endswith("_") and not name.endswith("__") and callable(getattr(Tensor, name[:-1], None))


def _sole_user(node: torch.fx.Node) -> torch.fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
