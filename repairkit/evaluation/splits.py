"""Parts of a data set that share no image: what finds culprits, what chooses among them, what reports.

Parts are arrays of positions. They are stratified by subgroup and label, and images with equal pixels
always land in the same part, so that nothing is reported on an image that was seen before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from repairkit.data.images import Indices, LabelledImages
from repairkit.errors import DataError, UsageError


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts of one set of images, as sorted positions in it (int64).

    Attributes:
        attribute: finds the culprits and calibrates the constants that filters are frozen at.
        choose: chooses which culprits to freeze, and how many.
        report: is looked at once, for the report.
    """

    attribute: Indices
    choose: Indices
    report: Indices


def three_way(
    images: LabelledImages,
    *,
    shares: tuple[float, float, float] | None = None,
    counts: tuple[int, int, int] | None = None,
    seed: int,
) -> Split:
    """Cut images into attribute, choose and report parts, stratified by subgroup and label.

    Args:
        images: what to cut.
        shares: size of each part as a share of all images, summing to 1; (0.6, 0.2, 0.2) unless given.
        counts: size of each part in images, instead of shares; what is left over is in no part. Sizes are
            exact unless copies of one image, which stay together, stand in the way.
        seed: of the shuffle; the same seed and images give the same parts.

    Raises:
        UsageError: both shares and counts, or shares that are not positive or do not sum to 1.
        DataError: fewer images than the counts ask for, or a part without images of some subgroup.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.arange(20, dtype=np.uint8).repeat(12).reshape(20, 2, 2, 3), labels=np.repeat([0, 1], 10),
        ...     groups=np.repeat(["men", "women"], 10), classes=("man", "woman"), name="faces")
        >>> split = three_way(images, seed=0)
        >>> len(split.attribute), len(split.choose), len(split.report)
        (12, 4, 4)
    """
    if counts is not None and shares is not None:
        raise UsageError("expected shares or counts, got both; leave one out")
    n = len(images)
    if counts is None:
        given = (0.6, 0.2, 0.2) if shares is None else shares
        if min(given) <= 0 or abs(sum(given) - 1) > 1e-9:
            raise UsageError(f"expected three positive shares that sum to 1, got {given}; use 0.6, 0.2, 0.2 for instance")
        edges = np.rint(np.cumsum([0.0, *given]) * n).astype(np.int64)
        counts = (int(edges[1] - edges[0]), int(edges[2] - edges[1]), int(edges[3] - edges[2]))
    if min(counts) <= 0 or sum(counts) > n:
        raise DataError(f"{images.name}: expected parts of {counts} images, each at least one, but there are {n} images; ask for fewer")
    part_of = _assign(images, [*counts, n - sum(counts)], np.random.default_rng(seed))
    parts = [np.flatnonzero(part_of == part) for part in range(3)]
    for part, name in zip(parts, (field.name for field in fields(Split)), strict=True):
        _check_groups(images, part, f"the {name} part")
    return Split(*parts)


def rotations(images: LabelledImages, folds: int, *, seed: int) -> list[Split]:
    """Splits for cross-fitting, which report on every image exactly once.

    The images are cut into `folds` parts of equal size, stratified by subgroup and label. Rotation f
    reports on part f, chooses on part f + 1 and attributes on all others.

    Args:
        images: what to cut.
        folds: how many parts, at least 3.
        seed: of the shuffle.

    Raises:
        UsageError: fewer than 3 folds.
        DataError: a part without images of some subgroup.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.arange(9, dtype=np.uint8).repeat(12).reshape(9, 2, 2, 3), labels=np.zeros(9, np.int64),
        ...     groups=np.repeat("all", 9), classes=("face",), name="faces")
        >>> sorted(int(i) for split in rotations(images, 3, seed=0) for i in split.report)
        [0, 1, 2, 3, 4, 5, 6, 7, 8]
    """
    if folds < 3:
        raise UsageError(f"expected at least 3 folds (attribute, choose and report each need one), got {folds}; use 5, or no folds")
    n = len(images)
    sizes = [n // folds + (fold < n % folds) for fold in range(folds)]
    part_of = _assign(images, sizes, np.random.default_rng(seed))
    for fold in range(folds):
        _check_groups(images, np.flatnonzero(part_of == fold), f"part {fold + 1} of {folds}")
    splits = []
    for fold in range(folds):
        report, choose = part_of == fold, part_of == (fold + 1) % folds
        splits.append(Split(np.flatnonzero(~(report | choose)), np.flatnonzero(choose), np.flatnonzero(report)))
    return splits


def halves(images: LabelledImages, *, seed: int) -> tuple[Indices, Indices]:
    """Two disjoint halves, to see whether both name the same culprits.

    Stratified by subgroup and label; copies of one image stay together. The first half has the odd image.

    Args:
        images: what to cut.
        seed: of the shuffle.

    Returns:
        Sorted positions of the images of each half.

    Raises:
        DataError: a half without images of some subgroup.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.arange(9, dtype=np.uint8).repeat(12).reshape(9, 2, 2, 3), labels=np.zeros(9, np.int64),
        ...     groups=np.repeat(["men", "women"], [6, 3]), classes=("face",), name="faces")
        >>> [images.groups[half].tolist().count("men") for half in halves(images, seed=0)]
        [3, 3]
    """
    n = len(images)
    part_of = _assign(images, [n - n // 2, n // 2], np.random.default_rng(seed))
    first, second = np.flatnonzero(part_of == 0), np.flatnonzero(part_of == 1)
    for half, name in ((first, "the first half"), (second, "the second half")):
        _check_groups(images, half, name)
    return first, second


def some(images: LabelledImages, count: int, *, seed: int) -> Indices:
    """Some of the images, stratified by subgroup and label as the parts of `three_way` are.

    Args:
        images: what to choose from.
        count: how many; all of them where there are no more. Exact unless copies of one image, which stay together, stand in the way.
        seed: of the choice; the same seed, count and images give the same positions.

    Returns:
        Their sorted positions.

    Raises:
        UsageError: fewer than one image asked for.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.arange(9, dtype=np.uint8).repeat(12).reshape(9, 2, 2, 3), labels=np.zeros(9, np.int64),
        ...     groups=np.repeat(["men", "women"], [6, 3]), classes=("face",), name="faces")
        >>> images.groups[some(images, 3, seed=0)].tolist()
        ['men', 'men', 'women']
    """
    if count < 1:
        raise UsageError(f"expected at least 1 image to choose, got {count}; give a number of images")
    if count >= len(images):
        return np.arange(len(images))
    return np.flatnonzero(_assign(images, [count, len(images) - count], np.random.default_rng(seed)) == 0)


def draw(images: LabelledImages, quotas: Mapping[str, int], seed: int) -> tuple[Indices, Indices]:
    """Draw a given number of images of each subgroup, to make a training set of a wanted skew.

    Args:
        images: what to draw from.
        quotas: how many images for each pattern of subgroup names, as in
            `{"white *": 4300, "black women": 40}` (`*`, `?` and `[...]` as in file names, case matters).
        seed: of the draw.

    Returns:
        Sorted positions of the images drawn, and of the rest. Copies of a drawn image that were not
        drawn themselves are in neither.

    Raises:
        DataError: a pattern matches no subgroup, or there are fewer images than its quota.
        UsageError: a quota is negative, or one subgroup matches two patterns.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.arange(9, dtype=np.uint8).repeat(12).reshape(9, 2, 2, 3), labels=np.zeros(9, np.int64),
        ...     groups=np.repeat(["white men", "white women", "black women"], 3), classes=("face",), name="faces")
        >>> chosen, rest = draw(images, {"white *": 4, "black women": 1}, seed=0)
        >>> len(chosen), len(rest)
        (5, 4)
    """
    rng = np.random.default_rng(seed)
    matched: dict[str, str] = {}
    drawn = []
    for pattern, quota in quotas.items():
        names = [name for name in images.group_names if fnmatchcase(name, pattern)]
        if not names:
            raise DataError(f"{images.name}: no subgroup matches '{pattern}'; there are {', '.join(images.group_names)}")
        for name in names:
            if name in matched:
                raise UsageError(f"subgroup '{name}' matches both '{matched[name]}' and '{pattern}'; make the patterns exclude each other")
            matched[name] = pattern
        available = np.flatnonzero(np.isin(images.groups, names))
        if quota < 0:
            raise UsageError(f"expected a quota of 0 or more for '{pattern}', got {quota}; give a number of images")
        if quota > len(available):
            raise DataError(f"{images.name}: expected {quota} images of '{pattern}', but there are {len(available)}; lower the quota")
        drawn.append(rng.choice(available, size=quota, replace=False))
    chosen = np.sort(np.concatenate([np.empty(0, np.int64), *drawn]))
    return chosen, np.flatnonzero(~np.isin(images.hashes, images.hashes[chosen]))


def ungrouped(images: LabelledImages) -> LabelledImages:
    """The same images in one group, for parts in which a subgroup or a class may be missing.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.zeros((2, 2, 2, 3), np.uint8), labels=np.array([0, 1]), groups=np.array(["cat", "dog"]), classes=("cat", "dog"), name="pets")
        >>> ungrouped(images).groups.tolist()
        ['all', 'all']
    """
    return replace(images, groups=np.full(len(images), "all"))


def check_disjoint(**named_sets: LabelledImages) -> None:
    """Make sure that no image is in two of the sets, whatever its file is called and however it was cropped.

    Sets share an image if they share a file or pixels; the same photograph, cropped or saved anew as another file, is not recognised.

    Args:
        named_sets: the sets, under the names by which an error should call them.

    Raises:
        DataError: two sets share an image; names both and one such image.

    Example:
        >>> images = LabelledImages(
        ...     pixels=np.arange(2, dtype=np.uint8).repeat(12).reshape(2, 2, 2, 3), labels=np.zeros(2, np.int64),
        ...     groups=np.repeat("all", 2), classes=("face",), name="faces")
        >>> check_disjoint(train=images.subset([0]), report=images.subset([1]))
    """
    names = list(named_sets)
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            one, other = named_sets[first], named_sets[second]
            for these, those in ((one.origins, other.origins), (one.hashes, other.hashes)):
                shared, here, there = np.intersect1d(these, those, return_indices=True)
                if len(shared):
                    raise DataError(
                        f"{first} and {second} share {len(shared)} image(s), for instance {one.describe(int(here[0]))} of {first}, which is "
                        f"{other.describe(int(there[0]))} of {second}; remove it from one of them"
                    )


def _assign(images: LabelledImages, sizes: Sequence[int], rng: np.random.Generator) -> Indices:
    """The part of each image, shape (N,), for parts of the given sizes, which sum to N."""
    first, copies_of = np.unique(images.hashes, return_index=True, return_inverse=True)[1:]
    copies_of = copies_of.reshape(-1)
    keys = [f"{group}\0{label}" for group, label in zip(images.groups.tolist(), images.labels.tolist(), strict=True)]
    # Copies that disagree on group or label count as what the first of them is.
    stratum_of = np.unique(np.array(keys), return_inverse=True)[1].reshape(-1)[first[copies_of]]
    quotas = _quotas(np.bincount(stratum_of), np.asarray(sizes))
    part_of = np.full(len(images), -1, dtype=np.int64)
    copies = np.bincount(copies_of)
    for stratum, quota in enumerate(quotas):
        members = np.flatnonzero(stratum_of == stratum)
        single = copies[copies_of[members]] == 1
        left = _place_copies(part_of, members[~single], copies_of, quota, rng)
        places = rng.permutation(np.repeat(np.arange(len(left)), np.maximum(left, 0)))
        part_of[members[single]] = places[: int(single.sum())]
    return part_of


def _place_copies(
    part_of: Indices, members: Indices, copies_of: npt.NDArray[np.intp], quota: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Write the parts of images that have copies, large families first; returns the room left in each part."""
    left = quota.copy()
    families, sizes = np.unique(copies_of[members], return_counts=True)
    for position in np.argsort(-sizes, kind="stable"):
        room = np.where(left >= sizes[position], left, 0)
        if not room.any():
            room = (left == left.max()).astype(np.int64)  # fits nowhere: the emptiest part takes it and runs over
        part = int(rng.choice(len(left), p=room / room.sum()))
        part_of[members[copies_of[members] == families[position]]] = part
        left[part] -= sizes[position]
    return left


def _quotas(strata: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Whole numbers, shape (strata, parts), with exactly these row and column sums and within 1 of proportional.

    Controlled rounding as a transport problem, whose vertices are whole numbers (Cox and Ernst 1982).
    """
    exact = np.outer(strata, sizes) / sizes.sum()
    floor = np.floor(exact + 1e-9)
    fraction = np.maximum(exact - floor, 0.0)
    rows, columns = exact.shape
    sums = np.concatenate([np.kron(np.eye(rows), np.ones(columns)), np.kron(np.ones(rows), np.eye(columns))])
    wanted = np.concatenate([strata - floor.sum(axis=1), sizes - floor.sum(axis=0)])
    upper = (fraction.reshape(-1) > 1e-9).astype(np.float64)
    bounds = [(0.0, float(most)) for most in upper]
    solved = linprog(-fraction.reshape(-1), A_eq=sums, b_eq=wanted, bounds=bounds, method="highs-ds")
    rounded: npt.NDArray[np.int64] = np.rint(floor + np.asarray(solved.x).reshape(rows, columns)).astype(np.int64)
    return rounded


def _check_groups(images: LabelledImages, part: Indices, name: str) -> None:
    present = set(images.groups[part].tolist())
    for group in images.group_names:
        if group not in present:
            n = int((images.groups == group).sum())
            raise DataError(f"{images.name}: {name} has no image of subgroup '{group}' ({n} in all); add images of it or enlarge the part")
