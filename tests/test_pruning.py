"""Pruning from images to a report: what accuracy does without is frozen, then gone, and nothing is chosen on report images."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import three_colours
import torch
from bs4 import BeautifulSoup

from repairkit.errors import DataError, UsageError
from repairkit.evaluation import ablation
from repairkit.evaluation.statistics import paired_drop_bound
from repairkit.experiments import results as kinds
from repairkit.experiments.classifier_task import CriticalTask
from repairkit.experiments.pruning import run as pruning
from repairkit.experiments.pruning.evaluation import verdict
from repairkit.experiments.pruning.footprint import paired_timings, parameters
from repairkit.experiments.pruning.result import Latency, PruningResult
from repairkit.experiments.pruning.run import configuration, plan, prune, split_of
from repairkit.experiments.pruning.search import CLOSE, TRIES, Try, least_first, most_within
from repairkit.experiments.pruning.summary import summarise
from repairkit.models.pruned import load_pruned
from repairkit.network.filters import FilterId
from repairkit.report import charts, html, markdown
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore

OPTIONS = Options(
    budget=4000, top=2, contested=3, ranking="recall", t0=0.5, seed=1, max_clean_drop=0.1, target_shares=pruning.SHARES, batch=64
)


@pytest.fixture(autouse=True)
def few_timings(monkeypatch):
    monkeypatch.setattr(pruning, "paired_timings", partial(paired_timings, pairs=9, seconds=0.0))


def task_of():
    return CriticalTask(three_colours.model(), three_colours.images(), None)


@cache
def found():
    task = task_of()
    findings = prune(task, Run.start(OPTIONS))
    return task, findings, told(task, findings)


def told(task, findings, *, options=OPTIONS, remove=True):
    return summarise(
        task, options, findings, remove=remove, title="Pruning of colours", command="repairkit prune", minutes=0.1, notices=["by hand"]
    )


def test_what_accuracy_hangs_on_stays_and_what_nobody_reads_goes():
    task, findings, result = found()
    frozen = {str(culprit.filter) for culprit in findings.patch.culprits}
    assert set(three_colours.IDLE) <= frozen
    assert not frozen & set(three_colours.CRITICAL.values())
    assert {str(name) for name in findings.pruned.removed} == frozen
    left = 6 - len(frozen)
    assert result.verdict.outcome == "pruned"
    assert [each.parameters for each in result.extra.footprints] == [6 * 4 + 18 + 3, 6 * 4 + 18 + 3, left * 4 + left * 3 + 3]
    # of 4 x 4 positions; two operations for each multiplication
    assert [each.flops for each in result.extra.footprints] == [
        2 * (6 * 3 * 16 + 18),
        2 * (6 * 3 * 16 + 18),
        2 * (left * 3 * 16 + left * 3),
    ]
    assert {column: right.mean() for column, right in findings.right.items()} == dict.fromkeys(("original", "frozen", "pruned"), 1.0)
    assert (result.extra.removed, result.extra.chosen, result.extra.kept) == (len(frozen), len(frozen), [])
    np.testing.assert_array_equal(findings.right["pruned"], np.ones(len(findings.split.report), dtype=bool))
    assert task.model.classifier.network[0].out_channels == 6


def test_a_time_is_claimed_only_where_its_interval_excludes_the_original():
    _, _, result = found()
    times = [
        Latency(batch=1, pairs=31, original=0.004, pruned=0.003, ratio=0.85, low=0.7, high=1.1),
        Latency(batch=32, pairs=31, original=0.06, pruned=0.05, ratio=0.8, low=0.75, high=0.9),
    ]
    said = verdict(result.differences, result.extra.footprints, times, filters=6, frozen=2, removed=2, attempted=True, level=0.95).sentences
    assert (
        "No difference in the time of a pass of 1 image can be shown (0.85 of the original's; 95% interval: 0.70 to 1.10; 31 pairs on this machine)."
        in said
    )
    assert "A pass of 32 images takes 0.80 of the time that it took (95% interval: 0.75 to 0.90; 31 pairs on this machine)." in said


def test_the_histogram_of_flipped_filters_marks_those_that_are_frozen():
    _, findings, result = found()
    values = findings.attribution.value[findings.order[: findings.chosen]]
    assert result.histograms[0].culprits == sorted(values[~np.isnan(values)].tolist())
    assert result.histograms[0].culprits
    none = result.histograms[0].model_copy(update={"culprits": []})
    assert charts.histogram(none, "values-1").finding.endswith("None of these filters was frozen.")


def test_filters_come_by_absolute_value_and_by_the_screen_where_there_is_none():
    _, findings, result = found()
    attribution = findings.attribution
    assert findings.order.tolist() == sorted(range(6), key=lambda player: abs(attribution.value[player]))
    own = replace(attribution, value=np.array([np.nan, -0.5, 0.1, np.nan, 0.0, -0.3]), screen=np.array([0.2, 9, 9, -0.4, 9, 9.0]))
    assert least_first(findings.filters, own).tolist() == [4, 2, 0, 5, 3, 1]
    assert result.extra.flipped == int((~np.isnan(attribution.value[findings.order[: findings.chosen]])).sum())


def test_the_number_is_chosen_on_choose_images_alone(monkeypatch):
    """Other report images do not move the choice."""
    task, findings, _ = found()
    split = findings.split
    labels = task.images.labels.copy()
    labels[split.report] = (labels[split.report] + 1) % 3
    monkeypatch.setattr(pruning, "split_of", lambda *_: split)
    again = prune(replace(task, images=replace(task.images, labels=labels)), Run.start(OPTIONS))
    assert again.patch.constants == findings.patch.constants
    assert again.tries == findings.tries
    assert again.right["pruned"].mean() == 0.0


def test_the_largest_number_that_holds_is_found_by_halving():
    before = np.ones(1000, dtype=bool)

    def lost(count):
        after = before.copy()
        after[: max(0, count - 3000) // 10] = False
        return after

    tries = most_within(lost, 17_216, 0.02)
    largest = max(each.filters for each in tries if each.held)
    truth = max(count for count in range(3000, 3300) if paired_drop_bound(before, lost(count), 0.9) <= 0.02)
    assert truth * (1 - CLOSE) - 1 <= largest <= truth
    assert len(tries) <= TRIES
    assert all(each.held == (each.drop_bound <= 0.02) for each in tries)


def test_one_unlucky_number_does_not_end_the_search_and_none_that_holds_is_none():
    before = np.ones(500, dtype=bool)
    after = before.copy()
    after[:100] = False
    tries = most_within(lambda count: after if count == 2 else before, 10, 0.01)
    assert max(each.filters for each in tries if each.held) == 10
    assert [each.filters for each in most_within(lambda count: after if count else before, 10, 0.01)] == [0, 1, 2]
    assert most_within(lambda _: before, 0, 0.01) == [Try(0, 1.0, 0.0, held=True)]


def test_a_run_directory_holds_what_rebuilds_the_network(tmp_path):
    task, findings, result = found()
    kinds.write_run(tmp_path / "run", (task, True), findings, result)
    assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == [
        "attribution.parquet", "figures", "patch.json", "pruned.json", "pruned.safetensors", "report.html", "report.md", "result.json", "run.json",
    ]  # fmt: skip
    loaded = load_pruned(tmp_path / "run", network=three_colours.network())
    images = task.images.batch(np.arange(20))
    torch.testing.assert_close(loaded(images), findings.networks["frozen"](images), rtol=1e-5, atol=1e-5)
    assert parameters(loaded.network) == result.extra.footprints[-1].parameters


def test_report_shows_the_three_networks_and_reads_back(tmp_path):
    _, findings, result = found()
    result.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == result
    assert isinstance(result, PruningResult)
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    titles = [heading.get_text(strip=True) for heading in page.find_all("h2")]
    assert titles[:5] == ["Verdict", "Before and after", "Regressions", "How many filters to freeze", "Filters changed"]
    identifiers = [element["id"] for element in page.find_all(id=True)]
    assert len(identifiers) == len(set(identifiers))
    assert all(link["href"][1:] in identifiers for link in page.select("a[href^='#']"))
    rows = {
        row.th.get_text(): [cell.get_text() for cell in row.find_all("td")]
        for row in page.find(id="networks-caption").find_parent("table").select("tbody tr")
    }
    assert list(rows) == ["Original", "Frozen", "Pruned"]
    assert rows["Pruned"][2:4] == [f"{result.extra.footprints[2].parameters:,}", f"{result.extra.footprints[2].flops:,}"]
    assert rows["Frozen"][-1] == "—"
    assert {(entry.first, entry.second) for entry in result.differences} == {
        ("original", "frozen"),
        ("original", "pruned"),
        ("frozen", "pruned"),
    }
    assert all(entry.n == len(findings.split.report) for entry in result.differences if entry.group is None)
    markdown.write(kinds.document(result), tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert [line[3:] for line in written.splitlines() if line.startswith("## ")] == titles
    for point in result.extra.curve:
        assert f"{100 * point.value:.1f}% ({100 * point.low:.1f} to {100 * point.high:.1f})" in written
    figure = (tmp_path / "figures" / "curve.svg").read_text()
    assert f"chosen: {result.extra.chosen}" in figure


def test_frozen_only_leaves_every_layer_and_says_so():
    task = task_of()
    findings = prune(task, Run.start(OPTIONS), remove=False)
    result = told(task, findings, remove=False)
    assert (result.verdict.outcome, result.extra.removed, [each.key for each in result.columns]) == ("frozen", 0, ["original", "frozen"])
    assert result.extra.footprints[0].parameters == result.extra.footprints[1].parameters
    assert result.extra.latencies == []
    assert findings.patch.constants == found()[1].patch.constants
    assert "none was to be taken out" in result.verdict.headline
    assert BeautifulSoup(html.render(kinds.document(result)), "html.parser").find(id="networks-caption")


def test_nothing_is_frozen_where_every_filter_matters(tmp_path, monkeypatch):
    real = pruning.most_within
    monkeypatch.setattr(pruning, "most_within", lambda right, most, allowed: real(lambda count: right(0) & (count == 0), most, allowed))
    task = task_of()
    findings = prune(task, Run.start(OPTIONS))
    result = told(task, findings)
    assert (result.verdict.outcome, result.extra.chosen, list(findings.networks)) == ("nothing pruned", 0, ["original"])
    assert "the network is unchanged" in result.verdict.headline
    assert "No weights were changed, so there are no regressions" in html.render(kinds.document(result))
    kinds.write_run(tmp_path / "run", (task, True), findings, result)
    assert not (tmp_path / "run" / "pruned.json").exists()


def test_an_interrupted_run_goes_on_with_what_was_measured(tmp_path, monkeypatch):
    task, findings, _ = found()

    def unfinished():
        return RunStore(tmp_path / "run", configuration(task, OPTIONS, remove=True), command="repairkit prune --resume")

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pruning, "patch_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prune(task, Run.start(OPTIONS, store=unfinished()))
    real, measured = ablation.predict, []
    monkeypatch.setattr(ablation, "predict", lambda *given, **more: measured.append(len(more["frozen"])) or real(*given, **more))
    again = prune(task, Run.start(OPTIONS, store=unfinished()))
    assert len(findings.split.choose) not in measured
    assert again.patch == findings.patch
    assert again.tries == findings.tries
    assert again.passes == findings.passes
    np.testing.assert_array_equal(again.removal.outcomes["random"], findings.removal.outcomes["random"])


def test_the_plan_bounds_the_cost():
    task, findings, _ = found()
    planned = plan(task, OPTIONS)
    assert set(findings.passes) - {"timing"} == set(planned)
    assert all(findings.passes[part] <= passes for part, passes in planned.items())


def test_images_that_cannot_show_that_the_guard_holds():
    with pytest.raises(
        DataError,
        match=r"the 36 images that choose cannot show that accuracy falls by 1 point at most, 230 .* a larger --max-accuracy-drop",
    ):
        split_of(task_of(), replace(OPTIONS, max_clean_drop=0.01))


def test_a_question_about_one_class_is_refused():
    task = CriticalTask(three_colours.model(), three_colours.images(), 1)
    with pytest.raises(UsageError, match="pruning keeps accuracy on all classes, got a question about green"):
        prune(task, Run.start(OPTIONS))


def test_frozen_filters_are_named_as_everywhere():
    _, findings, _ = found()
    assert all(isinstance(name, FilterId) for name in findings.pruned.removed)
    assert [str(culprit.filter) for culprit in findings.patch.culprits] == [
        findings.attribution.ids[p] for p in findings.order[: findings.chosen]
    ]
