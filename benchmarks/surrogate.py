"""Which surrogate of the gradient screen tracks which score, at both ends and on filters drawn at random.

    python benchmarks/surrogate.py [--data DATA] [--samples 400] [--keep FOLDER] [--only NAME ...]

Networks: the two that ship with the package, on drawn faces of 64 x 64 pixels; and what the recipe
`fig3a_fairness` trained on real faces (from the cache), on the Pilot Parliaments Benchmark at 88 pixels. The worth is mean
recall of the subgroups. A screen of 3,200 gradients, what `tmab` makes at a budget of 24,000, is judged
against exact flips of some 200 filters: the 40 lowest and highest of every surrogate's screen, and 80 drawn at random
from all, which no screen had a part in. All surrogates see the same gradients, and both scores the same flips.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faces import (
    SURROGATES,
    Flips,
    Floats,
    MarginOnly,
    contenders,
    exact_flips,
    game_of,
    hard,
    loaded,
    plausible,
    precision,
    screens,
    smooth,
)
from passes import add_machine, machine
from scipy.stats import spearmanr

from repairkit.data import ppb
from repairkit.data import synthetic_faces as drawn
from repairkit.data.images import LabelledImages
from repairkit.files import cache_directory
from repairkit.run.options import FreezeAt

TOP = 20
SEED = 100
SCORES = {"smooth": smooth, "hard": hard}


@dataclass(frozen=True)
class Network:
    """A network, the images and where its filters are frozen."""

    name: str
    model: str | Path
    real: bool
    pixels: int
    freeze_at: FreezeAt = "post"

    def images(self, data: Path, per_group: int) -> LabelledImages:
        """Drawn faces, or portraits from the data folder."""
        return ppb.load(data / "ppb", size=self.pixels) if self.real else drawn.target_faces(per_group=per_group)


def shipped(pixels: int) -> list[Network]:
    """The stand-ins, one of them also with constants from before the ReLU."""
    plain, dropout = (Network(name, name, False, pixels) for name in ("squeezenet_celeba", "squeezenet_celeba_dropout"))
    return [plain, dropout, Network("squeezenet_celeba, before the ReLU", plain.model, False, pixels, "pre")]


def trained_on_faces() -> list[Network]:
    """Of the networks that the recipe left in the cache, the first seed's plain one and the dropout-trained one made from it."""
    found = []
    for report in sorted((cache_directory() / "models").glob("*.train.json")):
        written = json.loads(report.read_text())
        settings = written["stages"][-1]["settings"]
        if "UTKFace" in written["trained_on"] and settings["seed"] == 0 and (report.parent / written["weights"]).exists():
            found.append((settings["filter_dropout"], settings["init"], report.parent / written["weights"]))
    plain = [file for dropout, _, file in found if dropout == 0]
    rivals = [file for dropout, init, file in found if dropout and plain and init == plain[0].name]
    names = ("trained on UTKFace", "trained on UTKFace with filter dropout")
    return [Network(name, files[0], True, 88) for name, files in zip(names, (plain, rivals), strict=True) if files]


def figures(found: dict[str, Floats], flips: Flips, at_random: np.ndarray, score: str) -> tuple[Floats, Floats]:
    """Precision of the low and of the high end and Spearman on the random filters: of every surrogate (rows), and the ceiling of each."""
    truth, errors = flips.values(SCORES[score])
    rows = np.flatnonzero(np.isin(flips.players, at_random))
    rng = np.random.default_rng(7)

    def judged(values: Floats) -> list[float]:
        order = np.argsort(values, kind="stable")
        ends = [precision(order[:TOP], truth, errors, TOP, low=True), precision(order[-TOP:], truth, errors, TOP, low=False)]
        return [*ends, float(spearmanr(values[rows], truth[rows]).statistic)]

    ceiling = np.mean([judged(plausible(truth, errors, rng)) for _ in range(100)], axis=0)
    return np.array([judged(values[flips.players]) for values in found.values()]), ceiling


def cells(values: Floats) -> str:
    """Three figures as one cell."""
    return " / ".join(f"{value:.2f}" for value in values)


def measure(network: Network, images: LabelledImages, given: argparse.Namespace) -> Iterator[tuple[str, str, Floats, Floats]]:
    """A row's name, its score and its figures for every live range and score."""
    game = game_of(loaded(network.model, network.pixels), images, MarginOnly(), freeze_at=network.freeze_at, device=given.device)
    for t0 in given.t0:
        found = screens(game, SURROGATES, gradients=given.gradients, seed=SEED, t0=t0)
        players, at_random = contenders(found, each=2 * TOP, others=given.others, seed=SEED)
        named = network.name if not network.real else "-".join(Path(network.model).stem.split())
        file = given.keep / f"{named.split(',')[0]}-{network.freeze_at}-{network.pixels}px-t{t0:g}.npz" if given.keep else None
        flips = exact_flips(game, players, samples=given.samples, seed=SEED, t0=t0, file=file)
        for score in SCORES:
            yield (f"{network.name}, t0 {t0:g}, {len(flips.factors):,} samples", score, *figures(found, flips, at_random, score))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("DATA"), help="folder that holds ppb/")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of networks, as in the table")
    parser.add_argument("--t0", type=float, nargs="+", default=[0.97], help="live ranges; 0.97 is the default of a repair")
    parser.add_argument("--pixels", type=int, default=64, help="of the drawn faces")
    parser.add_argument("--per-group", type=int, default=100, help="drawn faces of each of the four subgroups")
    parser.add_argument("--samples", type=int, default=400, help="of exact flips")
    parser.add_argument("--gradients", type=int, default=3200)
    parser.add_argument("--others", type=int, default=80, help="filters drawn at random")
    parser.add_argument("--keep", type=Path, help="folder for the flips, which are taken up again and extended")
    add_machine(parser)
    given = parser.parse_args()
    print(
        f"## Surrogates of the screen\n\n{machine(given)} {given.gradients:,} gradients, Spearman on {given.others} filters drawn at random.\n"
    )
    networks = [*shipped(given.pixels), *trained_on_faces()]
    if not (given.data / "ppb").exists() or len(networks) == 3:
        print("No network trained on real faces in the cache, or no ppb in the data folder: the shipped networks only.\n")
        networks = networks[:3]
    print(f"Cells: precision@{TOP} of the low end / of the high end / Spearman on filters drawn at random.\n")
    print("| network | score | " + " | ".join(SURROGATES) + " | ceiling |")
    print("|---|---|" + "---|" * (len(SURROGATES) + 1))
    everything: dict[str, list[Floats]] = {score: [] for score in SCORES}
    for network in networks:
        if given.only and network.name not in given.only:
            continue
        for row, score, values, ceiling in measure(network, network.images(given.data, given.per_group), given):
            print(f"| {row} | {score} | {' | '.join(map(cells, values))} | {cells(ceiling)} |", flush=True)
            if network.freeze_at == "post":
                everything[score].append(np.vstack([values, ceiling]))
    for score, rows in everything.items():
        if rows:
            print(f"| mean of {len(rows)} after the ReLU | {score} | {' | '.join(map(cells, np.mean(rows, axis=0)))} |")


if __name__ == "__main__":
    main()
