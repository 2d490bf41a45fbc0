"""A network beside its dropout-trained comparison model: values, ablation curves of both, paired differences of their falls, and the verdict."""

import json
from dataclasses import replace

import numpy as np
import pytest
import three_colours
import torch
from bs4 import BeautifulSoup
from dropout_example import SMALL, found, redundant
from scipy import stats
from torch import nn

from repairkit.errors import DataError, ModelError, UsageError
from repairkit.evaluation import ablation
from repairkit.evaluation.curves import AblationCurves
from repairkit.experiments import results as kinds
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.critical.run import find as find_critical
from repairkit.experiments.dropout.result import (
    SERIES,
    accuracy_of,
    change_of,
    differences_of,
    most_frequent,
    shared_histogram,
    shares_of,
    summarise,
    verdict,
)
from repairkit.experiments.dropout.run import DropoutTask, configuration, find, plan
from repairkit.report import html, markdown
from repairkit.run.context import Run
from repairkit.run.store import RunStore
from repairkit.shapley import Attribution


def literal_accuracy(model, images, frozen, means):
    """Accuracy with filters of the one convolution overwritten by their means, image by image."""
    network, right = model.classifier.network, []
    for index in range(len(images)):
        with torch.no_grad():
            signal = network[1](network[0](model.classifier.prepare(images.batch(np.array([index])))))
            for name in frozen:
                signal[:, int(name.rpartition(":")[2])] = means[int(name.rpartition(":")[2])]
            right.append(int(network[2:](signal).argmax()) == images.labels[index])
    return np.array(right, dtype=float)


@pytest.mark.parametrize("column", ["original", "dropout"])
@pytest.mark.parametrize("end", ["high", "low"])
def test_each_network_loses_what_freezing_its_own_filters_takes(column, end):
    """Against brute force: order by value, overwrite signals by their means, count."""
    task, findings, result = found()
    model = task.model if column == "original" else task.dropout
    network = findings.networks[column]
    attribution = network.highest if end == "high" else network.lowest
    assert attribution.end == end
    order = [attribution.ids[i] for i in np.argsort(-attribution.value if end == "high" else attribution.value, kind="stable")]
    find_on, report_on = (task.images.subset(part) for part in (findings.split.attribute, findings.split.report))
    with torch.no_grad():
        signals = model.classifier.network[:2](model.classifier.prepare(find_on.batch(np.arange(len(find_on)))))
    means = signals.mean(dim=(0, 2, 3))
    series = {"high": "highest", "low": "lowest"}[end]
    points = {p.filters: p for p in result.extra.curves if (p.column, p.series) == (column, series)}
    start = literal_accuracy(model, report_on, [], means)
    assert sorted(points) == [0, 1, 2, 3]
    for number, point in points.items():
        right = literal_accuracy(model, report_on, order[:number], means)
        assert (point.value, point.change, point.n) == (pytest.approx(right.mean()), pytest.approx((right - start).mean()), len(right))


def test_the_rival_bears_what_the_original_does_not():
    _, _, result = found()
    value = {(p.column, p.series, p.filters): p.value for p in result.extra.curves}
    assert value["original", "highest", 1] == pytest.approx(2 / 3)
    assert value["original", "highest", 2] == pytest.approx(1 / 3)
    assert value["dropout", "highest", 2] == pytest.approx(2 / 3)  # blue falls, green has another filter
    assert value["original", "lowest", 2] == 1.0
    *numbers, mean = (entry.value for entry in result.differences if entry.metric == change_of("highest"))
    assert numbers == pytest.approx([value["dropout", "highest", k] - value["original", "highest", k] for k in (1, 2, 3)])
    assert mean == pytest.approx(np.mean(numbers))


def test_both_networks_see_the_same_images_and_splits_share_none():
    task, findings, result = found()
    parts = [set(rows.tolist()) for rows in vars(findings.split).values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(task.images)
    assert list(result.extra.parts.values()) == [48, 24, 48]
    assert {p.n for p in result.extra.curves} == {48}


def test_values_are_those_of_repairkit_accuracy():
    task, findings, _ = found()
    alone = find_critical(CriticalTask(task.model, task.images, None), Run.start(SMALL))
    np.testing.assert_array_equal(findings.networks["original"].highest.value, alone.attribution.value)
    np.testing.assert_array_equal(findings.split.report, alone.split.report)
    assert findings.networks["original"].lowest.end == "low"


def test_what_was_kept_is_taken_up_again(tmp_path, monkeypatch):
    task, findings, _ = found()

    def unfinished():
        return RunStore(tmp_path / "run", configuration(task, SMALL), command="repairkit dropout --resume")

    first = find(task, Run.start(SMALL, store=unfinished()))
    kept = sorted(file.relative_to(tmp_path / "run.unfinished").as_posix() for file in (tmp_path / "run.unfinished").rglob("*.npz"))
    assert {f"{column}/{name}.npz" for column in ("dropout", "original") for name in ("highest", "lowest")} <= {*kept}
    measured = []
    real = ablation.predict
    monkeypatch.setattr(ablation, "predict", lambda *arguments, **more: measured.append(1) or real(*arguments, **more))
    again = find(task, Run.start(SMALL, store=unfinished()))
    assert len(measured) == 2 * (1 + 2 * 3)  # no random filter is frozen again
    for column in ("original", "dropout"):
        for each in (first, again):
            np.testing.assert_array_equal(each.networks[column].lowest.value, findings.networks[column].lowest.value)
            for series in SERIES:
                np.testing.assert_array_equal(each.curves[column].outcomes[series], findings.curves[column].outcomes[series])
    assert again.passes == first.passes
    with pytest.raises(UsageError, match="was made with seed 1, this run has seed 2"):
        RunStore(tmp_path / "run", configuration(task, replace(SMALL, seed=2)), command="")


def test_the_plan_bounds_the_cost_and_books_both_ends_of_both_networks():
    task, findings, _ = found()
    planned = plan(task, SMALL)
    assert planned["attribution"] == 4 * SMALL.budget
    assert plan(task, replace(SMALL, guarantee=0.1, tolerance=0.2, contested=None))["attribution"] == 2 * SMALL.budget
    assert set(findings.passes) == set(planned)
    assert findings.passes["control"] == planned["control"]
    first, second = (findings.curves[column].outcomes["random"] for column in ("original", "dropout"))
    assert (first != second).any()
    for part, passes in findings.passes.items():
        assert 0 < passes <= planned[part]
    spent = sum(sum(each.passes.values()) for n in findings.networks.values() for each in (n.highest, n.lowest))
    assert findings.passes["attribution"] == pytest.approx(spent)


def test_a_guarantee_speaks_of_both_ends_at_once(tmp_path):
    task, *_ = found()
    options = replace(SMALL, guarantee=0.1, tolerance=0.9, contested=6, budget=6_000, top=2)
    findings = find(task, Run.start(options))
    assert all(each.highest is each.lowest for each in findings.networks.values())
    result = summarise(task, options, findings, title="t", command="c", minutes=0.1, notices=[])
    assert [entry.column for entry in result.guarantees] == ["original", "dropout"]
    kinds.write_run(tmp_path / "run", task, findings, result)
    assert [place.name for place in (tmp_path / "run" / "networks").iterdir()] == ["dropout-fold-1"]


def test_the_run_directory_holds_every_attribution(tmp_path):
    task, findings, result = found()
    kinds.write_run(tmp_path / "run", task, findings, result)
    folder = tmp_path / "run" / "networks"
    assert sorted(place.name for place in folder.iterdir()) == ["dropout-fold-1", "dropout-lowest-fold-1", "original-lowest-fold-1"]
    for file, expected in (
        (tmp_path / "run" / "attribution.parquet", findings.networks["original"].highest),
        (folder / "dropout-fold-1" / "attribution.parquet", findings.networks["dropout"].highest),
        (folder / "dropout-lowest-fold-1" / "attribution.parquet", findings.networks["dropout"].lowest),
    ):
        np.testing.assert_array_equal(Attribution.read(file).value, expected.value)
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    assert written["kind"] == "dropout"
    assert kinds.read(tmp_path / "run" / "result.json") == result


def test_histograms_share_their_edges_and_hold_every_filter():
    _, findings, result = found()
    values, screens = result.extra.spreads
    for column, network in findings.networks.items():
        flipped = [v for v in zip(network.highest.value, network.lowest.value, strict=True) if not np.isnan(v).all()]
        assert sum(values.counts[column]) == len(flipped)
        expected, _ = np.histogram(network.highest.screen, bins=screens.edges)
        assert screens.counts[column] == expected.tolist()
        assert sum(screens.counts[column]) == result.extra.players == 6
    a, b = np.array([-1.0, 0.0, np.nan]), np.array([0.5, 3.0])
    both = shared_histogram("toy", {"a": a, "b": b})
    assert (both.edges[0], both.edges[-1]) == (-1.0, 3.0)
    assert (sum(both.counts["a"]), sum(both.counts["b"])) == (2, 2)
    assert both.counts["b"][-1] == 1


def curves_of(outcomes, counts):
    """The curves of both networks, from outcomes by column and series."""
    labels = np.arange(next(iter(outcomes["original"].values())).shape[1]) % 4
    return {column: AblationCurves(labels, tuple("abcd"), None, counts, rows) for column, rows in outcomes.items()}


def curves_at(first, second, *, n=400):
    """The first so many of the images are right in both networks, by shares for each number frozen; with other series they stay as they are."""
    outcomes = {}
    for column, shares in (("original", first), ("dropout", second)):
        rows = np.stack([np.arange(n) < round(n * share) for share in shares]).astype(float)
        outcomes[column] = {series: rows if series == "highest" else rows[[0] * len(rows)] for series in SERIES}
    return curves_of(outcomes, tuple(range(len(first))))


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ([0.9, 0.5, 0.3], [0.9, 0.85, 0.8], "less dependent"),
        ([0.9, 0.6, 0.3], [0.6, 0.5, 0.4], "no claim"),  # it had less to lose
        ([0.9, 0.6, 0.5], [0.6, 0.4, 0.3], "no claim"),  # it had less to lose, and less is left
        ([0.9, 0.85, 0.8], [0.9, 0.5, 0.3], "more dependent"),
        ([0.5, 0.45, 0.4], [0.95, 0.7, 0.6], "no claim"),  # it had more to lose
        ([0.9, 0.6, 0.5], [0.9, 0.6, 0.5], "no claim"),
    ],
)
def test_the_verdict_needs_a_smaller_fall_and_more_left(first, second, outcome):
    curves = curves_at(first, second)
    differences = differences_of(curves)
    found = verdict(curves["original"].counts, most_frequent(curves), shares_of(curves), differences, level=0.95)
    assert found.outcome == outcome
    fall = next(entry for entry in differences if (entry.metric, entry.group) == (change_of("highest"), None))
    assert len(found.worse) == (second[0] < first[0]) + (fall.high < 0)
    assert "25.0 %" in found.sentences[-1]


def test_the_difference_of_falls_is_paired_and_its_interval_that_of_a_t_test():
    rng = np.random.default_rng(2)
    n = 500
    a0, ak, b0, bk = (rng.random(n) < share for share in (0.9, 0.5, 0.85, 0.7))
    rows = {
        column: {"highest": np.stack([start, frozen]).astype(float), "lowest": np.stack([start, start]).astype(float), "random": np.stack([start, start]).astype(float)}
        for column, start, frozen in (("original", a0, ak), ("dropout", b0, bk))
    }  # fmt: skip
    differences = differences_of(curves_of(rows, (0, 1)))
    entry = next(e for e in differences if (e.metric, e.group) == (change_of("highest"), "1 filter"))
    per_image = (bk.astype(int) - b0.astype(int)) - (ak.astype(int) - a0.astype(int))
    expected = stats.ttest_1samp(per_image, 0).confidence_interval(0.95)
    assert entry.value == pytest.approx(per_image.mean())
    assert (entry.low, entry.high) == (pytest.approx(expected.low, abs=0.01), pytest.approx(expected.high, abs=0.01))
    level = next(e for e in differences if (e.metric, e.group) == (accuracy_of("highest"), "1 filter"))
    assert level.value == pytest.approx(bk.mean() - ak.mean())


def test_a_claim_at_one_number_is_held_to_all_numbers():
    """An interval that excludes zero is no claim where seven numbers were looked at, in three series and two metrics each; where one was, it is."""
    entry = {}
    for numbers in (1, 7):
        curves = curves_at([0.9] + [0.8] * numbers, [0.9] + [0.865] * numbers, n=200)
        entry[numbers] = next(e for e in differences_of(curves) if (e.metric, e.group) == (change_of("highest"), "1 filter"))
    assert (entry[1].low, entry[1].high) == (entry[7].low, entry[7].high)
    assert entry[1].low > 0
    assert (entry[1].claim, entry[7].claim) == ("better", "no claim")


def test_outcomes_that_do_not_fit_are_refused():
    curves = curves_at([0.9, 0.5, 0.3], [0.9, 0.8, 0.7])["original"]
    for counts in ((1, 2, 3), (0, 1)):
        with pytest.raises(DataError, match="expected counts from 0 and outcomes of shape"):
            replace(curves, counts=counts)


def test_networks_that_cannot_be_compared():
    model, images = three_colours.model(), three_colours.images()
    with pytest.raises(ModelError, match=r"two networks of one architecture, got toy and squeezenet1_1 \(toy.safetensors\)"):
        DropoutTask(model, replace(redundant(), architecture="squeezenet1_1"), images)
    with pytest.raises(ModelError, match=r"toy.safetensors and toy.safetensors are the same network; give one that was trained"):
        DropoutTask(model, three_colours.model(), images)
    other = redundant()
    other.classifier.classes = ("red", "green", "violet")
    with pytest.raises(DataError, match=r"the dropout-trained one .*violet.* give two networks of one task"):
        DropoutTask(model, other, images)
    wider = redundant()
    wider.classifier.network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    with pytest.raises(ModelError, match="the same filters, got 6 and 8 with 6 in common"):
        DropoutTask(model, wider, images)
    flat = replace(redundant())
    flat.classifier.network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
    with pytest.raises(ModelError, match=r"has no nn\.Conv2d before its classifier"):
        DropoutTask(model, flat, images)
    with pytest.raises(DataError, match=r"images and training share 120 image\(s\)"):
        DropoutTask(model, redundant(), images, training=images)


def test_report_shows_both_networks(tmp_path):
    _, _, result = found()
    text = BeautifulSoup(html.render(kinds.document(result)), "html.parser").get_text(" ", strip=True)
    markdown.write(kinds.document(result), tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    for point in (point for point in result.extra.curves if point.filters):
        assert f"{100 * point.value:.1f}% ({100 * point.low:.1f} to {100 * point.high:.1f})" in written
    for extreme in (extreme for ends in result.extra.extremes.values() for extreme in ends):
        assert all(f"{entry.layer}:{entry.channel}" in text for entry in extreme.filters)
    assert {file.stem for file in (tmp_path / "figures").iterdir()} == {"spread-1", "spread-2", "highest", "lowest", "random"}
