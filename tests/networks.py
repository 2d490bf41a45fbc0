"""Small networks, each with a twin of explicit modules on which an oracle can put its hooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repairkit.data.images import LabelledImages

IMAGE = 8
CLASSES = ("female", "male")


class Chain(nn.Module):
    """Named modules in a row, then mean over positions and a linear classifier."""

    def __init__(self, channels: int, **layers: nn.Module) -> None:
        super().__init__()
        self.order = list(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.fc = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.order:
            x = self.get_submodule(name)(x)
        return self.fc(x.mean(dim=(2, 3)))


def conv_relu() -> nn.Module:
    return Chain(6, conv1=nn.Conv2d(3, 4, 3), relu1=nn.ReLU(), conv2=nn.Conv2d(4, 6, 3), relu2=nn.ReLU())


def conv_relu_in_place() -> nn.Module:
    return Chain(6, conv1=nn.Conv2d(3, 4, 3), relu1=nn.ReLU(inplace=True), conv2=nn.Conv2d(4, 6, 3), relu2=nn.ReLU(inplace=True))


def conv_bn_relu() -> nn.Module:
    return Chain(
        6,
        conv1=nn.Conv2d(3, 4, 3),
        bn1=nn.BatchNorm2d(4),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(4, 6, 3, bias=False),
        bn2=nn.BatchNorm2d(6),
        relu2=nn.ReLU(),
    )


def conv_bn() -> nn.Module:
    return Chain(6, conv1=nn.Conv2d(3, 4, 3, bias=False), bn1=nn.BatchNorm2d(4), conv2=nn.Conv2d(4, 6, 3), bn2=nn.BatchNorm2d(6))


def conv_without_bias() -> nn.Module:
    return Chain(6, conv1=nn.Conv2d(3, 4, 3, bias=False), relu1=nn.ReLU(), conv2=nn.Conv2d(4, 6, 3), relu2=nn.ReLU())


def norm_without_parameters() -> nn.Module:
    return Chain(4, conv1=nn.Conv2d(3, 4, 3), bn1=nn.BatchNorm2d(4, affine=False), relu1=nn.ReLU(), conv2=nn.Conv2d(4, 4, 1))


def grouped() -> nn.Module:
    return Chain(6, conv1=nn.Conv2d(3, 4, 3), relu1=nn.ReLU(), conv2=nn.Conv2d(4, 6, 3, groups=2), relu2=nn.ReLU())


def depthwise() -> nn.Module:
    return Chain(
        6,
        conv1=nn.Conv2d(3, 4, 3),
        relu1=nn.ReLU6(),
        conv2=nn.Conv2d(4, 4, 3, groups=4, bias=False),
        bn2=nn.BatchNorm2d(4),
        relu2=nn.ReLU6(),
        conv3=nn.Conv2d(4, 6, 1, bias=False),
        bn3=nn.BatchNorm2d(6),
    )


class Residual(nn.Module):
    """As in torchvision's ResNet: one in-place ReLU module for everything, in-place addition."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn0 = nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        identity = self.relu(self.bn0(self.conv0(x)))
        out = self.relu(self.bn1(self.conv1(identity)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.fc(self.relu(out).mean(dim=(2, 3)))


class ResidualTwin(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.relu0, self.relu1, self.relu2 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        identity = self.relu0(self.bn0(self.conv0(x)))
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(identity)))))
        return self.fc(self.relu2(out + identity).mean(dim=(2, 3)))


class Functional(nn.Module):
    """Functional ReLUs, two branches that are concatenated, the batch size read before the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.conv2 = nn.Conv2d(4, 3, 1)
        self.conv3 = nn.Conv2d(4, 3, 3, padding=1)
        self.conv4 = nn.Conv2d(6, 2, 1)
        self.fc = nn.Linear(2 * 36, 2)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        x = F.relu(self.conv1(x), inplace=True)
        left, right = self.conv2(x), self.conv3(x)
        x = torch.cat([torch.relu(left), right.relu()], dim=1)
        x = self.conv4(x)
        x = F.relu(x, True)
        return self.fc(x.reshape(batch, -1))


class FunctionalTwin(Functional):
    def __init__(self) -> None:
        super().__init__()
        self.relu1, self.relu2, self.relu3, self.relu4 = nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        x = torch.cat([self.relu2(self.conv2(x)), self.relu3(self.conv3(x))], dim=1)
        return self.fc(self.relu4(self.conv4(x)).flatten(1))


class Aliased(nn.Module):
    """Tensors overwritten in place and then read under their old names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 1)
        self.conv3 = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        self.relu1(x)
        y = self.conv2(x)
        z = y.add_(x)
        y = F.relu_(self.conv3(y)) + z
        y.clamp_(max=1.0)
        return self.fc(y.mean(dim=(2, 3)))


class AliasedTwin(Aliased):
    def __init__(self) -> None:
        super().__init__()
        self.relu1, self.relu3 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        z = self.conv2(x) + x
        y = self.relu3(self.conv3(z)) + z
        return self.fc(y.clamp(max=1.0).mean(dim=(2, 3)))


class SharedConvolution(nn.Module):
    """One convolution that runs twice; its signal is its own output, both times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        x = F.relu(self.conv2(F.relu(self.conv2(x))))
        return self.fc(x.mean(dim=(2, 3)))


class SharedWithClassifier(nn.Module):
    """The convolution that makes the logits also runs before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.conv2 = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return self.conv2(F.relu(self.conv2(x))).mean(dim=(2, 3))[:, :2]


class Untraceable(nn.Module):
    """Control flow that depends on the data; signals are the convolutions' own outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.fc = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x), inplace=True)
        if x.sum() > -1:  # always, but torch.fx cannot know
            x = F.relu(self.conv2(x), inplace=True)
        return self.fc(x.mean(dim=(2, 3)))


class ConvolutionalClassifier(nn.Module):
    """As in SqueezeNet: the last convolution makes the logits, and is no player."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)
        self.relu1 = nn.ReLU(inplace=True)
        self.classifier = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.classifier(self.relu1(self.conv1(x)))).mean(dim=(2, 3))


@dataclass(frozen=True)
class Case:
    """A network, its twin of explicit modules (same state dict), and where each convolution's signal is in the twin."""

    name: str
    build: Callable[[], nn.Module]
    post: dict[str, str]
    pre: dict[str, str]
    twin: Callable[[], nn.Module] | None = None
    floors: dict[str, float] = field(default_factory=dict)

    def networks(self, seed: int = 0) -> tuple[nn.Module, nn.Module]:
        """The network and its twin with the same random weights."""
        network = randomised(self.build(), seed)
        twin = (self.twin or self.build)()
        twin.load_state_dict(network.state_dict())
        return network, twin.eval()

    def signals(self, freeze_at: str) -> dict[str, str]:
        return self.post if freeze_at == "post" else self.pre


CASES = (
    Case("conv+relu", conv_relu, {"conv1": "relu1", "conv2": "relu2"}, {"conv1": "conv1", "conv2": "conv2"}),
    Case("conv+relu in place", conv_relu_in_place, {"conv1": "relu1", "conv2": "relu2"}, {"conv1": "conv1", "conv2": "conv2"}, conv_relu),
    Case("conv+bn+relu", conv_bn_relu, {"conv1": "relu1", "conv2": "relu2"}, {"conv1": "bn1", "conv2": "bn2"}),
    Case("conv+bn", conv_bn, {"conv1": "bn1", "conv2": "bn2"}, {"conv1": "bn1", "conv2": "bn2"}),
    Case("grouped", grouped, {"conv1": "relu1", "conv2": "relu2"}, {"conv1": "conv1", "conv2": "conv2"}),
    Case(
        "depthwise+relu6",
        depthwise,
        {"conv1": "relu1", "conv2": "relu2", "conv3": "bn3"},
        {"conv1": "conv1", "conv2": "bn2", "conv3": "bn3"},
    ),
    Case(
        "residual",
        Residual,
        {"conv0": "relu0", "conv1": "relu1", "conv2": "bn2"},
        {"conv0": "bn0", "conv1": "bn1", "conv2": "bn2"},
        ResidualTwin,
    ),
    Case(
        "functional",
        Functional,
        {"conv1": "relu1", "conv2": "relu2", "conv3": "relu3", "conv4": "relu4"},
        {"conv1": "conv1", "conv2": "conv2", "conv3": "conv3", "conv4": "conv4"},
        FunctionalTwin,
    ),
    Case(
        "aliased",
        Aliased,
        {"conv1": "relu1", "conv2": "conv2", "conv3": "relu3"},
        {"conv1": "conv1", "conv2": "conv2", "conv3": "conv3"},
        AliasedTwin,
    ),
    Case("shared convolution", SharedConvolution, {"conv1": "relu1", "conv2": "conv2"}, {"conv1": "conv1", "conv2": "conv2"}),
    Case("convolutional classifier", ConvolutionalClassifier, {"conv1": "relu1"}, {"conv1": "conv1"}),
)
UNTRACEABLE = Case("untraceable", Untraceable, {"conv1": "conv1", "conv2": "conv2"}, {"conv1": "conv1", "conv2": "conv2"})


def case_id(case: Case) -> str:
    return case.name


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and batch-norm statistics, in eval mode; signals are neither all shut nor all open."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                spread = 1.5 * module.weight[0].numel() ** -0.5
                draw(module.weight, -spread, spread)
                if module.bias is not None:
                    draw(module.bias, -0.3, 0.3)
            elif isinstance(module, nn.BatchNorm2d):
                draw(module.running_mean, -0.2, 0.2)
                draw(module.running_var, 0.2, 1.0)
                if module.affine:
                    draw(module.weight, -1.5, 1.5)
                    draw(module.bias, -0.5, 0.5)
    return network.eval()


def inputs(count: int, *, size: int = IMAGE, seed: int = 0) -> Tensor:
    """Prepared images: standard normal, (count, 3, size, size)."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(100 + seed))


def coalitions(rows: int, n: int, *, seed: int = 0, share: float = 0.6) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, n)) < share


def labelled(count: int, *, size: int = 6, seed: int = 0, name: str = "tiny", groups: tuple[str, ...] = ("a", "a", "b")) -> LabelledImages:
    """Random images of two classes; groups in turn."""
    rng = np.random.default_rng(seed)
    return LabelledImages(
        pixels=rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        labels=rng.integers(0, 2, count),
        groups=np.array([groups[index % len(groups)] for index in range(count)]),
        classes=CLASSES,
        name=name,
    )


def twelve_filters(seed: int = 0) -> nn.Module:
    """A network with 12 players, small enough to enumerate."""
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 7, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 2)
    )
    randomised(network, seed)
    with torch.no_grad():
        network[6].weight *= 10  # random images look much alike after the mean over positions
    return network
