"""Adversarial repair: filters that let an attack through are valued, selected and frozen, in rounds, with training beside."""

from dataclasses import replace

import brittle
import numpy as np
import pytest
import torch
from adversarial_toy import ATTACKS, LITTLE, OPTIONS, repaired, result_of, task

from repairkit.attacks.generate import AdversarialSet, attack, draw_targets
from repairkit.attacks.methods import PGD
from repairkit.data.training_hashes import check_unseen
from repairkit.errors import DataError, ModelError, UsageError
from repairkit.experiments import results
from repairkit.experiments.adversarial.report import AdversarialResult
from repairkit.experiments.adversarial.rounds import FineTuned, margins
from repairkit.experiments.adversarial.run import configuration, plan, repair
from repairkit.experiments.attack_task import (
    PARTS,
    PRESETS,
    AttackOptions,
    AttackTask,
    attack_succeeds,
    attacked_rows,
    check_hits,
    exclude_prior_hits,
    split_of,
)
from repairkit.network.classifier import Classifier
from repairkit.network.filters import FilterId
from repairkit.network.freezing import Freeze
from repairkit.objectives import Accuracy, AttackSuccess
from repairkit.repair import repair as repair_module
from repairkit.run.context import Run
from repairkit.run.ledger import Ledger
from repairkit.run.store import RunStore


def names(patch):
    return {str(culprit.filter) for culprit in patch.culprits}


# ---- valuing and freezing ----


def test_the_filters_that_let_the_attack_through_are_frozen_and_no_others():
    _, findings, result = repaired()
    assert sorted(f"{entry.layer}:{entry.channel}" for entry in result.frozen) == sorted(brittle.CULPRITS)
    values = dict(zip(findings.rounds[0].attribution.ids, findings.rounds[0].attribution.value, strict=True))
    assert values["0:0"] < 0 < min(values[name] for name in brittle.CULPRITS)
    assert [values["0:7"], values["0:8"]] == pytest.approx([0, 0], abs=1e-6)


def test_the_repaired_weights_load_into_the_plain_architecture_and_withstand_every_attack():
    _, findings, result = repaired()
    brittle.network(brittle=False).load_state_dict(findings.networks["repaired"].network.state_dict(), strict=True)
    assert result.verdict.outcome == "repaired"
    for group in result.groups:
        assert result.share("repaired", "recovered label", group).value == 1.0
        before = result.share("original", "recovered label", group).value
        assert before == 1.0 if group == "noise" else before < 0.2
    assert result.share("repaired", "clean accuracy").value == 1.0


def test_the_parts_share_no_clean_image():
    toy, findings, _ = repaired()
    origins = [set(findings.made[part].images.origins.tolist()) for part in PARTS]
    assert [len(part) for part in origins] == [30, 30, 40]
    assert len(set.union(*origins)) == 100
    clean = [set(toy.images.origins[getattr(findings.split, part)].tolist()) for part in PARTS]
    assert all(attacked <= whole for attacked, whole in zip(origins, clean, strict=True))


def test_constants_are_means_over_the_clean_attribution_images():
    toy, findings, _ = repaired()
    rows = findings.split.attribute
    with torch.no_grad():
        signals = toy.model.classifier.network[:2](toy.images.subset(rows).batch(np.arange(len(rows))))
    np.testing.assert_allclose(findings.rounds[0].filters.constants, signals.mean(dim=(0, 2, 3)).numpy(), rtol=1e-5, atol=1e-6)


def test_freezing_one_culprit_alone_lowers_success_and_freezing_a_colour_does_not():
    """A literal look at the ends of the ranking, filter by filter."""
    toy, findings, _ = repaired()
    constants, stored, success = findings.rounds[0].filters.constants, findings.made["report"], {}
    for name in ("0:0", *brittle.CULPRITS):
        with Freeze(toy.model.classifier.network, {FilterId.parse(name): float(constants[int(name[2:])])}) as _, torch.no_grad():
            predicted = toy.model.classifier.network(stored.images.batch(np.arange(len(stored)))).argmax(1).numpy()
        success[name] = float((predicted == stored.targets).mean())
    assert max(success[name] for name in brittle.CULPRITS) < success["0:0"]


def test_the_papers_ranking_and_selection_are_options():
    attacks, options = replace(LITTLE, ranking="success"), replace(OPTIONS, strategy="prefix")
    findings = repair(task(), Run.start(options), attacks)
    frozen = result_of(task(), options, attacks, findings).frozen
    assert {f"{entry.layer}:{entry.channel}" for entry in frozen} <= set(brittle.CULPRITS)
    assert frozen


def test_selection_measures_clipped_margins_on_adversarial_images_and_probabilities_on_clean_ones():
    toy, findings, _ = repaired()
    adversarial, clean = findings.made["choose"], toy.images.subset(findings.split.choose)
    logits = torch.randn(len(adversarial) + len(clean), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20
    rows, n = np.arange(len(adversarial)), len(adversarial)
    expected = (logits[rows, adversarial.images.labels] - logits[rows, adversarial.targets]).clamp(max=3)
    probability = torch.softmax(logits[n:], 1)[np.arange(len(clean)), clean.labels]
    np.testing.assert_allclose(margins(adversarial, clean)(logits, np.arange(len(logits))), torch.cat([expected, probability]))


def test_success_minus_accuracy_is_harmful_where_it_is_high():
    toy, findings, _ = repaired()
    objective = AttackSuccess().on(findings.made["attribute"].toward_targets) - Accuracy().on(toy.images)
    assert (objective.harmful, objective.scale) == (1, pytest.approx(2.0))


# ---- an attack that does not succeed ----


@pytest.mark.parametrize("alternatives", [False, True])
def test_a_network_that_the_attack_cannot_fool_is_left_alone(alternatives):
    toy, options = task(fragile=False), replace(OPTIONS, alternatives=alternatives)
    findings = repair(toy, Run.start(options), LITTLE)
    result = result_of(toy, options, LITTLE, findings)
    assert result.verdict.outcome == "cannot be fooled"
    assert (result.frozen, result.extra.frontier, result.extra.sweep, result.extra.correlation, findings.patch) == ([], [], [], None, None)
    assert (list(findings.networks), result.alternatives, result.differences) == (["original"], [], [])


def with_hits(made: AdversarialSet, hits: int, of: int) -> AdversarialSet:
    return replace(made.subset(np.arange(of)), hit=np.arange(of) < hits)


def test_whether_an_attack_succeeds_is_a_matter_of_the_rate_and_too_few_images_are_no_verdict():
    made = repaired()[1].made["attribute"]
    assert attack_succeeds([with_hits(made, 9, 12)])
    assert attack_succeeds([with_hits(made, 2, 30)])
    assert not attack_succeeds([with_hits(made, 1, 20)])
    check_hits([with_hits(made, 10, 12), with_hits(made, 10, 30)], "colours")
    with pytest.raises(DataError, match=r"colours: the attack takes 9 of 12 images .* 10 in each part.*\(75 %\) attack 14 or more"):
        check_hits([with_hits(made, 9, 12)], "colours")


def test_a_run_with_too_few_hits_ends_before_filters_are_valued(monkeypatch):
    def nine_of_twelve(*given, **options):
        made = attack(*given, **options)
        return replace(made, hit=np.arange(len(made)) % 4 != 0)

    monkeypatch.setattr("repairkit.experiments.adversarial.rounds.attack", nine_of_twelve)
    with pytest.raises(DataError, match="plain colours: the attack takes 9 of 12 and 9 of 12 images to their target"):
        repair(task(), Run.start(OPTIONS), replace(ATTACKS, images=(12, 12, 40)))


def test_images_taken_for_their_target_without_any_attack_do_not_count():
    """Four images that the network gets wrong anyway: an attack that does nothing hits their targets."""
    toy, wrong = task(), np.arange(20) < 4
    clean = toy.images.subset(np.arange(20))
    mistaken = replace(clean, labels=np.where(wrong, 1, clean.labels))
    targets = np.where(wrong, clean.labels, (clean.labels + 1) % 4)
    idle = AdversarialSet(mistaken, targets, wrong, ATTACKS.method, 0)
    left = exclude_prior_hits(toy.model.classifier, idle, mistaken, Run.start(OPTIONS))
    assert (len(left), attack_succeeds([idle]), attack_succeeds([left])) == (16, True, False)


# ---- rounds and fine-tuning ----

TWO = replace(LITTLE, rounds=2)
WIDE = replace(OPTIONS, max_filters=2, max_clean_drop=0.1)


def test_a_second_round_attacks_the_network_that_the_first_left():
    toy = task()
    findings = repair(toy, Run.start(WIDE), TWO)
    first, second = findings.rounds
    assert first.choice.chosen == second.choice.chosen == 2
    assert names(findings.patch) == set(brittle.CULPRITS)
    rows = attacked_rows(toy, split_of(toy, WIDE, TWO), WIDE, TWO)["attribute"]
    targets = draw_targets(toy.images.labels, 4, WIDE.seed)[rows]
    after_one = toy.model.classifier.with_network(first.patch.apply(toy.model.classifier.network))
    again = attack(after_one, toy.images.subset(rows), targets, TWO.method, seed=WIDE.seed, batch=WIDE.batch)
    np.testing.assert_array_equal(again.images.pixels, second.made["attribute"].images.pixels)
    whole = findings.patch.apply(toy.model.classifier.network).state_dict()
    for name, weights in findings.networks["repaired"].network.state_dict().items():
        torch.testing.assert_close(weights, whole[name])


def test_a_filter_that_an_earlier_round_froze_is_not_frozen_again(monkeypatch):
    """The second round finds the frozen filters highest once more."""
    valued, attribute_network = [], repair_module.attribute_network

    def as_before(*given, **options):
        attributed = attribute_network(*given, **options)
        valued.append(attributed.attribution)
        return replace(attributed, attribution=replace(valued[-1], value=valued[0].value))

    monkeypatch.setattr(repair_module, "attribute_network", as_before)
    findings = repair(task(), Run.start(replace(WIDE, strategy="prefix")), TWO)
    first, second = (names(played.patch) for played in findings.rounds)
    assert (len(first), len(second), first & second) == (2, 2, set())
    values = dict(zip(findings.rounds[1].attribution.ids, findings.rounds[1].attribution.value, strict=True))
    assert [values[name] for name in first] == [0, 0]


def test_a_round_on_a_network_that_the_attack_no_longer_fools_is_not_played():
    findings = repair(task(), Run.start(replace(OPTIONS, max_clean_drop=0.1)), TWO)
    assert len(findings.rounds) == 1
    assert findings.ended.startswith("in round 2 ")


def test_rounds_and_training_go_on_from_the_trained_network_and_are_restored_to_the_same_bits(tmp_path):
    attacks, toy = replace(TWO, finetune_epochs=1), task()
    store = RunStore(tmp_path / "run", configuration(toy, WIDE, attacks), command="again")
    findings = repair(toy, Run.start(WIDE, store=store), attacks)
    final = findings.networks["repaired"].network.state_dict()
    assert not any(final["0.weight"][culprit.channel].any() for culprit in findings.patch.culprits)
    assert findings.trained == 2
    assert not any(point.chosen for point in result_of(toy, WIDE, attacks, findings).extra.frontier)
    again = repair(toy, Run.start(WIDE, store=store), attacks)
    assert all(torch.equal(weights, final[name]) for name, weights in again.networks["repaired"].network.state_dict().items())


def test_a_round_that_froze_nothing_trained_nothing():
    toy, findings, _ = repaired()
    (first,) = findings.rounds
    choice = replace(first.choice, path=first.choice.path[:1], chosen=0)
    idle = replace(first, choice=choice, patch=first.patch.model_copy(update={"culprits": []}))
    trained = replace(first, tuned=FineTuned(bound=0.01, allowed=0.025))
    assert replace(findings, rounds=[trained, idle]).trained == 1
    result = result_of(toy, OPTIONS, replace(ATTACKS, rounds=2, finetune_epochs=3), replace(findings, rounds=[trained, idle]))
    assert result.verdict.headline.startswith("Freezing 4 filters and 3 epochs of training: ")


def test_fine_tuning_keeps_the_filters_frozen_and_is_compared_with_fine_tuning_alone(tmp_path):
    attacks, toy = replace(LITTLE, finetune_epochs=1), task()
    findings = repair(toy, Run.start(OPTIONS), attacks)
    assert list(findings.networks) == ["original", "repaired", "finetuned"]
    for culprit in findings.patch.culprits:
        tuned, alone = (findings.networks[column].network[0] for column in ("repaired", "finetuned"))
        assert not tuned.weight[culprit.channel].any()
        assert float(tuned.bias[culprit.channel]) == pytest.approx(culprit.constant)
        assert alone.weight[culprit.channel].any()
    result = result_of(toy, OPTIONS, attacks, findings)
    pairs = {(entry.first, entry.second) for entry in result.differences}
    assert pairs == {("original", "repaired"), ("finetuned", "repaired"), ("original", "finetuned")}
    assert findings.rounds[0].tuned.kept
    results.write_run(tmp_path / "run", (toy, ATTACKS), findings, result)
    with pytest.raises(DataError, match=r"are among the 60 that repaired\.safetensors was trained on"):
        check_unseen(tmp_path / "run" / "repaired.safetensors", report=toy.images)
    assert not (tmp_path / "run" / "patch.json").exists()


def test_epochs_that_break_the_guard_are_undone(monkeypatch):
    """Training that forgets everything: what is handed over is the network as it was before."""

    def forget(network, images, **options):
        return network.with_weights({key: torch.zeros_like(value) for key, value in network.network.state_dict().items()})

    monkeypatch.setattr("repairkit.experiments.adversarial.rounds.finetune", forget)
    attacks, toy = replace(LITTLE, finetune_epochs=2), task()
    findings = repair(toy, Run.start(OPTIONS), attacks)
    tuned = findings.rounds[0].tuned
    assert (tuned.kept, findings.trained) == (False, 0)
    assert tuned.bound > 0.5 > tuned.allowed == OPTIONS.max_clean_drop
    plain = findings.patch.apply(toy.model.classifier.network).state_dict()
    assert all(torch.equal(weights, plain[name]) for name, weights in findings.networks["repaired"].network.state_dict().items())
    result = result_of(toy, OPTIONS, attacks, findings)
    assert any("2 epochs of training broke the guard" in sentence for sentence in result.verdict.sentences)
    assert {point.filters for point in result.extra.frontier if point.chosen} == {4}


# ---- the run directory, going on, and the plan ----


def test_the_run_directory_holds_the_images_with_their_targets(tmp_path):
    toy, findings, result = repaired()
    results.write_run(tmp_path / "run", (toy, ATTACKS), findings, result)
    written = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {"run.json", "result.json", "report.html", "report.md", "attribution.parquet", "patch.json", "repaired.safetensors"} <= written
    stored = AdversarialSet.read(tmp_path / "run" / "adversarial" / "report.npz")
    np.testing.assert_array_equal(stored.targets, findings.made["report"].targets)
    assert AdversarialResult.read(tmp_path / "run" / "result.json") == result


def test_what_was_measured_before_an_interrupt_is_not_measured_again(tmp_path, monkeypatch):
    toy = task()
    store = RunStore(tmp_path / "run", configuration(toy, OPTIONS, ATTACKS), command="again")
    show, shown = Ledger.progress, []

    def stop(self, part, made, planned):
        if part.startswith("eps sweep"):
            raise KeyboardInterrupt
        show(self, part, made, planned)

    monkeypatch.setattr(Ledger, "progress", stop)
    with pytest.raises(KeyboardInterrupt):
        repair(toy, Run.start(OPTIONS, store=store), ATTACKS)
    monkeypatch.setattr(Ledger, "progress", lambda self, part, made, planned: shown.append(part))
    again = repair(toy, Run.start(OPTIONS, store=store), ATTACKS)
    resumed, whole = result_of(toy, OPTIONS, ATTACKS, again), repaired()[2]
    assert (resumed.shares, resumed.differences, resumed.extra) == (whole.shares, whole.differences, whole.extra)
    assert {cost.part: cost.passes for cost in resumed.costs} == {cost.part: cost.passes for cost in whole.costs}
    assert shown
    assert not any("Square" in part or "adaptive PGD" in part for part in shown)


def test_the_configuration_tells_everything_apart_that_decides_the_run():
    toy = task()
    others = (
        configuration(toy, replace(OPTIONS, seed=1), ATTACKS),
        configuration(toy, OPTIONS, replace(ATTACKS, method=PGD(steps=7))),
        configuration(toy, OPTIONS, replace(ATTACKS, effort=PRESETS["full"])),
        configuration(replace(toy, elsewhere=None), OPTIONS, ATTACKS),
        configuration(replace(toy, carriers=(brittle.model(brittle=False),)), OPTIONS, ATTACKS),
    )
    assert all(configuration(toy, OPTIONS, ATTACKS) != other for other in others)


def test_the_plan_is_about_what_a_run_costs():
    toy, findings, _ = repaired()
    planned = plan(toy, OPTIONS, ATTACKS)
    assert planned["attack"] == pytest.approx(100 * (ATTACKS.method.passes + 1) + 60) == findings.passes["attack"]
    assert set(planned) == set(findings.passes)
    assert 0.5 < sum(findings.passes.values()) / sum(planned.values()) < 1.3, (findings.passes, planned)


# ---- bad input ----


def test_what_does_not_fit_together_is_refused():
    model, images = brittle.model(), brittle.images()
    certain = Classifier(torch.nn.Sequential(model.classifier.network, torch.nn.Softmax(1)), classes=brittle.CLASSES)
    for error, message, given in (
        (DataError, "has other classes than the model", (model, replace(images, classes=("a", "b", "c", "d")))),
        (DataError, "share", (model, images, (), images.subset([0]))),
        (ModelError, "remove the softmax", (replace(model, classifier=certain), images)),
        (UsageError, "is the network to repair itself", (model, images, (brittle.model(),))),
        (UsageError, "is a other, the model a toy", (model, images, (), None, replace(model, architecture="other"))),
    ):
        with pytest.raises(error, match=message):
            AttackTask(*given)
    with pytest.raises(UsageError, match="ranking must be"):
        AttackOptions(ranking="both")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least 10"):
        AttackOptions(images=(10, 10, 5))


def test_every_part_needs_images_enough():
    with pytest.raises(DataError, match="cannot show that accuracy falls by"):
        split_of(task(), OPTIONS, replace(ATTACKS, rounds=2))
    with pytest.raises(DataError, match="has 20 images, but 34 are needed"):
        split_of(AttackTask(brittle.model(), brittle.images(5)), OPTIONS, ATTACKS)
