"""Slow, literal re-implementations: nothing here is shared with the code under test."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

Value = Callable[[frozenset[int]], float]


# ---- networks of explicit modules: a signal is the output of one module ----


def outputs_of(network: nn.Module, module: str, images: Tensor) -> list[Tensor]:
    """Everything that a module puts out in one pass, a tensor for every call."""
    seen: list[Tensor] = []
    handle = network.get_submodule(module).register_forward_hook(lambda _m, _i, output: seen.append(output.detach().clone()))
    with torch.no_grad():
        network(images)
    handle.remove()
    return seen


def mean_signals(network: nn.Module, signals: Mapping[str, str], batches: Sequence[Tensor]) -> np.ndarray:
    """Mean of every channel of every signal over all images and positions, in float64."""
    everything = torch.cat(list(batches))
    constants = []
    for module in signals.values():
        values = torch.cat(outputs_of(network, module, everything)).double().numpy()
        constants += [float(np.mean(values[:, channel])) for channel in range(values.shape[1])]
    return np.array(constants)


def masked_logits(network: nn.Module, signals: Mapping[str, str], images: Tensor, live: np.ndarray, constants: np.ndarray) -> Tensor:
    """Logits, one image at a time; hooks put the constant in place of every frozen channel."""
    rows = []
    for image, row in zip(images, np.broadcast_to(live, (len(images), live.shape[1])), strict=True):
        handles, start = [], 0
        for module in signals.values():
            channels = outputs_of(network, module, image[None])[0].shape[1]
            handles.append(network.get_submodule(module).register_forward_hook(_replacing(row, constants, start)))
            start += channels
        with torch.no_grad():
            rows.append(network(image[None])[0])
        for handle in handles:
            handle.remove()
    return torch.stack(rows)


def _replacing(row: np.ndarray, constants: np.ndarray, start: int) -> Callable[..., Tensor]:
    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        for channel in range(output.shape[1]):
            if not row[start + channel]:
                output[:, channel] = constants[start + channel]
        return output

    return hook


def blended_score(
    network: nn.Module, signals: Mapping[str, str], image: Tensor, mask: Tensor, constants: np.ndarray, score: Callable[[Tensor], Tensor]
) -> Tensor:
    """Score of one image (1, 3, height, width) with every signal s replaced by m s + (1 - m) c, for a mask of any real numbers."""
    handles, start = [], 0
    for module in signals.values():
        channels = outputs_of(network, module, image)[0].shape[1]
        part = mask[start : start + channels].reshape(1, -1, 1, 1)
        constant = torch.from_numpy(constants[start : start + channels]).to(image.dtype).reshape(1, -1, 1, 1)
        handles.append(
            network.get_submodule(module).register_forward_hook(
                lambda _m, _i, output, part=part, constant=constant: part * output + (1 - part) * constant
            )
        )
        start += channels
    result = score(network(image))[0]
    for handle in handles:
        handle.remove()
    return result


# ---- games ----


def shapley_by_permutations(n: int, value: Value) -> np.ndarray:
    """Average marginal contribution over all n! orders."""
    totals = np.zeros(n)
    for order in itertools.permutations(range(n)):
        before = value(frozenset())
        members: set[int] = set()
        for player in order:
            members.add(player)
            after = value(frozenset(members))
            totals[player] += after - before
            before = after
    return totals / math.factorial(n)


def truncated_values(n: int, value: Value, t0: float, nodes: int = 60) -> np.ndarray:
    """(1 - t0) E[V(S with i) - V(S without i)]: Gauss-Legendre over t in [t0, 1], enumeration over S."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    totals = np.zeros(n)
    for point, weight in zip(points, weights, strict=True):
        t = t0 + (1 - t0) * (point + 1) / 2
        for player in range(n):
            others = [other for other in range(n) if other != player]
            for size in range(n):
                for chosen in itertools.combinations(others, size):
                    probability = t**size * (1 - t) ** (n - 1 - size)
                    marginal = value(frozenset(chosen) | {player}) - value(frozenset(chosen))
                    totals[player] += weight / 2 * (1 - t0) * probability * marginal
    return totals


def mean_worth_at(n: int, value: Value, t: float) -> float:
    """E V(S) when each player is live with probability t."""
    total = 0.0
    for size in range(n + 1):
        for chosen in itertools.combinations(range(n), size):
            total += t**size * (1 - t) ** (n - size) * value(frozenset(chosen))
    return total


def shapley_by_sizes(worths: np.ndarray, n: int) -> np.ndarray:
    """Shapley values from a table of all 2^n worths, by the textbook weights |S|! (n - |S| - 1)! / n!."""
    values = np.zeros(n)
    for mask in range(2**n):
        size = bin(mask).count("1")
        for player in range(n):
            if not mask >> player & 1:
                weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                values[player] += weight * (worths[mask | 1 << player] - worths[mask])
    return values


def algorithm_one(
    value: Callable[[frozenset[int], int], float],
    orders: Sequence[Sequence[int]],
    *,
    k: int,
    delta: float,
    tolerance: float,
    threshold: float | None,
    lowest: bool,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Algorithm 1 of Ghorbani & Zou 2020, line by line, for given orders of removal.

    `value(members, t)` is the worth on the batch of permutation t. Returns the estimates, how many
    marginals each rests on, and the number of permutations until nobody was active or the orders ended.
    """
    n = len(orders[0])
    marginals: list[list[float]] = [[] for _ in range(n)]
    active = set(range(n))
    rounds = 0
    for t, order in enumerate(orders):
        if not active:
            break
        members = set(range(n))
        truncated = False
        for player in order:
            if player in active:
                before = value(frozenset(members), t)
                if threshold is not None and before < threshold:
                    truncated = True
                marginals[player].append(0.0 if truncated else before - value(frozenset(members - {player}), t))
            members.discard(player)
        rounds += 1
        means = [float(np.mean(observed)) for observed in marginals]
        bounds = [_published_half_width(observed, delta) for observed in marginals]
        kth = sorted(means, reverse=not lowest)[k - 1]
        active = {
            player for player in range(n) if means[player] - bounds[player] + tolerance < kth < means[player] + bounds[player] - tolerance
        }
    return np.array([np.mean(observed) for observed in marginals]), np.array([len(observed) for observed in marginals]), rounds


def _published_half_width(observed: Iterable[float], delta: float) -> float:
    observed = list(observed)
    t = len(observed)
    if t < 2:
        return math.inf
    variance = float(np.var(observed, ddof=1))
    return math.sqrt(2 * variance * math.log(2 / delta) / t) + 7 * math.log(2 / delta) / (3 * (t - 1))


# ---- attacks ----


def targeted_pgd(
    network: Callable[[Tensor], Tensor], images: Tensor, targets: Sequence[int], start: Tensor, *, eps: float, step: float, steps: int
) -> Tensor:
    """Madry et al. 2018 towards targets, one image at a time: descend the cross entropy of the target, project on the box and on [0, 1]."""
    made = []
    for clean, target, moved in zip(images, targets, start, strict=True):
        x = moved.clone()
        for _ in range(steps):
            x = x.detach().requires_grad_()
            logits = network(x[None])[0]
            loss = logits.exp().sum().log() - logits[target]
            loss.backward()
            x = x.detach() - step * torch.sign(x.grad)
            x = torch.maximum(torch.minimum(x, clean + eps), clean - eps)
            x = x.clamp(0, 1)
        made.append(x.detach())
    return torch.stack(made)
