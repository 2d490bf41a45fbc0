"""Adversarial fine-tuning beside a repair: chosen by labels recovered, under the guard of the repair."""

from dataclasses import replace

import brittle
import numpy as np
import pytest
import torch
from adversarial_toy import ATTACKS, LITTLE, OPTIONS, beside, repaired, result_of, task

from repairkit.alternatives import adversarial_training
from repairkit.alternatives.adversarial_training import LEARNING_RATES, adversarial_fine_tune, cost
from repairkit.errors import ModelError
from repairkit.evaluation.statistics import paired_drop_bound
from repairkit.experiments.adversarial.rounds import probability_drop_bound
from repairkit.experiments.adversarial.run import configuration, plan, repair
from repairkit.network.weights import hash_state
from repairkit.run.context import Run
from repairkit.run.store import RunStore

COLUMN = "adversarially_trained"


def weights_of(classifier):
    return hash_state(classifier.network.state_dict())


def fine_tune(options=None):
    """Fine-tuning on the images of the shared run."""
    toy, findings, _ = beside()
    learned, guarded = (toy.images.subset(rows) for rows in (findings.split.attribute, findings.split.choose))
    run = Run.start(options or replace(OPTIONS, alternatives=True))
    return adversarial_fine_tune(
        findings.networks["original"],
        ATTACKS.method,
        learned,
        findings.made["choose"].images,
        guarded,
        run,
        fall_bound=probability_drop_bound,
    )


def test_adversarial_fine_tuning_meets_every_threat_model_beside_the_repair():
    toy, findings, result = beside()
    assert list(findings.networks) == [column.key for column in result.columns] == ["original", "repaired", COLUMN]
    assert {share.group for share in result.shares if share.column == COLUMN} == {*result.groups, None}
    pairs = {(entry.first, entry.second) for entry in result.differences}
    assert pairs == {("original", "repaired"), (COLUMN, "repaired"), ("original", COLUMN)}
    rows = {entry.column: entry for entry in result.alternatives}
    assert list(rows) == ["original", "repaired", COLUMN]
    assert (rows[COLUMN].images, rows["repaired"].images) == (120, 120)
    assert rows[COLUMN].passes == cost(ATTACKS.method, 60, 90) == findings.passes["alternatives"]
    assert plan(toy, replace(OPTIONS, alternatives=True), ATTACKS)["alternatives"] == findings.passes["alternatives"]


def test_a_network_that_stayed_as_it_was_given_says_so():
    """At its low learning rate a few steps leave this network as brittle as it was."""
    _, findings, result = beside()
    assert weights_of(findings.networks[COLUMN]) == weights_of(findings.networks["original"])
    entry = next(entry for entry in result.alternatives if entry.column == COLUMN)
    assert (entry.as_given, entry.folds, entry.changes_weights) == (1, 1, False)
    assert result.columns[-1].label.endswith("(as given)")


def test_fine_tuning_that_fails_is_left_out_with_the_reason(monkeypatch):
    def fail(*_, **__):
        raise ModelError("the training loss became nan in epoch 1; lower the learning rate")

    monkeypatch.setattr(adversarial_training, "train_against", fail)
    toy, options = task(), replace(OPTIONS, alternatives=True)
    findings = repair(toy, Run.start(options), LITTLE)
    assert list(findings.networks) == ["original", "repaired"]
    entry = next(entry for entry in result_of(toy, options, LITTLE, findings).alternatives if entry.column == COLUMN)
    assert entry.left_out == "the training loss became nan in epoch 1; lower the learning rate"


def test_without_it_nothing_changes():
    (_, findings, plain), (_, more, result) = repaired(), beside()
    assert (plain.alternatives, findings.hardened) == ([], None)
    assert [share for share in result.shares if share.column != COLUMN] == plain.shares
    assert [entry for entry in result.differences if COLUMN not in (entry.first, entry.second)] == plain.differences
    parts = set(findings.passes) - {"evaluation"}
    assert {part: more.passes[part] for part in parts} == {part: findings.passes[part] for part in parts}


def test_a_resumed_run_does_not_train_again(tmp_path, monkeypatch):
    toy, options = task(), replace(OPTIONS, alternatives=True)
    store = RunStore(tmp_path / "run", configuration(toy, options, LITTLE), command="again")
    first = repair(toy, Run.start(options, store=store), LITTLE)
    monkeypatch.setattr(adversarial_training, "train_against", lambda *_, **__: pytest.fail("trained again"))
    again = repair(toy, Run.start(options, store=store), LITTLE)
    assert weights_of(again.networks[COLUMN]) == weights_of(first.networks[COLUMN])
    assert result_of(toy, options, LITTLE, again).shares == result_of(toy, options, LITTLE, first).shares


def test_the_guard_looks_at_probabilities_as_that_of_the_repair_does(monkeypatch):
    """A network that changes a few answers either way, and hardly a probability: too much for a guard on accuracy alone."""
    toy, findings, _ = beside()
    original, stored = findings.networks["original"], findings.made["choose"]
    wavering, labels = brittle.model().classifier, toy.images.subset(findings.split.choose).labels
    turned = np.arange(len(labels)) % 4 < 2

    def answer(images, right, size):
        return size * np.eye(4)[np.where(right, images.labels, (images.labels + 1) % 4)]

    def waver(classifier, images, _run):
        if images is stored.images:
            return answer(images, classifier is wavering, 1.0)
        return answer(images, turned if classifier is original else np.roll(turned, 1), 1e-3)

    def unsure(classifier, images, _run):
        if images is stored.images:
            return answer(images, classifier is wavering, 1.0)
        return answer(images, True, 3.0 if classifier is original else 1.0)

    monkeypatch.setattr(adversarial_training, "train_against", lambda *_, look, **__: look(1, wavering))
    monkeypatch.setattr(adversarial_training, "predict_logits", waver)
    assert not fine_tune()[0].as_given
    assert paired_drop_bound(turned, np.roll(turned, 1), 0.9) > OPTIONS.max_clean_drop
    monkeypatch.setattr(adversarial_training, "predict_logits", unsure)
    assert fine_tune()[0].as_given


def test_the_setting_that_recovers_most_labels_within_the_guard_is_taken(monkeypatch):
    """One network recovers all labels and has lost half of the clean images, the other recovers some and loses nothing."""
    _, findings, _ = beside()
    original, stored = findings.networks["original"], findings.made["choose"]
    broken, better = (brittle.model().classifier for _ in range(2))
    for number, classifier in enumerate((broken, better), start=1):
        with torch.no_grad():
            classifier.network[4].bias += number
    shares = {broken: (0.5, 1.0), better: (1.0, 0.6), original: (1.0, 0.0)}

    def answer(classifier, images, _run):
        """Right on this share of the images, first clean ones, then stored ones."""
        right = np.arange(len(images)) < shares[classifier][images is stored.images] * len(images)
        return np.eye(4)[np.where(right, images.labels, (images.labels + 1) % 4)]

    def taken(*networks):
        """What is taken where the learning rates leave these networks after their first epoch."""
        left = dict(zip(LEARNING_RATES, networks, strict=True))
        train = lambda *_, learning_rate, look, **__: look(1, left[learning_rate])  # noqa: E731
        monkeypatch.setattr(adversarial_training, "train_against", train)
        record, network = fine_tune()
        return record.as_given, weights_of(network)

    monkeypatch.setattr(adversarial_training, "predict_logits", answer)
    assert taken(broken, better) == taken(better, broken) == (False, weights_of(better))
    assert taken(broken, broken) == taken(original, original) == (True, weights_of(original))
