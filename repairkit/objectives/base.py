"""Objectives: weighted sums of scores of single examples.

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
    """A metric of one set of images; it has no state and knows no network."""

    harmful: Literal[-1, 1] = -1
    """Sign of the Shapley values of harmful filters: -1 where a high score is good, 1 where it is bad (a loss, a gap, an attack)."""
    bounds: tuple[float, float] = (0.0, 1.0)  # least and greatest score of an example

    @abstractmethod
    def weights(self, images: LabelledImages) -> Weights:
        """Signed weight of every image, float64 (N,)."""

    @abstractmethod
    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Score of every example: logits (k, classes), labels (k,) -> float (k,)."""

    @abstractmethod
    def surrogate(self, logits: Tensor, labels: Tensor) -> Tensor:
        """A differentiable approximation of `score` in the same units; float (k,)."""

    def on(self, images: LabelledImages) -> ObjectiveSum:
        """This objective on these images, to be added to others."""
        return ObjectiveSum((Term(self, images, 1.0),))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class CorrectnessObjective(Objective):
    """An objective whose score is 1 where the network is right and 0 where it is wrong.

    The surrogate is the sigmoid of the margin. With two classes that is the probability of the label.
    """

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """1 where the arg max of the logits is the label, else 0."""
        return (logits.argmax(dim=1) == labels).to(torch.float32)

    def surrogate(self, logits: Tensor, labels: Tensor) -> Tensor:
        """`sigmoid(margin)`, in 0 .. 1."""
        return torch.sigmoid(margin(logits, labels))


class Probability(Objective):
    """The surrogate of a correctness objective as its score: with two classes the mean probability of the label.

    Freezing one filter changes the accuracy of few images, so that values of accuracy need hundreds of times the samples. Values are in units of
    probability.

    Example:
        >>> from repairkit.objectives import Accuracy
        >>> Probability(Accuracy())
        Probability(Accuracy())
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
        return f"Probability({self.objective!r})"


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit minus the greatest other logit, float (k,)."""
    label_logits = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return label_logits[:, 0] - others.amax(dim=1)


@dataclass(frozen=True)
class Term:
    """One objective on one set of images, times a factor."""

    objective: Objective
    images: LabelledImages
    factor: float


@dataclass(frozen=True)
class ObjectiveSum:
    """The score of a coalition: a weighted sum of objectives, each on its images, whose examples are numbered through.

    `scale` is the sum of the absolute weights: 1 for a recall, 2 for a recall plus an accuracy and for a gap of recalls. Examples are sampled in
    proportion to |weight| and carry its sign.

    Example:
        >>> from repairkit.objectives import Accuracy
        >>> faces = LabelledImages(pixels=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0, 1]),
        ...     groups=np.array(["a", "b"]), classes=("no", "yes"), name="tiny")
        >>> objective = Accuracy().on(faces) + 2 * Accuracy().on(faces)
        >>> objective.scale, objective.weights.tolist()
        (3.0, [0.5, 0.5, 1.0, 1.0])
        >>> objective
        Accuracy() on tiny + 2 * Accuracy() on tiny
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise UsageError("expected an objective with a weight, every factor is 0; leave out terms that do not count")

    def __add__(self, other: ObjectiveSum) -> ObjectiveSum:
        return ObjectiveSum(self.terms + other.terms)

    def __sub__(self, other: ObjectiveSum) -> ObjectiveSum:
        return self + (-1) * other

    def __rmul__(self, factor: float) -> ObjectiveSum:
        return ObjectiveSum(tuple(Term(term.objective, term.images, factor * term.factor) for term in self.terms))

    def __len__(self) -> int:
        return sum(len(term.images) for term in self.terms)

    def __repr__(self) -> str:
        return " + ".join(
            f"{'' if term.factor == 1 else f'{term.factor:g} * '}{term.objective!r} on {term.images.name}" for term in self.terms
        )

    @property
    def weights(self) -> Weights:
        """Signed weight of every example in natural units, float64 (N,)."""
        return np.concatenate([term.factor * term.objective.weights(term.images) for term in self.terms])

    @property
    def scale(self) -> float:
        """The sum of |weight|."""
        return float(np.abs(self.weights).sum())

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Number of the first example of each term, and the number of examples; int64 (terms + 1,)."""
        return np.cumsum([0] + [len(term.images) for term in self.terms])

    @property
    def harmful(self) -> Literal[-1, 1]:
        """Sign of the values of harmful filters; `UsageError` where the terms disagree, as in accuracy plus log loss."""
        signs = {int(np.sign(term.factor)) * term.objective.harmful for term in self.terms if term.factor}
        if len(signs) > 1:
            raise UsageError(
                f"{self!r} adds a score where high is good to one where high is bad, so that no sign of a value is harmful; subtract one from the other"
            )
        return -1 if signs.pop() < 0 else 1

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest score of any example."""
        return min(term.objective.bounds[0] for term in self.terms), max(term.objective.bounds[1] for term in self.terms)
