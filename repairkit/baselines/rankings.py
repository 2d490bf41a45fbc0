"""Baselines: other answers to which filters matter, each an `Attribution`, to be held against Shapley values at a known cost.

Ghorbani & Zou 2020 (section 4.1) compare with norms, leave-one-out and neuron conductance. Every function takes the game that the engine
plays, so that filters, constants, images and worth are the same; none of them draws coalitions. Values stand in units of their own; those of
`UNSIGNED` say how much a filter matters and not whether it helps or harms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from repairkit.errors import BudgetError, UsageError
from repairkit.network.classifier import check_logits
from repairkit.network.game import NetworkGame, full_memory
from repairkit.objectives import Probability, SubgroupRecall
from repairkit.run.ledger import Progress
from repairkit.shapley.game import GRADIENT_COST, Examples, Floats
from repairkit.shapley.values import Attribution, names

BASELINES = {
    "random": "An order drawn at random: what any other must beat.",
    "weight norm": "The largest l2 norm of the filter's weights first, as in magnitude pruning.",
    "response norm": "The largest l2 norm of what the filter sends on first.",
    "mean activation": "The largest mean of what the filter sends on first.",
    "leave-one-out": "What the worth loses when the filter alone is frozen, on as many images as the passes of the Shapley values pay for.",
    "taylor": "The derivative of the worth by the filter's mask at the whole network (leave-one-out to first order), for at most as many passes.",
    "conductance": "Neuron conductance: how much of the score, on the way from a black image, flows through the filter (50 Riemann steps).",
    "fairprune": "How much more the group that is served worst needs the filter than the one served best, to second order (after FairPrune).",
}
"""Name of every baseline, and what it is in a sentence."""
UNSIGNED = frozenset({"random", "weight norm", "response norm", "mean activation"})
"""Baselines without a harmful sign."""
DRAWS = 3
"""Random orders whose mean is what a removal curve is held against."""
RIEMANN_STEPS = 50
CHUNK = 8
"""Images on the way from black whose signals of all layers are held at once."""


def random_order(n: int, *, seed: int, draw: int = 0) -> npt.NDArray[np.int64]:
    """One of several random orders of n players, the same for the control of a removal and for the baseline, int64 (n,)."""
    return np.random.default_rng([seed, draw]).permutation(n)


def random_values(n: int, *, seed: int, draw: int = 0) -> Floats:
    """Places in a random order, as numbers in (0, 1], the first the greatest; float64 (n,)."""
    values = np.empty(n)
    values[random_order(n, seed=seed, draw=draw)] = 1 - np.arange(n) / n
    return values


def random(game: NetworkGame, *, seed: int) -> Attribution:
    """Places in a random order: what any other order must beat. Costs nothing."""
    return _attribution(game, "random", random_values(game.n, seed=seed), seed=seed)


def weight_norm(game: NetworkGame) -> Attribution:
    """The l2 norm of each filter's weights without its bias, by which magnitude pruning ranks filters. Costs nothing."""
    network = game.filters.network
    norms = [network.get_submodule(site.layer).weight.detach().flatten(1).norm(dim=1) for site in game.filters.sites]  # type: ignore[operator]
    return _attribution(game, "weight norm", torch.cat(norms).double().cpu().numpy())


def response_norm(game: NetworkGame, *, progress: Progress | None = None) -> Attribution:
    """The l2 norm of what each filter sends on (after batch norm and ReLU), mean over the images; a pass for each image."""
    return _responses(game, "response norm", lambda signal: signal.flatten(2).norm(dim=2), progress)


def mean_activation(game: NetworkGame, *, progress: Progress | None = None) -> Attribution:
    """What each filter sends on, mean over positions and images, like the constant that it is frozen at; a pass for each image."""
    return _responses(game, "mean activation", lambda signal: signal.mean(dim=(2, 3)), progress)


def leave_one_out(game: NetworkGame, *, budget: float, seed: int, progress: Progress | None = None) -> Attribution:
    """What the worth loses when a filter alone is frozen: its marginal contribution to the whole network, exact on as many images as the budget pays.

    Raises:
        BudgetError: the budget does not pay for one image.
    """
    players = np.arange(game.n)
    cost = game.flip_cost(players)
    live = np.ones((1, game.n), dtype=bool)
    return _mean(
        game, "leave-one-out", lambda examples: game.flips(live, examples, players), cost=cost, budget=budget, seed=seed, progress=progress
    )


def taylor(game: NetworkGame, *, budget: float, seed: int, progress: Progress | None = None) -> Attribution:
    """The derivative of the worth's surrogate by each filter's mask at the whole network: leave-one-out to first order (Molchanov et al. 2017).

    Raises:
        BudgetError: the budget does not pay for one image.
    """
    live = np.ones((1, game.n), dtype=bool)
    return _mean(
        game, "taylor", lambda examples: game.gradients(live, examples), cost=GRADIENT_COST, budget=budget, seed=seed, progress=progress
    )


def conductance(
    game: NetworkGame,
    *,
    images: int | None = None,
    budget: float | None = None,
    steps: int = RIEMANN_STEPS,
    seed: int,
    progress: Progress | None = None,
) -> Attribution:
    """Total conductance of each filter (Dhamdhere et al. 2018): how much of the score, on the way from a black image, flows through it.

    `sum over steps of (dF/dy at one image of the way) * (y at the next - y there)`, summed over the positions of a filter's signal y, F being
    the surrogate score. Captum's `LayerConductance` gives the same for one layer at a time (`method="riemann_trapezoid"`); here one pass
    serves all layers, without which no network of 94 layers could be compared at equal cost.

    Args:
        game: filters, images and worth.
        images: how many are drawn (the paper: 100), all where there are fewer; or else
        budget: image passes, of which one image takes `3 * (steps + 1)`.
        steps: of the sum.
        seed: draws the images.
        progress: told of the passes made.

    Raises:
        UsageError: both or neither of images and budget.
        BudgetError: the budget does not pay for one image.
    """
    if (images is None) == (budget is None):
        raise UsageError("give either images or a budget, in image passes")
    cost = GRADIENT_COST * (steps + 1)
    return _mean(
        game,
        "conductance",
        lambda examples: np.concatenate([_conductances(game, examples[index : index + 1], steps) for index in range(len(examples))]),
        cost=cost,
        budget=cost * images if images is not None else float(budget or 0),
        seed=seed,
        progress=progress,
    )


def fairprune(game: NetworkGame, *, progress: Progress | None = None) -> Attribution:
    """How much more the group that is served worst needs a filter than the one that is served best, to second order (Wu et al. 2022, FairPrune).

    Need is half the mean squared derivative of the surrogate by the filter's mask, the diagonal of the Fisher information in place of the
    Hessian's. Deviation: filters in place of single weights, and the lowest and the highest of any number of groups; both count alike.
    Costs a score for each image and a gradient for each of the two groups': 1 and 3 passes.

    Raises:
        UsageError: a worth without subgroups.
    """
    part = game.objective.terms[0]
    groups = part.images.groups
    objective = part.objective.objective if isinstance(part.objective, Probability) else part.objective
    if not isinstance(objective, SubgroupRecall) or len(np.unique(groups)) < 2:
        raise UsageError(f"fairprune compares subgroups, got {game.objective!r}; it is for repairs of fairness")
    live = np.ones((1, game.n), dtype=bool)
    examples = np.arange(len(part.images))
    right = game.scores(live, examples)
    order = sorted(np.unique(groups), key=lambda group: right[groups == group].mean())
    need, passes = [], float(len(examples))
    compared = [examples[groups == group] for group in (order[0], order[-1])]
    planned = passes + GRADIENT_COST * sum(map(len, compared))
    for members in compared:
        squares = np.zeros(game.n)
        for start in range(0, len(members), game.batch):
            some = members[start : start + game.batch]
            squares += (game.gradients(live, some) ** 2).sum(axis=0)
            passes += GRADIENT_COST * len(some)
            if progress:
                progress("fairprune", passes, planned)
        need.append(squares / len(members) / 2)
    return _attribution(game, "fairprune", need[0] - need[1], passes=passes, samples=len(examples))


def suspects(found: Attribution) -> Attribution:
    """The same with the sign of harm: of a baseline that knows none, the filters that matter most are the first suspects."""
    return replace(found, value=found.harmful * found.value) if found.engine in UNSIGNED else found


def _conductances(game: NetworkGame, example: Examples, steps: int) -> Floats:
    """Of one image for every filter, float64 (1, n)."""
    image = game.prepared(example)
    black = game.classifier.prepare(torch.zeros_like(image))
    way = torch.linspace(0, 1, steps + 1, device=image.device).reshape(-1, 1, 1, 1)
    total = np.zeros(game.n)
    last: list[tuple[Tensor, Tensor]] = []  # of every signal what it was at the last point, and its slope there
    chunk = min(CHUNK, game.batch)
    for start in range(0, steps + 1, chunk):
        points = (black + way[start : start + chunk] * (image - black)).requires_grad_()
        seen: list[tuple[int, Tensor]] = []
        with full_memory(chunk), torch.enable_grad():
            logits = game.filters.watch(points, partial(_note, seen))
            score = game.surrogate(check_logits(logits), np.repeat(example, len(points)))
            slopes = torch.autograd.grad(score.sum(), [signal for _, signal in seen], allow_unused=True, materialize_grads=True)
        here = [(signal.detach(), slope) for (_, signal), slope in zip(seen, slopes, strict=True)]
        joined = [tuple(map(torch.cat, zip(before, now, strict=True))) for before, now in zip(last, here, strict=True)] if last else here
        for (index, _), (signal, slope) in zip(seen, joined, strict=True):
            site = game.filters.sites[index]
            total[site.start : site.stop] += (slope[:-1] * signal.diff(dim=0)).sum(dim=(0, 2, 3)).double().cpu().numpy()
        last = [(signal[-1:], slope[-1:]) for signal, slope in here]
    return total[None]


def _note(seen: list[tuple[int, Tensor]], site: int, signal: Tensor) -> None:
    seen.append((site, signal))


def _responses(game: NetworkGame, engine: str, measure: Callable[[Tensor], Tensor], progress: Progress | None) -> Attribution:
    total = np.zeros(game.n)
    count = len(game.weights)

    def look(site: int, signal: Tensor) -> None:
        place = game.filters.sites[site]
        total[place.start : place.stop] += measure(signal).sum(dim=0, dtype=torch.float64).cpu().numpy()

    for start in range(0, count, game.batch):
        with full_memory(game.batch), torch.inference_mode():
            game.filters.watch(game.prepared(np.arange(start, min(start + game.batch, count))), look)
        if progress:
            progress(engine, min(start + game.batch, count), count)
    return _attribution(game, engine, total / count, passes=float(count), samples=count)


def _mean(
    game: NetworkGame,
    engine: str,
    contributions: Callable[[Examples], Floats],
    *,
    cost: float,
    budget: float,
    seed: int,
    progress: Progress | None,
) -> Attribution:
    """Weighted sum of contributions (k, n) over the examples: over all where the budget pays for them, else estimated from some drawn by their weights."""
    count = int(budget / cost + 1e-9)
    if count < 1:
        raise BudgetError(f"{engine} of {game.n:,} filters costs {cost:,.0f} image passes for one image, got a budget of {budget:,.0f}")
    if count >= len(game.weights):
        count = len(game.weights)
        examples, factors = np.arange(count), game.weights * count
    else:
        examples, factors = game.draw(np.random.default_rng(seed), count)
    total = np.zeros(game.n)
    for start in range(0, count, game.batch):
        rows = slice(start, min(start + game.batch, count))
        total += factors[rows] @ contributions(examples[rows])
        if progress:
            progress(engine, rows.stop * cost, count * cost)
    return _attribution(game, engine, total / count, passes=count * cost, samples=count, seed=seed)


def _attribution(game: NetworkGame, engine: str, value: Floats, *, passes: float = 0.0, samples: int = 0, seed: int = 0) -> Attribution:
    """A value for every filter, without interval: min_live is 1, since only the whole network was asked."""
    none = np.full(game.n, np.nan)
    return Attribution(
        ids=names(game.filters.ids, game.n),
        screen=none,
        value=value,
        half_width=none.copy(),
        samples=np.full(game.n, float(samples)),
        decided=np.zeros(game.n, dtype=bool),
        harmful=game.harmful,
        end="low" if game.harmful < 0 else "high",
        top_k=max(min(40, game.n // 2), 1),
        min_live=1.0,
        delta=1.0,
        seed=seed,
        engine=engine,
        passes={engine: passes} if passes else {},
    )
