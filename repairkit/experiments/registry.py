"""The kinds of experiments: a line for each command. Nothing of a kind is imported before it is asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from repairkit.errors import UsageError

if TYPE_CHECKING:
    from repairkit.experiments.base import Experiment
    from repairkit.run.settings import RunSettings


class Entry(NamedTuple):
    """A command, and where its experiment and its options are, as MODULE:NAME."""

    kind: str  # of its results
    experiment: str
    settings: str | None  # None: it runs from recipes alone
    line: str  # in the list of commands


def _entry(kind: str, folder: str, experiment: str, settings: str | None = None, line: str = "") -> Entry:
    module = f"repairkit.experiments.{folder}"
    return Entry(kind, f"{module}.experiment:{experiment}", settings and f"{module}.settings:{settings}", line)


EXPERIMENTS: dict[str, Entry] = {
    "fairness": _entry("fairness", "fairness", "Fairness", "FairnessSettings", "Repair what a network does to subgroups."),
    "adversarial": _entry("adversarial", "adversarial", "Adversarial", "AdversarialSettings", "Freeze the filters that let an attack through."),
    "recall": _entry("critical filters", "critical", "Recall", "RecallSettings", "Find the filters that one class depends on."),
    "accuracy": _entry("critical filters", "critical", "AccuracyOnAll", "AccuracySettings", "Find the filters that accuracy depends on."),
    "dropout": _entry("dropout", "dropout", "Dropout", "DropoutSettings", "Compare a network with one trained with filter dropout."),
    "prune": _entry("pruning", "pruning", "Pruning", "PruningSettings", "Make a network smaller by the filters that accuracy can do without."),
    "correlation": _entry("correlation", "correlation", "AttackCorrelation"),
    "truncation": _entry("truncation", "truncation", "Truncation"),
    "efficiency": _entry("efficiency", "sample_efficiency", "SampleEfficiency"),
}  # fmt: skip
"""By command, which is also the command of a recipe."""
MADE_IN_PYTHON = {"repair": "repairkit.experiments.own_network:OwnNetwork"}
"""Kinds of results that no command makes, and where they are read."""


def register(command: str, entry: Entry) -> None:
    """Add a kind from outside of this package, before the command line is called.

    Raises:
        UsageError: there is such a command.
    """
    if command in EXPERIMENTS:
        raise UsageError(f"{command} is a command already; give the new kind another name")
    EXPERIMENTS[command] = entry


def experiment(command: str) -> Experiment[Any, Any, Any]:
    """The experiment of a command."""
    return _instance(EXPERIMENTS[command].experiment)


def experiment_of(kind: str) -> Experiment[Any, Any, Any]:
    """The experiment that results of a kind come from; KeyError if there is none."""
    places = {entry.kind: entry.experiment for entry in reversed(EXPERIMENTS.values())} | MADE_IN_PYTHON
    return _instance(places[kind])


def settings_model(command: str) -> type[RunSettings]:
    """The options of a command; KeyError if it has none."""
    model: type[RunSettings] = resolve(EXPERIMENTS[command].settings or "")
    return model


def kinds() -> list[str]:
    """The kinds of results."""
    return list(dict.fromkeys(entry.kind for entry in EXPERIMENTS.values()))


def resolve(place: str) -> Any:
    """What a MODULE:NAME names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


@cache
def _instance(place: str) -> Experiment[Any, Any, Any]:
    instance: Experiment[Any, Any, Any] = resolve(place)()
    return instance
