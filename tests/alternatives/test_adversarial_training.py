"""Training under attack: the images that are learned are those of the attack, and what comes of it withstands more."""

from __future__ import annotations

import brittle
import numpy as np
import pytest
import torch

from repairkit.alternatives import adversarial_training
from repairkit.alternatives.adversarial_training import passes_of, shortened, train_against
from repairkit.attacks.generate import draw_targets, perturb, preserving_state
from repairkit.attacks.methods import PGD
from repairkit.attacks.robustness import attack_again
from repairkit.errors import UsageError
from repairkit.network.classifier import Classifier
from repairkit.network.weights import hash_state

METHOD = PGD(eps=24 / 255, steps=8, step=6 / 255)


def test_a_shortened_attack_goes_as_far():
    short = shortened(PGD())
    assert (short.steps, short.eps, short.random_start) == (7, PGD().eps, True)
    assert short.step * short.steps == pytest.approx(PGD().step * PGD().steps)
    assert shortened(PGD(steps=3)) == PGD(steps=3)


def test_what_is_learned_is_under_an_attack_on_the_network_of_that_moment_toward_another_class(monkeypatch):
    images, given = brittle.images(12), brittle.model().classifier
    seen = []

    def watched(network, batch, goals, method, *, seed):
        made = perturb(network, batch, goals, method, seed=seed)
        again = perturb(network, batch, goals, method, seed=seed)
        seen.append((batch, made, again, goals, method, hash_state(network.state_dict())))
        return made

    learned = []
    monkeypatch.setattr(adversarial_training, "perturb", watched)
    forward = Classifier.forward

    def noted(self, pixels):
        if self.network[0].weight.requires_grad:
            learned.append(pixels.detach().clone())
        return forward(self, pixels)

    monkeypatch.setattr(Classifier, "forward", noted)
    train_against(given, images, METHOD, epochs=2, batch_size=16)
    assert len(seen) == 2 * 3
    assert len({state for *_, state in seen}) == 6  # the network moves from step to step, and so does who is attacked
    for batch, made, again, goals, method, _ in seen:
        assert method == shortened(METHOD)
        assert float((made - batch).abs().max()) <= METHOD.eps + 1e-6
        assert float((made - batch).abs().max()) > METHOD.eps / 2
        assert torch.equal(made, again)
        assert len(goals) == 16
    for made in (made for _, made, *_ in seen):
        assert any(each.shape == made.shape and torch.equal(each, made) for each in learned)


def test_the_network_withstands_more_and_the_one_given_stays():
    images, held_out, given = brittle.images(40), brittle.images(10, seed=1), brittle.model().classifier
    before = hash_state(given.state_dict())
    hardened = train_against(given, images, METHOD, epochs=6, learning_rate=0.05, batch_size=16)
    assert hash_state(given.state_dict()) == before
    assert not hardened.training
    targets = draw_targets(held_out.labels, 4, 0)
    first, second = (attack_again(each, held_out, targets, METHOD).recovered.mean() for each in (given, hardened))
    assert second > first + 0.3
    with preserving_state(hardened, 0):
        assert (hardened(held_out.batch(np.arange(len(held_out)))).argmax(1).numpy() == held_out.labels).mean() > 0.9


def test_same_seed_same_bits():
    images, given = brittle.images(8), brittle.model().classifier
    first, again, other = (
        hash_state(train_against(given, images, METHOD, epochs=1, batch_size=8, seed=seed).state_dict()) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_its_price_is_counted():
    assert passes_of(METHOD, 10) == 3 * 10 * (7 * 3 + 3)
    with pytest.raises(UsageError, match="expected epochs >= 1"):
        train_against(brittle.model().classifier, brittle.images(2), METHOD, epochs=0)
