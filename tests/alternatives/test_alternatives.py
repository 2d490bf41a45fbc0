"""What one would do instead of a fairness repair: on the images of the run, under its guard, and never on those of its report."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import two_skins

from repairkit.alternatives import fine_tuning, group_thresholds, last_layer, registry, threshold
from repairkit.alternatives.base import UNCHANGED, Fold, SettingScore, best_setting, score_setting
from repairkit.alternatives.fine_tuning import EPOCHS, LEARNING_RATES
from repairkit.alternatives.last_layer import STRENGTHS
from repairkit.alternatives.report import row, with_alternatives
from repairkit.errors import ModelError
from repairkit.evaluation.splits import three_way
from repairkit.evaluation.statistics import zero_events_bound
from repairkit.experiments import results
from repairkit.experiments.fairness import run as fairness
from repairkit.experiments.fairness.report import FairnessResult
from repairkit.experiments.fairness.result import summarise
from repairkit.experiments.fairness.run import Task, configuration, plan, repair
from repairkit.models import finetuning
from repairkit.network.classifier import Classifier
from repairkit.network.predict import predict
from repairkit.result import Difference, Verdict
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore


def target(per_group=30, **changes):
    return two_skins.images(per_group, **changes)


def source(per_group=200):
    return two_skins.images(per_group, skins=("lighter",), seed=1, name="source")


@pytest.fixture
def quick(monkeypatch):
    """Rates at which a network of four filters learns in an epoch or two."""
    monkeypatch.setattr(fine_tuning, "LEARNING_RATES", (3e-3, 3e-2))


def mean_recall(right, groups):
    return np.mean([right[groups == name].mean() for name in np.unique(groups)])


# ---- each alternative on one fold


def test_all_that_a_last_layer_needs_is_there_and_the_refitted_one_finds_it():
    fold = two_skins.fold(target(), source())
    before, _ = fold.evaluate(None)
    found = last_layer.evaluate(fold)
    groups = fold.target.groups[fold.split.report]
    assert mean_recall(before, groups) == pytest.approx(0.75)
    assert mean_recall(found.right, groups) == 1.0
    assert found.source_right.all()
    assert found.chosen in {f"penalty {strength:g}" for strength in STRENGTHS}
    assert found.images == sum(len(getattr(split, part)) for split in (fold.split, fold.source_split) for part in ("attribute", "choose"))


def test_the_last_layer_learns_with_groups_alike_and_the_source_as_much_as_the_target(monkeypatch):
    """Against scikit-learn on what enters the layer, with weights that are written out here."""
    monkeypatch.setattr(last_layer, "STRENGTHS", (0.1,))
    few = target().subset(np.r_[0:40, 60:120])  # darker men are as many as all who are lighter
    fold = two_skins.fold(few, source())
    found = last_layer.fit(fold, last_layer.Head(fold.classifier))
    assert found["number"] == 1
    layer = torch.nn.Linear(found["weight"].shape[1], 2).double()
    layer.load_state_dict({name: torch.from_numpy(found[name]) for name in ("weight", "bias")})
    entering, labels, weights = [], [], []
    for images in fold.learned_from:
        pixels = torch.from_numpy(np.asarray(images.pixels)).permute(0, 3, 1, 2) / 255
        entering.append(fold.classifier.network[:4](pixels).double().numpy())
        labels.append(images.labels)
        whole = "target" if images.name == "target" else "source"
        sizes = {name: int((images.groups == name).sum()) for name in images.group_names}
        weights.append([1 / (2 * len(sizes) * sizes[name]) if whole == "target" else 1 / (2 * len(images)) for name in images.groups])
    entering = np.concatenate(entering)
    given = fold.classifier.network[4]
    offsets = (entering @ given.weight.double().numpy().T) + given.bias.double().numpy()
    probabilities = torch.softmax(layer(torch.from_numpy(entering)), 1)[:, 1].detach().numpy()
    # the gradient of the loss at the optimum, by hand: weighted residuals against the penalty's pull
    residual = np.concatenate(weights) * (np.concatenate(labels) - probabilities)
    pull = 0.1 * entering.var(axis=0) * (layer.weight - given.weight).detach().numpy()[1]
    np.testing.assert_allclose(residual @ entering, pull, atol=1e-5)
    assert residual.sum() == pytest.approx(0, abs=1e-5)
    assert np.abs(offsets[:, 1] - offsets[:, 0] - np.log(probabilities / (1 - probabilities))).max() > 1


def test_fine_tuning_learns_what_the_network_lacked(quick):
    fold = two_skins.fold(target(), source())
    found = fine_tuning.evaluate(fold)
    assert mean_recall(found.right, fold.target.groups[fold.split.report]) > 0.9
    assert found.source_right.mean() > 0.95
    assert found.chosen.startswith(("1 epoch of", "2 epochs of", "3 epochs of"))
    assert found.chosen.endswith((f"at most {EPOCHS} at a learning rate of 0.003", f"at most {EPOCHS} at a learning rate of 0.03"))


def test_fine_tuning_sees_groups_alike_and_the_source_as_often_as_the_target(monkeypatch):
    fold = two_skins.fold(target().subset(np.r_[0:10, 30:120]), source())
    handed = {}
    monkeypatch.setattr(fine_tuning, "finetune", lambda _classifier, images, **settings: handed.update(images=images, **settings))
    fine_tuning.evaluate(fold)
    images, weights = handed["images"], handed["weights"]
    count = len(fold.split.attribute)
    assert images.hashes.tolist() == [*fold.target.hashes[fold.split.attribute], *fold.source.hashes[fold.source_split.attribute]]
    assert weights[:count].sum() == pytest.approx(weights[count:].sum())
    shares = [weights[:count][images.groups[:count] == name].sum() for name in fold.target.group_names]
    np.testing.assert_allclose(shares, 0.25)


@pytest.mark.usefixtures("quick")
def test_report_images_decide_nothing():
    """Their labels are turned round: every answer stays, so that whoever was right is wrong."""
    given, others = target(), source()
    splits = tuple(three_way(each, shares=(0.4, 0.3, 0.3), seed=0) for each in (given, others))
    turned = []
    for images, split in zip((given, others), splits, strict=True):
        labels = images.labels.copy()
        labels[split.report] = 1 - labels[split.report]
        turned.append(replace(images, labels=labels))
    straight = registry.evaluate(two_skins.fold(given, others, splits=splits))
    wrong = registry.evaluate(two_skins.fold(*turned, splits=splits))
    assert [each.key for each in straight] == ["threshold", "group_thresholds", "last_layer", "whole_network"]
    for one, other in zip(straight, wrong, strict=True):
        assert one.chosen == other.chosen
        if one.right is not None:
            np.testing.assert_array_equal(one.right, ~other.right)
            np.testing.assert_array_equal(one.source_right, ~other.source_right)


@pytest.mark.usefixtures("quick")
def test_where_no_setting_keeps_the_guard_the_network_stays():
    """Nothing may fall at all, and no number of images shows that."""
    fold = two_skins.fold(target(), source(), max_clean_drop=0.0)
    as_given, source_as_given = fold.evaluate(None)
    for found in (last_layer.evaluate(fold), fine_tuning.evaluate(fold)):
        assert found.chosen.startswith(f"{UNCHANGED}; beyond it ")
        assert found.as_given
        np.testing.assert_array_equal(found.right, as_given)
        np.testing.assert_array_equal(found.source_right, source_as_given)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("allowed", [0.05, 1.0])
def test_the_guard_is_kept_on_the_choose_images(allowed, monkeypatch):
    """Source images on which what the target teaches is wrong: darker men and women with their labels turned round."""
    others = two_skins.images(150, seed=1, name="source")
    dark = np.char.startswith(others.groups, "darker")
    half = np.arange(len(others)) % 2 == 0
    others = replace(others, labels=np.where(dark & half, 1 - others.labels, others.labels), groups=np.full(len(others), "all"))
    networks = {}

    def seen(fold, classifier):
        networks["last"] = classifier
        return fold_judged(fold, classifier)

    fold_judged = Fold.evaluate
    monkeypatch.setattr(Fold, "evaluate", seen)
    fold = two_skins.fold(target(), others, max_clean_drop=allowed)
    for alternative in (last_layer, fine_tuning):
        found = alternative.evaluate(fold)
        _, chosen_on = fold.chosen_on
        network = networks["last"] or fold.classifier
        right = predict(network, chosen_on, fold.run) == chosen_on.labels
        before = predict(fold.classifier, chosen_on, fold.run) == chosen_on.labels
        fall = before.astype(float) - right
        bound = max(fall.mean() + 1.2816 * fall.std(ddof=1) / len(fall) ** 0.5, zero_events_bound(len(fall), 0.9))
        assert bound <= allowed + 1e-4
        assert found.chosen.startswith(UNCHANGED) == (networks["last"] is None) == found.as_given


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("broken", "key"), [((last_layer, "refit"), "last_layer"), ((fine_tuning, "finetune"), "whole_network")])
def test_what_fails_is_left_out_with_the_reason_and_the_rest_is_done(broken, key, monkeypatch):
    def fail(*_, **__):
        raise ModelError("the loss became nan")

    monkeypatch.setattr(*broken, fail)
    tried = {each.key: each for each in registry.evaluate(two_skins.fold(target(), source()))}
    assert tried[key].left_out == "the loss became nan"
    assert tried[key].right is None
    assert all(not each.left_out and (name == "threshold" or each.right is not None) for name, each in tried.items() if name != key)


def test_a_threshold_that_does_not_move_is_the_network_as_it_was_given():
    fold = two_skins.fold(target(), source())
    assert threshold.evaluate(fold).as_given
    assert not threshold.evaluate(replace(fold, threshold=0.3)).as_given


def test_thresholds_by_group_are_chosen_and_told_of():
    fold = two_skins.fold(target(), two_skins.images(60, seed=1, skins=("lighter", "white"), name="source"))
    moved, found = threshold.evaluate(fold), group_thresholds.evaluate(fold)
    assert moved.right is None
    assert moved.images == len(fold.split.choose) + len(fold.source_split.choose)
    assert found.images == len(fold.split.attribute) + len(fold.split.choose)
    whites = np.char.startswith(fold.source.groups[fold.source_split.report], "white")
    assert "in the groups darker, lighter; " in found.chosen
    assert f"{whites.sum()} of {len(whites)} source test images are of other groups and keep the network's own answer" in found.chosen
    own, own_source = fold.evaluate(None)
    np.testing.assert_array_equal(found.source_right[whites], own_source[whites])
    lighter = np.char.startswith(fold.target.groups[fold.split.report], "lighter")
    assert own[lighter].all()


def test_groups_that_say_nothing_but_the_label_leave_it_out():
    given = target()
    people = replace(given, groups=np.array(["women", "men"])[given.labels])
    fold = two_skins.fold(people, source())
    moved, found = threshold.evaluate(fold), group_thresholds.evaluate(fold)
    assert moved.left_out == ""
    assert found.left_out.startswith("the group names say nothing but the label (men, women)")
    assert found.right is None


@pytest.mark.usefixtures("quick")
def test_with_three_classes_thresholds_are_left_out_and_the_rest_is_done():
    classes = ("female", "male", "nobody")
    network = two_skins.network()
    wider = torch.nn.Linear(4, 3)
    with torch.no_grad():
        wider.weight.copy_(torch.cat([network[4].weight, torch.zeros(1, 4)]))
        wider.bias.copy_(torch.cat([network[4].bias, torch.tensor([-5.0])]))
    network[4] = wider.requires_grad_(requires_grad=False)
    classifier = Classifier(network, classes=classes, mean=(0.0,) * 3, std=(1.0,) * 3).eval()
    given, others = (replace(images, classes=classes) for images in (target(), source()))
    found = registry.evaluate(two_skins.fold(given, others, classifier=classifier))
    assert [each.left_out for each in found] == ["it is a rule for two classes, and there are 3"] * 2 + ["", ""]
    assert found[2].right.mean() == 1.0


def test_what_is_kept_is_not_fitted_again(tmp_path, monkeypatch, quick):
    kept = RunStore(tmp_path / "run", {}, command="again").within("instead-fold-1")
    splits = tuple(three_way(each, shares=(0.4, 0.3, 0.3), seed=0) for each in (target(), source()))
    first = two_skins.fold(target(), source(), kept=kept, splits=splits)
    one = registry.evaluate(first)
    for module, name in ((last_layer, "refit"), (fine_tuning, "finetune")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("fitted again"))
    second = two_skins.fold(target(), source(), kept=kept, splits=splits)
    other = registry.evaluate(second)
    for before, after in zip(one[1:], other[1:], strict=True):
        np.testing.assert_array_equal(before.right, after.right)
        np.testing.assert_array_equal(before.source_right, after.source_right)
        assert (before.chosen, before.passes, before.images) == (after.chosen, after.passes, after.images)
    assert [each.seconds for each in one[2:]] == [each.seconds for each in other[2:]]
    assert first.run.ledger.passes == second.run.ledger.passes == {"alternatives": registry.cost(*splits, 2)}


# ---- choosing


def test_recalls_count_alike_and_the_fall_is_bounded():
    right, groups = np.array([True] * 9 + [False] * 3), np.array(["a"] * 9 + ["b"] * 3)
    before, after = np.ones(100, dtype=bool), np.arange(100) >= 4
    found = score_setting(right, groups, after, before, 0.9)
    assert (found.gained, found.accuracy) == (0.5, 0.96)
    assert found.fall == pytest.approx(0.04 + 1.281552 * ((0.04 - 0.0016) / 99) ** 0.5)


def test_the_first_of_equals_and_the_first_where_none_keeps_the_guard():
    within, beyond = SettingScore(0.8, 0.9, 0.01), SettingScore(0.9, 0.9, 0.02)
    assert best_setting([SettingScore(0.7, 0.9, 0.0), within, beyond, within], 0.01) == 1
    assert best_setting([SettingScore(0.7, 0.9, 0.5), within, beyond], 0.001) == 0


# ---- in a run


OPTIONS = Options(
    budget=900, top=1, candidates=3, max_filters=1, max_clean_drop=0.1, target_shares=(0.4, 0.3, 0.3), t0=0.3, curve=(1,), alternatives=True
)


def task(**changes) -> Task:
    return Task(two_skins.model(), None, target(), source(), **changes)


@pytest.fixture(scope="module")
def run():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "LEARNING_RATES", (3e-3, 3e-2))
        findings = repair(task(), Run.start(OPTIONS))
        result = summarise(task(), OPTIONS, findings, title="Toy", command="repairkit fairness --alternatives", minutes=0.1, notices=[])
    return findings, result


def test_without_the_option_every_bit_is_the_same_and_nothing_is_told(run):
    findings, result = run
    plain_options = replace(OPTIONS, alternatives=False)
    plain = repair(task(), Run.start(plain_options))
    assert plain.alternatives == []
    assert set(findings.outcomes.correct) - set(plain.outcomes.correct) == {"group_thresholds", "last_layer", "whole_network"}
    for column, right in plain.outcomes.correct.items():
        np.testing.assert_array_equal(right, findings.outcomes.correct[column])
        np.testing.assert_array_equal(plain.outcomes.source_correct[column], findings.outcomes.source_correct[column])
    assert plain.repairs[0].patch == findings.repairs[0].patch
    assert {part: passes for part, passes in findings.passes.items() if part != "alternatives"} == plain.passes
    told = summarise(task(), plain_options, plain, title="Toy", command="repairkit fairness", minutes=0.1, notices=[])
    assert told.alternatives == []
    assert told.columns == result.columns
    assert not any("instead" in sentence for sentence in told.method + told.limits + told.verdict.sentences)
    assert "alternatives" not in plan(task(), plain_options)


@pytest.mark.parametrize("folds", [1, 3])
def test_the_plan_counts_its_passes(folds, run):
    options = replace(OPTIONS, folds=folds)
    planned = plan(task(), options)["alternatives"]
    parts, source_split = fairness.splits(task(), options)
    attribute = sum(len(split.attribute) for split in parts) + folds * len(source_split.attribute)
    choose = sum(len(split.choose) for split in parts) + folds * len(source_split.choose)
    report = sum(len(split.report) for split in parts) + folds * len(source_split.report)
    thresholds_alone = sum(len(split.attribute) for split in parts)
    runs = len(LEARNING_RATES) * EPOCHS
    assert planned == thresholds_alone + (attribute + choose + report) + runs * (3 * attribute + choose) + report
    if folds == 1:
        assert run[0].passes["alternatives"] == planned


def test_with_folds_every_image_is_judged_once_by_what_did_not_see_it(quick):
    options = replace(OPTIONS, folds=3)
    findings = repair(task(), Run.start(options))
    folds, _ = fairness.splits(task(), options)
    result = summarise(task(), options, findings, title="Toy", command="repairkit fairness", minutes=0.1, notices=[])
    (told,) = [each for each in result.alternatives if each.column == "last_layer"]
    assert told.chosen.count("fold ") == 3
    own = [each for each in findings.alternatives if each.key == "last_layer"]
    np.testing.assert_array_equal(findings.outcomes.correct["last_layer"], np.concatenate([each.right for each in own]))
    np.testing.assert_allclose(findings.outcomes.source_correct["last_layer"], np.mean([each.source_right for each in own], axis=0))
    assert [len(each.right) for each in own] == [len(split.report) for split in folds]
    assert told.passes == sum(each.passes for each in own)


def test_the_result_holds_a_row_for_each_with_what_it_needs(run):
    findings, result = run
    rows = {each.column: each for each in result.alternatives}
    assert list(rows) == ["original", "repaired", "threshold", "group_thresholds", "last_layer", "whole_network"]
    assert [each.column for each in rows.values() if each.changes_weights] == ["repaired", "last_layer", "whole_network"]
    assert [each.column for each in rows.values() if each.group_at_run_time] == ["group_thresholds"]
    spent = sum(findings.passes[part] for part in ("calibration", "attribution", "choosing"))
    assert rows["repaired"].passes == spent
    assert rows["repaired"].minutes == pytest.approx(
        sum(findings.seconds[part] for part in ("calibration", "attribution", "choosing")) / 60
    )
    assert rows["original"].minutes is None
    compared = {(each.first, each.second) for each in result.differences}
    assert {(key, "repaired") for key in ("threshold", "group_thresholds", "last_layer", "whole_network")} <= compared
    right = findings.outcomes.correct["last_layer"]
    assert result.share("last_layer", "recall", "darker women").value == right[findings.outcomes.groups == "darker women"].mean()


def test_where_the_repair_loses_the_verdict_says_so_first(run):
    """No filter of this network is to blame, so that a last layer does what no freezing can."""
    _, result = run
    (loss,) = [each for each in result.differences if (each.first, each.metric) == ("last_layer", "lowest recall")]
    assert loss.claim == "worse"
    told = next(sentence for sentence in result.verdict.sentences if "does better than the" in sentence)
    assert told.startswith("Last layer refitted does better than the ")
    assert f"lowest recall ({-100 * loss.value:.1f} points higher; 95 % interval " in told


def test_both_views_show_the_table_and_read_back(run, tmp_path):
    findings, result = run
    results.write_run(tmp_path / "run", task(), findings, result)
    assert FairnessResult.read(tmp_path / "run" / "result.json") == result
    for view in ("report.html", "report.md"):
        text = (tmp_path / "run" / view).read_text()
        for said in (
            "Alternatives",
            "Last layer refitted",
            "Group at run time?",
            "It must know the group of every image",
            "Selected: penalty",
        ):
            assert said in text


def test_an_interrupted_run_comes_to_the_same_end(tmp_path, monkeypatch, run, quick):
    unfinished = RunStore(tmp_path / "run", configuration(task(), OPTIONS), command="again")

    def stop(what, _made, _planned):
        if "fine-tuning at 0.03" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair(task(), Run.start(OPTIONS, store=unfinished, progress=stop))
    rates = []

    def watched(*given, **settings):
        rates.append(settings["learning_rate"])
        return finetuning.finetune(*given, **settings)

    monkeypatch.setattr(fine_tuning, "finetune", watched)
    findings = repair(task(), Run.start(OPTIONS, store=unfinished))
    assert rates == [3e-2]
    for column, right in run[0].outcomes.correct.items():
        np.testing.assert_array_equal(right, findings.outcomes.correct[column])
    assert findings.passes == run[0].passes


# ---- the words


def difference(first, claim, value, metric="mean recall", group=None):
    half = 0.01 if claim != "no claim" else 0.5
    return Difference(
        metric=metric, group=group, first=first, second="repaired", n=100, value=value, low=value - half, high=value + half, claim=claim
    )


def test_who_beats_whom_is_said_of_all_alternatives_and_measures_together():
    verdict = Verdict(outcome="repaired", headline="H", sentences=[], worse=[])
    entries = [difference("last_layer", "worse", -0.011), difference("whole_network", "worse", -0.1)]  # 2.2 and 19.6 standard errors

    def told(*chosen):
        rows = [row(entry.first, images=1, passes=1, seconds=1) for entry in chosen]
        return with_alternatives(verdict, rows, chosen, level=0.95, decisive=("mean recall",)).sentences

    assert told(entries[0])[0].startswith("Last layer refitted does better than the repair")
    among = told(*entries)
    assert among[0].startswith("Fine-tuned does better than the repair")
    assert among[1:] == ["The repair cannot be told apart from Last layer refitted by these images."]


def test_nobody_beats_an_alternative_that_is_the_network_as_it_was_given():
    """What the repair has over it is its change from the original."""
    verdict = Verdict(outcome="repaired", headline="H", sentences=["It rose."], worse=[])
    entries = [difference("last_layer", "better", 0.1), difference("whole_network", "better", 0.011)]

    def told(**as_given):
        rows = [row(key, images=1, passes=1, seconds=1, folds=5, as_given=as_given.get(key, 0)) for key in ("last_layer", "whole_network")]
        return with_alternatives(verdict, rows, entries, level=0.95, decisive=("mean recall",)).sentences

    assert told()[1].startswith("The repair does better than Last layer refitted")
    assert told()[2] == "The repair cannot be told apart from Fine-tuned by these images."
    assert told(last_layer=5)[1].startswith(
        "The repair does better than Fine-tuned"
    )  # one comparison is left, and nothing to share its doubt with
    assert len(told(last_layer=5)[2:]) == 1
    assert told(last_layer=2)[1].startswith("The repair does better than Last layer refitted")
    assert "guard in 2 of 5 folds" in told(last_layer=2)[-1]


def test_who_beats_whom_on_what():
    verdict = Verdict(outcome="repaired", headline="H", sentences=["It fell.", "It rose."], worse=["It fell."])
    rows = [row(key, images=1, passes=1, seconds=1) for key in ("original", "repaired", "threshold", "last_layer", "whole_network")]
    entries = [
        difference("threshold", "better", 0.05),
        difference("threshold", "worse", -0.03, "recall", "darker men"),
        difference("last_layer", "worse", -0.2),
        difference("last_layer", "worse", -0.1, "gap"),
        difference("whole_network", "no claim", 0.1),
    ]
    concluding = with_alternatives(verdict, rows, entries, level=0.95, decisive=("mean recall",))
    assert concluding.headline == "H Better than the repair: Last layer refitted in mean recall."
    assert with_alternatives(verdict, rows, entries[:2], level=0.95, decisive=("mean recall",)).headline == "H"
    assert concluding.sentences == [
        "It fell.",
        "Threshold moved does better than the repair in recall of darker men (3.0 points higher; 95 % interval 2.0 to 4.0; n = 100).",
        "Last layer refitted does better than the repair in mean recall (20.0 points higher; 95 % interval 19.0 to 21.0; n = 100).",
        "It rose.",
        "The repair does better than Threshold moved in mean recall (5.0 points higher; 95 % interval 4.0 to 6.0; n = 100).",
        "The repair cannot be told apart from Fine-tuned by these images.",
    ]
