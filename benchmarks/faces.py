"""SqueezeNets on faces, and exact flips that keep the margin: what the benchmarks on large networks share.

With the margin before and after a flip every score of a two-class network is known (hard, smooth, any
function of the margin), and with the gradient of the margin that of every surrogate: one set of passes
serves them all.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from repairkit.data.images import LabelledImages
from repairkit.models import zoo
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame, prepared_batches
from repairkit.objectives import SubgroupRecall
from repairkit.objectives.base import Objective, margin
from repairkit.run.options import FreezeAt
from repairkit.shapley import Game

Floats = npt.NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""A function of the margin."""

SHARED = 4
"""Examples that share a coalition in exact flips, so that the variance between coalitions is known too."""
ROUND = 64


def hard(margins: Floats) -> Floats:
    """1 where the network is right."""
    return (margins > 0).astype(np.float64)


def smooth(margins: Floats) -> Floats:
    """Probability of the label; with two classes this is the logistic function of the margin."""
    return 1 / (1 + np.exp(-margins))


SURROGATES: dict[str, Score] = {
    "probability": lambda margins: smooth(margins) * smooth(-margins),
    "log-probability": lambda margins: smooth(-margins),
    "margin": np.ones_like,
}
"""What a screen may differentiate, by its slope by the margin. Of two classes, `sigmoid(margin)` is the label's probability."""


class MarginOnly(SubgroupRecall):
    """Subgroup recall with the margin itself as the score and as the surrogate."""

    bounds = (-math.inf, math.inf)

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The label's logit minus the greatest other."""
        return margin(logits, labels)

    def surrogate(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The same."""
        return margin(logits, labels)


def loaded(model: str | Path, pixels: int) -> Classifier:
    """A network by name or file that resizes its images."""
    found = zoo.load(model).classifier
    mean, std = found.mean.flatten().tolist(), found.std.flatten().tolist()
    return Classifier(found.network, classes=found.classes, mean=mean, std=std, size=pixels).eval()


def game_of(
    classifier: Classifier, images: LabelledImages, objective: Objective, *, freeze_at: FreezeAt = "post", device: str = "cpu"
) -> NetworkGame:
    """The game of all filters on these images, which also set the constants."""
    filters = ConvFilters(classifier.network, freeze_at=freeze_at, device=device)
    filters.calibrate(prepared_batches(classifier, images))
    return NetworkGame(classifier.to(device), filters, objective.on(images), batch=64)


def screens(game: Game, surrogates: dict[str, Score], *, gradients: int, seed: int, t0: float) -> dict[str, Floats]:
    """Mean first-order marginals under several surrogates; the game's surrogate is the margin, `surrogates` are their slopes by it.

    Times 1 - t0, so that they are in the units of values.
    """
    totals = {name: np.zeros(game.n) for name in surrogates}
    for index in range(0, gradients, ROUND):
        live, examples, factors = draw(game, min(ROUND, gradients - index), seed=[seed, 1, index], t0=t0, shared=1)
        slopes, margins = game.gradients(live, examples), game.scores(live, examples)
        for name, slope in surrogates.items():
            totals[name] += (factors * slope(margins)) @ slopes
    return {name: (1 - t0) * total / gradients for name, total in totals.items()}


def draw(game: Game, count: int, *, seed: list[int], t0: float, shared: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], Floats]:
    """Coalitions of sizes uniform in [t0, 1], each for `shared` examples in a row, the examples, and their factors."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(t0, 1, (-(-count // shared), 1))
    live = np.repeat(rng.random((len(sizes), game.n)) < sizes, shared, axis=0)[:count]
    examples, factors = game.draw(rng, count)
    return live, examples, factors


@dataclass(frozen=True, eq=False)
class Flips:
    """Margins of drawn images with and without each player.

    Attributes:
        players: int64 (c,).
        present, absent: margin with the player live and frozen, float32 (samples, c); `SHARED` samples in a row share a coalition.
        factors: of each sample, (samples,).
        t0: live range.
    """

    players: npt.NDArray[np.int64]
    present: npt.NDArray[np.float32]
    absent: npt.NDArray[np.float32]
    factors: Floats
    t0: float

    def marginals(self, score: Score) -> Floats:
        """Change of the score, times 1 - t0: float64 (coalitions, SHARED, c)."""
        change = score(self.present.astype(np.float64)) - score(self.absent.astype(np.float64))
        return ((1 - self.t0) * self.factors[:, None] * change).reshape(-1, SHARED, len(self.players))

    def values(self, score: Score) -> tuple[Floats, Floats]:
        """Mean of every player and its standard error; the coalitions, not the samples, are independent."""
        means = self.marginals(score).mean(axis=1)
        return means.mean(axis=0), means.std(axis=0, ddof=1) / np.sqrt(len(means))

    def variances(self, score: Score) -> tuple[Floats, float]:
        """Of one sample's marginal, (c,), and the share of it that lies between coalitions.

        The share is the mean over all players: that of a single one is too uncertain to be used.
        """
        marginals = self.marginals(score)
        within = marginals.var(axis=1, ddof=1).mean(axis=0)
        between = marginals.mean(axis=1).var(axis=0, ddof=1) - within / SHARED
        total = within + between
        moved = total > 0
        return total.clip(0), float(np.clip(np.mean(between[moved] / total[moved]), 0, 1))


def exact_flips(game: Game, players: npt.NDArray[np.int64], *, samples: int, seed: int, t0: float, file: Path | None = None) -> Flips:
    """Flip the players on drawn coalitions and images; the game's score is the margin.

    Args:
        game: of margins.
        players: who is flipped, all on the same samples.
        samples: at least so many; rounded up to whole rounds.
        seed: of the draws.
        t0: live range.
        file: npz with earlier rounds of the same players, which is taken up and extended.
    """
    parts: list[tuple[Floats, ...]] = []
    if file and file.exists():
        with np.load(file) as kept:
            if not np.array_equal(kept["players"], players) or kept["t0"] != t0:
                raise SystemExit(f"{file} holds flips of other filters or of another live range; remove it or name another file")
            parts.append((kept["present"], kept["absent"], kept["factors"]))
    while (done := sum(len(part[2]) for part in parts)) < samples:
        live, examples, factors = draw(game, ROUND, seed=[seed, 2, done], t0=t0, shared=SHARED)
        before = game.scores(live, examples)[:, None]
        change = game.flips(live, examples, players)
        was_live = live[:, players]
        present, absent = np.where(was_live, before, before + change), np.where(was_live, before - change, before)
        parts.append((present.astype(np.float32), absent.astype(np.float32), factors))
        if done // ROUND % 4 == 3 or done + ROUND >= samples:
            print(f"{done + ROUND} samples of {len(players)} filters", file=sys.stderr, flush=True)
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                present, absent, factors = (np.concatenate(part) for part in zip(*parts, strict=True))
                np.savez(file, players=players, present=present, absent=absent, factors=factors, t0=t0)
    present, absent, factors = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Flips(players, present, absent, factors, t0)


def contenders(found: dict[str, Floats], *, each: int, others: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Players worth flipping: the `each` lowest and highest of every screen, and `others` drawn from all; and which those are."""
    extremes = [player for values in found.values() for part in (slice(each), slice(-each, None)) for player in np.argsort(values)[part]]
    n = len(next(iter(found.values())))
    at_random = np.sort(np.random.default_rng([seed, 3]).choice(n, size=min(others, n), replace=False))
    return np.unique(np.concatenate([extremes, at_random])).astype(np.int64), at_random.astype(np.int64)


def precision(named: npt.NDArray[np.int64], truth: Floats, errors: Floats, top: int, *, low: bool) -> float:
    """How many of the named, at most `top`, belong to the `top` of an end, or miss its border by at most 2 standard errors of their true value; over `top`."""
    sign = 1 if low else -1
    border = np.sort(sign * truth)[top - 1]
    return float(np.sum(sign * truth[named] <= border + 2 * errors[named]) / top)


def plausible(truth: Floats, errors: Floats, rng: np.random.Generator) -> Floats:
    """True values as the measured ones leave them open: normal, drawn towards the mean by the share of noise in each."""
    spread = max(float(truth.var() - np.mean(errors**2)), 1e-12)
    trust = spread / (spread + errors**2)
    draw: Floats = truth.mean() + trust * (truth - truth.mean()) + np.sqrt(trust) * errors * rng.normal(size=len(truth))
    return draw
