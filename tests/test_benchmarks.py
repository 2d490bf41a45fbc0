"""The benchmarks' own estimators and yardsticks, on games whose values are known in closed form."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from games import TableGame, second_order
from PIL import Image
from torch import nn

from repairkit.data import folders as imagenet
from repairkit.data.images import LabelledImages
from repairkit.network.classifier import Classifier
from repairkit.network.game import NetworkGame
from repairkit.objectives import Accuracy, Probability, SubgroupRecall
from repairkit.objectives.base import Objective
from repairkit.run.options import Options
from repairkit.shapley import exact_values

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TMAB = ("tmab, both ends", "tmab, everyone")
WALKS = (("monte-carlo", 60_000), ("monte-carlo, batch 16", 10_000))
THEIRS = (
    ("shapiq", "shapiq permutation", 0.35),
    ("shapiq", "shapiq SVARM", 1.0),
    ("shapiq", "shapiq KernelSHAP", 1e-6),  # all coalitions of 8 players fit into the budget
    ("shapiq", "shapiq KernelSHAP, paired", 1e-6),
    ("captum", "Captum ShapleyValueSampling", 0.35),
)


@pytest.fixture
def module(monkeypatch):
    """Import a script of the benchmarks as `python benchmarks/NAME.py` would; their folder does not stay on the path."""

    def load(name: str) -> ModuleType:
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(BENCHMARKS))
            return importlib.import_module(name)

    return load


def error_of(module: ModuleType, shared: ModuleType, name: str, per_player: int) -> float:
    """Largest error on a game of eight players with interactions of pairs."""
    game, truth = second_order(8)
    worth = shared.WholeWorth(game)
    found = module.estimators()[name](worth, per_player * game.n, 3, 0)
    assert worth.evaluations <= per_player * game.n + 1
    return float(np.abs(found.values - truth)[found.nameable].max())


@pytest.mark.parametrize("name", TMAB)
def test_tmab_in_the_harness_is_exact_where_only_pairs_interact(module, name):
    assert error_of(module("other_libraries"), module("small_network"), name, 600) < 1e-9


@pytest.mark.parametrize(("name", "per_player"), WALKS)
def test_walks_in_the_harness_recover_a_closed_form(module, name, per_player):
    assert error_of(module("other_libraries"), module("small_network"), name, per_player) < 0.35


@pytest.mark.filterwarnings("ignore")  # of other packages
@pytest.mark.parametrize(("package", "name", "tolerance"), THEIRS, ids=[name for _, name, _ in THEIRS])
def test_other_libraries_in_the_harness_recover_a_closed_form(module, package, name, tolerance):
    pytest.importorskip(package)
    assert error_of(module("other_libraries"), module("small_network"), name, 400) < tolerance


def test_the_truth_is_exact_where_only_pairs_interact(module):
    game, truth = second_order(6)
    values, errors = module("small_network").true_values(game, pairs=3, seed=0)
    np.testing.assert_allclose(values, truth, atol=1e-9)
    assert errors.max() < 1e-6


def test_the_truth_of_weighted_examples_lies_within_its_error(module):
    game = TableGame(4, 5, signed=True)
    values, errors = module("small_network").true_values(game, pairs=2000, seed=0)
    assert (np.abs(values - exact_values(game)) < 4 * errors).all()
    assert 0 < errors.max() < 0.01


def test_the_worth_over_all_images_is_the_game_s_and_counts_every_question(module):
    game = TableGame(5, 7, signed=True)
    worth = module("small_network").WholeWorth(game)
    live = np.random.default_rng(0).random((70, 5)) < 0.5
    np.testing.assert_allclose(worth(live), [game.objective_value(row) for row in live])
    passes = game.cost
    np.testing.assert_allclose(worth(live[:3]), [game.objective_value(row) for row in live[:3]])
    assert worth.evaluations == 73
    assert game.cost == passes + 3 * 7  # those of the comparison


def test_precision_counts_ties_as_right_and_names_only_what_was_measured(module):
    bench = module("other_libraries")
    truth, errors = np.array([-3.0, -2.0, -1.9, 0.0, 1.0]), np.full(5, 0.1)
    everyone = np.ones(5, dtype=bool)
    values = np.array([-3.0, 0.0, -2.0, -2.5, 1.0])
    assert bench.precision(bench.Found(values, everyone), truth, errors, 2, low=True) == 0.5
    assert bench.precision(bench.Found(np.array([-3.0, 0, -2.0, 0, 1]), everyone), truth, errors, 2, low=True) == 1
    assert bench.precision(bench.Found(values, everyone & (values != -2.5)), truth, errors, 2, low=True) == 1
    assert bench.precision(bench.Found(values, everyone), truth, errors, 1, low=False) == 1


@pytest.mark.extended
def test_the_small_network_learns_and_its_game_is_alive(module):
    game = module("small_network").digits_game(50, epochs=8)
    assert game.n <= 300
    assert game.objective_value(np.ones(game.n, dtype=bool)) > 0.8
    assert game.objective_value(np.zeros(game.n, dtype=bool)) < 0.3


# ---- large networks ----


@pytest.fixture
def faces(module):
    return module("faces")


def two_classes(faces: ModuleType, objective: Objective) -> NetworkGame:
    """Nine filters, twelve random images in two subgroups."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)]
    rng = np.random.default_rng(0)
    images = LabelledImages(
        pixels=rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8),
        labels=np.arange(12) % 2,
        groups=np.array(["a", "a", "b"] * 4),
        classes=("no", "yes"),
        name="tiny",
    )
    return faces.game_of(Classifier(nn.Sequential(*layers).eval(), classes=images.classes), images, objective)


@pytest.mark.parametrize("score", ["hard", "smooth"])
def test_flips_of_margins_are_the_flips_of_every_score(faces, score):
    game = two_classes(faces, faces.MarginOnly())
    flips = faces.exact_flips(game, np.arange(9), samples=64, seed=0, t0=0.5)
    live, examples, factors = faces.draw(game, 64, seed=[0, 2, 0], t0=0.5, shared=faces.SHARED)
    judge = two_classes(faces, SubgroupRecall() if score == "hard" else Probability(SubgroupRecall()))
    expected = 0.5 * factors[:, None] * judge.flips(live, examples, np.arange(9))
    np.testing.assert_allclose(flips.marginals(getattr(faces, score)).reshape(64, 9), expected, atol=1e-6)
    assert (live[0::4] == live[3::4]).all()


def test_flips_taken_up_again_are_those_of_one_run(faces, tmp_path):
    game, players = two_classes(faces, faces.MarginOnly()), np.array([1, 7])
    settings = {"seed": 0, "t0": 0.5}
    faces.exact_flips(game, players, samples=64, file=tmp_path / "flips.npz", **settings)
    resumed = faces.exact_flips(game, players, samples=128, file=tmp_path / "flips.npz", **settings)
    whole = faces.exact_flips(game, players, samples=128, **settings)
    np.testing.assert_array_equal(resumed.absent, whole.absent)
    np.testing.assert_array_equal(resumed.values(faces.hard), whole.values(faces.hard))
    with pytest.raises(SystemExit, match="holds flips of other filters"):
        faces.exact_flips(game, players + 1, samples=128, file=tmp_path / "flips.npz", **settings)


def test_screens_of_all_surrogates_come_from_the_gradient_of_the_margin(faces):
    game = two_classes(faces, faces.MarginOnly())
    found = faces.screens(game, faces.SURROGATES, gradients=64, seed=3, t0=0.5)
    live, examples, factors = faces.draw(game, 64, seed=[3, 1, 0], t0=0.5, shared=1)
    slopes = two_classes(faces, Probability(SubgroupRecall())).gradients(live, examples)
    np.testing.assert_allclose(found["probability"], 0.5 * (factors @ slopes) / 64, atol=1e-7)
    np.testing.assert_allclose(found["margin"], 0.5 * (factors @ game.gradients(live, examples)) / 64, atol=1e-7)


def chances(faces: ModuleType, odds: np.ndarray, samples: int = 40_000, t0: float = 0.8):
    """Flips in which player i makes the difference between right and wrong with probability odds[i], or the reverse if negative."""
    drawn = np.random.default_rng(1).random((samples, len(odds))) < np.abs(odds)
    present = np.where(drawn, np.sign(odds), 1.0).astype(np.float32)
    absent = np.where(drawn, -np.sign(odds), 1.0).astype(np.float32)
    return faces.Flips(np.arange(len(odds)), present, absent, np.ones(samples), t0)


def test_the_variance_of_a_permutation_follows_from_that_of_flips(module, faces):
    bench, odds, reached = module("sample_efficiency"), np.array([0.3, 0.05, -0.1]), 0.2
    expected = reached * (np.abs(odds) * (1 - np.abs(odds)) / 128 + odds**2) - (reached * odds) ** 2
    np.testing.assert_allclose(bench.permutation_variance(chances(faces, odds)), expected, rtol=0.15)


def test_the_extrapolated_precision_rises_from_chance_to_the_ceiling(module, faces):
    bench = module("sample_efficiency")
    flips = chances(faces, np.linspace(-0.02, 0.03, 40))
    truth, errors = flips.values(faces.hard)
    most, chance = bench.ceiling(truth, errors, 5, low=True)
    curve = bench.paper_curve(flips, 5, low=True)
    assert chance < 0.3
    assert curve[0] < 0.7
    assert curve[-1] == pytest.approx(most, abs=0.02)
    assert bench.needed(curve, most - 0.2) < bench.needed(curve, most - 0.05)
    assert bench.precision_of(np.where(truth < 0, truth, np.nan), truth, errors, 5, low=True) == 1


TOYS = {
    "masked_forward": ("--models squeezenet1_0 --pixels 32 --batch 2 --runs 1", 2),
    "flips": ("--models squeezenet1_0 --pixels 32 --images 1 --flips 4 --runs 1", 1),
    "inception": ("--data nowhere --pixels 75 --batch 1 --flips 2 --runs 1 --threads 1", 4),
    "surrogate": ("--data nowhere --only squeezenet_celeba --pixels 32 --per-group 1 --samples 64 --gradients 8 --others 6 --t0 0.97", 4),
    "variance": ("--pixels 32 --per-group 1 --samples 192 --players 4 --gradients 8 --t0 0.97", 2),
    "precision": ("--pixels 32 --per-group 1 --samples 64 --gradients 8 --top 3 --others 6 --runs 1", 3),
    "sample_efficiency": (
        "--pixels 32 --per-group 1 --samples 64 --gradients 8 --top 3 --others 6 --budgets 1500 --seeds 1 --permutations 0",
        2,
    ),
}


@pytest.mark.parametrize("script", TOYS)
def test_scripts_print_a_whole_table(module, monkeypatch, capsys, script):
    options, rows = TOYS[script]
    monkeypatch.setattr("sys.argv", [script, *options.split()])
    threads = torch.get_num_threads()
    module(script).main()
    torch.set_num_threads(threads)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == rows + 2
    assert len({line.count("|") for line in lines}) == 1
    assert "nan" not in "".join(lines)


def test_what_reduces_variance_is_told_from_what_does_not(module):
    bench, rng = module("variance"), np.random.default_rng(0)
    sizes, noise = rng.random(4000), rng.normal(size=(4000, 3))
    np.testing.assert_allclose(bench.ratios(noise, np.zeros_like(noise), sizes), [1, 1, 0], atol=0.06)
    mirrored = noise.copy()
    mirrored[1::2] = -noise[0::2]
    by_size = 10 * sizes[:, None] + 0.1 * noise
    np.testing.assert_allclose(bench.ratios(mirrored, 0.5 * mirrored, sizes), [0, 0.25, 0], atol=0.06)
    assert bench.ratios(by_size, by_size, sizes)[1] == 0
    assert bench.ratios(by_size, by_size, sizes)[2] > 0.98
    values = rng.normal(size=(50, 1))
    mean, error = bench.jackknife(lambda rounds: values[rounds].mean(axis=0), 50)
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(50), rel=1e-6)
    assert mean == values.mean()


def test_agreement_is_judged_by_the_top_of_the_reference(module):
    reference = np.arange(10.0)
    values = reference.copy()
    values[[0, 9]] = values[[9, 0]]
    low, high, rank = (float(figure) for figure in module("precision").agreement(values, reference, 4).split(" / "))
    assert (low, high) == (0.75, 0.75)
    assert rank == pytest.approx(1 - 6 * 162 / 990, abs=1e-3)
    assert module("precision").agreement(reference, reference, 4) == "1.000 / 1.000 / 1.000"


def test_growth_measures_the_same_network_both_ways(module):
    bench = module("growth")
    device = module("passes").Device("cpu")
    name = "squeezenet1_0, first layers"
    plain, screen = (bench.measure(name, work, device, passes=2, runs=1, batch=2) for work in ("plain", "screen"))
    assert plain["filters"] == screen["filters"] == 384
    assert min(plain["seconds"], screen["seconds"], screen["peak"]) > 0


def test_filters_that_cannot_matter_are_those_without_weights_or_without_a_reader(module):
    """The first layer has a filter of zero weights and one that nobody reads, the second one that is the same for every image."""
    dead_filters = module("dead_filters")
    first, second, head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1), nn.Linear(3, 2)
    with torch.no_grad():
        first.weight[0] = 0
        first.bias.fill_(1.0)
        second.weight[:, 3] = 0
        second.weight[1, 1:] = 0  # reads nothing but the filter of zero weights
    network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    dead = dead_filters.dead_filters(network, 6)
    assert np.flatnonzero(dead.zero).tolist() == [0]
    assert np.flatnonzero(dead.unread).tolist() == [3]
    assert np.flatnonzero(dead.bordered).tolist() == [5]
    rng = np.random.default_rng(0)
    images = LabelledImages(
        pixels=rng.integers(0, 256, (6, 6, 6, 3), dtype=np.uint8), labels=np.arange(6) % 2, groups=np.full(6, "all"), classes=("a", "b"),
        name="noise",
    )  # fmt: skip
    classifier = Classifier(network, classes=images.classes)
    game = dead_filters.game_of(classifier, Probability(Accuracy()).on(images), (images,), Options())
    flips, slopes = dead_filters.measure(game, np.arange(7), samples=4, t0=0.5, seed=0)
    assert np.abs(flips[:, dead.any]).max() < 1e-6
    assert np.abs(slopes[:, dead.any]).max() < 1e-6
    assert np.abs(flips[:, [1, 2, 4, 6]]).max() > 1e-3
    assert "| cannot matter, all | 2 |" in "\n".join(dead_filters.table(game, dead, samples=4, t0=0.5))


def test_the_images_left_out_are_those_that_the_recipe_does_not_take(module, tmp_path):
    """And a run on them loads none of those that a run on the data loads."""
    left_out = module("left_out")
    data = tmp_path / "data"
    for part, numbers in (("train", range(6)), ("val", range(6, 10))):
        for synset in ("n01443537", "n02391049"):
            folder = data / left_out.FOLDER / part / synset
            folder.mkdir(parents=True)
            for number in numbers:
                Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"{synset}_{number}.png")
    (data / left_out.FOLDER / "classes.tsv").write_text("n01443537\tgoldfish\nn02391049\tzebra\n")
    left_out.PER_CLASS = 4
    try:
        assert left_out.link_rest(data, tmp_path / "rest") == 12
        taken, rest = (
            imagenet.load(root / left_out.FOLDER, size=8, parts=left_out.PARTS, per_class=per_class, cache=tmp_path / "cache")
            for root, per_class in ((data, 4), (tmp_path / "rest", None))
        )
    finally:
        left_out.PER_CLASS = 90
    assert taken.classes == rest.classes == ("goldfish", "zebra")
    assert not set(taken.sources) & set(rest.sources)
    assert (len(taken), len(rest)) == (8, 12)
