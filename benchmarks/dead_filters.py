"""Filters that provably cannot matter: is every exact flip and every gradient of theirs zero?

    python benchmarks/dead_filters.py DATA [--recipe recipes/fig1_critical_filters.toml --way small] [--samples 4] [--t0 0.97] [--threads 1]

The network and the images are those of a recipe, `DATA` is its data root. A filter cannot matter if

* all its weights are zero: its signal is the same at every position of every image, and so is the mean that it is frozen at;
* or no path of weights other than zero leads from it to the logits.

Paths are followed in a copy of the network whose weights are positive where they are not zero, so that nothing cancels. A filter that is
read, but that no path leads to from the image, is the same for every image and not at every position, since padding gives it a border:
it may matter, and is counted apart. Coalitions are drawn as the engine draws them.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from passes import machine
from torch import Tensor, nn

from repairkit.evaluation.splits import some
from repairkit.experiments.base import Loading
from repairkit.experiments.classifier_task import CriticalTask, worth_on
from repairkit.experiments.networks import load_from_recipe
from repairkit.experiments.recipe import read_recipe
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.repair.attribute import game_of
from repairkit.run.options import Options
from repairkit.shapley.game import Floats
from repairkit.shapley.sampling import draw_round

Booleans = npt.NDArray[np.bool_]
BESIDE = 64
"""Other filters that are flipped, for scale."""


@dataclass(frozen=True, eq=False)
class Dead:
    """Which filters cannot matter and why, bool (n,) each; a filter stands in one of them.

    Attributes:
        zero: all weights are zero.
        unread: no path to the logits.
        bordered: no path from the image, but read; these may matter by their border.
    """

    zero: Booleans
    unread: Booleans
    bordered: Booleans

    @property
    def any(self) -> Booleans:
        """All that cannot matter."""
        return self.zero | self.unread


def support(network: nn.Module) -> nn.Module:
    """The network with positive weights wherever they are not zero, float64: a signal is positive if and only if some path leads to it."""
    copied = copy.deepcopy(network).cpu().double().eval()
    for module in copied.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            there = (module.weight != 0).double()
            inputs = there.flatten(1).sum(dim=1).clamp(min=1).reshape(-1, *[1] * (there.dim() - 1))
            module.weight.data = there / inputs
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data = (module.weight != 0).double()
            module.running_mean.data.zero_()  # type: ignore[union-attr]
            module.running_var.data.fill_(1)  # type: ignore[union-attr]
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and module.bias is not None:
            module.bias.data.zero_()
    return copied


def dead_filters(network: nn.Module, pixels: int) -> Dead:
    """The filters of a network that provably cannot matter, for images of this side."""
    filters = ConvFilters(support(network))
    signals: dict[int, Tensor] = {}
    image = torch.ones(1, 3, pixels, pixels, dtype=torch.float64, requires_grad=True)
    logits = filters.watch(image, lambda site, signal: signals.update({site: signal}))
    seen = [signals[site] for site in range(len(filters.sites))]

    def per_filter(each: list[Tensor]) -> Booleans:
        return torch.cat([of_site[0].flatten(1).any(dim=1) for of_site in each]).numpy()

    reached = per_filter([signal.detach() != 0 for signal in seen])
    read = per_filter([slope != 0 for slope in torch.autograd.grad(logits.sum(), seen)])
    weights = dict(network.named_modules())
    zero = np.concatenate([(weights[site.layer].weight == 0).flatten(1).all(dim=1).cpu().numpy() for site in filters.sites])
    return Dead(zero, ~zero & ~read, ~zero & read & ~reached)


def measure(game: NetworkGame, players: npt.NDArray[np.int64], *, samples: int, t0: float, seed: int) -> tuple[Floats, Floats]:
    """Exact flips and gradients of these players at coalitions drawn as the engine draws them; (samples, players) each."""
    drawn = draw_round(game, seed=seed, stage=0, index=0, size=samples, min_live=t0)
    return game.flips(drawn.live, drawn.examples, players), game.gradients(drawn.live, drawn.examples)[:, players]


def by_layer(game: NetworkGame, which: Booleans) -> str:
    """How many in which layers."""
    sites = game.filters.sites
    return "; ".join(f"{site.layer} {int(which[site.start : site.stop].sum())}" for site in sites if which[site.start : site.stop].any())


def table(game: NetworkGame, dead: Dead, *, samples: int, t0: float, seed: int = 0) -> list[str]:
    """A row for each reason, and one for other filters drawn at random."""
    rng = np.random.default_rng(seed)
    alive = np.flatnonzero(~dead.any & ~dead.bordered)
    beside = np.zeros(game.n, dtype=bool)
    beside[rng.choice(alive, size=min(BESIDE, len(alive)), replace=False)] = True
    kinds = {
        "all weights zero": dead.zero,
        "not read": dead.unread,
        "cannot matter, all": dead.any,
        "the same for every image, with a border": dead.bordered,
        "others, drawn at random": beside,
    }
    players = np.flatnonzero(dead.any | dead.bordered | beside)
    flips, slopes = measure(game, players, samples=samples, t0=t0, seed=seed)
    rows = ["| filters | how many | largest abs(flip) | largest abs(gradient) |", "|---|---|---|---|"]
    for name, which in kinds.items():
        largest = [f"{np.abs(each[:, which[players]]).max(initial=0):.2g}" for each in (flips, slopes)]
        rows.append(f"| {name} | {int(which.sum()):,} | {' | '.join(largest)} |")
    rows += ["", *(f"{name}: {by_layer(game, which)}." for name, which in list(kinds.items())[:2] if which.any())]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="data root of the recipe")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/fig1_critical_filters.toml"))
    parser.add_argument("--way", choices=("paper", "small"), default="small")
    parser.add_argument("--samples", type=int, default=4, help="coalitions, in antithetic pairs, each with an image")
    parser.add_argument("--images", type=int, default=40, help="that calibrate the constants and are drawn from")
    parser.add_argument("--t0", type=float, default=0.97)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.set_defaults(device="cpu")
    given = parser.parse_args()
    print(f"## Filters that cannot matter\n\n{machine(given)}")
    recipe = read_recipe(given.recipe, way=given.way, data_root=given.data)
    model, images = load_from_recipe(recipe, Loading(data_root=given.data, device=given.device))
    dead = dead_filters(model.classifier.network, images.pixels.shape[1])
    few = images.subset(some(images, given.images, seed=0))
    task, options = CriticalTask(model, few, None), Options(batch=given.batch, ranking="recall")
    game = game_of(model.classifier, worth_on(task, few, options), (few,), options)
    print(f"{model.architecture}, {game.n:,} filters; {given.samples} coalitions, t0 = {given.t0:g}, smooth accuracy, float32.\n")
    print("\n".join(table(game, dead, samples=given.samples, t0=given.t0)))


if __name__ == "__main__":
    main()
