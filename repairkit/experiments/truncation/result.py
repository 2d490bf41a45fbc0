"""From measured trajectories to the result: numbers and words."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from repairkit.data.images import data_hash
from repairkit.data.training_hashes import read_record
from repairkit.evaluation.wording import capitalise
from repairkit.experiments.base import Origin
from repairkit.experiments.common import memory_sentence
from repairkit.experiments.records import cost_records, make_reproduction
from repairkit.experiments.truncation.evaluation import BAND, TruncationStatistics, threshold_of
from repairkit.experiments.truncation.report import TruncatedNetwork, TruncationCurve, TruncationExtra, TruncationResult
from repairkit.experiments.truncation.run import Subject, TruncationFindings, TruncationOptions
from repairkit.result import Column, Estimate, Reproduction, Verdict
from repairkit.run.options import Options

USED = ("freeze_at", "precision", "t0", "device", "batch")
"""Options that decide anything here."""


def summarise(
    subjects: Sequence[Subject],
    options: Options,
    truncation: TruncationOptions,
    findings: Sequence[TruncationFindings],
    origin: Origin,
) -> TruncationResult:
    """The result of a run; all arithmetic of the report happens here."""
    networks, curves = measured_networks(subjects, options, findings)
    return TruncationResult(
        kind="truncation",
        title=origin.title,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notices=origin.notices,
        level=options.level,
        model="; ".join(network.name for network in networks),
        objective="the objective value of a network with random filters frozen",
        verdict=verdict(networks, curves, truncation.trajectories, options.level),
        columns=[Column(key=f"network-{i}", label=network.name, explanation=network.model) for i, network in enumerate(networks, start=1)],
        method=method(subjects, options, truncation, findings),
        costs=[
            cost.model_copy(update={"part": f"{subject.name}: {cost.part}"})
            for subject, entry in zip(subjects, findings, strict=True)
            for cost in cost_records(entry.passes, entry.seconds)
        ],
        limits=limits(subjects, curves),
        reproduction=reproduction(subjects, options, truncation, origin),
        extra=TruncationExtra(trajectories=truncation.trajectories, networks=networks, curves=curves),
    )


def measured_networks(
    subjects: Sequence[Subject], options: Options, findings: Sequence[TruncationFindings]
) -> tuple[list[TruncatedNetwork], list[TruncationCurve]]:
    """The networks, and their curves by each metric."""
    networks: list[TruncatedNetwork] = []
    curves: list[TruncationCurve] = []
    for subject, entry in zip(subjects, findings, strict=True):
        classes = subject.model.classifier.classes
        statistics = [TruncationStatistics(entry.orders, metric, options.level, options.seed) for metric in entry.orders.metrics]
        curves += [one.curve(subject.name, threshold_of(classes)) for one in statistics]
        networks.append(
            TruncatedNetwork(
                name=subject.name,
                model=f"{subject.model.architecture}: {subject.model.provenance}",
                images=subject.images.name,
                filters=entry.orders.filters,
                classes=len(classes),
                t0=entry.t0,
                zone_measured=entry.live_range is not None,
                dead_in_zone=statistics[0].dead_at(1 - entry.t0),
            )
        )
    return networks, curves


def reproduction(subjects: Sequence[Subject], options: Options, truncation: TruncationOptions, origin: Origin) -> Reproduction:
    """How to get the same numbers, with the settings that decide anything here."""
    hashes = {
        f"{name} of {subject.name}": value
        for subject in subjects
        for name, value in (("model", subject.model.sha256), ("images", data_hash(subject.images)))
    }
    amounts = {name: str(value) for name, value in vars(truncation).items()}
    full = make_reproduction(options, command=origin.command, minutes=origin.minutes, hashes=hashes, settings=amounts)
    return full.model_copy(update={"settings": {name: full.settings[name] for name in (*USED, *amounts, "threads")}})


def verdict(networks: Sequence[TruncatedNetwork], curves: Sequence[TruncationCurve], orders: int, level: float) -> Verdict:
    """How early the networks are at chance, what truncation saves, and where the live range lies."""
    first = {curve.network: curve for curve in reversed(curves)}  # of each network the curve of its objective value, which stands first
    pairs = [(network, first[network.name]) for network in networks]
    deaths = [_death(network, curve, orders, f"{level:.0%} interval: " if i == 0 else "") for i, (network, curve) in enumerate(pairs)]
    sentences = [_saving(curve) for _, curve in pairs] + [_live_range(network) for network in networks]
    return Verdict(outcome="measured", headline=f"{'; '.join(deaths)}.", sentences=sentences, worse=[])


def _death(network: TruncatedNetwork, curve: TruncationCurve, orders: int, interval: str) -> str:
    return (
        f"{network.name} is at chance in half of {orders} random orders once {_percent(curve.death.value)} of its {network.filters:,} filters "
        f"are frozen ({interval}{_range(curve.death)}; n = {curve.n})"
    )


def _saving(curve: TruncationCurve) -> str:
    if curve.saved is None or curve.given_up is None:
        return (
            f"{capitalise(curve.network)} has an objective value below {curve.threshold:g} with all filters, "
            "where the paper would end its permutations."
        )
    return (
        f"The paper ends a permutation of {curve.network} where its {curve.metric} falls below {curve.threshold:g}. That saves "
        f"{_percent(curve.saved.value)} of its evaluations ({_range(curve.saved)}) and credits "
        f"{_percent(curve.given_up.value)} of the objective value to no filter ({_range(curve.given_up)})."
    )


def _live_range(network: TruncatedNetwork) -> str:
    return (
        f"The live range of {network.name} begins at t0 = {network.t0:g} ({'measured' if network.zone_measured else 'given'}), with up to about "
        f"{_percent(1 - network.t0)} of the filters frozen. There it is at chance in {_percent(network.dead_in_zone)} of the orders."
    )


def method(
    subjects: Sequence[Subject], options: Options, truncation: TruncationOptions, findings: Sequence[TruncationFindings]
) -> list[str]:
    """How it was measured, a sentence each."""
    sizes = "; ".join(
        f"{subject.name}: {len(entry.measured):,} measured on, {len(entry.calibrated):,} others set the constants"
        for subject, entry in zip(subjects, findings, strict=True)
    )
    sentences = [
        f"The filters of each network were frozen one after the other in {truncation.trajectories} random orders. "
        f"The objective value was measured at {len(truncation.shares)} shares of them, not after every single filter.",
        "With no filter and with all filters frozen the objective value is the same for every order.",
        "A network reaches chance somewhere between the share stated and the share measured before it.",
        f"Images ({sizes}). All orders of a network are measured on the same images, so they differ by the order alone.",
        "Intervals resample orders and images independently of one another (Owen 2007, the pigeonhole bootstrap). "
        "They speak of another such set of orders on other images of the kind, for this network. "
        f"The band from {BAND[0]:.0%} to {BAND[1]:.0%} is of orders alone, on these images.",
        "A network is at chance where its objective value is not above the most that one answer to all images gets by more than a half-width. "
        "The half-width is that of a guess on so many images. The first such share counts, even where the network rises again.",
        f"A frozen filter outputs its mean {'after' if options.freeze_at == 'post' else 'before'} the ReLU over the images that set the constants. "
        "Players are the filters of all convolutions but the classifier's.",
        "What truncation saves is counted for plain Monte Carlo, where every filter is sampled: the evaluations of a permutation after its end. "
        "The paper judges the end on the 128 images of the permutation. Here all images that were measured on judge it.",
    ]
    sentences += [
        f"Live range of {subject.name}: the least size on a grid at which single filters still change the score, from {entry.live_range.passes:,.0f} image "
        f"passes on the images that set the constants (sizes {entry.live_range.grid[0]:g} to {entry.live_range.grid[-1]:g} were tried)."
        for subject, entry in zip(subjects, findings, strict=True)
        if entry.live_range is not None
    ]
    for subject, entry in zip(subjects, findings, strict=True):
        sentences += memory_sentence(entry.reduced_batch, options.batch, f"the orders of {subject.name}")
    return sentences


def limits(subjects: Sequence[Subject], curves: Sequence[TruncationCurve]) -> list[str]:
    """What a reader must not conclude."""
    bars = "; ".join(f"{curve.network}, {curve.metric}: {_percent(curve.dead_below)} or less" for curve in curves)
    unknown = [subject.name for subject in subjects if not read_record(subject.model.weights)]
    sentences = [
        f"The fewer the images, the sooner a network counts as at chance ({bars}). What is left of it may be there, but cannot be told from chance.",
        "The filters are frozen at random. A few critical ones bring a network to chance far sooner, and the least needed ones far later.",
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


def _range(entry: Estimate) -> str:
    return f"{100 * entry.low:.3g} to {100 * entry.high:.3g} %"
