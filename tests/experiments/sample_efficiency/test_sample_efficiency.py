"""The bandit against Monte Carlo: replays are Algorithm 1, walks end by size where they should, and the report has the paper's figures beside ours."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import three_colours
from bs4 import BeautifulSoup
from engines import permutation_sampling
from games import TableGame, second_order
from oracles import algorithm_one, truncated_values
from scipy.stats import spearmanr

from repairkit.errors import BudgetError, UsageError
from repairkit.experiments import results as kinds
from repairkit.experiments.base import Origin
from repairkit.experiments.sample_efficiency import run as module
from repairkit.experiments.sample_efficiency import small_network as small
from repairkit.experiments.sample_efficiency.report import EfficiencyResult
from repairkit.experiments.sample_efficiency.result import lead_of, over_filters, spearman, stop_of, summarise, verdict_of_stops
from repairkit.experiments.sample_efficiency.run import (
    EfficiencyOptions,
    EfficiencyTask,
    configuration,
    depth_of,
    measure,
    needed_at_least,
    permutation,
    plan,
)
from repairkit.experiments.sample_efficiency.stopping import DELTA, Comparison, compare, r_squared, replay
from repairkit.report import html, markdown
from repairkit.result import Estimate
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore
from repairkit.shapley import FunctionGame
from repairkit.shapley.permutation import sample_permutation as engine_permutation
from repairkit.shapley.values import Budget

SMALL = Options(t0=0.0, seed=2, batch=64, budget=2000)
QUICK = EfficiencyOptions(images=30, top=2, tolerances=(0.3, 0.1, 1e-9), permutations=700, evaluated_on=2, most=800)
BUDGET = EfficiencyOptions(method="budget", images=30, top=2, evaluated_on=8, reference=6000)


def task():
    return EfficiencyTask(three_colours.model(), three_colours.images())


@cache
def replayed():
    findings = measure(task(), Run.start(SMALL), QUICK)
    return findings, summarise(task(), SMALL, QUICK, findings, Origin("Replayed", "repairkit run", 0.1, []))


@cache
def budgeted():
    options = replace(SMALL, t0=0.5)
    findings = measure(task(), Run.start(options), BUDGET)
    return findings, summarise(task(), options, BUDGET, findings, Origin("Equal", "repairkit run", 0.1, []))


def test_a_permutation_is_the_engine_s():
    game = TableGame(6, 9)
    everyone = engine_permutation(game, Budget(1e9), np.random.default_rng([3, 0]), np.ones(6, dtype=bool), truncation=None, batch=4)
    np.testing.assert_allclose(permutation(game, 3, 0, batch=4), everyone)


@pytest.mark.parametrize("end", ["high", "low"])
@pytest.mark.parametrize("bandit", [True, False])
def test_replays_are_algorithm_one_line_by_line(bandit, end):
    """On a game of one example, whose permutations differ by their order alone."""
    game = TableGame(5, 1)
    rows = [permutation(game, 3, index, batch=1) for index in range(300)]
    orders = []
    for index in range(300):
        rng = np.random.default_rng([3, index])
        game.draw(rng, 1)
        orders.append(rng.permutation(5).tolist())
    found = replay(rows, 5, bandit=bandit, top=2, end=end, tolerance=0.15)

    def value(members, _permutation):
        return game.worths[sum(1 << player for player in members)]

    literal = algorithm_one(value, orders, k=2, delta=DELTA, tolerance=0.15, threshold=None, lowest=end == "low")
    assert found.stopped
    if bandit:
        np.testing.assert_allclose(found.values, literal[0])
        np.testing.assert_array_equal(found.samples, literal[1])
    else:  # everyone is sampled until nobody is contested
        count = int(found.samples[0])
        assert (found.samples == count).all()
        np.testing.assert_allclose(found.values, np.mean(rows[:count], axis=0))
        assert found.samples.sum() >= literal[1].sum()


def test_replays_are_what_the_engine_does():
    """Permutations walked once for everybody give the engine's own TMAB, sample for sample."""
    game = TableGame(6, 9)
    rows = [permutation(game, 3, index, batch=4) for index in range(400)]
    replayed = replay(rows, 6, bandit=True, top=2, end="high", tolerance=0.05)
    found = permutation_sampling(game, budget=1e9, engine="tmab-paper", top_k=2, end="high", tolerance=0.05, delta=DELTA, batch=4, seed=3)
    assert replayed.stopped
    np.testing.assert_allclose(replayed.values, found.value)
    np.testing.assert_array_equal(replayed.samples, found.samples)
    plain = replay(rows, 6, bandit=False, top=2, end="high", tolerance=0.05)
    assert plain.stopped
    comparison = Comparison(replayed, plain)
    assert comparison.ratio == replayed.samples.sum() / plain.samples.sum() <= 1
    assert comparison.rank == pytest.approx(spearmanr(replayed.values, plain.values).statistic)
    assert comparison.r_squared == pytest.approx(1 - ((replayed.values - plain.values) ** 2).sum() / (plain.values.var() * 6))
    assert plain.evaluations == pytest.approx(7 * plain.samples[0])


def test_a_walk_that_ends_by_size_estimates_what_tmab_does():
    n, t0 = 8, 0.5
    game, _ = second_order(n)
    depth = depth_of(t0, n)
    rows = np.nan_to_num([permutation(game, 0, index, batch=1, depth=depth) for index in range(4000)])

    def worth(members):
        return float(game.scores(np.isin(np.arange(n), list(members))[None], np.array([0]))[0])

    expected = truncated_values(n, worth, t0, nodes=6)
    error = rows.std(axis=0) / np.sqrt(len(rows))
    # Sizes are whole numbers here and random with tmab: that shifts a value by the interaction of a player with half of another.
    assert (np.abs(rows.mean(axis=0) - expected) < 5 * error + 0.12 * np.abs(expected).max()).all()
    one = permutation(game, 0, 0, batch=1, depth=depth)
    assert np.isnan(one).sum() == n - depth
    np.testing.assert_allclose(one[~np.isnan(one)], permutation(game, 0, 0, batch=1)[~np.isnan(one)])


def test_what_does_not_stop_is_extrapolated_from_the_same_permutations():
    game = TableGame(5, 6)
    rows = np.array([permutation(game, 1, index, batch=2) for index in range(80)])
    halves = rows[0::2], rows[1::2]
    settings = {"top": 2, "end": "high", "tolerance": 0.1, "repeats": 2}
    found, extrapolated = compare(halves, most=5000, **settings)
    assert extrapolated
    assert len(found) == 2
    assert all(one.plain.samples[0] > 40 for one in found)
    assert compare(halves, most=30, **settings) == ([], True)
    wide, real = compare(halves, most=30, **(settings | {"tolerance": 0.9}))
    assert (len(wide), real) == (2, False)


def test_the_published_bound_needs_what_its_range_term_takes():
    values, tolerance = np.array([0.4, 0.3, 0.1, 0.0]), 0.05
    gaps = [0.15, 0.05, 0.25, 0.35]  # distance from the second highest, plus the tolerance
    counts = [np.ceil(1 + 7 * np.log(2 / DELTA) / 3 / gap) for gap in gaps]
    # the first permutations, in which all take part, cost n + 1 evaluations of the batch each
    together = min(counts)
    passes = needed_at_least(values, top=2, end="high", tolerance=tolerance, batch=10)
    assert passes >= 10 * 5 * together
    assert passes <= 10 * 2 * sum(counts)
    assert needed_at_least(values, top=2, end="high", tolerance=tolerance / 10, batch=10) > passes


def test_the_report_of_replays_has_each_tolerance_and_the_paper_beside():
    findings, result = replayed()
    assert [stop.tolerance for stop in result.extra.stops] == [0.3, 0.1, 1e-9]
    assert [(stop.stopped, stop.extrapolated) for stop in result.extra.stops] == [(True, False), (True, False), (False, True)]
    first = findings.stoppings[1].comparisons[0]
    shown = result.extra.stops[1]
    assert shown.share.value == pytest.approx(np.mean(shown.ways))
    assert shown.share.low <= shown.share.value <= shown.share.high
    assert shown.share.low < shown.share.high
    assert result.extra.shown == "stopped at a tolerance of 0.1"
    np.testing.assert_array_equal(result.extra.samples["tmab-paper"], first.tmab.samples)
    np.testing.assert_allclose(result.extra.values["monte-carlo"], first.plain.values, rtol=1e-5)
    assert shown.rank.value == pytest.approx(first.rank)
    assert shown.r_squared.value == pytest.approx(first.r_squared)
    assert result.verdict.outcome == "measured"


@pytest.mark.parametrize(("dropped", "interval"), [(0, True), (2, True), (3, False)])
def test_replays_that_did_not_stop_are_counted_and_many_leave_no_interval(dropped, interval):
    findings, _ = replayed()
    stopping = findings.stoppings[1]
    ratios = stopping.resampled[: 100 - dropped]
    stop = stop_of(replace(stopping, resampled=ratios, replays=100), 0.95, 0)
    assert (stop.replays, stop.dropped, stop.share is not None) == (100, dropped, interval)
    assert stop.taken == pytest.approx(np.mean(stop.ways))
    verdict = verdict_of_stops([stop], 0.95)
    assert verdict.outcome == "measured"
    assert ("3 of 100 replays did not stop" in verdict.headline) == (not interval)


def test_nothing_is_claimed_where_nothing_stops():
    efficiency = replace(QUICK, tolerances=(1e-9,), permutations=20, most=30)
    result = summarise(task(), SMALL, efficiency, measure(task(), Run.start(SMALL), efficiency), Origin("t", "c", 0.1, []))
    assert result.verdict.outcome == "no claim"
    assert result.extra.samples == result.extra.values == {}
    assert "Not drawn: the algorithms did not stop." in BeautifulSoup(html.render(kinds.document(result)), "html.parser").get_text()


def test_equal_passes_are_equal_and_held_against_flips_of_every_filter():
    findings, result = budgeted()
    assert findings.equal is not None
    tmab, plain = result.extra.agreements
    assert plain.passes <= SMALL.budget
    assert plain.passes == findings.passes["monte-carlo"]
    assert tmab.passes <= SMALL.budget
    assert (findings.equal.reference.samples > 0).all()
    assert findings.equal.reference.seed != SMALL.seed
    assert (findings.equal.samples <= findings.equal.permutations).all()
    assert findings.equal.samples.sum() == findings.equal.permutations * depth_of(0.5, 6)
    reference = findings.equal.reference.value
    assert plain.r_squared.value == pytest.approx(r_squared(findings.equal.values, reference))
    assert tmab.sought.value == 1.0  # the two filters that a class each hangs on
    assert tmab.rank.low <= tmab.rank.value <= tmab.rank.high
    assert result.extra.rank_lead.value == pytest.approx(tmab.rank.value - plain.rank.value)
    assert [entry.tolerance for entry in result.extra.needed] == list(BUDGET.tolerances)


def test_two_rankings_of_the_same_filters_are_told_apart_by_their_difference():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=60)
    shared = reference + 0.5 * rng.normal(size=60)
    findings, _ = budgeted()

    def found(values, noise):
        return replace(findings.equal.tmab, value=values + noise * rng.normal(size=60), screen=np.ones(60))

    equal = replace(findings.equal, tmab=found(shared, 0.0), values=found(shared, 0.8).value, reference=found(reference, 0.0))
    lead = lead_of(equal, SMALL)
    one, other = (over_filters(spearman, values, reference, 0.95, 0) for values in (equal.tmab.value, equal.values))
    assert one.low < other.high  # their intervals overlap
    assert lead.low > 0
    assert lead.value == pytest.approx(one.value - other.value)


@pytest.mark.parametrize("made", [replayed, budgeted], ids=["replay", "budget"])
def test_both_views_show_it_and_it_reads_back(made, tmp_path):
    _, result = made()
    result.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == result
    assert EfficiencyResult.read(tmp_path / "result.json") == result
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    identifiers = [element["id"] for element in page.find_all(id=True)]
    assert len(identifiers) == len(set(identifiers))
    assert all(link["href"][1:] in identifiers for link in page.select("a[href^='#']"))
    markdown.write(kinds.document(result), tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert [line[3:] for line in written.splitlines() if line.startswith("## ")] == [
        heading.get_text(strip=True) for heading in page.find_all("h2")
    ]
    for pair in [(stop.rank, stop.r_squared) for stop in result.extra.stops if stop.rank] + [
        (entry.rank, entry.r_squared) for entry in result.extra.agreements
    ]:
        for found in pair:
            assert f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})".replace("-", "−") in written
    assert page.select_one("#figure-values svg")


def test_the_plan_is_what_is_spent_at_most():
    findings, _ = replayed()
    assert findings.passes == plan(task(), SMALL, QUICK)
    equal, _ = budgeted()
    planned = plan(task(), replace(SMALL, t0=0.5), BUDGET)
    assert set(equal.passes) == set(planned)
    assert all(passes <= planned[part] for part, passes in equal.passes.items())


def test_what_was_kept_is_not_walked_again(tmp_path, monkeypatch):
    def unfinished():
        return RunStore(tmp_path / "run", configuration(task(), SMALL, QUICK), command="repairkit run --resume")

    walked = []
    real = module.Permutations.observe

    def interrupted(self, game):
        if len(walked) == 4:
            raise KeyboardInterrupt
        walked.append(self.start)
        return real(self, game)

    monkeypatch.setattr(module.Permutations, "observe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(task(), Run.start(SMALL, store=unfinished()), QUICK)
    walked.clear()
    monkeypatch.setattr(module.Permutations, "observe", lambda self, game: (walked.append(self.start), real(self, game))[1])
    again = measure(task(), Run.start(SMALL, store=unfinished()), QUICK)
    assert walked == list(range(100, 700, 25))
    for one, other in zip(again.stoppings, replayed()[0].stoppings, strict=True):
        np.testing.assert_array_equal(one.resampled, other.resampled)
        assert [comparison.ratio for comparison in one.comparisons] == [comparison.ratio for comparison in other.comparisons]
        for found, before in zip(one.comparisons, other.comparisons, strict=True):
            np.testing.assert_array_equal(found.tmab.values, before.tmab.values)


def test_intervals_over_filters_hold_the_value_and_narrow_with_more_filters():
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=20), rng.normal(size=2000)
    widths = []
    for values in (few, many):
        found = over_filters(r_squared, values + 0.3 * rng.normal(size=len(values)), values, 0.95, 0)
        assert isinstance(found, Estimate)
        assert found.low <= found.value <= found.high
        assert found.value == pytest.approx(1 - 0.09, abs=0.15)
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 3


def test_what_cannot_be_compared():
    with pytest.raises(UsageError):
        plan(task(), SMALL, replace(QUICK, top=6))
    with pytest.raises(BudgetError):
        plan(task(), replace(SMALL, budget=50), BUDGET)
    with pytest.raises(UsageError):
        plan(task(), replace(SMALL, t0="auto"), BUDGET)
    with pytest.raises(UsageError):
        EfficiencyOptions(method="both")
    with pytest.raises(UsageError):
        EfficiencyOptions(tolerances=(0.1, 0.0))
    with pytest.raises(UsageError):
        EfficiencyOptions(tolerances=(0.1, float("nan")))
    with pytest.raises(UsageError):
        EfficiencyOptions(reference=float("nan"))
    with pytest.raises(UsageError):
        EfficiencyOptions(permutations=2)
    with pytest.raises(UsageError):
        small.load((8, 8))


def test_the_small_network_reads_digits_that_it_has_not_seen():
    model, images = small.load((8, 8, 8, 8), epochs=8), small.held_out()
    assert not set(images.hashes) & set(small.digits().subset(np.arange(small.TRAINED_ON)).hashes)
    assert (model.classifier(images.batch(np.arange(200))).argmax(dim=1).numpy() == images.labels[:200]).mean() > 0.5


def test_an_all_equal_game_has_no_rank():

    flat = permutation(FunctionGame(4, lambda live: live.mean(axis=1), bounds=(0, 1)), 0, 0, batch=1)
    assert spearman(np.zeros(4), flat) == 0.0
