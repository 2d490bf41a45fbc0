"""Adversarial repair: filters that let an attack through are found and frozen, and every kind of adversary judges the result."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import brittle
import numpy as np
import pytest
import torch
from results import changed
from scipy import stats

from repairkit.alternatives import adversarial_training
from repairkit.alternatives.adversarial_training import EPOCHS, LEARNING_RATES, cost
from repairkit.attacks import robustness
from repairkit.attacks.generate import Attacked, attack, draw_targets
from repairkit.attacks.methods import APGDT, PGD
from repairkit.attacks.robustness import Outcome, Sanity, Sweep
from repairkit.data.training_hashes import check_unseen
from repairkit.errors import DataError, ModelError, UsageError
from repairkit.evaluation.metrics import rank_correlation
from repairkit.evaluation.statistics import paired_drop_bound
from repairkit.experiments import results
from repairkit.experiments.adversarial import evaluation
from repairkit.experiments.adversarial import sections as adversarial_sections
from repairkit.experiments.adversarial.adversaries import THOROUGH, Effort, judge
from repairkit.experiments.adversarial.feasibility import check_hits, fooled, moved
from repairkit.experiments.adversarial.objective import margins
from repairkit.experiments.adversarial.result import AdversarialResult, Strength
from repairkit.experiments.adversarial.rounds import FineTuned
from repairkit.experiments.adversarial.run import configuration, harden, plan, repair
from repairkit.experiments.adversarial.summary import summarise
from repairkit.experiments.adversarial.task import AdversarialTask, AttackOptions, attacked_rows, split_of
from repairkit.experiments.adversarial.verdict import verdict
from repairkit.network.classifier import Classifier
from repairkit.network.filters import FilterId
from repairkit.network.freezing import Freeze
from repairkit.network.weights import hash_state
from repairkit.objectives import Accuracy, AttackSuccess
from repairkit.repair import attribute as repair_attribute
from repairkit.run.context import Run
from repairkit.run.ledger import Ledger
from repairkit.run.options import Options
from repairkit.run.store import RunStore

OPTIONS = Options(budget=2500, top=4, contested=8, t0=0.5, target_shares=(0.3, 0.3, 0.4), max_clean_drop=0.05, candidates=8)
ATTACKS = AttackOptions(
    method=PGD(steps=6, step=6 / 255),
    images=(30, 30, 40),
    frontier=6,
    effort=Effort(carried=20, adaptive=16, restarts=1, queries=20, apgd_steps=5, checked=4),
)


@pytest.fixture(autouse=True, scope="module")
def fresh_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPAIRKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def task(*, fragile: bool = True) -> AdversarialTask:
    return AdversarialTask(brittle.model(brittle=fragile), brittle.images(50), elsewhere=brittle.images(5, seed=9, name="other colours"))


def result_of(asked, options, attacks, findings) -> AdversarialResult:
    return summarise(asked, options, attacks, findings, title="Toy", command="repairkit adversarial", minutes=0.1, notices=[])


@cache
def repaired():
    asked = task()
    findings = repair(asked, Run.start(OPTIONS), ATTACKS)
    return asked, findings, result_of(asked, OPTIONS, ATTACKS, findings)


# ---- finding and freezing ----


def test_the_filters_that_let_the_attack_through_are_frozen_and_no_others():
    _, findings, result = repaired()
    assert sorted(f"{entry.layer}:{entry.channel}" for entry in result.frozen) == sorted(brittle.CULPRITS)
    values = dict(zip(findings.rounds[0].attribution.ids, findings.rounds[0].attribution.value, strict=True))
    assert min(values[name] for name in brittle.CULPRITS) > 0
    assert [values["0:7"], values["0:8"]] == pytest.approx([0, 0], abs=1e-6)


def test_the_repaired_weights_load_into_the_plain_architecture_and_withstand_every_adversary():
    _, findings, result = repaired()
    plain = brittle.network(brittle=False)
    plain.load_state_dict(findings.networks["repaired"].network.state_dict(), strict=True)
    assert result.verdict.outcome == "repaired"
    for group in result.groups:
        assert result.share("repaired", "recovered label", group).value == 1.0
        before = result.share("original", "recovered label", group).value
        assert before == 1.0 if group == "noise" else before < 0.2
    assert result.share("repaired", "clean accuracy").value == 1.0
    assert result.verdict.sentences[0].startswith(
        "Against an adversary who attacks the repaired network itself at eps 16/255: recovered label"
    )


def test_the_parts_share_no_clean_image_and_the_stored_images_are_those_of_the_report():
    asked, findings, _ = repaired()
    origins = [set(findings.made[part].images.origins.tolist()) for part in ("attribute", "choose", "report")]
    assert [len(part) for part in origins] == [30, 30, 40]
    assert len(set.union(*origins)) == 100
    clean = [set(asked.images.origins[getattr(findings.split, part)].tolist()) for part in ("attribute", "choose", "report")]
    assert all(part <= all_of_it for part, all_of_it in zip(origins, clean, strict=True))
    assert (findings.made["report"].targets != findings.made["report"].images.labels).all()


def test_constants_are_means_over_the_clean_attribution_images():
    asked, findings, _ = repaired()
    first = findings.rounds[0]
    network, signals = asked.model.classifier.network, []
    with torch.no_grad():
        handle = network[1].register_forward_hook(lambda *given: signals.append(given[2]))
        network(asked.images.subset(findings.split.attribute).batch(np.arange(len(findings.split.attribute))))
        handle.remove()
    np.testing.assert_allclose(first.filters.constants, signals[0].mean(dim=(0, 2, 3)).numpy(), rtol=1e-5, atol=1e-6)


def test_freezing_one_culprit_alone_lowers_success_and_freezing_a_colour_does_not():
    """A literal look at the ends of the ranking, filter by filter."""
    asked, findings, _ = repaired()
    first, stored = findings.rounds[0], findings.made["report"]
    network = asked.model.classifier.network
    success = {}
    for name in ("0:0", *brittle.CULPRITS):
        with Freeze(network, {FilterId.parse(name): float(first.filters.constants[int(name[2:])])}), torch.no_grad():
            success[name] = float((network(stored.images.batch(np.arange(len(stored)))).argmax(1).numpy() == stored.targets).mean())
    assert max(success[name] for name in brittle.CULPRITS) < success["0:0"]
    values = dict(zip(first.attribution.ids, first.attribution.value, strict=True))
    assert values["0:0"] < 0 < min(values[name] for name in brittle.CULPRITS)


def test_the_papers_ranking_and_prefix_selection_are_options():
    attacks = replace(ATTACKS, ranking="success", effort=replace(ATTACKS.effort, queries=1, adaptive=4))
    findings = repair(task(), Run.start(replace(OPTIONS, strategy="prefix")), attacks)
    result = result_of(task(), OPTIONS, attacks, findings)
    assert result.objective.endswith("(the paper's)")
    assert findings.rounds[0].choice.reason.endswith("under the guard")
    assert {f"{entry.layer}:{entry.channel}" for entry in result.frozen} <= set(brittle.CULPRITS)
    with pytest.raises(UsageError, match="ranking must be"):
        AttackOptions(ranking="both")  # type: ignore[arg-type]


def test_choosing_measures_clipped_margins_toward_the_target_and_the_probability_of_the_label_on_clean_images():
    asked, findings, _ = repaired()
    adversarial, clean = findings.made["choose"], asked.images.subset(findings.split.choose)
    logits = torch.randn(len(adversarial) + len(clean), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20
    measured = margins(adversarial, clean)(logits, np.arange(len(logits)))
    for row, found in enumerate(measured):
        if row < len(adversarial):
            expected = (logits[row, adversarial.images.labels[row]] - logits[row, adversarial.targets[row]]).clamp(max=3)
        else:
            expected = torch.softmax(logits[row], 0)[clean.labels[row - len(adversarial)]]
        assert found == pytest.approx(float(expected))


# ---- a network that cannot be fooled ----


def test_a_network_that_the_attack_cannot_fool_is_left_alone_and_the_report_says_so():
    asked = task(fragile=False)
    findings = repair(asked, Run.start(OPTIONS), ATTACKS)
    result = result_of(asked, OPTIONS, ATTACKS, findings)
    assert result.verdict.outcome == "cannot be fooled"
    assert "does not fool this network to begin with" in result.verdict.headline
    assert "0 of 30 and 0 of 30 reached their target" in result.verdict.sentences[0]
    assert not any("afresh were run" in sentence for sentence in result.limits)
    assert (result.frozen, result.extra.frontier, result.extra.sweep, result.extra.correlation, findings.patch) == ([], [], [], None, None)
    assert list(findings.networks) == ["original"]


def with_hits(made: Attacked, hits: int, of: int) -> Attacked:
    return replace(made.subset(np.arange(of)), hit=np.arange(of) < hits)


def test_whether_the_network_is_fooled_is_a_matter_of_the_rate_and_too_few_images_are_no_verdict():
    """Nine of twelve: three in four are fooled, and ten images must be for filters to be found."""
    made = repaired()[1].made["attribute"]
    assert fooled([with_hits(made, 9, 12)])
    assert fooled([with_hits(made, 2, 30)])
    assert not fooled([with_hits(made, 1, 20)])
    check_hits([with_hits(made, 10, 12), with_hits(made, 10, 30)], "colours")
    with pytest.raises(
        DataError,
        match=r"colours: the attack takes 9 of 12 images to their target, and 10 .* \(75 %\) attack 14 or more in each; give more",
    ):
        check_hits([with_hits(made, 9, 12)], "colours")


def test_a_run_with_too_few_fooled_images_ends_before_filters_are_found(monkeypatch):
    def nine_of_twelve(*given, **options):
        made = attack(*given, **options)
        return replace(made, hit=np.arange(len(made)) % 4 != 0)

    monkeypatch.setattr("repairkit.experiments.adversarial.run.attack", nine_of_twelve)
    with pytest.raises(DataError, match="plain colours: the attack takes 9 of 12 and 9 of 12 images to their target"):
        repair(task(), Run.start(OPTIONS), replace(ATTACKS, images=(12, 12, 40)))


def test_images_taken_for_their_target_without_any_attack_say_nothing_of_it():
    """Four images that the network gets wrong anyway, as two classes would have it: an attack that does nothing hits their targets."""
    asked = task()
    clean = asked.images.subset(np.arange(20))
    wrong = replace(clean, labels=np.where(np.arange(20) < 4, 1, clean.labels))
    targets = np.where(np.arange(20) < 4, clean.labels, (clean.labels + 1) % 4)
    idle = Attacked(wrong, targets, np.arange(20) < 4, ATTACKS.method, 0)
    left = moved(asked.model.classifier, idle, wrong, Run.start(OPTIONS))
    assert (len(left), fooled([idle]), fooled([left])) == (16, True, False)


# ---- rounds and fine-tuning ----


def test_a_second_round_attacks_the_network_that_the_first_left():
    attacks = replace(ATTACKS, rounds=2, effort=replace(ATTACKS.effort, queries=1, adaptive=4))
    asked, options = task(), replace(OPTIONS, max_filters=2, max_clean_drop=0.1)
    findings = repair(asked, Run.start(options), attacks)
    first, second = findings.rounds
    assert first.made["attribute"].key != second.made["attribute"].key
    assert first.choice.chosen == second.choice.chosen == 2
    assert {str(culprit.filter) for culprit in findings.patch.culprits} == set(brittle.CULPRITS)
    after_one = asked.model.classifier.with_network(first.patch.apply(asked.model.classifier.network))
    again = attack(after_one, *_clean(asked, options, attacks), attacks.method, seed=options.seed, batch=options.batch)
    np.testing.assert_array_equal(again.images.pixels, second.made["attribute"].images.pixels)
    together = findings.patch.apply(asked.model.classifier.network).state_dict()
    for name, weights in findings.networks["repaired"].network.state_dict().items():
        torch.testing.assert_close(weights, together[name])


def test_a_filter_that_an_earlier_round_froze_is_not_frozen_again(monkeypatch):
    """Prefix selection takes the highest values first: here the second round finds the frozen filters highest once more."""
    found = []

    def as_before(*given, **options):
        found.append(attribute(*given, **options))
        return replace(found[-1], value=found[0].value)

    attribute = repair_attribute.attribute
    monkeypatch.setattr(repair_attribute, "attribute", as_before)
    attacks = replace(ATTACKS, rounds=2, effort=replace(ATTACKS.effort, queries=1, adaptive=4, checked=1))
    findings = repair(task(), Run.start(replace(OPTIONS, strategy="prefix", max_filters=2, max_clean_drop=0.1)), attacks)
    first, second = ([str(culprit.filter) for culprit in each.patch.culprits] for each in findings.rounds)
    assert len(first) == len(second) == 2
    assert not set(first) & set(second)
    values = dict(zip(findings.rounds[1].attribution.ids, findings.rounds[1].attribution.value, strict=True))
    assert [values[name] for name in first] == [0, 0]


def _clean(asked, options, attacks):
    rows = attacked_rows(asked, split_of(asked, options, attacks), options, attacks)["attribute"]
    return asked.images.subset(rows), draw_targets(asked.images.labels, 4, options.seed)[rows]


def test_rounds_and_training_together_go_on_from_the_trained_network(tmp_path):
    attacks = replace(ATTACKS, rounds=2, finetune_epochs=1, effort=replace(ATTACKS.effort, queries=1, adaptive=4))
    asked, options = task(), replace(OPTIONS, max_filters=2, max_clean_drop=0.1)
    unfinished = RunStore(tmp_path / "run", configuration(asked, options, attacks), command="again")
    findings = repair(asked, Run.start(options, store=unfinished), attacks)
    final = findings.networks["repaired"].network.state_dict()
    for culprit in findings.patch.culprits:
        assert not final["0.weight"][culprit.channel].any()
    result = result_of(asked, options, attacks, findings)
    assert result.verdict.headline.startswith(f"Freezing {len(findings.patch.culprits)} filters and 2 epochs of training: ")
    assert any(sentence.startswith("Against fine-tuning alone") for sentence in result.verdict.sentences)
    assert not any(point.chosen for point in result.extra.frontier)
    again = repair(asked, Run.start(options, store=unfinished), attacks)
    for name, weights in again.networks["repaired"].network.state_dict().items():
        assert torch.equal(weights, final[name])


def test_a_round_that_froze_nothing_trained_nothing():
    asked, findings, _ = repaired()
    (first,) = findings.rounds
    idle = replace(
        first, choice=replace(first.choice, path=first.choice.path[:1], chosen=0), patch=first.patch.model_copy(update={"culprits": []})
    )
    trained = replace(first, tuned=FineTuned(bound=0.01, allowed=0.025))
    said = result_of(asked, OPTIONS, replace(ATTACKS, rounds=2, finetune_epochs=3), replace(findings, rounds=[trained, idle]))
    assert said.verdict.headline.startswith("Freezing 4 filters and 3 epochs of training: ")


def test_a_round_on_a_network_that_is_no_longer_fooled_is_not_played():
    findings = repair(
        task(),
        Run.start(replace(OPTIONS, max_clean_drop=0.1)),
        replace(ATTACKS, rounds=2, effort=replace(ATTACKS.effort, queries=1, adaptive=4)),
    )
    assert len(findings.rounds) == 1
    assert findings.ended == "in round 2 the attack no longer fooled the network"


def test_images_are_not_carried_over_to_the_network_that_they_were_made_on():
    rival, other = brittle.model(), brittle.model()
    for number, each in enumerate((rival, other), start=1):
        with torch.no_grad():
            each.classifier.network[4].bias += 0.01 * number
    rival, other = (replace(each, sha256=hash_state(each.classifier.network.state_dict())) for each in (rival, other))
    asked = replace(task(), dropout=rival, carriers=(other, brittle.model(brittle=False)))
    assert list(asked.named_others) == ["toy", "toy (2)", "dropout-trained toy"]
    attacks = replace(ATTACKS, effort=replace(ATTACKS.effort, carried=8, queries=1, adaptive=4, checked=1))
    findings = repair(asked, Run.start(OPTIONS), attacks)
    result = result_of(asked, OPTIONS, attacks, findings)
    transferred = [attempt for attempt in findings.judged.attempts if attempt.kind == "transfer"]
    carried, (elsewhere,) = ([each for each in transferred if each.elsewhere == other] for other in (False, True))
    assert elsewhere.title == "MI-FGSM images of other colours from toy"
    assert elsewhere.n == 20
    assert "the same photograph at another size was not checked for" in elsewhere.description
    assert [attempt.title.partition(" from ")[2] for attempt in carried] == [name for name in asked.named_others for _ in range(3)]
    own = {attempt.key for attempt in carried if "dropout-trained" in attempt.title}
    assert not any(entry.column == "dropout" and entry.group in own for entry in result.shares)
    assert not any(entry.first == "dropout" and entry.group in own for entry in result.differences)
    assert any(entry.first == "dropout" and entry.group == "replay" for entry in result.differences)
    assert result.groups[-7:] == ["DIFGSM-3", "transfer-mean", "elsewhere-1", "square", "pgd", "apgd", "worst"]
    assert result.groups == [entry.key for entry in result.extra.adversaries]
    for metric in ("target success", "recovered label"):
        before, after = (result.share(column, metric, "transfer-mean") for column in ("original", "repaired"))
        for share in (before, after):
            assert share.value == pytest.approx(np.mean([result.share(share.column, metric, each.key).value for each in carried]))
            assert (share.n, share.low <= share.value <= share.high) == (8, True)
        (change,) = (
            e for e in result.differences if (e.first, e.second, e.metric, e.group) == ("original", "repaired", metric, "transfer-mean")
        )
        assert change.value == pytest.approx(after.value - before.value)
        assert change.low < change.value < change.high
        assert change.p_value is None
    assert not any("dropout" in (entry.first, entry.second) and entry.group == "transfer-mean" for entry in result.differences)
    said = next(sentence for sentence in result.verdict.sentences if sentence.startswith("Images carried over from other networks: "))
    assert "fewer targets are reached under" in said
    assert re.search(
        r"; on average over these attacks on the same images target success fell by .* and recovered label rose by .*n = 8\)\.$", said
    )


def test_carriers_and_rivals_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="is the very one to repair"):
        replace(task(), carriers=(brittle.model(),))
    with pytest.raises(UsageError, match="is a other, the model a toy"):
        replace(task(), dropout=replace(brittle.model(), architecture="other"))


def test_fine_tuning_keeps_the_filters_frozen_and_is_compared_with_fine_tuning_alone(tmp_path):
    attacks = replace(ATTACKS, finetune_epochs=1, effort=replace(ATTACKS.effort, queries=1, adaptive=4))
    asked = task()
    findings = repair(asked, Run.start(OPTIONS), attacks)
    assert list(findings.networks) == ["original", "repaired", "finetuned"]
    for culprit in findings.patch.culprits:
        assert not findings.networks["repaired"].network[0].weight[culprit.channel].any()
        assert float(findings.networks["repaired"].network[0].bias[culprit.channel]) == pytest.approx(culprit.constant)
        assert findings.networks["finetuned"].network[0].weight[culprit.channel].any()
    result = result_of(asked, OPTIONS, attacks, findings)
    assert {("original", "repaired"), ("finetuned", "repaired"), ("original", "finetuned")} == {
        (entry.first, entry.second) for entry in result.differences
    }
    results.write_run(tmp_path / "run", (asked, ATTACKS), findings, result)
    held = next(sentence for sentence in result.method if "of training held the guard" in sentence)
    assert re.search(r"^1 epoch of training held the guard: .* falls by \d\.\d points at most .*, 5 are allowed\.$", held)
    with pytest.raises(DataError, match=r"are among the 60 that repaired\.safetensors was trained on"):
        check_unseen(tmp_path / "run" / "repaired.safetensors", report=asked.images)
    assert not (tmp_path / "run" / "patch.json").exists()


def test_epochs_that_break_the_guard_are_undone_and_the_report_says_so(tmp_path, monkeypatch):
    """Training that forgets everything: what is handed over is the network as it was before, beside fine-tuning alone as it went."""

    def forget(network, images, **options):
        return network.with_weights({key: torch.zeros_like(value) for key, value in network.network.state_dict().items()})

    monkeypatch.setattr("repairkit.experiments.adversarial.rounds.finetune", forget)
    attacks = replace(ATTACKS, finetune_epochs=2, effort=replace(ATTACKS.effort, queries=1, adaptive=4, checked=1))
    asked = task()
    findings = repair(asked, Run.start(OPTIONS), attacks)
    tuned = findings.rounds[0].tuned
    assert (tuned.kept, findings.trained) == (False, 0)
    assert tuned.bound > 0.5 > tuned.allowed == OPTIONS.max_clean_drop
    plain = findings.patch.apply(asked.model.classifier.network).state_dict()
    for name, weights in findings.networks["repaired"].network.state_dict().items():
        assert torch.equal(weights, plain[name])
    result = result_of(asked, OPTIONS, attacks, findings)
    assert result.verdict.headline.startswith("Freezing 4 filters: ")
    assert "2 epochs of training broke the guard on the clean images that choose, and were undone." in result.verdict.sentences
    assert any("of training broke the guard" in sentence and sentence.endswith("; the training was undone.") for sentence in result.method)
    explained = {column.key: column.explanation for column in result.columns}
    assert "trained" not in explained["repaired"]
    assert "for 2 epochs, with no filter frozen; keeps no guard" in explained["finetuned"]
    assert [point.filters for point in result.extra.frontier if point.chosen] == [4]
    results.write_run(tmp_path / "run", (asked, ATTACKS), findings, result)
    assert (tmp_path / "run" / "patch.json").exists()


# ---- the run directory, going on, and the plan ----


def test_the_run_directory_holds_the_images_with_their_targets(tmp_path):
    asked, findings, result = repaired()
    results.write_run(tmp_path / "run", (asked, ATTACKS), findings, result)
    names = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {"run.json", "result.json", "report.html", "report.md", "attribution.parquet", "patch.json", "repaired.safetensors"} <= names
    stored = Attacked.read(tmp_path / "run" / "adversarial" / "report.npz")
    np.testing.assert_array_equal(stored.targets, findings.made["report"].targets)
    assert AdversarialResult.read(tmp_path / "run" / "result.json") == result


def test_what_was_measured_before_an_interrupt_is_not_measured_again(tmp_path, monkeypatch):
    asked = task()
    unfinished = RunStore(tmp_path / "run", configuration(asked, OPTIONS, ATTACKS), command="again")

    def stop(what, made, planned):
        if what.startswith("eps sweep"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair(asked, Run.start(OPTIONS, store=unfinished, progress=_naming(stop, monkeypatch)), ATTACKS)
    monkeypatch.undo()
    told = []
    again = repair(asked, Run.start(OPTIONS, store=unfinished, progress=lambda what, made, planned: told.append(what)), ATTACKS)
    resumed, whole = result_of(asked, OPTIONS, ATTACKS, again), repaired()[2]
    assert (resumed.shares, resumed.differences, resumed.extra.correlation) == (whole.shares, whole.differences, whole.extra.correlation)
    assert {cost.part: cost.passes for cost in resumed.costs} == {cost.part: cost.passes for cost in whole.costs}
    assert not any("Square" in what or "PGD afresh" in what for what in told)


def _naming(stop, monkeypatch):
    """The clock tells the part alone; here what is at work is told as well."""

    tell = Ledger.progress

    def telling(self, part, made, planned):
        stop(part, made, planned)
        tell(self, part, made, planned)

    monkeypatch.setattr(Ledger, "progress", telling)
    return lambda what, made, planned: None


def test_the_configuration_tells_everything_apart_that_decides_the_run():
    asked = task()
    first = configuration(asked, OPTIONS, ATTACKS)
    others = (
        configuration(asked, replace(OPTIONS, seed=1), ATTACKS),
        configuration(asked, OPTIONS, replace(ATTACKS, method=PGD(steps=7))),
        configuration(asked, OPTIONS, replace(ATTACKS, effort=THOROUGH)),
        configuration(replace(asked, elsewhere=None), OPTIONS, ATTACKS),
        configuration(replace(asked, carriers=(brittle.model(brittle=False),)), OPTIONS, ATTACKS),
    )
    assert all(first != other for other in others)


def test_the_plan_is_about_what_a_run_costs():
    asked, findings, _ = repaired()
    planned = plan(asked, OPTIONS, ATTACKS)
    assert planned["attack"] == pytest.approx(100 * (ATTACKS.method.passes + 1) + 60)
    assert 0.5 < sum(findings.passes.values()) / sum(planned.values()) < 1.3, (findings.passes, planned)


# ---- bad input ----


def test_networks_and_images_of_other_classes_are_refused():
    other = brittle.images()
    with pytest.raises(DataError, match="has other classes than the model"):
        AdversarialTask(brittle.model(), replace(other, classes=("a", "b", "c", "d")))
    with pytest.raises(DataError, match="share"):
        AdversarialTask(brittle.model(), other, elsewhere=other.subset([0]))


def test_a_network_that_returns_probabilities_is_refused():
    model = brittle.model()
    certain = Classifier(torch.nn.Sequential(model.classifier.network, torch.nn.Softmax(1)), classes=brittle.CLASSES)
    with pytest.raises(ModelError, match="remove the softmax"):
        AdversarialTask(replace(model, classifier=certain), brittle.images())


def test_every_round_must_be_able_to_show_that_its_share_of_the_guard_holds():
    with pytest.raises(DataError, match="cannot show that accuracy falls by"):
        split_of(task(), OPTIONS, replace(ATTACKS, rounds=2))


def test_too_few_images_say_how_many_are_needed():
    asked = AdversarialTask(brittle.model(), brittle.images(5))
    with pytest.raises(DataError, match="has 20 images, but 34 are needed"):
        split_of(asked, OPTIONS, ATTACKS)
    with pytest.raises(UsageError, match="at least 10"):
        AttackOptions(images=(10, 10, 5))


# ---- statistics ----


def test_shares_and_differences_are_counts_over_the_same_images():
    _, findings, result = repaired()
    replayed = next(each for each in findings.judged.attempts if each.key == "replay")
    share = result.share("repaired", "target success", "replay")
    assert (share.n, share.value) == (40, replayed.outcomes["repaired"].hit.mean())
    assert share.low <= share.value <= share.high
    found = next(entry for entry in result.differences if (entry.metric, entry.group) == ("target success", "replay"))
    assert found.value == pytest.approx(share.value - result.share("original", "target success", "replay").value)
    assert (found.claim, found.high < 0) == ("better", True)
    untargeted = {attempt.key for attempt in findings.judged.attempts if not attempt.targeted}
    assert untargeted == {"square", "apgd", "worst"}
    assert not any(entry.metric == "target success" and entry.group in untargeted for entry in result.shares)


def test_the_worst_row_counts_the_labels_that_survive_all_attacks_afresh():
    _, findings, _ = repaired()
    rows = {attempt.key: attempt for attempt in findings.judged.attempts}
    survive = np.ones(16, bool)
    for key in ("square", "pgd", "apgd"):
        survive &= rows[key].outcomes["original"].recovered
    np.testing.assert_array_equal(rows["worst"].outcomes["original"].recovered, survive)


def test_restarts_are_those_of_pgd_apgd_and_the_sweep_and_stand_in_their_rows(monkeypatch):
    asked, findings, result = repaired()
    made = findings.made["report"]
    used = []
    tries = robustness._tries
    monkeypatch.setattr(
        robustness, "_tries", lambda *given: used.append((type(given[3]).__name__, round(given[3].eps * 255, 4), given[5])) or tries(*given)
    )
    settings = {"carriers": {}, "elsewhere": None}
    clean = asked.images.subset(attacked_rows(asked, findings.split, OPTIONS, ATTACKS)["report"])
    effort = replace(ATTACKS.effort, restarts=3, adaptive=4, queries=2, checked=1)
    run = Run.start(replace(OPTIONS, seed=0, batch=32))
    with run.phase("evaluation"):
        judged = judge({"original": asked.model.classifier}, made, clean, effort=effort, run=run, **settings)
    starts = {(name, eps): restarts for name, eps, restarts in reversed(used)}  # the sanity checks come last
    assert (starts["PGD", 16.0], starts["PGD", 0.0625], starts["APGDT", 16.0], starts["Square", 16.0]) == (3, 3, 3, 1)
    said = {attempt.key: attempt.description for attempt in judged.attempts}
    assert [said[key].rpartition("; ")[2] for key in ("square", "pgd", "apgd")] == ["1 start", "3 starts", "3 starts"]
    points = evaluation.sweep_points(judged.sweeps, 0.95)
    assert {point.restarts for point in points} == {3}
    assert "3 starts within each" in adversarial_sections.sweep(changed(result, {"sweep": points})).caption
    more, once = (replace(effort, restarts=restarts).passes(made.method, 40, columns=2, carriers=0, elsewhere=0) for restarts in (3, 1))
    each = made.method.passes + 1
    apgd = APGDT(steps=effort.apgd_steps, classes=effort.apgd_classes).passes + 1
    assert more - once == pytest.approx(2 * 2 * 4 * (each + apgd + (len(robustness.EPS_GRID) - 1) * each / 2))


def test_the_mean_over_transfer_attacks_counts_images_and_not_attacks():
    """The same images five times over are no more images: the interval is that of one attack."""
    _, findings, _ = repaired()
    replayed = next(each for each in findings.judged.attempts if each.key == "replay")
    before, after = (Outcome(np.arange(40) < hits, np.arange(40) >= hits, 40.0) for hits in (30, 20))
    alike = [replace(replayed, key=f"FGSM-{n}", kind="transfer", outcomes={"original": before, "repaired": after}) for n in range(5)]
    right = {column: np.ones(40, bool) for column in ("original", "repaired")}
    found = {entry.group: entry for entry in evaluation.differences(alike, right, 0.95) if entry.metric == "target success"}
    mean, single = found["transfer-mean"], found["FGSM-0"]
    assert (mean.n, mean.value, mean.claim) == (40, pytest.approx(-0.25), "better")
    assert mean.high - mean.low == pytest.approx(single.high - single.low, rel=0.15)
    assert "transfer-mean" not in {entry.group for entry in evaluation.differences(alike[:1], right, 0.95)}


def test_without_a_gain_against_the_worst_attack_the_verdict_claims_stored_images_only():
    _, findings, _ = repaired()
    attempts = [
        replace(each, outcomes=each.outcomes | {"repaired": each.outcomes["original"]})
        if each.kind in ("worst", "adaptive", "black box")
        else each
        for each in findings.judged.attempts
    ]
    found = verdict(evaluation.differences(attempts, findings.clean, 0.95), attempts, [], filters=4, eps=16 / 255, allowed=0.05, level=0.95)
    assert found.outcome == "repaired against stored images"
    assert "no gain can be shown against an adversary who attacks the repaired network itself at eps 16/255" in found.headline
    assert found.sentences[0].startswith(
        "Against an adversary who attacks the repaired network itself at eps 16/255 no gain can be shown: recovered label"
    )


def test_the_verdict_holds_the_repair_against_a_dropout_trained_network_too():
    _, findings, _ = repaired()
    columns = findings.judged.attempts, findings.clean
    attempts = [replace(each, outcomes=each.outcomes | {"dropout": each.outcomes["original"]}) for each in columns[0]]
    changed = evaluation.differences(attempts, columns[1] | {"dropout": columns[1]["original"]}, 0.95)
    found = verdict(changed, attempts, [], filters=4, eps=16 / 255, allowed=0.05, level=0.95)
    (said,) = (
        sentence for sentence in found.sentences if sentence.startswith("Against the dropout-trained network: target success under ")
    )
    fall = next(entry.value for entry in changed if (entry.first, entry.metric, entry.group) == ("dropout", "target success", "replay"))
    assert f"is lower by {-100 * fall:.1f} percentage points" in said
    assert "recovered label under Worst of" in said
    assert "clean accuracy cannot be told apart" in said


def test_adversaries_of_a_kind_are_named_where_they_differ_and_counted_where_they_do_not():
    _, findings, _ = repaired()
    kind = [attempt for attempt in findings.judged.attempts if attempt.kind == "replay"]
    three = [replace(kind[0], key=f"stored-{number}", title=f"attack {number}") for number in (1, 2, 3)]
    alike = [replace(each, outcomes=each.outcomes | {"repaired": each.outcomes["original"]}) for each in three]

    def about_stored(attempts):
        changed = evaluation.differences(attempts, findings.clean, 0.95)
        found = verdict(changed, attempts, [], filters=4, eps=16 / 255, allowed=0.05, level=0.95)
        return next(sentence for sentence in found.sentences if sentence.startswith("Stored images"))

    assert "more labels are recovered under all of these 3; fewer targets are reached under all of these 3." in about_stored(three)
    assert "no difference in recovered labels can be shown under any of these 3;" in about_stored(alike)
    mixed = about_stored([*three[:2], alike[2]])
    assert "more labels are recovered under attack 1, attack 2; no difference in recovered labels can be shown under attack 3;" in mixed


def test_the_sweep_and_pgd_afresh_say_the_same_of_the_same_bound():
    _, findings, _ = repaired()
    pgd = next(each for each in findings.judged.attempts if each.key == "pgd")
    for column, swept in findings.judged.sweeps.items():
        own = swept.eps.index(ATTACKS.method.eps)
        np.testing.assert_array_equal(swept.hit[own], swept.hit[own - 1] | pgd.outcomes[column].hit)


def test_the_claims_that_the_verdict_rests_on_do_not_pay_for_the_other_rows():
    """Eight images of eight: p = .008, which Holm over a dozen adversaries would throw away."""
    _, findings, _ = repaired()
    eight = [
        replace(each, outcomes={name: Outcome(found.hit[:8], found.recovered[:8], 8.0) for name, found in each.outcomes.items()})
        for each in findings.judged.attempts
    ]
    found = {(entry.metric, entry.group): entry for entry in evaluation.differences(eight, findings.clean, 0.95)}
    assert found["recovered label", "worst"].p_adjusted == found["recovered label", "worst"].p_value == pytest.approx(2 * 0.5**8)
    assert found["recovered label", "worst"].claim == "better"
    assert found["recovered label", "pgd"].p_adjusted > found["recovered label", "pgd"].p_value


def test_attacks_that_do_not_work_make_no_repair():
    _, findings, result = repaired()
    flagged = [each.model_copy(update={"flags": ["the gradient vanishes"]}) for each in result.extra.strengths]
    found = verdict(result.differences, findings.judged.attempts, flagged, filters=4, eps=16 / 255, allowed=0.05, level=0.95)
    assert found.outcome == "repaired against stored images"
    assert "original network: the gradient vanishes; repaired network: the gradient vanishes" in found.sentences[-1]


def test_what_got_worse_comes_first():
    _, findings, _ = repaired()
    wrong = findings.clean | {"repaired": ~findings.clean["original"]}
    changed = evaluation.differences(findings.judged.attempts, wrong, 0.95)
    found = verdict(changed, findings.judged.attempts, [], filters=4, eps=16 / 255, allowed=0.05, level=0.95)
    assert found.outcome == "guard broken"
    assert "the guard allows 5 points, so that this is no repair; measurably worse: clean accuracy" in found.headline
    assert found.sentences[0] == found.worse[0]
    assert found.worse[0].startswith("Clean accuracy fell by 100.0 percentage points")
    assert verdict(changed, findings.judged.attempts, [], filters=4, eps=16 / 255, allowed=1.0, level=0.95).outcome == "repaired"


def test_a_fall_of_clean_accuracy_within_the_guard_or_within_chance_breaks_nothing():
    _, findings, _ = repaired()
    clean = findings.clean["original"].copy()
    few, some = (clean & (np.arange(len(clean)) >= lost) for lost in (2, 10))
    outcomes = {}
    for lost, after in (("few", few), ("some", some)):
        changed = evaluation.differences(findings.judged.attempts, findings.clean | {"repaired": after}, 0.95)
        outcomes[lost] = [
            verdict(changed, findings.judged.attempts, [], filters=4, eps=16 / 255, allowed=allowed, level=0.95).outcome
            for allowed in (0.01, 0.2)
        ]
    assert outcomes == {"few": ["repaired", "repaired"], "some": ["guard broken", "repaired"]}


def test_the_sign_test_counts_images_that_need_more_change():
    def swept(rows):
        return Sweep((0.1, 0.2), np.array(rows), 0)

    before, after = swept([[True] * 8, [True] * 8]), swept([[False] * 7 + [True], [True] * 8])
    fine = Sanity((0.1,), np.ones((1, 8), bool), (1,), np.ones((1, 8), bool), np.ones(8, bool), np.zeros(8, bool), 0)
    original, repaired_one = evaluation.strengths({"original": before, "repaired": after}, {"original": fine, "repaired": fine})
    assert (original.median_eps, original.gained, repaired_one.median_eps) == (0.1, None, 0.2)
    assert (repaired_one.gained, repaired_one.lost, repaired_one.p_value) == (7, 0, pytest.approx(2 * 0.5**7))


@pytest.mark.parametrize(("gained", "lost", "said"), [(52, 0, "larger"), (1, 30, "smaller"), (5, 3, None)])
def test_a_larger_eps_that_pgd_needs_is_a_fact_about_pgd_and_no_gain(gained, lost, said):
    _, findings, result = repaired()
    p_value = float(stats.binomtest(gained, gained + lost).pvalue)
    strengths = [
        Strength(column="original", n=64, median_eps=0.5 / 255, gained=None, lost=None, p_value=None, checked=4, flags=[]),
        Strength(column="repaired", n=64, median_eps=0.5 / 255, gained=gained, lost=lost, p_value=p_value, checked=4, flags=[]),
    ]
    worst_alike = [entry.model_copy(update={"claim": "no claim"}) for entry in result.differences]
    found = verdict(worst_alike, findings.judged.attempts, strengths, filters=4, eps=16 / 255, allowed=0.05, level=0.95)
    assert found.outcome == "no claim"
    assert any(f"more on {gained} images, less on {lost}, the same on {64 - gained - lost}" in sentence for sentence in found.sentences)
    alone = [sentence for sentence in found.sentences if "PGD alone" in sentence]
    assert len(alone) == (said is not None)
    if said:
        assert f"a {said} eps on the repaired network for {max(gained, lost)} of 64 images" in alone[0]
        assert "APGD-T and Square were not run within other bounds to confirm it" in alone[0]
        assert "gain" not in alone[0]


def test_the_rank_correlation_leaves_out_filters_that_move_nothing():
    screens = np.array([[0.0, 0.0, 1, 2, 3, 4, 5], [0.0, 0.0, 2, 1, 3, 5, 4]])
    found = rank_correlation(screens, 0.95, "values")
    assert (found.n, round(found.value, 2)) == (5, 0.8)
    assert found.low < found.value < found.high
    assert rank_correlation(np.zeros((2, 9)), 0.95, "values") is None


def test_success_minus_accuracy_is_harmful_where_it_is_high():
    asked, findings, _ = repaired()
    worth = AttackSuccess().on(findings.made["attribute"].toward_targets) - Accuracy().on(asked.images)
    assert (worth.harmful, worth.scale) == (1, pytest.approx(2.0))


# ---- instead of a repair ----


@cache
def instead():
    asked, options = task(), replace(OPTIONS, alternatives=True)
    findings = repair(asked, Run.start(options), ATTACKS)
    return asked, options, findings, result_of(asked, options, ATTACKS, findings)


def test_adversarial_fine_tuning_is_judged_by_every_adversary_beside_the_repair():
    _, _, findings, result = instead()
    assert list(findings.networks) == ["original", "repaired", "adversarially_trained"]
    assert [column.key for column in result.columns] == list(findings.networks)
    for group in result.groups:
        assert 0 <= result.share("adversarially_trained", "recovered label", group).value <= 1
    pairs = {(entry.first, entry.second) for entry in result.differences}
    assert pairs == {("original", "repaired"), ("adversarially_trained", "repaired"), ("original", "adversarially_trained")}
    rows = {each.column: each for each in result.alternatives}
    assert list(rows) == ["original", "repaired", "adversarially_trained"]
    assert (rows["adversarially_trained"].images, rows["repaired"].images) == (120, 120)
    assert rows["adversarially_trained"].passes == cost(ATTACKS.method, 60, 90) == 2 * (3 * 60 * (3 * 6 + 3) + 3 * 90) + 90


def test_the_verdict_holds_the_repair_against_no_network_that_stayed_as_it_was_given():
    """At its low learning rate a few steps leave this network as brittle as it was."""
    _, _, findings, result = instead()
    assert hash_state(findings.networks["adversarially_trained"].network.state_dict()) == hash_state(
        findings.networks["original"].network.state_dict()
    )
    (said,) = [sentence for sentence in result.verdict.sentences if "Adversarially fine-tuned" in sentence]
    assert said.startswith("Adversarially fine-tuned has no setting that gains within the guard")
    entry = next(each for each in result.alternatives if each.column == "adversarially_trained")
    assert (entry.as_given, entry.folds, entry.changes_weights) == (1, 1, False)
    assert result.columns[-1].label == "Adversarially fine-tuned (as given)"


def test_adversarial_fine_tuning_that_fails_is_left_out_with_the_reason(monkeypatch):
    def fail(*_, **__):
        raise ModelError("the training loss became nan in epoch 1; lower the learning rate")

    monkeypatch.setattr(adversarial_training, "train_against", fail)
    asked, options = task(), replace(OPTIONS, alternatives=True)
    findings = repair(asked, Run.start(options), ATTACKS)
    result = result_of(asked, options, ATTACKS, findings)
    assert list(findings.networks) == ["original", "repaired"]
    entry = next(each for each in result.alternatives if each.column == "adversarially_trained")
    assert entry.left_out == "the training loss became nan in epoch 1; lower the learning rate"
    assert any("Adversarially fine-tuned was left out: the training loss became nan" in sentence for sentence in result.method)
    assert not any("Adversarially fine-tuned" in sentence for sentence in result.verdict.sentences)


def test_adversarial_fine_tuning_stands_under_the_guard_of_the_repair(monkeypatch):
    """A network that changes a few answers either way, and hardly a probability: too much for a guard on accuracy, not for that of choosing."""
    asked, options, findings, _ = instead()
    original, stored, split = findings.networks["original"], findings.made["choose"], findings.split
    wavering = brittle.model().classifier
    labels = asked.images.subset(split.choose).labels
    turned = np.arange(len(labels)) % 4 < 2

    def says(classifier, images, _run):
        """Sure of a stored image's label after training alone; of clean ones one way or the other by a hair."""
        if images is stored.images:
            return np.eye(4)[images.labels if classifier is wavering else (images.labels + 1) % 4]
        right = turned if classifier is original else np.roll(turned, 1)
        other = np.eye(4)[np.where(right, images.labels, (images.labels + 1) % 4)]
        return 1e-3 * other

    monkeypatch.setattr(adversarial_training, "predict_logits", says)
    monkeypatch.setattr(adversarial_training, "train_against", lambda *_, look, **__: look(1, wavering))
    tried = harden(asked, {"original": original}, findings.made, split, Run.start(options), ATTACKS)
    assert not tried.as_given
    assert paired_drop_bound(turned, np.roll(turned, 1), 0.9) > options.max_clean_drop

    def unsure(classifier, images, _run):
        """No clean answer changes, and every one is given with less probability."""
        if images is stored.images:
            return np.eye(4)[images.labels if classifier is wavering else (images.labels + 1) % 4]
        return (3.0 if classifier is original else 1.0) * np.eye(4)[images.labels]

    monkeypatch.setattr(adversarial_training, "predict_logits", unsure)
    tried = harden(asked, {"original": original}, findings.made, split, Run.start(options), ATTACKS)
    assert tried.as_given
    assert "clean accuracy from 100.0 to 100.0 % (bound on the fall: " in tried.chosen


def test_without_it_nothing_changes():
    _, findings, plain = repaired()
    _, _, more, result = instead()
    assert plain.alternatives == []
    assert findings.hardened is None
    assert [share for share in result.shares if share.column != "adversarially_trained"] == plain.shares
    assert [entry for entry in result.differences if "adversarially_trained" not in (entry.first, entry.second)] == plain.differences
    assert {part: more.passes[part] for part in findings.passes if part != "evaluation"} == {
        part: passes for part, passes in findings.passes.items() if part != "evaluation"
    }


def test_adversarial_fine_tuning_is_planned_kept_and_shown(tmp_path, monkeypatch):
    asked, options, findings, result = instead()
    assert plan(asked, options, ATTACKS)["alternatives"] == findings.passes["alternatives"]
    unfinished = RunStore(tmp_path / "run", configuration(asked, options, ATTACKS), command="again")

    def stop(what, made, planned):
        if what.startswith("eps sweep"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair(asked, Run.start(options, store=unfinished, progress=_naming(stop, monkeypatch)), ATTACKS)
    monkeypatch.undo()
    monkeypatch.setattr(adversarial_training, "train_against", lambda *_, **__: pytest.fail("trained again"))
    again = repair(asked, Run.start(options, store=unfinished), ATTACKS)
    for name, weights in findings.networks["adversarially_trained"].network.state_dict().items():
        assert torch.equal(again.networks["adversarially_trained"].network.state_dict()[name], weights)
    assert result_of(asked, options, ATTACKS, again).shares == result.shares
    results.write_run(tmp_path / "done", (asked, ATTACKS), findings, result)
    assert AdversarialResult.read(tmp_path / "done" / "result.json") == result
    for view in ("report.html", "report.md"):
        text = (tmp_path / "done" / view).read_text()
        assert "Alternatives" in text
        assert adversarial_training.DESCRIPTION.label in text


def test_adversarial_fine_tuning_is_chosen_by_labels_recovered_within_the_guard(monkeypatch):
    """One network recovers all labels and has lost half of the clean images, the other recovers some and loses nothing."""
    asked, options, findings, _ = instead()
    original, stored, split = findings.networks["original"], findings.made["choose"], findings.split
    broken, better = (brittle.model().classifier for _ in range(2))
    shares = {broken: (0.5, 1.0), better: (1.0, 0.6), original: (1.0, 0.0)}

    def says(classifier, images, _run):
        """Right on this share of the images, first clean ones, then stored ones."""
        right = np.arange(len(images)) < shares[classifier][images is stored.images] * len(images)
        return np.eye(4)[np.where(right, images.labels, (images.labels + 1) % 4)]

    def chosen(*found):
        """What is chosen where the learning rates leave these networks after their first epoch."""
        left = dict(zip(LEARNING_RATES, found, strict=True))
        monkeypatch.setattr(adversarial_training, "train_against", lambda *_, learning_rate, look, **__: look(1, left[learning_rate]))
        networks = {"original": original}
        tried = harden(asked, networks, findings.made, split, Run.start(options), ATTACKS)
        return tried.chosen, networks["adversarially_trained"]

    monkeypatch.setattr(adversarial_training, "predict_logits", says)
    assert chosen(broken, better)[0].startswith(f"1 epoch of at most {EPOCHS} at a learning rate of {LEARNING_RATES[1]:g}, over 60 images")
    assert chosen(better, broken)[0].startswith(f"1 epoch of at most {EPOCHS} at a learning rate of {LEARNING_RATES[0]:g}")
    about, network = chosen(broken, broken)
    assert "recovered labels from 0.0 to 100.0 % and clean accuracy from 100.0 to 50.0 %" in about
    assert chosen(original, original)[0].endswith("so the network stays unchanged")
    assert hash_state(network.network.state_dict()) == hash_state(original.network.state_dict())


def test_a_network_that_cannot_be_fooled_has_nothing_to_be_done_instead():
    asked, options = task(fragile=False), replace(OPTIONS, alternatives=True)
    findings = repair(asked, Run.start(options), ATTACKS)
    result = result_of(asked, options, ATTACKS, findings)
    assert list(findings.networks) == ["original"]
    assert result.alternatives == []
    assert "Nothing was tried instead of a repair, since there was nothing to repair." in result.limits
