"""Estimators of Shapley values at equal cost: ours, shapiq's and Captum's, on one game of 120 filters.

    python benchmarks/other_libraries.py [--quick] [--seeds 4] [--truth FILE] [--save FILE] [--only NAME ...]

An evaluation is a pass of all the game's images under one coalition; that is what the libraries ask
for. The engines are charged in image passes (a gradient 3, a flip its share), divided by the number
of images. Needs the extra `bench` (shapiq, Captum); without it only the engines run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from small_network import WholeWorth, circumstances, digits_game, true_values

from repairkit.shapley import Attribution, EngineSettings, Game, tmab
from repairkit.shapley.permutation import permutation_sampling

BUDGETS = (5, 10, 20, 50)
"""Evaluations per player."""


@dataclass(frozen=True, eq=False)
class Found:
    """What an estimator says: a value of every player, and which of them it would name as extreme."""

    values: np.ndarray
    nameable: np.ndarray


Estimator = Callable[[WholeWorth, int, int, int], Found]
"""(worth, evaluations, players sought at each end, seed) -> what was found."""


# ---- ours: image passes ----


def _passes(worth: WholeWorth, evaluations: int) -> float:
    return float(evaluations * len(worth.game.weights))


def tmab_of_both_ends(worth: WholeWorth, evaluations: int, top: int, seed: int) -> Found:
    """Two runs with half the budget each, one for each end; values weighed by their precision.

    Only players whose marginals were measured can be named. For the rank correlation the others
    have their screen.
    """
    runs = [
        tmab(worth.game, EngineSettings(budget=_passes(worth, evaluations) / 2, seed=2 * seed + index, top_k=top, end=end, control=True))
        for index, end in enumerate(("low", "high"))
    ]
    return combined(runs)


def tmab_of_everyone(worth: WholeWorth, evaluations: int, _top: int, seed: int) -> Found:
    """One run that measures the marginals of all players alike: no screening out, no halving."""
    n = worth.game.n
    return combined(
        [tmab(worth.game, EngineSettings(budget=_passes(worth, evaluations), seed=seed, top_k=n - 1, candidates=n, control=True))]
    )


def combined(runs: Sequence[Attribution]) -> Found:
    """Mean of the runs' values weighed by 1 / standard error squared, the mean screen where there is none."""
    values = np.array([run.value for run in runs])
    errors = np.array([run.standard_error for run in runs])
    usable = np.isfinite(values) & np.isfinite(errors)
    weight = np.where(usable, 1 / np.maximum(np.where(usable, errors, 1.0), 1e-12) ** 2, 0.0)
    nameable = usable.any(axis=0)
    mean = (weight * np.where(usable, values, 0.0)).sum(axis=0) / np.where(nameable, weight.sum(axis=0), 1.0)
    return Found(np.where(nameable, mean, np.mean([run.screen for run in runs], axis=0)), nameable)


def monte_carlo(worth: WholeWorth, evaluations: int, top: int, seed: int, *, batch: int = 128) -> Found:
    """The engine `monte-carlo`: permutations, a fresh batch of drawn images for each."""
    found = permutation_sampling(
        worth.game, EngineSettings(budget=_passes(worth, evaluations), engine="monte-carlo", seed=seed, top_k=top, batch=batch)
    )
    return Found(found.value, np.ones(worth.game.n, dtype=bool))


def monte_carlo_of_16(worth: WholeWorth, evaluations: int, top: int, seed: int) -> Found:
    """The same with 16 images, so that eight times as many permutations fit."""
    return monte_carlo(worth, evaluations, top, seed, batch=16)


# ---- theirs: evaluations of all images ----


def _shapiq(worth: WholeWorth, evaluations: int, approximator: str, seed: int, **options: object) -> Found:
    import shapiq

    estimator = getattr(shapiq, approximator)(n=worth.game.n, random_state=seed, **options)
    found = estimator.approximate(budget=evaluations, game=worth)
    return Found(np.array([found[(player,)] for player in range(worth.game.n)]), np.ones(worth.game.n, dtype=bool))


def shapiq_permutations(worth: WholeWorth, evaluations: int, _top: int, seed: int) -> Found:
    """Castro et al. 2009."""
    return _shapiq(worth, evaluations, "PermutationSamplingSV", seed)


def shapiq_svarm(worth: WholeWorth, evaluations: int, _top: int, seed: int) -> Found:
    """Kolpaczki et al. 2024."""
    return _shapiq(worth, evaluations, "SVARM", seed)


def shapiq_kernel(worth: WholeWorth, evaluations: int, _top: int, seed: int) -> Found:
    """Lundberg & Lee 2017, as shapiq runs it by default."""
    return _shapiq(worth, evaluations, "KernelSHAP", seed)


def shapiq_paired_kernel(worth: WholeWorth, evaluations: int, _top: int, seed: int) -> Found:
    """KernelSHAP that samples each coalition with its complement (Covert & Lee 2021)."""
    return _shapiq(worth, evaluations, "KernelSHAP", seed, pairing_trick=True)


def captum_sampling(worth: WholeWorth, evaluations: int, _top: int, seed: int) -> Found:
    """Captum's ShapleyValueSampling over a vector of masks; one evaluation more than its share, for V of nobody."""
    from captum.attr import ShapleyValueSampling

    n = worth.game.n
    sampler = ShapleyValueSampling(lambda masks: torch.from_numpy(worth(masks.numpy() > 0.5)))
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    attributed = sampler.attribute(torch.ones(1, n), baselines=0.0, n_samples=evaluations // n, perturbations_per_eval=n)
    torch.random.set_rng_state(state)
    return Found(attributed[0].double().numpy(), np.ones(n, dtype=bool))


OURS: dict[str, Estimator] = {
    "tmab, both ends": tmab_of_both_ends,
    "tmab, everyone": tmab_of_everyone,
    "monte-carlo": monte_carlo,
    "monte-carlo, batch 16": monte_carlo_of_16,
}
SHAPIQ: dict[str, Estimator] = {
    "shapiq permutation": shapiq_permutations,
    "shapiq SVARM": shapiq_svarm,
    "shapiq KernelSHAP": shapiq_kernel,
    "shapiq KernelSHAP, paired": shapiq_paired_kernel,
}
CAPTUM: dict[str, Estimator] = {"Captum ShapleyValueSampling": captum_sampling}


def estimators() -> dict[str, Estimator]:
    """All that can run here; says on stderr what is missing."""
    found = dict(OURS)
    for package, theirs in (("shapiq", SHAPIQ), ("captum", CAPTUM)):
        if importlib.util.find_spec(package):
            found |= theirs
        else:
            print(f"{package} is not installed: pip install 'repairkit[bench]'", file=sys.stderr)
    return found


# ---- how good an estimate is ----


def precision(found: Found, truth: np.ndarray, errors: np.ndarray, top: int, *, low: bool) -> float:
    """Share of the `top` named players that belong there, or miss it by at most 2 standard errors of their true value."""
    sign = 1 if low else -1
    named = np.argsort(np.where(found.nameable, sign * found.values, np.inf), kind="stable")[:top]
    border = np.sort(sign * truth)[top - 1]
    return float(np.mean(sign * truth[named] <= border + 2 * errors[named]))


def measures(found: Found, truth: np.ndarray, errors: np.ndarray, top: int) -> dict[str, float]:
    """Precision of both ends, Spearman's rank correlation, and the root mean squared error over the spread of the truth."""
    return {
        "low": precision(found, truth, errors, top, low=True),
        "high": precision(found, truth, errors, top, low=False),
        "rank": float(spearmanr(found.values, truth).statistic),
        "error": float(np.sqrt(np.mean((found.values - truth) ** 2)) / truth.std()),
    }


TITLES = {
    "low": "Precision of the low end",
    "high": "Precision of the high end",
    "rank": "Rank correlation",
    "error": "Root mean squared error, in standard deviations of the true values",
}


def table(results: dict[str, dict[str, list[dict[str, float]]]], measure: str, budgets: Sequence[int]) -> list[str]:
    """One row per estimator, mean and standard error over seeds."""
    lines = ["| | " + " | ".join(map(str, budgets)) + " |", "|---|" + "---|" * len(budgets)]
    for name, by_budget in results.items():
        cells = []
        for budget in budgets:
            values = np.array([one[measure] for one in by_budget[str(budget)]])
            spread = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
            cells.append(f"{values.mean():.3f} ± {spread:.3f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def verdicts(results: dict[str, dict[str, list[dict[str, float]]]], measure: str, budgets: Sequence[int], ours: str) -> list[str]:
    """Where `ours` is behind another estimator, by how much, in standard errors of the difference of means."""
    lines = []
    for name in results:
        if name == ours:
            continue
        for budget in budgets:
            pair = [np.array([one[measure] for one in results[who][str(budget)]]) for who in (ours, name)]
            away = (pair[0].mean() - pair[1].mean()) * (-1 if measure == "error" else 1)
            error = np.sqrt(sum(values.var(ddof=1) / len(values) for values in pair)) if len(pair[0]) > 1 else np.nan
            if away < 0:
                lines.append(f"behind {name} at {budget}: {away:+.3f} ± {error:.3f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seeds, three budgets, a rough truth: does it run?")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="evaluations per player")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=400, help="antithetic pairs of permutations per image behind the truth")
    parser.add_argument("--truth", type=Path, help="npz with the true values: read where it exists, written where not")
    parser.add_argument("--save", type=Path, help="JSON with every seed's figures, written after each run; present ones are kept")
    parser.add_argument("--only", nargs="*", help="names of the estimators to run (again)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    budgets, seeds, pairs = (BUDGETS[:3], 2, 40) if arguments.quick else (arguments.budgets, arguments.seeds, arguments.pairs)
    game = digits_game(arguments.images)
    top = round(0.1 * game.n)
    truth, errors = _truth(game, arguments.truth, pairs)
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    if arguments.save and arguments.save.exists():
        results = json.loads(arguments.save.read_text())
    everything = estimators()
    chosen = {name: everything[name] for name in (arguments.only or everything)}
    results |= {name: {str(budget): [] for budget in budgets} for name in chosen if arguments.only or name not in results}
    for seed in range(seeds):
        for name, estimator in chosen.items():
            worth = WholeWorth(game)
            for budget in budgets:
                done = results[name].setdefault(str(budget), [])
                if len(done) <= seed:
                    done.append(measures(estimator(worth, budget * game.n, top, seed), truth, errors, top))
                    print(f"seed {seed}, {budget}, {name}: {done[-1]}", file=sys.stderr, flush=True)
            if arguments.save:
                arguments.save.write_text(json.dumps(results))
    _report(results, budgets, game, top, truth, errors, seeds, pairs)


def _truth(game: Game, path: Path | None, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    made_of = np.array([len(game.weights), pairs])
    if path and path.exists():
        with np.load(path) as kept:
            if not np.array_equal(kept["made_of"], made_of):
                raise SystemExit(f"{path} was made of other images or permutations; remove it or name another file")
            return kept["values"], kept["standard_errors"]
    values, errors = true_values(game, pairs=pairs, seed=0)
    if path:
        np.savez(path, values=values, standard_errors=errors, made_of=made_of)
    return values, errors


def _report(
    results: dict[str, dict[str, list[dict[str, float]]]],
    budgets: Sequence[int],
    game: Game,
    top: int,
    truth: np.ndarray,
    errors: np.ndarray,
    seeds: int,
    pairs: int,
) -> None:
    ordered = np.sort(truth)
    print("## Against other libraries\n")
    print(circumstances(*(package for package in ("shapiq", "captum") if importlib.util.find_spec(package))))
    print(
        f"{game.n} filters, {len(game.weights)} images, smooth accuracy, {seeds} seeds. Truth: {pairs} antithetic pairs of permutations "
        f"per image, median standard error {np.median(errors):.1e}; values run from {ordered[0]:+.4f} to {ordered[-1]:+.4f}, the "
        f"{top}th from below is {ordered[top - 1]:+.4f} (next {ordered[top] - ordered[top - 1]:.1e} away), from above {ordered[-top]:+.4f} "
        f"(next {ordered[-top] - ordered[-top - 1]:.1e} away).\n"
    )
    for measure, title in TITLES.items():
        print(f"{title}, by evaluations per player:\n")
        print("\n".join(table(results, measure, budgets)))
        for ours in OURS:
            if ours.startswith("tmab") and ours in results:
                behind = verdicts(results, measure, budgets, ours)
                print(f"\n`{ours}` is " + ("; ".join(behind) if behind else "ahead of all or level, everywhere") + ".")
        print()


if __name__ == "__main__":
    main()
