"""How robust a network is, image by image: replayed images, adaptive attacks, a sweep over bounds, and checks of the attack itself.

Every function returns what happened to each image and never a bare rate, so that the caller has n, intervals and paired tests. After
Carlini et al. 2019, On Evaluating Adversarial Robustness. Costs are in image passes: forward 1, forward and backward 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from repairkit.attacks.generate import (
    AdversarialSet,
    Booleans,
    PassCounter,
    batches,
    check_attackable,
    derived_seed,
    perturb,
    predict_pixels,
    preserving_state,
)
from repairkit.attacks.methods import PGD, Method
from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import UsageError
from repairkit.network.classifier import Classifier
from repairkit.run.ledger import Progress
from repairkit.shapley.game import GRADIENT_COST

EPS_GRID = tuple(2.0**power / 255 for power in range(-4, 5))
"""1/16 to 16 of 255, in factors of two."""


@dataclass(frozen=True, eq=False)
class Robustness:
    """What an attack did to each image."""

    hit: Booleans  # (N,), the network gives the target
    recovered: Booleans  # (N,), the network gives the true label
    passes: float  # image passes that it cost

    def __len__(self) -> int:
        return len(self.hit)


def worst(outcomes: Sequence[Robustness]) -> Robustness:
    """The worst of several attacks on the same images: hit by any, recovered from all.

    Raises:
        UsageError: no outcome, or of different numbers of images.

    Example:
        >>> one = Robustness(np.array([True, False]), np.array([False, True]), passes=1)
        >>> other = Robustness(np.array([False, False]), np.array([True, True]), passes=2)
        >>> together = worst([one, other])
        >>> together.hit.tolist(), together.recovered.tolist(), together.passes
        ([True, False], [False, True], 3)
    """
    sizes = [len(outcome) for outcome in outcomes]
    if len(set(sizes)) != 1:
        raise UsageError(f"expected outcomes of the same images, got {sizes} images")
    hit: Booleans = np.logical_or.reduce([outcome.hit for outcome in outcomes])
    recovered: Booleans = np.logical_and.reduce([outcome.recovered for outcome in outcomes])
    return Robustness(hit, recovered, sum(outcome.passes for outcome in outcomes))


def replay(classifier: Classifier, attacked: AdversarialSet, *, batch: int = 32, progress: Progress | None = None) -> Robustness:
    """What a network answers to stored adversarial images, at one pass for each; made against another network, this is transfer.

    Raises:
        ModelError: logits that are not finite, too few for the classes, or probabilities.
    """
    check_attackable(classifier, attacked.images, attacked.targets)
    counter = PassCounter(f"replay of {attacked.method.title}", len(attacked), progress)
    predicted = np.concatenate(
        [predict_pixels(classifier, attacked.images.batch(rows), counter=counter) for rows in batches(np.arange(len(attacked)), batch)]
    )
    return Robustness(predicted == attacked.targets, predicted == attacked.images.labels, counter.passes)


def attack_again(
    classifier: Classifier,
    images: LabelledImages,
    targets: Indices,
    method: Method,
    *,
    restarts: int = 1,
    batch: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> Robustness:
    """Run an attack on the network itself (adaptive), and judge its images before any rounding.

    A restart goes on with the images on which the attack failed so far. `hit` holds where any restart got the target, `recovered` where
    the label survived all of them. For a method that is not `targeted` (APGD-T), `recovered` is what to read.
    Cost: at most `restarts * (method.passes + 1)` for each image.

    Args:
        classifier: the network.
        images: clean, with their true labels.
        targets: int64 (N,), from `draw_targets`.
        method: the attack.
        restarts: at most so many; more than one is of use only to methods that draw random numbers.
        batch: images attacked at once.
        seed: same seed, batch, threads and device: same bits.
        progress: shown the image passes made, and those planned at most.

    Raises:
        UsageError: fewer than one restart, a batch below 1, or a network that the method cannot attack.
        DataError: targets that do not fit.
        ModelError: logits that are not finite, too few for the classes, or probabilities.
    """
    if restarts < 1:
        raise UsageError(f"expected at least one restart, got {restarts}")
    check_attackable(classifier, images, targets)
    counter = PassCounter(f"adaptive {method.title}", restarts * len(images) * (method.passes + 1), progress)
    return _tries(classifier, images, targets, method, np.arange(len(images)), restarts, batch, seed, counter)


@dataclass(frozen=True, eq=False)
class Sweep:
    """How large a change the attack needs."""

    eps: tuple[float, ...]  # bounds, rising
    hit: Booleans  # (bounds, N), the target was got within this bound or a smaller one
    passes: float  # image passes that it cost
    restarts: int = 1  # within each bound

    @property
    def least(self) -> npt.NDArray[np.float64]:
        """The least eps that got the target of each image, float64 (N,); infinite where none did.

        Example:
            >>> Sweep((0.1, 0.2), np.array([[True, False, False], [True, True, False]]), passes=0).least.tolist()
            [0.1, 0.2, inf]
        """
        first = self.hit.argmax(axis=0)
        return np.where(self.hit.any(axis=0), np.array(self.eps)[first], math.inf)

    @property
    def median(self) -> float:
        """The least eps that gets the targets of half of the images or more; infinite where none does.

        Example:
            >>> Sweep((0.1, 0.2), np.array([[True, False, False], [True, True, False]]), passes=0).median
            0.2
        """
        return float(np.sort(self.least)[(self.hit.shape[1] - 1) // 2])


def sweep(
    classifier: Classifier,
    images: LabelledImages,
    targets: Indices,
    method: PGD,
    *,
    eps: Sequence[float] = EPS_GRID,
    restarts: int = 1,
    known: Robustness | None = None,
    batch: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sweep:
    """Adaptive PGD within one bound after the other, from the smallest; an image that gave in is not attacked again.

    Cost: at most `len(eps) * restarts * (method.passes + 1)` for each image. The bounds `eps` rise, each in (0, 1]; the step of `method`
    changes in proportion. `known` is the result of `attack_again` with this method and as many restarts: it stands for the bound that is
    the method's own. All else is as in `attack_again`.

    Raises:
        UsageError: bounds that do not rise, fewer than one restart, a batch below 1, or a result of another number of images.
        DataError: targets that do not fit.
        ModelError: logits that are not finite, too few for the classes, or probabilities.
    """
    if not eps or any(later <= earlier for earlier, later in pairwise(eps)):
        raise UsageError(f"expected rising bounds eps, got {tuple(eps)}")
    if restarts < 1:
        raise UsageError(f"expected at least one restart, got {restarts}")
    if known is not None and len(known) != len(images):
        raise UsageError(f"expected the known result of {len(images)} images, got one of {len(known)}")
    check_attackable(classifier, images, targets)
    counter = PassCounter("eps sweep", len(eps) * restarts * len(images) * (method.passes + 1), progress)
    hit = np.zeros((len(eps), len(images)), dtype=np.bool_)
    for row, bound in enumerate(eps):
        left = np.flatnonzero(~hit[row])
        if known is not None and bound == method.eps:
            hit[row:] |= known.hit
        elif len(left):
            tried = _tries(classifier, images, targets, method.scaled(bound), left, restarts, batch, derived_seed(seed, row), counter)
            hit[row:, left] = tried.hit[left]
    return Sweep(tuple(eps), hit, counter.passes, restarts)


@dataclass(frozen=True, eq=False)
class Sanity:
    """Whether an attack works as attacks do; where it does not, its failures say little about the network."""

    eps: tuple[float, ...]  # bounds with all steps, rising; the last is the method's own
    by_eps: Booleans  # (bounds, N), the target was got
    steps: tuple[int, ...]  # numbers of steps within the method's own bound, rising; the last is its own
    by_steps: Booleans  # (numbers, N), the target was got
    unbounded: Booleans  # (N,), the target was got with eps = 1
    no_gradient: Booleans  # (N,), the loss has no gradient at the clean image
    passes: float  # image passes that it cost

    @property
    def flags(self) -> tuple[str, ...]:
        """What is suspicious, in words; empty where nothing is.

        Success must rise with eps and with steps, unless it is near all images from the start, or no image gives in within the bound. A fall
        by one image, or by a twentieth of them, may be chance.
        """
        n = len(self.unbounded)
        flags = []
        if not _rises(np.vstack([self.by_eps, self.unbounded])):
            counts = ", ".join(f"{int(row.sum())} at {eps * 255:g}/255" for eps, row in zip(self.eps, self.by_eps, strict=True))
            counts += f", {int(self.unbounded.sum())} without bound"
            flags.append(f"success does not rise with eps: of {n} images {counts}")
        if self.by_steps.any() and not _rises(self.by_steps):
            counts = ", ".join(f"{int(row.sum())} with {steps}" for steps, row in zip(self.steps, self.by_steps, strict=True))
            flags.append(f"success does not rise with steps: of {n} images {counts}")
        if not self.unbounded.all():
            flags.append(f"an attack without bound gets {int(self.unbounded.sum())} of {n} images, and should get all")
        if self.no_gradient.any():
            flags.append(f"the gradient vanishes at {int(self.no_gradient.sum())} of {n} images")
        return tuple(flags)


def sanity(
    classifier: Classifier,
    images: LabelledImages,
    targets: Indices,
    method: PGD,
    *,
    batch: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sanity:
    """Try PGD with less and with more of every_image, to see whether its failures mean anything.

    It runs with all steps at 1/16 and 1/4 of its eps and at eps, with one step and a quarter of its steps at eps, and without bound: eps 1,
    no random start, steps that reach half of the range. Every image is attacked each time, so that success is free to fall.
    Cost: about `4.25 * method.passes` for each image. The arguments are those of `attack_again`.

    Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, section 5 (its basic sanity tests).
    """
    check_attackable(classifier, images, targets)
    eps = (method.eps / 16, method.eps / 4, method.eps)
    steps = tuple(sorted({1, max(1, method.steps // 4), method.steps}))
    unbounded = replace(method, eps=1.0, step=0.5 / method.steps, random_start=False)
    variants = [*(method.scaled(bound) for bound in eps), *(replace(method, steps=count) for count in steps[:-1]), unbounded]
    planned = len(images) * (sum(variant.passes + 1 for variant in variants) + GRADIENT_COST)
    counter, every_image = PassCounter("sanity of the attack", planned, progress), np.arange(len(images))
    no_gradient = np.concatenate([_no_gradient(classifier, images, targets, rows, counter) for rows in batches(every_image, batch)])
    hit = [_tries(classifier, images, targets, variant, every_image, 1, batch, seed, counter).hit for variant in variants]
    by_steps = np.stack([*hit[len(eps) : -1], hit[len(eps) - 1]])
    return Sanity(eps, np.stack(hit[: len(eps)]), steps, by_steps, hit[-1], no_gradient, counter.passes)


def _tries(
    classifier: Classifier,
    images: LabelledImages,
    targets: Indices,
    method: Method,
    which: Indices,
    restarts: int,
    batch: int,
    seed: int,
    counter: PassCounter,
) -> Robustness:
    """The attack on the images `which`, again on those where it failed; of length N, the others as if it had failed on them."""
    hit, recovered = np.zeros(len(images), dtype=np.bool_), np.ones(len(images), dtype=np.bool_)
    goals, left, before = targets if method.targeted else images.labels, which, counter.passes
    for restart in range(restarts):
        for rows in batches(left, batch):
            made = perturb(
                classifier, images.batch(rows), goals[rows], method, seed=derived_seed(seed, restart, int(rows[0])), counter=counter
            )
            predicted = predict_pixels(classifier, made, counter=counter)
            hit[rows] |= predicted == targets[rows]
            recovered[rows] &= predicted == images.labels[rows]
        left = left[~hit[left] if method.targeted else recovered[left]]
    return Robustness(hit, recovered, counter.passes - before)


def _no_gradient(classifier: Classifier, images: LabelledImages, targets: Indices, rows: Indices, counter: PassCounter) -> Booleans:
    """Whether the loss towards the target has a gradient of zero, or none, at each image; bool (k,)."""
    with preserving_state(classifier, 0, counter):
        clean = images.batch(rows).to(classifier.mean.device).requires_grad_()
        loss = F.cross_entropy(classifier(clean), torch.from_numpy(targets[rows]).to(clean.device), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, clean)
    vanishes: Booleans = ~(gradient.abs().amax(dim=(1, 2, 3)) > 0).cpu().numpy()
    return vanishes


def _rises(success: Booleans) -> bool:
    """Whether more images give in from row to row; see `Sanity.flags`."""
    counts, n = success.sum(axis=1).tolist(), success.shape[1]
    slack = max(1.0, n / 20)
    falls = any(later < earlier - slack for earlier, later in pairwise(counts))
    return not falls and (counts[-1] > counts[0] or counts[0] >= n - slack)
