"""From measured trajectories to a result: the words and numbers of a report on truncation."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.wording import capitalise
from repairkit.experiments.records import make_reproduction
from repairkit.experiments.truncation.evaluation import BAND, Judged, threshold_of
from repairkit.experiments.truncation.result import TruncatedNetwork, TruncationCurve, TruncationExtra, TruncationResult
from repairkit.experiments.truncation.run import Subject, TruncationFindings, TruncationOptions
from repairkit.result import Column, Cost, Estimate, Verdict
from repairkit.run.options import Options

USED = ("freeze_at", "precision", "t0", "device", "batch")
"""Options that decide anything here."""


def summarise(
    subjects: Sequence[Subject],
    options: Options,
    truncation: TruncationOptions,
    findings: Sequence[TruncationFindings],
    *,
    title: str,
    command: str,
    minutes: float,
    notices: list[str],
) -> TruncationResult:
    """The result of a run; all arithmetic of the report happens here."""
    networks, curves = [], []
    for subject, found in zip(subjects, findings, strict=True):
        threshold = threshold_of(subject.model.classifier.classes)
        judged = [Judged(found.fan, metric, options.level, options.seed) for metric in found.fan.metrics]
        curves += [each.curve(subject.name, threshold) for each in judged]
        networks.append(
            TruncatedNetwork(
                name=subject.name,
                model=f"{subject.model.architecture}: {subject.model.provenance}",
                images=subject.images.name,
                filters=found.fan.filters,
                classes=len(subject.model.classifier.classes),
                t0=found.t0,
                zone_measured=found.live_range is not None,
                dead_in_zone=judged[0].dead_at(1 - found.t0),
            )
        )
    made = make_reproduction(
        options,
        command=command,
        minutes=minutes,
        hashes={
            f"{what} of {subject.name}": found
            for subject in subjects
            for what, found in (("model", subject.model.sha256), ("images", data_hash(subject.images)))
        },
        settings={"trajectories": str(truncation.trajectories), "images": str(truncation.images), "shares": str(truncation.shares)},
    )
    needed = {name: made.settings[name] for name in (*USED, "trajectories", "images", "shares", "threads")}
    return TruncationResult(
        kind="truncation",
        title=title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=notices,
        level=options.level,
        model="; ".join(network.name for network in networks),
        objective="the worth of a network with random filters removed",
        verdict=verdict(networks, curves, truncation.trajectories, options.level),
        columns=[Column(key=f"network-{i}", label=network.name, explanation=network.model) for i, network in enumerate(networks, start=1)],
        groups=[],
        shares=[],
        differences=[],
        frozen=[],
        histograms=[],
        method=method(subjects, options, truncation, findings),
        costs=[
            Cost(part=f"{subject.name}: {part}", passes=found.passes.get(part, 0.0), seconds=seconds)
            for subject, found in zip(subjects, findings, strict=True)
            for part, seconds in found.seconds.items()
        ],
        limits=limits(subjects, curves),
        reproduction=made.model_copy(update={"settings": needed}),
        extra=TruncationExtra(trajectories=truncation.trajectories, networks=networks, curves=curves),
    )


def worth_curves(curves: Sequence[TruncationCurve]) -> list[TruncationCurve]:
    """Of each network the curve of its worth, which stands first."""
    return list({curve.network: curve for curve in reversed(curves)}.values())[::-1]


def verdict(networks: Sequence[TruncatedNetwork], curves: Sequence[TruncationCurve], orders: int, level: float) -> Verdict:
    """How early the networks die, what truncation saves, and where the live range lies."""
    own = worth_curves(curves)
    first = True
    died, saved, live_ranges = [], [], []
    for network, curve in zip(networks, own, strict=True):
        interval = f"{level:.0%} interval: " if first else ""
        died.append(
            f"{curve.network} is dead in half of {orders} random orders once {_percent(curve.death.value)} of its {network.filters:,} filters "
            f"are removed ({interval}{_range(curve.death)}; n = {curve.n})"
        )
        first = False
        if curve.saved is None or curve.given_up is None:
            saved.append(
                f"{capitalise(curve.network)} is not worth {curve.threshold:g} with all filters, where the paper would end its permutations."
            )
        else:
            saved.append(
                f"Ending a permutation of {curve.network} where its {curve.metric} falls below {curve.threshold:g}, as the paper does, saves "
                f"{_percent(curve.saved.value)} of its evaluations ({_range(curve.saved)}) and credits "
                f"{_percent(curve.given_up.value)} of the worth to no filter ({_range(curve.given_up)})."
            )
        live_ranges.append(
            f"{'Measured, the' if network.zone_measured else 'The'} live range of {curve.network} begins at t0 = {network.t0:g}, with up to about "
            f"{_percent(1 - network.t0)} of the filters removed; there it is dead in {_percent(network.dead_in_zone)} of the orders."
        )
    return Verdict(outcome="measured", headline=f"{'; '.join(died)}.", sentences=[*saved, *live_ranges], worse=[])


def method(
    subjects: Sequence[Subject], options: Options, truncation: TruncationOptions, findings: Sequence[TruncationFindings]
) -> list[str]:
    """How it was measured, a sentence each."""
    sizes = "; ".join(
        f"{subject.name}: {len(found.measured):,} measured on, {len(found.calibrated):,} others set the constants"
        for subject, found in zip(subjects, findings, strict=True)
    )
    sentences = [
        f"The filters of each network were frozen one after the other in {truncation.trajectories} random orders, and the worth was measured at "
        f"{len(truncation.shares)} shares of them, not after every single filter; with no and with all filters frozen it is the same for every order. "
        "A network dies somewhere between the share stated and the one measured before it.",
        f"Images ({sizes}). All orders of a network are measured on the same images, so that they differ by the order alone; a fresh draw of "
        "images for each would add its luck to how far the lines lie apart.",
        "Intervals of worths, deaths and savings resample orders and images independently of one another (Owen 2007, the pigeonhole bootstrap): they "
        "speak of another such set of orders on other images of the kind, for this network. "
        f"The band from {BAND[0]:.0%} to {BAND[1]:.0%} is of orders alone, on these images.",
        "A network counts as dead where its worth is at chance: not above the most that one answer to all images gets by more than the half-width "
        "of a guess on that many images. The first such share is its death, even where it rises again.",
        f"A frozen filter sends on its mean {'after' if options.freeze_at == 'post' else 'before'} the ReLU over the images that set the constants. "
        "Players are the filters of all convolutions but the classifier's.",
        "What truncation saves is counted for plain Monte Carlo, where every filter is sampled: of a permutation's evaluations those after the end. "
        "The paper's walk judges the end on the 128 images of its permutation, here it is judged on all images measured on.",
    ]
    sentences += [
        f"Live range of {subject.name}: the least size on a grid at which single filters still change the score, from {found.live_range.passes:,.0f} image "
        f"passes on the images that set the constants (sizes {found.live_range.grid[0]:g} to {found.live_range.grid[-1]:g} were tried)."
        for subject, found in zip(subjects, findings, strict=True)
        if found.live_range is not None
    ]
    sentences += [
        f"Memory ran out with {subject.name}, whose passes then carried {found.halved} images in place of {options.batch}."
        for subject, found in zip(subjects, findings, strict=True)
        if found.halved is not None
    ]
    return sentences


def limits(subjects: Sequence[Subject], curves: Sequence[TruncationCurve]) -> list[str]:
    """What a reader must not conclude."""
    bars = "; ".join(f"{curve.network}, {curve.metric}: {_percent(curve.dead_below)} or less" for curve in curves)
    unknown = [subject.name for subject in subjects if not read_record(subject.model.weights)]
    sentences = [
        f"The fewer the images, the sooner a network counts as dead ({bars}): what is left of it then cannot be told from chance on these images, but may be there.",
        "The filters are removed at random. A few critical ones kill a network far sooner, and the least needed ones far later.",
        "Intervals do not cover another training of the network, nor other images that set the constants.",
    ]
    if unknown:
        sentences.append(f"The training images of {', '.join(unknown)} were not at hand, so an overlap with them was not checked.")
    return sentences


def _percent(share: float) -> str:
    """As the text of a verdict has it.

    Example:
        >>> _percent(0.15), _percent(0.0049)
        ('15 %', '0.49 %')
    """
    return f"{100 * share:.3g} %"


def _range(of: Estimate) -> str:
    return f"{100 * of.low:.3g} to {100 * of.high:.3g} %"
