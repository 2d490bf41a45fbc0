"""End to end on a real SqueezeNet and a few small images; every number is found a second time without repairkit."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_faces
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import squeezenet1_0

from repairkit.alternatives.threshold import best_threshold
from repairkit.data.training_hashes import write_record
from repairkit.errors import BudgetError, DataError, ModelError, UsageError
from repairkit.experiments import results
from repairkit.experiments.fairness import run as fairness
from repairkit.experiments.fairness.report import FairnessResult
from repairkit.experiments.fairness.result import summarise
from repairkit.experiments.fairness.run import Task, plan, repair, splits
from repairkit.models import zoo
from repairkit.network.classifier import Classifier
from repairkit.network.filters import ConvFilters
from repairkit.network.game import NetworkGame, prepared_batches
from repairkit.network.weights import hash_state, write_weights
from repairkit.objectives import SubgroupRecall
from repairkit.repair import attribute as attributing
from repairkit.repair.attribute import rank_by
from repairkit.run.context import Run
from repairkit.run.options import Options
from repairkit.run.store import RunStore
from repairkit.shapley import Attribution

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def plain_network(state):
    network = squeezenet1_0(num_classes=2)
    network.load_state_dict(state, strict=True)
    return network.eval()


def patched(state, patch):
    """The weights with a patch.json applied by hand: SqueezeNet's convolutions have a bias and no batch norm."""
    state = {key: tensor.clone() for key, tensor in state.items()}
    for culprit in patch["culprits"]:
        state[f"{culprit['layer']}.weight"][culprit["channel"]] = 0
        state[f"{culprit['layer']}.bias"][culprit["channel"]] = culprit["constant"]
    return state


def logits(network, images):
    inputs = (np.asarray(images.pixels) / 255 - MEAN) / STD
    with torch.inference_mode():
        return network(torch.from_numpy(inputs.transpose(0, 3, 1, 2)).float()).double().numpy()


def same_outcomes(found, network, images, tolerance=1e-3):
    """Compare correctness, letting those images go whose logits are nearly equal (but not both 0 after the last ReLU)."""
    outputs = logits(network, images)
    margin = np.abs(outputs[:, 1] - outputs[:, 0])
    clear = (margin > tolerance) | (margin == 0)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], (outputs.argmax(1) == images.labels)[clear])


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """Cross-fitted over 3 folds, and what it left behind."""
    task, options, findings, result = tiny_faces.small_run(folds=3)
    out = tmp_path_factory.mktemp("folded") / "run"
    results.write_run(out, task, findings, result)
    return task, options, findings, result, out


def patches(out, folds=3):
    files = [out / "patch.json"] + [out / "networks" / f"repaired-fold-{fold}" / "patch.json" for fold in range(2, folds + 1)]
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.parametrize("folds", [1, 3])
def test_no_image_is_on_two_sides_of_a_split(folds):
    task, options = tiny_faces.task(), tiny_faces.options(folds=folds)
    target_splits, source = splits(task, options)
    assert len(target_splits) == folds
    for images, split in [*((task.target, each) for each in target_splits), (task.source, source)]:
        parts = [set(images.hashes[part].tolist()) for part in (split.attribute, split.choose, split.report)]
        assert all(parts)
        assert len(set.union(*parts)) == sum(map(len, parts)) == len(images)


def test_with_folds_every_target_image_is_reported_on_once(folded):
    task, options, findings, _, _ = folded
    assert sorted(findings.target_report.tolist()) == list(range(len(task.target)))
    np.testing.assert_array_equal(findings.outcomes.groups, task.target.groups[findings.target_report])
    np.testing.assert_array_equal(findings.target_report, np.concatenate([split.report for split in splits(task, options)[0]]))


def test_outcomes_are_those_of_the_weights_in_the_run_directory(folded):
    task, options, findings, result, out = folded
    found = patches(out)
    assert sum(len(patch["culprits"]) for patch in found) > 0
    state = tiny_faces.state_of(tiny_faces.spoilt_weights())
    networks = [plain_network(patched(state, patch)) for patch in found]
    start = 0
    for network, split in zip(networks, splits(task, options)[0], strict=True):
        rows = slice(start, start + len(split.report))
        same_outcomes(findings.outcomes.correct["repaired"][rows], network, task.target.subset(split.report))
        start = rows.stop
    original = plain_network(state)
    same_outcomes(findings.outcomes.correct["original"], original, task.target.subset(findings.target_report))
    for column in ("original", "repaired"):
        for group in task.target.group_names:
            right = findings.outcomes.correct[column][findings.outcomes.groups == group]
            share = result.share(column, "recall", group)
            assert (share.n, share.value) == (len(right), pytest.approx(right.mean()))
        recalls = [result.share(column, "recall", group).value for group in task.target.group_names]
        assert result.share(column, "mean recall").value == pytest.approx(np.mean(recalls))
    # what the source counts is the share of the folds' networks that are right
    source = task.source.subset(findings.source_report)
    right = np.mean([logits(network, source).argmax(1) == source.labels for network in networks], axis=0)
    np.testing.assert_allclose(findings.outcomes.source_correct["repaired"], right)
    assert result.share("repaired", "source accuracy").value == pytest.approx(right.mean())


class Always(torch.nn.Module):
    """The same class for every image."""

    def __init__(self, label):
        super().__init__()
        self.label = label

    def forward(self, images):
        return torch.nn.functional.one_hot(torch.full((len(images),), self.label), 2).float()


def test_folds_that_disagree(monkeypatch):
    """A target image is judged by its own fold's network, a source image by all of them."""
    says = (0, 1, 1)

    def repaired_to(_task, model, _column, fold, *_):
        return SimpleNamespace(classifier=Classifier(Always(says[fold]), classes=model.classifier.classes))

    monkeypatch.setattr(fairness, "repair_one", repaired_to)
    task, options = tiny_faces.task(), tiny_faces.options(folds=3)
    outcomes = repair(task, Run.start(options)).outcomes
    target_splits, source = splits(task, options)
    own = [task.target.labels[split.report] == label for split, label in zip(target_splits, says, strict=True)]
    np.testing.assert_array_equal(outcomes.correct["repaired"], np.concatenate(own))
    labels = task.source.labels[source.report]
    assert set(labels.tolist()) == {0, 1}
    np.testing.assert_allclose(outcomes.source_correct["repaired"], np.where(labels == 0, 1 / 3, 2 / 3))


def test_repaired_weights_are_the_first_patch_in_the_plain_architecture(folded):
    *_, out = folded
    repaired = load_file(out / "repaired.safetensors")
    plain_network(repaired)
    expected = patched(tiny_faces.state_of(tiny_faces.spoilt_weights()), patches(out)[0])
    assert set(repaired) == set(expected)
    for key, tensor in repaired.items():
        torch.testing.assert_close(tensor, expected[key], rtol=0, atol=1e-7)
        assert tensor.dtype == torch.float32


def test_threshold_column_by_hand(folded):
    task, options, findings, _, _ = folded
    network = plain_network(tiny_faces.state_of(tiny_faces.spoilt_weights()))
    outputs, source_outputs = logits(network, task.target), logits(network, task.source)
    margins, source_margins = outputs[:, 1] - outputs[:, 0], source_outputs[:, 1] - source_outputs[:, 0]
    labels, groups = task.target.labels, task.target.groups

    def mean_recall(rows, threshold):
        right = (margins[rows] > threshold) == labels[rows]
        return np.mean([right[groups[rows] == group].mean() for group in task.target.group_names])

    target_splits, source = splits(task, options)
    moved, moved_source = [], []
    for split, choice in zip(target_splits, findings.thresholds, strict=True):
        between = np.sort(margins[split.choose])
        best = max(mean_recall(split.choose, threshold) for threshold in [0, *(between[:-1] + between[1:]) / 2])
        assert mean_recall(split.choose, choice.threshold) == pytest.approx(best)
        moved += ((margins[split.report] > choice.threshold) == labels[split.report]).tolist()
        moved_source.append((source_margins[source.report] > choice.threshold) == task.source.labels[source.report])
    assert findings.outcomes.correct["threshold"].tolist() == moved
    np.testing.assert_allclose(findings.outcomes.source_correct["threshold"], np.mean(moved_source, axis=0))


def test_dropout_trained_network_is_judged_and_repaired_beside():
    task, _, findings, result = tiny_faces.small_run(dropout=True)
    spent = {each.column: sum(each.attribution.passes.values()) for each in findings.repairs}
    assert findings.repair_passes["attribution"] == spent["repaired"]
    assert findings.passes["attribution"] == sum(spent.values())
    assert 0 < findings.repair_seconds["attribution"] < findings.seconds["attribution"]
    rival = plain_network(tiny_faces.state_of(tiny_faces.DROPOUT_STAND_IN))
    same_outcomes(findings.outcomes.correct["dropout"], rival, task.target.subset(findings.target_report))
    patch = next(network.patch for network in findings.repairs if network.column == "dropout_repaired")
    repaired = plain_network(patched(tiny_faces.state_of(tiny_faces.DROPOUT_STAND_IN), patch.model_dump()))
    same_outcomes(findings.outcomes.correct["dropout_repaired"], repaired, task.target.subset(findings.target_report))
    assert {column.key for column in result.columns} == {"original", "repaired", "threshold", "dropout", "dropout_repaired"}


def test_another_normalisation_is_another_configuration():
    task = tiny_faces.task()
    network = task.model.classifier
    other = Classifier(network.network, classes=network.classes, mean=(0.5,) * 3, std=(0.5,) * 3).eval()
    changed = replace(task, model=replace(task.model, classifier=other))
    assert fairness.configuration(task, tiny_faces.options()) != fairness.configuration(changed, tiny_faces.options())


def test_the_network_given_is_left_as_it_was(folded):
    task = folded[0]
    assert hash_state(task.model.classifier.network.state_dict()) == hash_state(tiny_faces.state_of(tiny_faces.spoilt_weights()))
    assert not any(module._forward_hooks or module._forward_pre_hooks or module.training for module in task.model.classifier.modules())


@pytest.mark.parametrize("ranking", ["recall + source", "recall"])
@pytest.mark.parametrize("score", ["smooth", "hard"])
def test_worth_that_ranks(ranking, score):
    """V of the whole network: mean subgroup recall (plus source accuracy), of probabilities or of decisions."""
    task = tiny_faces.task()
    network, values = plain_network(tiny_faces.state_of(tiny_faces.spoilt_weights())), []
    for images, names in ((task.target, task.target.groups), (task.source, np.full(len(task.source), "all"))):
        outputs = logits(network, images)
        probabilities = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
        each = probabilities[np.arange(len(images)), images.labels] if score == "smooth" else outputs.argmax(1) == images.labels
        values.append(np.mean([each[names == name].mean() for name in np.unique(names)]))
    filters = ConvFilters(task.model.classifier.network)
    filters.calibrate(prepared_batches(task.model.classifier, task.source))
    worth = rank_by(SubgroupRecall(), tiny_faces.options(ranking=ranking, score=score))(task.target, task.source)
    game = NetworkGame(task.model.classifier, filters, worth)
    expected = sum(values) if ranking == "recall + source" else values[0]
    assert game.objective_value(np.ones(len(filters), dtype=bool)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("side", ["target", "source"])
def test_an_image_that_was_trained_on_is_refused(side):
    task = tiny_faces.task()
    images = getattr(task, side)
    with pytest.raises(DataError, match=f"{side} and training share 2 image.s., for instance .* remove it from one of them"):
        replace(task, training=images.subset([1, 5], name="training"))


def test_the_report_says_what_was_compared_with_the_training_images(tmp_path):
    task, options, findings, result = tiny_faces.small_run()
    assert "The training images were not at hand, so an overlap with them was not checked." in result.limits
    weights = tmp_path / "own.safetensors"
    shutil.copy(task.model.weights, weights)
    write_record(weights, tiny_faces.source(n=12, seed=9))
    recorded = replace(task, model=zoo.load(weights))
    result = summarise(recorded, options, findings, title="Tiny", command="repairkit fairness", minutes=2, notices=[])
    said = "Target and source share no file and no decoded image with the 12 images that the original network was trained on, as far as rec"
    assert any(sentence.startswith(said) for sentence in result.limits)
    with pytest.raises(DataError, match=r"^2 of the 2 source images are among the 12 that own.safetensors was trained on"):
        replace(recorded, source=tiny_faces.source(n=12, seed=9).subset([3, 5]))


def test_an_image_of_target_and_source_is_refused():
    task = tiny_faces.task()
    with pytest.raises(DataError, match="target and source share 60 image"):
        replace(task, target=task.source)


def test_plan_against_what_was_spent(folded):
    task, options, findings, _, _ = folded
    planned = plan(task, options)
    assert set(findings.passes) == set(planned) == set(findings.seconds)
    assert findings.passes["calibration"] == planned["calibration"]
    assert 0.8 * planned["attribution"] < findings.passes["attribution"] <= planned["attribution"]
    for part in ("choosing", "evaluation"):
        assert planned[part] / 4 < findings.passes[part] < 4 * planned[part]
    # 64 faces in 3 folds are no equal parts; the sum over folds is exact all the same
    assert len({len(split.attribute) for split in splits(task, options)[0]}) == 2


def without_clock(result):
    content = json.loads(result.model_dump_json())
    for cost in content["costs"]:
        del cost["seconds"]
    del content["created"], content["reproduction"]["minutes"]
    return content


@pytest.fixture(scope="module")
def again():
    """A run made a second time."""
    task, options = tiny_faces.task(), tiny_faces.options(ranking="recall")
    findings = repair(task, Run.start(options))
    return findings, summarise(task, options, findings, title="Tiny", command="repairkit fairness", minutes=2, notices=["drawn"])


def test_same_seed_same_result(again):
    _, _, findings, result = tiny_faces.small_run(ranking="recall")
    assert without_clock(again[1]) == without_clock(result)
    assert again[0].repairs[0].attribution.to_frame().equals(findings.repairs[0].attribution.to_frame())


def test_the_planted_culprit_is_found_and_frozen_in_every_fold(folded):
    *_, findings, result, out = folded
    for patch in patches(out):
        assert tiny_faces.CULPRIT in [(culprit["layer"], culprit["channel"]) for culprit in patch["culprits"]]
    assert [(entry.fold, entry.layer) for entry in result.frozen if (entry.layer, entry.channel) == tiny_faces.CULPRIT] == [
        (fold, tiny_faces.CULPRIT[0]) for fold in (1, 2, 3)
    ]
    for network in findings.repairs:
        assert "features.10.expand3x3:33" in [network.attribution.ids[player] for player in network.attribution.harmful_players(3)]
    gain = result.share("repaired", "mean recall").value - result.share("original", "mean recall").value
    assert gain > 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truncation": 0.5}, "tmab truncates by size, not by worth: give t0 in place of truncation"),
        ({"t0": "often"}, "t0 must be a number, 'auto' or 'settled', got 'often'"),
        ({"t0": "auto", "engine": "monte-carlo"}, "monte-carlo has no live range t0, got auto; give truncation"),
        ({"folds": 2}, "folds must be 1 or at least 3 .*, got 2"),
        ({"budget": float("nan")}, "budget must be a positive number of image passes, got nan"),
        ({"seed": -1}, "seed must lie between 0 and 9.22337e\\+18, got -1"),
        ({"curve": (2, -1)}, r"curve must hold numbers of filters, at least 1 each, got \(2, -1\)"),
        ({"device": "tpu"}, "device must be cpu or cuda, got 'tpu'"),
        ({"guarantee": 0.0}, "guarantee must lie between 0 and 1, got 0.0; it is the probability that any claim is wrong"),
        ({"guarantee": 0.05, "tolerance": 1.0}, r"tolerance must lie in \[0, 1\), got 1.0; it is relative to the k-th value"),
        ({"tolerance": 0.1}, "tolerance belongs to a guarantee, got 0.1 without one"),
        ({"guarantee": 0.05, "contested": 39}, r"contested must be at least 40, got 39 \(top, for a guarantee\)"),
        ({"guarantee": 0.05, "engine": "tmab-paper"}, "guarantee is for the engine tmab, got tmab-paper"),
        ({"contested": 50, "engine": "monte-carlo"}, "contested is for the engine tmab, got monte-carlo"),
    ],
)
def test_options_that_cannot_work(changes, message):
    with pytest.raises(UsageError, match=message):
        Options(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda task: replace(task, target=replace(task.target, classes=("a", "b"))),
            r"tiny target has the classes \('a', 'b'\), the model",
        ),
        (lambda task: replace(task, source=replace(task.source, classes=("male", "female"))), "tiny source has the classes"),
        (
            lambda task: replace(task, dropout=replace(task.model, classifier=renamed(task.model.classifier, ("x", "y")))),
            r"the dropout-trained network has the classes \('x', 'y'\)",
        ),
        (
            lambda task: replace(task, source=replace(task.source, pixels=task.source.pixels[:, :40, :40])),
            "tiny target holds images of 48 x 48 pixels, tiny source of 40 x 40; load both at one size",
        ),
    ],
)
def test_tasks_that_do_not_fit(change, message):
    with pytest.raises(DataError, match=message):
        change(tiny_faces.task())


def renamed(classifier, classes):
    other = type(classifier)(classifier.network, classes=classes)
    return other.eval()


def test_nan_logits_are_an_error_before_any_attribution(monkeypatch):
    task = tiny_faces.task()
    with torch.no_grad():
        task.model.classifier.network.features[0].weight.mul_(1e38)
    monkeypatch.setattr(attributing, "estimate", lambda *_, **__: pytest.fail("attribution began"))
    with pytest.raises(ModelError, match=r"tiny target: .* logits are NaN or infinite"):
        repair(task, Run.start(tiny_faces.options()))


def test_the_paper_s_choices_run_through():
    chosen = {"strategy": "prefix", "score": "hard", "freeze_at": "pre"}
    *_, findings, result = tiny_faces.small_run(**chosen)
    assert chosen.items() <= result.reproduction.settings.items()
    network = findings.repairs[0]
    assert network.patch.freeze_at == "pre"
    # a prefix is a prefix: the most negative first
    assert [step.player for step in network.rounds[0].choice.path[1:]] == network.attribution.harmful_players()[
        : len(network.rounds[0].choice.path) - 1
    ].tolist()
    assert len([share for share in result.shares if share.column == "repaired"]) == 4 + 4


@pytest.mark.parametrize(
    ("classes", "changes", "expected"),
    [
        (2, {"ranking": "recall"}, 0.6),
        (2, {"ranking": "recall + source"}, 1.2),
        (10, {"ranking": "recall"}, 0.2),
        (2, {"truncation": 0.0}, None),
        (2, {"truncation": 0.7}, 0.7),
        (2, {"engine": "tmab"}, None),
    ],
)
def test_the_walks_truncate_where_the_paper_does(classes, changes, expected):
    options = Options(**{"engine": "tmab-paper", **changes})
    parts = [None] * (1 if options.ranking == "recall" else 2)
    game = SimpleNamespace(classifier=SimpleNamespace(classes=range(classes)), objective=SimpleNamespace(terms=parts))
    assert attributing.truncation_of(game, options) == expected


def test_neither_guard_nor_evidence_is_measured_in_bfloat16(monkeypatch):
    task, _, plain, _ = tiny_faces.small_run()
    options = tiny_faces.options(precision="bfloat16")
    played = []

    def found_before(game, *_, **__):
        played.append(game.precision)
        return plain.repairs[0].attribution

    monkeypatch.setattr(attributing, "estimate", found_before)
    findings = repair(task, Run.start(options))
    assert played == ["bfloat16"]
    # with the same values and culprits, all but what candidates gain is that of a run in float32, to the bit
    assert findings.repairs[0].patch == plain.repairs[0].patch
    for step, before in zip(findings.repairs[0].rounds[0].choice.path, plain.repairs[0].rounds[0].choice.path, strict=True):
        assert (step.player, step.source, step.drop_bound) == (before.player, before.source, before.drop_bound)
        assert step.criterion != before.criterion
    np.testing.assert_array_equal(findings.margins, plain.margins)
    result = summarise(task, options, findings, title="Tiny", command="repairkit", minutes=0.1, notices=[])
    assert result.reproduction.settings["precision"] == "bfloat16"
    assert any("bfloat16" in sentence for sentence in result.method)


def test_a_source_too_small_for_the_guard_is_refused():
    task = tiny_faces.task()
    choosing = len(splits(task, tiny_faces.options())[1].choose)
    with pytest.raises(
        DataError, match=f"the {choosing} images that choose cannot show that accuracy falls by 1 point at most, 230 or more can"
    ):
        plan(task, tiny_faces.options(max_clean_drop=0.01))
    with pytest.raises(DataError, match="by 0 points at most, no number can"):
        plan(task, tiny_faces.options(max_clean_drop=0.0))


def test_repair_and_threshold_stand_under_the_same_guard():
    allowed = 0.2
    task, options, findings, _ = tiny_faces.small_run(max_clean_drop=allowed)
    (network,), (threshold,) = [each for each in findings.repairs if each.column == "repaired"], findings.thresholds
    assert all(step.drop_bound <= allowed + 1e-9 for step in network.rounds[0].choice.path[: network.rounds[0].choice.chosen + 1])
    (split,), source = splits(task, options)
    chosen = best_threshold(
        findings.margins[split.choose],
        task.target.labels[split.choose],
        task.target.groups[split.choose],
        findings.source_margins[source.choose],
        task.source.labels[source.choose],
        max_source_drop=allowed,
        confidence=0.9,
    )
    assert threshold.threshold == chosen.threshold
    moved = (findings.source_margins[source.choose] > threshold.threshold) == task.source.labels[source.choose]
    before = (findings.source_margins[source.choose] > 0) == task.source.labels[source.choose]
    fall = before.astype(float) - moved
    assert fall.mean() + 1.2816 * fall.std() / len(fall) ** 0.5 <= allowed + 1e-4


def test_three_classes_have_no_threshold(tmp_path):
    task = tiny_faces.task()
    network = zoo.build("squeezenet1_0", 3)
    state = tiny_faces.state_of(tiny_faces.spoilt_weights())
    for key in ("classifier.1.weight", "classifier.1.bias"):
        state[key] = torch.cat([state[key], torch.zeros_like(state[key][:1])])
    network.load_state_dict(state)
    classes = ("female", "male", "other")
    write_weights(network, tmp_path / "three.safetensors", architecture="squeezenet1_0", classes=classes, trained_on="nothing")
    target, source = (replace(images, classes=classes) for images in (task.target, task.source))
    findings = repair(Task(zoo.load(tmp_path / "three.safetensors"), None, target, source), Run.start(tiny_faces.options()))
    assert set(findings.outcomes.correct) == {"original", "repaired"}
    assert findings.thresholds == []


# ---- stability and the live range


@pytest.fixture(scope="module")
def thorough():
    """A run that measures its live range and its stability."""
    return tiny_faces.small_run(ranking="recall", stability=True, t0="auto")


def test_a_measured_live_range_is_used_stated_and_paid(thorough):
    *_, findings, result = thorough
    (network,) = findings.repairs
    assert network.attribution.min_live == network.live_range.min_live
    assert network.patch.min_live == network.live_range.min_live
    assert network.live_range.activity.shape == (len(network.live_range.grid), 1)
    assert findings.passes["live range"] == network.live_range.passes
    assert any(f"Least live share: {network.live_range.min_live:g}" in sentence for sentence in result.method)
    plain = tiny_faces.small_run(ranking="recall")
    assert plain[2].repairs[0].live_range is None
    assert plain[2].repairs[0].attribution.min_live == 0.97
    assert set(findings.passes) - set(plain[2].passes) == {"live range", "stability"}


def test_stability_is_in_the_findings_the_result_and_the_costs(thorough):
    task, options, findings, result = thorough
    found = findings.repairs[0].stability
    assert found.players == 2976
    assert min(found.valued[:2]) >= options.top
    assert {(overlap.by, overlap.end) for overlap in found.overlaps} >= {("screen", "low"), ("screen", "high")}
    assert 0.2 < found.rank_correlation["screen"] < 1  # the halves see other images and other coalitions
    assert [(entry.column, entry.by, entry.end) for entry in result.extra.stability] == [
        ("repaired", *kind) for kind in dict.fromkeys((overlap.by, overlap.end) for overlap in found.overlaps)
    ]
    for entry in result.extra.stability:
        for overlap in entry.overlaps:
            (own,) = [each for each in found.overlaps if (each.by, each.end, each.k) == (entry.by, entry.end, overlap.k)]
            assert (overlap.share, overlap.low, overlap.high, overlap.chance) == (own.share, own.share, own.share, own.chance)
    assert any(sentence.startswith("Stability: ") for sentence in result.method)
    planned = plan(task, options)
    assert set(findings.passes) == set(planned) == set(findings.seconds) == {cost.part for cost in result.costs}
    images = planned["calibration"]
    assert images + 0.8 * options.budget < findings.passes["stability"] <= planned["stability"] == images + options.budget
    assert tiny_faces.small_run(ranking="recall")[3].extra.stability == []


# ---- guarantee


def test_a_guarantee_is_in_the_findings_and_the_result(tmp_path):
    asked = {"guarantee": 0.1, "top": 2, "contested": 2, "budget": 2_500}
    task, _, findings, result = tiny_faces.small_run(**asked)
    (network,) = findings.repairs
    guarantee = network.attribution.guarantee
    assert (guarantee.delta, guarantee.tolerance, guarantee.top_k, guarantee.candidates) == (0.1, 0.2, 2, 4)
    assert guarantee.pairs >= 16
    (entry,) = result.guarantees
    assert (entry.column, entry.fold, entry.filters, entry.valued) == ("repaired", 0, 2976, 4 + guarantee.audited)
    assert entry.separated == {"low": len(guarantee.low.separated), "high": len(guarantee.high.separated)}
    assert entry.missed == {"low": guarantee.low.audit.count, "high": guarantee.high.audit.count}
    out = tmp_path / "run"
    results.write_run(out, task, findings, result)
    assert Attribution.read(out / "attribution.parquet").guarantee == guarantee
    assert FairnessResult.read(out / "result.json").guarantees == result.guarantees


def test_halves_share_nothing(monkeypatch):
    """Images, constants, random numbers and budget: each half has its own; t0 is the same."""
    asked = []

    def pretended(game, settings, *, ids, **_):
        asked.append((game, settings))
        numbers = np.arange(game.n, dtype=float)
        return Attribution(
            ids=tuple(map(str, ids)), screen=numbers, value=numbers, half_width=numbers, samples=numbers, decided=numbers < 0, harmful=-1,
            end="low", top_k=settings.top_k, min_live=settings.min_live, delta=0.05, seed=settings.seed, engine="tmab", passes={"a": 7.0},
        )  # fmt: skip

    monkeypatch.setattr(attributing, "estimate", pretended)
    task, options = tiny_faces.task(), tiny_faces.options(stability=True)
    (split,), source = splits(task, options)
    parts = task.target.subset(split.attribute), task.source.subset(source.attribute)
    run = Run.start(options)
    with run.phase("stability"):
        found = attributing.agreement_of_halves(task.model.classifier, rank_by(SubgroupRecall(), options), parts, run, seed=5, t0=0.9)
    (one, own), (other, others) = asked
    for images, first, second in zip(parts, one.objective.terms, other.objective.terms, strict=True):
        hashes = set(first.images.hashes), set(second.images.hashes)
        assert not hashes[0] & hashes[1]
        assert hashes[0] | hashes[1] == set(images.hashes)
    assert not np.array_equal(one.filters.constants, other.filters.constants)
    assert own.seed != others.seed
    assert own.budget == others.budget == options.budget / 2
    assert own.min_live == others.min_live == 0.9
    assert found.overlaps[0].share == 1
    assert run.ledger.passes == {"stability": sum(map(len, parts)) + 14.0}
    assert own.candidates == others.candidates == 200
    chosen = tiny_faces.options(stability=True, contested=30)
    with run.phase("stability"):
        attributing.agreement_of_halves(
            task.model.classifier, rank_by(SubgroupRecall(), options), parts, replace(run, settings=chosen), seed=5, t0=0.9
        )
    assert [settings.candidates for _, settings in asked[2:]] == [30, 30]


@pytest.mark.parametrize(
    ("budget", "valued", "left_out"),
    [(2_800, 216, ()), (2_600, 196, ("200 by value: the halves valued 196 and 196 filters",))],
    ids=["enough for 200", "enough for 3 x top"],
)
def test_halves_value_as_many_filters_as_are_compared_where_the_budget_pays_it(tmp_path, monkeypatch, budget, valued, left_out):
    options, images = tiny_faces.options(stability=True, budget=budget, top=60), (tiny_faces.target(), tiny_faces.source())
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 250, 5, stride=8), nn.ReLU(), nn.Conv2d(250, 50, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    classifier = Classifier(nn.Sequential(*layers, nn.Linear(50, 2)), classes=("female", "male")).eval().requires_grad_(False)

    def run():
        kept = RunStore(tmp_path / "run", {}, command="").within("a")
        own = Run.start(options, store=kept)
        with own.phase("stability"):
            return attributing.agreement_of_halves(classifier, rank_by(SubgroupRecall(), options), images, own, seed=5, t0=0.97)

    found = run()
    assert found.valued[:2] == (valued, valued)
    assert [overlap.k for overlap in found.overlaps if overlap.by == "value"] == [k for k in (25, 50, 100, 200) if k <= valued]
    assert found.skipped == left_out
    monkeypatch.setattr(NetworkGame, "_flips", lambda *_: pytest.fail("what is kept is made again"))
    assert run() == found


def test_half_a_budget_that_is_too_small_is_known_before_the_whole_is_spent():
    task, options = tiny_faces.task(), tiny_faces.options(stability=True, budget=700)
    with pytest.raises(
        BudgetError, match=r"--stability attributes on each half of the images with half the budget: the budget of 350 image"
    ):
        repair(task, Run.start(options))


def test_images_that_cannot_be_halved_are_known_before_any_work():
    task = tiny_faces.task()
    groups = task.target.groups.copy().astype("<U20")
    rare = np.flatnonzero(groups == groups[0])[:3]
    groups[rare] = "rare"
    task = replace(task, target=replace(task.target, groups=groups))
    plan(task, tiny_faces.options())
    with pytest.raises(DataError, match=r"tiny target: the (first|second) half has no image of subgroup 'rare' \(1 in all\)"):
        plan(task, tiny_faces.options(stability=True))


def test_the_plan_of_what_is_asked_for_in_addition():
    task = tiny_faces.task(dropout=True)
    plain = plan(task, tiny_faces.options(folds=3))
    more = plan(task, tiny_faces.options(folds=3, stability=True, t0="auto"))
    assert {key: more[key] for key in plain} == plain
    assert more["stability"] == plain["calibration"] + plain["attribution"]
    assert more["live range"] == 6 * 2 * 7 * 384
    assert list(more) == ["calibration", "live range", "stability", "attribution", "choosing", "evaluation"]
