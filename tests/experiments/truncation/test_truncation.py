"""Random removal: a trajectory is freezing by hand, deaths are those that were planted, and an interrupted run goes on to the same bits."""

import itertools
import math
import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import three_colours
import tiny_faces
import torch
from bs4 import BeautifulSoup
from oracles import masked_logits, mean_signals
from scipy import stats

from repairkit.errors import DataError, UsageError
from repairkit.experiments import results as kinds
from repairkit.experiments.base import Origin
from repairkit.experiments.truncation import run as module
from repairkit.experiments.truncation.evaluation import RandomOrders, TruncationStatistics
from repairkit.experiments.truncation.report import TruncationResult
from repairkit.experiments.truncation.result import summarise
from repairkit.experiments.truncation.run import (
    Subject,
    Trajectory,
    TruncationOptions,
    configuration,
    counts_of,
    measure,
    measure_each,
    parts_of,
    plan,
)
from repairkit.models import zoo
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame
from repairkit.objectives import Accuracy
from repairkit.report import html, markdown
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore

SHARES = (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6)
SMALL = Options(t0=0.5, seed=3, batch=16)
FEW = TruncationOptions(trajectories=12, images=30, shares=SHARES)


@cache
def colours():
    return Subject("colours", three_colours.model(), three_colours.images())


@cache
def measured_colours():
    return measure(colours(), Run.start(SMALL), FEW)


@cache
def faces():
    subject = Subject("faces", zoo.load(tiny_faces.spoilt_weights()), tiny_faces.target(), subgroups=True)
    few = TruncationOptions(trajectories=3, images=24, shares=(0.05, 0.3))
    return subject, few, measure(subject, Run.start(SMALL), few)


@cache
def report():
    subject, few, findings = faces()
    result = summarise(
        [colours(), subject], SMALL, few, [measured_colours(), findings], Origin("Orders", "repairkit run", 0.1, ["by hand"])
    )
    return TruncationResult.model_validate_json(result.model_dump_json())


def by_hand(subject, findings, index, count):
    """Who is right with the first filters of an order frozen, one image at a time, with constants of its own making."""
    network, classifier = subject.model.classifier.network, subject.model.classifier
    signals = {"1": "1"}  # the ReLU of the only convolution
    constants = mean_signals(network, signals, [classifier.prepare(subject.images.batch(findings.calibrated))])
    live = np.ones((1, len(constants)), dtype=bool)
    for player in np.random.default_rng([SMALL.seed, index]).permutation(len(constants))[:count]:
        live[0, player] = False
    with torch.no_grad():
        logits = masked_logits(network, signals, classifier.prepare(subject.images.batch(findings.measured)), live, constants)
    return logits.argmax(dim=1).numpy() == subject.images.labels[findings.measured]


@pytest.mark.parametrize(("index", "position"), [(0, 0), (0, 1), (0, 3), (7, 2), (11, 5), (4, 6)])
def test_a_trajectory_equals_freezing_by_hand(index, position):
    fan = measured_colours().orders
    assert fan.counts == (0, 1, 2, 3, 4, 5, 6)
    np.testing.assert_array_equal(fan.right[index, position], by_hand(colours(), measured_colours(), index, fan.counts[position]))


def test_images_measured_on_and_those_of_the_constants_are_disjoint_and_balanced():
    subject, _, findings = faces()
    assert not set(subject.images.hashes[findings.measured]) & set(subject.images.hashes[findings.calibrated])
    assert sorted(np.unique(findings.orders.groups, return_counts=True)[1]) == [6, 6, 6, 6]
    assert len(measured_colours().measured) == 30
    assert not set(measured_colours().measured) & set(measured_colours().calibrated)


def planted(deaths, *, images=40, filters=20, whole=1.0):
    """Orders in which a network of two balanced classes is right on a share of the images until it dies, and then says 0."""
    labels = np.arange(images) % 2
    counts = tuple(range(filters + 1))
    alive = np.arange(images) < whole * images
    right = np.stack([np.stack([alive if count < death else labels == 0 for count in counts]) for death in deaths])
    return RandomOrders(counts, right, labels)


def test_deaths_are_found_where_they_were_planted():
    judged = TruncationStatistics(planted([4, 4, 6, 8, 10]), "accuracy")
    assert judged.chance == pytest.approx(0.5)
    np.testing.assert_array_equal(judged.deaths, [4, 4, 6, 8, 10])
    curve = judged.curve("planted", 0.6)
    assert (curve.death.value, curve.earliest, curve.latest, curve.revived) == (0.3, 0.2, 0.5, 0.0)
    assert curve.death.low in (0.2, 0.3)
    assert curve.death.high in (0.3, 0.4, 0.5)
    assert curve.death.low < curve.death.high
    assert [point.dead for point in curve.points] == [(np.array([4, 4, 6, 8, 10]) <= count).mean() for count in range(21)]
    assert curve.points[5].mean == pytest.approx((2 * 0.5 + 3 * 1.0) / 5)
    assert judged.dead_at(0.31) == judged.dead_at(0.3) == 0.6


def test_ending_where_the_worth_is_below_a_threshold_saves_the_rest_of_the_permutation():
    judged = TruncationStatistics(planted([4, 8], whole=0.9), "accuracy")
    assert judged.saved(0.6).value == pytest.approx(((1 - 4 / 20) + (1 - 8 / 20)) / 2)
    assert judged.saved(0.3).value == 0.0  # never below it
    assert judged.given_up(0.6).value == 0.0  # at its end it gets what no filter gets
    stepwise = planted([8, 8])
    stepwise.right[:, 4:8] = np.arange(40) < 22  # .55 before it dies at .5
    assert TruncationStatistics(stepwise, "accuracy").given_up(0.6).value == pytest.approx((0.55 - 0.5) / (1 - 0.5))
    assert TruncationStatistics(planted([4, 8], whole=0.55), "accuracy").curve("poor", 0.6).saved is None


def test_dead_is_where_the_interval_of_wilson_holds_chance():
    images, labels = 50, np.arange(50) % 2
    z = stats.norm.isf(0.025)
    for rights in range(20, 50):
        right = np.zeros((1, 2, images), dtype=bool)
        right[0, 0, :] = True
        right[0, 1, :rights] = True
        share = rights / images
        centre, half = share + z**2 / (2 * images), z * math.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
        holds = (centre - half) / (1 + z**2 / images) <= 0.5
        assert (
            TruncationStatistics(RandomOrders((0, 1), right, labels), "accuracy").objective_values[0, 1]
            <= TruncationStatistics(RandomOrders((0, 1), right, labels), "accuracy").dead_below
        ) == holds


def test_a_network_that_comes_back_is_said_to():
    fan = planted([4, 6])
    fan.right[0, 10] = True
    judged = TruncationStatistics(fan, "accuracy")
    assert (judged.deaths[0], judged.revived) == (4, 0.5)


def test_mean_recall_counts_each_group_alike():
    labels, groups = np.array([0, 0, 0, 1] * 10), np.array(["a", "a", "a", "b"] * 10)
    right = np.stack([np.stack([np.ones(40, bool), groups == "a", labels == 1])] * 2)
    judged = TruncationStatistics(RandomOrders((0, 1, 2), right, labels, groups), "mean recall")
    np.testing.assert_allclose(judged.objective_values, [[1, 0.5, 0.5]] * 2)
    assert judged.chance == pytest.approx(0.5)
    assert TruncationStatistics(RandomOrders((0, 1, 2), right, labels, groups), "accuracy").chance == pytest.approx(0.75)


@pytest.mark.parametrize("varied", ["orders", "images", "both"])
def test_the_interval_covers_a_mean_over_new_orders_and_new_images(varied):
    """Worth 1/2 + order's part + image's part: intervals of repeated studies hold the truth about as often as they say, or more often."""
    rng, held, studies = np.random.default_rng(0), 0, 60
    for study in range(studies):
        order = 0.2 * rng.standard_normal((20, 1)) if varied != "images" else np.zeros((20, 1))
        image = 0.2 * rng.standard_normal((1, 30)) if varied != "orders" else np.zeros((1, 30))
        odds = np.clip(0.5 + order + image, 0, 1)
        middle = rng.random((20, 30)) < odds
        right = np.stack([np.ones_like(middle), middle, np.zeros_like(middle)], axis=1)
        mean = TruncationStatistics(RandomOrders((0, 1, 2), right, np.arange(30) % 2), "accuracy", seed=study).mean(1)
        held += mean.low <= 0.5 <= mean.high
    assert held >= 0.88 * studies


def test_other_processes_are_sent_the_same_piece_of_work():
    subject, findings = colours(), measured_colours()
    filters = ConvFilters(subject.model.classifier.network)
    filters.calibrate([subject.model.classifier.prepare(subject.images.batch(findings.calibrated))])
    game = NetworkGame(subject.model.classifier, filters, Accuracy().on(subject.images.subset(findings.measured)))
    piece, sent = pickle.loads(pickle.dumps((Trajectory(SMALL.seed, 4, counts_of(SHARES, 6)), game)))  # noqa: S301
    np.testing.assert_array_equal(piece.observe(sent) > 0, findings.orders.right[4, 1:-1])


def test_what_was_kept_is_not_walked_again(tmp_path, monkeypatch):
    def unfinished():
        return RunStore(tmp_path / "run", configuration([colours()], SMALL, FEW), command="repairkit run --resume")

    walked = []
    real = module.Trajectory.observe

    def interrupted(self, game):
        if len(walked) == 5:
            raise KeyboardInterrupt
        walked.append(self.index)
        return real(self, game)

    monkeypatch.setattr(module.Trajectory, "observe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_each([colours()], Run.start(SMALL, store=unfinished()), FEW)
    walked.clear()
    monkeypatch.setattr(module.Trajectory, "observe", lambda self, game: (walked.append(self.index), real(self, game))[1])
    (again,) = measure_each([colours()], Run.start(SMALL, store=unfinished()), FEW)
    assert walked == list(range(5, 12))
    np.testing.assert_array_equal(again.orders.right, measured_colours().orders.right)
    assert again.passes == measured_colours().passes


def test_the_plan_is_what_is_spent():
    subject, few, findings = faces()
    assert plan(subject, SMALL, few) == findings.passes
    assert plan(colours(), SMALL, FEW) == measured_colours().passes


def test_the_live_range_is_measured_on_the_images_of_the_constants():
    findings = measure(colours(), Run.start(replace(SMALL, t0="auto")), replace(FEW, trajectories=2))
    assert findings.live_range is not None
    assert findings.t0 == findings.live_range.min_live
    np.testing.assert_array_equal(findings.orders.right, measured_colours().orders.right[:2])


def test_the_report_has_each_order_once_and_says_when_networks_die():
    result = report()
    assert [(curve.network, curve.metric) for curve in result.extra.curves] == [
        ("colours", "accuracy"), ("faces", "mean recall"), ("faces", "accuracy"),
    ]  # fmt: skip
    for curve, fan in zip(result.extra.curves, (measured_colours().orders, faces()[2].orders, faces()[2].orders), strict=True):
        assert len(curve.trajectories) == len(fan.right)
        worths = np.array(curve.trajectories)
        if curve.metric == "accuracy":
            np.testing.assert_allclose(worths, fan.right.mean(axis=2), atol=1e-5)
        for position, point in enumerate(curve.points):
            assert point.mean == pytest.approx(worths[:, position].mean(), abs=1e-5)
            assert point.low <= point.mean <= point.high
    assert result.verdict.outcome == "measured"
    assert result.extra.networks[0].dead_in_zone == TruncationStatistics(measured_colours().orders, "accuracy").dead_at(0.5)


def test_both_views_show_every_number(tmp_path):
    result = report()
    result.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == result
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    text = page.get_text(" ", strip=True)
    identifiers = [element["id"] for element in page.find_all(id=True)]
    assert len(identifiers) == len(set(identifiers))
    assert all(link["href"][1:] in identifiers for link in page.select("a[href^='#']"))
    markdown.write(kinds.document(result), tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    titles = [heading.get_text(strip=True) for heading in page.find_all("h2")]
    assert [line[3:] for line in written.splitlines() if line.startswith("## ")] == titles
    for curve, point in itertools.chain.from_iterable(((curve, point) for point in curve.points) for curve in result.extra.curves):
        cell = f"{100 * point.mean:.1f}% ({100 * point.low:.1f} to {100 * point.high:.1f})"
        assert cell in written, (curve.network, point.share)
        assert f"{100 * point.band_low:.1f} to {100 * point.band_high:.1f}" in text


def test_numbers_of_filters_are_distinct_and_leave_the_ends_out():
    assert counts_of((0.005, 0.01, 0.5, 0.999), 100) == (1, 50)
    assert counts_of((0.25,), 2976) == (744,)


def test_what_cannot_be_measured():
    with pytest.raises(DataError):
        parts_of(replace(colours(), images=three_colours.images(6)), SMALL, FEW)
    with pytest.raises(UsageError):
        TruncationOptions(trajectories=1)
    for shares in ((), (0.0, 0.5), (0.5, 1.0), (0.3, 0.2), (0.1, 0.1)):
        with pytest.raises(UsageError):
            TruncationOptions(shares=shares)
    with pytest.raises(DataError):
        Subject("other", three_colours.model(), tiny_faces.target())
