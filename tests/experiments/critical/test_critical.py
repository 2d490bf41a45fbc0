"""Important filters: attributed, ablated, held against random ones, and the repair of a class."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import three_colours
import tiny_faces
from bs4 import BeautifulSoup

from repairkit.baselines.rankings import DRAWS
from repairkit.errors import DataError, ModelError
from repairkit.evaluation import ablation
from repairkit.evaluation.ablation import counts_up_to
from repairkit.evaluation.curves import AblationCurves
from repairkit.experiments import results as kinds
from repairkit.experiments.classifier_task import CriticalTask, critical_ones, split_of
from repairkit.experiments.critical.result import ablation_verdict, compare_classes, layers, repair_verdict, summarise
from repairkit.experiments.critical.run import MORE_COUNTS, configuration, find, find_each, plan, plan_each
from repairkit.models import zoo
from repairkit.report import html, markdown
from repairkit.result import Verdict
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore

SMALL = Options(budget=4000, top=2, contested=6, ranking="recall", t0=0.5, seed=1)
NOTHING = Verdict(outcome="no claim", headline="Nothing.", sentences=["Nothing."], worse=[])


def task_of(name):
    return CriticalTask(three_colours.model(), three_colours.images(), three_colours.CLASSES.index(name) if name else None)


@cache
def found(name):
    task = task_of(name)
    findings = find(task, Run.start(SMALL))
    return task, findings, summarise(task, SMALL, findings, title="t", command="repairkit recall", minutes=0.1, notices=["by hand"])


def points(result, series, metric):
    return {point.filters: point for point in result.extra.curves if (point.series, point.metric) == (series, metric)}


@pytest.mark.parametrize("name", ["green", "blue"])
def test_the_filter_that_a_class_depends_on_is_first_and_takes_that_class_alone(name):
    _, findings, result = found(name)
    assert findings.attribution.ids[findings.attribution.extremes()["high"][0]] == three_colours.CRITICAL[name]
    recall, others = points(result, "highest", "recall"), points(result, "highest", "other classes")
    assert (recall[0].value, recall[1].value, others[1].value) == (1.0, 0.0, 1.0)
    assert recall[1].change_high < -0.5
    assert (others[1].change, others[1].change_low <= 0 <= others[1].change_high) == (0.0, True)
    assert (recall[0].n, others[0].n) == (16, 32)
    assert (result.verdict.outcome, result.verdict.worse) == ("critical filters found", [])


def test_filters_that_cannot_matter_have_value_zero():
    _, findings, _ = found("green")
    values = dict(zip(findings.attribution.ids, findings.attribution.value, strict=True))
    assert [values[name] for name in three_colours.IDLE] == pytest.approx([0.0, 0.0], abs=1e-6)


def test_random_filters_are_as_many_and_averaged_over_draws():
    task, findings, result = found("green")
    random = points(result, "random", "recall")
    assert sorted(random) == sorted(points(result, "highest", "recall")) == list(findings.curves.counts)
    shares = findings.curves.outcomes["random"][-1][task.images.labels[findings.split.report] == task.label]
    assert random[max(random)].value == pytest.approx(shares.mean())
    assert set(np.unique(np.round(shares * DRAWS, 6))) <= set(range(DRAWS + 1))


def test_the_three_parts_share_no_image():
    task, findings, result = found("green")
    parts = [set(rows.tolist()) for rows in vars(findings.split).values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(task.images)
    assert list(result.extra.parts.values()) == [48, 24, 48]


def test_accuracy_of_all_classes():
    _, findings, result = found(None)
    assert {point.metric for point in result.extra.curves} == {"accuracy"}
    assert (result.extra.subject, result.extra.chance) == (None, pytest.approx(1 / 3))
    players = findings.attribution.extremes()["high"]
    assert {findings.attribution.ids[player] for player in players} == set(three_colours.CRITICAL.values())
    curve = points(result, "highest", "accuracy")
    assert (curve[0].value, curve[2].value) == (1.0, pytest.approx(1 / 3))


@pytest.mark.parametrize(
    ("critical", "random", "outcome"),
    [
        ((11, 0), 11, "critical filters found"),
        ((11, 0), 0, "no claim"),
        ((6, 4), 12, "no claim"),  # random ones raise it, these do nothing that can be told
    ],
)
def test_important_filters_need_a_fall_of_their_own_and_one_beyond_random_ones(critical, random, outcome):
    """Twelve images of a class and twelve others: how many of the class are right, before and with two filters frozen."""
    rows = np.ones((2, 24))
    rows[0, critical[0] : 12] = rows[1, critical[1] : 12] = 0
    shares = rows[[0, 0]]
    shares[1, :12] = np.arange(12) < random
    curves = AblationCurves(np.repeat([0, 1], 12), ("cat", "dog"), 0, (0, 2), {"highest": rows, "random": shares})
    findings = SimpleNamespace(curves=curves, ranking=None)
    assert ablation_verdict(findings, curves.points(), chance=0.5, options=SMALL).outcome == outcome


def test_where_nothing_is_frozen_there_is_no_claim_and_a_repair_says_so_too():
    curves = AblationCurves(np.array([0, 1]), ("cat", "dog"), 0, (0,), dict.fromkeys(("highest", "random"), np.ones((1, 2))))
    context = ablation_verdict(SimpleNamespace(curves=curves, ranking=None), curves.points(), chance=0.5, options=SMALL)
    assert context.outcome == "no claim"
    repaired = repair_verdict([], context, "cat", filters=0, level=0.95)
    assert (repaired.outcome, repaired.sentences[-2:]) == ("no repair", [context.headline, *context.sentences])


def test_filters_by_layer_are_those_that_are_frozen():
    """Filters that do not raise accuracy are neither frozen nor counted; nor are more than were frozen."""
    _, findings, result = found(None)
    assert sum(entry.critical for entry in result.extra.layers) == findings.curves.counts[-1] == 2
    one = replace(findings.attribution, value=np.array([0.0, 0.3, -0.1, np.nan, np.nan, np.nan]))
    assert critical_ones(one, 5).tolist() == [1]
    assert [entry.critical for entry in layers(replace(findings, important=findings.important[:1]))] == [1]


@pytest.mark.parametrize("name", ["green", None])
def test_report_shows_every_point_and_reads_back(name, tmp_path):
    _, _, result = found(name)
    result.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == result
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    text = page.get_text(" ", strip=True)
    identifiers = [element["id"] for element in page.find_all(id=True)]
    assert len(identifiers) == len(set(identifiers))
    assert all(link["href"][1:] in identifiers for link in page.select("a[href^='#']"))
    markdown.write(kinds.document(result), tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    for point in result.extra.curves:
        assert f"{100 * point.value:.1f}%" in text
        assert f"{100 * point.value:.1f}% ({100 * point.low:.1f} to {100 * point.high:.1f})" in written
    for entry in (entry for extreme in result.extra.extremes for entry in extreme.filters):
        assert f"{entry.layer}:{entry.channel}" in text
        assert f"`{entry.layer}:{entry.channel}`" in written
    assert (tmp_path / "figures" / "removal.svg").is_file()


def test_a_class_is_repaired_by_freezing_its_harmful_filters():
    """The spoilt network loses men to a loud filter; with it frozen, they come back, and what that costs women is said."""
    images = tiny_faces.shrunk(tiny_faces.drawn.target_faces(per_group=30, seed=3), name="tiny faces")
    task = CriticalTask(zoo.load(tiny_faces.spoilt_weights()), images, images.classes.index("male"), repair=True)
    options = replace(SMALL, budget=1600, top=2, contested=None, t0=0.97, max_clean_drop=1.0, max_filters=2, candidates=6)
    result = summarise(task, options, find(task, Run.start(options)), title="t", command="c", minutes=0.1, notices=[])
    change = next(entry for entry in result.differences if entry.group == "male")
    before, after = (result.share(column, "recall", "male").value for column in ("original", "repaired"))
    assert change.value == pytest.approx(after - before)
    assert change.value > 0.2
    assert (result.verdict.outcome, len(result.verdict.worse)) == ("repaired", sum(entry.value < 0 for entry in result.differences))
    assert 1 <= len(result.frozen) <= 2
    assert all(entry.value < 0 for entry in result.frozen)
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    assert [item.get_text() for item in page.select("ul.worse-list li")] == result.verdict.worse


def changes_of_twenty_classes(gained, lost_by_another=0):
    """Twenty classes of 36 images: the first wins images, the second loses some."""
    labels = np.repeat(np.arange(20), 36)
    before, after = np.zeros(720, dtype=bool), np.zeros(720, dtype=bool)
    before[36 : 36 + lost_by_another] = True
    before[-300:] = after[-300:] = True
    after[:gained] = True
    classes = tuple(f"class {number}" for number in range(20))
    curves = AblationCurves(labels, classes, 0, (0,), {"highest": before[None].astype(float)})
    findings = SimpleNamespace(curves=curves, repair=SimpleNamespace(original=before, repaired=after))
    return compare_classes(SimpleNamespace(subject="class 0", label=0, images=SimpleNamespace(classes=classes)), findings, SMALL)[1]


@pytest.mark.parametrize(("gained", "outcome"), [(7, "repaired"), (6, "repaired"), (5, "no claim"), (4, "no claim"), (0, "no claim")])
def test_the_verdict_of_a_repair_claims_what_the_row_of_its_class_claims(gained, outcome):
    """The repaired class was fixed beforehand: 7 of 36 images are p = .016, and would be .31 over all twenty classes. 5 of 36 are p = .06."""
    differences = changes_of_twenty_classes(gained)
    assert (differences[0].group, differences[0].p_adjusted) == ("class 0", differences[0].p_value)
    assert (differences[0].claim == "better") == (outcome == "repaired")
    assert repair_verdict(differences, NOTHING, "class 0", filters=3, level=0.95).outcome == outcome


def test_other_classes_share_their_doubt_but_not_with_the_repaired_one():
    differences = changes_of_twenty_classes(7, lost_by_another=7)
    other = next(entry for entry in differences if entry.group == "class 1")
    assert (other.claim, other.p_adjusted) == ("no claim", pytest.approx(19 * other.p_value))
    verdict = repair_verdict(differences, NOTHING, "class 0", filters=3, level=0.95)
    assert "class 1" not in verdict.headline  # though the mean over the others, asked about alone, did fall
    assert any("class 1 fell by 19.4 points" in sentence for sentence in verdict.worse)


def test_several_classes_share_images_and_control_and_are_else_what_each_is_alone(tmp_path, monkeypatch):
    tasks = [task_of("blue"), task_of("green")]
    measured = []
    real = ablation.predict
    monkeypatch.setattr(ablation, "predict", lambda *arguments, **more: measured.append(1) or real(*arguments, **more))

    def unfinished():
        return RunStore(tmp_path / "run", configuration(tasks[0], SMALL), command="repairkit run --resume")

    first, second = find_each(tasks, Run.start(SMALL, store=unfinished()))
    number = len(first.curves.counts) - 1
    assert second.curves.counts == first.curves.counts
    assert len(measured) == number * DRAWS + 2 * (number + 1)
    assert first.passes["control"] == number * DRAWS * len(first.split.report)
    assert "control" not in second.passes | second.seconds
    np.testing.assert_array_equal(first.curves.outcomes["random"][1:], second.curves.outcomes["random"][1:])
    _, alone, _ = found("green")
    np.testing.assert_array_equal(first.split.report, alone.split.report)
    for series in ("highest", "random"):
        np.testing.assert_array_equal(second.curves.outcomes[series], alone.curves.outcomes[series])
    np.testing.assert_array_equal(second.attribution.value, alone.attribution.value)

    # stored work is not made again, and the seconds of earlier sessions stay with their class
    for task, findings in zip(tasks, (first, second), strict=True):
        assert unfinished().within(f"class-{task.label}").seconds() == findings.seconds
    measured.clear()
    again, _ = find_each(tasks, Run.start(SMALL, store=unfinished()))
    assert len(measured) == 2 * (number + 1)
    assert again.passes == first.passes
    assert again.seconds["attribution"] >= first.seconds["attribution"]
    np.testing.assert_array_equal(again.attribution.value, first.attribution.value)
    np.testing.assert_array_equal(again.curves.outcomes["random"], first.curves.outcomes["random"])


def test_the_control_of_several_classes_is_planned_once():
    one, several = plan(task_of("blue"), SMALL), plan_each([task_of("blue"), task_of("green")], SMALL)
    assert several == {part: passes if part == "control" else 2 * passes for part, passes in one.items()}


def test_the_plan_bounds_the_cost():
    task, findings, _ = found("green")
    planned = plan(task, SMALL)
    assert set(findings.passes) == set(planned)
    assert findings.passes["calibration"] == planned["calibration"]
    assert all(passes <= planned[part] for part, passes in findings.passes.items())


def test_the_numbers_of_the_papers_figure_are_measured():
    assert 30 in counts_up_to(Options().usual_top, *MORE_COUNTS)
    _, findings, _ = found("green")
    assert findings.curves.counts == counts_up_to(findings.curves.counts[-1], *MORE_COUNTS)


def test_images_that_are_too_few():
    task = CriticalTask(three_colours.model(), three_colours.images(24), 1)
    with pytest.raises(DataError, match=r"the class 'green' has 24 images, but 25 are needed: 10 that find filters, 10 that report"):
        split_of(task, SMALL)
    assert split_of(replace(task, images=three_colours.images(25)), SMALL)
    with pytest.raises(DataError, match="colours, other classes: the 16 images that choose cannot show that accuracy falls by 1 point"):
        split_of(replace(task_of("green"), repair=True), SMALL)
    images = three_colours.images()
    few = images.subset(np.flatnonzero((images.labels == 1) | (np.arange(len(images)) == 0)))
    with pytest.raises(DataError, match="colours: the 1 images of other classes are too few for each part to have one; give more"):
        split_of(CriticalTask(three_colours.model(), few, 1), SMALL)


def test_images_that_cannot_be_asked_about():
    model, images = three_colours.model(), three_colours.images()
    with pytest.raises(DataError, match=r"has other classes than the model .* \(2, the model 3\)"):
        CriticalTask(model, replace(images, classes=("red", "green"), labels=images.labels % 2), 0)
    with pytest.raises(DataError, match="holds images of green alone; give images of other classes"):
        CriticalTask(model, images.subset(np.flatnonzero(images.labels == 1)), 1)
    model.classifier.network.append(three_colours.nn.Softmax(dim=1))
    with pytest.raises(ModelError, match=r"expected logits, got .* probabilities"):
        CriticalTask(model, images, 1)
