"""What filters are worth against an attack: the worth that ranks them, and the margin that choosing gains in."""

from __future__ import annotations

import numpy as np
import torch

from repairkit.attacks.generate import Attacked
from repairkit.data.images import LabelledImages
from repairkit.experiments.adversarial.task import AttackOptions
from repairkit.objectives import Accuracy, AttackSuccess, ObjectiveSum, Probability
from repairkit.repair.selection_images import Measure
from repairkit.run.options import Options
from repairkit.shapley.game import Examples, Floats

CEILING = 3.0
"""Logits by which the label may lie above the target before more of it counts as no better."""


def worth_on(adversarial: Attacked, clean: LabelledImages, options: Options, attacks: AttackOptions) -> ObjectiveSum:
    """The worth whose values rank the filters; values that are high are harmful."""
    success, accuracy = (Probability(each) if options.score == "smooth" else each for each in (AttackSuccess(), Accuracy()))
    worth = success.on(adversarial.toward_targets)
    return worth - accuracy.on(clean) if attacks.ranking == "success - accuracy" else worth


def margins(adversarial: Attacked, clean: LabelledImages) -> Measure:
    """What choosing gains in: the margin of the label over the target on adversarial images, clipped above; the label's probability on clean ones.

    Networks are certain about adversarial images: probabilities are flat there, and so is a margin that is clipped below.
    """
    labels = np.concatenate([adversarial.images.labels, clean.labels])
    targets = np.concatenate([adversarial.targets, clean.labels])

    def measure(logits: torch.Tensor, examples: Examples) -> Floats:
        logs = torch.log_softmax(logits.double().cpu(), dim=1).numpy()
        each = np.arange(len(examples))
        own, toward = logs[each, labels[examples]], logs[each, targets[examples]]
        measured: Floats = np.where(examples < len(adversarial), np.minimum(own - toward, CEILING), np.exp(own))
        return measured

    return measure
