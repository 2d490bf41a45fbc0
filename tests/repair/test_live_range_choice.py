"""The live range settled on the images that choose: held against freezing for good, by hand."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import three_colours
import torch
from dropout_example import found as compared_networks
from dropout_example import redundant

from repairkit.attacks.generate import derived_seed
from repairkit.baselines import rankings as baselines
from repairkit.errors import UsageError
from repairkit.evaluation.ablation import counts_up_to
from repairkit.experiments import classifier_task
from repairkit.experiments.classifier_task import CriticalTask, split_of, worth_on
from repairkit.experiments.critical.run import configuration, find, plan
from repairkit.network.freezing import bake
from repairkit.repair import live_range as settling
from repairkit.repair.attribute import game_of, live_range_of
from repairkit.repair.live_range import SHARE, Settled, screen_passes, settle, sizes_of
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore
from repairkit.shapley.tmab import screen

SETTLED = Options(budget=4000, top=3, contested=6, ranking="recall", t0="settled", seed=1)
COLOURS = three_colours.images()


def game_and_images(model, options=SETTLED):
    task = CriticalTask(model, COLOURS, None)
    split = split_of(task, options)
    found_on = COLOURS.subset(split.attribute)
    return game_of(model.classifier, worth_on(task, found_on, options), (found_on,), options), COLOURS.subset(split.choose)


def frozen_for_good(model, game, order):
    """The network with the constants of these filters in its weights."""
    network = copy.deepcopy(model.classifier.network)
    network.load_state_dict(bake(network, {game.filters.ids[player]: game.filters.constants[player] for player in order}))
    return network


def accuracy(network, images):
    pixels = torch.from_numpy(images.pixels[np.arange(len(images))].astype(np.float32) / 255).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return float((network(pixels).argmax(1).numpy() == images.labels).mean())


def area_by_hand(model, game, images, index, size):
    """Mean height of accuracy while the three filters of the highest screen in this live range are frozen for good."""
    estimates = screen(game, passes=screen_passes(SETTLED), seed=derived_seed(1, index), min_live=size)
    order = sorted((player for player in range(game.n) if estimates[player] > 0), key=lambda player: -estimates[player])[:3]
    heights = {count: accuracy(frozen_for_good(model, game, order[:count]), images) for count in counts_up_to(3)}
    return np.trapezoid([*heights.values()], [*heights]) / 3


@pytest.mark.parametrize("model", [three_colours.model(), redundant()], ids=["plain", "redundant"])
def test_the_areas_are_those_of_networks_frozen_for_good(model):
    game, images = game_and_images(model)
    run = Run.start(SETTLED)
    (live_range,), settled = settle([game], images, [run])
    assert live_range.min_live == live_range_of(game, Run.start(replace(SETTLED, t0="auto")), seed=1)[1]
    assert settled.sizes == sizes_of(live_range.min_live)
    assert settled.areas == pytest.approx([area_by_hand(model, game, images, *place) for place in enumerate(settled.sizes)])
    assert settled.min_live == min(zip(settled.areas, settled.sizes, strict=True))[1]
    assert settled.images == len(images)
    assert settled.passes == run.ledger.passes[settling.PART]


def test_one_live_range_for_two_networks_is_of_the_lowest_mean():
    models = (three_colours.model(), redundant())
    games, (images, _) = zip(*map(game_and_images, models), strict=True)
    live_ranges, both = settle(games, images, [Run.start(SETTLED)] * 2)
    assert len({live_range.min_live for live_range in live_ranges}) == 2
    assert both.sizes == sizes_of(min(live_range.min_live for live_range in live_ranges))
    by_hand = [[area_by_hand(*pair, images, *place) for place in enumerate(both.sizes)] for pair in zip(models, games, strict=True)]
    assert both.areas == pytest.approx(np.mean(by_hand, axis=0))
    assert by_hand[0] != by_hand[1]


def test_a_screen_gets_its_share_of_the_budget_and_three_rounds_at_least():
    assert screen_passes(Options(budget=12_000)) == 960 <= SHARE * 12_000 / 3
    assert screen_passes(Options(budget=10)) == 3 * 192


def test_accuracy_is_valued_in_the_live_range_that_is_settled_and_charged_with_it(monkeypatch):
    task = CriticalTask(redundant(), COLOURS, None)
    tried = Settled((0.2, 0.6, 0.8), (0.5, 0.4, 0.45), 24, 1234.0)
    real = settling.settle
    monkeypatch.setattr(classifier_task, "settle", lambda *args, **rest: (real(*args, **rest)[0], tried))
    findings = find(task, Run.start(SETTLED))
    assert findings.attribution.min_live == 0.6
    assert findings.attribution.passes[settling.PART] == 1234.0
    assert findings.attribution.passes["live range"] == findings.live_range.passes
    assert sum(findings.attribution.passes.values()) <= SETTLED.budget + 1234.0 + findings.live_range.passes


def test_baselines_are_given_what_settling_took(monkeypatch):
    given_passes = []
    real = baselines.leave_one_out
    monkeypatch.setattr(
        baselines, "leave_one_out", lambda game, *, budget, **rest: given_passes.append(budget) or real(game, budget=budget, **rest)
    )
    options = replace(SETTLED, compare=("leave-one-out",))
    task = CriticalTask(redundant(), COLOURS, None)
    planned, given = plan(task, options), plan(task, replace(options, t0=0.5))
    assert planned["baselines"] - given["baselines"] == planned[settling.PART] + planned["live range"]
    assert set(planned) - set(given) == {"live range", settling.PART}
    findings = find(task, Run.start(options))
    assert given_passes == [sum(findings.attribution.passes.values())]
    assert findings.attribution.passes[settling.PART] == findings.passes[settling.PART] == planned[settling.PART]
    valuing = ("live range", settling.PART, "attribution")
    assert sum(findings.attribution.passes.values()) == pytest.approx(sum(findings.passes[part] for part in valuing))


def test_report_images_have_no_say(monkeypatch):
    """Other images in the report, the same live range and values."""
    task = CriticalTask(redundant(), COLOURS, None)
    first = find(task, Run.start(SETTLED))
    pixels = COLOURS.pixels.copy()
    pixels[first.split.report] = 255 - pixels[first.split.report]
    second = find(CriticalTask(redundant(), replace(COLOURS, pixels=pixels), None), Run.start(SETTLED))
    assert (first.curves.outcomes["highest"] != second.curves.outcomes["highest"]).any()
    assert first.live_range_choice == second.live_range_choice
    np.testing.assert_array_equal(first.attribution.value, second.attribution.value)


def test_screens_are_kept(tmp_path, monkeypatch):
    task = CriticalTask(redundant(), COLOURS, None)

    def unfinished():
        return RunStore(tmp_path / "run", configuration(task, SETTLED), command="repairkit accuracy --resume")

    first = find(task, Run.start(SETTLED, store=unfinished()))
    monkeypatch.setattr("repairkit.repair.screens.screen", lambda *_, **__: pytest.fail("a screen was made again"))
    again = find(task, Run.start(SETTLED, store=unfinished()))
    assert again.live_range_choice == first.live_range_choice


def test_both_networks_of_a_dropout_report_have_one_live_range():
    _, findings, _ = compared_networks(replace(SETTLED, budget=2000))
    assert {each.highest.min_live for each in findings.networks.values()} == {findings.live_range_choice.min_live}
    assert {each.lowest.min_live for each in findings.networks.values()} == {findings.live_range_choice.min_live}


def test_a_class_has_no_live_range_settled():
    with pytest.raises(
        UsageError, match="t0 'settled' is for accuracy and dropout, which leave images alone to settle it on; give a number"
    ):
        find(CriticalTask(redundant(), COLOURS, 1), Run.start(SETTLED))
