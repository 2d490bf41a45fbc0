"""Rank correlation of attack success and accuracy."""

from dataclasses import replace

import brittle
import numpy as np
import pandas as pd
import pytest
from command_line import call
from scipy.stats import spearmanr

from repairkit.attacks.methods import PGD
from repairkit.errors import DataError
from repairkit.experiments import results as kinds
from repairkit.experiments.attack_task import AttackOptions, AttackTask
from repairkit.experiments.base import Origin
from repairkit.experiments.correlation.result import ACCURACY, BOTH, SUCCESS, cells, correlations, shared_tops, summarise, without_noise
from repairkit.experiments.correlation.run import measure, plan
from repairkit.result import Correlation
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore

OPTIONS = Options(budget=12_000, t0=0.5)
ATTACKS = AttackOptions(method=PGD(steps=6, step=6 / 255), images=(40, 10, 10))


@pytest.fixture(autouse=True, scope="module")
def fresh_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPAIRKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def task(*, fragile=True, per_class=40):
    return AttackTask(brittle.model(brittle=fragile), brittle.images(per_class))


def result_of(toy, findings):
    return summarise(toy, OPTIONS, ATTACKS, findings, Origin("Toy", "repairkit run", 0.1, []))


@pytest.fixture(scope="module")
def measured():
    toy = task()
    findings = measure(toy, Run.start(OPTIONS), ATTACKS)
    return toy, findings, result_of(toy, findings)


def test_culprits_are_high_for_the_attack_and_colours_for_accuracy(measured):
    _, findings, result = measured
    names = [str(name) for name in findings.filters.ids]
    success, accuracy = (dict(zip(names, row, strict=True)) for row in findings.screens[:2])
    assert min(success[name] for name in brittle.CULPRITS) > 0 > max(success[f"0:{colour}"] for colour in range(3))
    assert min(accuracy[f"0:{colour}"] for colour in range(3)) > max(abs(accuracy[name]) for name in brittle.CULPRITS)
    assert result.verdict.outcome == "measured"
    assert result.extra.correlations[0].value < 0
    assert {entry.of: entry.value for entry in result.extra.correlations}[SUCCESS] > 0.5


def test_both_times_have_random_numbers_of_their_own_and_are_booked(measured):
    toy, findings, _ = measured
    assert not np.array_equal(findings.screens[0], findings.screens[2])
    np.testing.assert_allclose(findings.screens[0], findings.screens[2], atol=0.1)
    planned = plan(toy, OPTIONS, ATTACKS)
    assert findings.passes["screens"] == planned["screens"] == OPTIONS.budget
    assert findings.passes["attack"] == planned["attack"]


def test_filters_without_any_value_are_said_to_be_left_out(measured):
    toy, findings, _ = measured
    players = findings.screens.shape[1]
    for unmoved in (0, 2):
        screens = np.where(findings.screens == 0, 0.001 * np.arange(1, players + 1), findings.screens)
        screens[:, :unmoved] = 0
        found = result_of(toy, replace(findings, screens=screens))
        told = [line for line in found.method if "exactly 0" in line]
        assert [line.split(" ", 1)[0] for line in told] == (["2"] if unmoved else [])
        assert found.extra.correlations[0].n == players - unmoved


def test_resuming_gives_the_same_bits(measured, tmp_path):
    toy, findings, _ = measured
    unfinished = RunStore(tmp_path / "run", {}, command="")
    first = measure(toy, Run.start(OPTIONS, store=unfinished), ATTACKS)
    again = measure(toy, Run.start(OPTIONS, store=RunStore(tmp_path / "run", {}, command="")), ATTACKS)
    np.testing.assert_array_equal(first.screens, findings.screens)
    np.testing.assert_array_equal(again.screens, findings.screens)
    assert again.seconds["screens"] > first.seconds["screens"] / 2  # what the first session took counts


def test_a_network_that_cannot_be_fooled_says_so(tmp_path):
    toy = task(fragile=False)
    findings = measure(toy, Run.start(replace(OPTIONS, budget=400)), ATTACKS)
    result = result_of(toy, findings)
    assert (result.verdict.outcome, result.extra.correlations, result.extra.cells, result.extra.corrected) == (
        "cannot be fooled",
        [],
        [],
        None,
    )
    kinds.write_views(result, tmp_path)


def test_the_run_directory_holds_every_value(measured, tmp_path):
    _, findings, result = measured
    kinds.write_run(tmp_path / "run", None, findings, result)
    stored = pd.read_parquet(tmp_path / "run" / "values.parquet")
    assert list(stored["filter"]) == [str(name) for name in findings.filters.ids]
    np.testing.assert_array_equal(stored["accuracy again"], findings.screens[3])
    assert kinds.read(tmp_path / "run" / "result.json") == result
    assert result.extra.tops == []  # nine filters have no 25 highest


# ---- the arithmetic ----


def noisy(reliability, correlation, n=4000):
    """Screens of two values that correlate, with noise that makes each repeat at this correlation."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(2, n))
    true = np.stack([shared[0], correlation * shared[0] + np.sqrt(1 - correlation**2) * shared[1]])
    noise = np.sqrt(1 / reliability - 1)
    return np.concatenate([true + noise * rng.normal(size=(2, n)), true + noise * rng.normal(size=(2, n))])


def test_correlation_is_scipys_of_the_means_and_the_correction_finds_the_one_without_noise():
    screens = noisy(0.5, 0.6)
    found = correlations(screens, 0.95)
    means = (screens[:2] + screens[2:]) / 2
    assert [entry.of for entry in found] == [BOTH, SUCCESS, ACCURACY]
    assert found[0].value == pytest.approx(spearmanr(*means).statistic)
    assert found[1].value == pytest.approx(spearmanr(screens[0], screens[2]).statistic)
    assert found[0].value < 0.45
    assert without_noise(found) == pytest.approx(0.6, abs=0.04)


@pytest.mark.parametrize("low", [-0.1, 0.0])
def test_no_correction_of_values_that_do_not_repeat(low):
    found = [Correlation(of=name, n=9, value=0.3, low=low if name == ACCURACY else 0.1, high=0.5) for name in (BOTH, SUCCESS, ACCURACY)]
    assert without_noise(found) is None
    assert without_noise(found[:2]) is None


def test_shared_tops_and_tenths_are_counts():
    screens = np.tile(np.stack([np.arange(100.0), np.roll(np.arange(100.0), 10)]), (2, 1))
    (top, fifty) = shared_tops(screens)
    literal = {k: len(set(np.argsort(screens[0])[-k:]) & set(np.argsort(screens[1])[-k:])) for k in (25, 50)}
    assert [(top.k, top.shared, top.chance), (fifty.k, fifty.shared)] == [(25, literal[25], 6.25), (50, literal[50])]
    counts = np.array(cells(screens))
    assert counts.sum() == 100
    np.testing.assert_array_equal(counts, np.roll(10 * np.eye(10, dtype=int), -1, axis=0))


def test_too_few_images():
    with pytest.raises(DataError):
        plan(task(per_class=2), OPTIONS, ATTACKS)


def test_a_recipe_runs_it(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('command = "correlation"\ntitle = "T"\nmodel = "squeezenet1_1"\nsize = 48\n[options]\ntop = 3\n')
    code, _, stderr = call("run", recipe)
    assert (code, "options.top is no option" in stderr) == (2, True)
