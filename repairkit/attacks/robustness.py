"""What a repair is worth against an adversary, image by image: stored images, images carried over, attacks run afresh, and sanity.

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
    Attacked,
    Booleans,
    Tally,
    batches,
    check_attackable,
    derived_seed,
    perturb,
    predict_pixels,
    undisturbed,
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
class Outcome:
    """What an attack did to each image.

    Attributes:
        hit: bool (N,), the network says the adversary's target.
        recovered: bool (N,), the network says the true label.
        passes: image passes that it cost.
    """

    hit: Booleans
    recovered: Booleans
    passes: float

    def __len__(self) -> int:
        return len(self.hit)


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The worst of several attacks on the same images: hit by any, recovered from all.

    Raises:
        UsageError: no outcome, or of different numbers of images.

    Example:
        >>> one = Outcome(np.array([True, False]), np.array([False, True]), passes=1)
        >>> other = Outcome(np.array([False, False]), np.array([True, True]), passes=2)
        >>> both = worst([one, other])
        >>> both.hit.tolist(), both.recovered.tolist(), both.passes
        ([True, False], [False, True], 3)
    """
    sizes = [len(outcome) for outcome in outcomes]
    if len(set(sizes)) != 1:
        raise UsageError(f"expected outcomes of the same images, got {sizes} images")
    hit: Booleans = np.logical_or.reduce([outcome.hit for outcome in outcomes])
    recovered: Booleans = np.logical_and.reduce([outcome.recovered for outcome in outcomes])
    return Outcome(hit, recovered, sum(outcome.passes for outcome in outcomes))


def replay(classifier: Classifier, attacked: Attacked, *, batch: int = 32, progress: Progress | None = None) -> Outcome:
    """What a network says to stored adversarial images; made against another network, this is transfer.

    Cost: one pass for each image.

    Args:
        classifier: what is judged.
        attacked: from `repairkit.attacks.generate.attack`.
        batch: images of a pass.
        progress: told of image passes.

    Raises:
        ModelError: logits that are not finite, too few for the classes, or probabilities.
    """
    check_attackable(classifier, attacked.images, attacked.targets)
    tally = Tally(f"replay of {attacked.method.title}", len(attacked), progress)
    said = np.concatenate(
        [predict_pixels(classifier, attacked.images.batch(rows), tally=tally) for rows in batches(np.arange(len(attacked)), batch)]
    )
    return Outcome(said == attacked.targets, said == attacked.images.labels, tally.passes)


def afresh(
    classifier: Classifier,
    images: LabelledImages,
    targets: Indices,
    method: Method,
    *,
    restarts: int = 1,
    batch: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """Run an attack on the very network that is judged (adaptive), and judge its images before any rounding.

    A restart goes on with the images on which the attack did not succeed so far. `hit` holds where any restart got the
    target, `recovered` where the label survived all of them. For a method that is not `targeted` (APGD-T), `recovered` is what to read.

    Cost: at most `restarts * (method.passes + 1)` image passes for each image: with two restarts 182 for PGD of 30 steps, one
    restart of APGD-T 96 and of Square with 500 queries 504.

    Args:
        classifier: what is attacked and judged.
        images: clean, with their true labels.
        targets: int64 (N,), from `draw_targets`.
        method: the attack.
        restarts: at most so many tries; more than one is of use only to methods that draw random numbers.
        batch: images attacked at once.
        seed: same seed, batch, threads and device: same bits.
        progress: told of the image passes made, and of those planned at most.

    Raises:
        UsageError: fewer than one restart, a batch below 1, or a network that the method cannot attack.
        DataError: targets that do not fit.
        ModelError: logits that are not finite, too few for the classes, or probabilities.
    """
    if restarts < 1:
        raise UsageError(f"expected at least one restart, got {restarts}")
    check_attackable(classifier, images, targets)
    tally = Tally(f"{method.title} afresh", restarts * len(images) * (method.passes + 1), progress)
    return _tries(classifier, images, targets, method, np.arange(len(images)), restarts, batch, seed, tally)


@dataclass(frozen=True, eq=False)
class Sweep:
    """How large a change the adversary needs.

    Attributes:
        eps: the bounds tried, rising.
        hit: bool (bounds, N), the target was got within this bound or a smaller one.
        passes: image passes that it cost.
        restarts: tries within each bound.
    """

    eps: tuple[float, ...]
    hit: Booleans
    passes: float
    restarts: int = 1

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
    known: Outcome | None = None,
    batch: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sweep:
    """PGD afresh within one bound after the other, from the smallest; an image that gave in is not attacked again.

    The step is `method`'s, in proportion to eps.

    Cost: at most `len(eps) * restarts * (method.passes + 1)` image passes for each image (9 * 91 by default); on a
    network that gives in at a small eps, a fraction of it.

    Args:
        classifier: what is attacked and judged.
        images: clean, with their true labels.
        targets: int64 (N,), from `draw_targets`.
        method: PGD; of its parameters eps alone is replaced, and the step with it.
        eps: the bounds, rising, each in (0, 1].
        restarts: tries within each bound, a further one on the images that held.
        known: what `afresh` did with this method and as many restarts; where its own eps is one of the bounds, that is what is said of it, and
            nothing is attacked within it again, so that both say the same.
        batch: images attacked at once.
        seed: as in `afresh`.
        progress: told of the image passes made, and of those planned at most.

    Raises:
        UsageError: bounds that do not rise, fewer than one restart, a batch below 1, or an outcome of another number of images.
        DataError: targets that do not fit.
        ModelError: logits that are not finite, too few for the classes, or probabilities.
    """
    if not eps or any(later <= earlier for earlier, later in pairwise(eps)):
        raise UsageError(f"expected rising bounds eps, got {tuple(eps)}")
    if restarts < 1:
        raise UsageError(f"expected at least one restart, got {restarts}")
    if known is not None and len(known) != len(images):
        raise UsageError(f"expected the known outcome of the {len(images)} images, got one of {len(known)}")
    check_attackable(classifier, images, targets)
    tally = Tally("eps sweep", len(eps) * restarts * len(images) * (method.passes + 1), progress)
    hit = np.zeros((len(eps), len(images)), dtype=np.bool_)
    for row, bound in enumerate(eps):
        left = np.flatnonzero(~hit[row])
        if known is not None and bound == method.eps:
            hit[row:] |= known.hit
        elif len(left):
            found = _tries(classifier, images, targets, method.scaled(bound), left, restarts, batch, derived_seed(seed, row), tally)
            hit[row:, left] = found.hit[left]
    return Sweep(tuple(eps), hit, tally.passes, restarts)


@dataclass(frozen=True, eq=False)
class Sanity:
    """Whether an attack works as attacks do; where it does not, its failures say little about the network.

    Attributes:
        eps: bounds tried with all steps, rising; the last is the method's own.
        by_eps: bool (bounds, N), the target was got.
        steps: numbers of steps tried within the method's own bound, rising; the last is its own.
        by_steps: bool (numbers, N), the target was got.
        unbounded: bool (N,), the target was got with eps = 1.
        no_gradient: bool (N,), the loss has no gradient at the clean image.
        passes: image passes that it cost.
    """

    eps: tuple[float, ...]
    by_eps: Booleans
    steps: tuple[int, ...]
    by_steps: Booleans
    unbounded: Booleans
    no_gradient: Booleans
    passes: float

    @property
    def flags(self) -> tuple[str, ...]:
        """What is suspicious, in words; empty where nothing is.

        Success has to rise with eps up to none at all, and with steps, unless it is near all images from the start, or none gives in
        within the bound; a fall by one image, or by a twentieth of them, is laid to chance.
        """
        n = len(self.unbounded)
        found = []
        if not _rises(np.vstack([self.by_eps, self.unbounded])):
            counts = ", ".join(f"{int(row.sum())} at {eps * 255:g}/255" for eps, row in zip(self.eps, self.by_eps, strict=True))
            counts += f", {int(self.unbounded.sum())} without bound"
            found.append(f"success does not rise with eps: of {n} images {counts}")
        if self.by_steps.any() and not _rises(self.by_steps):
            counts = ", ".join(f"{int(row.sum())} with {steps}" for steps, row in zip(self.steps, self.by_steps, strict=True))
            found.append(f"success does not rise with steps: of {n} images {counts}")
        if not self.unbounded.all():
            found.append(f"an attack without bound gets {int(self.unbounded.sum())} of {n} images, and should get all")
        if self.no_gradient.any():
            found.append(f"the gradient vanishes at {int(self.no_gradient.sum())} of {n} images")
        return tuple(found)


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
    """Try an attack with less and with more of everything, to see whether its failures mean anything.

    PGD with all its steps at 1/16 and 1/4 of its eps and at eps (steps in proportion), with one step and with a quarter of its
    steps at eps, and without bound: eps 1, no random start, and steps that reach half of the range. Every image is attacked each
    time, so that success is free to fall.

    Cost: about `4.25 * method.passes` image passes for each image: 400 for PGD of 30 steps, so a few images do.

    Args:
        classifier: what is attacked and judged.
        images: clean, with their true labels.
        targets: int64 (N,), from `draw_targets`.
        method: PGD with the parameters to be checked.
        batch: images attacked at once.
        seed: as in `afresh`.
        progress: told of the image passes made, and of those planned.

    Raises:
        UsageError: a batch below 1.
        DataError: targets that do not fit.
        ModelError: logits that are not finite, too few for the classes, or probabilities.

    Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, section 5 (its basic sanity tests).
    """
    check_attackable(classifier, images, targets)
    eps = (method.eps / 16, method.eps / 4, method.eps)
    steps = tuple(sorted({1, max(1, method.steps // 4), method.steps}))
    unbounded = replace(method, eps=1.0, step=0.5 / method.steps, random_start=False)
    variants = [*(method.scaled(bound) for bound in eps), *(replace(method, steps=count) for count in steps[:-1]), unbounded]
    planned = len(images) * (sum(variant.passes + 1 for variant in variants) + GRADIENT_COST)
    tally, everything = Tally("sanity of the attack", planned, progress), np.arange(len(images))
    no_gradient = np.concatenate([_no_gradient(classifier, images, targets, rows, tally) for rows in batches(everything, batch)])
    hit = [_tries(classifier, images, targets, variant, everything, 1, batch, seed, tally).hit for variant in variants]
    by_steps = np.stack([*hit[len(eps) : -1], hit[len(eps) - 1]])
    return Sanity(eps, np.stack(hit[: len(eps)]), steps, by_steps, hit[-1], no_gradient, tally.passes)


def _tries(
    classifier: Classifier,
    images: LabelledImages,
    targets: Indices,
    method: Method,
    which: Indices,
    restarts: int,
    batch: int,
    seed: int,
    tally: Tally,
) -> Outcome:
    """The attack on the images `which`, again on those where it failed; of length N, the others as if it had failed on them."""
    hit, recovered = np.zeros(len(images), dtype=np.bool_), np.ones(len(images), dtype=np.bool_)
    goals, left, before = targets if method.targeted else images.labels, which, tally.passes
    for restart in range(restarts):
        for rows in batches(left, batch):
            made = perturb(classifier, images.batch(rows), goals[rows], method, seed=derived_seed(seed, restart, int(rows[0])), tally=tally)
            said = predict_pixels(classifier, made, tally=tally)
            hit[rows] |= said == targets[rows]
            recovered[rows] &= said == images.labels[rows]
        left = left[~hit[left] if method.targeted else recovered[left]]
    return Outcome(hit, recovered, tally.passes - before)


def _no_gradient(classifier: Classifier, images: LabelledImages, targets: Indices, rows: Indices, tally: Tally) -> Booleans:
    """Whether the loss towards the target has a gradient of zero, or none, at each image; bool (k,)."""
    with undisturbed(classifier, 0, tally):
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
