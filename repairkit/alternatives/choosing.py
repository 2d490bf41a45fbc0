"""Which of several settings of an alternative to take: the one that gains most under the guard that the repair stands under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from repairkit.attacks.generate import Booleans
from repairkit.evaluation.statistics import paired_drop_bound


@dataclass(frozen=True)
class Scored:
    """One setting on the choose images, all shares.

    Attributes:
        gained: what is to be won: mean recall over the target's subgroups, or of adversarial images the share whose label is recovered.
        accuracy: on the images that are guarded: the source's, or clean ones.
        fall: one-sided upper bound of the fall from the network as it was given, of that accuracy or of what else the guard looks at.
    """

    gained: float
    accuracy: float
    fall: float


def score(right: Booleans, groups: npt.NDArray[np.str_], source_right: Booleans, source_before: Booleans, confidence: float) -> Scored:
    """What a setting does to the choose images.

    Args:
        right: shape (N,), whether each target image is right.
        groups: shape (N,), its subgroup.
        source_right: shape (M,), whether each source image is right.
        source_before: shape (M,), the same of the network as it was given.
        confidence: of the bound.

    Example:
        >>> score(np.array([True, False, True]), np.array(["a", "a", "b"]), np.ones(230, bool), np.ones(230, bool), 0.9)
        Scored(gained=0.75, accuracy=1.0, fall=0.00996...)
    """
    bound = paired_drop_bound(source_before, source_right, confidence)
    recalls = [float(right[groups == name].mean()) for name in np.unique(groups)]
    return Scored(float(np.mean(recalls)), float(source_right.mean()), bound)


def beyond(scored: Sequence[Scored], named: Sequence[str], *, gain: str, guarded: str) -> str:
    """What the setting that gains most of all does where none gains within the guard, in words; "" where none gains at all.

    Args:
        scored: the network as it was given first.
        named: the settings, in words; the first is not said.
        gain: what is to be won, in words.
        guarded: what is guarded, in words.

    Example:
        >>> beyond([Scored(0.7, 0.95, 0.005), Scored(0.9, 0.8, 0.17)], ["", "penalty 1"], gain="recall", guarded="accuracy")
        '; the one that gained most beyond it (penalty 1) took, on the images that choose, recall from 70.0 to 90.0 % and accuracy from 95.0 to 80.0 %, where the guard bounds the fall by 17.0 points'
    """
    most = max(range(len(scored)), key=lambda number: (scored[number].gained, -number))
    if not most:
        return ""
    before, after = scored[0], scored[most]
    return (
        f"; the one that gained most beyond it ({named[most]}) took, on the images that choose, {gain} from {100 * before.gained:.1f} to "
        f"{100 * after.gained:.1f} % and {guarded} from {100 * before.accuracy:.1f} to {100 * after.accuracy:.1f} %, where the guard bounds the fall by "
        f"{100 * after.fall:.1f} points"
    )


def best(scored: Sequence[Scored], allowed: float) -> int:
    """The setting that gains most whose fall stays within what is allowed; of equals the first, and the first where none does.

    Args:
        scored: in the order of how little they change; the first is the network as it was given.
        allowed: the most that accuracy on the guarded images may fall, a share.

    Example:
        >>> best([Scored(0.7, 0.95, 0.005), Scored(0.9, 0.8, 0.17), Scored(0.8, 0.95, 0.009), Scored(0.8, 0.96, 0.004)], 0.01)
        2
    """
    within = [number for number, each in enumerate(scored) if each.fall <= allowed + 1e-12]
    return max(within, key=lambda number: (scored[number].gained, -number), default=0)
