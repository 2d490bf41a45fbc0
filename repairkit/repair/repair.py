"""One round of a repair: which filters are harmful, which of them to freeze, and the network with them frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repairkit.data.images import LabelledImages
from repairkit.network.classifier import Classifier
from repairkit.network.game import NetworkGame
from repairkit.network.patch import Patch
from repairkit.repair.attribute import Attributed, ObjectiveOn, attribute_network
from repairkit.repair.choosing import NetworkOrigin, SelectionGoal, choose_once, patch_of, without
from repairkit.repair.selection import Choice
from repairkit.run.context import Run
from repairkit.shapley import Attribution
from repairkit.shapley.live_range import LiveRange
from repairkit.shapley.stability import Stability


@dataclass(frozen=True, eq=False)
class RepairRound:
    """One time that filters of a network were valued, selected and frozen.

    Attributes:
        game: of the network as this round received it, on the attribution images.
        attribution: values of its filters; 0 for filters of earlier rounds.
        selection: which filters are frozen, and why no more.
        patch: what this round froze; it fits the original weights only after the earlier rounds.
        classifier: with plain weights, the filters of all rounds frozen.
        live_range, stability: where they were measured.
        reduced_batch: images of a pass of the attribution, where memory ran out.
    """

    game: NetworkGame
    attribution: Attribution
    selection: Choice
    patch: Patch
    classifier: Classifier
    live_range: LiveRange | None = None
    stability: Stability | None = None
    reduced_batch: int | None = None


def repair_round(
    origin: NetworkOrigin,
    classifier: Classifier,
    objective: ObjectiveOn,
    images: Sequence[LabelledImages],
    goal: SelectionGoal,
    run: Run,
    *,
    seed: int,
    earlier: Sequence[Patch] = (),
) -> RepairRound:
    """Value the filters on the attribution images, select under the guard, and freeze.

    Args:
        origin: the original weights.
        classifier: the network as the earlier rounds left it.
        objective: makes the objective that ranks filters, of sets such as `images`.
        images: attribution images, the target first; see `attribute_network`.
        goal: of the selection, on the selection images.
        run: costs are booked there, and finished work is stored.
        seed: of this fold and round.
        earlier: patches of the earlier rounds.
    """
    valued = attribute_network(classifier, objective, images, run, seed=seed)
    return freeze_selected(origin, valued, goal, run, earlier=earlier)


def freeze_selected(
    origin: NetworkOrigin, valued: Attributed, goal: SelectionGoal, run: Run, *, earlier: Sequence[Patch] = ()
) -> RepairRound:
    """The rest of a round on a network whose filters are valued: select under the guard, and freeze."""
    game, classifier = valued.game, valued.game.classifier
    attribution = without(valued.attribution, [str(culprit.filter) for patch in earlier for culprit in patch.culprits])
    selection = choose_once(classifier, game.filters, attribution, goal, run)
    patch = patch_of(origin, game, attribution, selection, run.settings.freeze_at)
    repaired = classifier.with_network(patch.apply(classifier.network, check=not earlier))
    reduced_batch = game.batch if game.batch < run.settings.batch else None
    return RepairRound(game, attribution, selection, patch, repaired, valued.live_range, valued.stability, reduced_batch)
