"""Objectives: a weighted sum of per-example scores, and what follows from being one.

V(S) = sum_x w_x * score(network with only the filters S live, x)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from repairkit.data.images import LabelledImages
from repairkit.errors import UsageError

Weights = npt.NDArray[np.float64]


class Objective(ABC):
    """A task metric of one set of images; stateless, with no knowledge of networks.

    Class attributes:
        harmful: sign of the Shapley values of culprits. -1 where a high worth is good: a filter
            with a negative value lowers it. +1 where a high worth is bad (a loss, a gap, an attack).
        bounds: least and greatest score of an example.
    """

    harmful: Literal[-1, 1] = -1
    bounds: tuple[float, float] = (0.0, 1.0)

    @abstractmethod
    def weights(self, images: LabelledImages) -> Weights:
        """Signed weight of every image, float64 (N,)."""

    @abstractmethod
    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Score of every example: logits (k, classes), labels (k,) -> float (k,)."""

    @abstractmethod
    def surrogate(self, logits: Tensor, labels: Tensor) -> Tensor:
        """A smooth stand-in for `score` in the same units, with a gradient; float (k,)."""

    def on(self, images: LabelledImages) -> Worth:
        """The worth of coalitions under this objective on these images."""
        return Worth((Part(self, images, 1.0),))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class CorrectnessObjective(Objective):
    """An objective whose score is 1 where the network is right and 0 where it is wrong.

    The surrogate is the logistic function of the margin (the label's logit minus the greatest
    other), which for two classes is the probability of the label.
    """

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """1 where the arg max of the logits is the label, else 0."""
        return (logits.argmax(dim=1) == labels).to(torch.float32)

    def surrogate(self, logits: Tensor, labels: Tensor) -> Tensor:
        """`sigmoid(margin)`, in 0 .. 1."""
        return torch.sigmoid(margin(logits, labels))


class Smooth(Objective):
    """Another objective with its surrogate as the score: the same weights, far less variance.

    A hard score changes for few images when one filter changes side, so its exact flips need
    hundreds of times the samples; the sigmoid of the margin (with two classes the probability of the
    label) ranks the same way for far less. Values are then in that unit, not of recall.

    Example:
        >>> from repairkit.objectives import Accuracy
        >>> Smooth(Accuracy())
        Smooth(Accuracy())
    """

    def __init__(self, objective: CorrectnessObjective) -> None:
        self.objective = objective
        self.bounds = objective.bounds
        self.harmful = objective.harmful

    def weights(self, images: LabelledImages) -> Weights:
        """Those of the objective."""
        return self.objective.weights(images)

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The objective's surrogate."""
        return self.objective.surrogate(logits, labels)

    def surrogate(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The objective's surrogate."""
        return self.objective.surrogate(logits, labels)

    def __repr__(self) -> str:
        return f"Smooth({self.objective!r})"


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit minus the greatest other logit, float (k,)."""
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return own[:, 0] - others.amax(dim=1)


@dataclass(frozen=True)
class Part:
    """One objective on one set of images, times a factor."""

    objective: Objective
    images: LabelledImages
    factor: float


@dataclass(frozen=True)
class Worth:
    """What a coalition is worth: a weighted sum of objectives, each on its own images.

    The examples of all parts are numbered through. Weights stay in natural units: `scale`, the sum
    of their absolute values, is 1 for a recall and 2 for recall plus accuracy or a gap of recalls.
    Examples are drawn in proportion to |weight| and carry its sign (DESIGN writes sum |w| = 1; the
    factor `scale` restores the units in which a reader knows the metric).

    Example:
        >>> from repairkit.objectives import Accuracy
        >>> faces = LabelledImages(pixels=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0, 1]),
        ...     groups=np.array(["a", "b"]), classes=("no", "yes"), name="tiny")
        >>> both = Accuracy().on(faces) + 2 * Accuracy().on(faces)
        >>> both.scale, both.weights.tolist()
        (3.0, [0.5, 0.5, 1.0, 1.0])
        >>> both
        Accuracy() on tiny + 2 * Accuracy() on tiny
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise UsageError("the worth has no weight: every factor is 0; leave out parts that do not count")

    def __add__(self, other: Worth) -> Worth:
        return Worth(self.parts + other.parts)

    def __sub__(self, other: Worth) -> Worth:
        return self + (-1) * other

    def __rmul__(self, factor: float) -> Worth:
        return Worth(tuple(Part(part.objective, part.images, factor * part.factor) for part in self.parts))

    def __len__(self) -> int:
        return sum(len(part.images) for part in self.parts)

    def __repr__(self) -> str:
        return " + ".join(
            f"{'' if part.factor == 1 else f'{part.factor:g} * '}{part.objective!r} on {part.images.name}" for part in self.parts
        )

    @property
    def weights(self) -> Weights:
        """Signed weight of every example in natural units, float64 (N,)."""
        return np.concatenate([part.factor * part.objective.weights(part.images) for part in self.parts])

    @property
    def scale(self) -> float:
        """The sum of |weight|."""
        return float(np.abs(self.weights).sum())

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Number of the first example of each part, and the number of examples; int64 (parts + 1,)."""
        return np.cumsum([0] + [len(part.images) for part in self.parts])

    @property
    def harmful(self) -> Literal[-1, 1]:
        """Sign of the values of culprits.

        Raises:
            UsageError: the parts disagree, as in accuracy plus log loss.
        """
        signs = {int(np.sign(part.factor)) * part.objective.harmful for part in self.parts if part.factor}
        if len(signs) > 1:
            raise UsageError(f"{self!r} adds what is good to what is bad, so no sign of a value is harmful; subtract one from the other")
        return -1 if signs.pop() < 0 else 1

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest score of any example."""
        return min(part.objective.bounds[0] for part in self.parts), max(part.objective.bounds[1] for part in self.parts)
