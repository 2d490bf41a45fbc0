"""Critical filters: found, removed, held against random ones, and the repair of a class."""

from dataclasses import replace
from functools import cache

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
from repairkit.evaluation.wording import count_filters
from repairkit.experiments import results as kinds
from repairkit.experiments.adversarial.run import CURVE_COUNTS
from repairkit.experiments.attack_task import AttackOptions
from repairkit.experiments.classifier_task import CriticalTask, split_of
from repairkit.experiments.critical import run as critical
from repairkit.experiments.critical.evaluation import compare, verdict_of_removal, verdict_of_repair
from repairkit.experiments.critical.run import configuration, find, find_each, plan, plan_each
from repairkit.experiments.critical.summary import layers, summarise
from repairkit.experiments.fairness.report import FairnessResult
from repairkit.models import zoo
from repairkit.report import html, markdown
from repairkit.result import Verdict
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore

SMALL = Options(budget=4000, top=2, contested=6, ranking="recall", t0=0.5, seed=1)


def task_of(name):
    return CriticalTask(three_colours.model(), three_colours.images(), three_colours.CLASSES.index(name) if name else None)


@cache
def found(name):
    task = task_of(name)
    findings = find(task, Run.start(SMALL))
    return (
        task,
        findings,
        summarise(task, SMALL, findings, title=f"About {name}", command="repairkit recall", minutes=0.1, notices=["by hand"]),
    )


def points(result, series, metric):
    return {point.filters: point for point in result.extra.removal if (point.series, point.metric) == (series, metric)}


@pytest.mark.parametrize("name", ["green", "blue"])
def test_the_filter_that_a_class_hangs_on_is_found_first_and_takes_that_class_alone(name):
    _, findings, result = found(name)
    assert findings.attribution.ids[findings.attribution.extremes()["high"][0]] == three_colours.CRITICAL[name]
    recall, others = points(result, "critical", "recall"), points(result, "critical", "other classes")
    assert (recall[0].value, recall[1].value, others[1].value) == (1.0, 0.0, 1.0)
    assert recall[1].change_high < -0.5
    assert (others[1].change, others[1].change_low <= 0 <= others[1].change_high) == (0.0, True)
    assert (recall[0].n, others[0].n) == (16, 32)


def test_filters_that_cannot_matter_have_value_zero():
    _, findings, result = found("green")
    values = dict(zip(findings.attribution.ids, findings.attribution.value, strict=True))
    assert [values[name] for name in three_colours.IDLE] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert any(sentence.startswith("3 filters have no effect on this") for sentence in result.method)


def test_random_filters_are_as_many_and_averaged_over_draws():
    task, findings, result = found("green")
    random = points(result, "random", "recall")
    assert sorted(random) == sorted(points(result, "critical", "recall")) == list(findings.removal.counts)
    own = task.images.labels[findings.split.report] == task.label
    shares = findings.removal.random[-1][own]
    assert random[max(random)].value == pytest.approx(shares.mean())
    assert set(np.unique(np.round(shares * DRAWS, 6))) <= set(range(DRAWS + 1))


def test_the_three_parts_share_no_image_and_only_report_is_reported_on():
    task, findings, result = found("green")
    parts = [set(rows.tolist()) for rows in vars(findings.split).values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(task.images)
    assert result.extra.parts == {"attribute": 48, "choose": 24, "report": 48}


def test_the_verdict_says_what_falls_and_what_does_not():
    _, _, result = found("green")
    assert result.verdict.headline.startswith("Freezing the ")
    assert "takes recall of green from 100.0 % to 0.0 %" in result.verdict.headline
    assert any("the mean recall of the other classes" in sentence for sentence in result.verdict.sentences)
    assert result.verdict.worse == []


def test_accuracy_of_all_classes():
    _, findings, result = found(None)
    assert {point.metric for point in result.extra.removal} == {"accuracy"}
    assert result.extra.subject is None
    assert result.extra.chance == pytest.approx(1 / 3)
    named = {findings.attribution.ids[player] for player in findings.attribution.extremes()["high"]}
    assert named == set(three_colours.CRITICAL.values())
    curve = points(result, "critical", "accuracy")
    assert curve[0].value == 1.0
    assert curve[2].value == pytest.approx(1 / 3)
    assert sum(entry.critical for entry in result.extra.layers) == 2


def removed(critical, random):
    """Twelve images of a class and twelve others, before and with two filters frozen: how many are right of the class."""
    labels = np.repeat([0, 1], 12)
    rows = np.ones((2, 24), dtype=bool)
    rows[0, critical[0] : 12] = rows[1, critical[1] : 12] = False
    shares = rows[:1].repeat(2, axis=0).astype(np.float64)
    shares[1, :12] = np.arange(12) < random
    return AblationCurves(labels, ("cat", "dog"), 0, (0, 2), rows, shares)


@pytest.mark.parametrize(
    ("critical", "random", "outcome", "told"),
    [
        ((11, 0), 11, "critical filters found", "; with 2 random filters frozen it did not change"),
        ((11, 0), 0, "no claim", ", which cannot be told from freezing 2 random ones."),
        ((6, 4), 12, "no claim", ", which cannot be told from chance."),  # random ones raise it, these do nothing that can be told
    ],
)
def test_critical_filters_need_a_fall_of_their_own_and_one_beyond_random_ones(critical, random, outcome, told):
    removal = removed(critical, random)
    verdict = verdict_of_removal(removal, removal.points(), chance=0.5, level=0.95, seed=0)
    assert verdict.outcome == outcome
    assert told in verdict.headline


def test_a_repair_tells_all_that_was_found_of_removal_but_that_nothing_changed():
    none = AblationCurves(np.array([0, 1]), ("cat", "dog"), 0, (0,), np.ones((1, 2), dtype=bool), np.ones((1, 2)))
    aside = verdict_of_removal(none, none.points(), chance=0.5, level=0.95, seed=0)
    told = verdict_of_repair([], aside, subject="cat", filters=0, level=0.95)
    assert told.sentences[1:] == [aside.headline, *aside.sentences]
    _, _, result = found("green")
    told = verdict_of_repair([], result.verdict, subject="green", filters=0, level=0.95)
    assert told.sentences[1:] == [result.verdict.headline, *result.verdict.sentences[:-1]]


def test_filters_by_layer_are_those_that_are_frozen():
    """Of the highest, those that do not raise accuracy are neither frozen nor counted; nor are more than were frozen."""
    _, findings, result = found(None)
    assert sum(entry.critical for entry in result.extra.layers) == findings.removal.counts[-1] == 2
    value = np.array([0.0, 0.3, -0.1, np.nan, np.nan, np.nan])
    one = replace(findings.attribution, value=value)
    assert critical.critical_ones(one, 5).tolist() == [1]
    assert [entry.critical for entry in layers(replace(findings, critical=findings.critical[:1]))] == [1]


@pytest.mark.parametrize("name", ["green", None])
def test_report_shows_every_point_and_reads_back(name, tmp_path):
    _, _, result = found(name)
    result.write(tmp_path / "result.json")
    assert kinds.read(tmp_path / "result.json") == result
    with pytest.raises(DataError, match=r"extra\.target: Field required"):
        FairnessResult.read(tmp_path / "result.json")
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    titles = [heading.get_text(strip=True) for heading in page.find_all("h2")]
    assert titles[:4] == ["Verdict", "Ablation of the important filters", "Highest and lowest values", "Important filters by layer"]
    text = page.get_text(" ", strip=True)
    identifiers = [element["id"] for element in page.find_all(id=True)]
    assert len(identifiers) == len(set(identifiers))
    assert all(link["href"][1:] in identifiers for link in page.select("a[href^='#']"))
    markdown.write(kinds.document(result), tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    for point in result.extra.removal:
        assert f"{100 * point.value:.1f}%" in text
        assert f"{100 * point.value:.1f}% ({100 * point.low:.1f} to {100 * point.high:.1f})" in written
    for entry in (entry for extreme in result.extra.extremes for entry in extreme.filters):
        assert f"{entry.layer}:{entry.channel}" in text
        assert f"`{entry.layer}:{entry.channel}`" in written
    assert "No weights were changed, so there are no regressions" in text
    assert [line[3:] for line in written.splitlines() if line.startswith("## ")] == titles
    assert (tmp_path / "figures" / "removal.svg").is_file()


def test_a_class_is_repaired_by_freezing_its_culprits():
    """The spoilt stand-in loses men to a loud filter; frozen, they come back, and what that costs women is said."""
    images = tiny_faces.shrunk(tiny_faces.drawn.target_faces(per_group=30, seed=3), name="tiny faces")
    task = CriticalTask(zoo.load(tiny_faces.spoilt_weights()), images, images.classes.index("male"), repair=True)
    options = replace(SMALL, budget=1600, top=2, contested=None, t0=0.97, max_clean_drop=1.0, max_filters=2, candidates=6)
    findings = find(task, Run.start(options))
    result = summarise(task, options, findings, title="t", command="c", minutes=0.1, notices=[])
    own = next(entry for entry in result.differences if entry.group == "male")
    assert own.value > 0.2
    assert own.value == pytest.approx(result.share("repaired", "recall", "male").value - result.share("original", "recall", "male").value)
    assert result.verdict.outcome == "repaired"
    assert 1 <= len(result.frozen) <= 2
    assert all(entry.value < 0 for entry in result.frozen)
    for entry in result.differences:
        named = (
            "recall of female"
            if entry.group == "female"
            else "mean recall of the other classes"
            if entry.metric == "other classes"
            else None
        )
        if entry.value < 0 and named:
            assert any(named in sentence.lower() for sentence in result.verdict.worse)
    page = BeautifulSoup(html.render(kinds.document(result)), "html.parser")
    assert [item.get_text() for item in page.select("ul.worse-list li")] == result.verdict.worse
    assert page.find(id="before-after-caption")


def outcomes_of_twenty_classes(gained, lost_by_another=0):
    """Twenty classes of 36 images: the first wins images, the second loses some."""
    labels = np.repeat(np.arange(20), 36)
    before, after = np.zeros(720, dtype=bool), np.zeros(720, dtype=bool)
    before[36 : 36 + lost_by_another] = True
    before[-300:] = after[-300:] = True
    after[:gained] = True
    return labels, tuple(f"class {number}" for number in range(20)), 0, before, after


@pytest.mark.parametrize(("gained", "outcome"), [(7, "repaired"), (6, "repaired"), (5, "no claim"), (4, "no claim"), (0, "no claim")])
def test_the_verdict_of_a_repair_claims_what_the_row_of_its_class_claims(gained, outcome):
    """The repaired class was fixed beforehand: 7 of 36 images are p = .016, and would be .31 over all twenty classes. 5 of 36 are p = .06, though Newcombe's interval excludes zero."""
    _, differences = compare(*outcomes_of_twenty_classes(gained))
    own = differences[0]
    assert (own.group, own.p_adjusted, own.claim == "better") == ("class 0", own.p_value, outcome == "repaired")
    removal = Verdict(outcome="no claim", headline="Nothing.", sentences=["Nothing."], worse=[])
    verdict = verdict_of_repair(differences, removal, subject="class 0", filters=3, level=0.95)
    assert verdict.outcome == outcome
    assert ("no proof (exact test, p = 0.062)" in verdict.headline) == (gained == 5)
    assert ("may be chance" in verdict.headline) == (gained == 4)
    assert ("did not change" in verdict.headline) == (gained == 0)


def test_other_classes_share_their_doubt_but_not_with_the_repaired_one():
    _, differences = compare(*outcomes_of_twenty_classes(7, lost_by_another=7))
    other = next(entry for entry in differences if entry.group == "class 1")
    assert (other.claim, other.p_adjusted) == ("no claim", pytest.approx(19 * other.p_value))
    removal = Verdict(outcome="no claim", headline="Nothing.", sentences=["Nothing."], worse=[])
    verdict = verdict_of_repair(differences, removal, subject="class 0", filters=3, level=0.95)
    assert "class 1" not in verdict.headline  # though the mean over the others, asked about alone, did fall
    assert any(sentence.startswith("Recall of class 1 fell by 19.4 points, which is no proof") for sentence in verdict.worse)


def test_an_attribution_is_taken_up_again(tmp_path, monkeypatch):
    task = task_of("green")

    def unfinished():
        return RunStore(tmp_path / "run", configuration(task, SMALL), command="repairkit recall --resume")

    first = find(task, Run.start(SMALL, store=unfinished()))
    again = find(task, Run.start(SMALL, store=unfinished()))
    assert (tmp_path / "run.unfinished" / "class-1" / "attribution.npz").is_file()
    np.testing.assert_array_equal(first.attribution.value, again.attribution.value)


def test_several_classes_share_images_and_control_and_are_else_what_each_is_alone(tmp_path, monkeypatch):
    tasks = [task_of("blue"), task_of("green")]
    measured = []
    real = ablation.predict

    def counted(*arguments, **more):
        measured.append(arguments)
        return real(*arguments, **more)

    def unfinished():
        return RunStore(tmp_path / "run", configuration(tasks[0], SMALL), command="repairkit run --resume")

    monkeypatch.setattr(ablation, "predict", counted)
    first, second = find_each(tasks, Run.start(SMALL, store=unfinished()))
    points = len(first.removal.counts) - 1
    assert second.removal.counts == first.removal.counts
    assert len(measured) == points * DRAWS + 2 * (points + 1)
    assert first.passes["control"] == points * DRAWS * len(first.split.report)
    assert "control" not in second.passes | second.seconds
    np.testing.assert_array_equal(first.split.report, second.split.report)
    np.testing.assert_array_equal(first.removal.random[1:], second.removal.random[1:])
    _, alone, _ = found("green")
    np.testing.assert_array_equal(second.removal.random, alone.removal.random)
    np.testing.assert_array_equal(second.removal.critical, alone.removal.critical)
    np.testing.assert_array_equal(second.attribution.value, alone.attribution.value)
    told = summarise(tasks[1], SMALL, second, title="t", command="c", minutes=0.1, notices=[])
    assert any("its cost stands in the report of the first" in sentence for sentence in told.method)

    # what was kept is not measured again, and the seconds of earlier sessions stay with their class
    for asked, findings in zip(tasks, (first, second), strict=True):
        assert unfinished().within(f"class-{asked.label}").seconds() == findings.seconds
    measured.clear()
    again, _ = find_each(tasks, Run.start(SMALL, store=unfinished()))
    assert len(measured) == 2 * (points + 1)
    assert again.passes == first.passes
    assert again.seconds["attribution"] >= first.seconds["attribution"]
    np.testing.assert_array_equal(again.removal.random, first.removal.random)


def test_the_control_of_several_classes_is_planned_once():
    one, several = plan(task_of("blue"), SMALL), plan_each([task_of("blue"), task_of("green")], SMALL)
    assert several == {part: passes if part == "control" else 2 * passes for part, passes in one.items()}


def test_the_plan_bounds_the_cost():
    task, findings, _ = found("green")
    planned = plan(task, SMALL)
    assert findings.passes["calibration"] == planned["calibration"]
    assert findings.passes["attribution"] <= planned["attribution"]
    assert findings.passes["evaluation"] <= planned["evaluation"]
    assert findings.passes["control"] <= planned["control"]


def test_grids_are_increasing_and_end_at_the_most():
    assert counts_up_to(7) == (0, 1, 2, 5, 7)
    assert counts_up_to(100) == (0, 1, 2, 5, 10, 20, 50, 100)
    assert counts_up_to(20, 3, 30) == (0, 1, 2, 3, 5, 10, 20)


def test_the_numbers_of_the_papers_figures_are_measured():
    """Figure 1 is of 30 filters, figure 3b of 16; a report says at which numbers it was measured, and does not speak of one by one."""
    assert 30 in counts_up_to(Options().usual_top, *critical.REMOVED)
    assert 16 in counts_up_to(AttackOptions().frontier, *CURVE_COUNTS)
    _, findings, result = found("green")
    assert findings.removal.counts == counts_up_to(findings.removal.counts[-1], *critical.REMOVED)
    sentence = next(sentence for sentence in result.method if sentence.startswith("Removal: "))
    assert f"measured at {count_filters(findings.removal.counts)}, on report images" in sentence
    assert "one by one" not in html.render(kinds.document(result))


def test_a_class_with_too_few_images_says_how_many_are_needed():
    few = three_colours.images(24)
    task = CriticalTask(three_colours.model(), few, 1)
    with pytest.raises(
        DataError, match=r"colours: the class 'green' has 24 images, but 25 are needed: 10 that find filters, 10 that report"
    ):
        split_of(task, SMALL)
    assert split_of(replace(task, images=three_colours.images(25)), SMALL)


def test_a_repair_needs_enough_images_for_its_guard():
    with pytest.raises(DataError, match="colours, other classes: the 16 images that choose cannot show that accuracy falls by 1 point"):
        split_of(replace(task_of("green"), repair=True), SMALL)


def test_other_classes_need_an_image_in_each_part():
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
