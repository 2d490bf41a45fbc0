"""The attacks: frozen sets of checked parameters around those of torchattacks, all bounded in L-infinity.

An attack may change every channel of every pixel by at most eps, in units of images in [0, 1]
(16 of 255 levels is 16 / 255). Costs are in image passes: forward 1, forward and backward 3.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self

from repairkit.errors import DataError, UsageError
from repairkit.network.classifier import Classifier
from repairkit.report.formatting import eps_text
from repairkit.shapley.game import GRADIENT_COST


@dataclass(frozen=True)
class Method(ABC):
    """An attack with its parameters, of which those outside their range raise a UsageError; knows no network and no image."""

    title: ClassVar[str]
    eps: float = 16 / 255  # largest change of a channel of a pixel, in (0, 1]

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:
            raise UsageError(
                f"{self.title}: expected eps in (0, 1], for images in [0, 1], got {self.eps:g}; "
                "16 of 255 levels is 16/255, and an attack with eps = 0 changes nothing"
            )

    @property
    def targeted(self) -> bool:
        """True if it succeeds where the network says the adversary's target, False where it no longer says the label."""
        return True

    @property
    @abstractmethod
    def passes(self) -> float:
        """Image passes for each image, at most."""

    def build(self, classifier: Classifier, seed: int) -> Any:
        """The attack of torchattacks on this classifier; call it with images in [0, 1] and targets, or labels where not `targeted`.

        `seed` is for the attacks that seed torch's generator themselves; the others draw from it as it is.
        """
        attack = self._attack(classifier, seed)
        if self.targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        return attack

    @abstractmethod
    def _attack(self, classifier: Classifier, seed: int) -> Any:
        """The same, not yet aimed."""

    def record(self) -> dict[str, object]:
        """Name and parameters, as JSON can hold them; `method_of` is the inverse."""
        return {"method": type(self).__name__} | asdict(self)


def _check_count(method: Method, name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{method.title}: expected {name} of at least 1, a whole number, got {value}")


def _check_positive(method: Method, name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise UsageError(f"{method.title}: expected {name} above 0, got {value:g}")


@dataclass(frozen=True)
class PGD(Method):
    """Projected gradient descent: steps along the sign of the gradient, each brought back into the bound.

    Source: Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks; targeted, with
    the parameters of Ghorbani & Zou 2020.

    Example:
        >>> PGD().passes
        90.0
        >>> PGD(eps=0.0)
        Traceback (most recent call last):
        repairkit.errors.UsageError: PGD: expected eps in (0, 1], for images in [0, 1], got 0; ...
    """

    title: ClassVar[str] = "PGD"
    step: float = 0.8 / 255  # how far a step goes
    steps: int = 30
    random_start: bool = True  # begin at a random point within the bound

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, "step", self.step)
        _check_count(self, "steps", self.steps)

    @property
    def passes(self) -> float:
        """A gradient for each step."""
        return GRADIENT_COST * self.steps

    @property
    def in_words(self) -> str:
        """The attack and its parameters, for reports.

        Example:
            >>> PGD().in_words
            'PGD, L-infinity, eps 16/255, 30 steps of 0.8/255, a random start'
        """
        start = "a random start" if self.random_start else "no random start"
        return f"{self.title}, L-infinity, eps {eps_text(self.eps)}/255, {self.steps} steps of {self.step * 255:g}/255, {start}"

    def scaled(self, eps: float) -> Self:
        """The same attack within another eps: the step shrinks or grows with it.

        Example:
            >>> round(PGD().scaled(1 / 255).step * 255, 3)
            0.05
        """
        return replace(self, eps=eps, step=self.step * eps / self.eps)

    def _attack(self, classifier: Classifier, seed: int) -> Any:
        import torchattacks

        return torchattacks.PGD(classifier, eps=self.eps, alpha=self.step, steps=self.steps, random_start=self.random_start)


@dataclass(frozen=True)
class FGSM(Method):
    """One step of eps along the sign of the gradient, towards the target.

    Source: Goodfellow et al. 2015, Explaining and Harnessing Adversarial Examples.
    """

    title: ClassVar[str] = "FGSM"

    @property
    def passes(self) -> float:
        """One gradient."""
        return GRADIENT_COST

    def _attack(self, classifier: Classifier, seed: int) -> Any:
        import torchattacks

        return torchattacks.FGSM(classifier, eps=self.eps)


@dataclass(frozen=True)
class MIFGSM(Method):
    """MI-FGSM: signed steps along gradients with momentum, which transfer better to other networks.

    Source: Dong et al. 2018, Boosting Adversarial Attacks with Momentum (their 10 steps of eps / 10).
    An image without any gradient stays as it is from there on: momentum divides by it.
    """

    title: ClassVar[str] = "MI-FGSM"
    step: float = 1.6 / 255
    steps: int = 10
    decay: float = 1.0  # of the momentum, 0 or more

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, "step", self.step)
        _check_count(self, "steps", self.steps)
        if not (self.decay >= 0 and math.isfinite(self.decay)):
            raise UsageError(f"{self.title}: expected a decay of 0 or more, got {self.decay:g}")

    @property
    def passes(self) -> float:
        """A gradient for each step."""
        return GRADIENT_COST * self.steps

    def _attack(self, classifier: Classifier, seed: int) -> Any:
        import torchattacks

        return torchattacks.MIFGSM(classifier, eps=self.eps, alpha=self.step, steps=self.steps, decay=self.decay)


@dataclass(frozen=True)
class DIFGSM(MIFGSM):
    """DI-FGSM: as MI-FGSM but without momentum, with the image shrunk and padded at random before each step; for square images.

    Source: Xie et al. 2019, Improving Transferability of Adversarial Examples with Input Diversity.
    """

    title: ClassVar[str] = "DI-FGSM"
    decay: float = 0.0
    diversity: float = 0.5  # probability that a batch is shrunk, to nine tenths of its side or more

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.diversity <= 1:
            raise UsageError(f"{self.title}: expected a diversity in [0, 1], the share of batches that are shrunk, got {self.diversity:g}")

    def _attack(self, classifier: Classifier, seed: int) -> Any:
        import torchattacks

        return torchattacks.DIFGSM(
            classifier, eps=self.eps, alpha=self.step, steps=self.steps, decay=self.decay, diversity_prob=self.diversity
        )


@dataclass(frozen=True)
class Square(Method):
    """Random search over squares of pixels; sees the network's logits and no gradient.

    Squares are the same for all images of a batch, as in the authors' code. An image on which it fails stays as it was.

    Source: Andriushchenko et al. 2020, Square Attack.

    Example:
        >>> Square().passes, Square(aimed=False).targeted
        (503.0, False)
    """

    title: ClassVar[str] = "Square"
    queries: int = 500  # forward passes for each image
    aimed: bool = True  # get the target; False, as the paper mostly has it: lose the label

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_count(self, "queries", self.queries)

    @property
    def targeted(self) -> bool:
        """As `aimed` says."""
        return self.aimed

    @property
    def passes(self) -> float:
        """A pass for each query, and three to begin and to end with; fewer for images that give in early."""
        return self.queries + 3.0

    def _attack(self, classifier: Classifier, seed: int) -> Any:
        import torchattacks

        return torchattacks.Square(classifier, norm="Linf", eps=self.eps, n_queries=self.queries, n_restarts=1, seed=seed)


@dataclass(frozen=True)
class APGDT(Method):
    """APGD-T: PGD that sets its own steps, on a loss that no scaling of the logits can flatten.

    It aims at the classes that the network finds likeliest next to the label, one after the other. So it has no target of ours: it
    succeeds where the network no longer gives the label. Images that the network gets wrong, and those on which it fails, stay as they were.
    To `build` it raises a UsageError for a network with fewer than four classes, which the loss compares, or too few to aim at.

    Source: Croce & Hein 2020, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks.

    Example:
        >>> APGDT().passes
        95.0
    """

    title: ClassVar[str] = "APGD-T"
    steps: int = 30  # for each class it aims at
    classes: int = 1  # that it aims at (the paper: 9)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_count(self, "steps", self.steps)
        _check_count(self, "classes", self.classes)

    @property
    def targeted(self) -> bool:
        """False."""
        return False

    @property
    def passes(self) -> float:
        """For each class the steps, one gradient before and one pass to choose it; and one pass to see who is right."""
        return 1.0 + self.classes * (GRADIENT_COST * (self.steps + 1) + 1)

    def _attack(self, classifier: Classifier, seed: int) -> Any:
        import torchattacks

        least = max(4, self.classes + 1)
        if len(classifier.classes) < least:
            raise UsageError(
                f"{self.title} with {self.classes} class(es) to aim at needs a network of at least {least}, got {len(classifier.classes)}; "
                "its loss compares the four greatest logits: leave it out, PGD with restarts takes any number"
            )
        return torchattacks.APGDT(
            classifier, norm="Linf", eps=self.eps, steps=self.steps, n_restarts=1, seed=seed, n_classes=self.classes + 1
        )


METHODS: tuple[type[Method], ...] = (PGD, FGSM, MIFGSM, DIFGSM, Square, APGDT)


def method_of(record: Mapping[str, object]) -> Method:
    """The method with the parameters that `record` holds.

    Raises:
        DataError: no such method, other parameters than it has, or one outside its range.

    Example:
        >>> method_of(Square(queries=20).record())
        Square(eps=0.06274509803921569, queries=20, aimed=True)
    """
    chosen = {method.__name__: method for method in METHODS}.get(str(record.get("method")))
    parameters: dict[str, Any] = {key: value for key, value in record.items() if key != "method"}
    if chosen is None or set(parameters) != {field.name for field in fields(chosen)}:
        raise DataError(f"expected one of {', '.join(method.__name__ for method in METHODS)} with its parameters, got {dict(record)}")
    try:
        return chosen(**parameters)
    except (TypeError, UsageError) as error:
        raise DataError(f"the parameters of {chosen.__name__} cannot be used ({error})") from None
